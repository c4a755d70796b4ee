//! Where a move is, as the leader of one of its two groups sees it: for people, and for tests that
//! stop a move at a named stage. Nothing is decided by it.

use core::fmt;

use super::Source;
use crate::controller::{Move, Phase};
use crate::holdings::{Cursor, Holdings, ImportStage};

/// What has happened of a move; what is next for it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The controller has planned it. At the source, which opens its export next.
    Planned,
    /// Changes are remembered at the source; the target is to open its staging area.
    Opened,
    /// Rows are sent.
    Copying,
    /// All rows have been sent; what has changed meanwhile is sent.
    Following,
    /// The slots stand still; the rest is sent.
    Frozen,
    /// Everything is at the target and adds up; the controller is to commit.
    Complete,
    /// Something is wrong with what is at the target; the attempt is to be given up.
    Failed,
    /// The slots are the target's. The target is to serve them, the source to drop them.
    Committed,
    /// At the source: the rows are dead. The controller is to be told.
    Dropped,
    /// At the target: the slots are served. The controller is to be told.
    Activated,
    /// The attempt is given up; the source is to serve the slots again, the target to forget them.
    Aborted,
    /// That has been done. The controller is to be told.
    Undone,
}

impl Stage {
    /// Every one, in the order in which a move comes to them.
    pub const ALL: [Self; 12] = [
        Self::Planned,
        Self::Opened,
        Self::Copying,
        Self::Following,
        Self::Frozen,
        Self::Complete,
        Self::Failed,
        Self::Committed,
        Self::Dropped,
        Self::Activated,
        Self::Aborted,
        Self::Undone,
    ];

    /// Its name, in small letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Opened => "opened",
            Self::Copying => "copying",
            Self::Following => "following",
            Self::Frozen => "frozen",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Committed => "committed",
            Self::Dropped => "dropped",
            Self::Activated => "activated",
            Self::Aborted => "aborted",
            Self::Undone => "undone",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a move is at its source; `None` where that is known only once somebody else was asked.
pub fn source_stage<D>(source: &Source<'_, D>) -> Option<Stage> {
    let Source { holdings, found, target, .. } = source;
    let tag = found.tag;
    let export = holdings.export(tag.id);
    if let (Phase::Committed | Phase::Cancelled { .. }, true) =
        (found.phase, holdings.is_closed(tag, &found.slots))
    {
        let is_done = found.phase == Phase::Committed;
        return Some(if is_done { Stage::Dropped } else { Stage::Undone });
    }
    match (found.phase, export) {
        (_, Some(export)) if export.tag > tag => None,
        (Phase::Cancelled { .. }, _) => Some(Stage::Aborted),
        (Phase::Committed, _) => Some(Stage::Committed),
        (Phase::Planned, None) => Some(Stage::Planned),
        (Phase::Planned, Some(export)) if export.tag < tag => Some(Stage::Aborted),
        (Phase::Planned, Some(export)) => {
            let status = target.filter(|status| status.tag == tag && !status.is_closed)?;
            let Some(import) = status.import.as_ref().filter(|import| import.tag == tag) else {
                return Some(Stage::Opened);
            };
            Some(match import.stage {
                ImportStage::Failed { .. } => Stage::Failed,
                ImportStage::Complete => Stage::Complete,
                ImportStage::Open if export.frozen.is_some() => Stage::Frozen,
                ImportStage::Open if import.reached.rows == Cursor::Done => Stage::Following,
                ImportStage::Open => Stage::Copying,
            })
        }
    }
}

/// Where a move is at its target; `None` while the source carries it on.
pub fn target_stage(holdings: &Holdings, found: &Move) -> Option<Stage> {
    let is_closed = holdings.is_closed(found.tag, &found.slots);
    match found.phase {
        Phase::Planned => None,
        Phase::Committed if is_closed => Some(Stage::Activated),
        Phase::Committed => Some(Stage::Committed),
        Phase::Cancelled { .. } if is_closed => Some(Stage::Undone),
        Phase::Cancelled { .. } => Some(Stage::Aborted),
    }
}
