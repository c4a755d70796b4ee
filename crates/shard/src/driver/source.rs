//! The source's side.

use kontiki_types::{LogTime, Term};

use super::{Limits, Step, forged};
use crate::Tag;
use crate::controller::{Move, Op, Phase, Side, Then, Why};
use crate::holdings::{
    Cursor, Export, GroupCommand, GroupOp, Holdings, ImportProgress, ImportStage, ImportStatus,
    Place, Reached, SKEW_MAX_MS, SourceData,
};
use crate::plant::{Plant, planted};

/// What the source's leader knows.
#[derive(Debug)]
pub struct Source<'a, D> {
    /// The group's state, with an entry of the leader's own term applied.
    pub holdings: &'a Holdings,
    /// Its rows, as of the same entry.
    pub data: &'a D,
    /// The leader's term.
    pub term: Term,
    /// The stamp that the leader would give an entry now (PROTOCOL 8). A group that is idle is
    /// behind in log time, but its clock is not.
    pub clock: LogTime,
    /// The controller's last answer about the move.
    pub found: &'a Move,
    /// The target's last answer, if there was one since the last [`Step::Send`].
    pub target: Option<&'a ImportStatus>,
    /// Whether the attempt has taken longer than the host cares to wait.
    pub is_late: bool,
    /// How much at a time.
    pub limits: Limits,
}

/// What the source's leader does next for a move.
///
/// # Errors
/// The rows could not be read.
pub fn source_step<D: SourceData>(source: &Source<'_, D>) -> Result<Step, D::Error> {
    let Source { holdings, found, .. } = source;
    let tag = found.tag;
    if found.from != Some(holdings.group()) {
        return Ok(Step::Over);
    }
    let export = holdings.export(tag.id);
    let is_closed = holdings.is_closed(tag, &found.slots);
    Ok(match (found.phase, export) {
        (_, Some(export)) if export.tag > tag => Step::AskController(tag.id),
        (Phase::Planned, Some(export)) if export.tag < tag => match found.aborted() {
            Some(cites) => {
                let slots = export.slots.clone();
                source.propose(export.tag, GroupOp::Unfreeze { cites, slots })
            }
            None => Step::AskController(tag.id),
        },
        (Phase::Planned, Some(export)) => return source.transfer(export),
        (Phase::Planned, None) if is_closed => Step::AskController(tag.id),
        (Phase::Planned, None) if holdings.serves_all(&found.slots) => {
            source.propose(tag, GroupOp::ExportOpen { slots: found.slots.clone() })
        }
        // They arrived here by another move, which has to be brought to its end first.
        (Phase::Planned, None) => Step::Wait,
        (Phase::Committed, Some(export)) if export.tag == tag => match found.committed() {
            Some(cites) => source.propose(tag, GroupOp::Drop { cites }),
            None => Step::AskController(tag.id),
        },
        (Phase::Cancelled { .. }, _) if !is_closed => match found.aborted() {
            Some(cites) => {
                let slots = found.slots.clone();
                source.propose(tag, GroupOp::Unfreeze { cites, slots })
            }
            None => Step::AskController(tag.id),
        },
        (Phase::Committed | Phase::Cancelled { .. }, _) if is_closed && !found.source_closed => {
            Step::Tell(Op::Closed { tag, side: Side::Source })
        }
        (Phase::Committed | Phase::Cancelled { .. }, _) if is_closed => Step::Over,
        (Phase::Committed | Phase::Cancelled { .. }, _) => Step::AskController(tag.id),
    })
}

/// What the source's leader does next for a planned move once the target has said that it has
/// everything: to know it, nobody has to look at the source's state. `None` if the target has not.
pub fn complete_step(found: &Move, status: &ImportStatus) -> Option<Step> {
    let tag = found.tag;
    let import = status.import.as_ref().filter(|import| import.tag == tag)?;
    let is_complete = import.stage == ImportStage::Complete && !status.is_closed;
    if found.phase != Phase::Planned || !is_complete {
        return None;
    }
    if planted(Plant::DroppedBeforeCommit) {
        let (group, op) = (found.from?, GroupOp::Drop { cites: forged(tag).0 });
        return Some(Step::Propose(GroupCommand { group, tag, op }));
    }
    Some(Step::Tell(Op::Commit { tag }))
}

