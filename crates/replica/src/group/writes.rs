//! Writes of this node's callers, from arrival until this node has applied them.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_kv::command::Write;
use kontiki_kv::{Body, Check, Checked, Outcome, Proposal, Verdict};
use kontiki_raft::Reason;
#[cfg(feature = "plants")]
use kontiki_types::plant::{Plant, planted};
use kontiki_types::{ClientId, Index, Instant, LogId, LogTime, NodeId, Seq, Term};

use super::{Group, Node};
use crate::atlas::Target;
use crate::connection::{Answer, Ask, Failure, RETENTION_MILLIS, SessionWrite};
use crate::core::Caller;
use crate::peer::Refusal;
use crate::routed::{Patience, Returned, Routed, Why, failure, take_out};
use crate::steward::is_sound_call;

type Id = (ClientId, Seq);

/// A group is not compared again before so many entries were applied: one that rests is to go on
/// resting.
const ENTRIES_BETWEEN_CHECKS: u64 = 64;

/// A write that is not applied here yet.
#[derive(Debug)]
pub(super) struct Pending {
    caller: Caller,
    to: Target,
    /// The encoded proposal; its stamp is the leader's to fill in.
    proposal: Bytes,
    /// To whom it was last given, and when.
    given: Option<(Term, NodeId, Instant)>,
    /// How often it was given to a leader. If ever, it may be in a log, and giving up leaves the
    /// outcome unknown.
    attempts: u32,
    /// It was given to nobody before it came here.
    is_new: bool,
    /// Entries were skipped by a snapshot since it came, and it may have been among them.
    skipped: bool,
    give_up: Instant,
    patience: Patience,
    /// Where this node put it into its own log.
    #[cfg(feature = "plants")]
    index: kontiki_types::Index,
}

#[derive(Debug, Default)]
pub(super) struct Writes {
    pending: BTreeMap<Id, Pending>,
}

impl Writes {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }
}

impl Pending {
    pub(super) fn new(
        caller: Caller,
        to: Target,
        proposal: Bytes,
        (give_up, patience): (Instant, Patience),
        attempts: u32,
    ) -> Self {
        Self {
            caller,
            to,
            proposal,
            given: None,
            attempts,
            is_new: attempts == 0,
            skipped: false,
            give_up,
            patience,
            #[cfg(feature = "plants")]
            index: kontiki_types::Index(0),
        }
    }

    fn into_routed(self, (client, seq): Id) -> Routed {
        let Self { caller, to, proposal, give_up, patience, attempts, .. } = self;
        let ask = Ask::Write(SessionWrite { client, seq, proposal });
        Routed { caller, to, ask, give_up, patience, attempts }
    }

    /// The write before it on its slot, if it names one.
    fn after(&self) -> Option<Seq> {
        match Proposal::decode(&self.proposal) {
            Ok(Proposal { body: Body::Write(request), .. }) => request.after,
            _ => None,
        }
    }

    /// Gives a write that was born too late another deadline: this node's notion of log time is old
    /// for a moment after a start. Only for a session of this node, whose write was never given
    /// before it was pending here: then every entry that held it has been seen, none had an effect,
    /// and with its deadline over none ever will; a copy in another group's log could. `false` if
    /// that is not so.
    fn renew(&mut self, log_time: LogTime) -> bool {
        let Ok(Proposal { stamp, body: Body::Write(mut request) }) =
            Proposal::decode(&self.proposal)
        else {
            return false;
        };
        if !self.is_new || self.skipped || request.deadline >= log_time {
            return false;
        }
        request.deadline = LogTime(log_time.0.saturating_add(RETENTION_MILLIS));
        self.proposal = Proposal { stamp, body: Body::Write(request) }.to_bytes();
        true
    }
}

/// What became of giving a write to a leader.
enum Given {
    Yes,
    /// Nobody leads, the leader hands over, or the writers of the slot are slowed: later.
    Later,
    /// Refused for good, so long as no earlier attempt may have been appended.
    Refused(Failure),
}

