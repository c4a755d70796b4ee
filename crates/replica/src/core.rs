//! A node's side of all its groups: the one value that the event loop owns.

mod compare;
mod gone;
mod held;
mod news;
mod retire;
mod routing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use kontiki_kv::{Gate, Outcome};
use kontiki_raft::{
    Config, Entries, Raft, Receipt, Recovered, RestartError, Role, SnapshotMeta, WriteBatch,
};
use kontiki_shard::SlotSet;
use kontiki_types::plant::{Plant, planted};
use kontiki_types::{
    GroupId, Incarnation, Index, Instant, LogId, LogTime, Member, NodeId, ReplicaId, Slot, Term,
};

use crate::atlas::Target;
use crate::clock::WallClocks;
use crate::connection::{Answer, Ask, ClientKind};
use crate::group::{
    ChangeFailure, ChangeKind, Group, GroupConfig, GroupStatus, LOG_PARTS, Node, Question, State,
};
use crate::peer::{Frame, FrameBuilder, FrameError, NodeInfo, PeerMessage, Taken};
use crate::routed::{Patience, Returned, Routed, Why};
use crate::timers::Timers;
use crate::watch::Watch;
use news::Gossip;
use routing::Router;

/// A node that was not heard for this long counts as not alive, for the status only.
const ALIVE_FOR: Duration = Duration::from_secs(2);

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller {
    /// The connection (or the driver's own number for other callers).
    pub connection: u64,
    /// The request on it.
    pub ticket: u64,
}

impl Caller {
    /// Whether the core itself waits for the answer, for another node or to learn from it. The
    /// driver gives such an answer to [`Core::answered`].
    pub fn is_inward(self) -> bool {
        self.connection == Self::INWARD
    }

    /// The number of no connection.
    const INWARD: u64 = u64::MAX;

    pub(crate) fn inward(ticket: u64) -> Self {
        Self { connection: Self::INWARD, ticket }
    }
}

