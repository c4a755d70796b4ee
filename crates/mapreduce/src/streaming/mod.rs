//! User code as commands, with the conventions of Hadoop Streaming.
//!
//! - The mapper reads lines of input and writes lines: the key up to the first tab, then the value. A
//!   line without a tab is a key. [`Fields`] has other separators.
//! - Of a job without reduces, what the mapper writes is the output, byte for byte.
//! - The reducer reads such lines, those of one key one after the other, keys in byte order; what it
//!   writes is the output, byte for byte.
//! - The combiner reads what the reducer would read of one map's output, and writes what the mapper
//!   would write.
//! - A command that ends with another exit code than 0 fails the attempt; the end of what it wrote
//!   to stderr is in the error.
//! - `reporter:counter:GROUP,NAME,AMOUNT` on stderr counts; `reporter:status:TEXT` is shown in the
//!   coordinator's status as long as the attempt runs.
//! - Variables say which task it is: `mapreduce_job_id`, `mapreduce_task_id`,
//!   `mapreduce_task_attempt_id`, `mapreduce_task_partition`, `mapreduce_task_ismap`,
//!   `mapreduce_job_reduces`; for mappers also `mapreduce_map_input_file`, `.._start` and
//!   `.._length` of the first part.
//!
//! Commands run in `/bin/sh`, in the current folder of the worker; if files travel with the job, in a
//! folder of the attempt that has them, which is also the first place where commands are looked for.
//! One process serves a whole
//! attempt; a mapper whose task has several small files reads them one after the other.

mod command;
mod fields;
mod files;
mod partition;
mod stderr;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;

use serde::{Deserialize, Serialize};

use crate::api::{Batch, Emit, Output, Record};
use crate::buffer::{SortBuffer, Spiller};
use crate::error::{RecordPlace, TaskError};
use crate::input::{BatchReader, InputFile, MapTask, plan};
use crate::merge::{Sorted, Surroundings};
use crate::shuffle::{Fetch, LocalFetch, ShuffleFile};
use crate::task::{
    Attempt, Counters, MapFigures, MapOutput, Monitor, Program, ReduceOutput, ReduceTask,
    Selection, Unwatched, finish_map, lines, map_spiller, reduce_with, selection, write_output,
};
use command::{Child, Variables};

pub use command::check_command;
pub use fields::Fields;
pub use files::{FILES_BYTES_MAX, ShippedFile};
use partition::KeyPartition;
pub use partition::Partitioning;

/// The commands of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commands {
    /// Maps.
    pub mapper: String,
    /// Combines the output of one map, if there is one.
    pub combiner: Option<String>,
    /// Reduces; not used by a job without reduces.
    pub reducer: String,
    /// Where keys end.
    pub fields: Fields,
    /// Variables that all commands see.
    pub environment: Vec<(String, String)>,
    /// Which reduce a key belongs to.
    #[serde(default)]
    pub partitioning: Partitioning,
    /// Files that all commands find in their current folder.
    #[serde(default)]
    pub files: Vec<ShippedFile>,
}

impl Commands {
    /// A job of these commands without a combiner, with Hadoop Streaming's defaults.
    pub fn new(mapper: impl Into<String>, reducer: impl Into<String>) -> Self {
        Self {
            mapper: mapper.into(),
            combiner: None,
            reducer: reducer.into(),
            fields: Fields::default(),
            environment: Vec::new(),
            partitioning: Partitioning::default(),
            files: Vec::new(),
        }
    }
}

/// The program of a job whose user code is commands.
#[derive(Debug, Clone)]
pub struct Streaming {
    commands: Commands,
}

/// Memory for each of the two buffers that a job with a combiner fills at the same time.
fn gather_bytes(attempt: &Attempt, combined: bool) -> usize {
    let half = usize::try_from(attempt.memory_bytes / 2).unwrap_or(usize::MAX);
    if combined { half / 2 } else { half }
}

impl Streaming {
    /// A job of these commands.
    pub fn new(commands: Commands) -> Streaming {
        Streaming { commands }
    }

    fn partition(&self) -> KeyPartition {
        let Commands { partitioning: of, fields, .. } = &self.commands;
        KeyPartition { of: *of, separator: fields.map_output.clone() }
    }

