//! An attempt of a map task.

use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use memchr::memchr_iter;

use super::direct::{self, Direct};
use super::{Attempt, Counters, Monitor, Selection};
use crate::api::{Batch, Emit, Job, Mapper, Record};
use crate::buffer::{CombineBuffer, SortBuffer, SpillFigures, Spiller};
use crate::error::{RecordPlace, TaskError, UserError};
use crate::input::{BatchReader, MapTask};
use crate::merge::{Sorted, Surroundings};
use crate::shuffle::{FileIdentity, LocalFetch, ShuffleFile, ShuffleWriter};

/// Runs that a map leaves to the reducers at the most.
const RUNS_MAX: u32 = 16;

/// Ranges for a reducer that are smaller than this on average are merged before.
const RANGE_BYTES_MIN: u64 = 32 * 1024;

/// What a map attempt did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MapFigures {
    /// Bytes of input, as stored.
    pub input_bytes: u64,
    /// Lines of input.
    pub input_records: u64,
    /// Of them, those that were skipped because user code fails on them.
    pub skipped_records: u64,
    /// Pairs that the mapper emitted.
    pub emitted: u64,
    /// Bytes of their keys and values.
    pub emitted_bytes: u64,
    /// Pairs that are left for the reducers, after combining.
    pub records: u64,
    /// Times that the buffer was full.
    pub spills: u64,
    /// Bytes that were written to be merged again.
    pub spilled_bytes: u64,
    /// Bytes of the pairs in the shuffle file, not compressed.
    pub decoded_bytes: u64,
    /// Bytes of the shuffle file.
    pub stored_bytes: u64,
    /// Lines of output, of a job without reduces.
    pub output_records: u64,
    /// Their bytes.
    pub output_bytes: u64,
}

impl MapFigures {
    /// Adds those of another task.
    pub fn add(&mut self, other: &MapFigures) {
        self.input_bytes += other.input_bytes;
        self.input_records += other.input_records;
        self.skipped_records += other.skipped_records;
        self.emitted += other.emitted;
        self.emitted_bytes += other.emitted_bytes;
        self.records += other.records;
        self.spills += other.spills;
        self.spilled_bytes += other.spilled_bytes;
        self.decoded_bytes += other.decoded_bytes;
        self.stored_bytes += other.stored_bytes;
        self.output_records += other.output_records;
        self.output_bytes += other.output_bytes;
    }
}

/// What a map attempt leaves.
#[derive(Debug, Clone)]
pub struct MapOutput {
    /// The shuffle file; of a job without reduces the output, synced, under a name that is not
    /// final, see [`commit`](super::commit).
    pub file: PathBuf,
    /// What was done.
    pub figures: MapFigures,
    /// What user code counted.
    pub counters: Counters,
    /// The lines that were skipped, if any were.
    pub skipped: Option<PathBuf>,
}

/// Runs the map task `task` of `job`.
pub(super) fn run<J: Job>(
    job: &J,
    task: &MapTask,
    attempt: &Attempt,
    monitor: &dyn Monitor,
) -> Result<MapOutput, TaskError> {
    let mut records = Records::of(task, attempt, selection(task, attempt), monitor);
    if attempt.reduces == 0 {
        return direct::write(task, attempt, |output| {
            let mut direct = Direct::new(output);
            records.map(job, &mut direct, Direct::take_error)?;
            let mut figures = records.figures;
            (figures.emitted, figures.emitted_bytes) = (direct.emitted, direct.emitted_bytes);
            Ok((figures, records.selection.finish()?))
        });
    }
    let limit = usize::try_from(attempt.gather_bytes()).unwrap_or(usize::MAX);
    let spiller = begin(task, attempt)?;
    let spiller = match job.combiner() {
        Some(combiner) => {
            let mut buffer = CombineBuffer::new(combiner, job.partition(), spiller, limit);
            records.map(job, &mut buffer, |buffer| buffer.spiller.take_error())?;
            guarded(|| Ok(buffer.finish()))?
        }
        None => {
            let mut buffer = SortBuffer::new(job.partition(), spiller, limit);
            records.map(job, &mut buffer, |buffer| buffer.spiller.take_error())?;
            guarded(|| Ok(buffer.finish()))?
        }
    };
    let (writer, spilled, counters) = spiller.into_parts()?;
    let (figures, selection) = (records.figures, records.selection);
    let mut output = finish(writer, spilled, counters, figures, task, attempt, monitor)?;
    output.skipped = selection.finish()?;
    Ok(output)
}

