//! Several ordered sources of rows, read as one: for each key the newest source that has it counts.

use bytes::Bytes;
use kontiki_kv::StoreError;

/// A row of one source; `None` says that the key is deleted.
pub(super) type Row = (Bytes, Option<Bytes>);

/// Rows in the order of their keys.
pub(super) type Source<'a> = Box<dyn Iterator<Item = Result<Row, StoreError>> + 'a>;

/// The merged rows, deletions included.
pub(super) struct Merge<'a> {
    sources: Vec<Source<'a>>,
    heads: Vec<Option<Row>>,
}

impl<'a> Merge<'a> {
    /// Merges `sources`, newest first.
    pub(super) fn new(mut sources: Vec<Source<'a>>) -> Result<Self, StoreError> {
        let heads = sources.iter_mut().map(|source| source.next().transpose());
        let heads = heads.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { sources, heads })
    }

    fn advance(&mut self, source: usize) -> Result<Option<Row>, StoreError> {
        let next = self.sources[source].next().transpose()?;
        Ok(std::mem::replace(&mut self.heads[source], next))
    }

    fn step(&mut self) -> Result<Option<Row>, StoreError> {
        let mut newest: Option<(usize, &Bytes)> = None;
        for (source, head) in self.heads.iter().enumerate() {
            if let Some((key, _)) = head
                && newest.is_none_or(|(_, least)| key < least)
            {
                newest = Some((source, key));
            }
        }
        let Some((newest, _)) = newest else { return Ok(None) };
        let row = self.advance(newest)?;
        if let Some((key, _)) = &row {
            for source in newest + 1..self.heads.len() {
                if self.heads[source].as_ref().is_some_and(|(other, _)| other == key) {
                    self.advance(source)?;
                }
            }
        }
        Ok(row)
    }

    /// The first `limit` rows that are not deleted.
    pub(super) fn live(self, limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let rows = self.filter_map(|row| match row {
            Ok((key, row)) => row.map(|row| Ok((key, row))),
            Err(error) => Some(Err(error)),
        });
        rows.take(limit).collect()
    }
}

impl Iterator for Merge<'_> {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