impl Group {
    /// Takes a caller's write.
    pub(super) fn write(&mut self, id: Id, mut pending: Pending, node: &mut Node<'_>) {
        if self.writes.len() >= self.config.waiting_max {
            let is_sure = pending.attempts == 0;
            let failure = if is_sure { Failure::Overloaded } else { Failure::Unknown };
            return node.fail(pending.caller, failure);
        }
        if let Given::Refused(failure) = self.give(id, &mut pending, node) {
            return node.fail(pending.caller, failure);
        }
        if let Some(before) = self.writes.pending.insert(id, pending) {
            // It was asked for again, by a native client or by another node that heard nothing; who
            // asks reads only the answer to the last call. What was given stays given.
            if let Some(pending) = self.writes.pending.get_mut(&id) {
                pending.attempts += before.attempts;
                pending.is_new &= before.is_new;
                pending.skipped |= before.skipped;
            }
            node.fail(before.caller, Failure::Superseded);
        }
    }

    /// Gives a write to the leader, here or elsewhere.
    fn give(&mut self, id: Id, pending: &mut Pending, node: &mut Node<'_>) -> Given {
        let Some(leader) = self.leader else { return Given::Later };
        if leader.node != node.id {
            node.frames.to(leader.node).forward(self.id, id.0, id.1, &pending.proposal);
            pending.given = Some((self.term, leader.node, node.now));
            pending.attempts += 1;
            return Given::Yes;
        }
        if !self.slow.admits(&pending.proposal, node.now) {
            return Given::Later;
        }
        match self.propose(&pending.proposal, node) {
            Ok(_id) => {
                #[cfg(feature = "plants")]
                {
                    pending.index = _id.index;
                }
                pending.given = Some((self.term, node.id, node.now));
                pending.attempts += 1;
                Given::Yes
            }
            Err(Reason::NotLeader { .. } | Reason::Transferring) => Given::Later,
            Err(_) if pending.attempts > 0 => Given::Later,
            Err(Reason::Full) => Given::Refused(Failure::Overloaded),
            Err(Reason::StorageFull) => Given::Refused(Failure::StorageFull),
            Err(Reason::TooLarge) => Given::Refused(Failure::TooLarge),
            Err(Reason::Removed | Reason::Faulted) => Given::Refused(Failure::Unavailable),
        }
    }

    /// Stamps a proposal and puts it into the log, if this node leads.
    fn propose(&mut self, proposal: &[u8], node: &mut Node<'_>) -> Result<LogId, Reason> {
        let stamp = self.stamp(node.now, node.wall, node.id, node.walls);
        let mut stamped = proposal.to_vec();
        if Proposal::restamp(&mut stamped, stamp).is_err() {
            return Err(Reason::TooLarge);
        }
        self.raft.propose(node.now, stamped.into()).map_err(|refused| refused.reason)
    }

    /// Proposes an entry that only moves log time.
    pub(super) fn propose_tick(&mut self, node: &mut Node<'_>) {
        let tick = Proposal::tick(kontiki_types::LogTime(0)).to_bytes();
        self.ticking = self.propose(&tick, node).is_ok();
        if !self.ticking {
            // Refused, for example since the disk is full: the key stays due meanwhile, and a node
            // that tried again at once would do nothing else.
            self.tick_not_before = node.now + self.config.retry_interval;
        }
    }

    /// Whether there is something to compare the replicas by: enough was applied since the last
    /// time, and that is over.
    pub(crate) fn wants_check(&self) -> bool {
        let last = self.checked.map_or(Index(0), |checked| checked.at);
        let is_new = self.applied.index.0 >= last.0 + ENTRIES_BETWEEN_CHECKS;
        self.is_leader() && is_new && self.applied.index >= self.checking
    }