    /// Runs the mapper over the selected records; `take` gets what it writes.
    fn run_mapper(
        &self,
        task: &MapTask,
        attempt: &Attempt,
        monitor: &dyn Monitor,
        selection: &mut Selection<'_>,
        figures: &mut MapFigures,
        take: impl FnOnce(&mut dyn Read) -> Result<(), TaskError>,
    ) -> Result<Counters, TaskError> {
        let variables = Variables::of_map(task, attempt, &self.commands)?;
        let mut fed = 0;
        let mut chosen = Chosen::default();
        let feed = |stdin: ChildStdin| -> Result<(), TaskError> {
            let mut stdin = io::BufWriter::with_capacity(256 * 1024, stdin);
            for part in &task.parts {
                let mut reader = BatchReader::open(part, task.number, attempt.record_bytes_max())?;
                while let Some(batch) = reader.next_batch()? {
                    if monitor.is_cancelled() {
                        return Err(TaskError::Cancelled);
                    }
                    monitor.advanced(batch.bytes.len() as u64);
                    let first = fed;
                    fed += lines(&batch);
                    if !wants_more(feed_batch(&mut stdin, &batch, first, selection, &mut chosen)?)?
                    {
                        return Ok(());
                    }
                }
            }
            wants_more(stdin.flush()).map(|_| ())
        };
        let done = Child::run(&self.commands.mapper, &variables, monitor, feed, take);
        figures.input_records = fed;
        figures.skipped_records = selection.skipped;
        done.map_err(|error| match error {
            // It has read no more than was written.
            TaskError::User { message, .. } => {
                TaskError::User { message, place: chosen.only(), suspects: Some(0..fed) }
            }
            error => error,
        })
    }

    /// Of a job without reduces: what the mapper writes is the output.
    fn map_to_output(
        &self,
        task: &MapTask,
        attempt: &Attempt,
        monitor: &dyn Monitor,
    ) -> Result<MapOutput, TaskError> {
        write_output(task, attempt, |output| {
            let mut figures = MapFigures { input_bytes: task.bytes(), ..MapFigures::default() };
            let mut selection = selection(task, attempt);
            let take = |stdout: &mut dyn Read| copy_lines(stdout, output);
            let counted =
                self.run_mapper(task, attempt, monitor, &mut selection, &mut figures, take)?;
            for (group, name, sum) in counted.iter() {
                output.count(group, name, sum);
            }
            Ok((figures, selection.finish()?))
        })
    }

    /// Runs the mapper over each file, everything in memory; `take` gets what it writes.
    fn map_files(
        &self,
        files: &[InputFile],
        mut take: impl FnMut(&mut dyn Read) -> io::Result<()>,
    ) -> Result<(), TaskError> {
        let failed = |source| TaskError::files("read from", Path::new("a command"), source);
        let attempt = alone();
        for (number, file) in files.iter().enumerate() {
            for mut task in plan(std::slice::from_ref(file), u64::MAX / 2) {
                task.number = number as u32;
                let feed = |mut stdin: ChildStdin| -> Result<(), TaskError> {
                    for part in &task.parts {
                        let mut reader = BatchReader::open(part, task.number, 1 << 30)?;
                        while let Some(batch) = reader.next_batch()? {
                            wants_more(stdin.write_all(batch.bytes))?;
                            if !batch.bytes.ends_with(b"\n") {
                                wants_more(stdin.write_all(b"\n"))?;
                            }
                        }
                    }
                    Ok(())
                };
                let variables = Variables::of_map(&task, &attempt, &self.commands)?;
                Child::run(&self.commands.mapper, &variables, &Unwatched, feed, |stdout| {
                    take(stdout).map_err(failed)
                })?;
            }
        }
        Ok(())
    }

    /// Sends the runs of `file` through the combiner; its lines are in `buffer` then.
    fn run_combiner(
        &self,
        combiner: &str,
        file: &Path,
        task: &MapTask,
        attempt: &Attempt,
        monitor: &dyn Monitor,
        buffer: &mut SortBuffer<KeyPartition>,
    ) -> Result<Counters, TaskError> {
        let variables = Variables::of_map(task, attempt, &self.commands)?;
        let source = ShuffleFile::open(file, task.number)?;
        let mut paths = vec![PathBuf::new(); task.number as usize];
        paths.push(file.to_owned());
        let fetch = LocalFetch::new(paths);
        let name = format!("combine-{}-{:016x}", task.number, attempt.attempt);
        let feed = |stdin: ChildStdin| -> Result<(), TaskError> {
            let mut stdin = io::BufWriter::with_capacity(256 * 1024, stdin);
            for bucket in 0..attempt.reduces.max(1) {
                let surroundings = Surroundings {
                    fetch: &fetch,
                    folder: &attempt.folder,
                    name: &name,
                    memory_bytes: gather_bytes(attempt, true) as u64,
                    monitor,
                };
                let sorted = Sorted::prepare(&[source.bucket(bucket)?], surroundings)?;
                let mut merge = sorted.merge()?;
                while let Some((key, value)) = merge.current() {
                    if !wants_more(write_line(&mut stdin, key, value))? {
                        return Ok(());
                    }
                    merge.advance()?;
                }
            }
            wants_more(stdin.flush()).map(|_| ())
        };
        let record_bytes_max = attempt.record_bytes_max();
        Child::run(combiner, &variables, monitor, feed, |stdout| {
            emit_lines(stdout, &self.commands.fields, buffer, record_bytes_max)
        })
    }
}

