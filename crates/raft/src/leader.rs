//! What only a leader has: its peers, its rounds of heartbeats, and its timers.
//!
//! Invariants
//! - `peers` holds every other member of the configuration in effect, and those that are leaving.
//! - Every majority (commit, check-quorum, reads, leases) is one of the voters *and*, in a joint
//!   configuration, one of the outgoing voters (PROTOCOL 7). The leader itself counts only where it
//!   is a voter: a leader that is on its way out replicates without counting itself (§6).

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use kontiki_types::plant::{Plant, planted};
use kontiki_types::{Index, Instant, LogId, Member};

use crate::progress::{Progress, State};
use crate::raft::Raft;
use crate::read::Reads;
use crate::transfer::Transferring;
use crate::{Body, Entry, EntryData, Membership, Payload, PeerStatus, Role, Session};

/// Rounds whose sending time is remembered. Far more than are ever under way.
const ROUNDS_MAX: usize = 1024;

/// For how many election timeouts a member that left is told so.
const DEPARTING_TIMEOUTS: u32 = 10;

pub(crate) struct Leader {
    pub(crate) peers: Vec<Progress>,
    /// The no-op with which the term began. Once it is committed, so is everything before it, and
    /// the leader knows the commit index.
    pub(crate) term_start: Index,
    /// The latest heartbeat round.
    pub(crate) round: u64,
    /// When the latest rounds were sent.
    rounds: VecDeque<(u64, Instant)>,
    pub(crate) heartbeat_at: Instant,
    sessions: Session,
    me_voter: bool,
    me_outgoing: bool,
    joint: bool,
    pub(crate) transfer: Option<Transferring>,
    /// Given up for good in this term, before another is asked to campaign (PROTOCOL 5).
    pub(crate) lease_given_up: bool,
    pub(crate) reads: Reads,
    /// When there was last something to do, and the last entry and commit index then.
    pub(crate) busy_at: Instant,
    pub(crate) seen: (Index, Index),
    /// The round in which everybody was asked to rest; 0 for none.
    pub(crate) asked_quiet: u64,
    /// When this leader last woke.
    pub(crate) awake_since: Instant,
}

impl Leader {
    fn new(term_start: Index, now: Instant) -> Self {
        Self {
            peers: Vec::new(),
            term_start,
            round: 0,
            rounds: VecDeque::new(),
            heartbeat_at: now,
            sessions: 0,
            me_voter: false,
            me_outgoing: false,
            joint: false,
            transfer: None,
            lease_given_up: false,
            reads: Reads::default(),
            busy_at: now,
            seen: (Index(0), Index(0)),
            asked_quiet: 0,
            awake_since: Instant(0),
        }
    }

    pub(crate) fn peer(&self, member: Member) -> Option<&Progress> {
        self.peers.iter().find(|peer| peer.member == member)
    }

    /// The peer an answer comes from, if it answers something of the present session.
    pub(crate) fn answering(&mut self, from: Member, session: Session) -> Option<&mut Progress> {
        let any = planted(Plant::OldSessionCounts);
        let asked = |peer: &Progress| peer.session == session || any;
        self.peers.iter_mut().find(|peer| peer.member == from && asked(peer))
    }

    /// Follows a change of the configuration in effect.
    fn adopt(
        &mut self,
        me: Member,
        membership: &Membership,
        next: Index,
        now: Instant,
        patience: Duration,
    ) {
        self.me_voter = membership.voters.contains(&me);
        self.me_outgoing = membership.outgoing.contains(&me);
        self.joint = membership.is_joint();
        // Who left and comes back is somebody new: what it said before counts for nothing.
        self.peers.retain(|peer| peer.departing.is_none() || !membership.contains(peer.member));
        for peer in &mut self.peers {
            if peer.departing.is_none() && !membership.contains(peer.member) {
                peer.departing = Some(now + patience);
            }
        }
        for member in membership.members().filter(|&member| member != me) {
            if !self.peers.iter().any(|peer| peer.member == member) {
                self.sessions += 1;
                self.peers.push(Progress::new(member, self.sessions, next, now));
            }
        }
        for peer in &mut self.peers {
            peer.voter = membership.voters.contains(&peer.member);
            peer.outgoing = membership.outgoing.contains(&peer.member);
        }
        self.peers.sort_unstable_by_key(|peer| peer.member);
    }

