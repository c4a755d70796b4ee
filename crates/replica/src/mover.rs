//! Carries out moves of slots for the groups that this node leads.
//!
//! What is next for a move is decided by [`source_step`] and [`target_step`], from replicated state
//! and the controller's answers; nothing here must be remembered for a move to go on. This is what
//! carries the steps out: it asks the controller what concerns the groups led here, has the apply
//! stage look at a group's state ([`Look`]), and tells groups what to do by requests ([`Ask`]) that
//! take effect once. A request that is lost is made again by the next look.
//!
//! - Several chunks are under way at a time. What was sent is taken as arrived until an answer says
//!   otherwise; then the target is asked.
//! - Copying keeps to a number of bytes per second, so that clients' writes keep their latency. Once
//!   the slots are frozen nothing is held back: clients wait.
//! - Before a move is copied its slots are weighed. What is more than is frozen at a time stays behind
//!   as a move of its own; who led the source before may have begun with all of it, so the rest goes
//!   on as another attempt.
//! - When the controller has committed, the *source's* leader tells the target to serve, since it
//!   hears of the commit first. The target's leader does the same by what it reads itself.
//! - It looks when something happens: the controller's state changes, a group gets its leader, an
//!   answer comes. Besides it asks the controller now and then, if that may have been missed.
//!
//! No I/O, clock or randomness: the driver sets the time, makes the requests and looks, and hands in
//! what came of them.

mod duties;
mod task;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use kontiki_kv::command::{Read, Write};
use kontiki_kv::{Machine, MachineError, Proposal, Store, Weighed, Weighing, WriteRequest};
use kontiki_shard::{
    Answer as Said, Call, GroupOp, ImportStatus, Limits, Move, MoveId, Op, Phase, Query, Side,
    SlotSet, Source, Stage, Step, Tag, Told, Verdict, source_stage, source_step, target_stage,
    target_step,
};
use kontiki_types::plant::{Plant, planted};
use kontiki_types::{ClientId, GroupId, Instant, LogTime, Seq, Slot, Term};

use crate::connection::{Answer, Ask, RETENTION_MILLIS, SessionWrite};
use crate::steward::{CONTROLLER, SourceRows, answered, ask, holdings_of, tell, told};
use duties::Duties;
use task::{Task, TaskId};

/// Bytes of rows that are counted with each chunk, as a multiple of the chunk's: counting is to be
/// through before copying is.
const COUNTED_PER_CHUNK: usize = 2;

/// Bytes of rows that are weighed at a time, before anything is copied.
const WEIGHED_PER_LOOK: u64 = 512 << 10;

/// Bounds of what moves may take.
#[derive(Clone, Copy, Debug)]
pub struct MoverLimits {
    /// Sizes of chunks, and what may be left to send at the freeze.
    pub step: Limits,
    /// Bytes per second that all moves of which this node leads the source copy together.
    pub copy_bytes_per_second: u64,
    /// Chunks of a move that are under way at a time.
    pub chunks_in_flight: usize,
    /// Chunks that one look reads of slots that stand still; more is read at the next one.
    pub chunks_at_a_look: usize,
    /// A move of more bytes than this is split, if it has more than one slot.
    pub part_bytes: u64,
    /// When clients have kept what is left from getting small for so long, the slots are frozen with
    /// twice as much to go, and after each further such time with twice as much again, up to
    /// `freeze_bytes_most`; from then on writers are slowed, too.
    pub patience: Duration,
    /// What may be left to send at the freeze if need be.
    pub freeze_bytes_most: u64,
    /// An attempt that takes longer is given up, and another one follows.
    pub attempt: Duration,
    /// An attempt whose slots are frozen for longer is given up.
    pub freeze: Duration,
}

impl Default for MoverLimits {
    /// Chunks of 256 KiB, four of them under way, eight read at a time of slots that stand still, 48 MiB
    /// per second; 64 MiB in a move; twice as much left at the freeze after each half a second of
    /// trying, up to 1 MiB; ten minutes for an attempt, and two seconds for a freeze, less than clients
    /// wait.
    fn default() -> Self {
        Self {
            step: Limits::default(),
            copy_bytes_per_second: 48 << 20,
            chunks_in_flight: 4,
            chunks_at_a_look: 8,
            part_bytes: 64 << 20,
            patience: Duration::from_millis(500),
            freeze_bytes_most: 1 << 20,
            attempt: Duration::from_secs(600),
            freeze: Duration::from_secs(2),
        }
    }
}

