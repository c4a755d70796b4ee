//! The state as one entry of a batch sees and changes it.

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use kontiki_types::{Index, LogTime, Slot};

use crate::command::ScanPosition;
use crate::layout::{self, Header, data_row, read_header};
use crate::ledger::{Ledger, Tables};
use crate::moving::{self, Tallies};
use crate::overlay::{Merged, Overlay};
use crate::scan::Walk;
use crate::steward::first_unserved;
use crate::{Access, AccessMut, Gate, MachineError, Record, Steward, Store};

/// Set in the version of a key that is due but not expired yet: it differs from every version
/// that the key had, or was said to be absent with.
pub(crate) const DUE_VERSION: u64 = 1 << 63;

/// Rows changed so far, on top of the store.
pub(crate) struct Batch<'a, S> {
    pub(crate) store: &'a S,
    pub(crate) overlay: &'a mut Overlay,
    pub(crate) tables: &'a mut Tables,
    pub(crate) next_due: &'a mut u64,
    pub(crate) steward: Option<&'a dyn Steward>,
    pub(crate) ledger: &'a mut Ledger,
    /// The entry at hand.
    pub(crate) index: Index,
    /// The row that was read last from the store. Commands that change a value read it first.
    pub(crate) last_read: &'a RefCell<LastRead>,
    pub(crate) tallies: &'a mut Tallies,
    /// The first failure; what came after it does not count, since nothing is committed.
    pub(crate) failed: Cell<Option<MachineError>>,
}

/// A row of the store, or that there is none.
#[derive(Debug, Default)]
pub(crate) struct LastRead {
    key: Vec<u8>,
    row: Option<Bytes>,
}

impl LastRead {
    /// Forgets the row: the store changes.
    pub(crate) fn clear(&mut self) {
        // No row has the empty key.
        self.key.clear();
        self.row = None;
    }
}

/// A row with its header read.
type Found = (Header, Bytes);

impl<S: Store> Batch<'_, S> {
    /// The row under the live incarnation, due or not.
    fn row(&self, place: ScanPosition, key: &[u8]) -> Option<Found> {
        let incarnation = self.tables.slots.get(place.slot()).incarnation;
        let row_key = layout::data(place, incarnation, key);
        let row = match self.overlay.get(&row_key) {
            Some(changed) => changed.clone(),
            None => self.read_store(&row_key),
        }?;
        let header = self.check(read_header(&row))?;
        Some((header, row))
    }

    fn read_store(&self, key: &[u8]) -> Option<Bytes> {
        let mut last = self.last_read.borrow_mut();
        if last.key != key {
            last.row = self.check(self.store.get(key)).flatten();
            last.key.clear();
            last.key.extend_from_slice(key);
        }
        last.row.clone()
    }

    pub(crate) fn check<T>(&self, result: Result<T, impl Into<MachineError>>) -> Option<T> {
        result.map_err(|error| self.fail(error.into())).ok()
    }

    fn fail(&self, error: MachineError) {
        let first = self.failed.take().unwrap_or(error);
        self.failed.set(Some(first));
    }

    /// Whether `slot` stands still.
    pub(crate) fn is_frozen(&self, slot: Slot) -> bool {
        self.steward.is_some_and(|steward| steward.gate(slot) == Gate::Frozen)
    }

    /// Whether changes of keys of `slot` are noted.
    pub(crate) fn is_tracked(&self, slot: Slot) -> bool {
        self.steward.is_some_and(|steward| steward.is_tracked(slot))
    }

    fn walk(&self) -> Walk<'_, Merged<'_, S>> {
        Walk {
            rows: Merged { store: self.store, overlay: self.overlay },
            slots: &self.tables.slots,
            now: self.tables.log_time,
            generation: self.tables.generation,
            next_due: *self.next_due,
        }
    }

    /// Writes a row in the place of `old`.
    fn write(
        &mut self,
        place: ScanPosition,
        key: &[u8],
        value: &[u8],
        expires: Option<LogTime>,
        old: Option<Header>,
    ) {
        let slot = place.slot();
        moving::note_change(self, slot, key);
        let version = self.tables.slots.set(slot, old.is_none());
        let incarnation = self.tables.slots.get(slot).incarnation;
        let due = old.and_then(|header| header.expires);
        if due != expires {
            self.remove_due(due, slot, incarnation, key);
            if let Some(expires) = expires {
                let row = layout::due(self.tables.generation, expires.0, slot, incarnation, key);
                self.overlay.put(row, Bytes::new());
                *self.next_due = expires.0.min(*self.next_due);
            }
        }
        let row_key = Bytes::copy_from_slice(&layout::data(place, incarnation, key));
        self.overlay.put(row_key, data_row(Header { expires, version }, value));
    }

    /// Removes a row, whose key and expiry the caller knows.
    pub(crate) fn remove(&mut self, key: &[u8], due: Option<LogTime>) {
        let place = ScanPosition::of(key);
        let slot = place.slot();
        moving::note_change(self, slot, key);
        let incarnation = self.tables.slots.get(slot).incarnation;
        self.tables.slots.remove(slot);
        self.remove_due(due, slot, incarnation, key);
        self.overlay.delete(Bytes::copy_from_slice(&layout::data(place, incarnation, key)));
    }

    fn remove_due(&mut self, due: Option<LogTime>, slot: Slot, incarnation: u64, key: &[u8]) {
        if let Some(due) = due {
            self.overlay.delete(layout::due(self.tables.generation, due.0, slot, incarnation, key));
        }
    }
}

