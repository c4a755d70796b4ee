//! The keys of a store that has lost a majority of its nodes for good, as far as the directories that
//! are left have them.
//!
//! Nothing is made to go on as the group that it was: what is found fills a new store. So nobody has
//! to be told what to forget: the new groups begin with slots of their own, and neither votes nor
//! epochs of the lost ones can meet them. Which copy of a slot counts is decided here, from all
//! directories at once: of a group, the replica whose log goes furthest; of a slot, the group that
//! had it in its latest incarnation (PROTOCOL 9), and only if that had all of it.
//!
//! Directories are not changed: states are opened through links, and what the logs have beyond them
//! is applied beside them. Entries that were never committed may be among those: their clients were
//! told nothing, so either outcome is right.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
pub use kontiki_kv::KeyRow;
use kontiki_kv::{KeyView, Machine, Store};
use kontiki_raft::{EntryData, Recovered};
use kontiki_replica::steward::{BEGINS_AFTER, CONTROLLER, holdings_of};
use kontiki_shard::{Holdings, SlotSet};
use kontiki_storage::directory::{Directory, DirectoryError};
use kontiki_storage::disk::ReadOnlyDisk;
use kontiki_storage::engine::{
    Engine, EngineError, FjallConfig, FjallEngine, FjallStore, link_states,
};
use kontiki_storage::log::inspect_log;
use kontiki_storage::verify::{VerifyError, lock};
use kontiki_types::{GroupId, LogId, SLOTS, Slot};
use thiserror::Error;

use crate::sharding;
use crate::start::{damage_note, difference_note};

/// Entries that are applied with one commit.
const BATCH: usize = 1024;
/// Bytes of keys and values that are handed over at once.
const PAGE_BYTES: u64 = 1 << 20;

