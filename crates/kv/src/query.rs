//! The state as a query sees it.

use std::cell::Cell;

use bytes::Bytes;
use kontiki_types::plant::{Plant, planted};
use kontiki_types::{LogTime, Slot};

use crate::batch::{record, version};
use crate::command::ScanPosition;
use crate::layout::{self, Header, read_header};
use crate::ledger::Tables;
use crate::overlay::Stored;
use crate::scan::Walk;
use crate::steward::first_unserved;
use crate::{Access, MachineError, Record, Steward, Store};

/// The state as of the last apply.
pub(crate) struct View<'a, S> {
    pub(crate) store: &'a S,
    pub(crate) tables: &'a Tables,
    pub(crate) next_due: u64,
    pub(crate) steward: Option<&'a dyn Steward>,
    /// The caller's clock.
    pub(crate) clock: LogTime,
    /// Whether the answer depends on a key that is due by `clock` and not by the log time.
    pub(crate) met_due: Cell<bool>,
    pub(crate) failed: Cell<Option<MachineError>>,
}

impl<S: Store> View<'_, S> {
    fn row(&self, place: ScanPosition, key: &[u8]) -> Option<(Header, Bytes)> {
        let incarnation = self.tables.slots.get(place.slot()).incarnation;
        let row = self.store.get(&layout::data(place, incarnation, key));
        let row = self.check(row).flatten()?;
        let header = self.check(read_header(&row))?;
        if header.expires.is_some_and(|expires| self.is_between(expires.0)) {
            self.met_due.set(true);
        }
        Some((header, row))
    }

    /// Whether the log time has not reached `due`, but the clock has.
    fn is_between(&self, due: u64) -> bool {
        self.tables.log_time.0 < due && due <= self.clock.0 && !planted(Plant::ExpiryByLocalClock)
    }

    fn check<T>(&self, result: Result<T, impl Into<MachineError>>) -> Option<T> {
        let note = |error| {
            let first = self.failed.take().unwrap_or(error);
            self.failed.set(Some(first));
        };
        result.map_err(|error| note(error.into())).ok()
    }

    /// A walk, unless some key is due: then the answer will not count.
    fn walk(&self) -> Option<Walk<'_, Stored<'_, S>>> {
        if self.is_between(self.next_due) {
            self.met_due.set(true);
            return None;
        }
        Some(Walk {
            rows: Stored(self.store),
            slots: &self.tables.slots,
            now: self.tables.log_time,
            generation: self.tables.generation,
            next_due: self.next_due,
        })
    }
}

impl<S: Store> Access for View<'_, S> {
    fn now(&self) -> LogTime {
        self.tables.log_time
    }

    fn get(&self, key: &[u8]) -> Option<Record> {
        let (header, row) = self.row(ScanPosition::of(key), key)?;
        if planted(Plant::ExpiryByLocalClock) {
            return record(header, &row, self.clock);
        }
        record(header, &row, self.tables.log_time)
    }

    fn version(&self, key: &[u8]) -> u64 {
        let place = ScanPosition::of(key);
        let header = self.row(place, key).map(|(header, _)| header);
        version(header, self.tables.slots.get(place.slot()).deleted, self.tables.log_time)
    }

    fn scan(&self, from: ScanPosition, limit: usize) -> Vec<Bytes> {
        self.walk().and_then(|walk| self.check(walk.keys(from, limit))).unwrap_or_default()
    }

    fn len(&self) -> u64 {
        self.walk().and_then(|walk| self.check(walk.len())).unwrap_or_default()
    }

    fn random_key(&self, choice: u64) -> Option<Bytes> {
        self.walk().and_then(|walk| self.check(walk.random_key(choice))).flatten()
    }

    fn first_unserved(&self, first: Slot, last: Slot) -> Option<Slot> {
        first_unserved(self.steward?, first, last)
    }

    fn count_in(&self, slots: &[Slot]) -> u64 {
        self.walk().and_then(|walk| self.check(walk.count_in(slots))).unwrap_or_default()
    }
}