/// What the driver must do. Effects of one group are to be carried out in order by each stage:
/// the log for `Persist` and `ReadEntries`, the apply stage for `Apply`, `Query` and the snapshot effects.
#[derive(Debug)]
pub enum Effect {
    /// Make the batch durable by [`kontiki_raft::persist`] and report [`Core::persisted`].
    Persist {
        /// The group.
        group: GroupId,
        /// The batch.
        batch: WriteBatch<Bytes>,
    },
    /// Apply the entries and report [`Core::applied`].
    Apply {
        /// The group.
        group: GroupId,
        /// Committed entries, in order.
        entries: Entries<Bytes>,
    },
    /// Answer the reads from the state after all entries handed out before, all from one state.
    /// Those that meet a key that is due at `log_time` come back by [`Core::due`], those that meet a
    /// slot that is not served by [`Core::barred`], and answers to callers that are
    /// [inward](Caller::is_inward) go to [`Core::answered`].
    Query {
        /// The group.
        group: GroupId,
        /// Log time as estimated when the reads were released.
        log_time: LogTime,
        /// The reads.
        reads: Vec<Question>,
    },
    /// Answer a caller.
    Answer {
        /// Who waits.
        caller: Caller,
        /// The answer.
        answer: Answer,
    },
    /// An operator's change is done or failed.
    Changed {
        /// Who waits.
        caller: Caller,
        /// How it went.
        result: Result<(), ChangeFailure>,
    },
    /// Role, term or leader of this node's replica changed.
    Role {
        /// The group.
        group: GroupId,
        /// What the replica is.
        role: Role,
        /// Its term.
        term: Term,
        /// Who leads, if known.
        leader: Option<Member>,
    },
    /// Read entries from the log on disk and report [`Core::entries_read`].
    ReadEntries {
        /// The group.
        group: GroupId,
        /// For whom.
        to: Member,
        /// The first.
        from: Index,
        /// At most about this many bytes of them, but at least one.
        max: usize,
    },
    /// Build a snapshot of what is applied and report [`Core::snapshot_built`].
    BuildSnapshot {
        /// The group.
        group: GroupId,
    },
    /// Read a part of a snapshot and report [`Core::chunk_read`].
    ReadChunk {
        /// The group.
        group: GroupId,
        /// For whom.
        to: Member,
        /// Which snapshot.
        meta: Box<SnapshotMeta>,
        /// From where.
        offset: u64,
        /// At most this many bytes.
        max: usize,
    },
    /// Stage a part of a snapshot and report [`Core::chunk_written`].
    WriteChunk {
        /// The group.
        group: GroupId,
        /// Which snapshot.
        meta: Box<SnapshotMeta>,
        /// Where in it.
        offset: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Verify the staged snapshot, make it the state, durably, and report
    /// [`Core::snapshot_installed`].
    InstallSnapshot {
        /// The group.
        group: GroupId,
        /// Which snapshot.
        meta: Box<SnapshotMeta>,
    },
    /// A leader talks to a replica that does not exist here yet: open an empty group and call
    /// [`Core::open`].
    Create {
        /// The group.
        group: GroupId,
        /// The replica.
        member: Member,
    },
    /// The replica has left the group: write a durable tombstone, then drop its state and call
    /// [`Core::close`].
    Removed {
        /// The group.
        group: GroupId,
        /// The replica that left.
        member: Member,
    },
    /// The log failed: end the process.
    Faulted {
        /// The group that noticed.
        group: GroupId,
    },
    /// Somebody takes this node for another. Report it.
    Mismatch {
        /// The group.
        group: GroupId,
        /// Who does.
        from: Member,
        /// For whom.
        to: Member,
    },
    /// A node told where it is, for the first time or anew.
    Info(NodeInfo),
    /// A client of this kind has asked another node for the map of slots.
    Asked(ClientKind),
    /// A node was removed from the cluster and is not heard any more: nothing is sent to it from here
    /// on.
    Forget(NodeId),
    /// This node was removed from the cluster: end the process.
    Dismissed,
}

/// A frame from this size on is sent as it is, and another begun: together with the largest message
/// (one entry of the largest size) it stays within what a transport takes.
const FRAME_BYTES: usize = 256 << 10;

/// The frames that are being filled, by receiver.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    builders: BTreeMap<NodeId, FrameBuilder>,
    full: Vec<(NodeId, FrameBuilder)>,
}

impl Frames {
    /// Where the next message to `node` goes.
    pub(crate) fn to(&mut self, node: NodeId) -> &mut FrameBuilder {
        let builder = self.builders.entry(node).or_default();
        if builder.len() >= FRAME_BYTES {
            self.full.push((node, std::mem::take(builder)));
        }
        builder
    }

    fn take(&mut self, wall: LogTime) -> Vec<(NodeId, Bytes)> {
        let full = self.full.drain(..).map(|(to, mut builder)| (to, builder.take(wall)));
        let open = self.builders.iter_mut().map(|(&to, builder)| (to, builder.take(wall)));
        full.chain(open).filter_map(|(to, frame)| Some((to, frame?))).collect()
    }
}

/// Groups, in their order. A list that keeps its memory: this is filled and emptied all the time.
#[derive(Debug, Default)]
struct Dirty(Vec<GroupId>);

impl Dirty {
    fn insert(&mut self, group: GroupId) {
        if let Err(place) = self.0.binary_search(&group) {
            self.0.insert(place, group);
        }
    }
}

/// A group as the driver opened it.
#[derive(Debug)]
pub struct Opened {
    /// The group.
    pub group: GroupId,
    /// Timing and limits of its consensus core.
    pub raft: Config,
    /// What the log proves.
    pub recovered: Recovered<Bytes>,
    /// What the state machine has applied.
    pub applied: LogId,
    /// Its log time.
    pub log_time: LogTime,
    /// When its next key expires.
    pub next_due: Option<LogTime>,
    /// Seed of the core's randomness.
    pub seed: u64,
}

