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

/// Adds up one slot under the incarnation that `state` has.
pub(super) fn add_slot(
    sums: &mut SlotSums,
    rows: &impl Rows,
    slot: Slot,
    state: &SlotState,
) -> Result<(), MachineError> {
    let mut scratch = Vec::new();
    let incarnation = state.incarnation;
    let (from, to) = layout::data_of(slot, incarnation);
    each_row(rows, from, &to, |key, row| {
        let (_, _, key) = layout::read_data_key(key)?;
        scratch.clear();
        scratch.extend_from_slice(&(key.len() as u64).to_be_bytes());
        scratch.extend_from_slice(&key);
        scratch.extend_from_slice(row);
        sums.keys += 1;
        sums.rows = sums.rows.wrapping_add(hash128(ROW, &scratch));
        Ok(())
    })?;
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
