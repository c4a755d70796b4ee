//! A value for each slot, stored by runs of slots with the same.

use kontiki_types::{SLOTS, Slot};

use crate::SlotSet;
use crate::wire::{BadBytes, Reader, Wire, put_number};

/// A total function from slots.
// Invariant: the first run begins at 0, beginnings rise, and neighbours differ: one form for each
// function, so that equality and byte forms are those of functions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Runs<T> {
    runs: Vec<(u16, T)>,
}

impl<T: Copy + Eq> Runs<T> {
    /// The same for every slot.
    pub(crate) fn filled(value: T) -> Self {
        Self { runs: vec![(0, value)] }
    }

    pub(crate) fn get(&self, slot: Slot) -> T {
        let after = self.runs.partition_point(|(first, _)| *first <= slot.get());
        // The first run begins at slot 0.
        self.runs[after.saturating_sub(1)].1
    }

    /// Every run: first slot, last slot, value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, u16, T)> {
        let ends = self.runs.iter().skip(1).map(|(first, _)| *first).chain([SLOTS]);
        self.runs.iter().zip(ends).map(|((first, value), end)| (*first, end - 1, *value))
    }

    /// The runs within `slots`.
    pub(crate) fn within(&self, slots: &SlotSet) -> impl Iterator<Item = (u16, u16, T)> {
        slots.ranges().flat_map(move |(from, to)| {
            let before = self.runs.partition_point(|(first, _)| *first <= from.get());
            let runs = self.iter().skip(before.saturating_sub(1));
            let runs = runs.take_while(move |(first, ..)| *first <= to.get());
            runs.map(move |(first, last, value)| (first.max(from.get()), last.min(to.get()), value))
        })
    }

    /// Gives every slot of `slots` what `change` makes of its value.
    pub(crate) fn change(&mut self, slots: &SlotSet, mut change: impl FnMut(T) -> T) {
        let changed: Vec<_> = self.within(slots).collect();
        let mut changed = changed.into_iter().peekable();
        let mut runs = Self { runs: Vec::with_capacity(self.runs.len() + 2) };
        for (mut first, last, value) in self.iter() {
            while let Some((from, to, _)) = changed.next_if(|(from, ..)| *from <= last) {
                if first < from {
                    runs.push(first, value);
                }
                runs.push(from, change(value));
                first = to + 1;
            }
            if first <= last {
                runs.push(first, value);
            }
        }
        *self = runs;
    }

    /// The slots whose value is one that `wanted` wants.
    pub(crate) fn select(&self, mut wanted: impl FnMut(T) -> bool) -> SlotSet {
        let mut set = SlotSet::empty();
        for (first, last, value) in self.iter() {
            if wanted(value) {
                set.push(first, last);
            }
        }
        set
    }

    fn push(&mut self, first: u16, value: T) {
        if self.runs.last().is_none_or(|(_, last)| *last != value) {
            self.runs.push((first, value));
        }
    }
}

impl<T: Wire + Copy + Eq> Wire for Runs<T> {
    /// The count of runs; then for each its length, and the value.
    fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.runs.len() as u64);
        for (first, last, value) in self.iter() {
            put_number(out, u64::from(last - first) + 1);
            value.put(out);
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, BadBytes> {
        const BROKEN: BadBytes = BadBytes::Broken("runs of slots that are not a slot map");
        let mut all = Self { runs: Vec::new() };
        let mut at = 0u16;
        for _ in 0..from.number()? {
            let length = u16::try_from(from.number()?).map_err(|_| BROKEN)?;
            let end = at.checked_add(length).filter(|end| *end > at && *end <= SLOTS);
            let value = T::take(from)?;
            if all.runs.last().is_some_and(|(_, last)| *last == value) {
                return Err(BROKEN);
            }
            all.runs.push((at, value));
            at = end.ok_or(BROKEN)?;
        }
        if at == SLOTS { Ok(all) } else { Err(BROKEN) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{from_bytes, to_bytes};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn runs_are_the_function_that_they_stand_for(
            changes in prop::collection::vec((0..SLOTS, 0..400u16, 0..SLOTS, 0..3u64), 0..20)
        ) {
            let mut plain = vec![0; usize::from(SLOTS)];
            let mut runs = Runs::filled(0);
            for (first, length, other, value) in changes {
                let last = (first + length).min(SLOTS - 1);
                let slots = (first..=last).chain([other]).filter_map(Slot::new);
                let slots: SlotSet = slots.collect();
                runs.change(&slots, |old| old / 2 + value);
                for slot in slots.iter() {
                    let old = &mut plain[usize::from(slot.get())];
                    *old = *old / 2 + value;
                }
            }
            for (number, value) in plain.iter().enumerate() {
                prop_assert_eq!(runs.get(Slot::new(number as u16).unwrap()), *value);
            }
            prop_assert!(runs.runs.windows(2).all(|two| two[0].1 != two[1].1));
            prop_assert_eq!(from_bytes::<Runs<u64>>(1, &to_bytes(1, &runs)), Ok(runs.clone()));
            let some = runs.select(|value| value == 1);
            prop_assert_eq!(some.len(), plain.iter().filter(|value| **value == 1).count());
        }
    }
}
