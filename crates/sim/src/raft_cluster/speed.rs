//! Long runs of bare cores under next to no trouble, to measure the simulator itself.

use std::time::Duration;

use kontiki_raft::Config;

use super::{RaftCluster, RaftClusterConfig};
use crate::invariants::Violation;

/// The time between proposals.
const TICK: Duration = Duration::from_millis(100);

/// Clusters of five cores, one after the other, each for a virtual hour, with a proposal each 100 ms
/// if there is `load`; messages take their time, writes none, and all properties are checked. The log
/// is cut every thousand commands. Gives the number of commands that were proposed.
///
/// # Errors
/// A property is violated, or nothing was done.
pub fn run(seed: u64, hours: u32, load: bool) -> Result<u64, Violation> {
    let course = RaftClusterConfig::course(5);
    let raft = Config { heartbeat: HEARTBEAT, election_timeout: 4 * HEARTBEAT, ..course.raft };
    let disk = (Duration::ZERO, Duration::ZERO);
    let config =
        RaftClusterConfig { raft, disk, snapshot_every: Some(1000), count_bytes: false, ..course };
    let mut commands = 0;
    for hour in 0..u64::from(hours) {
        let mut cluster = RaftCluster::new(config.clone(), seed + hour);
        let leader = cluster.check_one_leader()?;
        commands += run_hour(&mut cluster, load)?;
        if cluster.connected_leader() != Some(leader) {
            let seen = format!("{leader} did not lead for an hour");
            return Err(Violation::new("A quiet cluster keeps its leader", seen));
        }
    }
    Ok(commands)
}

fn run_hour(cluster: &mut RaftCluster, load: bool) -> Result<u64, Violation> {
    if !load {
        cluster.run(HOUR)?;
        return Ok(0);
    }
    let end = cluster.now() + HOUR;
    let (mut leader, mut commands) = (None, 0);
    while cluster.now() < end {
        if leader.is_none_or(|leader| cluster.propose_alone(leader, &COMMAND).is_none()) {
            // Whoever led before does not any more.
            leader = cluster.connected_leader();
            if leader.is_some_and(|leader| cluster.propose_alone(leader, &COMMAND).is_none()) {
                leader = None;
            }
        }
        commands += u64::from(leader.is_some());
        cluster.run(TICK)?;
    }
    Ok(commands)
}

const COMMAND: [u8; 16] = [7; 16];
const HOUR: Duration = Duration::from_secs(3600);
/// As is usual between machines that are not in one room: ten times the tick for an election.
const HEARTBEAT: Duration = Duration::from_millis(500);
