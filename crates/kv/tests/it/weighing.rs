//! What slots on their way out weigh: the rows of the live, a piece at a time.

use kontiki_kv::{Weighed, Weighing};
use kontiki_types::Slot;

use crate::group::Group;

const VALUE: usize = 1000;

/// Three slots: one with ten values of 1000 bytes, one with none, one with two.
fn three() -> (Group, Vec<Slot>) {
    let mut group = Group::new();
    let value = "v".repeat(VALUE);
    for (tag, count) in [("bar", 10), ("foo", 2)] {
        for number in 0..count {
            group.run(&format!("SET {{{tag}}}{number} {value}"));
        }
    }
    let mut slots = vec![Slot::of(b"bar"), Slot::of(b"foo"), Slot::new(9_000).unwrap()];
    slots.sort_unstable();
    assert_eq!(slots[0], Slot::of(b"bar"));
    (group, slots)
}

fn weigh(group: &Group, slots: &[Slot], most: u64) -> (Weighed, u32) {
    let mut weighing = Weighing::default();
    for pieces in 1.. {
        match group.machine.weigh(slots, &mut weighing, most, 2500).unwrap() {
            Weighed::GoesOn => assert!(pieces < 100),
            weighed => return (weighed, pieces),
        }
    }
    unreachable!("it comes to an end")
}

#[test]
fn the_first_slots_that_are_not_too_much_together_are_found() {
    let (group, slots) = three();
    let (weighed, pieces) = weigh(&group, &slots, 20_000);
    assert_eq!(weighed, Weighed::Light);
    assert!(pieces > 1, "all at once");
    // Without the two values of the last, the other two slots are light enough.
    assert_eq!(weigh(&group, &slots, 11_500).0, Weighed::Heavy { first: 2 });
    // One slot is not split, however heavy it is.
    assert_eq!(weigh(&group, &slots, 500).0, Weighed::Heavy { first: 1 });
    assert_eq!(weigh(&group, &slots[..1], 500).0, Weighed::Light);
}

#[test]
fn what_was_flushed_weighs_nothing() {
    let (mut group, slots) = three();
    group.run("FLUSHALL");
    assert_eq!(weigh(&group, &slots, 500), (Weighed::Light, 1));
}
