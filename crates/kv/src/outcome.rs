//! What came of entries and queries.

use kontiki_types::{ClientId, Index, Seq, Slot};

use crate::bytes_in::BadBytes;
use crate::{Gate, Reply, StoreError};

/// What came of one write of one client, at one entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Whose write.
    pub client: ClientId,
    /// Which of the client's writes.
    pub seq: Seq,
    /// The slot it named as its home.
    pub slot: Slot,
    /// The entry that was applied.
    pub index: Index,
    /// What came of it.
    pub verdict: Verdict,
}

/// The kinds of [`Outcome`].
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It has taken effect exactly once, by this entry or an earlier one, and this is its reply.
    Done(Reply),
    /// This entry had no effect: the write that it names in `after` is missing. Propose it again
    /// once that one is through.
    SentBack,
    /// This entry had no effect; whether an earlier one had is forgotten. The caller must be told
    /// "outcome unknown".
    Unknown,
    /// The client used the number before, for another command. This entry had no effect.
    DigestMismatch,
    /// This entry had no effect: a slot of the command is frozen, or not here. Propose it again
    /// where and when the slot is served, with the same stamp.
    Closed {
        /// The slot.
        slot: Slot,
        /// [`Gate::Frozen`] or [`Gate::Away`].
        gate: Gate,
    },
}

/// The answer to a query.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryAnswer {
    /// The reply, from the state as of the last apply.
    Reply(Reply),
    /// By the caller's clock a key that the query depends on is due, but the log time has not
    /// reached it: propose a [`Tick`](crate::Body::Tick) with that clock, and ask again after it.
    Due,
    /// A slot of the query is frozen, or not here: ask again where and when it is served.
    Closed {
        /// The slot.
        slot: Slot,
        /// [`Gate::Frozen`] or [`Gate::Away`].
        gate: Gate,
    },
}

/// Why a machine cannot go on. The replica must stop serving; reopening replays from the log.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The state engine failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A committed entry is not in a form that this build knows. Skipping it would make this
    /// replica differ from the others.
    #[error("log entry {index}: {source}")]
    Entry {
        /// The entry.
        index: Index,
        /// What is wrong with it.
        source: BadBytes,
    },
    /// The engine's rows are not in a form that this build knows.
    #[error("stored state: {0}")]
    State(#[from] BadBytes),
    /// Entries must come one after another, each once.
    #[error("log entry {found} cannot follow {applied}")]
    Order {
        /// The last applied entry.
        applied: Index,
        /// What came next.
        found: Index,
    },
    /// This state is not that of the group's leader, though the same entries were applied.
    #[error(
        "at entry {at} the state here is not that of the group's leader: {own:032x} instead of \
         {leaders:032x}"
    )]
    Differs {
        /// The entry as of which the states were compared.
        at: Index,
        /// The sum over a part of this state.
        own: u128,
        /// The leader's.
        leaders: u128,
    },
    /// An earlier call failed, so that memory and engine may differ.
    #[error("the state machine has failed before and must be reopened")]
    Failed,
}

impl MachineError {
    /// Whether the stored state is damaged: it must be made anew, from the log or from a peer.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Store(error) => error.is_damage(),
            Self::State(_) => true,
            Self::Entry { .. } | Self::Order { .. } | Self::Differs { .. } | Self::Failed => false,
        }
    }

    /// Whether the state is not that of the group's leader.
    pub fn is_difference(&self) -> bool {
        matches!(self, Self::Differs { .. })
    }
}
