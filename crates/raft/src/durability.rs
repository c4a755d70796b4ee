//! What is written, what is under way to the disk, and what must not be said before it is there.
//!
//! Invariants
//! - Batches are numbered; a receipt counts once all batches before its own have theirs.
//! - `durable` is the last index such that the log up to it, as it is in memory, is on stable
//!   storage. A truncation lowers it, and lowers what every batch under way can still prove: a
//!   receipt proves only entries that its batch held and that are still in the log (PROTOCOL 7).
//! - Something held leaves when the last batch that was needed for it has its receipt; that batch
//!   holds, or follows, the term, the vote and the entries that it asserts.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem::take;

use kontiki_types::plant::{Plant, planted};
use kontiki_types::{Index, Instant, Member, Term};

use crate::log::Log;
use crate::persist::More;
use crate::{Entries, HardState, Message, Payload, Receipt, Session, WriteBatch};

pub(crate) struct Durability<P> {
    /// A random number, to tell receipts of others and of earlier lives.
    owner: u64,
    issued: u64,
    done: u64,
    under_way: VecDeque<UnderWay>,
    /// Each with the last batch it needs.
    held: VecDeque<(u64, Held<P>)>,
    /// How many of those, at the end, wait to be filed under the next batch, if there is one.
    unfiled: usize,
    hard_state_changed: bool,
    /// The batch that holds the latest hard state.
    hard_state_sequence: u64,
    base_changed: bool,
    truncate_from: Option<Index>,
    /// The first entry that no batch holds.
    unwritten: Index,
    durable: Index,
}

struct UnderWay {
    sequence: u64,
    /// The last entry that the receipt will prove. 0 if the batch holds none (any more).
    last: Index,
    since: Instant,
    done: bool,
}

/// Something that asserts durable state.
pub(crate) enum Held<P> {
    /// The log is that of the leader `to` of `term` up to `matched`. Not yet a message, since of
    /// all that is held only this comes often.
    Acknowledgement {
        to: Member,
        session: Session,
        term: Term,
        matched: Index,
    },
    Send(Box<Message<P>>),
    /// A candidate's vote for itself.
    OwnVote(Term),
}

impl<P: Payload> Durability<P> {
    pub(crate) fn new(owner: u64, last: Index) -> Self {
        Self {
            owner,
            issued: 0,
            done: 0,
            under_way: VecDeque::new(),
            held: VecDeque::new(),
            unfiled: 0,
            hard_state_changed: false,
            hard_state_sequence: 0,
            base_changed: false,
            truncate_from: None,
            unwritten: last.next(),
            durable: last,
        }
    }

