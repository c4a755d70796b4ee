//! Reading a snapshot into an empty store.

use bytes::Bytes;
use kontiki_types::{LogId, LogTime, Term};

use super::{
    CLIENT, END, FRAME_HEADER, HEADER, MAGIC, MOVING, ROW, SLOT, STAGED, STEWARD, Summary,
    read_frame,
};
use crate::bytes_in::Cursor;
use crate::clients::{Client, Clients, Kept};
use crate::command::ScanPosition;
use crate::layout::{self, FORMAT, read_header};
use crate::ledger::{Ledger, Tables};
use crate::overlay::Overlay;
use crate::slots::SlotState;
use crate::{BadBytes, Store, StoreError, WriteSet};

/// Bytes of rows that are committed at once.
const COMMIT_BYTES: usize = 1 << 20;

/// Why a snapshot could not be read. The store it went to must be discarded.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes are damaged, or of another version.
    #[error("snapshot: {0}")]
    Bytes(#[from] BadBytes),
    /// The bytes end before the snapshot does.
    #[error("snapshot: it is cut short")]
    Incomplete,
    /// What was read does not add up to the state that was written.
    #[error("snapshot: the state hash differs from the one written")]
    Differs,
    /// The store to read into has rows.
    #[error("snapshot: the store to read into is not empty")]
    NotEmpty,
    /// The state engine failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A snapshot on its way into a store. The store counts as having applied nothing, and
/// [`Machine::open`](crate::Machine::open) refuses it, until [`Import::finish`] has returned.
#[derive(Debug)]
pub struct Import<S> {
    store: S,
    tables: Tables,
    overlay: Overlay,
    overlay_bytes: usize,
    changes: WriteSet,
    /// Bytes that are not a whole frame yet.
    bytes: Vec<u8>,
    frames: u64,
    /// Contents of frames that are not a whole item yet.
    items: Vec<u8>,
    applied: Option<LogId>,
    rows: u64,
    is_complete: bool,
    summary: Summary,
    scratch: Vec<u8>,
}

impl<S: Store> Import<S> {
    /// Begins to read into `store`, which must be empty.
    ///
    /// # Errors
    /// [`SnapshotError::NotEmpty`], [`SnapshotError::Store`].
    pub fn new(store: S) -> Result<Self, SnapshotError> {
        if store.applied() != LogId::ZERO || !store.range(&[], &[0xff], 1)?.is_empty() {
            return Err(SnapshotError::NotEmpty);
        }
        Ok(Self {
            store,
            tables: Tables::new(),
            overlay: Overlay::default(),
            overlay_bytes: 0,
            changes: WriteSet::new(),
            bytes: Vec::new(),
            frames: 0,
            items: Vec::new(),
            applied: None,
            rows: 0,
            is_complete: false,
            summary: Summary::default(),
            scratch: Vec::new(),
        })
    }

    /// Takes the next bytes of the snapshot; they may be cut anywhere.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.bytes.extend_from_slice(bytes);
        let mut taken = 0;
        while let Some(content) = read_frame(&self.bytes[taken..], self.frames)? {
            taken += FRAME_HEADER + content.len();
            self.items.extend_from_slice(content);
            self.frames += 1;
        }
        self.bytes.drain(..taken);
        let items = core::mem::take(&mut self.items);
        let mut taken = 0;
        while let Some((tag, body, length)) = read_item(&items[taken..]) {
            self.take(tag, body)?;
            taken += length;
        }
        self.items = items;
        self.items.drain(..taken);
        Ok(())
    }

    /// Completes the import: one last commit makes it a state as of the log id that is answered.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn finish(mut self) -> Result<(S, LogId), SnapshotError> {
        let Some(applied) = self.applied else { return Err(SnapshotError::Incomplete) };
        if !self.is_complete || !self.bytes.is_empty() || !self.items.is_empty() {
            return Err(SnapshotError::Incomplete);
        }
        Ledger::write_all(&mut self.tables, &mut self.overlay);
        self.overlay.put(Bytes::from_static(&layout::META), Bytes::from_static(&[FORMAT]));
        self.overlay.drain_into(&mut self.changes);
        self.store.commit(&mut self.changes, applied)?;
        Ok((self.store, applied))
    }

    fn take(&mut self, tag: u8, body: &[u8]) -> Result<(), SnapshotError> {
        if self.is_complete {
            return Err(BadBytes::new("bytes after the end").into());
        }
        let mut cursor = Cursor::new(body);
        match (tag, self.applied) {
            (HEADER, None) => self.applied = Some(self.read_header(&mut cursor)?),
            (STEWARD, Some(_)) => {
                let state = cursor.rest();
                self.summary.steward(state);
                let row = Bytes::copy_from_slice(state);
                self.put(Bytes::from_static(&layout::STEWARD), row)?;
            }
            (MOVING, Some(_)) => {
                let (key, row) = (cursor.blob()?, cursor.rest());
                let (from, to) = layout::moving();
                if key < &*from || key >= &*to {
                    return Err(BadBytes::new("a row about moves that is of another table").into());
                }
                self.summary.moving(key, row, &mut self.scratch);
                self.put(Bytes::copy_from_slice(key), Bytes::copy_from_slice(row))?;
            }
            (STAGED, Some(_)) => {
                let (key, row) = (Bytes::copy_from_slice(cursor.blob()?), cursor.rest());
                self.summary.staged(&key, row, &mut self.scratch);
                let (slot, incarnation, name) = layout::read_data_key(&key)?;
                if *layout::data(ScanPosition::of(&name), incarnation, &name) != *key {
                    return Err(BadBytes::new("a staged row that lies in the wrong place").into());
                }
                if let Some(due) = read_header(row)?.expires {
                    self.put(layout::due(0, due.0, slot, incarnation, &name), Bytes::new())?;
                }
                self.put(key, Bytes::copy_from_slice(row))?;
            }
            (SLOT, Some(_)) => {
                let (slot, state) = SlotState::decode(&mut cursor)?;
                self.summary.slot(slot, &state, &mut self.scratch);
                self.tables.slots.restore(slot, state);
            }
            (CLIENT, Some(_)) => self.read_client(&mut cursor)?,
            (ROW, Some(_)) => {
                let key = cursor.blob()?;
                let row = cursor.rest();
                self.put_row(key, row)?;
                self.summary.row(key, row, &mut self.scratch);
            }
            (END, Some(applied)) => {
                let hash = u128::from_be_bytes(*cursor.array()?);
                let found = self.summary.finish(applied, self.tables.log_time);
                if hash != found || self.rows != self.tables.slots.keys() {
                    return Err(SnapshotError::Differs);
                }
                self.is_complete = true;
            }
            _ => {
                return Err(BadBytes::new("items in the wrong order, or of an unknown kind").into());
            }
        }
        if !cursor.is_empty() {
            return Err(BadBytes::new("an item is longer than what it says").into());
        }
        Ok(())
    }

    fn read_header(&mut self, cursor: &mut Cursor<'_>) -> Result<LogId, SnapshotError> {
        if cursor.array::<8>()? != MAGIC {
            return Err(BadBytes::new("not a snapshot").into());
        }
        let format = cursor.u8()?;
        if format != FORMAT {
            return Err(BadBytes::version("snapshot", format, FORMAT).into());
        }
        let (term, index) = (Term(cursor.u64()?), cursor.u64()?);
        self.tables.log_time = LogTime(cursor.u64()?);
        Ok(LogId::new(term, index.into()))
    }

    fn read_client(&mut self, cursor: &mut Cursor<'_>) -> Result<(), SnapshotError> {
        let now = self.tables.log_time;
        let (id, client) = Client::decode(cursor)?;
        self.summary.client(id, &client, now, &mut self.scratch);
        let rows: Vec<_> = client
            .records(now)
            .filter(|record| record.has_reply_row())
            .map(|record| (layout::reply(id, record.seq, record.slot), record.reply.clone()))
            .collect();
        for (key, kept) in rows {
            let reply = cursor.blob()?;
            if Kept::of_encoded(reply) != kept {
                return Err(BadBytes::new("a reply is not the one that its record names").into());
            }
            self.put(key, Bytes::copy_from_slice(reply))?;
        }
        self.tables.clients.page(Clients::page_of(id)).insert(id, client);
        Ok(())
    }

    fn put_row(&mut self, key: &[u8], row: &[u8]) -> Result<(), SnapshotError> {
        let place = ScanPosition::of(key);
        let slot = place.slot();
        let incarnation = self.tables.slots.get(slot).incarnation;
        if let Some(due) = read_header(row)?.expires {
            self.put(layout::due(0, due.0, slot, incarnation, key), Bytes::new())?;
        }
        let row_key = Bytes::copy_from_slice(&layout::data(place, incarnation, key));
        self.rows += 1;
        self.put(row_key, Bytes::copy_from_slice(row))
    }

    fn put(&mut self, key: Bytes, row: Bytes) -> Result<(), SnapshotError> {
        self.overlay_bytes += key.len() + row.len();
        self.overlay.put(key, row);
        if self.overlay_bytes >= COMMIT_BYTES {
            self.overlay.drain_into(&mut self.changes);
            self.store.commit(&mut self.changes, LogId::ZERO)?;
            self.overlay_bytes = 0;
        }
        Ok(())
    }
}

/// Tag, body and whole length of the item that `bytes` begins with, if it is all there.
fn read_item(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let mut cursor = Cursor::new(bytes);
    let tag = cursor.u8().ok()?;
    let body = cursor.blob().ok()?;
    Some((tag, body, cursor.position()))
}
