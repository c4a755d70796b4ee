//! Commands on the whole key space, as far as one group has it.
//!
//! A store that is sharded answers them in parts: each group for the slots that it is thought to
//! own. A part is told its slots, and answers for those that are served where it executes; it names
//! the others, which are then asked for elsewhere. So each slot is counted, listed or emptied
//! exactly once, by its owner, also while slots move (PROTOCOL 15).

use bytes::Bytes;
use kontiki_types::Slot;

use super::glob;
use super::scan::ScanPosition;
use crate::{Access, AccessMut, Reply};

/// Ranges of slots, first and last of each, in order and without overlaps.
pub type SlotRanges = Vec<(Slot, Slot)>;

/// Keys read in one go.
const PAGE: usize = 1024;

pub(super) fn count<A: Access + ?Sized>(state: &A, slots: &[(Slot, Slot)]) -> Reply {
    let (served, left) = split(state, slots);
    let count = state.count_in(&served).min(i64::MAX as u64);
    answer(Reply::Integer(count.cast_signed()), &left)
}

pub(super) fn keys<A: Access + ?Sized>(
    state: &A,
    slots: &[(Slot, Slot)],
    pattern: Option<&[u8]>,
    limit: u64,
) -> Reply {
    let (served, left) = split(state, slots);
    let mut found = Vec::new();
    for (first, last) in ranges(&served) {
        list(state, first, last, &mut |key| {
            if pattern.is_none_or(|pattern| glob::matches(pattern, &key)) {
                found.push(Reply::Bulk(key));
            }
            (found.len() as u64) < limit
        });
    }
    answer(Reply::Array(found), &left)
}

pub(super) fn flush<A: AccessMut + ?Sized>(state: &mut A, slots: &[(Slot, Slot)]) -> Reply {
    let (served, left) = split(state, slots);
    state.clear_in(&served);
    answer(Reply::Ok, &left)
}

/// Gives the keys of the slots from `first` to `last` to `each`, as long as it wants more.
fn list<A: Access + ?Sized>(
    state: &A,
    first: Slot,
    last: Slot,
    each: &mut impl FnMut(Bytes) -> bool,
) {
    let mut from = ScanPosition::start_of(first);
    let mut limit = PAGE;
    loop {
        let keys = state.scan(from, limit);
        let is_last = keys.len() < limit;
        let next = keys.last().map(|key| ScanPosition::of(key));
        let mut progress = false;
        for key in keys {
            let position = ScanPosition::of(&key);
            if position.slot() > last {
                return;
            }
            // Those where the page ends are met again on the next one, which begins with them.
            if !is_last && Some(position) == next {
                break;
            }
            progress = true;
            if !each(key) {
                return;
            }
        }
        match next.filter(|_| !is_last) {
            None => return,
            Some(_) if !progress => limit *= 2,
            Some(next) => (from, limit) = (next, PAGE),
        }
    }
}

/// Those of `slots` that are served here, and the ranges that are not.
fn split<A: Access + ?Sized>(state: &A, slots: &[(Slot, Slot)]) -> (Vec<Slot>, SlotRanges) {
    let (mut served, mut left) = (Vec::new(), Vec::new());
    for &(first, last) in slots {
        for slot in (first.get()..=last.get()).filter_map(Slot::new) {
            match state.first_unserved(slot, slot) {
                None => served.push(slot),
                Some(_) => push(&mut left, slot),
            }
        }
    }
    // What a front door sends is in order and has each slot once; what the log has may be anything.
    served.sort_unstable();
    served.dedup();
    (served, left)
}

fn ranges(slots: &[Slot]) -> SlotRanges {
    let mut ranges = Vec::new();
    slots.iter().for_each(|slot| push(&mut ranges, *slot));
    ranges
}

/// Adds a slot behind all others.
fn push(ranges: &mut SlotRanges, slot: Slot) {
    match ranges.last_mut() {
        Some((_, last)) if last.get() + 1 == slot.get() => *last = slot,
        _ => ranges.push((slot, slot)),
    }
}

fn answer(first: Reply, left: &[(Slot, Slot)]) -> Reply {
    let number = |slot: Slot| Reply::Integer(i64::from(slot.get()));
    let left = left.iter().flat_map(|(first, last)| [number(*first), number(*last)]);
    Reply::Array(vec![first, Reply::Array(left.collect())])
}
