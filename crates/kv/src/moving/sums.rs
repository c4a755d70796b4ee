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

/// Adds everything of one slot but its data rows, under the incarnation that `state` has.
pub(super) fn add_rest(
    sums: &mut SlotSums,
    rows: &impl Rows,
    slot: Slot,
    state: &SlotState,
) -> Result<(), MachineError> {
    let mut scratch = Vec::new();
    let incarnation = state.incarnation;
    let counters = SlotState { incarnation: 0, litter: false, ..*state };
    scratch.clear();
    counters.encode(slot, &mut scratch);
    sums.rows = sums.rows.wrapping_add(hash128(SLOT, &scratch));
    for (from, to) in [layout::pinned_lows(slot, incarnation), layout::pinned(slot, incarnation)] {
        each_row(rows, from, &to, |key, row| {
            // Table and slot, but not the incarnation, which differs between source and target.
            scratch.clear();
            scratch.extend_from_slice(key.get(..3).unwrap_or_default());
            scratch.extend_from_slice(key.get(layout::PINNED_PREFIX..).unwrap_or_default());
            scratch.extend_from_slice(row);
            sums.records = sums.records.wrapping_add(hash128(RECORD, &scratch));
            Ok(())
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
