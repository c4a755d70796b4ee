//! The data commands: what they are, how they are read from a request, what they do.
//!
//! A request becomes a [`Parsed`] command at the node that a client talks to ([`parse`]). A
//! [`Write`] travels through the log in its byte form ([`Write::encode`]) and runs at apply on
//! every replica ([`Write::execute`]); a [`Read`] runs on one replica's state
//! ([`Read::execute`]). Replies and error texts are those of Redis 7.0.
//!
//! Invariants
//! - Executing is a function of the state and the command: no clock, no randomness, no platform
//!   arithmetic. Relative expiry times count from the log time of the state
//!   ([`Access::now`](crate::Access::now)); RANDOMKEY's choice comes with the command.
//! - Decoding accepts any bytes: it answers a typed error, and reserves memory only for what is
//!   really there.
//! - No value grows beyond [`MAX_VALUE_BYTES`] by a command that is itself small.
//!
//! Missing on purpose: commands about the connection or the server (HELLO, CLIENT, MULTI, …).
//! They are in the [table](crate::table) only; the front door answers them.

mod big;
mod bits;
mod codec;
pub(crate) mod error;
mod execute;
mod expiry;
mod extended;
mod field;
pub mod glob;
mod keys;
mod keyspace;
mod lcs;
mod number;
mod options;
pub(crate) mod parse;
mod scan;
mod slots;
mod strings;

use bytes::Bytes;

pub use codec::{DecodeError, VERSION};
pub use error::{unknown, wrong_arity};
pub(crate) use execute::no_steward;
pub use extended::Extended;
pub use options::{
    BitFieldAction, BitFieldOp, BitOffset, BitOperation, BitRange, BitUnit, Condition, Deadline,
    ExpireCondition, Expiry, IntegerType, LcsOutput, Overflow, TimeUnit,
};
pub use parse::parse;
pub use scan::ScanPosition;
pub use slots::SlotRanges;

use crate::Reply;

/// The longest value that a command may build out of a shorter one (APPEND, SETRANGE, SETBIT,
/// BITFIELD), 8 MiB as the default of the largest log entry. Redis calls this limit
/// `proto-max-bulk-len`.
pub const MAX_VALUE_BYTES: usize = 8 << 20;

/// A data command.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// Runs on the state of one replica.
    Read(Read),
    /// Runs at apply on every replica.
    Write(Write),
}

