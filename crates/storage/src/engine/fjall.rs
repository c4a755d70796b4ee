//! The engine for data larger than memory: tables of the `fjall` LSM under an overlay in memory.
//!
//! One keyspace per group in one database. Nothing ever goes through fjall's journal: persisting
//! writes a sorted run of tables with fjall's bulk ingestion, which syncs the tables and then names
//! them in a synced manifest, all or nothing. The position applied is a row of the same run. So the
//! journal holds nothing, and every start deletes it before fjall can try to believe it
//! (PROTOCOL 4c).
//!
//! Keyspaces are named `g<group>.<number>`. A snapshot is installed into the next number; the row
//! with the applied position, written last and with everything else durable, is what makes that
//! keyspace the group's. A start keeps the highest such keyspace and drops the others.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, Readable, Snapshot};
use bytes::Bytes;
use kontiki_kv::{Store, StoreError, StoreView, WriteSet};
use kontiki_types::{GroupId, Index, LogId, Term};

use super::merge::{Merge, Source};
use super::overlay::{Batch, EngineCounters, EngineCounts, Layer, Overlay};
use super::{Engine, EngineError, GroupStore, Persist};

/// Key of the row with the applied position.
const APPLIED: &[u8] = b"a";
/// Prefix of all other rows' keys.
const ROW: u8 = b'k';
/// Longest key of a row: fjall's limit of 65535 less the prefix, rounded down.
const KEY_MAX: usize = 65_000;

/// Sizes of a [`FjallEngine`].
#[derive(Clone, Copy, Debug)]
pub struct FjallConfig {
    /// Most bytes per group that are committed and not yet in tables. Beyond it a commit persists
    /// them itself. Default 64 MiB.
    pub overlay_bytes: usize,
    /// Bytes of hot rows kept per group. Default 64 MiB.
    pub cache_bytes: usize,
    /// Bytes of table blocks kept by fjall, for all groups. Default 32 MiB.
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
    database: Database,
    groups: BTreeMap<GroupId, Keyspace>,
    installing: BTreeMap<GroupId, Keyspace>,
    counters: Arc<EngineCounters>,
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
    keyspace: Keyspace,
    snapshot: Snapshot,
}

struct Shared {
    group: GroupId,
    database: Database,
    keyspace: Keyspace,
    overlay: Mutex<Overlay>,
    /// Held while persisting: one at a time.
    persisting: Mutex<()>,
    overlay_bytes: usize,
    /// A snapshot is being installed: the applied position must not be written yet.
    installing: AtomicBool,
    counters: Arc<EngineCounters>,
}

impl FjallEngine {
    /// Opens the engine in `path`, or begins one there. Only what was persisted is there.
    ///
    /// # Errors
    /// [`EngineError::Unusable`]: the driver then calls [`FjallEngine::discard`], opens again and
    /// rebuilds every group.
    pub fn open(path: &Path, config: FjallConfig) -> Result<Self, EngineError> {
        std::fs::create_dir_all(path).map_err(io("create", path))?;
        delete_journals(path)?;
        let unusable = |detail: String| EngineError::Unusable { path: path.to_path_buf(), detail };
        // fjall has assertions on what it reads from files; a panic there is an error here.
        let opened = catch_unwind(AssertUnwindSafe(|| -> Result<_, EngineError> {
            let database = Database::builder(path)
                .cache_size(config.block_cache_bytes)
                .manual_journal_persist(true)
                .worker_threads(1)
                .open()
                .map_err(|error| unusable(error.to_string()))?;
            let groups = choose_keyspaces(&database).map_err(unusable)?;
            Ok((database, groups))
        }));
        let (database, groups) =
            opened.unwrap_or_else(|_| Err(unusable("it panicked on its files".into())))?;
        Ok(Self {
            path: path.to_path_buf(),
            config,
            database,
            groups,
            installing: BTreeMap::new(),
            counters: Arc::default(),
        })
    }

    /// Removes the engine's files, so that the next [`FjallEngine::open`] begins with nothing.
    ///
    /// # Errors
    /// What the disk gives.
    pub fn discard(path: &Path) -> Result<(), EngineError> {
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(io("remove", path)),
        }
    }

    /// The engine's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the engine has done since it was opened.
    pub fn counts(&self) -> EngineCounts {
        self.counters.read()
    }

    /// Bytes that the tables take on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.groups.values().map(Keyspace::disk_space).sum()
    }

    fn store(
        &self,
        group: GroupId,
        keyspace: Keyspace,
        installing: bool,
    ) -> Result<FjallStore, String> {
        let applied = read_applied(&keyspace)?.unwrap_or(LogId::ZERO);
        let shared = Shared {
            group,
            database: self.database.clone(),
            keyspace,
            overlay: Mutex::new(Overlay::new(applied, self.config.cache_bytes)),
            persisting: Mutex::new(()),
            overlay_bytes: self.config.overlay_bytes,
            installing: AtomicBool::new(installing),
            counters: Arc::clone(&self.counters),
        };
        Ok(FjallStore { shared: Arc::new(shared) })
    }

    fn create(&self, group: GroupId, number: u64) -> Result<Keyspace, EngineError> {
        self.database
            .keyspace(&keyspace_name(group, number), KeyspaceCreateOptions::default)
            .map_err(|error| failed("create", group, &error))
    }

    fn delete(&self, group: GroupId, keyspace: Keyspace) -> Result<(), EngineError> {
        self.database.delete_keyspace(keyspace).map_err(|error| failed("delete", group, &error))
    }
}

