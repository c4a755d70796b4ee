//! How entries change what a group holds.

use kontiki_types::{Index, LogTime};

use super::command::{Cursor, GroupCommand, GroupOp, ImportStage, Place, Reached, Verdict, Void};
use super::data::{Dead, SlotData};
use super::{Export, Frozen, Holdings, Import, Mark, SKEW_MAX_MS, Stage};
use crate::controller::{Aborted, Committed, Why};
use crate::plant::{Plant, planted};
use crate::{SlotIncarnation, SlotSet, Sums, Tag};

/// What an entry came to; the error is why it had no effect.
type Applied = Result<(), Void>;

/// The entry that a command came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where in the group's log.
    pub index: Index,
    /// The log time with it.
    pub time: LogTime,
}

impl Holdings {
    /// Applies a command, and has `data` do its part.
    pub fn apply<D: SlotData>(
        &mut self,
        entry: Entry,
        command: &GroupCommand,
        data: &mut D,
    ) -> Verdict {
        if command.group != self.group {
            return Verdict::Void(Void::OtherGroup);
        }
        let tag = command.tag;
        let applied = match &command.op {
            GroupOp::ExportOpen { slots } => self.export_open(entry, tag, slots, data),
            GroupOp::Freeze => self.freeze(entry, tag, data),
            GroupOp::Unfreeze { cites, slots } => self.unfreeze(tag, *cites, slots, data),
            GroupOp::Drop { cites } => self.drop_slots(tag, *cites, data),
            GroupOp::ImportOpen { slots, incarnation } => {
                self.import_open(tag, slots, *incarnation, data)
            }
            GroupOp::Chunk { place, reached, payload, checksum } => {
                if crc32c::crc32c(payload) == *checksum {
                    self.chunk(tag, *place, reached, payload, data)
                } else {
                    Err(Void::Damaged)
                }
            }
            GroupOp::ImportComplete { place, sums, frozen_at, sent_at } => {
                let skew = entry.time.0.saturating_sub(sent_at.0);
                self.complete(tag, *place, *sums, *frozen_at, skew, data)
            }
            GroupOp::Activate { cites, slots, incarnation, is_founding }
                if *is_founding || self.takes_an_old_one(tag, slots) =>
            {
                self.found(tag, *cites, slots, *incarnation, data)
            }
            GroupOp::Activate { cites, slots, .. } => self.activate(tag, *cites, slots, data),
            GroupOp::Discard { cites, slots } => self.discard(tag, *cites, slots, data),
        };
        applied.map_or_else(Verdict::Void, |()| Verdict::Done)
    }

    fn export_open<D: SlotData>(
        &mut self,
        entry: Entry,
        tag: Tag,
        slots: &SlotSet,
        data: &mut D,
    ) -> Applied {
        self.check_new(tag, slots)?;
        // Another attempt may be open, also of the move of which this one is a part: it has to wait for
        // the end of that one, which forgets what has changed of its slots.
        let overlaps = |export: &Export| export.slots.first_common(slots).is_some();
        if !self.serves_all(slots) || self.exports.values().any(overlaps) {
            return Err(Void::NotReady);
        }
        self.mark(slots, Mark { tag, is_closed: false });
        data.track(slots);
        let export = Export { tag, slots: slots.clone(), opened: entry.index, frozen: None };
        self.exports.insert(tag.id, export);
        Ok(())
    }

    fn freeze<D: SlotData>(&mut self, entry: Entry, tag: Tag, data: &mut D) -> Applied {
        let export = self.exports.get_mut(&tag.id).filter(|export| export.tag == tag);
        let export = export.ok_or(Void::Old)?;
        if export.frozen.is_some() {
            return Err(Void::Already);
        }
        export.frozen = Some(Frozen { at: entry.index, time: entry.time });
        let slots = export.slots.clone();
        self.set_stage(&slots, |stage| match stage {
            Stage::Serving { incarnation } => Stage::Frozen { incarnation },
            other => other,
        });
        data.freeze(&slots);
        Ok(())
    }

