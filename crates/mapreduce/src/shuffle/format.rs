//! The fixed parts of a shuffle file: header, index and footer. All numbers are little-endian.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crc32c::{crc32c, crc32c_append};

use super::ShuffleError;

const MAGIC: [u8; 8] = *b"KTKISHF\n";
const VERSION: u32 = 1;

pub(super) const HEADER_BYTES: u64 = 40;
pub(super) const FOOTER_BYTES: u64 = 32;
pub(super) const ROW_BYTES: usize = 24;
pub(super) const ENTRY_BYTES: usize = 40;
pub(super) const BLOCK_HEADER_BYTES: usize = 20;

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    /// The job.
    pub job: u64,
    /// The map task, X in `mr-X-Y`.
    pub map: u32,
    /// The attempt, unique within the job.
    pub attempt: u64,
    /// Number of buckets, which is the number of reduces.
    pub buckets: u32,
}

impl FileIdentity {
    /// What the CRCs of a run begin with, so that a block in a wrong place is not believed. A run is
    /// known by its offset.
    pub(super) fn block_seed(&self, bucket: u32, run: u64) -> u32 {
        let mut bytes = [0; 32];
        let fields: [&[u8]; 5] = [
            &self.job.to_le_bytes(),
            &self.attempt.to_le_bytes(),
            &self.map.to_le_bytes(),
            &bucket.to_le_bytes(),
            &run.to_le_bytes(),
        ];
        put(&mut bytes, &fields);
        crc32c(&bytes)
    }

    pub(super) fn header(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        let fields: [&[u8]; 7] = [
            &MAGIC,
            &VERSION.to_le_bytes(),
            &[0; 4],
            &self.job.to_le_bytes(),
            &self.attempt.to_le_bytes(),
            &self.map.to_le_bytes(),
            &self.buckets.to_le_bytes(),
        ];
        put(&mut bytes, &fields);
        let crc = crc32c(&bytes);
        put(bytes.get_mut(12..16).unwrap_or_default(), &[&crc.to_le_bytes()]);
        bytes
    }
}

/// Copies `fields` one after the other to the start of `bytes`.
fn put(bytes: &mut [u8], fields: &[&[u8]]) {
    let mut rest = bytes;
    for field in fields {
        let Some((place, after)) = rest.split_at_mut_checked(field.len()) else { return };
        place.copy_from_slice(field);
        rest = after;
    }
}

/// A sorted run of one bucket: a range of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Run {
    /// First byte of its first block.
    pub offset: u64,
    /// Bytes of its blocks, with their headers.
    pub stored_bytes: u64,
    /// Bytes of its records, not compressed.
    pub decoded_bytes: u64,
    /// Number of its records.
    pub records: u64,
    /// Bytes of the records of its largest block, not compressed.
    pub largest_block: u32,
    /// Number of its blocks.
    pub blocks: u32,
}

impl Run {
    pub(super) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let fields: [&[u8]; 6] = [
            &self.offset.to_le_bytes(),
            &self.stored_bytes.to_le_bytes(),
            &self.decoded_bytes.to_le_bytes(),
            &self.records.to_le_bytes(),
            &self.largest_block.to_le_bytes(),
            &self.blocks.to_le_bytes(),
        ];
        put(&mut bytes, &fields);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Run> {
        Some(Run {
            offset: u64_at(bytes, 0)?,
            stored_bytes: u64_at(bytes, 8)?,
            decoded_bytes: u64_at(bytes, 16)?,
            records: u64_at(bytes, 24)?,
            largest_block: u32_at(bytes, 32)?,
            blocks: u32_at(bytes, 36)?,
        })
    }
}

/// One bucket of a file: what a reducer needs to know to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// The file.
    pub file: FileIdentity,
    /// The reduce, Y in `mr-X-Y`.
    pub bucket: u32,
    /// Its runs, oldest first.
    pub runs: Vec<Run>,
}

impl Bucket {
    /// Records of all runs.
    pub fn records(&self) -> u64 {
        self.runs.iter().map(|run| run.records).sum()
    }

    /// Bytes of all runs as they are stored.
    pub fn stored_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.stored_bytes).sum()
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The row of the index that says where the entries of `bucket` are, and what they are.
pub(super) fn row(
    identity: &FileIdentity,
    bucket: u32,
    offset: u64,
    entries: &[u8],
) -> [u8; ROW_BYTES] {
    let mut bytes = [0; ROW_BYTES];
    let count = (entries.len() / ENTRY_BYTES) as u32;
    let seed = identity.block_seed(bucket, u64::MAX);
    let fields: [&[u8]; 3] =
        [&offset.to_le_bytes(), &count.to_le_bytes(), &crc32c_append(seed, entries).to_le_bytes()];
    put(&mut bytes, &fields);
    let crc = crc32c_append(seed, bytes.get(..16).unwrap_or_default());
    // The last four bytes are zeros, and are checked to be.
    put(bytes.get_mut(16..20).unwrap_or_default(), &[&crc.to_le_bytes()]);
    bytes
}

/// The end of a file whose index begins at `rows`, and which has `total` bytes.
pub(super) fn footer(identity: &FileIdentity, rows: u64, total: u64) -> [u8; 32] {
    let mut bytes = [0; FOOTER_BYTES as usize];
    let fields: [&[u8]; 3] = [&rows.to_le_bytes(), &total.to_le_bytes(), &MAGIC];
    put(&mut bytes, &fields);
    let seed = identity.block_seed(u32::MAX, u64::MAX);
    let crc = crc32c_append(seed, bytes.get(..28).unwrap_or_default());
    put(bytes.get_mut(28..32).unwrap_or_default(), &[&crc.to_le_bytes()]);
    bytes
}

