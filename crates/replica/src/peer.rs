//! What nodes say to each other: frames of many messages, of all groups.
//!
//! A frame is a version byte, a CRC-32C (u32, big-endian) of all that follows, the sender's wall
//! clock (for log time, PROTOCOL 8), then messages, each a kind byte, a length (u32, big-endian) and
//! that many bytes. Decoding is bounded by the frame: a claimed length is checked against what is
//! there before anything is read.
//!
//! The CRC is there since what follows is believed: a bit that flipped in an entry on its way would
//! make its replica differ from the others for good, and TCP's 16 bits let one in 65,536 such
//! flips through.

mod news;
mod passed;

use core::ops::Range;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use kontiki_raft::{Message, wire};
use kontiki_shard::Configuration;
use kontiki_types::{ClientId, GroupId, Incarnation, LogTime, NodeId, Seq};
use thiserror::Error;

use crate::connection::ClientKind;

pub use news::{Led, LedGroup, Life, News};
pub use passed::{Asker, Passed, PassedAnswer, PassedAsk};

/// The version of the frame format this build speaks.
pub const PEER_VERSION: u8 = 3;

/// Where a node can be reached, and what runs there. Nodes tell each other, so that an address can
/// change without a change of membership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// The node.
    pub id: NodeId,
    /// Its directory.
    pub incarnation: Incarnation,
    /// How often it had started: of two infos the later boot holds.
    pub boot: u32,
    /// Its process.
    pub pid: u32,
    /// `host:port` for Redis clients.
    pub resp: String,
    /// `host:port` for peers and native clients.
    pub grpc: String,
    /// `host:port` for metrics and health.
    pub http: String,
    /// The process is about to stop: nothing is to be handed to it.
    pub leaving: bool,
}

/// Why a leader did not take a forwarded write. It was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The node does not lead the group, or is handing over.
    NotLeader,
    /// Too many bytes are uncommitted.
    Overloaded,
    /// The leader's disk is full.
    StorageFull,
}

/// One message of a frame.
#[derive(Debug)]
pub enum PeerMessage {
    /// A message of the consensus core.
    Raft(GroupId, Message<Bytes>),
    /// A write for the leader of the group: an encoded session write without its stamp.
    Forward(GroupId, ClientId, Seq, Bytes),
    /// A forwarded write that was not appended.
    Refused(GroupId, ClientId, Seq, Refusal),
    /// The sender's own whereabouts and those it knows.
    Info(NodeInfo),
    /// What the sender has and knows.
    News(News),
    /// What changed of what the sender leads.
    Led(Led),
    /// The newest configuration that the sender knows.
    Configuration(Arc<Configuration>),
    /// A request for a group of which the receiver has a replica.
    Ask(Passed),
    /// The answer to such a request.
    Answer(Asker, PassedAnswer),
    /// A client of this kind has asked the sender for the map of slots.
    Asked(ClientKind),
}

/// Bytes that are no frame of this version.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// Another version.
    #[error("peer frame has version {found}, this build speaks {PEER_VERSION}")]
    Version {
        /// The frame's version.
        found: u8,
    },
    /// A length, kind or content that does not fit.
    #[error("peer frame is ill-formed at byte {at}: {what}")]
    Malformed {
        /// Offset in the frame.
        at: usize,
        /// What does not fit.
        what: &'static str,
    },
    /// The bytes are not those that were sent.
    #[error("peer frame of {bytes} bytes was damaged on its way")]
    Damaged {
        /// Length of the frame.
        bytes: usize,
    },
}

const RAFT: u8 = 1;
const FORWARD: u8 = 2;
const REFUSED: u8 = 3;
const INFO: u8 = 4;
const NEWS: u8 = 5;
const LED: u8 = 6;
const CONFIGURATION: u8 = 7;
const ASK: u8 = 8;
const ANSWER: u8 = 9;
const ASKED: u8 = 10;

/// Where the checksum stands, and what it covers begins.
const CHECKSUM: Range<usize> = 1..5;
const HEADER_BYTES: usize = 13;
/// Room for what most frames hold: a few messages without large entries.
const FRAME_BYTES_USUAL: usize = 256;

