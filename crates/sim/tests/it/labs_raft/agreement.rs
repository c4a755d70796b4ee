//! Agreement, also with some nodes out of reach, and what it costs (BasicAgree, RPCBytes,
//! FollowerFailure, LeaderFailure, FailAgree, FailNoAgree, ConcurrentStarts, Rejoin, Backup, Count).

use std::collections::BTreeSet;
use std::time::Duration;

use kontiki_sim::raft_cluster::RaftCluster;
use kontiki_sim::seeds::each_seed;
use kontiki_types::NodeId;

use super::{ELECTION, after, cluster, fresh};

#[test]
fn commands_get_the_positions_one_two_three() {
    each_seed("commands_get_the_positions_one_two_three", 10, |seed| {
        let mut cluster = cluster(3, seed);
        for position in 1..=3 {
            assert_eq!(cluster.committed(position), 0, "committed before it was proposed");
            let command = format!("{}", position * 100);
            assert_eq!(cluster.agree(&command, 3, false), position);
        }
    });
}

#[test]
fn each_command_crosses_to_each_node_once() {
    each_seed("each_command_crosses_to_each_node_once", 5, |seed| {
        let mut cluster = cluster(3, seed);
        cluster.agree("99", 3, false);
        let before = cluster.traffic().bytes;
        for at in 0..10u64 {
            let command = format!("{at}").repeat(5000);
            assert_eq!(cluster.agree(&command, 3, false), at + 2);
        }
        let sent = cluster.traffic().bytes - before;
        assert!(sent <= 3 * 50_000 + 50_000, "{sent} bytes for 50,000 of commands");
    });
}

#[test]
fn nothing_is_committed_without_followers() {
    each_seed("nothing_is_committed_without_followers", 10, |seed| {
        let mut cluster = cluster(3, seed);
        cluster.agree("101", 3, false);
        let leader = cluster.check_one_leader();
        cluster.disconnect(after(leader, 1, 3));
        cluster.agree("102", 2, false);
        cluster.run(ELECTION);
        cluster.agree("103", 2, false);

        let leader = cluster.check_one_leader();
        cluster.disconnect(after(leader, 1, 3));
        cluster.disconnect(after(leader, 2, 3));
        let (position, _) = cluster.start(leader, "104").expect("it does not know yet");
        assert_eq!(position, 4);
        cluster.run(2 * ELECTION);
        assert_eq!(cluster.committed(4), 0);
    });
}

#[test]
fn nothing_is_committed_after_two_of_three_leaders_are_lost() {
    each_seed("nothing_is_committed_after_two_of_three_leaders_are_lost", 10, |seed| {
        let mut cluster = cluster(3, seed);
        cluster.agree("101", 3, false);
        let first = cluster.check_one_leader();
        cluster.disconnect(first);
        cluster.agree("102", 2, false);
        cluster.agree("103", 2, false);
        let second = cluster.check_one_leader();
        cluster.disconnect(second);
        for node in cluster.node_ids() {
            cluster.start(node, "104");
        }
        cluster.run(2 * ELECTION);
        assert_eq!(cluster.committed(4), 0);
    });
}

#[test]
fn a_follower_that_was_away_catches_up() {
    each_seed("a_follower_that_was_away_catches_up", 10, |seed| {
        let mut cluster = cluster(3, seed);
        cluster.agree("101", 3, false);
        let away = after(cluster.check_one_leader(), 1, 3);
        cluster.disconnect(away);
        cluster.agree("102", 2, false);
        cluster.agree("103", 2, false);
        cluster.run(ELECTION);
        cluster.agree("104", 2, false);
        cluster.agree("105", 2, false);
        cluster.connect(away);
        cluster.agree("106", 3, true);
        cluster.run(ELECTION);
        cluster.agree("107", 3, true);
    });
}

#[test]
fn three_of_five_away_and_back() {
    each_seed("three_of_five_away_and_back", 10, |seed| {
        let mut cluster = cluster(5, seed);
        cluster.agree("10", 5, false);
        let leader = cluster.check_one_leader();
        let away = [1, 2, 3].map(|steps| after(leader, steps, 5));
        away.iter().for_each(|&node| cluster.disconnect(node));
        let (position, _) = cluster.start(leader, "20").expect("it does not know yet");
        assert_eq!(position, 2);
        cluster.run(2 * ELECTION);
        assert_eq!(cluster.committed(2), 0);

        away.iter().for_each(|&node| cluster.connect(node));
        let leader = cluster.check_one_leader();
        let (position, _) = cluster.start(leader, "30").expect("it leads");
        assert!((2..=3).contains(&position), "position {position}");
        cluster.agree("1000", 5, true);
    });
}

