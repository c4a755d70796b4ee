//! What a job's author writes: a mapper and a reducer, and if need be a combiner and a partition.
//!
//! Everything is byte slices that live as long as the call: no pair is allocated by itself, and the
//! compiler sees through the generic calls, so that a mapper costs what its loop costs.
//!
//! What holds for every job:
//! - The pairs of a map task reach the reducer grouped by key, keys in byte order within one
//!   reduce.
//! - Without a combiner the values of a key come in the order of the input: by map task, and within
//!   it as they were emitted.
//! - A combiner may be called never, once or many times for a key. It must be associative, and
//!   indifferent to where the values are cut apart.
//! - A task may run more than once; what user code does beside its output may happen more than once.

mod held;
mod job;
mod output;
mod record;
mod values;

pub use held::Held;
pub use job::{HashPartition, Job, NoCombiner, Partition};
pub use output::Output;
pub use record::{Batch, Record, Records, Source};
pub use values::{ValueSource, Values};

use crate::error::{TaskError, UserError};

/// Where a mapper's pairs go.
///
/// Neither call fails: an error (a full disk, for example) ends the attempt at the end of the
/// batch, and pairs emitted until then are dropped.
pub trait Emit {
    /// Emits a pair. Key and value together are at most a quarter of the task's memory budget.
    fn emit(&mut self, key: &[u8], value: &[u8]);

    /// Emits a pair whose key is the first `length` bytes of `window`.
    ///
    /// For keys that are parts of a longer text: with eight readable bytes or more, the key is
    /// hashed without looking at its length first. `length` must not exceed the window's.
    fn emit_within(&mut self, window: &[u8], length: usize, value: &[u8]) {
        self.emit(window.get(..length).unwrap_or(window), value);
    }

    /// Adds `amount` to a counter of the job.
    fn count(&mut self, group: &str, name: &str, amount: i64);
}

/// Makes pairs of records. One value maps all records of an attempt.
pub trait Mapper: Send {
    /// Maps one record: a line without its newline.
    ///
    /// # Errors
    /// The attempt fails, naming the record; the task is tried again as often as the job allows.
    fn map<E: Emit>(&mut self, record: Record<'_>, out: &mut E) -> Result<(), UserError>;

    /// Maps whole lines at once; the default calls [`Mapper::map`] for each. For mappers that are
    /// quicker over a long text than line by line.
    ///
    /// # Errors
    /// As for [`Mapper::map`], naming the batch.
    fn map_batch<E: Emit>(&mut self, batch: Batch<'_>, out: &mut E) -> Result<(), UserError> {
        for record in batch.records() {
            self.map(record, out)?;
        }
        Ok(())
    }

    /// After the last record of the task.
    ///
    /// # Errors
    /// As for [`Mapper::map`].
    fn finish<E: Emit>(&mut self, _out: &mut E) -> Result<(), UserError> {
        Ok(())
    }
}

/// Folds values of one key into one, on the map side, so that less is shuffled.
pub trait Combiner: Send {
    /// Folds `value` into what is held for `key`. Held at first is the key's first value.
    fn fold(&mut self, key: &[u8], held: &mut Held<'_>, value: &[u8]);
}

/// Makes output of a key and its values. One value reduces all keys of an attempt, in byte order.
pub trait Reducer: Send {
    /// Reduces one key. Values that are not asked for are skipped.
    ///
    /// # Errors
    /// [`UserError`] through [`TaskError::User`]; errors of `values` and `out` are handed on.
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), TaskError>;

    /// After the last key of the task.
    ///
    /// # Errors
    /// As for [`Reducer::reduce`].
    fn finish(&mut self, _out: &mut Output<'_>) -> Result<(), TaskError> {
        Ok(())
    }
}

impl From<UserError> for TaskError {
    fn from(error: UserError) -> TaskError {
        TaskError::user(error.0)
    }
}
