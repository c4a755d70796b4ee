//! The log: everything after the base, whether durable or not.
//!
//! What is in memory is a sequence of shared ranges ([`Entries`]), as they were sealed by a leader or
//! arrived in a message. Looking up an index is a look at the last range, else a binary search over
//! ranges. Of older entries, that are durable and applied, only what [`Evicted`] says may be known.
//!
//! Invariants
//! - Indexes are contiguous from `base.id.index + 1` to `last.index`; no range is empty; the first
//!   range begins behind `evicted.last`.
//! - Terms never decrease along the log.
//! - `memberships` holds the configurations among the entries, in order; the last one, or else the
//!   base's, is in effect (§6: effective on append, rolled back on truncation).
//! - `cost` of a range is the sum of the entry costs before it, counted from an arbitrary origin, so
//!   that a difference of two positions is the bytes between them.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use kontiki_types::plant::{Plant, planted};
use kontiki_types::{Index, LogId, Term};

use crate::{Base, Entries, Entry, EntryData, Membership, Payload, StoredRun};
use evicted::Evicted;

pub(crate) struct Log<P> {
    base: Base,
    evicted: Evicted,
    ranges: VecDeque<Range<P>>,
    last: LogId,
    base_cost: u64,
    last_cost: u64,
    memberships: Vec<(LogId, Arc<Membership>)>,
}

struct Range<P> {
    entries: Entries<P>,
    first: Index,
    cost: u64,
}

impl<P> Range<P> {
    fn last(&self) -> Index {
        Index(self.first.0.saturating_add(self.entries.len() as u64).saturating_sub(1))
    }
}

impl<P: Payload> Log<P> {
    pub(crate) fn new(base: Base) -> Self {
        let last = base.id;
        Self {
            base,
            evicted: Evicted::none(last, 0),
            ranges: VecDeque::new(),
            last,
            base_cost: 0,
            last_cost: 0,
            memberships: Vec::new(),
        }
    }

    /// Where the log begins.
    pub(crate) fn base(&self) -> &Base {
        &self.base
    }

    pub(crate) fn first_index(&self) -> Index {
        self.base.id.index.next()
    }

    pub(crate) fn last(&self) -> LogId {
        self.last
    }

    /// Bytes of the log, whether in memory or not.
    pub(crate) fn bytes(&self) -> u64 {
        self.last_cost.saturating_sub(self.base_cost)
    }

    /// Bytes in memory.
    pub(crate) fn cached_bytes(&self) -> u64 {
        self.last_cost.saturating_sub(self.evicted.cost)
    }

    /// The last entry that is not in memory; the base if all others are.
    pub(crate) fn evicted(&self) -> Index {
        self.evicted.last.index
    }

    /// Position in bytes behind the last entry.
    pub(crate) fn last_cost(&self) -> u64 {
        self.last_cost
    }

    /// Position in bytes behind the entry at `index`, clamped to what the log holds; of an entry that
    /// is not in memory, about.
    pub(crate) fn cost_at(&self, index: Index) -> u64 {
        if index >= self.last.index {
            return self.last_cost;
        }
        let Some(range) = self.range_of(index).and_then(|at| self.ranges.get(at)) else {
            return self.evicted.cost_at(index).unwrap_or(self.base_cost).max(self.base_cost);
        };
        let count = offset(range.first, index).saturating_add(1);
        range.entries.iter().take(count).fold(range.cost, |sum, entry| sum + entry.cost() as u64)
    }

    /// An entry behind which there are at least `bytes` of log, and hardly more: the last that is
    /// known to be one. The base if there is none.
    pub(crate) fn index_before(&self, bytes: u64) -> Index {
        if bytes >= self.bytes() {
            return self.base.id.index;
        }
        let most = self.last_cost.saturating_sub(bytes);
        // A range ends where the next one begins.
        let after = self.ranges.partition_point(|range| range.cost <= most);
        let range = match after.checked_sub(1) {
            Some(at) if after == self.ranges.len() && self.last_cost <= most => Some(at),
            Some(at) => at.checked_sub(1),
            None => None,
        };
        let found = range.and_then(|at| self.ranges.get(at)).map(Range::last);
        let found = found.or_else(|| self.evicted.index_at(most));
        found.unwrap_or(self.base.id.index).max(self.base.id.index)
    }

