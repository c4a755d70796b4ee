//! The engine for data larger than memory: tables of fjall's LSM tree under an overlay in memory.
//!
//! It uses the tree of fjall (the crate `lsm-tree`) and not the database around it: the Raft log is
//! the journal, so there is none to distrust here (PROTOCOL 4c). (Measured with fjall 3.1.13: opened
//! with its journal files deleted, it begins its sequence numbers at 0 again, and what is written
//! then loses to older values in scans and compactions.) Persisting writes a sorted run of tables
//! by bulk ingestion, which syncs the tables and then names them in a synced manifest, all or
//! nothing. The position applied is a row of the same run.
//!
//! Each group has a tree in a directory `g<group>.<number>`, begun when something is persisted for
//! the first time: a group that has never been written much costs no file. A snapshot is installed into the next
//! number; the row with the applied position, durable after everything else, is what makes that
//! tree the group's. A start keeps the highest such tree of a group and removes the others.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kontiki_kv::{Store, StoreError, StoreView, WriteSet};
use kontiki_types::{GroupId, LogId};
use lsm_tree::SeqNo;

use super::budget::Budget;
use super::layer::Layer;
use super::merge::{Merge, Source};
use super::meter::EngineMeter;
use super::overlay::{Batch, EngineCounters, EngineCounts, Overlay};
use super::reader::Reader;
use super::tables::{APPLIED, DAMAGED, GONE, ROW, Tree, Trees, encode_applied};
use super::verify::{TableFile, check_manifest, table_files};
use super::{Compacted, Effort, Engine, EngineError, GroupStore, Persist, Presence};
use crate::disk::{Disk, RealDisk, RealLock};

/// Longest key of a row: the tree's limit of 65535 less the prefix, rounded down.
const KEY_MAX: usize = 65_000;
/// With more runs of tables that overlap a commit waits for a compaction, since each read looks at all
/// of them.
const RUNS_MAX: usize = 24;
/// After the disk was full, how long commits go on before they try again to make room.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// Sizes of a [`FjallEngine`].
#[derive(Clone, Copy, Debug)]
pub struct FjallConfig {
    /// Most bytes that are committed and not yet in tables, of all groups. Beyond it a commit persists
    /// the largest group's itself. Default 64 MiB.
    pub overlay_bytes: usize,
    /// Bytes of hot rows that are kept, shared equally by all groups. Default 64 MiB.
    pub cache_bytes: usize,
    /// Bytes of table blocks kept in memory, for all groups. Default 32 MiB.
    pub block_cache_bytes: u64,
}

impl Default for FjallConfig {
    fn default() -> Self {
        Self { overlay_bytes: 64 << 20, cache_bytes: 64 << 20, block_cache_bytes: 32 << 20 }
    }
}

/// The states of all groups in one directory.
pub struct FjallEngine {
    path: PathBuf,
    config: FjallConfig,
    trees: Arc<Trees>,
    groups: BTreeMap<GroupId, Tree>,
    installing: BTreeMap<GroupId, Tree>,
    /// The highest number of a tree. None comes twice while the engine is open: whoever still writes
    /// to a tree that was removed must not write to another.
    last: u64,
    damaged: BTreeMap<GroupId, Damage>,
    budget: Arc<Budget<Shared>>,
    counters: Arc<EngineCounters>,
    /// Until when commits do not try to make room: the disk was full.
    full_until: Arc<Mutex<Option<Instant>>>,
    _lock: RealLock,
}

/// A state that could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it was put aside.
    pub path: PathBuf,
    /// What is wrong with it.
    pub detail: String,
}

/// One group's state.
pub struct FjallStore {
    shared: Arc<Shared>,
}

/// See [`GroupStore::persister`].
#[derive(Clone)]
pub struct FjallPersister {
    shared: Arc<Shared>,
}

/// A view of a [`FjallStore`].
pub struct FjallView {
    /// Newest first.
    layers: Vec<Arc<Layer>>,
    tree: Tree,
    reader: Option<Arc<Reader>>,
    /// The view sees what has a lower sequence number.
    instant: SeqNo,
}

