//! The state hash, summed up item by item.

use std::collections::BTreeSet;

use bytes::Bytes;
use kontiki_types::{ClientId, LogId, LogTime, Slot};

use crate::bytes_in::Cursor;
use crate::clients::Client;
use crate::command::ScanPosition;
use crate::hash::hash128;
use crate::layout;
use crate::ledger::Tables;
use crate::moving::each_row;
use crate::overlay::Stored;
use crate::scan::{LiveRow, LiveRows};
use crate::slots::SlotState;
use crate::{Machine, MachineError, Store};

/// Seeds, so that an item of one kind never passes for one of another.
const SLOT: u64 = 1;
const CLIENT: u64 = 2;
const ROW: u64 = 3;
const STATE: u64 = 4;
const STEWARD: u64 = 5;
const MOVING: u64 = 6;
const STAGED: u64 = 7;

/// What is summed up, each with its kind.
type Items = BTreeSet<(u64, Vec<u8>)>;

/// A sum over hashes of all items, which does not depend on their order (PROTOCOL 12 needs such a
/// sum for each slot; this is the one for all).
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    sum: u128,
    items: u64,
    /// The items themselves, if they are wanted.
    kept: Option<Items>,
}

impl Summary {
    pub(crate) fn slot(&mut self, slot: Slot, state: &SlotState, scratch: &mut Vec<u8>) {
        scratch.clear();
        state.logical().encode(slot, scratch);
        self.add(SLOT, scratch);
    }

    pub(crate) fn client(
        &mut self,
        id: ClientId,
        client: &Client,
        now: LogTime,
        scratch: &mut Vec<u8>,
    ) {
        scratch.clear();
        if client.encode(id, now, scratch) {
            self.add(CLIENT, scratch);
        }
    }

    pub(crate) fn steward(&mut self, state: &[u8]) {
        self.add(STEWARD, state);
    }

    /// A row about slots on their way.
    pub(crate) fn moving(&mut self, key: &[u8], row: &[u8], scratch: &mut Vec<u8>) {
        self.pair(MOVING, key, row, scratch);
    }

    /// A data row that is staged, with its whole key in the store.
    pub(crate) fn staged(&mut self, key: &[u8], row: &[u8], scratch: &mut Vec<u8>) {
        self.pair(STAGED, key, row, scratch);
    }

    pub(crate) fn row(&mut self, key: &[u8], row: &[u8], scratch: &mut Vec<u8>) {
        self.pair(ROW, key, row, scratch);
    }

    fn pair(&mut self, kind: u64, key: &[u8], row: &[u8], scratch: &mut Vec<u8>) {
        scratch.clear();
        scratch.extend_from_slice(&(key.len() as u64).to_be_bytes());
        scratch.extend_from_slice(key);
        scratch.extend_from_slice(row);
        self.add(kind, scratch);
    }

    fn add(&mut self, kind: u64, item: &[u8]) {
        self.sum = self.sum.wrapping_add(hash128(kind, item));
        self.items += 1;
        if let Some(kept) = &mut self.kept {
            kept.insert((kind, item.to_vec()));
        }
    }

    /// The sum so far.
    pub(crate) fn sum(&self) -> u128 {
        self.sum
    }

    /// The hash of the whole.
    pub(crate) fn finish(&self, applied: LogId, log_time: LogTime) -> u128 {
        let mut all = Vec::with_capacity(48);
        all.extend_from_slice(&applied.term.0.to_be_bytes());
        all.extend_from_slice(&applied.index.0.to_be_bytes());
        all.extend_from_slice(&log_time.0.to_be_bytes());
        all.extend_from_slice(&self.items.to_be_bytes());
        all.extend_from_slice(&self.sum.to_be_bytes());
        hash128(STATE, &all)
    }

    /// Everything but the rows.
    pub(crate) fn tables(&mut self, tables: &Tables) {
        let mut scratch = Vec::new();
        for (slot, state) in tables.slots.used() {
            self.slot(slot, state, &mut scratch);
        }
        for (id, client) in tables.clients.in_order() {
            self.client(id, client, tables.log_time, &mut scratch);
        }
    }
}

impl<S: Store> Machine<S> {
    /// A hash of the logical state: keys with values, expiries and versions, slots, completion
    /// records, log time and applied index. Equal on all replicas that have applied the same
    /// entries, however they were cut into batches and whatever restarts and snapshots came
    /// between. Reads every row.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn state_hash(&self) -> Result<u128, MachineError> {
        let summary = self.summed_up(Summary::default())?;
        Ok(summary.finish(self.applied(), self.log_time()))
    }

    /// Where the logical states of two machines differ, for people: each item that only one of them
    /// has. Empty if nothing but the position or the log time differs. Holds both states in memory.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn differences(&self, other: &Self) -> Result<Vec<String>, MachineError> {
        let items = |machine: &Self| {
            let summary = Summary { kept: Some(Items::new()), ..Summary::default() };
            Ok::<_, MachineError>(machine.summed_up(summary)?.kept.unwrap_or_default())
        };
        let (one, two) = (items(self)?, items(other)?);
        let only = |items: &Items, others: &Items, whose: &str| -> Vec<String> {
            let items = items.difference(others);
            items.map(|(kind, item)| format!("{whose} only: {}", shown(*kind, item))).collect()
        };
        let mut found = only(&one, &two, "the first");
        found.extend(only(&two, &one, "the second"));
        Ok(found)
    }

    fn summed_up(&self, mut summary: Summary) -> Result<Summary, MachineError> {
        let tables = self.tables();
        summary.tables(tables);
        if let Some(state) = self.store().get(&layout::STEWARD)? {
            summary.steward(&state);
        }
        let mut rows = LiveRows::from(ScanPosition::START, &tables.slots);
        let mut scratch = Vec::new();
        let stored = Stored(self.store());
        let (from, to) = layout::moving();
        each_row(&stored, from, &to, |key, row| {
            summary.moving(key, row, &mut scratch);
            Ok(())
        })?;
        let (from, to) = layout::all_staged();
        each_row(&stored, from, &to, |_, row| {
            let (slot, state) = SlotState::decode(&mut Cursor::new(row))?;
            let (from, to) = layout::data_of(slot, state.incarnation);
            each_row(&stored, from, &to, |key, row| {
                summary.staged(key, row, &mut scratch);
                Ok(())
            })
        })?;
        while let Some(chunk) = rows.chunk(&Stored(self.store()), &tables.slots, usize::MAX)? {
            for LiveRow { key, row } in chunk {
                summary.row(&key, &row, &mut scratch);
            }
        }
        Ok(summary)
    }
}

/// An item, for people.
fn shown(kind: u64, item: &[u8]) -> String {
    let mut cursor = Cursor::new(item);
    match kind {
        SLOT => match SlotState::decode(&mut cursor) {
            Ok((slot, state)) => format!("slot {slot}: {state:?}"),
            Err(error) => format!("a slot: {error}"),
        },
        CLIENT => match Client::decode(&mut cursor) {
            Ok((id, client)) => format!("client {id:?}: {client:?}"),
            Err(error) => format!("a client: {error}"),
        },
        STEWARD => "what the log says of slots".to_owned(),
        ROW => format!("row {:?}", Bytes::copy_from_slice(item)),
        STAGED => format!("staged row {:?}", Bytes::copy_from_slice(item)),
        _ => format!("row about slots on their way {:?}", Bytes::copy_from_slice(item)),
    }
}
