//! Where everything lies in the store: keys of rows, and the form of a data row.
//!
//! Byte by byte in docs/state-machine.md. A key begins with its table's byte; numbers in keys are
//! big-endian, so that byte order is their order.

use bytes::Bytes;
use kontiki_types::{ClientId, LogTime, Seq, Slot};

use crate::bytes_in::{BadBytes, Cursor};
use crate::command::ScanPosition;

/// The one row that says which format the rest has.
pub(crate) const META: [u8; 1] = [0x01];
/// The state of the steward, where there is one.
pub(crate) const STEWARD: [u8; 1] = [0x02];
const SLOT_PAGE: u8 = 0x10;
const CLIENT_PAGE: u8 = 0x11;
const DELTA: u8 = 0x12;
const REPLY: u8 = 0x13;
const DUE: u8 = 0x20;
const DATA: u8 = 0x30;
const STAGED: u8 = 0x40;
const PINNED_LOW: u8 = 0x41;
const PINNED: u8 = 0x42;
/// First byte of the rows of keys that have changed.
pub(crate) const CHANGED: u8 = 0x43;
const CLEARED: u8 = 0x44;

/// Version of everything in this file, in the ledger and in snapshots.
pub(crate) const FORMAT: u8 = 1;
const STRING: u8 = 1;
/// Format, type, expiry, version.
const HEADER: usize = 18;

/// The bounds of a table, of a slot, of an incarnation: from (inclusive), to (exclusive).
pub(crate) type Bounds = (Vec<u8>, Vec<u8>);

pub(crate) fn slot_page(page: u8) -> [u8; 2] {
    [SLOT_PAGE, page]
}

pub(crate) fn client_page(page: u8) -> [u8; 2] {
    [CLIENT_PAGE, page]
}

pub(crate) fn delta(number: u64) -> [u8; 9] {
    numbered(DELTA, number)
}

/// All deltas with a number of at least `from`.
pub(crate) fn deltas_from(from: u64) -> Bounds {
    (delta(from).to_vec(), vec![DELTA + 1])
}

/// The number in a delta's key.
pub(crate) fn delta_number(key: &[u8]) -> Result<u64, BadBytes> {
    let mut cursor = Cursor::new(key);
    cursor.u8()?;
    cursor.u64()
}

pub(crate) fn reply(client: ClientId, seq: Seq, slot: Slot) -> Bytes {
    let mut key = Vec::with_capacity(1 + ClientId::BYTES + 8 + 2);
    key.push(REPLY);
    key.extend_from_slice(&client.to_bytes());
    key.extend_from_slice(&seq.0.to_be_bytes());
    key.extend_from_slice(&slot.get().to_be_bytes());
    key.into()
}

/// Where a key's row is: slot, incarnation of the slot, place in SCAN's order, key.
pub(crate) fn data(place: ScanPosition, incarnation: u64, key: &[u8]) -> DataKey {
    let length = PREFIX + key.len();
    if length <= INLINE {
        let mut bytes = [0; INLINE];
        bytes[..PREFIX].copy_from_slice(&data_prefix(place, incarnation));
        bytes[PREFIX..length].copy_from_slice(key);
        return DataKey::Inline(bytes, length);
    }
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&data_prefix(place, incarnation));
    bytes.extend_from_slice(key);
    DataKey::Heap(bytes)
}

/// Table, slot, incarnation, hash.
const PREFIX: usize = 16;

fn data_prefix(place: ScanPosition, incarnation: u64) -> [u8; PREFIX] {
    let mut prefix = [DATA; PREFIX];
    prefix[..11].copy_from_slice(&incarnation_prefix(place.slot(), incarnation));
    prefix[11..].copy_from_slice(&place.hash_bytes());
    prefix
}

fn incarnation_prefix(slot: Slot, incarnation: u64) -> [u8; 11] {
    let mut prefix = [DATA; 11];
    prefix[1..3].copy_from_slice(&slot.get().to_be_bytes());
    prefix[3..].copy_from_slice(&incarnation.to_be_bytes());
    prefix
}

/// Most keys are short: a look-up then allocates nothing.
const INLINE: usize = 112;

/// Key of a data row, for a look-up.
pub(crate) enum DataKey {
    Inline([u8; INLINE], usize),
    Heap(Vec<u8>),
}