/// What the driver does for the mover, and answers by its ticket.
#[derive(Debug)]
pub enum MoverOutput {
    /// Ask a group, and hand the answer to [`Mover::answer`].
    Ask {
        /// Names the request.
        ticket: u64,
        /// The group.
        to: GroupId,
        /// The request.
        ask: Ask,
    },
    /// Have the apply stage look at a group, and hand what it finds to [`Mover::looked`].
    Look {
        /// Names the look.
        ticket: u64,
        /// The group.
        group: GroupId,
        /// The look.
        look: Box<Look>,
    },
    /// Have the core slow the writers of these slots for a second ([`Core::slow`](crate::Core::slow)).
    Slow {
        /// Their group, which is led here.
        group: GroupId,
        /// What moves.
        slots: SlotSet,
    },
    /// Something to show.
    Report(Report),
}

/// What a move has come to, for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// A side of a move that is led here has come to a stage. What is next for it has not been
    /// asked of the driver yet: it comes after this.
    Stage {
        /// The move.
        id: MoveId,
        /// From 1.
        attempt: u32,
        /// Which side of it.
        side: Side,
        /// The stage.
        stage: Stage,
    },
    /// A side of a move is not carried out here any more: it is over, or another node leads.
    Left {
        /// The move.
        id: MoveId,
        /// Which side of it.
        side: Side,
    },
    /// A group led here gives slots: another attempt begins.
    Began {
        /// The move.
        id: MoveId,
        /// From 1.
        attempt: u32,
    },
    /// So many bytes were sent.
    Sent {
        /// The move.
        id: MoveId,
        /// Bytes of chunks.
        bytes: u64,
    },
    /// The slots are to stand still.
    Freezing {
        /// The move.
        id: MoveId,
    },
    /// The slots are the target's.
    Committed {
        /// The move.
        id: MoveId,
    },
    /// The slots have changed hands, and are served by the target.
    Done {
        /// The move.
        id: MoveId,
        /// Bytes of chunks, of all attempts led here.
        bytes: u64,
        /// From the request to freeze until the target's answer that it serves; `None` if it was an
        /// earlier leader's request.
        freeze: Option<Duration>,
    },
    /// The attempt is given up.
    GivenUp {
        /// The move.
        id: MoveId,
        /// Why.
        why: kontiki_shard::Why,
    },
}

/// What is next for one side of a move, asked of the group's state.
#[derive(Debug)]
pub struct Look {
    found: Move,
    term: Term,
    side: LookSide,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a look travels in a box")]
enum LookSide {
    Source {
        target: Option<ImportStatus>,
        clock: LogTime,
        is_late: bool,
        limits: Limits,
        /// How far the slots are weighed, if they are to be before they are copied.
        weighing: Option<Weighing>,
        part_bytes: u64,
        chunks_at_a_look: usize,
    },
    Target,
}

/// What a look has found, for [`Mover::looked`].
#[derive(Debug)]
pub struct Found {
    /// One after the other; none: it is to be looked again.
    steps: Vec<Step>,
    stage: Option<Stage>,
    weighing: Option<Weighing>,
}

impl Look {
    /// Sets the stamp that the group's leader would give an entry now: its own estimate, in which
    /// there is nothing of another group's log time.
    pub fn set_clock(&mut self, stamp: LogTime) {
        if let LookSide::Source { clock, .. } = &mut self.side {
            *clock = stamp;
        }
    }

