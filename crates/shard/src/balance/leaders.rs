//! Which node is to lead each group, so that every node that can leads as many as any other.
//!
//! A function of the configuration and of which nodes are up: every leader computes the same for
//! itself, and nothing swings back. The first node of a group's wish is preferred; what a dead
//! node would lead is shared by the others, and comes back with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kontiki_types::{GroupId, NodeId};

use crate::controller::Configuration;

/// Who is to lead each group of `configuration`: one of its wanted nodes that are `up`. Groups of
/// which none is up are left out. The numbers of groups that the nodes lead differ by more than one
/// only where no chain of groups leads from the one node to the other.
pub fn leaders(configuration: &Configuration, up: &BTreeSet<NodeId>) -> BTreeMap<GroupId, NodeId> {
    let mut plan = Plan::new(configuration, up);
    while plan.improve() {}
    plan.leader
}

struct Plan {
    /// The nodes that may lead each group, best first.
    may: BTreeMap<GroupId, Vec<NodeId>>,
    leader: BTreeMap<GroupId, NodeId>,
    led: BTreeMap<NodeId, BTreeSet<GroupId>>,
}

impl Plan {
    /// Everybody's first choice; those without it go where there is least.
    fn new(configuration: &Configuration, up: &BTreeSet<NodeId>) -> Self {
        let mut plan = Self { may: BTreeMap::new(), leader: BTreeMap::new(), led: BTreeMap::new() };
        let mut orphans = Vec::new();
        for (id, group) in configuration.groups() {
            let nodes: Vec<NodeId> =
                group.nodes.iter().copied().filter(|node| up.contains(node)).collect();
            for node in &nodes {
                plan.led.entry(*node).or_default();
            }
            match (group.nodes.first(), nodes.first()) {
                (Some(first), Some(best)) if first == best => plan.give(id, *best),
                (_, Some(_)) => orphans.push(id),
                _ => continue,
            }
            plan.may.insert(id, nodes);
        }
        for id in orphans {
            let nodes = plan.may.get(&id).into_iter().flatten().enumerate();
            let least = nodes.min_by_key(|(at, node)| (plan.count(**node), *at));
            if let Some(node) = least.map(|(_, node)| *node) {
                plan.give(id, node);
            }
        }
        plan
    }

    fn count(&self, node: NodeId) -> usize {
        self.led.get(&node).map_or(0, BTreeSet::len)
    }

    fn give(&mut self, group: GroupId, to: NodeId) {
        if let Some(from) = self.leader.insert(group, to)
            && let Some(led) = self.led.get_mut(&from)
        {
            led.remove(&group);
        }
        self.led.entry(to).or_default().insert(group);
    }

    /// Takes one group off a node that leads at least two more than another one, over as few nodes
    /// between them as it takes; `false` if there is no such node.
    fn improve(&mut self) -> bool {
        let mut fullest: Vec<NodeId> = self.led.keys().copied().collect();
        fullest.sort_by_key(|node| (usize::MAX - self.count(*node), *node));
        for from in fullest {
            if let Some(steps) = self.way(from) {
                steps.into_iter().for_each(|(group, to)| self.give(group, to));
                return true;
            }
        }
        false
    }

    /// The shortest way from `from` to a node that leads at least two groups less: which group goes
    /// to which node.
    fn way(&self, from: NodeId) -> Option<Vec<(GroupId, NodeId)>> {
        let most = self.count(from);
        // By which group, led by which node, each node was reached.
        let mut reached: BTreeMap<NodeId, Option<(GroupId, NodeId)>> =
            BTreeMap::from([(from, None)]);
        let mut next = VecDeque::from([from]);
        while let Some(at) = next.pop_front() {
            for group in self.led.get(&at).into_iter().flatten() {
                for node in self.may.get(group).into_iter().flatten() {
                    if reached.contains_key(node) {
                        continue;
                    }
                    reached.insert(*node, Some((*group, at)));
                    if self.count(*node) + 2 <= most {
                        return Some(Self::steps(&reached, *node));
                    }
                    next.push_back(*node);
                }
            }
        }
        None
    }

    fn steps(
        reached: &BTreeMap<NodeId, Option<(GroupId, NodeId)>>,
        end: NodeId,
    ) -> Vec<(GroupId, NodeId)> {
        let (mut steps, mut to) = (Vec::new(), end);
        while let Some(Some((group, from))) = reached.get(&to) {
            steps.push((*group, to));
            to = *from;
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Controller;

    fn configuration(groups: &[&[u64]]) -> Configuration {
        let groups: Vec<_> = (1..).map(GroupId).zip(groups.iter().map(|ids| nodes(ids))).collect();
        Controller::founding(&groups).configuration().clone()
    }

    fn nodes(ids: &[u64]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn led(groups: &[&[u64]], up: &[u64]) -> Vec<u64> {
        let found = leaders(&configuration(groups), &nodes(up).into_iter().collect());
        found.values().map(|node| node.0).collect()
    }

    fn counts(configuration: &Configuration, up: &[u64]) -> Vec<usize> {
        let up: BTreeSet<NodeId> = nodes(up).into_iter().collect();
        let found = leaders(configuration, &up);
        up.iter().map(|node| found.values().filter(|leader| *leader == node).count()).collect()
    }

    #[test]
    fn first_choices_lead_when_they_are_even() {
        assert_eq!(led(&[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]], &[1, 2, 3]), [1, 2, 3]);
        assert_eq!(
            led(&[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2], &[1, 2, 3]], &[1, 2, 3]),
            [1, 2, 3, 1]
        );
    }

    #[test]
    fn first_choices_that_are_uneven_are_evened_out() {
        assert_eq!(led(&[&[1, 2, 3], &[1, 2, 3], &[1, 2, 3]], &[1, 2, 3]), [2, 3, 1]);
        // 1 can give nothing to 3 but by way of 2.
        assert_eq!(led(&[&[1, 2], &[1, 2], &[2, 3]], &[1, 2, 3]), [2, 1, 3]);
    }

    #[test]
    fn what_a_dead_node_would_lead_is_shared_by_the_others() {
        let around: Vec<Vec<u64>> =
            (0..300u64).map(|at| (0..3).map(|step| 1 + (at + step) % 3).collect()).collect();
        let around: Vec<&[u64]> = around.iter().map(Vec::as_slice).collect();
        let around = configuration(&around);
        assert_eq!(counts(&around, &[1, 2, 3]), [100, 100, 100]);
        assert_eq!(counts(&around, &[1, 3]), [150, 150]);
        assert_eq!(counts(&around, &[2]), [300]);
    }

    #[test]
    fn a_group_without_a_living_node_has_no_leader() {
        assert_eq!(led(&[&[1, 2], &[3, 4]], &[1, 2]), [1]);
        assert_eq!(led(&[&[], &[3]], &[3]), [3]);
    }

    #[test]
    fn a_node_that_none_can_lead_much_for_gets_what_there_is() {
        // Only the last group can be led by 4.
        assert_eq!(
            led(&[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2], &[1, 2, 4]], &[1, 2, 3, 4]),
            [1, 2, 3, 4]
        );
    }
}