/// Collects the messages to one node.
#[derive(Debug, Default)]
pub(crate) struct FrameBuilder {
    bytes: Vec<u8>,
}

impl FrameBuilder {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Sees to it that there is a frame, if need be one without messages: a sign of life.
    pub(crate) fn beat(&mut self) {
        if self.bytes.is_empty() {
            self.bytes.resize(HEADER_BYTES, 0);
        }
    }

    pub(crate) fn raft(&mut self, group: GroupId, message: &Message<Bytes>) {
        self.message(RAFT, |out| {
            out.extend_from_slice(&group.0.to_be_bytes());
            wire::encode_message(message, out);
        });
    }

    pub(crate) fn forward(&mut self, group: GroupId, client: ClientId, seq: Seq, write: &[u8]) {
        self.message(FORWARD, |out| {
            out.extend_from_slice(&group.0.to_be_bytes());
            out.extend_from_slice(&client.to_bytes());
            out.extend_from_slice(&seq.0.to_be_bytes());
            out.extend_from_slice(write);
        });
    }

    pub(crate) fn refused(&mut self, group: GroupId, client: ClientId, seq: Seq, why: Refusal) {
        self.message(REFUSED, |out| {
            out.extend_from_slice(&group.0.to_be_bytes());
            out.extend_from_slice(&client.to_bytes());
            out.extend_from_slice(&seq.0.to_be_bytes());
            out.push(match why {
                Refusal::NotLeader => 1,
                Refusal::Overloaded => 2,
                Refusal::StorageFull => 3,
            });
        });
    }

    pub(crate) fn info(&mut self, info: &NodeInfo) {
        self.message(INFO, |out| {
            out.extend_from_slice(&info.id.0.to_be_bytes());
            out.extend_from_slice(&info.incarnation.0.to_be_bytes());
            out.extend_from_slice(&info.boot.to_be_bytes());
            out.extend_from_slice(&info.pid.to_be_bytes());
            for address in [&info.resp, &info.grpc, &info.http] {
                put_text(address, out);
            }
            out.push(u8::from(info.leaving));
        });
    }

    pub(crate) fn asked(&mut self, kind: &ClientKind) {
        self.message(ASKED, |out| {
            put_text(&kind.address, out);
            put_text(&kind.library, out);
        });
    }

