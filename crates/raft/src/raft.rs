//! One replica of a Raft group: its state, and the way in and out.
//!
//! This file has what every part needs: the fields, the calls of the driver, which part a message
//! goes to, the timers, and the order in which outputs come. The rules themselves are in `election`,
//! `proposal`, `replication`, `follower`, `read`, `change`, `transfer`, `quiesce` and `snapshot`, each an
//! `impl Raft` of its own.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use kontiki_types::plant::{Plant, planted};
use kontiki_types::{Index, Instant, LogId, Member, Term};

use crate::durability::{Durability, Held};
use crate::leader::Leader;
use crate::log::Log;
use crate::read::Forwarded;
use crate::recovery::recover_log;
use crate::rng::Rng;
use crate::snapshot::{Shelf, Staging};
use crate::{
    AppendResult, Body, Config, Entry, HardState, Membership, Message, Output, Payload, Reason,
    Receipt, Recovered, RestartError, Role, Session, Status,
};

/// One replica of a Raft group.
///
/// A value with methods: tell it what happened, then drain [`Raft::poll`]. See the crate's
/// documentation for the duties of the caller.
pub struct Raft<P> {
    pub(crate) config: Config,
    pub(crate) rng: Rng,
    pub(crate) hard_state: HardState,
    pub(crate) role: Role,
    pub(crate) leader: Option<Member>,
    pub(crate) log: Log<P>,
    /// Proposed and not sealed into the log yet. Empty unless leader.
    pub(crate) pending: Vec<Entry<P>>,
    pub(crate) pending_cost: u64,
    /// Known to be committed. Never decreases.
    pub(crate) commit: Index,
    /// Handed out to be applied. Invariant: `applied <= handed_out <= commit`, and durable.
    pub(crate) handed_out: Index,
    /// Reported as applied.
    pub(crate) applied: Index,
    /// Positions in bytes (see [`Log`]) of `commit` and `applied`.
    pub(crate) commit_cost: u64,
    pub(crate) applied_cost: u64,
    pub(crate) durability: Durability<P>,
    /// Present exactly while `role` is leader.
    pub(crate) lead: Option<Box<Leader>>,
    /// Answers to the (pre-)vote under way.
    pub(crate) votes: Vec<(Member, bool)>,
    /// The log is known to be that of the current term's leader up to here.
    pub(crate) verified: Index,
    /// No vote is granted before this: a leader was heard, or the replica has just started and may
    /// have forgotten that it heard one (PROTOCOL 5).
    pub(crate) loyal_until: Instant,
    /// It rests: see `quiesce`. Then it is a leader, or a follower that knows one.
    pub(crate) quiet: bool,
    /// The owner does not want it to rest.
    pub(crate) wakeful: bool,
    /// The leader is not blamed for its silence before this: it may rest.
    pub(crate) trusting_until: Instant,
    /// The election timeout as last drawn.
    pub(crate) patience: core::time::Duration,
    pub(crate) election_at: Instant,
    /// Something has happened since outputs were last drained.
    pub(crate) changed: bool,
    /// The acknowledgement to give for the appends since the last drain.
    pub(crate) acknowledge: Option<(Member, Session, Index)>,
    pub(crate) staging: Option<Staging>,
    pub(crate) shelf: Shelf,
    pub(crate) forwarded: Forwarded,
    pub(crate) storage_full: bool,
    pub(crate) removed: bool,
    pub(crate) outbox: VecDeque<Output<P>>,
    published: (Role, Term, Option<Member>),
    mismatch: Option<(Member, Member)>,
    pub(crate) dropped: u64,
}

