//! What slots add up to, the same at the source and in staging (PROTOCOL 12).

use kontiki_types::Slot;

use super::SlotSums;
use crate::MachineError;
use crate::hash::hash128;
use crate::layout;
use crate::overlay::Rows;
use crate::scan::CHUNK;
use crate::slots::SlotState;

/// Seeds, so that an item of one kind never passes for one of another.
const ROW: u64 = 16;
const SLOT: u64 = 17;
const RECORD: u64 = 18;

/// What a data row adds to its slot's sum.
pub(super) fn of_row(key: &[u8], row: &[u8]) -> u128 {
    let mut all = Vec::with_capacity(8 + key.len() + row.len());
    all.extend_from_slice(&(key.len() as u64).to_be_bytes());
    all.extend_from_slice(key);
    all.extend_from_slice(row);
    hash128(ROW, &all)
}

/// Adds up the data rows of one slot, by reading them.
pub(super) fn add_rows(
    sums: &mut SlotSums,
    rows: &impl Rows,
    slot: Slot,
    incarnation: u64,
) -> Result<(), MachineError> {
    let (from, to) = layout::data_of(slot, incarnation);
    each_row(rows, from, &to, |key, row| {
        let (_, _, key) = layout::read_data_key(key)?;
        sums.keys += 1;
        sums.rows = sums.rows.wrapping_add(of_row(&key, row));
        Ok(())
    })
}

/// Adds the counters of one slot.
pub(super) fn add_counters(sums: &mut SlotSums, slot: Slot, state: &SlotState) {
    let counters = SlotState { incarnation: 0, litter: false, ..*state };
    let mut bytes = Vec::new();
    counters.encode(slot, &mut bytes);
    sums.rows = sums.rows.wrapping_add(hash128(SLOT, &bytes));
}

/// Adds what is pinned or staged of `slots` beside data rows.
pub(super) fn add_pinned(
    sums: &mut SlotSums,
    rows: &impl Rows,
    slots: &[Slot],
    incarnation: impl Fn(Slot) -> Option<u64>,
) -> Result<(), MachineError> {
    let mut scratch = Vec::new();
    each_pinned(rows, slots, incarnation, |key, row| {
        // Table and slot, but not the incarnation, which differs between source and target.
        scratch.clear();
        scratch.extend_from_slice(key.get(..3).unwrap_or_default());
        scratch.extend_from_slice(key.get(layout::PINNED_PREFIX..).unwrap_or_default());
        scratch.extend_from_slice(row);
        sums.records = sums.records.wrapping_add(hash128(RECORD, &scratch));
        Ok(())
    })
}

/// Calls `each` with every low mark, then every completion record, that is pinned or staged with one
/// of `slots` under its incarnation. Few walks, since slots are many and most have nothing.
pub(super) fn each_pinned(
    rows: &impl Rows,
    slots: &[Slot],
    incarnation: impl Fn(Slot) -> Option<u64>,
    mut each: impl FnMut(&bytes::Bytes, &bytes::Bytes) -> Result<(), MachineError>,
) -> Result<(), MachineError> {
    let (Some(&first), Some(&last)) = (slots.first(), slots.last()) else { return Ok(()) };
    for (from, to) in layout::pinned_among(first, last) {
        each_row(rows, from, &to, |key, row| {
            let (slot, found) = layout::read_pinned_place(key)?;
            match slots.binary_search(&slot).is_ok() && incarnation(slot) == Some(found) {
                true => each(key, row),
                false => Ok(()),
            }
        })?;
    }
    Ok(())
}

/// Calls `each` with every row from `from` to before `to`.
pub(crate) fn each_row(
    rows: &impl Rows,
    mut from: Vec<u8>,
    to: &[u8],
    mut each: impl FnMut(&bytes::Bytes, &bytes::Bytes) -> Result<(), MachineError>,
) -> Result<(), MachineError> {
    loop {
        let chunk = rows.range(&from, to, CHUNK)?;
        for (key, row) in &chunk {
            each(key, row)?;
        }
        match chunk.last() {
            Some((last, _)) if chunk.len() == CHUNK => from = layout::behind(last),
            _ => return Ok(()),
        }
    }
}
