//! Requests that a node passes to another, which has a replica of their group, in bytes.

use bytes::Bytes;
use kontiki_kv::{Gate, Reply};
use kontiki_types::{Epoch, GroupId, Slot};

use super::news::put_life;
use super::{ANSWER, ASK, Frame, FrameBuilder, FrameError, Life, PeerMessage};
use crate::connection::Failure;

/// The largest reply that is passed on: with the frame around it, it stays within what a transport
/// takes.
pub(crate) const REPLY_BYTES_MAX: usize = (8 << 20) + (256 << 10);

/// Who waits for the answer to a request that was passed on: a node in one of its lives, and the
/// number that it gave the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asker {
    /// The life.
    pub life: Life,
    /// The number.
    pub number: u64,
}

/// A request for a group of which the receiver has a replica.
#[derive(Debug)]
pub struct Passed {
    /// Who waits.
    pub asker: Asker,
    /// The group.
    pub group: GroupId,
    /// For how long the sender goes on waiting, in milliseconds.
    pub wait_ms: u32,
    /// What to do.
    pub what: PassedAsk,
}

/// The two kinds of requests. What is in them is looked at by whoever carries them out: one that a
/// later version made must not spoil the frame.
#[derive(Debug)]
pub enum PassedAsk {
    /// An encoded linearizable read.
    Read(Bytes),
    /// An encoded proposal of a write.
    Write(Bytes),
}

/// What the receiver answers.
#[derive(Debug)]
pub enum PassedAnswer {
    /// The reply.
    Reply(Reply),
    /// There is none, and this is why.
    Failed(Failure),
    /// At that entry, or for that read, a slot was closed in the group: it had no effect.
    Closed {
        /// The slot.
        slot: Slot,
        /// How.
        gate: Gate,
    },
    /// The write before it on its slot is missing.
    SentBack,
    /// The receiver has no replica of the group; the newest configuration that it knows.
    NotHere(Option<Epoch>),
}

const READ: u8 = 1;
const WRITE: u8 = 2;

const REPLY: u8 = 1;
const FAILED: u8 = 2;
const CLOSED: u8 = 3;
const SENT_BACK: u8 = 4;
const NOT_HERE: u8 = 5;

const FROZEN: u8 = 1;
const AWAY: u8 = 2;

/// Failures by their number on the wire.
const FAILURES: [Failure; 10] = [
    Failure::Unavailable,
    Failure::Overloaded,
    Failure::StorageFull,
    Failure::TooLarge,
    Failure::Unknown,
    Failure::NumberReused,
    Failure::Superseded,
    Failure::ReplyTooLarge,
    Failure::NotHere,
    Failure::StandsStill,
];

impl FrameBuilder {
    pub(crate) fn ask(&mut self, passed: &Passed) {
        self.message(ASK, |out| {
            put_life(passed.asker.life, out);
            out.extend_from_slice(&passed.asker.number.to_be_bytes());
            out.extend_from_slice(&passed.group.0.to_be_bytes());
            out.extend_from_slice(&passed.wait_ms.to_be_bytes());
            match &passed.what {
                PassedAsk::Read(read) => {
                    out.push(READ);
                    out.extend_from_slice(read);
                }
                PassedAsk::Write(proposal) => {
                    out.push(WRITE);
                    out.extend_from_slice(proposal);
                }
            }
        });
    }

