//! A set of slots, as the ranges it consists of.

use core::fmt;
use core::str::FromStr;

use kontiki_types::{SLOTS, Slot};

use crate::wire::{BadBytes, Reader, Wire, put_number};

/// Some of the 16384 slots.
// Invariant: first <= last < SLOTS in each range, and between two ranges a slot is missing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SlotSet {
    ranges: Vec<(u16, u16)>,
}

impl SlotSet {
    /// No slot.
    pub const fn empty() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Every slot.
    pub fn all() -> Self {
        Self { ranges: vec![(0, SLOTS - 1)] }
    }

    /// The slots from `first` to `last`, both included; none if `last` is before `first`.
    pub fn range(first: Slot, last: Slot) -> Self {
        let range = (first.get(), last.get());
        Self { ranges: if range.0 <= range.1 { vec![range] } else { Vec::new() } }
    }

    /// Adds what follows everything that is in the set already.
    pub(crate) fn push(&mut self, first: u16, last: u16) {
        match self.ranges.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
            _ => self.ranges.push((first, last)),
        }
    }

    /// The ranges: first and last slot of each, in order.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = (Slot, Slot)> {
        let slot = |number| Slot::new(number).unwrap_or_default();
        self.ranges.iter().map(move |(first, last)| (slot(*first), slot(*last)))
    }

    /// Every slot, in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> {
        self.ranges.iter().flat_map(|(first, last)| (*first..=*last).filter_map(Slot::new))
    }

    /// How many slots.
    pub fn len(&self) -> usize {
        self.ranges.iter().map(|(first, last)| usize::from(last - first) + 1).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Those that are not in `other`.
    pub(crate) fn without(&self, other: &Self) -> Self {
        self.iter().filter(|slot| !other.contains(*slot)).collect()
    }

    /// The first slot.
    pub fn first(&self) -> Option<Slot> {
        self.ranges().next().map(|(first, _)| first)
    }

    /// Whether `slot` is one of them.
    pub fn contains(&self, slot: Slot) -> bool {
        let after = self.ranges.partition_point(|(first, _)| *first <= slot.get());
        let range = after.checked_sub(1).and_then(|at| self.ranges.get(at));
        range.is_some_and(|(_, last)| slot.get() <= *last)
    }

    /// The first slot that both have.
    pub fn first_common(&self, other: &Self) -> Option<Slot> {
        let (mut ours, mut theirs) = (self.ranges.iter(), other.ranges.iter());
        let (mut our, mut their) = (ours.next(), theirs.next());
        while let (Some((a, b)), Some((c, d))) = (our, their) {
            if a.max(c) <= b.min(d) {
                return Slot::new(*a.max(c));
            }
            if b < d { our = ours.next() } else { their = theirs.next() }
        }
        None
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut numbers: Vec<u16> = slots.into_iter().map(Slot::get).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut set = Self::empty();
        numbers.into_iter().for_each(|number| set.push(number, number));
        set
    }
}

impl fmt::Display for SlotSet {
    /// As the command line takes it: `0-4095,5000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

/// A text that names no slots: the part that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a slot (0 to 16383) nor a range of them like 0-4095")]
pub struct NotSlots(String);

impl FromStr for SlotSet {
    type Err = NotSlots;

    fn from_str(text: &str) -> Result<Self, NotSlots> {
        let mut slots = Vec::new();
        for part in text.split(',') {
            let number = |text: &str| text.trim().parse().ok().and_then(Slot::new);
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => {
                    slots.extend(Self::range(first, last).iter());
                }
                _ => return Err(NotSlots(part.to_string())),
            }
        }
        Ok(slots.into_iter().collect())
    }
}

impl Wire for SlotSet {
    /// The count of ranges; then for each the distance to the one before, and its length less one.
    fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.ranges.len() as u64);
        let mut at = 0;
        for (first, last) in &self.ranges {
            put_number(out, u64::from(first - at));
            put_number(out, u64::from(last - first));
            at = *last;
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, BadBytes> {
        const BROKEN: BadBytes = BadBytes::Broken("ranges of slots out of order");
        let mut set = Self::empty();
        for at in 0..from.number()? {
            let before = set.ranges.last().map_or(0, |(_, last)| u64::from(*last));
            let gap = from.number()?;
            let first = before.checked_add(gap).filter(|_| at == 0 || gap > 1).ok_or(BROKEN)?;
            let last = first.checked_add(from.number()?).ok_or(BROKEN)?;
            let last = u16::try_from(last).ok().filter(|last| *last < SLOTS).ok_or(BROKEN)?;
            set.ranges.push((first as u16, last));
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{from_bytes, to_bytes};

    fn set(text: &str) -> SlotSet {
        text.parse().unwrap()
    }

    #[test]
    fn texts_are_read_back() {
        for text in ["0", "0-16383", "0-4095,5000", "1,3,5-7"] {
            assert_eq!(set(text).to_string(), text);
        }
        assert_eq!(set("3,1-2,2"), set("1-3"));
        for wrong in ["", "16384", "5-4", "a", "1,,2", "-1"] {
            assert!(wrong.parse::<SlotSet>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn members_are_found() {
        let some = set("1,3,5-7,16383");
        assert_eq!(some.len(), 6);
        for slot in (0..SLOTS).filter_map(Slot::new) {
            assert_eq!(some.contains(slot), some.iter().any(|member| member == slot));
        }
        assert_eq!(some.first_common(&set("0,2,4,6-100")), Slot::new(6));
        assert_eq!(some.first_common(&set("0,2,4,8-16382")), None);
        assert_eq!(SlotSet::all().first_common(&some), Slot::new(1));
    }

    #[test]
    fn only_the_one_form_is_read() {
        for text in ["0", "0-16383", "0-4095,5000", "1,3,5-7,16383"] {
            let bytes = to_bytes(1, &set(text));
            assert_eq!(from_bytes::<SlotSet>(1, &bytes), Ok(set(text)));
        }
        // Touching ranges, and one that ends beyond the last slot.
        for wrong in [vec![1, 2, 0, 0, 1, 0], vec![1, 1, 0, 0xff, 0xff, 1]] {
            assert!(from_bytes::<SlotSet>(1, &wrong).is_err());
        }
    }
}