/// The records that were written one by one.
#[derive(Default)]
struct Chosen {
    count: u64,
    first: Option<RecordPlace>,
}

impl Chosen {
    fn add(&mut self, record: &Record<'_>) {
        self.count += 1;
        self.first.get_or_insert_with(|| RecordPlace {
            file: String::from_utf8_lossy(record.source.name).into_owned(),
            offset: record.offset,
        });
    }

    /// The record, if it was a single one.
    fn only(self) -> Option<RecordPlace> {
        self.first.filter(|_| self.count == 1)
    }
}

/// Writes a batch's selected records, each with a newline.
fn feed_batch(
    to: &mut impl Write,
    batch: &Batch<'_>,
    first: u64,
    selection: &mut Selection<'_>,
    chosen: &mut Chosen,
) -> Result<io::Result<()>, TaskError> {
    if selection.is_everything() {
        let newline: &[u8] = if batch.bytes.ends_with(b"\n") { b"" } else { b"\n" };
        return Ok(to.write_all(batch.bytes).and_then(|()| to.write_all(newline)));
    }
    for (number, record) in (first..).zip(batch.records()) {
        if !selection.wants(number, &record)? {
            continue;
        }
        chosen.add(&record);
        if let Err(error) = write_line(to, record.bytes, b"") {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// A pair as a line; the value holds the separator, so that a line without one stays without.
fn write_line(to: &mut impl Write, key: &[u8], value: &[u8]) -> io::Result<()> {
    to.write_all(key)?;
    to.write_all(value)?;
    to.write_all(b"\n")
}

/// A command may end before it has read everything, as `head` does; its exit code decides.
fn wants_more(written: io::Result<()>) -> Result<bool, TaskError> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(source) => Err(TaskError::files("write to", Path::new("a command"), source)),
    }
}

/// Writes what comes out of `stdout` as it is.
fn copy_lines(stdout: &mut dyn Read, output: &mut Output<'_>) -> Result<(), TaskError> {
    let failed = |source| TaskError::files("read from", Path::new("a command"), source);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = stdout.read(&mut buffer).map_err(failed)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        output.write_lines(bytes)?;
    }
}

/// Emits every line of `stdout` as a pair.
fn emit_lines(
    stdout: &mut dyn Read,
    fields: &Fields,
    buffer: &mut SortBuffer<KeyPartition>,
    record_bytes_max: usize,
) -> Result<(), TaskError> {
    let failed = |source| TaskError::files("read from", Path::new("a command"), source);
    let mut reader = BufReader::with_capacity(256 * 1024, stdout);
    let (mut line, mut room) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        // One byte more than allowed tells that a line is too long.
        let most = record_bytes_max as u64 + 2;
        let read = (&mut reader).take(most).read_until(b'\n', &mut line).map_err(failed)?;
        if read == 0 {
            return Ok(());
        }
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let (key, value) = fields.cut(line, &mut room);
        buffer.emit(key, value);
        if let Some(error) = buffer.spiller.take_error() {
            return Err(error);
        }
    }
}

impl Program for Streaming {
    fn map(
        &self,
        task: &MapTask,
        attempt: &Attempt,
        monitor: &dyn Monitor,
    ) -> Result<MapOutput, TaskError> {
        if attempt.reduces == 0 {
            return self.map_to_output(task, attempt, monitor);
        }
        let combiner = self.commands.combiner.as_deref();
        let limit = gather_bytes(attempt, combiner.is_some());
        let new_buffer = |spiller: Spiller| SortBuffer::new(self.partition(), spiller, limit);
        let mut figures = MapFigures { input_bytes: task.bytes(), ..MapFigures::default() };
        let mut buffer = new_buffer(map_spiller(task, attempt)?);
        let mut selection = selection(task, attempt);
        let mut counters =
            self.run_mapper(task, attempt, monitor, &mut selection, &mut figures, |stdout| {
                emit_lines(stdout, &self.commands.fields, &mut buffer, attempt.record_bytes_max())
            })?;
        let skipped = selection.finish()?;
        let Some(combiner) = combiner else {
            let (writer, spilled, _) = buffer.finish().into_parts()?;
            let done = finish_map(writer, spilled, counters, figures, task, attempt, monitor)?;
            return Ok(MapOutput { skipped, ..done });
        };
        let (writer, spilled, _) = buffer.finish().into_parts()?;
        let file = writer.path().with_extension("uncombined");
        let failed = |source| TaskError::files("write", &file, source);
        let section = writer.finish_as(&file).map_err(failed)?;
        figures.spilled_bytes = section.stored_bytes;
        let combined = map_spiller(task, attempt).and_then(|spiller| {
            let mut buffer = new_buffer(spiller);
            let counted =
                self.run_combiner(combiner, &file, task, attempt, monitor, &mut buffer)?;
            Ok((buffer, counted))
        });
        // Not needed any more, however it went; if it cannot be removed it goes with its folder.
        let _ = fs::remove_file(&file);
        let (buffer, counted) = combined?;
        counters.add_all(&counted);
        let (writer, _, _) = buffer.finish().into_parts()?;
        let done = finish_map(writer, spilled, counters, figures, task, attempt, monitor)?;
        Ok(MapOutput { skipped, ..done })
    }