    /// The frame, and an empty builder again. `None` if nothing was added.
    pub(crate) fn take(&mut self, wall: LogTime) -> Option<Bytes> {
        if self.bytes.is_empty() {
            return None;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes[0] = PEER_VERSION;
        bytes[CHECKSUM.end..HEADER_BYTES].copy_from_slice(&wall.0.to_be_bytes());
        let checksum = crc32c::crc32c(&bytes[CHECKSUM.end..]);
        bytes[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
        Some(bytes.into())
    }

    fn message(&mut self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
        if self.bytes.is_empty() {
            self.bytes.reserve(FRAME_BYTES_USUAL);
            self.bytes.resize(HEADER_BYTES, 0);
        }
        self.bytes.push(kind);
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        write(&mut self.bytes);
        // A frame is bounded far below 4 GiB by the size of entries and of the core's appends.
        let length = (self.bytes.len() - at - 4) as u32;
        self.bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// A text of up to 65,535 bytes; a longer one becomes empty.
fn put_text(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).unwrap_or(0);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
}

/// Frames with writes for the leader that were taken lately. One that arrives twice must not be
/// decided twice: if the first copy is refused and the second taken, its caller has been told that
/// nothing was written. Whoever sends a write again sends it in another frame, with another time on
/// it, and does not believe refusals any more.
#[derive(Debug, Default)]
pub(crate) struct Taken(VecDeque<(NodeId, u32)>);

/// More than arrive from all nodes while a copy may still be on its way.
const TAKEN_MAX: usize = 64;

impl Taken {
    /// Notes a frame; `false` if it was there before. By its checksum: another frame with the same
    /// one is lost, as any frame may be.
    pub(crate) fn is_first(&mut self, from: NodeId, checksum: u32) -> bool {
        if self.0.contains(&(from, checksum)) {
            return false;
        }
        self.0.truncate(TAKEN_MAX - 1);
        self.0.push_front((from, checksum));
        true
    }
}

/// A received frame, read message by message.
#[derive(Debug)]
pub struct Frame {
    bytes: Bytes,
    at: usize,
}

impl Frame {
    /// Reads the header of a frame: its sender's wall clock, and the messages that follow.
    ///
    /// # Errors
    /// If the version is another, the header is cut, or the frame was damaged on its way.
    pub fn open(bytes: Bytes) -> Result<(LogTime, Self), FrameError> {
        match bytes.first() {
            Some(&PEER_VERSION) => {}
            Some(&found) => return Err(FrameError::Version { found }),
            None => return Err(FrameError::Malformed { at: 0, what: "the frame is empty" }),
        }
        let mut frame = Self { bytes, at: CHECKSUM.start };
        let end = frame.bytes.len();
        let checksum = frame.u32(end)?;
        if checksum != crc32c::crc32c(&frame.bytes[CHECKSUM.end..]) {
            return Err(FrameError::Damaged { bytes: end });
        }
        let wall = frame.u64(end)?;
        Ok((LogTime(wall), frame))
    }

    /// The checksum of the frame.
    pub(crate) fn checksum(&self) -> u32 {
        self.bytes
            .get(CHECKSUM)
            .map_or(0, |bytes| bytes.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte)))
    }

    /// The next message; `None` at the end.
    ///
    /// # Errors
    /// If the bytes are no message. What follows can't be read then.
    pub fn next_message(&mut self) -> Result<Option<PeerMessage>, FrameError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let kind = self.u8(self.bytes.len())?;
        let length = self.u32(self.bytes.len())? as usize;
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else { return self.bad("a message is longer than the frame") };
        let message = match kind {
            RAFT => {
                let group = GroupId(self.u32(end)?);
                let (bytes, from) = (&self.bytes, self.at);
                let slice = |range: Range<usize>| bytes.slice(from + range.start..from + range.end);
                let decoded = wire::decode_message(&bytes[from..end], slice);
                match decoded {
                    Ok(message) => PeerMessage::Raft(group, message),
                    Err(_) => return self.bad("a consensus message cannot be decoded"),
                }
            }
            FORWARD => {
                let (group, client, seq) =
                    (GroupId(self.u32(end)?), self.client(end)?, self.u64(end)?);
                let write = self.bytes.slice(self.at..end);
                PeerMessage::Forward(group, client, Seq(seq), write)
            }
            REFUSED => {
                let (group, client, seq) =
                    (GroupId(self.u32(end)?), self.client(end)?, self.u64(end)?);
                let why = match self.u8(end)? {
                    1 => Refusal::NotLeader,
                    2 => Refusal::Overloaded,
                    3 => Refusal::StorageFull,
                    _ => return self.bad("unknown refusal"),
                };
                PeerMessage::Refused(group, client, Seq(seq), why)
            }
            INFO => PeerMessage::Info(NodeInfo {
                id: NodeId(self.u64(end)?),
                incarnation: Incarnation(self.u64(end)?),
                boot: self.u32(end)?,
                pid: self.u32(end)?,
                resp: self.address(end)?,
                grpc: self.address(end)?,
                http: self.address(end)?,
                // Builds before this was said end here.
                leaving: self.at < end && self.u8(end)? != 0,
            }),
            NEWS => self.news(end)?,
            LED => self.led(end)?,
            CONFIGURATION => self.configuration(end)?,
            ASK => self.ask(end)?,
            ANSWER => self.answer(end)?,
            ASKED => PeerMessage::Asked(ClientKind {
                address: self.address(end)?,
                library: self.address(end)?,
            }),
            _ => return self.bad("unknown kind of message"),
        };
        self.at = end;
        Ok(Some(message))
    }

