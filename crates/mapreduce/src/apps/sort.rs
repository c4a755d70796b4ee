//! `sort`: all lines in byte order over `mr-out-0`, `mr-out-1`, ... in turn.
//!
//! Each reduce gets a range of keys. The borders come from a sample of the input, so that the
//! ranges are about equally large.

use std::io;

use crate::api::{Emit, Job, Mapper, NoCombiner, Output, Partition, Record, Reducer, Values};
use crate::error::{TaskError, UserError};
use crate::input::{BatchReader, Codec, InputFile, InputSource, plan};
use crate::store::sample_lines;

/// Sorts lines.
#[derive(Debug, Clone)]
pub struct Sort {
    borders: Vec<Vec<u8>>,
}

impl Sort {
    /// Sorts into ranges with these borders, which ascend: the first key of each range but the
    /// first one.
    pub fn new(borders: Vec<Vec<u8>>) -> Sort {
        Sort { borders }
    }
}

/// Emits each line as a key.
#[derive(Debug, Clone, Copy)]
pub struct Keys;

impl Mapper for Keys {
    #[inline]
    fn map<E: Emit>(&mut self, record: Record<'_>, out: &mut E) -> Result<(), UserError> {
        out.emit(record.bytes, b"");
        Ok(())
    }
}

/// The range that a key is in.
#[derive(Debug, Clone)]
pub struct RangePartition {
    borders: Vec<Vec<u8>>,
}

impl Partition for RangePartition {
    fn reduce_of(&self, key: &[u8], reduces: u32) -> u32 {
        let range = self.borders.partition_point(|border| border.as_slice() <= key);
        u32::try_from(range).unwrap_or(u32::MAX).min(reduces.saturating_sub(1))
    }
}

/// Writes each line as often as it occurs.
#[derive(Debug, Clone, Copy)]
pub struct Lines;

impl Reducer for Lines {
    #[inline]
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), TaskError> {
        while values.next()?.is_some() {
            out.line(key)?;
        }
        Ok(())
    }
}

impl Job for Sort {
    type Mapper = Keys;
    type Combiner = NoCombiner;
    type Reducer = Lines;
    type Partition = RangePartition;

    fn mapper(&self) -> Keys {
        Keys
    }

    fn combiner(&self) -> Option<NoCombiner> {
        None
    }

    fn reducer(&self) -> Lines {
        Lines
    }

    fn partition(&self) -> RangePartition {
        RangePartition { borders: self.borders.clone() }
    }
}

/// Lines that a sample has at the most.
pub const SAMPLES_MAX: usize = 10_000;

/// Places of the input that are looked at.
const PLACES: u64 = 256;

/// Bytes read at each of them.
const PLACE_BYTES: usize = 8 * 1024;

/// Longer lines are sampled by their beginning, which is enough for a border.
const BORDER_BYTES_MAX: usize = 1024;

/// Borders for `reduces` ranges, from lines at evenly spaced places of the input. The same input
/// gives the same borders.
///
/// # Errors
/// When the input cannot be read.
pub fn sample(files: &[InputFile], reduces: u32) -> Result<Vec<Vec<u8>>, TaskError> {
    let mut lines = Vec::new();
    let total: u64 = files.iter().map(|file| file.bytes).sum();
    for file in files {
        if let Some(keys) = &file.keys {
            let per_place = SAMPLES_MAX / PLACES as usize;
            let found = sample_lines(&file.name, keys, PLACES, per_place);
            let path = || String::from_utf8_lossy(&file.name).into_owned();
            let found = found.map_err(|source| TaskError::Input { path: path(), source })?;
            found.iter().for_each(|line| add(line, &mut lines));
        } else if file.codec == Codec::Plain {
            sample_plain(file, (total / PLACES).max(PLACE_BYTES as u64), &mut lines)?;
        } else {
            sample_start(file, &mut lines)?;
        }
    }
    lines.sort_unstable();
    let ranges = reduces.max(1) as usize;
    let mut borders: Vec<Vec<u8>> =
        (1..ranges).filter_map(|range| lines.get(lines.len() * range / ranges).cloned()).collect();
    borders.dedup();
    Ok(borders)
}

fn add(line: &[u8], lines: &mut Vec<Vec<u8>>) {
    if lines.len() < SAMPLES_MAX {
        lines.push(line.get(..BORDER_BYTES_MAX).unwrap_or(line).to_vec());
    }
}

/// Lines at every `step` bytes.
fn sample_plain(file: &InputFile, step: u64, lines: &mut Vec<Vec<u8>>) -> Result<(), TaskError> {
    let failed = |source: io::Error| TaskError::Input {
        path: String::from_utf8_lossy(&file.name).into_owned(),
        source,
    };
    let (opened, _) = InputSource::open_for(&file.name, PLACE_BYTES as u64).map_err(failed)?;
    let mut buffer = vec![0; PLACE_BYTES];
    let mut at = 0;
    while at < file.bytes {
        let read = opened.read_at(&mut buffer, at).map_err(failed)?;
        let piece = buffer.get(..read).unwrap_or_default();
        // Neither a line whose beginning is missing nor one whose end is.
        let skip = usize::from(at > 0);
        let whole = piece.split(|byte| *byte == b'\n').skip(skip);
        let count = piece.iter().filter(|byte| **byte == b'\n').count();
        let per_place = SAMPLES_MAX / PLACES as usize;
        whole.take(count.saturating_sub(skip).min(per_place)).for_each(|line| add(line, lines));
        at += step;
    }
    Ok(())
}

/// Lines from the start of a compressed file.
fn sample_start(file: &InputFile, lines: &mut Vec<Vec<u8>>) -> Result<(), TaskError> {
    for task in plan(std::slice::from_ref(file), u64::MAX / 2) {
        for part in &task.parts {
            let mut reader = BatchReader::open(part, 0, 1 << 24)?;
            if let Some(batch) = reader.next_batch()? {
                let step = (batch.records().count() / 1000).max(1);
                batch.records().step_by(step).for_each(|record| add(record.bytes, lines));
            }
        }
    }
    Ok(())
}
