//! Paper §5.3, §5.4.2; thesis §10.2: replication, conflicts, commitment, flow control.

use kontiki_raft::{AppendResult, Body, Entry, EntryData, Lease, Membership, Reason};
use kontiki_types::Index;

use crate::cluster::{Cluster, isolate, log_id, ms, n};

fn led_by_1() -> Cluster {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster
}

fn entry(index: u64, term: u64, command: &str) -> Entry<Vec<u8>> {
    Entry { id: log_id(index, term), data: EntryData::Command(command.into()) }
}

fn append(prev: (u64, u64), commit: u64, entries: Vec<Entry<Vec<u8>>>) -> Body<Vec<u8>> {
    let prev = log_id(prev.0, prev.1);
    Body::Append { session: 1, prev, commit: commit.into(), entries: entries.into() }
}

/// §5.3: a command goes to all, and is applied by all once a majority has it.
#[test]
fn entries_are_applied_everywhere() {
    let mut cluster = led_by_1();
    cluster.propose(1, "a");
    cluster.propose(1, "b");
    cluster.deliver_all();
    assert_eq!(cluster.commands(), [2, 2, 2]);
}

/// §5.3: the leader retries until a follower has everything.
#[test]
fn a_follower_that_was_away_catches_up() {
    let mut cluster = led_by_1();
    for command in 0..10 {
        cluster.propose(1, &command.to_string());
        cluster.deliver(isolate(3));
    }
    assert_eq!(cluster.commands(), [10, 10, 0]);
    cluster.run_all(ms(100));
    assert_eq!(cluster.commands(), [10, 10, 10]);
    assert_eq!(cluster.leader(), Some(n(1)));
}

/// §5.2: heartbeats are for idle periods. Where all answer appends there are none; one that does not
/// answer, or silence, brings them back, and a lease needs them all the time.
#[test]
fn appends_that_are_answered_take_the_place_of_heartbeats() {
    let heartbeats = |cluster: &Cluster| {
        cluster.trace.iter().filter(|line| line.contains(" Heartbeat ")).count()
    };
    for lease in [false, true] {
        let mut cluster = Cluster::with(&[1, 2, 3], &[1, 2, 3], |config| {
            config.lease = lease.then_some(Lease { drift_ppm: 0 });
        });
        cluster.elect(1);
        let mut sent = heartbeats(&cluster);
        let mut since = |cluster: &Cluster| {
            let before = std::mem::replace(&mut sent, heartbeats(cluster));
            sent - before
        };
        for command in 0..60 {
            cluster.propose(1, &command.to_string());
            cluster.run_all(ms(5));
        }
        let while_answered = since(&cluster);
        assert!(if lease { while_answered >= 18 } else { while_answered <= 2 }, "{while_answered}");
        for command in 0..60 {
            cluster.propose(1, &command.to_string());
            cluster.run(ms(5), isolate(3));
        }
        assert!(since(&cluster) >= 18);
        cluster.run_all(ms(300));
        assert!(since(&cluster) >= 18);
        assert_eq!((cluster.leader(), cluster.commands()), (Some(n(1)), vec![120; 3]));
    }
}

/// Proposals that come between two drains share one append per follower.
#[test]
fn proposals_travel_together() {
    let mut cluster = led_by_1();
    let now = cluster.now;
    for command in 0..64u8 {
        cluster.raft(1).propose(now, vec![command]).unwrap();
    }
    cluster.drain(0);
    for follower in [2, 3] {
        let messages = cluster.waiting(1, follower);
        assert!(matches!(&messages[..], [message]
            if matches!(&message.body, Body::Append { entries, .. } if entries.len() == 64)));
    }
}

/// §5.3, and followers that answer clients of their own: news of a commit do not wait for a timer.
#[test]
fn followers_learn_of_a_commit_at_once() {
    let mut cluster = led_by_1();
    let before = cluster.now;
    cluster.propose(1, "a");
    cluster.deliver_all();
    assert_eq!(cluster.now, before);
    assert_eq!(cluster.commands(), [1, 1, 1]);
}

