//! Moves under way, as the controller's log has them.

use kontiki_types::{Epoch, LogTime};

use crate::wire::wire;
use crate::{GroupRef, MoveId, SlotIncarnation, SlotSet, Tag};

/// How far a move is, for everyone: a slot's owner changes at the step to [`Phase::Committed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// An attempt is under way; the source owns the slots.
    Planned,
    /// The target owns the slots. From here there is only forward.
    Committed,
    /// Given up: the source owns the slots, and both sides are to forget the move.
    Cancelled {
        /// Why.
        why: Why,
    },
}

/// Why an attempt was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Somebody asked for it.
    Asked,
    /// It took too long.
    Late,
    /// What arrived is not what was sent: the sums of the slots differ (PROTOCOL 12).
    SumsDiffer,
    /// A chunk with a right checksum could not be read.
    Unreadable,
    /// The target's log time was this much ahead of the source's (PROTOCOL 8).
    Skew {
        /// Milliseconds.
        millis: u64,
    },
    /// More keys changed during the copy than the source keeps track of.
    TooManyChanges,
}

/// The two groups of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The group that gives.
    Source,
    /// The group that takes.
    Target,
}

/// A move under way. What it says is true for good, but for [`Phase::Planned`], which a later
/// answer may replace: so whoever acts on what a *late* answer says positively does no harm, and
/// nobody may act on what it does not say (PROTOCOL 10).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Move {
    /// The current attempt.
    pub tag: Tag,
    /// What moves.
    pub slots: SlotSet,
    /// Who gives; `None` for slots that nobody had.
    pub from: Option<GroupRef>,
    /// Who takes.
    pub to: GroupRef,
    /// What the slots' rows lie under at the target.
    pub incarnation: SlotIncarnation,
    /// How far it is.
    pub phase: Phase,
    /// The source has said that its part is over.
    pub source_closed: bool,
    /// The target has said that its part is over.
    pub target_closed: bool,
    /// The controller's log time when the attempt was opened.
    pub opened: LogTime,
    /// The move that was asked for and that this is a part of: itself, unless that was split.
    pub part_of: MoveId,
}

/// Proof that the controller's log has the commit of a move. Only a [`Move`] gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Committed {
    tag: Tag,
}

/// Proof that the controller's log has given up every attempt of a move up to one. Only a [`Move`]
/// gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aborted {
    id: MoveId,
    upto: crate::Attempt,
}

/// A move that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Finished {
    /// Which.
    pub id: MoveId,
    /// Whether the slots have changed hands.
    pub is_done: bool,
    /// The configuration when it was closed.
    pub epoch: Epoch,
}

wire!(enum Phase { 1 => Planned {}, 2 => Committed {}, 3 => Cancelled { why } });
wire!(enum Why {
    1 => Asked {},
    2 => Late {},
    3 => SumsDiffer {},
    4 => Unreadable {},
    5 => Skew { millis },
    6 => TooManyChanges {},
});
wire!(enum Side { 1 => Source {}, 2 => Target {} });
wire!(struct Move {
    tag, slots, from, to, incarnation, phase, source_closed, target_closed, opened,
    part_of
});
wire!(struct Committed { tag });
wire!(struct Aborted { id, upto });
wire!(struct Finished { id, is_done, epoch });

impl Move {
    /// The proof of the commit, if there is one.
    pub fn committed(&self) -> Option<Committed> {
        matches!(self.phase, Phase::Committed).then_some(Committed { tag: self.tag })
    }

    /// The proof that attempts have been given up, if some have.
    pub fn aborted(&self) -> Option<Aborted> {
        let upto = match self.phase {
            Phase::Cancelled { .. } => self.tag.attempt,
            Phase::Planned | Phase::Committed => self.tag.attempt.prev(),
        };
        (upto.0 > 0).then_some(Aborted { id: self.tag.id, upto })
    }

    /// Whether no other move may have the slots yet.
    pub(crate) fn locks(&self) -> bool {
        match self.phase {
            Phase::Planned => true,
            Phase::Committed => !self.target_closed,
            Phase::Cancelled { .. } => !self.source_closed,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.source_closed && self.target_closed
    }
}

impl Committed {
    /// Whether it is about this attempt.
    pub(crate) fn is_of(self, tag: Tag) -> bool {
        self.tag == tag
    }

    /// A proof of nothing, for bugs planted on purpose.
    pub(crate) fn forged(tag: Tag) -> Self {
        Self { tag }
    }
}

impl Aborted {
    /// Whether this attempt is among those given up.
    pub(crate) fn is_of(self, tag: Tag) -> bool {
        self.id == tag.id && tag.attempt <= self.upto
    }

    /// A proof of nothing, for bugs planted on purpose.
    pub(crate) fn forged(tag: Tag) -> Self {
        Self { id: tag.id, upto: tag.attempt }
    }
}
