//! Stable storage of a bare core: what a crash leaves of its log.

use std::collections::VecDeque;
use std::convert::Infallible;

use kontiki_raft::{
    Base, Entries, Entry, EntryData, HardState, Recovered, StableStorage, WriteBatch, wire,
};
use kontiki_types::{GroupId, Index, LogId, Term};

use super::command::Command;

#[derive(Clone, Debug, Default)]
struct Content {
    hard_state: HardState,
    base: Option<Base>,
    entries: VecDeque<Entry<Command>>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    content: Content,
    /// While syncs do nothing: what was there before they ceased to.
    stale: Option<Box<Content>>,
}

impl Disk {
    pub(super) fn new(base: Option<Base>) -> Self {
        Self { content: Content { base, ..Content::default() }, stale: None }
    }

    /// Syncs do nothing from here on.
    pub(super) fn take_sync_out(&mut self) {
        self.stale = Some(Box::new(self.content.clone()));
    }

    pub(super) fn crash(&mut self) {
        if let Some(stale) = &self.stale {
            self.content = Content::clone(stale);
        }
    }

    pub(super) fn base_id(&self) -> LogId {
        self.content.base.as_ref().map_or(LogId::ZERO, |base| base.id)
    }

    fn last(&self) -> LogId {
        self.content.entries.back().map_or(self.base_id(), |entry| entry.id)
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        let base = self.base_id();
        if index == base.index {
            return Some(base.term);
        }
        let offset = index.0.checked_sub(base.index.0 + 1)?;
        self.content.entries.get(offset as usize).map(|entry| entry.id.term)
    }

    /// Whether the entry is here, or was and is covered by a snapshot.
    pub(super) fn holds(&self, id: LogId) -> bool {
        self.base_id().index > id.index || self.term_at(id.index) == Some(id.term)
    }

    /// Bytes of everything in force, encoded.
    pub(super) fn bytes(&self) -> usize {
        let mut out = Vec::new();
        wire::encode_hard_state(&self.content.hard_state, &mut out);
        if let Some(base) = &self.content.base {
            wire::encode_base(base, &mut out);
        }
        for entry in &self.content.entries {
            wire::encode_entry(entry, &mut out);
        }
        out.len()
    }

    pub(super) fn recovered(&self, applied: Index) -> Recovered<Command> {
        Recovered {
            hard_state: self.content.hard_state,
            base: self.content.base.clone(),
            entries: self.content.entries.iter().cloned().collect(),
            applied,
            ..Recovered::default()
        }
    }

    /// Entries from `from` on, of about `bytes_max`, but at least one.
    pub(super) fn read(&self, from: Index, bytes_max: usize) -> Entries<Command> {
        let mut bytes = 0;
        let entries = self.content.entries.iter().skip_while(|entry| entry.id.index < from);
        let fits = |entry: &&Entry<Command>| {
            let before = bytes;
            if let EntryData::Command(command) = &entry.data {
                bytes += command.len();
            }
            before < bytes_max
        };
        entries.take_while(fits).cloned().collect()
    }

    fn write(&mut self, batch: &WriteBatch<Command>) {
        let content = &mut self.content;
        if let Some(hard_state) = batch.hard_state() {
            content.hard_state = hard_state;
        }
        if let Some(base) = batch.base() {
            while content.entries.front().is_some_and(|entry| entry.id.index <= base.id.index) {
                content.entries.pop_front();
            }
            content.base = Some(base.clone());
        }
        if let Some(from) = batch.truncate_from() {
            while content.entries.back().is_some_and(|entry| entry.id.index >= from) {
                content.entries.pop_back();
            }
        }
        let mut last = self.last().index;
        for entries in batch.ranges() {
            for entry in entries {
                assert_eq!(entry.id.index, last.next(), "a hole in the log on disk");
                last = entry.id.index;
                self.content.entries.push_back(entry.clone());
            }
        }
    }
}

impl StableStorage<Command> for Disk {
    type Error = Infallible;

    fn write_and_sync(
        &mut self,
        batches: &[(GroupId, WriteBatch<Command>)],
    ) -> Result<(), Infallible> {
        for (_, batch) in batches {
            self.write(batch);
        }
        Ok(())
    }
}
