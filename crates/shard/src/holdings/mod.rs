//! What a data group's log says of slots: which it serves, which it gives and takes.
//!
//! The replicated state, and its deterministic changes. Whether a data command has an effect is
//! asked of [`Holdings::gate`] *when it is applied*: then no stale leader and no proposal that was
//! on its way can write to a slot that has been frozen or has left.
//!
//! Invariants
//! - Of every slot, owned or not, the latest attempt that was heard of is remembered for good, and
//!   whether it is closed: an entry of an earlier one, or of a closed one, has no effect
//!   (PROTOCOL 9).
//! - A slot that is frozen is served again only by an entry that cites the controller's abort, and
//!   leaves only by one that cites its commit (PROTOCOL 10).
//! - A slot that arrives is served only by an entry that cites the commit, after everything that
//!   was sent has been found to add up.

mod apply;
mod command;
mod data;

use std::collections::BTreeMap;

use kontiki_types::{Index, LogTime, NodeId, Slot};

pub use apply::Entry;
pub use command::{
    CHUNK_BYTES_MAX, Cursor, GroupCommand, GroupOp, ImportStage, Place, Reached, Sums, Verdict,
    Void,
};
pub use data::{BadPayload, Changes, Dead, Piece, SlotData, SourceData};

use crate::plant::{Plant, planted};
use crate::runs::Runs;
use crate::wire::{BadBytes, from_checked_bytes, to_checked_bytes, wire};
use crate::{GroupRef, MoveId, SlotIncarnation, SlotSet, Tag};

/// Version of the byte form of the state.
const VERSION: u8 = 1;

/// A target's log time may be ahead of the source's by this many milliseconds, not more: what a
/// client may send again would be refused there for that long (PROTOCOL 8).
pub const SKEW_MAX_MS: u64 = 1000;

/// Whether a data command on a slot may have an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// It may.
    Open,
    /// The slot is frozen: it waits, until the slot is served here again or elsewhere.
    Wait,
    /// The slot is not here: it goes to the owner that the controller names.
    Away,
}

/// A slot at this group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Away,
    Serving { incarnation: SlotIncarnation },
    Frozen { incarnation: SlotIncarnation },
}

/// The latest attempt that a slot was part of, and whether it is over here. Rises and never falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
struct Mark {
    tag: Tag,
    is_closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Hold {
    stage: Stage,
    mark: Mark,
}

/// What this group gives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Export {
    /// Which attempt.
    pub tag: Tag,
    /// What moves.
    pub slots: SlotSet,
    /// The entry that opened it: changes after it are remembered.
    pub opened: Index,
    /// The freeze, if it has come.
    pub frozen: Option<Frozen>,
}

/// A freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frozen {
    /// The entry.
    pub at: Index,
    /// Its log time.
    pub time: LogTime,
}

/// What this group takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Import {
    /// Which attempt.
    pub tag: Tag,
    /// What moves.
    pub slots: SlotSet,
    /// What its rows lie under.
    pub incarnation: SlotIncarnation,
    /// The chunk that would be taken next.
    pub next: Place,
    /// How far the transfer is.
    pub reached: Reached,
    /// How far the import is.
    pub stage: ImportStage,
    /// The source's log time at the freeze, once it is complete.
    pub frozen_at: LogTime,
}

/// What the target of a move tells its source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImportStatus {
    /// Which attempt.
    pub tag: Tag,
    /// The import, if one of this move is open.
    pub import: Option<ImportProgress>,
    /// Whether no entry of the attempt can have an effect there any more.
    pub is_closed: bool,
    /// The target's log time.
    pub log_time: LogTime,
}

impl ImportStatus {
    /// Counts a chunk that was sent as arrived, though nothing was heard of it; whether it is one.
    pub fn expect(&mut self, sent: &GroupCommand) -> bool {
        let GroupOp::Chunk { place, reached, .. } = &sent.op else { return false };
        if let Some(import) = &mut self.import {
            import.next = Place { number: place.number + 1, ..*place };
            import.reached = reached.clone();
        }
        true
    }
}

/// How far an import is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImportProgress {
    /// Which attempt.
    pub tag: Tag,
    /// The chunk that would be taken next.
    pub next: Place,
    /// How far the transfer is.
    pub reached: Reached,
    /// How far the import is.
    pub stage: ImportStage,
}

/// The slots that a group has, gives and takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holdings {
    group: GroupRef,
    slots: Runs<Hold>,
    exports: BTreeMap<MoveId, Export>,
    imports: BTreeMap<MoveId, Import>,
    /// The node that begins the controller, if this group was there before it.
    controller: Option<NodeId>,
}

wire!(enum Stage { 1 => Away {}, 2 => Serving { incarnation }, 3 => Frozen { incarnation } });
wire!(struct Mark { tag, is_closed });
wire!(struct Hold { stage, mark });
wire!(struct Export { tag, slots, opened, frozen });
wire!(struct Frozen { at, time });
wire!(struct Import { tag, slots, incarnation, next, reached, stage, frozen_at });
wire!(struct ImportStatus { tag, import, is_closed, log_time });
wire!(struct ImportProgress { tag, next, reached, stage });
wire!(struct Holdings { group, slots, exports, imports, controller });