impl<D: SourceData> Source<'_, D> {
    fn propose(&self, tag: Tag, op: GroupOp) -> Step {
        Step::Propose(GroupCommand { group: self.holdings.group(), tag, op })
    }

    fn send(&self, op: GroupOp) -> Step {
        Step::Send(GroupCommand { group: self.found.to, tag: self.found.tag, op })
    }

    fn give_up(&self, then: Then, why: Why) -> Step {
        Step::Tell(Op::Abort { tag: self.found.tag, then, why })
    }

    /// What is next for the current attempt, which is open here.
    fn transfer(&self, export: &Export) -> Result<Step, D::Error> {
        let tag = self.found.tag;
        if self.is_late {
            if planted(Plant::UnfreezeByTimer) && export.frozen.is_some() {
                let cites = forged(tag).1;
                let slots = export.slots.clone();
                return Ok(self.propose(tag, GroupOp::Unfreeze { cites, slots }));
            }
            return Ok(self.give_up(Then::Retry, Why::Late));
        }
        let Some(status) = self.target.filter(|status| status.tag == tag) else {
            return Ok(Step::AskTarget(tag));
        };
        let import = match &status.import {
            // The attempt is over, and the controller knows.
            _ if status.is_closed => return Ok(Step::AskController(tag.id)),
            Some(import) if import.tag > tag => return Ok(Step::AskController(tag.id)),
            Some(import) if import.tag == tag => import,
            _ => {
                let (slots, incarnation) = (self.found.slots.clone(), self.found.incarnation);
                return Ok(self.send(GroupOp::ImportOpen { slots, incarnation }));
            }
        };
        Ok(match import.stage {
            ImportStage::Open => return self.send_on(export, import, status),
            ImportStage::Complete => match complete_step(self.found, status) {
                Some(step) => step,
                None => Step::AskController(tag.id),
            },
            ImportStage::Failed { why: why @ Why::Skew { .. } } => self.give_up(Then::Cancel, why),
            ImportStage::Failed { why } => self.give_up(Then::Retry, why),
        })
    }

    /// The next part of what the target does not have yet.
    fn send_on(
        &self,
        export: &Export,
        import: &ImportProgress,
        status: &ImportStatus,
    ) -> Result<Step, D::Error> {
        if import.next.term > self.term {
            // There is a later leader.
            return Ok(Step::Wait);
        }
        let (place, reached) = self.resume(export, import);
        let (tag, slots) = (self.found.tag, &export.slots);
        if let Cursor::At { place: from } = &reached.rows {
            let piece = self.data.rows(slots, from, self.limits.chunk_bytes)?;
            return Ok(self.chunk(place, Reached { rows: piece.next, ..reached }, piece.payload));
        }
        let changes = self.data.changes(slots, reached.changes, self.limits.chunk_bytes)?;
        if changes.has_overflown {
            return Ok(self.give_up(Then::Retry, Why::TooManyChanges));
        }
        let left = changes.left_bytes.saturating_add(changes.payload.len() as u64);
        let Some(frozen) = export.frozen else {
            if left > self.limits.freeze_bytes {
                let reached = Reached { changes: changes.upto, ..reached };
                return Ok(self.chunk(place, reached, changes.payload));
            }
            let millis = status.log_time.0.saturating_sub(self.now().0);
            if millis > SKEW_MAX_MS {
                return Ok(self.give_up(Then::Cancel, Why::Skew { millis }));
            }
            return Ok(self.propose(tag, GroupOp::Freeze));
        };
        if !changes.payload.is_empty() {
            let reached = Reached { changes: changes.upto, ..reached };
            return Ok(self.chunk(place, reached, changes.payload));
        }
        if let Cursor::At { place: from } = &reached.closing
            && !planted(Plant::RecordsLeftBehind)
        {
            let piece = self.data.closing(slots, from, self.limits.chunk_bytes)?;
            return Ok(self.chunk(
                place,
                Reached { closing: piece.next, ..reached },
                piece.payload,
            ));
        }
        Ok(self.send(GroupOp::ImportComplete {
            place,
            sums: self.data.live_sums(slots)?,
            frozen_at: frozen.time,
            sent_at: self.now(),
        }))
    }

    /// The log time that an entry of the source would have now.
    fn now(&self) -> LogTime {
        self.data.log_time().max(self.clock)
    }

    /// Where this leader goes on: behind its own last chunk; or, where the last one was another
    /// leader's, at the same row, with everything again that has changed since the export was
    /// opened. What that leader had sent of it is not known here, and need not be (PROTOCOL 11).
    fn resume(&self, export: &Export, import: &ImportProgress) -> (Place, Reached) {
        if import.next.term == self.term {
            return (import.next, import.reached.clone());
        }
        let changes = if planted(Plant::DeltaInMemory) && import.next.term > Term(0) {
            self.data.applied()
        } else {
            export.opened
        };
        let rows = import.reached.rows.clone();
        let reached = Reached { rows, changes, closing: Cursor::START };
        (Place { term: self.term, number: 0 }, reached)
    }

    fn chunk(&self, place: Place, reached: Reached, payload: bytes::Bytes) -> Step {
        let checksum = crc32c::crc32c(&payload);
        self.send(GroupOp::Chunk { place, reached, payload, checksum })
    }
}
