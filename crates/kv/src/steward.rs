//! Which slots the machine serves, decided by another crate's state in the same log.
//!
//! A group that shares the key space with others does not have every slot, and slots come and go.
//! What its log says of that is kept by a *steward*, which applies its own kind of entries
//! ([`Body::Slots`](crate::Body::Slots)), in the same commit as everything else. The machine asks it
//! about each slot of a command when the command is *applied*, and when a query is answered, from
//! the same state that the answer is from (PROTOCOL 9 and 13): so no proposal that was on its way
//! writes to a slot that has been frozen or has left, and no read is answered from what is gone.
//!
//! A machine without a steward has every slot.

use core::fmt;

use bytes::Bytes;
use kontiki_types::{Index, LogTime, Slot};

use crate::{BadBytes, SlotRows};

/// Whether commands on a slot take effect here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// They do.
    Open,
    /// The slot stands still: they wait until it is served here again, or elsewhere. No key of it
    /// expires meanwhile.
    Frozen,
    /// The slot is not here.
    Away,
}

/// What a log says of slots. A function of the log prefix, like everything in the state.
pub trait Steward: fmt::Debug + Send {
    /// Applies an entry of its own: unless a steward says otherwise, as a call that nobody waits for.
    /// `time` is the log time with it, `rows` what it may do to rows.
    ///
    /// # Errors
    /// [`BadBytes`] if the payload is of a form that this build does not know. The machine stops.
    fn apply(
        &mut self,
        index: Index,
        time: LogTime,
        payload: &Bytes,
        rows: &mut dyn SlotRows,
    ) -> Result<(), BadBytes> {
        self.call(index, time, payload, rows).map(drop)
    }

    /// Applies a call ([`Write::Steward`](crate::command::Write::Steward)), which comes once however
    /// often it is sent, and answers it.
    ///
    /// # Errors
    /// As [`Steward::apply`].
    fn call(
        &mut self,
        index: Index,
        time: LogTime,
        call: &Bytes,
        rows: &mut dyn SlotRows,
    ) -> Result<Bytes, BadBytes>;

    /// Answers a question ([`Read::Steward`](crate::command::Read::Steward)); `time` is the log
    /// time. One that it does not know is answered, too.
    fn query(&self, query: &Bytes, time: LogTime) -> Bytes;

    /// Whether commands on `slot` take effect.
    fn gate(&self, slot: Slot) -> Gate;

    /// Some slot that is frozen, if one is.
    fn frozen(&self) -> Option<Slot>;

    /// Whether the slot is on its way out, so that changes of its keys are to be noted.
    fn is_tracked(&self, slot: Slot) -> bool;

    /// Its state, for the store and for snapshots: equal states have equal bytes.
    fn to_bytes(&self) -> Bytes;
}

/// Where stewards come from.
pub trait Stewards: fmt::Debug + Send {
    /// The steward whose state this is.
    ///
    /// # Errors
    /// [`BadBytes`] if it is of a form that this build does not know.
    fn restore(&self, state: &Bytes) -> Result<Box<dyn Steward>, BadBytes>;

    /// The first steward of a machine that has had every slot so far, if `call` is one that begins
    /// it; the call is then applied by it. A function of its arguments, on every replica alike.
    fn begin(&self, call: &Bytes) -> Option<Box<dyn Steward>>;
}

/// A slot whose gate is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) slot: Slot,
    pub(crate) gate: Gate,
}

/// The first slot with a closed gate, of those of a command: of those that are away, if there is
/// one, since waiting for the others is of no use then.
pub(crate) fn first_closed(
    steward: &dyn Steward,
    slots: impl IntoIterator<Item = Slot>,
) -> Option<Closed> {
    let mut frozen = None;
    for slot in slots {
        match steward.gate(slot) {
            Gate::Open => {}
            gate @ Gate::Away => return Some(Closed { slot, gate }),
            gate @ Gate::Frozen => frozen = frozen.or(Some(Closed { slot, gate })),
        }
    }
    frozen
}

/// The first slot from `first` to `last` whose gate is not open.
pub(crate) fn first_unserved(steward: &dyn Steward, first: Slot, last: Slot) -> Option<Slot> {
    let mut slots = (first.get()..=last.get()).filter_map(Slot::new);
    slots.find(|slot| steward.gate(*slot) != Gate::Open)
}
