//! The operator of the cluster: who starts processes again, replaces lost nodes and changes who
//! belongs to the group, by the means that users have.

use std::time::Duration;

use kontiki_replica::ChangeKind;
use kontiki_storage::disk::Crash;
use kontiki_types::{GroupId, Instant, Member, NodeId};

use super::{Alarm, FaultKind, Swarm};
use crate::invariants::{Checked, Violation};
use crate::random::Random;

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A replica of each group on this node.
    Add(NodeId),
    /// No replica on this node.
    Remove(NodeId),
    /// This node leads the group.
    Transfer(GroupId, NodeId),
    /// The node's disk is lost: its replica leaves, and an empty node comes in its place.
    Rebuild(NodeId),
}

/// What is next for a wish.
enum Next {
    /// This is to be asked of this leader.
    Ask(NodeId, ChangeKind),
    /// Nothing yet.
    Wait,
    /// The group is as it is wished.
    Nothing,
}

/// What the operator does.
#[derive(Debug, Default)]
pub(super) struct Operator {
    wishes: Vec<Wish>,
    /// The change that was asked for, and until when the answer is waited for.
    asked: Option<(u64, Instant)>,
    /// Whether the next look is set.
    is_awake: bool,
}

impl Operator {
    /// Whether nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        self.wishes.is_empty()
    }

    /// Whether an answer to a change is waited for.
    pub(super) fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// Whose replica is to leave, or may be leaving just now.
    pub(super) fn leaving(&self) -> impl Iterator<Item = NodeId> {
        self.wishes.iter().filter_map(|wish| match *wish {
            Wish::Remove(node) | Wish::Rebuild(node) => Some(node),
            Wish::Add(_) | Wish::Transfer(..) => None,
        })
    }

    /// What is left to do.
    pub(super) fn wishes(&self) -> &[Wish] {
        &self.wishes
    }
}

/// How often the operator looks.
const LOOK: Duration = Duration::from_millis(100);
/// How long the operator waits for an answer before asking anew.
const PATIENCE: Duration = Duration::from_secs(4);

impl Swarm {
    /// A process is started again after `wait`.
    pub(super) fn restart_soon(&mut self, node: NodeId, wait: Duration) {
        let at = self.cluster.now() + wait;
        self.set(at, Alarm::Restart(node));
    }

    /// Starts a process. One whose disk was tampered with may refuse: then it is tried again, or
    /// given up and replaced.
    pub(super) fn restart(&mut self, node: NodeId) -> Checked {
        if self.cluster.is_running(node) || self.swapped.contains(&node) {
            return Ok(());
        }
        // A start skips what it need not read. Whether a damaged disk still holds what it must shows
        // when all of it is read.
        let is_suspect = self.atlas.suspects.contains(&node);
        let ready = if is_suspect { self.cluster.read_all_at_start(node) } else { Ok(()) };
        match ready.and_then(|()| self.cluster.start(node)) {
            Ok(()) => {
                self.failed_starts.remove(&node);
                self.atlas.look(&self.cluster);
                if self.atlas.suspects.contains(&node) && self.cluster.is_member(node) {
                    // All of its log was read and found whole.
                    self.atlas.is_whole(node);
                }
                Ok(())
            }
            Err(why) if !self.cluster.is_excused(node) => {
                Err(Violation::new("A node starts after a crash", why))
            }
            Err(_) if self.atlas.suspects.contains(&node) => {
                self.wish(Wish::Rebuild(node));
                Ok(())
            }
            Err(why) => {
                let failed = self.failed_starts.entry(node).or_default();
                *failed += 1;
                if *failed > STARTS_MAX {
                    return Err(Violation::new("A node starts once its disk is well", why));
                }
                self.restart_soon(node, START_AGAIN);
                Ok(())
            }
        }
    }

    pub(super) fn wish(&mut self, wish: Wish) {
        if !self.operator.wishes.contains(&wish) {
            match wish {
                // A node to be added may be the very one whose disk is lost.
                Wish::Rebuild(_) => self.operator.wishes.insert(0, wish),
                _ => self.operator.wishes.push(wish),
            }
        }
        self.wake_operator();
    }

    /// As [`Swarm::wish`], before everything else.
    pub(super) fn wish_first(&mut self, wish: Wish) {
        self.operator.wishes.retain(|other| *other != wish);
        self.operator.wishes.insert(0, wish);
        self.wake_operator();
    }

    fn wake_operator(&mut self) {
        if !std::mem::replace(&mut self.operator.is_awake, true) {
            self.set(self.cluster.now() + LOOK, Alarm::Operator);
        }
    }

    /// A replica that was removed may come back.
    pub(super) fn wish_to_return(&mut self, node: NodeId) {
        self.wish(Wish::Add(node));
    }

