//! Which nodes are to have the replicas of which groups.
//!
//! A group's first node is the first choice for its leader. What is changed is little: a group that
//! has nothing to do with the reason for a change keeps its nodes.

use std::collections::BTreeMap;

use kontiki_types::{GroupId, NodeId};

use crate::controller::Configuration;

/// A wish for the nodes of each of some groups.
pub type Wishes = Vec<(GroupId, Vec<NodeId>)>;

/// Replicas that are wanted on each of `nodes`, and first places among them.
fn counts(configuration: &Configuration, nodes: &[NodeId]) -> BTreeMap<NodeId, usize> {
    let mut counts: BTreeMap<NodeId, usize> = nodes.iter().map(|node| (*node, 0)).collect();
    for node in configuration.groups().flat_map(|(_, group)| &group.nodes) {
        if let Some(count) = counts.get_mut(node) {
            *count += 1;
        }
    }
    counts
}

/// The node with the fewest replicas that has none of this group; of several the first.
fn emptiest(counts: &BTreeMap<NodeId, usize>, group: &[NodeId]) -> Option<NodeId> {
    let free = counts.iter().filter(|(node, _)| !group.contains(node));
    free.min_by_key(|(node, count)| (**count, **node)).map(|(node, _)| *node)
}

/// Nodes for a new group: at most `replicas` of `nodes`, those with the fewest replicas; first the
/// one that is the first choice of the fewest groups.
pub fn choose(configuration: &Configuration, nodes: &[NodeId], replicas: usize) -> Vec<NodeId> {
    let counts = counts(configuration, nodes);
    let mut chosen = Vec::new();
    while chosen.len() < replicas {
        let Some(node) = emptiest(&counts, &chosen) else { break };
        chosen.push(node);
    }
    let first_places = |node: &NodeId| {
        configuration.groups().filter(|(_, group)| group.nodes.first() == Some(node)).count()
    };
    if let Some(at) = (0..chosen.len()).min_by_key(|at| chosen.get(*at).map(first_places)) {
        chosen.swap(0, at);
    }
    chosen
}

/// Wishes that leave `node` without a replica: each of its groups gets another of `nodes`, in the
/// same place.
///
/// # Errors
/// A group for which there is no other node.
pub fn drain(
    configuration: &Configuration,
    node: NodeId,
    nodes: &[NodeId],
) -> Result<Wishes, GroupId> {
    let others: Vec<NodeId> = nodes.iter().copied().filter(|other| *other != node).collect();
    let mut counts = counts(configuration, &others);
    let mut wishes = Vec::new();
    for (id, group) in configuration.groups().filter(|(_, group)| group.nodes.contains(&node)) {
        let heir = emptiest(&counts, &group.nodes).ok_or(id)?;
        counts.entry(heir).and_modify(|count| *count += 1);
        let replaced = group.nodes.iter().map(|old| if *old == node { heir } else { *old });
        wishes.push((id, replaced.collect()));
    }
    Ok(wishes)
}

/// Wishes that make the number of replicas on each of `nodes` the same, give or take one, with one
/// replica changed per group at the most.
pub fn spread(configuration: &Configuration, nodes: &[NodeId]) -> Wishes {
    let mut counts = counts(configuration, nodes);
    let mut wishes = Vec::new();
    for (id, group) in configuration.groups() {
        let here = group.nodes.iter().filter_map(|node| Some((*node, *counts.get(node)?)));
        let Some((fullest, most)) = here.max_by_key(|(node, count)| (*count, *node)) else {
            continue;
        };
        let Some(heir) = emptiest(&counts, &group.nodes) else { continue };
        if counts.get(&heir).is_none_or(|fewest| *fewest + 1 >= most) {
            continue;
        }
        counts.entry(fullest).and_modify(|count| *count -= 1);
        counts.entry(heir).and_modify(|count| *count += 1);
        let replaced = group.nodes.iter().map(|old| if *old == fullest { heir } else { *old });
        wishes.push((id, replaced.collect()));
    }
    wishes
}

#[cfg(test)]
mod tests {
    use kontiki_types::{ClientId, Index, LogTime, Seq};

    use super::*;
    use crate::{Command, Controller, Op, Session};

    fn nodes(ids: &[u64]) -> Vec<NodeId> {
        ids.iter().map(|id| NodeId(*id)).collect()
    }

    fn configuration(groups: &[&[u64]]) -> Configuration {
        let mut controller = Controller::new();
        let groups = groups.iter().zip(1..).map(|(ids, id)| (GroupId(id), nodes(ids))).collect();
        let (client, seq) = (ClientId::default(), Seq(1));
        let session = Some(Session { client, seq, deadline: LogTime(0) });
        let command = Command { stamp: LogTime(0), session, op: Op::Join { groups } };
        controller.apply(Index(1), &command);
        controller.configuration().clone()
    }

    #[test]
    fn a_new_group_goes_where_there_is_least() {
        let some = configuration(&[&[1, 2, 3], &[2, 3, 1], &[1, 2, 4]]);
        // 1 and 2 have three, 3 has two, 4 has one, 5 none; 1 is first of two groups, 2 of one.
        assert_eq!(choose(&some, &nodes(&[1, 2, 3, 4, 5]), 3), nodes(&[5, 4, 3]));
        assert_eq!(choose(&some, &nodes(&[1, 2]), 3), nodes(&[2, 1]));
        assert_eq!(choose(&some, &[], 3), []);
    }

    #[test]
    fn a_drained_node_has_no_replica_and_the_others_keep_theirs() {
        let some = configuration(&[&[1, 2, 3], &[2, 3, 4], &[4, 1, 2]]);
        let wishes = drain(&some, NodeId(1), &nodes(&[1, 2, 3, 4])).unwrap();
        let of = |id: u32, ids: &[u64]| (GroupId(id), nodes(ids));
        assert_eq!(wishes, [of(1, &[4, 2, 3]), of(3, &[4, 3, 2])]);
        assert_eq!(drain(&some, NodeId(2), &nodes(&[1, 2, 3])), Err(GroupId(1)));
        assert_eq!(drain(&some, NodeId(9), &nodes(&[1, 2, 3, 4])), Ok(Vec::new()));
    }

    #[test]
    fn a_new_node_gets_its_share() {
        let some = configuration(&[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2], &[1, 2, 3]]);
        let wishes = spread(&some, &nodes(&[1, 2, 3, 4]));
        let on_new = wishes.iter().filter(|(_, nodes)| nodes.contains(&NodeId(4))).count();
        assert_eq!((wishes.len(), on_new), (3, 3));
        assert!(spread(&some, &nodes(&[1, 2, 3])).is_empty());
        assert!(spread(&configuration(&[]), &nodes(&[1])).is_empty());
    }
}
