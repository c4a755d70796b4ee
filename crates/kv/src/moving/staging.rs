//! What a steward's entries do to rows: staging, activation, death; and what is noted of slots on
//! their way out.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_types::{LogTime, Slot};

use super::item::{Item, each_item, put_low, put_record, read_low, read_record};
use super::sums::{add_counters, add_pinned, each_pinned, each_row, of_row};
use super::{SlotRows, SlotSums, stored};
use crate::batch::Batch;
use crate::bytes_in::{BadBytes, Cursor};
use crate::command::ScanPosition;
use crate::layout::{self, read_header};
use crate::ledger::free_reply;
use crate::overlay::Merged;
use crate::slots::SlotState;
use crate::{MachineError, Store};

/// A slot in the staging area.
#[derive(Clone, Copy)]
struct Staged {
    state: SlotState,
    /// What its data rows add up to, kept as they come and go: to read them all when everything has
    /// arrived would hold up whatever else the group applies.
    sum: u128,
}

fn staged<S: Store>(
    batch: &Batch<'_, S>,
    slot: Slot,
    incarnation: u64,
) -> Result<Option<Staged>, MachineError> {
    let merged = Merged { store: batch.store, overlay: batch.overlay };
    let Some(row) = merged.get(&layout::staged(slot))? else { return Ok(None) };
    let (_, staged) = read_staged(&row)?;
    Ok(Some(staged).filter(|staged| staged.state.incarnation == incarnation))
}

fn read_staged(row: &Bytes) -> Result<(Slot, Staged), BadBytes> {
    let mut cursor = Cursor::new(row);
    let (slot, state) = SlotState::decode(&mut cursor)?;
    let sum = u128::from_be_bytes(*cursor.array()?);
    Ok((slot, Staged { state, sum }))
}

fn put_staged<S: Store>(batch: &mut Batch<'_, S>, slot: Slot, staged: Staged) {
    let mut row = Vec::new();
    staged.state.encode(slot, &mut row);
    row.extend_from_slice(&staged.sum.to_be_bytes());
    batch.overlay.put(Bytes::copy_from_slice(&layout::staged(slot)), row.into());
}

/// A key of a tracked slot has changed.
pub(crate) fn note_change<S: Store>(batch: &mut Batch<'_, S>, slot: Slot, key: &[u8]) {
    if batch.is_tracked(slot) {
        let index = Bytes::copy_from_slice(&batch.index.0.to_be_bytes());
        batch.overlay.put(layout::changed(slot, key), index);
        if batch.tallies.has(slot) {
            let merged = Merged { store: batch.store, overlay: batch.overlay };
            let mut failed = None;
            let row = |row_key: &[u8]| {
                merged.get(row_key).unwrap_or_else(|error| {
                    failed = Some(error);
                    None
                })
            };
            let incarnation = batch.tables.slots.get(slot).incarnation;
            batch.tallies.key_changes(slot, incarnation, key, batch.index, row);
            batch.check(failed.map_or(Ok(()), Err));
        }
    }
}

/// Every key of a tracked slot is gone.
pub(crate) fn clear_tracked<S: Store>(batch: &mut Batch<'_, S>, slot: Slot) {
    if batch.is_tracked(slot) {
        let index = Bytes::copy_from_slice(&batch.index.0.to_be_bytes());
        batch.overlay.put(Bytes::copy_from_slice(&layout::cleared(slot)), index);
        batch.tallies.slot_empties(slot, batch.index);
    }
}

/// The due index has begun another generation: what is staged must be in it.
pub(crate) fn redo_due<S: Store>(batch: &mut Batch<'_, S>) -> Result<(), MachineError> {
    let merged = Merged { store: batch.store, overlay: batch.overlay };
    let mut dues = Vec::new();
    let (from, to) = layout::all_staged();
    each_row(&merged, from, &to, |_, row| {
        let (slot, state) = SlotState::decode(&mut Cursor::new(row))?;
        let (from, to) = layout::data_of(slot, state.incarnation);
        each_row(&merged, from, &to, |key, row| {
            if let Some(due) = read_header(row)?.expires {
                let (_, incarnation, key) = layout::read_data_key(key)?;
                dues.push(layout::due(batch.tables.generation, due.0, slot, incarnation, &key));
            }
            Ok(())
        })
    })?;
    dues.into_iter().for_each(|due| batch.overlay.put(due, Bytes::new()));
    Ok(())
}

