//! A disk in memory that forgets what was not synced.
//!
//! All its choices come from the seed of the crash, so that a run repeats byte for byte. Handles
//! belong to a *life* of the disk: a crash ends it, and every handle of an earlier life then fails,
//! so that a thread of a crashed node cannot write to the disk of its successor.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Disk, File};

mod content;
#[cfg(test)]
mod tests;

use content::Content;
pub(crate) use content::Random;

/// A simulated disk; clones are handles to the same disk and life.
#[derive(Clone)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
    life: u64,
}

/// A file of a [`SimDisk`].
pub struct SimFile {
    disk: SimDisk,
    id: u64,
}

/// A lock on a [`SimDisk`], freed when dropped or by a crash.
pub struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

/// What a crash does to unsynced bytes and names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Only what was synced is there.
    LoseAll,
    /// Everything is there, and on stable storage: the machine was shut down in good order.
    KeepAll,
    /// Only the process ends, as after `kill -9`: the next one finds everything, and what was not
    /// synced still is not. A page whose sync failed may have left the page cache, by this seed.
    Kill(u64),
    /// A choice by this seed: any subset of unsynced pages, torn at any byte, lengths apart from
    /// contents, and any prefix of the name changes.
    Seed(u64),
}

/// A fault to inject. Each hits the next matching operation once, in the order injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A read fails with `EIO`.
    Read,
    /// A write fails with `EIO`; a part of it may have reached the page cache.
    Write,
    /// A sync fails with `EIO`; its pages count as clean and may be gone after the next crash.
    Sync,
    /// A sync takes this long: see [`SimDisk::take_stall`].
    Stall(Duration),
}

struct World {
    life: u64,
    files: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    changes: Vec<(PathBuf, NameChange)>,
    directories: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    next_file: u64,
    capacity: u64,
    faults: Vec<Fault>,
    sync_lies: bool,
    syncs: u64,
    stalled: Duration,
    fuse: Option<u64>,
}

#[derive(Clone)]
enum NameChange {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Create(path, id) => {
                names.insert(path.clone(), *id);
            }
            Self::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty disk without a limit.
    pub fn new() -> Self {
        let world = World {
            life: 0,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            directories: BTreeSet::new(),
            locks: BTreeSet::new(),
            next_file: 1,
            capacity: u64::MAX / 2,
            faults: Vec::new(),
            sync_lies: false,
            syncs: 0,
            stalled: Duration::ZERO,
            fuse: None,
        };
        Self { world: Arc::new(Mutex::new(world)), life: 0 }
    }

    /// Ends this life: everything open fails from here on, and what was not synced is lost as
    /// `crash` says. Returns the disk as the next process finds it.
    #[must_use]
    pub fn crash(&self, crash: Crash) -> Self {
        let mut world = self.any_life();
        world.crash(crash);
        Self { world: Arc::clone(&self.world), life: world.life }
    }

    /// A copy of the disk with all its unsynced state, in a life of its own.
    #[must_use]
    pub fn fork(&self) -> Self {
        let world = self.any_life();
        let copy = World {
            life: world.life,
            files: world.files.clone(),
            names: world.names.clone(),
            durable_names: world.durable_names.clone(),
            changes: world.changes.clone(),
            directories: world.directories.clone(),
            locks: BTreeSet::new(),
            next_file: world.next_file,
            capacity: world.capacity,
            faults: world.faults.clone(),
            sync_lies: world.sync_lies,
            syncs: world.syncs,
            stalled: world.stalled,
            fuse: world.fuse,
        };
        let life = copy.life;
        Self { world: Arc::new(Mutex::new(copy)), life }
    }

    /// Injects a fault.
    pub fn inject(&self, fault: Fault) {
        self.any_life().faults.push(fault);
    }

    /// Takes back the faults that were injected and have not hit yet.
    pub fn mend(&self) {
        self.any_life().faults.clear();
    }

    /// Limits the bytes of all files together; beyond it writes fail with `ENOSPC`.
    pub fn set_capacity(&self, bytes: u64) {
        self.any_life().capacity = bytes;
    }

    /// With `true` every sync returns at once and does nothing: a planted bug, for tests that show
    /// that they would notice.
    pub fn set_sync_lies(&self, lies: bool) {
        self.any_life().sync_lies = lies;
    }

    /// Number of syncs of files that were asked for.
    pub fn syncs(&self) -> u64 {
        self.any_life().syncs
    }

