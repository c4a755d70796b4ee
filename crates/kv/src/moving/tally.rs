//! What slots on their way out add up to, and which of their keys have changed, kept at hand.
//!
//! Both can be read from the store at any time: the rows of the slots, the notes of changes. But
//! within a freeze there is no time to read a slot's rows, nor all changes since the export was
//! opened. So the machine whose leader gives slots away walks their rows in pieces, between entries
//! ([`Machine::tally`]), and from then on follows each change. This is memory of one machine: no
//! replica need have it, and whoever has not, reads the store.
//!
//! Of a key that changes, the row as it was is taken out of the sum, and the key is remembered; the
//! row as it is then is added when the sum is wanted. What the walk has not reached is not counted
//! yet, so a change of it is only remembered.
//!
//! Invariant: the sum, and the rows of what has changed, are the slot's rows up to where the walk is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kontiki_types::{Index, Slot};

use super::SlotSums;
use super::sums::of_row;
use crate::command::ScanPosition;
use crate::layout;
use crate::overlay::{Rows, Stored};
use crate::scan::CHUNK;
use crate::{Machine, MachineError, Store};

/// Changes that are remembered of a slot; beyond it, it is counted anew.
const CHANGES_MAX: usize = 1 << 16;

/// Table, slot and incarnation at the front of a row's key: the rest is its place in the slot.
const PREFIX: usize = 1 + 2 + 8;

/// How far the walk over a slot is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Walked {
    /// Up to this place.
    To(Vec<u8>),
    Through,
}

/// One slot.
#[derive(Debug)]
struct Tally {
    keys: u64,
    rows: u128,
    walked: Walked,
    /// Keys that the walk had passed, and that have changed since their rows were counted.
    changed: BTreeSet<Bytes>,
    /// Changes by entries after this one are in `changes`.
    since: Index,
    /// Every change after it, in order; without a key: the slot was emptied.
    changes: Vec<(Index, Option<Bytes>)>,
}

/// The slots that are counted.
#[derive(Debug, Default)]
pub(crate) struct Tallies(BTreeMap<Slot, Tally>);

impl Tally {
    fn new(since: Index) -> Self {
        Self {
            keys: 0,
            rows: 0,
            walked: Walked::To(Vec::new()),
            changed: BTreeSet::new(),
            since,
            changes: Vec::new(),
        }
    }

    fn has_passed(&self, place: &[u8]) -> bool {
        match &self.walked {
            Walked::To(upto) => place <= &upto[..],
            Walked::Through => true,
        }
    }

    fn add(&mut self, key: &[u8], row: &[u8]) {
        self.keys += 1;
        self.rows = self.rows.wrapping_add(of_row(key, row));
    }
}

impl Tallies {
    /// Whether changes of the slot's keys are followed.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.0.contains_key(&slot)
    }

    /// A key is about to change. `row` gives its row as it is, by the row's key.
    pub(crate) fn key_changes(
        &mut self,
        slot: Slot,
        incarnation: u64,
        key: &[u8],
        index: Index,
        row: impl FnOnce(&[u8]) -> Option<Bytes>,
    ) {
        let Some(tally) = self.0.get_mut(&slot) else { return };
        if tally.changes.len() >= CHANGES_MAX {
            self.0.remove(&slot);
            return;
        }
        let key = Bytes::copy_from_slice(key);
        if tally.changes.last() != Some(&(index, Some(key.clone()))) {
            tally.changes.push((index, Some(key.clone())));
        }
        let row_key = layout::data(ScanPosition::of(&key), incarnation, &key);
        let place = row_key.get(PREFIX..).unwrap_or_default();
        if !tally.has_passed(place) || tally.changed.contains(&key) {
            return;
        }
        if let Some(row) = row(&row_key) {
            tally.keys = tally.keys.saturating_sub(1);
            tally.rows = tally.rows.wrapping_sub(of_row(&key, &row));
        }
        tally.changed.insert(key);
    }

    /// Every key of the slot is about to go.
    pub(crate) fn slot_empties(&mut self, slot: Slot, index: Index) {
        if let Some(tally) = self.0.get_mut(&slot) {
            (tally.keys, tally.rows) = (0, 0);
            tally.changed.clear();
            tally.changes.push((index, None));
        }
    }

    /// The slot is not on its way any more.
    pub(crate) fn forget(&mut self, slot: Slot) {
        self.0.remove(&slot);
    }

    /// The changes of a slot by entries after `after`, in order, if all of them are known.
    pub(super) fn changes(
        &self,
        slot: Slot,
        after: Index,
    ) -> Option<impl Iterator<Item = &(Index, Option<Bytes>)>> {
        let tally = self.0.get(&slot).filter(|tally| tally.since <= after)?;
        let first = tally.changes.partition_point(|(index, _)| *index <= after);
        Some(tally.changes.iter().skip(first))
    }
}

