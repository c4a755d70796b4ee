//! Agreement, also with some nodes out of reach, and what it costs (BasicAgree, RPCBytes,
//! FollowerFailure, LeaderFailure, FailAgree, FailNoAgree, ConcurrentStarts, Rejoin, Backup, Count).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::raft_cluster::RaftCluster;
use kontiki_types::NodeId;

use super::{ELECTION, after, cluster, fresh, propose};
use crate::invariants::{Checked, Violation};

pub(super) fn basic_agree(seed: u64) -> Checked {
    let mut cluster = cluster(3, seed);
    for position in 1..=3 {
        demand_eq!(cluster.committed(position), 0, "commits before anything is proposed");
        let command = format!("{}", position * 100);
        demand_eq!(cluster.agree(&command, 3, false)?, position, "the position");
    }
    Ok(())
}

pub(super) fn rpc_bytes(seed: u64) -> Checked {
    let mut cluster = cluster(3, seed);
    cluster.agree("99", 3, false)?;
    let before = cluster.traffic().bytes;
    for at in 0..10u64 {
        let command = format!("{at}").repeat(5000);
        demand_eq!(cluster.agree(&command, 3, false)?, at + 2, "the position");
    }
    let sent = cluster.traffic().bytes - before;
    demand!(sent <= 3 * 50_000 + 50_000, "{sent} bytes for 50,000 of commands");
    Ok(())
}

pub(super) fn follower_failure(seed: u64) -> Checked {
    let mut cluster = cluster(3, seed);
    cluster.agree("101", 3, false)?;
    let leader = cluster.check_one_leader()?;
    cluster.disconnect(after(leader, 1, 3));
    cluster.agree("102", 2, false)?;
    cluster.run(ELECTION)?;
    cluster.agree("103", 2, false)?;

    let leader = cluster.check_one_leader()?;
    cluster.disconnect(after(leader, 1, 3));
    cluster.disconnect(after(leader, 2, 3));
    let position = propose(&mut cluster, leader, "104")?;
    demand_eq!(position, 4, "the position");
    cluster.run(2 * ELECTION)?;
    demand_eq!(cluster.committed(4), 0, "commits without a majority");
    Ok(())
}

pub(super) fn leader_failure(seed: u64) -> Checked {
    let mut cluster = cluster(3, seed);
    cluster.agree("101", 3, false)?;
    let first = cluster.check_one_leader()?;
    cluster.disconnect(first);
    cluster.agree("102", 2, false)?;
    cluster.agree("103", 2, false)?;
    let second = cluster.check_one_leader()?;
    cluster.disconnect(second);
    for node in cluster.node_ids() {
        cluster.start(node, "104");
    }
    cluster.run(2 * ELECTION)?;
    demand_eq!(cluster.committed(4), 0, "commits without a majority");
    Ok(())
}

pub(super) fn fail_agree(seed: u64) -> Checked {
    let mut cluster = cluster(3, seed);
    cluster.agree("101", 3, false)?;
    let away = after(cluster.check_one_leader()?, 1, 3);
    cluster.disconnect(away);
    cluster.agree("102", 2, false)?;
    cluster.agree("103", 2, false)?;
    cluster.run(ELECTION)?;
    cluster.agree("104", 2, false)?;
    cluster.agree("105", 2, false)?;
    cluster.connect(away);
    cluster.agree("106", 3, true)?;
    cluster.run(ELECTION)?;
    cluster.agree("107", 3, true)?;
    Ok(())
}

pub(super) fn fail_no_agree(seed: u64) -> Checked {
    let mut cluster = cluster(5, seed);
    cluster.agree("10", 5, false)?;
    let leader = cluster.check_one_leader()?;
    let away = [1, 2, 3].map(|steps| after(leader, steps, 5));
    away.iter().for_each(|&node| cluster.disconnect(node));
    let position = propose(&mut cluster, leader, "20")?;
    demand_eq!(position, 2, "the position");
    cluster.run(2 * ELECTION)?;
    demand_eq!(cluster.committed(2), 0, "commits without a majority");

    away.iter().for_each(|&node| cluster.connect(node));
    let leader = cluster.check_one_leader()?;
    let position = propose(&mut cluster, leader, "30")?;
    demand!((2..=3).contains(&position), "position {position}");
    cluster.agree("1000", 5, true)?;
    Ok(())
}

