//! A running node: the event loop around the replica's core, with its log and apply stages and its
//! clients' connections. What threads and sockets do on a real node, this does in steps that the
//! cluster schedules.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kontiki_kv::{Checked, Gate, Outcome};
use kontiki_raft::{Receipt, Role, SnapshotMeta};
use kontiki_replica::steward::Beginning;
use kontiki_replica::{
    Answer, Ask, Atlas, Caller, ChangeFailure, ChangeKind, Connection, ConnectionLimits, Core,
    Effect, FrameError, MoverOutput, NodeInfo, Opened, Question, Report, Request, Target,
};
use kontiki_resp::{Reply, ReplyParse, ReplyParser};
use kontiki_shard::Configuration;
use kontiki_storage::disk::SimDisk;
use kontiki_storage::engine::MemoryEngine;
use kontiki_types::{ClientId, GroupId, Instant, LogId, LogTime, Member, NodeId, Slot, Term};

use super::apply_stage::{ApplyStage, Work};
use super::host::SimHost;
use super::log_book::{Change, LogBook};
use super::log_stage::{LogStage, LogWork, Reading};
use super::moving::Moving;
use crate::random::Random;

/// Everything that can happen to a node.
pub(super) enum Input {
    EntriesRead(Reading),
    Request {
        to: Target,
        caller: Caller,
        ask: Ask,
    },
    Change {
        group: GroupId,
        caller: Caller,
        kind: ChangeKind,
    },
    Frame {
        from: NodeId,
        frame: Bytes,
        /// Whether it is as it was sent.
        intact: bool,
    },
    Persisted(Vec<(GroupId, Receipt)>),
    StorageFull(bool),
    Applied {
        group: GroupId,
        applied: LogId,
        log_time: LogTime,
        next_due: Option<LogTime>,
        outcomes: Vec<Outcome>,
    },
    Checked {
        group: GroupId,
        checked: Checked,
    },
    Due {
        group: GroupId,
        reads: Vec<Question>,
    },
    /// The group's steward has acted; of the controller's this is what it says then.
    Stewarded {
        group: GroupId,
        configuration: Option<Arc<Configuration>>,
    },
    Barred {
        group: GroupId,
        reads: Vec<(Question, Slot, Gate)>,
    },
    /// What the core asked for by itself or for another node.
    Answered(Caller, Answer),
    EnginePersisted {
        group: GroupId,
        applied: LogId,
    },
    SnapshotBuilt {
        group: GroupId,
        built: Option<SnapshotMeta>,
    },
    ChunkRead {
        group: GroupId,
        to: Member,
        meta: Box<SnapshotMeta>,
        offset: u64,
        data: Vec<u8>,
    },
    ChunkWritten {
        group: GroupId,
        meta: Box<SnapshotMeta>,
        end: u64,
    },
    SnapshotInstalled {
        group: GroupId,
        meta: Box<SnapshotMeta>,
        state: Option<(LogTime, Option<LogTime>)>,
    },
    Opened(Box<Opened>),
    Closed {
        group: GroupId,
        member: Member,
    },
    /// A group that has joined begins here, or the controller.
    Begin {
        group: GroupId,
        member: Member,
        beginning: Beginning,
    },
    /// The group has left, and its replica here goes.
    Remove {
        group: GroupId,
        member: Member,
    },
}

/// A step of a node that happens later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The event loop takes what waits and what is due.
    Act,
    /// The event loop is woken by its timer, which was set for this moment of the node's clock.
    Timer(Instant),
    /// What the log does is done.
    LogDone,
    /// The apply stage does what waits for it.
    Apply,
    /// The state of the group is durable.
    EnginePersisted(GroupId),
    /// The log has been idle since this moment of it.
    Seal(u64),
    /// What is done from time to time.
    Housekeeping,
    /// Moves of slots are looked at: by the timer that was set for this moment, if there is one.
    Move(Option<Instant>),
}

impl Step {
    /// A number for the trace.
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Act => 1,
            Self::Timer(_) => 2,
            Self::LogDone => 3,
            Self::Apply => 4,
            Self::EnginePersisted(_) => 5,
            Self::Seal(_) => 6,
            Self::Housekeeping => 7,
            Self::Move(_) => 8,
        }
    }
}