    fn probe(
        &self,
        task: &MapTask,
        records: Range<u64>,
        attempt: &Attempt,
        monitor: &dyn Monitor,
    ) -> Result<(), TaskError> {
        let mut selection = Selection::only(records, &attempt.skip);
        let mut figures = MapFigures::default();
        let take = |stdout: &mut dyn Read| {
            let failed = |source| TaskError::files("read from", Path::new("a command"), source);
            io::copy(stdout, &mut io::sink()).map(|_| ()).map_err(failed)
        };
        self.run_mapper(task, attempt, monitor, &mut selection, &mut figures, take).map(|_| ())
    }

    fn reduce(
        &self,
        task: ReduceTask,
        fetch: &dyn Fetch,
        attempt: &Attempt,
        monitor: &dyn Monitor,
    ) -> Result<ReduceOutput, TaskError> {
        let variables = Variables::of_reduce(task, attempt, &self.commands)?;
        let mut counted = Counters::default();
        let mut output = reduce_with(task, fetch, attempt, monitor, |merge, output| {
            let mut keys = 0;
            let feed = |stdin: ChildStdin| -> Result<(), TaskError> {
                let mut stdin = io::BufWriter::with_capacity(256 * 1024, stdin);
                let mut last: Option<Vec<u8>> = None;
                while let Some((key, value)) = merge.current() {
                    if last.as_deref() != Some(key) {
                        keys += 1;
                        let last = last.get_or_insert_default();
                        last.clear();
                        last.extend_from_slice(key);
                    }
                    if !wants_more(write_line(&mut stdin, key, value))? {
                        return Ok(());
                    }
                    merge.advance()?;
                }
                wants_more(stdin.flush()).map(|_| ())
            };
            counted = Child::run(&self.commands.reducer, &variables, monitor, feed, |stdout| {
                copy_lines(stdout, output)
            })?;
            Ok(keys)
        })?;
        output.counters.add_all(&counted);
        Ok(output)
    }

    fn sequential(&self, files: &[InputFile], output: &Path) -> Result<(), TaskError> {
        let failed = |source| TaskError::files("write", output, source);
        let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        self.map_files(files, |stdout| {
            let (mut all, mut room) = (Vec::new(), Vec::new());
            stdout.read_to_end(&mut all)?;
            for line in all.strip_suffix(b"\n").unwrap_or(&all).split(|byte| *byte == b'\n') {
                let (key, value) = self.commands.fields.cut(line, &mut room);
                pairs.push((key.to_vec(), value.to_vec()));
            }
            if all.is_empty() {
                pairs.pop();
            }
            Ok(())
        })?;
        pairs.sort_by(|one, two| one.0.cmp(&two.0));
        let task = ReduceTask { number: 0, maps: 1 };
        let variables = Variables::of_reduce(task, &alone(), &self.commands)?;
        let feed = |stdin: ChildStdin| -> Result<(), TaskError> {
            let mut stdin = io::BufWriter::new(stdin);
            for (key, value) in &pairs {
                wants_more(write_line(&mut stdin, key, value))?;
            }
            wants_more(stdin.flush()).map(|_| ())
        };
        Child::run(&self.commands.reducer, &variables, &Unwatched, feed, |stdout| {
            let mut file = fs::File::create(output).map_err(failed)?;
            io::copy(stdout, &mut file).map(|_| ()).map_err(failed)
        })?;
        Ok(())
    }

    fn sequential_maps(&self, files: &[InputFile], output: &Path) -> Result<(), TaskError> {
        let mut file =
            fs::File::create(output).map_err(|source| TaskError::files("write", output, source))?;
        self.map_files(files, |stdout| io::copy(stdout, &mut file).map(|_| ()))
    }
}

/// The only attempt of a sequential run.
fn alone() -> Attempt {
    Attempt {
        job: 0,
        attempt: 0,
        reduces: 1,
        memory_bytes: 4 << 30,
        folder: PathBuf::new(),
        skip: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
