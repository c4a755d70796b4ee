//! The task that owns the node's core: it takes everything that waits, lets the core act once, and
//! hands out what the core wants done.

mod throttle;

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use kontiki_kv::{Checked, Gate, Outcome};
use kontiki_net::PeerTransport;
use kontiki_raft::{Entries, Receipt, Role, SnapshotMeta};
use kontiki_replica::steward::{Beginning, CONTROLLER};
use kontiki_replica::{
    Answer, Ask, Caller, ChangeFailure, ChangeKind, ClientKind, Core, Effect, FIRST_GROUP, Found,
    GroupStatus, Host, Look, NodeInfo, Opened, Question, Request, Target,
};
use kontiki_shard::{Configuration, SlotSet};
use kontiki_storage::engine::{Presence, TableFile};
use kontiki_types::{GroupId, Index, LogId, LogTime, Member, NodeId, Slot};
use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use crate::apply::{ApplyHandle, Work};
use crate::clock;
use crate::log_writer::LogWork;
use crate::lost::Adopted;
use crate::mailbox::{Inbox, InboxSender, Sender};
use crate::memory::Governor;
use crate::metrics::resident_bytes;
use crate::moving::News;
use crate::shared::Shared;
use crate::stages::{Underway, seconds};
use crate::starting::Starting;
use crate::views::Taken;
use throttle::Throttle;

/// The group of a store that is not sharded.
pub(crate) const DATA_GROUP: GroupId = FIRST_GROUP;

/// How often a turn looks for more to come before it begins.
const GATHER_ROUNDS: usize = 8;

/// With fewer open connections there is nothing to gather.
const CROWD_MIN: usize = 4;

/// Inputs from which on a turn begins.
const GATHER_MAX: usize = 1024;

/// The loop turns at least this often, so that what it shows is never older.
const TURN_MAX: Duration = Duration::from_millis(100);

/// Everything that can happen to a node.
pub(crate) enum Input {
    /// From a client's connection.
    Requests { connection: u64, requests: Vec<Request>, at: kontiki_types::Instant },
    /// From a native call.
    Ask { to: Target, caller: Caller, ask: Ask },
    /// From an operator.
    Change { group: GroupId, kind: ChangeKind, done: oneshot::Sender<Result<(), ChangeFailure>> },
    /// From another node.
    Frame { from: NodeId, frame: Bytes },
    /// From the log thread.
    Persisted(Vec<(GroupId, Receipt)>),
    /// From the log thread: entries for a follower, none if they cannot be read.
    EntriesRead { group: GroupId, to: Member, from: Index, entries: Entries<Bytes> },
    /// From the log thread: it has failed, for this reason.
    PersistFailed(String),
    /// From the log thread: whether the disk is (nearly) full.
    StorageFull(bool),
    /// From the apply stage.
    Applied {
        group: GroupId,
        applied: LogId,
        log_time: LogTime,
        next_due: Option<LogTime>,
        outcomes: Vec<Outcome>,
    },
    /// From the apply stage: what a comparison of the replicas came to here.
    Checked { group: GroupId, checked: Checked },
    /// From the apply stage: the state of a group is not that of its leader.
    Differs { group: GroupId, reason: String },
    /// From the apply stage: reads that wait for log time.
    Due { group: GroupId, reads: Vec<Question> },
    /// From the apply stage: reads that met a slot that is not served, each with it.
    Barred { group: GroupId, reads: Vec<(Question, Slot, Gate)> },
    /// From the apply stage: answers to reads that the core asked for by itself or for other nodes.
    Answered(Vec<(Caller, Answer)>),
    /// From the apply stage: the group's steward has acted. If it is the controller, this is the
    /// configuration after it.
    Stewarded { group: GroupId, configuration: Option<Arc<Configuration>> },
    /// The state engine is durable up to here, if this is still the group's state.
    EnginePersisted { group: GroupId, applied: LogId, of: Presence },
    /// From the apply stage.
    SnapshotBuilt { group: GroupId, built: Option<SnapshotMeta> },
    /// From the throttle: it is this one's turn.
    ReadChunk { group: GroupId, to: Member, meta: Box<SnapshotMeta>, offset: u64, max: usize },
    /// From the apply stage.
    ChunkRead { group: GroupId, to: Member, meta: Box<SnapshotMeta>, offset: u64, data: Vec<u8> },
    /// From the apply stage.
    ChunkWritten { group: GroupId, meta: Box<SnapshotMeta>, end: u64 },
    /// From the apply stage.
    SnapshotInstalled {
        group: GroupId,
        meta: Box<SnapshotMeta>,
        state: Option<(LogTime, Option<LogTime>)>,
    },
    /// From the apply stage: a replica that was created at a leader's word is open.
    Opened(Box<Opened>),
    /// From the apply stage: a removed replica has its tombstone and no state any more.
    Closed { group: GroupId, member: Member },
    /// From the apply stage: it cannot go on.
    ApplyFailed { group: GroupId, reason: String },
    /// From the apply stage: the stored state of a group cannot be read back.
    Damaged { group: GroupId, reason: String },
    /// From the task that fetches lost states: this is one.
    Adopt(Box<Adopted>),
    /// From the thread that reads what nobody asks for: which tables there are.
    TableFiles(mpsc::Sender<Vec<(GroupId, TableFile)>>),
    /// From a node that joins, perhaps under an id that is known by another directory.
    Introduced(NodeInfo),
    /// From a peer that has lost a group's state: a snapshot is wanted.
    BuildSnapshot { group: GroupId },
    /// From a native call: a view of what is applied is wanted.
    TakeView { group: GroupId, taken: oneshot::Sender<Taken> },
    /// From the task that moves slots: what is next is wanted.
    Look { group: GroupId, look: Box<Look>, taken: oneshot::Sender<Option<Found>> },
    /// From the task that moves slots: writers of these outrun the copy.
    Slow { group: GroupId, slots: SlotSet },
    /// From the task that moves replicas: a group is to begin with this one.
    Begin { group: GroupId, member: Member, beginning: Beginning },
    /// From the task that moves replicas: the group has left.
    Remove { group: GroupId, member: Member },
    /// From a connection: a client of this kind has asked for the map of slots.
    Asked(ClientKind),
    /// Somebody wants to know.
    Status(oneshot::Sender<StatusReport>),
    /// The node is about to end: what it leads goes to others. Told when all of it is gone that can.
    Retire(oneshot::Sender<()>),
    /// The node is to end.
    Stop,
}

