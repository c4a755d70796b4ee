//! Writing a shuffle file: runs in the order of their buckets, then the index.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crc32c::crc32c_append;

use super::format::{BLOCK_HEADER_BYTES, FileIdentity, HEADER_BYTES, Run, footer, row};
use super::index::Index;

/// Records are put together in blocks of about so many bytes, the unit of compression.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// A record of so many bytes is a block of its own, not compressed: it is neither copied nor
/// compressed in memory.
const LARGE_BYTES: usize = 256 * 1024;

/// A block that does not shrink to seven eighths is stored as it is, and so are so many after it,
/// without trying.
const BLOCKS_NOT_TRIED: u32 = 15;

/// Handed to the operating system at a time.
const BUFFER_BYTES: usize = 512 * 1024;

pub(super) const STORED: u32 = 0;
pub(super) const LZ4: u32 = 1;

/// The end of a record's varint-coded length: at most five bytes for 32 bits.
pub(crate) fn put_varint(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Writes one shuffle file.
pub struct ShuffleWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    buffer: Vec<u8>,
    position: u64,
    identity: FileIdentity,
    index: Index,
    run: u32,
    current: Option<(u32, Run)>,
    seed: u32,
    block: Vec<u8>,
    block_records: u32,
    compressed: Vec<u8>,
    untried: u32,
    finished: bool,
}

/// What a writer has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Section {
    /// Records.
    pub records: u64,
    /// Bytes of the records, not compressed.
    pub decoded_bytes: u64,
    /// Bytes of the file.
    pub stored_bytes: u64,
}

