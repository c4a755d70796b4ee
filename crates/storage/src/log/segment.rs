//! The first two pages of a segment file, and its name. Byte table: `docs/log-format.md`.
//!
//! The first page holds two *marks*, written in turns with every sync: up to where all was durable
//! when the sync began. The second holds the header, the frames follow. In this order any one
//! damaged stretch of the file either hits the header, which is noticed at once, or leaves the
//! marks or the frames whole.

use super::frame::{u32_at, u64_at};

/// Bytes of the page that the header fills, and of the page of marks before it.
pub(super) const PAGE: usize = 4096;
/// Where the header begins.
pub(super) const HEADER: usize = PAGE;
/// Where the first frame begins.
pub(super) const START: usize = 2 * PAGE;
/// The version of the log format that this code writes and reads.
pub const LOG_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"KTKILOG\n";
const USED: usize = 88;

/// What a segment says about its present use. Durable before the file gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The directory that the log belongs to.
    pub incarnation: u64,
    /// Position among the segments.
    pub number: u64,
    /// Random number of this use of the file.
    pub generation: u64,
    /// The frame that the first one here follows; later frames of older segments are void.
    pub follows: u64,
    /// CRC of that frame.
    pub follows_crc: u32,
    /// Highest durable sequence when the header was written.
    pub durable: u64,
    /// Oldest segment that was needed then.
    pub oldest: u64,
    /// Length of the file.
    pub capacity: u64,
}

/// Why a header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged,
    Version(u32),
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        page[..8].copy_from_slice(&MAGIC);
        page[8..12].copy_from_slice(&LOG_VERSION.to_le_bytes());
        let numbers = [
            (16, self.incarnation),
            (24, self.number),
            (32, self.generation),
            (40, self.follows),
            (48, self.durable),
            (56, self.oldest),
            (64, self.capacity),
            (72, u64::from(self.follows_crc)),
        ];
        for (at, number) in numbers {
            page[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let crc = Self::crc(&page);
        page[12..16].copy_from_slice(&crc.to_le_bytes());
        page
    }

    pub(super) fn decode(page: &[u8]) -> Result<Self, BadHeader> {
        if page.len() < PAGE || page[..8] != MAGIC || u32_at(page, 12) != Self::crc(page) {
            return Err(BadHeader::Damaged);
        }
        let version = u32_at(page, 8);
        if version != LOG_VERSION {
            return Err(BadHeader::Version(version));
        }
        Ok(Self {
            incarnation: u64_at(page, 16),
            number: u64_at(page, 24),
            generation: u64_at(page, 32),
            follows: u64_at(page, 40),
            durable: u64_at(page, 48),
            oldest: u64_at(page, 56),
            capacity: u64_at(page, 64),
            follows_crc: u32_at(page, 72),
        })
    }

    // Magic, version and CRC keep their places in every later version, so that an unknown version
    // is told from damage.
    fn crc(page: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&page[..12]), &page[16..USED])
    }
}

/// A mark: everything up to `durable` was durable when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub generation: u64,
    pub durable: u64,
}

impl Mark {
    const BYTES: usize = 24;
    const MAGIC: [u8; 4] = *b"KMRK";

    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[4..8].copy_from_slice(&Self::MAGIC);
        bytes[8..16].copy_from_slice(&self.generation.to_le_bytes());
        bytes[16..].copy_from_slice(&self.durable.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Where the mark that goes with this frame's sync stands. Two places in turns: a torn write
    /// spoils one, and the other still holds the mark before.
    pub(super) fn offset(sequence: u64) -> usize {
        if sequence.is_multiple_of(2) { 0 } else { PAGE / 2 }
    }

    /// The highest mark of `generation` on a first page.
    pub(super) fn highest(page: &[u8], generation: u64) -> Option<u64> {
        let marks = [0, 1].into_iter().filter_map(|turn| {
            let at = Self::offset(turn);
            let bytes = page.get(at..at + Self::BYTES)?;
            let mark = Self { generation, durable: u64_at(bytes, 16) };
            (bytes == mark.encode()).then_some(mark.durable)
        });
        marks.max()
    }
}

/// The file name of a segment.
pub(super) fn name(number: u64) -> String {
    format!("segment-{number:016x}.log")
}

/// The number in a segment's file name.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("segment-")?.strip_suffix(".log")?;
    if digits.len() == 16 { u64::from_str_radix(digits, 16).ok() } else { None }
}

/// Whether a file name in a log's directory is that of a segment in use. A log that was begun has one
/// at least.
pub fn is_segment(name: &str) -> bool {
    number(name).is_some()
}

/// The file name of a spare: allocated, not in use.
pub(super) fn spare_name(number: u64) -> String {
    format!("spare-{number:016x}.log")
}

/// Whether a file name is that of a spare.
pub(super) fn is_spare(name: &str) -> bool {
    name.starts_with("spare-") && name.ends_with(".log")
}
