//! Leaders that come and go with entries on a minority (Figure8, Figure8Unreliable).

use crate::network::Quality;
use crate::raft_cluster::RaftCluster;
use kontiki_types::NodeId;

use super::{cluster, fresh, millis, unreliable};
use crate::invariants::Checked;

/// Proposes a command everywhere; who took it last.
fn propose_everywhere(cluster: &mut RaftCluster) -> Option<NodeId> {
    let command = fresh(cluster);
    let nodes = cluster.node_ids();
    nodes.into_iter().filter(|&node| cluster.start(node, &command).is_some()).last()
}

fn pause(cluster: &mut RaftCluster) -> Checked {
    let limit = if cluster.random().chance(100) { 500 } else { 13 };
    let pause = millis(cluster, limit);
    cluster.run(pause)
}

pub(super) fn figure8(seed: u64) -> Checked {
    let mut cluster = cluster(5, seed);
    let command = fresh(&mut cluster);
    cluster.agree(&command, 1, true)?;
    let nodes = cluster.node_ids();
    for _ in 0..1000 {
        let leader = propose_everywhere(&mut cluster);
        pause(&mut cluster)?;
        if let Some(leader) = leader {
            cluster.crash(leader);
        }
        let up = nodes.iter().filter(|&&node| cluster.is_running(node)).count();
        if up < 3
            && let Some(&node) = cluster.random().pick(&nodes)
            && !cluster.is_running(node)
        {
            cluster.restart(node);
        }
    }
    for node in nodes {
        if !cluster.is_running(node) {
            cluster.restart(node);
        }
    }
    let command = fresh(&mut cluster);
    cluster.agree(&command, 5, true)?;
    Ok(())
}

pub(super) fn figure8_unreliable(seed: u64) -> Checked {
    let mut cluster = unreliable(5, seed);
    let command = fresh(&mut cluster);
    cluster.agree(&command, 1, true)?;
    let nodes = cluster.node_ids();
    for iteration in 0..1000 {
        if iteration == 200 {
            cluster.network().set_quality(Quality::long_reordering());
        }
        let leader = propose_everywhere(&mut cluster);
        pause(&mut cluster)?;
        if let Some(leader) = leader
            && cluster.random().chance(500)
        {
            cluster.disconnect(leader);
        }
        let up = nodes.iter().filter(|&&node| cluster.is_connected(node)).count();
        if up < 3
            && let Some(&node) = cluster.random().pick(&nodes)
        {
            cluster.connect(node);
        }
    }
    nodes.iter().for_each(|&node| cluster.connect(node));
    let command = fresh(&mut cluster);
    cluster.agree(&command, 5, true)?;
    Ok(())
}