    /// A reply that is too large to be passed on is a failure that says so.
    pub(crate) fn answer(&mut self, asker: Asker, answer: &PassedAnswer) {
        self.message(ANSWER, |out| {
            put_life(asker.life, out);
            out.extend_from_slice(&asker.number.to_be_bytes());
            match answer {
                PassedAnswer::Reply(reply) if bytes_of(reply) > REPLY_BYTES_MAX => {
                    put_failure(Failure::ReplyTooLarge, out);
                }
                PassedAnswer::Reply(reply) => {
                    out.push(REPLY);
                    reply.encode(out);
                }
                PassedAnswer::Failed(failure) => put_failure(*failure, out),
                PassedAnswer::Closed { slot, gate } => {
                    out.push(CLOSED);
                    out.extend_from_slice(&slot.get().to_be_bytes());
                    out.push(if *gate == Gate::Frozen { FROZEN } else { AWAY });
                }
                PassedAnswer::SentBack => out.push(SENT_BACK),
                PassedAnswer::NotHere(epoch) => {
                    out.push(NOT_HERE);
                    let epoch = epoch.map_or(0, |epoch| epoch.0.saturating_add(1));
                    out.extend_from_slice(&epoch.to_be_bytes());
                }
            }
        });
    }
}

/// No less than what the byte form of a reply takes.
fn bytes_of(reply: &Reply) -> usize {
    // A kind, and a length or number.
    const EACH: usize = 11;
    EACH + match reply {
        Reply::Status(bytes)
        | Reply::Bulk(bytes)
        | Reply::Verbatim(bytes)
        | Reply::Error(bytes) => bytes.len(),
        Reply::Simple(text) => text.len(),
        Reply::Array(items) | Reply::Set(items) => items.iter().map(bytes_of).sum(),
        Reply::Map(pairs) => pairs.iter().map(|(key, value)| bytes_of(key) + bytes_of(value)).sum(),
        Reply::Ok | Reply::Nil | Reply::NilArray | Reply::Integer(_) => 0,
    }
}

fn put_failure(failure: Failure, out: &mut Vec<u8>) {
    let number = FAILURES.iter().position(|&known| known == failure).unwrap_or(0);
    out.extend([FAILED, number as u8]);
}

impl Frame {
    pub(super) fn ask(&mut self, end: usize) -> Result<PeerMessage, FrameError> {
        let asker = self.asker(end)?;
        let group = GroupId(self.u32(end)?);
        let wait_ms = self.u32(end)?;
        let kind = self.u8(end)?;
        let bytes = self.bytes.slice(self.at..end);
        let what = match kind {
            READ => PassedAsk::Read(bytes),
            WRITE => PassedAsk::Write(bytes),
            _ => return self.bad("unknown kind of request"),
        };
        Ok(PeerMessage::Ask(Passed { asker, group, wait_ms, what }))
    }

    pub(super) fn answer(&mut self, end: usize) -> Result<PeerMessage, FrameError> {
        let asker = self.asker(end)?;
        let answer = match self.u8(end)? {
            REPLY => match Reply::decode(&self.bytes.slice(self.at..end)) {
                Ok(reply) => PassedAnswer::Reply(reply),
                // Of a kind that a later version makes.
                Err(_) => PassedAnswer::Failed(Failure::Unknown),
            },
            FAILED => match FAILURES.get(usize::from(self.u8(end)?)) {
                Some(&failure) => PassedAnswer::Failed(failure),
                None => return self.bad("unknown failure"),
            },
            CLOSED => {
                let number = u16::from_be_bytes([self.u8(end)?, self.u8(end)?]);
                let Some(slot) = Slot::new(number) else { return self.bad("no such slot") };
                let gate = match self.u8(end)? {
                    FROZEN => Gate::Frozen,
                    AWAY => Gate::Away,
                    _ => return self.bad("unknown state of a slot"),
                };
                PassedAnswer::Closed { slot, gate }
            }
            SENT_BACK => PassedAnswer::SentBack,
            NOT_HERE => PassedAnswer::NotHere(self.u64(end)?.checked_sub(1).map(Epoch)),
            _ => return self.bad("unknown kind of answer"),
        };
        Ok(PeerMessage::Answer(asker, answer))
    }

    fn asker(&mut self, end: usize) -> Result<Asker, FrameError> {
        Ok(Asker { life: self.life(end)?, number: self.u64(end)? })
    }
}
