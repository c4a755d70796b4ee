//! What the moves of slots ask of the state machine that has the keys.
//!
//! [`SlotData`] is called while an entry applies, on every replica alike: what it does is part of
//! the same atomic step as the change of [`Holdings`](crate::Holdings), and a function of the log.
//! [`SourceData`] is asked by the source's leader alone, between entries.

use bytes::Bytes;
use kontiki_types::{Index, LogTime};

use super::command::{Cursor, Sums};
use crate::plant::{Plant, planted};
use crate::{SlotIncarnation, SlotSet};

/// The rows of slots, as the log changes them.
///
/// One duty has no method: a client's low marks of two groups merge to the larger.
pub trait SlotData {
    /// From here on, until [`SlotData::untrack`], remembers by which entry each key of `slots` was
    /// last changed, by writes, expiry and flushes alike. Part of snapshots.
    fn track(&mut self, slots: &SlotSet);

    /// Forgets what [`SlotData::track`] has remembered.
    fn untrack(&mut self, slots: &SlotSet);

    /// The slots stand still from here on: until [`SlotData::thaw`] or [`SlotData::retire`] no key
    /// of them expires, and what [`SourceData::closing`] and [`SourceData::live_sums`] give is as
    /// of this entry, whatever happens in other slots.
    fn freeze(&mut self, slots: &SlotSet);

    /// They stand still no more.
    fn thaw(&mut self, slots: &SlotSet);

    /// Opens an empty staging area for `slots`: what lies under `incarnation` is not seen by
    /// reads, counts and scans, and does not expire.
    fn open(&mut self, slots: &SlotSet, incarnation: SlotIncarnation);

    /// Puts what a chunk carries into the staging area, over what is there of the same keys.
    ///
    /// # Errors
    /// [`BadPayload`] if the bytes are not what [`SourceData`] gives.
    fn stage(
        &mut self,
        slots: &SlotSet,
        incarnation: SlotIncarnation,
        payload: &[u8],
    ) -> Result<(), BadPayload>;

    /// What lies under `incarnation` of `slots` adds up to, staged or live.
    fn sums(&self, slots: &SlotSet, incarnation: SlotIncarnation) -> Sums;

    /// `incarnation` is the live one of `slots` from here on, and the log time at least `time`.
    fn activate(&mut self, slots: &SlotSet, incarnation: SlotIncarnation, time: LogTime);

    /// The rows that `dead` covers count no more, and may be deleted when there is time.
    fn retire(&mut self, dead: &Dead);
}

/// A chunk's payload that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk that cannot be read")]
pub struct BadPayload;

/// Rows that may be deleted: those of one incarnation of some slots, and no others (PROTOCOL 9).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dead {
    slots: SlotSet,
    incarnation: SlotIncarnation,
}

impl Dead {
    pub(crate) fn new(slots: SlotSet, incarnation: SlotIncarnation) -> Self {
        Self { slots, incarnation }
    }

    /// Of which slots.
    pub fn slots(&self) -> &SlotSet {
        &self.slots
    }

    /// Under which incarnation.
    pub fn incarnation(&self) -> SlotIncarnation {
        self.incarnation
    }

    /// Whether rows under `incarnation` are among them.
    pub fn covers(&self, incarnation: SlotIncarnation) -> bool {
        self.incarnation == incarnation || planted(Plant::DeleterWithoutIncarnation)
    }
}

/// The rows of slots, as the source's leader reads them to send them.
pub trait SourceData {
    /// Why the rows could not be read.
    type Error;

    /// The last applied entry: what is read is as of it.
    fn applied(&self) -> Index;

    /// The log time.
    fn log_time(&self) -> LogTime;

    /// Live rows of `slots` from a place on, about `bytes_max` of them, at least one.
    ///
    /// # Errors
    /// The rows could not be read.
    fn rows(&self, slots: &SlotSet, from: &Bytes, bytes_max: usize) -> Result<Piece, Self::Error>;

    /// The keys of `slots` that were changed by entries after `after`, as they are now, those first that were
    /// changed first; about `bytes_max` of them, at least one.
    ///
    /// # Errors
    /// The rows could not be read.
    fn changes(
        &self,
        slots: &SlotSet,
        after: Index,
        bytes_max: usize,
    ) -> Result<Changes, Self::Error>;

    /// What is sent of frozen slots only: completion records, low marks, version counters. From a
    /// place on, about `bytes_max`, at least one.
    ///
    /// # Errors
    /// The rows could not be read.
    fn closing(
        &self,
        slots: &SlotSet,
        from: &Bytes,
        bytes_max: usize,
    ) -> Result<Piece, Self::Error>;

    /// What the live rows of `slots` add up to, as [`SlotData::sums`].
    ///
    /// # Errors
    /// The rows could not be read.
    fn live_sums(&self, slots: &SlotSet) -> Result<Sums, Self::Error>;
}

/// A part of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// For [`SlotData::stage`].
    pub payload: Bytes,
    /// Where the walk goes on.
    pub next: Cursor,
}

/// A part of what has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// For [`SlotData::stage`]; empty if nothing has changed.
    pub payload: Bytes,
    /// Everything changed by entries up to this one is in it.
    pub upto: Index,
    /// About how many bytes of changes come after it.
    pub left_bytes: u64,
    /// More has changed than is kept track of: the attempt cannot succeed.
    pub has_overflown: bool,
}
