//! PROTOCOL 14: versions, WATCH and EXEC.

use bytes::Bytes;
use kontiki_kv::Reply;
use kontiki_kv::command::{self, Parsed};
use kontiki_types::Slot;

use crate::group::{Group, Write, bulk, done, write};

fn exec(watched: &[(&'static str, u64)], requests: &[&str]) -> Write {
    let watched: Vec<_> = watched
        .iter()
        .map(|(key, version)| (Bytes::from_static(key.as_bytes()), *version))
        .collect();
    let commands = requests.iter().map(|request| Parsed::Write(write(request))).collect();
    let slot = Slot::of(watched.first().map_or(b"k", |(key, _)| key));
    Write::of(77, 1, slot, &command::Write::Exec { watched, commands })
}

fn passes(group: &mut Group, key: &'static str, version: u64) -> bool {
    let run = exec(&[(key, version)], &["SET done yes"]).at(group.now());
    match group.write(run.proposal()) {
        kontiki_kv::Verdict::Done(Reply::NilArray) => false,
        kontiki_kv::Verdict::Done(Reply::Array(_)) => true,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_change_of_a_key_raises_its_version() {
    let mut group = Group::new();
    let mut versions = vec![group.version("k")];
    for request in ["SET k 1", "INCR k", "APPEND k 0", "PEXPIRE k 100000", "PERSIST k", "DEL k"] {
        group.run(request);
        versions.push(group.version("k"));
    }
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
}

#[test]
fn reads_and_writes_without_effect_leave_the_version() {
    let mut group = Group::new();
    group.run("SET k 1");
    let version = group.version("k");
    for request in ["SET k 2 NX", "DEL absent", "PERSIST k", "GETEX k EX 5000"] {
        let before = group.version("k");
        group.run(request);
        assert_eq!(group.version("k") == before, !request.starts_with("GETEX"), "{request}");
    }
    assert!(group.version("k") > version);
}

/// WATCH k; another client changes it (or makes and removes it) before the EXEC.
#[test]
fn exec_runs_only_if_nothing_watched_has_changed() {
    for change in ["SET k other", "INCR n", "DEL gone"] {
        let mut group = Group::new();
        group.run("SET k 1");
        group.run("SET n 1");
        group.run("SET gone 1");
        let watched = ["k", "n", "gone"].map(|key| (key, group.version(key)));
        group.run(change);
        let run = exec(&watched, &["SET k mine"]).proposal();
        assert_eq!(group.write(run), done(Reply::NilArray), "{change}");
    }
    let mut group = Group::new();
    let watched = [("k", group.version("k"))];
    let run = exec(&watched, &["SET k mine"]).proposal();
    assert_eq!(group.write(run), done(Reply::Array(vec![Reply::Ok])));
    assert_eq!(group.query("GET k"), bulk("mine"));
}

#[test]
fn an_absent_key_that_came_and_went_has_changed() {
    let mut group = Group::new();
    let version = group.version("k");
    group.run("SET k v");
    group.run("DEL k");
    assert!(!passes(&mut group, "k", version));
}

#[test]
fn an_absent_key_that_came_and_expired_has_changed() {
    let mut group = Group::new();
    let version = group.version("k");
    group.run("SET k v PX 100");
    // A landslide before it in the queue, so that k is due but its row still there.
    for number in 0..50 {
        group.run(&format!("SET {number} v PX 50"));
    }
    let run = exec(&[("k", version)], &["SET k mine"]).at(100);
    assert_eq!(group.write(run.proposal()), done(Reply::NilArray));
}

#[test]
fn a_watched_key_that_expires_has_changed() {
    let mut group = Group::new();
    group.run("SET k v PX 100");
    let version = group.version("k");
    group.tick(99);
    let unexpired = group.reopened();
    assert!(passes(&mut group, "k", version));
    let mut group = Group { machine: unexpired, log: Vec::new() };
    group.tick(100);
    assert!(!passes(&mut group, "k", version));
}

/// The same while its row still waits behind others that are due.
#[test]
fn a_watched_key_that_is_due_has_changed() {
    let mut group = Group::new();
    for number in 0..50 {
        group.run(&format!("SET {number} v PX 50"));
    }
    group.run("SET k v PX 100");
    let version = group.version("k");
    let run = exec(&[("k", version)], &["SET k mine"]).at(100);
    assert_eq!(group.write(run.proposal()), done(Reply::NilArray));
    assert!(group.machine.next_due().is_some());
}

#[test]
fn a_flush_changes_what_was_there_and_versions_go_on_from_it() {
    let mut group = Group::new();
    group.run("SET k v");
    let version = group.version("k");
    group.run("FLUSHALL");
    let flushed = group.version("k");
    assert!(flushed > version);
    group.run("SET k v");
    assert!(group.version("k") > flushed);
    assert!(!passes(&mut group, "k", version));
}

#[test]
fn a_transaction_sees_its_own_writes_and_is_one_entry() {
    let mut group = Group::new();
    let commands = ["SET k 1", "INCR k", "GET k", "DEL k", "EXISTS k", "DBSIZE"];
    let commands = commands.map(crate::group::parsed).to_vec();
    let exec = command::Write::Exec { watched: Vec::new(), commands };
    let replies = vec![
        Reply::Ok,
        Reply::Integer(2),
        bulk("2"),
        Reply::Integer(1),
        Reply::Integer(0),
        Reply::Integer(0),
    ];
    let run = Write::of(1, 1, Slot::of(b"k"), &exec).proposal();
    assert_eq!(group.write(run), done(Reply::Array(replies)));
}