impl core::ops::Deref for DataKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Inline(bytes, length) => &bytes[..*length],
            Self::Heap(bytes) => bytes,
        }
    }
}

/// The first position that is behind `key`.
pub(crate) fn behind(key: &[u8]) -> Vec<u8> {
    let mut behind = Vec::with_capacity(key.len() + 1);
    behind.extend_from_slice(key);
    behind.push(0);
    behind
}

/// The end of all data rows.
pub(crate) fn data_end() -> Vec<u8> {
    vec![DATA + 1]
}

/// Where the keys of a slot at or after `place` begin.
pub(crate) fn data_at(place: ScanPosition, incarnation: u64) -> Vec<u8> {
    data_prefix(place, incarnation).to_vec()
}

/// The rows of one incarnation of a slot.
pub(crate) fn data_of(slot: Slot, incarnation: u64) -> Bounds {
    let from = incarnation_prefix(slot, incarnation).to_vec();
    let to = match incarnation.checked_add(1) {
        Some(next) => incarnation_prefix(slot, next).to_vec(),
        None => data_slot_end(slot),
    };
    (from, to)
}

/// The rows of the incarnations of a slot that came before `incarnation`.
pub(crate) fn data_before(slot: Slot, incarnation: u64) -> Bounds {
    (incarnation_prefix(slot, 0).to_vec(), incarnation_prefix(slot, incarnation).to_vec())
}

/// The end of a slot's rows, which is where the next slot's begin.
pub(crate) fn data_slot_end(slot: Slot) -> Vec<u8> {
    let next = slot.get() + 1;
    vec![DATA, (next >> 8) as u8, next as u8]
}

/// Takes the key of a data row apart.
pub(crate) fn read_data_key(row: &Bytes) -> Result<(Slot, u64, Bytes), BadBytes> {
    let mut cursor = Cursor::new(row);
    cursor.u8()?;
    let slot = read_slot(&mut cursor)?;
    let incarnation = cursor.u64()?;
    cursor.take(5)?;
    Ok((slot, incarnation, row.slice(cursor.position()..)))
}

/// The row of a slot that is on its way here.
pub(crate) fn staged(slot: Slot) -> [u8; 3] {
    of_slot(STAGED, slot)
}

/// The rows of all slots that are on their way here.
pub(crate) fn all_staged() -> Bounds {
    (vec![STAGED], vec![STAGED + 1])
}

/// All rows about slots on their way, data rows apart.
pub(crate) fn moving() -> Bounds {
    (vec![STAGED], vec![CLEARED + 1])
}

/// Table, slot and incarnation, in the key of what is pinned.
pub(crate) const PINNED_PREFIX: usize = 11;

/// A low mark that is pinned or staged with a slot.
pub(crate) fn pinned_low_key(slot: Slot, incarnation: u64, client: ClientId) -> Bytes {
    let mut key = pinned_prefix(PINNED_LOW, slot, incarnation);
    key.extend_from_slice(&client.to_bytes());
    key.into()
}

/// A completion record that is pinned or staged with its slot.
pub(crate) fn pinned_key(slot: Slot, incarnation: u64, client: ClientId, seq: Seq) -> Bytes {
    let mut key = pinned_prefix(PINNED, slot, incarnation);
    key.extend_from_slice(&client.to_bytes());
    key.extend_from_slice(&seq.0.to_be_bytes());
    key.into()
}

/// What is pinned or staged with slots from `first` to `last`, under whatever incarnation: the low
/// marks, and the completion records.
pub(crate) fn pinned_among(first: Slot, last: Slot) -> [Bounds; 2] {
    [PINNED_LOW, PINNED]
        .map(|table| (pinned_prefix(table, first, 0), pinned_prefix(table, last, u64::MAX)))
}

/// The rows of slots from `first` to `last` that are on their way here.
pub(crate) fn staged_among(first: Slot, last: Slot) -> Bounds {
    (staged(first).to_vec(), behind(&staged(last)))
}

/// Slot and incarnation in the key of what is pinned.
pub(crate) fn read_pinned_place(key: &[u8]) -> Result<(Slot, u64), BadBytes> {
    let mut cursor = Cursor::new(key);
    cursor.u8()?;
    Ok((read_slot(&mut cursor)?, cursor.u64()?))
}

