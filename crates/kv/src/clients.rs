//! Completion records: what makes a retried write take effect once (PROTOCOL 1 to 3).
//!
//! For every client: the low mark, below which nothing is executed any more, and a record of each
//! write at or above it. A client that waits for each reply keeps one record, whatever slots it
//! writes to: its next write's low mark frees the one before. A record remembers its slot, because
//! it moves with it.
//!
//! Invariants
//! - A record counts until its deadline has passed or the low mark has; a low mark counts until
//!   every deadline below it has passed. Both are questions of log time, so that it does not matter
//!   when a dead one is dropped from memory: each replica does that when it likes.
//! - Nothing here iterates in an order that depends on memory or hashing of addresses.

use std::collections::{BTreeMap, VecDeque};

use kontiki_types::plant::{Plant, planted};
use kontiki_types::{ClientId, LogTime, Seq, Slot};

use crate::bytes_in::{BadBytes, Cursor, put_blob, put_varint};
use crate::hash::hash64;
use crate::layout::read_slot;
use crate::{RETRY_WINDOW_MAX_MS, Reply};

/// Pages that the table is stored in; each is a map of its own.
pub(crate) const CLIENT_PAGES: usize = 256;

/// Replies whose byte form is longer have a row of their own, so that a client that got 8 MiB and
/// fell silent does not hold them in memory, nor has them copied at each flush of its page.
pub(crate) const INLINE_REPLY_MAX: usize = 256;

/// Writes of one client that have a record. A client comes near it only if it never says that it
/// has read replies; its further writes are sent back until it does.
pub(crate) const RECORDS_PER_CLIENT_MAX: usize = 16_384;

/// The reply of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The three that most writes get.
    Ok,
    Nil,
    Integer(i64),
    /// The byte form of any other.
    Encoded(Box<[u8]>),
    /// The hash of the byte form, which is in a row of its own.
    Row(u64),
}

const KEPT_OK: u8 = 0;
const KEPT_NIL: u8 = 1;
const KEPT_INTEGER: u8 = 2;
const KEPT_ENCODED: u8 = 3;
const KEPT_ROW: u8 = 4;

impl Kept {
    /// How `reply` is kept; `scratch` then holds its byte form if that is [`Kept::Row`]'s.
    pub(crate) fn of(reply: &Reply, scratch: &mut Vec<u8>) -> Self {
        match reply {
            Reply::Ok => Self::Ok,
            Reply::Nil => Self::Nil,
            Reply::Integer(number) => Self::Integer(*number),
            _ => {
                scratch.clear();
                reply.encode(scratch);
                Self::of_encoded(scratch)
            }
        }
    }

    /// How the reply with this byte form is kept.
    pub(crate) fn of_encoded(bytes: &[u8]) -> Self {
        if bytes.len() > INLINE_REPLY_MAX {
            return Self::Row(hash64(0, bytes));
        }
        Self::Encoded(bytes.into())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ok => out.push(KEPT_OK),
            Self::Nil => out.push(KEPT_NIL),
            Self::Integer(number) => {
                out.push(KEPT_INTEGER);
                // Zigzag, so that small numbers of either sign are short.
                put_varint(out, ((number << 1) ^ (number >> 63)) as u64);
            }
            Self::Encoded(bytes) => {
                out.push(KEPT_ENCODED);
                put_blob(out, bytes);
            }
            Self::Row(hash) => {
                out.push(KEPT_ROW);
                out.extend_from_slice(&hash.to_be_bytes());
            }
        }
    }

    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, BadBytes> {
        Ok(match cursor.u8()? {
            KEPT_OK => Self::Ok,
            KEPT_NIL => Self::Nil,
            KEPT_INTEGER => {
                let zigzag = cursor.varint()?;
                Self::Integer((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
            }
            KEPT_ENCODED => Self::Encoded(cursor.blob()?.into()),
            KEPT_ROW => Self::Row(cursor.u64()?),
            _ => return Err(BadBytes::new("record: unknown kind of reply")),
        })
    }
}

/// A write that has been executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) seq: Seq,
    pub(crate) deadline: LogTime,
    /// Of the command's byte form.
    pub(crate) digest: u64,
    pub(crate) reply: Kept,
    pub(crate) slot: Slot,
}

