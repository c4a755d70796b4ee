//! What the store's commands do to one key and answer, as the search needs it.
//!
//! The model knows no clock: when a key expires is a matter of the store's log time, of which a
//! client sees little. A key with a time to live is gone at some moment between two bounds; which,
//! the search chooses.

use std::time::Duration;

use bytes::Bytes;

use super::value::Value;

/// What is kept under one key.
pub(super) type Cell = Option<Live>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Live {
    pub(super) value: Value,
    pub(super) life: Option<Life>,
}

/// When a key expires, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Life {
    /// Not before this.
    pub(super) earliest: u64,
    /// Not after this; `u64::MAX` if nothing is known.
    pub(super) latest: u64,
}

/// A command, as far as it touches one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Get,
    Length,
    Exists,
    /// TTL and PTTL.
    TimeLeft,
    Set {
        value: Value,
        bytes: Bytes,
        when: When,
        /// Answers the value before.
        get: bool,
        /// Answers 1 or 0, as SETNX does.
        counts: bool,
        expiry: Expiry,
    },
    Delete,
    /// GETDEL.
    Take,
    Add(i64),
    Append(Bytes),
    /// PERSIST.
    Persist,
    /// EXPIRE and PEXPIRE.
    Expire(Expiry),
    /// GETEX.
    GetAndExpire(Expiry),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Always,
    IfAbsent,
    IfPresent,
}

/// What becomes of the time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    Clear,
    Keep,
    /// Gone after this long; gone at once if that is zero.
    After(Duration),
}

/// What a step answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Nil,
    Ok,
    Integer(i64),
    Value(Value),
    /// An error that the state gives reason for.
    Error,
    /// Time left: any number that is not negative.
    SomeTime,
}

impl Step {
    /// Whether it leaves every state as it is.
    pub(super) fn only_reads(&self) -> bool {
        matches!(
            self,
            Self::Get
                | Self::Length
                | Self::Exists
                | Self::TimeLeft
                | Self::GetAndExpire(Expiry::Keep)
        )
    }

    /// Whether it may give a key a time to live, which depends on when the command ran.
    pub(super) fn sets_life(&self) -> bool {
        let (Self::Set { expiry, .. } | Self::Expire(expiry) | Self::GetAndExpire(expiry)) = self
        else {
            return false;
        };
        matches!(expiry, Expiry::After(_))
    }

    /// The cell afterwards, and the answer. `life` turns a time to live into the bounds of when the
    /// key expires.
    pub(super) fn run(&self, cell: Cell, life: impl Fn(Duration) -> Life) -> (Cell, Answer) {
        let value_of = |cell: Cell| cell.map_or(Answer::Nil, |live| Answer::Value(live.value));
        let count = |truth: bool| Answer::Integer(i64::from(truth));
        match self {
            Self::Get => (cell, value_of(cell)),
            Self::Length => (cell, integer(cell.map_or(0, |live| live.value.length()))),
            Self::Exists => (cell, count(cell.is_some())),
            Self::TimeLeft => {
                let answer = match cell {
                    None => Answer::Integer(-2),
                    Some(Live { life: None, .. }) => Answer::Integer(-1),
                    Some(_) => Answer::SomeTime,
                };
                (cell, answer)
            }
            Self::Set { value, when, get, counts, expiry, .. } => {
                let applies = match when {
                    When::Always => true,
                    When::IfAbsent => cell.is_none(),
                    When::IfPresent => cell.is_some(),
                };
                let answer = match (counts, get) {
                    (true, _) => count(applies),
                    (false, true) => value_of(cell),
                    (false, false) if applies => Answer::Ok,
                    (false, false) => Answer::Nil,
                };
                let before = cell.and_then(|live| live.life);
                let set = || aged(Live { value: *value, life: before }, *expiry, life);
                (if applies { set() } else { cell }, answer)
            }
            Self::Delete => (None, count(cell.is_some())),
            Self::Take => (None, value_of(cell)),
            Self::Add(by) => {
                let before = cell.map_or(Some(0), |live| live.value.number());
                let Some(sum) = before.and_then(|before| before.checked_add(*by)) else {
                    return (cell, Answer::Error);
                };
                let value = Value::new(sum.to_string().as_bytes());
                let life = cell.and_then(|live| live.life);
                (Some(Live { value, life }), Answer::Integer(sum))
            }
            Self::Append(bytes) => {
                let before = cell.unwrap_or(Live { value: Value::EMPTY, life: None });
                let value = before.value.then(bytes);
                (Some(Live { value, ..before }), integer(value.length()))
            }
            Self::Persist => {
                let mortal = cell.is_some_and(|live| live.life.is_some());
                (cell.map(|live| Live { life: None, ..live }), count(mortal))
            }
            Self::Expire(expiry) => {
                (cell.and_then(|live| aged(live, *expiry, life)), count(cell.is_some()))
            }
            Self::GetAndExpire(expiry) => {
                (cell.and_then(|live| aged(live, *expiry, life)), value_of(cell))
            }
        }
    }
}

fn aged(live: Live, expiry: Expiry, life: impl Fn(Duration) -> Life) -> Cell {
    match expiry {
        Expiry::Keep => Some(live),
        Expiry::Clear => Some(Live { life: None, ..live }),
        Expiry::After(Duration::ZERO) => None,
        Expiry::After(time) => Some(Live { life: Some(life(time)), ..live }),
    }
}

fn integer(count: u64) -> Answer {
    Answer::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}