/// A node's side of its groups.
pub struct Core {
    me: NodeInfo,
    config: GroupConfig,
    groups: BTreeMap<GroupId, Group>,
    /// Groups with inputs since the last flush.
    dirty: Dirty,
    timers: Timers,
    watch: Watch,
    /// Writes that are pending here, of all groups.
    pending_writes: usize,
    tombstones: BTreeSet<(GroupId, ReplicaId)>,
    creating: BTreeSet<GroupId>,
    /// Groups whose replica here has its log but no state yet: see [`Core::withhold`].
    withheld: BTreeSet<GroupId>,
    /// The log is (nearly) full.
    is_full: bool,
    infos: BTreeMap<NodeId, NodeInfo>,
    gossip: Gossip,
    walls: WallClocks,
    taken: Taken,
    frames: Frames,
    effects: Vec<Effect>,
    /// Groups of which the leader or the voters changed since the last flush.
    places: Vec<GroupId>,
    router: Router,
    /// Requests that groups gave back, and answers to callers that are inward, since the last flush.
    returned: VecDeque<Returned>,
    inward: VecDeque<(Caller, Answer)>,
    info_at: Instant,
    /// When what is led here is handed over next, if this node is about to stop.
    retire_at: Option<Instant>,
    /// When the replicas of a group are compared next, and which group's were last.
    check_at: Instant,
    check_last: Option<GroupId>,
    now: Instant,
    wall: LogTime,
    /// [`Plant::LeaseClockStops`]: for how long the clock has not run.
    #[cfg(feature = "plants")]
    stopped: Duration,
}

impl Core {
    /// A node without groups. `peers`: where other nodes were last known to be.
    pub fn new(
        me: NodeInfo,
        config: GroupConfig,
        peers: impl IntoIterator<Item = NodeInfo>,
        tombstones: impl IntoIterator<Item = (GroupId, ReplicaId)>,
    ) -> Self {
        let infos = peers.into_iter().filter(|peer| peer.id != me.id);
        Self {
            infos: infos.map(|info| (info.id, info)).collect(),
            me,
            config,
            groups: BTreeMap::new(),
            dirty: Dirty::default(),
            timers: Timers::default(),
            watch: Watch::default(),
            pending_writes: 0,
            tombstones: tombstones.into_iter().collect(),
            creating: BTreeSet::new(),
            withheld: BTreeSet::new(),
            is_full: false,
            gossip: Gossip::default(),
            walls: WallClocks::default(),
            taken: Taken::default(),
            frames: Frames::default(),
            effects: Vec::new(),
            places: Vec::new(),
            router: Router::default(),
            returned: VecDeque::new(),
            inward: VecDeque::new(),
            info_at: Instant(0),
            retire_at: None,
            check_at: Instant(0),
            check_last: None,
            now: Instant(0),
            wall: LogTime(0),
            #[cfg(feature = "plants")]
            stopped: Duration::ZERO,
        }
    }

    /// Sets the time for the calls that follow: the monotonic clock, and the wall clock (which
    /// only ever suggests a log time).
    pub fn set_time(&mut self, now: Instant, wall: LogTime) {
        #[cfg(feature = "plants")]
        let now = self.stop_clock(now);
        self.now = now;
        self.wall = wall;
    }

    /// [`Plant::LeaseClockStops`]: the time as a clock shows it that does not run while the
    /// process stands still.
    #[cfg(feature = "plants")]
    fn stop_clock(&mut self, now: Instant) -> Instant {
        const STANDS_STILL: Duration = Duration::from_millis(100);
        let shown = Instant(now.0.saturating_sub(self.stopped.as_micros() as u64));
        let still = shown.since(self.now).saturating_sub(STANDS_STILL);
        if self.now > Instant(0) && planted(Plant::LeaseClockStops) {
            self.stopped += still;
        }
        Instant(now.0.saturating_sub(self.stopped.as_micros() as u64))
    }

