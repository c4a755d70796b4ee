//! Nodes that are about to stop.

use kontiki_types::NodeId;

use crate::world::World;

const GROUPS: [u32; 4] = [1, 2, 3, 4];

fn world() -> World {
    let groups: Vec<(u32, &[u64])> = GROUPS.iter().map(|group| (*group, &[1, 2, 3][..])).collect();
    let mut world = World::new(3, &groups);
    world.until_led(&GROUPS);
    world
}

#[test]
fn a_node_that_is_about_to_stop_hands_over_what_it_leads_and_gets_nothing_back() {
    let mut world = world();
    let stopping = world.leader(1).expect("a leader");
    // The others know each other.
    world.run(1500);
    world.core(stopping).retire();
    let before = world.now;
    world.until("nothing is led there", |world| world.core(stopping).has_retired());
    let took = world.now.since(before).as_millis();
    assert!(took < 50, "{took} ms, as long as an election");
    world.until_led(&GROUPS);
    assert!(GROUPS.iter().all(|group| world.leader(*group) != Some(stopping)));
    for other in (1..=3).filter(|node| *node != stopping) {
        let said = world.core(other).nodes();
        let info = said.iter().find(|(info, _)| info.id == NodeId(stopping));
        assert!(info.is_some_and(|(info, _)| info.leaving), "node {other} has not heard of it");
    }
}

#[test]
fn what_no_other_node_can_lead_is_kept() {
    let mut world = world();
    let stopping = world.leader(1).expect("a leader");
    world.run(1500);
    for other in (1..=3).filter(|node| *node != stopping) {
        world.core(other).retire();
    }
    world.run(500);
    // All of them stop: whoever comes to lead has nobody to hand over to, and does not wait.
    world.core(stopping).retire();
    world.run(1000);
    for node in 1..=3 {
        assert!(world.core(node).has_retired(), "node {node} still waits");
    }
}
