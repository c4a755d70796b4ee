//! Bytes of messages, entries and states: one codec for the peer transport and for the log on disk.
//!
//! All numbers are little-endian and of fixed width. A message begins with [`VERSION`]; what is on
//! disk is versioned by its container. Decoding never panics, takes nothing that the bytes do not
//! hold, and reserves no memory by a length they claim. The entries of an append carry no index:
//! they cannot but be contiguous after `prev` (PROTOCOL 7).
//!
//! ```text
//! member     node u64, incarnation u64, replica u64
//! log id     term u64, index u64
//! members    count u16, count × member
//! membership voters members, outgoing members, learners members
//! data       kind u8 (0 no-op, 1 command, 2 membership); command: length u32, bytes;
//!            membership: membership
//! entry      log id, data
//! hard state term u64, present u8, [member]
//! base       log id, membership, membership id: log id
//! snapshot   log id, membership, membership id: log id, bytes u64, hash u128
//! message    version u8, kind u8, from member, to member, term u64, then by kind:
//!   1 PreVote         last log id
//!   2 PreVoteReply    granted u8
//!   3 Vote            last log id, transfer u8
//!   4 VoteReply       granted u8
//!   5 Append          session u64, prev log id, commit u64, count u32, count × (term u64, data)
//!   6 AppendReply     session u64, result u8: 0 matched u64; 1 prev u64, hint log id; 2 full
//!   7 Heartbeat       session u64, commit u64, round u64
//!   8 HeartbeatReply  session u64, round u64, received u64, matched u64
//!   9 Commit          commit u64
//!  10 Snapshot        session u64, snapshot, offset u64, length u32, bytes
//!  11 SnapshotReply   session u64, log id, hash u128, next u64
//!  12 TimeoutNow
//!  13 ReadIndex       id u64
//!  14 ReadIndexReply  id u64, present u8, [index u64]
//!  15 Stale
//!  16 Quiesce         session u64, last log id, commit u64, round u64
//!  17 Quiet           session u64, round u64
//!  18 Wake
//! ```

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use kontiki_types::{Incarnation, Index, LogId, Member, NodeId, ReplicaId, Term};

use crate::{
    AppendResult, Base, Body, Entry, EntryData, HardState, MEMBERS_MAX, Membership, Message,
    SnapshotMeta,
};

