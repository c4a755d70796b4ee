//! Slots on their way from one group to another: what goes out, what comes in.
//!
//! The [steward](crate::Steward) decides; here is what it has done to rows, in the commit of its
//! entry ([`SlotRows`]), and what the leader of the source reads to send it
//! (`Machine::export_rows` and its neighbours).
//!
//! - What arrives is *staged*: data rows under the incarnation that they will live under, which no
//!   read, count or scan sees; the rest in tables of its own. It becomes live at once, when the
//!   slot is [activated](SlotRows::activate).
//! - Of a slot that the steward says is tracked, each key that changes is noted with the entry that
//!   changed it (PROTOCOL 11).
//! - When slots are frozen, their completion records and everyone's low marks are *pinned*: copied
//!   as they are at that entry. So what is sent, and what it adds up to, does not change with what
//!   goes on in other slots.
//! - All of it is in snapshots and in the state hash.
//!
//! Sums (PROTOCOL 12) of what is staged are kept as rows come and go; those of the source are counted
//! in pieces before the freeze, and follow each change (`Machine::tally`).

mod item;
mod outward;
mod staging;
mod sums;
mod tally;
mod weigh;

use bytes::Bytes;
use kontiki_types::{Index, LogTime, Slot};

use crate::BadBytes;

pub(crate) use staging::{clear_tracked, note_change, redo_due};
pub(crate) use sums::each_row;
pub(crate) use tally::Tallies;
pub use weigh::{Weighed, Weighing};

/// What a steward's entry may do to rows. Slots are given in their order, each once.
pub trait SlotRows {
    /// Opens an empty staging area under `incarnation`, which is higher than every one before.
    fn open(&mut self, slots: &[Slot], incarnation: u32);

    /// Puts into the staging area what an export gave.
    ///
    /// # Errors
    /// [`BadBytes`] if the payload cannot be read, or names other slots.
    fn stage(&mut self, slots: &[Slot], incarnation: u32, payload: &[u8]) -> Result<(), BadBytes>;

    /// What is staged adds up to.
    fn staged_sums(&self, slots: &[Slot], incarnation: u32) -> SlotSums;

    /// Makes what is staged live, and the log time at least `time`.
    fn activate(&mut self, slots: &[Slot], incarnation: u32, time: LogTime);

    /// Makes `incarnation` dead, staged or live. Its rows are deleted bit by bit.
    fn retire(&mut self, slots: &[Slot], incarnation: u32);

    /// The slots are frozen from here on: pins what is sent of frozen slots only.
    fn pin(&mut self, slots: &[Slot]);

    /// They are frozen no more.
    fn unpin(&mut self, slots: &[Slot]);

    /// Forgets which keys have changed.
    fn untrack(&mut self, slots: &[Slot]);
}

/// What slots add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SlotSums {
    /// Keys.
    pub keys: u64,
    /// Over keys, types, values, expiries, versions, and the slots' version counters.
    pub rows: u128,
    /// Over completion records and low marks.
    pub records: u128,
}

/// A part of what goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotPiece {
    /// For [`SlotRows::stage`].
    pub payload: Bytes,
    /// Where the rest begins; `None` if this was all.
    pub next: Option<Bytes>,
}

/// A part of what has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotChanges {
    /// For [`SlotRows::stage`]; empty if nothing has changed.
    pub payload: Bytes,
    /// Every change by an entry up to this one is in it, or was before.
    pub upto: Index,
    /// Keys that have changed and are not in it.
    pub left_keys: u64,
    /// Bytes of the payload for each key in it, on average: what one of those left is likely to be.
    pub bytes_per_key: u64,
}

/// The incarnation as it is stored: the low half counts flushes.
fn stored(incarnation: u32) -> u64 {
    u64::from(incarnation) << 32
}
