//! Deleting, bit by bit, the rows that a flush has left behind.
//!
//! FLUSHALL moves every slot to another incarnation, so that its rows no longer count. They are
//! deleted with the commits that follow, some with each. No reader, count or hash sees them, so
//! replicas need not agree on how far they have come.

use std::collections::BTreeSet;

use kontiki_types::Slot;
use kontiki_types::plant::{Plant, planted};

use crate::MachineError;
use crate::layout;
use crate::ledger::Tables;
use crate::overlay::{Overlay, Rows};
use crate::scan::Pace;

/// Rows deleted with a commit, at least; each entry of it adds [`PER_ENTRY`].
pub(crate) const PER_COMMIT: usize = 64;
/// More rows than an entry writes, so that litter shrinks under any load.
pub(crate) const PER_ENTRY: usize = 4;

/// Bytes of rows read with a commit, about: deleting a row means reading it first.
const BYTES_MAX: usize = 4 << 20;

/// What is left to delete.
#[derive(Debug)]
pub(crate) struct Litter {
    slots: BTreeSet<Slot>,
    /// Whether earlier generations of the due index may have rows.
    has_dues: bool,
    /// Where the deletion of the first of these has come to. Going on from there spares an LSM
    /// engine from stepping over what it has just deleted.
    place: Option<Vec<u8>>,
    /// Rows deleted since the machine was opened.
    deleted: u64,
}

impl Litter {
    pub(crate) fn of(tables: &Tables) -> Self {
        let littered = tables.slots.used().filter(|(_, state)| state.litter);
        Self {
            slots: littered.map(|(slot, _)| slot).collect(),
            has_dues: tables.generation > 0,
            place: None,
            deleted: 0,
        }
    }

    /// Slots that may have rows to delete, and rows deleted since the machine was opened.
    pub(crate) fn counts(&self) -> (usize, u64) {
        (self.slots.len(), self.deleted)
    }

    /// Everything was flushed.
    pub(crate) fn note_flush(&mut self, tables: &Tables) {
        let place = self.place.take();
        let first = self.slots.first().copied();
        *self = Self { deleted: self.deleted, ..Self::of(tables) };
        self.place = place.filter(|_| self.slots.first().copied() == first);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty() && !self.has_dues
    }

    /// Deletes up to `most` rows. `rows` must have everything that was written before the last
    /// flush, so an overlay of the batch at hand must be empty.
    pub(crate) fn collect(
        &mut self,
        most: usize,
        rows: &impl Rows,
        tables: &mut Tables,
        overlay: &mut Overlay,
    ) -> Result<(), MachineError> {
        let mut left = most;
        let mut bytes = 0;
        let mut pace = Pace::START;
        while left > 0 && bytes < BYTES_MAX && !self.is_empty() {
            let slot = self.slots.first().copied();
            let (start, end) = match slot {
                Some(slot) if planted(Plant::DeleterWithoutIncarnation) => {
                    (layout::data_before(slot, 0).0, layout::data_slot_end(slot))
                }
                Some(slot) => layout::data_before(slot, tables.slots.get(slot).incarnation),
                None => layout::due_before_generation(tables.generation),
            };
            let wanted = left.min(pace.rows());
            let found = rows.range(self.place.as_ref().unwrap_or(&start), &end, wanted)?;
            pace.count(&found);
            let is_done = found.len() < wanted;
            left -= found.len();
            self.deleted += found.len() as u64;
            bytes += found.iter().map(|(_, row)| row.len()).sum::<usize>();
            self.place = found.last().map(|(last, _)| layout::behind(last));
            found.into_iter().for_each(|(key, _)| overlay.delete(key));
            if is_done {
                self.place = None;
                match slot {
                    Some(slot) => {
                        self.slots.remove(&slot);
                        tables.slots.clean(slot);
                    }
                    None => self.has_dues = false,
                }
            }
        }
        Ok(())
    }
}
