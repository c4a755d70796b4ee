//! Figure 2, "persistent state"; thesis §10.2.1; PROTOCOL 7: what may be said before and after a
//! write is durable.

use kontiki_raft::{Body, Entry, EntryData, Reason, Role, persist};
use kontiki_types::{GroupId, Index};

use crate::cluster::{Cluster, isolate, log_id, ms, n};

fn command(index: u64, term: u64) -> Entry<Vec<u8>> {
    Entry { id: log_id(index, term), data: EntryData::Command(b"x".to_vec()) }
}

fn append(prev: (u64, u64), entries: Vec<Entry<Vec<u8>>>) -> Body<Vec<u8>> {
    let prev = log_id(prev.0, prev.1);
    Body::Append { session: 1, prev, commit: 0.into(), entries: entries.into() }
}

/// Thesis §10.2.1: the leader's disk works in parallel; followers alone can make the majority.
#[test]
fn an_entry_commits_without_the_leaders_disk() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.auto.persist = false;
    cluster.propose(1, "a");
    cluster.deliver_all();
    cluster.persist_all(2);
    cluster.persist_all(3);
    cluster.deliver_all();
    assert_eq!(cluster.status(1).commit, Index(2));
    assert_eq!(cluster.commands()[0], 0, "but is applied only where it is durable");
    cluster.persist_all(1);
    assert_eq!(cluster.commands(), [1, 1, 1]);
}

/// … and the leader counts itself only when its own write is durable.
#[test]
fn a_leader_counts_itself_on_its_receipt() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.auto.persist = false;
    cluster.propose(1, "a");
    cluster.deliver_all();
    cluster.persist_all(2);
    cluster.deliver_all();
    assert_eq!(cluster.status(1).commit, Index(1));
    cluster.persist_all(1);
    assert_eq!(cluster.status(1).commit, Index(2));
}

/// A group of one takes the same way: nothing is committed before it is durable.
#[test]
fn a_group_of_one_commits_on_its_receipt() {
    let mut cluster = Cluster::new(&[1]);
    cluster.elect(1);
    cluster.auto.persist = false;
    cluster.propose(1, "a");
    assert_eq!(cluster.status(1).commit, Index(1));
    cluster.persist_all(1);
    assert_eq!(cluster.commands(), [1]);
}

/// Figure 2: an append is acknowledged when its entries, and the term, are durable.
#[test]
fn an_append_is_acknowledged_when_it_is_durable() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.auto.persist = false;
    cluster.propose(1, "a");
    cluster.deliver_all();
    assert!(cluster.waiting(2, 1).is_empty());
    cluster.persist_all(2);
    assert_eq!(cluster.waiting(2, 1).len(), 1);
    // An empty append of a new term asserts that term.
    cluster.net.clear();
    assert!(cluster.inject(3, 2, 2, append((2, 1), vec![])).is_empty());
    cluster.persist_all(2);
    assert_eq!(cluster.waiting(2, 3).len(), 1);
}

/// What is durable already is acknowledged at once, without another write.
#[test]
fn a_repeated_append_is_acknowledged_at_once() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.auto.persist = false;
    assert_eq!(cluster.inject(1, 2, 1, append((1, 1), vec![])).len(), 1);
}

/// Receipts may come in any order; each counts when those before it are there.
#[test]
fn receipts_out_of_order_are_merged() {
    let mut cluster = Cluster::new(&[1]);
    cluster.elect(1);
    cluster.auto.persist = false;
    cluster.propose(1, "a");
    cluster.propose(1, "b");
    let node = cluster.node(1);
    let mut batches: Vec<_> = node.unsynced.drain(..).map(|batch| (GroupId(1), batch)).collect();
    let mut receipts = Vec::new();
    persist(&mut node.disk, &mut batches, &mut receipts).unwrap();
    let now = cluster.now;
    let (_, second) = receipts.pop().unwrap();
    cluster.raft(1).persisted(now, second);
    cluster.drain(0);
    assert_eq!(cluster.status(1).durable, Index(1));
    let (_, first) = receipts.pop().unwrap();
    cluster.raft(1).persisted(now, first);
    cluster.drain(0);
    assert_eq!(cluster.commands(), [2]);
}