    /// Starts a replica.
    ///
    /// # Errors
    /// What was recovered contradicts itself.
    pub fn open(&mut self, opened: Opened) -> Result<(), RestartError> {
        let Opened { group, raft, recovered, applied, log_time, next_due, seed } = opened;
        let me = raft.me;
        let mut raft = Raft::new(raft, recovered, seed, self.now)?;
        raft.set_storage_full(self.is_full);
        let config = self.config.clone();
        let replica =
            Group::new(group, config, me, raft, State { applied, log_time, next_due }, self.now);
        self.creating.remove(&group);
        self.withheld.remove(&group);
        self.groups.insert(group, replica);
        self.look_at_voters(group);
        self.places.push(group);
        self.dirty.insert(group);
        Ok(())
    }

    /// Whether a group has voters elsewhere, whose wall clocks are then to be heard.
    pub(super) fn look_at_voters(&mut self, group: GroupId) {
        let voters = self.groups.get(&group).map(|group| group.place().nodes).unwrap_or_default();
        if voters.iter().any(|&voter| voter != self.me.id) {
            self.walls.expect_others();
        }
    }

    /// A replica of `group` is in this directory and cannot be opened yet: until it is, no other
    /// takes its place at a leader's word. One without its log would vote for what that holds.
    pub fn withhold(&mut self, group: GroupId) {
        self.withheld.insert(group);
    }

    /// The groups that are withheld.
    pub fn withheld(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.withheld.iter().copied()
    }

    /// Forgets a replica that has left its group. `tombstone`: it is durable that it did.
    pub fn close(&mut self, group: GroupId, tombstone: ReplicaId) {
        self.tombstones.insert((group, tombstone));
        self.with(group, |group, node| group.abandon(node));
        if let Some(mut closed) = self.groups.remove(&group) {
            self.timers.set(group, &mut closed.scheduled.deadline, Instant::MAX);
            self.watch.set(group, closed.scheduled.rest.as_ref(), None);
            self.pending_writes -= closed.scheduled.pending_writes;
        }
        self.places.push(group);
    }

    /// A caller's request.
    pub fn request(&mut self, to: Target, caller: Caller, ask: Ask) {
        self.request_with(to, caller, ask, Patience::Whole);
    }

    /// A caller's request, with how long it waits for a slot that stands still.
    pub fn request_with(&mut self, to: Target, caller: Caller, ask: Ask, patience: Patience) {
        let give_up = self.now + self.config.request_timeout;
        self.route(Routed { caller, to, ask, give_up, patience, attempts: 0 });
    }

    /// An operator's request; answered by [`Effect::Changed`].
    pub fn change(&mut self, group: GroupId, caller: Caller, kind: ChangeKind) {
        if self.with(group, |group, node| group.begin_change(caller, kind, node)).is_none() {
            let result = Err(ChangeFailure::NotLeader(None));
            self.effects.push(Effect::Changed { caller, result });
        }
    }

