//! Slowing the writers of slots that are on their way out, when they outrun the copy.
//!
//! The leader of the source takes so many bytes a second of writes to such slots, and has the others
//! asked again a little later, as while there is no leader: callers wait longer, and hear nothing of
//! it. It ends by itself unless it is asked for again.

use std::time::Duration;

use bytes::Bytes;
use kontiki_kv::command::Write;
use kontiki_kv::{Body, Proposal};
use kontiki_shard::SlotSet;
use kontiki_types::Instant;

/// Bytes of writes a second to all slots of a move: a sixth of what a move copies, so that what is
/// left gets small in few rounds.
const BYTES_PER_SECOND: u64 = 8 << 20;

/// So much may be taken at once after a pause.
const BURST: Duration = Duration::from_millis(20);

/// How long it lasts after it was last asked for.
const LASTS: Duration = Duration::from_secs(1);

/// The slots of one move.
#[derive(Debug)]
struct Slowed {
    slots: SlotSet,
    until: Instant,
    /// What was taken is paid for by then.
    paid_at: Instant,
}

/// All slots of a group whose writers are slowed.
#[derive(Debug, Default)]
pub(super) struct Slow {
    moves: Vec<Slowed>,
    /// Writes that had to be asked again, each time.
    held: u64,
}

impl Slow {
    /// Slows the writers of `slots` from here on.
    pub(super) fn begin(&mut self, slots: SlotSet, now: Instant) {
        let until = now + LASTS;
        match self.moves.iter_mut().find(|slowed| slowed.slots == slots) {
            Some(slowed) => slowed.until = until,
            None => self.moves.push(Slowed { slots, until, paid_at: now }),
        }
    }

    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Whether a write may go into the log now. Costs nothing while nobody is slowed.
    pub(super) fn admits(&mut self, proposal: &Bytes, now: Instant) -> bool {
        if self.moves.is_empty() {
            return true;
        }
        self.moves.retain(|slowed| slowed.until > now);
        let Ok(Proposal { body: Body::Write(request), .. }) = Proposal::decode(proposal) else {
            return true;
        };
        let found = self.moves.iter_mut().find(|slowed| slowed.slots.contains(request.slot));
        let Some(slowed) = found else { return true };
        if matches!(Write::decode(&request.command), Ok(Write::Steward { .. })) {
            // It names no key; it may be what ends the move.
            return true;
        }
        if slowed.paid_at > now + BURST {
            self.held += 1;
            return false;
        }
        let bytes = request.command.len() as u64;
        let cost = Duration::from_micros(bytes.saturating_mul(1_000_000) / BYTES_PER_SECOND);
        slowed.paid_at = slowed.paid_at.max(now) + cost;
        true
    }
}

#[cfg(test)]
mod tests {
    use kontiki_kv::WriteRequest;
    use kontiki_types::{ClientId, LogTime, Seq, Slot};

    use super::*;

    fn proposal(slot: Slot, write: &Write) -> Bytes {
        let mut command = Vec::new();
        write.encode(&mut command);
        let request = WriteRequest {
            client: ClientId::default(),
            seq: Seq(1),
            low: Seq(1),
            deadline: LogTime(1),
            after: None,
            slot,
            command: command.into(),
        };
        Proposal::write(LogTime(0), request).to_bytes()
    }

    fn append(slot: Slot, bytes: usize) -> Bytes {
        let value = Bytes::from(vec![0; bytes]);
        proposal(slot, &Write::Append { key: Bytes::from_static(b"k"), value })
    }

    #[test]
    fn writers_of_slowed_slots_keep_to_the_rate_and_others_do_not_notice() {
        let slot = |number| Slot::new(number).unwrap();
        let mut slow = Slow::default();
        let at = |millis: u64| Instant(millis * 1000);
        assert!(slow.admits(&append(slot(5), 1 << 20), at(0)));
        slow.begin(SlotSet::range(slot(5), slot(9)), at(0));
        let mut taken = 0;
        for millis in 0..900 {
            while slow.admits(&append(slot(7), 64 << 10), at(millis)) {
                taken += 64 << 10;
            }
            assert!(slow.admits(&append(slot(10), 1 << 20), at(millis)));
        }
        let expected = BYTES_PER_SECOND * 920 / 1000;
        assert!((expected..expected + (128 << 10)).contains(&taken), "{taken} of {expected}");
        assert!(slow.held() >= 900);
        // What ends a move is never held.
        let call = Write::Steward { call: Bytes::from_static(b"a") };
        assert!(slow.admits(&proposal(slot(5), &call), at(899)));
        // It is over unless it was asked for again.
        assert!(!slow.admits(&append(slot(7), 64 << 10), at(899)));
        assert!(slow.admits(&append(slot(7), 64 << 20), at(1001)));
        assert!(slow.admits(&append(slot(7), 64 << 20), at(1001)));
    }
}
