//! Linearizable reads without writing to the log (thesis §6.4).
//!
//! A leader notes the commit index for all reads that wait, opens one round of heartbeats, and
//! answers when a majority has confirmed the round; never before an entry of its own term is
//! committed, since until then it does not know the commit index (PROTOCOL 7). At most two rounds
//! are open at once: what arrives meanwhile shares the next. Under a lease no round is needed.
//! Other replicas ask the leader, all waiting reads in one message.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use kontiki_types::plant::{Plant, planted};
use kontiki_types::{Index, Instant, Member};

use crate::raft::Raft;
use crate::{Body, Lease, Output, Payload, Reason, Refused, Role};

/// Rounds open at once. One would make a read wait for up to two round trips; more only adds
/// messages.
const ROUNDS_MAX: usize = 2;

/// Questions to the leader under way at once.
const BATCHES_MAX: usize = 16;

#[derive(Default)]
pub(crate) struct Reads {
    waiting: Vec<Read>,
    rounds: VecDeque<Round>,
    open: usize,
    spare: Vec<Read>,
}

struct Round {
    round: u64,
    index: Index,
    reads: Vec<Read>,
}

enum Read {
    Own(u64),
    Remote { from: Member, id: u64 },
}

impl Reads {
    fn len(&self) -> usize {
        self.waiting.len() + self.open
    }
}

/// Reads of a replica that does not lead.
#[derive(Default)]
pub(crate) struct Forwarded {
    waiting: Vec<u64>,
    batches: VecDeque<Batch>,
    len: usize,
}

struct Batch {
    id: u64,
    tokens: Vec<u64>,
    resend_at: Instant,
    until: Instant,
}

impl Forwarded {
    pub(crate) fn deadline(&self) -> Instant {
        self.batches
            .iter()
            .map(|batch| batch.resend_at.min(batch.until))
            .min()
            .unwrap_or(Instant::MAX)
    }
}

impl<P: Payload> Raft<P> {
    /// Asks for a read index, answered by [`Output::ReadReady`] or [`Output::ReadFailed`] with the
    /// same token. Here or at the leader, according to the role.
    ///
    /// # Errors
    /// [`Refused`]: there will be no answer.
    pub fn read(&mut self, now: Instant, token: u64) -> Result<(), Refused<()>> {
        self.changed = true;
        let refuse = |reason| Err(Refused { payload: (), reason });
        if self.waiting_reads() >= self.config.max_waiting_reads {
            return refuse(Reason::Full);
        }
        self.rouse(now);
        if let Some(lead) = &mut self.lead {
            lead.reads.waiting.push(Read::Own(token));
            return Ok(());
        }
        match self.may_lead() {
            Err(Reason::NotLeader { leader: Some(_) }) => {
                self.forwarded.waiting.push(token);
                self.forwarded.len += 1;
                Ok(())
            }
            Err(reason) => refuse(reason),
            Ok(()) => refuse(Reason::NotLeader { leader: None }),
        }
    }

    pub(crate) fn waiting_reads(&self) -> usize {
        self.lead.as_ref().map_or(self.forwarded.len, |lead| lead.reads.len())
    }

    pub(crate) fn on_read_index(&mut self, from: Member, id: u64) {
        let room = self.waiting_reads() < self.config.max_waiting_reads;
        let known = self.knows(from);
        match &mut self.lead {
            Some(lead) if room && known => lead.reads.waiting.push(Read::Remote { from, id }),
            _ => self.send(from, Body::ReadIndexReply { id, index: None }),
        }
    }

    /// Opens a round for the reads that wait, or answers them under the lease.
    pub(crate) fn flush_reads(&mut self, now: Instant) {
        // A change of configuration may have made a majority of those who answered already.
        self.confirm_reads();
        let Some(lead) = &self.lead else { return };
        let knows_commit = self.commit >= lead.term_start || planted(Plant::ReadBeforeNoop);
        if lead.reads.waiting.is_empty() || !knows_commit {
            return;
        }
        let woke = lead.awake_since > Instant(0) && planted(Plant::QuietLeaderReads);
        if self.has_lease(now) || woke || planted(Plant::ReadWithoutQuorum) {
            let Some(lead) = &mut self.lead else { return };
            let mut reads = core::mem::take(&mut lead.reads.waiting);
            self.answer_reads(&mut reads, Some(self.commit));
            if let Some(lead) = &mut self.lead {
                lead.reads.waiting = reads;
            }
            return;
        }
        if lead.reads.rounds.len() >= ROUNDS_MAX {
            return;
        }
        let round = self.broadcast_heartbeat(now);
        let index = self.commit;
        if let Some(lead) = &mut self.lead {
            let reads = &mut lead.reads;
            let spare = core::mem::take(&mut reads.spare);
            let taken = core::mem::replace(&mut reads.waiting, spare);
            reads.open += taken.len();
            reads.rounds.push_back(Round { round, index, reads: taken });
        }
        self.confirm_reads();
    }