/// Why nothing was found, or not written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SalvageError {
    /// A directory is in use, or is none.
    #[error(transparent)]
    Unusable(#[from] VerifyError),
    /// A directory does not say whose it is.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The directories are not of one store.
    #[error("{path} belongs to cluster {found:016x}, and those before it to {expected:016x}")]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// Its cluster.
        found: u64,
        /// That of the others.
        expected: u64,
    },
    /// A state cannot be opened beside its directory.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A state is damaged where it was not noticed when it was opened.
    #[error(
        "the state of group {group} in {path} cannot be read: {detail}\n\
         hint: `kontiki verify {path}` says what is damaged; try without this directory"
    )]
    State {
        /// The group.
        group: GroupId,
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// Links cannot be made, or what was found cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One group as it was found.
#[derive(Clone, Debug)]
pub struct SalvagedGroup {
    /// The group.
    pub group: GroupId,
    /// The directory that it is taken from.
    pub path: PathBuf,
    /// The last entry that it has; later ones, if there were any, are lost.
    pub last: LogId,
    /// The slots of it that are taken.
    pub slots: SlotSet,
}

/// A replica's state, with all that its log has.
struct Copy {
    path: PathBuf,
    machine: Machine<FjallStore>,
    /// `None`: the store was not sharded, and the group has every slot.
    holdings: Option<Holdings>,
}

/// What the directories have.
pub struct Salvage {
    cluster: u64,
    epoch: u64,
    copies: BTreeMap<GroupId, Copy>,
    owners: BTreeMap<Slot, GroupId>,
    notes: Vec<String>,
    /// Before the locks of the directories, which are dropped after them.
    _engines: Vec<FjallEngine>,
    _locks: Vec<Option<fs::File>>,
}

impl Copy {
    /// Of two replicas of a group the one of its later life, then the one whose log goes further.
    fn rank(&self) -> (u64, LogId) {
        let life = self.holdings.as_ref().map_or(0, |holdings| holdings.group().joined);
        (life, self.machine.applied())
    }
}

impl Salvage {
    /// Opens what the directories `dirs` have, of nodes that do not run. `scratch` is a folder that is
    /// there and empty, with space for what the logs have beyond the states.
    ///
    /// # Errors
    /// [`SalvageError`]. A group that a directory has no usable state of is not an error but a
    /// [note](Salvage::notes).
    pub fn open(dirs: &[PathBuf], scratch: &Path) -> Result<Self, SalvageError> {
        let mut salvage = Self {
            cluster: 0,
            epoch: 0,
            copies: BTreeMap::new(),
            owners: BTreeMap::new(),
            notes: Vec::new(),
            _engines: Vec::new(),
            _locks: Vec::new(),
        };
        for (number, path) in dirs.iter().enumerate() {
            let lock = lock(path)?;
            let directory = Directory::look(path)?;
            let found = directory.identity().cluster;
            if number > 0 && found != salvage.cluster {
                let (path, expected) = (path.clone(), salvage.cluster);
                return Err(SalvageError::OtherCluster { path, found, expected });
            }
            salvage.cluster = found;
            let links = scratch.join(number.to_string());
            link_states(&path.join("state"), &links)?;
            salvage.take(path, &directory, FjallEngine::open(&links, FjallConfig::default())?)?;
            salvage._locks.push(lock);
        }
        salvage.choose();
        Ok(salvage)
    }

    /// The cluster that it was.
    pub fn cluster(&self) -> u64 {
        self.cluster
    }

    /// The latest configuration of slots that was found; 0: none.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The groups whose keys are taken, and from where.
    pub fn groups(&self) -> Vec<SalvagedGroup> {
        let slots = |of: GroupId| {
            let own = self.owners.iter().filter(move |(_, group)| **group == of);
            own.map(|(slot, _)| *slot).collect()
        };
        let data = self.copies.iter().filter(|(group, _)| **group != CONTROLLER);
        data.map(|(&group, copy)| SalvagedGroup {
            group,
            path: copy.path.clone(),
            last: copy.machine.applied(),
            slots: slots(group),
        })
        .collect()
    }

    /// The slots that no directory has: their keys are lost.
    pub fn missing(&self) -> SlotSet {
        all_slots().filter(|slot| !self.owners.contains_key(slot)).collect()
    }

    /// What an operator should know of single directories.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Hands over all keys, each once.
    ///
    /// # Errors
    /// [`SalvageError::State`], and what `take` gives.
    pub fn read(
        &self,
        mut take: impl FnMut(Vec<KeyRow>) -> io::Result<()>,
    ) -> Result<(), SalvageError> {
        for (&group, copy) in self.copies.iter().filter(|(group, _)| **group != CONTROLLER) {
            let failed =
                |detail: String| SalvageError::State { group, path: copy.path.clone(), detail };
            let view = copy.machine.store().view().map_err(|error| failed(error.to_string()))?;
            let view = KeyView::open(view, copy.machine.applied());
            let view = view.map_err(|error| failed(error.to_string()))?;
            let view = view.only(|slot| self.owners.get(&slot) == Some(&group));
            let mut after: Option<Bytes> = None;
            loop {
                let page = view.page(b"", 0, u64::MAX, after.as_deref(), PAGE_BYTES);
                let page = page.map_err(|error| failed(error.to_string()))?;
                if !page.rows.is_empty() {
                    take(page.rows)?;
                }
                after = page.last;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Takes the groups of one directory that go further than what is there of them.
    fn take(
        &mut self,
        path: &Path,
        directory: &Directory<ReadOnlyDisk>,
        mut engine: FjallEngine,
    ) -> Result<(), SalvageError> {
        let incarnation = directory.identity().incarnation;
        let mut logs = match inspect_log(&ReadOnlyDisk, &path.join("log"), incarnation) {
            Ok((_, logs)) => logs,
            Err(error) => {
                let error = error.to_string();
                let error = error.lines().next().unwrap_or_default();
                self.notes.push(format!("{}: only states are taken: {error}", path.display()));
                BTreeMap::new()
            }
        };
        let mut groups = engine.groups();
        groups.extend(logs.keys());
        groups.extend(engine.damaged().keys());
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            let opened = match directory.note(&difference_note(group)) {
                Some(_) => Err("its state was not that of its leader".to_owned()),
                None => {
                    if directory.note(&damage_note(group)).is_some() {
                        engine.drop_group(group)?;
                    }
                    open_copy(&mut engine, directory, group, logs.remove(&group))
                }
            };
            match opened {
                Ok(machine) => self.offer(path, group, machine)?,
                Err(why) => {
                    self.notes
                        .push(format!("{}: group {group} is left out: {why}", path.display()));
                }
            }
        }
        self._engines.push(engine);
        Ok(())
    }

    /// Keeps the better one of two replicas.
    fn offer(
        &mut self,
        path: &Path,
        group: GroupId,
        machine: Machine<FjallStore>,
    ) -> Result<(), SalvageError> {
        let unreadable =
            |detail: String| SalvageError::State { group, path: path.to_path_buf(), detail };
        let holdings = match machine.steward().filter(|_| group != CONTROLLER) {
            Some(steward) => {
                Some(holdings_of(steward).map_err(|error| unreadable(error.to_string()))?)
            }
            None => None,
        };
        let copy = Copy { path: path.to_path_buf(), machine, holdings };
        if self.copies.get(&group).is_none_or(|known| known.rank() < copy.rank()) {
            if let Some(configuration) = sharding::configuration(group, &copy.machine) {
                self.epoch = configuration.epoch().0;
            }
            self.copies.insert(group, copy);
        }
        Ok(())
    }

    /// Gives each slot to the group that had it last.
    fn choose(&mut self) {
        for slot in all_slots() {
            let data = self.copies.iter().filter(|(group, _)| **group != CONTROLLER);
            let holders = data.filter_map(|(group, copy)| match &copy.holdings {
                Some(holdings) => holdings.incarnation(slot).map(|life| (life, *group)),
                None => Some((Default::default(), *group)),
            });
            if let Some((_, group)) = holders.max() {
                self.owners.insert(slot, group);
            }
        }
    }
}

fn all_slots() -> impl Iterator<Item = Slot> {
    (0..SLOTS).filter_map(Slot::new)
}

/// A group's state with everything that the log has beyond it; the reason if there is none.
fn open_copy(
    engine: &mut FjallEngine,
    directory: &Directory<ReadOnlyDisk>,
    group: GroupId,
    log: Option<Recovered<Bytes>>,
) -> Result<Machine<FjallStore>, String> {
    let store = engine.open_group(group).map_err(|error| error.to_string())?;
    let log = log.unwrap_or_default();
    let base = log.base.as_ref().map_or(LogId::ZERO, |base| base.id);
    if store.applied() != LogId::ZERO {
        let machine = sharding::machine(store).map_err(|error| error.to_string())?;
        let is_in_log = log.term_at(machine.applied().index) == Some(machine.applied().term);
        // What a state holds is committed: it counts also where the log does not reach it.
        return if is_in_log { replay(machine, &log) } else { Ok(machine) };
    }
    if log.base.is_none() {
        return Err("there is no state, and no log".to_owned());
    }
    let store = match sharding::beginning(directory, group) {
        Some(beginning) if base == BEGINS_AFTER => {
            Machine::found(store, BEGINS_AFTER, &*beginning.steward())
                .map_err(|error| error.to_string())?
        }
        _ if base == LogId::ZERO => store,
        _ => return Err(format!("there is no state, and the log begins only after {base}")),
    };
    replay(sharding::machine(store).map_err(|error| error.to_string())?, &log)
}

/// Applies what the log has after what was applied.
fn replay(
    mut machine: Machine<FjallStore>,
    log: &Recovered<Bytes>,
) -> Result<Machine<FjallStore>, String> {
    let applied = machine.applied().index;
    let entries = log.entries.iter().filter(|entry| entry.id.index > applied);
    let entries: Vec<_> = entries
        .map(|entry| match &entry.data {
            EntryData::Command(command) => (entry.id, Some(command.clone())),
            EntryData::Noop | EntryData::Membership(_) => (entry.id, None),
        })
        .collect();
    let mut outcomes = Vec::new();
    for batch in entries.chunks(BATCH) {
        outcomes.clear();
        machine.apply(batch, &mut outcomes).map_err(|error| error.to_string())?;
    }
    Ok(machine)
}