    fn unfreeze<D: SlotData>(
        &mut self,
        tag: Tag,
        cites: Aborted,
        slots: &SlotSet,
        data: &mut D,
    ) -> Applied {
        let open = self.exports.get(&tag.id).filter(|export| export.tag <= tag).cloned();
        self.give_up(tag, cites, slots, open.is_some())?;
        if let Some(export) = open {
            self.exports.remove(&tag.id);
            self.set_stage(&export.slots, |stage| match stage {
                Stage::Frozen { incarnation } => Stage::Serving { incarnation },
                other => other,
            });
            data.untrack(&export.slots);
            if export.frozen.is_some() {
                data.thaw(&export.slots);
            }
        }
        Ok(())
    }

    fn drop_slots<D: SlotData>(&mut self, tag: Tag, cites: Committed, data: &mut D) -> Applied {
        if !cites.is_of(tag) {
            return Err(Void::NotCited);
        }
        let export = self.exports.get(&tag.id).filter(|export| export.tag == tag);
        let export = export.cloned().ok_or(Void::Old)?;
        if export.frozen.is_none() {
            return Err(Void::NotReady);
        }
        self.exports.remove(&tag.id);
        data.untrack(&export.slots);
        let frozen: Vec<_> = self.slots.within(&export.slots).collect();
        for (first, last, hold) in frozen {
            if let Stage::Frozen { incarnation } = hold.stage {
                let mut slots = SlotSet::empty();
                slots.push(first, last);
                data.retire(&Dead::new(slots, incarnation));
            }
        }
        self.set_stage(&export.slots, |_| Stage::Away);
        self.mark(&export.slots, Mark { tag, is_closed: true });
        Ok(())
    }

    fn import_open<D: SlotData>(
        &mut self,
        tag: Tag,
        slots: &SlotSet,
        incarnation: SlotIncarnation,
        data: &mut D,
    ) -> Applied {
        self.check_new(tag, slots)?;
        if !self.slots.within(slots).all(|(_, _, hold)| matches!(hold.stage, Stage::Away)) {
            return Err(Void::NotReady);
        }
        self.discard_imports(slots, data);
        self.mark(slots, Mark { tag, is_closed: false });
        data.open(slots, incarnation);
        let import = Import {
            tag,
            slots: slots.clone(),
            incarnation,
            next: Place::default(),
            reached: Reached { rows: Cursor::START, changes: Index(0), closing: Cursor::START },
            stage: ImportStage::Open,
            frozen_at: LogTime(0),
        };
        self.imports.insert(tag.id, import);
        Ok(())
    }

    fn chunk<D: SlotData>(
        &mut self,
        tag: Tag,
        place: Place,
        reached: &Reached,
        payload: &[u8],
        data: &mut D,
    ) -> Applied {
        let import = self.take_place(tag, place)?;
        import.reached = reached.clone();
        if data.stage(&import.slots, import.incarnation, payload).is_err() {
            import.stage = ImportStage::Failed { why: Why::Unreadable };
        }
        Ok(())
    }

    fn complete<D: SlotData>(
        &mut self,
        tag: Tag,
        place: Place,
        sent: Sums,
        frozen_at: LogTime,
        skew: u64,
        data: &D,
    ) -> Applied {
        let import = self.take_place(tag, place)?;
        let mut found = data.sums(&import.slots, import.incarnation);
        if planted(Plant::RecordsLeftBehind) {
            found.records = sent.records;
        }
        import.frozen_at = frozen_at;
        import.stage = if found != sent {
            ImportStage::Failed { why: Why::SumsDiffer }
        } else if skew > SKEW_MAX_MS {
            ImportStage::Failed { why: Why::Skew { millis: skew } }
        } else {
            ImportStage::Complete
        };
        Ok(())
    }

    /// The open import of this attempt, if `place` is the next in its sequence, or begins that of
    /// a later leader of the source.
    fn take_place(&mut self, tag: Tag, place: Place) -> Result<&mut Import, Void> {
        let import = self.imports.get_mut(&tag.id).filter(|import| import.tag == tag);
        let import = import.ok_or(Void::Old)?;
        if import.stage != ImportStage::Open {
            return Err(Void::Already);
        }
        let begins = place.term > import.next.term && place.number == 0;
        if !begins && place != import.next && !planted(Plant::ChunksOutOfOrder) {
            return Err(Void::OutOfSequence);
        }
        import.next = Place { number: place.number + 1, ..place };
        Ok(import)
    }