/// §5.4.2, Figure 8: an entry of an older term is not committed by counting replicas, but together
/// with one of the leader's own.
#[test]
fn only_an_entry_of_the_own_term_commits() {
    let mut cluster = led_by_1();
    cluster.propose(1, "old");
    cluster.crash_node(1);
    cluster.net.clear();
    cluster.start_node(1);
    cluster.win(1);
    // Its appends of the old entry (2@1) and of its own (3@2) are on their way; a follower
    // acknowledges the first alone.
    cluster.net.clear();
    let old = Entry { id: log_id(2, 1), data: EntryData::Command(b"old".to_vec()) };
    let replies = cluster.inject(1, 2, 2, append((1, 1), 0, vec![old]));
    cluster.net.extend(replies);
    cluster.deliver_at(0);
    cluster.net.clear();
    assert_eq!(cluster.status(1).peers[0].matched, Index(2));
    assert_eq!(cluster.status(1).commit, Index(0), "2@1 is on a majority, and not committed");
    cluster.run_all(ms(100));
    assert_eq!(cluster.status(1).commit, Index(3));
    assert_eq!(cluster.commands(), [1, 1, 1]);
}

/// Figure 8 as in the paper: the old entry was on a majority, and is overwritten all the same.
#[test]
fn an_older_entry_on_a_majority_can_be_overwritten() {
    let mut cluster = Cluster::new(&[1, 2, 3, 4, 5]);
    cluster.elect(1);
    cluster.propose(1, "old");
    cluster.deliver(|_, to| to.node.0 >= 3);
    cluster.crash_node(1);
    // 5 leads in term 2, with the votes of 3 and 4; its entry stays at home.
    cluster.win(5);
    cluster.crash_node(5);
    cluster.net.clear();
    // 1 leads in term 3; 3 gets the old entry, nobody the new one.
    cluster.start_node(1);
    cluster.win(1);
    cluster.net.clear();
    let old = Entry { id: log_id(2, 1), data: EntryData::Command(b"old".to_vec()) };
    cluster.inject(1, 3, 3, append((1, 1), 1, vec![old]));
    cluster.net.clear();
    assert_eq!(cluster.node(3).disk.last(), log_id(2, 1));
    // 1 crashes, 5 comes back: 2@2 is later than 2@1, so it wins, and overwrites.
    cluster.crash_node(1);
    cluster.start_node(5);
    cluster.now = cluster.now + ms(600);
    cluster.elect(5);
    cluster.start_node(1);
    cluster.run_all(ms(500));
    assert_eq!(cluster.leader(), Some(n(5)));
    assert_eq!(cluster.raft(1).term_at(Index(2)).unwrap().0, 2);
    assert_eq!(cluster.commands(), [0, 0, 0, 0, 0]);
}

/// §5.3: a follower without `prev` rejects, and says how far the logs can agree.
#[test]
fn a_gap_is_rejected_with_a_hint() {
    let mut cluster = led_by_1();
    let replies = cluster.inject(1, 2, 1, append((9, 1), 0, vec![entry(10, 1, "x")]));
    let expected = AppendResult::Rejected { prev: Index(9), hint: log_id(1, 1) };
    assert!(matches!(&replies[..], [reply]
        if matches!(reply.body, Body::AppendReply { result, .. } if result == expected)));
}

/// §5.3: entries that conflict are replaced, and all that follow them.
#[test]
fn a_conflict_truncates() {
    let mut cluster = led_by_1();
    cluster.inject(1, 2, 1, append((1, 1), 1, vec![entry(2, 1, "a"), entry(3, 1, "b")]));
    assert_eq!(cluster.status(2).last, log_id(3, 1));
    cluster.inject(3, 2, 2, append((1, 1), 1, vec![entry(2, 2, "c")]));
    assert_eq!(cluster.status(2).last, log_id(2, 2));
    assert_eq!(cluster.node(2).disk.last(), log_id(2, 2));
}