impl<P: Payload> Raft<P> {
    /// Starts a replica, as a follower, from what its stable storage proves. `seed` spreads its
    /// election timeouts; give every replica, and every start of it, another one.
    ///
    /// # Errors
    /// [`RestartError`]: what was recovered contradicts itself, and must not be used.
    pub fn new(
        config: Config,
        recovered: Recovered<P>,
        seed: u64,
        now: Instant,
    ) -> Result<Self, RestartError> {
        if config.heartbeat.is_zero()
            || config.heartbeat.saturating_mul(3) > config.election_timeout
            || config.max_append_bytes == 0
            || config.max_inflight_appends == 0
            || config.max_inflight_bytes == 0
            || config.snapshot_chunk_bytes == 0
        {
            return Err(RestartError::Config);
        }
        let log = recover_log(&recovered, config.max_append_bytes)?;
        let applied = recovered.applied;
        let mut rng = Rng::new(seed);
        let nonce = rng.next();
        let patience =
            rng.between(config.election_timeout, config.election_timeout.saturating_mul(2));
        let cost = log.cost_at(applied);
        let mut raft = Self {
            durability: Durability::new(nonce, log.last().index),
            loyal_until: if planted(Plant::LeaseForgottenAtStart) {
                now
            } else {
                now + config.election_timeout
            },
            rng,
            hard_state: recovered.hard_state,
            role: Role::Follower,
            leader: None,
            log,
            pending: Vec::new(),
            pending_cost: 0,
            commit: applied,
            handed_out: applied,
            applied,
            commit_cost: cost,
            applied_cost: cost,
            lead: None,
            votes: Vec::new(),
            verified: Index(0),
            quiet: false,
            wakeful: false,
            trusting_until: Instant(0),
            patience,
            election_at: now + patience,
            changed: true,
            acknowledge: None,
            staging: None,
            shelf: Shelf::default(),
            forwarded: Forwarded::default(),
            storage_full: false,
            removed: false,
            outbox: VecDeque::new(),
            published: (Role::Follower, recovered.hard_state.term, None),
            mismatch: None,
            dropped: 0,
            config,
        };
        let base = raft.log.base().id.index;
        raft.notice_removal(base, applied);
        raft.evict();
        Ok(raft)
    }

    /// Takes a message from another replica. Never panics, however wrong the message is.
    pub fn receive(&mut self, now: Instant, message: Message<P>) {
        if matches!(self.role, Role::Faulted | Role::Removed) {
            return;
        }
        self.changed = true;
        let Message { from, to, term, body } = message;
        if to != self.config.me {
            self.removed |= is_from_leader(&body) && self.is_succeeded_by(to);
            return self.mismatched(from, to);
        }
        if from == self.config.me || term == Term(u64::MAX) {
            return self.dropped += 1;
        }
        if self.quiet {
            self.rouse_by(now, from, term, &body);
        }
        if planted(Plant::TimerResetByAnything) {
            self.election_at = now + self.patience;
        }
        match body {
            Body::PreVote { last } => return self.on_pre_vote(now, from, term, last),
            Body::PreVoteReply { granted } => {
                return self.on_pre_vote_reply(now, from, term, granted);
            }
            Body::Vote { last, transfer } => return self.on_vote(now, from, term, last, transfer),
            _ => {}
        }
        if term < self.term() {
            // A leader of an old term must learn of the newer one, or a replica that is ahead of
            // everybody could never be led again. Old answers are of no use to anyone.
            if let Body::Heartbeat { session, round, .. } = body
                && planted(Plant::LeaseFromNewerTerm)
            {
                let (received, matched) = (Index(0), Index(0));
                let body = Body::HeartbeatReply { session, round, received, matched };
                let answer = Message { from: self.config.me, to: from, term, body };
                return self.outbox.push_back(Output::Send(answer));
            }
            if is_from_leader(&body) {
                self.send(from, Body::Stale);
            }
            if is_from_leader(&body) || !planted(Plant::StaleReplyCounts) {
                return;
            }
        }
        if term > self.term() {
            // A request may come from a member that this replica does not know of yet; but
            // whoever answers must have been asked, as a member.
            if !is_from_leader(&body) && !self.knows(from) {
                return self.dropped += 1;
            }
            self.follow(now, term, None);
        }
        match body {
            Body::Append { session, prev, commit, entries } => {
                self.on_append(now, from, session, prev, commit, entries);
            }
            Body::Heartbeat { session, commit, round } => {
                self.on_heartbeat(now, from, session, commit, round);
            }
            Body::Commit { commit } => self.on_commit(now, from, commit),
            Body::Snapshot { session, meta, offset, data } => {
                self.on_snapshot(now, from, session, meta, offset, data);
            }
            Body::Quiesce { session, last, commit, round } => {
                self.on_quiesce(now, from, session, last, commit, round);
            }
            Body::Quiet { session, round } => self.on_quiet(now, from, session, round),
            Body::Wake => self.on_wake(now, from),
            Body::TimeoutNow => self.on_timeout_now(now, from),
            Body::VoteReply { granted } => self.on_vote_reply(now, from, granted),
            Body::AppendReply { session, result } => {
                self.on_append_reply(now, from, session, result);
            }
            Body::HeartbeatReply { session, round, received, matched } => {
                self.on_heartbeat_reply(now, from, session, round, received, matched);
            }
            Body::SnapshotReply { session, snapshot, next } => {
                self.on_snapshot_reply(now, from, session, *snapshot, next);
            }
            Body::ReadIndex { id } => self.on_read_index(from, id),
            Body::ReadIndexReply { id, index } => self.on_read_index_reply(from, id, index),
            Body::PreVote { .. } | Body::PreVoteReply { .. } | Body::Vote { .. } | Body::Stale => {}
        }
    }

