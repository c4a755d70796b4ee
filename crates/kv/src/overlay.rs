//! The rows that entries of one batch have changed, before the store has them.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::layout::behind;
use crate::{Store, StoreError, StoreView, WriteSet};

/// Something with ordered rows: a store, a view of one, or a store below what a batch has changed.
pub(crate) trait Rows {
    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError>;
}

/// The rows of a store.
pub(crate) struct Stored<'a, S>(pub(crate) &'a S);

impl<S: Store> Rows for Stored<'_, S> {
    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.0.range(from, to, limit)
    }
}

/// The rows of a view.
pub(crate) struct Viewed<'a, V>(pub(crate) &'a V);

impl<V: StoreView> Rows for Viewed<'_, V> {
    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.0.range(from, to, limit)
    }
}

/// Changed rows; `None` is a deleted one.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    rows: BTreeMap<Bytes, Option<Bytes>>,
}

impl Overlay {
    pub(crate) fn put(&mut self, key: Bytes, row: Bytes) {
        self.rows.insert(key, Some(row));
    }

    pub(crate) fn delete(&mut self, key: Bytes) {
        self.rows.insert(key, None);
    }

    /// The row as changed; `None` if it was not.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        self.rows.get(key)
    }

    /// Hands all changes over, in order.
    pub(crate) fn drain_into(&mut self, batch: &mut WriteSet) {
        batch.extend(core::mem::take(&mut self.rows));
    }
}

/// A store below an overlay.
pub(crate) struct Merged<'a, S> {
    pub(crate) store: &'a S,
    pub(crate) overlay: &'a Overlay,
}

impl<S: Store> Merged<'_, S> {
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.overlay.get(key) {
            Some(changed) => Ok(changed.clone()),
            None => self.store.get(key),
        }
    }
}

impl<S: Store> Rows for Merged<'_, S> {
    /// As of a store with the overlay committed: fewer than `limit` rows means that none follow.
    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        if from >= to || limit == 0 {
            return Ok(Vec::new());
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let mut changed = self.overlay.rows.range::<[u8], _>(bounds).peekable();
        let mut merged = Vec::new();
        let mut push = |key: &Bytes, row: &Option<Bytes>| {
            merged.extend(row.as_ref().map(|row| (key.clone(), row.clone())));
            merged.len() >= limit
        };
        let mut from = from.to_vec();
        loop {
            let stored = self.store.range(&from, to, limit)?;
            let is_last = stored.len() < limit;
            if let Some((last, _)) = stored.last() {
                from = behind(last);
            }
            let mut is_enough = false;
            for (key, row) in stored {
                while let Some((other, change)) = changed.next_if(|(other, _)| **other < key) {
                    is_enough |= push(other, change);
                }
                is_enough |= match changed.next_if(|(other, _)| **other == key) {
                    Some((_, change)) => push(&key, change),
                    None => push(&key, &Some(row)),
                };
            }
            if is_last {
                changed.by_ref().for_each(|(key, change)| is_enough |= push(key, change));
            }
            if is_last || is_enough {
                merged.truncate(limit);
                return Ok(merged);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kontiki_types::LogId;

    use super::*;
    use crate::MemStore;

    /// Every pair of a store and changes over four keys: the merge equals the commit.
    #[test]
    fn a_merge_reads_like_the_commit() {
        let key = |number: usize| Bytes::from(vec![b'a' + number as u8]);
        for case in 0..6usize.pow(4) {
            let mut rows = Vec::new();
            let mut overlay = Overlay::default();
            for number in 0..4 {
                let state = case / 6usize.pow(number as u32) % 6;
                if state % 2 == 1 {
                    rows.push((key(number), Some(Bytes::from_static(b"old"))));
                }
                match state / 2 {
                    1 => overlay.delete(key(number)),
                    2 => overlay.put(key(number), Bytes::from_static(b"new")),
                    _ => {}
                }
            }
            let mut store = MemStore::new();
            store.commit(&mut rows, LogId::ZERO).unwrap();
            let before = store.clone();
            let merged = |from: &[u8], limit| {
                Merged { store: &before, overlay: &overlay }.range(from, b"z", limit).unwrap()
            };
            let answers: Vec<_> =
                (0..5).flat_map(|limit| [merged(b"a", limit), merged(b"b", limit)]).collect();
            let mut all = Vec::new();
            let mut changes = Overlay { rows: overlay.rows.clone() };
            changes.drain_into(&mut all);
            store.commit(&mut all, LogId::ZERO).unwrap();
            for (limit, answers) in answers.chunks(2).enumerate() {
                assert_eq!(answers[0], store.range(b"a", b"z", limit).unwrap(), "case {case}");
                assert_eq!(answers[1], store.range(b"b", b"z", limit).unwrap(), "case {case}");
            }
        }
    }
}
