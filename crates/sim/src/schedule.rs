//! Virtual time: what happens when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use kontiki_types::Instant;

/// When an event happens, the how manyeth it is, and its place: 64 bits, 40 and 24, in one number,
/// which is compared in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u128);

const PLACE_BITS: u32 = 24;
const ADDED_BITS: u32 = 40;

impl Key {
    fn new(at: Instant, added: u64, place: usize) -> Self {
        assert!(place < 1 << PLACE_BITS && added < 1 << ADDED_BITS, "more events than are counted");
        let low = added << PLACE_BITS | place as u64;
        Self(u128::from(at.0) << 64 | u128::from(low))
    }

    fn at(self) -> Instant {
        Instant((self.0 >> 64) as u64)
    }

    fn place(self) -> usize {
        self.0 as usize & ((1 << PLACE_BITS) - 1)
    }
}

/// Events in the order of their times; those of one time in the order in which they were added, so
/// that a run repeats.
#[derive(Debug)]
pub struct Schedule<E> {
    /// Events themselves stay where they are: they are large, and a heap moves what it holds.
    heap: BinaryHeap<Reverse<Key>>,
    events: Vec<Option<E>>,
    free: Vec<usize>,
    added: u64,
}

impl<E> Default for Schedule<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), events: Vec::new(), free: Vec::new(), added: 0 }
    }
}

impl<E> Schedule<E> {
    /// Lets `event` happen at `at`.
    pub fn add(&mut self, at: Instant, event: E) {
        self.added += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.events[place] = Some(event);
                place
            }
            None => {
                self.events.push(Some(event));
                self.events.len() - 1
            }
        };
        self.heap.push(Reverse(Key::new(at, self.added, place)));
    }

    /// When the next event happens.
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(key)| key.at())
    }

    /// The next event, if it happens by `until`.
    pub fn pop(&mut self, until: Instant) -> Option<(Instant, E)> {
        if self.next_at()? > until {
            return None;
        }
        let Reverse(key) = self.heap.pop()?;
        self.free.push(key.place());
        Some((key.at(), self.events[key.place()].take()?))
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
