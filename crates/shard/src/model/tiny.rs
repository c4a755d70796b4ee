//! One key in one slot, with completion records: the least that a move has to carry.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use kontiki_types::{Index, LogTime};

use crate::wire::{from_bytes, to_bytes, wire};
use crate::{
    BadPayload, Changes, Cursor, Dead, Piece, SlotData, SlotIncarnation, SlotSet, SourceData, Sums,
};

/// What lies under one incarnation of the slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Content {
    pub(super) value: u64,
    /// The last increment and the reply that it got.
    record: Option<(u64, u64)>,
    /// Increments below it are not executed any more.
    low: u64,
}

/// A group's store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Tiny {
    pub(super) live: SlotIncarnation,
    contents: BTreeMap<SlotIncarnation, Content>,
    /// Counts increments: no other entry can touch the key.
    applied: Index,
    /// While the slot is on its way out, the last entry that changed the key.
    tracked: Option<Index>,
    pub(super) dead: Vec<Dead>,
    /// Whether sums are told: without them a bug that they would give away goes on.
    has_sums: bool,
}

/// What a chunk carries.
enum Payload {
    Row { value: u64 },
    Records { record: Option<(u64, u64)>, low: u64 },
}

wire!(enum Payload { 1 => Row { value }, 2 => Records { record, low } });

impl Tiny {
    pub(super) fn new(has_sums: bool) -> Self {
        Self { has_sums, ..Self::default() }
    }

    /// The live content.
    pub(super) fn content(&self) -> Content {
        self.contents.get(&self.live).cloned().unwrap_or_default()
    }

    /// Increment number `seq` of the one client, by the rules of PROTOCOL 1; `None` is "outcome
    /// unknown".
    pub(super) fn increment(&mut self, seq: u64) -> Option<u64> {
        let content = self.contents.entry(self.live).or_default();
        if let Some((_, reply)) = content.record.filter(|(known, _)| *known == seq) {
            return Some(reply);
        }
        if seq < content.low {
            return None;
        }
        content.value += 1;
        // The client has been answered everything before: the low mark frees it.
        content.low = seq;
        content.record = Some((seq, content.value));
        self.applied = self.applied.next();
        let (value, applied) = (content.value, self.applied);
        self.tracked = self.tracked.map(|_| applied);
        Some(value)
    }

    /// Deletes what may be deleted.
    pub(super) fn delete_dead(&mut self) {
        for dead in std::mem::take(&mut self.dead) {
            self.contents.retain(|incarnation, _| !dead.covers(*incarnation));
        }
    }

    fn sums_of(&self, content: &Content) -> Sums {
        if !self.has_sums {
            return Sums::default();
        }
        let (seq, reply) = content.record.unwrap_or_default();
        let records = u128::from(seq) << 80 | u128::from(reply) << 40 | u128::from(content.low);
        Sums { keys: 1, rows: u128::from(content.value), records }
    }
}

impl SlotData for Tiny {
    fn track(&mut self, _: &SlotSet) {
        self.tracked = Some(Index(0));
    }

    fn untrack(&mut self, _: &SlotSet) {
        self.tracked = None;
    }

    /// Nothing else can change what is in the one slot.
    fn freeze(&mut self, _: &SlotSet) {}

    fn thaw(&mut self, _: &SlotSet) {}

    fn open(&mut self, _: &SlotSet, incarnation: SlotIncarnation) {
        self.contents.insert(incarnation, Content::default());
    }

    fn stage(
        &mut self,
        _: &SlotSet,
        incarnation: SlotIncarnation,
        payload: &[u8],
    ) -> Result<(), BadPayload> {
        let content = self.contents.entry(incarnation).or_default();
        match from_bytes(1, payload).map_err(|_| BadPayload)? {
            Payload::Row { value } => content.value = value,
            Payload::Records { record, low } => {
                content.record = record;
                content.low = content.low.max(low);
            }
        }
        Ok(())
    }

    fn sums(&self, _: &SlotSet, incarnation: SlotIncarnation) -> Sums {
        self.sums_of(&self.contents.get(&incarnation).cloned().unwrap_or_default())
    }

    fn activate(&mut self, _: &SlotSet, incarnation: SlotIncarnation, _: LogTime) {
        self.live = incarnation;
    }

    fn retire(&mut self, dead: &Dead) {
        self.dead.push(dead.clone());
    }
}

impl SourceData for Tiny {
    type Error = Infallible;

    fn applied(&self) -> Index {
        self.applied
    }

    fn log_time(&self) -> LogTime {
        LogTime(0)
    }

    fn rows(&self, _: &SlotSet, _: &Bytes, _: usize) -> Result<Piece, Infallible> {
        let value = self.content().value;
        let payload = to_bytes(1, &Payload::Row { value }).into();
        Ok(Piece { payload, next: Cursor::Done })
    }

    fn changes(&self, _: &SlotSet, after: Index, _: usize) -> Result<Changes, Infallible> {
        let changed = self.tracked.unwrap_or_default();
        let value = self.content().value;
        let payload = if changed > after {
            to_bytes(1, &Payload::Row { value }).into()
        } else {
            Bytes::new()
        };
        Ok(Changes { payload, upto: self.applied, left_bytes: 0, has_overflown: false })
    }

    fn closing(&self, _: &SlotSet, _: &Bytes, _: usize) -> Result<Piece, Infallible> {
        let Content { record, low, .. } = self.content();
        let payload = to_bytes(1, &Payload::Records { record, low }).into();
        Ok(Piece { payload, next: Cursor::Done })
    }

    fn live_sums(&self, _: &SlotSet) -> Result<Sums, Infallible> {
        Ok(self.sums_of(&self.content()))
    }
}
