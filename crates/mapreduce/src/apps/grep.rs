//! `grep`: the lines that contain a text, in the order of the input over `mr-out-0`, `mr-out-1`, ...

use memchr::memmem::Finder;
use memchr::{memchr, memrchr};

use crate::api::{
    Batch, Emit, Job, Mapper, NoCombiner, Output, Partition, Record, Reducer, Values,
};
use crate::error::{TaskError, UserError};

/// Finds lines.
#[derive(Debug, Clone)]
pub struct Grep {
    pattern: Vec<u8>,
    maps: u32,
}

impl Grep {
    /// Finds the lines that contain `pattern`, byte by byte, in the input of `maps` map tasks.
    pub fn new(pattern: &[u8], maps: u32) -> Grep {
        Grep { pattern: pattern.to_vec(), maps }
    }
}

/// Emits each line found under its place in the input.
#[derive(Debug, Clone)]
pub struct Lines {
    finder: Finder<'static>,
}

impl Lines {
    fn emit<E: Emit>(record: Record<'_>, out: &mut E) {
        let mut key = [0; 16];
        // Big-endian, so that keys sort as numbers do.
        let place = (u128::from(record.source.task) << 96)
            | (u128::from(record.source.number) << 64)
            | u128::from(record.offset);
        key.copy_from_slice(&place.to_be_bytes());
        out.emit(&key, record.bytes);
    }
}

impl Mapper for Lines {
    fn map<E: Emit>(&mut self, record: Record<'_>, out: &mut E) -> Result<(), UserError> {
        if self.finder.find(record.bytes).is_some() {
            Lines::emit(record, out);
        }
        Ok(())
    }

    fn map_batch<E: Emit>(&mut self, batch: Batch<'_>, out: &mut E) -> Result<(), UserError> {
        if self.finder.needle().contains(&b'\n') {
            // No line contains it, but the text might.
            return Ok(());
        }
        let mut from = 0;
        while let Some(rest) = batch.bytes.get(from..).filter(|rest| !rest.is_empty())
            && let Some(hit) = self.finder.find(rest)
        {
            let (before, after) = rest.split_at_checked(hit).unwrap_or_default();
            let start = from + memrchr(b'\n', before).map_or(0, |newline| newline + 1);
            let end = from + hit + memchr(b'\n', after).unwrap_or(after.len());
            // An empty pattern also matches behind the last newline, where there is no line.
            let bytes = batch.bytes.get(start..end).unwrap_or_default();
            let offset = batch.offset + start as u64;
            Lines::emit(Record { bytes, source: batch.source, offset }, out);
            from = end + 1;
        }
        Ok(())
    }
}

/// Sends neighbouring map tasks to the same reduce, so that the outputs in order are in order.
#[derive(Debug, Clone, Copy)]
pub struct InOrder {
    maps: u32,
}

impl Partition for InOrder {
    fn reduce_of(&self, key: &[u8], reduces: u32) -> u32 {
        let task = key.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let reduce = u64::from(task) * u64::from(reduces) / u64::from(self.maps.max(1));
        u32::try_from(reduce).unwrap_or(u32::MAX).min(reduces.saturating_sub(1))
    }
}

/// Writes the lines.
#[derive(Debug, Clone, Copy)]
pub struct Found;

impl Reducer for Found {
    fn reduce(
        &mut self,
        _key: &[u8],
        values: &mut Values<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), TaskError> {
        while let Some(line) = values.next()? {
            out.line(line)?;
        }
        Ok(())
    }
}

impl Job for Grep {
    type Mapper = Lines;
    type Combiner = NoCombiner;
    type Reducer = Found;
    type Partition = InOrder;

    fn mapper(&self) -> Lines {
        Lines { finder: Finder::new(&self.pattern).into_owned() }
    }

    fn combiner(&self) -> Option<NoCombiner> {
        None
    }

    fn reducer(&self) -> Found {
        Found
    }

    fn partition(&self) -> InOrder {
        InOrder { maps: self.maps }
    }
}
