//! `indexer`: in which files each word occurs. Lines `word n doc1,doc2,...`, the names in byte order.

use std::collections::BTreeSet;

use crate::api::{
    Batch, Combiner, Emit, HashPartition, Held, Job, Mapper, Output, Record, Reducer, Source,
    Values,
};
use crate::error::{TaskError, UserError};
use crate::letters::words;

/// Builds an inverted index.
#[derive(Debug, Clone, Copy, Default)]
pub struct Indexer;

/// Emits each word with the name of its file.
///
/// A value is a list of names, each behind its length (four bytes, little-endian).
#[derive(Debug, Clone, Default)]
pub struct Occurrences {
    /// The list with the name of the file under way alone.
    list: Vec<u8>,
}

/// Unites lists of names.
#[derive(Debug, Clone, Copy, Default)]
pub struct Names;

impl Occurrences {
    fn of(&mut self, source: &Source<'_>) -> &[u8] {
        if self.list.get(4..) != Some(source.name) {
            self.list.clear();
            self.list.extend_from_slice(&(source.name.len() as u32).to_le_bytes());
            self.list.extend_from_slice(source.name);
        }
        &self.list
    }
}

impl Mapper for Occurrences {
    fn map<E: Emit>(&mut self, record: Record<'_>, out: &mut E) -> Result<(), UserError> {
        let list = self.of(&record.source);
        words(record.bytes, |window, length| out.emit_within(window, length, list));
        Ok(())
    }

    fn map_batch<E: Emit>(&mut self, batch: Batch<'_>, out: &mut E) -> Result<(), UserError> {
        let list = self.of(&batch.source);
        words(batch.bytes, |window, length| out.emit_within(window, length, list));
        Ok(())
    }
}

/// The names of a list.
fn names(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk()?;
        let (name, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        rest = after;
        Some(name)
    })
}

impl Combiner for Names {
    #[inline(always)]
    fn fold(&mut self, _key: &[u8], held: &mut Held<'_>, value: &[u8]) {
        // The files of a task come one after the other: the newest name is the last one. A name
        // that is added twice all the same does no harm.
        if !held.bytes().ends_with(value) {
            held.append(value);
        }
    }
}

impl Reducer for Names {
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), TaskError> {
        let mut all: BTreeSet<Vec<u8>> = BTreeSet::new();
        while let Some(list) = values.next()? {
            for name in names(list) {
                if !all.contains(name) {
                    all.insert(name.to_vec());
                }
            }
        }
        out.write(key)?;
        out.write(format!(" {} ", all.len()).as_bytes())?;
        for (at, name) in all.iter().enumerate() {
            if at > 0 {
                out.write(b",")?;
            }
            out.write(name)?;
        }
        out.end_line()
    }
}

impl Job for Indexer {
    type Mapper = Occurrences;
    type Combiner = Names;
    type Reducer = Names;
    type Partition = HashPartition;

    fn mapper(&self) -> Occurrences {
        Occurrences::default()
    }

    fn combiner(&self) -> Option<Names> {
        Some(Names)
    }

    fn reducer(&self) -> Names {
        Names
    }

    fn partition(&self) -> HashPartition {
        HashPartition
    }
}