impl Holdings {
    /// A new group, which has no slot.
    pub fn new(group: GroupRef) -> Self {
        let hold = Hold { stage: Stage::Away, mark: Mark::default() };
        Self {
            group,
            slots: Runs::filled(hold),
            exports: BTreeMap::new(),
            imports: BTreeMap::new(),
            controller: None,
        }
    }

    /// The group of a store that has no controller yet: it serves every slot, under incarnation 0.
    pub fn of_everything(group: GroupRef) -> Self {
        let incarnation = SlotIncarnation(0);
        let hold = Hold { stage: Stage::Serving { incarnation }, mark: Mark::default() };
        Self { slots: Runs::filled(hold), ..Self::new(group) }
    }

    /// As [`Holdings::of_everything`], of a store whose controller is to begin on this node.
    pub fn sharing(group: GroupRef, controller: NodeId) -> Self {
        Self { controller: Some(controller), ..Self::of_everything(group) }
    }

    /// The node that begins the controller, if this group was there before it: only that one may.
    pub fn controller(&self) -> Option<NodeId> {
        self.controller
    }

    /// A group that begins together with the controller: it serves `slots`, under incarnation 0.
    pub fn founding(group: GroupRef, slots: &SlotSet) -> Self {
        let mut holdings = Self::new(group);
        let incarnation = SlotIncarnation(0);
        holdings.slots.change(slots, |hold| Hold { stage: Stage::Serving { incarnation }, ..hold });
        holdings
    }

    /// Which group this is.
    pub fn group(&self) -> GroupRef {
        self.group
    }

    /// Whether a data command on `slot` may have an effect, asked when it is applied.
    pub fn gate(&self, slot: Slot) -> Gate {
        match self.slots.get(slot).stage {
            Stage::Serving { .. } => Gate::Open,
            Stage::Frozen { .. } if planted(Plant::CheckAtProposeOnly) => Gate::Open,
            Stage::Frozen { .. } => Gate::Wait,
            Stage::Away => Gate::Away,
        }
    }

    /// The live incarnation of a slot; `None` if it is not here.
    pub fn incarnation(&self, slot: Slot) -> Option<SlotIncarnation> {
        match self.slots.get(slot).stage {
            Stage::Serving { incarnation } | Stage::Frozen { incarnation } => Some(incarnation),
            Stage::Away => None,
        }
    }

    /// The slots that are served here.
    pub fn serving(&self) -> SlotSet {
        self.slots.select(|hold| matches!(hold.stage, Stage::Serving { .. }))
    }

    /// What this group gives, in the order of moves.
    pub fn exports(&self) -> impl ExactSizeIterator<Item = &Export> {
        self.exports.values()
    }

    /// What this group takes, in the order of moves.
    pub fn imports(&self) -> impl ExactSizeIterator<Item = &Import> {
        self.imports.values()
    }

    /// What this group gives in a move.
    pub fn export(&self, id: MoveId) -> Option<&Export> {
        self.exports.get(&id)
    }

    /// What this group takes in a move.
    pub fn import(&self, id: MoveId) -> Option<&Import> {
        self.imports.get(&id)
    }

    /// What to tell the source that asks about an attempt.
    pub fn status(&self, tag: Tag, slots: &SlotSet, log_time: LogTime) -> ImportStatus {
        let import = self.import(tag.id).map(|import| ImportProgress {
            tag: import.tag,
            next: import.next,
            reached: import.reached.clone(),
            stage: import.stage,
        });
        ImportStatus { tag, import, is_closed: self.is_closed(tag, slots), log_time }
    }

    /// Whether no entry of this attempt, or of an earlier one, can have an effect on `slots` here.
    pub fn is_closed(&self, tag: Tag, slots: &SlotSet) -> bool {
        let closed = Mark { tag, is_closed: true };
        self.slots.within(slots).all(|(_, _, hold)| hold.mark >= closed)
    }

    /// Whether all of `slots` are served here.
    pub(crate) fn serves_all(&self, slots: &SlotSet) -> bool {
        self.slots.within(slots).all(|(_, _, hold)| matches!(hold.stage, Stage::Serving { .. }))
    }

    /// The state as bytes, with a version and a checksum.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_checked_bytes(VERSION, self)
    }

    /// The state that [`Holdings::to_bytes`] gave.
    ///
    /// # Errors
    /// [`BadBytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadBytes> {
        let state: Self = from_checked_bytes(VERSION, bytes)?;
        let exports = state.exports.iter().all(|(id, export)| *id == export.tag.id);
        let imports = state.imports.iter().all(|(id, import)| *id == import.tag.id);
        if exports && imports {
            Ok(state)
        } else {
            Err(BadBytes::Broken("a group's holdings that do not hold together"))
        }
    }
}

#[cfg(test)]
mod tests;
