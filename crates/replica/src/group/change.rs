//! Changing who belongs to a group, at an operator's request, and handing over leadership.
//!
//! A replica is added in two steps: as a learner, which gets the log without counting, and as a
//! voter once it has caught up, so that the group never waits for an empty member (thesis §4.2.1).

use std::time::Duration;

use kontiki_raft::{ChangeError, PeerState};
use kontiki_types::plant::{Plant, planted};
use kontiki_types::{Incarnation, Index, Instant, LogId, Member, NodeId, ReplicaId, Term};

use super::{Group, Node};
use crate::core::{Caller, Effect};
use crate::placement::later_replica;

/// How long a change may take; a new replica gets the whole state in that time.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(600);

/// How far a learner may be behind the commit index and still count as caught up.
const CAUGHT_UP_ENTRIES: u64 = 1024;

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A new replica on this node. One that is left over from another directory of it gives way.
    Add(NodeId, Incarnation),
    /// The replica on this node leaves.
    Remove(NodeId),
    /// The replica on this node is to lead.
    Transfer(NodeId),
}

impl ChangeKind {
    /// The node that it is about.
    fn node(self) -> NodeId {
        match self {
            Self::Add(node, _) | Self::Remove(node) | Self::Transfer(node) => node,
        }
    }
}

/// Why a change did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeFailure {
    /// Ask this node, which leads; or later, if none does.
    NotLeader(Option<NodeId>),
    /// Another change is under way.
    Busy,
    /// The node has a replica of the group already, or has none to remove.
    Senseless(&'static str),
    /// The core refuses it.
    Refused(String),
    /// It did not finish in time, or the leader changed. What was begun is not undone: look at the
    /// status and ask again.
    Unfinished,
}

/// Callers that wait for the same change; an operator, the task that places replicas, and who asks again.
const CALLERS_MAX: usize = 8;

/// A change under way.
#[derive(Debug)]
pub(super) struct Change {
    // Invariant: at least one, at most CALLERS_MAX.
    callers: Vec<Caller>,
    kind: ChangeKind,
    give_up: Instant,
}

impl Group {
    /// Takes an operator's request; the answer comes when it is done.
    pub(crate) fn begin_change(&mut self, caller: Caller, kind: ChangeKind, node: &mut Node<'_>) {
        if let Err(failure) = self.check_change(kind) {
            return changed(node, [caller], &Err(failure));
        }
        // Who wishes what is under way waits for it, too.
        if let Some(change) = self.change.as_mut().filter(|change| change.kind == kind)
            && !matches!(kind, ChangeKind::Transfer(_))
        {
            if change.callers.len() == CALLERS_MAX {
                return changed(node, [caller], &Err(ChangeFailure::Busy));
            }
            change.callers.push(caller);
            change.give_up = node.now + CHANGE_TIMEOUT;
            return self.drive_change(node);
        }
        if let ChangeKind::Transfer(to) = kind
            && let Err(error) = self.raft.transfer(node.now, to)
        {
            return changed(node, [caller], &Err(ChangeFailure::Refused(error.to_string())));
        }
        let change = Change { callers: vec![caller], kind, give_up: node.now + CHANGE_TIMEOUT };
        if let Some(before) = self.change.replace(change) {
            changed(node, before.callers, &Err(ChangeFailure::Unfinished));
        }
        self.drive_change(node);
    }

    fn check_change(&self, kind: ChangeKind) -> Result<(), ChangeFailure> {
        if !self.is_leader() {
            return Err(ChangeFailure::NotLeader(self.leader.map(|leader| leader.node)));
        }
        // Another wish about the same node takes the place of the first: what is added may never
        // come, and then it must be possible to remove it, or to add its next directory.
        if self.change.as_ref().is_some_and(|change| change.kind.node() != kind.node()) {
            return Err(ChangeFailure::Busy);
        }
        let status = self.raft.status();
        let voters = &status.membership.voters;
        let votes = |node| voters.iter().any(|voter| voter.node == node);
        let is_there = |node, incarnation| {
            voters.iter().any(|voter| voter.node == node && voter.incarnation == incarnation)
        };
        match kind {
            ChangeKind::Add(node, incarnation) if is_there(node, incarnation) => {
                Err(ChangeFailure::Senseless("the node has a voting replica of the group already"))
            }
            ChangeKind::Add(node, _) if votes(node) && voters.len() == 1 => {
                Err(ChangeFailure::Senseless("it is the group's last voter"))
            }
            ChangeKind::Remove(node) if !status.membership.members().any(|m| m.node == node) => {
                Err(ChangeFailure::Senseless("the node has no replica of the group"))
            }
            ChangeKind::Remove(node) if votes(node) && voters.len() == 1 => {
                Err(ChangeFailure::Senseless("it is the group's last voter"))
            }
            ChangeKind::Transfer(node) if !votes(node) => {
                Err(ChangeFailure::Senseless("the node has no voting replica of the group"))
            }
            _ => Ok(()),
        }
    }