#[test]
fn five_proposals_at_once_are_all_committed() {
    each_seed("five_proposals_at_once_are_all_committed", 10, |seed| {
        let mut cluster = cluster(3, seed);
        let done = (0..5).any(|attempt| {
            if attempt > 0 {
                cluster.run(Duration::from_secs(3));
            }
            let leader = cluster.check_one_leader();
            let Some((_, term)) = cluster.start(leader, "1") else { return false };
            let mut positions = Vec::new();
            for at in 0..5 {
                match cluster.start(leader, &format!("{}", 100 + at)) {
                    Some((position, of)) if of == term => positions.push(position),
                    _ => return false,
                }
            }
            let mut commands = BTreeSet::new();
            for position in positions {
                match cluster.wait(position, 3, term) {
                    Some(command) => commands.insert(command),
                    None => return false,
                };
            }
            let expected = (0..5).map(|at| format!("{}", 100 + at).into_bytes()).collect();
            assert_eq!(commands, expected);
            true
        });
        assert!(done, "the term changed each time");
    });
}

#[test]
fn a_leaders_uncommitted_entries_are_overwritten() {
    each_seed("a_leaders_uncommitted_entries_are_overwritten", 10, |seed| {
        let mut cluster = cluster(3, seed);
        cluster.agree("101", 3, true);
        let first = cluster.check_one_leader();
        cluster.disconnect(first);
        for command in ["102", "103", "104"] {
            cluster.start(first, command);
        }
        cluster.agree("103", 2, true);
        let second = cluster.check_one_leader();
        cluster.disconnect(second);
        cluster.connect(first);
        cluster.agree("104", 2, true);
        cluster.connect(second);
        cluster.agree("105", 3, true);
    });
}

fn fifty(cluster: &mut RaftCluster, leader: NodeId) {
    for _ in 0..50 {
        let command = fresh(cluster);
        cluster.start(leader, &command);
    }
}

#[test]
fn long_conflicting_tails_are_backed_over_quickly() {
    each_seed("long_conflicting_tails_are_backed_over_quickly", 5, |seed| {
        let mut cluster = cluster(5, seed);
        let command = fresh(&mut cluster);
        cluster.agree(&command, 5, true);
        let first = cluster.check_one_leader();
        let ring = |steps| after(first, steps, 5);
        [2, 3, 4].into_iter().for_each(|steps| cluster.disconnect(ring(steps)));
        fifty(&mut cluster, first);
        cluster.run(ELECTION / 2);
        cluster.disconnect(first);
        cluster.disconnect(ring(1));

        [2, 3, 4].into_iter().for_each(|steps| cluster.connect(ring(steps)));
        for _ in 0..50 {
            let command = fresh(&mut cluster);
            cluster.agree(&command, 3, true);
        }
        let second = cluster.check_one_leader();
        let other = if second == ring(2) { ring(3) } else { ring(2) };
        cluster.disconnect(other);
        fifty(&mut cluster, second);
        cluster.run(ELECTION / 2);

        cluster.node_ids().into_iter().for_each(|node| cluster.disconnect(node));
        [first, ring(1), other].into_iter().for_each(|node| cluster.connect(node));
        for _ in 0..50 {
            let command = fresh(&mut cluster);
            cluster.agree(&command, 3, true);
        }
        cluster.node_ids().into_iter().for_each(|node| cluster.connect(node));
        let command = fresh(&mut cluster);
        cluster.agree(&command, 5, true);
    });
}

#[test]
fn requests_are_few() {
    each_seed("requests_are_few", 10, |seed| {
        let mut cluster = cluster(3, seed);
        let mut leader = cluster.check_one_leader();
        let for_election = cluster.traffic().requests;
        assert!((1..=30).contains(&for_election), "{for_election} requests for an election");

        let done = (0..5).any(|attempt| {
            if attempt > 0 {
                cluster.run(Duration::from_secs(3));
            }
            leader = cluster.check_one_leader();
            let before = cluster.traffic().requests;
            let Some((first, term)) = cluster.start(leader, "1") else { return false };
            for at in 1..=10 {
                let Some((position, of)) = cluster.start(leader, &format!("{at}")) else {
                    return false;
                };
                if of != term {
                    return false;
                }
                assert_eq!(position, first + at);
            }
            for at in 0..=10 {
                if cluster.wait(first + at, 3, term).is_none() {
                    return false;
                }
            }
            let requests = cluster.traffic().requests - before;
            assert!(requests <= (10 + 1 + 3) * 3, "{requests} requests for 11 commands");
            true
        });
        assert!(done, "the term changed each time");

        let before = cluster.traffic().requests;
        cluster.run(ELECTION);
        let requests = cluster.traffic().requests - before;
        assert!(requests <= 3 * 20, "{requests} requests in a second without work");
    });
}
