//! Keys as a whole: what is there, under which name.

use bytes::Bytes;
use kontiki_types::Slot;

use super::scan::ScanPosition;
use super::strings::length;
use super::{error, glob, number};
use crate::{Access, AccessMut, Reply};

/// Keys that a step of SCAN looks at, at most, whatever COUNT says: a larger answer would hold up
/// others.
const SCAN_COUNT_MAX: u64 = 1 << 16;

/// Keys that KEYS looks at in one go.
const KEYS_PAGE: usize = 1024;

/// Bytes that a record takes beside key and value, about: slot, incarnation, scan hash, version,
/// expiry and the engine's own.
const RECORD_OVERHEAD: usize = 48;

/// Keys that RANDOMKEY draws at most, and what makes each draw another one.
const DRAWS_MAX: u64 = 16;
const DRAW_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Longest string that Redis calls `embstr`.
const EMBEDDED_MAX: usize = 44;

pub(super) fn del<A: AccessMut + ?Sized>(state: &mut A, keys: &[Bytes]) -> Reply {
    let deleted = keys.iter().filter(|key| state.delete(key)).count();
    length(deleted)
}

pub(super) fn exists<A: Access + ?Sized>(state: &A, keys: &[Bytes]) -> Reply {
    length(keys.iter().filter(|key| state.get(key).is_some()).count())
}

pub(super) fn type_<A: Access + ?Sized>(state: &A, key: &[u8]) -> Reply {
    Reply::Simple(if state.get(key).is_some() { "string" } else { "none" })
}

pub(super) fn rename<A: AccessMut + ?Sized>(
    state: &mut A,
    from: &[u8],
    to: &[u8],
    if_absent: bool,
) -> Reply {
    let Some(record) = state.get(from) else { return error::fixed(error::NO_SUCH_KEY) };
    if if_absent && (from == to || state.get(to).is_some()) {
        return Reply::Integer(0);
    }
    if from != to {
        state.delete(from);
        state.put(to, record.value, record.expires);
    }
    if if_absent { Reply::Integer(1) } else { Reply::Ok }
}

pub(super) fn copy<A: AccessMut + ?Sized>(
    state: &mut A,
    from: &[u8],
    to: &[u8],
    replace: bool,
) -> Reply {
    let Some(record) = state.get(from) else { return Reply::Integer(0) };
    if !replace && state.get(to).is_some() {
        return Reply::Integer(0);
    }
    state.put(to, record.value, record.expires);
    Reply::Integer(1)
}

pub(super) fn flush<A: AccessMut + ?Sized>(state: &mut A) -> Reply {
    state.clear();
    Reply::Ok
}

pub(super) fn db_size<A: Access + ?Sized>(state: &A) -> Reply {
    Reply::Integer(state.len().cast_signed())
}

pub(super) fn random_key<A: Access + ?Sized>(state: &A, choice: u64) -> Reply {
    // What is drawn may lie in a slot that stands still or has left; a few draws find another one.
    let draw = |nth: u64| state.random_key(choice.wrapping_add(nth.wrapping_mul(DRAW_STEP)));
    let is_served = |key: &Bytes| {
        let slot = Slot::of(key);
        state.first_unserved(slot, slot).is_none()
    };
    let mut drawn = (0..DRAWS_MAX).map_while(draw);
    drawn.find(is_served).map_or(Reply::Nil, Reply::Bulk)
}

pub(super) fn keys<A: Access + ?Sized>(state: &A, pattern: &[u8]) -> Reply {
    let mut found = Vec::new();
    let mut from = Some(ScanPosition::START);
    while let Some(position) = from {
        let (keys, next) = step(state, position, KEYS_PAGE);
        found.extend(keys.into_iter().filter(|key| glob::matches(pattern, key)).map(Reply::Bulk));
        from = next;
    }
    Reply::Array(found)
}

pub(super) fn scan<A: Access + ?Sized>(
    state: &A,
    from: ScanPosition,
    pattern: Option<&[u8]>,
    count: u64,
    other_type: bool,
) -> Reply {
    let (mut keys, mut next) = step(state, from, count.clamp(1, SCAN_COUNT_MAX) as usize);
    // The order goes on elsewhere where a slot begins that is not served here.
    let last = next.map_or(ScanPosition::LAST, |next| next).slot();
    if let Some(end) = state.first_unserved(from.slot(), last) {
        keys.retain(|key| Slot::of(key) < end);
        next = Some(ScanPosition::start_of(end));
    }
    let wanted =
        |key: &Bytes| !other_type && pattern.is_none_or(|pattern| glob::matches(pattern, key));
    let cursor = next.map_or(0, ScanPosition::cursor);
    Reply::Array(vec![
        Reply::Bulk(cursor.to_string().into()),
        Reply::Array(keys.into_iter().filter(wanted).map(Reply::Bulk).collect()),
    ])
}

/// About `count` keys from `from` on, no two of one position parted, and where the next follow.
fn step<A: Access + ?Sized>(
    state: &A,
    from: ScanPosition,
    count: usize,
) -> (Vec<Bytes>, Option<ScanPosition>) {
    let mut limit = count + 1;
    loop {
        let mut keys = state.scan(from, limit);
        let next = match keys.last() {
            Some(last) if keys.len() >= limit => ScanPosition::of(last),
            _ => return (keys, None),
        };
        // More keys may stand where the last one does, so they are all left for the next step.
        match keys.iter().rposition(|key| ScanPosition::of(key) != next) {
            Some(last) => {
                keys.truncate(last + 1);
                return (keys, Some(next));
            }
            None => limit *= 2,
        }
    }
}

pub(super) fn encoding<A: Access + ?Sized>(state: &A, key: &[u8]) -> Reply {
    state.get(key).map_or(Reply::Nil, |record| {
        let name = if number::parse_i64(&record.value).is_some() {
            "int"
        } else if record.value.len() <= EMBEDDED_MAX {
            "embstr"
        } else {
            "raw"
        };
        Reply::Bulk(Bytes::from_static(name.as_bytes()))
    })
}

pub(super) fn memory_usage<A: Access + ?Sized>(state: &A, key: &[u8]) -> Reply {
    state
        .get(key)
        .map_or(Reply::Nil, |record| length(RECORD_OVERHEAD + key.len() + record.value.len()))
}