pub(super) struct Shared {
    group: GroupId,
    pub(super) tree: Tree,
    overlay: Mutex<Overlay>,
    /// Held while persisting: one at a time.
    persisting: Mutex<()>,
    /// Held while compacting: one at a time, beside persisting.
    compacting: Mutex<()>,
    cache_bytes: usize,
    budget: Arc<Budget<Shared>>,
    /// What the budget counts of this group.
    counted: AtomicUsize,
    /// A snapshot is being installed: the applied position must not be written yet.
    installing: AtomicBool,
    counters: Arc<EngineCounters>,
    full_until: Arc<Mutex<Option<Instant>>>,
}

impl FjallEngine {
    /// Opens the engine in `path`, or begins one there. Only what was persisted is there. A group
    /// whose state cannot be opened has none then: see [`FjallEngine::damaged`].
    ///
    /// # Errors
    /// What the disk gives, and [`EngineError::Locked`].
    pub fn open(path: &Path, config: FjallConfig) -> Result<Self, EngineError> {
        fs::create_dir_all(path).map_err(io("create", path))?;
        let lock_path = path.join("lock");
        let lock = RealDisk.lock(&lock_path).map_err(io("lock", &lock_path))?;
        let lock = lock.ok_or_else(|| EngineError::Locked(path.to_path_buf()))?;
        let trees = Arc::new(Trees::new(config.block_cache_bytes));
        let Found { groups, damaged } = choose_trees(path, &trees)?;
        let last = groups.values().map(|tree| tree.number).max().unwrap_or(0);
        Ok(Self {
            path: path.to_path_buf(),
            config,
            trees,
            groups,
            installing: BTreeMap::new(),
            last,
            damaged,
            budget: Arc::new(Budget::new(config.overlay_bytes)),
            counters: Arc::default(),
            full_until: Arc::default(),
            _lock: lock,
        })
    }

    /// Removes the engine's files, so that the next [`FjallEngine::open`] begins with nothing.
    ///
    /// # Errors
    /// What the disk gives.
    pub fn discard(path: &Path) -> Result<(), EngineError> {
        RealDisk.remove_dir(path).map_err(io("remove", path))
    }

    /// The groups whose state could not be opened, and was put aside: they have none now.
    pub fn damaged(&self) -> &BTreeMap<GroupId, Damage> {
        &self.damaged
    }

    /// The engine's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the engine has done since it was opened.
    pub fn counts(&self) -> EngineCounts {
        self.counters.read()
    }

    /// What shows the engine to whoever watches it.
    pub fn meter(&self) -> EngineMeter {
        EngineMeter {
            config: self.config,
            trees: Arc::clone(&self.trees),
            budget: Arc::clone(&self.budget),
            counters: Arc::clone(&self.counters),
        }
    }

    /// Up to which entry the state of each group is in tables, as far as that can be read.
    pub fn applied(&self) -> BTreeMap<GroupId, LogId> {
        let applied = |(&group, tree): (&GroupId, &Tree)| Some((group, tree.applied().ok()??));
        self.groups.iter().filter_map(applied).collect()
    }

    /// Bytes that the tables take on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.groups.values().filter_map(Tree::reader).map(|reader| reader.disk_bytes).sum()
    }

    fn store(
        &self,
        group: GroupId,
        tree: Tree,
        installing: bool,
    ) -> Result<FjallStore, EngineError> {
        let unusable = |detail| EngineError::Unusable { path: tree.path.clone(), detail };
        let applied = tree.applied().map_err(unusable)?.unwrap_or(LogId::ZERO);
        let shared = Shared {
            group,
            tree,
            overlay: Mutex::new(Overlay::new(applied, self.config.cache_bytes)),
            persisting: Mutex::new(()),
            compacting: Mutex::new(()),
            cache_bytes: self.config.cache_bytes,
            budget: Arc::clone(&self.budget),
            counted: AtomicUsize::new(0),
            installing: AtomicBool::new(installing),
            counters: Arc::clone(&self.counters),
            full_until: Arc::clone(&self.full_until),
        };
        let shared = Arc::new(shared);
        self.budget.join(&shared);
        Ok(FjallStore { shared })
    }

    fn create(&mut self, group: GroupId) -> Tree {
        self.last += 1;
        Tree::new(&self.trees, self.path.join(tree_name(group, self.last)), self.last)
    }

    fn remove(tree: Tree) -> Result<(), EngineError> {
        let path = tree.path.clone();
        tree.remove().map_err(io("remove", &path))
    }
}

