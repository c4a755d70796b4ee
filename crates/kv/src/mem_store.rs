//! A [`Store`] in memory, for tests and benchmarks.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use kontiki_types::LogId;

use crate::{Store, StoreError, StoreView, WriteSet};

/// An ordered map in memory. A clone is an independent store with the same rows; a view costs
/// nothing until the next commit, which then copies the map.
#[derive(Clone, Debug, Default)]
pub struct MemStore {
    rows: Arc<BTreeMap<Bytes, Bytes>>,
    applied: LogId,
}

/// What [`MemStore::view`] gives.
#[derive(Clone, Debug)]
pub struct MemView(Arc<BTreeMap<Bytes, Bytes>>);

impl MemStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// All rows, in order.
    pub fn rows(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.rows.iter()
    }
}

impl Store for MemStore {
    type View = MemView;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.rows.get(key).cloned())
    }

    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        Ok(range(&self.rows, from, to, limit))
    }

    fn commit(&mut self, batch: &mut WriteSet, applied: LogId) -> Result<(), StoreError> {
        let rows = Arc::make_mut(&mut self.rows);
        for (key, row) in batch.drain(..) {
            match row {
                Some(row) => rows.insert(key, row),
                None => rows.remove(&key),
            };
        }
        self.applied = applied;
        Ok(())
    }

    fn applied(&self) -> LogId {
        self.applied
    }

    fn view(&self) -> Result<MemView, StoreError> {
        Ok(MemView(Arc::clone(&self.rows)))
    }
}

impl StoreView for MemView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        Ok(range(&self.0, from, to, limit))
    }
}

fn range(
    rows: &BTreeMap<Bytes, Bytes>,
    from: &[u8],
    to: &[u8],
    limit: usize,
) -> Vec<(Bytes, Bytes)> {
    if from >= to {
        return Vec::new();
    }
    let bounds = (Bound::Included(from), Bound::Excluded(to));
    let rows = rows.range::<[u8], _>(bounds).take(limit);
    rows.map(|(key, row)| (key.clone(), row.clone())).collect()
}

#[cfg(test)]
mod tests {
    use kontiki_types::{Index, Term};

    use super::*;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn a_view_stays_as_it_was() {
        let mut store = MemStore::new();
        let first = LogId::new(Term(1), Index(1));
        store.commit(&mut vec![(bytes("a"), Some(bytes("1")))], first).unwrap();
        let view = store.view().unwrap();
        let mut batch = vec![(bytes("a"), None), (bytes("b"), Some(bytes("2")))];
        store.commit(&mut batch, LogId::new(Term(1), Index(2))).unwrap();
        assert!(batch.is_empty());
        assert_eq!(view.range(b"", b"z", 9).unwrap(), [(bytes("a"), bytes("1"))]);
        assert_eq!(store.range(b"", b"z", 9).unwrap(), [(bytes("b"), bytes("2"))]);
        assert_eq!(store.get(b"a").unwrap(), None);
        assert_eq!(store.applied().index, Index(2));
        assert_eq!(store.range(b"z", b"a", 9).unwrap(), []);
    }
}
