//! Writing a snapshot.

use bytes::Bytes;
use kontiki_types::LogId;
use kontiki_types::plant::{Plant, planted};

use super::{
    CLIENT, END, FRAME_BYTES_MAX, FRAME_HEADER, HEADER, MAGIC, MOVING, ROW, SLOT, STAGED, STEWARD,
    Summary, put_frame,
};
use crate::bytes_in::{Cursor, put_blob, put_varint};
use crate::command::ScanPosition;
use crate::layout::{self, Bounds, FORMAT};
use crate::ledger::{Ledger, Tables};
use crate::moving::each_row;
use crate::overlay::Viewed;
use crate::scan::{LiveRow, LiveRows};
use crate::slots::SlotState;
use crate::{Machine, MachineError, Store, StoreView};

/// A snapshot as it is read from a view of the store: an iterator over its bytes, in chunks of at
/// most 1 MiB. Independent of the machine, so that another thread can run it while entries apply.
#[derive(Debug)]
pub struct Export<V> {
    view: V,
    applied: LogId,
    stage: Stage,
    /// Items that are not in a frame yet, from `taken` on.
    items: Vec<u8>,
    taken: usize,
    frames: u64,
    summary: Summary,
    scratch: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    Tables,
    /// What is staged: the ranges that are left, the last first.
    Staged(Box<Tables>, Vec<Bounds>),
    Rows(Box<Tables>, LiveRows),
    Done,
}

impl<S: Store> Machine<S> {
    /// A snapshot of the state as of [`Machine::applied`].
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn export(&self) -> Result<Export<S::View>, MachineError> {
        Ok(Export {
            view: self.store().view()?,
            applied: self.applied(),
            stage: Stage::Tables,
            items: Vec::new(),
            taken: 0,
            frames: 0,
            summary: Summary::default(),
            scratch: Vec::new(),
        })
    }
}

impl<V: StoreView> Export<V> {
    /// The log id of the last entry that the snapshot includes.
    pub fn applied(&self) -> LogId {
        self.applied
    }

    /// Appends items until a frame can be filled or none is left.
    fn gather(&mut self) -> Result<(), MachineError> {
        self.items.drain(..self.taken);
        self.taken = 0;
        while self.items.len() < FRAME_BYTES_MAX {
            match core::mem::replace(&mut self.stage, Stage::Done) {
                Stage::Tables => {
                    let (_, tables) = Ledger::open(&Viewed(&self.view))?;
                    self.put_tables(&tables)?;
                    let ranges = self.put_moving()?;
                    self.stage = Stage::Staged(Box::new(tables), ranges);
                }
                Stage::Staged(tables, mut ranges) => match ranges.pop() {
                    Some((from, to)) => {
                        let rows = self.view.range(&from, &to, STAGED_ROWS)?;
                        for (key, row) in &rows {
                            self.summary.staged(key, row, &mut self.scratch);
                            put_pair(&mut self.items, STAGED, key, row);
                        }
                        if let Some((last, _)) = rows.last() {
                            ranges.push((layout::behind(last), to));
                        }
                        self.stage = Stage::Staged(tables, ranges);
                    }
                    None => {
                        let rows = LiveRows::from(ScanPosition::START, &tables.slots);
                        self.stage = Stage::Rows(tables, rows);
                    }
                },
                Stage::Rows(tables, mut rows) => {
                    match rows.chunk(&Viewed(&self.view), &tables.slots, usize::MAX)? {
                        Some(chunk) => {
                            self.put_rows(&chunk);
                            self.stage = Stage::Rows(tables, rows);
                        }
                        None => {
                            let hash = self.summary.finish(self.applied, tables.log_time);
                            put_item(&mut self.items, END, &hash.to_be_bytes());
                        }
                    }
                }
                Stage::Done => break,
            }
        }
        Ok(())
    }

    fn put_tables(&mut self, tables: &Tables) -> Result<(), MachineError> {
        let mut body = MAGIC.to_vec();
        body.push(FORMAT);
        body.extend_from_slice(&self.applied.term.0.to_be_bytes());
        body.extend_from_slice(&self.applied.index.0.to_be_bytes());
        body.extend_from_slice(&tables.log_time.0.to_be_bytes());
        put_item(&mut self.items, HEADER, &body);
        if let Some(steward) = self.view.get(&layout::STEWARD)? {
            self.summary.steward(&steward);
            put_item(&mut self.items, STEWARD, &steward);
        }
        for (slot, state) in tables.slots.used() {
            self.summary.slot(slot, state, &mut self.scratch);
            put_item(&mut self.items, SLOT, &self.scratch);
        }
        for (id, client) in tables.clients.in_order() {
            if planted(Plant::SnapshotWithoutRecords) {
                break;
            }
            self.summary.client(id, client, tables.log_time, &mut self.scratch);
            if self.scratch.is_empty() {
                continue;
            }
            // Replies that have a row come after what the table says of the client.
            for record in client.records(tables.log_time).filter(|record| record.has_reply_row()) {
                let reply = self.view.get(&layout::reply(id, record.seq, record.slot))?;
                let missing = || crate::BadBytes::new("record: its reply is missing");
                put_blob(&mut self.scratch, &reply.ok_or_else(missing)?);
            }
            put_item(&mut self.items, CLIENT, &self.scratch);
        }
        Ok(())
    }

    /// Rows about slots on their way; answers where what is staged of them lies.
    fn put_moving(&mut self) -> Result<Vec<Bounds>, MachineError> {
        let mut ranges = Vec::new();
        let (from, to) = layout::moving();
        let staged = layout::all_staged().1;
        each_row(&Viewed(&self.view), from, &to, |key, row| {
            self.summary.moving(key, row, &mut self.scratch);
            put_pair(&mut self.items, MOVING, key, row);
            if key[..] < staged[..] {
                let (slot, state) = SlotState::decode(&mut Cursor::new(row))?;
                ranges.push(layout::data_of(slot, state.incarnation));
            }
            Ok(())
        })?;
        ranges.reverse();
        Ok(ranges)
    }

    fn put_rows(&mut self, rows: &[LiveRow]) {
        for LiveRow { key, row } in rows {
            self.summary.row(key, row, &mut self.scratch);
            put_pair(&mut self.items, ROW, key, row);
        }
    }
}

/// Rows of the staging area read at a time: one may be megabytes.
const STAGED_ROWS: usize = 16;

fn put_pair(out: &mut Vec<u8>, tag: u8, key: &[u8], row: &[u8]) {
    let mut body = Vec::with_capacity(key.len() + row.len() + 4);
    put_blob(&mut body, key);
    body.extend_from_slice(row);
    put_item(out, tag, &body);
}

fn put_item(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    put_varint(out, body.len() as u64);
    out.extend_from_slice(body);
}

impl<V: StoreView> Iterator for Export<V> {
    type Item = Result<Bytes, MachineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.items.len() - self.taken < FRAME_BYTES_MAX
            && let Err(error) = self.gather()
        {
            self.items.clear();
            self.taken = 0;
            return Some(Err(error));
        }
        let rest = &self.items[self.taken..];
        if rest.is_empty() {
            return None;
        }
        let content = &rest[..rest.len().min(FRAME_BYTES_MAX)];
        let mut frame = Vec::with_capacity(FRAME_HEADER + content.len());
        put_frame(&mut frame, self.frames, content);
        self.taken += content.len();
        self.frames += 1;
        Some(Ok(frame.into()))
    }
}
