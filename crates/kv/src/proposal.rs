//! The payload of a log entry.

use bytes::Bytes;
use kontiki_types::{ClientId, LogTime, Seq, Slot};

use crate::bytes_in::{BadBytes, Cursor};
use crate::check::Check;

/// Version byte that every proposal begins with.
const VERSION: u8 = 1;
const TICK: u8 = 0;
const WRITE: u8 = 1;
const SLOTS: u8 = 2;
const CHECK: u8 = 3;
const STAMP: core::ops::Range<usize> = 2..10;

/// What a leader puts into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The leader's clock (PROTOCOL 8). The entry's log time is the larger of it and the log time
    /// before, computed at apply.
    pub stamp: LogTime,
    /// What the entry does beyond moving the time.
    pub body: Body,
}

/// The effect of a [`Proposal`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Only moves the log time, and so lets keys expire.
    Tick,
    /// Executes a command once.
    Write(WriteRequest),
    /// Is an entry of the [`Steward`](crate::Steward), who alone knows the form.
    Slots(Bytes),
    /// Has the replicas compared.
    Check(Check),
}

/// A command with what makes it take effect once and in order. Every retry carries the same bytes,
/// except `low`, which may have risen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteRequest {
    /// Who asks.
    pub client: ClientId,
    /// The number of this write among the client's, from 1.
    pub seq: Seq,
    /// Every write of the client with a smaller number has been answered or given up; `low <= seq`.
    pub low: Seq,
    /// Log time after which the write must not take effect any more. Set once.
    pub deadline: LogTime,
    /// The client's previous unanswered write on `slot`; this one waits for it.
    pub after: Option<Seq>,
    /// The home slot: completion record and order belong to it.
    pub slot: Slot,
    /// A `command::Write` in its byte form.
    pub command: Bytes,
}

impl Proposal {
    /// A tick at `stamp`.
    pub const fn tick(stamp: LogTime) -> Self {
        Self { stamp, body: Body::Tick }
    }

    /// A comparison of the replicas at `stamp`.
    pub const fn check(stamp: LogTime, check: Check) -> Self {
        Self { stamp, body: Body::Check(check) }
    }

    /// A write at `stamp`.
    pub const fn write(stamp: LogTime, request: WriteRequest) -> Self {
        Self { stamp, body: Body::Write(request) }
    }

    /// Appends the byte form (docs/state-machine.md, "Log entries").
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.push(match self.body {
            Body::Tick => TICK,
            Body::Write(_) => WRITE,
            Body::Slots(_) => SLOTS,
            Body::Check(_) => CHECK,
        });
        out.extend_from_slice(&self.stamp.0.to_be_bytes());
        if let Body::Slots(payload) = &self.body {
            out.extend_from_slice(payload);
        }
        if let Body::Check(check) = &self.body {
            check.encode(out);
        }
        if let Body::Write(request) = &self.body {
            out.reserve(54 + request.command.len());
            out.extend_from_slice(&request.client.to_bytes());
            out.extend_from_slice(&request.seq.0.to_be_bytes());
            out.extend_from_slice(&request.low.0.to_be_bytes());
            out.extend_from_slice(&request.deadline.0.to_be_bytes());
            out.extend_from_slice(&request.after.map_or(0, Seq::get).to_be_bytes());
            out.extend_from_slice(&request.slot.get().to_be_bytes());
            out.extend_from_slice(&request.command);
        }
    }

    /// The byte form.
    pub fn to_bytes(&self) -> Bytes {
        let command = match &self.body {
            Body::Tick => 0,
            Body::Slots(payload) => payload.len(),
            Body::Check(_) => 32,
            Body::Write(request) => 54 + request.command.len(),
        };
        let mut out = Vec::with_capacity(STAMP.end + command);
        self.encode(&mut out);
        out.into()
    }

    /// Reads the byte form; the command shares `bytes`' buffer and is not looked into.
    ///
    /// # Errors
    /// [`BadBytes`] for an unknown version or kind, a short buffer, or numbers out of range.
    pub fn decode(bytes: &Bytes) -> Result<Self, BadBytes> {
        let mut cursor = Cursor::new(bytes);
        let version = cursor.u8()?;
        if version != VERSION {
            return Err(BadBytes::version("proposal", version, VERSION));
        }
        let kind = cursor.u8()?;
        let stamp = LogTime(cursor.u64()?);
        let body = match kind {
            TICK if cursor.is_empty() => Body::Tick,
            WRITE => Body::Write(decode_request(bytes, &mut cursor)?),
            SLOTS => Body::Slots(bytes.slice(cursor.position()..)),
            CHECK => Body::Check(Check::decode(&mut cursor)?),
            _ => return Err(BadBytes::new("proposal: unknown kind")),
        };
        Ok(Self { stamp, body })
    }

    /// Replaces the stamp of an encoded proposal: a leader stamps what was forwarded to it at the
    /// moment it proposes.
    ///
    /// # Errors
    /// [`BadBytes`] if `encoded` is too short to have a stamp.
    pub fn restamp(encoded: &mut [u8], stamp: LogTime) -> Result<(), BadBytes> {
        let place = encoded.get_mut(STAMP).ok_or(BadBytes::new("proposal: short"))?;
        place.copy_from_slice(&stamp.0.to_be_bytes());
        Ok(())
    }
}

