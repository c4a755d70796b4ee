//! What nodes know of each other.

use std::sync::Arc;

use kontiki_types::{GroupId, NodeId};

use crate::bytes_of::{configuration, epoch};
use crate::world::World;

const GROUPS: [GroupId; 2] = [GroupId(1), GroupId(2)];

#[test]
fn a_configuration_that_one_node_applies_is_soon_known_to_all() {
    let mut world = World::new(5, &[(0, &[1, 2, 3])]);
    world.until_led(&[0]);
    let nodes: Vec<NodeId> = (1..=5).map(NodeId).collect();
    for number in 1..4 {
        let newer = Arc::new(configuration(number, &GROUPS, &nodes, &[]));
        world.core(2).set_configuration(newer);
        let before = world.now;
        world.until("everybody knows", |world| {
            world.nodes.values().all(|node| epoch(&node.core.atlas()) == number)
        });
        assert!(world.now.since(before).as_millis() < 30, "{:?}", world.now.since(before));
    }
    // An older one changes nothing.
    world.core(4).set_configuration(Arc::new(configuration(1, &GROUPS, &nodes, &[])));
    world.run(1000);
    assert!(world.nodes.values().all(|node| epoch(&node.core.atlas()) == 3));
}

#[test]
fn a_configuration_comes_through_although_frames_are_lost_or_doubled() {
    let mut world = World::new(4, &[(0, &[1, 2, 3])]);
    (world.loses, world.doubles) = (3, 5);
    world.until_led(&[0]);
    let newer = configuration(9, &GROUPS, &[NodeId(1)], &[]);
    world.core(1).set_configuration(Arc::new(newer));
    world.until("everybody knows", |world| {
        world.nodes.values().all(|node| epoch(&node.core.atlas()) == 9)
    });
}

#[test]
fn nodes_without_a_replica_hear_who_leads_and_who_follows() {
    let mut world = World::new(5, &[(1, &[1, 2, 3]), (2, &[3, 4, 5])]);
    world.until_led(&[1, 2]);
    for _ in 0..3 {
        world.until("all agree with the leaders", |world| {
            [1, 2].iter().all(|&group| {
                let Some(leader) = world.leader(group) else { return false };
                let voters = if group == 1 { [1, 2, 3] } else { [3, 4, 5] };
                world.nodes.iter().filter(|(id, _)| !world.cut.contains(id)).all(|(_, node)| {
                    let atlas = node.core.atlas();
                    let place = atlas.groups.get(&GroupId(group));
                    place.is_some_and(|place| {
                        place.leader == Some(NodeId(leader)) && place.nodes == voters.map(NodeId)
                    })
                })
            })
        });
        // The leader of group 1 is cut off, and another one takes over.
        world.cut.clear();
        let leader = world.leader(1).expect("a leader");
        world.cut.insert(NodeId(leader));
        world.run(1500);
    }
}

#[test]
fn nothing_is_told_of_groups_while_nothing_changes() {
    let few: Vec<(u32, &[u64])> = (1..=2).map(|group| (group, &[1u64][..])).collect();
    let many: Vec<(u32, &[u64])> = (1..=300).map(|group| (group, &[1u64][..])).collect();
    let told = |groups: &[(u32, &[u64])]| {
        let mut world = World::new(2, groups);
        let ids: Vec<u32> = groups.iter().map(|(group, _)| *group).collect();
        world.until_led(&ids);
        world.until("all are known at the other node", |world| {
            world.core(2).atlas().groups.len() == groups.len()
        });
        world.run(1000);
        let before = world.frame_bytes;
        world.run(5000);
        world.frame_bytes - before
    };
    assert_eq!(told(&few), told(&many));
}

#[test]
fn an_atlas_has_another_version_whenever_it_shows_something_else() {
    let mut world = World::new(3, &[(1, &[1, 2, 3])]);
    let mut seen = std::collections::BTreeMap::new();
    let shown = |world: &World| {
        let atlas = world.nodes[&NodeId(3)].core.atlas();
        (world.nodes[&NodeId(3)].core.atlas_version(), format!("{atlas:?}"))
    };
    for round in 0..200 {
        if round == 100 {
            world.cut.insert(NodeId(1));
        }
        world.run(50);
        // Aliveness is looked at every half a second.
        let (version, text) = shown(&world);
        let text = text.replace("true", "").replace("false", "");
        let known = seen.entry(version).or_insert_with(|| text.clone());
        assert_eq!(*known, text, "version {version} at round {round}");
    }
    assert!(seen.len() > 2 && seen.len() < 20, "{} versions", seen.len());
}
