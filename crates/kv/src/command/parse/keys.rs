//! Keys, expiry and the keyspace.

use bytes::Bytes;

use super::{LOG_TIME_MAX, Outcome, fail, integer, is, key, read, write};
use crate::command::options::{Deadline, ExpireCondition, TimeUnit};
use crate::command::{Read, ScanPosition, Write, error};
use crate::{Reply, table};

pub(crate) fn del(args: &[Bytes]) -> Outcome {
    write(Write::Del { keys: args[1..].to_vec() })
}

pub(crate) fn exists(args: &[Bytes]) -> Outcome {
    read(Read::Exists { keys: args[1..].to_vec() })
}

pub(crate) fn type_(args: &[Bytes]) -> Outcome {
    read(Read::Type { key: key(args) })
}

pub(crate) fn keys(args: &[Bytes]) -> Outcome {
    read(Read::Keys { pattern: args[1].clone() })
}

pub(crate) fn randomkey(_: &[Bytes]) -> Outcome {
    read(Read::RandomKey { choice: 0 })
}

pub(crate) fn rename(args: &[Bytes]) -> Outcome {
    write(Write::Rename { from: args[1].clone(), to: args[2].clone(), if_absent: false })
}

pub(crate) fn renamenx(args: &[Bytes]) -> Outcome {
    write(Write::Rename { from: args[1].clone(), to: args[2].clone(), if_absent: true })
}

pub(crate) fn copy(args: &[Bytes]) -> Outcome {
    let mut replace = false;
    let mut rest = args[3..].iter();
    while let Some(argument) = rest.next() {
        if is(argument, "REPLACE") {
            replace = true;
        } else if is(argument, "DB")
            && let Some(database) = rest.next()
        {
            // There is one database.
            match i32::try_from(integer(database)?) {
                Ok(0) => {}
                Ok(_) => return fail(error::DATABASE),
                Err(_) => return fail(error::NOT_A_SMALL_INTEGER),
            }
        } else {
            return fail(error::SYNTAX);
        }
    }
    if args[1] == args[2] {
        return fail(error::SAME_OBJECT);
    }
    write(Write::Copy { from: args[1].clone(), to: args[2].clone(), replace })
}

pub(crate) fn expire(args: &[Bytes]) -> Outcome {
    expire_as(args, true, false, "expire")
}

pub(crate) fn pexpire(args: &[Bytes]) -> Outcome {
    expire_as(args, false, false, "pexpire")
}

pub(crate) fn expireat(args: &[Bytes]) -> Outcome {
    expire_as(args, true, true, "expireat")
}

pub(crate) fn pexpireat(args: &[Bytes]) -> Outcome {
    expire_as(args, false, true, "pexpireat")
}

fn expire_as(args: &[Bytes], seconds: bool, absolute: bool, command: &str) -> Outcome {
    let condition = expire_condition(&args[3..])?;
    let time = integer(&args[2])?;
    let millis = if seconds { time.checked_mul(1000) } else { Some(time) };
    let deadline = match millis {
        Some(at) if absolute => Deadline::At(at),
        Some(span) if span <= i64::MAX - LOG_TIME_MAX => Deadline::In(span),
        _ => return Err(error::expire_time(command)),
    };
    write(Write::Expire { key: key(args), deadline, condition })
}

fn expire_condition(args: &[Bytes]) -> Result<ExpireCondition, Reply> {
    let mut condition = ExpireCondition::default();
    for argument in args {
        let flag = if is(argument, "NX") {
            &mut condition.if_none
        } else if is(argument, "XX") {
            &mut condition.if_some
        } else if is(argument, "GT") {
            &mut condition.if_later
        } else if is(argument, "LT") {
            &mut condition.if_earlier
        } else {
            return Err(error::unsupported_option(argument));
        };
        *flag = true;
    }
    let ExpireCondition { if_none, if_some, if_later, if_earlier } = condition;
    if if_none && (if_some || if_later || if_earlier) {
        return Err(error::fixed(error::EXPIRE_NX));
    }
    if if_later && if_earlier {
        return Err(error::fixed(error::EXPIRE_GT_LT));
    }
    Ok(condition)
}