/// A node's view of its cluster.
#[derive(Debug)]
pub(crate) struct StatusReport {
    pub(crate) nodes: Vec<(NodeInfo, bool)>,
    pub(crate) groups: Vec<GroupStatus>,
    /// Groups whose replica here has lost its state.
    pub(crate) withheld: Vec<GroupId>,
}

/// Why the loop ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to.
    Stopped,
    /// The node cannot go on, for this reason.
    Failed(String),
    /// The stored state of a group cannot be read back, for this reason.
    Damaged(GroupId, String),
    /// The state of a group is not that of its leader.
    Differs(GroupId, String),
}

/// The loop and what it hands work to.
pub(crate) struct EventLoop {
    pub(crate) core: Core,
    pub(crate) inputs: Arc<Inbox<Input>>,
    pub(crate) log: Sender<LogWork>,
    pub(crate) apply: ApplyHandle,
    pub(crate) peers: PeerTransport,
    pub(crate) node: Arc<Shared>,
    changes: std::collections::BTreeMap<u64, oneshot::Sender<Result<(), ChangeFailure>>>,
    next_change: u64,
    outgrown_at: kontiki_types::Instant,
    /// Version of the atlas that connections see.
    atlas_shown: Option<u64>,
    /// Who waits until nothing is led here any more.
    retiring: Option<oneshot::Sender<()>>,
    governor: Option<Governor>,
    /// What the start has still to reach.
    starting: Option<Starting>,
    turn_began: kontiki_types::Instant,
    /// Batches of groups led here.
    replicating: Underway,
    committing: Underway,
    /// Batches that are committed.
    applying: Underway,
    /// How fast snapshots leave.
    throttle: Throttle,
    /// Parts of snapshots that have waited long enough.
    chunks: Vec<Work>,
}

