//! A node's directory: whose it is, and what must outlive everything else in it.
//!
//! Formatting is explicit and gives the directory a random *incarnation*, which is part of every
//! member's name: a node that lost its directory comes back as somebody else (PROTOCOL 6). Opening
//! it counts a boot, durably, so that no client id is given out twice (PROTOCOL 2).
//!
//! The file `node` is small text, replaced as a whole. Its table is in `docs/state-format.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use kontiki_types::plant::{Plant, planted};
use kontiki_types::{GroupId, Incarnation, Member, NodeId, ReplicaId};

use crate::disk::{Disk, ReadOnlyDisk, hint};
use crate::smallfile::{self, BadFile};

/// The version of the directory format that this code writes and reads.
pub const DIRECTORY_VERSION: u32 = 1;
const NAME: &str = "node";
const LOCK: &str = "lock";

/// What a directory is formatted as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// The cluster: a random number that all its directories share.
    pub cluster: u64,
    /// The node.
    pub node: NodeId,
    /// The directory: a random number. See [`random_u64`](crate::random_u64).
    pub incarnation: Incarnation,
}

/// Whose directory the caller believes to open. `None`: whoever's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The cluster.
    pub cluster: Option<u64>,
    /// The node.
    pub node: Option<NodeId>,
}

/// An open directory, locked against other processes.
pub struct Directory<D: Disk> {
    disk: D,
    path: PathBuf,
    state: State,
    _lock: D::Lock,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    format: Format,
    boots: u32,
    /// Per group: the first configuration, and whether this directory has begun with it.
    initial: BTreeMap<GroupId, (bool, Vec<Member>)>,
    removed: BTreeSet<(GroupId, ReplicaId)>,
    notes: BTreeMap<String, String>,
}

/// Why a directory could not be formatted or opened, or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The disk failed, or the directory cannot be reached.
    #[error("cannot {action} {path}: {source}{hint}", hint = hint(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// It was never formatted.
    #[error(
        "{0} is not a Kontiki directory\n\
         hint: a new cluster's node is started with --bootstrap; one that lost its directory with \
         --join HOST:PORT, and then `kontiki cluster readmit --node N`"
    )]
    NotFormatted(PathBuf),
    /// It is formatted already.
    #[error("{0} is formatted already")]
    Formatted(PathBuf),
    /// It belongs to another node.
    #[error(
        "{path} belongs to node {found}, not to node {expected}\n\
         hint: directories may have been swapped; start each node on its own"
    )]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who was expected.
        expected: NodeId,
    },
    /// It belongs to another cluster.
    #[error("{path} belongs to cluster {found:016x}, not to cluster {expected:016x}")]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: u64,
        /// Who was expected.
        expected: u64,
    },
    /// Another version of the program wrote it.
    #[error("{path} has directory format version {found}; this program reads version {supported}")]
    Version {
        /// The directory.
        path: PathBuf,
        /// Its version.
        found: String,
        /// Ours.
        supported: u32,
    },
    /// Its file is damaged.
    #[error(
        "{0} is damaged\n\
         hint: this node no longer knows who it is. Empty its directory, start it with --join \
         HOST:PORT, and run `kontiki cluster readmit --node N`"
    )]
    Damaged(PathBuf),
    /// A note with a line break, or with spaces in its name.
    #[error("a note must be one line, and its name one word")]
    BadNote,
}

impl<D: Disk> Directory<D> {
    /// Whether `path` has been formatted.
    ///
    /// # Errors
    /// [`DirectoryError::Io`].
    pub fn is_formatted(disk: &D, path: &Path) -> Result<bool, DirectoryError> {
        disk.exists(&path.join(NAME)).map_err(io_error("look into", path))
    }