impl Engine for FjallEngine {
    type Store = FjallStore;

    fn groups(&self) -> Vec<GroupId> {
        self.groups.keys().copied().collect()
    }

    fn open_group(&mut self, group: GroupId) -> Result<FjallStore, EngineError> {
        let keyspace = match self.groups.get(&group) {
            Some(keyspace) => keyspace.clone(),
            None => {
                let keyspace = self.create(group, 1)?;
                self.groups.insert(group, keyspace.clone());
                keyspace
            }
        };
        self.store(group, keyspace, false)
            .map_err(|detail| EngineError::Unusable { path: self.path.clone(), detail })
    }

    fn drop_group(&mut self, group: GroupId) -> Result<(), EngineError> {
        for keyspace in [self.installing.remove(&group), self.groups.remove(&group)] {
            if let Some(keyspace) = keyspace {
                self.delete(group, keyspace)?;
            }
        }
        Ok(())
    }

    fn begin_install(&mut self, group: GroupId) -> Result<FjallStore, EngineError> {
        if let Some(abandoned) = self.installing.remove(&group) {
            self.delete(group, abandoned)?;
        }
        let present = self.groups.get(&group).and_then(|keyspace| parse_name(keyspace.name()));
        let mut number = present.map_or(1, |(_, number)| number + 1);
        while self.database.keyspace_exists(&keyspace_name(group, number)) {
            number += 1;
        }
        let keyspace = self.create(group, number)?;
        self.installing.insert(group, keyspace.clone());
        self.store(group, keyspace, true)
            .map_err(|detail| EngineError::Unusable { path: self.path.clone(), detail })
    }

    fn finish_install(&mut self, group: GroupId, store: &FjallStore) -> Result<(), EngineError> {
        store.shared.installing.store(false, Ordering::Release);
        // The position must be written even if all rows have been persisted before.
        store.shared.persist(true)?;
        let installed = self.installing.remove(&group);
        let keyspace = installed.unwrap_or_else(|| store.shared.keyspace.clone());
        if let Some(old) = self.groups.insert(group, keyspace) {
            self.delete(group, old)?;
        }
        Ok(())
    }
}

impl Shared {
    fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the overlay is within its limit; persists it here unless another thread does.
    fn make_room(&self) -> Result<(), EngineError> {
        let one_at_a_time = self.persisting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.overlay().bytes() > self.overlay_bytes {
            self.persist_alone(false)?;
        }
        drop(one_at_a_time);
        Ok(())
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
        self.write(&batch).map_err(|error| match error {
            Failure::Tables(error) => failed("persist", self.group, &error),
            Failure::Rows(error) => EngineError::Failed {
                action: "persist",
                group: self.group,
                detail: error.to_string(),
                full: false,
            },
        })?;
        self.overlay().is_persisted(&batch);
        // Dropping many rows takes a while; not under the lock.
        let applied = batch.applied;
        drop(batch);
        Ok(applied)
    }

    fn write(&self, batch: &Batch) -> Result<(), Failure> {
        let mut ingestion = self.keyspace.start_ingestion().map_err(Failure::Tables)?;
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
        self.counters.persists.fetch_add(1, Ordering::Relaxed);
        self.counters.rows_persisted.fetch_add(rows, Ordering::Relaxed);
        self.counters.bytes_persisted.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }
}