    fn take(&mut self, count: usize, end: usize) -> Result<&[u8], FrameError> {
        let from = self.at;
        match from.checked_add(count) {
            Some(to) if to <= end => {
                self.at = to;
                Ok(&self.bytes[from..to])
            }
            _ => Err(FrameError::Malformed { at: from, what: "the message is cut" }),
        }
    }

    fn u8(&mut self, end: usize) -> Result<u8, FrameError> {
        Ok(self.take(1, end)?[0])
    }

    fn u32(&mut self, end: usize) -> Result<u32, FrameError> {
        let mut number = [0; 4];
        number.copy_from_slice(self.take(4, end)?);
        Ok(u32::from_be_bytes(number))
    }

    fn u64(&mut self, end: usize) -> Result<u64, FrameError> {
        let mut number = [0; 8];
        number.copy_from_slice(self.take(8, end)?);
        Ok(u64::from_be_bytes(number))
    }

    fn client(&mut self, end: usize) -> Result<ClientId, FrameError> {
        let mut bytes = [0; ClientId::BYTES];
        bytes.copy_from_slice(self.take(ClientId::BYTES, end)?);
        Ok(ClientId::from_bytes(&bytes))
    }

    fn address(&mut self, end: usize) -> Result<String, FrameError> {
        let mut length = [0; 2];
        length.copy_from_slice(self.take(2, end)?);
        let at = self.at;
        let bytes = self.take(usize::from(u16::from_be_bytes(length)), end)?;
        String::from_utf8(bytes.to_vec())
            .map_err(|_| FrameError::Malformed { at, what: "an address is not UTF-8" })
    }

    fn bad<T>(&self, what: &'static str) -> Result<T, FrameError> {
        Err(FrameError::Malformed { at: self.at, what })
    }
}

#[cfg(test)]
mod tests {
    use kontiki_kv::{Gate, Reply};
    use kontiki_types::{Epoch, Slot, Term};

    use super::*;
    use crate::connection::Failure;

    fn sample() -> Bytes {
        let mut builder = FrameBuilder::default();
        let client = ClientId { incarnation: Incarnation(5), boot: 1, connection: 9 };
        builder.forward(GroupId(1), client, Seq(4), b"write");
        builder.refused(GroupId(1), client, Seq(4), Refusal::Overloaded);
        builder.info(&NodeInfo {
            id: NodeId(3),
            resp: "127.0.0.1:7003".into(),
            leaving: true,
            ..NodeInfo::default()
        });
        let life = Life { incarnation: Incarnation(5), boot: 1 };
        builder.news(&News {
            life,
            epoch: Some(Epoch(0)),
            led: 3,
            log_time: LogTime(9),
            your_life: Life::default(),
            your_led: 7,
        });
        builder.led(&led());
        let asker = Asker { life, number: 4 };
        let what = PassedAsk::Write(Bytes::from_static(b"proposal"));
        builder.ask(&Passed { asker, group: GroupId(2), wait_ms: 500, what });
        for answer in answers() {
            builder.answer(asker, &answer);
        }
        builder.asked(&kind());
        builder.take(LogTime(77)).expect("messages were added")
    }

    fn kind() -> ClientKind {
        ClientKind { address: "10.0.0.9".into(), library: "some-library".into() }
    }

    fn led() -> Led {
        let voters = vec![NodeId(1), NodeId(2)];
        let groups = [1, 2].map(|id| LedGroup {
            group: GroupId(id),
            term: Term(u64::from(id)),
            voters: voters.clone(),
        });
        Led { life: Life::default(), from: 1, to: 3, groups: groups.into() }
    }

    fn answers() -> Vec<PassedAnswer> {
        let slot = Slot::of(b"k");
        vec![
            PassedAnswer::Reply(Reply::Array(vec![Reply::Integer(7), Reply::Nil])),
            PassedAnswer::Failed(Failure::ReplyTooLarge),
            PassedAnswer::Closed { slot, gate: Gate::Frozen },
            PassedAnswer::Closed { slot, gate: Gate::Away },
            PassedAnswer::SentBack,
            PassedAnswer::NotHere(None),
            PassedAnswer::NotHere(Some(Epoch(4))),
        ]
    }