impl Record {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.seq.0);
        put_varint(out, self.deadline.0);
        out.extend_from_slice(&self.digest.to_be_bytes());
        out.extend_from_slice(&self.slot.get().to_be_bytes());
        self.reply.encode(out);
    }

    pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, BadBytes> {
        let seq = Seq(cursor.varint()?);
        let deadline = LogTime(cursor.varint()?);
        let digest = cursor.u64()?;
        let slot = read_slot(cursor)?;
        Ok(Self { seq, deadline, digest, reply: Kept::decode(cursor)?, slot })
    }

    /// Whether the reply is in a row of its own.
    pub(crate) fn has_reply_row(&self) -> bool {
        matches!(self.reply, Kept::Row(_))
    }

    fn place(&self) -> (Seq, Slot) {
        (self.seq, self.slot)
    }
}

/// Records by (seq, slot). Nearly every client has none or one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Records {
    #[default]
    None,
    One(Record),
    Many(VecDeque<Record>),
}

/// What is kept of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Client {
    low: Seq,
    low_until: LogTime,
    records: Records,
}

impl Client {
    /// The mark below which nothing is executed, as of `now`.
    pub(crate) fn low(&self, now: LogTime) -> Seq {
        if now <= self.low_until { self.low } else { Seq(0) }
    }

    /// The low mark and the time until which it counts, if it does as of `now`.
    pub(crate) fn low_mark(&self, now: LogTime) -> Option<(Seq, LogTime)> {
        (self.low(now) > Seq(0)).then_some((self.low, self.low_until))
    }

    /// Raises the low mark to `low`, frees the records below it, and tells whether it rose.
    ///
    /// Every write below `low` was sent before `low` was known, with a deadline of the log time of
    /// then plus a retry window: none of them lives longer than the longest window from now on.
    pub(crate) fn raise_low(
        &mut self,
        low: Seq,
        now: LogTime,
        mut freed: impl FnMut(&Record),
    ) -> bool {
        if low <= self.low(now) || low <= Seq(1) {
            return false;
        }
        self.low = low;
        self.low_until = LogTime(now.0.saturating_add(RETRY_WINDOW_MAX_MS));
        match &mut self.records {
            Records::None => {}
            Records::One(record) => {
                if record.seq < low {
                    freed(record);
                    self.records = Records::None;
                }
            }
            Records::Many(records) => {
                while let Some(record) = records.front().filter(|record| record.seq < low) {
                    freed(record);
                    records.pop_front();
                }
            }
        }
        true
    }

    /// The record of a write, as of `now`.
    pub(crate) fn record(&self, seq: Seq, slot: Slot, now: LogTime) -> Option<&Record> {
        let record = match &self.records {
            Records::None => None,
            Records::One(record) => Some(record).filter(|record| record.place() == (seq, slot)),
            Records::Many(records) => {
                let place = records.binary_search_by_key(&(seq, slot), Record::place);
                place.ok().and_then(|place| records.get(place))
            }
        };
        let mut until = now;
        if planted(Plant::RecordFreedEarly) {
            until = LogTime(now.0.saturating_add(RETRY_WINDOW_MAX_MS / 2 - 500));
        }
        record.filter(|record| until <= record.deadline && record.seq >= self.low(now))
    }

    /// Whether one more record would be too many, as of `now`.
    pub(crate) fn is_full(&self, now: LogTime) -> bool {
        let Records::Many(records) = &self.records else { return false };
        records.len() >= RECORDS_PER_CLIENT_MAX
            && self.records(now).count() >= RECORDS_PER_CLIENT_MAX
    }

    /// Adds the record of a write that has none that counts; answers a dead one that was in its
    /// place.
    pub(crate) fn complete(&mut self, record: Record) -> Option<Record> {
        match &mut self.records {
            Records::None => self.records = Records::One(record),
            Records::One(first) if first.place() == record.place() => {
                return Some(core::mem::replace(first, record));
            }
            Records::One(_) => {
                if let Records::One(first) = core::mem::take(&mut self.records) {
                    self.records = Records::Many(VecDeque::from([first]));
                }
                return self.complete(record);
            }
            Records::Many(records) => match records.back() {
                Some(last) if last.place() >= record.place() => {
                    match records.binary_search_by_key(&record.place(), Record::place) {
                        Ok(place) => return Some(core::mem::replace(&mut records[place], record)),
                        Err(place) => records.insert(place, record),
                    }
                }
                _ => records.push_back(record),
            },
        }
        None
    }

