//! Walks over many keys, the same for queries and at apply.

use bytes::Bytes;
use kontiki_types::{LogTime, Slot};

use crate::MachineError;
use crate::command::ScanPosition;
use crate::hash::hash64;
use crate::layout::{self, read_data_key, read_due_key, read_header};
use crate::overlay::Rows;
use crate::slots::Slots;

/// Rows read at a time, at most.
pub(crate) const CHUNK: usize = 64;

/// Bytes read at a time, about: a row may have a value of megabytes, and a store reads whole rows.
const CHUNK_BYTES: usize = 1 << 20;

/// Bits of a [`ScanPosition`] below the slot.
const HASH_BITS: u32 = 39;

/// A row of the live incarnation of its slot.
pub(crate) struct LiveRow {
    pub(crate) key: Bytes,
    pub(crate) row: Bytes,
}

/// Reads live rows in SCAN's order, chunk by chunk.
#[derive(Debug)]
pub(crate) struct LiveRows {
    /// Where to go on; `None` at the end.
    place: Option<Vec<u8>>,
    pace: Pace,
}

/// How many rows to read next, by what the last ones weighed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace(usize);

impl Pace {
    pub(crate) const START: Self = Self(8);

    pub(crate) fn rows(self) -> usize {
        self.0
    }

    /// Counts what was read.
    pub(crate) fn count(&mut self, rows: &[(Bytes, Bytes)]) {
        let bytes: usize = rows.iter().map(|(_, row)| row.len()).sum();
        let fitting = (rows.len() * CHUNK_BYTES).checked_div(bytes).unwrap_or(CHUNK);
        self.0 = fitting.clamp(1, CHUNK.min(2 * self.0));
    }
}

impl LiveRows {
    pub(crate) fn from(from: ScanPosition, slots: &Slots) -> Self {
        let place = Some(layout::data_at(from, slots.get(from.slot()).incarnation));
        Self { place, pace: Pace::START }
    }

    /// The rows behind that of `key`.
    pub(crate) fn after(key: &[u8], slots: &Slots) -> Self {
        let position = ScanPosition::of(key);
        let incarnation = slots.get(position.slot()).incarnation;
        let place = Some(layout::behind(&layout::data(position, incarnation, key)));
        Self { place, pace: Pace::START }
    }

    /// Up to `limit` rows; `None` at the end. A chunk may be empty before the end.
    pub(crate) fn chunk(
        &mut self,
        rows: &impl Rows,
        slots: &Slots,
        limit: usize,
    ) -> Result<Option<Vec<LiveRow>>, MachineError> {
        let Some(place) = self.place.take() else { return Ok(None) };
        let limit = limit.min(self.pace.rows());
        let chunk = rows.range(&place, &layout::data_end(), limit)?;
        self.pace.count(&chunk);
        let mut live_rows = Vec::with_capacity(chunk.len());
        if chunk.len() == limit {
            self.place = chunk.last().map(|(last, _)| layout::behind(last));
        }
        for (row_key, row) in chunk {
            let (slot, incarnation, key) = read_data_key(&row_key)?;
            let live = slots.get(slot).incarnation;
            if incarnation != live {
                // Litter may be long; what lives begins behind it, or with the next slot.
                let (from, _) = layout::data_of(slot, live);
                let is_before = incarnation < live;
                self.place = Some(if is_before { from } else { layout::data_slot_end(slot) });
                break;
            }
            live_rows.push(LiveRow { key, row });
        }
        Ok(Some(live_rows))
    }
}

/// The live state as of `now`, for a walk.
pub(crate) struct Walk<'a, R> {
    pub(crate) rows: R,
    pub(crate) slots: &'a Slots,
    pub(crate) now: LogTime,
    pub(crate) generation: u64,
    /// No row of the due index is earlier.
    pub(crate) next_due: u64,
}

impl<R: Rows> Walk<'_, R> {
    /// Up to `limit` live keys at or after `from`.
    pub(crate) fn keys(
        &self,
        from: ScanPosition,
        limit: usize,
    ) -> Result<Vec<Bytes>, MachineError> {
        let mut keys = Vec::new();
        let mut live_rows = LiveRows::from(from, self.slots);
        while keys.len() < limit {
            let left = limit - keys.len();
            let Some(chunk) = live_rows.chunk(&self.rows, self.slots, left)? else { break };
            for LiveRow { key, row } in chunk {
                if !read_header(&row)?.is_due(self.now) {
                    keys.push(key);
                }
            }
        }
        Ok(keys)
    }

    /// Number of live keys.
    pub(crate) fn len(&self) -> Result<u64, MachineError> {
        let mut overdue = 0;
        if self.next_due <= self.now.0 {
            self.each_due(|_, _| overdue += 1)?;
        }
        Ok(self.slots.keys().saturating_sub(overdue))
    }

    /// Number of live keys in `slots`, which are in order.
    pub(crate) fn count_in(&self, slots: &[Slot]) -> Result<u64, MachineError> {
        let mut overdue = 0;
        if self.next_due <= self.now.0 {
            self.each_due(|slot, _| overdue += u64::from(slots.binary_search(&slot).is_ok()))?;
        }
        let keys: u64 = slots.iter().map(|slot| self.slots.get(*slot).keys).sum();
        Ok(keys.saturating_sub(overdue))
    }

    /// Some live key. Each is about as likely as any other: the slot is drawn by its number of
    /// keys, and in it the first key from a drawn place on.
    pub(crate) fn random_key(&self, choice: u64) -> Result<Option<Bytes>, MachineError> {
        let Some(mut nth) = choice.checked_rem(self.slots.keys()) else { return Ok(None) };
        let mut slot = Slot::default();
        for (candidate, state) in self.slots.from(slot) {
            slot = candidate;
            match nth.checked_sub(state.keys) {
                Some(rest) => nth = rest,
                None => break,
            }
        }
        let hash = hash64(choice, b"random key") >> (64 - HASH_BITS);
        let cursor = u64::from(slot.get()) << HASH_BITS | hash;
        for from in [ScanPosition::from_cursor(cursor), ScanPosition::START] {
            if let Some(key) = self.keys(from, 1)?.pop() {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// Calls `each` with every live key that is due but has not been expired yet.
    fn each_due(&self, mut each: impl FnMut(Slot, &[u8])) -> Result<(), MachineError> {
        let (mut from, to) = layout::due_between(self.generation, self.next_due, self.now.0);
        loop {
            let chunk = self.rows.range(&from, &to, CHUNK)?;
            for (row, _) in &chunk {
                let due = read_due_key(row)?;
                if self.slots.get(due.slot).incarnation == due.incarnation {
                    each(due.slot, &due.key);
                }
            }
            match chunk.last() {
                Some((last, _)) if chunk.len() == CHUNK => from = layout::behind(last),
                _ => return Ok(()),
            }
        }
    }
}
