//! What a group has on disk: a tree of sorted tables, and the views of it that are open.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use kontiki_kv::StoreError;
use kontiki_types::{Index, LogId, Term};
use lsm_tree::config::{PartitioningPolicy, PinningPolicy};
use lsm_tree::{
    AbstractTree, AnyTree, Cache as BlockCache, Config, DescriptorTable, SeqNo,
    SequenceNumberCounter, TableId,
};

use super::Presence;
use super::merge::Source;
use super::reader::{Published, Reader};
use crate::disk::{Disk, RealDisk};

/// Key of the row with the applied position.
pub(super) const APPLIED: &[u8] = b"a";
/// Prefix of all other rows' keys.
pub(super) const ROW: u8 = b'k';
/// Ending of a tree's directory that is being removed.
pub(super) const GONE: &str = ".gone";
/// Ending of a tree's directory that could not be opened. Kept for whoever wants to look at it,
/// until its group has a state again.
pub(super) const DAMAGED: &str = ".damaged";
/// Files of all trees that are kept open.
const OPEN_FILES: usize = 256;

/// Opens trees with what they share.
pub(super) struct Trees {
    pub(super) cache: Arc<BlockCache>,
    descriptors: Arc<DescriptorTable>,
}

/// A tree, and the views of it that compaction must leave intact.
#[derive(Clone)]
pub(super) struct Tree {
    trees: Arc<Trees>,
    /// Empty until something is persisted.
    pub(super) tables: Arc<OnceLock<Tables>>,
    pub(super) path: PathBuf,
    pub(super) number: u64,
    /// Instants of open views, with how many views have each.
    views: Arc<Mutex<BTreeMap<SeqNo, usize>>>,
    /// Whoever has the tree goes on when it is removed. Held while tables are begun.
    pub(super) presence: Presence,
}

/// What a tree has on disk.
pub(super) struct Tables {
    pub(super) tree: AnyTree,
    /// What is read, by whoever waits for no disk.
    pub(super) published: Published,
    visible: SequenceNumberCounter,
    /// Tables whose bytes are counted as written.
    counted: Mutex<BTreeSet<TableId>>,
}

/// The sequence number that a tree begins with. Not 0: an instant of 0 would mean the oldest version
/// that is kept.
const FIRST: SeqNo = 1;

impl Trees {
    /// With so many bytes for blocks of all trees.
    pub(super) fn new(block_cache_bytes: u64) -> Self {
        Self {
            cache: Arc::new(BlockCache::with_capacity_bytes(block_cache_bytes)),
            descriptors: Arc::new(DescriptorTable::new(OPEN_FILES)),
        }
    }

    fn open(&self, path: &Path) -> Result<Tables, lsm_tree::Error> {
        let (next, visible) =
            (SequenceNumberCounter::new(FIRST), SequenceNumberCounter::new(FIRST));
        let tree = Config::new(path, next.clone(), visible.clone())
            .use_cache(Arc::clone(&self.cache))
            .use_descriptor_table(Some(Arc::clone(&self.descriptors)))
            // What finds a row is read in small pieces, like the rows, and shares their cache: memory
            // is bounded by that, however many rows there are.
            .index_block_partitioning_policy(PartitioningPolicy::all(true))
            .filter_block_partitioning_policy(PartitioningPolicy::all(true))
            .index_block_pinning_policy(PinningPolicy::all(false))
            .filter_block_pinning_policy(PinningPolicy::all(false))
            .open()?;
        // Newer rows win by their sequence numbers, so they go on where the tables end.
        let after = tree.get_highest_persisted_seqno().map_or(FIRST, |highest| highest + 1);
        next.fetch_max(after);
        visible.fetch_max(after);
        let tables = tree.current_version();
        let counted = tables.iter_tables().map(|table| table.metadata.id).collect();
        let published = Published::new(&tree);
        Ok(Tables { tree, published, visible, counted: Mutex::new(counted) })
    }
}

impl Tables {
    /// Bytes of the tables that have come since this was asked for last.
    pub(super) fn written(&self) -> u64 {
        let version = self.tree.current_version();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut present = BTreeSet::new();
        let mut bytes = 0;
        for table in version.iter_tables() {
            if !counted.contains(&table.metadata.id) {
                bytes += table.metadata.file_size;
            }
            present.insert(table.metadata.id);
        }
        *counted = present;
        bytes
    }
}

impl Tree {
    pub(super) fn new(trees: &Arc<Trees>, path: PathBuf, number: u64) -> Self {
        let (tables, views) = (Arc::default(), Arc::default());
        let presence = Presence::default();
        Self { trees: Arc::clone(trees), tables, path, number, views, presence }
    }

    /// The tables, if there are any.
    pub(super) fn tables(&self) -> Option<&Tables> {
        self.tables.get()
    }