enum Failure {
    Tables(::fjall::Error),
    Rows(StoreError),
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
        let row = shared.keyspace.get(row_key(key)).map_err(StoreError::new)?;
        let row = row.map(|row| Bytes::copy_from_slice(&row));
        shared.overlay().cache.insert(Bytes::copy_from_slice(key), row.clone());
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
        let overlay = self.shared.overlay();
        let mut sources = overlay.sources(from, to);
        let tables = self.shared.keyspace.range(row_key(from)..row_key(to));
        sources.push(table_rows(tables));
        Merge::new(sources)?.live(limit)
    }

    fn commit(&mut self, batch: &mut WriteSet, applied: LogId) -> Result<(), StoreError> {
        if let Some((key, _)) = batch.iter().find(|(key, _)| key.len() > KEY_MAX) {
            let length = key.len();
            return Err(StoreError::new(format!("a key of {length} bytes; at most {KEY_MAX}")));
        }
        let bytes = {
            let mut overlay = self.shared.overlay();
            overlay.commit(batch, applied);
            overlay.bytes()
        };
        if bytes > self.shared.overlay_bytes {
            let started = Instant::now();
            self.shared.make_room().map_err(StoreError::new)?;
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
        let snapshot = self.shared.database.snapshot();
        Ok(FjallView { layers, keyspace: self.shared.keyspace.clone(), snapshot })
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

    fn is_due(&self) -> bool {
        self.shared.overlay().bytes() > self.shared.overlay_bytes / 2
    }
}

impl StoreView for FjallView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if let Some(row) = self.layers.iter().find_map(|layer| layer.rows.get(key)) {
            return Ok(row.clone());
        }
        let row = self.snapshot.get(&self.keyspace, row_key(key)).map_err(StoreError::new)?;
        Ok(row.map(|row| Bytes::copy_from_slice(&row)))
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
        let tables = self.snapshot.range(&self.keyspace, row_key(from)..row_key(to));
        sources.push(table_rows(tables));
        Merge::new(sources)?.live(limit)
    }
}

fn row_key(key: &[u8]) -> Vec<u8> {
    let mut prefixed = Vec::with_capacity(key.len() + 1);
    prefixed.push(ROW);
    prefixed.extend_from_slice(key);
    prefixed
}

fn table_rows<'a>(rows: ::fjall::Iter) -> Source<'a> {
    Box::new(rows.map(|row| {
        let (key, value) = row.into_inner().map_err(StoreError::new)?;
        Ok((Bytes::copy_from_slice(&key[1..]), Some(Bytes::copy_from_slice(&value))))
    }))
}

fn encode_applied(applied: LogId) -> [u8; 16] {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&applied.term.get().to_le_bytes());
    value[8..].copy_from_slice(&applied.index.get().to_le_bytes());
    value
}

fn read_applied(keyspace: &Keyspace) -> Result<Option<LogId>, String> {
    let Some(value) = keyspace.get(APPLIED).map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let value: [u8; 16] = (&*value).try_into().map_err(|_| "a damaged applied position")?;
    let (mut term, mut index) = ([0; 8], [0; 8]);
    term.copy_from_slice(&value[..8]);
    index.copy_from_slice(&value[8..]);
    Ok(Some(LogId::new(Term(u64::from_le_bytes(term)), Index(u64::from_le_bytes(index)))))
}

fn keyspace_name(group: GroupId, number: u64) -> String {
    format!("g{}.{number}", group.get())
}

fn parse_name(name: &str) -> Option<(GroupId, u64)> {
    let (group, number) = name.strip_prefix('g')?.split_once('.')?;
    Some((GroupId(group.parse().ok()?), number.parse().ok()?))
}

/// For each group the highest keyspace that has an applied position, else the lowest; the others
/// are what a crash left of an install.
fn choose_keyspaces(database: &Database) -> Result<BTreeMap<GroupId, Keyspace>, String> {
    let mut found: BTreeMap<(GroupId, u64), Keyspace> = BTreeMap::new();
    for name in database.list_keyspace_names() {
        let Some(id) = parse_name(&name) else { return Err(format!("unknown keyspace {name}")) };
        let keyspace = database
            .keyspace(&name, KeyspaceCreateOptions::default)
            .map_err(|error| error.to_string())?;
        found.insert(id, keyspace);
    }
    let mut chosen: BTreeMap<GroupId, (bool, Keyspace)> = BTreeMap::new();
    for ((group, _), keyspace) in found {
        let complete = read_applied(&keyspace)?.is_some();
        let keep = complete || !chosen.contains_key(&group);
        let dropped = if keep {
            chosen.insert(group, (complete, keyspace)).map(|(_, keyspace)| keyspace)
        } else {
            Some(keyspace)
        };
        if let Some(keyspace) = dropped {
            database.delete_keyspace(keyspace).map_err(|error| error.to_string())?;
        }
    }
    Ok(chosen.into_iter().map(|(group, (_, keyspace))| (group, keyspace)).collect())
}

/// Removes fjall's journal files: see the module's documentation.
fn delete_journals(path: &Path) -> Result<(), EngineError> {
    for entry in std::fs::read_dir(path).map_err(io("list", path))? {
        let file = entry.map_err(io("list", path))?.path();
        if file.extension().is_some_and(|extension| extension == "jnl") {
            std::fs::remove_file(&file).map_err(io("remove", &file))?;
        }
    }
    Ok(())
}

fn failed(action: &'static str, group: GroupId, error: &::fjall::Error) -> EngineError {
    let full = match error {
        ::fjall::Error::Io(error) | ::fjall::Error::Storage(::fjall::LsmError::Io(error)) => {
            error.kind() == std::io::ErrorKind::StorageFull
        }
        _ => false,
    };
    EngineError::Failed { action, group, detail: error.to_string(), full }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> EngineError {
    let path = path.to_path_buf();
    move |source| EngineError::Io { action, path, source }
}
