//! What replicas say to each other.
//!
//! One variant per kind, with exactly the fields that kind needs. Every message names both ends in
//! full ([`Member`]: node, directory, replica); a replica drops what is not addressed to it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use kontiki_types::{Index, LogId, Member, Term};

use crate::{Entries, SnapshotMeta};

/// A message between two replicas of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<P> {
    /// Who sends it.
    pub from: Member,
    /// Whom it is for.
    pub to: Member,
    /// The sender's term. In a pre-vote, and in a granted answer to one, the term that the
    /// candidate would campaign in.
    pub term: Term,
    /// What it says.
    pub body: Body<P>,
}

/// Identifies the stretch of time for which a leader has replicated to a member without that member
/// being removed in between. Answers carry the session of what they answer; an answer from another
/// session counts for nothing.
pub type Session = u64;

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<P> {
    /// Would you vote for me? Changes nothing at the receiver (thesis §9.6).
    PreVote {
        /// The last entry of the candidate's log.
        last: LogId,
    },
    /// Answer to [`Body::PreVote`].
    PreVoteReply {
        /// Whether the receiver would.
        granted: bool,
    },
    /// Vote for me in this term (§5.2).
    Vote {
        /// The last entry of the candidate's log.
        last: LogId,
        /// The leader itself asked for this election, having given up its lease; so the receiver
        /// need not protect it.
        transfer: bool,
    },
    /// Answer to [`Body::Vote`].
    VoteReply {
        /// Whether the receiver voted for the candidate. Durable when sent.
        granted: bool,
    },
    /// Append these entries after `prev` (§5.3).
    Append {
        /// The replication session.
        session: Session,
        /// The entry before the first of `entries`.
        prev: LogId,
        /// The leader's commit index.
        commit: Index,
        /// Contiguous, the first at `prev.index + 1`.
        entries: Entries<P>,
    },
    /// Answer to [`Body::Append`], and to an installed snapshot.
    AppendReply {
        /// The session of what is answered.
        session: Session,
        /// How it went.
        result: AppendResult,
    },
    /// The leader is there. Never waits for a disk at either end.
    Heartbeat {
        /// The replication session.
        session: Session,
        /// Commit index, as far as the receiver is known to have the entries.
        commit: Index,
        /// Grows with each broadcast; confirms reads, leases and the leader's quorum.
        round: u64,
    },
    /// Answer to [`Body::Heartbeat`].
    HeartbeatReply {
        /// The session of what is answered.
        session: Session,
        /// The round of what is answered.
        round: u64,
        /// The last entry that the receiver holds in memory and knows to match the leader's log.
        /// Not a promise: it need not be durable. Tells the leader what got lost on the way.
        received: Index,
        /// As far as that is durable: makes good for a lost acknowledgement. 0 if the receiver
        /// cannot say.
        matched: Index,
    },
    /// The commit index moved and there is nothing else to send. Not answered.
    Commit {
        /// Commit index, as far as the receiver is known to have the entries.
        commit: Index,
    },
    /// A part of a snapshot.
    Snapshot {
        /// The replication session.
        session: Session,
        /// Which snapshot.
        meta: Box<SnapshotMeta>,
        /// Where in it `data` begins.
        offset: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Answer to [`Body::Snapshot`]; an installed one is answered by [`Body::AppendReply`].
    SnapshotReply {
        /// The session of what is answered.
        session: Session,
        /// Which snapshot: its last entry and its content hash.
        snapshot: Box<(LogId, u128)>,
        /// From where to go on.
        next: u64,
    },
    /// A heartbeat of a leader that has nothing more to do. Who is in exactly this state, and has
    /// nothing to do either, runs no timers until something happens and answers [`Body::Quiet`]; who
    /// is not answers [`Body::HeartbeatReply`].
    Quiesce {
        /// The replication session.
        session: Session,
        /// The last entry of the leader's log.
        last: LogId,
        /// Its commit index.
        commit: Index,
        /// As in [`Body::Heartbeat`].
        round: u64,
    },
    /// Answer to [`Body::Quiesce`]: the sender runs no timers any more. As good as an answer to a
    /// heartbeat of that round.
    Quiet {
        /// The session of what is answered.
        session: Session,
        /// The round of what is answered.
        round: u64,
    },
    /// To the leader: somebody needs the group, or asks whether its leader is still there. Answered
    /// by heartbeats.
    Wake,
    /// Campaign at once (thesis §3.10).
    TimeoutNow,
    /// Which index must I have applied before I may serve reads that wait here? (thesis §6.4)
    ReadIndex {
        /// Chosen by the sender; comes back in the answer.
        id: u64,
    },
    /// Answer to [`Body::ReadIndex`].
    ReadIndexReply {
        /// The id of the question.
        id: u64,
        /// The read index, or `None` if the receiver cannot tell (it leads no more).
        index: Option<Index>,
    },
    /// What you sent is of an old term; this message carries the newer one.
    Stale,
}

/// How an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendResult {
    /// The sender's log is the leader's up to here, and durable.
    Matched(Index),
    /// There is no `prev` in the sender's log.
    Rejected {
        /// The index of that `prev`.
        prev: Index,
        /// The sender's last entry at or before `prev` whose term is not above that of `prev`: the
        /// logs can only agree at or before it (end of §5.3).
        hint: LogId,
    },
    /// The sender has too much in its log that is committed and not applied. It answers heartbeats;
    /// try again.
    Full,
}