    /// A frame from another node.
    ///
    /// # Errors
    /// The frame is ill-formed; what came before the fault was taken.
    pub fn receive(&mut self, from: NodeId, frame: Bytes) -> Result<(), FrameError> {
        let (wall, mut frame) = Frame::open(frame)?;
        self.walls.hear(self.now, from, wall);
        let mut is_first = None;
        while let Some(message) = frame.next_message()? {
            match message {
                PeerMessage::Raft(group, message) => {
                    let now = self.now;
                    let to = message.to;
                    match self.groups.get_mut(&group) {
                        Some(replica) if !(replica.is_removed() && replica.member() != to) => {
                            replica.raft().receive(now, message);
                            self.dirty.insert(group);
                        }
                        _ => self.unknown_replica(group, to),
                    }
                }
                PeerMessage::Forward(group, client, seq, write) => {
                    let taken = &mut self.taken;
                    if !*is_first.get_or_insert_with(|| taken.is_first(from, frame.checksum())) {
                        continue;
                    }
                    self.with(group, |group, node| {
                        group.forwarded(from, (client, seq), &write, node);
                    });
                }
                PeerMessage::Refused(group, client, seq, why) => {
                    self.with(group, |group, node| {
                        group.refused(from, (client, seq), why, node);
                    });
                }
                PeerMessage::Info(info) => self.hear_info(from, info),
                PeerMessage::News(news) => self.hear_news(from, news),
                PeerMessage::Led(led) => self.hear_led(from, led),
                PeerMessage::Configuration(configuration) => {
                    self.hear_configuration(configuration);
                }
                PeerMessage::Ask(passed) => {
                    let taken = &mut self.taken;
                    if !*is_first.get_or_insert_with(|| taken.is_first(from, frame.checksum())) {
                        continue;
                    }
                    self.passed_ask(from, passed);
                }
                PeerMessage::Answer(asker, answer) => self.passed_answer(from, asker, answer),
                PeerMessage::Asked(kind) => self.effects.push(Effect::Asked(kind)),
            }
        }
        Ok(())
    }

    /// Tells `to`, or every other node, that a client of this kind has asked for the map of slots.
    pub fn tell_asked(&mut self, to: Option<NodeId>, kind: &ClientKind) {
        for &peer in self.infos.keys().filter(|peer| to.is_none_or(|to| to == **peer)) {
            self.frames.to(peer).asked(kind);
        }
    }

    /// A message for a replica that is not here: it is to be created, unless it has left before.
    fn unknown_replica(&mut self, group: GroupId, member: Member) {
        let mine = member.node == self.me.id
            && (member.incarnation == self.me.incarnation || planted(Plant::WrongMemberVotes));
        let gone =
            self.tombstones.contains(&(group, member.replica)) && !planted(Plant::OldSessionCounts);
        let may = mine && !gone && !self.withheld.contains(&group);
        if may && self.creating.insert(group) {
            self.effects.push(Effect::Create { group, member });
        }
    }

    /// A node has said by itself where it is, apart from the peer transport: that refuses another
    /// directory than the one that is known. It is believed if the known one has fallen silent.
    pub fn introduced(&mut self, info: NodeInfo) {
        let known = self.infos.get(&info.id);
        let is_other = known.is_none_or(|known| known.incarnation != info.incarnation);
        if is_other && !self.is_alive(info.id) && !info.grpc.is_empty() {
            self.hear_info(info.id, info);
        }
    }

    fn hear_info(&mut self, from: NodeId, info: NodeInfo) {
        if info.id == self.me.id || self.is_gone(info.id, info.incarnation) {
            return;
        }
        // Of two boots of a directory the later one holds. Another directory is believed only at
        // the node's own word: others may still tell of the one before.
        let is_news = self.infos.get(&info.id).is_none_or(|known| {
            if known.incarnation == info.incarnation {
                // A process that is about to stop does not change its mind.
                let is_older = info.boot < known.boot
                    || info.boot == known.boot && known.leaving && !info.leaving;
                known != &info && !is_older
            } else {
                from == info.id
            }
        });
        if is_news {
            let known = self.infos.insert(info.id, info.clone());
            self.atlas_changed();
            if known.is_some_and(|known| {
                (known.incarnation, known.boot) != (info.incarnation, info.boot)
            }) {
                self.is_down(info.id);
            }
            self.effects.push(Effect::Info(info));
        }
    }

    /// A batch is durable.
    pub fn persisted(&mut self, group: GroupId, receipt: Receipt) {
        self.with(group, |group, node| group.persisted(node.now, receipt));
    }

    /// The log failed: every replica is told before the process ends.
    pub fn persist_failed(&mut self) {
        for group in self.groups.values_mut() {
            group.raft().persist_failed(self.now);
        }
        for &group in self.groups.keys() {
            self.dirty.insert(group);
        }
    }