    fn activate<D: SlotData>(
        &mut self,
        tag: Tag,
        cites: Committed,
        slots: &SlotSet,
        data: &mut D,
    ) -> Applied {
        if !cites.is_of(tag) {
            return Err(Void::NotCited);
        }
        let import = self.imports.get(&tag.id).filter(|import| import.tag == tag);
        let import = import.ok_or(Void::Old)?;
        if import.stage != ImportStage::Complete || import.slots != *slots {
            return Err(Void::NotReady);
        }
        let (incarnation, time) = (import.incarnation, import.frozen_at);
        self.imports.remove(&tag.id);
        self.serve(tag, slots, incarnation, time, data);
        Ok(())
    }

    fn found<D: SlotData>(
        &mut self,
        tag: Tag,
        cites: Committed,
        slots: &SlotSet,
        incarnation: SlotIncarnation,
        data: &mut D,
    ) -> Applied {
        if !cites.is_of(tag) {
            return Err(Void::NotCited);
        }
        self.check_new(tag, slots)?;
        self.discard_imports(slots, data);
        data.open(slots, incarnation);
        self.serve(tag, slots, incarnation, LogTime(0), data);
        Ok(())
    }

    fn serve<D: SlotData>(
        &mut self,
        tag: Tag,
        slots: &SlotSet,
        incarnation: SlotIncarnation,
        time: LogTime,
        data: &mut D,
    ) {
        self.set_stage(slots, |_| Stage::Serving { incarnation });
        self.mark(slots, Mark { tag, is_closed: true });
        data.activate(slots, incarnation, time);
    }

    fn discard<D: SlotData>(
        &mut self,
        tag: Tag,
        cites: Aborted,
        slots: &SlotSet,
        data: &mut D,
    ) -> Applied {
        let open = self.imports.get(&tag.id).filter(|import| import.tag <= tag).cloned();
        self.give_up(tag, cites, slots, open.is_some())?;
        if let Some(import) = open {
            self.imports.remove(&tag.id);
            data.retire(&Dead::new(import.slots, import.incarnation));
        }
        Ok(())
    }

    /// Closes an attempt that the controller has given up, whether something of it is open here or
    /// was never begun.
    fn give_up(&mut self, tag: Tag, cites: Aborted, slots: &SlotSet, is_open: bool) -> Applied {
        if !cites.is_of(tag) {
            return Err(Void::NotCited);
        }
        if !is_open && self.is_closed(tag, slots) {
            return Err(Void::Already);
        }
        self.mark(slots, Mark { tag, is_closed: true });
        Ok(())
    }

    /// Drops every import of one of `slots`: a later attempt or move takes its place.
    fn discard_imports<D: SlotData>(&mut self, slots: &SlotSet, data: &mut D) {
        self.imports.retain(|_, import| {
            let stays = import.slots.first_common(slots).is_none();
            if !stays {
                data.retire(&Dead::new(import.slots.clone(), import.incarnation));
            }
            stays
        });
    }

    /// For a bug planted on purpose: whether an activation of an earlier life is to count.
    fn takes_an_old_one(&self, tag: Tag, slots: &SlotSet) -> bool {
        let mut holds = self.slots.within(slots);
        planted(Plant::TagsForgotten) && holds.any(|(_, _, hold)| hold.mark.tag > tag)
    }

    /// Whether `tag` is later than everything known of `slots`.
    fn check_new(&self, tag: Tag, slots: &SlotSet) -> Applied {
        let open = Mark { tag, is_closed: false };
        let marks = || self.slots.within(slots).map(|(_, _, hold)| hold.mark);
        if marks().all(|mark| mark == open) {
            return Err(Void::Already);
        }
        let is_new = marks().all(|mark| mark.tag < tag) || planted(Plant::TagsForgotten);
        if is_new { Ok(()) } else { Err(Void::Old) }
    }

    fn mark(&mut self, slots: &SlotSet, mark: Mark) {
        self.slots.change(slots, |hold| super::Hold { mark: hold.mark.max(mark), ..hold });
    }

    fn set_stage(&mut self, slots: &SlotSet, stage: impl Fn(Stage) -> Stage) {
        self.slots.change(slots, |hold| super::Hold { stage: stage(hold.stage), ..hold });
    }
}