impl<S: Store> Machine<S> {
    /// Counts more of `slots`, which are on their way out: about `bytes_max` bytes of their rows.
    /// Whether all are counted, so that [`Machine::live_sums`] need not read them.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn tally(&mut self, slots: &[Slot], bytes_max: usize) -> Result<bool, MachineError> {
        let applied = self.applied().index;
        let mut left = bytes_max;
        for &slot in slots {
            let is_tracked = self.steward().is_some_and(|steward| steward.is_tracked(slot));
            if !is_tracked {
                return Ok(false);
            }
            let mut tally = self.tallies().0.remove(&slot).unwrap_or_else(|| Tally::new(applied));
            let walked = self.walk_on(slot, &mut tally, &mut left);
            let is_through = tally.walked == Walked::Through;
            self.tallies().0.insert(slot, tally);
            walked?;
            if !is_through {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds what has changed, and rows behind the walk.
    fn walk_on(&self, slot: Slot, tally: &mut Tally, left: &mut usize) -> Result<(), MachineError> {
        let incarnation = self.tables().slots.get(slot).incarnation;
        for key in core::mem::take(&mut tally.changed) {
            let row_key = layout::data(ScanPosition::of(&key), incarnation, &key);
            if let Some(row) = self.store().get(&row_key)? {
                tally.add(&key, &row);
            }
        }
        let (first, end) = layout::data_of(slot, incarnation);
        while let Walked::To(upto) = &tally.walked {
            if *left == 0 {
                return Ok(());
            }
            let from = match upto.is_empty() {
                true => first.clone(),
                false => layout::behind(&[first.get(..PREFIX).unwrap_or_default(), upto].concat()),
            };
            let found = Stored(self.store()).range(&from, &end, CHUNK)?;
            for (row_key, row) in &found {
                let (_, _, key) = layout::read_data_key(row_key)?;
                tally.add(&key, row);
                *left = left.saturating_sub(row_key.len() + row.len());
            }
            tally.walked = match found.last() {
                Some((last, _)) if found.len() == CHUNK => {
                    Walked::To(last.get(PREFIX..).unwrap_or_default().to_vec())
                }
                _ => Walked::Through,
            };
        }
        Ok(())
    }

    /// The data rows of one slot, if they are counted.
    pub(super) fn tallied(&self, slot: Slot) -> Result<Option<SlotSums>, MachineError> {
        let tallies = self.tallies_known();
        let Some(tally) = tallies.0.get(&slot).filter(|one| one.walked == Walked::Through) else {
            return Ok(None);
        };
        let incarnation = self.tables().slots.get(slot).incarnation;
        let mut sums = SlotSums { keys: tally.keys, rows: tally.rows, records: 0 };
        for key in &tally.changed {
            let row_key = layout::data(ScanPosition::of(key), incarnation, key);
            if let Some(row) = self.store().get(&row_key)? {
                sums.keys += 1;
                sums.rows = sums.rows.wrapping_add(of_row(key, &row));
            }
        }
        Ok(Some(sums))
    }
}
