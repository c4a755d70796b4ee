//! The names of moves, attempts and incarnations.

use core::fmt;

use kontiki_types::{Epoch, GroupId};

use crate::wire::wire;

/// A move of slots from one group to another. Given out by the controller, from 1, never again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MoveId(pub u64);

/// One try to carry out a move, from 1. Attempts exist only in the controller's log (PROTOCOL 10).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Attempt(pub u32);

/// One life of a slot at one group: the controller's log index that opened the attempt which
/// brought it there; 0 for what was there before there was a controller (PROTOCOL 9). Rows are
/// stored under it, so that deleting one life can never touch another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SlotIncarnation(pub u64);

/// A group, and which life of its id: an id that leaves and joins again is another group, and
/// nothing that was said to the first may count for the second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupRef {
    /// The group's number.
    pub id: GroupId,
    /// The controller's log index at which it joined; 0 if it was there before the controller.
    pub joined: u64,
}

/// Which attempt of which move an entry is about. Of one slot, a later attempt has a greater tag:
/// epochs never fall, move ids are never given again, and a slot is in one move at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tag {
    /// The configuration in which the attempt was opened.
    pub epoch: Epoch,
    /// The move.
    pub id: MoveId,
    /// The attempt.
    pub attempt: Attempt,
}

impl Attempt {
    /// The first attempt of every move.
    pub const FIRST: Self = Self(1);

    /// The following one. Saturates at the largest, which no move reaches.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The one before; 0, which is none, before the first.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

wire!(struct MoveId { 0 });
wire!(struct Attempt { 0 });
wire!(struct SlotIncarnation { 0 });
wire!(struct GroupRef { id, joined });
wire!(struct Tag { epoch, id, attempt });

impl fmt::Debug for MoveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.0)
    }
}

impl fmt::Display for MoveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Debug for SlotIncarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "life{}", self.0)
    }
}

impl fmt::Debug for GroupRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}.{}", self.id.0, self.joined)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{:?}@{:?}", self.id, self.attempt, self.epoch)
    }
}