    /// Proposes an entry that has the replicas compared.
    pub(crate) fn propose_check(&mut self, node: &mut Node<'_>) {
        let from = self.checked.map_or(0, |checked| checked.next);
        let before = self.checked.map(|checked| (checked.at, checked.sum));
        let check = Check { from, before };
        let proposal = Proposal::check(kontiki_types::LogTime(0), check).to_bytes();
        if let Ok(id) = self.propose(&proposal, node) {
            self.checking = id.index;
        }
    }

    /// A comparison came to this here.
    pub(crate) fn checked(&mut self, checked: Checked) {
        self.checked = Some(checked);
    }

    /// Takes a write that another node gave to this one as the leader.
    pub(crate) fn forwarded(
        &mut self,
        from: NodeId,
        id: Id,
        proposal: &Bytes,
        node: &mut Node<'_>,
    ) {
        // Every replica must be able to apply what is in the log: a command of a later version, or
        // a damaged one, is found before it is.
        if !is_sound(proposal) {
            return node.frames.to(from).refused(self.id, id.0, id.1, Refusal::NotLeader);
        }
        if !self.slow.admits(proposal, node.now) {
            // It is given again, as to one that leads again.
            return node.frames.to(from).refused(self.id, id.0, id.1, Refusal::NotLeader);
        }
        let why = match self.propose(proposal, node) {
            Ok(id) => return self.raft.commit_is_awaited(from, id.index),
            Err(Reason::Full | Reason::TooLarge) => Refusal::Overloaded,
            Err(Reason::StorageFull) => Refusal::StorageFull,
            Err(_) => Refusal::NotLeader,
        };
        node.frames.to(from).refused(self.id, id.0, id.1, why);
    }

    /// The leader did not append a write that this node gave it.
    pub(crate) fn refused(&mut self, from: NodeId, id: Id, why: Refusal, node: &mut Node<'_>) {
        let Some(pending) = self.writes.pending.get_mut(&id) else { return };
        if !matches!(pending.given, Some((_, to, _)) if to == from) {
            return;
        }
        pending.given = None;
        let failure = match why {
            Refusal::NotLeader => return,
            Refusal::Overloaded => Failure::Overloaded,
            Refusal::StorageFull => Failure::StorageFull,
        };
        // An earlier attempt may be in a log; then the refusal of this one says nothing.
        if pending.attempts == 1 {
            let caller = pending.caller;
            self.writes.pending.remove(&id);
            node.fail(caller, failure);
        }
    }

    /// Answers the callers whose writes were applied, at `log_time`.
    pub(crate) fn outcomes(
        &mut self,
        outcomes: Vec<Outcome>,
        log_time: LogTime,
        node: &mut Node<'_>,
    ) {
        let mut sent_back = false;
        for outcome in outcomes {
            let id = (outcome.client, outcome.seq);
            #[cfg(feature = "plants")]
            let id = self.waits_for_index(id, outcome.index);
            match outcome.verdict {
                Verdict::SentBack => {
                    sent_back |= self.sent_back(id, node);
                    continue;
                }
                Verdict::Closed { slot, gate } => {
                    self.give_back(id, Why::Closed(slot, gate), node);
                    continue;
                }
                Verdict::Unknown if outcome.client.incarnation == self.me.incarnation => {
                    if let Some(pending) = self.writes.pending.get_mut(&id)
                        && pending.renew(log_time)
                    {
                        pending.given = None;
                        sent_back = true;
                        continue;
                    }
                }
                _ => {}
            }
            let Some(pending) = self.writes.pending.remove(&id) else { continue };
            let answer = match outcome.verdict {
                Verdict::Done(reply) => Answer::Reply(reply),
                Verdict::DigestMismatch => Answer::Failed(Failure::NumberReused),
                Verdict::Unknown | Verdict::SentBack | Verdict::Closed { .. } => {
                    Answer::Failed(Failure::Unknown)
                }
            };
            node.answer(pending.caller, answer);
        }
        if sent_back {
            // What was missing is earlier in this order, so it goes first.
            self.dispatch_ungiven(node);
        }
    }

