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

/// So many events may be the next ones; when there are more, half of them are put off.
const NEXT_MAX: usize = 64;

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
///
/// What is added mostly happens soon. So the next events are a short sorted list, the first of them at
/// its end, and only what is further away is in a heap.
///
/// Invariants
/// - Nothing in `next` comes after anything in `later`.
/// - If `next` is empty, so is `later`.
#[derive(Debug)]
pub struct Schedule<E> {
    next: Vec<Key>,
    later: BinaryHeap<Reverse<Key>>,
    /// Events themselves stay where they are: they are large, and order moves what it is made of.
    events: Vec<Option<E>>,
    free: Vec<usize>,
    added: u64,
}

impl<E> Default for Schedule<E> {
    fn default() -> Self {
        Self {
            next: Vec::with_capacity(NEXT_MAX + 1),
            later: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            added: 0,
        }
    }
}

impl<E> Schedule<E> {
    /// Lets `event` happen at `at`.
    #[inline(always)]
    pub fn add(&mut self, at: Instant, event: E) {
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
        self.enqueue(at, place);
    }

    fn enqueue(&mut self, at: Instant, place: usize) {
        self.added += 1;
        let key = Key::new(at, self.added, place);
        if self.later.peek().is_some_and(|&Reverse(later)| later < key) {
            return self.later.push(Reverse(key));
        }
        // Few are sooner, so that moving them one by one is quick.
        let sooner = self.next.iter().rev().take_while(|&&next| next < key).count();
        self.next.insert(self.next.len() - sooner, key);
        if self.next.len() > NEXT_MAX {
            self.later.extend(self.next.drain(..NEXT_MAX / 2).map(Reverse));
        }
    }

    /// When the next event happens.
    pub fn next_at(&self) -> Option<Instant> {
        self.next.last().map(|key| key.at())
    }

    /// The next event, if it happens by `until`.
    #[inline]
    pub fn pop(&mut self, until: Instant) -> Option<(Instant, E)> {
        let key = self.next.pop_if(|key| key.at() <= until)?;
        if self.next.is_empty() {
            self.bring_near();
        }
        self.free.push(key.place());
        Some((key.at(), self.events[key.place()].take()?))
    }

    #[inline(never)]
    fn bring_near(&mut self) {
        while self.next.len() < NEXT_MAX / 2
            && let Some(Reverse(key)) = self.later.pop()
        {
            self.next.push(key);
        }
        self.next.reverse();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::random::Random;

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

    /// Far more events than are sorted at once, near and far, added and taken out in turn.
    #[test]
    fn many_events_come_in_order() {
        let (mut random, mut schedule) = (Random::new(7), Schedule::default());
        let (mut waiting, mut now) = (BTreeSet::new(), Instant(0));
        for round in 0..40_000u64 {
            let is_growing = (round / 5000).is_multiple_of(2);
            if waiting.is_empty() || random.chance(if is_growing { 600 } else { 400 }) {
                let far = if random.chance(300) { 10_000 } else { 50 };
                let at = Instant(now.0 + random.below(far));
                waiting.insert((at, round));
                schedule.add(at, round);
                continue;
            }
            assert_eq!(schedule.next_at(), waiting.first().map(|&(at, _)| at));
            let expected = waiting.pop_first();
            let popped = schedule.pop(Instant::MAX);
            assert_eq!(popped, expected);
            now = popped.map_or(now, |(at, _)| at);
        }
    }
}
