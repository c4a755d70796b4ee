//! What each command does to a state: the list, and transactions.

use bytes::Bytes;
use kontiki_types::plant::{Plant, planted};

use super::{Parsed, Read, Write, bits, expiry, field, keyspace, lcs, slots, strings};
use crate::{Access, AccessMut, Reply};

impl Write {
    /// Runs the command at apply and answers it. An error reply means that nothing was changed, but
    /// for a transaction, whose commands fail one by one.
    pub fn execute<A: AccessMut + ?Sized>(&self, state: &mut A) -> Reply {
        match self {
            Self::Set { key, value, condition, get, expiry } => {
                strings::set(state, key, value, *condition, *get, *expiry)
            }
            Self::SetNx { key, value } => strings::set_nx(state, key, value),
            Self::GetEx { key, expiry } => expiry::get_ex(state, key, *expiry),
            Self::GetDel { key } => strings::get_del(state, key),
            Self::MSet { pairs } => strings::mset(state, pairs),
            Self::MSetNx { pairs } => strings::mset_nx(state, pairs),
            Self::Append { key, value } => strings::append(state, key, value),
            Self::SetRange { key, offset, value } => strings::set_range(state, key, *offset, value),
            Self::IncrBy { key, by } => strings::incr_by(state, key, *by),
            Self::IncrByFloat { key, by } => strings::incr_by_float(state, key, *by),
            Self::SetBit { key, offset, bit } => bits::set_bit(state, key, *offset, *bit),
            Self::BitOp { operation, to, from } => bits::bit_op(state, *operation, to, from),
            Self::BitField { key, ops } => field::write(state, key, ops),
            Self::Del { keys } => keyspace::del(state, keys),
            Self::Rename { from, to, if_absent } => keyspace::rename(state, from, to, *if_absent),
            Self::Copy { from, to, replace } => keyspace::copy(state, from, to, *replace),
            Self::Expire { key, deadline, condition } => {
                expiry::expire(state, key, *deadline, *condition)
            }
            Self::Persist { key } => expiry::persist(state, key),
            Self::Flush => keyspace::flush(state),
            Self::FlushSlots { slots } => slots::flush(state, slots),
            Self::Exec { watched, commands } => exec(state, watched, commands),
            Self::Transaction { compare, commands } => transaction(state, compare, commands),
            Self::PutIfVersion { key, value, version } => {
                put_if_version(state, key, value, *version)
            }
            Self::Steward { .. } => no_steward(),
        }
    }
}

impl Read {
    /// Runs the command on a state and answers it.
    pub fn execute<A: Access + ?Sized>(&self, state: &A) -> Reply {
        match self {
            Self::Answer(reply) => reply.clone(),
            Self::IfLive { key, live, absent } => {
                if state.get(key).is_some() {
                    live.clone()
                } else {
                    absent.clone()
                }
            }
            Self::Get { key } => strings::get(state, key),
            Self::MGet { keys } => strings::mget(state, keys),
            Self::StrLen { key } => strings::strlen(state, key),
            Self::GetRange { key, start, end } => strings::get_range(state, key, *start, *end),
            Self::Lcs { first, second, output } => lcs::lcs(state, first, second, *output),
            Self::GetBit { key, offset } => bits::get_bit(state, key, *offset),
            Self::BitCount { key, range } => bits::bit_count(state, key, *range),
            Self::BitPos { key, bit, range, bounded } => {
                bits::bit_pos(state, key, *bit, *range, *bounded)
            }
            Self::BitField { key, ops } => field::read(state, key, ops),
            Self::Exists { keys } => keyspace::exists(state, keys),
            Self::Type { key } => keyspace::type_(state, key),
            Self::Keys { pattern } => keyspace::keys(state, pattern),
            Self::RandomKey { choice } => keyspace::random_key(state, *choice),
            Self::Ttl { key, unit, absolute } => expiry::ttl(state, key, *unit, *absolute),
            Self::Scan { from, pattern, count, other_type } => {
                keyspace::scan(state, *from, pattern.as_deref(), *count, *other_type)
            }
            Self::DbSize => keyspace::db_size(state),
            Self::CountSlots { slots } => slots::count(state, slots),
            Self::KeysOfSlots { slots, pattern, limit } => {
                slots::keys(state, slots, pattern.as_deref(), *limit)
            }
            Self::ObjectEncoding { key } => keyspace::encoding(state, key),
            Self::MemoryUsage { key } => keyspace::memory_usage(state, key),
            Self::Versions { keys } => versions(state, keys),
            Self::GetWithVersion { key } => get_with_version(state, key),
            Self::Steward { .. } => no_steward(),
        }
    }
}

/// The machine asks the steward before it comes to this.
pub(crate) fn no_steward() -> Reply {
    Reply::Error(Bytes::from_static(b"ERR this group is not part of a sharded store"))
}

fn exec<A: AccessMut + ?Sized>(
    state: &mut A,
    watched: &[(Bytes, u64)],
    commands: &[Parsed],
) -> Reply {
    let has_changed = watched.iter().any(|(key, version)| state.version(key) != *version);
    if has_changed && !planted(Plant::WatchIgnored) {
        return Reply::NilArray;
    }
    run(state, commands)
}

fn transaction<A: AccessMut + ?Sized>(
    state: &mut A,
    compare: &[(Bytes, u64)],
    commands: &[Parsed],
) -> Reply {
    if compare.iter().any(|(key, version)| live_version(state, key) != *version) {
        return Reply::NilArray;
    }
    run(state, commands)
}

fn run<A: AccessMut + ?Sized>(state: &mut A, commands: &[Parsed]) -> Reply {
    let replies = commands.iter().map(|command| match command {
        Parsed::Read(read) => read.execute(state),
        Parsed::Write(write) => write.execute(state),
    });
    Reply::Array(replies.collect())
}

fn put_if_version<A: AccessMut + ?Sized>(
    state: &mut A,
    key: &[u8],
    value: &Bytes,
    version: u64,
) -> Reply {
    let found = live_version(state, key);
    let done = found == version;
    if done {
        state.put(key, value.clone(), None);
    }
    let version = if done { state.version(key) } else { found };
    Reply::Array(vec![Reply::Integer(i64::from(done)), number(version)])
}

fn versions<A: Access + ?Sized>(state: &A, keys: &[Bytes]) -> Reply {
    Reply::Array(keys.iter().map(|key| number(state.version(key))).collect())
}

fn get_with_version<A: Access + ?Sized>(state: &A, key: &[u8]) -> Reply {
    Reply::Array(match state.get(key) {
        Some(record) => vec![Reply::Bulk(record.value), number(record.version)],
        None => vec![Reply::Nil, number(0)],
    })
}

/// The version of a live key; 0 if it is absent.
fn live_version<A: Access + ?Sized>(state: &A, key: &[u8]) -> u64 {
    state.get(key).map_or(0, |record| record.version)
}

/// A version in a reply: as the signed number with the same bits.
fn number(version: u64) -> Reply {
    Reply::Integer(version.cast_signed())
}