/// What a step leads to.
pub(super) enum Happening {
    Later(Duration, Step),
    /// A timer is set: for this time of the node's own clock.
    Timer(Instant, Step),
    /// What a move of slots has come to.
    Moves(Report),
    Frame {
        to: NodeId,
        frame: Bytes,
    },
    Reply {
        connection: u64,
        reply: Reply,
    },
    /// To somebody who is not on a connection.
    Answer {
        ticket: u64,
        answer: Answer,
    },
    Changed {
        ticket: u64,
        result: Result<(), ChangeFailure>,
    },
    Role {
        group: GroupId,
        role: Role,
        term: Term,
        leader: Option<Member>,
    },
    /// A batch goes to the log.
    Writes(GroupId, Change),
    /// The oldest batches of these groups are durable.
    HasWritten(Vec<GroupId>),
    /// All of a snapshot is there.
    Installs,
    /// So many snapshots were installed with a part of a move in them.
    InstalledInMove(u64),
    /// A replica that is new here is open.
    Opens(GroupId, Box<LogBook>),
    /// The group's steward has acted here, or came up.
    Stewarded(GroupId),
    Applied {
        group: GroupId,
        before: LogId,
        entry: (LogId, Option<Bytes>),
    },
    /// A frame was refused.
    BadFrame {
        from: NodeId,
        error: FrameError,
        intact: bool,
    },
    /// A frame that was damaged on its way was not refused.
    Fooled {
        from: NodeId,
    },
    Failed(String),
}

/// A client's connection, with what the client has sent and the connection does not accept yet.
struct Front {
    connection: Connection,
    unread: VecDeque<Vec<Bytes>>,
    parser: ReplyParser,
    output: BytesMut,
}

pub(super) struct Running {
    me: NodeInfo,
    pub(super) core: Core,
    log: LogStage,
    pub(super) stage: ApplyStage,
    random: Random,
    inbox: Vec<Input>,
    /// Exchanged for the inbox when that is emptied, so that both keep their memory.
    emptied: Vec<Input>,
    acting: bool,
    /// For when the event loop is woken by its timer.
    timer: Instant,
    applying: bool,
    persisting: BTreeSet<GroupId>,
    fronts: BTreeMap<u64, Front>,
    next_connection: u64,
    clock: (Instant, LogTime),
    /// What connections see of the cluster.
    atlas: Arc<Atlas>,
    atlas_version: u64,
    moving: Moving,
    happenings: Vec<Happening>,
}

impl Running {
    pub(super) fn new(
        me: NodeInfo,
        core: Core,
        log: LogStage,
        stage: ApplyStage,
        moving: Moving,
        random: Random,
    ) -> Self {
        let (atlas, atlas_version) = (Arc::new(core.atlas()), core.atlas_version());
        Self {
            me,
            core,
            log,
            stage,
            random,
            inbox: Vec::new(),
            emptied: Vec::new(),
            acting: false,
            timer: Instant::MAX,
            applying: false,
            persisting: BTreeSet::new(),
            fronts: BTreeMap::new(),
            next_connection: 1,
            clock: (Instant(0), LogTime(0)),
            atlas,
            atlas_version,
            moving,
            happenings: Vec::new(),
        }
    }

    pub(super) fn set_clock(&mut self, now: Instant, wall: LogTime) {
        self.clock = (now, wall);
    }

    /// A replica is open.
    pub(super) fn opens(&mut self, group: GroupId, book: LogBook) {
        self.happenings.push(Happening::Opens(group, Box::new(book)));
        self.happenings.push(Happening::Stewarded(group));
    }

    /// The first steps.
    pub(super) fn begin(&mut self) {
        self.wake();
        self.later(HOUSEKEEPING, Step::Housekeeping);
        self.wake_moving();
    }

    /// Exchanges what has happened for an empty list.
    pub(super) fn take_happenings(&mut self, into: &mut Vec<Happening>) {
        std::mem::swap(&mut self.happenings, into);
    }

    /// Accepts a client; its number.
    pub(super) fn connect(&mut self) -> u64 {
        let id = self.next_connection;
        self.next_connection += 1;
        let client =
            ClientId { incarnation: self.me.incarnation, boot: self.me.boot, connection: id };
        let connection = Connection::new(id, client, true, ConnectionLimits::default());
        let front = Front {
            connection,
            unread: VecDeque::new(),
            parser: ReplyParser::default(),
            output: BytesMut::new(),
        };
        self.fronts.insert(id, front);
        id
    }