    /// The log is (nearly) full, or no longer is.
    pub fn set_storage_full(&mut self, full: bool) {
        self.is_full = full;
        for group in self.groups.values_mut() {
            group.raft().set_storage_full(full);
        }
    }

    /// The apply stage has applied everything up to `applied`.
    pub fn applied(
        &mut self,
        group: GroupId,
        applied: LogId,
        log_time: LogTime,
        next_due: Option<LogTime>,
        outcomes: Vec<Outcome>,
    ) {
        self.with(group, |group, node| {
            group.applied(node.now, applied, log_time, next_due);
            group.outcomes(outcomes, log_time, node);
        });
    }

    /// Reads that wait for log time to pass a key's expiry.
    pub fn due(&mut self, group: GroupId, reads: Vec<Question>) {
        self.with(group, |group, node| group.read_again(reads, node));
    }

    /// Reads that met a slot that is not served, each with the slot and how it is closed.
    pub fn barred(&mut self, group: GroupId, reads: Vec<(Question, Slot, Gate)>) {
        for (question, slot, gate) in reads {
            let (routed, why) = (question.into(), Why::Closed(slot, gate));
            self.returned.push_back(Returned { group, routed, why });
        }
    }

    /// The state engine has everything up to `applied` on stable storage.
    pub fn engine_persisted(&mut self, group: GroupId, applied: LogId) {
        self.with(group, |group, _| group.engine_persisted(applied));
    }

    /// Cuts the logs as far as they may be cut, and returns the groups whose state engine should be
    /// persisted, so that more can be and a start has little to apply again. To be called about once
    /// a second. One group may have all that the node keeps, until the others want their share of it.
    pub fn outgrown(&mut self) -> Vec<GroupId> {
        let count = self.groups.len().max(1) as u64;
        let share = |most: u64, all: u64| if all > most { most / count } else { most };
        let sum =
            |bytes: fn(&Group) -> u64| self.groups.values().map(bytes).fold(0, u64::saturating_add);
        let most = self.config.log_keep_bytes;
        let keep = share(most, sum(|group| group.consensus().log_bytes()));
        let most = most / LOG_PARTS;
        let behind = share(most, sum(Group::unpersisted_bytes));
        for (&id, group) in &mut self.groups {
            group.keep_log(keep);
            if group.cut_log() {
                self.dirty.insert(id);
            }
        }
        let outgrown = self.groups.iter().filter(|(_, group)| group.unpersisted_bytes() > behind);
        outgrown.map(|(&id, _)| id).collect()
    }

    /// Answer to [`Effect::ReadEntries`]: what the log has from `from` on; nothing if it cannot be
    /// read.
    pub fn entries_read(
        &mut self,
        group: GroupId,
        to: Member,
        from: Index,
        entries: Entries<Bytes>,
    ) {
        self.with(group, |group, node| group.raft().entries_read(node.now, to, from, entries));
    }

    /// Answer to [`Effect::BuildSnapshot`]: what was built, or `None`.
    pub fn snapshot_built(&mut self, group: GroupId, built: Option<SnapshotMeta>) {
        self.with(group, |group, node| group.raft().snapshot_built(node.now, built));
    }

    /// Answer to [`Effect::ReadChunk`].
    pub fn chunk_read(
        &mut self,
        group: GroupId,
        to: Member,
        meta: &SnapshotMeta,
        offset: u64,
        data: Vec<u8>,
    ) {
        self.with(group, |group, node| {
            group.raft().chunk_read(node.now, to, meta, offset, data);
        });
    }

    /// Answer to [`Effect::WriteChunk`]: the staged bytes reach to `end`.
    pub fn chunk_written(&mut self, group: GroupId, meta: &SnapshotMeta, end: u64) {
        self.with(group, |group, node| group.raft().chunk_written(node.now, meta, end));
    }