/// A command that may change the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// SET, SETEX, PSETEX, GETSET.
    Set {
        /// The key.
        key: Bytes,
        /// Its value from then on.
        value: Bytes,
        /// When to set it at all.
        condition: Condition,
        /// Whether to answer the value before, instead of OK.
        get: bool,
        /// What becomes of the expiry.
        expiry: Expiry,
    },
    /// SETNX: as SET NX, with a number as the answer.
    SetNx {
        /// The key.
        key: Bytes,
        /// Its value, if the key was absent.
        value: Bytes,
    },
    /// GETEX with an option; without one it is a [`Read::Get`].
    GetEx {
        /// The key.
        key: Bytes,
        /// What becomes of its expiry; [`Expiry::Clear`] for PERSIST.
        expiry: Expiry,
    },
    /// GETDEL.
    GetDel {
        /// The key.
        key: Bytes,
    },
    /// MSET.
    MSet {
        /// Keys and values, in the order given; a later pair overrides an earlier one.
        pairs: Vec<(Bytes, Bytes)>,
    },
    /// MSETNX: all or nothing.
    MSetNx {
        /// Keys and values, in the order given.
        pairs: Vec<(Bytes, Bytes)>,
    },
    /// APPEND.
    Append {
        /// The key.
        key: Bytes,
        /// What is added at the end.
        value: Bytes,
    },
    /// SETRANGE.
    SetRange {
        /// The key.
        key: Bytes,
        /// Where `value` starts; a gap before it is filled with zero bytes.
        offset: u64,
        /// The bytes put there.
        value: Bytes,
    },
    /// INCR, DECR, INCRBY, DECRBY.
    IncrBy {
        /// The key.
        key: Bytes,
        /// What is added.
        by: i64,
    },
    /// INCRBYFLOAT.
    IncrByFloat {
        /// The key.
        key: Bytes,
        /// What is added.
        by: Extended,
    },
    /// SETBIT.
    SetBit {
        /// The key.
        key: Bytes,
        /// The bit, counted from the most significant one of the first byte.
        offset: u64,
        /// Its value from then on.
        bit: bool,
    },
    /// BITOP.
    BitOp {
        /// How the sources are combined.
        operation: BitOperation,
        /// Where the result goes.
        to: Bytes,
        /// The operands; exactly one for NOT.
        from: Vec<Bytes>,
    },
    /// BITFIELD with a SET or an INCRBY; with GETs only it is a [`Read::BitField`].
    BitField {
        /// The key.
        key: Bytes,
        /// What is done, in order.
        ops: Vec<BitFieldOp>,
    },
    /// DEL, UNLINK.
    Del {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// RENAME, RENAMENX.
    Rename {
        /// The key that ends.
        from: Bytes,
        /// The key that takes its value and expiry.
        to: Bytes,
        /// RENAMENX: only if `to` is absent, with a number as the answer.
        if_absent: bool,
    },
    /// COPY.
    Copy {
        /// The key that is copied, with its expiry.
        from: Bytes,
        /// The copy.
        to: Bytes,
        /// Whether to override a live `to`.
        replace: bool,
    },
    /// EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT.
    Expire {
        /// The key.
        key: Bytes,
        /// Its end.
        deadline: Deadline,
        /// When to change it at all.
        condition: ExpireCondition,
    },
    /// PERSIST.
    Persist {
        /// The key.
        key: Bytes,
    },
    /// FLUSHDB, FLUSHALL.
    Flush,
    /// A group's part of FLUSHDB and FLUSHALL: of `slots`, empties those that are served here. Its
    /// home is the first of them. Answers as [`Read::CountSlots`], with OK for the count.
    FlushSlots {
        /// Ranges of slots, first and last of each, in order.
        slots: SlotRanges,
    },
    /// EXEC: all of `commands`, in order, if nothing watched has changed; else
    /// [`Reply::NilArray`] and no effect.
    Exec {
        /// Watched keys with their versions at the WATCH ([`Read::Versions`]).
        watched: Vec<(Bytes, u64)>,
        /// The queued commands; none is an EXEC or a transaction itself.
        commands: Vec<Parsed>,
    },
    /// A transaction of the native API: as EXEC, but the versions are those of
    /// [`Read::GetWithVersion`]: 0 asks that the key be absent.
    Transaction {
        /// Keys with the versions they must have.
        compare: Vec<(Bytes, u64)>,
        /// What is done, in order; none is an EXEC or a transaction itself.
        commands: Vec<Parsed>,
    },
    /// Native API: sets `key` if its version is `version`; 0 creates it. Answers an array of 1
    /// and the version made, or of 0 and the version found (0: absent).
    PutIfVersion {
        /// The key.
        key: Bytes,
        /// Its value from then on, without expiry.
        value: Bytes,
        /// The version it must have.
        version: u64,
    },
    /// A call to the [`Steward`](crate::Steward) of the group, in a form that it alone knows;
    /// answered with its bytes. No gate closes it, and no transaction holds it.
    Steward {
        /// What it is told.
        call: Bytes,
    },
}

