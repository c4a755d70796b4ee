//! A replica's log as its write batches tell of it: what it has, and what of that is durable.

use std::collections::VecDeque;

use bytes::Bytes;
use kontiki_raft::{EntryData, HardState, Recovered, WriteBatch};
use kontiki_types::{Index, LogId, Member, Term};

use crate::invariants::{Checked, LogMatching, Votes};
use crate::random::mix;

/// What one batch changes.
#[derive(Debug)]
pub(super) struct Change {
    hard_state: Option<HardState>,
    base: Option<LogId>,
    truncate_from: Option<Index>,
    /// Each with a hash of its content.
    entries: Vec<(LogId, u64)>,
}

impl Change {
    pub(super) fn of(batch: &WriteBatch<Bytes>) -> Self {
        Self {
            hard_state: batch.hard_state(),
            base: batch.base().map(|base| base.id),
            truncate_from: batch.truncate_from(),
            entries: batch.entries().map(|entry| (entry.id, content(&entry.data))).collect(),
        }
    }
}

/// A hash of what an entry holds.
pub(super) fn content(data: &EntryData<Bytes>) -> u64 {
    match data {
        EntryData::Noop => 1,
        EntryData::Command(command) => payload(Some(command)),
        EntryData::Membership(membership) => {
            let members =
                membership.members().map(|member| member.incarnation.0 ^ member.replica.0);
            members.fold(2, mix)
        }
    }
}

/// A hash of a payload.
pub(super) fn payload(payload: Option<&Bytes>) -> u64 {
    let Some(bytes) = payload else { return 1 };
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    words.fold(bytes.len() as u64, mix)
}

/// Entries in a row.
#[derive(Clone, Debug, Default)]
struct Run {
    base: LogId,
    entries: VecDeque<LogId>,
}

impl Run {
    fn last(&self) -> LogId {
        self.entries.back().copied().unwrap_or(self.base)
    }

    fn get(&self, index: Index) -> Option<LogId> {
        if index == self.base.index {
            return Some(self.base);
        }
        let offset = index.0.checked_sub(self.base.index.0 + 1)?;
        self.entries.get(offset as usize).copied()
    }

    fn change(&mut self, change: &Change) {
        if let Some(base) = change.base {
            while self.entries.front().is_some_and(|id| id.index <= base.index) {
                self.entries.pop_front();
            }
            self.base = base;
        }
        if let Some(from) = change.truncate_from {
            while self.entries.back().is_some_and(|id| id.index >= from) {
                self.entries.pop_back();
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct LogBook {
    pub(super) member: Member,
    has: Run,
    durable: Run,
    /// Term and vote that are durable.
    hard_state: HardState,
    under_way: VecDeque<Change>,
}

impl LogBook {
    pub(super) fn of(member: Member, recovered: &Recovered<Bytes>) -> Self {
        let base = recovered.base.as_ref().map_or(LogId::ZERO, |base| base.id);
        let indexes = base.index.0 + 1..=recovered.last().index.0;
        let id = |index| Some(LogId::new(recovered.term_at(Index(index))?, Index(index)));
        let entries = indexes.filter_map(id).collect();
        let has = Run { base, entries };
        let hard_state = recovered.hard_state;
        Self { member, durable: has.clone(), has, hard_state, under_way: VecDeque::new() }
    }

    /// The first entry that was durable here and is not in `now`. What a batch under way was about
    /// to truncate may be gone or not: nobody knows how much of the batch the disk has.
    pub(super) fn lost_in(&self, now: &Self) -> Option<LogId> {
        let truncated = self.under_way.iter().filter_map(|change| change.truncate_from).min();
        let stays = |id: &LogId| truncated.is_none_or(|from| id.index < from);
        let after = |id: &LogId| id.index > now.has.base.index && stays(id);
        let lost = |id: &LogId| now.has.get(id.index) != Some(*id);
        if self.durable.base.index > now.last().index {
            return Some(self.durable.base);
        }
        self.durable.entries.iter().copied().filter(after).find(lost)
    }

    /// The term and the vote that were durable here and are forgotten in `now`.
    pub(super) fn forgotten_in(&self, now: &Self) -> Option<HardState> {
        let HardState { term, vote } = self.hard_state;
        let later = now.hard_state.term > term;
        let same = now.hard_state.term == term && (vote.is_none() || now.hard_state.vote == vote);
        (!later && !same).then_some(self.hard_state)
    }

    /// Notes the vote that is durable here.
    pub(super) fn vote(&self, votes: &mut Votes) -> Checked {
        let HardState { term, vote } = self.hard_state;
        vote.map_or(Ok(()), |candidate| votes.votes(self.member, term, candidate))
    }

    pub(super) fn first(&self) -> Index {
        self.has.base.index.next()
    }

    pub(super) fn last(&self) -> LogId {
        self.has.last()
    }

    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        self.has.get(index).map(|id| id.term)
    }

    /// Whether an entry is on stable storage, or was, and a state with its effects is.
    pub(super) fn holds(&self, id: LogId) -> bool {
        id.index <= self.durable.base.index || self.durable.get(id.index) == Some(id)
    }

    /// The replica wants this written.
    pub(super) fn begin(&mut self, change: Change, matching: &mut LogMatching) -> Checked {
        self.has.change(&change);
        for &(id, content) in &change.entries {
            matching.has(id, self.has.last().term, content)?;
            self.has.entries.push_back(id);
        }
        self.under_way.push_back(change);
        Ok(())
    }

    /// The oldest batch is durable.
    pub(super) fn end(&mut self, votes: &mut Votes) -> Checked {
        let Some(change) = self.under_way.pop_front() else { return Ok(()) };
        if let Some(hard_state) = change.hard_state {
            self.hard_state = hard_state;
            self.vote(votes)?;
        }
        self.durable.change(&change);
        self.durable.entries.extend(change.entries.iter().map(|(id, _)| *id));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kontiki_types::{Incarnation, NodeId, ReplicaId};

    use super::*;

    fn book(terms: &[u64]) -> LogBook {
        let entries = terms.iter().zip(1..).map(|(&term, at)| LogId::new(Term(term), Index(at)));
        let has = Run { base: LogId::ZERO, entries: entries.collect() };
        let member = Member::new(NodeId(1), Incarnation(1), ReplicaId(1));
        let hard_state = HardState::default();
        LogBook { member, durable: has.clone(), has, hard_state, under_way: VecDeque::new() }
    }

    /// Swarm, seed 2000793 when it was found: the sync of a truncation failed, and the process ended.
    #[test]
    fn what_is_being_truncated_may_be_gone_and_nothing_else() {
        let mut before = book(&[1, 1, 2]);
        let (cut, replaced) = (book(&[1, 1]), book(&[1, 1, 3]));
        assert!(before.lost_in(&cut).is_some() && before.lost_in(&replaced).is_some());
        let truncate_from = Some(Index(3));
        let change = Change { hard_state: None, base: None, truncate_from, entries: Vec::new() };
        before.under_way.push_back(change);
        assert!(before.lost_in(&cut).is_none() && before.lost_in(&replaced).is_none());
        assert_eq!(before.lost_in(&book(&[1])), Some(LogId::new(Term(1), Index(2))));
    }
}
