//! One side of a move: its steps, one after the other, and chunks side by side.

use core::time::Duration;

use kontiki_kv::Weighing;
use kontiki_shard::{
    Call, GroupCommand, GroupOp, ImportStage, ImportStatus, Limits, Move, MoveAnswer, MoveId, Op,
    Phase, Query, Side, Stage, Step, Verdict, activation, complete_step,
};
use kontiki_types::{GroupId, Instant, LogTime};

use super::{Found, Look, LookSide, Mover, MoverLimits, MoverOutput, Purpose, Report};
use crate::steward::CONTROLLER;

/// How long after a failure, or when there is nothing to look at yet, it is looked again.
const AGAIN: Duration = Duration::from_millis(20);

/// How long a step that waits for something elsewhere waits at the most.
const WAIT: Duration = Duration::from_millis(500);

/// What a second attempt waits for; each further one twice as long, up to [`BACKOFF_MAX`].
const BACKOFF: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Writers are slowed after so many times the patience, and from then on so often.
const PATIENCES: u32 = 3;
const SLOW_EVERY: Duration = Duration::from_millis(250);

/// A side of a move, at a group led here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskId {
    pub(super) id: MoveId,
    pub(super) group: GroupId,
    pub(super) is_source: bool,
}

impl TaskId {
    fn side(&self) -> Side {
        if self.is_source { Side::Source } else { Side::Target }
    }
}

#[derive(Debug)]
pub(super) struct Task {
    found: Move,
    /// When this attempt was first heard of here.
    since: Instant,
    /// When the freeze was asked for, or found.
    frozen: Option<Instant>,
    /// It was asked for here.
    is_freezer: bool,
    /// Since when only changes are left to send.
    following: Option<Instant>,
    /// The writers are slowed again then.
    slow_at: Instant,
    /// The stage that was reported last, of this attempt.
    stage: Option<Stage>,
    /// What the target is taken to have, if it said something since.
    target: Option<ImportStatus>,
    /// Chunks that are not answered.
    in_flight: usize,
    /// A chunk was not taken: the target is asked once the others are answered.
    is_broken: bool,
    /// Nothing is looked at until the chunks under way are answered.
    drains: bool,
    is_looked_at: bool,
    /// A step is under way.
    waits: bool,
    /// It is not looked at before.
    not_before: Instant,
    /// The next chunk has to wait for its turn.
    copies: bool,
    is_over: bool,
    bytes: u64,
    /// How far the slots are weighed; `None` once they are, or cannot be split.
    weighing: Option<Weighing>,
}

impl Task {
    pub(super) fn new(found: Move, now: Instant) -> Self {
        let mut task = Self {
            since: now,
            frozen: None,
            is_freezer: false,
            following: None,
            slow_at: Instant(0),
            stage: None,
            target: None,
            in_flight: 0,
            is_broken: false,
            drains: false,
            is_looked_at: false,
            waits: false,
            not_before: Instant(0),
            copies: false,
            is_over: false,
            bytes: 0,
            weighing: Some(Weighing::default()),
            found,
        };
        task.back_off(now);
        task
    }

    fn back_off(&mut self, now: Instant) {
        let tries = self.found.tag.attempt.0.saturating_sub(1);
        if tries > 0 && self.found.phase == Phase::Planned {
            let factor = 1u32.checked_shl(tries - 1).unwrap_or(u32::MAX);
            self.not_before = now + BACKOFF.saturating_mul(factor).min(BACKOFF_MAX);
        }
    }

    /// The controller says this of the move.
    pub(super) fn hear(&mut self, found: Move, now: Instant) {
        let is_decided = self.found.phase != Phase::Planned;
        let is_older = found.tag < self.found.tag
            || found.tag == self.found.tag && is_decided && found.phase == Phase::Planned;
        if found == self.found || is_older {
            return;
        }
        self.is_over = false;
        if found.tag != self.found.tag {
            self.since = now;
            self.frozen = None;
            self.is_freezer = false;
            self.following = None;
            self.stage = None;
            self.target = None;
            self.copies = false;
        }
        self.not_before = Instant(0);
        self.found = found;
        self.back_off(now);
    }