    /// The client is gone; what it asked for goes on.
    pub(super) fn disconnect(&mut self, connection: u64) {
        self.fronts.remove(&connection);
    }

    /// A client sends a command.
    pub(super) fn command(&mut self, connection: u64, args: Vec<Bytes>) {
        if let Some(front) = self.fronts.get_mut(&connection) {
            front.unread.push_back(args);
        }
        self.serve(connection, None);
    }

    pub(super) fn input(&mut self, input: Input) {
        self.inbox.push(input);
        self.wake();
    }

    fn wake(&mut self) {
        if !self.acting {
            self.acting = true;
            let delay = self.random.time(LOOP_MIN, LOOP_MAX);
            self.later(delay, Step::Act);
        }
    }

    /// The node cannot go on.
    pub(super) fn fail(&mut self, error: String) {
        self.happenings.push(Happening::Failed(error));
    }

    fn later(&mut self, delay: Duration, step: Step) {
        self.happenings.push(Happening::Later(delay, step));
    }

    /// Whether a step has nothing to do any more: a timer that was set anew since, or the seal of a
    /// batch that is not the last one.
    pub(super) fn is_moot(&self, step: Step) -> bool {
        match step {
            Step::Timer(set) => set != self.timer,
            Step::Move(set) => self.moving.is_moot(set),
            Step::Seal(moment) => self.log.unsealed() != Some(moment),
            _ => false,
        }
    }

