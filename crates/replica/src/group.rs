//! One replica of one group: the consensus core with what stands between it and the callers.
//!
//! A write is *pending* at the node that its caller talks to until this node itself has applied it:
//! nobody sends results from node to node. That node passes the write to whoever leads, and again
//! to the next leader, under the same (client, seq), which makes a second arrival harmless
//! (PROTOCOL 1). A read waits for a read index and then for the state to have reached it. What
//! comes out of the state machine without an effect, since the group does not serve its slot, the
//! group gives back, and it goes its way from there ([`crate::routed`]).

mod change;
mod reads;
mod slow;
mod writes;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use kontiki_kv::Checked;
use kontiki_raft::{EntryData, Output, Raft, Receipt, Role, Status};
use kontiki_shard::SlotSet;
use kontiki_types::plant::{Plant, planted};
use kontiki_types::{GroupId, Index, Instant, LogId, LogTime, Member, NodeId, Slot, Term};

use crate::atlas::{GroupPlace, Target};
use crate::clock::{GroupClock, WallClocks};
use crate::connection::{Answer, Ask, Failure};
use crate::core::{Caller, Effect, Frames};
use crate::routed::{Returned, Routed, Why};
use crate::watch::Rest;
use change::Change;
use reads::Reads;
use slow::Slow;
use writes::{Pending, Writes};

pub use change::{ChangeFailure, ChangeKind};
pub use reads::Question;
pub(crate) use writes::is_sound;

/// Timing and limits of a node's side of a group.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// How long a caller waits at the most. Default 5 s.
    pub request_timeout: Duration,
    /// How long a write may be with a leader before it is sent again. Default 400 ms.
    pub retry_after: Duration,
    /// How often waiting requests are looked at while there are any. Default 20 ms.
    pub retry_interval: Duration,
    /// Requests that may wait at once; beyond it callers are refused. Default 65,536.
    pub waiting_max: usize,
    /// How often a node tells the others where it is. They also hear its wall clock by it, which
    /// counts for five seconds. Default 500 ms.
    pub info_interval: Duration,
    /// How often at least a node that leads groups that rest sends something to their other nodes.
    /// Default 50 ms, a third of the election timeout.
    pub alive_interval: Duration,
    /// After this long without a word from a node the groups that rest under its replicas wake, and
    /// campaign within another election timeout. Default 150 ms, the election timeout.
    pub silent_after: Duration,
    /// How often a node that leads groups has the replicas of one of them compared, in turn: a part
    /// of the state as of an entry, and only where something was written since. Zero: never, the
    /// default; a node's own default is 1 s.
    pub check_interval: Duration,
    /// Bytes of log that are kept for followers that lag, of all groups of the node. Default 256 MiB.
    pub log_keep_bytes: u64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(5),
            retry_after: Duration::from_millis(400),
            retry_interval: Duration::from_millis(20),
            waiting_max: 1 << 16,
            info_interval: Duration::from_millis(500),
            alive_interval: Duration::from_millis(50),
            silent_after: Duration::from_millis(150),
            check_interval: Duration::ZERO,
            log_keep_bytes: 256 << 20,
        }
    }
}

/// Of the log that is kept for followers, a replica that does not lead keeps one such part; the state
/// engine is persisted when it lacks more than one; and one of these in turn is cut at a time.
pub(crate) const LOG_PARTS: u64 = 4;

/// A replica for operators: the core's own status and what surrounds it.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// The consensus core.
    pub raft: Status,
    /// Log time as estimated here.
    pub log_time: LogTime,
    /// Writes of local callers that are not applied yet.
    pub pending_writes: usize,
    /// Reads of local callers that wait.
    pub waiting_reads: usize,
    /// How often a write had to be asked again since its slots' move had no chance otherwise.
    pub held_writes: u64,
}

/// What a group's methods need of the node around it.
pub(crate) struct Node<'a> {
    pub(crate) now: Instant,
    /// This node's wall clock.
    pub(crate) wall: LogTime,
    pub(crate) id: NodeId,
    pub(crate) walls: &'a WallClocks,
    pub(crate) frames: &'a mut Frames,
    pub(crate) effects: &'a mut Vec<Effect>,
    /// Where a group says that its leader or its voters changed.
    pub(crate) places: &'a mut Vec<GroupId>,
    /// Requests that a group gives back.
    pub(crate) returned: &'a mut VecDeque<Returned>,
    /// Answers to callers that are inward.
    pub(crate) inward: &'a mut VecDeque<(Caller, Answer)>,
}

impl Node<'_> {
    /// Answers a caller.
    pub(crate) fn answer(&mut self, caller: Caller, answer: Answer) {
        if caller.is_inward() {
            self.inward.push_back((caller, answer));
        } else {
            self.effects.push(Effect::Answer { caller, answer });
        }
    }

    pub(crate) fn fail(&mut self, caller: Caller, failure: Failure) {
        self.answer(caller, Answer::Failed(failure));
    }
}