    /// What may be left to send at the freeze.
    fn freeze_bytes(&self, limits: &MoverLimits, now: Instant) -> u64 {
        let tried = self.following.map_or(Duration::ZERO, |since| now.since(since));
        let patience = limits.patience.as_micros().max(1);
        let doublings = u32::try_from(tried.as_micros() / patience).unwrap_or(u32::MAX);
        let factor = 1u64.checked_shl(doublings).unwrap_or(u64::MAX);
        let most = limits.freeze_bytes_most.max(limits.step.freeze_bytes);
        limits.step.freeze_bytes.saturating_mul(factor).min(most)
    }

    /// Whether it may be looked at when its time has come.
    pub(super) fn is_free(&self, limits: &MoverLimits) -> bool {
        let most = if self.drains || self.is_broken { 1 } else { limits.chunks_in_flight };
        !self.is_over && !self.is_looked_at && !self.waits && self.in_flight < most.max(1)
    }
}

impl Mover {
    /// When a task that is free is to be looked at.
    ///
    /// While slots of one move stand still, nothing is copied for others: clients wait for entries that
    /// would stand behind chunks in the logs. Nor are they frozen before chunks of others have arrived.
    pub(super) fn look_at(&self, id: TaskId, task: &Task) -> Instant {
        let copied = if task.copies && task.frozen.is_none() { self.copy_at } else { Instant(0) };
        let copies = id.is_source && task.found.phase == Phase::Planned && task.frozen.is_none();
        let held = match self.stands_still() {
            Some((still, until)) if copies && (still != id || self.others_copy(id)) => until,
            _ => Instant(0),
        };
        task.not_before.max(copied).max(held)
    }

    /// The side whose slots stand still, or are about to, and when that does not count any more.
    fn stands_still(&self) -> Option<(TaskId, Instant)> {
        let (id, tag, until) = self.still?;
        let task = self.tasks.get(&id).filter(|task| task.found.tag == tag && !task.is_over)?;
        let is_still = task.found.phase == Phase::Planned || task.frozen.is_some();
        (is_still && until > self.now).then_some((id, until))
    }

    fn others_copy(&self, id: TaskId) -> bool {
        self.tasks.iter().any(|(other, task)| *other != id && task.in_flight > 0)
    }

    pub(super) fn look_at_tasks(&mut self) {
        let ready: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(|(id, task)| task.is_free(&self.limits) && self.look_at(**id, task) <= self.now)
            .map(|(id, _)| *id)
            .collect();
        for id in ready {
            self.look(id);
        }
    }

    fn look(&mut self, id: TaskId) {
        let (now, limits) = (self.now, self.limits);
        let Some(&term) = self.led.get(&id.group) else { return };
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.is_broken {
            (task.is_broken, task.target) = (false, None);
        }
        task.drains = false;
        task.is_looked_at = true;
        let is_frozen_long = task.frozen.is_some_and(|at| at + limits.freeze <= now);
        let is_late = is_frozen_long || task.since + limits.attempt <= now;
        let side = if id.is_source {
            let target = task.target.clone();
            // The driver knows what the group's leader would stamp.
            let clock = LogTime(0);
            let (part_bytes, weighing) = (limits.part_bytes, task.weighing.clone());
            let step = Limits { freeze_bytes: task.freeze_bytes(&limits, now), ..limits.step };
            LookSide::Source {
                target,
                clock,
                is_late,
                limits: step,
                weighing,
                part_bytes,
                chunks_at_a_look: limits.chunks_at_a_look,
            }
        } else {
            LookSide::Target
        };
        let look = Box::new(Look { found: task.found.clone(), term, side });
        let ticket = self.ticket(Purpose::Look(id), None);
        self.outputs.push(MoverOutput::Look { ticket, group: id.group, look });
    }

    /// What a look has found is next.
    pub(super) fn take_found(&mut self, id: TaskId, found: Option<Found>) {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.is_looked_at = false;
        let Some(Found { steps, stage, weighing }) = found else {
            task.not_before = now + AGAIN;
            return;
        };
        task.weighing = weighing;
        if let Some(Stage::Frozen | Stage::Complete) = stage {
            // An earlier leader may have asked for it.
            task.frozen.get_or_insert(now);
        }
        if stage == Some(Stage::Following) {
            self.follow(id);
        }
        if let Some(stage) = stage {
            self.comes_to(id, stage);
        }
        steps.into_iter().for_each(|step| self.take(id, step));
    }