pub(crate) fn persist(args: &[Bytes]) -> Outcome {
    write(Write::Persist { key: key(args) })
}

pub(crate) fn ttl(args: &[Bytes]) -> Outcome {
    read(Read::Ttl { key: key(args), unit: TimeUnit::Seconds, absolute: false })
}

pub(crate) fn pttl(args: &[Bytes]) -> Outcome {
    read(Read::Ttl { key: key(args), unit: TimeUnit::Milliseconds, absolute: false })
}

pub(crate) fn expiretime(args: &[Bytes]) -> Outcome {
    read(Read::Ttl { key: key(args), unit: TimeUnit::Seconds, absolute: true })
}

pub(crate) fn pexpiretime(args: &[Bytes]) -> Outcome {
    read(Read::Ttl { key: key(args), unit: TimeUnit::Milliseconds, absolute: true })
}

pub(crate) fn scan(args: &[Bytes]) -> Outcome {
    let cursor = cursor(&args[1]).ok_or_else(|| error::fixed(error::INVALID_CURSOR))?;
    let from = ScanPosition::from_cursor(cursor);
    let (mut pattern, mut count, mut other_type) = (None, 10, false);
    let mut rest = args[2..].iter();
    while let Some(argument) = rest.next() {
        let Some(value) = rest.next() else { return fail(error::SYNTAX) };
        if is(argument, "COUNT") {
            count = match integer(value)? {
                count @ 1.. => count.unsigned_abs(),
                _ => return fail(error::SYNTAX),
            };
        } else if is(argument, "MATCH") {
            pattern = Some(value.clone());
        } else if is(argument, "TYPE") {
            other_type = !is(value, "string");
        } else {
            return fail(error::SYNTAX);
        }
    }
    read(Read::Scan { from, pattern, count, other_type })
}

/// A cursor as C's `strtoul` reads it: digits after an optional sign, or nothing at all. What comes
/// before zero wraps around.
fn cursor(text: &[u8]) -> Option<u64> {
    let (negative, digits) = match text {
        [] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut cursor: u64 = 0;
    for digit in digits {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        cursor = cursor.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(if negative { cursor.wrapping_neg() } else { cursor })
}

pub(crate) fn dbsize(_: &[Bytes]) -> Outcome {
    read(Read::DbSize)
}

pub(crate) fn flush(args: &[Bytes]) -> Outcome {
    match &args[1..] {
        [] => write(Write::Flush),
        [how] if is(how, "ASYNC") || is(how, "SYNC") => write(Write::Flush),
        _ => fail(error::SYNTAX),
    }
}

pub(crate) fn object_encoding(args: &[Bytes]) -> Outcome {
    read(Read::ObjectEncoding { key: args[2].clone() })
}

pub(crate) fn object_refcount(args: &[Bytes]) -> Outcome {
    read(Read::IfLive { key: args[2].clone(), live: Reply::Integer(1), absent: Reply::Nil })
}

pub(crate) fn object_idletime(args: &[Bytes]) -> Outcome {
    read(Read::IfLive { key: args[2].clone(), live: Reply::Integer(0), absent: Reply::Nil })
}

pub(crate) fn object_freq(args: &[Bytes]) -> Outcome {
    let live = error::fixed(error::NO_FREQUENCY);
    read(Read::IfLive { key: args[2].clone(), live, absent: Reply::Nil })
}

pub(crate) fn object_help(_: &[Bytes]) -> Outcome {
    help("object")
}

pub(crate) fn memory_help(_: &[Bytes]) -> Outcome {
    help("memory")
}

fn help(command: &'static str) -> Outcome {
    read(Read::Answer(table::lookup(command.as_bytes()).map_or(Reply::Nil, table::help)))
}

pub(crate) fn memory_usage(args: &[Bytes]) -> Outcome {
    let mut rest = args[3..].iter();
    while let Some(argument) = rest.next() {
        let Some(samples) = rest.next().filter(|_| is(argument, "SAMPLES")) else {
            return fail(error::SYNTAX);
        };
        if integer(samples)? < 0 {
            return fail(error::SYNTAX);
        }
    }
    read(Read::MemoryUsage { key: args[2].clone() })
}