impl Engine for FjallEngine {
    type Store = FjallStore;

    fn groups(&self) -> Vec<GroupId> {
        self.groups.keys().copied().collect()
    }

    fn table_files(&self) -> Vec<(GroupId, TableFile)> {
        let files = |(group, tree): (&GroupId, &Tree)| {
            let group = *group;
            table_files(tree, &tree.path).into_iter().map(move |file| (group, file))
        };
        self.groups.iter().flat_map(files).collect()
    }

    fn open_group(&mut self, group: GroupId) -> Result<FjallStore, EngineError> {
        let tree = match self.groups.get(&group) {
            Some(tree) => tree.clone(),
            None => {
                let tree = self.create(group);
                self.groups.insert(group, tree.clone());
                tree
            }
        };
        self.store(group, tree, false)
    }

    fn drop_group(&mut self, group: GroupId) -> Result<(), EngineError> {
        for tree in [self.installing.remove(&group), self.groups.remove(&group)] {
            tree.map_or(Ok(()), Self::remove)?;
        }
        Ok(())
    }

    fn begin_install(&mut self, group: GroupId) -> Result<FjallStore, EngineError> {
        self.installing.remove(&group).map_or(Ok(()), Self::remove)?;
        let tree = self.create(group);
        self.installing.insert(group, tree.clone());
        self.store(group, tree, true)
    }

    fn finish_install(&mut self, group: GroupId, store: &FjallStore) -> Result<(), EngineError> {
        store.shared.installing.store(false, Ordering::Release);
        // The position must be written even if all rows have been persisted before.
        store.shared.persist(true)?;
        self.installing.remove(&group);
        match self.groups.insert(group, store.shared.tree.clone()) {
            Some(old) => Self::remove(old),
            None => Ok(()),
        }
    }
}

impl Shared {
    pub(super) fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This group's share of the hot rows.
    pub(super) fn cache_limit(&self) -> usize {
        self.budget.squeezed(self.cache_bytes) / self.budget.members()
    }

    /// Tells the budget what is not in tables.
    fn count(&self, overlay: &Overlay) {
        let bytes = overlay.bytes();
        self.budget.moved(self.counted.swap(bytes, Ordering::Relaxed), bytes);
    }

    /// Waits until the overlays are within their limit; persists the largest here unless another
    /// thread does.
    fn make_room(&self) -> Result<(), EngineError> {
        let bytes = |group: &Self| group.counted.load(Ordering::Relaxed);
        if let Some(largest) = self.budget.largest(bytes) {
            let _one_at_a_time = largest.persisting.lock().unwrap_or_else(PoisonError::into_inner);
            if self.budget.is_exceeded() {
                largest.persist_alone(false)?;
            }
        }
        let runs = || self.tree.reader().map_or(0, |reader| reader.unmerged_runs);
        while runs() > RUNS_MAX && self.compact(Effort::Needed)? == Compacted::Merged {}
        Ok(())
    }

    /// As [`Shared::make_room`]. A disk that is full is waited for elsewhere: what was committed is
    /// in the log, and with a full disk little more will be.
    fn make_room_if_there_is_space(&self) -> Result<(), EngineError> {
        let until = || self.full_until.lock().unwrap_or_else(PoisonError::into_inner);
        if until().is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        let made = self.make_room();
        let is_full = matches!(made, Err(EngineError::Failed { full: true, .. }));
        *until() = is_full.then(|| Instant::now() + FULL_PAUSE);
        if is_full { Ok(()) } else { made }
    }

