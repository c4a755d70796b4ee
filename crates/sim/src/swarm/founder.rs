//! Groups that join and leave: each that joins begins on one node and gets replicas on the others;
//! replicas of one that has left go.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_replica::steward::CONTROLLER;
use kontiki_shard::GroupRef;
use kontiki_types::{GroupId, Incarnation, NodeId};

use super::Swarm;
use super::operator::Wish;

/// Groups beside the controller, at the most.
const GROUPS_MAX: usize = 5;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Founder {
    /// Where each group begins that has joined: nowhere else, whatever happens.
    claims: BTreeMap<GroupRef, (NodeId, Incarnation)>,
    /// Of them those with replicas enough.
    spread: BTreeSet<GroupRef>,
}

impl Founder {
    /// Groups that have joined and got their replicas.
    pub(super) fn joins(&self) -> u64 {
        self.spread.len() as u64
    }

    /// Whether a group would be lost with the disk of `node`.
    pub(super) fn needs(&self, node: NodeId) -> bool {
        let claims = self.claims.iter().filter(|(group, _)| !self.spread.contains(group));
        claims.into_iter().any(|(_, (claimed, _))| *claimed == node)
    }
}

impl Swarm {
    /// An id for a group that is to join: one that was never used, or one that nobody has a replica
    /// of any more.
    pub(super) fn free_group(&self) -> Option<GroupId> {
        let known = self.cluster.configuration()?;
        let groups: BTreeSet<GroupId> = known.groups().map(|(id, _)| id).collect();
        if groups.len() >= GROUPS_MAX || !self.cluster.all_run() {
            return None;
        }
        let is_free = |id: &GroupId| !groups.contains(id) && !self.cluster.has_any_replica(*id);
        (1..).map(GroupId).find(is_free)
    }

    /// Does what there is to do for groups that have joined or left.
    pub(super) fn tend_groups(&mut self) {
        let Some(known) = self.cluster.configuration() else { return };
        self.cluster.remove_gone();
        let joined = known.groups().filter(|(_, entry)| entry.joined > 0);
        for (id, entry) in joined {
            let group = GroupRef { id, joined: entry.joined };
            if self.founder.spread.contains(&group) {
                continue;
            }
            let mut nodes = entry.nodes.iter().copied();
            let claim = self.founder.claims.get(&group).copied().or_else(|| {
                let suspects = &self.atlas.suspects;
                let is_sound = |node: &NodeId| {
                    self.cluster.is_running(*node)
                        && !suspects.contains(node)
                        && !self.swapped.contains(node)
                };
                let node = nodes.find(is_sound)?;
                Some((node, self.cluster.incarnation(node)))
            });
            let Some((node, incarnation)) = claim else { continue };
            self.founder.claims.insert(group, (node, incarnation));
            if self.cluster.incarnation(node) == incarnation {
                self.cluster.begin_group(group, node);
            }
            if self.cluster.groups().contains(&id) {
                self.spread(group);
            }
        }
    }

    /// Whoever has a replica of the controller gets one of the group.
    fn spread(&mut self, group: GroupRef) {
        let voters = |of| {
            let leader = self.cluster.leader_of(of)?;
            let membership = self.cluster.membership_of(of, leader)?;
            Some(membership.voters.iter().map(|voter| voter.node).collect::<BTreeSet<NodeId>>())
        };
        let (Some(there), Some(all)) = (voters(group.id), voters(CONTROLLER)) else { return };
        let leaving: BTreeSet<NodeId> = self.operator.leaving().collect();
        let missing = all.into_iter().filter(|node| !there.contains(node));
        let missing: Vec<_> = missing.filter(|node| !leaving.contains(node)).collect();
        if missing.is_empty() && there.len() > 1 {
            self.founder.spread.insert(group);
        }
        for node in missing {
            let wish = Wish::Add(node);
            if !self.operator.wishes().contains(&wish) {
                self.wish_first(wish);
            }
        }
    }

    /// Whether every group that has joined has begun, and has its replicas.
    pub(super) fn groups_are_settled(&self) -> bool {
        let Some(known) = self.cluster.configuration() else { return true };
        known
            .groups()
            .filter(|(_, entry)| entry.joined > 0)
            .all(|(id, entry)| self.founder.spread.contains(&GroupRef { id, joined: entry.joined }))
    }
}
