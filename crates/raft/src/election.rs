//! Who leads: pre-votes, votes, and the loyalty that protects a working leader.
//!
//! - A replica that hears no leader for its (random) election timeout first asks whether it would be
//!   elected, which changes nothing anywhere (thesis §9.6); only with a majority of yes does it
//!   raise its term and ask for votes (§5.2).
//! - A vote goes to a candidate whose log is at least as up-to-date (§5.4.1), once per term, and is
//!   answered when it is durable. The candidate's requests too leave when its own vote is.
//! - For an election timeout after hearing a leader, and after a start, a replica ignores requests
//!   for votes without adopting their term (§6, PROTOCOL 5), unless the leader itself asked for the
//!   election. A leader that has not lost its majority does the same.
//! - Whether a replica is a voter in its own eyes has no part in how it answers (PROTOCOL 7): its
//!   configuration may be the older one.

use kontiki_types::plant::{Plant, planted};
use kontiki_types::{Instant, LogId, Member, Term};

use crate::durability::Held;
use crate::raft::Raft;
use crate::{Body, Message, Payload, Role};

impl<P: Payload> Raft<P> {
    /// Whether this replica may stand for election. Also one that a configuration leaves out which
    /// is not known to be committed: it may be the only one whose log is long enough (thesis
    /// §4.2.2). It does not count its own vote then.
    pub(crate) fn may_campaign(&self) -> bool {
        let me = self.config.me;
        let commit = self.commit.max(self.log.base().id.index);
        !self.removed
            && !self.is_installing()
            && (self.membership().is_voter(me)
                || self.log.membership_at(commit).1.is_voter(me)
                || self
                    .log
                    .memberships(commit, self.log.last().index)
                    .any(|(_, membership)| membership.is_voter(me)))
    }

    pub(crate) fn tick_election(&mut self, now: Instant) {
        if now < self.election_at {
            return;
        }
        if !self.may_campaign() || self.disk_is_stalled(now) || self.term().next() == Term(u64::MAX)
        {
            return self.draw_election_timeout(now);
        }
        self.ask_pre_votes(now);
    }

    /// An election timeout from now to twice that.
    pub(crate) fn draw_election_timeout(&mut self, now: Instant) {
        let timeout = self.config.election_timeout;
        self.patience = self.rng.between(timeout, timeout.saturating_mul(2));
        self.election_at = now + self.patience;
    }

    /// Soon, but not at the same moment as others: for elections that failed for no lasting reason.
    fn draw_retry(&mut self, now: Instant) {
        let heartbeat = self.config.heartbeat;
        self.election_at = now + self.rng.between(heartbeat, heartbeat.saturating_mul(2));
    }

    /// Becomes a follower, in this or a later term. `leader` is `None` until one is heard.
    pub(crate) fn follow(&mut self, now: Instant, term: Term, leader: Option<Member>) {
        if core::mem::take(&mut self.quiet) {
            self.draw_election_timeout(now);
        }
        if self.role == Role::Leader {
            self.leave_office();
            self.draw_election_timeout(now);
        }
        if term > self.term() {
            self.hard_state = crate::HardState { term, vote: None };
            self.durability.hard_state_changed();
            self.verified = kontiki_types::Index(0);
            self.acknowledge = None;
        }
        if self.leader != leader {
            self.leader = leader;
            self.fail_forwarded();
        }
        self.role = Role::Follower;
        self.votes.clear();
    }

    fn leave_office(&mut self) {
        // What was proposed and not sealed was never seen by anyone, and never will be.
        self.pending.clear();
        self.pending_cost = 0;
        self.fail_reads();
        self.lead = None;
    }

    fn ask_pre_votes(&mut self, now: Instant) {
        if self.leader.take().is_some() {
            self.fail_forwarded();
        }
        self.role = Role::PreCandidate;
        self.votes.clear();
        self.votes.push((self.config.me, true));
        // Others may still be loyal for a moment; what they refuse now they grant then.
        self.draw_retry(now);
        if self.is_elected() {
            return self.campaign(now, false);
        }
        let term = self.term().next();
        let last = self.log.last();
        self.ask_everybody(|from, to| Message { from, to, term, body: Body::PreVote { last } });
    }

    /// Raises the term, votes for itself, and asks for votes as soon as that is durable.
    pub(crate) fn campaign(&mut self, now: Instant, transfer: bool) {
        let term = self.term().next();
        self.follow(now, term, None);
        self.hard_state.vote = Some(self.config.me);
        self.role = Role::Candidate;
        self.draw_election_timeout(now);
        let last = self.log.last();
        for to in self.other_voters() {
            let message = self.message(to, Body::Vote { last, transfer });
            self.durability.hold(Held::Send(message.into()));
        }
        self.durability.hold(Held::OwnVote(term));
    }

    pub(crate) fn own_vote_is_durable(&mut self, now: Instant, term: Term) {
        if self.role == Role::Candidate && term == self.term() {
            self.count_vote(now, self.config.me, true);
        }
    }

