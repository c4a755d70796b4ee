//! Groups that rest: when they may, what wakes them, and that nothing else changes.

use kontiki_raft::{AppendResult, Body, Config, Lease, Role};
use kontiki_types::{Index, Instant, NodeId};

use crate::cluster::{Cluster, isolate, log_id, ms, n};

fn resting(nodes: &[u64], voters: &[u64]) -> Cluster {
    let mut cluster = idle(nodes, voters, |_| {});
    assert_rests(&mut cluster, voters);
    cluster
}

/// A group of which 1 leads, that has had nothing to do for a second.
fn idle(nodes: &[u64], voters: &[u64], configure: impl Fn(&mut Config)) -> Cluster {
    let mut cluster = Cluster::with(nodes, voters, |config| {
        config.quiesce_after = Some(ms(200));
        configure(config);
    });
    begin(&mut cluster);
    cluster
}

fn begin(cluster: &mut Cluster) {
    cluster.elect(1);
    cluster.propose(1, "a");
    cluster.run_all(ms(1_000));
}

fn assert_rests(cluster: &mut Cluster, nodes: &[u64]) {
    for &node in nodes {
        assert!(cluster.raft(node).is_quiet(), "n{node} is awake");
        assert!(cluster.status(node).quiet);
    }
    assert_eq!(cluster.next_deadline(), Some(Instant::MAX), "a timer runs");
    assert!(cluster.net.is_empty(), "somebody said something");
}

#[test]
fn it_is_off_by_default() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.run_all(ms(60_000));
    assert!(!cluster.raft(1).is_quiet());
    assert!(cluster.next_deadline() < Some(Instant::MAX));
}

#[test]
fn an_idle_group_rests_and_says_nothing_for_an_hour() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    let before = cluster.trace.len();
    cluster.run_all(ms(3_600_000));
    assert_eq!(cluster.trace.len(), before);
    assert_eq!(cluster.raft(1).role(), Role::Leader);
}

#[test]
fn not_before_the_time_that_was_set() {
    let mut cluster = idle(&[1, 2, 3], &[1, 2, 3], |config| config.quiesce_after = Some(ms(1_500)));
    assert!(!cluster.raft(1).is_quiet() && !cluster.raft(2).is_quiet());
    cluster.run_all(ms(600));
    assert_rests(&mut cluster, &[1, 2, 3]);
}

#[test]
fn a_group_of_one_rests() {
    resting(&[1], &[1]);
}

#[test]
fn a_learner_rests_too_and_a_learner_that_is_away_keeps_the_group_awake() {
    let mut cluster = resting(&[1, 2, 3, 4], &[1, 2, 3]);
    cluster.change(1, &[1, 2, 3], &[4]);
    cluster.run(ms(2_000), isolate(4));
    assert!(!cluster.raft(1).is_quiet());
    cluster.run_all(ms(1_000));
    assert_rests(&mut cluster, &[1, 2, 3, 4]);
}

#[test]
fn a_member_that_is_away_keeps_the_group_awake() {
    let mut cluster = idle(&[1, 2, 3], &[1, 2, 3], |config| config.quiesce_after = Some(ms(1_500)));
    cluster.run(ms(60_000), isolate(3));
    assert!(!cluster.raft(1).is_quiet() && !cluster.raft(2).is_quiet());
}

#[test]
fn a_proposal_wakes_everybody_and_is_committed_everywhere() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    let id = cluster.propose(1, "b");
    cluster.deliver_all();
    for node in 1..=3 {
        assert!(!cluster.raft(node).is_quiet());
        assert_eq!(cluster.status(node).commit, id.index);
    }
    cluster.run_all(ms(1_000));
    assert_rests(&mut cluster, &[1, 2, 3]);
}

#[test]
fn a_proposal_that_is_lost_is_made_good() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    let id = cluster.propose(1, "b");
    cluster.net.clear();
    cluster.run_all(ms(100));
    assert_eq!(cluster.status(3).commit, id.index);
}