impl EventLoop {
    pub(crate) fn new(
        core: Core,
        inputs: Arc<Inbox<Input>>,
        log: Sender<LogWork>,
        apply: ApplyHandle,
        peers: PeerTransport,
        node: Arc<Shared>,
    ) -> Self {
        Self {
            core,
            inputs,
            log,
            apply,
            peers,
            node,
            changes: std::collections::BTreeMap::new(),
            next_change: 0,
            outgrown_at: kontiki_types::Instant(0),
            atlas_shown: None,
            retiring: None,
            governor: None,
            starting: None,
            turn_began: kontiki_types::Instant(0),
            replicating: Underway::default(),
            committing: Underway::default(),
            applying: Underway::default(),
            throttle: Throttle::new(0),
            chunks: Vec::new(),
        }
    }

    /// Sends no more than so many bytes of snapshots a second.
    pub(crate) fn with_snapshot_rate(mut self, bytes_per_second: u64) -> Self {
        self.throttle = Throttle::new(bytes_per_second);
        self
    }

    /// Has the caches give way when the process takes more memory than it may.
    pub(crate) fn with_governor(mut self, governor: Governor) -> Self {
        self.governor = Some(governor);
        self
    }

    /// Tells how the start goes on.
    pub(crate) fn with_start(mut self, starting: Starting) -> Self {
        self.starting = Some(starting);
        self
    }

    /// Runs until the node stops.
    pub(crate) async fn run(mut self) -> Ended {
        let inbox = Arc::clone(&self.inputs);
        let mut inputs = Vec::new();
        let mut timer = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        loop {
            let now = clock::now();
            self.core.set_time(now, clock::wall_time());
            let wait = self.core.next_deadline().since(now).min(TURN_MAX);
            timer.as_mut().reset(tokio::time::Instant::now() + wait);
            tokio::select! {
                biased;
                () = inbox.arrived() => {}
                () = timer.as_mut() => {}
            }
            self.gather(&inbox, &mut inputs).await;
            self.turn_began = clock::now();
            self.core.set_time(self.turn_began, clock::wall_time());
            self.node.metrics.event_batch(inputs.len());
            let mut ticked = false;
            // What the apply stage could do at once is taken in the same turn.
            loop {
                for input in inputs.drain(..) {
                    if let Some(ended) = self.take(input) {
                        return ended;
                    }
                }
                // After what waited: after a pause it may hold the signs of life whose absence a timer
                // would act on.
                if !std::mem::replace(&mut ticked, true) {
                    self.core.tick();
                }
                if let Some(ended) = self.act(&mut inputs) {
                    return ended;
                }
                if inputs.is_empty() {
                    break;
                }
            }
            self.show();
            let took = clock::now().since(self.turn_began);
            self.node.metrics.turn_seconds.observe(seconds(took));
        }
    }

    /// Takes what waits, and what is just coming in: the sockets are looked at again as long as that
    /// brings something. What arrives together is written, sent and synced together, which is worth
    /// far more than the microsecond it takes.
    async fn gather(&self, inbox: &Inbox<Input>, inputs: &mut Vec<Input>) {
        inbox.take(inputs);
        // Only clients come in crowds; what peers and the log say is better acted on at once.
        let crowded = self.node.registry.counts().0 > CROWD_MIN
            && inputs.iter().any(|input| matches!(input, Input::Requests { .. }));
        if !crowded {
            return;
        }
        for _ in 0..GATHER_ROUNDS {
            let before = inputs.len();
            tokio::task::yield_now().await;
            inbox.take(inputs);
            if inputs.len() == before || inputs.len() >= GATHER_MAX {
                return;
            }
        }
    }

