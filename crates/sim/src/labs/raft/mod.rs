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

use kontiki_types::NodeId;

use super::{Lab, fails, lab};
use crate::invariants::Violation;
use crate::network::Quality;
use crate::raft_cluster::{RaftCluster, RaftClusterConfig};

/// See the module.
pub(super) const SUITE: &[Lab] = &[
    lab(
        "lab-raft-initial-election",
        "3 nodes elect a leader; terms agree and stay for 2 s",
        elections::initial_election,
    ),
    lab(
        "lab-raft-re-election",
        "a lost leader is replaced and returns harmlessly; no leader without a majority",
        elections::re_election,
    ),
    lab(
        "lab-raft-many-elections",
        "nine times any 4 of 7 elect a leader",
        elections::many_elections,
    ),
    lab("lab-raft-basic-agree", "3 commands get the positions 1, 2, 3", agreement::basic_agree),
    lab(
        "lab-raft-rpc-bytes",
        "10 commands of 5,000 bytes cost at most 200,000 bytes between 3 nodes",
        agreement::rpc_bytes,
    ),
    lab(
        "lab-raft-follower-failure",
        "without both followers nothing is committed in 2 s, at position 4",
        agreement::follower_failure,
    ),
    lab(
        "lab-raft-leader-failure",
        "after two of three leaders are lost nothing is committed in 2 s",
        agreement::leader_failure,
    ),
    lab(
        "lab-raft-fail-agree",
        "a follower that was away for 4 commands catches up",
        agreement::fail_agree,
    ),
    lab(
        "lab-raft-fail-no-agree",
        "3 of 5 away: nothing is committed in 2 s; back, the next position is 2 or 3",
        agreement::fail_no_agree,
    ),
    lab(
        "lab-raft-concurrent-starts",
        "5 proposals of one moment in one term are all committed",
        agreement::concurrent_starts,
    ),
    lab(
        "lab-raft-rejoin",
        "a leader's uncommitted entries are overwritten when it comes back",
        agreement::rejoin,
    ),
    lab(
        "lab-raft-backup",
        "conflicting tails of 50 entries are repaired within one agreement",
        agreement::backup,
    ),
    lab(
        "lab-raft-count",
        "at most 30 requests for an election, 42 for 11 commands, 60 for an idle second",
        agreement::count,
    ),
    lab(
        "lab-raft-persist1",
        "all, the leader, a follower crash and restart, with commands in between",
        persistence::persist1,
    ),
    lab(
        "lab-raft-persist2",
        "five times one majority of 5 crashes and another one restarts",
        persistence::persist2,
    ),
    lab(
        "lab-raft-persist3",
        "leader and follower crash; the leader restarts with the stale third",
        persistence::persist3,
    ),
    lab(
        "lab-raft-figure8",
        "leaders of 5 nodes crash a thousand times; then all agree",
        figure_eight::figure8,
    ),
    lab(
        "lab-raft-unreliable-agree",
        "245 agreements, five at a time, over an unreliable network",
        persistence::unreliable_agree,
    ),
    lab(
        "lab-raft-figure8-unreliable",
        "leaders are cut off 1,000 times, half of them for long, while answers come late",
        figure_eight::figure8_unreliable,
    ),
    lab(
        "lab-raft-reliable-churn",
        "nodes are cut off, crash and return: nothing seen committed is lost",
        churn::reliable_churn,
    ),
    lab(
        "lab-raft-unreliable-churn",
        "the same over an unreliable network",
        churn::unreliable_churn,
    ),
    lab(
        "lab-raft-snapshot-basic",
        "30 rounds with a snapshot each 10 commands: logs stay below 2,000 bytes",
        snapshots::snapshot_basic,
    ),
    lab(
        "lab-raft-snapshot-install",
        "a node that is cut off again and again catches up by snapshots",
        snapshots::snapshot_install,
    ),
    lab(
        "lab-raft-snapshot-install-unreliable",
        "the same over an unreliable network",
        snapshots::snapshot_install_unreliable,
    ),
    lab(
        "lab-raft-snapshot-install-crash",
        "a node that crashes again and again catches up by snapshots",
        snapshots::snapshot_install_crash,
    ),
    lab(
        "lab-raft-snapshot-install-uncrash",
        "the same over an unreliable network",
        snapshots::snapshot_install_uncrash,
    ),
    lab(
        "lab-raft-snapshot-all-crash",
        "all crash five times: positions go on where they were",
        snapshots::snapshot_all_crash,
    ),
    lab(
        "lab-raft-snapshot-init",
        "the snapshot survives a crash after a restart",
        snapshots::snapshot_init,
    ),
];

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

/// Proposes at a node that must not know better than that it leads; the command's position.
fn propose(cluster: &mut RaftCluster, node: NodeId, command: &str) -> Result<u64, Violation> {
    match cluster.start(node, command) {
        Some((position, _)) => Ok(position),
        None => fails(format!("{node} refuses a command")),
    }
}

/// A command that nobody else proposes.
fn fresh(cluster: &mut RaftCluster) -> String {
    cluster.random().number().to_string()
}