    /// Begins a change of who belongs to the group; `false` if it makes no sense.
    pub(super) fn change_members(
        &mut self,
        kind: FaultKind,
        target: NodeId,
        random: &mut Random,
    ) -> bool {
        let group = self.some_group(random);
        let leader = self.cluster.leader_of(group);
        let voters = leader.and_then(|leader| self.cluster.membership_of(group, leader));
        let Some(voters) = voters else { return false };
        let votes = |node: NodeId| voters.voters.iter().any(|voter| voter.node == node);
        let nodes = self.cluster.node_ids();
        let spares: Vec<_> = nodes.iter().copied().filter(|&node| !votes(node)).collect();
        let others: Vec<_> =
            nodes.into_iter().filter(|&node| votes(node) && node != target).collect();
        match kind {
            FaultKind::LeadershipTransfer => {
                let Some(&to) = random.pick(&others) else { return false };
                self.wish(Wish::Transfer(group, to));
            }
            FaultKind::ReplicaAdded => {
                let Some(&spare) = random.pick(&spares) else { return false };
                self.wish(Wish::Add(spare));
            }
            FaultKind::ReplicaRemoved | FaultKind::ReplicaReplaced => {
                let sound = votes(target)
                    && voters.voters.len() >= 3
                    && self.operator.is_done()
                    && self.atlas.may_remove(&self.cluster, target);
                let spare = random.pick(&spares).copied();
                if !sound || kind == FaultKind::ReplicaReplaced && spare.is_none() {
                    return false;
                }
                if kind == FaultKind::ReplicaReplaced
                    && let Some(spare) = spare
                {
                    self.wish(Wish::Add(spare));
                }
                self.wish(Wish::Remove(target));
            }
            _ => return false,
        }
        true
    }

    /// The operator looks at what is to be done, and asks for the next step.
    pub(super) fn operate(&mut self) -> Checked {
        self.operator.is_awake = false;
        let now = self.cluster.now();
        if let Some((ticket, until)) = self.operator.asked {
            if self.cluster.changed(ticket).is_none() && now < until {
                self.wake_operator();
                return Ok(());
            }
            let done = matches!(self.cluster.changed(ticket), Some(Ok(())));
            self.operator.asked = None;
            if matches!(self.operator.wishes.first(), Some(Wish::Transfer(..)))
                && (done || self.cluster.changed(ticket).is_some())
            {
                self.operator.wishes.remove(0);
            }
        }
        if let Some(&wish) = self.operator.wishes.first() {
            self.pursue(wish)?;
            self.wake_operator();
        }
        Ok(())
    }

    fn pursue(&mut self, wish: Wish) -> Checked {
        for group in self.cluster.groups() {
            match self.next_change(wish, group) {
                Next::Ask(leader, kind) => {
                    let ticket = self.cluster.change_of(group, leader, kind);
                    self.operator.asked = Some((ticket, self.cluster.now() + PATIENCE));
                    return Ok(());
                }
                Next::Wait => return Ok(()),
                Next::Nothing => {}
            }
        }
        if let Wish::Rebuild(node) = wish {
            self.rebuild(node)?;
        }
        self.operator.wishes.retain(|other| *other != wish);
        Ok(())
    }

    /// What a wish wants of a group.
    fn next_change(&mut self, wish: Wish, group: GroupId) -> Next {
        if matches!(wish, Wish::Transfer(of, _) if of != group) {
            return Next::Nothing;
        }
        let Some(leader) = self.cluster.leader_of(group) else { return Next::Wait };
        let Some(status) = self.cluster.status_of(group, leader) else { return Next::Wait };
        let membership = status.raft.membership;
        // What is not committed may be undone by the next leader.
        let settled =
            membership.outgoing.is_empty() && status.raft.membership_id.index <= status.raft.commit;
        // A leader that nobody follows any more tells of times gone by.
        let term = status.raft.term;
        let follows = |voter: Member| self.cluster.term_of(group, voter.node) == Some(term);
        if !settled || !membership.majority(follows) {
            return Next::Wait;
        }
        let incarnation = |node| self.cluster.incarnation(node);
        let is_member = |node| membership.members().any(|member| member.node == node);
        let votes = |node| {
            let mut voters = membership.voters.iter();
            voters.any(|voter| voter.node == node && voter.incarnation == incarnation(node))
        };
        let kind = match wish {
            // Who misses it there wishes for it again.
            Wish::Add(node) if votes(node) || !self.atlas.may_add(node, &membership) => None,
            Wish::Add(node) => Some(ChangeKind::Add(node, incarnation(node))),
            // A disk may have been damaged since this was wished for: what is on it comes back first.
            Wish::Remove(node)
                if is_member(node) && !self.atlas.may_remove(&self.cluster, node) =>
            {
                return Next::Wait;
            }
            // A group that has just begun gets others first.
            Wish::Remove(node) | Wish::Rebuild(node)
                if membership.voters.len() == 1
                    && membership.voters.iter().any(|voter| voter.node == node) =>
            {
                return Next::Wait;
            }
            Wish::Remove(node) | Wish::Rebuild(node) if is_member(node) => {
                Some(ChangeKind::Remove(node))
            }
            Wish::Remove(_) | Wish::Rebuild(_) => None,
            Wish::Transfer(_, node) => Some(ChangeKind::Transfer(node)),
        };
        kind.map_or(Next::Nothing, |kind| Next::Ask(leader, kind))
    }

    /// The replica has left: the node gets an empty disk and joins anew.
    fn rebuild(&mut self, node: NodeId) -> Checked {
        // It may have come up after all: the wish is older than the start that went well.
        self.down(node, Crash::LoseAll);
        self.cluster.wipe(node);
        self.atlas.is_replaced(node);
        self.failed_starts.remove(&node);
        let formatted = self.cluster.format(node);
        formatted.map_err(|why| Violation::new("An empty disk can be formatted", why))?;
        self.restart(node)?;
        self.wish(Wish::Add(node));
        Ok(())
    }
}

/// A start that fails is tried again after this time.
const START_AGAIN: Duration = Duration::from_millis(300);
/// And at most so often in a row.
const STARTS_MAX: u32 = 40;