    /// Puts tables in order, one step. Waits for another thread that does.
    fn compact(&self, effort: Effort) -> Result<Compacted, EngineError> {
        let _one_at_a_time = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        let done = match self.tree.compact(effort) {
            Err(_) if self.tree.presence.is_gone() => return Ok(Compacted::Nothing),
            done => done.map_err(|error| self.merge_failed(&error))?,
        };
        if matches!(done, Compacted::Merged | Compacted::Reclaimed) {
            self.counters.compactions.fetch_add(1, Ordering::Relaxed);
            self.count_written();
        }
        if done == Compacted::Reclaimed {
            self.counters.reclaims.fetch_add(1, Ordering::Relaxed);
        }
        Ok(done)
    }

    /// Why a merge has failed: a device that fails looks the same when tables are read and when one is
    /// written, so they are all read.
    fn merge_failed(&self, error: &lsm_tree::Error) -> EngineError {
        let group = self.group;
        let damaged = |detail: String| EngineError::Damaged { group, detail };
        let at = |path: &Path, what: String| damaged(format!("{}: {what}", path.display()));
        if !matches!(error, lsm_tree::Error::Io(_)) {
            return at(&self.tree.path, error.to_string());
        }
        let failed = failed("compact", group, error);
        if failed.is_full() {
            return failed;
        }
        for file in table_files(&self.tree, &self.tree.path) {
            match file.first_damage(|_| ()) {
                Ok(None) => {}
                Ok(Some(offset)) => return at(&file.path, format!("offset {offset}")),
                Err(error) => return at(&file.path, error.to_string()),
            }
        }
        failed
    }

    fn count_written(&self) {
        if let Some(tables) = self.tree.tables.get() {
            self.counters.table_bytes_written.fetch_add(tables.written(), Ordering::Relaxed);
        }
    }

    fn persist(&self, position: bool) -> Result<LogId, EngineError> {
        let _one_at_a_time = self.persisting.lock().unwrap_or_else(PoisonError::into_inner);
        self.persist_alone(position)
    }

    fn persist_alone(&self, position: bool) -> Result<LogId, EngineError> {
        let (batch, persisted) = {
            let mut overlay = self.overlay();
            let batch = overlay.unpersisted();
            let forced = position.then(|| Batch { layers: Vec::new(), applied: overlay.applied });
            (batch.or(forced), overlay.persisted)
        };
        let Some(batch) = batch else { return Ok(persisted) };
        match self.write(&batch) {
            Ok(()) => {}
            // Nobody will ask for it again.
            Err(_) if self.tree.presence.is_gone() => return Ok(persisted),
            Err(Failure::Tables(error)) => return Err(failed("persist", self.group, &error)),
            Err(Failure::Rows(error)) => {
                let (group, detail) = (self.group, error.to_string());
                return Err(EngineError::Failed { action: "persist", group, detail, full: false });
            }
        }
        // What is read from memory now should not have to be read from tables next.
        for layer in &batch.layers {
            let mut from = Some(0);
            while let Some(at) = from {
                from = self.overlay().remember(layer, at);
            }
        }
        let mut overlay = self.overlay();
        overlay.is_persisted(&batch);
        self.count(&overlay);
        drop(overlay);
        // Dropping many rows takes a while; not under the lock.
        let applied = batch.applied;
        drop(batch);
        Ok(applied)
    }

    fn write(&self, batch: &Batch) -> Result<(), Failure> {
        let tables = self.tree.begin().map_err(Failure::Tables)?;
        let mut ingestion = tables.tree.ingestion().map_err(Failure::Tables)?;
        if !self.installing.load(Ordering::Acquire) {
            let value = encode_applied(batch.applied);
            ingestion.write(APPLIED, value.as_slice()).map_err(Failure::Tables)?;
        }
        let (mut rows, mut bytes) = (0, 0);
        let mut key = vec![ROW];
        for row in batch.rows().map_err(Failure::Rows)? {
            let (name, value) = row.map_err(Failure::Rows)?;
            key.truncate(1);
            key.extend_from_slice(&name);
            rows += 1;
            bytes += key.len();
            match &value {
                Some(value) => {
                    bytes += value.len();
                    ingestion.write(key.as_slice(), &value[..])
                }
                None => ingestion.write_tombstone(key.as_slice()),
            }
            .map_err(Failure::Tables)?;
        }
        ingestion.finish().map_err(Failure::Tables)?;
        // Before the rows leave memory.
        tables.published.publish(&tables.tree);
        self.counters.persists.fetch_add(1, Ordering::Relaxed);
        self.counters.rows_persisted.fetch_add(rows, Ordering::Relaxed);
        self.counters.bytes_persisted.fetch_add(bytes as u64, Ordering::Relaxed);
        self.count_written();
        Ok(())
    }
}

