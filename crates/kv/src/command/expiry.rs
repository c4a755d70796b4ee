//! Expiry: by log time only.

use kontiki_types::LogTime;

use super::options::{Deadline, ExpireCondition, Expiry, TimeUnit};
use crate::{Access, AccessMut, Reply};

/// A resolved end of life.
pub(super) enum Life {
    /// Past: the key is as good as deleted.
    Over,
    /// Until then.
    Until(LogTime),
}

impl Life {
    pub(super) fn resolve<A: Access + ?Sized>(state: &A, deadline: Deadline) -> Self {
        let at = LogTime(u64::try_from(millis(state, deadline)).unwrap_or(0));
        if at <= state.now() { Self::Over } else { Self::Until(at) }
    }
}

fn millis<A: Access + ?Sized>(state: &A, deadline: Deadline) -> i64 {
    match deadline {
        Deadline::At(at) => at,
        Deadline::In(span) => signed(state.now()).saturating_add(span),
    }
}

fn signed(time: LogTime) -> i64 {
    i64::try_from(time.millis()).unwrap_or(i64::MAX)
}

pub(super) fn get_ex<A: AccessMut + ?Sized>(state: &mut A, key: &[u8], expiry: Expiry) -> Reply {
    let Some(record) = state.get(key) else { return Reply::Nil };
    match expiry {
        Expiry::Keep => {}
        Expiry::Clear => {
            if record.expires.is_some() {
                state.set_expiry(key, None);
            }
        }
        Expiry::Until(deadline) => end(state, key, deadline),
    }
    Reply::Bulk(record.value)
}

pub(super) fn expire<A: AccessMut + ?Sized>(
    state: &mut A,
    key: &[u8],
    deadline: Deadline,
    condition: ExpireCondition,
) -> Reply {
    let Some(record) = state.get(key) else { return Reply::Integer(0) };
    let at = millis(state, deadline);
    let before = record.expires.map(signed);
    let refused = condition.if_none && before.is_some()
        || condition.if_some && before.is_none()
        || condition.if_later && before.is_none_or(|before| at <= before)
        || condition.if_earlier && before.is_some_and(|before| at >= before);
    if refused {
        return Reply::Integer(0);
    }
    end(state, key, deadline);
    Reply::Integer(1)
}

/// Lets a live key end at `deadline`.
fn end<A: AccessMut + ?Sized>(state: &mut A, key: &[u8], deadline: Deadline) {
    match Life::resolve(state, deadline) {
        Life::Over => {
            state.delete(key);
        }
        Life::Until(at) => state.set_expiry(key, Some(at)),
    }
}

pub(super) fn persist<A: AccessMut + ?Sized>(state: &mut A, key: &[u8]) -> Reply {
    let had = state.get(key).is_some_and(|record| record.expires.is_some());
    if had {
        state.set_expiry(key, None);
    }
    Reply::Integer(i64::from(had))
}

pub(super) fn ttl<A: Access + ?Sized>(
    state: &A,
    key: &[u8],
    unit: TimeUnit,
    absolute: bool,
) -> Reply {
    const NO_KEY: i64 = -2;
    const NO_EXPIRY: i64 = -1;
    let Some(record) = state.get(key) else { return Reply::Integer(NO_KEY) };
    let Some(expires) = record.expires else { return Reply::Integer(NO_EXPIRY) };
    let millis = if absolute { signed(expires) } else { signed(expires) - signed(state.now()) };
    Reply::Integer(match unit {
        TimeUnit::Milliseconds => millis,
        TimeUnit::Seconds => millis.saturating_add(500) / 1000,
    })
}