    /// The replica is gone, and whoever waits for a change must look elsewhere.
    pub(super) fn abandon_change(&mut self, node: &mut Node<'_>) {
        if let Some(change) = self.change.take() {
            // A leader that was to remove itself has done so.
            let done = change.kind == ChangeKind::Remove(node.id);
            let result = if done { Ok(()) } else { Err(ChangeFailure::Unfinished) };
            changed(node, change.callers, &result);
        }
    }

    /// Takes the next step of the change under way.
    pub(super) fn drive_change(&mut self, node: &mut Node<'_>) {
        let Some(change) = self.change.take() else { return };
        let done = match change.kind {
            ChangeKind::Transfer(to) => match self.leader {
                Some(leader) if leader.node == to => Ok(true),
                Some(leader) if leader.node != node.id => Err(ChangeFailure::Unfinished),
                // It led nowhere, and this node goes on leading.
                Some(_) if !self.raft.is_transferring() => Err(ChangeFailure::Unfinished),
                _ => Ok(false),
            },
            ChangeKind::Remove(from) if from == node.id && self.is_removed() => Ok(true),
            _ if !self.is_leader() => Err(ChangeFailure::Unfinished),
            ChangeKind::Add(to, incarnation) => self.drive_add(to, incarnation, node.now),
            ChangeKind::Remove(from) => self.drive_remove(from, node.now),
        };
        let done = match done {
            Ok(true) => Ok(()),
            Err(failure) => Err(failure),
            Ok(false) if change.give_up <= node.now => Err(ChangeFailure::Unfinished),
            Ok(false) => {
                self.change = Some(change);
                return;
            }
        };
        changed(node, change.callers, &done);
    }

    fn drive_add(
        &mut self,
        to: NodeId,
        incarnation: Incarnation,
        now: Instant,
    ) -> Result<bool, ChangeFailure> {
        let status = self.raft.status();
        let membership = &status.membership;
        if membership.is_joint() || status.membership_id.index > status.commit {
            return Ok(false);
        }
        let (mut voters, mut learners) = (membership.voters.clone(), membership.learners.clone());
        if let Some(at) = voters.iter().position(|voter| voter.node == to) {
            if voters.get(at).is_some_and(|voter| voter.incarnation == incarnation) {
                return Ok(true);
            }
            // Its directory is gone, and with it what it has voted for: it does not count any more.
            voters.remove(at);
            return self.reconfigure(now, voters, learners, status.membership_id);
        }
        let learner = learners.iter().position(|learner| learner.node == to);
        match learner.map(|at| learners[at]) {
            Some(learner) if learner.incarnation == incarnation => {
                let caught_up = status.peers.iter().any(|peer| {
                    peer.member == learner
                        && peer.state == PeerState::Replicate
                        && peer.matched.0 + CAUGHT_UP_ENTRIES >= status.commit.0
                });
                if !caught_up {
                    return Ok(false);
                }
                learners.retain(|other| *other != learner);
                voters.push(learner);
            }
            _ => {
                // A replica that was left over from another directory of that node gives way.
                learners.retain(|learner| learner.node != to);
                let index = status.last.index.next();
                let mut replica = later_replica(status.me.replica, index.0)
                    .unwrap_or_else(|| new_replica(status.term, index));
                if planted(Plant::OldSessionCounts) {
                    replica = ReplicaId(1);
                }
                learners.push(Member::new(to, incarnation, replica));
            }
        }
        self.reconfigure(now, voters, learners, status.membership_id)
    }

    fn drive_remove(&mut self, from: NodeId, now: Instant) -> Result<bool, ChangeFailure> {
        let status = self.raft.status();
        let membership = &status.membership;
        if membership.is_joint() || status.membership_id.index > status.commit {
            return Ok(false);
        }
        let keep = |members: &[Member]| -> Vec<Member> {
            members.iter().copied().filter(|member| member.node != from).collect()
        };
        let (voters, learners) = (keep(&membership.voters), keep(&membership.learners));
        if voters.len() == membership.voters.len() && learners.len() == membership.learners.len() {
            return Ok(true);
        }
        self.reconfigure(now, voters, learners, status.membership_id)
    }

    fn reconfigure(
        &mut self,
        now: Instant,
        voters: Vec<Member>,
        learners: Vec<Member>,
        replaces: LogId,
    ) -> Result<bool, ChangeFailure> {
        match self.raft.change_membership(now, voters, learners, replaces) {
            Ok(_) | Err(ChangeError::NotReady | ChangeError::InProgress) => Ok(false),
            Err(error) => Err(ChangeFailure::Refused(error.to_string())),
        }
    }
}

/// The id of the replica that the entry of this term and index adds. No other entry has both, so no
/// other replica has the id; and later ones have higher ids, also where a term's entries were lost.
fn new_replica(term: Term, index: Index) -> ReplicaId {
    const INDEX_BITS: u32 = 40;
    ReplicaId(term.0 << INDEX_BITS | index.0 & ((1 << INDEX_BITS) - 1))
}

fn changed(
    node: &mut Node<'_>,
    callers: impl IntoIterator<Item = Caller>,
    result: &Result<(), ChangeFailure>,
) {
    let told = |caller| Effect::Changed { caller, result: result.clone() };
    node.effects.extend(callers.into_iter().map(told));
}