    /// The log up to here is on stable storage.
    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    /// Since when the oldest batch is under way.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.under_way.front().map(|batch| batch.since)
    }

    pub(crate) fn hard_state_changed(&mut self) {
        self.hard_state_changed = true;
    }

    pub(crate) fn base_changed(&mut self) {
        self.base_changed = true;
    }

    /// The log dropped its entries from `from` on.
    pub(crate) fn truncated(&mut self, from: Index) {
        if from < self.unwritten {
            self.truncate_from = Some(self.truncate_from.map_or(from, |earlier| earlier.min(from)));
            self.unwritten = from;
        }
        self.limit(from.prev());
    }

    /// A snapshot took the place of the whole log, of which everything up to `committed` is the
    /// same in the snapshot.
    pub(crate) fn replaced(&mut self, base: Index, committed: Index) {
        self.base_changed = true;
        self.truncate_from = Some(base.next());
        self.unwritten = base.next();
        self.limit(committed);
    }

    /// A snapshot took the place of the log up to `base`, which held the same.
    pub(crate) fn superseded(&mut self, base: Index) {
        self.base_changed = true;
        self.unwritten = self.unwritten.max(base.next());
    }

    fn limit(&mut self, last: Index) {
        self.durable = self.durable.min(last);
        for batch in &mut self.under_way {
            batch.last = batch.last.min(last);
        }
    }

    /// To be let go when everything up to now is durable.
    pub(crate) fn hold(&mut self, held: Held<P>) {
        self.held.push_back((u64::MAX, held));
        self.unfiled += 1;
    }

    /// Whether the latest hard state and the log up to `index` are on stable storage.
    pub(crate) fn covers(&self, index: Index) -> bool {
        !self.hard_state_changed && self.hard_state_sequence <= self.done && index <= self.durable
    }

    /// Whether there is something to write.
    pub(crate) fn has_news(&self, log: &Log<P>) -> bool {
        self.unwritten <= log.last().index
            || self.hard_state_changed
            || self.base_changed
            || self.truncate_from.is_some()
    }

    /// Whether everything is written and synced, and nothing waits for that.
    pub(crate) fn is_idle(&self, log: &Log<P>) -> bool {
        self.under_way.is_empty() && self.held.is_empty() && !self.has_news(log)
    }

    /// Files what has been asserted since the last batch under the batch it has to wait for: the
    /// latest.
    pub(crate) fn file(&mut self) {
        if self.unfiled > 0 {
            for (sequence, _) in self.held.iter_mut().rev().take(take(&mut self.unfiled)) {
                *sequence = self.issued;
            }
        }
    }

    /// A batch of everything that is to be written.
    pub(crate) fn next_batch(
        &mut self,
        log: &Log<P>,
        hard_state: HardState,
        now: Instant,
    ) -> WriteBatch<P> {
        self.issued += 1;
        let mut proves = Index(0);
        let (mut first, mut rest) = (Entries::new(), Vec::new());
        let last = log.last().index;
        if self.unwritten <= last {
            proves = last;
            match log.one_range(self.unwritten, last) {
                Some(all) => first = all,
                None => {
                    let mut ranges = log.ranges(self.unwritten, last);
                    first = ranges.next().unwrap_or_default();
                    rest = ranges.collect();
                }
            }
            self.unwritten = last.next();
        }
        let simple = !self.hard_state_changed
            && !self.base_changed
            && self.truncate_from.is_none()
            && rest.is_empty();
        let more = (!simple).then(|| {
            if self.base_changed {
                proves = proves.max(log.base().id.index);
            }
            if self.hard_state_changed {
                self.hard_state_sequence = self.issued;
            }
            Box::new(More {
                hard_state: take(&mut self.hard_state_changed).then_some(hard_state),
                base: take(&mut self.base_changed).then(|| log.base().clone()),
                truncate_from: self.truncate_from.take(),
                rest,
            })
        });
        let sequence = self.issued;
        self.under_way.push_back(UnderWay { sequence, last: proves, since: now, done: false });
        WriteBatch { first, more, receipt: Receipt { owner: self.owner, sequence } }
    }

    /// Takes a receipt. Returns whether it was one of ours that was still expected.
    pub(crate) fn persisted(&mut self, receipt: Receipt) -> bool {
        if receipt.owner != self.owner {
            return false;
        }
        let expected = self.under_way.iter_mut().find(|batch| batch.sequence == receipt.sequence);
        let Some(batch) = expected else { return false };
        batch.done = true;
        while let Some(batch) = self.under_way.front() {
            if !batch.done && !planted(Plant::CompletionsOutOfOrder) {
                break;
            }
            self.done = batch.sequence;
            self.durable = self.durable.max(batch.last);
            self.under_way.pop_front();
        }
        true
    }

    /// Whether something need not be held any longer.
    pub(crate) fn may_release(&self) -> bool {
        self.held.front().is_some_and(|(sequence, _)| *sequence <= self.done)
    }

    /// The next thing that need not be held any longer.
    pub(crate) fn release(&mut self) -> Option<Held<P>> {
        let (sequence, _) = self.held.front()?;
        if *sequence > self.done {
            return None;
        }
        self.held.pop_front().map(|(_, held)| held)
    }

    /// Forgets everything that was to be written or said.
    pub(crate) fn abandon(&mut self) {
        self.held.clear();
        self.unfiled = 0;
        self.under_way.clear();
    }
}
