//! What readers have of a tree's tables.
//!
//! The tree keeps its versions under a lock that is held while a new one is made durable, for as long
//! as the disk takes. Whoever reads for clients must not wait for that, so each version is published
//! once it is there: readers take the last one that was.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use lsm_tree::table::filter::standard_bloom::Builder as Filter;
use lsm_tree::{AbstractTree, AnyTree, KvPair, SeqNo, Slice, Tree};

type Get = dyn Fn(&[u8], SeqNo) -> lsm_tree::Result<Option<Slice>> + Send + Sync;
type Pairs = Box<dyn Iterator<Item = lsm_tree::Result<KvPair>>>;
type Range = dyn Fn(&[u8], &[u8], SeqNo) -> Pairs + Send + Sync;

/// One version of a tree's tables. They stay as long as somebody has it. What it sees of them has a
/// lower sequence number than the instant that is asked for.
pub(super) struct Reader {
    // Functions, since the type of a version has no name outside its library.
    get: Box<Get>,
    range: Box<Range>,
    /// Bytes of the tables.
    pub(super) disk_bytes: u64,
    /// Runs of tables that nobody has merged.
    pub(super) unmerged_runs: usize,
}

impl Reader {
    fn of(tree: &AnyTree) -> Self {
        let whole = tree.get_version_history_lock().latest_version();
        let tables = tree.current_version();
        let get = move |key: &[u8], instant| {
            let hash = Filter::get_hash(key);
            let runs = tables.iter_levels().flat_map(|level| level.iter());
            for table in runs.filter_map(|run| run.get_for_key(key)) {
                // Upper levels have the newer rows.
                if let Some(item) = table.get(key, instant, hash)? {
                    return Ok((!item.is_tombstone()).then_some(item.value));
                }
            }
            Ok(None)
        };
        let range = move |from: &[u8], to: &[u8], instant| -> Pairs {
            let pairs = Tree::create_internal_range(whole.clone(), &(from..to), instant, None);
            Box::new(pairs.map(|pair| pair.map(|pair| (pair.key.user_key, pair.value))))
        };
        Self {
            get: Box::new(get),
            range: Box::new(range),
            disk_bytes: tree.disk_space(),
            unmerged_runs: tree.l0_run_count(),
        }
    }

    /// The value of a row.
    ///
    /// # Errors
    /// A table is damaged, or cannot be read.
    pub(super) fn get(&self, key: &[u8], instant: SeqNo) -> lsm_tree::Result<Option<Slice>> {
        (self.get)(key, instant)
    }

    /// The rows from `from` to before `to`.
    pub(super) fn range(&self, from: &[u8], to: &[u8], instant: SeqNo) -> Pairs {
        (self.range)(from, to, instant)
    }
}

/// Where readers find the last version.
pub(super) struct Published {
    reader: RwLock<Arc<Reader>>,
    /// One at a time, so that an older version never follows a newer one.
    publishing: Mutex<()>,
}

impl Published {
    pub(super) fn new(tree: &AnyTree) -> Self {
        Self { reader: RwLock::new(Arc::new(Reader::of(tree))), publishing: Mutex::new(()) }
    }

    /// What the tree has by now is what is read from here on. Waits while a version is made durable.
    pub(super) fn publish(&self, tree: &AnyTree) {
        let _one_at_a_time = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = Arc::new(Reader::of(tree));
        let mut reader = self.reader.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *reader, latest);
        drop(reader);
        // With it may go tables, which takes milliseconds.
        drop(before);
    }

    pub(super) fn reader(&self) -> Arc<Reader> {
        Arc::clone(&self.reader.read().unwrap_or_else(PoisonError::into_inner))
    }
}