    /// Runs every timer that is due. Take waiting messages first: after a pause of the process
    /// they may hold the heartbeats whose absence a timer would act on.
    pub fn tick(&mut self, now: Instant) {
        self.changed = true;
        match self.role {
            _ if self.quiet => {}
            Role::Leader => self.tick_leader(now),
            Role::Follower | Role::PreCandidate | Role::Candidate => self.tick_election(now),
            Role::Removed | Role::Faulted => {}
        }
        self.tick_forwarded(now);
    }

    /// When [`Raft::tick`] has something to do next. [`Instant::MAX`] for never.
    pub fn next_deadline(&self) -> Instant {
        let role = match self.role {
            _ if self.quiet => Instant::MAX,
            Role::Leader => self.leader_deadline(),
            Role::Follower | Role::PreCandidate | Role::Candidate if self.may_campaign() => {
                self.election_at
            }
            _ => Instant::MAX,
        };
        role.min(self.forwarded.deadline())
    }

    /// [`Self::next_deadline`] if that is before `limit`: quicker for a driver with a timer that is set
    /// already, since what most messages do is to put the election off.
    #[inline]
    pub fn next_deadline_before(&self, limit: Instant) -> Option<Instant> {
        let own = match self.role {
            _ if self.quiet => Instant::MAX,
            Role::Follower | Role::PreCandidate | Role::Candidate => self.election_at,
            Role::Leader => self.leader_deadline(),
            _ => Instant::MAX,
        };
        // A replica that may not campaign has a later deadline, never an earlier one.
        if own.min(self.forwarded.deadline()) >= limit {
            return None;
        }
        Some(self.next_deadline()).filter(|deadline| *deadline < limit)
    }

    /// Takes the receipt of a write batch.
    pub fn persisted(&mut self, now: Instant, receipt: Receipt) {
        if self.role == Role::Faulted {
            return;
        }
        if !self.durability.persisted(receipt) {
            return self.dropped += 1;
        }
        self.changed = true;
        if self.durability.may_release() {
            self.release(now);
        }
        if self.role == Role::Leader {
            self.advance_commit();
        }
    }

    /// A write failed: what is on the disk is unknown. The replica gives up leadership, and then
    /// says and does nothing more.
    pub fn persist_failed(&mut self, now: Instant) {
        if self.role == Role::Faulted {
            return;
        }
        // What is in the outbox may rest on an order of events that the disk has just broken.
        self.outbox.clear();
        self.hand_over_in_a_hurry(now);
        self.follow(now, self.term(), None);
        self.fail_forwarded();
        self.durability.abandon();
        self.acknowledge = None;
        self.role = Role::Faulted;
        self.publish();
        self.outbox.push_back(Output::Faulted);
    }

    /// The state machine has applied everything up to `index`.
    pub fn applied(&mut self, now: Instant, index: Index) {
        let _ = now;
        let index = index.min(self.handed_out);
        if index > self.applied {
            self.applied = index;
            self.applied_cost = self.log.cost_at(index);
            self.evict();
        }
    }

    /// Keeps the log's share of the memory.
    fn evict(&mut self) {
        if let Some(keep) = self.config.log_cache_bytes {
            self.log.evict(keep, self.applied.min(self.durability.durable()));
        }
    }

    /// Drops the log up to `upto`, or less: nothing that is not applied, nothing that a snapshot
    /// under way needs to be followed by, nothing while a snapshot is built or installed. What was
    /// dropped shows in [`Status::first`], and the next write batch carries the base.
    pub fn compact(&mut self, upto: Index) {
        let upto = upto.min(self.applied).min(self.compaction_limit());
        if upto > self.log.base().id.index && upto <= self.durability.durable() {
            self.log.compact(upto);
            self.durability.base_changed();
            self.changed = true;
        }
    }

    /// Whether the storage is (nearly) full: proposals are then refused, nothing else changes.
    /// To be set while there is still room for votes, no-ops and configurations.
    pub fn set_storage_full(&mut self, full: bool) {
        self.storage_full = full;
    }

