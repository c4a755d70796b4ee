//! What a leader knows of one other member, and how it sends to it.
//!
//! ```text
//!            matched            rejected, lost, full
//!   Probe ──────────▶ Replicate ──────────▶ Probe        the log no longer holds what is needed
//!     ▲                                                  from any state ──▶ Snapshot
//!     └─────────────────────── matched ◀──────────────────────────────────────┘
//! ```

use alloc::collections::VecDeque;

use kontiki_types::{Index, Instant, Member};

use crate::{Config, PeerState, PeerStatus, Session};

use crate::snapshot::Transfer;

pub(crate) struct Progress {
    pub(crate) member: Member,
    /// Answers of another session count for nothing.
    pub(crate) session: Session,
    /// Counts towards the majority of the voters.
    pub(crate) voter: bool,
    /// Counts towards the majority of the outgoing voters.
    pub(crate) outgoing: bool,
    /// Left the configuration; is told so until then, and counts for nothing.
    pub(crate) departing: Option<Instant>,
    /// Known to be durable there. Never decreases within a session.
    pub(crate) matched: Index,
    /// The next entry to send. Invariant: `matched < next`.
    pub(crate) next: Index,
    pub(crate) state: State,
    /// What of `Replicate` is sent and not acknowledged: last index and bytes of each append.
    inflight: VecDeque<(Index, usize)>,
    inflight_bytes: usize,
    /// Entries for it are being read from stable storage.
    pub(crate) reading: bool,
    /// The commit index it has been told last.
    pub(crate) commit_sent: Index,
    /// Somebody there waits for this to be committed.
    pub(crate) awaited: Index,
    /// The latest heartbeat round it has answered.
    pub(crate) acked_round: u64,
    /// The round in which it last said that it rests.
    pub(crate) quiet_round: u64,
    /// When it last answered anything.
    pub(crate) acked_at: Instant,
    /// The round at the time of the last append to it: an answer to a later round tells whether
    /// that append arrived.
    pub(crate) sent_round: u64,
}

pub(crate) enum State {
    /// `waiting`: a probe that ends at this index is under way; or the member asked for a pause,
    /// and is asked again when it shows that it is there.
    Probe {
        waiting: Option<Index>,
    },
    Replicate,
    /// `None` while there is no snapshot to send yet.
    Snapshot(Option<Transfer>),
}

impl Progress {
    /// Whether the member has the log up to `last`.
    pub(crate) fn has_log(&self, last: Index) -> bool {
        matches!(self.state, State::Replicate) && self.matched == last
    }

    pub(crate) fn new(member: Member, session: Session, next: Index, now: Instant) -> Self {
        Self {
            member,
            session,
            voter: false,
            outgoing: false,
            departing: None,
            matched: Index(0),
            next,
            state: State::Probe { waiting: None },
            inflight: VecDeque::new(),
            inflight_bytes: 0,
            reading: false,
            commit_sent: Index(0),
            awaited: Index(0),
            acked_round: 0,
            quiet_round: 0,
            acked_at: now,
            sent_round: 0,
        }
    }

    /// Begins again, one message at a time, from `next`.
    pub(crate) fn probe(&mut self, next: Index) {
        self.next = next.max(self.matched.next());
        self.clear_inflight();
        self.state = State::Probe { waiting: None };
    }

    /// Begins again after the next sign of life.
    pub(crate) fn pause(&mut self) {
        self.probe(self.matched.next());
        self.state = State::Probe { waiting: Some(Index(u64::MAX)) };
    }

    /// The log there is ours up to `index`, durably. Returns whether that is news.
    pub(crate) fn matched(&mut self, index: Index) -> bool {
        while let Some(&(last, bytes)) = self.inflight.front() {
            if last > index {
                break;
            }
            self.inflight.pop_front();
            self.inflight_bytes = self.inflight_bytes.saturating_sub(bytes);
        }
        let news = index > self.matched;
        self.matched = self.matched.max(index);
        self.next = self.next.max(self.matched.next());
        news
    }

    pub(crate) fn replicate(&mut self) {
        self.next = self.matched.next();
        self.clear_inflight();
        self.state = State::Replicate;
    }

    pub(crate) fn window_open(&self, config: &Config) -> bool {
        self.inflight.len() < config.max_inflight_appends
            && self.inflight_bytes < config.max_inflight_bytes
    }

    pub(crate) fn sent(&mut self, last: Index, bytes: usize) {
        self.inflight.push_back((last, bytes));
        self.inflight_bytes = self.inflight_bytes.saturating_add(bytes);
        self.next = last.next();
    }

    pub(crate) fn clear_inflight(&mut self) {
        self.inflight.clear();
        self.inflight_bytes = 0;
    }

    pub(crate) fn status(&self, active: bool) -> PeerStatus {
        PeerStatus {
            member: self.member,
            matched: self.matched,
            next: self.next,
            state: match &self.state {
                State::Probe { .. } => PeerState::Probe,
                State::Replicate => PeerState::Replicate,
                State::Snapshot(transfer) => transfer.as_ref().map_or(
                    PeerState::Snapshot { offset: 0, bytes: 0 },
                    |transfer| PeerState::Snapshot {
                        offset: transfer.offset,
                        bytes: transfer.meta.bytes,
                    },
                ),
            },
            inflight_bytes: self.inflight_bytes,
            active,
        }
    }
}
