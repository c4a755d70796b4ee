//! Groups that rest: with nothing to do, nobody runs a timer and nobody says anything.
//!
//! - A leader that has had nothing to do for [`Config::quiesce_after`](crate::Config::quiesce_after),
//!   all of whose peers are there, have its whole log durably and know that it is committed, asks
//!   them all to rest ([`Body::Quiesce`], a heartbeat otherwise). Whoever is in exactly the state
//!   that is named rests and says so; the leader rests when all have. If one does not, the next
//!   heartbeat is an ordinary one and wakes those that did.
//! - Anything wakes a replica: what its owner wants done, and any message of a member but the
//!   request itself and the answer to it. A follower that wakes wakes its leader ([`Body::Wake`]), and
//!   trusts it for an election timeout more, so that the leader is not replaced for its silence.
//! - **Who has died does not say so.** Nobody who rests can notice that; the owner has to, once for
//!   all groups of a node, and calls [`Raft::peer_down`].
//!
//! Safety rests on none of this: votes, terms and commitment do not ask whether anybody rests. A
//! leader that rests holds no lease, and one that has just woken has no confirmed round, so that it
//! answers no read before a majority has spoken (PROTOCOL 5). Resting makes a replica refuse votes
//! that it might have granted, never the other way round.

use kontiki_types::{Index, Instant, LogId, Member, Term};

use crate::raft::{Raft, is_from_leader};
use crate::{Body, Payload, Role, Session};

impl<P: Payload> Raft<P> {
    /// Whether this replica rests: it runs no timer and sends nothing until something happens.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// While `awake` holds, this replica does not rest; if it does, it wakes. For an owner with
    /// something unfinished, such as a request that waits for another leader.
    pub fn keep_awake(&mut self, now: Instant, awake: bool) {
        self.wakeful = awake;
        if awake && self.quiet {
            self.wake(now);
        }
    }

    /// Wakes this replica, and through it the group.
    pub fn wake(&mut self, now: Instant) {
        if self.quiet {
            self.rouse(now);
            self.show_up(now);
            self.call_leader();
        }
        self.stay_busy(now);
    }

    /// The owner has not heard the node of `member` for about an election timeout, or has heard that
    /// its process is another one. A follower that rests under that leader wakes and runs for
    /// office within another election timeout, unless the leader shows that it is there. To be called
    /// for every group of the node, each time that the node has fallen silent.
    pub fn peer_down(&mut self, now: Instant, member: Member) {
        if self.leader != Some(member) {
            return;
        }
        self.trusting_until = Instant(0);
        if self.quiet {
            self.quiet = false;
            self.changed = true;
            let patience = self.config.election_timeout;
            self.election_at = now + self.rng.between(core::time::Duration::ZERO, patience);
            self.call_leader();
        }
    }

    /// Runs timers again.
    pub(crate) fn rouse(&mut self, now: Instant) {
        if !core::mem::take(&mut self.quiet) {
            return;
        }
        self.changed = true;
        let next = self.next_heartbeat(now);
        if let Some(lead) = &mut self.lead {
            // Nobody was asked, so nobody can be blamed for not having answered.
            lead.awake_since = now;
            lead.heartbeat_at = next;
        } else {
            self.election_at = now + self.patience;
            self.trusting_until = now + self.config.election_timeout;
        }
        self.stay_busy(now);
    }

    /// Heartbeats at once, where no append or round of reads will tell the others.
    fn show_up(&mut self, now: Instant) {
        if let Some(lead) = &mut self.lead {
            lead.heartbeat_at = lead.heartbeat_at.min(now);
        }
    }

    fn call_leader(&mut self) {
        if self.role == Role::Follower
            && let Some(leader) = self.leader
        {
            self.send(leader, Body::Wake);
        }
    }

    fn stay_busy(&mut self, now: Instant) {
        if let Some(lead) = &mut self.lead {
            lead.busy_at = now;
            lead.asked_quiet = 0;
        }
    }

    /// A message wakes, unless it is a part of going to rest or of no concern to this replica.
    pub(crate) fn rouse_by(&mut self, now: Instant, from: Member, term: Term, body: &Body<P>) {
        let of_leader = is_from_leader(body);
        let sleeps_on = match body {
            Body::Quiesce { .. } => term == self.term(),
            Body::Quiet { .. } => true,
            Body::PreVote { .. } | Body::Vote { .. } => !self.knows(from),
            _ => term < self.term() || !of_leader && !self.knows(from),
        };
        if !sleeps_on {
            self.rouse(now);
            self.show_up(now);
            if self.leader != Some(from) {
                self.call_leader();
            }
        }
    }

