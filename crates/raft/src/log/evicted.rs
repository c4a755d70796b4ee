//! What is still known of entries that are on stable storage only.
//!
//! Their terms, since every rule of the log compares terms; and about how many bytes they take. Both
//! in a few words: a term goes on for many entries.

use alloc::collections::VecDeque;

use kontiki_types::{Index, LogId, Term};

/// A position in bytes is remembered about this often.
const MARK_BYTES: u64 = 64 << 10;

pub(super) struct Evicted {
    /// The last of them; the base of the log if there are none.
    pub(super) last: LogId,
    /// Position in bytes behind it.
    pub(super) cost: u64,
    /// Where each term begins, ascending. The first may begin before the log does.
    runs: VecDeque<(Index, Term)>,
    /// Positions in bytes behind some of them, ascending.
    marks: VecDeque<(Index, u64)>,
}

impl Evicted {
    /// Nothing, in a log that begins after `base`.
    pub(super) fn none(base: LogId, cost: u64) -> Self {
        Self { last: base, cost, runs: VecDeque::new(), marks: VecDeque::new() }
    }

    /// Takes in entries of one term, up to `last`, behind which the position is `cost`.
    pub(super) fn extend(&mut self, first: Index, last: LogId, cost: u64) {
        if self.runs.back().is_none_or(|&(_, term)| term != last.term) {
            self.runs.push_back((first, last.term));
        }
        let marked = self.marks.back().map_or(0, |&(_, cost)| cost);
        if cost.saturating_sub(marked) >= MARK_BYTES {
            self.marks.push_back((last.index, cost));
        }
        (self.last, self.cost) = (last, cost);
    }

    /// The term of an entry that is one of them.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        let after = self.runs.partition_point(|&(first, _)| first <= index);
        self.runs.get(after.checked_sub(1)?).map(|&(_, term)| term)
    }

    /// The last of them at or before `index` whose term is at most `term`.
    pub(super) fn last_not_above(&self, index: Index, term: Term) -> Option<LogId> {
        let mut end = self.last.index;
        for &(first, of) in self.runs.iter().rev() {
            if first <= index && of <= term {
                return Some(LogId::new(of, end.min(index)));
            }
            end = first.prev();
        }
        None
    }

    /// Position in bytes behind the entry at `index`, or a little before.
    pub(super) fn cost_at(&self, index: Index) -> Option<u64> {
        if index == self.last.index {
            return Some(self.cost);
        }
        let after = self.marks.partition_point(|&(marked, _)| marked <= index);
        self.marks.get(after.checked_sub(1)?).map(|&(_, cost)| cost)
    }

    /// The last of them of which it is known that the position behind it is at most `cost`.
    pub(super) fn index_at(&self, cost: u64) -> Option<Index> {
        if self.cost <= cost {
            return Some(self.last.index);
        }
        let after = self.marks.partition_point(|&(_, marked)| marked <= cost);
        self.marks.get(after.checked_sub(1)?).map(|&(index, _)| index)
    }

    /// The log begins after `base` now, which is one of them.
    pub(super) fn start_after(&mut self, base: Index) {
        while self.runs.get(1).is_some_and(|&(first, _)| first <= base.next()) {
            self.runs.pop_front();
        }
        while self.marks.front().is_some_and(|&(marked, _)| marked <= base) {
            self.marks.pop_front();
        }
    }

    /// The log ends with `last` now, which is one of them, or the base.
    pub(super) fn end_with(&mut self, last: LogId, cost: u64) {
        self.runs.retain(|&(first, _)| first <= last.index);
        self.marks.retain(|&(marked, _)| marked <= last.index);
        (self.last, self.cost) = (last, cost);
    }
}
