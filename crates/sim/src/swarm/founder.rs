//! Groups that join and leave: each that joins begins on one node and gets replicas on the others;
//! replicas of one that has left go.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_replica::FIRST_GROUP;
use kontiki_replica::steward::CONTROLLER;
use kontiki_shard::GroupRef;
use kontiki_types::{GroupId, Incarnation, Instant, NodeId};

use super::Swarm;
use super::operator::Wish;
use crate::store_cluster::StoreCluster;

/// Groups beside the controller, at the most.
const GROUPS_MAX: usize = 5;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Founder {
    /// Where each group begins that has joined: nowhere else, whatever happens.
    claims: BTreeMap<GroupRef, (NodeId, Incarnation)>,
    /// Of them those with replicas enough.
    spread: BTreeSet<GroupRef>,
    /// When a store that is not sharded is to be, on which node its controller begins, and whether
    /// the log says so.
    shares_at: Option<Instant>,
    controller: Option<(NodeId, Incarnation)>,
    is_shared: bool,
    is_controller_spread: bool,
}

impl Founder {
    /// Groups that have joined and got their replicas.
    pub(super) fn joins(&self) -> u64 {
        self.spread.len() as u64
    }

    /// Whether a group would be lost with the disk of `node`.
    pub(super) fn needs(&self, node: NodeId) -> bool {
        let mut claims = self.claims.iter().filter(|(group, _)| !self.spread.contains(group));
        let controller = self.controller.filter(|_| !self.is_controller_spread);
        claims.any(|(_, (claimed, _))| *claimed == node)
            || controller.is_some_and(|(claimed, _)| claimed == node)
    }

    /// The store is to be sharded at `at`.
    pub(super) fn share_at(&mut self, at: Instant) {
        self.shares_at = Some(self.shares_at.map_or(at, |before| before.min(at)));
    }

    /// The node on which the controller is to begin, once it is time: one whose disk is `sound`.
    pub(super) fn shares(
        &mut self,
        now: Instant,
        cluster: &StoreCluster,
        is_sound: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        if self.is_shared || self.shares_at.is_none_or(|at| at > now) {
            return None;
        }
        let chosen = self.controller.or_else(|| {
            let node = cluster.leader_of(FIRST_GROUP).filter(|&node| is_sound(node))?;
            Some((node, cluster.incarnation(node)))
        });
        self.controller = chosen;
        chosen.map(|(node, _)| node)
    }

    /// The log of the group says that the controller begins on this node.
    pub(super) fn is_shared(&mut self, node: NodeId) {
        self.is_shared = self.controller.is_some_and(|(chosen, _)| chosen == node);
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
        self.tend_controller();
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
            if self.cluster.groups().contains(&id) && self.is_spread(id, CONTROLLER) {
                self.founder.spread.insert(group);
            }
        }
    }

    /// Does what there is to do for the controller of a store that gets one.
    fn tend_controller(&mut self) {
        let Founder { controller, is_shared, is_controller_spread, .. } = self.founder;
        let Some((node, incarnation)) = controller.filter(|_| is_shared && !is_controller_spread)
        else {
            return;
        };
        if self.cluster.incarnation(node) == incarnation {
            self.cluster.begin_controller(node);
        }
        if self.cluster.groups().contains(&CONTROLLER) {
            self.founder.is_controller_spread = self.is_spread(CONTROLLER, FIRST_GROUP);
        }
    }

    /// Whether whoever has a replica of the group `like` has one of `group`; has it added where it is
    /// missing.
    fn is_spread(&mut self, group: GroupId, like: GroupId) -> bool {
        let voters = |of| {
            let leader = self.cluster.leader_of(of)?;
            let membership = self.cluster.membership_of(of, leader)?;
            Some(membership.voters.iter().map(|voter| voter.node).collect::<BTreeSet<NodeId>>())
        };
        let Some(there) = voters(group) else { return false };
        // The group that the controller is to be like may have left.
        let all = match self.cluster.groups().contains(&like) {
            true => voters(like),
            false => Some(BTreeSet::new()),
        };
        let Some(all) = all else { return false };
        let leaving: BTreeSet<NodeId> = self.operator.leaving().collect();
        let missing = all.into_iter().filter(|node| !there.contains(node));
        let missing: Vec<_> = missing.filter(|node| !leaving.contains(node)).collect();
        for &node in &missing {
            let wish = Wish::Add(node);
            if !self.operator.wishes().contains(&wish) {
                self.wish_first(wish);
            }
        }
        missing.is_empty() && there.len() > 1
    }

    /// Groups that have joined and have not begun, or not all of their replicas.
    pub(super) fn unsettled(&self) -> Vec<String> {
        let Some(known) = self.cluster.configuration() else { return Vec::new() };
        let mut unsettled = Vec::new();
        if let Some((node, incarnation)) = self.founder.controller
            && !self.founder.is_controller_spread
        {
            let now = self.cluster.incarnation(node);
            unsettled.push(format!("the controller of {node} ({incarnation:?}, now {now:?})"));
        }
        for (id, entry) in known.groups().filter(|(_, entry)| entry.joined > 0) {
            let group = GroupRef { id, joined: entry.joined };
            if !self.founder.spread.contains(&group) {
                let claim = self.founder.claims.get(&group);
                let now = claim.map(|(node, _)| self.cluster.incarnation(*node));
                unsettled.push(format!("{group:?} of {claim:?}, now {now:?}"));
            }
        }
        unsettled
    }
}
