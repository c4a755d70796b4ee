//! Groups that join a sharded store, and that leave it: begun, and removed, as the task does it that
//! places replicas on a real node. Who begins a group is said from outside; the claims by which real
//! nodes agree on that are not simulated.

use kontiki_replica::FIRST_GROUP;
use kontiki_replica::placement::{first_replica, life_of};
use kontiki_replica::steward::{BEGINS_AFTER, Beginning, CONTROLLER};
use kontiki_shard::{Configuration, GroupRef};
use kontiki_types::{GroupId, Member, NodeId, ReplicaId};

use super::StoreCluster;
use super::checks::Checks;
use super::node::Input;
use super::opening::FOUNDER;

impl StoreCluster {
    /// Every group that there is: those that the store began with, and those that have begun since,
    /// without those that the controller has no more.
    pub fn groups(&self) -> Vec<GroupId> {
        let mut groups = self.config.groups();
        if self.config.may_share && self.checks.contains_key(&CONTROLLER) {
            groups.push(CONTROLLER);
        }
        let Some(known) = self.ownership.configuration() else { return groups };
        let lives = |group: GroupId| known.group(group).map(|entry| entry.joined);
        groups.retain(|group| *group == CONTROLLER || lives(*group) == Some(0));
        groups.extend(
            self.joined.iter().filter(|(id, life)| lives(**id) == Some(**life)).map(|(id, _)| *id),
        );
        groups.sort_unstable();
        groups
    }

    /// Has the controller of a store that was not sharded begin on a node, which the group's log
    /// names, unless it has done so before.
    pub fn begin_controller(&mut self, node: NodeId) {
        let nodes = self.leader_of(FIRST_GROUP).and_then(|leader| {
            let membership = self.membership_of(FIRST_GROUP, leader)?;
            Some(membership.voters.iter().map(|voter| voter.node).collect::<Vec<_>>())
        });
        let Some(nodes) = nodes else { return };
        let beginning = Beginning::AdoptingController { group: FIRST_GROUP, nodes };
        self.begin(CONTROLLER, node, FOUNDER, beginning);
    }

    /// Whether a replica of the group, of whatever life, is on a node that runs.
    pub fn has_any_replica(&self, group: GroupId) -> bool {
        self.node_ids().into_iter().any(|node| self.has_replica(group, node))
    }

    /// Has a group that has joined begin on a node, which must be the same one each time, unless it
    /// has done so before.
    pub fn begin_group(&mut self, group: GroupRef, node: NodeId) {
        self.begin(group.id, node, first_replica(group.joined), Beginning::Joined(group));
    }

    fn begin(&mut self, group: GroupId, node: NodeId, replica: ReplicaId, beginning: Beginning) {
        let Some(running) = self.nodes.get(&node).and_then(|node| node.running.as_ref()) else {
            return;
        };
        let has_left = running.stage.directory().is_removed(group, replica);
        if has_left || running.core.replica(group).is_some() {
            return;
        }
        let life = life_of(replica);
        if self.joined.insert(group, life) != Some(life) {
            // Another life of the id begins its log anew.
            self.checks.insert(group, Checks::beginning_after(BEGINS_AFTER.index));
            self.newest.remove(&group);
            self.ownership.forgets(group);
        }
        let member = Member::new(node, self.incarnation(node), replica);
        self.note(|| format!("{group} begins at {node}"));
        self.at(node, |node| node.input(Input::Begin { group, member, beginning }));
    }

    /// Has nodes remove their replicas of groups that the controller has no more.
    pub fn remove_gone(&mut self) {
        let Some(known) = self.ownership.configuration().cloned() else { return };
        for node in self.node_ids() {
            for (group, member) in self.gone_at(node, &known) {
                self.note(|| format!("{group} is gone, and its replica at {node} goes"));
                self.at(node, |node| node.input(Input::Remove { group, member }));
            }
        }
    }

    fn gone_at(&self, node: NodeId, known: &Configuration) -> Vec<(GroupId, Member)> {
        let running = self.nodes.get(&node).and_then(|node| node.running.as_ref());
        let Some(running) = running else { return Vec::new() };
        let groups = running.stage.machines.keys().copied().filter(|group| *group != CONTROLLER);
        let members =
            groups.filter_map(|group| Some((group, running.core.replica(group)?.status().me)));
        let life = |group: GroupId| known.group(group).map(|entry| entry.joined);
        members.filter(|(group, member)| life(*group) != Some(life_of(member.replica))).collect()
    }
}
