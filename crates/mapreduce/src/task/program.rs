//! A job whose types are forgotten, so that a worker can run any.

use std::ops::Range;
use std::path::Path;

use super::{Attempt, MapOutput, Monitor, ReduceOutput, ReduceTask, map, reduce, sequential};
use crate::api::Job;
use crate::error::TaskError;
use crate::input::{InputFile, MapTask};
use crate::shuffle::Fetch;

/// The tasks of a job.
pub trait Program: Send + Sync {
    /// Runs one attempt of a map task. Blocks; call it from a thread of its own.
    ///
    /// # Errors
    /// [`TaskError`]; nothing is left in the attempt's folder then.
    fn map(
        &self,
        task: &MapTask,
        attempt: &Attempt,
        monitor: &dyn Monitor,
    ) -> Result<MapOutput, TaskError>;

    /// Runs user code on the records `records` of a map task only (by their numbers in its input),
    /// without those that the attempt skips, and throws the output away: to find a record that
    /// makes it fail. Blocks.
    ///
    /// # Errors
    /// As for [`Program::map`].
    fn probe(
        &self,
        task: &MapTask,
        records: Range<u64>,
        attempt: &Attempt,
        monitor: &dyn Monitor,
    ) -> Result<(), TaskError>;

    /// Runs one attempt of a reduce task over the output of all maps. Blocks.
    ///
    /// # Errors
    /// [`TaskError`]; [`TaskError::lost_map`] names the map that must run again, if one must.
    fn reduce(
        &self,
        task: ReduceTask,
        fetch: &dyn Fetch,
        attempt: &Attempt,
        monitor: &dyn Monitor,
    ) -> Result<ReduceOutput, TaskError>;

    /// Runs the whole job in one thread without splits, combiner, shuffle files or budget, all
    /// pairs in memory: what every other run is compared with. The output is the file `output`.
    ///
    /// # Errors
    /// [`TaskError`].
    fn sequential(&self, files: &[InputFile], output: &Path) -> Result<(), TaskError>;

    /// The same for a job without reduces: the output of the maps, in the order of the input.
    ///
    /// # Errors
    /// [`TaskError`].
    fn sequential_maps(&self, files: &[InputFile], output: &Path) -> Result<(), TaskError>;
}

/// The program of a [`Job`], compiled for its types.
#[derive(Debug, Clone, Copy)]
pub struct Compiled<J>(pub J);

impl<J: Job> Program for Compiled<J> {
    fn map(
        &self,
        task: &MapTask,
        attempt: &Attempt,
        monitor: &dyn Monitor,
    ) -> Result<MapOutput, TaskError> {
        map::run(&self.0, task, attempt, monitor)
    }

    fn probe(
        &self,
        task: &MapTask,
        records: Range<u64>,
        attempt: &Attempt,
        monitor: &dyn Monitor,
    ) -> Result<(), TaskError> {
        map::probe(&self.0, task, records, attempt, monitor)
    }

    fn reduce(
        &self,
        task: ReduceTask,
        fetch: &dyn Fetch,
        attempt: &Attempt,
        monitor: &dyn Monitor,
    ) -> Result<ReduceOutput, TaskError> {
        reduce::run(&self.0, task, fetch, attempt, monitor)
    }

    fn sequential(&self, files: &[InputFile], output: &Path) -> Result<(), TaskError> {
        sequential::run(&self.0, files, output)
    }

    fn sequential_maps(&self, files: &[InputFile], output: &Path) -> Result<(), TaskError> {
        sequential::run_maps(&self.0, files, output)
    }
}
