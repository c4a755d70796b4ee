//! What the controller's log holds, and what comes of it.

use kontiki_types::{ClientId, Epoch, GroupId, Incarnation, LogId, LogTime, NodeId, Seq, Slot};

use super::moves::{Side, Why};
use crate::wire::{BadBytes, from_bytes, to_bytes, wire};
use crate::{GroupRef, MoveId, SlotSet, Tag};

/// Version of the byte form of commands.
const VERSION: u8 = 1;

/// An entry of the controller's log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Command {
    /// The leader's clock; log time is the larger of it and the log time before.
    pub stamp: LogTime,
    /// Whose request it is; [`Op::needs_session`] says which operations must have it.
    pub session: Option<Session>,
    /// What to do.
    pub op: Op,
}

/// What makes a request take effect once: its retries have the same three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session {
    /// Who asks. One request at a time.
    pub client: ClientId,
    /// Which of its requests, rising.
    pub seq: Seq,
    /// Log time after which it must not take effect any more. Never earlier than that of the
    /// client's request before.
    pub deadline: LogTime,
}

/// An operation of the controller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Adds groups, without slots, with the nodes that are to have their replicas. A group that
    /// was about to leave stays.
    Join {
        /// The groups; none may be group 0.
        groups: Vec<(GroupId, Vec<NodeId>)>,
    },
    /// Makes groups give all their slots away; each is gone when it has none.
    Leave {
        /// The groups; another one must stay.
        groups: Vec<GroupId>,
    },
    /// Sets the nodes that are wanted for a group.
    Want {
        /// The group.
        group: GroupRef,
        /// The wish that it replaces: another one in effect refuses it (PROTOCOL 16).
        instead_of: Vec<NodeId>,
        /// The wish.
        nodes: Vec<NodeId>,
    },
    /// Notes the members that a group's own log names.
    Observe {
        /// The group.
        group: GroupRef,
        /// Where its log has the configuration: an older one than is known changes nothing.
        at: LogId,
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// Opens moves: MovePlanned. Slots without an owner change hands at once, since there is
    /// nothing to copy. All or none.
    Plan {
        /// The configuration on which the plan was made; in another one it is refused.
        at: Option<Epoch>,
        /// Which slots are to go to whom. The slots of each part have one owner.
        parts: Vec<(SlotSet, GroupId)>,
    },
    /// MoveCommit: the slots change hands, if the attempt is the current one. The one entry at
    /// which they do.
    Commit {
        /// The attempt.
        tag: Tag,
    },
    /// MoveAbort: the attempt is given up, if it is the current one and not committed.
    Abort {
        /// The attempt.
        tag: Tag,
        /// Whether another attempt follows.
        then: Then,
        /// Why.
        why: Why,
    },
    /// The source finds that what moves is more than is frozen at a time: some of the slots stay in
    /// this move, as another attempt, and the others become a move of their own, which waits for its
    /// turn.
    Split {
        /// The attempt, which must be the current one and not decided.
        tag: Tag,
        /// The slots that stay: some of the move's, not all.
        keep: SlotSet,
    },
    /// A group says that its part of a move is over: nothing that comes late about it can have an
    /// effect there.
    Closed {
        /// The attempt with which the move ended.
        tag: Tag,
        /// Which group.
        side: Side,
    },
    /// A node's directory belongs to the cluster no more. No group may want it or have it.
    Forget {
        /// The node.
        node: NodeId,
        /// Its directory: another one of the same id is another node.
        incarnation: Incarnation,
    },
}