/// §5.3: an append that was overtaken holds less than is there, and takes nothing away.
#[test]
fn an_overtaken_append_truncates_nothing() {
    let mut cluster = led_by_1();
    cluster.inject(1, 2, 1, append((1, 1), 1, vec![entry(2, 1, "a"), entry(3, 1, "b")]));
    cluster.inject(1, 2, 1, append((1, 1), 1, vec![entry(2, 1, "a")]));
    cluster.inject(1, 2, 1, append((1, 1), 1, vec![]));
    assert_eq!(cluster.status(2).last, log_id(3, 1));
}

/// Figure 2: the commit index is no higher than the last entry the message vouches for.
#[test]
fn a_follower_commits_only_what_the_leader_vouches_for() {
    let mut cluster = led_by_1();
    cluster.crash_node(3);
    cluster.inject(1, 2, 1, append((1, 1), 1, vec![entry(2, 1, "mine"), entry(3, 1, "mine")]));
    // A new leader, whose log is the same only up to 1, has committed its own entries up to 9.
    cluster.inject(3, 2, 2, append((1, 1), 1, vec![]));
    cluster.inject(3, 2, 2, Body::Heartbeat { session: 1, commit: 9.into(), round: 1 });
    cluster.inject(3, 2, 2, Body::Commit { commit: 9.into() });
    assert_eq!(cluster.status(2).commit, Index(1));
}

/// End of §5.3: whole terms of conflicting entries are skipped at once.
#[test]
fn a_long_conflict_takes_few_messages() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    for command in 0..50 {
        cluster.propose(1, &format!("lost {command}"));
        cluster.net.clear();
    }
    cluster.crash_node(1);
    cluster.elect(2);
    for command in 0..50 {
        cluster.propose(2, &format!("kept {command}"));
        cluster.deliver_all();
    }
    cluster.start_node(1);
    cluster.trace.clear();
    cluster.run_all(ms(200));
    assert_eq!(cluster.commands(), [50, 50, 50]);
    let rejected = cluster.trace.iter().filter(|line| line.contains("Rejected")).count();
    assert!(rejected <= 3, "{rejected} rejections");
}

/// What raft-rs 0.7 gets wrong with `batch_append`: an empty append that waits must not be extended
/// by entries that do not follow its `prev`. Here appends are made when they are sent, and what does
/// not follow is refused: no acknowledgement may name an entry that is not there.
#[test]
fn entries_that_do_not_follow_prev_are_dropped() {
    let mut cluster = led_by_1();
    for wrong in [
        append((1, 1), 1, vec![entry(3, 1, "gap")]),
        append((1, 1), 1, vec![entry(1, 1, "again")]),
        append((1, 1), 1, vec![entry(2, 1, "a"), entry(4, 1, "hole")]),
        append((1, 1), 1, vec![entry(2, 0, "older than prev")]),
        append((1, 1), 1, vec![entry(2, 2, "newer than the leader")]),
        append(
            (1, 1),
            1,
            vec![
                entry(2, 1, "a"),
                Entry {
                    id: log_id(3, 1),
                    data: EntryData::Membership(
                        Membership { voters: vec![n(2), n(1)], ..Membership::default() }.into(),
                    ),
                },
            ],
        ),
    ] {
        assert!(cluster.inject(1, 2, 1, wrong).is_empty());
        assert_eq!(cluster.status(2).last, log_id(1, 1));
    }
    assert_eq!(cluster.status(2).dropped_messages, 6);
}