    /// Makes `path` the directory of a node. Durable on return. It is not open then.
    ///
    /// # Errors
    /// See [`DirectoryError`]; a formatted directory is left as it is.
    pub fn format(disk: &D, path: &Path, format: Format) -> Result<(), DirectoryError> {
        disk.create_dir(path).map_err(io_error("create", path))?;
        let _lock = lock(disk, path)?;
        if Self::is_formatted(disk, path)? {
            return Err(DirectoryError::Formatted(path.to_path_buf()));
        }
        let state = State {
            format,
            boots: 0,
            initial: BTreeMap::new(),
            removed: BTreeSet::new(),
            notes: BTreeMap::new(),
        };
        write(disk, path, &state)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent).map_err(io_error("sync", parent))?;
        }
        Ok(())
    }

    /// Opens a formatted directory, locks it, and counts a boot, durably.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn open(disk: D, path: &Path, expected: Expected) -> Result<Self, DirectoryError> {
        if !Self::is_formatted(&disk, path)? {
            return Err(DirectoryError::NotFormatted(path.to_path_buf()));
        }
        let lock = lock(&disk, path)?;
        let mut state = read(&disk, path)?;
        let path = path.to_path_buf();
        let Format { cluster, node, .. } = state.format;
        match expected {
            Expected { node: Some(expected), .. } if expected != node => {
                return Err(DirectoryError::OtherNode { path, found: node, expected });
            }
            Expected { cluster: Some(expected), .. } if expected != cluster => {
                return Err(DirectoryError::OtherCluster { path, found: cluster, expected });
            }
            _ => {}
        }
        state.boots += 1;
        if !planted(Plant::ClientIdsReused) {
            write(&disk, &path, &state)?;
        }
        Ok(Self { disk, path, state, _lock: lock })
    }

    /// What the directory was formatted as. Does not lock it or count a boot: for listings.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn identify(disk: &D, path: &Path) -> Result<Format, DirectoryError> {
        if !Self::is_formatted(disk, path)? {
            return Err(DirectoryError::NotFormatted(path.to_path_buf()));
        }
        Ok(read(disk, path)?.format)
    }

    /// The first configurations that are noted, as [`Directory::initials`] gives them. Does not lock
    /// the directory or count a boot.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn founded(disk: &D, path: &Path) -> Result<Vec<(GroupId, Vec<Member>)>, DirectoryError> {
        if !Self::is_formatted(disk, path)? {
            return Err(DirectoryError::NotFormatted(path.to_path_buf()));
        }
        let initial = read(disk, path)?.initial;
        Ok(initial.into_iter().map(|(group, (_, members))| (group, members)).collect())
    }

    /// What the directory was formatted as.
    pub fn identity(&self) -> &Format {
        &self.state.format
    }

    /// How often the directory was opened, this time included.
    pub fn boots(&self) -> u32 {
        self.state.boots
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log belongs.
    pub fn log_path(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where the state engine belongs.
    pub fn state_path(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Where snapshots belong.
    pub fn snapshot_path(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// Notes the first configuration of a group, durably. Without effect if one is noted.
    ///
    /// # Errors
    /// [`DirectoryError::Io`].
    pub fn set_initial(
        &mut self,
        group: GroupId,
        members: Vec<Member>,
    ) -> Result<(), DirectoryError> {
        if self.state.initial.contains_key(&group) {
            return Ok(());
        }
        self.change(|state| {
            state.initial.insert(group, (false, members));
        })
    }

    /// [`Directory::set_initial`] of many groups, with one write.
    ///
    /// # Errors
    /// [`DirectoryError::Io`].
    pub fn set_initials(
        &mut self,
        groups: impl IntoIterator<Item = (GroupId, Vec<Member>)>,
    ) -> Result<(), DirectoryError> {
        self.change(|state| {
            for (group, members) in groups {
                state.initial.entry(group).or_insert((false, members));
            }
        })
    }

    /// The first configuration of a group, if one is noted.
    pub fn initial(&self, group: GroupId) -> Option<&[Member]> {
        self.state.initial.get(&group).map(|(_, members)| members.as_slice())
    }

    /// Every group whose first configuration is noted, with it, in the order of their ids.
    pub fn initials(&self) -> impl Iterator<Item = (GroupId, &[Member])> {
        self.state.initial.iter().map(|(group, (_, members))| (*group, members.as_slice()))
    }

    /// Asks to begin `group` with its first configuration as this replica. `true` at most once per
    /// directory, group and replica, and never after it was removed; what it says is durable.
    ///
    /// # Errors
    /// [`DirectoryError::Io`].
    pub fn use_initial(
        &mut self,
        group: GroupId,
        replica: ReplicaId,
    ) -> Result<bool, DirectoryError> {
        let free = self.state.initial.get(&group).is_some_and(|(used, _)| !used);
        if !free || self.is_removed(group, replica) {
            return Ok(false);
        }
        self.change(|state| {
            if let Some((used, _)) = state.initial.get_mut(&group) {
                *used = true;
            }
        })?;
        Ok(true)
    }

    /// [`Directory::use_initial`] of many groups as the same replica, with one write. Returns those
    /// for which it holds.
    ///
    /// # Errors
    /// [`DirectoryError::Io`].
    pub fn use_initials(
        &mut self,
        groups: &[GroupId],
        replica: ReplicaId,
    ) -> Result<Vec<GroupId>, DirectoryError> {
        let is_free = |group: &GroupId| {
            self.state.initial.get(group).is_some_and(|(used, _)| !used)
                && !self.is_removed(*group, replica)
        };
        let free: Vec<GroupId> = groups.iter().copied().filter(is_free).collect();
        if !free.is_empty() {
            self.change(|state| {
                for group in &free {
                    if let Some((used, _)) = state.initial.get_mut(group) {
                        *used = true;
                    }
                }
            })?;
        }
        Ok(free)
    }

    /// Sets a tombstone, durably: this replica of the group never votes or serves again.
    ///
    /// # Errors
    /// [`DirectoryError::Io`].
    pub fn set_removed(
        &mut self,
        group: GroupId,
        replica: ReplicaId,
    ) -> Result<(), DirectoryError> {
        if self.is_removed(group, replica) {
            return Ok(());
        }
        self.change(|state| {
            state.removed.insert((group, replica));
        })
    }

    /// Whether this replica has a tombstone.
    pub fn is_removed(&self, group: GroupId, replica: ReplicaId) -> bool {
        self.state.removed.contains(&(group, replica))
    }

    /// All tombstones.
    pub fn removed(&self) -> impl Iterator<Item = (GroupId, ReplicaId)> + '_ {
        self.state.removed.iter().copied()
    }

    /// Notes a line of text under a name, durably; the driver's own small facts.
    ///
    /// # Errors
    /// [`DirectoryError::BadNote`], [`DirectoryError::Io`].
    pub fn set_note(&mut self, name: &str, text: &str) -> Result<(), DirectoryError> {
        let one_word = !name.is_empty() && !name.contains(char::is_whitespace);
        if !one_word || text.contains(['\n', '\r']) {
            return Err(DirectoryError::BadNote);
        }
        if self.note(name) == Some(text) {
            return Ok(());
        }
        self.change(|state| {
            state.notes.insert(name.to_owned(), text.to_owned());
        })
    }

    /// Removes a note, durably. Without effect if there is none.
    ///
    /// # Errors
    /// [`DirectoryError::Io`].
    pub fn remove_note(&mut self, name: &str) -> Result<(), DirectoryError> {
        if self.note(name).is_none() {
            return Ok(());
        }
        self.change(|state| {
            state.notes.remove(name);
        })
    }

    /// The text noted under a name.
    pub fn note(&self, name: &str) -> Option<&str> {
        self.state.notes.get(name).map(String::as_str)
    }

    fn change(&mut self, change: impl FnOnce(&mut State)) -> Result<(), DirectoryError> {
        let mut next = self.state.clone();
        change(&mut next);
        write(&self.disk, &self.path, &next)?;
        self.state = next;
        Ok(())
    }
}

impl Directory<ReadOnlyDisk> {
    /// The directory as it is written, neither locked nor changed: see
    /// [`lock`](crate::verify::lock).
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn look(path: &Path) -> Result<Self, DirectoryError> {
        let disk = ReadOnlyDisk;
        if !Self::is_formatted(&disk, path)? {
            return Err(DirectoryError::NotFormatted(path.to_path_buf()));
        }
        let state = read(&disk, path)?;
        Ok(Self { disk, path: path.to_path_buf(), state, _lock: () })
    }
}

fn lock<D: Disk>(disk: &D, path: &Path) -> Result<D::Lock, DirectoryError> {
    let file = path.join(LOCK);
    let lock = disk.lock(&file).map_err(io_error("lock", &file))?;
    lock.ok_or_else(|| DirectoryError::Locked(path.to_path_buf()))
}

fn write<D: Disk>(disk: &D, path: &Path, state: &State) -> Result<(), DirectoryError> {
    smallfile::write(disk, path, NAME, &state.lines()).map_err(io_error("write", &path.join(NAME)))
}

fn read<D: Disk>(disk: &D, path: &Path) -> Result<State, DirectoryError> {
    let file = path.join(NAME);
    let lines = smallfile::read(disk, &file).map_err(|bad| match bad {
        BadFile::Io(source) => DirectoryError::Io { action: "read", path: file.clone(), source },
        BadFile::Damaged => DirectoryError::Damaged(file.clone()),
    })?;
    let version = lines.first().and_then(|line| line.strip_prefix("kontiki-directory "));
    match version {
        None => Err(DirectoryError::Damaged(file)),
        Some(version) if version != DIRECTORY_VERSION.to_string() => Err(DirectoryError::Version {
            path: path.to_path_buf(),
            found: version.to_owned(),
            supported: DIRECTORY_VERSION,
        }),
        Some(_) => State::parse(&lines[1..]).ok_or(DirectoryError::Damaged(file)),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_path_buf();
    move |source| DirectoryError::Io { action, path, source }
}

impl State {
    fn lines(&self) -> Vec<String> {
        let Format { cluster, node, incarnation } = &self.format;
        let mut lines = vec![
            format!("kontiki-directory {DIRECTORY_VERSION}"),
            format!("cluster {cluster:016x}"),
            format!("node {node}"),
            format!("incarnation {:016x}", incarnation.get()),
            format!("boots {}", self.boots),
        ];
        for (group, (used, members)) in &self.initial {
            let mut line = format!("initial {group} {}", if *used { "used" } else { "unused" });
            for member in members {
                let Member { node, incarnation, replica } = member;
                line.push_str(&format!(" {node}:{:016x}:{replica}", incarnation.get()));
            }
            lines.push(line);
        }
        let removed = self.removed.iter();
        lines.extend(removed.map(|(group, replica)| format!("removed {group} {replica}")));
        lines.extend(self.notes.iter().map(|(name, text)| format!("note {name} {text}")));
        lines
    }

    fn parse(lines: &[String]) -> Option<Self> {
        let mut cluster = None;
        let (mut node, mut incarnation, mut boots) = (None, None, None);
        let mut initial = BTreeMap::new();
        let mut removed = BTreeSet::new();
        let mut notes = BTreeMap::new();
        for line in lines {
            let (word, rest) = line.split_once(' ')?;
            match word {
                "cluster" => cluster = Some(u64::from_str_radix(rest, 16).ok()?),
                "node" => node = Some(NodeId(rest.parse().ok()?)),
                "incarnation" => {
                    incarnation = Some(Incarnation(u64::from_str_radix(rest, 16).ok()?));
                }
                "boots" => boots = Some(rest.parse().ok()?),
                "initial" => {
                    let mut words = rest.split(' ');
                    let group = GroupId(words.next()?.parse().ok()?);
                    let used = match words.next()? {
                        "used" => true,
                        "unused" => false,
                        _ => return None,
                    };
                    let members: Option<Vec<Member>> = words.map(parse_member).collect();
                    initial.insert(group, (used, members?));
                }
                "removed" => {
                    let (group, replica) = rest.split_once(' ')?;
                    removed
                        .insert((GroupId(group.parse().ok()?), ReplicaId(replica.parse().ok()?)));
                }
                "note" => {
                    let (name, text) = rest.split_once(' ')?;
                    notes.insert(name.to_owned(), text.to_owned());
                }
                _ => return None,
            }
        }
        let format = Format { cluster: cluster?, node: node?, incarnation: incarnation? };
        Some(Self { format, boots: boots?, initial, removed, notes })
    }
}

fn parse_member(word: &str) -> Option<Member> {
    let mut parts = word.split(':');
    let node = NodeId(parts.next()?.parse().ok()?);
    let incarnation = Incarnation(u64::from_str_radix(parts.next()?, 16).ok()?);
    let replica = ReplicaId(parts.next()?.parse().ok()?);
    parts.next().is_none().then(|| Member::new(node, incarnation, replica))
}

#[cfg(test)]
mod tests;