    fn take(&mut self, input: Input) -> Option<Ended> {
        let core = &mut self.core;
        match input {
            Input::Requests { connection, requests, at } => {
                self.node.metrics.stages.queue.observe(seconds(self.turn_began.since(at)));
                self.node.metrics.count_commands(requests.len());
                for Request { ticket, to, ask, patience } in requests {
                    core.request_with(to, Caller { connection, ticket }, ask, patience);
                }
            }
            Input::Ask { to, caller, ask } => {
                self.node.metrics.count_commands(1);
                core.request(to, caller, ask);
            }
            Input::Change { group, kind, done } => {
                self.next_change += 1;
                self.changes.insert(self.next_change, done);
                let caller = Caller { connection: 0, ticket: self.next_change };
                core.change(group, caller, kind);
            }
            Input::Frame { from, frame } => {
                if let Err(error) = core.receive(from, frame) {
                    warn!(%from, %error, "ill-formed frame from a peer");
                }
            }
            Input::Persisted(receipts) => {
                for (group, receipt) in receipts {
                    core.persisted(group, receipt);
                }
            }
            Input::PersistFailed(reason) => {
                core.persist_failed();
                return Some(Ended::Failed(reason));
            }
            Input::EntriesRead { group, to, from, entries } => {
                core.entries_read(group, to, from, entries);
            }
            Input::StorageFull(full) => core.set_storage_full(full),
            Input::Applied { group, applied, log_time, next_due, outcomes } => {
                let now = clock::now();
                self.applying.end(group, applied.index, now, &self.node.metrics.stages.apply);
                core.applied(group, applied, log_time, next_due, outcomes);
            }
            Input::Checked { group, checked } => {
                self.node.metrics.checks.inc();
                core.checked(group, checked);
            }
            Input::Differs { group, reason } => return Some(Ended::Differs(group, reason)),
            Input::Due { group, reads } => core.due(group, reads),
            Input::Barred { group, reads } => core.barred(group, reads),
            Input::Answered(answers) => core.answered(answers),
            Input::Stewarded { group, configuration } => {
                core.stewarded(group);
                if group == CONTROLLER {
                    self.node.moving.tell(News::Controller);
                }
                if let Some(configuration) = configuration {
                    debug!(%group, epoch = %configuration.epoch(), "configuration");
                    core.set_configuration(configuration);
                }
            }
            // A replica that follows one that was removed here would lose log that it needs.
            Input::EnginePersisted { of, .. } if of.is_gone() => {}
            Input::EnginePersisted { group, applied, .. } => core.engine_persisted(group, applied),
            Input::SnapshotBuilt { group, built } => core.snapshot_built(group, built),
            Input::ReadChunk { group, to, meta, offset, max } => {
                self.chunks.push(Work::ReadChunk { group, to, meta, offset, max });
            }
            Input::ChunkRead { group, to, meta, offset, data } => {
                core.chunk_read(group, to, &meta, offset, data);
            }
            Input::ChunkWritten { group, meta, end } => core.chunk_written(group, &meta, end),
            Input::SnapshotInstalled { group, meta, state } => {
                core.snapshot_installed(group, &meta, state);
            }
            Input::Opened(opened) => {
                if let Err(error) = core.open(*opened) {
                    return Some(Ended::Failed(format!("cannot open a new replica: {error}")));
                }
            }
            Input::Closed { group, member } => {
                self.node.moving.tell(News::Role(group, None));
                if group == CONTROLLER {
                    self.node.moving.tell(News::NoController);
                }
                core.close(group, member.replica);
            }
            Input::ApplyFailed { group, reason } => {
                return Some(Ended::Failed(format!("group {group} cannot apply: {reason}")));
            }
            Input::Damaged { group, reason } => return Some(Ended::Damaged(group, reason)),
            Input::Adopt(adopted) => {
                self.apply.give(vec![Work::Adopt(adopted)], &mut Vec::new());
            }
            Input::TableFiles(asker) => {
                self.apply.give(vec![Work::TableFiles(asker)], &mut Vec::new());
            }
            Input::Introduced(info) => core.introduced(info),
            Input::BuildSnapshot { group } => {
                if core.replica(group).is_some() {
                    self.apply.give(vec![Work::BuildSnapshot { group }], &mut Vec::new());
                }
            }
            Input::TakeView { group, taken } => {
                self.apply.give(vec![Work::TakeView { group, taken }], &mut Vec::new());
            }
            Input::Begin { group, member, beginning } => {
                if core.replica(group).is_none() && !core.withheld().any(|other| other == group) {
                    let work = Work::Begin { group, member, beginning };
                    self.apply.give(vec![work], &mut Vec::new());
                }
            }
            Input::Remove { group, member } => {
                if core.replica(group).is_some_and(|raft| raft.status().me == member) {
                    core.close(group, member.replica);
                    self.apply.give(vec![Work::Remove { group, member }], &mut Vec::new());
                }
            }
            Input::Look { group, mut look, taken } => {
                look.set_clock(core.stamp(group));
                self.apply.give(vec![Work::Look { group, look, taken }], &mut Vec::new());
            }
            Input::Slow { group, slots } => core.slow(group, slots),
            Input::Asked(kind) => core.tell_asked(None, &kind),
            Input::Status(sender) => {
                let report = StatusReport {
                    nodes: core.nodes(),
                    groups: core.statuses(),
                    withheld: core.withheld().collect(),
                };
                let _ = sender.send(report);
            }
            Input::Retire(done) => {
                core.retire();
                self.retiring = Some(done);
            }
            Input::Stop => return Some(Ended::Stopped),
        }
        None
    }

