//! The part of a group's state that is in memory: commits that are not in tables yet, and hot rows.
//!
//! Commits go into the *active* layer. To persist, or for a view, the active layer is *frozen*: from
//! then on it is immutable and shared. Persisting writes all frozen layers into tables as one
//! atomic step, with the applied position, and then drops them. So the newest value of a key is in
//! the active layer, else in the newest frozen layer that has it, else in the tables.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kontiki_kv::{StoreError, WriteSet};
use kontiki_types::LogId;

use super::cache::Cache;
use super::layer::Layer;
use super::merge::{Merge, Source};
use super::row_key::{Look, RowKey, Sought};

/// More frozen layers than this are merged: only views make many.
const LAYERS_MAX: usize = 8;

/// Rows that one step of [`Overlay::remember`] looks at.
const REMEMBERED_AT_ONCE: usize = 512;

/// The changes that go on: the newest layer, which grows.
///
/// A write finds its row by a hash; the order of the keys is made up when somebody asks for it.
struct Active {
    layer: Layer,
    /// The first `ordered` rows in the order of their keys, and where they are.
    order: BTreeMap<RowKey, usize>,
    ordered: usize,
}

impl Active {
    fn new(hashing: &RandomState) -> Self {
        Self { layer: Layer::new(hashing), order: BTreeMap::new(), ordered: 0 }
    }

    /// The rows with `from <= key < to`.
    fn range<'a>(&'a mut self, from: &[u8], to: &[u8]) -> Source<'a> {
        for at in self.ordered..self.layer.rows.len() {
            self.order.insert(self.layer.rows.at(at).key.clone(), at);
        }
        self.ordered = self.layer.rows.len();
        let (from, to) = (Sought::new(from), Sought::new(to));
        let bounds = (Bound::Included(from.look()), Bound::Excluded(to.look()));
        let places = self.order.range::<dyn Look, _>(bounds);
        Box::new(places.map(|(_, &at)| Ok(self.layer.rows.at(at).pair())))
    }
}

pub(super) struct Overlay {
    active: Active,
    /// Oldest first.
    frozen: Vec<Arc<Layer>>,
    frozen_bytes: usize,
    /// Rows of the tables. Invariant: what it holds of a key that is in a layer, too, is not looked
    /// at; and of a key that is in the active layer it holds nothing.
    pub cache: Cache,
    hashing: RandomState,
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
        let hashing = RandomState::new();
        Self {
            active: Active::new(&hashing),
            frozen: Vec::new(),
            frozen_bytes: 0,
            cache: Cache::new(cache_bytes),
            hashing,
            applied: persisted,
            persisted,
        }
    }

    pub(super) fn commit(&mut self, batch: &mut WriteSet, applied: LogId) {
        for (key, row) in batch.drain(..) {
            if let Some(key) = self.active.layer.insert(key, row) {
                self.cache.forget(key);
            }
        }
        self.applied = applied;
    }

    /// The row under `key` as far as it is known in memory.
    pub(super) fn get(&mut self, key: &[u8]) -> Option<Option<Bytes>> {
        let hash = self.hashing.hash_one(key);
        let frozen = self.frozen.iter().rev().map(|layer| &**layer);
        let mut layers = std::iter::once(&self.active.layer).chain(frozen);
        match layers.find_map(|layer| layer.find(hash, key)) {
            Some(row) => Some(row.row.clone()),
            None => self.cache.get(key),
        }
    }

    /// The layers' rows with `from <= key < to`, newest layer first.
    pub(super) fn sources<'a>(&'a mut self, from: &[u8], to: &[u8]) -> Vec<Source<'a>> {
        let mut sources = vec![self.active.range(from, to)];
        sources.extend(self.frozen.iter().rev().map(|layer| layer.range(from, to)));
        sources
    }

    /// Bytes not yet in tables.
    pub(super) fn bytes(&self) -> usize {
        self.active.layer.bytes + self.frozen_bytes
    }

    /// Freezes the active layer and returns all frozen ones, oldest first.
    pub(super) fn freeze(&mut self) -> Vec<Arc<Layer>> {
        if self.active.layer.rows.len() > 0 {
            let active = std::mem::replace(&mut self.active, Active::new(&self.hashing));
            self.frozen_bytes += active.layer.bytes;
            self.frozen.push(Arc::new(active.layer));
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

    /// Remembers rows of a layer that tables hold by now, from the `from`th on, before the layer
    /// goes. Returns where to go on; a step takes a fraction of a millisecond.
    pub(super) fn remember(&mut self, layer: &Layer, from: usize) -> Option<usize> {
        let upto = layer.rows.len().min(from + REMEMBERED_AT_ONCE);
        for at in from..upto {
            let row = layer.rows.at(at);
            if self.active.layer.find(row.hash, row.key.bytes()).is_none() {
                self.cache.insert(row.key.bytes().clone(), row.row.clone());
            }
        }
        (upto < layer.rows.len()).then_some(upto)
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
        let mut merged = Layer::new(&self.hashing);
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
    pub table_bytes_written: AtomicU64,
    pub compactions: AtomicU64,
    pub reclaims: AtomicU64,
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
    /// Bytes of tables written, by these and by compactions.
    pub table_bytes_written: u64,
    /// Compactions, each of which merged some tables into others.
    pub compactions: u64,
    /// Those of them that were made to give back the space of what was deleted.
    pub reclaims: u64,
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
            table_bytes_written: get(&self.table_bytes_written),
            compactions: get(&self.compactions),
            reclaims: get(&self.reclaims),
            stalls: get(&self.stalls),
            stall_micros: get(&self.stall_micros),
        }
    }
}