    /// The largest value that a majority has reached, by counting for each value in turn. Groups
    /// are small; nothing cleverer is worth the risk.
    pub(crate) fn agreed<T: Ord + Copy>(
        &self,
        mine: T,
        lowest: T,
        of: impl Fn(&Progress) -> T,
    ) -> T {
        let majority = |value: T, counts: fn(&Progress) -> bool, me_counts: bool| {
            let mut all = usize::from(me_counts);
            let mut reached = usize::from(me_counts && mine >= value);
            for peer in self.peers.iter().filter(|&peer| counts(peer)) {
                all += 1;
                reached += usize::from(of(peer) >= value);
            }
            if planted(Plant::LearnerCounts) {
                let learners = self.peers.iter().filter(|peer| !peer.voter && !peer.outgoing);
                reached += learners.filter(|peer| of(peer) >= value).count();
            }
            reached > all / 2
        };
        let mut best = lowest;
        for value in self.peers.iter().map(&of).chain([mine]) {
            if value > best
                && (self.joint && planted(Plant::OldMajorityOnly)
                    || majority(value, |peer| peer.voter, self.me_voter))
                && (!self.joint || majority(value, |peer| peer.outgoing, self.me_outgoing))
            {
                best = value;
            }
        }
        best
    }

    /// The latest round that a majority has answered.
    pub(crate) fn agreed_round(&self) -> u64 {
        self.agreed(self.round, 0, |peer| peer.acked_round)
    }

    /// When the latest round that a majority has answered was *sent*.
    pub(crate) fn agreed_since(&self) -> Option<Instant> {
        let agreed = self.agreed_round();
        self.rounds.iter().find(|(round, _)| *round == agreed).map(|&(_, sent)| sent)
    }

    /// No round that was confirmed counts for a lease any more.
    pub(crate) fn forget_rounds(&mut self) {
        self.rounds.clear();
    }

    /// Opens a round.
    pub(crate) fn next_round(&mut self, now: Instant) -> u64 {
        self.round += 1;
        self.rounds.push_back((self.round, now));
        let agreed = self.agreed_round();
        while self
            .rounds
            .front()
            .is_some_and(|&(round, _)| round < agreed || self.rounds.len() > ROUNDS_MAX)
        {
            self.rounds.pop_front();
        }
        self.round
    }
}

impl<P: Payload> Raft<P> {
    /// Takes office: an entry of the new term first, since entries of older ones can only be
    /// committed below one of its own (§5.4.2, §8).
    pub(crate) fn become_leader(&mut self, now: Instant) {
        self.role = Role::Leader;
        self.leader = Some(self.config.me);
        self.votes.clear();
        self.fail_forwarded();
        let term_start = self.next_index();
        self.lead = Some(Box::new(Leader::new(term_start, now)));
        self.adopt_membership(now);
        // The very first entry of a group is its initial configuration, so that whoever joins finds
        // it in the log; it opens the term as well as a no-op does.
        let (id, membership) = self.log.membership();
        let opening = if id == LogId::ZERO {
            EntryData::Membership(membership.clone())
        } else {
            EntryData::Noop
        };
        self.append_own(opening);
    }

    /// Appends an entry of our own to the log, behind what was proposed.
    pub(crate) fn append_own(&mut self, data: EntryData<P>) -> LogId {
        self.seal();
        let id = LogId::new(self.term(), self.next_index());
        self.log.append([Entry { id, data }].into_iter().collect());
        id
    }

    /// Takes the configuration in effect over into the leader's bookkeeping.
    pub(crate) fn adopt_membership(&mut self, now: Instant) {
        let patience = self.config.election_timeout.saturating_mul(DEPARTING_TIMEOUTS);
        let (_, membership) = self.log.membership();
        let next = self.log.last().index.next();
        if let Some(lead) = &mut self.lead {
            lead.adopt(self.config.me, membership, next, now, patience);
        }
    }