/// A receipt of another replica, or of an earlier life of this one, proves nothing.
#[test]
fn a_foreign_receipt_proves_nothing() {
    let mut cluster = Cluster::new(&[1]);
    cluster.elect(1);
    cluster.auto.persist = false;
    cluster.propose(1, "a");
    let node = cluster.node(1);
    let mut batches: Vec<_> = node.unsynced.drain(..).map(|batch| (GroupId(1), batch)).collect();
    let mut receipts = Vec::new();
    persist(&mut node.disk.clone(), &mut batches, &mut receipts).unwrap();
    cluster.crash_node(1);
    cluster.start_node(1);
    let now = cluster.now;
    cluster.raft(1).persisted(now, receipts.pop().unwrap().1);
    assert_eq!(cluster.status(1).dropped_messages, 1);
}

/// PROTOCOL 7: a receipt proves only the pairs of term and index that its batch held and that are
/// still in the log. Here entry 2 of term 1 is on its way to the disk when entry 2 of term 2 takes
/// its place: the first receipt must not acknowledge the second entry.
#[test]
fn a_receipt_proves_only_what_is_still_in_the_log() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.auto.persist = false;
    cluster.inject(1, 2, 1, append((1, 1), vec![command(2, 1), command(3, 1)]));
    cluster.inject(3, 2, 2, append((1, 1), vec![command(2, 2)]));
    cluster.net.clear();
    let at = cluster.at(n(2));
    cluster.persist(at, 1);
    cluster.drain(at);
    assert_eq!(cluster.status(2).durable, Index(1));
    assert!(cluster.waiting(2, 3).is_empty());
    cluster.persist_all(2);
    assert_eq!(cluster.status(2).durable, Index(2));
    assert_eq!(cluster.waiting(2, 3).len(), 1);
}

/// A failed write: the replica steps down, helps a successor, and is silent from then on.
#[test]
fn a_failed_write_is_the_end() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.node(1).disk.broken = true;
    let now = cluster.now;
    cluster.raft(1).propose(now, b"x".to_vec()).unwrap();
    cluster.drain(0);
    assert_eq!(cluster.raft(1).role(), Role::Faulted);
    assert!(cluster.trace.iter().any(|line| line == "n1 is faulted"));
    let refused = cluster.raft(1).propose(now, b"x".to_vec()).unwrap_err();
    assert_eq!(refused.reason, Reason::Faulted);
    cluster.deliver_all();
    assert_eq!(cluster.now, now, "no time has passed");
    assert!(cluster.leader().is_some_and(|leader| leader != n(1)), "and another leads");
    let vote = Body::Vote { last: log_id(9, 9), transfer: true };
    assert!(cluster.inject(2, 1, 9, vote).is_empty());
}

/// A leader whose disk hangs steps down, and another leads at once.
#[test]
fn a_leader_with_a_stalled_disk_steps_down() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.auto.persist = false;
    cluster.propose(1, "a");
    for _ in 0..60 {
        cluster.run_all(ms(20));
        for node in [2, 3] {
            cluster.persist_all(node);
        }
    }
    assert!(cluster.leader().is_some_and(|leader| leader != n(1)));
    assert_eq!(cluster.commands()[1..], [1, 1]);
    let term = cluster.leader().map(|leader| cluster.status(leader.node.0).term);
    // It does not campaign while its disk hangs.
    for _ in 0..50 {
        cluster.run_all(ms(20));
        for node in [2, 3] {
            cluster.persist_all(node);
        }
    }
    assert_eq!(cluster.leader().map(|leader| cluster.status(leader.node.0).term), term);
}

/// RF16: one dead or slow follower delays nobody.
#[test]
fn a_dead_follower_delays_nobody() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.crash_node(3);
    for _ in 0..100 {
        cluster.propose(1, "a");
        cluster.deliver(isolate(3));
    }
    assert_eq!(cluster.commands()[..2], [100, 100]);
}
