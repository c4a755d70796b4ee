//! Thesis §6.4, PROTOCOL 5 and 7: linearizable reads.

use kontiki_raft::{Body, Lease, Reason};
use kontiki_types::Index;

use crate::cluster::{Cluster, isolate, ms, n};

fn leased(drift_ppm: u32) -> Cluster {
    Cluster::with(&[1, 2, 3], &[1, 2, 3], |config| config.lease = Some(Lease { drift_ppm }))
}

/// One round of heartbeats confirms all reads that wait.
#[test]
fn one_round_serves_all_waiting_reads() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    let now = cluster.now;
    for token in 0..100 {
        cluster.raft(1).read(now, token).unwrap();
    }
    cluster.drain(0);
    assert_eq!(cluster.net.len(), 2);
    cluster.deliver_all();
    assert_eq!(cluster.node(1).reads.len(), 100);
    assert!(cluster.node(1).reads.iter().all(|(_, index)| *index == Some(Index(1))));
}

/// §8: no read index before an entry of the leader's own term is committed.
#[test]
fn no_read_before_the_leader_knows_the_commit_index() {
    for lease in [false, true] {
        let mut cluster = if lease { leased(0) } else { Cluster::new(&[1, 2, 3]) };
        cluster.elect(1);
        cluster.crash_node(1);
        cluster.win(2);
        cluster.net.retain(|message| !matches!(message.body, Body::Append { .. }));
        cluster.read(2, 7);
        let heartbeats = |cluster: &Cluster| {
            cluster.net.iter().any(|message| matches!(message.body, Body::Heartbeat { .. }))
        };
        assert!(!heartbeats(&cluster));
        cluster.deliver_all();
        assert!(cluster.node(2).reads.is_empty());
        cluster.run_all(ms(100));
        assert_eq!(cluster.node(2).reads, [(7, Some(Index(2)))]);
    }
}

/// A leader that was replaced, and does not know, answers no read.
#[test]
fn a_deposed_leader_answers_no_read() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.run(ms(200), isolate(1));
    cluster.read(1, 1);
    cluster.run(ms(400), isolate(1));
    assert_ne!(cluster.leader(), Some(n(1)));
    assert_eq!(cluster.node(1).reads, [(1, None)]);
}

/// Rounds confirm only what was asked before they were sent.
#[test]
fn an_answer_to_an_earlier_round_confirms_nothing() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.run_all(ms(31));
    cluster.now = cluster.now + ms(30);
    cluster.tick_at(0);
    cluster.deliver(|_, to| to == n(1));
    let old = cluster.status(1);
    cluster.read(1, 1);
    cluster.net.clear();
    let reply =
        Body::HeartbeatReply { session: 1, round: 1, received: old.commit, matched: old.commit };
    cluster.inject(2, 1, 1, reply);
    assert!(cluster.node(1).reads.is_empty());
}

/// Followers ask the leader, all waiting reads in one message.
#[test]
fn followers_read_by_asking_the_leader() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.propose(1, "a");
    cluster.deliver_all();
    let now = cluster.now;
    for token in 0..10 {
        cluster.raft(3).read(now, token).unwrap();
    }
    cluster.drain(2);
    assert_eq!(cluster.waiting(3, 1).len(), 1);
    cluster.deliver_all();
    assert_eq!(cluster.node(3).reads.len(), 10);
    assert!(cluster.node(3).reads.iter().all(|(_, index)| *index == Some(Index(2))));
}

/// Learners, too.
#[test]
fn learners_read() {
    let mut cluster = Cluster::with(&[1, 2, 3, 4], &[1, 2, 3], |_| {});
    cluster.elect(1);
    cluster.change(1, &[1, 2, 3], &[4]);
    cluster.run_all(ms(100));
    cluster.read(4, 1);
    cluster.deliver_all();
    assert!(matches!(cluster.node(4).reads[..], [(1, Some(_))]));
}

/// A question or its answer may get lost: it is asked again, and given up after a while.
#[test]
fn a_forwarded_read_survives_a_loss_and_ends_in_any_case() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.read(3, 1);
    cluster.net.clear();
    cluster.run_all(ms(40));
    assert!(matches!(cluster.node(3).reads[..], [(1, Some(_))]));
    cluster.read(3, 2);
    cluster.run(ms(400), isolate(3));
    assert!(matches!(cluster.node(3).reads[..], [_, (2, None)]));
    let now = cluster.now;
    let refused = cluster.raft(3).read(now, 3).unwrap_err();
    assert_eq!(refused.reason, Reason::NotLeader { leader: None });
}