    /// Answer to [`Effect::InstallSnapshot`]: the state is the snapshot's, durably, with this log
    /// time and next expiry; or it could not be installed.
    pub fn snapshot_installed(
        &mut self,
        group: GroupId,
        meta: &SnapshotMeta,
        state: Option<(LogTime, Option<LogTime>)>,
    ) {
        self.with(group, |group, node| {
            group.raft().snapshot_installed(node.now, meta, state.is_some());
            if let Some((log_time, next_due)) = state {
                group.installed(node.now, meta.id, log_time, next_due);
            }
        });
    }

    /// Runs the timers that are due.
    pub fn tick(&mut self) {
        for group in self.timers.due(self.now) {
            self.with(group, Group::tick);
        }
        for node in self.watch.silent(self.now, &self.walls, self.config.silent_after) {
            self.is_down(node);
        }
        self.hand_over();
        self.forget_gone();
        self.compare_replicas();
        if self.info_at <= self.now {
            self.info_at = self.now + self.config.info_interval;
            for &peer in self.infos.keys() {
                self.frames.to(peer).info(&self.me);
                // News travels through whoever has heard it.
                for info in self.infos.values().filter(|info| info.id != peer) {
                    self.frames.to(peer).info(info);
                }
            }
            self.spread_news();
        }
    }

    /// When [`Core::tick`] is to be called at the latest.
    pub fn next_deadline(&self) -> Instant {
        let GroupConfig { alive_interval, silent_after, .. } = self.config;
        let watch = self.watch.next(&self.walls, alive_interval, silent_after);
        let deadline = self.timers.next().min(self.info_at).min(watch).min(self.router.deadline());
        let deadline = self.retire_at.map_or(deadline, |at| deadline.min(at));
        #[cfg(feature = "plants")]
        let deadline = deadline + self.stopped;
        deadline
    }

    /// Lets every group with inputs act, and returns what is to be done. Call it after a batch of
    /// inputs: what arrived together leaves together.
    pub fn flush(&mut self) -> Vec<Effect> {
        self.settle_requests();
        self.look_after_requests();
        while !self.dirty.0.is_empty() {
            let mut dirty = std::mem::take(&mut self.dirty);
            for &group in &dirty.0 {
                self.at(group, Group::flush);
                self.settle(group);
            }
            dirty.0.clear();
            self.dirty = dirty;
            self.settle_requests();
        }
        self.look_at_places();
        self.spread_changes();
        std::mem::take(&mut self.effects)
    }

    /// The frames to send, by receiver. Call it after [`Core::flush`].
    pub fn take_frames(&mut self) -> Vec<(NodeId, Bytes)> {
        for node in self.watch.beats(self.now, self.config.alive_interval) {
            self.frames.to(node).beat();
        }
        let frames = self.frames.take(self.wall);
        for &(node, _) in &frames {
            self.watch.sent(self.now, node);
        }
        frames
    }

    /// This node.
    pub fn me(&self) -> &NodeInfo {
        &self.me
    }

    /// Every node this one has heard of and itself, each with whether it is alive as far as known.
    /// Nodes that were removed are left out.
    pub fn nodes(&self) -> Vec<(NodeInfo, bool)> {
        let others = self.infos.values().filter(|info| !self.is_gone(info.id, info.incarnation));
        let others = others.map(|info| (info.clone(), self.is_alive(info.id)));
        let mut nodes: Vec<_> = others.chain([(self.me.clone(), true)]).collect();
        nodes.sort_by_key(|(info, _)| info.id);
        nodes
    }

    /// Whether a node was heard lately.
    fn is_alive(&self, node: NodeId) -> bool {
        self.walls.last_heard(node).is_some_and(|at| self.now.since(at) < ALIVE_FOR)
    }

    /// Where a node is.
    pub fn node(&self, id: NodeId) -> Option<&NodeInfo> {
        if id == self.me.id { Some(&self.me) } else { self.infos.get(&id) }
    }

