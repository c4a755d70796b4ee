//! What the leader of the source reads, between entries.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_types::{Index, Slot};

use super::item::{Item, read_low, read_record};
use super::sums::{add_counters, add_pinned, add_rows, each_row};
use super::{SlotChanges, SlotPiece, SlotSums};
use crate::bytes_in::{BadBytes, Cursor};
use crate::command::ScanPosition;
use crate::layout;
use crate::overlay::{Rows, Stored};
use crate::{Machine, MachineError, Store};

/// Rows read at a time: one may be megabytes.
const ROWS: usize = 16;

impl<S: Store> Machine<S> {
    /// Data rows of `slots` from a place on, about `bytes_max` bytes of them, at least one. `from`
    /// is empty, or what the part before gave as its next.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn export_rows(
        &self,
        slots: &[Slot],
        from: &Bytes,
        bytes_max: usize,
    ) -> Result<SlotPiece, MachineError> {
        let ranges = slots
            .iter()
            .map(|slot| layout::data_of(*slot, self.tables().slots.get(*slot).incarnation));
        self.piece(Vec::new(), ranges, from, bytes_max, |row_key, row, out| {
            let (_, _, key) = layout::read_data_key(row_key)?;
            Item::Row { key: &key, row }.put(out);
            Ok(())
        })
    }

    /// The keys of `slots` that were changed by entries after `after`, as they are now; those first
    /// that were changed first. About `bytes_max` bytes, at least one.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn export_changes(
        &self,
        slots: &[Slot],
        after: Index,
        bytes_max: usize,
    ) -> Result<SlotChanges, MachineError> {
        let mut changes: Vec<(Index, Slot, Option<Bytes>)> = Vec::new();
        for slot in slots {
            if let Some(known) = self.tallies_known().changes(*slot, after) {
                // Of a key that has changed twice, the last change counts.
                let mut last = BTreeMap::new();
                last.extend(known.map(|(index, key)| (key.clone(), *index)));
                changes.extend(last.into_iter().map(|(key, index)| (index, *slot, key)));
                continue;
            }
            for (from, to) in [layout::cleared_of(*slot), layout::changed_of(*slot)] {
                each_row(&Stored(self.store()), from, &to, |key, row| {
                    let index = Index(Cursor::new(row).u64()?);
                    if index > after {
                        let is_key = key.first() == Some(&layout::CHANGED);
                        changes.push((index, *slot, is_key.then(|| key.slice(3..))));
                    }
                    Ok(())
                })?;
            }
        }
        // Of one entry, that the slot was cleared comes before the keys.
        changes.sort();
        let mut out = Vec::new();
        let (mut upto, mut taken) = (self.applied().index, changes.len());
        for (at, (index, slot, key)) in changes.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|at| changes.get(at)).map(|(index, ..)| *index);
            if out.len() >= bytes_max && before.is_some_and(|before| before < *index) {
                (upto, taken) = (before.unwrap_or(after), at);
                break;
            }
            let Some(key) = key else {
                Item::Cleared { slot: *slot }.put(&mut out);
                continue;
            };
            let incarnation = self.tables().slots.get(*slot).incarnation;
            let row = self.store().get(&layout::data(ScanPosition::of(key), incarnation, key))?;
            match &row {
                Some(row) => Item::Row { key, row }.put(&mut out),
                None => Item::Deleted { key }.put(&mut out),
            }
        }
        let bytes_per_key = out.len().checked_div(taken).unwrap_or(0) as u64;
        let left_keys = (changes.len() - taken) as u64;
        Ok(SlotChanges { payload: out.into(), upto, left_keys, bytes_per_key })
    }

    /// What is sent of frozen slots only: counters, and what was pinned: low marks, completion
    /// records. `from` as in [`Machine::export_rows`]; about `bytes_max` bytes, at least one.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn export_closing(
        &self,
        slots: &[Slot],
        from: &Bytes,
        bytes_max: usize,
    ) -> Result<SlotPiece, MachineError> {
        let mut out = Vec::new();
        if from.is_empty() {
            for slot in slots {
                let state = self.tables().slots.get(*slot);
                let (version, deleted) = (state.version, state.deleted);
                Item::Slot { slot: *slot, version, deleted }.put(&mut out);
            }
        }
        let (Some(&first), Some(&last)) = (slots.first(), slots.last()) else {
            return Ok(SlotPiece { payload: out.into(), next: None });
        };
        let ranges = layout::pinned_among(first, last).into_iter();
        self.piece(out, ranges, from, bytes_max, |key, row, out| {
            let (slot, incarnation) = layout::read_pinned_place(key)?;
            let is_meant = slots.binary_search(&slot).is_ok()
                && self.tables().slots.get(slot).incarnation == incarnation;
            if is_meant { put_pinned(key, row, out) } else { Ok(()) }
        })
    }

    /// Behind what is in `out`, the rows of `ranges`, which ascend, from behind `from` on.
    fn piece(
        &self,
        mut out: Vec<u8>,
        ranges: impl Iterator<Item = (Vec<u8>, Vec<u8>)>,
        from: &Bytes,
        bytes_max: usize,
        put: impl Fn(&Bytes, &[u8], &mut Vec<u8>) -> Result<(), BadBytes>,
    ) -> Result<SlotPiece, MachineError> {
        for (first, end) in ranges {
            let mut place = if from.is_empty() { first } else { first.max(layout::behind(from)) };
            while place < end {
                let found = Stored(self.store()).range(&place, &end, ROWS)?;
                for (key, row) in &found {
                    put(key, row, &mut out)?;
                    if out.len() >= bytes_max {
                        let next = Some(key.clone());
                        return Ok(SlotPiece { payload: out.into(), next });
                    }
                }
                match found.last() {
                    Some((last, _)) if found.len() == ROWS => place = layout::behind(last),
                    _ => break,
                }
            }
        }
        Ok(SlotPiece { payload: out.into(), next: None })
    }

    /// What the live rows of frozen `slots` add up to, with what was pinned. Reads them all, but for
    /// those that [`Machine::tally`] has counted.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn live_sums(&self, slots: &[Slot]) -> Result<SlotSums, MachineError> {
        let mut sums = SlotSums::default();
        for slot in slots {
            let state = self.tables().slots.get(*slot);
            match self.tallied(*slot)? {
                Some(counted) => {
                    sums.keys += counted.keys;
                    sums.rows = sums.rows.wrapping_add(counted.rows);
                }
                None => add_rows(&mut sums, &Stored(self.store()), *slot, state.incarnation)?,
            }
            add_counters(&mut sums, *slot, state);
        }
        let of = |slot| Some(self.tables().slots.get(slot).incarnation);
        add_pinned(&mut sums, &Stored(self.store()), slots, of)?;
        Ok(sums)
    }
}

/// The item that a pinned row is.
fn put_pinned(key: &[u8], row: &[u8], out: &mut Vec<u8>) -> Result<(), BadBytes> {
    let mut cursor = Cursor::new(row);
    let (client, seq) = layout::read_pinned_key(key)?;
    match seq {
        Some(_) => {
            let (record, reply) = read_record(&mut cursor)?;
            Item::Record { client, record, reply }.put(out);
        }
        None => {
            let (low, until) = read_low(&mut cursor)?;
            Item::Low { client, low, until }.put(out);
        }
    }
    Ok(())
}