#[test]
fn a_read_after_rest_asks_a_majority() {
    for lease in [None, Some(Lease { drift_ppm: 0 })] {
        let mut cluster = idle(&[1, 2, 3], &[1, 2, 3], |config| config.lease = lease);
        assert_rests(&mut cluster, &[1, 2, 3]);
        cluster.read(1, 7);
        assert!(cluster.node(1).reads.is_empty(), "answered without asking");
        cluster.deliver(isolate(1));
        assert!(cluster.node(1).reads.is_empty(), "answered without an answer");
        cluster.run_all(ms(100));
        assert_eq!(cluster.node(1).reads, [(7, Some(Index(2)))], "the next round tells");
    }
}

/// (PROTOCOL 5: a lease counts from a heartbeat that a majority has confirmed.)
#[test]
fn who_rests_holds_no_lease() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[1, 2, 3], |config| {
        config.quiesce_after = Some(ms(200));
        config.lease = Some(Lease { drift_ppm: 0 });
    });
    cluster.elect(1);
    while !cluster.raft(1).is_quiet() {
        cluster.run_all(ms(1));
    }
    let now = cluster.now;
    assert!(!cluster.raft(1).holds_lease(now));
    cluster.raft(1).wake(now);
    assert!(!cluster.raft(1).holds_lease(now));
    cluster.run_all(ms(100));
    let now = cluster.now;
    assert!(cluster.raft(1).holds_lease(now));
}

#[test]
fn a_read_at_a_follower_wakes_the_leader() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    cluster.read(3, 7);
    assert!(!cluster.raft(3).is_quiet());
    cluster.deliver_all();
    assert_eq!(cluster.node(3).reads, [(7, Some(Index(2)))]);
    assert!(!cluster.raft(1).is_quiet());
}

#[test]
fn a_leader_that_is_gone_is_missed_as_soon_as_somebody_needs_it() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    cluster.crash_node(1);
    // Not even the owner knows: nobody watches in here.
    cluster.read(3, 7);
    for _ in 0..20 {
        cluster.deliver_all();
        let next = cluster.next_deadline().unwrap();
        cluster.now = cluster.now.max(next);
        (0..3).for_each(|at| cluster.tick_at(at));
    }
    assert!(cluster.leader().is_some_and(|leader| leader != n(1)));
}

#[test]
fn whoever_is_not_in_the_named_state_does_not_rest() {
    let wrong = [
        (log_id(3, 1), 2), // A log that goes on.
        (log_id(2, 2), 2), // Another one.
        (log_id(1, 1), 1), // A shorter one.
        (log_id(2, 1), 1), // Not all committed.
        (log_id(2, 1), 3),
    ];
    for (last, commit) in wrong {
        let mut cluster = Cluster::new(&[1, 2, 3]);
        cluster.elect(1);
        cluster.propose(1, "a");
        cluster.deliver_all();
        let body = Body::Quiesce { session: 1, last, commit: Index(commit), round: 9 };
        let replies = cluster.inject(1, 2, 1, body);
        assert!(
            matches!(replies[..], [ref one] if matches!(one.body, Body::HeartbeatReply { .. }))
        );
        assert!(!cluster.raft(2).is_quiet(), "{last} {commit}");
        assert!(cluster.raft(2).next_deadline() < Instant::MAX);
    }
}

#[test]
fn whoever_rests_and_is_named_another_state_wakes() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    let body = Body::Quiesce { session: 1, last: log_id(3, 1), commit: Index(3), round: 99 };
    cluster.inject(1, 2, 1, body);
    assert!(!cluster.raft(2).is_quiet());
}

#[test]
fn a_follower_with_an_unsynced_entry_does_not_rest() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.auto.persist = false;
    let last = cluster.propose(1, "a");
    cluster.deliver_all();
    cluster.persist_all(1);
    cluster.persist_all(3);
    cluster.deliver_all();
    let body = Body::Quiesce { session: 1, last, commit: last.index, round: 9 };
    let replies = cluster.inject(1, 2, 1, body);
    assert!(matches!(replies[..], [ref one] if matches!(one.body, Body::HeartbeatReply { .. })));
    assert!(!cluster.raft(2).is_quiet());
}

