//! Virtual time: what happens when.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use kontiki_types::Instant;

/// Events in the order of their times; those of one time in the order in which they were added, so
/// that a run repeats.
#[derive(Debug)]
pub struct Schedule<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    added: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Instant,
    number: u64,
    event: E,
}

impl<E> Entry<E> {
    fn key(&self) -> (Instant, u64) {
        (self.at, self.number)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl<E> Default for Schedule<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), added: 0 }
    }
}

impl<E> Schedule<E> {
    /// Lets `event` happen at `at`.
    pub fn add(&mut self, at: Instant, event: E) {
        self.added += 1;
        self.heap.push(Reverse(Entry { at, number: self.added, event }));
    }

    /// When the next event happens.
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// The next event, if it happens by `until`.
    pub fn pop(&mut self, until: Instant) -> Option<(Instant, E)> {
        if self.next_at()? > until {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_order() {
        let mut schedule = Schedule::default();
        for (at, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            schedule.add(Instant(at), event);
        }
        let mut seen = String::new();
        while let Some((_, event)) = schedule.pop(Instant(5)) {
            seen.push(event);
        }
        assert_eq!(seen, "abcd");
        schedule.add(Instant(9), 'e');
        assert!(schedule.pop(Instant(8)).is_none());
    }
}
