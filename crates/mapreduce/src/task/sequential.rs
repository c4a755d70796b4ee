//! The whole job in one thread, as simply as can be: the oracle.

use std::collections::BTreeMap;
use std::path::Path;

use super::Counters;
use super::direct::Direct;
use super::output::OutputFile;
use crate::api::{Emit, Job, Mapper, Output, Reducer, ValueSource, Values};
use crate::error::TaskError;
use crate::input::{BatchReader, InputFile, MapTask, plan};

/// Pairs by key, values in the order of emission.
///
/// The values of a key lie one after the other, each behind its length.
#[derive(Default)]
struct Everything {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Emit for Everything {
    fn emit(&mut self, key: &[u8], value: &[u8]) {
        // Looked up first, as most keys are known.
        let held = match self.values.get_mut(key) {
            Some(held) => held,
            None => self.values.entry(key.to_vec()).or_default(),
        };
        held.extend_from_slice(&(value.len() as u32).to_le_bytes());
        held.extend_from_slice(value);
    }

    fn count(&mut self, _group: &str, _name: &str, _amount: i64) {}
}

struct Stored<'a>(&'a [u8]);

impl ValueSource for Stored<'_> {
    fn next_value(&mut self) -> Result<Option<&[u8]>, TaskError> {
        let Some((length, rest)) = self.0.split_first_chunk() else { return Ok(None) };
        let (value, rest) =
            rest.split_at_checked(u32::from_le_bytes(*length) as usize).unwrap_or_default();
        self.0 = rest;
        Ok(Some(value))
    }
}

/// Without reduces: the output of the mappers, in the order of the input.
pub(super) fn run_maps<J: Job>(
    job: &J,
    files: &[InputFile],
    output: &Path,
) -> Result<(), TaskError> {
    let mut file = OutputFile::create(output.to_owned())?;
    let mut counters = Counters::default();
    let mut sink = |bytes: &[u8]| file.write(bytes);
    let mut out = Output::new(&mut sink, &mut counters);
    let mut direct = Direct::new(&mut out);
    map_all(job, files, &mut direct)?;
    if let Some(error) = direct.take_error() {
        return Err(error);
    }
    out.flush()?;
    file.finish()?;
    Ok(())
}

fn map_all<J: Job, E: Emit>(job: &J, files: &[InputFile], to: &mut E) -> Result<(), TaskError> {
    for task in whole_files(files) {
        let mut mapper = job.mapper();
        for part in &task.parts {
            let mut reader = BatchReader::open(part, task.number, 1 << 30)?;
            while let Some(batch) = reader.next_batch()? {
                for record in batch.records() {
                    mapper.map(record, to)?;
                }
            }
        }
        mapper.finish(to)?;
    }
    Ok(())
}

pub(super) fn run<J: Job>(job: &J, files: &[InputFile], output: &Path) -> Result<(), TaskError> {
    let mut everything = Everything::default();
    map_all(job, files, &mut everything)?;
    let mut file = OutputFile::create(output.to_owned())?;
    let mut counters = Counters::default();
    let mut sink = |bytes: &[u8]| file.write(bytes);
    let mut out = Output::new(&mut sink, &mut counters);
    let mut reducer = job.reducer();
    for (key, values) in &everything.values {
        reducer.reduce(key, &mut Values::new(&mut Stored(values)), &mut out)?;
    }
    reducer.finish(&mut out)?;
    out.flush()?;
    file.finish()?;
    Ok(())
}

/// One task per file, never cut.
fn whole_files(files: &[InputFile]) -> Vec<MapTask> {
    let mut tasks: Vec<MapTask> = Vec::new();
    for (number, file) in files.iter().enumerate() {
        for mut task in plan(std::slice::from_ref(file), u64::MAX / 2) {
            task.number = number as u32;
            task.parts.iter_mut().for_each(|part| part.file = number as u32);
            tasks.push(task);
        }
    }
    tasks
}