    /// Carries out what the core wants. What the apply stage has done at once comes back in `done`.
    fn act(&mut self, done: &mut Vec<Input>) -> Option<Ended> {
        let effects = self.core.flush();
        self.observe(&effects);
        // Peers first: they are the longest way round.
        for (to, frame) in self.core.take_frames() {
            self.node.metrics.frame_sent(frame.len());
            if self.peers.send(to, frame).is_err() {
                self.node.metrics.frame_dropped();
            }
        }
        let mut batch = Vec::new();
        let mut work = std::mem::take(&mut self.chunks);
        let mut answers = Vec::new();
        for effect in effects {
            match effect {
                Effect::Persist { group, batch: one } => batch.push(LogWork::Write(group, one)),
                Effect::ReadEntries { group, to, from, max } => {
                    batch.push(LogWork::Read { group, to, from, max });
                }
                Effect::Apply { group, entries } => work.push(Work::Apply { group, entries }),
                Effect::Query { group, log_time, reads } => {
                    work.push(Work::Query { group, log_time, reads });
                }
                Effect::Answer { caller, answer } => answers.push((caller, answer)),
                Effect::Changed { caller, result } => {
                    if let Some(done) = self.changes.remove(&caller.ticket) {
                        let _ = done.send(result);
                    }
                }
                Effect::Role { group, role, term, leader } => self.role(group, role, term, leader),
                Effect::BuildSnapshot { group } => work.push(Work::BuildSnapshot { group }),
                Effect::ReadChunk { group, to, meta, offset, max } => {
                    let bytes = meta.bytes.saturating_sub(offset).min(max as u64);
                    let wait = self.throttle.take(clock::now(), bytes);
                    if wait.is_zero() {
                        work.push(Work::ReadChunk { group, to, meta, offset, max });
                        continue;
                    }
                    // The core waits for this one part of each transfer, so few wait here.
                    let events = self.node.events.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(wait).await;
                        events.send(Input::ReadChunk { group, to, meta, offset, max });
                    });
                }
                Effect::WriteChunk { group, meta, offset, data } => {
                    work.push(Work::WriteChunk { group, meta, offset, data });
                }
                Effect::InstallSnapshot { group, meta } => {
                    work.push(Work::InstallSnapshot { group, meta });
                }
                Effect::Create { group, member } => {
                    info!(%group, %member, "a replica is created here");
                    work.push(Work::Create { group, member });
                }
                Effect::Removed { group, member } => {
                    info!(%group, %member, "the replica here was removed from its group");
                    work.push(Work::Remove { group, member });
                }
                Effect::Faulted { group } => {
                    return Some(Ended::Failed(format!("group {group}: the log has failed")));
                }
                Effect::Mismatch { group, from, to } => {
                    warn!(%group, %from, %to, "a peer takes this node for another member: its \
                          directory was replaced or its replica removed");
                }
                Effect::Info(peer) => self.peer_moved(&peer),
                Effect::Asked(kind) => self.node.registry.asked.heard(&kind, clock::now()),
                Effect::Forget(peer) => {
                    info!(node = %peer, "a node that was removed is forgotten");
                    self.peers.remove_peer(peer);
                    work.push(Work::ForgetPeer(peer));
                }
                Effect::Dismissed => self.node.dismiss(),
            }
        }
        if !batch.is_empty() {
            self.log.send_all(batch);
        }
        if !work.is_empty() {
            self.apply.give(work, done);
        }
        if !answers.is_empty() {
            self.node.registry.deliver(answers);
        }
        None
    }

    /// Notes which batches have left a stage, and which have come to one.
    fn observe(&mut self, effects: &[Effect]) {
        let now = clock::now();
        let stages = &self.node.metrics.stages;
        for group in self.replicating.groups() {
            match self.core.replica(group).and_then(kontiki_raft::Raft::replicated) {
                Some(upto) => self.replicating.end(group, upto, now, &stages.replicate),
                None => {
                    self.replicating.forget(group);
                    self.committing.forget(group);
                }
            }
        }
        for effect in effects {
            match effect {
                Effect::Persist { group, batch } => {
                    let leads = self.core.replica(*group).is_some_and(|r| r.role() == Role::Leader);
                    let last = batch.ranges().last().and_then(|range| range.last());
                    if let Some(last) = last.filter(|_| leads) {
                        self.replicating.begin(*group, last.id.index, now);
                        self.committing.begin(*group, last.id.index, now);
                    }
                }
                Effect::Apply { group, entries } => {
                    let Some(last) = entries.last() else { continue };
                    self.committing.end(*group, last.id.index, now, &stages.commit);
                    self.applying.begin(*group, last.id.index, now);
                }
                _ => {}
            }
        }
    }

    fn role(
        &mut self,
        group: GroupId,
        role: Role,
        term: kontiki_types::Term,
        leader: Option<Member>,
    ) {
        info!(%group, ?role, %term, leader = leader.map(|leader| leader.node.0), "role");
        self.node.metrics.role_changed(self.core.groups_led());
        self.node.moving.tell(News::Role(group, (role == Role::Leader).then_some(term)));
        if group == DATA_GROUP {
            let leader = leader.map_or(0, |leader| leader.node.0);
            self.node.view.leader.store(leader, Ordering::Relaxed);
            self.node.view.term.store(term.0, Ordering::Relaxed);
        }
    }

    fn peer_moved(&mut self, peer: &NodeInfo) {
        info!(node = %peer.id, grpc = peer.grpc, boot = peer.boot, "peer");
        self.peers.set_peer(peer.id, peer.incarnation, &peer.grpc);
        self.apply.give(vec![Work::RememberPeer(peer.clone())], &mut Vec::new());
        for kind in self.node.registry.asked.all(clock::now()) {
            self.core.tell_asked(Some(peer.id), &kind);
        }
    }

    /// Shows other threads what they may want to see, and has the state engine persisted when the
    /// log has outgrown its bound.
    fn show(&mut self) {
        let now = clock::now();
        let atlas = Some(self.core.atlas_version());
        if self.atlas_shown != atlas {
            self.atlas_shown = atlas;
            let atlas = self.core.atlas();
            if let Some(configuration) = &atlas.configuration
                && self.node.atlas().epoch() != atlas.epoch()
            {
                self.peers.refuse(configuration.gone().iter().copied());
            }
            let voters = atlas.data_groups().map(|(_, place)| place.nodes.len()).min();
            let view = &self.node.view;
            view.voters.store(voters.unwrap_or(0), Ordering::Relaxed);
            view.serving.store(u32::from(atlas.is_served()), Ordering::Relaxed);
            self.node.set_atlas(Arc::new(atlas));
        }
        let view = &self.node.view;
        view.log_time.store(self.core.latest_log_time().0, Ordering::Relaxed);
        view.log_time_at.store(now.0, Ordering::Relaxed);
        view.pending.store(self.core.pending_writes(), Ordering::Relaxed);
        if self.starting.as_mut().is_some_and(|starting| starting.look(&self.core, &self.node)) {
            self.starting = None;
        }
        if self.core.has_retired()
            && let Some(done) = self.retiring.take()
        {
            let _ = done.send(());
        }
        if self.outgrown_at <= now {
            self.outgrown_at = now + Duration::from_secs(1);
            for group in self.core.outgrown() {
                self.apply.give(vec![Work::PersistEngine { group }], &mut Vec::new());
            }
            if let Some(governor) = &mut self.governor {
                governor.look(resident_bytes());
            }
            self.node.metrics.show_resting(self.core.resting());
            self.node.metrics.withheld.set(self.core.withheld().count() as i64);
            let statuses = self.core.statuses();
            self.node.metrics.log_memory(&statuses);
            for status in &statuses {
                self.node.metrics.show_group(status);
            }
        }
    }
}

/// Ends the event loop with an error if the thread that holds this panics.
pub(crate) struct FailOnPanic(pub(crate) InboxSender<Input>, pub(crate) &'static str);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!(thread = self.1, "a thread of the node has panicked");
            self.0.send(Input::PersistFailed(format!("the {} thread has panicked", self.1)));
        }
    }
}
