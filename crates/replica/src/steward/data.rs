//! Rows, between what `kontiki-shard` asks for and what `kontiki-kv` does.

use bytes::Bytes;
use kontiki_kv::{Machine, MachineError, SlotPiece, SlotRows, Store};
use kontiki_shard::{
    BadPayload, Changes, Cursor, Dead, Piece, SlotData, SlotIncarnation, SlotSet, SourceData, Sums,
};
use kontiki_types::{Index, LogTime, Slot};

/// Changed keys that are not sent yet; with more the writers have outrun the copy for good.
const CHANGES_LEFT_MAX: u64 = 1 << 20;

/// The rows of a machine, as the entries of a group's holdings change them.
pub(crate) struct Rows<'a>(pub(crate) &'a mut dyn SlotRows);

fn list(slots: &SlotSet) -> Vec<Slot> {
    slots.iter().collect()
}

/// The controller refuses to open an attempt at an index beyond this.
fn life(incarnation: SlotIncarnation) -> u32 {
    incarnation.0.try_into().unwrap_or(u32::MAX)
}

impl SlotData for Rows<'_> {
    // The machine asks the steward which slots are tracked.
    fn track(&mut self, _: &SlotSet) {}

    fn untrack(&mut self, slots: &SlotSet) {
        self.0.untrack(&list(slots));
    }

    fn freeze(&mut self, slots: &SlotSet) {
        self.0.pin(&list(slots));
    }

    fn thaw(&mut self, slots: &SlotSet) {
        self.0.unpin(&list(slots));
    }

    fn open(&mut self, slots: &SlotSet, incarnation: SlotIncarnation) {
        self.0.open(&list(slots), life(incarnation));
    }

    fn stage(
        &mut self,
        slots: &SlotSet,
        incarnation: SlotIncarnation,
        payload: &[u8],
    ) -> Result<(), BadPayload> {
        self.0.stage(&list(slots), life(incarnation), payload).map_err(|_| BadPayload)
    }

    fn sums(&self, slots: &SlotSet, incarnation: SlotIncarnation) -> Sums {
        let sums = self.0.staged_sums(&list(slots), life(incarnation));
        Sums { keys: sums.keys, rows: sums.rows, records: sums.records }
    }

    fn activate(&mut self, slots: &SlotSet, incarnation: SlotIncarnation, time: LogTime) {
        self.0.activate(&list(slots), life(incarnation), time);
    }

    fn retire(&mut self, dead: &Dead) {
        self.0.retire(&list(dead.slots()), life(dead.incarnation()));
    }
}

/// The rows of a machine, as the leader of a source reads them to send them.
#[derive(Debug)]
pub struct SourceRows<'a, S>(pub &'a Machine<S>);

fn piece(piece: SlotPiece) -> Piece {
    let next = piece.next.map_or(Cursor::Done, |place| Cursor::At { place });
    Piece { payload: piece.payload, next }
}

impl<S: Store> SourceData for SourceRows<'_, S> {
    type Error = MachineError;

    fn applied(&self) -> Index {
        self.0.applied().index
    }

    fn log_time(&self) -> LogTime {
        self.0.log_time()
    }

    fn rows(&self, slots: &SlotSet, from: &Bytes, most: usize) -> Result<Piece, MachineError> {
        self.0.export_rows(&list(slots), from, most).map(piece)
    }

    fn changes(&self, slots: &SlotSet, after: Index, most: usize) -> Result<Changes, MachineError> {
        let found = self.0.export_changes(&list(slots), after, most)?;
        let left_bytes = found.left_keys.saturating_mul(found.bytes_per_key);
        let has_overflown = found.left_keys > CHANGES_LEFT_MAX;
        let (payload, upto) = (found.payload, found.upto);
        Ok(Changes { payload, upto, left_bytes, has_overflown })
    }

    fn closing(&self, slots: &SlotSet, from: &Bytes, most: usize) -> Result<Piece, MachineError> {
        self.0.export_closing(&list(slots), from, most).map(piece)
    }

    fn live_sums(&self, slots: &SlotSet) -> Result<Sums, MachineError> {
        let sums = self.0.live_sums(&list(slots))?;
        Ok(Sums { keys: sums.keys, rows: sums.rows, records: sums.records })
    }
}
