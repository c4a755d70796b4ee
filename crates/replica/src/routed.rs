//! A request on its way to the group that can carry it out.
//!
//! # Why a write that changes its way takes effect once
//! A write may be in several logs at once: it was given to a group, its slot moved, and it was given
//! to another. All copies carry the same (client, number, slot, deadline). What makes them one:
//!
//! - A copy takes effect only at an entry at which its slot's gate is open ([`kontiki_kv::Gate`],
//!   asked at apply, PROTOCOL 9); at any other it does nothing at all, not even to its client's low
//!   mark. Gates of one slot are open in one group at a time, and one after another: the source's is
//!   closed before the target's opens. So the entries at which a slot is open, in whatever logs,
//!   are in one order, as if they were one log.
//! - The completion records and low marks of a slot move with it, and log time never decreases along
//!   its owners. So whoever serves the slot judges a copy by everything that was done in that one
//!   order before (PROTOCOL 1): the first copy is executed and has a record, each later one is
//!   answered from it; and once the record is gone, the low mark or the deadline refuses the copy.
//! - From A to B and back to A: a copy that was left in A's log, or on its way to A, meets a closed
//!   gate while the slot is away, and what B did when it is back, since that came along.
//!
//! That is why a request may be sent anew whenever it is in doubt, and why an answer may be believed
//! from wherever it comes. What a new way must *not* do is give the write another number or deadline:
//! a write with a copy anywhere else keeps both ([`Routed::attempts`]).
//!
//! # Order
//! A write names the one before it on its slot (PROTOCOL 3), and is sent back wherever that one
//! has no record: the record's coming along is what keeps the order over a move, too. Requests that
//! wait for a slot go on in the order of their numbers, so that this is rarely needed.
//!
//! # Reads
//! A read is answered by a replica that has applied what its group had committed when the read was
//! asked for, from one state, the gate included (PROTOCOL 13). A group that has given the slot away
//! has committed that before the new owner serves, so a read that is late anywhere finds a closed
//! gate, and goes on.

use std::time::Duration;

use std::collections::BTreeMap;

use kontiki_kv::Gate;
use kontiki_types::plant::{Plant, planted};
use kontiki_types::{GroupId, Instant, Slot};

use crate::atlas::Target;
use crate::connection::{Ask, Failure};
use crate::core::Caller;

/// How long a request waits for a slot that stands still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Patience {
    /// As long as for anything else.
    #[default]
    Whole,
    /// For 200 ms from when it first meets it: its client will ask again by itself.
    Short,
    /// Up to then.
    Until(Instant),
}

/// What a client that routes by itself waits for a slot that stands still, before it is told to try
/// again: far longer than a slot stands still as a rule.
pub(crate) const SHORT: Duration = Duration::from_millis(200);

impl Patience {
    /// It has met a slot that stands still.
    pub(crate) fn met(self, now: Instant) -> Self {
        if self == Self::Short { Self::Until(now + SHORT) } else { self }
    }

    /// Whether it is over.
    pub(crate) fn is_over(self, now: Instant) -> bool {
        matches!(self, Self::Until(end) if end <= now)
    }
}

/// A request with what is to be known of it wherever it goes.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) caller: Caller,
    pub(crate) to: Target,
    pub(crate) ask: Ask,
    pub(crate) give_up: Instant,
    pub(crate) patience: Patience,
    /// How often it was given to somebody who may have put it into a log, and may not have said
    /// otherwise. Always zero for a read.
    pub(crate) attempts: u32,
}

/// What giving up means on a request that was given to somebody so often.
pub(crate) fn failure(attempts: u32) -> Failure {
    if attempts > 0 && !planted(Plant::UnknownCalledRefused) {
        Failure::Unknown
    } else {
        Failure::Unavailable
    }
}

/// Takes what `is_meant` out of a map, in the order of the keys.
pub(crate) fn take_out<K: Copy + Ord, V>(
    map: &mut BTreeMap<K, V>,
    mut is_meant: impl FnMut(&V) -> bool,
) -> Vec<(K, V)> {
    let meant = map.iter().filter(|(_, value)| is_meant(value)).map(|(&key, _)| key);
    let meant: Vec<K> = meant.collect();
    meant.into_iter().filter_map(|key| map.remove_entry(&key)).collect()
}

/// Why a group gives a request back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Why {
    /// A slot of it is not served; this time it had no effect.
    Closed(Slot, Gate),
    /// The write before it on its slot is missing; this time it had no effect.
    SentBack,
    /// The group does not own its slot any more.
    Moved,
    /// There is no replica of the group here any more.
    Gone,
}

/// A request that a group here gives back.
#[derive(Debug)]
pub(crate) struct Returned {
    pub(crate) group: GroupId,
    pub(crate) routed: Routed,
    pub(crate) why: Why,
}
