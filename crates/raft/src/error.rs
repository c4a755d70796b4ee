//! What the core refuses, and why.

use core::fmt;

use kontiki_types::{Index, LogId, Member};

/// A call that had no effect. Gives back what was passed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Refused<P> {
    /// What was passed.
    pub payload: P,
    /// Why it was refused.
    pub reason: Reason,
}

/// Why a proposal or a read was refused. In every case it had no effect and never will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Another replica leads, or none does that is known. Try there, or later.
    NotLeader {
        /// Who leads.
        leader: Option<Member>,
    },
    /// A bound of [`Config`](crate::Config) is reached. Try again when something has been
    /// committed and applied.
    Full,
    /// The entry alone is beyond what the log may hold uncommitted. Never try again.
    TooLarge,
    /// The storage is full; see [`Raft::set_storage_full`](crate::Raft::set_storage_full).
    StorageFull,
    /// Leadership is being transferred. Try again shortly.
    Transferring,
    /// This replica has left the group.
    Removed,
    /// This replica cannot trust its disk.
    Faulted,
}

impl<P> fmt::Debug for Refused<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Refused").field(&self.reason).finish()
    }
}

impl<P> fmt::Display for Refused<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<P> core::error::Error for Refused<P> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: Some(leader) } => write!(f, "not the leader, {leader} is"),
            Self::NotLeader { leader: None } => f.write_str("no leader is known"),
            Self::Full => f.write_str("too much is waiting"),
            Self::TooLarge => f.write_str("the entry is too large"),
            Self::StorageFull => f.write_str("the storage is full"),
            Self::Transferring => f.write_str("leadership is being transferred"),
            Self::Removed => f.write_str("this replica has left the group"),
            Self::Faulted => f.write_str("this replica cannot trust its disk"),
        }
    }
}

impl core::error::Error for Reason {}

/// Why a change of configuration was refused. It had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// This replica does not lead (or cannot accept anything, see the reason).
    Refused(Reason),
    /// The leader has not committed an entry of its term yet. Try again shortly.
    NotReady,
    /// Another change is not finished. Try again when it is.
    InProgress,
    /// The configuration to replace is not the current one (any more).
    Replaced {
        /// The current one.
        current: LogId,
    },
    /// No voters, too many members, or a node named twice.
    Malformed,
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => reason.fmt(f),
            Self::NotReady => f.write_str("the leader has not committed an entry of its term yet"),
            Self::InProgress => f.write_str("another change of configuration is under way"),
            Self::Replaced { current } => {
                write!(f, "the configuration to replace is not the current one, {current}")
            }
            Self::Malformed => {
                f.write_str("no voters, too many members, or a node named more than once")
            }
        }
    }
}

impl core::error::Error for ChangeError {}

/// Why a leadership transfer was refused. It had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// This replica does not lead (or cannot, see the reason).
    Refused(Reason),
    /// The target is not a voter of the group.
    NotVoter,
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => reason.fmt(f),
            Self::NotVoter => f.write_str("the target is not a voter of the group"),
        }
    }
}

impl core::error::Error for TransferError {}

/// Why a replica cannot start from what was recovered. Its storage is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartError {
    /// The entries do not follow on from the base or from each other, or their terms decrease.
    Gap {
        /// Where an entry was expected.
        at: Index,
    },
    /// An entry or the base has a term above the hard state's.
    TermAhead {
        /// That entry.
        id: LogId,
    },
    /// The state machine has applied what the log does not reach, or less than the log's start.
    Applied {
        /// Where the log begins.
        base: Index,
        /// Where the log ends.
        last: Index,
        /// What was applied.
        applied: Index,
    },
    /// A configuration in the log is malformed.
    Membership {
        /// The entry that holds it.
        id: LogId,
    },
    /// The configuration of timing or limits makes no sense (a zero, or a heartbeat longer than a
    /// third of the election timeout).
    Config,
}

impl fmt::Display for RestartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { at } => write!(f, "the log has no valid entry at {at}"),
            Self::TermAhead { id } => write!(f, "entry {id} is ahead of the stored term"),
            Self::Applied { base, last, applied } => write!(
                f,
                "the state machine has applied {applied}, the log reaches from after {base} to {last}"
            ),
            Self::Membership { id } => write!(f, "the configuration at {id} is malformed"),
            Self::Config => f.write_str("timing or limits make no sense"),
        }
    }
}

impl core::error::Error for RestartError {}
