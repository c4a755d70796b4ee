//! The target's side: it proposes what the source sends, and reads from the controller whether the
//! slots are its own.

use super::{Step, forged};
use crate::controller::{Move, Op, Phase, Side};
use crate::holdings::{GroupCommand, GroupOp, Holdings, ImportStage};
use crate::plant::{Plant, planted};

/// What the target's leader does next for a move that the controller has answered.
pub fn target_step(holdings: &Holdings, found: &Move) -> Step {
    let tag = found.tag;
    if found.to != holdings.group() {
        return Step::Over;
    }
    let propose = |op| Step::Propose(GroupCommand { group: found.to, tag, op });
    let slots = found.slots.clone();
    let import = holdings.import(tag.id).filter(|import| import.tag == tag);
    let is_complete = import.is_some_and(|import| import.stage == ImportStage::Complete);
    let activate = |cites| {
        let (slots, incarnation) = (found.slots.clone(), found.incarnation);
        let is_founding = found.from.is_none();
        propose(GroupOp::Activate { cites, slots, incarnation, is_founding })
    };
    if matches!(found.phase, Phase::Planned) {
        if is_complete && planted(Plant::OwnershipByReply) {
            return activate(forged(tag).0);
        }
        return Step::Wait;
    }
    if holdings.is_closed(tag, &found.slots) {
        return match found.target_closed {
            true => Step::Over,
            false => Step::Tell(Op::Closed { tag, side: Side::Target }),
        };
    }
    if let Some(cites) = found.committed() {
        if is_complete || found.from.is_none() {
            return activate(cites);
        }
    } else if let Some(cites) = found.aborted() {
        return propose(GroupOp::Discard { cites, slots });
    }
    Step::AskController(tag.id)
}

/// What tells the target of a committed move to serve the slots; `None` before the commit. Anybody
/// who has read the commit may send it: what it cites is true for good.
pub fn activation(found: &Move) -> Option<GroupCommand> {
    let cites = found.committed()?;
    let (slots, incarnation) = (found.slots.clone(), found.incarnation);
    let is_founding = found.from.is_none();
    let op = GroupOp::Activate { cites, slots, incarnation, is_founding };
    Some(GroupCommand { group: found.to, tag: found.tag, op })
}
