//! Everything at once on bare cores, and the checks of the checks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use kontiki_sim::invariants::Checked;
use kontiki_sim::network::Quality;
use kontiki_sim::raft_cluster::{RaftCluster, RaftClusterConfig};
use kontiki_sim::seeds::each_seed;

fn config(seed: u64) -> RaftClusterConfig {
    let network = match seed % 3 {
        0 => Quality::good(),
        1 => Quality { doubled: 100, ..Quality::unreliable() },
        _ => Quality::long_reordering(),
    };
    let snapshot_every = seed.is_multiple_of(2).then_some(10);
    RaftClusterConfig { network, snapshot_every, ..RaftClusterConfig::course(3 + seed % 3) }
}

/// Proposals and reads everywhere, crashes, partitions of every kind; then faults stop, and the
/// cluster must heal.
fn chaos(cluster: &mut RaftCluster, steps: u64) -> Checked {
    let nodes = cluster.node_ids();
    for step in 0..steps {
        let node = |cluster: &mut RaftCluster| {
            let at = cluster.random().below(nodes.len() as u64) as usize;
            nodes[at]
        };
        let (one, two) = (node(cluster), node(cluster));
        match cluster.random().below(100) {
            0..2 => cluster.crash(one),
            2..6 if !cluster.is_running(one) => cluster.restart(one),
            6 => cluster.restart(one),
            7..9 if one != two => cluster.network().cut_one_way(one, two),
            9 if one != two => cluster.network().cut(one, two),
            10 => {
                let split = cluster.random().between(1, nodes.len() as u64 - 1) as usize;
                let sides = [nodes[..split].to_vec(), nodes[split..].to_vec()];
                cluster.network().partition(&sides);
            }
            11..14 => cluster.network().heal(),
            14..40 => {
                cluster.read(one);
            }
            _ => {
                cluster.start(one, &step.to_string());
            }
        }
        let pause = cluster.random().time(Duration::ZERO, Duration::from_millis(40));
        cluster.run(pause)?;
    }
    Ok(())
}

fn heal(cluster: &mut RaftCluster) -> Checked {
    cluster.network().heal();
    cluster.network().set_quality(Quality::good());
    let nodes = cluster.node_ids();
    for &node in &nodes {
        if !cluster.is_running(node) {
            cluster.restart(node);
        }
    }
    cluster.agree("the last", nodes.len(), true)?;
    let leader = cluster.check_one_leader()?;
    let (before, _) = cluster.reads();
    assert!(cluster.read(leader));
    cluster.run(Duration::from_secs(1))?;
    assert!(cluster.reads().0 > before, "a healthy leader does not confirm reads");
    Ok(())
}

#[test]
fn every_property_holds_in_chaos_and_the_cluster_heals() {
    each_seed("every_property_holds_in_chaos_and_the_cluster_heals", 12, |seed| {
        let mut cluster = RaftCluster::new(config(seed), seed);
        let checked = chaos(&mut cluster, 1500).and_then(|()| heal(&mut cluster));
        checked.unwrap_or_else(|violation| panic!("{violation}"));
    });
}

#[test]
fn the_same_seed_gives_the_same_trace_of_cores() {
    let trace = |seed| {
        let mut cluster = RaftCluster::new(config(seed), seed);
        cluster.keep_trace();
        chaos(&mut cluster, 300).expect("no violation");
        cluster.trace().join("\n")
    };
    for seed in 1..=3 {
        let (first, second) = (trace(seed), trace(seed));
        assert!(first.len() > 10_000, "hardly anything happened");
        assert!(first == second, "seed {seed} gave two traces");
    }
    assert_ne!(trace(1), trace(4));
}

/// A planted bug: syncs that do nothing. Some property must be violated, or a replica must refuse
/// what it finds.
#[test]
fn cores_without_the_sync_are_caught() {
    let caught = (1..=10).filter(|&seed| {
        let run = || -> Checked {
            let mut cluster = RaftCluster::new(config(3 * seed), seed);
            cluster.check_one_leader()?;
            cluster.agree("the first", 3, true)?;
            cluster.take_sync_out();
            for round in 0..20 {
                cluster.agree(&format!("{round}"), 2, true)?;
                let nodes = cluster.node_ids();
                nodes.iter().for_each(|&node| cluster.restart(node));
            }
            Ok(())
        };
        // The cores' own assertions count, too.
        !matches!(catch_unwind(AssertUnwindSafe(run)), Ok(Ok(())))
    });
    assert_eq!(caught.count(), 10);
}