/// The version of [`encode_message`].
pub const VERSION: u8 = 1;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They end too early.
    Short,
    /// A message is followed by something.
    Trailing,
    /// The message is of another version.
    Version(u8),
    /// A field has a value that it cannot have.
    Invalid(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("ends too early"),
            Self::Trailing => f.write_str("is followed by more bytes"),
            Self::Version(version) => {
                write!(f, "has version {version}, this build knows {VERSION}")
            }
            Self::Invalid(what) => write!(f, "has an invalid {what}"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Appends the bytes of a message to `out`.
pub fn encode_message<P: AsRef<[u8]>>(message: &Message<P>, out: &mut Vec<u8>) {
    out.push(VERSION);
    out.push(kind(&message.body));
    put_member(message.from, out);
    put_member(message.to, out);
    put_u64(message.term.0, out);
    match &message.body {
        Body::PreVote { last } => put_log_id(*last, out),
        Body::PreVoteReply { granted } | Body::VoteReply { granted } => out.push((*granted).into()),
        Body::Vote { last, transfer } => {
            put_log_id(*last, out);
            out.push((*transfer).into());
        }
        Body::Append { session, prev, commit, entries } => {
            put_u64(*session, out);
            put_log_id(*prev, out);
            put_u64(commit.0, out);
            put_u32(entries.len(), out);
            for entry in entries {
                put_u64(entry.id.term.0, out);
                put_data(&entry.data, out);
            }
        }
        Body::AppendReply { session, result } => {
            put_u64(*session, out);
            match result {
                AppendResult::Matched(index) => {
                    out.push(0);
                    put_u64(index.0, out);
                }
                AppendResult::Rejected { prev, hint } => {
                    out.push(1);
                    put_u64(prev.0, out);
                    put_log_id(*hint, out);
                }
                AppendResult::Full => out.push(2),
            }
        }
        Body::Heartbeat { session, commit, round } => {
            put_u64(*session, out);
            put_u64(commit.0, out);
            put_u64(*round, out);
        }
        Body::HeartbeatReply { session, round, received, matched } => {
            put_u64(*session, out);
            put_u64(*round, out);
            put_u64(received.0, out);
            put_u64(matched.0, out);
        }
        Body::Commit { commit } => put_u64(commit.0, out),
        Body::Snapshot { session, meta, offset, data } => {
            put_u64(*session, out);
            encode_snapshot_meta(meta, out);
            put_u64(*offset, out);
            put_bytes(data, out);
        }
        Body::SnapshotReply { session, snapshot, next } => {
            put_u64(*session, out);
            put_log_id(snapshot.0, out);
            out.extend_from_slice(&snapshot.1.to_le_bytes());
            put_u64(*next, out);
        }
        Body::Quiesce { session, last, commit, round } => {
            put_u64(*session, out);
            put_log_id(*last, out);
            put_u64(commit.0, out);
            put_u64(*round, out);
        }
        Body::Quiet { session, round } => {
            put_u64(*session, out);
            put_u64(*round, out);
        }
        Body::TimeoutNow | Body::Stale | Body::Wake => {}
        Body::ReadIndex { id } => put_u64(*id, out),
        Body::ReadIndexReply { id, index } => {
            put_u64(*id, out);
            out.push(index.is_some().into());
            if let Some(index) = index {
                put_u64(index.0, out);
            }
        }
    }
}

/// The message in `buf`, all of it. `make` turns the range of a command's bytes in `buf` into a
/// payload; with a reference-counted buffer that copies nothing.
///
/// # Errors
/// [`DecodeError`]; the bytes are not from [`encode_message`] of this version.
pub fn decode_message<P>(
    buf: &[u8],
    mut make: impl FnMut(Range<usize>) -> P,
) -> Result<Message<P>, DecodeError> {
    let mut reader = Reader { buf, at: 0 };
    let version = reader.u8()?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let kind = reader.u8()?;
    let (from, to, term) = (reader.member()?, reader.member()?, Term(reader.u64()?));
    let body = match kind {
        1 => Body::PreVote { last: reader.log_id()? },
        2 => Body::PreVoteReply { granted: reader.flag()? },
        3 => Body::Vote { last: reader.log_id()?, transfer: reader.flag()? },
        4 => Body::VoteReply { granted: reader.flag()? },
        5 => reader.append(&mut make)?,
        6 => Body::AppendReply { session: reader.u64()?, result: reader.append_result()? },
        7 => Body::Heartbeat {
            session: reader.u64()?,
            commit: reader.index()?,
            round: reader.u64()?,
        },
        8 => Body::HeartbeatReply {
            session: reader.u64()?,
            round: reader.u64()?,
            received: reader.index()?,
            matched: reader.index()?,
        },
        9 => Body::Commit { commit: reader.index()? },
        10 => Body::Snapshot {
            session: reader.u64()?,
            meta: Box::new(reader.snapshot_meta()?),
            offset: reader.u64()?,
            data: {
                let range = reader.bytes()?;
                reader.slice(range).into()
            },
        },
        11 => Body::SnapshotReply {
            session: reader.u64()?,
            snapshot: Box::new((reader.log_id()?, reader.u128()?)),
            next: reader.u64()?,
        },
        12 => Body::TimeoutNow,
        13 => Body::ReadIndex { id: reader.u64()? },
        14 => Body::ReadIndexReply {
            id: reader.u64()?,
            index: if reader.flag()? { Some(reader.index()?) } else { None },
        },
        15 => Body::Stale,
        16 => Body::Quiesce {
            session: reader.u64()?,
            last: reader.log_id()?,
            commit: reader.index()?,
            round: reader.u64()?,
        },
        17 => Body::Quiet { session: reader.u64()?, round: reader.u64()? },
        18 => Body::Wake,
        _ => return Err(DecodeError::Invalid("message kind")),
    };
    if reader.at < buf.len() {
        return Err(DecodeError::Trailing);
    }
    Ok(Message { from, to, term, body })
}

/// Appends the bytes of an entry to `out`.
pub fn encode_entry<P: AsRef<[u8]>>(entry: &Entry<P>, out: &mut Vec<u8>) {
    put_log_id(entry.id, out);
    put_data(&entry.data, out);
}

/// The entry at `*at` in `buf`; moves `*at` behind it. `make` as in [`decode_message`].
///
/// # Errors
/// [`DecodeError`]; `*at` is then of no meaning.
pub fn decode_entry<P>(
    buf: &[u8],
    at: &mut usize,
    mut make: impl FnMut(Range<usize>) -> P,
) -> Result<Entry<P>, DecodeError> {
    Reader::at(buf, at, |reader| Ok(Entry { id: reader.log_id()?, data: reader.data(&mut make)? }))
}

/// Appends the bytes of a hard state to `out`.
pub fn encode_hard_state(state: &HardState, out: &mut Vec<u8>) {
    put_u64(state.term.0, out);
    out.push(state.vote.is_some().into());
    if let Some(member) = state.vote {
        put_member(member, out);
    }
}

/// The hard state at `*at` in `buf`; moves `*at` behind it.
///
/// # Errors
/// [`DecodeError`]; `*at` is then of no meaning.
pub fn decode_hard_state(buf: &[u8], at: &mut usize) -> Result<HardState, DecodeError> {
    Reader::at(buf, at, |reader| {
        let term = Term(reader.u64()?);
        let vote = if reader.flag()? { Some(reader.member()?) } else { None };
        Ok(HardState { term, vote })
    })
}

/// Appends the bytes of a configuration to `out`.
pub fn encode_membership(membership: &Membership, out: &mut Vec<u8>) {
    for members in [&membership.voters, &membership.outgoing, &membership.learners] {
        let count = members.len().min(MEMBERS_MAX);
        out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes());
        for member in members.iter().take(count) {
            put_member(*member, out);
        }
    }
}

/// The configuration at `*at` in `buf`; moves `*at` behind it. It is well-formed.
///
/// # Errors
/// [`DecodeError`]; `*at` is then of no meaning.
pub fn decode_membership(buf: &[u8], at: &mut usize) -> Result<Membership, DecodeError> {
    Reader::at(buf, at, |reader| reader.membership())
}

/// Appends the bytes of a log start to `out`.
pub fn encode_base(base: &Base, out: &mut Vec<u8>) {
    put_log_id(base.id, out);
    encode_membership(&base.membership, out);
    put_log_id(base.membership_id, out);
}

/// The log start at `*at` in `buf`; moves `*at` behind it.
///
/// # Errors
/// [`DecodeError`]; `*at` is then of no meaning.
pub fn decode_base(buf: &[u8], at: &mut usize) -> Result<Base, DecodeError> {
    Reader::at(buf, at, |reader| {
        Ok(Base {
            id: reader.log_id()?,
            membership: Arc::new(reader.membership()?),
            membership_id: reader.log_id()?,
        })
    })
}

/// Appends the bytes of a snapshot's description to `out`.
pub fn encode_snapshot_meta(meta: &SnapshotMeta, out: &mut Vec<u8>) {
    put_log_id(meta.id, out);
    encode_membership(&meta.membership, out);
    put_log_id(meta.membership_id, out);
    put_u64(meta.bytes, out);
    out.extend_from_slice(&meta.hash.to_le_bytes());
}

/// The snapshot's description at `*at` in `buf`; moves `*at` behind it.
///
/// # Errors
/// [`DecodeError`]; `*at` is then of no meaning.
pub fn decode_snapshot_meta(buf: &[u8], at: &mut usize) -> Result<SnapshotMeta, DecodeError> {
    Reader::at(buf, at, |reader| reader.snapshot_meta())
}

fn kind<P>(body: &Body<P>) -> u8 {
    match body {
        Body::PreVote { .. } => 1,
        Body::PreVoteReply { .. } => 2,
        Body::Vote { .. } => 3,
        Body::VoteReply { .. } => 4,
        Body::Append { .. } => 5,
        Body::AppendReply { .. } => 6,
        Body::Heartbeat { .. } => 7,
        Body::HeartbeatReply { .. } => 8,
        Body::Commit { .. } => 9,
        Body::Snapshot { .. } => 10,
        Body::SnapshotReply { .. } => 11,
        Body::TimeoutNow => 12,
        Body::ReadIndex { .. } => 13,
        Body::ReadIndexReply { .. } => 14,
        Body::Stale => 15,
        Body::Quiesce { .. } => 16,
        Body::Quiet { .. } => 17,
        Body::Wake => 18,
    }
}

fn put_u32(number: usize, out: &mut Vec<u8>) {
    // The core keeps every length far below this; a larger one could only be decoded as damage.
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_u64(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_u32(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn put_member(member: Member, out: &mut Vec<u8>) {
    put_u64(member.node.0, out);
    put_u64(member.incarnation.0, out);
    put_u64(member.replica.0, out);
}

fn put_log_id(id: LogId, out: &mut Vec<u8>) {
    put_u64(id.term.0, out);
    put_u64(id.index.0, out);
}

fn put_data<P: AsRef<[u8]>>(data: &EntryData<P>, out: &mut Vec<u8>) {
    match data {
        EntryData::Noop => out.push(0),
        EntryData::Command(payload) => {
            out.push(1);
            put_bytes(payload.as_ref(), out);
        }
        EntryData::Membership(membership) => {
            out.push(2);
            encode_membership(membership, out);
        }
    }
}

/// Fewest bytes of an entry within an append: term and kind.
const ENTRY_BYTES_MIN: usize = 9;

struct Reader<'a> {
    buf: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn at<T>(
        buf: &'a [u8],
        at: &mut usize,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let mut reader = Self { buf, at: *at };
        let value = read(&mut reader)?;
        *at = reader.at;
        Ok(value)
    }

    fn left(&self) -> usize {
        self.buf.len().saturating_sub(self.at)
    }

    fn range(&mut self, length: usize) -> Result<Range<usize>, DecodeError> {
        if length > self.left() {
            return Err(DecodeError::Short);
        }
        let range = self.at..self.at + length;
        self.at = range.end;
        Ok(range)
    }

    fn slice(&self, range: Range<usize>) -> &'a [u8] {
        self.buf.get(range).unwrap_or(&[])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let range = self.range(N)?;
        self.slice(range).try_into().map_err(|_| DecodeError::Short)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<usize, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?).into())
    }

    fn u32(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| DecodeError::Short)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn u128(&mut self) -> Result<u128, DecodeError> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid("flag")),
        }
    }

    fn index(&mut self) -> Result<Index, DecodeError> {
        Ok(Index(self.u64()?))
    }

    fn bytes(&mut self) -> Result<Range<usize>, DecodeError> {
        let length = self.u32()?;
        self.range(length)
    }

    fn member(&mut self) -> Result<Member, DecodeError> {
        Ok(Member {
            node: NodeId(self.u64()?),
            incarnation: Incarnation(self.u64()?),
            replica: ReplicaId(self.u64()?),
        })
    }

    fn log_id(&mut self) -> Result<LogId, DecodeError> {
        Ok(LogId { term: Term(self.u64()?), index: Index(self.u64()?) })
    }

    fn members(&mut self) -> Result<Vec<Member>, DecodeError> {
        let count = self.u16()?;
        if count > MEMBERS_MAX {
            return Err(DecodeError::Invalid("number of members"));
        }
        (0..count).map(|_| self.member()).collect()
    }

    fn membership(&mut self) -> Result<Membership, DecodeError> {
        let (voters, outgoing, learners) = (self.members()?, self.members()?, self.members()?);
        let membership = Membership { voters, outgoing, learners };
        if membership.is_well_formed() {
            Ok(membership)
        } else {
            Err(DecodeError::Invalid("configuration"))
        }
    }

    fn data<P>(
        &mut self,
        make: &mut impl FnMut(Range<usize>) -> P,
    ) -> Result<EntryData<P>, DecodeError> {
        match self.u8()? {
            0 => Ok(EntryData::Noop),
            1 => Ok(EntryData::Command(make(self.bytes()?))),
            2 => Ok(EntryData::Membership(Arc::new(self.membership()?))),
            _ => Err(DecodeError::Invalid("entry kind")),
        }
    }

    fn append<P>(
        &mut self,
        make: &mut impl FnMut(Range<usize>) -> P,
    ) -> Result<Body<P>, DecodeError> {
        let (session, prev, commit) = (self.u64()?, self.log_id()?, self.index()?);
        let count = self.u32()?;
        if count > self.left() / ENTRY_BYTES_MIN {
            return Err(DecodeError::Short);
        }
        let mut entries = Vec::with_capacity(count);
        let mut index = prev.index;
        for _ in 0..count {
            index = Index(index.0.checked_add(1).ok_or(DecodeError::Invalid("index"))?);
            let id = LogId { term: Term(self.u64()?), index };
            entries.push(Entry { id, data: self.data(make)? });
        }
        Ok(Body::Append { session, prev, commit, entries: entries.into() })
    }

    fn append_result(&mut self) -> Result<AppendResult, DecodeError> {
        match self.u8()? {
            0 => Ok(AppendResult::Matched(self.index()?)),
            1 => Ok(AppendResult::Rejected { prev: self.index()?, hint: self.log_id()? }),
            2 => Ok(AppendResult::Full),
            _ => Err(DecodeError::Invalid("append result")),
        }
    }

    fn snapshot_meta(&mut self) -> Result<SnapshotMeta, DecodeError> {
        Ok(SnapshotMeta {
            id: self.log_id()?,
            membership: Arc::new(self.membership()?),
            membership_id: self.log_id()?,
            bytes: self.u64()?,
            hash: self.u128()?,
        })
    }
}
