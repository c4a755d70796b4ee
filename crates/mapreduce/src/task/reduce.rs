//! An attempt of a reduce task.

use std::path::PathBuf;

use super::map::guarded;
use super::output::OutputFile;
use super::{Attempt, Counters, Monitor};
use crate::api::{Job, Output, Reducer, ValueSource, Values};
use crate::error::TaskError;
use crate::merge::{Merge, Sorted, Surroundings};
use crate::shuffle::{Bucket, Fetch};

/// What one reduce task reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReduceTask {
    /// The task's number, from 0; Y in `mr-X-Y`.
    pub number: u32,
    /// Number of map tasks.
    pub maps: u32,
}

/// What a reduce attempt did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReduceFigures {
    /// Runs that were merged.
    pub runs: u64,
    /// Bytes fetched, as stored.
    pub fetched_bytes: u64,
    /// Pairs read.
    pub records: u64,
    /// Different keys.
    pub keys: u64,
    /// Bytes written to scratch files because not all runs fitted in memory.
    pub spilled_bytes: u64,
    /// Lines of output.
    pub output_records: u64,
    /// Bytes of output.
    pub output_bytes: u64,
}

impl ReduceFigures {
    /// Adds those of another task.
    pub fn add(&mut self, other: &ReduceFigures) {
        self.runs += other.runs;
        self.fetched_bytes += other.fetched_bytes;
        self.records += other.records;
        self.keys += other.keys;
        self.spilled_bytes += other.spilled_bytes;
        self.output_records += other.output_records;
        self.output_bytes += other.output_bytes;
    }
}

/// What a reduce attempt leaves.
#[derive(Debug, Clone)]
pub struct ReduceOutput {
    /// The output, synced, under a name that is not final; see [`commit`](super::commit).
    pub file: PathBuf,
    /// What was done.
    pub figures: ReduceFigures,
    /// What user code counted.
    pub counters: Counters,
}

/// The values of the key under way.
struct KeyValues<'m, 'a> {
    merge: &'m mut Merge<'a>,
    key: &'m [u8],
    /// The current record has not been given out.
    pending: bool,
}

impl ValueSource for KeyValues<'_, '_> {
    #[inline]
    fn next_value(&mut self) -> Result<Option<&[u8]>, TaskError> {
        if self.pending {
            self.pending = false;
        } else {
            self.merge.advance()?;
        }
        let current = self.merge.current();
        Ok(current.filter(|(key, _)| *key == self.key).map(|(_, value)| value))
    }
}

/// Fetches the bucket of every map and puts what user code makes of it into a file.
pub(crate) fn run_with(
    task: ReduceTask,
    fetch: &dyn Fetch,
    attempt: &Attempt,
    monitor: &dyn Monitor,
    consume: impl FnOnce(&mut Merge<'_>, &mut Output<'_>) -> Result<u64, TaskError>,
) -> Result<ReduceOutput, TaskError> {
    let mut buckets: Vec<Bucket> = Vec::new();
    for map in 0..task.maps {
        if monitor.is_cancelled() {
            return Err(TaskError::Cancelled);
        }
        let bucket = fetch.bucket(map, task.number)?;
        if !bucket.runs.is_empty() {
            buckets.push(bucket);
        }
    }
    let mut figures = ReduceFigures {
        runs: buckets.iter().map(|bucket| bucket.runs.len() as u64).sum(),
        fetched_bytes: buckets.iter().map(Bucket::stored_bytes).sum(),
        ..ReduceFigures::default()
    };
    let name = format!("reduce-{}-{:016x}", task.number, attempt.attempt);
    let surroundings = Surroundings {
        fetch,
        folder: &attempt.folder,
        name: &name,
        memory_bytes: attempt.gather_bytes(),
        monitor,
    };
    let sorted = Sorted::prepare(&buckets, surroundings)?;
    drop(buckets);
    figures.records = sorted.records();
    monitor.expect(figures.records);
    figures.spilled_bytes = sorted.scratch_bytes;
    let mut file = OutputFile::create(attempt.folder.join(&name))?;
    let mut counters = Counters::default();
    let mut sink = |bytes: &[u8]| file.write(bytes);
    let mut output = Output::new(&mut sink, &mut counters);
    let mut merge = sorted.merge()?;
    figures.keys = consume(&mut merge, &mut output)?;
    output.flush()?;
    figures.output_records = output.lines();
    figures.output_bytes = file.bytes;
    Ok(ReduceOutput { file: file.finish()?, figures, counters })
}

/// Runs the reduce task `task` of `job`.
pub(super) fn run<J: Job>(
    job: &J,
    task: ReduceTask,
    fetch: &dyn Fetch,
    attempt: &Attempt,
    monitor: &dyn Monitor,
) -> Result<ReduceOutput, TaskError> {
    run_with(task, fetch, attempt, monitor, |merge, output| {
        guarded(|| {
            let mut reducer = job.reducer();
            let mut keys = 0;
            let mut key = Vec::new();
            while let Some((first, _)) = merge.current() {
                key.clear();
                key.extend_from_slice(first);
                keys += 1;
                let mut source = KeyValues { merge, key: &key, pending: true };
                let mut values = Values::new(&mut source);
                reducer.reduce(&key, &mut values, output)?;
                values.drain()?;
            }
            reducer.finish(output)?;
            Ok(keys)
        })
    })
}
