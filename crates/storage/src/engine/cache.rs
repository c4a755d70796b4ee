//! Hot rows, so that reading one costs a look into a hash table.
//!
//! Two generations: what is used moves into the young one; when that is half the budget, the old
//! one is dropped and the young one becomes old. That keeps what was used lately, with no list to
//! maintain on each hit.

use std::collections::HashMap;

use bytes::Bytes;

/// Bytes that a row costs beyond its key and value.
pub(super) const ROW_OVERHEAD: usize = 96;

type Generation = HashMap<Bytes, Option<Bytes>>;

/// Rows as last committed; `None` for a key known to be absent.
pub(super) struct Cache {
    young: Generation,
    old: Generation,
    young_bytes: usize,
    limit: usize,
}

impl Cache {
    pub(super) fn new(limit: usize) -> Self {
        Self { young: Generation::new(), old: Generation::new(), young_bytes: 0, limit }
    }

    /// The row under `key`, if it is known here.
    pub(super) fn get(&mut self, key: &[u8]) -> Option<Option<Bytes>> {
        if let Some(row) = self.young.get(key) {
            return Some(row.clone());
        }
        let (key, row) = self.old.remove_entry(key)?;
        self.insert(key, row.clone());
        Some(row)
    }

    /// Remembers a row.
    pub(super) fn insert(&mut self, key: Bytes, row: Option<Bytes>) {
        self.young_bytes += cost(&key, row.as_ref());
        if let Some(before) = self.young.insert(key, row) {
            self.young_bytes = self.young_bytes.saturating_sub(before.map_or(0, |row| row.len()));
        }
        if self.young_bytes > self.limit / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }

    /// A row has changed: a remembered one follows.
    pub(super) fn refresh(&mut self, key: &[u8], row: Option<&Bytes>) {
        if let Some(remembered) = self.young.get_mut(key) {
            self.young_bytes += row.map_or(0, Bytes::len);
            self.young_bytes =
                self.young_bytes.saturating_sub(remembered.as_ref().map_or(0, Bytes::len));
            *remembered = row.cloned();
        }
        if let Some(remembered) = self.old.get_mut(key) {
            *remembered = row.cloned();
        }
    }
}

/// Bytes that a row counts towards a limit.
pub(super) fn cost(key: &[u8], row: Option<&Bytes>) -> usize {
    ROW_OVERHEAD + key.len() + row.map_or(0, Bytes::len)
}