    /// The tables, begun if there are none. One caller at a time.
    ///
    /// # Errors
    /// What the disk gives, and that nothing is found when the tree was removed.
    pub(super) fn begin(&self) -> Result<&Tables, lsm_tree::Error> {
        if let Some(tables) = self.tables.get() {
            return Ok(tables);
        }
        let is_gone = self.presence.lock();
        if *is_gone {
            return Err(std::io::Error::from(std::io::ErrorKind::NotFound).into());
        }
        let is_new = !self.path.exists();
        let tables = self.trees.open(&self.path)?;
        if is_new && let Some(parent) = self.path.parent() {
            RealDisk.sync_dir(parent)?;
        }
        Ok(self.tables.get_or_init(|| tables))
    }

    /// What is read from here on, if there are tables.
    pub(super) fn reader(&self) -> Option<Arc<Reader>> {
        self.tables.get().map(|tables| tables.published.reader())
    }

    /// What is visible has a lower sequence number.
    pub(super) fn visible(&self) -> SeqNo {
        self.tables.get().map_or(FIRST, |tables| tables.visible.get())
    }

    fn views(&self) -> MutexGuard<'_, BTreeMap<SeqNo, usize>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An instant that stays readable until it is closed.
    pub(super) fn open_view(&self) -> SeqNo {
        let mut views = self.views();
        let instant = self.visible();
        *views.entry(instant).or_default() += 1;
        instant
    }

    pub(super) fn close_view(&self, instant: SeqNo) {
        let mut views = self.views();
        if let Some(count) = views.get_mut(&instant) {
            *count -= 1;
            if *count == 0 {
                views.remove(&instant);
            }
        }
    }

    /// What the oldest open view sees has a lower sequence number, and so has what a view that opens
    /// from here on sees.
    pub(super) fn oldest_view(&self) -> SeqNo {
        let views = self.views();
        views.keys().next().copied().unwrap_or_else(|| self.visible())
    }

    /// A row, as a version of the tables has it.
    pub(super) fn get(
        &self,
        reader: Option<&Reader>,
        key: &[u8],
        instant: SeqNo,
    ) -> Result<Option<Bytes>, StoreError> {
        let Some(reader) = reader else { return Ok(None) };
        let row = reader.get(&row_key(key), instant).map_err(|error| self.damaged(&error))?;
        Ok(row.map(|row| Bytes::copy_from_slice(&row)))
    }

    /// The rows from `from` to before `to`, as a version of the tables has them.
    pub(super) fn range(
        &self,
        reader: Option<&Reader>,
        from: &[u8],
        to: &[u8],
        instant: SeqNo,
    ) -> Source<'_> {
        let Some(reader) = reader else { return Box::new(std::iter::empty()) };
        Box::new(reader.range(&row_key(from), &row_key(to), instant).map(|row| {
            let (key, value) = row.map_err(|error| self.damaged(&error))?;
            Ok((Bytes::copy_from_slice(&key[1..]), Some(Bytes::copy_from_slice(&value))))
        }))
    }

    fn damaged(&self, error: &lsm_tree::Error) -> StoreError {
        StoreError::damage(format!("{}: {error}", self.path.display()))
    }

    pub(super) fn applied(&self) -> Result<Option<LogId>, String> {
        let Some(tables) = self.tables.get() else { return Ok(None) };
        let value = tables.tree.get(APPLIED, SeqNo::MAX).map_err(|error| error.to_string())?;
        value.map(|value| decode_applied(&value)).transpose()
    }

    /// Removes the tree's directory, so that a crash leaves it whole or gone.
    pub(super) fn remove(self) -> std::io::Result<()> {
        self.presence.end();
        let Self { tables, path, .. } = self;
        if tables.get().is_none() {
            return Ok(());
        }
        drop(tables);
        let mut gone = path.clone().into_os_string();
        gone.push(GONE);
        fs::rename(&path, &gone)?;
        if let Some(parent) = path.parent() {
            RealDisk.sync_dir(parent)?;
        }
        fs::remove_dir_all(gone)
    }
}

fn row_key(key: &[u8]) -> Vec<u8> {
    let mut prefixed = Vec::with_capacity(key.len() + 1);
    prefixed.push(ROW);
    prefixed.extend_from_slice(key);
    prefixed
}

pub(super) fn encode_applied(applied: LogId) -> [u8; 16] {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&applied.term.get().to_le_bytes());
    value[8..].copy_from_slice(&applied.index.get().to_le_bytes());
    value
}

fn decode_applied(value: &[u8]) -> Result<LogId, String> {
    let value: [u8; 16] = value.try_into().map_err(|_| "a damaged applied position")?;
    let (mut term, mut index) = ([0; 8], [0; 8]);
    term.copy_from_slice(&value[..8]);
    index.copy_from_slice(&value[8..]);
    Ok(LogId::new(Term(u64::from_le_bytes(term)), Index(u64::from_le_bytes(index))))
}