    /// The term of the entry at `index`, the base included.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.last.index {
            return Some(self.last.term);
        }
        if index == self.base.id.index {
            return Some(self.base.id.term);
        }
        if index > self.base.id.index && index <= self.evicted.last.index {
            return self.evicted.term_at(index);
        }
        let range = self.ranges.get(self.range_of(index)?)?;
        range.entries.get(offset(range.first, index)).map(|entry| entry.id.term)
    }

    pub(crate) fn contains(&self, id: LogId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The last entry at or before `index` whose term is at most `term`; the base if none is.
    pub(crate) fn last_not_above(&self, index: Index, term: Term) -> LogId {
        let index = index.min(self.last.index);
        let count = self.range_of(index).map_or(0, |at| at + 1);
        for range in self.ranges.iter().take(count).rev() {
            let count = offset(range.first, index).saturating_add(1).min(range.entries.len());
            let entries = range.entries.get(..count).unwrap_or(&[]);
            let below = entries.partition_point(|entry| entry.id.term <= term);
            if let Some(entry) = below.checked_sub(1).and_then(|at| entries.get(at)) {
                return entry.id;
            }
        }
        let evicted = self.evicted.last_not_above(index, term);
        evicted.filter(|id| id.index > self.base.id.index).unwrap_or(self.base.id)
    }

    /// Appends entries that follow on from the last one (the caller has checked).
    pub(crate) fn append(&mut self, entries: Entries<P>) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        let (first, last) = (first.id.index, last.id);
        let mut cost = self.last_cost;
        for entry in &entries {
            cost += entry.cost() as u64;
            if let EntryData::Membership(membership) = &entry.data {
                self.memberships.push((entry.id, membership.clone()));
            }
        }
        self.ranges.push_back(Range { entries, first, cost: self.last_cost });
        self.last = last;
        self.last_cost = cost;
    }

    /// Appends entries that are on stable storage and are not in memory, to a log that has none in
    /// memory (the caller has checked that they follow on).
    pub(crate) fn append_stored(&mut self, run: &StoredRun) {
        self.last_cost = self.last_cost.saturating_add(run.bytes);
        self.evicted.extend(run.first, run.last, self.last_cost);
        self.last = run.last;
    }

    /// Takes in a configuration among these entries.
    pub(crate) fn append_stored_membership(&mut self, id: LogId, membership: Arc<Membership>) {
        self.memberships.push((id, membership));
    }

    /// Drops the entries from `from` on.
    pub(crate) fn truncate(&mut self, from: Index) {
        while let Some(range) = self.ranges.back_mut() {
            if range.last() < from {
                break;
            }
            if range.first >= from {
                self.ranges.pop_back();
                continue;
            }
            range.entries.truncate(offset(range.first, from));
        }
        if !planted(Plant::ConfigurationStays) {
            self.memberships.retain(|(id, _)| id.index < from);
        }
        if from <= self.evicted.last.index {
            // Never asked for by the rules: what is not in memory is committed.
            let last = from.prev().max(self.base.id.index);
            let term = self.term_at(last).unwrap_or(self.base.id.term);
            let cost = self.cost_at(last);
            self.evicted.end_with(LogId::new(term, last), cost);
        }
        match self.ranges.back() {
            Some(range) => {
                self.last = range.entries.last().map_or(self.base.id, |entry| entry.id);
                self.last_cost =
                    range.entries.iter().fold(range.cost, |sum, entry| sum + entry.cost() as u64);
            }
            None => (self.last, self.last_cost) = (self.evicted.last, self.evicted.cost),
        }
    }

    /// Drops from memory what is not among the last `keep` bytes, as far as `upto`, range by range.
    /// The caller knows that it is on stable storage.
    pub(crate) fn evict(&mut self, keep: u64, upto: Index) {
        while self.cached_bytes() > keep
            && self.ranges.front().is_some_and(|range| range.last() <= upto)
            && let Some(range) = self.ranges.pop_front()
        {
            let cost = self.ranges.front().map_or(self.last_cost, |next| next.cost);
            let (Some(mut first), Some(last)) = (range.entries.first(), range.entries.last())
            else {
                continue;
            };
            // Nearly always of one term; else term by term.
            while first.id.term != last.id.term {
                let of = range.entries.partition_point(|entry| entry.id.term <= first.id.term);
                let (end, next) = (of.checked_sub(1), range.entries.get(of));
                let (Some(end), Some(next)) = (end.and_then(|at| range.entries.get(at)), next)
                else {
                    break;
                };
                self.evicted.extend(first.id.index, end.id, range.cost);
                first = next;
            }
            self.evicted.extend(first.id.index, last.id, cost);
        }
    }

    /// Drops the entries up to and including `upto`, which the log holds.
    pub(crate) fn compact(&mut self, upto: Index) {
        let Some(term) = self.term_at(upto) else { return };
        let cost = self.cost_at(upto);
        let (membership_id, membership) = self.membership_at(upto);
        let membership = membership.clone();
        self.base = Base { id: LogId::new(term, upto), membership, membership_id };
        self.base_cost = cost;
        if upto < self.evicted.last.index {
            self.evicted.start_after(upto);
        } else {
            self.evicted = Evicted::none(self.base.id, cost);
        }
        self.memberships.retain(|(id, _)| id.index > upto);
        while let Some(range) = self.ranges.front_mut() {
            if range.first > upto {
                break;
            }
            if range.last() <= upto {
                self.ranges.pop_front();
                continue;
            }
            range.entries.drop_front(offset(range.first, upto) + 1);
            range.first = upto.next();
            range.cost = cost;
        }
    }

    /// Starts anew after a snapshot. Entries behind it stay if the log holds the snapshot's last
    /// entry; returns whether it did.
    pub(crate) fn install(&mut self, base: Base) -> bool {
        if self.contains(base.id) && base.id.index > self.base.id.index {
            self.compact(base.id.index);
            self.base = base;
            return true;
        }
        let origin = self.last_cost;
        let evicted = Evicted::none(base.id, origin);
        *self = Self { evicted, base_cost: origin, last_cost: origin, ..Self::new(base) };
        false
    }

    /// Entries from `from` on, at most `bytes_max` (but at least one), in one range. None where they
    /// are not in memory. And how many bytes they are.
    pub(crate) fn slice(&self, from: Index, bytes_max: usize) -> (Entries<P>, usize) {
        let Some(at) = self.range_of(from) else { return (Entries::new(), 0) };
        let Some(range) = self.ranges.get(at) else { return (Entries::new(), 0) };
        let mut entries = range.entries.clone();
        entries.drop_front(offset(range.first, from));
        let (count, bytes) = fit(&entries, 0, bytes_max);
        if count < entries.len() || at + 1 == self.ranges.len() {
            entries.truncate(count);
            return (entries, bytes);
        }
        // Several small ranges: collect them once rather than send a message for each.
        let mut collected: Vec<Entry<P>> = entries.to_vec();
        let mut bytes = bytes;
        for range in self.ranges.iter().skip(at + 1) {
            let (count, sum) = fit(&range.entries, bytes, bytes_max);
            collected.extend(range.entries.iter().take(count).cloned());
            bytes = sum;
            if count < range.entries.len() {
                break;
            }
        }
        (collected.into(), bytes)
    }

    /// The entries from `from` to `to`, if they are one range, or a part of one.
    pub(crate) fn one_range(&self, from: Index, to: Index) -> Option<Entries<P>> {
        let range = self.ranges.get(self.range_of(from)?)?;
        let skipped = offset(range.first, from);
        let count = offset(from, to).saturating_add(1);
        if from > to || range.entries.len().saturating_sub(skipped) < count {
            return None;
        }
        let mut entries = range.entries.clone();
        entries.drop_front(skipped);
        entries.truncate(count);
        Some(entries)
    }

    /// The ranges that make up the entries from `from` to `to`, which are in memory.
    pub(crate) fn ranges(&self, from: Index, to: Index) -> impl Iterator<Item = Entries<P>> {
        let count = self.ranges.len();
        let start = if from > to { None } else { self.range_of(from) };
        self.ranges
            .range(start.map_or(count, |start| start.min(count))..)
            .take_while(move |range| range.first <= to)
            .map(move |range| {
                let mut entries = range.entries.clone();
                entries.truncate(offset(range.first, to).saturating_add(1));
                if from > range.first {
                    entries.drop_front(offset(range.first, from));
                }
                entries
            })
    }

    /// The configuration in effect, and its entry.
    pub(crate) fn membership(&self) -> (LogId, &Arc<Membership>) {
        match self.memberships.last() {
            Some((id, membership)) => (*id, membership),
            None => (self.base.membership_id, &self.base.membership),
        }
    }

    /// The configuration in effect at `index` (not before the base), and its entry.
    pub(crate) fn membership_at(&self, index: Index) -> (LogId, &Arc<Membership>) {
        match self.memberships.iter().rev().find(|(id, _)| id.index <= index) {
            Some((id, membership)) => (*id, membership),
            None => (self.base.membership_id, &self.base.membership),
        }
    }

    /// Configurations among the entries after `after`, up to `upto`.
    pub(crate) fn memberships(
        &self,
        after: Index,
        upto: Index,
    ) -> impl Iterator<Item = (LogId, &Arc<Membership>)> {
        self.memberships
            .iter()
            .filter(move |(id, _)| id.index > after && id.index <= upto)
            .map(|(id, membership)| (*id, membership))
    }

    #[inline]
    fn range_of(&self, index: Index) -> Option<usize> {
        if index <= self.evicted.last.index || index > self.last.index {
            return None;
        }
        // Nearly always it is the last one, or the one before.
        let last = self.ranges.len().checked_sub(1)?;
        if self.ranges.get(last)?.first <= index {
            return Some(last);
        }
        let before = last.checked_sub(1)?;
        if self.ranges.get(before)?.first <= index {
            return Some(before);
        }
        self.ranges.partition_point(|range| range.first <= index).checked_sub(1)
    }
}

fn offset(first: Index, index: Index) -> usize {
    usize::try_from(index.0.saturating_sub(first.0)).unwrap_or(usize::MAX)
}

/// How many entries fit after `bytes`, and the bytes with them. The very first always fits.
fn fit<P: Payload>(entries: &[Entry<P>], bytes: usize, bytes_max: usize) -> (usize, usize) {
    let mut sum = bytes;
    for (count, entry) in entries.iter().enumerate() {
        let with = sum.saturating_add(entry.cost());
        if with > bytes_max && with > entry.cost() {
            return (count, sum);
        }
        sum = with;
    }
    (entries.len(), sum)
}

mod evicted;
#[cfg(test)]
mod tests;
