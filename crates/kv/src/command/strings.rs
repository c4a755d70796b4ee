//! Strings and numbers.

use bytes::Bytes;

use super::expiry::Life;
use super::options::{Condition, Expiry};
use super::{Extended, MAX_VALUE_BYTES, error, number};
use crate::{Access, AccessMut, Reply};

pub(super) fn get<A: Access + ?Sized>(state: &A, key: &[u8]) -> Reply {
    state.get(key).map_or(Reply::Nil, |record| Reply::Bulk(record.value))
}

pub(super) fn mget<A: Access + ?Sized>(state: &A, keys: &[Bytes]) -> Reply {
    Reply::Array(keys.iter().map(|key| get(state, key)).collect())
}

pub(super) fn strlen<A: Access + ?Sized>(state: &A, key: &[u8]) -> Reply {
    length(state.get(key).map_or(0, |record| record.value.len()))
}

pub(super) fn get_range<A: Access + ?Sized>(state: &A, key: &[u8], start: i64, end: i64) -> Reply {
    let value = state.get(key).map_or(Bytes::new(), |record| record.value);
    let (start, end) = match clamp(start, end, value.len()) {
        // Both from the end and the wrong way round: nothing, however short the string.
        Some(_) if start < 0 && end < 0 && start > end => return Reply::Bulk(Bytes::new()),
        Some(range) => range,
        None => return Reply::Bulk(Bytes::new()),
    };
    Reply::Bulk(value.slice(start..=end))
}

/// The part from `start` to `end` of something `length` long; both included, negative ones counted
/// from its end. `None`: nothing is left.
pub(super) fn clamp(start: i64, end: i64, length: usize) -> Option<(usize, usize)> {
    let signed = length.cast_signed() as i64;
    let from_front = |at: i64| if at < 0 { signed.saturating_add(at).max(0) } else { at };
    let (start, end) = (from_front(start), from_front(end).min(signed - 1));
    (start <= end).then_some((start as usize, end as usize))
}

pub(super) fn set<A: AccessMut + ?Sized>(
    state: &mut A,
    key: &[u8],
    value: &Bytes,
    condition: Condition,
    get: bool,
    expiry: Expiry,
) -> Reply {
    // A plain SET does not read.
    let looks = get || condition != Condition::Always || expiry == Expiry::Keep;
    let before = if looks { state.get(key) } else { None };
    let applies = match condition {
        Condition::Always => true,
        Condition::IfAbsent => before.is_none(),
        Condition::IfPresent => before.is_some(),
    };
    let expires = before.as_ref().and_then(|record| record.expires);
    let reply = match before {
        Some(record) if get => Reply::Bulk(record.value),
        None if get => Reply::Nil,
        _ if applies => Reply::Ok,
        _ => Reply::Nil,
    };
    if applies {
        match expiry {
            Expiry::Clear => state.put(key, value.clone(), None),
            Expiry::Keep => state.put(key, value.clone(), expires),
            Expiry::Until(deadline) => match Life::resolve(state, deadline) {
                Life::Over => {
                    state.delete(key);
                }
                Life::Until(at) => state.put(key, value.clone(), Some(at)),
            },
        }
    }
    reply
}

pub(super) fn set_nx<A: AccessMut + ?Sized>(state: &mut A, key: &[u8], value: &Bytes) -> Reply {
    let absent = state.get(key).is_none();
    if absent {
        state.put(key, value.clone(), None);
    }
    Reply::Integer(i64::from(absent))
}

pub(super) fn get_del<A: AccessMut + ?Sized>(state: &mut A, key: &[u8]) -> Reply {
    let reply = get(state, key);
    state.delete(key);
    reply
}

pub(super) fn mset<A: AccessMut + ?Sized>(state: &mut A, pairs: &[(Bytes, Bytes)]) -> Reply {
    for (key, value) in pairs {
        state.put(key, value.clone(), None);
    }
    Reply::Ok
}

pub(super) fn mset_nx<A: AccessMut + ?Sized>(state: &mut A, pairs: &[(Bytes, Bytes)]) -> Reply {
    if pairs.iter().any(|(key, _)| state.get(key).is_some()) {
        return Reply::Integer(0);
    }
    mset(state, pairs);
    Reply::Integer(1)
}

pub(super) fn append<A: AccessMut + ?Sized>(state: &mut A, key: &[u8], value: &Bytes) -> Reply {
    let Some(record) = state.get(key) else {
        state.put(key, value.clone(), None);
        return length(value.len());
    };
    let total = record.value.len() + value.len();
    if total > MAX_VALUE_BYTES {
        return error::fixed(error::TOO_LONG);
    }
    let mut whole = Vec::with_capacity(total);
    whole.extend_from_slice(&record.value);
    whole.extend_from_slice(value);
    state.put(key, whole.into(), record.expires);
    length(total)
}

pub(super) fn set_range<A: AccessMut + ?Sized>(
    state: &mut A,
    key: &[u8],
    offset: u64,
    value: &Bytes,
) -> Reply {
    let (before, expires) =
        state.get(key).map_or((Bytes::new(), None), |record| (record.value, record.expires));
    if value.is_empty() {
        return length(before.len());
    }
    let end = usize::try_from(offset).ok().and_then(|offset| offset.checked_add(value.len()));
    let Some(end) = end.filter(|&end| end <= MAX_VALUE_BYTES) else {
        return error::fixed(error::TOO_LONG);
    };
    let mut whole = padded(&before, end);
    whole[end - value.len()..end].copy_from_slice(value);
    let total = whole.len();
    state.put(key, whole.into(), expires);
    length(total)
}

/// A copy of `value`, followed by zeroes up to `length` at least.
pub(super) fn padded(value: &[u8], length: usize) -> Vec<u8> {
    let mut copy = Vec::with_capacity(value.len().max(length));
    copy.extend_from_slice(value);
    copy.resize(value.len().max(length), 0);
    copy
}

pub(super) fn incr_by<A: AccessMut + ?Sized>(state: &mut A, key: &[u8], by: i64) -> Reply {
    let (before, expires) = match state.get(key) {
        None => (0, None),
        Some(record) => match number::parse_i64(&record.value) {
            Some(before) => (before, record.expires),
            None => return error::fixed(error::NOT_AN_INTEGER),
        },
    };
    let Some(sum) = before.checked_add(by) else { return error::fixed(error::OVERFLOW) };
    state.put(key, number::format_i64(sum), expires);
    Reply::Integer(sum)
}

pub(super) fn incr_by_float<A: AccessMut + ?Sized>(
    state: &mut A,
    key: &[u8],
    by: Extended,
) -> Reply {
    let (before, expires) = match state.get(key) {
        None => (Extended::ZERO, None),
        Some(record) => match Extended::parse(&record.value) {
            Some(before) => (before, record.expires),
            None => return error::fixed(error::NOT_A_FLOAT),
        },
    };
    let Some(sum) = before.checked_add(by) else { return error::fixed(error::NOT_FINITE) };
    let text = Bytes::from(sum.format());
    state.put(key, text.clone(), expires);
    Reply::Bulk(text)
}

/// A length as a reply: values are far shorter than an `i64` counts.
pub(super) fn length(bytes: usize) -> Reply {
    Reply::Integer(bytes.cast_signed() as i64)
}
