//! Virtual time: what happens when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use kontiki_types::Instant;

/// Events in the order of their times; those of one time in the order in which they were added, so
/// that a run repeats.
#[derive(Debug)]
pub struct Schedule<E> {
    /// When, the how manyeth, and where the event is. Events themselves stay where they are: they
    /// are large, and a heap moves what it holds.
    heap: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    events: Vec<Option<E>>,
    free: Vec<u32>,
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
                self.events[place as usize] = Some(event);
                place
            }
            None => {
                self.events.push(Some(event));
                (self.events.len() - 1) as u32
            }
        };
        self.heap.push(Reverse((at, self.added, place)));
    }

    /// When the next event happens.
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next event, if it happens by `until`.
    pub fn pop(&mut self, until: Instant) -> Option<(Instant, E)> {
        if self.next_at()? > until {
            return None;
        }
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.free.push(place);
        Some((at, self.events[place as usize].take()?))
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
