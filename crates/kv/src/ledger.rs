//! How the slot table and the completion records get into the store.
//!
//! Both live in memory and change with every write; a row for each would triple what a write costs
//! the engine. So a commit writes one *delta*: what its entries did to the two tables, in order.
//! The tables as such are stored in *pages*, a few of which are rewritten with each commit once
//! enough deltas have gathered, in turn; a delta that every page has passed is deleted. Opening
//! reads the pages and runs, for each page, the deltas after it.
//!
//! Invariants
//! - A page carries the number of the delta of its commit, so a delta runs once for each page.
//! - A delta is deleted only when each page has been rewritten since, or had no cause to be.
//! - The newest delta stays: it has the log time.
//!
//! The rows depend on how entries were cut into batches. What they say does not, and only that
//! goes into state hashes and snapshots.

use std::collections::VecDeque;

use bytes::Bytes;
use kontiki_types::{ClientId, LogTime, Seq, Slot};

use crate::MachineError;
use crate::bytes_in::{BadBytes, Cursor, put_varint};
use crate::clients::{CLIENT_PAGES, Client, Clients, Record};
use crate::layout::{self, FORMAT};
use crate::overlay::{Overlay, Rows};
use crate::slots::{SLOT_PAGES, SLOTS_PER_PAGE, SlotState, Slots};

/// Below this many bytes of deltas no page is rewritten: reading them back takes a millisecond.
const DELTA_BYTES_KEPT: usize = 64 << 10;

/// Bytes of pages rewritten for each byte of delta. With 1, the deltas that are kept come to about
/// as much as the pages.
const PAGE_BYTES_PER_DELTA_BYTE: usize = 1;

/// What looking at a client costs, in bytes of pages.
const SWEEP_COST: usize = 8;

const PAGES: usize = SLOT_PAGES as usize + CLIENT_PAGES;

/// Rows read at a time when opening.
const CHUNK: usize = 64;

// What a delta is made of.
const TIME: u8 = 1;
const WRITE: u8 = 2;
const WRITE_WITH_LOW: u8 = 3;
const LOW: u8 = 4;
const SLOT: u8 = 5;

/// The two tables and the time, which is all of the state that is not rows.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) slots: Slots,
    pub(crate) clients: Clients,
    pub(crate) log_time: LogTime,
    /// The due index's generation: each flush of everything begins another.
    pub(crate) generation: u64,
}

impl Tables {
    pub(crate) fn new() -> Self {
        let (slots, clients) = (Slots::new(), Clients::new());
        Self { slots, clients, log_time: LogTime(0), generation: 0 }
    }
}

/// The delta of the batch at hand, and the bookkeeping of those stored.
#[derive(Debug)]
pub(crate) struct Ledger {
    delta: Vec<u8>,
    delta_time: Option<LogTime>,
    pub(crate) delta_bytes_kept: usize,
    generation: u64,
    next_number: u64,
    /// Number and size of the deltas in the store.
    stored: VecDeque<(u64, usize)>,
    stored_bytes: usize,
    turn: usize,
    pages: Vec<Page>,
    /// Bytes of pages that may be rewritten.
    credit: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Page {
    /// Deltas up to this number are of no use to the page.
    upto: u64,
    /// Whether a delta after `upto` concerns it.
    is_touched: bool,
}

impl Ledger {
    /// Reads the tables back.
    pub(crate) fn open(rows: &impl Rows) -> Result<(Self, Tables), MachineError> {
        let mut tables = Tables::new();
        let mut pages = read_pages(rows, &mut tables)?;
        let mut stored = VecDeque::new();
        let (mut from, to) = layout::deltas_from(0);
        loop {
            let chunk = rows.range(&from, &to, CHUNK)?;
            for (key, row) in &chunk {
                let number = layout::delta_number(key)?;
                read_delta(row, number, &mut pages, &mut tables)?;
                stored.push_back((number, row.len()));
            }
            match chunk.last() {
                Some((last, _)) if chunk.len() == CHUNK => from = layout::behind(last),
                _ => break,
            }
        }
        // Turns begin anew, so the pages stand as if none had passed anything.
        pages.iter_mut().for_each(|page| page.upto = 0);
        let ledger = Self {
            delta: Vec::new(),
            delta_time: None,
            delta_bytes_kept: DELTA_BYTES_KEPT,
            generation: tables.generation,
            next_number: stored.back().map_or(1, |(number, _)| number + 1),
            stored_bytes: stored.iter().map(|(_, bytes)| bytes).sum(),
            stored,
            turn: 0,
            pages,
            credit: 0,
        };
        Ok((ledger, tables))
    }

    /// Notes that `record` was added at `now`, after the client's low mark rose to `low` if it did.
    pub(crate) fn write(
        &mut self,
        client: ClientId,
        low: Option<Seq>,
        record: &Record,
        now: LogTime,
    ) {
        self.client(if low.is_some() { WRITE_WITH_LOW } else { WRITE }, client, now);
        if let Some(low) = low {
            put_varint(&mut self.delta, low.0);
        }
        record.encode(&mut self.delta);
    }

