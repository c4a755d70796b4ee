//! What a leader does next for a move.
//!
//! A function of replicated state and of what others have answered, without a memory of its own:
//! so any leader of the group, at any time, goes on where the one before stopped. Whoever hosts it
//! calls [`source_step`] or [`target_step`] for each move that concerns its group, carries the
//! [`Step`] out, and calls again with what came of it. A step that is lost is given again; one that
//! comes late, or twice, has no effect where it arrives.
//!
//! A host that does not want to wait for each chunk's round trip counts a chunk that it sent as
//! arrived, in the [`ImportStatus`](crate::ImportStatus) that it passes, and asks again when
//! nothing has been heard for a while.
//!
//! | phase at the controller | the source's leader | the target's leader |
//! |---|---|---|
//! | planned | `ExportOpen`; sends `ImportOpen`, rows, changes; `Freeze`; sends the last changes, records, `ImportComplete`; asks for the commit | proposes what it is sent |
//! | committed | `Drop`, says so | `Activate`, says so |
//! | another attempt planned | `Unfreeze`, then as above | drops the old staging area |
//! | cancelled | `Unfreeze`, says so | `Discard`, says so |
//!
//! Missing on purpose: writers that outrun the copy are the host's to slow down; a move that never gets
//! near the freeze is given up by it, as late.

mod source;
mod stage;
mod target;

use crate::controller::{Aborted, Committed, Op};
use crate::{GroupCommand, MoveId, Tag};

pub use source::{Source, complete_step, source_step};
pub use stage::{Stage, source_stage, target_stage};
pub use target::{activation, target_step};

/// What to do next for a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Propose this to the own group.
    Propose(GroupCommand),
    /// Send this to the leader of the target, who proposes it.
    Send(GroupCommand),
    /// Have the controller apply this, whatever comes of it, and then ask it about the move.
    Tell(Op),
    /// Ask the target's leader about this attempt.
    AskTarget(Tag),
    /// Ask the controller about the move: what is known of it is out of date.
    AskController(MoveId),
    /// Nothing, until something changes here or at the controller.
    Wait,
    /// Nothing any more: this side's part is over, and the controller knows.
    Over,
}

/// How much at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a chunk's payload, about; at most [`crate::CHUNK_BYTES_MAX`].
    pub chunk_bytes: usize,
    /// The slots are frozen when changes of at most this many bytes are left to send.
    pub freeze_bytes: u64,
}

impl Default for Limits {
    /// Chunks of 256 KiB, and a freeze with 64 KiB to go: a few milliseconds of network and disk.
    fn default() -> Self {
        Self { chunk_bytes: 256 << 10, freeze_bytes: 64 << 10 }
    }
}

/// Proofs of what has not happened, for bugs planted on purpose.
fn forged(tag: Tag) -> (Committed, Aborted) {
    (Committed::forged(tag), Aborted::forged(tag))
}
