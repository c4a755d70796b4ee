//! One attempt of a task: what a worker calls.
//!
//! An attempt reads its input, keeps to its budget of memory, and leaves one file: a map attempt a
//! shuffle file, a reduce attempt an output file that [`commit`] gives its final name. It can be
//! cancelled through its [`Monitor`], and leaves nothing then, or when it fails.

mod counters;
mod direct;
mod map;
mod output;
mod program;
mod reduce;
mod selection;
mod sequential;

use std::path::PathBuf;

pub use counters::Counters;
pub(crate) use direct::write as write_output;
pub use map::{MapFigures, MapOutput};
pub(crate) use map::{begin as map_spiller, finish as finish_map, lines, selection};
pub use output::{commit, output_name};
pub(crate) use output::{put_in_place, sync_folder};
pub use program::{Compiled, Program};
pub(crate) use reduce::run_with as reduce_with;
pub use reduce::{ReduceFigures, ReduceOutput, ReduceTask};
pub(crate) use selection::Selection;

/// Watches an attempt, from another thread or from within.
pub trait Monitor: Send + Sync {
    /// The attempt has got on: by so many bytes of input (map) or records (reduce).
    fn advanced(&self, amount: u64);

    /// From here on the attempt has so much to get on by, in the unit of [`Monitor::advanced`].
    fn expect(&self, _more: u64) {}

    /// What user code says of itself, for people who watch the job.
    fn said(&self, _status: &str) {}

    /// Whether the attempt is to stop; asked every few milliseconds of work.
    fn is_cancelled(&self) -> bool;
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Monitor for Unwatched {
    fn advanced(&self, _amount: u64) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// The least memory that a task can do with.
pub const MEMORY_BYTES_MIN: u64 = 4 << 20;

/// A task's memory unless the job says otherwise.
pub const MEMORY_BYTES: u64 = 256 << 20;

/// What every attempt of a job has in common, and what makes it unique.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The job.
    pub job: u64,
    /// Unique among the job's attempts.
    pub attempt: u64,
    /// Number of reduces. 0: the map's output is output of the job, and no shuffle file.
    pub reduces: u32,
    /// Memory for the attempt's buffers, at least [`MEMORY_BYTES_MIN`]. A record, or a pair, is at
    /// most a quarter of it.
    pub memory_bytes: u64,
    /// Where the attempt's files go. It exists.
    pub folder: PathBuf,
    /// Records that a map leaves out, by their numbers in the task's input (from 0), ascending.
    pub skip: Vec<u64>,
}

impl Attempt {
    /// The longest record or pair.
    pub(crate) fn record_bytes_max(&self) -> usize {
        // Lengths are 32 bits in the shuffle file.
        usize::try_from(self.memory_bytes / 4).unwrap_or(usize::MAX).min(1 << 30)
    }

    /// Half of the memory is for what is gathered or merged; the rest for one record on its way in,
    /// one on its way out, and buffers of files.
    fn gather_bytes(&self) -> u64 {
        self.memory_bytes / 2
    }
}

#[cfg(test)]
mod tests;