/// Election Safety makes this impossible; a message that claims it anyway is left alone.
#[test]
fn a_second_leader_in_the_same_term_is_not_believed() {
    let mut cluster = led_by_1();
    assert!(cluster.inject(3, 2, 1, append((1, 1), 1, vec![entry(2, 1, "x")])).is_empty());
    assert!(cluster.inject(3, 1, 1, append((1, 1), 1, vec![entry(2, 1, "x")])).is_empty());
    assert_eq!(cluster.status(2).last, log_id(1, 1));
}

/// An append or its answer may get lost with nothing after it: the next heartbeat finds out.
#[test]
fn losses_without_successors_are_found_by_a_heartbeat() {
    for lost in [n(2), n(1)] {
        let mut cluster = Cluster::new(&[1, 2]);
        cluster.elect(1);
        cluster.propose(1, "a");
        cluster.deliver(|_, to| to == lost);
        assert_eq!(cluster.commands(), [0, 0]);
        cluster.run_all(ms(40));
        assert_eq!(cluster.commands(), [1, 1], "messages to {lost} were lost");
    }
}

/// A slow disk is not a loss: nothing is sent twice.
#[test]
fn a_slow_disk_is_not_taken_for_a_loss() {
    let mut cluster = led_by_1();
    cluster.auto.persist = false;
    cluster.propose(1, "a");
    cluster.trace.clear();
    cluster.run_all(ms(300));
    assert_eq!(cluster.leader(), Some(n(1)), "heartbeats do not wait for the disk");
    assert!(!cluster.trace.iter().any(|line| line.contains("Append ")));
    for node in 1..=3 {
        cluster.persist_all(node);
    }
    cluster.deliver_all();
    cluster.persist_all(1);
    assert_eq!(cluster.status(1).commit, Index(2));
}

/// Each command crosses to each follower once.
#[test]
fn nothing_is_sent_twice_without_a_loss() {
    let mut cluster = led_by_1();
    cluster.trace.clear();
    for command in 0..20 {
        cluster.propose(1, &format!("c{command:02}"));
        cluster.run_all(ms(7));
    }
    for command in 0..20 {
        let name = format!("c{command:02}");
        let sent = cluster
            .trace
            .iter()
            .filter(|line| line.contains("Append ") && line.contains(&name))
            .count();
        assert_eq!(sent, 2);
    }
}

/// The window of unacknowledged appends is bounded, and opens again.
#[test]
fn the_window_is_bounded_in_messages_and_bytes() {
    for bytes in [false, true] {
        let mut cluster = Cluster::with(&[1, 2, 3], &[1, 2, 3], |config| {
            if bytes {
                config.max_inflight_bytes = 4 * (48 + 10);
            } else {
                config.max_inflight_appends = 4;
            }
        });
        cluster.elect(1);
        for _ in 0..20 {
            cluster.propose(1, "ten bytes.");
        }
        assert_eq!(cluster.waiting(1, 2).len(), 4);
        cluster.deliver_all();
        assert_eq!(cluster.commands(), [20, 20, 20]);
    }
}

/// An append holds at most so many bytes, but at least one entry.
#[test]
fn appends_are_bounded_in_bytes() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[1, 2, 3], |config| config.max_append_bytes = 200);
    cluster.elect(1);
    let now = cluster.now;
    for size in [10, 20, 30, 1000, 1, 1, 1, 1, 1, 1] {
        cluster.raft(1).propose(now, vec![b'x'; size]).unwrap();
    }
    cluster.drain(0);
    for message in cluster.waiting(1, 2) {
        let Body::Append { entries, .. } = &message.body else { panic!("{message:?}") };
        let bytes: usize = entries
            .iter()
            .map(|entry| match &entry.data {
                EntryData::Command(command) => command.len() + 48,
                _ => 48,
            })
            .sum();
        assert!(bytes <= 200 || entries.len() == 1);
    }
    cluster.deliver_all();
    assert_eq!(cluster.commands(), [10, 10, 10]);
}