    /// The next thing to do. Drain until `None` after every batch of calls; what is drained later
    /// is batched better.
    #[inline]
    pub fn poll(&mut self, now: Instant) -> Option<Output<P>> {
        if self.outbox.is_empty() {
            if !self.changed {
                return None;
            }
            self.flush(now);
        }
        self.outbox.pop_front()
    }

    /// Turns what has happened since the last drain into outputs: first what others wait for, then
    /// our own disk, then our own state machine.
    #[inline(never)]
    fn flush(&mut self, now: Instant) {
        self.changed = false;
        if self.role == Role::Faulted {
            return;
        }
        if !self.pending.is_empty() {
            self.seal();
        }
        if self.role == Role::Leader {
            self.flush_leader(now);
        }
        self.flush_forwarded(now);
        self.flush_acknowledgement();
        self.publish();
        if self.durability.has_news(&self.log) {
            let batch = self.durability.next_batch(&self.log, self.hard_state, now);
            self.outbox.push_back(Output::Write(batch));
        }
        self.durability.file();
        // What was held for batches that are durable by now, all of them.
        if self.durability.may_release() {
            self.release(now);
        }
        if self.removed && self.role != Role::Removed {
            self.retire(now);
        }
        self.hand_out();
    }

    /// What the replica knows.
    pub fn status(&self) -> Status {
        let (membership_id, membership) = self.log.membership();
        Status {
            me: self.config.me,
            role: self.role,
            term: self.term(),
            leader: self.leader,
            commit: self.commit,
            applied: self.applied,
            durable: self.durability.durable(),
            last: self.log.last(),
            first: self.log.first_index(),
            membership: membership.clone(),
            membership_id,
            peers: self.peer_status(),
            uncommitted_bytes: self.uncommitted_cost(),
            unapplied_bytes: self.unapplied_cost(),
            log_bytes: self.log.bytes(),
            cached_bytes: self.log.cached_bytes(),
            quiet: self.quiet,
            waiting_reads: self.waiting_reads(),
            dropped_messages: self.dropped,
        }
    }

    /// The configuration in effect at `index`, with the entry that holds it, if the log still
    /// knows: what a [`SnapshotMeta`](crate::SnapshotMeta) at `index` says.
    pub fn membership_at(&self, index: Index) -> Option<(LogId, &alloc::sync::Arc<Membership>)> {
        (index >= self.log.base().id.index && index <= self.log.last().index)
            .then(|| self.log.membership_at(index))
    }

    /// The configuration in effect. Cheap, unlike [`Raft::status`].
    pub fn membership(&self) -> &Membership {
        self.log.membership().1
    }

    /// The term of the entry at `index`, if the log still knows.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term_at(index)
    }

    /// The role. Cheap, unlike [`Raft::status`].
    pub fn role(&self) -> Role {
        self.role
    }

    /// The term.
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// The leader of the term, if known.
    pub fn leader(&self) -> Option<Member> {
        self.leader
    }

    /// Known to be committed.
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// Whether this replica would answer a read at `now` under its lease. For observers.
    pub fn holds_lease(&self, now: Instant) -> bool {
        self.has_lease(now)
    }

    /// Bytes of the log, in memory or not; what a driver decides by when to compact.
    pub fn log_bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// Bytes of the log behind the entry at `index`; of one that is not in memory, about.
    pub fn log_bytes_after(&self, index: Index) -> u64 {
        self.log.last_cost().saturating_sub(self.log.cost_at(index))
    }

    /// An entry behind which there are at least `bytes` of log, and not much more; where the log
    /// begins if there are fewer.
    pub fn index_before(&self, bytes: u64) -> Index {
        self.log.index_before(bytes)
    }

    /// Up to where so many others have the log that they and this replica are a majority, as far as it
    /// knows as the leader. `None` if it does not lead.
    pub fn replicated(&self) -> Option<Index> {
        let lead = self.lead.as_ref()?;
        Some(lead.agreed(self.log.last().index, self.commit, |peer| peer.matched))
    }

    /// Up to where every other member has the log, as far as this replica knows as the leader.
    /// `None` if it does not lead.
    pub fn matched_by_all(&self) -> Option<Index> {
        let lead = self.lead.as_ref()?;
        let matched = lead.peers.iter().map(|peer| peer.matched).min();
        Some(matched.unwrap_or(self.log.last().index))
    }
}