#[test]
fn one_that_does_not_rest_wakes_those_that_do() {
    let mut cluster = idle(&[1, 2, 3], &[1, 2, 3], |config| config.quiesce_after = Some(ms(1_500)));
    let now = cluster.now;
    cluster.raft(3).keep_awake(now, true);
    cluster.run_all(ms(60_000));
    assert!((1..=3).all(|node| !cluster.raft(node).is_quiet()));
    assert_eq!(cluster.status(1).term.0, 1);
    let now = cluster.now;
    cluster.raft(3).keep_awake(now, false);
    cluster.run_all(ms(3_000));
    assert_rests(&mut cluster, &[1, 2, 3]);
}

#[test]
fn an_owner_that_needs_a_follower_wakes_the_group() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    let now = cluster.now;
    cluster.raft(2).keep_awake(now, true);
    let at = cluster.at(n(2));
    cluster.drain(at);
    cluster.run_all(ms(10_000));
    assert!(!cluster.raft(1).is_quiet());
    assert_eq!((cluster.leader(), cluster.status(1).term.0), (Some(n(1)), 1));
}

#[test]
fn silence_of_the_leaders_node_leads_to_an_election_in_time() {
    for seed in 1..40 {
        let mut cluster = Cluster::with(&[1, 2, 3], &[1, 2, 3], |config| {
            config.quiesce_after = Some(ms(200));
        })
        .seed(seed);
        begin(&mut cluster);
        assert_rests(&mut cluster, &[1, 2, 3]);
        cluster.crash_node(1);
        let start = cluster.now;
        // `run` tells them.
        while cluster.leader().is_none_or(|leader| leader == n(1)) {
            cluster.run_all(ms(1));
            assert!(cluster.now.since(start) < ms(400), "nobody leads");
        }
    }
}

#[test]
fn without_silence_nobody_who_rests_misses_anything() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    cluster.crash_node(1);
    assert_eq!(cluster.next_deadline(), Some(Instant::MAX));
}

#[test]
fn a_false_alarm_replaces_nobody() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    for node in [2, 3] {
        let now = cluster.now;
        cluster.raft(node).peer_down(now, n(1));
        let at = cluster.at(n(node));
        cluster.drain(at);
    }
    assert!(cluster.next_deadline() < Some(Instant::MAX));
    cluster.run_all(ms(3_000));
    assert_eq!((cluster.leader(), cluster.status(1).term.0), (Some(n(1)), 1));
    assert_rests(&mut cluster, &[1, 2, 3]);
}

#[test]
fn silence_of_another_node_wakes_nobody() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    let now = cluster.now;
    cluster.raft(2).peer_down(now, n(3));
    cluster.raft(1).peer_down(now, n(3));
    assert_rests(&mut cluster, &[1, 2, 3]);
}

#[test]
fn a_follower_that_was_started_again_replaces_nobody() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    cluster.crash_node(3);
    cluster.start_node(3);
    cluster.run_all(ms(3_000));
    assert_eq!((cluster.leader(), cluster.status(1).term.0), (Some(n(1)), 1));
    assert_rests(&mut cluster, &[1, 2, 3]);
}

/// Nobody has noticed that it was away: its own timer brings the group a leader.
#[test]
fn a_leader_that_was_started_again_is_given_votes() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    cluster.crash_node(1);
    cluster.start_node(1);
    let start = cluster.now;
    // Nobody watches in here.
    while cluster.leader().is_none() {
        cluster.deliver_all();
        let next = cluster.next_deadline().unwrap();
        cluster.now = cluster.now.max(next);
        (0..3).for_each(|at| cluster.tick_at(at));
    }
    assert_eq!(cluster.leader(), Some(n(1)));
    assert!(cluster.now.since(start) < ms(1_000));
}

/// Its messages to the leader are lost, and those from it; the third knows that the leader is well.
#[test]
fn a_follower_that_is_cut_off_from_the_leader_alone_replaces_nobody() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    let lost = |from: kontiki_types::Member, to: kontiki_types::Member| {
        let ends = (from.node, to.node);
        ends == (NodeId(1), NodeId(3)) || ends == (NodeId(3), NodeId(1))
    };
    cluster.run(ms(20_000), lost);
    assert_eq!((cluster.leader(), cluster.status(1).term.0), (Some(n(1)), 1));
}