    pub(crate) fn on_pre_vote(&mut self, now: Instant, from: Member, term: Term, last: LogId) {
        let granted = term > self.term() && !self.is_loyal(now, from) && self.is_as_new(last);
        let mut reply = self.message(from, Body::PreVoteReply { granted });
        if granted {
            // Let it try before we do: two candidates at once may split the votes.
            if self.role == Role::Follower {
                self.election_at = self.election_at.max(now + self.config.heartbeat);
            }
            reply.term = term;
        }
        self.outbox.push_back(crate::Output::Send(reply));
    }

    pub(crate) fn on_pre_vote_reply(
        &mut self,
        now: Instant,
        from: Member,
        term: Term,
        granted: bool,
    ) {
        if granted {
            if self.role == Role::PreCandidate && term == self.term().next() {
                self.count_vote(now, from, true);
            }
        } else if term > self.term() && self.knows(from) {
            let soon = self.election_at;
            self.follow(now, term, None);
            self.election_at = self.election_at.min(soon);
        }
    }

    pub(crate) fn on_vote(
        &mut self,
        now: Instant,
        from: Member,
        term: Term,
        last: LogId,
        transfer: bool,
    ) {
        if term >= self.term()
            && self.is_loyal(now, from)
            && !transfer
            && !planted(Plant::LeaseBrokenByVote)
        {
            return;
        }
        if term > self.term() {
            self.follow(now, term, None);
        }
        let granted = term == self.term()
            && self.leader.is_none()
            && self.hard_state.vote.is_none_or(|member| member == from)
            && self.is_as_new(last);
        if granted {
            if self.hard_state.vote.is_none() {
                self.hard_state.vote = Some(from);
                self.durability.hard_state_changed();
            }
            self.follow(now, term, None);
            self.draw_election_timeout(now);
        }
        let reply = self.message(from, Body::VoteReply { granted });
        if planted(Plant::VoteBeforeSync) {
            return self.outbox.push_back(crate::Output::Send(reply));
        }
        self.durability.hold(Held::Send(reply.into()));
    }

    /// Whether a log that ends with `last` is at least as up-to-date as ours (§5.4.1).
    fn is_as_new(&self, last: LogId) -> bool {
        if planted(Plant::VoteForShorterLog) {
            return last.index >= self.log.last().index;
        }
        last >= self.log.last()
    }

    pub(crate) fn on_vote_reply(&mut self, now: Instant, from: Member, granted: bool) {
        if self.role == Role::Candidate {
            self.count_vote(now, from, granted);
        }
    }

    fn count_vote(&mut self, now: Instant, from: Member, granted: bool) {
        if self.votes.iter().any(|(member, _)| *member == from) {
            return;
        }
        // Votes of those who are not voters are kept out by the count.
        if !self.membership().is_voter(from) {
            self.dropped += u64::from(from != self.config.me);
            return;
        }
        self.votes.push((from, granted));
        if self.is_elected() {
            match self.role {
                Role::PreCandidate => self.campaign(now, false),
                Role::Candidate => self.become_leader(now),
                _ => {}
            }
        } else if self.role == Role::Candidate && self.is_lost() {
            // No need to wait for more; but let others go first.
            let (heartbeat, timeout) = (self.config.heartbeat, self.config.election_timeout);
            let retry = now + self.rng.between(heartbeat, timeout);
            self.election_at = self.election_at.min(retry);
        }
    }

    fn is_elected(&self) -> bool {
        self.membership().majority(|member| self.votes.contains(&(member, true)))
    }

    fn is_lost(&self) -> bool {
        !self.membership().majority(|member| !self.votes.contains(&(member, false)))
    }

    /// Whether this replica must not help `candidate` to replace the leader.
    fn is_loyal(&self, now: Instant, candidate: Member) -> bool {
        // Of a leader that rests nothing can be heard, unless it asks for a vote: it leads no more.
        let trusts = (self.quiet || now < self.trusting_until)
            && self.leader.is_some_and(|leader| leader != candidate);
        match self.role {
            Role::Leader => {
                self.quiet
                    || now < self.loyal_until
                    || self.has_quorum_since(now, self.config.election_timeout)
            }
            _ => now < self.loyal_until || trusts,
        }
    }

    fn ask_everybody(&mut self, ask: impl Fn(Member, Member) -> Message<P>) {
        for to in self.other_voters() {
            let message = ask(self.config.me, to);
            self.outbox.push_back(crate::Output::Send(message));
        }
    }

    fn other_voters(&self) -> alloc::vec::Vec<Member> {
        let membership = self.membership();
        let mut voters: alloc::vec::Vec<_> = membership
            .voters
            .iter()
            .chain(&membership.outgoing)
            .copied()
            .filter(|&member| member != self.config.me)
            .collect();
        voters.sort_unstable();
        voters.dedup();
        voters
    }
}