    fn take(&mut self, id: TaskId, step: Step) {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        match step {
            Step::Wait => task.not_before = now + WAIT,
            Step::Over => task.is_over = true,
            Step::AskController(_) => self.ask_for_move(id),
            Step::AskTarget(tag) => {
                let (to, slots) = (task.found.to.id, task.found.slots.clone());
                task.waits = true;
                self.ask(to, &Query::Import { tag, slots }, Purpose::Target(id));
            }
            Step::Tell(op) => self.tell_controller(id, op),
            Step::Propose(command) => self.propose(id, command),
            Step::Send(command) => self.send(id, command),
        }
    }

    /// Only changes are left to send. Writers that keep them from getting few are slowed, at last.
    fn follow(&mut self, id: TaskId) {
        let (now, patience) = (self.now, self.limits.patience);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let since = *task.following.get_or_insert(now);
        if since + PATIENCES * patience <= now && task.slow_at <= now {
            task.slow_at = now + SLOW_EVERY;
            let slots = task.found.slots.clone();
            self.outputs.push(MoverOutput::Slow { group: id.group, slots });
        }
    }

    fn comes_to(&mut self, id: TaskId, stage: Stage) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.stage.replace(stage) != Some(stage) {
            let attempt = task.found.tag.attempt.0;
            let report = Report::Stage { id: id.id, attempt, side: id.side(), stage };
            self.outputs.push(MoverOutput::Report(report));
        }
    }

    /// Some tasks are not this node's any more.
    pub(super) fn leave(&mut self, is_left: impl Fn(&TaskId) -> bool) {
        let left: Vec<TaskId> = self.tasks.keys().copied().filter(|id| is_left(id)).collect();
        for id in left {
            self.tasks.remove(&id);
            let report = Report::Left { id: id.id, side: id.side() };
            self.outputs.push(MoverOutput::Report(report));
        }
    }

    fn tell_controller(&mut self, id: TaskId, op: Op) {
        if let Op::Abort { why, .. } = &op {
            self.outputs.push(MoverOutput::Report(Report::GivenUp { id: id.id, why: *why }));
        }
        if let Some(task) = self.tasks.get_mut(&id) {
            task.waits = true;
            self.tell(CONTROLLER, &Call::Decide { op }, Purpose::Tell(id));
        }
    }

    fn propose(&mut self, id: TaskId, command: GroupCommand) {
        let (now, others_copy) = (self.now, self.others_copy(id));
        if command.op == GroupOp::Freeze {
            if self.stands_still().is_some_and(|(still, _)| still != id) {
                // One after the other: this one is looked at again when that one is through.
                return;
            }
            self.still = Some((id, command.tag, now + self.limits.freeze));
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        match command.op {
            // What is under way may come to nothing, and would have to be sent again within the
            // freeze.
            GroupOp::Freeze if task.in_flight > 0 || others_copy => {
                task.drains = true;
                return;
            }
            GroupOp::Freeze => {
                task.frozen.get_or_insert(now);
                task.is_freezer = true;
                self.outputs.push(MoverOutput::Report(Report::Freezing { id: id.id }));
            }
            GroupOp::ExportOpen { .. } => {
                let attempt = command.tag.attempt.0;
                let began = Report::Began { id: id.id, attempt };
                self.outputs.push(MoverOutput::Report(began));
            }
            _ => {}
        }
        task.waits = true;
        self.tell(id.group, &Call::Carry { command }, Purpose::Own(id));
    }

    fn send(&mut self, id: TaskId, command: GroupCommand) {
        let to = command.group.id;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let GroupOp::Chunk { payload, .. } = &command.op else {
            // It follows the chunks that are under way, and its answer is what counts.
            task.waits = true;
            self.tell(to, &Call::Carry { command }, Purpose::Target(id));
            return;
        };
        if let Some(target) = &mut task.target {
            target.expect(&command);
        }
        let bytes = payload.len() as u64;
        task.in_flight += 1;
        task.copies = true;
        task.bytes += bytes;
        if task.frozen.is_none() {
            let rate = self.limits.copy_bytes_per_second.max(1);
            let cost = Duration::from_micros(bytes.saturating_mul(1_000_000) / rate);
            self.copy_at = self.copy_at.max(self.now) + cost;
        }
        self.outputs.push(MoverOutput::Report(Report::Sent { id: id.id, bytes }));
        self.tell(to, &Call::Carry { command }, Purpose::Chunk(id));
    }

    pub(super) fn chunk_answered(&mut self, id: TaskId, came: Option<(Verdict, ImportStatus)>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.in_flight = task.in_flight.saturating_sub(1);
        if !matches!(came, Some((Verdict::Done, _))) {
            task.is_broken = true;
        }
        if let Some((_, status)) = came {
            self.log_time = self.log_time.max(status.log_time);
        }
    }

    /// The own group has done what it was told, or has not.
    pub(super) fn own_answered(&mut self, id: TaskId, came: Option<Verdict>) {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.waits = false;
        if came != Some(Verdict::Done) {
            task.not_before = now + AGAIN;
        }
    }

    /// The target has said how far it is.
    pub(super) fn target_answered(&mut self, id: TaskId, came: Option<(Verdict, ImportStatus)>) {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.waits = false;
        match came {
            Some((Verdict::Done, status)) => {
                self.log_time = self.log_time.max(status.log_time);
                let next = complete_step(&task.found, &status);
                task.target = Some(status);
                if let Some(next) = next {
                    self.comes_to(id, Stage::Complete);
                    self.take(id, next);
                }
            }
            // It is asked, or told again.
            _ => {
                task.target = None;
                task.not_before = now + AGAIN;
            }
        }
    }

    pub(super) fn ask_for_move(&mut self, id: TaskId) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.waits = true;
            self.ask(CONTROLLER, &Query::Move { id: id.id }, Purpose::Move(id));
        }
    }

    pub(super) fn hear_move(&mut self, id: TaskId, found: Option<MoveAnswer>) {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.waits = false;
        match found {
            None => task.not_before = now + AGAIN,
            Some(MoveAnswer::Unknown | MoveAnswer::Finished(_)) => task.is_over = true,
            Some(MoveAnswer::UnderWay(found)) => {
                if found == task.found {
                    task.not_before = now + AGAIN;
                }
                self.hear_found(id, found);
            }
        }
    }

    /// The controller has this of a move: by an answer about it, or among others.
    pub(super) fn hear_found(&mut self, id: TaskId, found: Move) {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let before = task.found.phase;
        task.hear(found, now);
        let after = task.found.phase;
        if id.is_source && before == Phase::Planned && after == Phase::Committed {
            self.activate(id);
        }
    }

    /// For a bug planted on purpose: a commit that nobody has confirmed is taken for done.
    pub(super) fn is_taken_for_done(&mut self, id: TaskId) -> bool {
        let Some(task) = self.tasks.get_mut(&id) else { return false };
        let import = task.target.as_ref().and_then(|status| status.import.as_ref());
        let is_complete = import.is_some_and(|import| import.stage == ImportStage::Complete);
        let is_commit = is_complete && task.found.phase == Phase::Planned;
        if is_commit {
            task.waits = false;
            let found = Move { phase: Phase::Committed, ..task.found.clone() };
            self.hear_found(id, found);
        }
        is_commit
    }

    /// The source's leader tells the target that it owns the slots.
    fn activate(&mut self, id: TaskId) {
        let Some(command) = self.tasks.get(&id).and_then(|task| activation(&task.found)) else {
            return;
        };
        if let Some(task) = self.tasks.get_mut(&id) {
            // To forget the slots has time: the target's entry comes first, where clients wait.
            task.not_before = self.now + WAIT;
        }
        self.comes_to(id, Stage::Committed);
        self.outputs.push(MoverOutput::Report(Report::Committed { id: id.id }));
        self.tell(command.group.id, &Call::Carry { command }, Purpose::Activate(id));
    }

    pub(super) fn activation_answered(
        &mut self,
        id: TaskId,
        came: Option<(Verdict, ImportStatus)>,
    ) {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        // If it is not answered, the target's leader reads for itself that it owns the slots; it may
        // have been faster, too.
        let serves = came.is_some_and(|(done, status)| done == Verdict::Done || status.is_closed);
        task.not_before = Instant(0);
        if let Some(frozen) = task.frozen.take().filter(|_| serves) {
            let (bytes, freeze) = (task.bytes, task.is_freezer.then(|| now.since(frozen)));
            self.outputs.push(MoverOutput::Report(Report::Done { id: id.id, bytes, freeze }));
        }
    }
}
