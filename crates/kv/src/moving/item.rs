//! What payloads consist of: a format byte, then items to the end.

use kontiki_types::{ClientId, LogTime, Seq, Slot};

use crate::bytes_in::{BadBytes, Cursor, put_blob, put_varint};
use crate::clients::Record;
use crate::layout::{FORMAT, read_header, read_slot};

const ROW: u8 = b'R';
const DELETED: u8 = b'D';
const CLEARED: u8 = b'X';
const SLOT: u8 = b'S';
const LOW: u8 = b'L';
const RECORD: u8 = b'C';

/// A part of a slot's content.
#[derive(Debug)]
pub(super) enum Item<'a> {
    /// A key has this data row.
    Row { key: &'a [u8], row: &'a [u8] },
    /// There is no such key.
    Deleted { key: &'a [u8] },
    /// There is no key in the slot.
    Cleared { slot: Slot },
    /// The slot's counters.
    Slot { slot: Slot, version: u64, deleted: u64 },
    /// A client's low mark.
    Low { client: ClientId, low: Seq, until: LogTime },
    /// A completion record; the reply, where it is kept in a row of its own.
    Record { client: ClientId, record: Record, reply: Option<&'a [u8]> },
}

impl Item<'_> {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        if out.is_empty() {
            out.push(FORMAT);
        }
        match self {
            Self::Row { key, row } => {
                out.push(ROW);
                put_blob(out, key);
                put_blob(out, row);
            }
            Self::Deleted { key } => {
                out.push(DELETED);
                put_blob(out, key);
            }
            Self::Cleared { slot } => {
                out.push(CLEARED);
                out.extend_from_slice(&slot.get().to_be_bytes());
            }
            Self::Slot { slot, version, deleted } => {
                out.push(SLOT);
                out.extend_from_slice(&slot.get().to_be_bytes());
                put_varint(out, *version);
                put_varint(out, version - deleted);
            }
            Self::Low { client, low, until } => {
                out.push(LOW);
                out.extend_from_slice(&client.to_bytes());
                put_low(out, *low, *until);
            }
            Self::Record { client, record, reply } => {
                out.push(RECORD);
                out.extend_from_slice(&client.to_bytes());
                put_record(out, record, *reply);
            }
        }
    }
}

/// Every item of a payload.
pub(super) fn each_item<'a>(
    payload: &'a [u8],
    mut each: impl FnMut(Item<'a>) -> Result<(), BadBytes>,
) -> Result<(), BadBytes> {
    let mut cursor = Cursor::new(payload);
    if cursor.is_empty() {
        return Ok(());
    }
    let format = cursor.u8()?;
    if format != FORMAT {
        return Err(BadBytes::version("slot content", format, FORMAT));
    }
    while !cursor.is_empty() {
        each(match cursor.u8()? {
            ROW => {
                let (key, row) = (cursor.blob()?, cursor.blob()?);
                read_header(row)?;
                Item::Row { key, row }
            }
            DELETED => Item::Deleted { key: cursor.blob()? },
            CLEARED => Item::Cleared { slot: read_slot(&mut cursor)? },
            SLOT => {
                let (slot, version) = (read_slot(&mut cursor)?, cursor.varint()?);
                let deleted = version.checked_sub(cursor.varint()?);
                let deleted = deleted.ok_or(BadBytes::new("slot: deletion after the version"))?;
                Item::Slot { slot, version, deleted }
            }
            LOW => {
                let client = ClientId::from_bytes(cursor.array()?);
                let (low, until) = read_low(&mut cursor)?;
                Item::Low { client, low, until }
            }
            RECORD => {
                let client = ClientId::from_bytes(cursor.array()?);
                let (record, reply) = read_record(&mut cursor)?;
                Item::Record { client, record, reply }
            }
            _ => return Err(BadBytes::new("slot content: unknown kind")),
        })?;
    }
    Ok(())
}

/// A low mark, as it is staged and pinned.
pub(super) fn put_low(out: &mut Vec<u8>, low: Seq, until: LogTime) {
    put_varint(out, low.0);
    put_varint(out, until.0);
}

pub(super) fn read_low(cursor: &mut Cursor<'_>) -> Result<(Seq, LogTime), BadBytes> {
    Ok((Seq(cursor.varint()?), LogTime(cursor.varint()?)))
}

/// A record, as it is staged and pinned: with its reply, where that has a row of its own.
pub(super) fn put_record(out: &mut Vec<u8>, record: &Record, reply: Option<&[u8]>) {
    record.encode(out);
    if record.has_reply_row() {
        put_blob(out, reply.unwrap_or_default());
    }
}

pub(super) fn read_record<'a>(
    cursor: &mut Cursor<'a>,
) -> Result<(Record, Option<&'a [u8]>), BadBytes> {
    let record = Record::decode(cursor)?;
    let reply = if record.has_reply_row() { Some(cursor.blob()?) } else { None };
    let kept = reply.map(crate::clients::Kept::of_encoded);
    if kept.is_some_and(|kept| kept != record.reply) {
        return Err(BadBytes::new("a reply is not the one that its record names"));
    }
    Ok((record, reply))
}
