//! The records in a frame's body. Byte table: `docs/log-format.md`.
//!
//! The layout is this crate's own and not that of the peer protocol, so that neither changes with
//! the other.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use kontiki_raft::{Base, Entry, EntryData, HardState, Membership};
use kontiki_types::{GroupId, Incarnation, Index, LogId, Member, NodeId, ReplicaId, Term};

/// Bytes before a record's payload: kind, group, length.
const HEADER: usize = 9;
/// Set in the kind of a record that was copied forward from an older segment: at replay it only
/// fills what is absent.
const REWRITTEN: u8 = 0x80;

const HARD_STATE: u8 = 1;
const BASE: u8 = 2;
const TRUNCATE: u8 = 3;
const ENTRY: u8 = 4;
const FORGET: u8 = 5;

const NOOP: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// One record, read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub group: GroupId,
    pub rewritten: bool,
    /// Bytes of the record in the frame.
    pub bytes: usize,
    pub body: Body,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    HardState(HardState),
    Base(Base),
    Truncate(Index),
    Entry(Entry<Bytes>),
    Forget,
}

/// Appends records to a frame's body.
pub(super) struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    /// How many records were appended.
    pub records: u32,
    kind_flag: u8,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, records: 0, kind_flag: 0 }
    }

    /// All following records are copies from an older segment.
    pub(super) fn rewriting(mut self) -> Self {
        self.kind_flag = REWRITTEN;
        self
    }

    /// Each of these returns the bytes that the record takes.
    pub(super) fn hard_state(&mut self, group: GroupId, state: &HardState) -> usize {
        self.record(HARD_STATE, group, |out| {
            put_u64(out, state.term.get());
            out.push(u8::from(state.vote.is_some()));
            if let Some(vote) = &state.vote {
                put_member(out, vote);
            }
        })
    }

    pub(super) fn base(&mut self, group: GroupId, base: &Base) -> usize {
        self.record(BASE, group, |out| {
            put_log_id(out, base.id);
            put_log_id(out, base.membership_id);
            put_membership(out, &base.membership);
        })
    }

    pub(super) fn truncate(&mut self, group: GroupId, from: Index) -> usize {
        self.record(TRUNCATE, group, |out| put_u64(out, from.get()))
    }

    pub(super) fn entry(&mut self, group: GroupId, entry: &Entry<Bytes>) -> usize {
        self.record(ENTRY, group, |out| {
            put_log_id(out, entry.id);
            match &entry.data {
                EntryData::Noop => out.push(NOOP),
                EntryData::Command(command) => {
                    out.push(COMMAND);
                    out.extend_from_slice(command);
                }
                EntryData::Membership(membership) => {
                    out.push(MEMBERSHIP);
                    put_membership(out, membership);
                }
            }
        })
    }

    pub(super) fn forget(&mut self, group: GroupId) -> usize {
        self.record(FORGET, group, |_| {})
    }

    fn record(&mut self, kind: u8, group: GroupId, body: impl FnOnce(&mut Vec<u8>)) -> usize {
        let start = self.out.len();
        self.out.push(kind | self.kind_flag);
        self.out.extend_from_slice(&group.get().to_le_bytes());
        self.out.extend_from_slice(&[0; 4]);
        body(self.out);
        let length = (self.out.len() - start - HEADER) as u32;
        self.out[start + 5..start + HEADER].copy_from_slice(&length.to_le_bytes());
        self.records += 1;
        self.out.len() - start
    }
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_log_id(out: &mut Vec<u8>, id: LogId) {
    put_u64(out, id.term.get());
    put_u64(out, id.index.get());
}

fn put_member(out: &mut Vec<u8>, member: &Member) {
    put_u64(out, member.node.get());
    put_u64(out, member.incarnation.get());
    put_u64(out, member.replica.get());
}

fn put_membership(out: &mut Vec<u8>, membership: &Membership) {
    for list in [&membership.voters, &membership.outgoing, &membership.learners] {
        out.extend_from_slice(&(list.len() as u16).to_le_bytes());
        for member in list {
            put_member(out, member);
        }
    }
}

/// Reads the records of a body one after the other; commands are slices of it.
pub(super) struct Decoder {
    body: Bytes,
    at: usize,
}

/// The body is not a sequence of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadRecord;

impl Decoder {
    pub(super) fn new(body: Bytes) -> Self {
        Self { body, at: 0 }
    }