    /// The write before one on its slot is missing. If that is pending here, both go again, and this
    /// says so; otherwise the one is given back, so that it is tried again when there is hope.
    fn sent_back(&mut self, id: Id, node: &mut Node<'_>) -> bool {
        let Some(pending) = self.writes.pending.get_mut(&id) else { return false };
        pending.given = None;
        let before = pending.after().map(|after| (id.0, after));
        match before.and_then(|before| self.writes.pending.get_mut(&before)) {
            Some(before) => {
                before.given = None;
                true
            }
            None => {
                self.give_back(id, Why::SentBack, node);
                false
            }
        }
    }

    /// Gives back a write that an entry here did not carry out.
    fn give_back(&mut self, id: Id, why: Why, node: &mut Node<'_>) {
        if let Some(pending) = self.writes.pending.remove(&id) {
            let routed = pending.into_routed(id);
            node.returned.push_back(Returned { group: self.id, routed, why });
        }
    }

    /// Gives back the writes that `are_meant`.
    pub(super) fn give_back_writes(
        &mut self,
        why: Why,
        are_meant: &mut dyn FnMut(Target) -> bool,
        node: &mut Node<'_>,
    ) {
        let group = self.id;
        let meant = take_out(&mut self.writes.pending, |pending| are_meant(pending.to));
        for (id, pending) in meant {
            node.returned.push_back(Returned { group, routed: pending.into_routed(id), why });
        }
    }

    /// [`Plant::WaiterByIndexAlone`]: who is taken to wait for the entry at `index`.
    #[cfg(feature = "plants")]
    fn waits_for_index(&self, id: Id, index: kontiki_types::Index) -> Id {
        let mut waiting = self.writes.pending.iter().filter(|(_, write)| write.index == index);
        let by_index = waiting.next().filter(|_| planted(Plant::WaiterByIndexAlone));
        by_index.map_or(id, |(&other, _)| other)
    }

    /// A snapshot took the place of the state: what it skipped is never heard of.
    pub(super) fn outcomes_skipped(&mut self) {
        for pending in self.writes.pending.values_mut() {
            pending.skipped = true;
        }
    }

    /// Another leader: whatever is pending goes to it.
    pub(super) fn redispatch_writes(&mut self, node: &mut Node<'_>) {
        for pending in self.writes.pending.values_mut() {
            pending.given = None;
        }
        self.dispatch_ungiven(node);
    }

    fn dispatch_ungiven(&mut self, node: &mut Node<'_>) {
        let mut writes = std::mem::take(&mut self.writes.pending);
        writes.retain(|&id, pending| {
            if pending.given.is_some() {
                return true;
            }
            match self.give(id, pending, node) {
                Given::Yes | Given::Later => true,
                Given::Refused(failure) => {
                    node.fail(pending.caller, failure);
                    false
                }
            }
        });
        self.writes.pending = writes;
    }

    /// Gives up on writes that are out of time, and gives those again that a leader has had for
    /// too long.
    pub(super) fn retry_writes(&mut self, node: &mut Node<'_>) {
        let retry_after = self.config.retry_after;
        self.writes.pending.retain(|_, pending| {
            if pending.give_up <= node.now {
                node.fail(pending.caller, failure(pending.attempts));
                return false;
            }
            if matches!(pending.given, Some((_, _, at)) if at + retry_after <= node.now) {
                pending.given = None;
            }
            true
        });
        self.dispatch_ungiven(node);
    }
}

/// Whether this build can apply a proposal.
pub(crate) fn is_sound(proposal: &Bytes) -> bool {
    match Proposal::decode(proposal) {
        Ok(Proposal { body: Body::Write(write), .. }) => match Write::decode(&write.command) {
            Ok(Write::Steward { call }) => is_sound_call(&call),
            decoded => decoded.is_ok(),
        },
        _ => false,
    }
}