enum Failure {
    Tables(lsm_tree::Error),
    Rows(StoreError),
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.budget.moved(*self.counted.get_mut(), 0);
    }
}

impl Store for FjallStore {
    type View = FjallView;

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let shared = &*self.shared;
        if let Some(row) = shared.overlay().get(key) {
            shared.counters.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(row);
        }
        shared.counters.misses.fetch_add(1, Ordering::Relaxed);
        let row = shared.tree.get(shared.tree.reader().as_deref(), key, SeqNo::MAX)?;
        shared.overlay().cache.offer(key, row.as_ref());
        Ok(row)
    }

    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let mut overlay = self.shared.overlay();
        let mut sources = overlay.sources(from, to);
        let tree = &self.shared.tree;
        sources.push(tree.range(tree.reader().as_deref(), from, to, SeqNo::MAX));
        Merge::new(sources)?.live(limit)
    }

    fn commit(&mut self, batch: &mut WriteSet, applied: LogId) -> Result<(), StoreError> {
        if let Some((key, _)) = batch.iter().find(|(key, _)| key.len() > KEY_MAX) {
            let length = key.len();
            return Err(StoreError::new(format!("a key of {length} bytes; at most {KEY_MAX}")));
        }
        {
            let mut overlay = self.shared.overlay();
            overlay.commit(batch, applied);
            overlay.cache.set_limit(self.shared.cache_limit());
            self.shared.count(&overlay);
        }
        if self.shared.budget.is_exceeded() {
            let started = Instant::now();
            self.shared.make_room_if_there_is_space().map_err(|error| match error.is_damage() {
                true => StoreError::damage(error),
                false => StoreError::new(error),
            })?;
            let counters = &self.shared.counters;
            counters.stalls.fetch_add(1, Ordering::Relaxed);
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            counters.stall_micros.fetch_add(micros, Ordering::Relaxed);
        }
        Ok(())
    }

    fn applied(&self) -> LogId {
        self.shared.overlay().applied
    }

    fn view(&self) -> Result<FjallView, StoreError> {
        let mut overlay = self.shared.overlay();
        let mut layers = overlay.freeze();
        layers.reverse();
        // Taken under the lock, so that no layer leaves for the tables in between.
        let tree = self.shared.tree.clone();
        let reader = tree.reader();
        let instant = tree.open_view();
        Ok(FjallView { layers, tree, reader, instant })
    }
}

impl GroupStore for FjallStore {
    type Persister = FjallPersister;

    fn persister(&self) -> FjallPersister {
        FjallPersister { shared: Arc::clone(&self.shared) }
    }
}

impl Persist for FjallPersister {
    fn persist(&self) -> Result<LogId, EngineError> {
        self.shared.persist(false)
    }

    fn persisted(&self) -> LogId {
        self.shared.overlay().persisted
    }

    fn presence(&self) -> Presence {
        self.shared.tree.presence.clone()
    }

    fn is_due(&self) -> bool {
        self.shared.budget.is_due(self.shared.counted.load(Ordering::Relaxed))
    }

    fn compact(&self, effort: Effort) -> Result<Compacted, EngineError> {
        self.shared.compact(effort)
    }
}

impl StoreView for FjallView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if let Some(row) = self.layers.iter().find_map(|layer| layer.get(key)) {
            return Ok(row.clone());
        }
        self.tree.get(self.reader.as_deref(), key, self.instant)
    }

    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let mut sources: Vec<Source<'_>> =
            self.layers.iter().map(|layer| layer.range(from, to)).collect();
        sources.push(self.tree.range(self.reader.as_deref(), from, to, self.instant));
        Merge::new(sources)?.live(limit)
    }
}

impl Drop for FjallView {
    fn drop(&mut self) {
        self.tree.close_view(self.instant);
    }
}

