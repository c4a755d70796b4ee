//! Logs that are cut every ten commands (SnapshotBasic, SnapshotInstall, SnapshotInstallUnreliable,
//! SnapshotInstallCrash, SnapshotInstallUnCrash, SnapshotAllCrash, SnapshotInit).

use crate::network::Quality;
use crate::raft_cluster::{RaftCluster, RaftClusterConfig};

use super::{after, fresh};
use crate::invariants::{Checked, Violation};

const INTERVAL: u64 = 10;
const LOG_BYTES: usize = 2000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Stays,
    IsCutOff,
    Crashes,
}

fn cutting(network: Quality, seed: u64) -> RaftCluster {
    let config = RaftClusterConfig::course(3);
    let snapshot_every = Some(INTERVAL);
    RaftCluster::new(RaftClusterConfig { network, snapshot_every, ..config }, seed)
}

fn agree(cluster: &mut RaftCluster, expected: usize) -> Result<u64, Violation> {
    let command = fresh(cluster);
    cluster.agree(&command, expected, true)
}

fn run(network: Quality, victim_does: Victim, seed: u64) -> Checked {
    let mut cluster = cutting(network, seed);
    agree(&mut cluster, 3)?;
    let mut leader = cluster.check_one_leader()?;
    for round in 0..30 {
        let (sender, victim) = match round % 3 {
            1 => (after(leader, 1, 3), leader),
            _ => (leader, after(leader, 1, 3)),
        };
        match victim_does {
            Victim::Stays => {}
            Victim::IsCutOff => cluster.disconnect(victim),
            Victim::Crashes => cluster.crash(victim),
        }
        if victim_does != Victim::Stays {
            agree(&mut cluster, 2)?;
        }
        let count = INTERVAL / 2 + cluster.random().below(INTERVAL);
        for _ in 0..count {
            let command = fresh(&mut cluster);
            cluster.start(sender, &command);
        }
        let last = agree(&mut cluster, if victim_does == Victim::Stays { 3 } else { 2 })?;
        for node in cluster.node_ids() {
            let bytes = cluster.log_bytes(node);
            let applied = cluster.applied(node);
            let judged = victim_does == Victim::Stays || node != victim;
            // A node that has applied the last command has had its chance to cut.
            if judged && applied >= last {
                demand!(bytes < LOG_BYTES, "the log of {node} has {bytes} bytes");
            }
        }
        match victim_does {
            Victim::Stays => {}
            Victim::IsCutOff => cluster.connect(victim),
            Victim::Crashes => cluster.restart(victim),
        }
        if victim_does != Victim::Stays {
            agree(&mut cluster, 3)?;
            leader = cluster.check_one_leader()?;
        }
    }
    let nodes = cluster.node_ids();
    let installed: u64 = nodes.into_iter().map(|node| cluster.snapshots_installed(node)).sum();
    demand!((installed > 0) == (victim_does != Victim::Stays), "{installed} snapshots installed");
    Ok(())
}

pub(super) fn snapshot_basic(seed: u64) -> Checked {
    run(Quality::good(), Victim::Stays, seed)
}

pub(super) fn snapshot_install(seed: u64) -> Checked {
    run(Quality::good(), Victim::IsCutOff, seed)
}

pub(super) fn snapshot_install_unreliable(seed: u64) -> Checked {
    run(Quality::unreliable(), Victim::IsCutOff, seed)
}

pub(super) fn snapshot_install_crash(seed: u64) -> Checked {
    run(Quality::good(), Victim::Crashes, seed)
}

pub(super) fn snapshot_install_uncrash(seed: u64) -> Checked {
    run(Quality::unreliable(), Victim::Crashes, seed)
}

fn crash_and_restart_all(cluster: &mut RaftCluster) {
    cluster.node_ids().into_iter().for_each(|node| cluster.crash(node));
    cluster.node_ids().into_iter().for_each(|node| cluster.restart(node));
}

pub(super) fn snapshot_all_crash(seed: u64) -> Checked {
    let mut cluster = cutting(Quality::good(), seed);
    agree(&mut cluster, 3)?;
    for _ in 0..5 {
        let count = INTERVAL / 2 + cluster.random().below(INTERVAL);
        for _ in 0..count {
            agree(&mut cluster, 3)?;
        }
        let before = agree(&mut cluster, 3)?;
        crash_and_restart_all(&mut cluster);
        let then = agree(&mut cluster, 3)?;
        demand!(then > before, "position {then} after {before}");
    }
    Ok(())
}

pub(super) fn snapshot_init(seed: u64) -> Checked {
    let mut cluster = cutting(Quality::good(), seed);
    for position in 1..=INTERVAL + 1 {
        demand_eq!(agree(&mut cluster, 3)?, position, "the position");
    }
    for position in [INTERVAL + 2, INTERVAL + 3] {
        crash_and_restart_all(&mut cluster);
        demand_eq!(agree(&mut cluster, 3)?, position, "the position");
    }
    Ok(())
}
