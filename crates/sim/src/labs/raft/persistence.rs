//! Crashes and restarts (Persist1, Persist2, Persist3, UnreliableAgree).

use std::time::Duration;

use crate::raft_cluster::RaftCluster;

use super::{ELECTION, after, cluster, unreliable};
use crate::invariants::Checked;

pub(super) fn persist1(seed: u64) -> Checked {
    let mut cluster = cluster(3, seed);
    cluster.agree("11", 3, true)?;
    let nodes = cluster.node_ids();
    nodes.iter().for_each(|&node| cluster.crash(node));
    nodes.iter().for_each(|&node| cluster.restart(node));
    cluster.agree("12", 3, true)?;

    let leader = cluster.check_one_leader()?;
    cluster.restart(leader);
    cluster.agree("13", 3, true)?;

    let leader = cluster.check_one_leader()?;
    cluster.crash(leader);
    let position = cluster.agree("14", 2, true)?;
    cluster.restart(leader);
    let end = cluster.now() + Duration::from_secs(5);
    let all = cluster.run_until(end, |cluster| cluster.committed(position) == 3)?;
    demand!(all, "the restarted leader does not catch up");

    let follower = after(cluster.check_one_leader()?, 1, 3);
    cluster.crash(follower);
    cluster.agree("15", 2, true)?;
    cluster.restart(follower);
    cluster.agree("16", 3, true)?;
    Ok(())
}

pub(super) fn persist2(seed: u64) -> Checked {
    let mut cluster = cluster(5, seed);
    for round in 0..5 {
        let command = |at| format!("{}", 10 * (round + 1) + at);
        cluster.agree(&command(0), 5, true)?;
        let leader = cluster.check_one_leader()?;
        let ring = |steps| after(leader, steps, 5);
        [1, 2].into_iter().for_each(|steps| cluster.crash(ring(steps)));
        cluster.agree(&command(1), 3, true)?;
        [0, 3, 4].into_iter().for_each(|steps| cluster.crash(ring(steps)));
        [1, 2].into_iter().for_each(|steps| cluster.restart(ring(steps)));
        cluster.run(ELECTION)?;
        cluster.restart(ring(3));
        cluster.agree(&command(2), 3, true)?;
        [4, 0].into_iter().for_each(|steps| cluster.restart(ring(steps)));
    }
    cluster.agree("1000", 5, true)?;
    Ok(())
}

pub(super) fn persist3(seed: u64) -> Checked {
    let mut cluster = cluster(3, seed);
    cluster.agree("101", 3, true)?;
    let leader = cluster.check_one_leader()?;
    let (follower, stale) = (after(leader, 1, 3), after(leader, 2, 3));
    cluster.disconnect(stale);
    cluster.agree("102", 2, true)?;
    cluster.crash(leader);
    cluster.crash(follower);
    cluster.connect(stale);
    cluster.restart(leader);
    cluster.agree("103", 2, true)?;
    cluster.restart(follower);
    cluster.agree("104", 3, true)?;
    Ok(())
}

/// Proposes all of `commands` and waits until somebody has applied each, again and again for 10 s.
fn agree_on_all(cluster: &mut RaftCluster, commands: &[String]) -> Checked {
    let end = cluster.now() + Duration::from_secs(10);
    let mut left = commands.to_vec();
    while !left.is_empty() {
        demand!(cluster.now() < end, "{left:?} were not agreed upon");
        let Some(leader) = cluster.connected_leader() else {
            cluster.run(Duration::from_millis(50))?;
            continue;
        };
        let started: Vec<_> = left
            .iter()
            .filter_map(|command| Some((command.clone(), cluster.start(leader, command)?.0)))
            .collect();
        let is_there = |cluster: &RaftCluster, (command, position): &(String, u64)| {
            cluster.command(*position).as_deref() == Some(command.as_bytes())
        };
        let until = cluster.now() + Duration::from_secs(2);
        cluster.run_until(until, |cluster| started.iter().all(|one| is_there(cluster, one)))?;
        for one in started.iter().filter(|one| is_there(cluster, one)) {
            left.retain(|command| *command != one.0);
        }
    }
    Ok(())
}

pub(super) fn unreliable_agree(seed: u64) -> Checked {
    let mut cluster = unreliable(5, seed);
    for round in 1..50 {
        let commands: Vec<_> = (0..5).map(|at| format!("{}", 100 * round + at)).collect();
        agree_on_all(&mut cluster, &commands)?;
    }
    cluster.network().set_quality(crate::network::Quality::good());
    cluster.agree("100", 5, true)?;
    Ok(())
}