    /// # Errors
    /// The node cannot go on.
    pub(super) fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Act => self.act(),
            Step::Timer(set) if self.clock.0 < set => {
                // The clock runs slower than when this was set.
                self.happenings.push(Happening::Timer(set, step));
                Ok(())
            }
            Step::Timer(_) if self.has_nothing_due() => {
                self.timer = self.core.next_deadline();
                self.happenings.push(Happening::Timer(self.timer, Step::Timer(self.timer)));
                Ok(())
            }
            Step::Timer(_) => self.act(),
            Step::LogDone => {
                let receipts = self.log.finish()?;
                let groups = receipts.iter().map(|(group, _)| *group).collect();
                self.happenings.push(Happening::HasWritten(groups));
                for reading in self.log.take_reads() {
                    self.input(Input::EntriesRead(reading));
                }
                self.input(Input::Persisted(receipts));
                for opened in self.log.take_begun() {
                    self.input(Input::Opened(Box::new(opened)));
                }
                self.begin_log();
                if let Some(moment) = self.log.unsealed() {
                    self.later(SEAL_AFTER, Step::Seal(moment));
                }
                Ok(())
            }
            Step::Seal(moment) => self.log.seal(moment),
            Step::Apply => self.apply(),
            Step::EnginePersisted(group) => {
                self.persisting.remove(&group);
                if let Some(applied) = self.stage.persist(group) {
                    self.input(Input::EnginePersisted { group, applied });
                }
                Ok(())
            }
            Step::Move(set) if set.is_some_and(|set| self.clock.0 < set) => {
                self.happenings.extend(set.map(|set| Happening::Timer(set, step)));
                Ok(())
            }
            Step::Move(_) => {
                self.move_slots();
                Ok(())
            }
            Step::Housekeeping => {
                if self.moving.is_sharded() {
                    self.stage.tidy()?;
                }
                if let Some(full) = self.log.look_for_space() {
                    self.input(Input::StorageFull(full));
                }
                for group in self.core.outgrown() {
                    if self.persisting.insert(group) {
                        let delay = self.random.time(ENGINE_MIN, ENGINE_MAX);
                        self.later(delay, Step::EnginePersisted(group));
                    }
                }
                self.later(HOUSEKEEPING, Step::Housekeeping);
                Ok(())
            }
        }
    }

    /// Whether the moment that the timer was set for has been put off, and nothing else waits.
    fn has_nothing_due(&self) -> bool {
        !self.acting && self.inbox.is_empty() && self.core.next_deadline() > self.clock.0
    }

    /// Takes everything that waits, lets the core act once, and hands out what it wants done.
    fn act(&mut self) -> Result<(), String> {
        let (now, wall) = self.clock;
        let due = self.timer <= now;
        if !self.acting && !due {
            return Ok(());
        }
        self.acting = false;
        if due {
            self.timer = Instant::MAX;
        }
        self.core.set_time(now, wall);
        let mut inputs = std::mem::replace(&mut self.inbox, std::mem::take(&mut self.emptied));
        for input in inputs.drain(..) {
            self.take(input)?;
        }
        self.emptied = inputs;
        self.core.tick();
        let effects = self.core.flush();
        if self.atlas_version != self.core.atlas_version() {
            self.atlas_version = self.core.atlas_version();
            self.atlas = Arc::new(self.core.atlas());
        }
        for (to, frame) in self.core.take_frames() {
            self.happenings.push(Happening::Frame { to, frame });
        }
        for effect in effects {
            self.carry_out(effect)?;
        }
        self.begin_log();
        self.begin_apply();
        self.wake_moving();
        let deadline = self.core.next_deadline().max(now + Duration::from_micros(1));
        if deadline < self.timer {
            self.timer = deadline;
            self.happenings.push(Happening::Timer(deadline, Step::Timer(deadline)));
        }
        Ok(())
    }

    fn take(&mut self, input: Input) -> Result<(), String> {
        let core = &mut self.core;
        match input {
            Input::Request { to, caller, ask } => core.request(to, caller, ask),
            Input::Change { group, caller, kind } => core.change(group, caller, kind),
            Input::Frame { from, frame, intact } => match core.receive(from, frame) {
                Ok(()) if intact => {}
                Ok(()) => self.happenings.push(Happening::Fooled { from }),
                Err(error) => {
                    self.happenings.push(Happening::BadFrame { from, error, intact });
                }
            },
            Input::EntriesRead(Reading { group, to, from, entries }) => {
                core.entries_read(group, to, from, entries);
            }
            Input::StorageFull(full) => core.set_storage_full(full),
            Input::Persisted(receipts) => {
                for (group, receipt) in receipts {
                    core.persisted(group, receipt);
                }
            }
            Input::Checked { group, checked } => core.checked(group, checked),
            Input::Applied { group, applied, log_time, next_due, outcomes } => {
                core.applied(group, applied, log_time, next_due, outcomes);
            }
            Input::Due { group, reads } => core.due(group, reads),
            Input::Barred { group, reads } => core.barred(group, reads),
            Input::Answered(caller, answer) => core.answered(vec![(caller, answer)]),
            Input::Stewarded { group, configuration } => {
                core.stewarded(group);
                self.moving.hears_steward(group);
                if let Some(configuration) = configuration {
                    core.set_configuration(configuration);
                }
            }
            Input::EnginePersisted { group, applied } => core.engine_persisted(group, applied),
            Input::SnapshotBuilt { group, built } => core.snapshot_built(group, built),
            Input::ChunkRead { group, to, meta, offset, data } => {
                core.chunk_read(group, to, &meta, offset, data);
            }
            Input::ChunkWritten { group, meta, end } => core.chunk_written(group, &meta, end),
            Input::SnapshotInstalled { group, meta, state } => {
                core.snapshot_installed(group, &meta, state);
            }
            Input::Opened(opened) => {
                let book = LogBook::of(opened.raft.me, &opened.recovered);
                self.happenings.push(Happening::Opens(opened.group, Box::new(book)));
                core.open(*opened).map_err(|error| error.to_string())?;
            }
            Input::Begin { group, member, beginning } => {
                if core.replica(group).is_none() {
                    self.stage.queue.push_back(Work::Begin { group, member, beginning });
                }
            }
            Input::Remove { group, member } => {
                if core.replica(group).is_some_and(|raft| raft.status().me == member) {
                    core.close(group, member.replica);
                    self.stage.queue.push_back(Work::Remove { group, member });
                }
            }
            Input::Closed { group, member } => {
                self.moving.closed(group);
                core.close(group, member.replica);
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) -> Result<(), String> {
        let queue = &mut self.stage.queue;
        match effect {
            Effect::Persist { group, batch } => {
                self.happenings.push(Happening::Writes(group, Change::of(&batch)));
                self.log.add(LogWork::Write(group, batch));
            }
            Effect::ReadEntries { group, to, from, max } => {
                self.log.add(LogWork::Read { group, to, from, max });
            }
            Effect::Apply { group, entries } => queue.push_back(Work::Apply { group, entries }),
            Effect::Query { group, log_time, reads } => {
                queue.push_back(Work::Query { group, log_time, reads });
            }
            Effect::Answer { caller, answer } => self.answer(caller, answer),
            Effect::Changed { caller, result } => {
                self.happenings.push(Happening::Changed { ticket: caller.ticket, result });
            }
            Effect::Role { group, role, term, leader } => {
                self.moving.role(group, (role == Role::Leader).then_some(term));
                self.happenings.push(Happening::Role { group, role, term, leader });
            }
            Effect::BuildSnapshot { group } => queue.push_back(Work::BuildSnapshot { group }),
            Effect::ReadChunk { group, to, meta, offset, max } => {
                queue.push_back(Work::ReadChunk { group, to, meta, offset, max });
            }
            Effect::WriteChunk { group, meta, offset, data } => {
                queue.push_back(Work::WriteChunk { group, meta, offset, data });
            }
            Effect::InstallSnapshot { group, meta } => {
                self.happenings.push(Happening::Installs);
                queue.push_back(Work::InstallSnapshot { group, meta });
            }
            Effect::Create { group, member } => queue.push_back(Work::Create { group, member }),
            Effect::Removed { group, member } => queue.push_back(Work::Remove { group, member }),
            Effect::Faulted { group } => return Err(format!("{group}: the log has failed")),
            Effect::Mismatch { .. }
            | Effect::Info(_)
            | Effect::Asked(_)
            | Effect::Forget(_)
            | Effect::Dismissed => {}
        }
        Ok(())
    }

    /// Has moves of slots looked at soon, if something has happened to them.
    fn wake_moving(&mut self) {
        if self.moving.wakes() {
            let delay = self.random.time(LOOP_MIN, LOOP_MAX);
            self.later(delay, Step::Move(None));
        }
    }

    /// Does what moves of slots need.
    fn move_slots(&mut self) {
        let (now, log_time) = (self.clock.0, self.log_time());
        for output in self.moving.poll(now, log_time) {
            match output {
                MoverOutput::Ask { ticket, to, ask } => {
                    let caller = Caller { connection: MOVING, ticket };
                    self.input(Input::Request { to: Target::Group(to), caller, ask });
                }
                MoverOutput::Look { ticket, group, mut look } => {
                    look.set_clock(self.core.stamp(group));
                    self.stage.queue.push_back(Work::Look { ticket, group, look });
                }
                MoverOutput::Slow { group, slots } => self.core.slow(group, slots),
                MoverOutput::Report(report) => self.happenings.push(Happening::Moves(report)),
            }
        }
        self.begin_apply();
        if let Some(at) = self.moving.timer(now) {
            self.happenings.push(Happening::Timer(at, Step::Move(Some(at))));
        }
    }

    fn begin_log(&mut self) {
        if let Some(delay) = self.log.begin() {
            self.later(delay, Step::LogDone);
        }
    }

    fn begin_apply(&mut self) {
        if !self.applying && !self.stage.queue.is_empty() {
            self.applying = true;
            let delay = self.random.time(APPLY_MIN, APPLY_MAX);
            self.later(delay, Step::Apply);
        }
    }

    fn apply(&mut self) -> Result<(), String> {
        self.applying = false;
        let machines = self.stage.machines.iter();
        let mut before: BTreeMap<_, _> =
            machines.map(|(&group, machine)| (group, machine.applied())).collect();
        let done = self.stage.run()?;
        for (group, id, payload) in done.applied {
            // After a snapshot took the place of the state, the position jumps.
            let follows = before.insert(group, id).filter(|at| at.index.next() == id.index);
            let before = follows.unwrap_or(LogId::new(id.term, id.index.prev()));
            self.happenings.push(Happening::Applied { group, before, entry: (id, payload) });
        }
        self.happenings.extend(done.stewarded.into_iter().map(Happening::Stewarded));
        if done.installed_in_move > 0 {
            self.happenings.push(Happening::InstalledInMove(done.installed_in_move));
        }
        for work in done.log {
            self.log.add(work);
        }
        self.begin_log();
        for (caller, answer) in done.answers {
            self.answer(caller, answer);
        }
        for (ticket, step) in done.looked {
            self.moving.looked(ticket, step);
        }
        self.wake_moving();
        // As on a real node: if nobody here waits for what was applied, it is told with whatever
        // comes next.
        let is_quiet = self.core.pending_writes() == 0
            && done.inputs.iter().all(|input| matches!(input, Input::Applied { .. }));
        if is_quiet {
            self.inbox.extend(done.inputs);
            return Ok(());
        }
        for input in done.inputs {
            self.input(input);
        }
        Ok(())
    }

    fn answer(&mut self, caller: Caller, answer: Answer) {
        if caller.connection == MOVING {
            self.moving.answer(caller.ticket, answer);
            return self.wake_moving();
        }
        if caller.connection == 0 {
            self.happenings.push(Happening::Answer { ticket: caller.ticket, answer });
            return;
        }
        self.serve(caller.connection, Some((caller.ticket, answer)));
    }

    /// The log time that clients are told.
    fn log_time(&self) -> LogTime {
        let log_time = self.core.latest_log_time();
        // As on a real node: before the first stamp the wall clock is the best guess.
        if log_time == LogTime(0) { self.clock.1 } else { log_time }
    }

    /// Gives a connection an answer, if there is one, and then what its client has sent.
    fn serve(&mut self, id: u64, answer: Option<(u64, Answer)>) {
        let log_time = self.log_time();
        let Some(front) = self.fronts.get_mut(&id) else { return };
        let host = SimHost {
            id: self.core.me().id,
            log_time,
            wall: self.clock.1,
            random: RefCell::new(&mut self.random),
            atlas: &self.atlas,
        };
        let mut requests = Vec::new();
        if let Some((ticket, answer)) = answer {
            front.connection.answer(ticket, answer, &host, &mut requests);
        }
        while front.connection.accepts()
            && let Some(args) = front.unread.pop_front()
        {
            front.connection.command(&args, &host, &mut requests);
        }
        let written = front.connection.output().split();
        front.output.extend_from_slice(&written);
        while let ReplyParse::Reply(reply) = front.parser.parse(&mut front.output) {
            self.happenings.push(Happening::Reply { connection: id, reply });
        }
        for Request { ticket, to, ask, .. } in requests {
            self.input(Input::Request { to, caller: Caller { connection: id, ticket }, ask });
        }
    }

    /// The power fails. What is under way takes effect in part; what the engine has not persisted
    /// survives up to a commit chosen by chance.
    pub(super) fn cut_off(self, disk: &SimDisk, random: &mut Random) -> MemoryEngine {
        self.log.cut_off(disk);
        self.stage.engine.crash(|_, commits| random.below(commits as u64 + 1) as usize)
    }

    /// The next sync of the log takes this long.
    pub(super) fn stall(&mut self, time: Duration) {
        self.log.stall(time);
    }

    /// Whether the log is in the middle of a write.
    pub(super) fn is_log_busy(&self) -> bool {
        self.log.is_busy()
    }

    /// Whether the last batch of the log is not sealed, or more is to be written.
    pub(super) fn is_writing(&self) -> bool {
        self.log.is_busy() || self.log.unsealed().is_some()
    }

    /// What of the node's work grows if nobody bounds it: bytes of the log's segments, inputs, and
    /// connections.
    pub(super) fn sizes(&self) -> (u64, usize, usize) {
        (self.log.segment_bytes(), self.inbox.len(), self.fronts.len())
    }
}

/// The caller of what moves of slots ask for.
const MOVING: u64 = u64::MAX - 1;
const LOOP_MIN: Duration = Duration::from_micros(5);
const LOOP_MAX: Duration = Duration::from_micros(40);
const APPLY_MIN: Duration = Duration::from_micros(10);
const APPLY_MAX: Duration = Duration::from_micros(200);
const ENGINE_MIN: Duration = Duration::from_millis(1);
const ENGINE_MAX: Duration = Duration::from_millis(20);
const SEAL_AFTER: Duration = Duration::from_millis(20);
const HOUSEKEEPING: Duration = Duration::from_millis(500);
