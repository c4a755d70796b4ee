//! Changes of rows that follow each other, newest value per key; `None` deletes.
//!
//! A row is found by the hash of its key, which most writes need only to find what they replace.
//! Rows lie in pieces, in the order in which their keys first came, so that a layer that grows moves
//! none. The order of keys is made up once the layer is frozen and somebody asks for it.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use bytes::Bytes;
use hashbrown::HashTable;

use super::cache::cost;
use super::merge::Source;
use super::row_key::{RowKey, Sought};

/// Rows of a piece.
const PIECE: usize = 1024;

pub(super) struct Layer {
    places: HashTable<usize>,
    hashing: RandomState,
    pub(super) rows: Rows,
    pub(super) bytes: usize,
    /// Places in the order of keys. Set only when the layer does not change any more.
    order: OnceLock<Vec<usize>>,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) hash: u64,
    pub(super) key: RowKey,
    pub(super) row: Option<Bytes>,
}

impl Row {
    pub(super) fn pair(&self) -> (Bytes, Option<Bytes>) {
        (self.key.bytes().clone(), self.row.clone())
    }
}

/// Rows, numbered from 0.
#[derive(Debug, Default)]
pub(super) struct Rows(Vec<Vec<Row>>);

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * PIECE + last.len())
    }

    pub(super) fn at(&self, at: usize) -> &Row {
        &self.0[at / PIECE][at % PIECE]
    }

    fn at_mut(&mut self, at: usize) -> &mut Row {
        &mut self.0[at / PIECE][at % PIECE]
    }

    fn push(&mut self, row: Row) -> &Row {
        if self.0.last().is_none_or(|last| last.len() == PIECE) {
            self.0.push(Vec::with_capacity(PIECE));
        }
        let piece = self.0.len() - 1;
        self.0[piece].push(row);
        let at = self.0[piece].len() - 1;
        &self.0[piece][at]
    }
}

impl Layer {
    /// An empty layer whose keys are hashed like this.
    pub(super) fn new(hashing: &RandomState) -> Self {
        Self {
            places: HashTable::new(),
            hashing: hashing.clone(),
            rows: Rows::default(),
            bytes: 0,
            order: OnceLock::new(),
        }
    }

    /// Puts a row into the layer. Gives the key back if the layer had nothing under it.
    pub(super) fn insert(&mut self, key: Bytes, row: Option<Bytes>) -> Option<&[u8]> {
        let hash = self.hashing.hash_one(&key[..]);
        let rows = &mut self.rows;
        let is_it = |&at: &usize| {
            let row = rows.at(at);
            row.hash == hash && row.key.bytes() == &key
        };
        if let Some(&at) = self.places.find(hash, is_it) {
            self.bytes += row.as_ref().map_or(0, Bytes::len);
            let before = std::mem::replace(&mut rows.at_mut(at).row, row);
            self.bytes -= before.map_or(0, |row| row.len());
            return None;
        }
        self.bytes += cost(&key, row.as_ref());
        self.places.insert_unique(hash, rows.len(), |&at| rows.at(at).hash);
        let row = self.rows.push(Row { hash, key: RowKey::new(key), row });
        Some(row.key.bytes())
    }

    /// The row under `key`, if it was changed.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        self.find(self.hashing.hash_one(key), key).map(|row| &row.row)
    }

    /// The row under `key`, whose hash the caller knows.
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<&Row> {
        let is_it = |&at: &usize| {
            let row = self.rows.at(at);
            row.hash == hash && row.key.bytes() == key
        };
        self.places.find(hash, is_it).map(|&at| self.rows.at(at))
    }

    /// The rows with `from <= key < to`. For a layer that does not change any more.
    pub(super) fn range<'a>(&'a self, from: &[u8], to: &[u8]) -> Source<'a> {
        let order = self.order();
        let before = |bound: &[u8]| {
            let bound = Sought::new(bound);
            order.partition_point(|&at| self.rows.at(at).key.is_before(&bound))
        };
        let (start, end) = (before(from), before(to));
        Box::new(order[start..end.max(start)].iter().map(|&at| Ok(self.rows.at(at).pair())))
    }

    /// All rows in the order of their keys. For a layer that does not change any more.
    pub(super) fn all(&self) -> Source<'_> {
        Box::new(self.order().iter().map(|&at| Ok(self.rows.at(at).pair())))
    }

    fn order(&self) -> &[usize] {
        self.order.get_or_init(|| {
            let mut order: Vec<usize> = (0..self.rows.len()).collect();
            order.sort_unstable_by(|&one, &two| self.rows.at(one).key.cmp(&self.rows.at(two).key));
            order
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn key(number: u64) -> Bytes {
        // Long and short ones, many alike in their first bytes.
        let text = format!("{}{}", "k".repeat((number % 40) as usize), number / 3);
        Bytes::from(text)
    }

    #[test]
    fn it_does_what_an_ordered_map_does() {
        let mut layer = Layer::new(&RandomState::new());
        let mut model = BTreeMap::new();
        let mut state = 7_u64;
        for _ in 0..9000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let number = state >> 40;
            let row =
                (!number.is_multiple_of(5)).then(|| Bytes::from(vec![1; (number % 90) as usize]));
            let is_new = layer.insert(key(number % 6000), row.clone()).is_some();
            assert_eq!(is_new, model.insert(key(number % 6000), row).is_none());
        }
        assert!(layer.rows.len() > 2 * PIECE);
        assert_eq!(layer.rows.len(), model.len());
        let bytes: usize = model.iter().map(|(key, row)| cost(key, row.as_ref())).sum();
        assert_eq!(layer.bytes, bytes);
        for number in 0..6100 {
            assert_eq!(layer.get(&key(number)), model.get(&key(number)));
        }
        let pairs = |source: Source<'_>| source.map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(pairs(layer.all()), model.clone().into_iter().collect::<Vec<_>>());
        for number in (0..6000).step_by(97) {
            let (from, to) = (key(number), key(6000 - number));
            let expected = model.iter().filter(|&(key, _)| *key >= from && *key < to);
            let expected: Vec<_> = expected.map(|(key, row)| (key.clone(), row.clone())).collect();
            assert_eq!(pairs(layer.range(&from, &to)), expected);
        }
    }
}
