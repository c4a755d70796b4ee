//! What can go wrong with a task, so that whoever runs it knows what to do next.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::shuffle::ShuffleError;

/// User code refused a record or a key; the text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UserError(pub String);

impl From<String> for UserError {
    fn from(message: String) -> UserError {
        UserError(message)
    }
}

impl From<&str> for UserError {
    fn from(message: &str) -> UserError {
        UserError(message.to_owned())
    }
}

/// Where a record stands in the input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordPlace {
    /// The file, as the input was spelled.
    pub file: String,
    /// Offset of the record's first byte, in bytes of the decompressed file.
    pub offset: u64,
}

impl std::fmt::Display for RecordPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at offset {}", self.file, self.offset)
    }
}

/// Why an attempt of a task ended without a result. Nothing of it is visible then.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The input cannot be read. Another attempt may succeed, on another machine for example.
    #[error("cannot read {path}")]
    Input {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A record is longer than a quarter of the memory budget.
    #[error("the record in {place} is longer than {limit} bytes, a quarter of the memory budget")]
    RecordTooLarge {
        /// Where it begins.
        place: RecordPlace,
        /// The most that is allowed.
        limit: u64,
    },
    /// A key with its value is longer than a quarter of the memory budget.
    #[error("a pair of {bytes} bytes is longer than {limit} bytes, a quarter of the memory budget")]
    PairTooLarge {
        /// Bytes of key and value.
        bytes: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// User code failed or panicked; near the record, if one was being mapped.
    #[error("user code failed{}: {message}", near(.place))]
    User {
        /// What it said.
        message: String,
        /// The record, or the first one of the batch, that was being mapped.
        place: Option<RecordPlace>,
        /// The records that may be to blame, by their numbers in the task's input (from 0), as far
        /// as that is known.
        suspects: Option<Range<u64>>,
    },
    /// Our own temporary or output files cannot be written or read.
    #[error("cannot {action} {}", path.display())]
    Files {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// This worker cannot run the task; another one may.
    #[error("{0}")]
    Unfit(String),
    /// Map output cannot be fetched, or is damaged.
    #[error(transparent)]
    Shuffle(#[from] ShuffleError),
    /// The memory budget is too small for what must be in memory at once.
    #[error("{needed} bytes of memory are needed at once, {budget} are allowed")]
    Memory {
        /// Bytes needed.
        needed: u64,
        /// The task's budget.
        budget: u64,
    },
    /// The monitor asked to stop.
    #[error("cancelled")]
    Cancelled,
}

fn near(place: &Option<RecordPlace>) -> String {
    place.as_ref().map(|place| format!(" near {place}")).unwrap_or_default()
}

impl TaskError {
    /// The map task whose output must be made again before another attempt can succeed.
    pub fn lost_map(&self) -> Option<u32> {
        match self {
            TaskError::Shuffle(error) => Some(error.map()),
            _ => None,
        }
    }

    pub(crate) fn user(message: impl Into<String>) -> TaskError {
        TaskError::User { message: message.into(), place: None, suspects: None }
    }

    pub(crate) fn files(action: &'static str, path: &Path, source: io::Error) -> TaskError {
        TaskError::Files { action, path: path.to_owned(), source }
    }
}