    /// Notes that only the client's low mark rose.
    pub(crate) fn low(&mut self, client: ClientId, low: Seq, now: LogTime) {
        self.client(LOW, client, now);
        put_varint(&mut self.delta, low.0);
    }

    fn client(&mut self, kind: u8, client: ClientId, now: LogTime) {
        self.time(now);
        self.pages[client_page(client)].is_touched = true;
        self.delta.push(kind);
        self.delta.extend_from_slice(&client.to_bytes());
    }

    fn time(&mut self, now: LogTime) {
        if self.delta_time != Some(now) {
            self.delta_time = Some(now);
            self.delta.push(TIME);
            self.delta.extend_from_slice(&now.0.to_be_bytes());
        }
    }

    /// Puts the delta of the batch into `overlay`, and pages whose turn it is. `stored_time` is the
    /// log time of the commit before.
    pub(crate) fn close(
        &mut self,
        tables: &mut Tables,
        stored_time: LogTime,
        overlay: &mut Overlay,
    ) {
        let changed = tables.slots.take_changed();
        let is_same = stored_time == tables.log_time && self.generation == tables.generation;
        if self.delta.is_empty() && changed.is_empty() && is_same {
            return;
        }
        self.generation = tables.generation;
        self.time(tables.log_time);
        for slot in changed {
            self.pages[slot_page(slot)].is_touched = true;
            self.delta.push(SLOT);
            tables.slots.get(slot).encode(slot, &mut self.delta);
        }
        let mut row = Vec::with_capacity(1 + 10 + self.delta.len());
        row.push(FORMAT);
        put_varint(&mut row, self.generation);
        row.append(&mut self.delta);
        self.delta_time = None;
        let number = self.next_number;
        self.next_number += 1;
        self.stored.push_back((number, row.len()));
        self.stored_bytes += row.len();
        let bytes = row.len();
        overlay.put(Bytes::copy_from_slice(&layout::delta(number)), row.into());
        if self.stored_bytes > self.delta_bytes_kept {
            self.credit += bytes * PAGE_BYTES_PER_DELTA_BYTE;
            self.rewrite_pages(number, tables, overlay);
        }
    }

    /// Puts all of `tables` into `overlay`, for a store that has nothing of them.
    pub(crate) fn write_all(tables: &mut Tables, overlay: &mut Overlay) {
        let number = 1;
        for page in 0..PAGES {
            let row = page_row(page, number, tables);
            if row.len() > PAGE_HEADER {
                overlay.put(Bytes::copy_from_slice(&page_key(page)), row.into());
            }
        }
        let mut delta = vec![FORMAT];
        put_varint(&mut delta, tables.generation);
        delta.push(TIME);
        delta.extend_from_slice(&tables.log_time.0.to_be_bytes());
        overlay.put(Bytes::copy_from_slice(&layout::delta(number)), delta.into());
    }

