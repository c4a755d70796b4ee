//! The 28 scenarios of the course's Raft suites, each with at least its thresholds, on bare cores.
//!
//! Rewritten from their descriptions; what the suites call servers, commands and indexes are nodes,
//! commands and positions here. Every safety property of the paper is checked after every step.

mod agreement;
mod churn;
mod elections;
mod figure_eight;
mod persistence;
mod snapshots;

use std::time::Duration;

use kontiki_sim::network::Quality;
use kontiki_sim::raft_cluster::{RaftCluster, RaftClusterConfig};
use kontiki_types::NodeId;

/// The time in which the suites expect an election.
const ELECTION: Duration = Duration::from_secs(1);

fn cluster(nodes: u64, seed: u64) -> RaftCluster {
    RaftCluster::new(RaftClusterConfig::course(nodes), seed)
}

fn unreliable(nodes: u64, seed: u64) -> RaftCluster {
    let config = RaftClusterConfig::course(nodes);
    RaftCluster::new(RaftClusterConfig { network: Quality::unreliable(), ..config }, seed)
}

/// The node `steps` after `node`, round the ring of `nodes`.
fn after(node: NodeId, steps: u64, nodes: u64) -> NodeId {
    NodeId((node.0 - 1 + steps) % nodes + 1)
}

fn millis(cluster: &mut RaftCluster, limit: u64) -> Duration {
    Duration::from_millis(cluster.random().below(limit))
}

/// A command that nobody else proposes.
fn fresh(cluster: &mut RaftCluster) -> String {
    cluster.random().number().to_string()
}
