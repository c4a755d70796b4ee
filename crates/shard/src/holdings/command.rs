//! What a data group's log holds about slots, and what comes of it.

use bytes::Bytes;
use kontiki_types::{Index, LogTime, Term};

use crate::controller::{Aborted, Committed, Why};
use crate::wire::{BadBytes, Reader, Wire, from_bytes, to_bytes, wire};
use crate::{GroupRef, SlotIncarnation, SlotSet, Tag};

/// Version of the byte form of commands.
const VERSION: u8 = 1;

/// The largest payload of a chunk.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// An entry about slots in the log of a data group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupCommand {
    /// The group it was meant for: another life of the group's id ignores it.
    pub group: GroupRef,
    /// Which attempt of which move.
    pub tag: Tag,
    /// What to do.
    pub op: GroupOp,
}

/// What a group does for a move. The first four are the source's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupOp {
    /// From this entry on, every replica remembers which keys of the slots change.
    ExportOpen {
        /// What moves.
        slots: SlotSet,
    },
    /// From this entry on, nothing changes or reads the slots here.
    Freeze,
    /// The attempt is over, and the slots are served as before.
    Unfreeze {
        /// That the controller has given the attempt up.
        cites: Aborted,
        /// What was to move.
        slots: SlotSet,
    },
    /// The slots are gone from here; their rows may be deleted.
    Drop {
        /// That the controller has given the slots to the target.
        cites: Committed,
    },
    /// Opens an empty staging area.
    ImportOpen {
        /// What moves.
        slots: SlotSet,
        /// What its rows lie under.
        incarnation: SlotIncarnation,
    },
    /// Puts a part of the content into the staging area.
    Chunk {
        /// Its place in the sequence.
        place: Place,
        /// How far the transfer is with it.
        reached: Reached,
        /// What the source's [`crate::SourceData`] gave.
        payload: Bytes,
        /// CRC32C over the payload.
        checksum: u32,
    },
    /// Everything is there: is it what was sent?
    ImportComplete {
        /// Its place in the sequence.
        place: Place,
        /// What the slots add up to at the source.
        sums: Sums,
        /// The source's log time at the freeze.
        frozen_at: LogTime,
        /// The log time that an entry of the source would have had when this was sent.
        sent_at: LogTime,
    },
    /// The slots are served here.
    Activate {
        /// That the controller has given the slots to this group.
        cites: Committed,
        /// What moves.
        slots: SlotSet,
        /// What its rows lie under.
        incarnation: SlotIncarnation,
        /// Whether nobody had the slots before, so that nothing had to arrive.
        is_founding: bool,
    },
    /// The attempt is over, and what had arrived is dropped.
    Discard {
        /// That the controller has given the attempt up.
        cites: Aborted,
        /// What was to move.
        slots: SlotSet,
    },
}

/// Where in the sequence of chunks: each leader of the source begins one of its own (PROTOCOL 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place {
    /// The term of the source's leader that sends.
    pub term: Term,
    /// Its number in that leader's sequence, from 0.
    pub number: u64,
}

/// How far a walk over rows is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cursor {
    /// It goes on here; empty: at the beginning. Only the source reads the bytes.
    At {
        /// What [`crate::SourceData`] gave.
        place: Bytes,
    },
    /// It is through.
    Done,
}

/// How far a transfer is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reached {
    /// The walk over all rows.
    pub rows: Cursor,
    /// Changes by entries of the source up to this one have been sent.
    pub changes: Index,
    /// The walk over what is sent only from frozen slots: completion records, versions.
    pub closing: Cursor,
}

/// What slots add up to: PROTOCOL 12.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sums {
    /// Live keys.
    pub keys: u64,
    /// Over their names, types, values, expiries and versions, and the slots' version counters.
    pub rows: u128,
    /// Over completion records and low marks.
    pub records: u128,
}

/// What came of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It has taken effect.
    Done,
    /// It had no effect.
    Void(Void),
}

/// Why an entry had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Void {
    /// It is meant for another life of the group's id.
    OtherGroup,
    /// A later attempt or move is known of one of the slots, or this one is closed (PROTOCOL 9).
    Old,
    /// It took effect before.
    Already,
    /// The slots are not in the state that it needs; later they may be.
    NotReady,
    /// A chunk that does not follow the one before.
    OutOfSequence,
    /// A chunk whose checksum is another one.
    Damaged,
    /// What it cites is not about this attempt.
    NotCited,
}

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImportStage {
    /// It takes chunks.
    Open,
    /// Everything is there and adds up.
    Complete,
    /// It can come to nothing: the attempt has to be given up.
    Failed {
        /// Why.
        why: Why,
    },
}

wire!(struct GroupCommand { group, tag, op });
wire!(enum GroupOp {
    1 => ExportOpen { slots },
    2 => Freeze {},
    3 => Unfreeze { cites, slots },
    4 => Drop { cites },
    5 => ImportOpen { slots, incarnation },
    6 => Chunk { place, reached, payload, checksum },
    7 => ImportComplete { place, sums, frozen_at, sent_at },
    8 => Activate { cites, slots, incarnation, is_founding },
    9 => Discard { cites, slots },
});
wire!(enum Void {
    1 => OtherGroup {},
    2 => Old {},
    3 => Already {},
    4 => NotReady {},
    5 => OutOfSequence {},
    6 => Damaged {},
    7 => NotCited {},
});
wire!(struct Place { term, number });
wire!(enum Cursor { 1 => At { place }, 2 => Done {} });
wire!(struct Reached { rows, changes, closing });
wire!(struct Sums { keys, rows, records });
wire!(enum ImportStage { 1 => Open {}, 2 => Complete {}, 3 => Failed { why } });

impl Cursor {
    /// The beginning.
    pub const START: Self = Self::At { place: Bytes::new() };
}

impl GroupCommand {
    /// The byte form.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(VERSION, self)
    }

    /// Reads the byte form.
    ///
    /// # Errors
    /// [`BadBytes`] for anything else than [`GroupCommand::to_bytes`] gives.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadBytes> {
        from_bytes(VERSION, bytes)
    }
}

impl Wire for Verdict {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Done => out.push(1),
            Self::Void(why) => {
                out.push(2);
                why.put(out);
            }
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, BadBytes> {
        match from.u8()? {
            1 => Ok(Self::Done),
            2 => Void::take(from).map(Self::Void),
            kind => Err(BadBytes::Kind(kind)),
        }
    }
}
