//! Elections (InitialElection, ReElection, ManyElections).

use std::time::Duration;

use kontiki_sim::seeds::each_seed;

use super::{ELECTION, after, cluster};

#[test]
fn a_leader_is_elected_and_stays() {
    each_seed("a_leader_is_elected_and_stays", 10, |seed| {
        let mut cluster = cluster(3, seed);
        let leader = cluster.check_one_leader();
        cluster.run(Duration::from_millis(50));
        let term = cluster.check_terms();
        assert!(term.0 >= 1);
        cluster.run(2 * ELECTION);
        assert_eq!(cluster.check_terms(), term, "the term changed without a failure");
        assert_eq!(cluster.check_one_leader(), leader);
    });
}

#[test]
fn a_lost_leader_is_replaced_and_returns_harmlessly() {
    each_seed("a_lost_leader_is_replaced_and_returns_harmlessly", 10, |seed| {
        let mut cluster = cluster(3, seed);
        let first = cluster.check_one_leader();
        cluster.disconnect(first);
        let second = cluster.check_one_leader();
        assert_ne!(first, second);
        cluster.connect(first);
        assert_eq!(cluster.check_one_leader(), second, "the old leader disturbs the new one");

        let other = after(second, 1, 3);
        cluster.disconnect(second);
        cluster.disconnect(other);
        cluster.run(2 * ELECTION);
        assert_eq!(cluster.connected_leader(), None, "a leader without a majority");

        cluster.connect(other);
        cluster.check_one_leader();
        cluster.connect(second);
        cluster.check_one_leader();
    });
}

#[test]
fn any_four_of_seven_elect_a_leader() {
    each_seed("any_four_of_seven_elect_a_leader", 10, |seed| {
        let mut cluster = cluster(7, seed);
        cluster.check_one_leader();
        for _ in 0..9 {
            let nodes = cluster.node_ids();
            for _ in 0..3 {
                if let Some(&node) = cluster.random().pick(&nodes) {
                    cluster.disconnect(node);
                }
            }
            cluster.check_one_leader();
            for node in nodes {
                cluster.connect(node);
            }
        }
        cluster.check_one_leader();
    });
}
