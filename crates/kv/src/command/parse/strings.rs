//! Strings and numbers.

use bytes::Bytes;

use super::{ExpiryOption, ExpiryOptions, Outcome, deadline, fail, integer, is, key, read, write};
use crate::Reply;
use crate::command::options::{Condition, Expiry, LcsOutput};
use crate::command::{Extended, Read, Write, error};

pub(crate) fn get(args: &[Bytes]) -> Outcome {
    read(Read::Get { key: key(args) })
}

pub(crate) fn set(args: &[Bytes]) -> Outcome {
    let mut condition = Condition::Always;
    let mut get = false;
    let mut options = ExpiryOptions::default();
    let mut rest = args[3..].iter();
    while let Some(argument) = rest.next() {
        if is(argument, "NX") && condition != Condition::IfPresent {
            condition = Condition::IfAbsent;
        } else if is(argument, "XX") && condition != Condition::IfAbsent {
            condition = Condition::IfPresent;
        } else if is(argument, "GET") {
            get = true;
        } else {
            match ExpiryOption::named(argument) {
                None | Some(ExpiryOption::Persist) => return fail(error::SYNTAX),
                Some(option) => options.take(option, &mut rest)?,
            }
        }
    }
    let expiry = options.expiry("set")?;
    write(Write::Set { key: key(args), value: args[2].clone(), condition, get, expiry })
}

pub(crate) fn setnx(args: &[Bytes]) -> Outcome {
    write(Write::SetNx { key: key(args), value: args[2].clone() })
}

pub(crate) fn setex(args: &[Bytes]) -> Outcome {
    set_for(args, true, "setex")
}

pub(crate) fn psetex(args: &[Bytes]) -> Outcome {
    set_for(args, false, "psetex")
}

fn set_for(args: &[Bytes], seconds: bool, command: &'static str) -> Outcome {
    let expiry = Expiry::Until(deadline(&args[2], seconds, false, command)?);
    write(Write::Set {
        key: key(args),
        value: args[3].clone(),
        condition: Condition::Always,
        get: false,
        expiry,
    })
}

pub(crate) fn getset(args: &[Bytes]) -> Outcome {
    write(Write::Set {
        key: key(args),
        value: args[2].clone(),
        condition: Condition::Always,
        get: true,
        expiry: Expiry::Clear,
    })
}

pub(crate) fn getex(args: &[Bytes]) -> Outcome {
    let mut options = ExpiryOptions::default();
    let mut rest = args[2..].iter();
    while let Some(argument) = rest.next() {
        match ExpiryOption::named(argument) {
            None | Some(ExpiryOption::Keep) => return fail(error::SYNTAX),
            Some(option) => options.take(option, &mut rest)?,
        }
    }
    let key = key(args);
    match (options.option, options.expiry("getex")) {
        (None, _) => read(Read::Get { key }),
        (_, Ok(expiry)) => write(Write::GetEx { key, expiry }),
        (_, Err(error)) => read(Read::IfLive { key, live: error, absent: Reply::Nil }),
    }
}

pub(crate) fn getdel(args: &[Bytes]) -> Outcome {
    write(Write::GetDel { key: key(args) })
}

pub(crate) fn mget(args: &[Bytes]) -> Outcome {
    read(Read::MGet { keys: args[1..].to_vec() })
}

pub(crate) fn mset(args: &[Bytes]) -> Outcome {
    write(Write::MSet { pairs: pairs(args, "mset")? })
}

pub(crate) fn msetnx(args: &[Bytes]) -> Outcome {
    write(Write::MSetNx { pairs: pairs(args, "msetnx")? })
}

fn pairs(args: &[Bytes], command: &str) -> Result<Vec<(Bytes, Bytes)>, Reply> {
    if args.len().is_multiple_of(2) {
        return Err(error::wrong_arity(command));
    }
    Ok(args[1..].chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
}

pub(crate) fn append(args: &[Bytes]) -> Outcome {
    write(Write::Append { key: key(args), value: args[2].clone() })
}

pub(crate) fn strlen(args: &[Bytes]) -> Outcome {
    read(Read::StrLen { key: key(args) })
}

pub(crate) fn getrange(args: &[Bytes]) -> Outcome {
    read(Read::GetRange { key: key(args), start: integer(&args[2])?, end: integer(&args[3])? })
}

pub(crate) fn setrange(args: &[Bytes]) -> Outcome {
    match u64::try_from(integer(&args[2])?) {
        Ok(offset) => write(Write::SetRange { key: key(args), offset, value: args[3].clone() }),
        Err(_) => fail(error::OFFSET_RANGE),
    }
}

pub(crate) fn incr(args: &[Bytes]) -> Outcome {
    write(Write::IncrBy { key: key(args), by: 1 })
}

pub(crate) fn decr(args: &[Bytes]) -> Outcome {
    write(Write::IncrBy { key: key(args), by: -1 })
}

pub(crate) fn incrby(args: &[Bytes]) -> Outcome {
    write(Write::IncrBy { key: key(args), by: integer(&args[2])? })
}

pub(crate) fn decrby(args: &[Bytes]) -> Outcome {
    match integer(&args[2])?.checked_neg() {
        Some(by) => write(Write::IncrBy { key: key(args), by }),
        None => fail(error::DECREMENT_OVERFLOW),
    }
}

pub(crate) fn incrbyfloat(args: &[Bytes]) -> Outcome {
    match Extended::parse(&args[2]) {
        Some(by) => write(Write::IncrByFloat { key: key(args), by }),
        None => fail(error::NOT_A_FLOAT),
    }
}

pub(crate) fn lcs(args: &[Bytes]) -> Outcome {
    let (mut length, mut indexes, mut with_length) = (false, false, false);
    let mut min_length = 0;
    let mut rest = args[3..].iter();
    while let Some(argument) = rest.next() {
        if is(argument, "IDX") {
            indexes = true;
        } else if is(argument, "LEN") {
            length = true;
        } else if is(argument, "WITHMATCHLEN") {
            with_length = true;
        } else if is(argument, "MINMATCHLEN")
            && let Some(argument) = rest.next()
        {
            min_length = integer(argument)?.max(0).unsigned_abs();
        } else {
            return fail(error::SYNTAX);
        }
    }
    let output = match (length, indexes) {
        (true, true) => return fail(error::LCS_LENGTH_AND_INDEXES),
        (true, false) => LcsOutput::Length,
        (false, true) => LcsOutput::Indexes { min_length, with_length },
        (false, false) => LcsOutput::Sequence,
    };
    read(Read::Lcs { first: args[1].clone(), second: args[2].clone(), output })
}