/// A finished shuffle file, opened for reading. Reading is by position, so that threads share it.
#[derive(Debug)]
pub struct ShuffleFile {
    file: File,
    identity: FileIdentity,
    rows: u64,
}

impl ShuffleFile {
    /// Opens the file of the map task `map` and checks its header and footer.
    ///
    /// # Errors
    /// [`ShuffleError::Lost`] without a file, [`ShuffleError::Damaged`] when it is not one that was
    /// finished.
    pub fn open(path: &Path, map: u32) -> Result<ShuffleFile, ShuffleError> {
        let lost = |error: io::Error| ShuffleError::Lost {
            map,
            reason: format!("{}: {error}", path.display()),
        };
        let file = File::open(path).map_err(lost)?;
        let length = file.metadata().map_err(lost)?.len();
        let damaged = |offset, what: &str| ShuffleError::Damaged { map, offset, what: what.into() };
        if length < HEADER_BYTES + FOOTER_BYTES {
            return Err(damaged(length, "the file is too short"));
        }
        let mut header = [0; HEADER_BYTES as usize];
        file.read_exact_at(&mut header, 0).map_err(lost)?;
        let identity = decode_header(&header).map_err(|what| ShuffleError::Damaged {
            map,
            offset: 0,
            what,
        })?;
        if identity.map != map {
            return Err(damaged(0, "it is of another map"));
        }
        let at = length - FOOTER_BYTES;
        let mut footer_found = [0; FOOTER_BYTES as usize];
        file.read_exact_at(&mut footer_found, at).map_err(lost)?;
        let rows = u64_at(&footer_found, 0).unwrap_or_default();
        if footer_found != footer(&identity, rows, length) {
            return Err(damaged(at, "the footer is not right"));
        }
        let rows_bytes = u64::from(identity.buckets) * ROW_BYTES as u64;
        if rows < HEADER_BYTES || rows.checked_add(rows_bytes) != Some(at) {
            return Err(damaged(at, "the index is not where it should be"));
        }
        Ok(ShuffleFile { file, identity, rows })
    }

    /// Whose file it is.
    pub fn identity(&self) -> &FileIdentity {
        &self.identity
    }

    /// The runs of `bucket`.
    ///
    /// # Errors
    /// [`ShuffleError`] as for the rest of the file; a number beyond the last bucket counts as
    /// damage.
    pub fn bucket(&self, bucket: u32) -> Result<Bucket, ShuffleError> {
        let at = self.rows + u64::from(bucket) * ROW_BYTES as u64;
        if bucket >= self.identity.buckets {
            return Err(self.damaged(at, format!("there is no bucket {bucket}")));
        }
        let mut found = [0; ROW_BYTES];
        self.read(at, &mut found)?;
        let offset = u64_at(&found, 0).unwrap_or_default();
        let count = u32_at(&found, 8).unwrap_or_default();
        let length = u64::from(count) * ENTRY_BYTES as u64;
        // Believed only as far as the file goes, as it is not checked yet.
        if offset.checked_add(length).is_none_or(|end| end > self.rows) {
            return Err(self.damaged(at, "a row of the index is not right".into()));
        }
        let mut entries = vec![0; length as usize];
        self.read(offset, &mut entries)?;
        if found != row(&self.identity, bucket, offset, &entries) {
            return Err(self.damaged(at, "a row of the index is not right".into()));
        }
        let runs = entries.chunks_exact(ENTRY_BYTES).filter_map(Run::decode).collect();
        Ok(Bucket { file: self.identity, bucket, runs })
    }

    /// Fills `room` with the bytes at `offset`.
    ///
    /// # Errors
    /// When the file ends before, or cannot be read.
    pub fn read(&self, offset: u64, room: &mut [u8]) -> Result<(), ShuffleError> {
        let map = self.identity.map;
        self.file.read_exact_at(room, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(offset, "the file ends".into()),
            _ => ShuffleError::Lost { map, reason: error.to_string() },
        })
    }

    fn damaged(&self, offset: u64, what: String) -> ShuffleError {
        ShuffleError::Damaged { map: self.identity.map, offset, what }
    }
}

fn decode_header(bytes: &[u8]) -> Result<FileIdentity, String> {
    let short = || "the header is short".to_owned();
    if !bytes.starts_with(&MAGIC) {
        return Err("it is not a shuffle file".into());
    }
    let version = u32_at(bytes, 8).ok_or_else(short)?;
    let identity = FileIdentity {
        job: u64_at(bytes, 16).ok_or_else(short)?,
        attempt: u64_at(bytes, 24).ok_or_else(short)?,
        map: u32_at(bytes, 32).ok_or_else(short)?,
        buckets: u32_at(bytes, 36).ok_or_else(short)?,
    };
    let crc = u32_at(bytes, 12).ok_or_else(short)?;
    let mut cleared = bytes.to_vec();
    put(cleared.get_mut(12..16).unwrap_or_default(), &[&[0; 4]]);
    // Magic, version and CRC keep their places, so that another version is told from damage.
    if crc != crc32c(&cleared) {
        return Err("the header's CRC is not right".into());
    }
    if version != VERSION {
        return Err(format!("it has version {version}, this program reads version {VERSION}"));
    }
    Ok(identity)
}