/// What several parts use.
impl<P: Payload> Raft<P> {
    pub(crate) fn send(&mut self, to: Member, body: Body<P>) {
        let message = self.message(to, body);
        self.outbox.push_back(Output::Send(message));
    }

    pub(crate) fn message(&self, to: Member, body: Body<P>) -> Message<P> {
        Message { from: self.config.me, to, term: self.term(), body }
    }

    /// Whether `member` is in the configuration in effect, or still being told that it left.
    pub(crate) fn knows(&self, member: Member) -> bool {
        self.membership().contains(member)
            || self.lead.as_ref().is_some_and(|lead| lead.peer(member).is_some())
    }

    /// Why nothing at all can be asked of this replica as a leader, if so.
    pub(crate) fn may_lead(&self) -> Result<(), Reason> {
        match self.role {
            Role::Faulted => Err(Reason::Faulted),
            Role::Removed => Err(Reason::Removed),
            Role::Leader => Ok(()),
            _ => Err(Reason::NotLeader { leader: self.leader }),
        }
    }

    /// Raises the commit index, as far as there are entries.
    #[inline]
    pub(crate) fn commit_to(&mut self, index: Index) {
        if index > self.commit {
            self.raise_commit(index);
        }
    }

    fn raise_commit(&mut self, index: Index) {
        let index = index.min(self.log.last().index);
        if index <= self.commit {
            return;
        }
        let before = self.commit;
        self.commit = index;
        self.commit_cost = self.log.cost_at(index);
        self.notice_removal(before, index);
    }

    /// Tells the driver when role, term or leader are not what it was told last.
    pub(crate) fn publish(&mut self) {
        let state = (self.role, self.term(), self.leader);
        if state != self.published {
            self.published = state;
            let (role, term, leader) = state;
            self.outbox.push_back(Output::Role { role, term, leader });
        }
    }

    /// Lets go of what is durable.
    fn release(&mut self, now: Instant) {
        while let Some(held) = self.durability.release() {
            // Of no use to anyone in a later term: a campaign that is over, an answer to a leader or
            // candidate that is none any more.
            let is_of_use = |term, raft: &Self| {
                (term == raft.term() || planted(Plant::StaleReplyCounts))
                    && raft.role != Role::Removed
            };
            match held {
                Held::OwnVote(term) => self.own_vote_is_durable(now, term),
                Held::Acknowledgement { to, session, term, matched } if is_of_use(term, self) => {
                    let body =
                        Body::AppendReply { session, result: AppendResult::Matched(matched) };
                    let message = Message { from: self.config.me, to, term, body };
                    self.outbox.push_back(Output::Send(message));
                }
                Held::Send(message) if is_of_use(message.term, self) => {
                    self.outbox.push_back(Output::Send(*message));
                }
                Held::Acknowledgement { .. } | Held::Send(_) => {}
            }
        }
    }

    /// Hands out what is committed and durable here.
    fn hand_out(&mut self) {
        let mut upto = self.commit.min(self.durability.durable());
        if planted(Plant::ApplyBeforeDurable) {
            upto = self.commit;
        }
        if upto <= self.handed_out || self.is_installing() {
            return;
        }
        let from = self.handed_out.next();
        self.handed_out = upto;
        match self.log.one_range(from, upto) {
            Some(entries) => self.outbox.push_back(Output::Apply(entries)),
            None => self.outbox.extend(self.log.ranges(from, upto).map(Output::Apply)),
        }
    }

    /// Whether the group has a later replica of this directory, so that this one has left it, or
    /// never came to belong to it: the leader that added it lost its term before that was committed,
    /// and nobody else has heard of it. The entry that adds a replica gives it its id, so of two
    /// replicas of a directory the later one has the higher id.
    fn is_succeeded_by(&self, other: Member) -> bool {
        let Member { node, incarnation, replica } = self.config.me;
        (other.node, other.incarnation) == (node, incarnation) && other.replica > replica
    }

    fn mismatched(&mut self, from: Member, to: Member) {
        self.dropped += 1;
        if self.mismatch.replace((from, to)) != Some((from, to)) {
            self.outbox.push_back(Output::Mismatch { from, to });
        }
    }
}

/// Whether only a leader says this.
pub(crate) fn is_from_leader<P>(body: &Body<P>) -> bool {
    matches!(
        body,
        Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::Commit { .. }
            | Body::Snapshot { .. }
            | Body::Quiesce { .. }
            | Body::TimeoutNow
    )
}
