//! Where a buffer's sorted pairs go: runs of one shuffle file.

use std::io;
use std::path::PathBuf;

use crate::error::TaskError;
use crate::shuffle::{FileIdentity, ShuffleWriter};
use crate::task::Counters;

/// What the buffer counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SpillFigures {
    /// Pairs that user code emitted.
    pub emitted: u64,
    /// Bytes of their keys and values.
    pub emitted_bytes: u64,
    /// Pairs written to runs.
    pub written: u64,
    /// Times that the buffer was full.
    pub full: u64,
}

/// Writes runs, and keeps the first error until somebody asks.
pub(crate) struct Spiller {
    path: PathBuf,
    identity: FileIdentity,
    writer: Option<ShuffleWriter>,
    error: Option<TaskError>,
    pub(crate) figures: SpillFigures,
    pub(crate) counters: Counters,
    pair_bytes_max: usize,
}

impl Spiller {
    /// Runs go to the file `path`, which is made now. A pair is at most `pair_bytes_max` bytes.
    pub(crate) fn create(
        path: PathBuf,
        identity: FileIdentity,
        pair_bytes_max: usize,
    ) -> Result<Spiller, TaskError> {
        let writer = ShuffleWriter::create(&path, identity)
            .map_err(|source| TaskError::files("write", &path, source))?;
        Ok(Spiller {
            path,
            identity,
            writer: Some(writer),
            error: None,
            figures: SpillFigures::default(),
            counters: Counters::default(),
            pair_bytes_max,
        })
    }

    /// Number of buckets.
    pub(crate) fn buckets(&self) -> u32 {
        self.identity.buckets
    }

    /// Counts a pair of user code; false if it is too large or something has failed before.
    #[inline]
    pub(crate) fn admit(&mut self, bytes: usize) -> bool {
        self.figures.emitted += 1;
        self.figures.emitted_bytes += bytes as u64;
        if bytes > self.pair_bytes_max {
            self.fail(TaskError::PairTooLarge {
                bytes: bytes as u64,
                limit: self.pair_bytes_max as u64,
            });
        }
        self.error.is_none()
    }

    /// Whether `bucket` is one; if not, the partition is wrong.
    #[inline]
    pub(crate) fn is_bucket(&mut self, bucket: u32) -> bool {
        if bucket >= self.identity.buckets {
            let message =
                format!("the partition gave {bucket}, with {} reduces", self.identity.buckets);
            self.fail(TaskError::user(message));
        }
        bucket < self.identity.buckets
    }

    /// Keeps `error`, if it is the first one.
    #[cold]
    pub(crate) fn fail(&mut self, error: TaskError) {
        self.error.get_or_insert(error);
    }

    /// The first error, once.
    pub(crate) fn take_error(&mut self) -> Option<TaskError> {
        self.error.take()
    }

    /// Lets `write` write one sorted run.
    pub(crate) fn spill(
        &mut self,
        write: impl FnOnce(&mut ShuffleWriter) -> io::Result<u64>,
    ) -> bool {
        let Some(writer) = &mut self.writer else { return false };
        let done = write(writer).and_then(|written| writer.end_run().map(|()| written));
        match done {
            Ok(written) => {
                self.figures.written += written;
                true
            }
            Err(source) => {
                let path = self.path.clone();
                self.fail(TaskError::files("write", &path, source));
                false
            }
        }
    }

    /// The writer, with all runs, and what was counted.
    pub(crate) fn into_parts(
        mut self,
    ) -> Result<(ShuffleWriter, SpillFigures, Counters), TaskError> {
        match (self.error.take(), self.writer.take()) {
            (None, Some(writer)) => Ok((writer, self.figures, self.counters)),
            (Some(error), _) => Err(error),
            (None, None) => Err(TaskError::Cancelled),
        }
    }
}
