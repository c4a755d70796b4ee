//! Elections (InitialElection, ReElection, ManyElections).

use std::time::Duration;

use super::{ELECTION, after, cluster};
use crate::invariants::Checked;

pub(super) fn initial_election(seed: u64) -> Checked {
    let mut cluster = cluster(3, seed);
    let leader = cluster.check_one_leader()?;
    cluster.run(Duration::from_millis(50))?;
    let term = cluster.check_terms()?;
    demand!(term.0 >= 1, "a leader in {term}");
    cluster.run(2 * ELECTION)?;
    demand_eq!(cluster.check_terms()?, term, "the term without a failure");
    demand_eq!(cluster.check_one_leader()?, leader, "the leader without a failure");
    Ok(())
}

pub(super) fn re_election(seed: u64) -> Checked {
    let mut cluster = cluster(3, seed);
    let first = cluster.check_one_leader()?;
    cluster.disconnect(first);
    let second = cluster.check_one_leader()?;
    demand!(first != second, "{first} leads and is cut off");
    cluster.connect(first);
    demand_eq!(cluster.check_one_leader()?, second, "the leader after the old one came back");

    let other = after(second, 1, 3);
    cluster.disconnect(second);
    cluster.disconnect(other);
    cluster.run(2 * ELECTION)?;
    demand_eq!(cluster.connected_leader(), None, "who leads without a majority");

    cluster.connect(other);
    cluster.check_one_leader()?;
    cluster.connect(second);
    cluster.check_one_leader()?;
    Ok(())
}

pub(super) fn many_elections(seed: u64) -> Checked {
    let mut cluster = cluster(7, seed);
    cluster.check_one_leader()?;
    for _ in 0..9 {
        let nodes = cluster.node_ids();
        for _ in 0..3 {
            if let Some(&node) = cluster.random().pick(&nodes) {
                cluster.disconnect(node);
            }
        }
        cluster.check_one_leader()?;
        for node in nodes {
            cluster.connect(node);
        }
    }
    cluster.check_one_leader()?;
    Ok(())
}