/// What the state machine has come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    pub(crate) applied: LogId,
    pub(crate) log_time: LogTime,
    pub(crate) next_due: Option<LogTime>,
}

/// A replica and its surroundings.
pub(crate) struct Group {
    id: GroupId,
    config: GroupConfig,
    me: Member,
    /// Nodes whose clocks count for log time. May lag behind the configuration for a moment.
    voters: Vec<NodeId>,
    raft: Raft<Bytes>,
    clock: GroupClock,
    role: Role,
    term: Term,
    leader: Option<Member>,
    /// The last entry handed to the apply stage.
    handed: Index,
    applied: LogId,
    /// When the next key expires, in log time.
    next_due: Option<LogTime>,
    /// A tick is proposed and not applied.
    ticking: bool,
    /// No tick is proposed before: the last one was refused.
    tick_not_before: Instant,
    writes: Writes,
    slow: Slow,
    reads: Reads,
    change: Option<Change>,
    /// What the last comparison of the replicas came to here.
    checked: Option<Checked>,
    /// Until this is applied no other comparison is begun.
    checking: Index,
    /// When waiting requests are looked at next.
    retry_at: Instant,
    /// Log that is kept for followers that lag: its share of what the node keeps.
    log_keep: u64,
    /// Up to here the state engine is on stable storage.
    persisted: Index,
    /// What the node around it has taken over of all this.
    pub(crate) scheduled: Scheduled,
}

/// What a node keeps of a group in its own books.
#[derive(Debug)]
pub(crate) struct Scheduled {
    pub(crate) deadline: Instant,
    pub(crate) rest: Option<Rest>,
    pub(crate) pending_writes: usize,
}

impl Default for Scheduled {
    fn default() -> Self {
        Self { deadline: Instant::MAX, rest: None, pending_writes: 0 }
    }
}

impl Group {
    pub(crate) fn new(
        id: GroupId,
        config: GroupConfig,
        me: Member,
        raft: Raft<Bytes>,
        state: State,
        now: Instant,
    ) -> Self {
        let State { applied, log_time, next_due } = state;
        let mut clock = GroupClock::default();
        clock.advance(now, log_time);
        let mut group = Self {
            id,
            me,
            voters: Vec::new(),
            raft,
            clock,
            role: Role::Follower,
            term: Term(0),
            leader: None,
            handed: applied.index,
            applied,
            next_due,
            ticking: false,
            tick_not_before: Instant(0),
            writes: Writes::default(),
            slow: Slow::default(),
            reads: Reads::default(),
            change: None,
            checked: None,
            checking: Index(0),
            retry_at: Instant::MAX,
            log_keep: config.log_keep_bytes,
            // What it had applied when it was opened, it had from there.
            persisted: applied.index,
            scheduled: Scheduled::default(),
            config,
        };
        group.look_at_voters();
        group
    }

    pub(crate) fn raft(&mut self) -> &mut Raft<Bytes> {
        &mut self.raft
    }

    pub(crate) fn consensus(&self) -> &Raft<Bytes> {
        &self.raft
    }

