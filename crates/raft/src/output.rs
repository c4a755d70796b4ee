//! What the core asks its driver to do.

use alloc::boxed::Box;
use alloc::vec::Vec;

use kontiki_types::{Index, Member, Term};

use crate::{Entries, Message, SnapshotMeta, WriteBatch};

/// Something for the driver to do. To be done in the order in which it comes; nothing here has to
/// wait for anything else, since the core holds back what must wait.
#[derive(Debug)]
#[must_use = "an output that is not carried out stalls the replica"]
pub enum Output<P> {
    /// Send this message, now. It may be lost, doubled or overtaken.
    Send(Message<P>),
    /// Make this durable, after the batches before it, and give the receipt back.
    Write(WriteBatch<P>),
    /// Apply these entries: committed, durable here, in order, each once. Report
    /// [`Raft::applied`](crate::Raft::applied) when done.
    Apply(Entries<P>),
    /// This read may be served from a state that has applied `index`.
    ReadReady {
        /// What the caller passed to [`Raft::read`](crate::Raft::read).
        token: u64,
        /// The read index.
        index: Index,
    },
    /// This read cannot be confirmed here (the leader changed or is silent). Read again.
    ReadFailed {
        /// What the caller passed to [`Raft::read`](crate::Raft::read).
        token: u64,
    },
    /// Role, term or known leader changed.
    Role {
        /// The role.
        role: Role,
        /// The term.
        term: Term,
        /// The leader of the term, if known.
        leader: Option<Member>,
    },
    /// A follower needs entries that are not in memory any more
    /// ([`Config::log_cache_bytes`](crate::Config::log_cache_bytes)): read them from stable storage
    /// and report [`Raft::entries_read`](crate::Raft::entries_read).
    ReadEntries {
        /// For whom.
        to: Member,
        /// The first.
        from: Index,
        /// At most this many bytes of them, about, but at least one.
        max: usize,
    },
    /// Some follower needs what the log no longer holds, and there is no snapshot that reaches to
    /// its start: build one of what is applied and report
    /// [`Raft::snapshot_built`](crate::Raft::snapshot_built).
    BuildSnapshot,
    /// Read a part of a snapshot and report [`Raft::chunk_read`](crate::Raft::chunk_read).
    ReadChunk {
        /// For whom.
        to: Member,
        /// Which snapshot.
        meta: Box<SnapshotMeta>,
        /// From where.
        offset: u64,
        /// At most this many bytes (fewer only at the end).
        max: usize,
    },
    /// Write a part of a snapshot that arrives, and report
    /// [`Raft::chunk_written`](crate::Raft::chunk_written). Another snapshot than before: what was
    /// staged before is void. Offset 0: it begins, or begins again after a start of the process; what
    /// is there of the very same snapshot, and proven to be, need not come again, and may be reported.
    WriteChunk {
        /// Which snapshot.
        meta: Box<SnapshotMeta>,
        /// Where in it.
        offset: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// All of this snapshot is staged: check its hash, make it the state machine's state durably,
    /// and report [`Raft::snapshot_installed`](crate::Raft::snapshot_installed). No entry comes out
    /// to be applied meanwhile; entries that were handed out before and are not applied yet may be
    /// applied first or dropped.
    InstallSnapshot(Box<SnapshotMeta>),
    /// This replica has left its group, by a committed configuration. Write a durable tombstone
    /// before applying what follows; the replica says and does nothing more.
    Removed,
    /// A write failed: the replica is of no further use. End the process.
    Faulted,
    /// A message was dropped that named another receiver: the sender takes this node for somebody
    /// it is not (its directory was replaced, or the replica removed and added again).
    Mismatch {
        /// Who sent it.
        from: Member,
        /// Whom it was for.
        to: Member,
    },
}

/// What a replica currently is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one (also as a learner).
    Follower,
    /// Asks whether it would be elected (thesis §9.6).
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Has left the group.
    Removed,
    /// Cannot trust its disk.
    Faulted,
}