    /// Notes whether the leader has had something to do since outputs were last drained.
    pub(crate) fn note_work(&mut self, now: Instant) {
        if self.config.quiesce_after.is_none() {
            return;
        }
        let state = (self.log.last().index, self.commit);
        let reads = self.waiting_reads() > 0;
        let Some(lead) = &mut self.lead else { return };
        if lead.seen != state || reads || lead.transfer.is_some() {
            lead.seen = state;
            lead.busy_at = now;
            lead.asked_quiet = 0;
        }
    }

    /// Whether the group may rest, as far as its leader knows.
    fn may_quiesce(&self, now: Instant) -> bool {
        let (Some(after), Some(lead)) = (self.config.quiesce_after, &self.lead) else {
            return false;
        };
        let (last, commit) = (self.log.last().index, self.commit);
        let lately = self.config.heartbeat.saturating_mul(2);
        !self.wakeful
            && now.since(lead.busy_at) >= after
            && commit == last
            && self.pending.is_empty()
            && self.waiting_reads() == 0
            && lead.transfer.is_none()
            && self.durability.is_idle(&self.log)
            && lead.peers.iter().all(|peer| {
                peer.departing.is_none() && peer.has_log(last) && now.since(peer.acked_at) <= lately
            })
    }

    /// In place of a heartbeat: asks everybody to rest, if the group may. Returns whether it did.
    pub(crate) fn ask_to_quiesce(&mut self, now: Instant) -> bool {
        if let Some(lead) = &mut self.lead
            && core::mem::take(&mut lead.asked_quiet) > 0
        {
            // Not all of them did.
            lead.busy_at = now;
            return false;
        }
        if !self.may_quiesce(now) {
            return false;
        }
        let (last, commit, next) = (self.log.last(), self.commit, self.next_heartbeat(now));
        let (me, term) = (self.config.me, self.term());
        let Some(lead) = &mut self.lead else { return false };
        lead.heartbeat_at = next;
        let round = lead.next_round(now);
        lead.asked_quiet = round;
        for peer in &mut lead.peers {
            peer.commit_sent = commit;
            let body = Body::Quiesce { session: peer.session, last, commit, round };
            let message = crate::Message { from: me, to: peer.member, term, body };
            self.outbox.push_back(crate::Output::Send(message));
        }
        self.rest_if_all_do(now);
        true
    }

    pub(crate) fn on_quiesce(
        &mut self,
        now: Instant,
        from: Member,
        session: Session,
        last: LogId,
        commit: Index,
        round: u64,
    ) {
        if !self.heard_leader(now, from) {
            return;
        }
        self.commit_to(commit.min(self.verified));
        let agrees = last == self.log.last()
            && last.index <= self.verified
            && commit == self.commit
            && commit == last.index
            && self.durability.is_idle(&self.log)
            && !self.is_installing()
            && self.waiting_reads() == 0
            && !self.wakeful;
        if !agrees {
            self.rouse(now);
            return self.answer_heartbeat(from, session, round);
        }
        self.quiet = true;
        self.send(from, Body::Quiet { session, round });
    }

    pub(crate) fn on_quiet(&mut self, now: Instant, from: Member, session: Session, round: u64) {
        let Some(lead) = self.lead.as_mut() else { return };
        let (latest, asked) = (lead.round, lead.asked_quiet);
        let Some(peer) = lead.answering(from, session) else { return };
        if round > latest {
            return self.dropped += 1;
        }
        peer.acked_at = now;
        peer.acked_round = peer.acked_round.max(round);
        if round == asked {
            peer.quiet_round = round;
        }
        self.confirm_reads();
        self.rest_if_all_do(now);
    }

    /// Somebody wants to hear from this leader.
    pub(crate) fn on_wake(&mut self, now: Instant, from: Member) {
        if !self.knows(from) {
            return self.dropped += 1;
        }
        self.show_up(now);
        self.stay_busy(now);
    }

    fn rest_if_all_do(&mut self, now: Instant) {
        let may = self.may_quiesce(now);
        let Some(lead) = &mut self.lead else { return };
        let asked = lead.asked_quiet;
        if asked > 0 && may && lead.peers.iter().all(|peer| peer.quiet_round == asked) {
            lead.asked_quiet = 0;
            // What was confirmed before says nothing about who was elected meanwhile.
            lead.forget_rounds();
            self.quiet = true;
        }
    }
}