/// The answer to a question of an earlier life would name an index that is too low.
#[test]
fn an_answer_from_before_a_restart_is_ignored() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.read(3, 1);
    cluster.deliver(|from, to| from == n(1) && to == n(3));
    let late: Vec<_> =
        cluster.trace.iter().filter(|line| line.contains("ReadIndexReply")).collect();
    assert_eq!(late.len(), 1);
    cluster.crash_node(3);
    cluster.start_node(3);
    cluster.run_all(ms(100));
    cluster.read(3, 2);
    cluster.net.clear();
    for id in 0..10 {
        let answer = Body::ReadIndexReply { id, index: Some(Index(1)) };
        cluster.inject(1, 3, 1, answer);
    }
    assert!(cluster.node(3).reads.is_empty());
}

/// Reads that wait are bounded.
#[test]
fn waiting_reads_are_bounded() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[1, 2, 3], |config| config.max_waiting_reads = 3);
    cluster.elect(1);
    let now = cluster.now;
    for node in [1, 2] {
        for token in 0..3 {
            cluster.raft(node).read(now, token).unwrap();
        }
        assert_eq!(cluster.raft(node).read(now, 9).unwrap_err().reason, Reason::Full);
    }
}

/// Under a lease no message is needed, until it runs out.
#[test]
fn a_lease_serves_reads_without_messages() {
    let mut cluster = leased(10_000);
    cluster.elect(1);
    cluster.run_all(ms(40));
    cluster.net.clear();
    cluster.read(1, 1);
    assert!(cluster.net.is_empty());
    assert_eq!(cluster.node(1).reads, [(1, Some(Index(1)))]);
    // The last round was confirmed at most 40 ms ago; 150 ms / 1.01 later it is over.
    cluster.now = cluster.now + ms(149);
    cluster.read(1, 2);
    assert_eq!(cluster.node(1).reads.len(), 1);
    assert_eq!(cluster.net.len(), 2, "and a round is opened instead");
}

/// PROTOCOL 5: a lease counts from when the confirmed heartbeat was sent, not from its answer.
#[test]
fn a_lease_counts_from_the_sending() {
    let mut cluster = leased(0);
    cluster.elect(1);
    cluster.run_all(ms(31));
    cluster.net.clear();
    cluster.now = cluster.now + ms(30);
    cluster.tick_at(0);
    // The answers take 149 ms.
    cluster.now = cluster.now + ms(149);
    cluster.deliver_all();
    cluster.read(1, 1);
    assert_eq!(cluster.node(1).reads.len(), 1);
    cluster.now = cluster.now + ms(1);
    cluster.read(1, 2);
    assert_eq!(cluster.node(1).reads.len(), 1);
}

/// PROTOCOL 5: a lease is given up, for good in the term, before another is asked to campaign.
#[test]
fn a_lease_ends_with_a_transfer() {
    let mut cluster = leased(0);
    cluster.elect(1);
    cluster.run_all(ms(31));
    let now = cluster.now;
    cluster.raft(1).transfer(now, 2.into()).unwrap();
    cluster.drain(0);
    assert!(cluster.net.iter().any(|message| message.body == Body::TimeoutNow));
    cluster.net.clear();
    cluster.read(1, 1);
    assert!(cluster.node(1).reads.is_empty());
    // Also when nothing comes of the transfer.
    cluster.run_all(ms(400));
    assert_eq!(cluster.leader(), Some(n(1)));
    cluster.net.clear();
    cluster.read(1, 2);
    assert_eq!(cluster.net.len(), 2);
}

/// PROTOCOL 7: reads need both majorities of a joint configuration.
#[test]
fn reads_need_both_majorities() {
    let mut cluster = Cluster::with(&[1, 2, 3, 4, 5], &[1, 2, 3], |_| {});
    cluster.elect(1);
    cluster.change(1, &[1, 4, 5], &[]);
    cluster.deliver(|_, to| to.node.0 >= 4);
    assert!(cluster.status(1).membership.is_joint());
    cluster.read(1, 1);
    cluster.deliver(|_, to| to.node.0 >= 4);
    assert!(cluster.node(1).reads.is_empty(), "2 and 3 are a majority of the old voters only");
    cluster.run_all(ms(100));
    assert!(matches!(cluster.node(1).reads[..], [(1, Some(_))]));
}

/// A random schedule found reads that waited for ever: the others left the group while a round was
/// open, so that nobody was left to answer it, and nobody's answer was needed any more.
#[test]
fn a_round_is_confirmed_by_a_change_of_configuration() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.elect(1);
    cluster.change(1, &[1], &[]);
    cluster.read(1, 1);
    // n2 acknowledges the change, and its answers to the round are lost.
    while let Some(message) = cluster.net.front() {
        match message.body {
            Body::HeartbeatReply { .. } => drop(cluster.net.pop_front()),
            _ => cluster.deliver_at(0),
        }
    }
    assert_eq!(cluster.status(1).membership.voters, [n(1)]);
    assert!(matches!(cluster.node(1).reads[..], [(1, Some(_))]));
}
