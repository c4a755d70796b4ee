//! Which of a connection's commands may be under way at once (PROTOCOL 3).
//!
//! Commands of one connection on one slot take effect in the order sent. Writes on one slot may
//! follow each other without waiting, since each names its predecessor and is sent back at apply
//! when that is missing. A read and a write on one slot wait for each other: a read's index could
//! otherwise be taken before, or its state read after, the write that was sent next to it. A
//! command that spans slots waits for, and is waited for by, all of the other kind.

use std::collections::{BTreeMap, VecDeque};

use kontiki_kv::command::Parsed;
use kontiki_types::{Seq, Slot};

/// Where a command acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// All its keys are in this slot.
    One(Slot),
    /// Several slots, or the whole keyspace.
    Wide,
}

impl Reach {
    pub(super) fn of(command: &Parsed) -> Self {
        let mut slots = command.keys().into_iter().map(|key| Slot::of(key));
        match slots.next() {
            Some(first) if slots.all(|slot| slot == first) => Self::One(first),
            _ => Self::Wide,
        }
    }

    pub(super) fn slot(self) -> Option<Slot> {
        match self {
            Self::One(slot) => Some(slot),
            Self::Wide => None,
        }
    }
}

#[derive(Debug, Default)]
struct SlotTraffic {
    writes: u32,
    reads: u32,
    last_write: Seq,
}

/// The commands of one connection that were submitted and not yet answered.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    slots: BTreeMap<Slot, SlotTraffic>,
    writes: u32,
    reads: u32,
    wide_writes: u32,
    wide_reads: u32,
}

impl Traffic {
    pub(super) fn may_read(&self, reach: Reach) -> bool {
        match reach {
            Reach::One(slot) => {
                self.wide_writes == 0 && self.slots.get(&slot).is_none_or(|slot| slot.writes == 0)
            }
            Reach::Wide => self.writes == 0,
        }
    }

    pub(super) fn may_write(&self, reach: Reach) -> bool {
        match reach {
            Reach::One(slot) => {
                self.wide_writes == 0
                    && self.wide_reads == 0
                    && self.slots.get(&slot).is_none_or(|slot| slot.reads == 0)
            }
            Reach::Wide => self.is_idle(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.reads == 0 && self.writes == 0
    }

    pub(super) fn read_begins(&mut self, reach: Reach) {
        self.reads += 1;
        match reach {
            Reach::One(slot) => self.slots.entry(slot).or_default().reads += 1,
            Reach::Wide => self.wide_reads += 1,
        }
    }

    /// Returns the previous unanswered write on the slot, which the new one must name.
    pub(super) fn write_begins(&mut self, reach: Reach, seq: Seq) -> Option<Seq> {
        self.writes += 1;
        match reach {
            Reach::One(slot) => {
                let slot = self.slots.entry(slot).or_default();
                let after = (slot.writes > 0).then_some(slot.last_write);
                slot.writes += 1;
                slot.last_write = seq;
                after
            }
            Reach::Wide => {
                self.wide_writes += 1;
                None
            }
        }
    }

    pub(super) fn read_ends(&mut self, reach: Reach) {
        self.reads -= 1;
        match reach {
            Reach::One(slot) => self.leave(slot, |slot| slot.reads -= 1),
            Reach::Wide => self.wide_reads -= 1,
        }
    }

    pub(super) fn write_ends(&mut self, reach: Reach) {
        self.writes -= 1;
        match reach {
            Reach::One(slot) => self.leave(slot, |slot| slot.writes -= 1),
            Reach::Wide => self.wide_writes -= 1,
        }
    }

    fn leave(&mut self, slot: Slot, change: impl FnOnce(&mut SlotTraffic)) {
        if let Some(traffic) = self.slots.get_mut(&slot) {
            change(traffic);
            if traffic.writes == 0 && traffic.reads == 0 {
                self.slots.remove(&slot);
            }
        }
    }
}

/// Sequence numbers of a connection's writes and the low mark: the lowest unanswered one.
#[derive(Debug)]
pub(super) struct Sequence {
    next: Seq,
    /// The writes from the low mark on, each with whether it is answered.
    window: VecDeque<bool>,
}

impl Default for Sequence {
    fn default() -> Self {
        Self { next: Seq(1), window: VecDeque::new() }
    }
}

impl Sequence {
    pub(super) fn next(&mut self) -> Seq {
        let seq = self.next;
        self.next = seq.next();
        self.window.push_back(false);
        seq
    }

    /// Every write below it is answered, and will not be asked for again.
    pub(super) fn low(&self) -> Seq {
        Seq(self.next.0 - self.window.len() as u64)
    }

    pub(super) fn answered(&mut self, seq: Seq) {
        let low = self.low().0;
        if let Some(done) = seq.0.checked_sub(low).and_then(|i| self.window.get_mut(i as usize)) {
            *done = true;
        }
        while self.window.front() == Some(&true) {
            self.window.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(n: u16) -> Reach {
        Reach::One(Slot::new(n).expect("a small number"))
    }

    #[test]
    fn writes_on_a_slot_name_their_predecessor() {
        let mut traffic = Traffic::default();
        assert_eq!(traffic.write_begins(slot(1), Seq(1)), None);
        assert_eq!(traffic.write_begins(slot(2), Seq(2)), None);
        assert_eq!(traffic.write_begins(slot(1), Seq(3)), Some(Seq(1)));
        traffic.write_ends(slot(1));
        traffic.write_ends(slot(1));
        assert_eq!(traffic.write_begins(slot(1), Seq(4)), None);
    }

    #[test]
    fn a_read_and_a_write_on_one_slot_wait_for_each_other() {
        let mut traffic = Traffic::default();
        traffic.write_begins(slot(1), Seq(1));
        assert!(!traffic.may_read(slot(1)));
        assert!(traffic.may_read(slot(2)));
        traffic.read_begins(slot(2));
        assert!(!traffic.may_write(slot(2)));
        assert!(traffic.may_write(slot(1)));
    }

    #[test]
    fn wide_commands_wait_for_all() {
        let mut traffic = Traffic::default();
        traffic.write_begins(slot(1), Seq(1));
        assert!(!traffic.may_read(Reach::Wide) && !traffic.may_write(Reach::Wide));
        traffic.write_ends(slot(1));
        traffic.write_begins(Reach::Wide, Seq(2));
        assert!(!traffic.may_read(slot(9)) && !traffic.may_write(slot(9)));
        traffic.write_ends(Reach::Wide);
        assert!(traffic.is_idle());
    }

    #[test]
    fn the_low_mark_passes_only_what_is_answered() {
        let mut sequence = Sequence::default();
        let (a, b, c) = (sequence.next(), sequence.next(), sequence.next());
        assert_eq!(sequence.low(), a);
        sequence.answered(b);
        assert_eq!(sequence.low(), a);
        sequence.answered(a);
        assert_eq!(sequence.low(), c);
        sequence.answered(c);
        assert_eq!(sequence.low(), Seq(4));
    }
}
