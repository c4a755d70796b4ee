//! Paper §7, PROTOCOL 4c and 7: compaction, and snapshots for those that are too far behind.

use kontiki_raft::{Body, Entry, EntryData, PeerState};
use kontiki_types::Index;

use crate::cluster::{Cluster, isolate, log_id, ms, n};

/// A group in which 3 lacks what the others have compacted.
fn behind() -> Cluster {
    let mut cluster =
        Cluster::with(&[1, 2, 3], &[1, 2, 3], |config| config.snapshot_chunk_bytes = 10);
    cluster.elect(1);
    for command in 0..10 {
        cluster.propose(1, &command.to_string());
        cluster.deliver(isolate(3));
    }
    cluster.compact(1);
    cluster.compact(2);
    cluster
}

fn chunks(cluster: &Cluster) -> Vec<&str> {
    cluster
        .trace
        .iter()
        .filter_map(|line| line.split_once(" Snapshot ").map(|(_, chunk)| chunk))
        .collect()
}

/// §7: who lacks what the log no longer holds gets a snapshot, and then the log.
#[test]
fn a_lagging_follower_gets_a_snapshot() {
    let mut cluster = behind();
    cluster.run_all(ms(200));
    cluster.propose(1, "after");
    cluster.deliver_all();
    assert_eq!(cluster.commands(), [11, 11, 11]);
    let all = chunks(&cluster);
    assert_eq!(all[0], "11@1 bytes 0..10 of 24");
    assert_eq!(all[1], "11@1 bytes 10..20 of 24");
    assert_eq!(all[2], "11@1 bytes 20..24 of 24");
}

/// The snapshot brings the configuration with it.
#[test]
fn a_snapshot_holds_the_configuration() {
    let mut cluster = Cluster::with(&[1, 2, 3, 4], &[1, 2, 3], |_| {});
    cluster.elect(1);
    cluster.change(1, &[1, 2, 3], &[4]);
    cluster.deliver(isolate(4));
    cluster.compact(1);
    cluster.run_all(ms(200));
    assert_eq!(cluster.status(4).first, Index(3));
    assert_eq!(cluster.status(4).membership, cluster.status(1).membership);
    assert_eq!(cluster.status(4).membership_id, log_id(2, 1));
}

/// A lost chunk is sent again, from where it is needed.
#[test]
fn a_transfer_resumes_after_a_loss() {
    let mut cluster = behind();
    cluster.run_until("bytes 10..20 of 24");
    cluster.net.clear();
    cluster.trace.clear();
    cluster.run_all(ms(1000));
    assert_eq!(cluster.commands(), [10, 10, 10]);
    assert!(
        !chunks(&cluster).iter().any(|chunk| chunk.contains("0..10")),
        "{:?}",
        chunks(&cluster)
    );
}

/// Who was away for a while in the middle of a transfer needs no other snapshot; who stays away has
/// nothing kept for it.
#[test]
fn the_log_that_follows_a_snapshot_is_kept_for_a_while() {
    for (away, is_kept) in [(ms(5_000), true), (ms(15_000), false)] {
        let mut cluster = behind();
        cluster.run_until("bytes 10..20 of 24");
        cluster.net.clear();
        cluster.run(away, isolate(3));
        for command in 0..10 {
            cluster.propose(1, &command.to_string());
            cluster.deliver(isolate(3));
        }
        cluster.compact(1);
        assert_eq!(cluster.status(1).first == Index(12), is_kept, "{:?}", cluster.status(1).first);
        cluster.trace.clear();
        cluster.run_all(ms(2000));
        assert_eq!(cluster.commands(), [20, 20, 20]);
        let got = chunks(&cluster);
        assert_eq!(got.iter().all(|chunk| chunk.starts_with("11@1")), is_kept, "{got:?}");
    }
}

/// … also under another leader, if it has the very same snapshot.
#[test]
fn a_transfer_resumes_under_another_leader() {
    for same in [true, false] {
        let mut cluster = behind();
        let second = cluster.at(n(2));
        cluster.run_until("SnapshotReply 11@1 next=20");
        if !same {
            // One more entry makes another snapshot.
            cluster.propose(1, "more");
            cluster.deliver(isolate(3));
            cluster.compact(2);
        }
        cluster.crash_node(1);
        cluster.net.clear();
        cluster.trace.clear();
        cluster.build_snapshot(second);
        cluster.run_all(ms(2000));
        assert_eq!(cluster.leader(), Some(n(2)));
        let got: Vec<_> = chunks(&cluster).iter().map(|chunk| chunk.to_string()).collect();
        if same {
            // The first chunk asks; the answer says that only the rest is needed.
            assert_eq!(got, ["11@1 bytes 0..10 of 24", "11@1 bytes 20..24 of 24"]);
        } else {
            assert_eq!(got.len(), 3, "{got:?}");
        }
        assert_eq!(cluster.commands()[1], cluster.commands()[2]);
    }
}