/// Client and number in the key of what is pinned; a low mark has no number.
pub(crate) fn read_pinned_key(key: &[u8]) -> Result<(ClientId, Option<Seq>), BadBytes> {
    let mut cursor = Cursor::new(key);
    let table = cursor.u8()?;
    cursor.take(PINNED_PREFIX - 1)?;
    let client = ClientId::from_bytes(cursor.array()?);
    Ok((client, if table == PINNED { Some(Seq(cursor.u64()?)) } else { None }))
}

/// That a key of a slot on its way out has changed.
pub(crate) fn changed(slot: Slot, key: &[u8]) -> Bytes {
    let mut row = of_slot(CHANGED, slot).to_vec();
    row.extend_from_slice(key);
    row.into()
}

/// The notes of what has changed in slots from `first` to `last`: of emptied slots, and of keys.
pub(crate) fn changed_among(first: Slot, last: Slot) -> [Bounds; 2] {
    [CLEARED, CHANGED].map(|table| (of_slot(table, first).to_vec(), slot_end(table, last)))
}

/// The slot that the key of such a note begins with, behind the table.
pub(crate) fn read_changed_slot(key: &[u8]) -> Result<Slot, BadBytes> {
    let mut cursor = Cursor::new(key);
    cursor.u8()?;
    read_slot(&mut cursor)
}

/// That a slot on its way out was emptied.
pub(crate) fn cleared(slot: Slot) -> [u8; 3] {
    of_slot(CLEARED, slot)
}

/// All keys of a slot that have changed.
pub(crate) fn changed_of(slot: Slot) -> Bounds {
    (of_slot(CHANGED, slot).to_vec(), slot_end(CHANGED, slot))
}

/// As a range, [`cleared`].
pub(crate) fn cleared_of(slot: Slot) -> Bounds {
    (of_slot(CLEARED, slot).to_vec(), slot_end(CLEARED, slot))
}

fn of_slot(table: u8, slot: Slot) -> [u8; 3] {
    let [high, low] = slot.get().to_be_bytes();
    [table, high, low]
}

fn slot_end(table: u8, slot: Slot) -> Vec<u8> {
    let [high, low] = (slot.get() + 1).to_be_bytes();
    vec![table, high, low]
}

fn pinned_prefix(table: u8, slot: Slot, incarnation: u64) -> Vec<u8> {
    let mut key = of_slot(table, slot).to_vec();
    key.extend_from_slice(&incarnation.to_be_bytes());
    key
}

/// A row of the due index: it is there exactly while the live `key` has this expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DueKey {
    pub(crate) due: u64,
    pub(crate) slot: Slot,
    pub(crate) incarnation: u64,
    pub(crate) key: Bytes,
}

pub(crate) fn due(generation: u64, due: u64, slot: Slot, incarnation: u64, key: &[u8]) -> Bytes {
    let mut row = Vec::with_capacity(27 + key.len());
    row.extend_from_slice(&due_prefix(generation, due));
    row.extend_from_slice(&slot.get().to_be_bytes());
    row.extend_from_slice(&incarnation.to_be_bytes());
    row.extend_from_slice(key);
    row.into()
}

fn due_prefix(generation: u64, due: u64) -> [u8; 17] {
    let mut prefix = [DUE; 17];
    prefix[1..9].copy_from_slice(&generation.to_be_bytes());
    prefix[9..].copy_from_slice(&due.to_be_bytes());
    prefix
}

/// Rows of the due index from `from` on, up to and with `until`.
pub(crate) fn due_between(generation: u64, from: u64, until: u64) -> Bounds {
    let to = match until.checked_add(1) {
        Some(end) => due_prefix(generation, end).to_vec(),
        None => numbered(DUE, generation + 1).to_vec(),
    };
    (due_prefix(generation, from).to_vec(), to)
}

/// Rows of the due index that a flush has left behind.
pub(crate) fn due_before_generation(generation: u64) -> Bounds {
    (numbered(DUE, 0).to_vec(), numbered(DUE, generation).to_vec())
}