    /// The time that stalls have taken since the last call. A simulator adds it to its clock.
    pub fn take_stall(&self) -> Duration {
        std::mem::take(&mut self.any_life().stalled)
    }

    /// Changes stored bytes behind everybody's back, durably: bit rot. `false` if there is no such
    /// file or it is shorter.
    pub fn rot(&self, path: &Path, offset: u64, change: impl FnOnce(&mut [u8])) -> bool {
        let mut world = self.any_life();
        let Some(&id) = world.names.get(path) else { return false };
        world.files.get_mut(&id).is_some_and(|content| content.rot(offset, change))
    }

    /// Cuts a file behind everybody's back, durably.
    pub fn cut(&self, path: &Path, length: u64) -> bool {
        let mut world = self.any_life();
        let Some(&id) = world.names.get(path) else { return false };
        let Some(content) = world.files.get_mut(&id) else { return false };
        content.set_len(length);
        content.sync();
        true
    }

    /// The power fails in the middle of the `operations`-th operation from here that changes
    /// anything: it and everything after it fails until the disk [crashes](SimDisk::crash).
    pub fn cut_power_after(&self, operations: u64) {
        self.any_life().fuse = Some(operations);
    }

    /// The bytes of a file as they can be read, whatever of them is durable.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.any_life();
        Some(world.files.get(world.names.get(path)?)?.bytes().to_vec())
    }

    /// Replaces the bytes of a file behind everybody's back, durably.
    pub fn overwrite(&self, path: &Path, bytes: Vec<u8>) -> bool {
        let mut world = self.any_life();
        let Some(&id) = world.names.get(path) else { return false };
        world.files.insert(id, Content::durable(bytes));
        true
    }

    /// All files, sorted, with their lengths.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let world = self.any_life();
        let length = |id| world.files.get(id).map_or(0, Content::len);
        world.names.iter().map(|(path, id)| (path.clone(), length(id))).collect()
    }

    fn any_life(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.any_life();
        if world.life == self.life {
            Ok(world)
        } else {
            Err(io::Error::other("the process that opened this disk has crashed"))
        }
    }

    /// As `alive`, for an operation that changes something.
    fn powered(&self) -> io::Result<MutexGuard<'_, World>> {
        let mut world = self.alive()?;
        if let Some(fuse) = &mut world.fuse {
            if *fuse == 0 {
                return Err(io::Error::other("the power is off"));
            }
            *fuse -= 1;
        }
        Ok(world)
    }
}

impl World {
    fn crash(&mut self, crash: Crash) {
        self.life += 1;
        self.fuse = None;
        self.locks.clear();
        self.faults.clear();
        if let Crash::Kill(seed) = crash {
            let mut random = Random::new(seed);
            for content in self.files.values_mut() {
                content.evict(&mut random);
            }
            return;
        }
        let mut random = match crash {
            Crash::Seed(seed) => Some(Random::new(seed)),
            Crash::LoseAll | Crash::KeepAll | Crash::Kill(_) => None,
        };
        let kept = match (&mut random, crash) {
            (Some(random), _) => random.below(self.changes.len() as u64 + 1) as usize,
            (None, Crash::KeepAll) => self.changes.len(),
            (None, _) => 0,
        };
        for (_, change) in self.changes.drain(..).take(kept) {
            change.apply(&mut self.durable_names);
        }
        self.names = self.durable_names.clone();
        self.collect();
        for content in self.files.values_mut() {
            match (&mut random, crash) {
                (Some(random), _) => content.crash(random),
                (None, Crash::KeepAll) => content.sync_everything(),
                (None, _) => content.lose_unsynced(),
            }
        }
    }

    fn used(&self) -> u64 {
        let named = self.names.values().filter_map(|id| self.files.get(id));
        named.map(Content::len).sum()
    }

    /// Forgets files that no name can lead to any more.
    fn collect(&mut self) {
        let created = self.changes.iter().filter_map(|(_, change)| match change {
            NameChange::Create(_, id) => Some(*id),
            NameChange::Rename(..) | NameChange::Remove(_) => None,
        });
        let named = self.names.values().chain(self.durable_names.values()).copied();
        let reachable: BTreeSet<u64> = named.chain(created).collect();
        self.files.retain(|id, _| reachable.contains(id));
    }

