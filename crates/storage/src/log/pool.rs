//! Spare segment files: allocated ahead, and taken back from use.
//!
//! A file is in the pool under its `spare-` name, and that name is durable before a byte of the
//! file is overwritten: a crash never brings a `segment-` name back over other content.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::segment;
use crate::disk::{Disk, File};

/// The spare segments of a log. Clones share them; [`SparePool::fill`] may run in any thread.
pub struct SparePool<D: Disk> {
    disk: D,
    directory: PathBuf,
    segment_bytes: u64,
    wanted: usize,
    state: Arc<Mutex<State>>,
    filling: Arc<Mutex<()>>,
    taken: Arc<Condvar>,
}

#[derive(Default)]
struct State {
    ready: Vec<String>,
    next: u64,
}

impl<D: Disk> Clone for SparePool<D> {
    fn clone(&self) -> Self {
        Self {
            disk: self.disk.clone(),
            directory: self.directory.clone(),
            segment_bytes: self.segment_bytes,
            wanted: self.wanted,
            state: Arc::clone(&self.state),
            filling: Arc::clone(&self.filling),
            taken: Arc::clone(&self.taken),
        }
    }
}

impl<D: Disk> SparePool<D> {
    /// Takes over the spares that a former process left; other leftovers are removed.
    pub(super) fn open(
        disk: &D,
        directory: &Path,
        segment_bytes: u64,
        wanted: usize,
    ) -> io::Result<Self> {
        let mut state = State::default();
        for name in disk.list(directory)?.into_iter().filter(|name| segment::is_spare(name)) {
            let path = directory.join(&name);
            let whole = disk.open(&path)?.len()? == segment_bytes;
            let number = name.strip_prefix("spare-").and_then(|rest| rest.strip_suffix(".log"));
            let number = number.and_then(|digits| u64::from_str_radix(digits, 16).ok());
            match number {
                Some(number) if whole && state.ready.len() < wanted => {
                    state.next = state.next.max(number + 1);
                    state.ready.push(name);
                }
                _ => disk.remove(&path)?,
            }
        }
        Ok(Self {
            disk: disk.clone(),
            directory: directory.to_path_buf(),
            segment_bytes,
            wanted,
            state: Arc::new(Mutex::new(state)),
            filling: Arc::default(),
            taken: Arc::default(),
        })
    }

    /// Number of spares that are ready.
    pub fn ready(&self) -> usize {
        self.state().ready.len()
    }

    /// Whether [`SparePool::fill`] has something to do.
    pub fn is_wanting(&self) -> bool {
        self.ready() == 0
    }

    /// Returns as soon as [`SparePool::fill`] has something to do, or after `timeout`.
    pub fn wait_until_wanting(&self, timeout: Duration) {
        let state = self.state();
        let waited = self.taken.wait_timeout_while(state, timeout, |state| !state.ready.is_empty());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Allocates one spare if none is ready. Takes as long as writing a segment takes: call it from
    /// a background thread, so that the log thread finds one when it needs it.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] and what else the disk gives; nothing is left behind.
    pub fn fill(&self) -> io::Result<()> {
        let _one_at_a_time = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_wanting() {
            return Ok(());
        }
        let name = self.allocate(self.segment_bytes)?;
        self.state().ready.push(name);
        Ok(())
    }

    /// A file of at least `bytes`, to be used by nobody else.
    pub(super) fn take(&self, bytes: u64) -> io::Result<(PathBuf, D::File, bool)> {
        let ready = if bytes == self.segment_bytes { self.state().ready.pop() } else { None };
        self.taken.notify_all();
        let recycled = ready.is_some();
        let name = match ready {
            Some(name) => name,
            None => self.allocate(bytes)?,
        };
        let path = self.directory.join(name);
        let file = self.disk.open(&path)?;
        Ok((path, file, recycled))
    }

    /// Takes a segment file out of use. The name change is durable on return.
    pub(super) fn give_back(&self, path: &Path, bytes: u64) -> io::Result<()> {
        if bytes != self.segment_bytes || self.ready() >= self.wanted {
            self.disk.remove(path)?;
            return self.disk.sync_dir(&self.directory);
        }
        let name = self.name();
        self.disk.rename(path, &self.directory.join(&name))?;
        self.disk.sync_dir(&self.directory)?;
        self.state().ready.push(name);
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<String> {
        // Filling the disk to the last byte first would also stop others that write to it.
        if self.disk.free_space(&self.directory)? < bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let name = self.name();
        let path = self.directory.join(&name);
        let file = self.disk.create(&path)?;
        match file.preallocate(bytes) {
            Ok(()) => Ok(name),
            Err(error) => {
                self.disk.remove(&path)?;
                Err(error)
            }
        }
    }

    fn name(&self) -> String {
        let mut state = self.state();
        state.next += 1;
        segment::spare_name(state.next - 1)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