/// Maps some records and throws away what comes of it.
pub(super) fn probe<J: Job>(
    job: &J,
    task: &MapTask,
    only: Range<u64>,
    attempt: &Attempt,
    monitor: &dyn Monitor,
) -> Result<(), TaskError> {
    let selection = Selection::only(only, &attempt.skip);
    Records::of(task, attempt, selection, monitor).map(job, &mut Nowhere, |_| None)
}

/// All records but those to be skipped.
pub(crate) fn selection<'a>(task: &MapTask, attempt: &'a Attempt) -> Selection<'a> {
    let name = format!("skipped-{}-{:016x}", task.number, attempt.attempt);
    Selection::all_but(&attempt.skip, attempt.folder.join(name))
}

fn identity(task: &MapTask, attempt: &Attempt) -> FileIdentity {
    let buckets = attempt.reduces.max(1);
    FileIdentity { job: attempt.job, map: task.number, attempt: attempt.attempt, buckets }
}

/// The file that the attempt leaves.
pub(super) fn path(task: &MapTask, attempt: &Attempt) -> PathBuf {
    attempt.folder.join(format!("map-{}-{:016x}", task.number, attempt.attempt))
}

/// The shuffle file's beginning.
pub(crate) fn begin(task: &MapTask, attempt: &Attempt) -> Result<Spiller, TaskError> {
    Spiller::create(path(task, attempt), identity(task, attempt), attempt.record_bytes_max())
}

/// The records of a task on their way to the mapper.
struct Records<'a> {
    task: &'a MapTask,
    record_bytes_max: usize,
    selection: Selection<'a>,
    monitor: &'a dyn Monitor,
    figures: MapFigures,
}

impl<'a> Records<'a> {
    fn of(
        task: &'a MapTask,
        attempt: &Attempt,
        selection: Selection<'a>,
        monitor: &'a dyn Monitor,
    ) -> Records<'a> {
        let figures = MapFigures { input_bytes: task.bytes(), ..MapFigures::default() };
        let record_bytes_max = attempt.record_bytes_max();
        Records { task, record_bytes_max, selection, monitor, figures }
    }

    /// Maps them all; `failed` tells what went wrong where the pairs go.
    fn map<J: Job, E: Emit>(
        &mut self,
        job: &J,
        buffer: &mut E,
        mut failed: impl FnMut(&mut E) -> Option<TaskError>,
    ) -> Result<(), TaskError> {
        let mut mapper = job.mapper();
        for part in &self.task.parts {
            let mut reader = BatchReader::open(part, self.task.number, self.record_bytes_max)?;
            let mut read = 0;
            while let Some(batch) = reader.next_batch()? {
                if self.monitor.is_cancelled() {
                    return Err(TaskError::Cancelled);
                }
                self.map_batch(job, &mut mapper, batch, buffer)?;
                if let Some(error) = failed(buffer) {
                    return Err(error);
                }
                let now = reader.bytes_read();
                self.monitor.advanced(now - read);
                read = now;
            }
            self.monitor.advanced(part.bytes().saturating_sub(read));
        }
        guarded(|| Ok(mapper.finish(buffer)?))?;
        failed(buffer).map_or(Ok(()), Err)
    }

    fn map_batch<J: Job, E: Emit>(
        &mut self,
        job: &J,
        mapper: &mut J::Mapper,
        batch: Batch<'_>,
        buffer: &mut E,
    ) -> Result<(), TaskError> {
        let first = self.figures.input_records;
        if self.selection.is_everything() {
            self.figures.input_records += lines(&batch);
            let mapped = guarded(|| Ok(mapper.map_batch(batch, buffer)?));
            return mapped.map_err(|error| located(job, &batch, first, error));
        }
        for (number, record) in (first..).zip(batch.records()) {
            self.figures.input_records += 1;
            if self.selection.wants(number, &record)? {
                let mapped = guarded(|| Ok(mapper.map(record, buffer)?));
                mapped.map_err(|error| blamed(&record, Some(number..number + 1), error))?;
            }
        }
        self.figures.skipped_records = self.selection.skipped;
        Ok(())
    }
}

pub(crate) fn lines(batch: &Batch<'_>) -> u64 {
    let newlines = memchr_iter(b'\n', batch.bytes).count() as u64;
    newlines + u64::from(!batch.bytes.ends_with(b"\n"))
}