    /// Looks. `None` while the state has no entry of the leader's term, or has no steward, and while
    /// slots that would be frozen are not counted.
    ///
    /// # Errors
    /// The rows could not be read.
    pub fn take<S: Store>(&self, machine: &mut Machine<S>) -> Result<Option<Found>, MachineError> {
        let Some(steward) = machine.steward() else { return Ok(None) };
        if machine.applied().term != self.term {
            return Ok(None);
        }
        let holdings = holdings_of(steward)?;
        let found = &self.found;
        match &self.side {
            LookSide::Target => {
                let stage = target_stage(&holdings, found);
                let steps = vec![target_step(&holdings, found)];
                Ok(Some(Found { steps, stage, weighing: None }))
            }
            LookSide::Source {
                target,
                clock,
                is_late,
                limits,
                weighing,
                part_bytes,
                chunks_at_a_look,
            } => {
                // The slots are counted while they are copied, and at the freeze there is little left.
                let is_counted = match holdings.export(found.tag.id) {
                    Some(export) if found.phase == Phase::Planned => {
                        let slots: Vec<Slot> = export.slots.iter().collect();
                        machine.tally(&slots, COUNTED_PER_CHUNK * limits.chunk_bytes)?
                    }
                    _ => true,
                };
                let source = Source {
                    holdings: &holdings,
                    data: &SourceRows(machine),
                    term: self.term,
                    clock: *clock,
                    found,
                    target: target.as_ref(),
                    is_late: *is_late,
                    limits: *limits,
                };
                let (step, stage) = (source_step(&source)?, source_stage(&source));
                let freezes = matches!(
                    &step,
                    Step::Propose(command) if command.op == GroupOp::Freeze
                );
                if freezes && !is_counted {
                    return Ok(None);
                }
                let mut steps = vec![step];
                if stage == Some(Stage::Frozen) {
                    follow_up(&source, *chunks_at_a_look, &mut steps)?;
                }
                let mut looked = Found { steps, stage, weighing: weighing.clone() };
                let opens = matches!(
                    &looked.steps[..],
                    [Step::Propose(command)] if matches!(command.op, GroupOp::ExportOpen { .. })
                );
                if let (true, Some(weighing)) = (opens, &mut looked.weighing) {
                    let slots: Vec<Slot> = found.slots.iter().collect();
                    match machine.weigh(&slots, weighing, *part_bytes, WEIGHED_PER_LOOK)? {
                        Weighed::GoesOn => looked.steps.clear(),
                        Weighed::Light => looked.weighing = None,
                        Weighed::Heavy { first } => {
                            let keep: SlotSet = slots.into_iter().take(first).collect();
                            looked.steps = vec![Step::Tell(Op::Split { tag: found.tag, keep })];
                            looked.weighing = None;
                        }
                    }
                }
                Ok(Some(looked))
            }
        }
    }
}

/// Clients wait while slots stand still: what is left to send is sent at one look, as long as it is
/// little, each chunk as if the ones before had arrived.
fn follow_up<S: Store>(
    source: &Source<'_, SourceRows<'_, S>>,
    most: usize,
    steps: &mut Vec<Step>,
) -> Result<(), MachineError> {
    let Some(mut target) = source.target.cloned() else { return Ok(()) };
    while let Some(Step::Send(sent)) = steps.last()
        && target.expect(sent)
        && steps.len() < most
    {
        steps.push(source_step(&Source { target: Some(&target), ..*source })?);
    }
    Ok(())
}

/// What an answer is about.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Duties,
    /// A chunk.
    Chunk(TaskId),
    /// The own group was told: the task waits for it.
    Own(TaskId),
    /// The target was told or asked: the task waits for it.
    Target(TaskId),
    /// The controller was told: it is asked what came of it.
    Tell(TaskId),
    /// What the controller says of the move.
    Move(TaskId),
    /// The target was told to serve.
    Activate(TaskId),
    Look(TaskId),
}

/// The moves of the groups led here.
#[derive(Debug)]
pub struct Mover {
    limits: MoverLimits,
    client: ClientId,
    next_seq: u64,
    /// Numbers of writes that are not answered.
    unanswered: BTreeSet<u64>,
    next_ticket: u64,
    /// With the number of the write, if it is one.
    open: BTreeMap<u64, (Purpose, Option<u64>)>,
    led: BTreeMap<GroupId, Term>,
    duties: Duties,
    /// The attempt whose slots stand still, or are about to, and how long that counts.
    still: Option<(TaskId, Tag, Instant)>,
    tasks: BTreeMap<TaskId, Task>,
    /// Nothing is copied before: what was sent is paid for.
    copy_at: Instant,
    now: Instant,
    /// The latest log time that is known here: deadlines of writes are made from it.
    log_time: LogTime,
    outputs: Vec<MoverOutput>,
}

impl Mover {
    /// A node that leads nothing. No other session may have this client's id.
    pub fn new(client: ClientId, limits: MoverLimits) -> Self {
        Self {
            limits,
            client,
            next_seq: 1,
            unanswered: BTreeSet::new(),
            next_ticket: 0,
            open: BTreeMap::new(),
            led: BTreeMap::new(),
            duties: Duties::default(),
            still: None,
            tasks: BTreeMap::new(),
            copy_at: Instant(0),
            now: Instant(0),
            log_time: LogTime(0),
            outputs: Vec::new(),
        }
    }

    /// Sets the time for the calls that follow: the monotonic clock, and the log time that the node
    /// tells clients. Not a wall clock: one that had jumped ahead would make deadlines that every
    /// group refuses, long after it is right again.
    pub fn set_time(&mut self, now: Instant, log_time: LogTime) {
        self.now = now;
        self.log_time = log_time;
    }

    /// This node leads a group from here on, in this term, or does not any more.
    pub fn role(&mut self, group: GroupId, leads: Option<Term>) {
        let before = match leads {
            Some(term) => self.led.insert(group, term),
            None => self.led.remove(&group),
        };
        if before == leads || group == CONTROLLER {
            return;
        }
        self.leave(|id| id.group == group);
        self.duties.wanted |= leads.is_some();
    }

