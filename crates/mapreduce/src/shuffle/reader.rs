//! Reading one run, record by record, checking every block.

use crc32c::crc32c_append;

use super::format::{BLOCK_HEADER_BYTES, u32_at};
use super::writer::{BLOCK_BYTES, LZ4, STORED};
use super::{Fetch, FileIdentity, Run, ShuffleError};

/// Reads the records of a run in order.
///
/// In memory: one decoded block, and a piece of the file ahead of it.
pub struct RunReader<'a> {
    fetch: &'a dyn Fetch,
    map: u32,
    seed: u32,
    run: Run,
    /// Bytes of the file from `ahead_at` on.
    ahead: Vec<u8>,
    ahead_at: u64,
    ahead_bytes: usize,
    /// The next block.
    position: u64,
    /// What has been read, to be compared with the index.
    blocks: u32,
    records: u64,
    decoded_bytes: u64,
    block: Vec<u8>,
    block_records: u32,
    at: usize,
    key: (usize, usize),
    value_end: usize,
}

/// Bytes of a piece read ahead: large ones are quicker, small ones let more runs be merged.
const AHEAD_MIN: usize = BLOCK_BYTES + 8192;

impl<'a> RunReader<'a> {
    /// Reads a run of the bucket `bucket` of a file, in pieces of about `ahead_bytes`.
    pub fn new(
        fetch: &'a dyn Fetch,
        file: &FileIdentity,
        bucket: u32,
        run: Run,
        ahead_bytes: usize,
    ) -> RunReader<'a> {
        RunReader {
            fetch,
            map: file.map,
            seed: file.block_seed(bucket, run.offset),
            run,
            ahead: Vec::new(),
            ahead_at: run.offset,
            ahead_bytes: ahead_bytes.max(AHEAD_MIN),
            position: run.offset,
            blocks: 0,
            records: 0,
            decoded_bytes: 0,
            block: Vec::new(),
            block_records: 0,
            at: 0,
            key: (0, 0),
            value_end: 0,
        }
    }

    /// Bytes of memory that reading `run` takes.
    pub fn memory(run: &Run, ahead_bytes: usize) -> u64 {
        run.stored_bytes.min(ahead_bytes.max(AHEAD_MIN) as u64) + u64::from(run.largest_block)
    }

    /// Goes to the next record; false after the last one.
    ///
    /// # Errors
    /// When the run cannot be fetched, or is damaged.
    #[inline]
    pub fn advance(&mut self) -> Result<bool, ShuffleError> {
        if self.block_records == 0 && !self.next_block()? {
            return Ok(false);
        }
        self.block_records -= 1;
        let record = self.block.get(self.at..).unwrap_or_default();
        let parsed = lengths(record).and_then(|(key, value, prefix)| {
            let key_start = self.at + prefix;
            let key_end = key_start.checked_add(key)?;
            let value_end = key_end.checked_add(value)?;
            (value_end <= self.block.len()).then_some((key_start, key_end, value_end))
        });
        let Some((key_start, key_end, value_end)) = parsed else {
            return Err(self.damaged("a record does not fit in its block"));
        };
        self.key = (key_start, key_end);
        self.value_end = value_end;
        self.at = value_end;
        if self.block_records == 0 && self.at != self.block.len() {
            return Err(self.damaged("a block has bytes after its last record"));
        }
        Ok(true)
    }

    /// The current record's key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.block.get(self.key.0..self.key.1).unwrap_or_default()
    }

    /// The current record's value.
    #[inline]
    pub fn value(&self) -> &[u8] {
        self.block.get(self.key.1..self.value_end).unwrap_or_default()
    }

    fn damaged(&self, what: &str) -> ShuffleError {
        ShuffleError::Damaged { map: self.map, offset: self.position, what: what.into() }
    }

    /// Loads the next block; false after the last one.
    fn next_block(&mut self) -> Result<bool, ShuffleError> {
        let end = self.run.offset.saturating_add(self.run.stored_bytes);
        if self.position == end {
            let read = (self.blocks, self.records, self.decoded_bytes);
            if read != (self.run.blocks, self.run.records, self.run.decoded_bytes) {
                return Err(self.damaged("the run is not as long as the index says"));
            }
            // A finished run needs no memory while others go on.
            self.ahead = Vec::new();
            self.block = Vec::new();
            return Ok(false);
        }
        let left = usize::try_from(end - self.position).unwrap_or(usize::MAX);
        if left < BLOCK_HEADER_BYTES {
            return Err(self.damaged("the run ends within a block"));
        }
        let at = self.look_ahead(BLOCK_HEADER_BYTES, left)?;
        let mut header = [0; BLOCK_HEADER_BYTES];
        header.copy_from_slice(self.ahead.get(at..at + BLOCK_HEADER_BYTES).unwrap_or(&[0; 20]));
        let field = |at| u32_at(&header, at).unwrap_or_default();
        let [crc, stored, decoded, records, method] = [0, 4, 8, 12, 16].map(field);
        let length = stored as usize;
        // Not checked yet, so nothing is reserved beyond what the index allows.
        if length > left - BLOCK_HEADER_BYTES
            || stored > decoded
            || decoded > self.run.largest_block
        {
            return Err(self.damaged("a block's length is not right"));
        }
        let seed = crc32c_append(self.seed, &self.blocks.to_le_bytes());
        let seed = crc32c_append(seed, header.get(4..).unwrap_or_default());
        if method == STORED && length + BLOCK_HEADER_BYTES > self.ahead_bytes {
            // Large ones go straight to their place.
            self.block.clear();
            self.block.shrink_to(length);
            self.block.reserve_exact(length);
            self.block.resize(length, 0);
            let offset = self.position + BLOCK_HEADER_BYTES as u64;
            self.fetch.read(self.map, offset, &mut self.block)?;
            if crc32c_append(seed, &self.block) != crc {
                return Err(self.damaged("a block's CRC is not right"));
            }
        } else {
            let at = self.look_ahead(BLOCK_HEADER_BYTES + length, left)? + BLOCK_HEADER_BYTES;
            let bytes = self.ahead.get(at..at + length).unwrap_or_default();
            if crc32c_append(seed, bytes) != crc {
                return Err(self.damaged("a block's CRC is not right"));
            }
            self.block.resize(decoded as usize, 0);
            let written = match method {
                STORED if stored == decoded => {
                    self.block.copy_from_slice(bytes);
                    Some(length)
                }
                LZ4 => lz4_flex::block::decompress_into(bytes, &mut self.block).ok(),
                _ => None,
            };
            if written != Some(decoded as usize) {
                return Err(self.damaged("a block cannot be decoded"));
            }
        }
        if records == 0 || self.block.len() != decoded as usize {
            return Err(self.damaged("a block is not what it says"));
        }
        self.position += (BLOCK_HEADER_BYTES + length) as u64;
        self.blocks += 1;
        self.records += u64::from(records);
        self.decoded_bytes += u64::from(decoded);
        self.block_records = records;
        self.at = 0;
        Ok(true)
    }

    /// Where in `ahead` the bytes from `position` on are, `needed` of them at least.
    fn look_ahead(&mut self, needed: usize, left: usize) -> Result<usize, ShuffleError> {
        let at = usize::try_from(self.position - self.ahead_at).unwrap_or(usize::MAX);
        if at.checked_add(needed).is_some_and(|end| end <= self.ahead.len()) {
            return Ok(at);
        }
        // The rest of the piece moves to the front.
        if at < self.ahead.len() {
            self.ahead.drain(..at);
        } else {
            self.ahead.clear();
        }
        self.ahead_at = self.position;
        let have = self.ahead.len();
        let want = left.min(self.ahead_bytes).max(needed);
        self.ahead.reserve_exact(want - have);
        self.ahead.resize(want, 0);
        let room = self.ahead.get_mut(have..).unwrap_or_default();
        self.fetch.read(self.map, self.position + have as u64, room)?;
        Ok(0)
    }
}

/// Lengths of key and value, and how many bytes they take.
#[inline]
pub(crate) fn lengths(record: &[u8]) -> Option<(usize, usize, usize)> {
    // Both below 128, which is usual.
    if let [key @ 0..=127, value @ 0..=127, ..] = record {
        return Some((usize::from(*key), usize::from(*value), 2));
    }
    let (key, first) = varint(record)?;
    let (value, second) = varint(record.get(first..)?)?;
    Some((key as usize, value as usize, first + second))
}

fn varint(bytes: &[u8]) -> Option<(u32, usize)> {
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Some((u32::try_from(number).ok()?, at + 1));
        }
    }
    None
}
