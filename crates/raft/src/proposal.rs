//! Proposals, and the bounds on what is not committed and not applied.
//!
//! A proposal gets its place in the log at once, but is put there only when outputs are drained:
//! everything proposed between two drains becomes one range of entries, one allocation, one append per
//! follower and one write.

use kontiki_types::{Index, Instant, LogId};

use crate::raft::Raft;
use crate::{Entries, Entry, EntryData, Payload, Reason, Refused};

impl<P: Payload> Raft<P> {
    /// Proposes a command. If it is committed, then at the id returned; another entry at that index
    /// means that it never will be. All proposals since outputs were last drained travel together.
    ///
    /// # Errors
    /// [`Refused`] gives the payload back: the proposal had and will have no effect.
    pub fn propose(&mut self, now: Instant, payload: P) -> Result<LogId, Refused<P>> {
        let entry_data = EntryData::Command(payload);
        let id = LogId::new(self.term(), self.next_index());
        let entry = Entry { id, data: entry_data };
        let cost = entry.cost() as u64;
        match self.may_propose(cost) {
            Ok(()) => {
                self.changed = true;
                self.rouse(now);
                self.pending_cost += cost;
                self.pending.push(entry);
                Ok(id)
            }
            Err(reason) => match entry.data {
                EntryData::Command(payload) => Err(Refused { payload, reason }),
                EntryData::Noop | EntryData::Membership(_) => unreachable!("built above"),
            },
        }
    }

    fn may_propose(&self, cost: u64) -> Result<(), Reason> {
        self.may_lead()?;
        let uncommitted = self.uncommitted_cost();
        let max = self.config.max_uncommitted_bytes as u64;
        if self.storage_full {
            Err(Reason::StorageFull)
        } else if self.is_transferring() {
            Err(Reason::Transferring)
        } else if cost > max {
            Err(Reason::TooLarge)
        } else if uncommitted.saturating_add(cost) > max
            || self.unapplied_cost() > self.config.max_unapplied_bytes as u64
        {
            Err(Reason::Full)
        } else {
            Ok(())
        }
    }

    /// Moves what was proposed into the log, in ranges of about one message each.
    pub(crate) fn seal(&mut self) {
        while !self.pending.is_empty() {
            let mut bytes = 0usize;
            let count = if self.pending_cost <= self.config.max_append_bytes as u64 {
                self.pending.len()
            } else {
                self.pending
                    .iter()
                    .take_while(|entry| {
                        bytes = bytes.saturating_add(entry.cost());
                        bytes <= self.config.max_append_bytes
                    })
                    .count()
                    .max(1)
            };
            let sealed: Entries<P> = self.pending.drain(..count).collect();
            let before = self.log.last_cost();
            self.log.append(sealed);
            let cost = self.log.last_cost().saturating_sub(before);
            self.pending_cost = self.pending_cost.saturating_sub(cost);
        }
        self.pending_cost = 0;
    }

    /// The index of the next proposal.
    pub(crate) fn next_index(&self) -> Index {
        let last = self.log.last().index.0;
        Index(last.saturating_add(self.pending.len() as u64).saturating_add(1))
    }

    pub(crate) fn uncommitted_cost(&self) -> u64 {
        self.log.last_cost().saturating_sub(self.commit_cost).saturating_add(self.pending_cost)
    }

    /// What is not committed does not count: after a restart that can be the whole log, and what is
    /// lacking may be the very entry that commits it.
    pub(crate) fn unapplied_cost(&self) -> u64 {
        self.commit_cost.saturating_sub(self.applied_cost)
    }
}