    /// The controller's state has changed.
    pub fn controller_changed(&mut self) {
        self.duties.wanted = true;
    }

    /// Whether changes of the controller are heard of here: there is a replica of it.
    pub fn set_hears_controller(&mut self, hears: bool) {
        self.duties.hears_controller = hears;
    }

    /// What is to be done now.
    pub fn poll(&mut self) -> Vec<MoverOutput> {
        self.ask_for_duties();
        self.look_at_tasks();
        core::mem::take(&mut self.outputs)
    }

    /// When [`Mover::poll`] is to be called at the latest.
    pub fn next_deadline(&self) -> Instant {
        let tasks = self.tasks.iter().filter(|(_, task)| task.is_free(&self.limits));
        let tasks = tasks.map(|(id, task)| self.look_at(*id, task));
        tasks.fold(self.duties_at(), Instant::min)
    }

    /// A request was answered.
    pub fn answer(&mut self, ticket: u64, answer: Answer) {
        let Some((purpose, seq)) = self.open.remove(&ticket) else { return };
        if let Some(seq) = seq {
            self.unanswered.remove(&seq);
        }
        let reply = match answer {
            Answer::Reply(reply) => Some(reply),
            Answer::Failed(_) => None,
        };
        let reply = reply.as_ref();
        let carried = || match told(reply?).ok()? {
            Told::Carried { verdict, status } => Some((verdict, status)),
            _ => None,
        };
        match purpose {
            Purpose::Look(_) => {}
            Purpose::Duties => self.hear_duties(reply.and_then(|reply| answered(reply).ok())),
            Purpose::Chunk(id) => self.chunk_answered(id, carried()),
            Purpose::Activate(id) => self.activation_answered(id, carried()),
            Purpose::Tell(id) => match reply.map(told) {
                Some(Ok(Told::Decided { found: Some(found), .. })) => {
                    self.hear_move(id, Some(found));
                }
                _ if planted(Plant::DeposedControllerBelieved) && self.is_taken_for_done(id) => {}
                // Whatever came of it, the controller knows.
                _ => self.ask_for_move(id),
            },
            Purpose::Move(id) => {
                let found = reply.and_then(|reply| match answered(reply).ok()? {
                    Said::Move { found } => Some(found),
                    _ => None,
                });
                self.hear_move(id, found);
            }
            Purpose::Own(id) => self.own_answered(id, carried().map(|(verdict, _)| verdict)),
            Purpose::Target(id) => {
                let came = reply.and_then(|reply| match answered(reply) {
                    Ok(Said::Import { status }) => Some((Verdict::Done, status)),
                    _ => carried(),
                });
                self.target_answered(id, came);
            }
        }
    }

    /// A look has found this; `None` if there was nothing to look at yet.
    pub fn looked(&mut self, ticket: u64, found: Option<Found>) {
        if let Some((Purpose::Look(id), _)) = self.open.remove(&ticket) {
            self.take_found(id, found);
        }
    }

    fn ticket(&mut self, purpose: Purpose, seq: Option<u64>) -> u64 {
        self.next_ticket += 1;
        self.open.insert(self.next_ticket, (purpose, seq));
        self.next_ticket
    }

    /// Tells a group something, once.
    fn tell(&mut self, to: GroupId, call: &Call, purpose: Purpose) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.unanswered.insert(seq);
        let low = self.unanswered.first().copied().unwrap_or(seq);
        let proposal = self.proposal(seq, low, &tell(call));
        let ticket = self.ticket(purpose, Some(seq));
        let write = SessionWrite { client: self.client, seq: Seq(seq), proposal };
        self.outputs.push(MoverOutput::Ask { ticket, to, ask: Ask::Write(write) });
    }

    fn proposal(&self, seq: u64, low: u64, write: &Write) -> bytes::Bytes {
        let mut command = Vec::new();
        write.encode(&mut command);
        let request = WriteRequest {
            client: self.client,
            seq: Seq(seq),
            low: Seq(low),
            deadline: LogTime(self.log_time.0.saturating_add(RETENTION_MILLIS)),
            after: None,
            slot: Slot::default(),
            command: command.into(),
        };
        Proposal::write(LogTime(0), request).to_bytes()
    }

    /// Asks a group something.
    fn ask(&mut self, to: GroupId, query: &Query, purpose: Purpose) {
        let read: Read = ask(query);
        let ticket = self.ticket(purpose, None);
        self.outputs.push(MoverOutput::Ask { ticket, to, ask: Ask::Read(read) });
    }
}

#[cfg(test)]
mod tests;