impl<S: Store> Access for Batch<'_, S> {
    fn now(&self) -> LogTime {
        self.tables.log_time
    }

    fn get(&self, key: &[u8]) -> Option<Record> {
        let (header, row) = self.row(ScanPosition::of(key), key)?;
        record(header, &row, self.tables.log_time)
    }

    fn version(&self, key: &[u8]) -> u64 {
        let place = ScanPosition::of(key);
        let header = self.row(place, key).map(|(header, _)| header);
        version(header, self.tables.slots.get(place.slot()).deleted, self.tables.log_time)
    }

    fn scan(&self, from: ScanPosition, limit: usize) -> Vec<Bytes> {
        self.check(self.walk().keys(from, limit)).unwrap_or_default()
    }

    fn len(&self) -> u64 {
        self.check(self.walk().len()).unwrap_or_default()
    }

    fn random_key(&self, choice: u64) -> Option<Bytes> {
        self.check(self.walk().random_key(choice)).flatten()
    }

    fn first_unserved(&self, first: Slot, last: Slot) -> Option<Slot> {
        first_unserved(self.steward?, first, last)
    }

    fn count_in(&self, slots: &[Slot]) -> u64 {
        self.check(self.walk().count_in(slots)).unwrap_or_default()
    }
}

impl<S: Store> AccessMut for Batch<'_, S> {
    fn put(&mut self, key: &[u8], value: Bytes, expires: Option<LogTime>) {
        let place = ScanPosition::of(key);
        let old = self.row(place, key).map(|(header, _)| header);
        self.write(place, key, &value, expires.map(|at| at.max(LogTime(1))), old);
    }

    fn set_expiry(&mut self, key: &[u8], expires: Option<LogTime>) {
        let place = ScanPosition::of(key);
        if let Some((header, row)) = self.row(place, key)
            && !header.is_due(self.tables.log_time)
        {
            let expires = expires.map(|at| at.max(LogTime(1)));
            self.write(place, key, &layout::value(&row), expires, Some(header));
        }
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        // A due key is left to its expiry: it is not there to be deleted.
        let found = self.row(ScanPosition::of(key), key).map(|(header, _)| header);
        let Some(header) = found.filter(|header| !header.is_due(self.tables.log_time)) else {
            return false;
        };
        self.remove(key, header.expires);
        true
    }

    fn clear(&mut self) {
        let slots = self.tables.slots.used();
        let full: Vec<Slot> =
            slots.filter(|(_, state)| state.keys > 0).map(|(slot, _)| slot).collect();
        for slot in full {
            moving::clear_tracked(self, slot);
            self.tables.slots.flush(slot);
        }
        self.tables.generation += 1;
        *self.next_due = u64::MAX;
        let redone = moving::redo_due(self);
        self.check(redone);
    }

    fn clear_in(&mut self, slots: &[Slot]) {
        for &slot in slots {
            if self.tables.slots.get(slot).keys > 0 {
                moving::clear_tracked(self, slot);
                self.tables.slots.flush(slot);
            }
        }
        // Rows of the due index that the slots leave are passed over, and go when they are due; if
        // nothing else lives, all can go at once.
        if self.tables.slots.keys() == 0 {
            self.clear();
        }
    }
}

/// The record of a row, if it is live at `now`.
pub(crate) fn record(header: Header, row: &Bytes, now: LogTime) -> Option<Record> {
    let Header { expires, version } = header;
    (!header.is_due(now)).then(|| Record { value: layout::value(row), expires, version })
}

/// The version that a key is said to have at `now`.
pub(crate) fn version(header: Option<Header>, deleted: u64, now: LogTime) -> u64 {
    match header {
        Some(header) if header.is_due(now) => header.version | DUE_VERSION,
        Some(header) => header.version,
        None => deleted,
    }
}
