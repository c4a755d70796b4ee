//! Stable storage in memory, and the state machine above it: what a crash leaves.

use std::collections::VecDeque;

use kontiki_raft::{Base, Entry, EntryData, HardState, Recovered, StableStorage, WriteBatch};
use kontiki_types::{GroupId, Index, LogId, Term};

/// What is on stable storage.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub base: Option<Base>,
    pub entries: VecDeque<Entry<Vec<u8>>>,
    pub broken: bool,
}

#[derive(Debug)]
pub struct Broken;

impl Disk {
    pub fn base_id(&self) -> LogId {
        self.base.as_ref().map_or(LogId::ZERO, |base| base.id)
    }

    pub fn last(&self) -> LogId {
        self.entries.back().map_or(self.base_id(), |entry| entry.id)
    }

    pub fn term_at(&self, index: Index) -> Option<Term> {
        let base = self.base_id();
        if index == base.index {
            return Some(base.term);
        }
        let offset = index.0.checked_sub(base.index.0 + 1)?;
        self.entries.get(offset as usize).map(|entry| entry.id.term)
    }

    fn write(&mut self, batch: &WriteBatch<Vec<u8>>) {
        if let Some(hard_state) = batch.hard_state() {
            assert!(hard_state.term >= self.hard_state.term, "the term went back");
            if hard_state.term == self.hard_state.term && self.hard_state.vote.is_some() {
                assert_eq!(hard_state.vote, self.hard_state.vote, "two votes in one term");
            }
            self.hard_state = hard_state;
        }
        if let Some(base) = batch.base() {
            while self.entries.front().is_some_and(|entry| entry.id.index <= base.id.index) {
                self.entries.pop_front();
            }
            self.base = Some(base.clone());
        }
        if let Some(from) = batch.truncate_from() {
            while self.entries.back().is_some_and(|entry| entry.id.index >= from) {
                self.entries.pop_back();
            }
        }
        for entry in batch.entries() {
            assert_eq!(entry.id.index, self.last().index.next(), "a hole in the log on disk");
            self.entries.push_back(entry.clone());
        }
    }
}

impl Disk {
    /// Entries from `from` on, one for each 100 bytes asked for.
    pub fn read(&self, from: Index, max: usize) -> Vec<Entry<Vec<u8>>> {
        let entries = self.entries.iter().filter(|entry| entry.id.index >= from);
        entries.take(max.div_ceil(100)).cloned().collect()
    }
}

impl StableStorage<Vec<u8>> for Disk {
    type Error = Broken;

    fn write_and_sync(&mut self, batches: &[(GroupId, WriteBatch<Vec<u8>>)]) -> Result<(), Broken> {
        if self.broken {
            return Err(Broken);
        }
        for (_, batch) in batches {
            self.write(batch);
        }
        Ok(())
    }
}

/// A state machine that knows how far it is, and a hash of all commands in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub index: u64,
    pub commands: u64,
    pub hash: u64,
}

impl State {
    pub const BYTES: usize = 24;

    pub fn apply(&mut self, entry: &Entry<Vec<u8>>) {
        assert_eq!(entry.id.index.0, self.index + 1, "applied out of order");
        self.index += 1;
        if let EntryData::Command(command) = &entry.data {
            self.commands += 1;
            for byte in command.iter().chain(&[0xff]) {
                self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
    }

    pub fn to_bytes(self) -> Vec<u8> {
        [self.index, self.commands, self.hash].iter().flat_map(|n| n.to_le_bytes()).collect()
    }

    pub fn from_bytes(bytes: &[u8]) -> Self {
        let number = |at: usize| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().unwrap());
        Self { index: number(0), commands: number(1), hash: number(2) }
    }
}

/// A state machine in memory over a state that survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub state: State,
    /// What a crash leaves.
    pub flushed: State,
    /// Installed from a snapshot; survives a crash once the log's new start does.
    pub installed: Option<State>,
}

impl Machine {
    /// After a write of the log.
    pub fn log_written(&mut self, disk: &Disk) {
        let base = disk.base_id().index.0;
        if base > self.flushed.index {
            let installed = self.installed.expect("the log starts after what is flushed");
            assert!(installed.index >= base, "the log starts after what is installed");
            self.flushed = installed;
        }
    }

    pub fn recovered(&mut self, disk: &Disk) -> Recovered<Vec<u8>> {
        self.state = self.flushed;
        self.installed = None;
        Recovered {
            hard_state: disk.hard_state,
            base: disk.base.clone(),
            entries: disk.entries.iter().cloned().collect(),
            applied: Index(self.flushed.index),
            ..Recovered::default()
        }
    }
}