/// What follows a [`Op::Abort`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Then {
    /// Another attempt.
    Retry,
    /// Nothing.
    Cancel,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// It has taken effect.
    Done {
        /// The configuration after it.
        epoch: Epoch,
    },
    /// The moves have been opened: as many as parts, from this id on.
    Planned {
        /// The first.
        first: MoveId,
        /// The configuration after it.
        epoch: Epoch,
    },
    /// It had no effect, and never will.
    Refused {
        /// Why.
        why: Refusal,
    },
    /// This copy of it had no effect; whether an earlier one had is forgotten.
    Unknown,
    /// It had no effect: too many clients are remembered. Try again later.
    Busy,
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The request must have a session.
    #[error("the request has no session")]
    NoSession,
    /// Group 0 is the controller; a request must name something.
    #[error("the request names nothing, or group 0, or a group twice")]
    Malformed,
    /// There is a group with this id.
    #[error("group {group} is there already")]
    GroupExists {
        /// The group.
        group: GroupId,
    },
    /// There is no such group, or it is another life of its id.
    #[error("there is no group {group}")]
    NoGroup {
        /// The group.
        group: GroupId,
    },
    /// The group gives its slots away and takes none.
    #[error("group {group} is about to leave")]
    Leaving {
        /// The group.
        group: GroupId,
    },
    /// Somebody has to keep the slots.
    #[error("no group would stay to take the slots")]
    LastGroup,
    /// Another wish is in effect.
    #[error("the nodes wanted for group {group} have been changed meanwhile")]
    WishChanged {
        /// The group.
        group: GroupId,
    },
    /// The plan was made on another configuration.
    #[error("the configuration is {epoch}, not the one of the plan")]
    OtherEpoch {
        /// The current one.
        epoch: Epoch,
    },
    /// The slot is in a move already.
    #[error("slot {slot} is in move {id}")]
    InMove {
        /// The slot.
        slot: Slot,
        /// The move.
        id: MoveId,
    },
    /// The slots of one part have more than one owner.
    #[error("slot {slot} has another owner than those before it")]
    TwoOwners {
        /// The first slot with another one.
        slot: Slot,
    },
    /// The slots are there already.
    #[error("group {group} has the slots")]
    AlreadyThere {
        /// The group.
        group: GroupId,
    },
    /// A limit is reached.
    #[error("more than {most} {what}")]
    TooMany {
        /// Of what.
        what: What,
        /// The limit.
        most: u64,
    },
    /// The move is unknown: it has ended, or never was.
    #[error("move {id} is not under way")]
    NoMove {
        /// The move.
        id: MoveId,
    },
    /// Another attempt is the current one, or the move has been committed or cancelled.
    #[error("the attempt of move {id} is not the current one, or the move is decided")]
    NotCurrent {
        /// The move.
        id: MoveId,
    },
    /// The node is wanted for a group, or has a replica of it.
    #[error("node {node} is needed by group {group}: drain it first")]
    NodeInUse {
        /// The node.
        node: NodeId,
        /// One of its groups.
        group: GroupId,
    },
}

/// What there may be only so many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// Groups.
    Groups,
    /// Nodes of a group.
    Nodes,
    /// Moves under way.
    Moves,
    /// Attempts of a move.
    Attempts,
}

impl core::fmt::Display for What {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Groups => "groups",
            Self::Nodes => "nodes of a group",
            Self::Moves => "moves under way",
            Self::Attempts => "attempts of a move",
        })
    }
}

wire!(struct Command { stamp, session, op });
wire!(struct Session { client, seq, deadline });
wire!(enum Op {
    1 => Join { groups },
    2 => Leave { groups },
    3 => Want { group, instead_of, nodes },
    4 => Observe { group, at, nodes },
    5 => Plan { at, parts },
    6 => Commit { tag },
    7 => Abort { tag, then, why },
    8 => Closed { tag, side },
    9 => Forget { node, incarnation },
    10 => Split { tag, keep },
});
wire!(enum Then { 1 => Retry {}, 2 => Cancel {} });
wire!(enum Reply {
    1 => Done { epoch },
    2 => Planned { first, epoch },
    3 => Refused { why },
    4 => Unknown {},
    5 => Busy {},
});
wire!(enum Refusal {
    1 => NoSession {},
    2 => Malformed {},
    3 => GroupExists { group },
    4 => NoGroup { group },
    5 => Leaving { group },
    6 => LastGroup {},
    7 => WishChanged { group },
    8 => OtherEpoch { epoch },
    9 => InMove { slot, id },
    10 => TwoOwners { slot },
    11 => AlreadyThere { group },
    12 => TooMany { what, most },
    13 => NoMove { id },
    14 => NotCurrent { id },
    15 => NodeInUse { node, group },
});
wire!(enum What { 1 => Groups {}, 2 => Nodes {}, 3 => Moves {}, 4 => Attempts {} });

impl Op {
    /// Whether it is an operator's request, which only a [`Session`] makes take effect once. The
    /// others take effect once by what they name.
    pub fn needs_session(&self) -> bool {
        matches!(
            self,
            Self::Join { .. } | Self::Leave { .. } | Self::Want { .. } | Self::Plan { .. }
        )
    }
}

impl Command {
    /// The byte form.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(VERSION, self)
    }

    /// Reads the byte form.
    ///
    /// # Errors
    /// [`BadBytes`] for anything else than [`Command::to_bytes`] gives.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadBytes> {
        from_bytes(VERSION, bytes)
    }
}
