//! Map output: one file per map attempt, and how it gets to the reducers.
//!
//! `docs/shuffle-format.md` describes the file byte by byte. In short: sorted *runs* of blocks, each
//! run for one reduce (its *bucket*), and an index at the end. The bucket of map X for reduce Y is
//! addressed as `mr-X-Y`: it is one range of the file per run, usually a single one.
//!
//! Every byte that a reader uses is covered by a CRC32C, which also covers whose block it is: a
//! flipped, missing, zeroed or displaced byte is a [`ShuffleError`], never another value.

mod fetch;
mod format;
mod index;
mod reader;
mod writer;

pub use fetch::{Fetch, LocalFetch};
pub use format::{Bucket, FileIdentity, Run, ShuffleFile};
pub use reader::RunReader;
pub(crate) use reader::lengths;
pub(crate) use writer::put_varint;
pub use writer::{BLOCK_BYTES, Section, ShuffleWriter};

/// Why a bucket cannot be read. The map task named must run again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShuffleError {
    /// The output is not there, or whoever has it does not answer.
    #[error("the output of map {map} is lost: {reason}")]
    Lost {
        /// The map task.
        map: u32,
        /// What happened.
        reason: String,
    },
    /// The output is there and is not what was written.
    #[error("the output of map {map} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The map task.
        map: u32,
        /// Where in its file.
        offset: u64,
        /// What is wrong.
        what: String,
    },
}

impl ShuffleError {
    /// The map task whose output is lost or damaged.
    pub fn map(&self) -> u32 {
        match self {
            ShuffleError::Lost { map, .. } | ShuffleError::Damaged { map, .. } => *map,
        }
    }
}

/// The name of the bucket of map `map` for reduce `reduce`: `mr-X-Y`.
pub fn bucket_name(map: u32, reduce: u32) -> String {
    format!("mr-{map}-{reduce}")
}

/// The map and the reduce that a bucket's name stands for.
pub fn parse_bucket_name(name: &str) -> Option<(u32, u32)> {
    let (map, reduce) = name.strip_prefix("mr-")?.split_once('-')?;
    Some((map.parse().ok()?, reduce.parse().ok()?))
}

#[cfg(test)]
mod tests;
