//! The steps of slots on their way, as entries of logs tell of them.

use bytes::Bytes;
use kontiki_kv::command::Write;
use kontiki_kv::{Body, Proposal};
use kontiki_shard::{Call, GroupOp, Op, Tag, Then};
use kontiki_types::{GroupId, NodeId};

/// What an entry does for a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MoveStep {
    /// The controller opens moves.
    Plan,
    /// The source begins to note what changes.
    ExportOpen,
    /// The target gets an empty staging area.
    ImportOpen,
    /// A part of the content arrives.
    Chunk,
    /// The slots stand still.
    Freeze,
    /// Everything has arrived.
    Complete,
    /// The slots change hands.
    Commit,
    /// The attempt is given up, and another follows.
    Retry,
    /// The move is given up.
    Cancel,
    /// The target serves the slots.
    Activate,
    /// The source lets go of the slots.
    Drop,
    /// The source serves the slots again.
    Unfreeze,
    /// The target forgets what had arrived.
    Discard,
    /// A group says that its part is over.
    Closed,
    /// Groups come, leave or are wanted elsewhere.
    Groups,
}

impl MoveStep {
    /// All steps.
    pub const ALL: [Self; 15] = [
        Self::Plan,
        Self::ExportOpen,
        Self::ImportOpen,
        Self::Chunk,
        Self::Freeze,
        Self::Complete,
        Self::Commit,
        Self::Retry,
        Self::Cancel,
        Self::Activate,
        Self::Drop,
        Self::Unfreeze,
        Self::Discard,
        Self::Closed,
        Self::Groups,
    ];

    /// What the entry with this payload does, if it is one of these, and of which attempt, if it
    /// names one.
    pub(super) fn of(payload: &Bytes) -> Option<(Self, Option<Tag>)> {
        let call = match Proposal::decode(payload).ok()?.body {
            Body::Slots(call) => call,
            Body::Write(request) => match Write::decode(&request.command).ok()? {
                Write::Steward { call } => call,
                _ => return None,
            },
            Body::Tick | Body::Check(_) => return None,
        };
        let call = Call::from_bytes(&call).ok()?;
        let tag = match &call {
            Call::Decide {
                op: Op::Commit { tag } | Op::Abort { tag, .. } | Op::Closed { tag, .. },
            } => Some(*tag),
            Call::Carry { command } => Some(command.tag),
            Call::Decide { .. } | Call::Share { .. } => None,
        };
        let step = match call {
            Call::Decide { op } => match op {
                Op::Plan { .. } => Self::Plan,
                Op::Commit { .. } => Self::Commit,
                Op::Abort { then: Then::Retry, .. } => Self::Retry,
                Op::Abort { then: Then::Cancel, .. } => Self::Cancel,
                Op::Closed { .. } => Self::Closed,
                _ => Self::Groups,
            },
            Call::Carry { command } => match command.op {
                GroupOp::ExportOpen { .. } => Self::ExportOpen,
                GroupOp::Freeze => Self::Freeze,
                GroupOp::Unfreeze { .. } => Self::Unfreeze,
                GroupOp::Drop { .. } => Self::Drop,
                GroupOp::ImportOpen { .. } => Self::ImportOpen,
                GroupOp::Chunk { .. } => Self::Chunk,
                GroupOp::ImportComplete { .. } => Self::Complete,
                GroupOp::Activate { .. } => Self::Activate,
                GroupOp::Discard { .. } => Self::Discard,
            },
            Call::Share { .. } => Self::Groups,
        };
        Some((step, tag))
    }
}

/// A step that was applied for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stepped {
    /// Which.
    pub step: MoveStep,
    /// In whose log.
    pub group: GroupId,
    /// By whose replica.
    pub node: NodeId,
    /// Of which attempt, if it names one.
    pub tag: Option<Tag>,
}
