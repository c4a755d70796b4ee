//! Stamps of writes: client id, sequence numbers, low marks and deadlines (exactly-once).
//!
//! Invariants
//! - A sequence number is given out once.
//! - `low` of a stamp is at most every sequence number that still waits for its answer when the
//!   stamp is made, so that no record is dropped that a retry may still ask for.
//! - A retry uses the stamp of the first attempt.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kontiki_net::proto::Session;
use kontiki_types::{ClientId, Incarnation};

/// The source of a client's stamps.
pub(crate) struct Stamps {
    client_id: Bytes,
    state: Mutex<State>,
}

struct State {
    next: u64,
    waiting: BTreeSet<u64>,
    log_time_ms: u64,
    /// When `log_time_ms` was heard; `None` if it must be asked for again.
    heard: Option<Instant>,
    retention: Duration,
}

/// A stamp in use. Dropped when the answer is there or nobody waits for it any more.
pub(crate) struct Stamp<'a> {
    stamps: &'a Stamps,
    pub(crate) session: Session,
}

impl Stamps {
    /// Stamps of a new client: its id is random, so that it is like no other's.
    pub(crate) fn new(log_time_ms: u64, retention: Duration) -> Result<Self, getrandom::Error> {
        let mut id = [0; ClientId::BYTES];
        getrandom::fill(&mut id)?;
        Ok(Self::with_id(ClientId::from_bytes(&id), log_time_ms, retention))
    }

    /// Stamps of a new client that has asked for no log time yet: it must before its first write.
    pub(crate) fn unopened() -> Result<Self, getrandom::Error> {
        let stamps = Self::new(0, Duration::ZERO)?;
        stamps.forget();
        Ok(stamps)
    }

    fn with_id(id: ClientId, log_time_ms: u64, retention: Duration) -> Self {
        // Incarnation 0 stands for "none" elsewhere.
        let id = ClientId { incarnation: Incarnation(id.incarnation.0.max(1)), ..id };
        Self {
            client_id: Bytes::copy_from_slice(&id.to_bytes()),
            state: Mutex::new(State {
                next: 1,
                waiting: BTreeSet::new(),
                log_time_ms,
                heard: Some(Instant::now()),
                retention,
            }),
        }
    }

    /// The stamp of a new write.
    pub(crate) fn take(&self) -> Stamp<'_> {
        let mut state = self.lock();
        let seq = state.next;
        state.next += 1;
        state.waiting.insert(seq);
        let low = state.waiting.first().copied().unwrap_or(seq);
        let deadline_ms = state.log_time_ms.saturating_add(millis(state.retention));
        let client_id = self.client_id.clone();
        Stamp { stamps: self, session: Session { client_id, seq, low, deadline_ms } }
    }

    /// Whether what is known of the log time is so old that a deadline made from it might be over
    /// before the write arrives.
    pub(crate) fn is_stale(&self, timeout: Duration) -> bool {
        let state = self.lock();
        let usable = state.retention.saturating_sub(timeout.saturating_mul(2));
        let usable = usable.max(state.retention / 4).min(state.retention / 2);
        state.heard.is_none_or(|heard| heard.elapsed() >= usable)
    }

    /// A deadline turned out to be over: the log time has leapt.
    pub(crate) fn forget(&self) {
        self.lock().heard = None;
    }

    /// A node told the log time.
    pub(crate) fn heard(&self, log_time_ms: u64) {
        let mut state = self.lock();
        if log_time_ms >= state.log_time_ms {
            state.log_time_ms = log_time_ms;
            state.heard = Some(Instant::now());
        }
    }

    /// A node told the retention.
    pub(crate) fn retain(&self, retention: Duration) {
        self.lock().retention = retention;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stamp<'_> {
    fn drop(&mut self) {
        self.stamps.lock().waiting.remove(&self.session.seq);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps() -> Stamps {
        Stamps::new(1000, Duration::from_secs(60)).expect("random numbers")
    }

    #[test]
    fn low_is_the_lowest_that_waits() {
        let stamps = stamps();
        let first = stamps.take();
        let second = stamps.take();
        assert_eq!((first.session.seq, first.session.low), (1, 1));
        assert_eq!((second.session.seq, second.session.low), (2, 1));
        drop(first);
        assert_eq!(stamps.take().session.low, 2);
        drop(second);
        let last = stamps.take();
        assert_eq!((last.session.seq, last.session.low), (4, 4));
    }

    #[test]
    fn deadlines_follow_the_log_time_heard_and_it_never_goes_back() {
        let stamps = stamps();
        assert_eq!(stamps.take().session.deadline_ms, 61_000);
        stamps.heard(5000);
        stamps.heard(4000);
        assert_eq!(stamps.take().session.deadline_ms, 65_000);
    }

    #[test]
    fn clients_have_ids_of_their_own() {
        let (one, other) = (stamps(), stamps());
        let id = one.take().session.client_id.clone();
        assert_eq!(id.len(), ClientId::BYTES);
        assert_ne!(id, other.take().session.client_id);
        assert_eq!(id, one.take().session.client_id);
    }

    #[test]
    fn a_log_time_heard_long_ago_is_asked_for_again() {
        let stamps = Stamps::new(0, Duration::ZERO).expect("random numbers");
        assert!(stamps.is_stale(Duration::from_secs(10)));
        stamps.retain(Duration::from_secs(600));
        assert!(!stamps.is_stale(Duration::from_secs(10)));
        // A timeout longer than the retention does not ask before every write.
        assert!(!stamps.is_stale(Duration::from_secs(1000)));
    }
}