/// Uncommitted bytes are bounded; a refusal gives the command back and is over when the bytes are.
#[test]
fn uncommitted_bytes_are_bounded() {
    let mut cluster =
        Cluster::with(&[1, 2, 3], &[1, 2, 3], |config| config.max_uncommitted_bytes = 300);
    cluster.elect(1);
    let now = cluster.now;
    let raft = cluster.raft(1);
    let mut accepted = 0;
    let refused = loop {
        match raft.propose(now, b"0123456789".to_vec()) {
            Ok(_) => accepted += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!((accepted, refused.reason), (5, Reason::Full));
    assert_eq!(refused.payload, b"0123456789");
    assert_eq!(raft.propose(now, vec![0; 300]).unwrap_err().reason, Reason::TooLarge);
    cluster.drain(0);
    cluster.deliver_all();
    cluster.propose(1, "fits again");
}

/// A follower that applies slowly says so; the leader pauses, and goes on when there is room.
#[test]
fn a_follower_bounds_what_it_has_not_applied() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[1, 2, 3], |config| {
        if config.me == n(3) {
            config.max_unapplied_bytes = 300;
        }
    });
    cluster.elect(1);
    cluster.auto.apply = false;
    for _ in 0..20 {
        cluster.propose(1, "0123456789");
        cluster.deliver_all();
    }
    assert!(cluster.trace.iter().any(|line| line.ends_with("n3 -> n1 t1 Full")));
    assert!(cluster.status(3).last < cluster.status(1).last);
    cluster.auto.apply = true;
    for _ in 0..20 {
        let applied = Index(cluster.node(3).machine.state.index);
        let now = cluster.now;
        cluster.raft(3).applied(now, applied);
        cluster.run_all(ms(40));
    }
    assert_eq!(cluster.status(3).last, cluster.status(1).last);
}

/// A leader whose own state machine lags refuses proposals.
#[test]
fn a_leader_bounds_what_it_has_not_applied() {
    let mut cluster =
        Cluster::with(&[1, 2, 3], &[1, 2, 3], |config| config.max_unapplied_bytes = 300);
    cluster.elect(1);
    cluster.auto.apply = false;
    let now = cluster.now;
    while cluster.raft(1).propose(now, b"0123456789".to_vec()).is_ok() {
        cluster.drain(0);
        cluster.deliver_all();
    }
    let applied = Index(cluster.node(1).machine.state.index);
    cluster.raft(1).applied(now, applied);
    cluster.propose(1, "fits again");
}

/// A full storage is found before proposing; everything else goes on.
#[test]
fn a_full_storage_refuses_proposals_and_nothing_else() {
    let mut cluster = led_by_1();
    let now = cluster.now;
    cluster.raft(1).set_storage_full(true);
    let refused = cluster.raft(1).propose(now, b"x".to_vec()).unwrap_err();
    assert_eq!(refused.reason, Reason::StorageFull);
    cluster.read(1, 1);
    cluster.change(1, &[1, 2], &[]);
    cluster.run_all(ms(500));
    assert_eq!(cluster.status(1).membership.voters, [n(1), n(2)]);
    assert_eq!(cluster.leader(), Some(n(1)));
    cluster.raft(1).set_storage_full(false);
    cluster.propose(1, "y");
}

/// A follower refuses proposals and names the leader.
#[test]
fn a_follower_names_the_leader() {
    let mut cluster = led_by_1();
    let now = cluster.now;
    let refused = cluster.raft(2).propose(now, b"x".to_vec()).unwrap_err();
    assert_eq!(refused.reason, Reason::NotLeader { leader: Some(n(1)) });
}

/// In an idle second a group of three exchanges at most 34 heartbeats per follower, answered.
#[test]
fn an_idle_group_is_quiet() {
    let mut cluster = led_by_1();
    cluster.run_all(ms(100));
    cluster.trace.clear();
    cluster.run_all(ms(1000));
    assert!(cluster.trace.len() <= 34 * 4, "{} messages", cluster.trace.len());
}