pub(crate) fn read_due_key(row: &Bytes) -> Result<DueKey, BadBytes> {
    let mut cursor = Cursor::new(row);
    cursor.take(9)?;
    let due = cursor.u64()?;
    let slot = read_slot(&mut cursor)?;
    let incarnation = cursor.u64()?;
    Ok(DueKey { due, slot, incarnation, key: row.slice(cursor.position()..) })
}

fn numbered(table: u8, number: u64) -> [u8; 9] {
    let mut key = [table; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn read_slot(cursor: &mut Cursor<'_>) -> Result<Slot, BadBytes> {
    Slot::new(cursor.u16()?).ok_or(BadBytes::new("slot out of range"))
}

/// What a data row says before the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) expires: Option<LogTime>,
    pub(crate) version: u64,
}

impl Header {
    /// Whether the key is gone at `now`.
    pub(crate) fn is_due(&self, now: LogTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// A data row. An expiry at 0 is kept as 1: both are long past.
pub(crate) fn data_row(header: Header, value: &[u8]) -> Bytes {
    let mut row = Vec::with_capacity(HEADER + value.len());
    row.push(FORMAT);
    row.push(STRING);
    row.extend_from_slice(&header.expires.map_or(0, |at| at.0.max(1)).to_be_bytes());
    row.extend_from_slice(&header.version.to_be_bytes());
    row.extend_from_slice(value);
    row.into()
}

pub(crate) fn read_header(row: &[u8]) -> Result<Header, BadBytes> {
    let mut cursor = Cursor::new(row);
    let format = cursor.u8()?;
    if format != FORMAT {
        return Err(BadBytes::version("data row", format, FORMAT));
    }
    if cursor.u8()? != STRING {
        return Err(BadBytes::new("data row: unknown type"));
    }
    let expires = Some(LogTime(cursor.u64()?)).filter(|at| at.0 > 0);
    Ok(Header { expires, version: cursor.u64()? })
}

/// The value of a data row whose header has been read.
pub(crate) fn value(row: &Bytes) -> Bytes {
    row.slice(HEADER.min(row.len())..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_lie_in_the_order_slot_incarnation_place_key() {
        let row = |key: &[u8], incarnation| {
            let place = ScanPosition::of(key);
            (
                (place.slot(), incarnation, place, key.to_vec()),
                data(place, incarnation, key).to_vec(),
            )
        };
        let mut rows = Vec::new();
        for number in 0..500 {
            let tail = "x".repeat(number);
            for incarnation in [0, 1, u64::MAX] {
                rows.push(row(format!("{{tag}}{tail}").as_bytes(), incarnation));
                rows.push(row(format!("{number}").as_bytes(), incarnation));
            }
        }
        rows.sort();
        assert!(rows.is_sorted_by_key(|(_, row)| row));
        for ((slot, incarnation, place, _), row) in &rows {
            let (from, to) = data_of(*slot, *incarnation);
            assert!(*row >= from && *row < to && to <= data_slot_end(*slot));
            assert!(data_before(*slot, *incarnation).1 == from);
            assert!(data_at(*place, *incarnation) <= *row && *row < data_end());
            assert!(behind(row) > *row);
        }
    }

    #[test]
    fn keys_and_rows_are_read_back() {
        let slot = Slot::of(b"k");
        let row = Bytes::copy_from_slice(&data(ScanPosition::of(b"k"), 5, b"k"));
        assert_eq!(read_data_key(&row).unwrap(), (slot, 5, Bytes::from_static(b"k")));
        let row = due(3, 9, slot, 5, b"k");
        let key = DueKey { due: 9, slot, incarnation: 5, key: Bytes::from_static(b"k") };
        assert_eq!(read_due_key(&row).unwrap(), key);
        let (from, to) = due_between(3, 9, 9);
        assert!(row >= from && row < to);
        assert!(row >= due_before_generation(3).1);
        assert!(row < due_between(3, 0, u64::MAX).1);
        for expires in [None, Some(LogTime(7))] {
            let header = Header { expires, version: 8 };
            let row = data_row(header, b"value");
            assert_eq!(read_header(&row).unwrap(), header);
            assert_eq!(value(&row), "value");
        }
        assert!(read_header(&[2; 18]).is_err());
        assert!(read_header(&[1, 9]).is_err());
    }
}
