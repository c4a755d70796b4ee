//! Deleting keys whose time has come (PROTOCOL 8).
//!
//! A key ceases to be the moment the log time reaches its expiry: every access takes it for absent
//! from then on. Its row goes a little later, with the entries that follow, in the order (expiry,
//! slot, key), and so many with each entry. Both are functions of the log alone, so that versions
//! and key counts are the same on every replica.

use crate::batch::Batch;
use crate::layout::{self, read_due_key};
use crate::overlay::{Merged, Rows};
use crate::{MachineError, Store};

/// Keys that a tick expires at most. More that are due wait for the next tick, which
/// [`Machine::next_due`](crate::Machine::next_due) calls for at once.
pub(crate) const PER_TICK: usize = 1024;

/// Keys that any other entry expires at most: more than one, so that writers of keys with an
/// expiry cannot run ahead of it.
pub(crate) const PER_WRITE: usize = 8;

impl<S: Store> Batch<'_, S> {
    /// Deletes up to `most` keys that are due by the log time.
    pub(crate) fn expire(&mut self, most: usize) -> Result<(), MachineError> {
        let mut left = most;
        let mut behind = None;
        while *self.next_due <= self.tables.log_time.0 && left > 0 {
            let now = self.tables.log_time.0;
            let (from, to) = layout::due_between(self.tables.generation, *self.next_due, now);
            let from = behind.take().unwrap_or(from);
            let merged = Merged { store: self.store, overlay: self.overlay };
            let wanted = left;
            let rows = merged.range(&from, &to, wanted)?;
            let is_last = rows.len() < wanted;
            for (row, _) in rows {
                let due = read_due_key(&row)?;
                *self.next_due = due.due;
                let live = self.tables.slots.get(due.slot).incarnation;
                if self.is_frozen(due.slot) || due.incarnation > live {
                    // Frozen, or not here yet. It is looked at again when that has changed.
                    behind = Some(layout::behind(&row));
                    continue;
                }
                // A key of a slot that has left since does not count: how many of those are still
                // there differs between replicas.
                if live == due.incarnation {
                    self.remove(&due.key, Some(kontiki_types::LogTime(due.due)));
                    left -= 1;
                } else {
                    self.overlay.delete(row);
                }
            }
            if is_last {
                *self.next_due = self.first_due_after(now)?;
            }
        }
        Ok(())
    }

    /// The earliest expiry after `now`.
    fn first_due_after(&self, now: u64) -> Result<u64, MachineError> {
        let Some(from) = now.checked_add(1) else { return Ok(u64::MAX) };
        let merged = Merged { store: self.store, overlay: self.overlay };
        first_due(&merged, self.tables.generation, from)
    }
}

/// The earliest expiry from `from` on.
pub(crate) fn first_due(rows: &impl Rows, generation: u64, from: u64) -> Result<u64, MachineError> {
    let (from, to) = layout::due_between(generation, from, u64::MAX);
    match rows.range(&from, &to, 1)?.as_slice() {
        [(row, _), ..] => Ok(read_due_key(row)?.due),
        [] => Ok(u64::MAX),
    }
}
