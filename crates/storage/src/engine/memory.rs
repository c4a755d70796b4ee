//! The engine for tests and the simulator: ordered maps in memory, with a model of a crash.
//!
//! A crash loses any suffix of the commits since the last persist, never part of one.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kontiki_kv::{Store, StoreError, StoreView, WriteSet};
use kontiki_types::{GroupId, LogId};

use super::{Compacted, Effort, Engine, EngineError, GroupStore, Persist, Presence};

type Rows = BTreeMap<Bytes, Bytes>;

/// States in memory. Survives a crash of its node by [`MemoryEngine::crash`].
#[derive(Default)]
pub struct MemoryEngine {
    groups: BTreeMap<GroupId, Arc<Mutex<State>>>,
    installing: BTreeMap<GroupId, Arc<Mutex<State>>>,
}

/// One group's state.
pub struct MemoryStore(Arc<Mutex<State>>);

/// See [`GroupStore::persister`].
#[derive(Clone)]
pub struct MemoryPersister(Arc<Mutex<State>>);

/// A view of a [`MemoryStore`]. Costs nothing until the next commit, which then copies the map.
#[derive(Clone)]
pub struct MemoryView(Arc<Rows>);

#[derive(Clone, Default)]
struct State {
    rows: Arc<Rows>,
    applied: LogId,
    persisted: LogId,
    presence: Presence,
    /// Since the last persist: the position before each commit, and the rows it replaced.
    undo: Vec<(LogId, WriteSet)>,
}

impl State {
    fn roll_back(&mut self, commits: usize) {
        let rows = Arc::make_mut(&mut self.rows);
        for _ in 0..commits {
            let Some((applied, replaced)) = self.undo.pop() else { return };
            for (key, row) in replaced.into_iter().rev() {
                match row {
                    Some(row) => rows.insert(key, row),
                    None => rows.remove(&key),
                };
            }
            self.applied = applied;
        }
    }
}

fn lock(state: &Arc<Mutex<State>>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Another state with the same content.
fn copy(state: &State) -> Arc<Mutex<State>> {
    Arc::new(Mutex::new(State { presence: Presence::default(), ..state.clone() }))
}

fn end(state: Option<Arc<Mutex<State>>>) {
    if let Some(state) = state {
        lock(&state).presence.end();
    }
}

impl MemoryEngine {
    /// An engine without groups.
    pub fn new() -> Self {
        Self::default()
    }

    /// An engine with the same states, persisted or not; what becomes of one does not change the
    /// other.
    #[must_use]
    pub fn clone_whole(&self) -> Self {
        let groups = self.groups.iter().map(|(&group, state)| (group, copy(&lock(state))));
        Self { groups: groups.collect(), installing: BTreeMap::new() }
    }

    /// What a crash leaves. For each group `keep` is given the number of commits that are not
    /// persisted and says how many of them survive, oldest first. Stores of `self` go on, on a
    /// state of their own.
    #[must_use]
    pub fn crash(&self, mut keep: impl FnMut(GroupId, usize) -> usize) -> Self {
        let mut groups = BTreeMap::new();
        for (&group, state) in &self.groups {
            let left = copy(&lock(state));
            let mut state = lock(&left);
            let unsynced = state.undo.len();
            state.roll_back(unsynced - keep(group, unsynced).min(unsynced));
            state.undo.clear();
            state.persisted = state.applied;
            drop(state);
            groups.insert(group, left);
        }
        Self { groups, installing: BTreeMap::new() }
    }
}

impl Engine for MemoryEngine {
    type Store = MemoryStore;

    fn groups(&self) -> Vec<GroupId> {
        self.groups.keys().copied().collect()
    }

    fn open_group(&mut self, group: GroupId) -> Result<MemoryStore, EngineError> {
        Ok(MemoryStore(Arc::clone(self.groups.entry(group).or_default())))
    }

    fn drop_group(&mut self, group: GroupId) -> Result<(), EngineError> {
        end(self.groups.remove(&group));
        end(self.installing.remove(&group));
        Ok(())
    }

    fn begin_install(&mut self, group: GroupId) -> Result<MemoryStore, EngineError> {
        let state = Arc::<Mutex<State>>::default();
        self.installing.insert(group, Arc::clone(&state));
        Ok(MemoryStore(state))
    }

    fn finish_install(&mut self, group: GroupId, store: &MemoryStore) -> Result<(), EngineError> {
        store.persister().persist()?;
        self.installing.remove(&group);
        end(self.groups.insert(group, Arc::clone(&store.0)));
        Ok(())
    }
}

impl Store for MemoryStore {
    type View = MemoryView;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(lock(&self.0).rows.get(key).cloned())
    }

    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        Ok(range(&lock(&self.0).rows, from, to, limit))
    }

    fn commit(&mut self, batch: &mut WriteSet, applied: LogId) -> Result<(), StoreError> {
        let mut state = lock(&self.0);
        let before = std::mem::replace(&mut state.applied, applied);
        let rows = Arc::make_mut(&mut state.rows);
        let replace = |(key, row): (Bytes, Option<Bytes>)| match row {
            Some(row) => (key.clone(), rows.insert(key, row)),
            None => (key.clone(), rows.remove(&key)),
        };
        let replaced = batch.drain(..).map(replace).collect();
        state.undo.push((before, replaced));
        Ok(())
    }

    fn applied(&self) -> LogId {
        lock(&self.0).applied
    }

    fn view(&self) -> Result<MemoryView, StoreError> {
        Ok(MemoryView(Arc::clone(&lock(&self.0).rows)))
    }
}

impl GroupStore for MemoryStore {
    type Persister = MemoryPersister;

    fn persister(&self) -> MemoryPersister {
        MemoryPersister(Arc::clone(&self.0))
    }
}

impl Persist for MemoryPersister {
    fn persist(&self) -> Result<LogId, EngineError> {
        let mut state = lock(&self.0);
        state.undo.clear();
        state.persisted = state.applied;
        Ok(state.persisted)
    }

    fn persisted(&self) -> LogId {
        lock(&self.0).persisted
    }

    fn presence(&self) -> Presence {
        lock(&self.0).presence.clone()
    }

    fn is_due(&self) -> bool {
        false
    }

    fn compact(&self, _: Effort) -> Result<Compacted, EngineError> {
        Ok(Compacted::Nothing)
    }
}

impl StoreView for MemoryView {
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

fn range(rows: &Rows, from: &[u8], to: &[u8], limit: usize) -> Vec<(Bytes, Bytes)> {
    if from >= to {
        return Vec::new();
    }
    let bounds = (Bound::Included(from), Bound::Excluded(to));
    let rows = rows.range::<[u8], _>(bounds).take(limit);
    rows.map(|(key, row)| (key.clone(), row.clone())).collect()
}
