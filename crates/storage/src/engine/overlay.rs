//! The part of a group's state that is in memory: commits that are not in tables yet, and hot rows.
//!
//! Commits go into the *active* layer. To persist, or for a view, the active layer is *frozen*: from
//! then on it is immutable and shared. Persisting writes all frozen layers into tables as one
//! atomic step, with the applied position, and then drops them. So the newest value of a key is in
//! the active layer, else in the newest frozen layer that has it, else in the tables.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kontiki_kv::{StoreError, WriteSet};
use kontiki_types::LogId;

use super::cache::{Cache, cost};
use super::merge::{Merge, Source};
use super::row_key::{Look, RowKey, Sought};

/// More frozen layers than this are merged: only views make many.
const LAYERS_MAX: usize = 8;

/// Changes that follow each other, newest value per key; `None` deletes.
#[derive(Debug, Default)]
pub(super) struct Layer {
    rows: BTreeMap<RowKey, Option<Bytes>>,
    bytes: usize,
}

impl Layer {
    fn insert(&mut self, key: Bytes, row: Option<Bytes>) {
        self.bytes += cost(&key, row.as_ref());
        let key_cost = cost(&key, None);
        if let Some(before) = self.rows.insert(RowKey::new(key), row) {
            self.bytes -= key_cost + before.map_or(0, |row| row.len());
        }
    }

    /// The row under `key`, if it was changed.
    pub(super) fn get(&self, key: &[u8]) -> Option<(&Bytes, &Option<Bytes>)> {
        let (key, row) = self.rows.get_key_value(Sought::new(key).look())?;
        Some((key.bytes(), row))
    }

    /// The rows with `from <= key < to`.
    pub(super) fn range<'a>(&'a self, from: &[u8], to: &[u8]) -> Source<'a> {
        let (from, to) = (Sought::new(from), Sought::new(to));
        let bounds = (Bound::Included(from.look()), Bound::Excluded(to.look()));
        let rows = self.rows.range::<dyn Look, _>(bounds);
        Box::new(rows.map(|(key, row)| Ok((key.bytes().clone(), row.clone()))))
    }

    fn all(&self) -> Source<'_> {
        Box::new(self.rows.iter().map(|(key, row)| Ok((key.bytes().clone(), row.clone()))))
    }
}

pub(super) struct Overlay {
    active: Layer,
    /// Oldest first.
    frozen: Vec<Arc<Layer>>,
    frozen_bytes: usize,
    pub cache: Cache,
    /// Position of the last commit.
    pub applied: LogId,
    /// Position up to which tables hold everything.
    pub persisted: LogId,
}

/// What is to be persisted.
pub(super) struct Batch {
    pub layers: Vec<Arc<Layer>>,
    pub applied: LogId,
}

impl Overlay {
    pub(super) fn new(persisted: LogId, cache_bytes: usize) -> Self {
        Self {
            active: Layer::default(),
            frozen: Vec::new(),
            frozen_bytes: 0,
            cache: Cache::new(cache_bytes),
            applied: persisted,
            persisted,
        }
    }

    pub(super) fn commit(&mut self, batch: &mut WriteSet, applied: LogId) {
        for (key, row) in batch.drain(..) {
            self.cache.refresh(&key, row.as_ref());
            self.active.insert(key, row);
        }
        self.applied = applied;
    }

    /// The row under `key` as far as it is known in memory.
    pub(super) fn get(&mut self, key: &[u8]) -> Option<Option<Bytes>> {
        if let Some(row) = self.cache.get(key) {
            return Some(row);
        }
        let layers = std::iter::once(&self.active)
            .chain(self.frozen.iter().rev().map(|layer| &**layer))
            .find_map(|layer| layer.get(key));
        let (key, row) = layers?;
        let (key, row) = (key.clone(), row.clone());
        self.cache.insert(key, row.clone());
        Some(row)
    }

