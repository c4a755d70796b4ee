//! A replica's log as its write batches tell of it, whether they are durable or not.

use std::collections::VecDeque;

use kontiki_raft::{EntryData, Recovered, WriteBatch};
use kontiki_types::{Index, LogId, Term};

use super::command::Command;
use super::machine::content;
use crate::invariants::{Checked, LogMatching};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct View {
    base: LogId,
    /// Each with whether it is a command.
    entries: VecDeque<(LogId, bool)>,
}

impl View {
    pub(super) fn of(recovered: &Recovered<Command>) -> Self {
        let base = recovered.base.as_ref().map_or(LogId::ZERO, |base| base.id);
        let is_command = |data: &EntryData<_>| matches!(data, EntryData::Command(_));
        let entries =
            recovered.entries.iter().map(|entry| (entry.id, is_command(&entry.data))).collect();
        Self { base, entries }
    }

    pub(super) fn first(&self) -> Index {
        self.base.index.next()
    }

    pub(super) fn last(&self) -> LogId {
        self.entries.back().map_or(self.base, |&(id, _)| id)
    }

    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let offset = index.0.checked_sub(self.first().0)?;
        self.entries.get(offset as usize).map(|(id, _)| id.term)
    }

    /// How many commands there are after `after` up to `upto`. What is beyond the end counts, too.
    pub(super) fn commands(&self, after: Index, upto: Index) -> u64 {
        let within = |id: LogId| id.index > after && id.index <= upto;
        let known = self.entries.iter().filter(|&&(id, is_command)| is_command && within(id));
        known.count() as u64 + upto.0.saturating_sub(self.last().index.0.max(after.0))
    }

    pub(super) fn write(
        &mut self,
        batch: &WriteBatch<Command>,
        matching: &mut LogMatching,
    ) -> Checked {
        if let Some(base) = batch.base() {
            while self.entries.front().is_some_and(|(id, _)| id.index <= base.id.index) {
                self.entries.pop_front();
            }
            self.base = base.id;
        }
        if let Some(from) = batch.truncate_from() {
            while self.entries.back().is_some_and(|(id, _)| id.index >= from) {
                self.entries.pop_back();
            }
        }
        let mut last = self.last();
        for entries in batch.ranges() {
            for entry in entries {
                matching.has(entry.id, last.term, content(&entry.data))?;
                self.entries.push_back((entry.id, matches!(entry.data, EntryData::Command(_))));
                last = entry.id;
            }
        }
        Ok(())
    }
}