/// Runs user code; a panic is an error of the task.
pub(super) fn guarded<T>(run: impl FnOnce() -> Result<T, TaskError>) -> Result<T, TaskError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("it panicked");
        Err(TaskError::user(message))
    })
}

/// Takes what is emitted and forgets it.
struct Nowhere;

impl Emit for Nowhere {
    fn emit(&mut self, _key: &[u8], _value: &[u8]) {}

    fn count(&mut self, _group: &str, _name: &str, _amount: i64) {}
}

/// Names the record that made user code fail: the first one that fails again by itself, or else
/// the batch's first one, with all of the batch under suspicion. `first` is the number of the
/// batch's first record.
fn located<J: Job>(job: &J, batch: &Batch<'_>, first: u64, error: TaskError) -> TaskError {
    let mut mapper = job.mapper();
    let failing = (first..).zip(batch.records()).find(|(_, record)| {
        let mapped: Result<Result<(), UserError>, TaskError> =
            guarded(|| Ok(mapper.map(*record, &mut Nowhere)));
        !matches!(mapped, Ok(Ok(())))
    });
    if let Some((number, record)) = failing {
        return blamed(&record, Some(number..number + 1), error);
    }
    let whole = Record { bytes: batch.bytes, source: batch.source, offset: batch.offset };
    blamed(&whole, Some(first..first + lines(batch)), error)
}

fn blamed(record: &Record<'_>, suspects: Option<Range<u64>>, error: TaskError) -> TaskError {
    let TaskError::User { message, .. } = error else { return error };
    let file = String::from_utf8_lossy(record.source.name).into_owned();
    let place = Some(RecordPlace { file, offset: record.offset });
    TaskError::User { message, place, suspects }
}

/// Finishes the shuffle file, after merging its runs if there are many or they are small.
pub(crate) fn finish(
    writer: ShuffleWriter,
    spilled: SpillFigures,
    counters: Counters,
    mut figures: MapFigures,
    task: &MapTask,
    attempt: &Attempt,
    monitor: &dyn Monitor,
) -> Result<MapOutput, TaskError> {
    let file = path(task, attempt);
    let runs = writer.runs();
    let ranges = u64::from(runs) * u64::from(attempt.reduces.max(1));
    let small = runs > 1 && writer.stored_bytes() / ranges.max(1) < RANGE_BYTES_MIN;
    let written = writer.finish();
    let mut section = written.map_err(|source| TaskError::files("write", &file, source))?;
    if runs > RUNS_MAX || small {
        figures.spilled_bytes = section.stored_bytes;
        let merged = merge_runs(&file, task, attempt, monitor);
        section = merged.inspect_err(|_| remove(&file))?;
    }
    figures.emitted = spilled.emitted;
    figures.emitted_bytes = spilled.emitted_bytes;
    figures.spills = spilled.full;
    figures.records = section.records;
    figures.decoded_bytes = section.decoded_bytes;
    figures.stored_bytes = section.stored_bytes;
    Ok(MapOutput { file, figures, counters, skipped: None })
}

fn remove(file: &Path) {
    // It is in the attempt's folder, which goes with the job.
    let _ = fs::remove_file(file);
}

/// Merges the runs of each bucket of `file` into one.
fn merge_runs(
    file: &Path,
    task: &MapTask,
    attempt: &Attempt,
    monitor: &dyn Monitor,
) -> Result<crate::shuffle::Section, TaskError> {
    let failed = |source| TaskError::files("write", file, source);
    let source = ShuffleFile::open(file, task.number)?;
    let mut paths = vec![PathBuf::new(); task.number as usize];
    paths.push(file.to_owned());
    let fetch = LocalFetch::new(paths);
    // Takes the place of the file when it is finished.
    let mut merged = ShuffleWriter::create(file, identity(task, attempt)).map_err(failed)?;
    let name = format!("map-{}-{:016x}", task.number, attempt.attempt);
    for bucket in 0..attempt.reduces.max(1) {
        let runs = source.bucket(bucket)?;
        let surroundings = Surroundings {
            fetch: &fetch,
            folder: &attempt.folder,
            name: &name,
            memory_bytes: attempt.gather_bytes(),
            monitor,
        };
        let sorted = Sorted::prepare(&[runs], surroundings)?;
        let mut merge = sorted.merge()?;
        while let Some((key, value)) = merge.current() {
            merged.push(bucket, key, value).map_err(failed)?;
            merge.advance()?;
        }
    }
    merged.end_run().and_then(|()| merged.finish()).map_err(failed)
}