    /// The directory of a node, if it was ever heard.
    pub fn incarnation(&self, id: NodeId) -> Option<Incarnation> {
        self.node(id).map(|info| info.incarnation)
    }

    /// The state of every replica here.
    pub fn statuses(&self) -> Vec<GroupStatus> {
        self.groups.values().map(|group| group.status(self.now)).collect()
    }

    /// The consensus core of a replica here, to be looked at.
    pub fn replica(&self, group: GroupId) -> Option<&Raft<Bytes>> {
        self.groups.get(&group).map(Group::consensus)
    }

    /// Writes of this node's callers that are not applied yet, of all groups.
    pub fn pending_writes(&self) -> usize {
        self.pending_writes
    }

    /// Groups that rest here: they have had nothing to do for a while, and cost nothing.
    pub fn resting(&self) -> usize {
        self.watch.resting()
    }

    /// Who leads a group, as far as known here.
    pub fn leader(&self, group: GroupId) -> Option<Member> {
        self.groups.get(&group)?.leader()
    }

    /// Log time of a group as estimated here, zero for an unknown group.
    pub fn log_time(&self, group: GroupId) -> LogTime {
        self.groups.get(&group).map_or(LogTime(0), |group| group.log_time(self.now))
    }

    /// The stamp that an entry of a group would get if this node led it and proposed one now, zero
    /// for an unknown group. Unlike [`Core::log_time`] it knows of the time that has passed while
    /// every node was down.
    pub fn stamp(&mut self, group: GroupId) -> LogTime {
        let Some(found) = self.groups.get_mut(&group) else { return LogTime(0) };
        found.stamp(self.now, self.wall, self.me.id, &self.walls)
    }

    /// Slows the writers of slots of a group that this node leads, for a second: they outrun the copy
    /// of a move.
    pub fn slow(&mut self, group: GroupId, slots: SlotSet) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.slow(slots, self.now);
        }
    }

    /// Notes what has changed of who leads and who votes.
    fn look_at_places(&mut self) {
        while let Some(group) = self.places.pop() {
            self.place_changed(group);
        }
    }

    /// Takes over what has become of a group: when it is due, whether it rests, what is pending.
    fn settle(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let deadline = group.next_deadline(self.now);
        let mut scheduled = std::mem::take(&mut group.scheduled);
        self.timers.set(id, &mut scheduled.deadline, deadline);
        self.pending_writes += group.pending_writes();
        self.pending_writes -= scheduled.pending_writes;
        scheduled.pending_writes = group.pending_writes();
        if group.consensus().is_quiet() != scheduled.rest.is_some() {
            let rest = group.rest();
            self.watch.set(id, scheduled.rest.as_ref(), rest.as_ref());
            scheduled.rest = rest;
        }
        group.scheduled = scheduled;
    }

    /// A node was not heard for long, or its process is another one: those that rest under its
    /// replicas must look for themselves.
    fn is_down(&mut self, node: NodeId) {
        for group in self.watch.under(node) {
            self.with(group, |group, node| group.leader_is_silent(node));
        }
    }

    fn with<R>(
        &mut self,
        group: GroupId,
        act: impl FnOnce(&mut Group, &mut Node<'_>) -> R,
    ) -> Option<R> {
        let done = self.at(group, act)?;
        self.dirty.insert(group);
        Some(done)
    }

    fn at<R>(
        &mut self,
        group: GroupId,
        act: impl FnOnce(&mut Group, &mut Node<'_>) -> R,
    ) -> Option<R> {
        let replica = self.groups.get_mut(&group)?;
        let mut node = Node {
            now: self.now,
            wall: self.wall,
            id: self.me.id,
            walls: &self.walls,
            frames: &mut self.frames,
            effects: &mut self.effects,
            places: &mut self.places,
            returned: &mut self.returned,
            inward: &mut self.inward,
        };
        Some(act(replica, &mut node))
    }
}