    /// The layers' rows with `from <= key < to`, newest layer first.
    pub(super) fn sources<'a>(&'a self, from: &[u8], to: &[u8]) -> Vec<Source<'a>> {
        let mut sources = vec![self.active.range(from, to)];
        sources.extend(self.frozen.iter().rev().map(|layer| layer.range(from, to)));
        sources
    }

    /// Bytes not yet in tables.
    pub(super) fn bytes(&self) -> usize {
        self.active.bytes + self.frozen_bytes
    }

    /// Freezes the active layer and returns all frozen ones, oldest first.
    pub(super) fn freeze(&mut self) -> Vec<Arc<Layer>> {
        if !self.active.rows.is_empty() {
            let layer = std::mem::take(&mut self.active);
            self.frozen_bytes += layer.bytes;
            self.frozen.push(Arc::new(layer));
        }
        if self.frozen.len() > LAYERS_MAX {
            self.merge_newest();
        }
        self.frozen.clone()
    }

    /// What persisting has to write; `None` if there is nothing.
    pub(super) fn unpersisted(&mut self) -> Option<Batch> {
        let layers = self.freeze();
        let something = !layers.is_empty() || self.applied != self.persisted;
        something.then_some(Batch { layers, applied: self.applied })
    }

    /// The tables hold this batch.
    pub(super) fn is_persisted(&mut self, batch: &Batch) {
        let written =
            |layer: &Arc<Layer>| batch.layers.iter().any(|other| Arc::ptr_eq(layer, other));
        self.frozen.retain(|layer| !written(layer));
        self.frozen_bytes = self.frozen.iter().map(|layer| layer.bytes).sum();
        self.persisted = batch.applied;
    }

    // A layer that is being persisted may be merged, too: the merged one is then persisted again,
    // which changes nothing.
    fn merge_newest(&mut self) {
        let newest = self.frozen.split_off(LAYERS_MAX / 2);
        let sources: Vec<Source<'_>> = newest.iter().rev().map(|layer| layer.all()).collect();
        let mut merged = Layer::default();
        for (key, row) in Merge::new(sources).into_iter().flatten().flatten() {
            merged.insert(key, row);
        }
        self.frozen.push(Arc::new(merged));
        self.frozen_bytes = self.frozen.iter().map(|layer| layer.bytes).sum();
    }
}

impl Batch {
    /// All rows in the order of their keys, newest value each, deletions included.
    pub(super) fn rows(&self) -> Result<Merge<'_>, StoreError> {
        Merge::new(self.layers.iter().rev().map(|layer| layer.all()).collect())
    }
}

/// What the engine has done, for metrics. Shared by all groups.
#[derive(Debug, Default)]
pub(super) struct EngineCounters {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub persists: AtomicU64,
    pub rows_persisted: AtomicU64,
    pub bytes_persisted: AtomicU64,
    pub stalls: AtomicU64,
    pub stall_micros: AtomicU64,
}

/// A reading of an engine's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineCounts {
    /// Reads of single rows answered from memory.
    pub hits: u64,
    /// Reads of single rows that went to the tables.
    pub misses: u64,
    /// Times that a group's state was persisted.
    pub persists: u64,
    /// Rows written by these.
    pub rows_persisted: u64,
    /// Bytes of keys and values written by these.
    pub bytes_persisted: u64,
    /// Commits that had to wait until others were persisted.
    pub stalls: u64,
    /// How long they waited in sum, in microseconds.
    pub stall_micros: u64,
}

impl EngineCounters {
    pub(super) fn read(&self) -> EngineCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EngineCounts {
            hits: get(&self.hits),
            misses: get(&self.misses),
            persists: get(&self.persists),
            rows_persisted: get(&self.rows_persisted),
            bytes_persisted: get(&self.bytes_persisted),
            stalls: get(&self.stalls),
            stall_micros: get(&self.stall_micros),
        }
    }
}