    pub(crate) fn member(&self) -> Member {
        self.me
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.role == Role::Removed
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    pub(crate) fn pending_writes(&self) -> usize {
        self.writes.len()
    }

    pub(crate) fn leader(&self) -> Option<Member> {
        self.leader
    }

    /// Takes a request.
    pub(crate) fn take(&mut self, routed: Routed, node: &mut Node<'_>) {
        let Routed { caller, to, ask, give_up, patience, attempts } = routed;
        match ask {
            Ask::Read(read) => self.read(Question { caller, read, to, give_up, patience }, node),
            Ask::Write(write) => {
                let pending =
                    Pending::new(caller, to, write.proposal, (give_up, patience), attempts);
                self.write((write.client, write.seq), pending, node);
            }
        }
    }

    /// Whether any request waits.
    pub(crate) fn has_requests(&self) -> bool {
        self.writes.len() > 0 || self.reads.len() > 0
    }

    /// Gives back the requests for slots that the group does not own any more.
    pub(crate) fn give_up_moved(
        &mut self,
        mut owns: impl FnMut(Slot) -> bool,
        node: &mut Node<'_>,
    ) {
        let mut has_moved = |to| matches!(to, Target::Slot(slot) if !owns(slot));
        self.give_back_writes(Why::Moved, &mut has_moved, node);
        self.give_back_reads(Why::Moved, &mut has_moved, node);
    }

    /// What others may know of the group.
    pub(crate) fn place(&self) -> GroupPlace {
        GroupPlace { leader: self.leader.map(|leader| leader.node), nodes: self.voters.clone() }
    }

    /// Log time if an entry were stamped now.
    pub(crate) fn log_time(&self, now: Instant) -> LogTime {
        self.clock.estimate(now)
    }

    /// Slows the writers of slots whose move they outrun, if this node leads.
    pub(crate) fn slow(&mut self, slots: SlotSet, now: Instant) {
        self.slow.begin(slots, now);
    }

    /// The stamp for an entry that is proposed now.
    pub(crate) fn stamp(
        &mut self,
        now: Instant,
        wall: LogTime,
        me: NodeId,
        walls: &WallClocks,
    ) -> LogTime {
        self.clock.stamp(now, walls, me, wall, self.voters.iter().copied())
    }

    pub(crate) fn status(&self, now: Instant) -> GroupStatus {
        GroupStatus {
            group: self.id,
            raft: self.raft.status(),
            log_time: self.clock.estimate(now),
            pending_writes: self.writes.len(),
            waiting_reads: self.reads.len(),
            held_writes: self.slow.held(),
        }
    }

    /// The term, as of the last change of role.
    pub(crate) fn term(&self) -> Term {
        self.term
    }

    fn look_at_voters(&mut self) {
        let status = self.raft.status();
        self.voters = status.membership.voters.iter().map(|voter| voter.node).collect();
    }

    pub(crate) fn persisted(&mut self, now: Instant, receipt: Receipt) {
        self.raft.persisted(now, receipt);
    }

    /// The apply stage has reached `applied`.
    pub(crate) fn applied(
        &mut self,
        now: Instant,
        applied: LogId,
        log_time: LogTime,
        next_due: Option<LogTime>,
    ) {
        // Two stages may report out of order; what is older says nothing any more.
        if applied.index < self.applied.index {
            return;
        }
        self.applied = applied;
        self.clock.advance(now, log_time);
        self.next_due = next_due;
        // One tick may expire only a part of what is due: then another follows.
        self.ticking = false;
        self.raft.applied(now, applied.index);
        if planted(Plant::LogPurgedTooFar) {
            self.engine_persisted(applied);
        }
    }

    /// The state engine has `applied` on stable storage: the log before it is only kept for
    /// followers, and beyond the bound not even for them.
    pub(crate) fn engine_persisted(&mut self, applied: LogId) {
        self.persisted = self.persisted.max(applied.index);
        self.cut_log();
    }

    /// What the log may take from here on, of all that is kept for followers.
    pub(crate) fn keep_log(&mut self, bytes: u64) {
        self.log_keep = bytes;
    }

    /// Bytes of log that a start would apply again.
    pub(crate) fn unpersisted_bytes(&self) -> u64 {
        self.raft.log_bytes_after(self.persisted)
    }

    /// Drops the log that nobody needs: the state engine has it, and so do all followers, or it is
    /// beyond the bound. One that does not lead cannot know what others lack; it keeps some, since it
    /// may lead next. Returns whether it was worth while.
    pub(crate) fn cut_log(&mut self) -> bool {
        let tail = self.log_keep / LOG_PARTS;
        let had = self.raft.matched_by_all().unwrap_or_else(|| self.raft.index_before(tail));
        let upto = self.persisted.min(had.max(self.raft.index_before(self.log_keep)));
        let dropped = self.raft.log_bytes().saturating_sub(self.raft.log_bytes_after(upto));
        // Each cut is a record of the log itself.
        let worth = dropped > tail / LOG_PARTS;
        if worth {
            self.raft.compact(upto);
        }
        worth
    }

    /// Runs the timers that are due.
    pub(crate) fn tick(&mut self, node: &mut Node<'_>) {
        if self.raft.next_deadline() <= node.now {
            self.raft.tick(node.now);
        }
        if self.retry_at <= node.now {
            self.retry_at = Instant::MAX;
            self.retry_writes(node);
            self.expire_reads(node);
            self.drive_change(node);
        }
        self.tick_log_time(node);
    }

    /// A leader moves log time when a key is due, also when nobody writes (PROTOCOL 8).
    fn tick_log_time(&mut self, node: &mut Node<'_>) {
        let due = |group: &Self| group.next_due.is_some_and(|due| group.log_time(node.now) >= due);
        let may = !self.ticking && self.tick_not_before <= node.now;
        if self.role == Role::Leader && may && due(self) {
            self.propose_tick(node);
        }
    }

    /// When [`Group::tick`] has something to do.
    pub(crate) fn next_deadline(&self, now: Instant) -> Instant {
        let mut deadline = self.raft.next_deadline().min(self.retry_at);
        if self.role == Role::Leader
            && !self.ticking
            && let Some(due) = self.next_due
        {
            let wait = due.0.saturating_sub(self.log_time(now).0);
            let tick_at = (now + Duration::from_millis(wait)).max(self.tick_not_before);
            deadline = deadline.min(tick_at);
        }
        deadline
    }

    /// Starts what waits and carries the core's outputs to the node.
    pub(crate) fn flush(&mut self, node: &mut Node<'_>) {
        // Who waits here must not wait for a group that sleeps.
        self.raft.keep_awake(node.now, self.has_waiting());
        self.begin_reads(node);
        while let Some(output) = self.raft.poll(node.now) {
            self.carry(output, node);
        }
        if self.has_waiting() {
            self.retry_at = self.retry_at.min(node.now + self.config.retry_interval);
        } else {
            self.retry_at = Instant::MAX;
        }
    }

    fn has_waiting(&self) -> bool {
        self.writes.len() > 0 || self.reads.len() > 0 || self.change.is_some()
    }

    /// How it rests, if it does.
    pub(crate) fn rest(&self) -> Option<Rest> {
        if !self.raft.is_quiet() {
            return None;
        }
        let leader = self.raft.leader()?;
        Some(if leader == self.me {
            let others = self.raft.membership().members().filter(|&member| member != self.me);
            let mut nodes: Vec<_> = others.map(|member| member.node).collect();
            nodes.dedup();
            Rest::Leading(nodes)
        } else {
            Rest::Following(leader.node)
        })
    }

    /// The leader's node has fallen silent.
    pub(crate) fn leader_is_silent(&mut self, node: &Node<'_>) {
        if let Some(leader) = self.raft.leader() {
            self.raft.peer_down(node.now, leader);
        }
    }

    fn carry(&mut self, output: Output<Bytes>, node: &mut Node<'_>) {
        let group = self.id;
        match output {
            Output::Send(message) => node.frames.to(message.to.node).raft(group, &message),
            Output::Write(batch) => node.effects.push(Effect::Persist { group, batch }),
            Output::Apply(entries) => {
                if let Some(last) = entries.last() {
                    self.handed = last.id.index;
                    if entries.iter().any(|entry| matches!(entry.data, EntryData::Membership(_))) {
                        self.look_at_voters();
                        node.places.push(self.id);
                    }
                    node.effects.push(Effect::Apply { group, entries });
                    self.release_reads(node);
                }
            }
            Output::ReadReady { token, index } => self.read_ready(token, index, node),
            Output::ReadFailed { token } => self.read_failed(token),
            Output::Role { role, term, leader } => self.role_changed(role, term, leader, node),
            Output::ReadEntries { to, from, max } => {
                node.effects.push(Effect::ReadEntries { group, to, from, max });
            }
            Output::BuildSnapshot => node.effects.push(Effect::BuildSnapshot { group }),
            Output::ReadChunk { to, meta, offset, max } => {
                node.effects.push(Effect::ReadChunk { group, to, meta, offset, max });
            }
            Output::WriteChunk { meta, offset, data } => {
                node.effects.push(Effect::WriteChunk { group, meta, offset, data });
            }
            Output::InstallSnapshot(meta) => {
                node.effects.push(Effect::InstallSnapshot { group, meta });
            }
            Output::Removed => {
                node.effects.push(Effect::Removed { group, member: self.member() });
            }
            Output::Faulted => node.effects.push(Effect::Faulted { group }),
            Output::Mismatch { from, to } => {
                node.effects.push(Effect::Mismatch { group, from, to });
            }
        }
    }

    fn role_changed(
        &mut self,
        role: Role,
        term: Term,
        leader: Option<Member>,
        node: &mut Node<'_>,
    ) {
        let other_leader = leader != self.leader || term != self.term;
        (self.role, self.term, self.leader) = (role, term, leader);
        node.places.push(self.id);
        node.effects.push(Effect::Role { group: self.id, role, term, leader });
        self.look_at_voters();
        if other_leader {
            self.ticking = false;
            self.checking = Index(0);
            if role == Role::Leader {
                // Log time as this leader sees it, before anybody's deadline is judged by it.
                self.propose_tick(node);
            }
            if leader.is_some() {
                self.redispatch_writes(node);
                self.begin_reads(node);
            }
        }
    }

    /// A snapshot took the place of the state: `applied` jumped.
    pub(crate) fn installed(
        &mut self,
        now: Instant,
        applied: LogId,
        log_time: LogTime,
        next_due: Option<LogTime>,
    ) {
        self.handed = self.handed.max(applied.index);
        self.persisted = self.persisted.max(applied.index);
        self.outcomes_skipped();
        self.applied(now, applied, log_time, next_due);
    }

    /// The replica is closed: what waits goes elsewhere.
    pub(crate) fn abandon(&mut self, node: &mut Node<'_>) {
        self.give_back_writes(Why::Gone, &mut |_| true, node);
        self.give_back_reads(Why::Gone, &mut |_| true, node);
        self.abandon_change(node);
    }
}
