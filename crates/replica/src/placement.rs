//! Brings the replicas of a group to where they are wanted, one change at a time.
//!
//! A group's members are what its own log says; the controller holds the wish (PROTOCOL 16). Its
//! leader compares the two: what is missing is added first, so that a group never has fewer replicas
//! than it had; what is not wanted goes then; a leader that is not wanted hands over. At the end the
//! first node of the wish is to lead.

use std::collections::BTreeMap;

use kontiki_raft::{PeerState, Status};
use kontiki_shard::Configuration;
use kontiki_types::{NodeId, ReplicaId};

use crate::group::ChangeKind;
use crate::peer::NodeInfo;

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

/// What the leader of a group does next to have its replicas on `wanted`; `nodes` are all nodes as
/// far as known, each with whether it is alive.
pub fn place(status: &Status, wanted: &[NodeId], nodes: &[(NodeInfo, bool)]) -> Placing {
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
        let heir = wanted.iter().copied().find(|node| alive(*node).is_some() && caught_up(*node));
        return heir.map_or(Placing::Wait, |heir| Placing::Change(ChangeKind::Transfer(heir)));
    }
    if let Some(&node) = unwanted.first() {
        return Placing::Change(ChangeKind::Remove(node));
    }
    match wanted.first() {
        Some(&first) if first != me => {
            let may_lead = alive(first).is_some() && caught_up(first);
            let transfer = Placing::Change(ChangeKind::Transfer(first));
            if may_lead { transfer } else { Placing::Wait }
        }
        _ => Placing::Settled,
    }
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