/// PROTOCOL 4c: a snapshot is acknowledged when it is installed and the log's new start is durable.
#[test]
fn a_snapshot_is_acknowledged_when_it_is_durable() {
    let mut cluster = behind();
    cluster.auto.persist = false;
    cluster.run_all(ms(40));
    assert_eq!(cluster.node(3).machine.state.index, 11);
    let matched = |cluster: &mut Cluster| cluster.status(1).peers[1].matched;
    assert_eq!(matched(&mut cluster), Index(1));
    cluster.persist_all(3);
    assert_eq!(cluster.node(3).disk.base_id(), log_id(11, 1));
    cluster.deliver_all();
    assert_eq!(matched(&mut cluster), Index(11));
}

/// A crash between the installation and the log's new start: the old state, and all over again.
#[test]
fn a_crash_before_the_new_start_is_durable_forgets_the_snapshot() {
    let mut cluster = behind();
    cluster.auto.persist = false;
    cluster.run_all(ms(40));
    cluster.crash_node(3);
    cluster.auto.persist = true;
    cluster.start_node(3);
    assert_eq!(cluster.node(3).machine.state.index, 0);
    cluster.run_all(ms(2000));
    assert_eq!(cluster.commands(), [10, 10, 10]);
}

/// Writes go on during a transfer, and the log keeps what must follow the snapshot.
#[test]
fn writes_go_on_during_a_transfer() {
    let mut cluster = behind();
    cluster.run(ms(31), |_, to| to == n(1));
    for command in 0..10 {
        cluster.propose(1, &command.to_string());
        for _ in 0..2 {
            cluster.deliver_at(0);
        }
        cluster.compact(1);
    }
    cluster.run_all(ms(1000));
    assert_eq!(cluster.commands(), [20, 20, 20]);
}

/// A snapshot that can no longer be read is replaced by another.
#[test]
fn an_unreadable_snapshot_is_replaced() {
    let mut cluster = behind();
    cluster.auto.snapshots = false;
    cluster.run_all(ms(200));
    assert!(matches!(cluster.status(1).peers[1].state, PeerState::Snapshot { bytes: 0, .. }));
    let now = cluster.now;
    cluster.raft(1).snapshot_built(now, None);
    cluster.run_all(ms(200));
    let asked = cluster.trace.iter().filter(|line| *line == "n1 builds a snapshot").count();
    assert_eq!(asked, 2, "it is asked for again");
    cluster.build_snapshot(0);
    cluster.drain(0);
    cluster.run_all(ms(200));
    assert_eq!(cluster.commands(), [10, 10, 10]);
}

/// An old snapshot never replaces a newer state.
#[test]
fn an_old_snapshot_is_not_installed() {
    let mut cluster = behind();
    cluster.run_all(ms(200));
    cluster.propose(1, "newer");
    cluster.deliver_all();
    let status = cluster.status(3);
    let meta = kontiki_raft::SnapshotMeta {
        id: log_id(5, 1),
        membership: status.membership,
        membership_id: status.membership_id,
        bytes: 3,
        hash: 1,
    };
    let body = Body::Snapshot { session: 2, meta: Box::new(meta), offset: 0, data: vec![1, 2, 3] };
    let replies = cluster.inject(1, 3, 1, body);
    assert!(matches!(&replies[..], [reply] if matches!(reply.body, Body::AppendReply { .. })));
    assert_eq!(cluster.status(3).applied, status.applied);
}

/// Only what is applied is compacted, and what is left is enough to go on.
#[test]
fn compaction_stops_at_what_is_applied() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.propose(1, "a");
    cluster.deliver_all();
    cluster.propose(1, "b");
    cluster.raft(1).compact(Index(99));
    assert_eq!(cluster.status(1).first, Index(3));
    cluster.node(1).machine.flushed = cluster.node(1).machine.state;
    cluster.drain(0);
    assert_eq!(cluster.node(1).disk.base_id(), log_id(2, 1));
    cluster.deliver_all();
    assert_eq!(cluster.commands(), [2, 2, 2]);
    assert_eq!(cluster.status(1).log_bytes, 48 + 1);
}

/// An append that begins before the receiver's log is taken from where that begins.
#[test]
fn an_append_from_before_the_log_is_cut() {
    let mut cluster = behind();
    cluster.run_all(ms(200));
    let entries: Vec<_> = (1..=12)
        .map(|index| Entry { id: log_id(index, 1), data: EntryData::Command(vec![]) })
        .collect();
    let body =
        Body::Append { session: 2, prev: log_id(0, 0), commit: 11.into(), entries: entries.into() };
    cluster.inject(1, 3, 1, body);
    assert_eq!(cluster.status(3).last, log_id(12, 1));
    assert_eq!(cluster.status(3).first, Index(12));
}
