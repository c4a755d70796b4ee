//! State engines: where the applied state of each group lives.
//!
//! The Raft log is the write-ahead log of every engine. A [commit](kontiki_kv::Store::commit) is
//! visible at once and durable later; what a crash leaves is the state as of some commit at or
//! after the last one *persisted*, whole, with its applied index. The log may be purged only up to
//! a persisted index, and a restart replays the rest.

mod budget;
mod cache;
mod compaction;
mod layer;
mod lsm;
mod memory;
mod merge;
mod meter;
mod overlay;
mod reader;
mod row_key;
mod tables;
#[cfg(test)]
mod tests;
mod verify;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kontiki_kv::Store;
use kontiki_types::{GroupId, LogId};

use crate::disk::hint;

pub use lsm::{Damage, FjallConfig, FjallEngine, FjallPersister, FjallStore, FjallView};
pub use memory::{MemoryEngine, MemoryPersister, MemoryStore, MemoryView};
pub use meter::{EngineMeter, EngineUsage};
pub use overlay::EngineCounts;
pub use verify::{GroupState, TableFile, link_states, verify_states};

/// All groups' states on one node.
pub trait Engine: Send + 'static {
    /// One group's state.
    type Store: GroupStore;

    /// The groups that have a state here.
    fn groups(&self) -> Vec<GroupId>;

    /// The state of `group`; an empty one is begun if there is none. To be called once per group
    /// and start.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn open_group(&mut self, group: GroupId) -> Result<Self::Store, EngineError>;

    /// The table files of all states at this moment, to be read and compared; none if the engine has
    /// no files.
    fn table_files(&self) -> Vec<(GroupId, TableFile)> {
        Vec::new()
    }

    /// Discards the state of `group`, as a whole.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn drop_group(&mut self, group: GroupId) -> Result<(), EngineError>;

    /// An empty state beside that of `group`, to install a snapshot in. A crash before
    /// [`Engine::finish_install`] has returned leaves the old state or the new one.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn begin_install(&mut self, group: GroupId) -> Result<Self::Store, EngineError>;

    /// Puts the state that [`Engine::begin_install`] gave, filled and committed, in the place of
    /// that of `group`. On return it is durable, and the old one is gone. Only then may the log
    /// record that names the snapshot be written.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn finish_install(&mut self, group: GroupId, store: &Self::Store) -> Result<(), EngineError>;
}

/// One group's state, with a way to make it durable.
pub trait GroupStore: Store<View: Sync + 'static> + Send + 'static {
    /// See [`GroupStore::persister`].
    type Persister: Persist;

    /// A handle that makes the state durable from another thread while commits go on.
    fn persister(&self) -> Self::Persister;
}

/// Makes a group's state durable.
pub trait Persist: Clone + Send + Sync + 'static {
    /// Makes what was committed before the call durable, and returns the applied position up to
    /// which the state is: the log may be purged up to it.
    ///
    /// # Errors
    /// See [`EngineError`]. What was persisted before still is.
    fn persist(&self) -> Result<LogId, EngineError>;

    /// The applied position up to which the state is durable.
    fn persisted(&self) -> LogId;

    /// Whether this is still the state of its group.
    fn presence(&self) -> Presence;

    /// Whether enough has gathered that [`Persist::persist`] should run soon: commits stall
    /// otherwise.
    fn is_due(&self) -> bool;

    /// Takes a step towards putting in order what has been persisted, if one is due. It takes up to
    /// seconds and changes nothing that a reader sees; to be called from a thread of its own after
    /// [`Persist::persist`], which goes on beside it, and after a start.
    ///
    /// # Errors
    /// See [`EngineError`]: [`EngineError::Damaged`] if a table cannot be read. Nothing is lost.
    fn compact(&self, effort: Effort) -> Result<Compacted, EngineError>;
}

/// Which merges of tables are worth their cost. Each has those before it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// Without which more and more is to be looked at for each read.
    Needed,
    /// Those that only give back space.
    Space,
    /// Those that leave little to be looked at for each read, which writes soon undo: for when nothing
    /// is written.
    Reads,
}

/// Whether a state is still that of its group: until the group is dropped, or another state is
/// installed. What is said of a state that is gone is not true of the one that follows it.
#[derive(Clone, Debug, Default)]
pub struct Presence(Arc<Mutex<bool>>);

impl Presence {
    /// Whether the state is gone, for good.
    pub fn is_gone(&self) -> bool {
        *self.lock()
    }

    /// It does not go while this is held. Whether it has gone.
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        *self.lock() = true;
    }
}

/// What came of a step of [`Persist::compact`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compacted {
    /// Tables were merged since there were too many; another step may be due.
    Merged,
    /// Tables were merged to give back the space of what was deleted; another step may be due, and
    /// has time.
    Reclaimed,
    /// Space can be given back when views that are open have been closed. Nobody says when; try again.
    Held,
    /// Nothing is to be done until something is persisted.
    Nothing,
}

/// Why an engine failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Another process has the engine open.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// A group's files cannot be used. Its state is to be rebuilt from the log or from a peer.
    #[error("the state in {path} cannot be opened and must be rebuilt: {detail}")]
    Unusable {
        /// The state's directory.
        path: PathBuf,
        /// What the engine said.
        detail: String,
    },
    /// What is stored cannot be read back, as a merge of tables has found. The state is to be discarded
    /// and made anew, as after a read that finds the same.
    #[error("the state of group {group} is damaged: {detail}")]
    Damaged {
        /// Of which group.
        group: GroupId,
        /// Which file, and where in it.
        detail: String,
    },
    /// An operation failed; what was durable before still is. Unless the disk was full the device has
    /// failed, so that nothing is to be tried again.
    #[error("cannot {action} the state of group {group}: {detail}")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// Of which group.
        group: GroupId,
        /// What the engine said.
        detail: String,
        /// Whether the disk was full: it may succeed later.
        full: bool,
    },
    /// The disk failed.
    #[error("cannot {action} {path}: {source}{hint}", hint = hint(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

impl EngineError {
    /// Whether the disk was full, so that the same may succeed later.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Failed { full, .. } => *full,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            Self::Locked(_) | Self::Unusable { .. } | Self::Damaged { .. } => false,
        }
    }

    /// Whether what is stored cannot be read back.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Unusable { .. })
    }
}

/// Whether a state that has applied up to `applied` fits a log that begins after `base` and ends at
/// `last` (PROTOCOL 4c). If it does not, the group's state must be discarded and rebuilt, and the
/// group must not serve meanwhile.
pub fn fits(applied: LogId, base: LogId, last: LogId) -> bool {
    base.index <= applied.index && applied.index <= last.index
}
