//! The part of the log that is in memory, and followers that need what is not.

use kontiki_raft::PeerState;
use kontiki_types::Index;

use crate::cluster::{Cluster, isolate, ms, n};

/// A group that keeps nothing in memory that is applied, in which 3 lacks ten entries.
fn behind() -> Cluster {
    let mut cluster = Cluster::with(&[1, 2, 3], &[1, 2, 3], |config| {
        config.log_cache_bytes = Some(0);
        config.max_append_bytes = 300;
    });
    cluster.elect(1);
    for command in 0..10 {
        cluster.propose(1, &command.to_string());
        cluster.deliver(isolate(3));
    }
    cluster
}

fn lines<'a>(cluster: &'a Cluster, part: &str) -> Vec<&'a str> {
    cluster.trace.iter().map(String::as_str).filter(|line| line.contains(part)).collect()
}

/// What is durable and applied leaves the memory; it stays a part of the log.
#[test]
fn what_is_applied_leaves_the_memory() {
    let mut cluster = behind();
    let status = cluster.status(1);
    assert_eq!((status.first, status.cached_bytes), (Index(1), 0));
    assert!(status.log_bytes >= 10 * 48);
    assert_eq!(cluster.raft(1).term_at(Index(5)), cluster.raft(1).term_at(Index(11)));
    cluster.auto.apply = false;
    cluster.propose(1, "not applied");
    cluster.deliver(isolate(3));
    assert_eq!(cluster.status(1).cached_bytes, 48 + 11);
}

/// A follower that lags is served from the disk, in pieces, and then from memory; without a
/// snapshot, and without reading anything twice.
#[test]
fn a_lagging_follower_is_served_from_the_disk() {
    let mut cluster = behind();
    cluster.trace.clear();
    cluster.run_all(ms(200));
    assert_eq!(cluster.commands(), [10, 10, 10]);
    assert_eq!(
        lines(&cluster, " reads "),
        [
            "n1 reads 2 to 4 for n3",
            "n1 reads 5 to 7 for n3",
            "n1 reads 8 to 10 for n3",
            "n1 reads 11 to 11 for n3"
        ]
    );
    assert!(lines(&cluster, "snapshot").is_empty());
    cluster.propose(1, "after");
    cluster.deliver_all();
    assert_eq!(cluster.commands(), [11, 11, 11]);
    assert_eq!(lines(&cluster, " reads ").len(), 4);
}

/// A leader that knows nothing of its followers asks them without reading: a probe has no entries.
#[test]
fn a_new_leader_probes_without_reading() {
    let mut cluster = behind();
    cluster.crash_node(1);
    cluster.start_node(1);
    cluster.trace.clear();
    cluster.run_all(ms(1000));
    assert_eq!(cluster.commands(), [10, 10, 10]);
    let leader = cluster.leader().unwrap();
    assert!([n(1), n(2)].contains(&leader));
    let first = lines(&cluster, " reads ")[0];
    assert!(first.contains("reads 2 to "), "{first}");
}

/// What cannot be read is made up for by a snapshot that reaches beyond it.
#[test]
fn a_snapshot_takes_the_place_of_what_cannot_be_read() {
    let mut cluster = behind();
    cluster.auto.readable = false;
    cluster.trace.clear();
    cluster.run_all(ms(400));
    assert_eq!(cluster.commands(), [10, 10, 10]);
    assert_eq!(lines(&cluster, " reads "), ["n1 reads 2 to 1 for n3"]);
    assert_eq!(lines(&cluster, "n3 installs snapshot"), ["n3 installs snapshot 11@1"]);
    assert!(matches!(cluster.status(1).peers[1].state, PeerState::Replicate));
}

/// An answer that comes after all was compacted is of no use; the follower gets a snapshot.
#[test]
fn what_was_compacted_while_it_was_read() {
    let mut cluster = behind();
    cluster.compact(1);
    cluster.trace.clear();
    cluster.run_all(ms(400));
    assert_eq!(cluster.commands(), [10, 10, 10]);
    assert_eq!(lines(&cluster, "n3 installs snapshot"), ["n3 installs snapshot 11@1"]);
    let raft = cluster.raft(1);
    let before = raft.status().log_bytes;
    raft.entries_read(kontiki_types::Instant(0), n(3), Index(2), Vec::new().into());
    assert_eq!(raft.status().log_bytes, before);
}