impl ShuffleWriter {
    /// Begins a file at `path`; until [`ShuffleWriter::finish`] it has another name.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path, identity: FileIdentity) -> io::Result<ShuffleWriter> {
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let temporary = PathBuf::from(name);
        let file = File::create(&temporary)?;
        let mut writer = ShuffleWriter {
            path: path.to_owned(),
            temporary,
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            position: 0,
            identity,
            index: Index::default(),
            run: 0,
            current: None,
            seed: 0,
            block: Vec::with_capacity(BLOCK_BYTES + 4096),
            block_records: 0,
            compressed: Vec::new(),
            untried: 0,
            finished: false,
        };
        writer.write(&identity.header())?;
        Ok(writer)
    }

    /// Adds a record to the run under way. Within a run, buckets and the keys of a bucket must not
    /// descend.
    ///
    /// # Errors
    /// When the file cannot be written.
    #[inline]
    pub fn push(&mut self, bucket: u32, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.enter(bucket)?;
        let length = key.len() + value.len();
        if length >= LARGE_BYTES {
            return self.push_large(key, value);
        }
        put_varint(&mut self.block, key.len() as u32);
        put_varint(&mut self.block, value.len() as u32);
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(value);
        self.pushed()
    }

    /// Adds a record that is encoded already: lengths as varints, key, value.
    #[inline]
    pub(crate) fn push_encoded(&mut self, bucket: u32, record: &[u8]) -> io::Result<()> {
        self.enter(bucket)?;
        self.block.extend_from_slice(record);
        self.pushed()
    }

    /// Whether a record of so many bytes must go through [`ShuffleWriter::push`].
    pub(crate) fn is_large(bytes: usize) -> bool {
        bytes >= LARGE_BYTES
    }

    #[inline]
    fn pushed(&mut self) -> io::Result<()> {
        self.block_records += 1;
        if self.block.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    #[inline]
    fn enter(&mut self, bucket: u32) -> io::Result<()> {
        match &self.current {
            Some((current, _)) if *current == bucket => Ok(()),
            _ => self.begin_bucket(bucket),
        }
    }

    fn begin_bucket(&mut self, bucket: u32) -> io::Result<()> {
        self.end_bucket()?;
        self.current = Some((bucket, Run { offset: self.position, ..Run::default() }));
        self.seed = self.identity.block_seed(bucket, self.position);
        Ok(())
    }

    fn end_bucket(&mut self) -> io::Result<()> {
        self.end_block()?;
        if let Some((bucket, mut run)) = self.current.take() {
            run.stored_bytes = self.position - run.offset;
            self.index.add(bucket, &run);
        }
        Ok(())
    }

    /// Ends the run under way; what is pushed next may begin with the first bucket again.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn end_run(&mut self) -> io::Result<()> {
        self.end_bucket()?;
        self.run += 1;
        Ok(())
    }

    /// Runs ended so far.
    pub fn runs(&self) -> u32 {
        self.run
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.block_records == 0 {
            return Ok(());
        }
        let block = std::mem::take(&mut self.block);
        let mut compressed = std::mem::take(&mut self.compressed);
        let mut method = STORED;
        let mut stored: &[u8] = &block;
        if self.untried > 0 {
            self.untried -= 1;
        } else {
            compressed.resize(lz4_flex::block::get_maximum_output_size(block.len()), 0);
            let length = lz4_flex::block::compress_into(&block, &mut compressed);
            let length = length.map_err(io::Error::other)?;
            if length <= block.len() - block.len() / 8 {
                method = LZ4;
                stored = compressed.get(..length).unwrap_or_default();
            } else {
                self.untried = BLOCKS_NOT_TRIED;
            }
        }
        let done = self.write_block(method, block.len(), self.block_records, &[stored]);
        (self.block, self.compressed) = (block, compressed);
        self.block.clear();
        self.block_records = 0;
        done
    }

    fn push_large(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.end_block()?;
        let mut lengths = Vec::with_capacity(10);
        put_varint(&mut lengths, key.len() as u32);
        put_varint(&mut lengths, value.len() as u32);
        let length = lengths.len() + key.len() + value.len();
        self.write_block(STORED, length, 1, &[&lengths, key, value])
    }

    fn write_block(
        &mut self,
        method: u32,
        decoded: usize,
        records: u32,
        pieces: &[&[u8]],
    ) -> io::Result<()> {
        let Some((_, run)) = &mut self.current else { return Ok(()) };
        let stored: usize = pieces.iter().map(|piece| piece.len()).sum();
        let (Ok(decoded), Ok(stored)) = (u32::try_from(decoded), u32::try_from(stored)) else {
            return Err(io::Error::other("a record of 4 GiB or more"));
        };
        let ordinal = run.blocks;
        run.blocks += 1;
        run.decoded_bytes += u64::from(decoded);
        run.records += u64::from(records);
        run.largest_block = run.largest_block.max(decoded);
        let mut header = [0; BLOCK_HEADER_BYTES];
        let fields = [0, stored, decoded, records, method];
        for (place, field) in header.chunks_exact_mut(4).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        let mut crc = crc32c_append(self.seed, &ordinal.to_le_bytes());
        crc = crc32c_append(crc, header.get(4..).unwrap_or_default());
        for piece in pieces {
            crc = crc32c_append(crc, piece);
        }
        if let Some(place) = header.get_mut(..4) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        self.write(&header)?;
        for piece in pieces {
            self.write(piece)?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.position += bytes.len() as u64;
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.file.write_all(&self.buffer)?;
            self.buffer.clear();
            if bytes.len() > BUFFER_BYTES {
                return self.file.write_all(bytes);
            }
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes the index and gives the file its name. Not synced: a file that a crash of the machine
    /// loses is made again.
    ///
    /// # Errors
    /// When the file cannot be written or renamed.
    pub fn finish(self) -> io::Result<Section> {
        let path = self.path.clone();
        self.finish_as(&path)
    }

    /// [`ShuffleWriter::finish`], with another name.
    pub(crate) fn finish_as(mut self, path: &Path) -> io::Result<Section> {
        self.end_bucket()?;
        let mut section = Section::default();
        let index = std::mem::take(&mut self.index);
        let mut rows = Vec::new();
        let mut entries = Vec::new();
        let mut cursors = index.cursors();
        for bucket in 0..self.identity.buckets {
            entries.clear();
            for cursor in &mut cursors {
                while let Some(run) = cursor.next_of(bucket) {
                    entries.extend_from_slice(&run.encode());
                    section.records += run.records;
                    section.decoded_bytes += run.decoded_bytes;
                }
            }
            rows.extend_from_slice(&row(&self.identity, bucket, self.position, &entries));
            self.write(&entries)?;
        }
        let rows_at = self.position;
        self.write(&rows)?;
        let total = self.position + super::format::FOOTER_BYTES;
        self.write(&footer(&self.identity, rows_at, total))?;
        section.stored_bytes = total;
        self.file.write_all(&self.buffer)?;
        fs::rename(&self.temporary, path)?;
        self.finished = true;
        Ok(section)
    }

    /// The name that the file gets.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes written so far.
    pub fn stored_bytes(&self) -> u64 {
        self.position.saturating_sub(HEADER_BYTES)
    }
}

impl Drop for ShuffleWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing can be done about a file that cannot be removed; its name says what it is.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
