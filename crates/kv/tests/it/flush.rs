//! PROTOCOL 15 (FLUSHALL, SCAN, DBSIZE) and 9 (dead incarnations).

use std::collections::BTreeSet;

use kontiki_kv::{Reply, Verdict};
use kontiki_types::Slot;

use crate::group::{Group, Write, bulk, done};

fn filled(keys: u64) -> Group {
    let mut group = Group::new();
    let sets: Vec<_> = (0..keys)
        .map(|number| {
            let expiry = if number % 3 == 0 { " PX 5000" } else { "" };
            Write::new(number, 1, &format!("SET key{number} v{expiry}")).proposal()
        })
        .collect();
    group.apply(&sets);
    group
}

#[test]
fn a_flush_hides_everything_at_once_and_deletes_it_bit_by_bit() {
    let mut group = filled(2_000);
    let full = group.rows();
    assert_eq!(group.run("FLUSHALL"), Reply::Ok);
    for (request, empty) in [
        ("DBSIZE", Reply::Integer(0)),
        ("KEYS *", Reply::Array(Vec::new())),
        ("RANDOMKEY", Reply::Nil),
        ("GET key1", Reply::Nil),
    ] {
        assert_eq!(group.query(request), empty, "{request}");
    }
    assert_eq!(group.machine.next_due(), None);
    assert!(group.rows() + 100 > full, "the entry itself deletes little");
    assert!(group.machine.dead_rows().unwrap() > 0);
    group.run("SET key1 new");
    assert_eq!(group.query("DBSIZE"), Reply::Integer(1));
    assert_eq!(group.query("KEYS *"), Reply::Array(vec![bulk("key1")]));
    let left = group.rows();
    for number in 0..100 {
        group.run(&format!("SET again{number} v"));
    }
    assert!(group.rows() < left, "writing goes slower than deleting");
    while group.machine.tidy().unwrap() {}
    assert_eq!(group.machine.dead_rows().unwrap(), 0);
    assert_eq!(group.query("DBSIZE"), Reply::Integer(101));
    let hash = group.hash();
    assert_eq!(group.rows(), 101);
    assert!(!group.machine.tidy().unwrap());
    assert_eq!(group.hash(), hash);
}

/// The deleter of dead rows must not touch what was written since (PROTOCOL 9), through a restart
/// in the middle, and flush upon flush.
#[test]
fn the_deleter_never_eats_new_keys() {
    let mut group = filled(1_000);
    for round in 0..5 {
        group.run("FLUSHALL");
        for number in 0..200 {
            group.run(&format!("SET key{number} round{round} PX 900000"));
        }
        group = Group { machine: group.reopened(), log: Vec::new() };
        assert_eq!(group.query("DBSIZE"), Reply::Integer(200));
    }
    while group.machine.tidy().unwrap() {}
    for number in 0..200 {
        assert_eq!(group.query(&format!("GET key{number}")), bulk("round4"));
    }
    group.tick(900_000);
    assert_eq!(group.query("DBSIZE"), Reply::Integer(0));
}

/// The deleter is in the middle of a high slot when a flush leaves rows in a lower one.
#[test]
fn a_flush_during_the_deletion_of_another_is_not_forgotten() {
    let (low, high) = ("{foo}", "{a}");
    assert!(Slot::of(low.as_bytes()) < Slot::of(high.as_bytes()));
    let mut group = Group::new();
    let fill = |group: &mut Group, tag: &str, keys: usize| {
        let sets = (0..keys).map(|number| format!("SET {tag}{number} v"));
        sets.for_each(|request| drop(group.run(&request)));
    };
    fill(&mut group, high, 500);
    group.run("FLUSHALL");
    group.run("DEL none");
    assert!(group.rows() > 0);
    fill(&mut group, low, 5);
    group.run("FLUSHALL");
    while group.machine.tidy().unwrap() {}
    assert_eq!(group.rows(), 0);
}

