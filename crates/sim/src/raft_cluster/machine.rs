//! A state machine that remembers every command, and what a crash leaves of it.

use kontiki_raft::{Entry, EntryData};
use kontiki_types::Index;

use super::command::{Command, hash64};
use crate::invariants::{Checked, StateMachineSafety};
use crate::random::mix;

/// Many short strings, one behind the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Commands {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Commands {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<&[u8]> {
        let end = *self.ends.get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start..end])
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    fn push(&mut self, command: &[u8]) {
        self.bytes.extend_from_slice(command);
        self.ends.push(self.bytes.len());
    }

    fn truncate(&mut self, count: usize) {
        self.ends.truncate(count);
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }
}

/// What was applied.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) index: Index,
    pub(super) commands: Commands,
    /// Of all commands, in order.
    pub(super) hash: u64,
}

impl State {
    fn apply(&mut self, entry: &Entry<Command>, content: u64) {
        self.index = entry.id.index;
        if let EntryData::Command(command) = &entry.data {
            self.push(command, content);
        }
    }

    fn push(&mut self, command: &[u8], content: u64) {
        self.hash = mix(self.hash, content);
        self.commands.push(command);
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.index.0.to_le_bytes().to_vec();
        for command in self.commands.iter() {
            bytes.extend_from_slice(&(command.len() as u32).to_le_bytes());
            bytes.extend_from_slice(command);
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (index, mut rest) = bytes.split_first_chunk::<8>()?;
        let index = Index(u64::from_le_bytes(*index));
        let mut state = Self { index, ..Self::default() };
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            let command = after.get(..length)?;
            state.push(command, hash64(command));
            rest = &after[length..];
        }
        rest.is_empty().then_some(state)
    }
}

/// What survives a crash: a beginning of what was applied.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flushed {
    pub(super) index: Index,
    pub(super) commands: usize,
    hash: u64,
}

impl Flushed {
    fn of(state: &State) -> Self {
        Self { index: state.index, commands: state.commands.len(), hash: state.hash }
    }
}

/// The state in memory over one that survives a crash.
#[derive(Debug, Default)]
pub(super) struct Machine {
    pub(super) state: State,
    pub(super) flushed: Flushed,
    /// From a snapshot; it survives once the log's new start does.
    installed: Option<Flushed>,
}

impl Machine {
    pub(super) fn apply(
        &mut self,
        entries: &[Entry<Command>],
        safety: &mut StateMachineSafety,
    ) -> Checked {
        for entry in entries {
            let content = content(&entry.data);
            safety.applies(self.state.index, entry.id, content)?;
            self.state.apply(entry, content);
            safety.has_state(self.state.index, self.state.hash)?;
        }
        Ok(())
    }

    /// Makes the state durable when so many commands were applied since it was; then the log may be
    /// dropped up to the index.
    pub(super) fn flush_each(&mut self, commands: Option<u64>) -> Option<Index> {
        let applied = self.state.commands.len() as u64;
        if applied < self.flushed.commands as u64 + commands? {
            return None;
        }
        self.flushed = Flushed::of(&self.state);
        Some(self.flushed.index)
    }

    pub(super) fn install(&mut self, state: State) {
        // What was flushed is a beginning of every later state: State Machine Safety sees to that.
        self.installed = Some(Flushed::of(&state));
        self.state = state;
    }

    /// The log on disk begins after `base`.
    pub(super) fn log_begins_after(&mut self, base: Index) {
        if base > self.flushed.index
            && let Some(installed) = self.installed.take()
        {
            assert!(installed.index >= base, "the log begins after what is installed");
            self.flushed = installed;
        }
    }

    pub(super) fn crash(&mut self) {
        self.state.index = self.flushed.index;
        self.state.commands.truncate(self.flushed.commands);
        self.state.hash = self.flushed.hash;
        self.installed = None;
    }
}

/// What stands for the content of an entry.
pub(super) fn content(data: &EntryData<Command>) -> u64 {
    match data {
        EntryData::Noop => 1,
        EntryData::Command(command) => command.hash(),
        EntryData::Membership(membership) => hash64(format!("{membership:?}").as_bytes()),
    }
}

/// FNV-1a over 128 bits.
pub(super) fn hash(bytes: &[u8]) -> u128 {
    let start = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    bytes.iter().fold(start, |sum: u128, &byte| {
        (sum ^ u128::from(byte)).wrapping_mul(0x0100_0000_0000_0000_013b)
    })
}
