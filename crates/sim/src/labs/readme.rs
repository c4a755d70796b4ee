//! The scenario that the README shows: it is what is run here, word for word.

use std::time::Duration;

use kontiki_resp::Reply;
use kontiki_storage::disk::Crash;

use super::fails;
use crate::invariants::Violation;
use crate::store_cluster::{Call, Ended, StoreCluster, StoreConfig};

fn a_value_survives_its_leader(seed: u64) -> Result<(), Violation> {
    let mut cluster = StoreCluster::new(StoreConfig::default(), seed);
    cluster.run(Duration::from_secs(2))?;
    let Some(leader) = cluster.leader() else { return fails("nobody leads".to_owned()) };
    let client = cluster.client(leader);
    cluster.call(client, &Call::new(&["SET", "key", "value"]));
    cluster.run(Duration::from_secs(1))?;
    cluster.crash(leader, Crash::LoseAll);
    cluster.run(Duration::from_secs(2))?;
    let Some(other) = cluster.leader() else { return fails("nobody leads".to_owned()) };
    cluster.turn_to(client, other);
    cluster.take_ended();
    cluster.call(client, &Call::new(&["GET", "key"]));
    cluster.run(Duration::from_secs(1))?;
    let ended = cluster.take_ended();
    let value = ended.last().and_then(Ended::reply);
    demand_eq!(value, Some(&Reply::Bulk("value".into())), "the value");
    Ok(())
}

#[test]
fn the_scenario_of_the_readme_runs() {
    for seed in 1..=3 {
        a_value_survives_its_leader(seed).expect("it holds");
    }
    let (shown, here) = (include_str!("../../README.md"), include_str!("readme.rs"));
    let begin = shown.find("fn a_value_survives").expect("it is shown");
    let length = shown[begin..].find("```").expect("its end");
    assert!(here.contains(&shown[begin..begin + length]), "the README shows something else");
}