    /// Rewrites pages in turn as far as there is credit, then deletes the deltas that all passed.
    fn rewrite_pages(&mut self, number: u64, tables: &mut Tables, overlay: &mut Overlay) {
        for _ in 0..PAGES {
            if self.credit == 0 {
                break;
            }
            let page = self.turn;
            self.turn = (page + 1) % PAGES;
            let looked_at = sweep(page, tables, overlay, &mut self.pages[page].is_touched);
            self.credit = self.credit.saturating_sub(looked_at * SWEEP_COST);
            if self.pages[page].is_touched {
                let row = page_row(page, number, tables);
                self.credit = self.credit.saturating_sub(row.len());
                overlay.put(Bytes::copy_from_slice(&page_key(page)), row.into());
            }
            self.pages[page] = Page { upto: number, is_touched: false };
        }
        // The page whose turn is next was rewritten longest ago.
        let passed = self.pages[self.turn].upto.min(number - 1);
        while let Some((first, bytes)) = self.stored.front().filter(|(first, _)| *first <= passed) {
            overlay.delete(Bytes::copy_from_slice(&layout::delta(*first)));
            self.stored_bytes -= bytes;
            self.stored.pop_front();
        }
        if self.stored_bytes <= self.delta_bytes_kept {
            self.credit = 0;
        }
    }
}

fn slot_page(slot: Slot) -> usize {
    usize::from(slot.get() / SLOTS_PER_PAGE)
}

fn client_page(client: ClientId) -> usize {
    usize::from(SLOT_PAGES) + usize::from(Clients::page_of(client))
}

fn page_key(page: usize) -> [u8; 2] {
    match page.checked_sub(usize::from(SLOT_PAGES)) {
        None => layout::slot_page(page as u8),
        Some(page) => layout::client_page(page as u8),
    }
}

/// Drops the dead from a page of clients; a page that lost one must be rewritten. Answers what
/// going through the page costs, in clients.
fn sweep(page: usize, tables: &mut Tables, overlay: &mut Overlay, is_touched: &mut bool) -> usize {
    let Some(page) = page.checked_sub(usize::from(SLOT_PAGES)) else {
        return if *is_touched { usize::from(SLOTS_PER_PAGE / 8) } else { 0 };
    };
    let (page, now) = (page as u8, tables.log_time);
    let before = tables.clients.page(page).len();
    tables.clients.sweep(page, now, |client, record| {
        *is_touched = true;
        free_reply(client, record, overlay);
    });
    *is_touched |= tables.clients.page(page).len() < before;
    before
}

/// Format and number of the commit's delta.
const PAGE_HEADER: usize = 9;

/// A page's row: after the header, items to the end.
fn page_row(page: usize, number: u64, tables: &mut Tables) -> Vec<u8> {
    let mut row = Vec::with_capacity(1024);
    row.push(FORMAT);
    row.extend_from_slice(&number.to_be_bytes());
    match page.checked_sub(usize::from(SLOT_PAGES)) {
        None => {
            let first = page as u16 * SLOTS_PER_PAGE;
            let page = (first..first + SLOTS_PER_PAGE).filter_map(Slot::new);
            for (slot, state) in page.map(|slot| (slot, tables.slots.get(slot))) {
                if *state != SlotState::default() {
                    state.encode(slot, &mut row);
                }
            }
        }
        Some(page) => {
            for (id, client) in tables.clients.page(page as u8) {
                client.encode(*id, tables.log_time, &mut row);
            }
        }
    }
    row
}

/// Deletes the reply's row of a record that is dropped, if it has one.
pub(crate) fn free_reply(client: ClientId, record: &Record, overlay: &mut Overlay) {
    if record.has_reply_row() {
        overlay.delete(layout::reply(client, record.seq, record.slot));
    }
}

fn read_pages(rows: &impl Rows, tables: &mut Tables) -> Result<Vec<Page>, MachineError> {
    let mut pages = vec![Page::default(); PAGES];
    for (number, page) in pages.iter_mut().enumerate() {
        let key = page_key(number);
        let found = rows.range(&key, &layout::behind(&key), 1)?;
        if let [(_, row)] = found.as_slice() {
            page.upto = read_page(row, number, tables)?;
        }
    }
    Ok(pages)
}

fn read_page(row: &[u8], page: usize, tables: &mut Tables) -> Result<u64, BadBytes> {
    let mut cursor = Cursor::new(row);
    check_format("page", cursor.u8()?)?;
    let number = cursor.u64()?;
    while !cursor.is_empty() {
        if page < usize::from(SLOT_PAGES) {
            let (slot, state) = SlotState::decode(&mut cursor)?;
            tables.slots.restore(slot, state);
        } else {
            let (id, client) = Client::decode(&mut cursor)?;
            tables.clients.page(Clients::page_of(id)).insert(id, client);
        }
    }
    Ok(number)
}

fn check_format(what: &str, format: u8) -> Result<(), BadBytes> {
    if format == FORMAT { Ok(()) } else { Err(BadBytes::version(what, format, FORMAT)) }
}

/// Runs a delta for the pages that have not passed it.
fn read_delta(
    row: &[u8],
    number: u64,
    pages: &mut [Page],
    tables: &mut Tables,
) -> Result<(), BadBytes> {
    let mut cursor = Cursor::new(row);
    check_format("delta", cursor.u8()?)?;
    tables.generation = cursor.varint()?;
    let mut concerns = |page: usize| {
        let page = &mut pages[page];
        let concerns = number > page.upto;
        page.is_touched |= concerns;
        concerns
    };
    while !cursor.is_empty() {
        match cursor.u8()? {
            TIME => tables.log_time = LogTime(cursor.u64()?),
            SLOT => {
                let (slot, state) = SlotState::decode(&mut cursor)?;
                if concerns(slot_page(slot)) {
                    tables.slots.restore(slot, state);
                }
            }
            kind @ (WRITE | WRITE_WITH_LOW | LOW) => {
                let id = ClientId::from_bytes(cursor.array()?);
                let low = if kind == WRITE { None } else { Some(Seq(cursor.varint()?)) };
                let record = if kind == LOW { None } else { Some(Record::decode(&mut cursor)?) };
                if concerns(client_page(id)) {
                    let clients = tables.clients.page(Clients::page_of(id));
                    let client = clients.entry(id).or_default();
                    if let Some(low) = low {
                        client.raise_low(low, tables.log_time, |_| ());
                    }
                    record.and_then(|record| client.complete(record));
                }
            }
            _ => return Err(BadBytes::new("delta: unknown kind")),
        }
    }
    Ok(())
}