    fn record(&mut self) -> Result<Record, BadRecord> {
        let header = self.body.get(self.at..self.at + HEADER).ok_or(BadRecord)?;
        let kind = header[0];
        let group = GroupId(super::frame::u32_at(header, 1));
        let length = super::frame::u32_at(header, 5) as usize;
        let start = self.at + HEADER;
        let end = start.checked_add(length).ok_or(BadRecord)?;
        let mut fields = Fields { bytes: self.body.get(..end).ok_or(BadRecord)?, at: start };
        let body = match kind & !REWRITTEN {
            HARD_STATE => Body::HardState(fields.hard_state()?),
            BASE => Body::Base(fields.base()?),
            TRUNCATE => Body::Truncate(Index(fields.u64()?)),
            ENTRY => {
                let (id, data) = fields.entry()?;
                let data = match data {
                    Data::Noop => EntryData::Noop,
                    Data::Command(range) => EntryData::Command(self.body.slice(range)),
                    Data::Membership(membership) => EntryData::Membership(Arc::new(membership)),
                };
                fields.at = end;
                Body::Entry(Entry { id, data })
            }
            FORGET => Body::Forget,
            _ => return Err(BadRecord),
        };
        if fields.at != end && !matches!(body, Body::Entry(_)) {
            return Err(BadRecord);
        }
        self.at = end;
        Ok(Record { group, rewritten: kind & REWRITTEN != 0, bytes: HEADER + length, body })
    }
}

impl Iterator for Decoder {
    type Item = Result<Record, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.body.len() {
            return None;
        }
        let record = self.record();
        if record.is_err() {
            self.at = self.body.len();
        }
        Some(record)
    }
}

/// What a record is, without what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub group: GroupId,
    pub rewritten: bool,
    /// Term and index of an entry that is no configuration.
    pub entry: Option<(u64, u64)>,
}

/// The heads of the records of a whole body, each with the record's bytes.
pub(super) fn heads(body: &[u8]) -> impl Iterator<Item = (Head, &[u8])> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER)?;
        let length = super::frame::u32_at(header, 5) as usize;
        let record = rest.get(..HEADER.checked_add(length)?)?;
        rest = &rest[record.len()..];
        let payload = &record[HEADER..];
        let entry = match (header[0] & !REWRITTEN, payload.get(16)) {
            (ENTRY, Some(&(NOOP | COMMAND))) => {
                Some((super::frame::u64_at(payload, 0), super::frame::u64_at(payload, 8)))
            }
            _ => None,
        };
        let group = GroupId(super::frame::u32_at(header, 1));
        Some((Head { group, rewritten: header[0] & REWRITTEN != 0, entry }, record))
    })
}

enum Data {
    Noop,
    Command(Range<usize>),
    Membership(Membership),
}

struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadRecord> {
        let end = self.at.checked_add(N).ok_or(BadRecord)?;
        let mut field = [0; N];
        field.copy_from_slice(self.bytes.get(self.at..end).ok_or(BadRecord)?);
        self.at = end;
        Ok(field)
    }

    fn u64(&mut self) -> Result<u64, BadRecord> {
        self.take().map(u64::from_le_bytes)
    }

    fn log_id(&mut self) -> Result<LogId, BadRecord> {
        Ok(LogId::new(Term(self.u64()?), Index(self.u64()?)))
    }

    fn member(&mut self) -> Result<Member, BadRecord> {
        let (node, incarnation) = (NodeId(self.u64()?), Incarnation(self.u64()?));
        Ok(Member::new(node, incarnation, ReplicaId(self.u64()?)))
    }

    fn members(&mut self) -> Result<Vec<Member>, BadRecord> {
        let count = u16::from_le_bytes(self.take()?);
        (0..count).map(|_| self.member()).collect()
    }

    fn membership(&mut self) -> Result<Membership, BadRecord> {
        Ok(Membership {
            voters: self.members()?,
            outgoing: self.members()?,
            learners: self.members()?,
        })
    }

    fn hard_state(&mut self) -> Result<HardState, BadRecord> {
        let term = Term(self.u64()?);
        let vote = match self.take()? {
            [0] => None,
            [1] => Some(self.member()?),
            _ => return Err(BadRecord),
        };
        Ok(HardState { term, vote })
    }

    fn base(&mut self) -> Result<Base, BadRecord> {
        Ok(Base {
            id: self.log_id()?,
            membership_id: self.log_id()?,
            membership: Arc::new(self.membership()?),
        })
    }

    fn entry(&mut self) -> Result<(LogId, Data), BadRecord> {
        let id = self.log_id()?;
        let data = match self.take()? {
            [NOOP] => Data::Noop,
            [COMMAND] => return Ok((id, Data::Command(self.at..self.bytes.len()))),
            [MEMBERSHIP] => Data::Membership(self.membership()?),
            _ => return Err(BadRecord),
        };
        if self.at == self.bytes.len() { Ok((id, data)) } else { Err(BadRecord) }
    }
}