#[test]
fn a_stranger_wakes_nobody() {
    let mut cluster = resting(&[1, 2, 3, 4], &[1, 2, 3]);
    let last = log_id(9, 9);
    for (term, body) in [
        (2, Body::PreVote { last }),
        (2, Body::Vote { last, transfer: false }),
        (1, Body::Wake),
        (1, Body::AppendReply { session: 1, result: AppendResult::Full }),
    ] {
        for node in 1..=3 {
            cluster.inject(4, node, term, body.clone());
            assert!(cluster.raft(node).is_quiet(), "{body:?} woke n{node}");
        }
    }
    assert_eq!(cluster.status(2).term.0, 1);
}

#[test]
fn what_is_of_an_old_term_wakes_nobody() {
    let mut cluster = idle(&[1, 2, 3], &[1, 2, 3], |_| {});
    let now = cluster.now;
    cluster.raft(1).transfer(now, NodeId(2)).unwrap();
    cluster.drain(0);
    cluster.run_all(ms(2_000));
    assert_rests(&mut cluster, &[1, 2, 3]);
    let body = Body::Heartbeat { session: 1, commit: Index(2), round: 5 };
    cluster.inject(1, 3, 1, body);
    assert!(cluster.raft(3).is_quiet());
}

#[test]
fn a_group_that_rests_can_be_handed_over() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    let now = cluster.now;
    cluster.raft(1).transfer(now, NodeId(3)).unwrap();
    cluster.drain(0);
    cluster.deliver_all();
    assert_eq!(cluster.leader(), Some(n(3)));
    cluster.run_all(ms(2_000));
    assert_rests(&mut cluster, &[1, 2, 3]);
}

#[test]
fn a_change_wakes_and_who_leaves_is_told_before_the_group_rests() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    cluster.change(1, &[1, 2], &[]);
    cluster.run_all(ms(3_000));
    assert_eq!(cluster.raft(3).role(), Role::Removed);
    assert!(cluster.raft(1).is_quiet() && cluster.raft(2).is_quiet());
}

#[test]
fn a_leader_that_has_woken_without_a_majority_steps_down() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    cluster.run(ms(10_000), isolate(1));
    assert_eq!(cluster.raft(1).role(), Role::Leader, "it rests, and knows nothing");
    assert!(cluster.status(2).term.0 > 1, "the others were told");
    let now = cluster.now;
    cluster.raft(1).read(now, 7).unwrap();
    cluster.drain(0);
    cluster.run(ms(1_000), isolate(1));
    assert_ne!(cluster.raft(1).role(), Role::Leader);
    assert_eq!(cluster.node(1).reads, [(7, None)]);
}

/// A group must not be driven to the same timers by its ticks: a driver may tick all it has.
#[test]
fn ticks_wake_nobody() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    cluster.now = cluster.now + ms(10_000);
    for node in 1..=3 {
        let now = cluster.now;
        cluster.raft(node).tick(now);
        let at = cluster.at(n(node));
        cluster.drain(at);
    }
    assert_rests(&mut cluster, &[1, 2, 3]);
}

#[test]
fn a_log_that_is_compacted_at_rest_wakes_nobody() {
    let mut cluster = resting(&[1, 2, 3], &[1, 2, 3]);
    cluster.compact(2);
    cluster.compact(1);
    assert_rests(&mut cluster, &[1, 2, 3]);
    assert_eq!(cluster.status(1).first, Index(3));
}

#[test]
fn aligned_heartbeats_of_groups_coincide() {
    let mut moments = Vec::new();
    for offset in [0, 7, 23] {
        let mut cluster = Cluster::with(&[1, 2, 3], &[1, 2, 3], |config| {
            config.align_heartbeats = true;
        });
        cluster.now = cluster.now + ms(offset);
        cluster.elect(1);
        cluster.run_all(ms(100));
        let at = cluster.raft(1).next_deadline();
        assert_eq!(at.0 % 30_000, 0);
        moments.push(at.0);
    }
    assert!(moments.iter().all(|at| at % 30_000 == 0));
}