#[test]
fn a_flush_leaves_completion_records_and_versions() {
    let mut group = Group::new();
    let incr = Write::new(1, 1, "INCR n");
    group.write(incr.clone().proposal());
    group.run("SET k v");
    let version = group.version("k");
    group.run("FLUSHALL");
    assert_eq!(group.write(incr.proposal()), done(Reply::Integer(1)), "not run again");
    assert_eq!(group.query("GET n"), Reply::Nil);
    assert!(group.version("k") > version);
    let flush = Write::new(2, 1, "FLUSHALL");
    group.write(flush.clone().proposal());
    group.run("SET later v");
    assert_eq!(group.write(flush.proposal()), done(Reply::Ok), "a retried flush is not a second");
    assert_eq!(group.query("GET later"), bulk("v"));
}

#[test]
fn a_flush_within_a_batch_splits_it() {
    let mut group = filled(10);
    let verdicts = group.apply(&[
        Write::new(101, 1, "SET before v PX 100").proposal(),
        Write::new(102, 1, "FLUSHALL").proposal(),
        Write::new(103, 1, "SET after v PX 100").proposal(),
        Write::new(104, 1, "APPEND before w").proposal(),
    ]);
    assert_eq!(verdicts[3], done(Reply::Integer(1)));
    assert_eq!(group.query("DBSIZE"), Reply::Integer(2));
    while group.machine.tidy().unwrap() {}
    assert_eq!(group.query("DBSIZE"), Reply::Integer(2));
    group.tick(100);
    assert_eq!(group.query("KEYS *"), Reply::Array(vec![bulk("before")]));
}

#[test]
fn a_scan_meets_every_key_once_in_small_steps_and_beside_litter() {
    let mut group = filled(500);
    group.run("FLUSHALL");
    for number in 0..300 {
        group.run(&format!("SET key{number} v"));
        group.run(&format!("SET {{tag}}{number} v"));
    }
    let mut met = BTreeSet::new();
    let mut cursor = "0".to_string();
    loop {
        let Reply::Array(answer) = group.query(&format!("SCAN {cursor} COUNT 7")) else { panic!() };
        let [Reply::Bulk(next), Reply::Array(keys)] = &answer[..] else { panic!("{answer:?}") };
        for key in keys {
            let Reply::Bulk(key) = key else { panic!("{key:?}") };
            assert!(met.insert(key.clone()), "{key:?} twice");
        }
        cursor = String::from_utf8(next.to_vec()).unwrap();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(met.len(), 600);
    assert_eq!(group.query("DBSIZE"), Reply::Integer(600));
}

#[test]
fn dbsize_counts_every_key_once() {
    let mut group = Group::new();
    let sizes = [
        ("SET a 1", 1),
        ("SET a 2", 1),
        ("MSET b 1 c 1 b 2", 3),
        ("RENAME a d", 3),
        ("COPY d e", 4),
        ("GETDEL e", 3),
        ("DEL e b", 2),
        ("EXPIREAT c 0", 1),
        ("APPEND x 1", 2),
        ("SETNX x 1", 2),
    ];
    for (request, size) in sizes {
        let reply = group.run(request);
        assert!(!matches!(reply, Reply::Error(_)), "{request}: {reply:?}");
        assert_eq!(group.query("DBSIZE"), Reply::Integer(size), "{request}");
    }
}

#[test]
fn random_keys_are_drawn_from_all() {
    let mut group = Group::new();
    for number in 0..20 {
        group.run(&format!("SET {{same}}{number} v"));
        group.run(&format!("SET {number} v"));
    }
    let mut drawn = BTreeSet::new();
    for choice in 0..2_000u64 {
        let choice = choice.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let parsed = kontiki_kv::command::parse(&crate::group::args("RANDOMKEY"), choice).unwrap();
        let kontiki_kv::command::Parsed::Read(read) = parsed else { panic!() };
        let answer = group.machine.query(&read, kontiki_types::LogTime(0)).unwrap();
        drawn.insert(format!("{answer:?}"));
    }
    assert_eq!(drawn.len(), 40);
}

#[test]
fn sent_back_and_refused_writes_count_as_nothing() {
    let mut group = Group::new();
    let second = Write::new(1, 2, "FLUSHALL").low(1).after(1);
    group.run("SET k v");
    assert_eq!(group.write(second.proposal()), Verdict::SentBack);
    assert_eq!(group.query("DBSIZE"), Reply::Integer(1));
}