/// A command that changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// An answer that does not depend on the state: how a command that fails only when it runs,
    /// or one of the connection (PING, …), stands within an EXEC.
    Answer(Reply),
    /// One of two ready answers. OBJECT REFCOUNT, IDLETIME and FREQ are such; and commands whose
    /// arguments Redis refuses only once it has found the key.
    IfLive {
        /// The key.
        key: Bytes,
        /// The answer if it is live.
        live: Reply,
        /// The answer if it is not.
        absent: Reply,
    },
    /// GET.
    Get {
        /// The key.
        key: Bytes,
    },
    /// MGET.
    MGet {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// STRLEN.
    StrLen {
        /// The key.
        key: Bytes,
    },
    /// GETRANGE, SUBSTR.
    GetRange {
        /// The key.
        key: Bytes,
        /// First byte; from the end if negative.
        start: i64,
        /// Last byte; from the end if negative.
        end: i64,
    },
    /// LCS.
    Lcs {
        /// One string.
        first: Bytes,
        /// The other.
        second: Bytes,
        /// What of the longest common subsequence is wanted.
        output: LcsOutput,
    },
    /// GETBIT.
    GetBit {
        /// The key.
        key: Bytes,
        /// The bit, counted from the most significant one of the first byte.
        offset: u64,
    },
    /// BITCOUNT.
    BitCount {
        /// The key.
        key: Bytes,
        /// The part that is counted; `None`: all.
        range: Option<BitRange>,
    },
    /// BITPOS.
    BitPos {
        /// The key.
        key: Bytes,
        /// The bit looked for.
        bit: bool,
        /// The part that is searched; `None`: all.
        range: Option<BitRange>,
        /// Whether the end of the part was given. A search for a zero bit without an end
        /// takes the string as followed by zeroes.
        bounded: bool,
    },
    /// BITFIELD with GETs only, BITFIELD_RO.
    BitField {
        /// The key.
        key: Bytes,
        /// GETs, in order.
        ops: Vec<BitFieldOp>,
    },
    /// EXISTS, TOUCH: how many of the keys, counted as often as named, are live.
    Exists {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// TYPE.
    Type {
        /// The key.
        key: Bytes,
    },
    /// KEYS.
    Keys {
        /// The glob pattern.
        pattern: Bytes,
    },
    /// RANDOMKEY.
    RandomKey {
        /// Which key: a random number of the node ([`parse`]).
        choice: u64,
    },
    /// TTL, PTTL, EXPIRETIME, PEXPIRETIME.
    Ttl {
        /// The key.
        key: Bytes,
        /// Unit of the answer.
        unit: TimeUnit,
        /// Whether the moment is wanted rather than the time that is left.
        absolute: bool,
    },
    /// SCAN.
    Scan {
        /// Where to go on.
        from: ScanPosition,
        /// Only keys that match this glob pattern.
        pattern: Option<Bytes>,
        /// About how many keys to look at.
        count: u64,
        /// Whether TYPE asked for another type than string, so that nothing is found.
        other_type: bool,
    },
    /// DBSIZE.
    DbSize,
    /// A group's part of DBSIZE: an array of the number of keys in those of `slots` that are served
    /// here, and an array of the ranges that are not (first, last, first, last, …). Asked where the
    /// first slot is served.
    CountSlots {
        /// Ranges of slots, first and last of each, in order.
        slots: SlotRanges,
    },
    /// A group's part of KEYS: as [`Read::CountSlots`], with an array of keys for the count.
    KeysOfSlots {
        /// Ranges of slots, first and last of each, in order.
        slots: SlotRanges,
        /// Only keys that match this glob pattern.
        pattern: Option<Bytes>,
        /// No more keys than this.
        limit: u64,
    },
    /// OBJECT ENCODING.
    ObjectEncoding {
        /// The key.
        key: Bytes,
    },
    /// MEMORY USAGE: about the bytes that the record takes.
    MemoryUsage {
        /// The key.
        key: Bytes,
    },
    /// What WATCH remembers: an array of the versions
    /// ([`Access::version`](crate::Access::version)) of the keys.
    Versions {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Native API: an array of value (or nil) and version (0: absent).
    GetWithVersion {
        /// The key.
        key: Bytes,
    },
    /// A question to the [`Steward`](crate::Steward) of the group, in a form that it alone knows;
    /// answered with its bytes. No gate closes it, and no transaction holds it.
    Steward {
        /// What it is asked.
        query: Bytes,
    },
}
