//! A replica whose state is not what its log makes is found by comparing it with the leader's.

use std::time::Duration;

use kontiki_replica::GroupConfig;
use kontiki_sim::scenarios::Load;
use kontiki_sim::seeds::each_seed;
use kontiki_sim::store_cluster::{Call, StoreCluster, StoreConfig};
use kontiki_types::{GroupId, NodeId};

const SECOND: Duration = Duration::from_secs(1);
const GROUP: GroupId = GroupId(1);

/// A cluster that compares its replicas every 100 ms, with a leader and a key.
fn comparing(seed: u64) -> (StoreCluster, NodeId) {
    let group = GroupConfig { check_interval: SECOND / 10, ..GroupConfig::default() };
    let mut cluster = StoreCluster::new(StoreConfig { group, ..StoreConfig::default() }, seed);
    let end = cluster.now() + 5 * SECOND;
    let led = cluster.run_until(end, |cluster| cluster.leader().is_some());
    assert_eq!(led, Ok(true), "nobody leads after 5 s");
    let leader = cluster.leader().expect("just seen");
    let client = cluster.client(leader);
    assert!(cluster.call(client, &Call::new(&["SET", "quiet", "never written again"])));
    cluster.run(SECOND).expect("no violation");
    (cluster, leader)
}

#[test]
fn a_replica_that_differs_is_found_within_a_pass() {
    each_seed("a_replica_that_differs_is_found_within_a_pass", 3, |seed| {
        let (mut cluster, leader) = comparing(seed);
        let mut load = Load::new(&mut cluster, 4);
        load.run(&mut cluster, 2 * SECOND).expect("no difference yet");
        let followers: Vec<_> =
            cluster.node_ids().into_iter().filter(|node| *node != leader).collect();
        let differs = followers[seed as usize % followers.len()];
        cluster.rot(differs, GROUP, b"quiet").expect("the key is there");
        let found = load.run(&mut cluster, 5 * SECOND).expect_err("the difference is not found");
        let said = found.to_string();
        assert!(said.contains("is not that of the group's leader"), "{said}");
    });
}

#[test]
fn replicas_that_do_not_differ_are_compared_in_peace() {
    each_seed("replicas_that_do_not_differ_are_compared_in_peace", 2, |seed| {
        let (mut cluster, _) = comparing(seed);
        let mut load = Load::new(&mut cluster, 8);
        load.run(&mut cluster, 3 * SECOND).expect("no difference");
    });
}