    fn room(&self, more: u64) -> io::Result<()> {
        if more == 0 || self.used().saturating_add(more) <= self.capacity {
            Ok(())
        } else {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    fn take_fault(&mut self, matches: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let position = self.faults.iter().position(matches)?;
        Some(self.faults.remove(position))
    }

    fn change(&mut self, path: &Path, change: NameChange) {
        change.apply(&mut self.names);
        let parent = path.parent().unwrap_or(Path::new("")).to_path_buf();
        self.changes.push((parent, change));
    }

    fn content(&mut self, id: u64) -> io::Result<&mut Content> {
        self.files.get_mut(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn injected(what: &str) -> io::Error {
    io::Error::other(format!("injected {what} error"))
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        let mut world = self.powered()?;
        if world.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = world.next_file;
        world.next_file += 1;
        world.files.insert(id, Content::default());
        world.change(path, NameChange::Create(path.to_path_buf(), id));
        Ok(SimFile { disk: self.clone(), id })
    }

    fn open(&self, path: &Path) -> io::Result<SimFile> {
        let world = self.alive()?;
        let id = *world.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(SimFile { disk: self.clone(), id })
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let world = self.alive()?;
        Ok(world.names.contains_key(path) || world.directories.contains(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.powered()?;
        if !world.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.change(to, NameChange::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.powered()?;
        if !world.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.change(path, NameChange::Remove(path.to_path_buf()));
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.powered()?;
        let inside: Vec<PathBuf> =
            world.names.keys().filter(|name| name.starts_with(path)).cloned().collect();
        for name in inside {
            world.change(&name, NameChange::Remove(name.clone()));
        }
        world.directories.retain(|directory| !directory.starts_with(path));
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.alive()?;
        for ancestor in path.ancestors() {
            world.directories.insert(ancestor.to_path_buf());
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let world = self.alive()?;
        if !world.directories.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = world.names.keys().chain(&world.directories);
        let names: BTreeSet<String> = inside
            .filter(|name| name.parent() == Some(path))
            .filter_map(|name| Some(name.file_name()?.to_string_lossy().into_owned()))
            .collect();
        Ok(names.into_iter().collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.powered()?;
        if world.sync_lies {
            return Ok(());
        }
        let changes = std::mem::take(&mut world.changes);
        for (directory, change) in changes {
            if directory == path {
                change.apply(&mut world.durable_names);
            } else {
                world.changes.push((directory, change));
            }
        }
        world.collect();
        Ok(())
    }

    fn free_space(&self, _path: &Path) -> io::Result<u64> {
        let world = self.alive()?;
        Ok(world.capacity.saturating_sub(world.used()))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<SimLock>> {
        let mut world = self.alive()?;
        let free = world.locks.insert(path.to_path_buf());
        Ok(free.then(|| SimLock { disk: self.clone(), path: path.to_path_buf() }))
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        if let Ok(mut world) = self.disk.alive() {
            world.locks.remove(&self.path);
        }
    }
}

impl SimFile {
    fn grow(world: &mut World, id: u64, length: u64) -> io::Result<()> {
        let now = world.content(id)?.len();
        world.room(length.saturating_sub(now))
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.disk.alive()?;
        if world.take_fault(|fault| *fault == Fault::Read).is_some() {
            return Err(injected("read"));
        }
        Ok(world.content(self.id)?.read(buffer, offset))
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.disk.powered()?;
        Self::grow(&mut world, self.id, offset + data.len() as u64)?;
        if world.take_fault(|fault| *fault == Fault::Write).is_some() {
            world.content(self.id)?.write(&data[..data.len() / 2], offset);
            return Err(injected("write"));
        }
        world.content(self.id)?.write(data, offset);
        Ok(())
    }

    fn preallocate(&self, length: u64) -> io::Result<()> {
        let mut world = self.disk.powered()?;
        Self::grow(&mut world, self.id, length)?;
        let content = world.content(self.id)?;
        content.set_len(0);
        content.set_len(length);
        content.sync();
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut world = self.disk.powered()?;
        Self::grow(&mut world, self.id, length)?;
        world.content(self.id)?.set_len(length);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.alive()?.content(self.id)?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.disk.powered()?;
        world.syncs += 1;
        if let Some(Fault::Stall(time)) = world.take_fault(|fault| matches!(fault, Fault::Stall(_)))
        {
            world.stalled += time;
        }
        if world.take_fault(|fault| *fault == Fault::Sync).is_some() {
            world.content(self.id)?.fail_sync();
            return Err(injected("sync"));
        }
        if !world.sync_lies {
            world.content(self.id)?.sync();
        }
        Ok(())
    }
}
