//! Brings the replicas of a group to where they are wanted, one change at a time.
//!
//! A group's members are what its own log says; the controller holds the wish (PROTOCOL 16). Its
//! leader compares the two: what is missing is added first, so that a group never has fewer replicas
//! than it had; what is not wanted goes then; a leader that is not wanted hands over. At the end the
//! node is to lead that [`leaders`] names, so that all nodes lead as many groups. Every leader finds
//! out for itself, from what it knows; [`Pace`] keeps two that disagree from handing a group to each
//! other all the time.

mod pace;

use std::collections::{BTreeMap, BTreeSet};

use kontiki_raft::{PeerState, Status};
use kontiki_shard::{Configuration, balance};
use kontiki_types::{GroupId, NodeId, ReplicaId};

use crate::group::ChangeKind;
use crate::peer::NodeInfo;
use crate::steward::CONTROLLER;

pub use pace::Pace;

/// Replicas of the controller at the most.
pub const CONTROLLER_REPLICAS_MAX: usize = 5;

/// A follower that is behind by fewer entries may take over.
const BEHIND_MAX: u64 = 64;

/// Replica ids of a group that has joined: this bit, the life of the group's id, the index of the
/// entry that added the replica.
const JOINED: u64 = 1 << 63;
const LIFE_SHIFT: u32 = 31;
const INDEX_MASK: u64 = (1 << LIFE_SHIFT) - 1;

/// What is next for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// This change.
    Change(ChangeKind),
    /// Something is under way, or a node that is needed is not there: look again.
    Wait,
    /// Everything is where it is wanted.
    Settled,
}

/// What the leader of a group does next to have its replicas on `wanted`, and `leader` lead it, if
/// that is somebody; `nodes` are all nodes as far as known, each with whether it is alive.
pub fn place(
    status: &Status,
    wanted: &[NodeId],
    leader: Option<NodeId>,
    nodes: &[(NodeInfo, bool)],
) -> Placing {
    let membership = &status.membership;
    if membership.is_joint() || status.membership_id.index > status.commit {
        return Placing::Wait;
    }
    let alive = |node: NodeId| nodes.iter().find(|(info, alive)| info.id == node && *alive);
    let votes = |node: NodeId| membership.voters.iter().any(|voter| voter.node == node);
    let missing = || wanted.iter().copied().filter(|node| !votes(*node));
    if let Some((node, _)) = missing().find_map(alive) {
        return Placing::Change(ChangeKind::Add(node.id, node.incarnation));
    }
    if wanted.is_empty() {
        return Placing::Settled;
    }
    if missing().next().is_some() {
        return Placing::Wait;
    }
    let caught_up = |node: NodeId| {
        status.peers.iter().any(|peer| {
            peer.member.node == node
                && peer.state == PeerState::Replicate
                && peer.matched.0 + BEHIND_MAX >= status.commit.0
        })
    };
    let me = status.me.node;
    let members = membership.members().map(|member| member.node);
    let unwanted: Vec<NodeId> = members.filter(|node| !wanted.contains(node)).collect();
    if unwanted.contains(&me) {
        let may_lead = |node: &NodeId| alive(*node).is_some_and(|(info, _)| !info.leaving);
        let heirs = leader.into_iter().chain(wanted.iter().copied());
        let heir = heirs.filter(may_lead).find(|node| caught_up(*node));
        return heir.map_or(Placing::Wait, |heir| Placing::Change(ChangeKind::Transfer(heir)));
    }
    if let Some(&node) = unwanted.first() {
        return Placing::Change(ChangeKind::Remove(node));
    }
    match leader.filter(|leader| *leader != me) {
        Some(leader) if caught_up(leader) => Placing::Change(ChangeKind::Transfer(leader)),
        Some(_) => Placing::Wait,
        None => Placing::Settled,
    }
}

/// Who is to lead each group, the controller too, whose members are these: of the nodes that are
/// alive and not about to stop, each as many as any other.
pub fn leaders(
    configuration: &Configuration,
    controller: &[NodeId],
    nodes: &[(NodeInfo, bool)],
) -> BTreeMap<GroupId, NodeId> {
    let up = nodes.iter().filter(|(info, alive)| *alive && !info.leaving).map(|(info, _)| info.id);
    let up: BTreeSet<NodeId> = up.collect();
    let mut leaders = balance::leaders(configuration, &up);
    let mut controller = controller_nodes(configuration, controller).into_iter();
    if let Some(node) = controller.find(|node| up.contains(node)) {
        leaders.insert(CONTROLLER, node);
    }
    leaders
}

/// The nodes that are to have a replica of the controller: those that have one, as long as they have
/// replicas of other groups, and as many others that do as it takes; an odd number.
pub fn controller_nodes(configuration: &Configuration, members: &[NodeId]) -> Vec<NodeId> {
    let mut replicas: BTreeMap<NodeId, usize> = BTreeMap::new();
    for node in configuration.groups().flat_map(|(_, group)| &group.nodes) {
        *replicas.entry(*node).or_default() += 1;
    }
    let most = replicas.len().min(CONTROLLER_REPLICAS_MAX);
    let count = most.saturating_sub(usize::from(most.is_multiple_of(2))).max(1);
    let stay = members.iter().copied().filter(|node| replicas.contains_key(node));
    let come = replicas.keys().copied().filter(|node| !members.contains(node));
    stay.chain(come).take(count).collect()
}

/// The replica with which a group begins that has joined by the controller's entry `joined`. No
/// other life of the group's id has a replica of that id.
pub fn first_replica(joined: u64) -> ReplicaId {
    ReplicaId(JOINED | (joined & u64::from(u32::MAX)) << LIFE_SHIFT | 1)
}

/// The controller's entry by which the group of a replica has joined; 0 for a group that began with
/// the store.
pub fn life_of(replica: ReplicaId) -> u64 {
    if replica.0 & JOINED == 0 { 0 } else { (replica.0 & !JOINED) >> LIFE_SHIFT }
}

/// The replica that entry `index` of the same group adds; `None` for a group that began with the
/// store, whose replicas have ids of another form.
pub(crate) fn later_replica(of: ReplicaId, index: u64) -> Option<ReplicaId> {
    (of.0 & JOINED != 0).then_some(ReplicaId(of.0 & !INDEX_MASK | index & INDEX_MASK))
}

#[cfg(test)]
mod tests;