    /// Answers the reads whose round a majority has confirmed.
    pub(crate) fn confirm_reads(&mut self) {
        let Some(lead) = &mut self.lead else { return };
        if lead.reads.rounds.is_empty() {
            return;
        }
        let agreed = lead.agreed_round();
        while let Some(lead) = &mut self.lead
            && let Some(round) = lead.reads.rounds.front_mut()
            && round.round <= agreed
        {
            let index = round.index;
            let mut reads = core::mem::take(&mut round.reads);
            lead.reads.rounds.pop_front();
            lead.reads.open = lead.reads.open.saturating_sub(reads.len());
            self.answer_reads(&mut reads, Some(index));
            if let Some(lead) = &mut self.lead {
                lead.reads.spare = reads;
            }
        }
    }

    /// Within the lease no other leader can have been elected: a majority has promised not to vote
    /// for an election timeout after it got the heartbeat, which is not before it was sent.
    pub(crate) fn has_lease(&self, now: Instant) -> bool {
        let (Some(Lease { drift_ppm }), Some(lead)) = (self.config.lease, &self.lead) else {
            return false;
        };
        if lead.lease_given_up || self.quiet {
            return false;
        }
        let timeout = self.config.election_timeout.as_micros();
        let lease = timeout.saturating_mul(1_000_000) / (1_000_000 + u128::from(drift_ppm));
        // Strictly shorter than the timeout, also without drift.
        let lease = u64::try_from(lease).unwrap_or(u64::MAX).saturating_sub(1);
        let since = if planted(Plant::LeaseFromAnswer) {
            Some(lead.agreed(now, Instant(0), |peer| peer.acked_at))
        } else {
            lead.agreed_since()
        };
        since.is_some_and(|since| now.0 < since.0.saturating_add(lease))
    }

    fn answer_reads(&mut self, reads: &mut Vec<Read>, index: Option<Index>) {
        for read in reads.drain(..) {
            match (read, index) {
                (Read::Own(token), Some(index)) => {
                    self.outbox.push_back(Output::ReadReady { token, index });
                }
                (Read::Own(token), None) => self.outbox.push_back(Output::ReadFailed { token }),
                (Read::Remote { from, id }, index) => {
                    if let Some(index) = index {
                        self.commit_is_awaited(from.node, index);
                    }
                    self.send(from, Body::ReadIndexReply { id, index });
                }
            }
        }
    }

    pub(crate) fn fail_reads(&mut self) {
        let Some(lead) = &mut self.lead else { return };
        let mut reads = core::mem::take(&mut lead.reads);
        for mut round in reads.rounds.drain(..) {
            self.answer_reads(&mut round.reads, None);
        }
        self.answer_reads(&mut reads.waiting, None);
    }

    /// Asks the leader on behalf of all reads that wait here.
    pub(crate) fn flush_forwarded(&mut self, now: Instant) {
        if self.forwarded.waiting.is_empty() || self.forwarded.batches.len() >= BATCHES_MAX {
            return;
        }
        let (Some(leader), Role::Follower) = (self.leader, self.role) else {
            return self.fail_forwarded();
        };
        // Unique also across restarts: an answer that was meant for an earlier life would name an
        // index that is too low.
        let id = self.rng.next();
        let tokens = core::mem::take(&mut self.forwarded.waiting);
        self.forwarded.batches.push_back(Batch {
            id,
            tokens,
            resend_at: now + self.config.heartbeat,
            until: now + self.config.election_timeout.saturating_mul(2),
        });
        self.send(leader, Body::ReadIndex { id });
    }

    pub(crate) fn on_read_index_reply(&mut self, from: Member, id: u64, index: Option<Index>) {
        if self.leader != Some(from) {
            return self.dropped += 1;
        }
        let asked = self.forwarded.batches.iter().position(|batch| batch.id == id);
        let Some(batch) = asked.and_then(|at| self.forwarded.batches.remove(at)) else { return };
        self.answer_forwarded(batch.tokens, index);
    }

    /// Asks again where no answer came, and gives up after a while.
    pub(crate) fn tick_forwarded(&mut self, now: Instant) {
        while let Some(batch) = self.forwarded.batches.front()
            && now >= batch.until
        {
            let Some(batch) = self.forwarded.batches.pop_front() else { break };
            self.answer_forwarded(batch.tokens, None);
        }
        let Some(leader) = self.leader else { return };
        let mut batches = core::mem::take(&mut self.forwarded.batches);
        for batch in batches.iter_mut().filter(|batch| now >= batch.resend_at) {
            batch.resend_at = now + self.config.heartbeat;
            self.send(leader, Body::ReadIndex { id: batch.id });
        }
        self.forwarded.batches = batches;
    }

    pub(crate) fn fail_forwarded(&mut self) {
        if self.forwarded.len == 0 {
            return;
        }
        for batch in core::mem::take(&mut self.forwarded.batches) {
            self.answer_forwarded(batch.tokens, None);
        }
        let waiting = core::mem::take(&mut self.forwarded.waiting);
        self.answer_forwarded(waiting, None);
    }

    fn answer_forwarded(&mut self, tokens: Vec<u64>, index: Option<Index>) {
        self.forwarded.len = self.forwarded.len.saturating_sub(tokens.len());
        for token in tokens {
            self.outbox.push_back(match index {
                Some(index) => Output::ReadReady { token, index },
                None => Output::ReadFailed { token },
            });
        }
    }
}