    /// The records that count as of `now`, in the order of (seq, slot).
    pub(crate) fn records(&self, now: LogTime) -> impl Iterator<Item = &Record> {
        let low = self.low(now);
        let (one, many) = match &self.records {
            Records::None => (None, None),
            Records::One(record) => (Some(record), None),
            Records::Many(records) => (None, Some(records)),
        };
        let all = one.into_iter().chain(many.into_iter().flatten());
        all.filter(move |record| now <= record.deadline && record.seq >= low)
    }

    /// Drops what does not count as of `now`, and tells whether nothing is left.
    fn sweep(&mut self, now: LogTime, mut freed: impl FnMut(&Record)) -> bool {
        let mut keep = |record: &Record| {
            let alive = now <= record.deadline;
            if !alive {
                freed(record);
            }
            alive
        };
        match &mut self.records {
            Records::None => {}
            Records::One(record) => {
                if !keep(record) {
                    self.records = Records::None;
                }
            }
            Records::Many(records) => {
                records.retain(keep);
                match records.len() {
                    0 => self.records = Records::None,
                    1 => self.records = records.pop_front().map_or(Records::None, Records::One),
                    _ => records.shrink_to_fit(),
                }
            }
        }
        self.low(now) == Seq(0) && matches!(self.records, Records::None)
    }

    /// Appends what counts as of `now`; a client of which nothing counts is not written.
    pub(crate) fn encode(&self, id: ClientId, now: LogTime, out: &mut Vec<u8>) -> bool {
        let low = self.low(now);
        let count = self.records(now).count();
        if low == Seq(0) && count == 0 {
            return false;
        }
        out.extend_from_slice(&id.to_bytes());
        put_varint(out, low.0);
        if low > Seq(0) {
            put_varint(out, self.low_until.0);
        }
        put_varint(out, count as u64);
        self.records(now).for_each(|record| record.encode(out));
        true
    }

    pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Result<(ClientId, Self), BadBytes> {
        let id = ClientId::from_bytes(cursor.array()?);
        let low = Seq(cursor.varint()?);
        let low_until = if low > Seq(0) { LogTime(cursor.varint()?) } else { LogTime(0) };
        let mut client = Self { low, low_until, records: Records::None };
        for _ in 0..cursor.varint()? {
            client.complete(Record::decode(cursor)?);
        }
        Ok((id, client))
    }
}

/// All clients, in pages.
#[derive(Debug)]
pub(crate) struct Clients {
    pages: Vec<BTreeMap<ClientId, Client>>,
}

impl Clients {
    pub(crate) fn new() -> Self {
        Self { pages: (0..CLIENT_PAGES).map(|_| BTreeMap::new()).collect() }
    }

    /// The page that a client is in. Part of the stored form.
    pub(crate) fn page_of(id: ClientId) -> u8 {
        hash64(0, &id.to_bytes()) as u8
    }

    /// What is kept of a client, which may be nothing.
    pub(crate) fn of(&mut self, id: ClientId) -> &mut Client {
        self.page(Self::page_of(id)).entry(id).or_default()
    }

    /// A page of clients.
    pub(crate) fn page(&mut self, page: u8) -> &mut BTreeMap<ClientId, Client> {
        &mut self.pages[usize::from(page)]
    }

    /// Drops from a page what does not count as of `now`.
    pub(crate) fn sweep(
        &mut self,
        page: u8,
        now: LogTime,
        mut freed: impl FnMut(ClientId, &Record),
    ) {
        let page = self.page(page);
        page.retain(|id, client| !client.sweep(now, |record| freed(*id, record)));
    }

    /// Every client, in the order of ids.
    pub(crate) fn in_order(&self) -> Vec<(ClientId, &Client)> {
        let all = self.pages.iter().flatten();
        let mut all: Vec<_> = all.map(|(id, client)| (*id, client)).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }
}

#[cfg(test)]
mod tests;