pub(super) fn tree_name(group: GroupId, number: u64) -> String {
    format!("g{}.{number}", group.get())
}

pub(super) fn parse_name(name: &str) -> Option<(GroupId, u64)> {
    let (group, number) = name.strip_prefix('g')?.split_once('.')?;
    Some((GroupId(group.parse().ok()?), number.parse().ok()?))
}

/// What a start finds.
struct Found {
    groups: BTreeMap<GroupId, Tree>,
    damaged: BTreeMap<GroupId, Damage>,
}

/// For each group the highest tree that has an applied position, else the lowest; the others are
/// what a crash left of an install. A tree that cannot be opened is put aside.
fn choose_trees(path: &Path, trees: &Arc<Trees>) -> Result<Found, EngineError> {
    let mut found: BTreeMap<(GroupId, u64), PathBuf> = BTreeMap::new();
    let mut aside = Vec::new();
    for name in RealDisk.list(path).map_err(io("list", path))? {
        let file = path.join(&name);
        if name.ends_with(GONE) {
            fs::remove_dir_all(&file).map_err(io("remove", &file))?;
        } else if let Some(id) = name.strip_suffix(DAMAGED).and_then(parse_name) {
            aside.push((id.0, file));
        } else if let Some(id) = parse_name(&name) {
            found.insert(id, file);
        }
    }
    let mut chosen: BTreeMap<GroupId, (bool, Tree)> = BTreeMap::new();
    let mut damaged = BTreeMap::new();
    for ((group, number), path) in found {
        let (tree, complete) = match open_checked(trees, &path, number) {
            Ok(opened) => opened,
            Err(EngineError::Unusable { detail, .. }) => {
                let path = put_aside(&path)?;
                damaged.insert(group, Damage { path, detail });
                continue;
            }
            Err(error) => return Err(error),
        };
        let keep = complete || !chosen.contains_key(&group);
        let dropped = if keep {
            chosen.insert(group, (complete, tree)).map(|(_, tree)| tree)
        } else {
            Some(tree)
        };
        dropped.map_or(Ok(()), FjallEngine::remove)?;
    }
    for (group, file) in aside {
        if chosen.get(&group).is_some_and(|(complete, _)| *complete) {
            fs::remove_dir_all(&file).map_err(io("remove", &file))?;
        }
    }
    let groups = chosen.into_iter().map(|(group, (_, tree))| (group, tree)).collect();
    Ok(Found { groups, damaged })
}

fn put_aside(path: &Path) -> Result<PathBuf, EngineError> {
    let mut aside = path.to_path_buf().into_os_string();
    aside.push(DAMAGED);
    let aside = PathBuf::from(aside);
    RealDisk.remove_dir(&aside).map_err(io("remove", &aside))?;
    fs::rename(path, &aside).map_err(io("rename", path))?;
    if let Some(parent) = path.parent() {
        RealDisk.sync_dir(parent).map_err(io("sync", parent))?;
    }
    Ok(aside)
}

/// A tree, and whether it has an applied position.
fn open_checked(trees: &Arc<Trees>, path: &Path, number: u64) -> Result<(Tree, bool), EngineError> {
    let unusable = |detail: String| EngineError::Unusable { path: path.to_path_buf(), detail };
    // The tree has assertions on what it reads from files; a panic there is an error here.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        check_manifest(path).map_err(|(file, detail)| format!("{}: {detail}", file.display()))?;
        let tree = Tree::new(trees, path.to_path_buf(), number);
        tree.begin().map_err(|error| error.to_string())?;
        let complete = tree.applied()?.is_some();
        Ok((tree, complete))
    }));
    opened.unwrap_or_else(|_| Err("it panicked on its files".to_owned())).map_err(unusable)
}

fn failed(action: &'static str, group: GroupId, error: &lsm_tree::Error) -> EngineError {
    let full = match error {
        lsm_tree::Error::Io(error) => error.kind() == std::io::ErrorKind::StorageFull,
        _ => false,
    };
    EngineError::Failed { action, group, detail: error.to_string(), full }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> EngineError {
    let path = path.to_path_buf();
    move |source| EngineError::Io { action, path, source }
}
