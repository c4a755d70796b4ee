//! A replica, as seen by operators and drivers.

use alloc::sync::Arc;
use alloc::vec::Vec;

use kontiki_types::{Index, LogId, Member, Term};

use crate::{Membership, Role};

/// What a replica knows about itself and, as leader, about the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This replica.
    pub me: Member,
    /// What it is.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader of the term, if known.
    pub leader: Option<Member>,
    /// Known to be committed.
    pub commit: Index,
    /// Reported as applied.
    pub applied: Index,
    /// Durable here.
    pub durable: Index,
    /// The last entry of the log.
    pub last: LogId,
    /// The first entry that the log holds (one after the last, if it holds none).
    pub first: Index,
    /// The configuration in effect (it may not be committed).
    pub membership: Arc<Membership>,
    /// The entry that holds it.
    pub membership_id: LogId,
    /// What the leader knows of each other member; empty elsewhere.
    pub peers: Vec<PeerStatus>,
    /// Bytes appended and not committed.
    pub uncommitted_bytes: u64,
    /// Bytes committed and not applied.
    pub unapplied_bytes: u64,
    /// Bytes of the log, in memory or not.
    pub log_bytes: u64,
    /// Bytes of the log that are in memory; see
    /// [`Config::log_cache_bytes`](crate::Config::log_cache_bytes).
    pub cached_bytes: u64,
    /// Whether it rests ([`Config::quiesce_after`](crate::Config::quiesce_after)).
    pub quiet: bool,
    /// Reads that wait.
    pub waiting_reads: usize,
    /// Messages dropped since the start because they named another receiver, came from a stranger
    /// or were malformed.
    pub dropped_messages: u64,
}

/// What a leader knows of another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The member.
    pub member: Member,
    /// Known to be durable there.
    pub matched: Index,
    /// The next entry to send.
    pub next: Index,
    /// How entries are sent.
    pub state: PeerState,
    /// Bytes sent and not acknowledged.
    pub inflight_bytes: usize,
    /// Whether it has answered within the election timeout.
    pub active: bool,
}

/// How a leader sends entries to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// One message at a time, until it is known where the logs agree.
    Probe,
    /// Pipelined.
    Replicate,
    /// By snapshot; so far acknowledged.
    Snapshot {
        /// Bytes acknowledged.
        offset: u64,
        /// Bytes in all.
        bytes: u64,
    },
}
