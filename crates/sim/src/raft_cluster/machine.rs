//! A state machine that remembers every command, and what a crash leaves of it.

use std::rc::Rc;

use kontiki_raft::{Entry, EntryData};
use kontiki_types::Index;

/// What was applied.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) index: Index,
    pub(super) commands: Vec<Rc<[u8]>>,
    /// Of all commands, in order.
    pub(super) hash: u64,
}

impl State {
    pub(super) fn apply(&mut self, entry: &Entry<Vec<u8>>) {
        self.index = entry.id.index;
        if let EntryData::Command(command) = &entry.data {
            self.push(command.as_slice().into());
        }
    }

    fn push(&mut self, command: Rc<[u8]>) {
        self.hash = mix(self.hash, hash(&command) as u64);
        self.commands.push(command);
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.index.0.to_le_bytes().to_vec();
        for command in &self.commands {
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
            state.push(after.get(..length)?.into());
            rest = &after[length..];
        }
        rest.is_empty().then_some(state)
    }
}

/// The state in memory over one that survives a crash.
#[derive(Debug, Default)]
pub(super) struct Machine {
    pub(super) state: State,
    pub(super) flushed: State,
    /// From a snapshot; it survives once the log's new start does.
    installed: Option<State>,
}

impl Machine {
    pub(super) fn flush(&mut self) {
        self.flushed = self.state.clone();
    }

    pub(super) fn install(&mut self, state: State) {
        self.state = state.clone();
        self.installed = Some(state);
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
        self.state = self.flushed.clone();
        self.installed = None;
    }
}

/// FNV-1a over 128 bits.
pub(super) fn hash(bytes: &[u8]) -> u128 {
    let start = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    bytes.iter().fold(start, |sum: u128, &byte| {
        (sum ^ u128::from(byte)).wrapping_mul(0x0100_0000_0000_0000_013b)
    })
}

fn mix(sum: u64, next: u64) -> u64 {
    (sum.rotate_left(5) ^ next).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