    fn read_all(bytes: Bytes) -> Result<Vec<PeerMessage>, FrameError> {
        let (_, mut frame) = Frame::open(bytes)?;
        let mut messages = Vec::new();
        while let Some(message) = frame.next_message()? {
            messages.push(message);
        }
        Ok(messages)
    }

    #[test]
    fn messages_survive_a_frame() {
        let (wall, _) = Frame::open(sample()).expect("well-formed");
        assert_eq!(wall, LogTime(77));
        let messages = read_all(sample()).expect("well-formed");
        assert!(
            matches!(&messages[0], PeerMessage::Forward(GroupId(1), _, Seq(4), w) if w == "write")
        );
        assert!(matches!(messages[1], PeerMessage::Refused(_, _, _, Refusal::Overloaded)));
        assert!(matches!(&messages[2], PeerMessage::Info(info)
            if info.resp == "127.0.0.1:7003" && info.leaving));
        assert!(matches!(&messages[3], PeerMessage::News(news)
            if news.epoch == Some(Epoch(0)) && news.life.boot == 1 && news.your_led == 7));
        assert!(matches!(&messages[4], PeerMessage::Led(told) if *told == led()));
        assert!(matches!(&messages[5], PeerMessage::Ask(Passed { wait_ms: 500, what, .. })
            if matches!(what, PassedAsk::Write(bytes) if bytes == "proposal")));
        let shown = |answer: &PassedAnswer| format!("{answer:?}");
        let (last, answered) = messages[6..].split_last().expect("messages");
        assert!(matches!(last, PeerMessage::Asked(asked) if *asked == kind()));
        let received = answered.iter().map(|message| match message {
            PeerMessage::Answer(Asker { number: 4, .. }, answer) => shown(answer),
            other => panic!("{other:?}"),
        });
        assert_eq!(received.collect::<Vec<_>>(), answers().iter().map(shown).collect::<Vec<_>>());
    }

    #[test]
    fn a_reply_that_is_too_large_to_be_passed_on_is_a_failure() {
        let mut builder = FrameBuilder::default();
        let value = Bytes::from(vec![b'x'; 3 << 20]);
        let asker = Asker { life: Life::default(), number: 1 };
        let reply = Reply::Array(vec![Reply::Bulk(value); 3]);
        builder.answer(asker, &PassedAnswer::Reply(reply));
        let frame = builder.take(LogTime(1)).expect("a message was added");
        assert!(frame.len() < 100);
        let messages = read_all(frame).expect("well-formed");
        let [PeerMessage::Answer(_, PassedAnswer::Failed(failure))] = &messages[..] else {
            panic!("{messages:?}");
        };
        assert_eq!(*failure, Failure::ReplyTooLarge);
    }

    #[test]
    fn any_cut_and_any_changed_bit_is_noticed() {
        let whole = sample();
        for end in 0..whole.len() {
            assert!(read_all(whole.slice(..end)).is_err(), "cut at {end}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.to_vec();
                bytes[at] ^= 1 << bit;
                assert!(read_all(bytes.into()).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_well_formed_checksum_over_ill_formed_messages_is_survived() {
        let whole = sample();
        for at in HEADER_BYTES..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.to_vec();
                bytes[at] ^= 1 << bit;
                let checksum = crc32c::crc32c(&bytes[CHECKSUM.end..]);
                bytes[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
                let _ = read_all(bytes.into());
            }
        }
    }

    #[test]
    fn a_frame_that_comes_twice_is_known_for_a_while() {
        let mut taken = Taken::default();
        assert!(taken.is_first(NodeId(1), 7) && taken.is_first(NodeId(2), 7));
        assert!(!taken.is_first(NodeId(1), 7));
        for checksum in 100..100 + TAKEN_MAX as u32 {
            assert!(taken.is_first(NodeId(1), checksum));
        }
        assert!(taken.is_first(NodeId(1), 7));
    }

    #[test]
    fn an_unknown_version_is_named() {
        assert_eq!(
            read_all(Bytes::from_static(&[9, 0])).expect_err("refused"),
            FrameError::Version { found: 9 }
        );
    }
}