    pub(crate) fn tick_leader(&mut self, now: Instant) {
        // A leader whose disk hangs keeps its followers quiet and commits little: worse than none.
        if self.disk_is_stalled(now) {
            self.hand_over_in_a_hurry(now);
            return self.follow(now, self.term(), None);
        }
        if !self.has_quorum_since(now, self.quorum_patience()) {
            return self.follow(now, self.term(), None);
        }
        self.tick_transfer(now);
        let last = self.log.last().index;
        let lately = self.config.heartbeat / 2;
        let Some(lead) = &mut self.lead else { return };
        if now >= lead.heartbeat_at {
            lead.peers.retain(|peer| peer.departing.is_none_or(|until| now < until));
            // Heartbeats are for idle periods (§5.2). A lease counts from their rounds.
            let is_idle = lead
                .peers
                .iter()
                .any(|peer| !peer.has_log(last) || now.since(peer.acked_at) > lately);
            let is_idle = is_idle || self.config.lease.is_some();
            if self.ask_to_quiesce(now) {
                // That was the heartbeat.
            } else if is_idle {
                self.broadcast_heartbeat(now);
            } else {
                let next = self.next_heartbeat(now);
                if let Some(lead) = &mut self.lead {
                    lead.heartbeat_at = next;
                }
                self.tell_commits();
            }
            self.tick_catchup(now);
        }
    }

    pub(crate) fn leader_deadline(&self) -> Instant {
        let Some(lead) = &self.lead else { return Instant::MAX };
        let disk = self.durability.oldest().map(|since| since + self.config.write_deadline);
        let transfer = lead.transfer.as_ref().map(|transfer| transfer.until);
        let others = [disk, transfer].into_iter().flatten().min().unwrap_or(Instant::MAX);
        lead.heartbeat_at.min(others)
    }

    /// When the heartbeat after one at `now` is due.
    pub(crate) fn next_heartbeat(&self, now: Instant) -> Instant {
        let next = now + self.config.heartbeat;
        let interval = u64::try_from(self.config.heartbeat.as_micros()).unwrap_or(u64::MAX);
        match next.0.checked_rem(interval) {
            Some(beyond) if self.config.align_heartbeats => Instant(next.0 - beyond),
            _ => next,
        }
    }

    /// One round of heartbeats to everybody.
    pub(crate) fn broadcast_heartbeat(&mut self, now: Instant) -> u64 {
        let next = self.next_heartbeat(now);
        let Some(lead) = &mut self.lead else { return 0 };
        lead.heartbeat_at = next;
        let round = lead.next_round(now);
        let (me, term) = (self.config.me, self.hard_state.term);
        for peer in &mut lead.peers {
            let commit = self.commit.min(peer.matched);
            let body = Body::Heartbeat { session: peer.session, commit, round };
            peer.commit_sent = peer.commit_sent.max(commit);
            let message = crate::Message { from: me, to: peer.member, term, body };
            self.outbox.push_back(crate::Output::Send(message));
        }
        round
    }

    /// Whether a majority has answered within the last `patience`.
    pub(crate) fn has_quorum_since(&self, now: Instant, patience: Duration) -> bool {
        self.lead.as_ref().is_some_and(|lead| {
            let heard = lead.agreed(now, Instant(0), |peer| peer.acked_at);
            let heard = heard.max(lead.awake_since);
            now.since(heard) <= patience
        })
    }

    /// How long a leader goes on without a majority: as long as the most patient follower waits.
    fn quorum_patience(&self) -> Duration {
        self.config.election_timeout.saturating_mul(2)
    }

    pub(crate) fn disk_is_stalled(&self, now: Instant) -> bool {
        self.durability.oldest().is_some_and(|since| now >= since + self.config.write_deadline)
    }

    /// What a leader sends when outputs are drained.
    pub(crate) fn flush_leader(&mut self, now: Instant) {
        self.leave_joint(now);
        self.note_work(now);
        self.flush_reads(now);
        self.flush_appends(now);
        self.flush_transfer();
    }

    pub(crate) fn peer_status(&self) -> Vec<PeerStatus> {
        let Some(lead) = &self.lead else { return Vec::new() };
        let now = lead.heartbeat_at;
        let patience = self.config.election_timeout + self.config.heartbeat;
        let present = lead.peers.iter().filter(|peer| peer.departing.is_none());
        present.map(|peer| peer.status(now.since(peer.acked_at) <= patience)).collect()
    }
}

impl Progress {
    pub(crate) fn is_in_snapshot(&self) -> bool {
        matches!(self.state, State::Snapshot(_))
    }
}