fn decode_request(bytes: &Bytes, cursor: &mut Cursor<'_>) -> Result<WriteRequest, BadBytes> {
    let client = ClientId::from_bytes(cursor.array()?);
    let seq = Seq(cursor.u64()?);
    let low = Seq(cursor.u64()?);
    let deadline = LogTime(cursor.u64()?);
    let after = Some(Seq(cursor.u64()?)).filter(|seq| seq.0 > 0);
    let slot = Slot::new(cursor.u16()?).ok_or(BadBytes::new("proposal: slot out of range"))?;
    if seq.0 == 0 || low > seq || after.is_some_and(|after| after >= seq) {
        return Err(BadBytes::new("proposal: sequence numbers out of order"));
    }
    let command = bytes.slice(cursor.position()..);
    Ok(WriteRequest { client, seq, low, deadline, after, slot, command })
}

#[cfg(test)]
mod tests {
    use kontiki_types::Incarnation;

    use super::*;

    fn request() -> WriteRequest {
        WriteRequest {
            client: ClientId { incarnation: Incarnation(u64::MAX), boot: 3, connection: 9 },
            seq: Seq(7),
            low: Seq(5),
            deadline: LogTime(1 << 50),
            after: Some(Seq(6)),
            slot: Slot::of(b"k"),
            command: Bytes::from_static(b"anything"),
        }
    }

    #[test]
    fn proposals_survive_their_bytes() {
        let write = Proposal::write(LogTime(9), request());
        let first = WriteRequest { seq: Seq(1), low: Seq(0), after: None, ..request() };
        let slots = Proposal { stamp: LogTime(3), body: Body::Slots(Bytes::from_static(b"any")) };
        let first = Proposal::write(LogTime(0), first);
        let check = |before| Proposal::check(LogTime(8), Check { from: 1 << 50, before });
        let checks = [check(None), check(Some((kontiki_types::Index(7), 1 << 100)))];
        for proposal in [Proposal::tick(LogTime(5)), write, first, slots].into_iter().chain(checks)
        {
            assert_eq!(Proposal::decode(&proposal.to_bytes()).unwrap(), proposal);
        }
    }

    #[test]
    fn restamping_changes_only_the_stamp() {
        let mut bytes = Proposal::write(LogTime(9), request()).to_bytes().to_vec();
        Proposal::restamp(&mut bytes, LogTime(77)).unwrap();
        let proposal = Proposal::decode(&bytes.into()).unwrap();
        assert_eq!(proposal, Proposal::write(LogTime(77), request()));
        assert!(Proposal::restamp(&mut [1, 0], LogTime(1)).is_err());
    }

    #[test]
    fn every_cut_and_every_wrong_number_is_refused() {
        let whole = Proposal::write(LogTime(9), request()).to_bytes();
        for end in 0..whole.len() - request().command.len() {
            assert!(Proposal::decode(&whole.slice(..end)).is_err(), "cut at {end}");
        }
        for (at, byte) in [(0, 2), (1, 9)] {
            let mut bytes = whole.to_vec();
            bytes[at] = byte;
            assert!(Proposal::decode(&bytes.into()).is_err(), "byte {at}");
        }
        for wrong in [
            WriteRequest { seq: Seq(0), low: Seq(0), after: None, ..request() },
            WriteRequest { low: Seq(8), ..request() },
            WriteRequest { after: Some(Seq(7)), ..request() },
        ] {
            assert!(Proposal::decode(&Proposal::write(LogTime(9), wrong).to_bytes()).is_err());
        }
    }
}