impl<S: Store> Batch<'_, S> {
    fn attempt(&mut self, act: impl FnOnce(&mut Self) -> Result<(), MachineError>) {
        let result = act(self);
        self.check(result);
    }

    /// Forgets what has changed in `slots`. Two walks, since slots are many and most have nothing.
    fn delete_changed(&mut self, slots: &[Slot]) -> Result<(), MachineError> {
        let (Some(&first), Some(&last)) = (slots.first(), slots.last()) else { return Ok(()) };
        let mut keys = Vec::new();
        let merged = Merged { store: self.store, overlay: self.overlay };
        for (from, to) in layout::changed_among(first, last) {
            each_row(&merged, from, &to, |key, _| {
                if slots.binary_search(&layout::read_changed_slot(key)?).is_ok() {
                    keys.push(key.clone());
                }
                Ok(())
            })?;
        }
        keys.into_iter().for_each(|key| self.overlay.delete(key));
        Ok(())
    }

    /// Forgets what is staged or pinned of `slots` beside data rows.
    fn delete_pinned(
        &mut self,
        slots: &[Slot],
        incarnation: impl Fn(&Self, Slot) -> u64,
    ) -> Result<(), MachineError> {
        let mut keys = Vec::new();
        let merged = Merged { store: self.store, overlay: self.overlay };
        let of = |slot| Some(incarnation(self, slot));
        each_pinned(&merged, slots, of, |key, _| {
            keys.push(key.clone());
            Ok(())
        })?;
        keys.into_iter().for_each(|key| self.overlay.delete(key));
        Ok(())
    }

    /// Those of `slots` that are staged under `incarnation`.
    fn staged_of(
        &self,
        slots: &[Slot],
        incarnation: u64,
    ) -> Result<BTreeMap<Slot, Staged>, MachineError> {
        let mut found = BTreeMap::new();
        let (Some(&first), Some(&last)) = (slots.first(), slots.last()) else { return Ok(found) };
        let merged = Merged { store: self.store, overlay: self.overlay };
        let (from, to) = layout::staged_among(first, last);
        each_row(&merged, from, &to, |_, row| {
            let (slot, staged) = read_staged(row)?;
            if staged.state.incarnation == incarnation && slots.binary_search(&slot).is_ok() {
                found.insert(slot, staged);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Deletes the staged row of a key; the state counts it out.
    fn unstage(&mut self, staged: &mut Staged, key: &[u8]) -> Result<(), MachineError> {
        let Staged { state, sum } = staged;
        let place = ScanPosition::of(key);
        let row_key = layout::data(place, state.incarnation, key);
        let old = Merged { store: self.store, overlay: self.overlay }.get(&row_key)?;
        let Some(old) = old else { return Ok(()) };
        if let Some(due) = read_header(&old)?.expires {
            let generation = self.tables.generation;
            let due = layout::due(generation, due.0, place.slot(), state.incarnation, key);
            self.overlay.delete(due);
        }
        self.overlay.delete(Bytes::copy_from_slice(&row_key));
        state.keys = state.keys.saturating_sub(1);
        *sum = sum.wrapping_sub(of_row(key, &old));
        Ok(())
    }

    fn stage_item(
        &mut self,
        slots: &[Slot],
        incarnation: u64,
        item: Item<'_>,
    ) -> Result<(), MachineError> {
        let slot = match &item {
            Item::Row { key, .. } | Item::Deleted { key } => Slot::of(key),
            Item::Cleared { slot } | Item::Slot { slot, .. } => *slot,
            Item::Record { record, .. } => record.slot,
            Item::Low { .. } => slots.first().copied().unwrap_or_default(),
        };
        let foreign = || BadBytes::new("slot content: of another slot");
        slots.binary_search(&slot).map_err(|_| foreign())?;
        let Some(mut staged) = staged(self, slot, incarnation)? else {
            return Err(BadBytes::new("slot content: nothing is staged").into());
        };
        match item {
            Item::Row { key, row } => {
                self.unstage(&mut staged, key)?;
                staged.state.keys += 1;
                staged.sum = staged.sum.wrapping_add(of_row(key, row));
                if let Some(due) = read_header(row)?.expires {
                    let generation = self.tables.generation;
                    let due = layout::due(generation, due.0, slot, incarnation, key);
                    self.overlay.put(due, Bytes::new());
                }
                let row_key = layout::data(ScanPosition::of(key), incarnation, key);
                let row_key = Bytes::copy_from_slice(&row_key);
                self.overlay.put(row_key, Bytes::copy_from_slice(row));
            }
            Item::Deleted { key } => self.unstage(&mut staged, key)?,
            Item::Cleared { slot } => {
                let mut keys = Vec::new();
                let merged = Merged { store: self.store, overlay: self.overlay };
                let (from, to) = layout::data_of(slot, incarnation);
                each_row(&merged, from, &to, |key, _| {
                    keys.push(layout::read_data_key(key)?.2);
                    Ok(())
                })?;
                keys.iter().try_for_each(|key| self.unstage(&mut staged, key))?;
            }
            Item::Slot { version, deleted, .. } => {
                staged.state = SlotState { version, deleted, ..staged.state };
            }
            Item::Low { client, low, until } => {
                let mut row = Vec::new();
                put_low(&mut row, low, until);
                self.overlay.put(layout::pinned_low_key(slot, incarnation, client), row.into());
            }
            Item::Record { client, record, reply } => {
                let mut row = Vec::new();
                put_record(&mut row, &record, reply);
                let key = layout::pinned_key(slot, incarnation, client, record.seq);
                self.overlay.put(key, row.into());
            }
        }
        put_staged(self, slot, staged);
        Ok(())
    }

    /// Merges what came beside data rows into the tables that it lives in.
    fn merge_pinned(&mut self, slots: &[Slot], incarnation: u64) -> Result<(), MachineError> {
        let now = self.tables.log_time;
        let merged = Merged { store: self.store, overlay: self.overlay };
        let (mut lows, mut records) = (Vec::new(), Vec::new());
        each_pinned(
            &merged,
            slots,
            |_| Some(incarnation),
            |key, row| {
                let (client, seq) = layout::read_pinned_key(key)?;
                let mut cursor = Cursor::new(row);
                if seq.is_none() {
                    lows.push((client, read_low(&mut cursor)?.0));
                } else {
                    let (record, reply) = read_record(&mut cursor)?;
                    records.push((client, record, reply.map(Bytes::copy_from_slice)));
                }
                Ok(())
            },
        )?;
        let Self { tables, overlay, ledger, .. } = self;
        for (id, low) in lows {
            let client = tables.clients.of(id);
            if client.raise_low(low, now, |record| free_reply(id, record, overlay)) {
                ledger.low(id, low, now);
            }
        }
        for (id, record, reply) in records {
            let client = tables.clients.of(id);
            if now > record.deadline || record.seq < client.low(now) {
                continue;
            }
            let has_row = record.has_reply_row();
            if let Some(reply) = reply {
                overlay.put(layout::reply(id, record.seq, record.slot), reply);
            }
            ledger.write(id, None, &record, now);
            if let Some(dead) = client.complete(record).filter(|_| !has_row) {
                free_reply(id, &dead, overlay);
            }
        }
        Ok(())
    }

    fn activate_slots(&mut self, slots: &[Slot], incarnation: u64) -> Result<(), MachineError> {
        let staged = self.staged_of(slots, incarnation)?;
        if staged.len() < slots.len() {
            return Err(BadBytes::new("a slot is activated that is not staged").into());
        }
        for (slot, Staged { state, .. }) in staged {
            // What earlier lives have left here is below the incarnation.
            self.tables.slots.install(slot, SlotState { litter: true, ..state });
            self.overlay.delete(Bytes::copy_from_slice(&layout::staged(slot)));
        }
        self.merge_pinned(slots, incarnation)?;
        self.delete_pinned(slots, |_, _| incarnation)
    }

    fn retire_slot(&mut self, slot: Slot, incarnation: u64) -> Result<(), MachineError> {
        let live = *self.tables.slots.get(slot);
        if live.incarnation >> 32 == incarnation >> 32 {
            self.tables.slots.flush(slot);
        } else if staged(self, slot, incarnation)?.is_some() {
            self.overlay.delete(Bytes::copy_from_slice(&layout::staged(slot)));
            // Whatever lies below is dead.
            let state = SlotState { incarnation: incarnation + 1, litter: true, ..live };
            self.tables.slots.install(slot, state);
        }
        Ok(())
    }

    fn pin_all(&mut self, slots: &[Slot]) -> Result<(), MachineError> {
        let now = self.tables.log_time;
        let first = slots.first().copied().unwrap_or_default();
        let mut rows = Vec::new();
        for (id, client) in self.tables.clients.in_order() {
            if let Some((low, until)) = client.low_mark(now) {
                let mut row = Vec::new();
                put_low(&mut row, low, until);
                let incarnation = self.tables.slots.get(first).incarnation;
                rows.push((layout::pinned_low_key(first, incarnation, id), row));
            }
            for record in client.records(now) {
                if slots.binary_search(&record.slot).is_err() {
                    continue;
                }
                let merged = Merged { store: self.store, overlay: self.overlay };
                let reply = match record.has_reply_row() {
                    true => merged.get(&layout::reply(id, record.seq, record.slot))?,
                    false => None,
                };
                let mut row = Vec::new();
                put_record(&mut row, record, reply.as_deref());
                let incarnation = self.tables.slots.get(record.slot).incarnation;
                rows.push((layout::pinned_key(record.slot, incarnation, id, record.seq), row));
            }
        }
        rows.into_iter().for_each(|(key, row)| self.overlay.put(key, row.into()));
        Ok(())
    }
}

impl<S: Store> SlotRows for Batch<'_, S> {
    fn open(&mut self, slots: &[Slot], incarnation: u32) {
        for slot in slots {
            let state = SlotState { incarnation: stored(incarnation), ..SlotState::default() };
            put_staged(self, *slot, Staged { state, sum: 0 });
        }
    }

    fn stage(&mut self, slots: &[Slot], incarnation: u32, payload: &[u8]) -> Result<(), BadBytes> {
        each_item(payload, |item| {
            match self.stage_item(slots, stored(incarnation), item) {
                Err(MachineError::State(bad)) => return Err(bad),
                result => {
                    self.check(result);
                }
            }
            Ok(())
        })
    }

    fn staged_sums(&self, slots: &[Slot], incarnation: u32) -> SlotSums {
        let mut sums = SlotSums::default();
        let merged = Merged { store: self.store, overlay: self.overlay };
        let incarnation = stored(incarnation);
        let staged = self.check(self.staged_of(slots, incarnation)).unwrap_or_default();
        for (slot, Staged { state, sum }) in &staged {
            sums.keys += state.keys;
            sums.rows = sums.rows.wrapping_add(*sum);
            add_counters(&mut sums, *slot, state);
        }
        let of = |slot| staged.get(&slot).map(|_| incarnation);
        self.check(add_pinned(&mut sums, &merged, slots, of));
        sums
    }

    fn activate(&mut self, slots: &[Slot], incarnation: u32, time: LogTime) {
        self.tables.log_time = self.tables.log_time.max(time);
        self.attempt(|batch| batch.activate_slots(slots, stored(incarnation)));
    }

    fn retire(&mut self, slots: &[Slot], incarnation: u32) {
        let incarnation = stored(incarnation);
        self.attempt(|batch| {
            // Under the incarnation that is retired: staged, or live and perhaps flushed since.
            batch.delete_pinned(slots, |batch, slot| {
                let live = batch.tables.slots.get(slot).incarnation;
                if live >> 32 == incarnation >> 32 { live } else { incarnation }
            })?;
            slots.iter().try_for_each(|slot| batch.retire_slot(*slot, incarnation))
        });
    }

    fn pin(&mut self, slots: &[Slot]) {
        self.attempt(|batch| batch.pin_all(slots));
    }

    fn unpin(&mut self, slots: &[Slot]) {
        self.attempt(|batch| {
            batch.delete_pinned(slots, |batch, slot| batch.tables.slots.get(slot).incarnation)
        });
    }

    fn untrack(&mut self, slots: &[Slot]) {
        slots.iter().for_each(|slot| self.tallies.forget(*slot));
        self.attempt(|batch| batch.delete_changed(slots));
    }
}