pub(super) fn concurrent_starts(seed: u64) -> Checked {
    let mut cluster = cluster(3, seed);
    within_one_term(&mut cluster, |cluster, leader| {
        let Some((_, term)) = cluster.start(leader, "1") else { return Ok(false) };
        let mut positions = Vec::new();
        for at in 0..5 {
            match cluster.start(leader, &format!("{}", 100 + at)) {
                Some((position, of)) if of == term => positions.push(position),
                _ => return Ok(false),
            }
        }
        let mut commands = BTreeSet::new();
        for position in positions {
            match cluster.wait(position, 3, term)? {
                Some(command) => commands.insert(command),
                None => return Ok(false),
            };
        }
        let expected = (0..5).map(|at| format!("{}", 100 + at).into_bytes()).collect();
        demand_eq!(commands, expected, "the commands");
        Ok(true)
    })
}

/// Tries what only counts if the leader stays the same, five times at the most.
fn within_one_term(
    cluster: &mut RaftCluster,
    mut attempt: impl FnMut(&mut RaftCluster, NodeId) -> Result<bool, Violation>,
) -> Checked {
    for _ in 0..5 {
        let leader = cluster.check_one_leader()?;
        if attempt(cluster, leader)? {
            return Ok(());
        }
        cluster.run(Duration::from_secs(3))?;
    }
    demand!(false, "the term changed each time");
    Ok(())
}

pub(super) fn rejoin(seed: u64) -> Checked {
    let mut cluster = cluster(3, seed);
    cluster.agree("101", 3, true)?;
    let first = cluster.check_one_leader()?;
    cluster.disconnect(first);
    for command in ["102", "103", "104"] {
        cluster.start(first, command);
    }
    cluster.agree("103", 2, true)?;
    let second = cluster.check_one_leader()?;
    cluster.disconnect(second);
    cluster.connect(first);
    cluster.agree("104", 2, true)?;
    cluster.connect(second);
    cluster.agree("105", 3, true)?;
    Ok(())
}

fn fifty(cluster: &mut RaftCluster, leader: NodeId) {
    for _ in 0..50 {
        let command = fresh(cluster);
        cluster.start(leader, &command);
    }
}

pub(super) fn backup(seed: u64) -> Checked {
    let mut cluster = cluster(5, seed);
    let command = fresh(&mut cluster);
    cluster.agree(&command, 5, true)?;
    let first = cluster.check_one_leader()?;
    let ring = |steps| after(first, steps, 5);
    [2, 3, 4].into_iter().for_each(|steps| cluster.disconnect(ring(steps)));
    fifty(&mut cluster, first);
    cluster.run(ELECTION / 2)?;
    cluster.disconnect(first);
    cluster.disconnect(ring(1));

    [2, 3, 4].into_iter().for_each(|steps| cluster.connect(ring(steps)));
    for _ in 0..50 {
        let command = fresh(&mut cluster);
        cluster.agree(&command, 3, true)?;
    }
    let second = cluster.check_one_leader()?;
    let other = if second == ring(2) { ring(3) } else { ring(2) };
    cluster.disconnect(other);
    fifty(&mut cluster, second);
    cluster.run(ELECTION / 2)?;

    cluster.node_ids().into_iter().for_each(|node| cluster.disconnect(node));
    [first, ring(1), other].into_iter().for_each(|node| cluster.connect(node));
    for _ in 0..50 {
        let command = fresh(&mut cluster);
        cluster.agree(&command, 3, true)?;
    }
    cluster.node_ids().into_iter().for_each(|node| cluster.connect(node));
    let command = fresh(&mut cluster);
    cluster.agree(&command, 5, true)?;
    Ok(())
}

pub(super) fn count(seed: u64) -> Checked {
    let mut cluster = cluster(3, seed);
    cluster.check_one_leader()?;
    let for_election = cluster.traffic().requests;
    demand!((1..=30).contains(&for_election), "{for_election} requests for an election");

    within_one_term(&mut cluster, |cluster, leader| {
        let before = cluster.traffic().requests;
        let Some((first, term)) = cluster.start(leader, "1") else { return Ok(false) };
        for at in 1..=10 {
            match cluster.start(leader, &format!("{at}")) {
                Some((position, of)) if of == term => {
                    demand_eq!(position, first + at, "the position");
                }
                _ => return Ok(false),
            }
        }
        for at in 0..=10 {
            if cluster.wait(first + at, 3, term)?.is_none() {
                return Ok(false);
            }
        }
        let requests = cluster.traffic().requests - before;
        demand!(requests <= (10 + 1 + 3) * 3, "{requests} requests for 11 commands");
        Ok(true)
    })?;

    let before = cluster.traffic().requests;
    cluster.run(ELECTION)?;
    let requests = cluster.traffic().requests - before;
    demand!(requests <= 3 * 20, "{requests} requests in a second without work");
    Ok(())
}
