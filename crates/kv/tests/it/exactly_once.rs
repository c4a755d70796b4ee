//! PROTOCOL 1: records, low marks, deadlines.

use bytes::Bytes;
use kontiki_kv::{RETRY_WINDOW_MAX_MS, Reply, Verdict};

use crate::group::{Group, WINDOW, Write, bulk, done, write};

#[test]
fn a_retry_is_answered_from_the_record_and_has_no_effect() {
    let mut group = Group::new();
    let incr = Write::new(1, 1, "INCR n");
    assert_eq!(group.write(incr.clone().proposal()), done(Reply::Integer(1)));
    let after = group.version("n");
    assert_eq!(group.write(incr.clone().proposal()), done(Reply::Integer(1)));
    assert_eq!(group.apply(&[incr.clone().proposal(), incr.proposal()]).len(), 2);
    assert_eq!(group.query("GET n"), bulk("1"));
    assert_eq!(group.version("n"), after);
}

#[test]
fn both_copies_in_one_batch_are_one_write() {
    let mut group = Group::new();
    let append = Write::new(1, 1, "APPEND k ab");
    let copies = [append.clone().proposal(), append.proposal()];
    assert_eq!(group.apply(&copies), [done(Reply::Integer(2)), done(Reply::Integer(2))]);
    assert_eq!(group.query("GET k"), bulk("ab"));
}

/// (C,5) INCR applies and the reply is lost; C is idle beyond the deadline, the record is dropped;
/// the retry carries the deadline it always had and must not look like a new write.
#[test]
fn a_retry_after_the_record_was_dropped_is_unknown_not_new() {
    let mut group = Group::new();
    let incr = Write::new(1, 5, "INCR n").low(5);
    assert_eq!(group.write(incr.clone().proposal()), done(Reply::Integer(1)));
    let late = incr.clone().stamped(WINDOW).proposal();
    assert_eq!(group.write(late), done(Reply::Integer(1)), "the deadline itself is in time");
    assert_eq!(group.write(incr.stamped(WINDOW + 1).proposal()), Verdict::Unknown);
    assert_eq!(group.query("GET n"), bulk("1"));
}

/// Low = 6 freed record 5, and then a delayed copy of 5 arrives, within its deadline.
#[test]
fn a_delayed_copy_below_the_low_mark_is_refused() {
    let mut group = Group::new();
    let incr = Write::new(1, 5, "INCR n");
    assert_eq!(group.write(incr.clone().proposal()), done(Reply::Integer(1)));
    assert_eq!(group.write(Write::new(1, 6, "SET other x").proposal()), done(Reply::Ok));
    assert_eq!(group.write(incr.proposal()), Verdict::Unknown);
    assert_eq!(group.query("GET n"), bulk("1"));
}

/// The same, with the only write after it on a key of another slot, and with a restart between.
#[test]
fn a_low_mark_holds_on_every_slot_and_through_a_restart() {
    let mut group = Group::new();
    let incr = Write::new(1, 1, "INCR {a}n");
    group.write(incr.clone().proposal());
    group.write(Write::new(1, 2, "INCR {b}n").proposal());
    let mut group = Group { machine: group.reopened(), log: Vec::new() };
    assert_eq!(group.write(incr.proposal()), Verdict::Unknown);
    assert_eq!(group.query("GET {a}n"), bulk("1"));
}

/// A copy of 5 that was never applied is held up; 6 says that 5 was given up; 5 arrives as long
/// after as a deadline can be.
#[test]
fn a_low_mark_is_kept_until_every_deadline_below_it_has_passed() {
    let mut group = Group::new();
    let now = 500;
    let lost = Write::new(1, 5, "INCR n").deadline(now + RETRY_WINDOW_MAX_MS);
    let next = Write::new(1, 6, "SET k v").at(now).proposal();
    assert_eq!(group.write(next), done(Reply::Ok));
    for stamp in [now, now + WINDOW + 1, now + RETRY_WINDOW_MAX_MS, now + RETRY_WINDOW_MAX_MS + 1] {
        // Other clients' writes make pages turn and dead records go.
        for other in 0..50 {
            let value = format!("SET {other} {}", "x".repeat(100));
            group.write(Write::new(100 + other, 1, &value).at(stamp).proposal());
        }
        assert_eq!(group.write(lost.clone().stamped(stamp).proposal()), Verdict::Unknown);
    }
    assert_eq!(group.query("GET n"), Reply::Nil);
}

#[test]
fn a_deadline_that_has_passed_or_lies_too_far_ahead_is_refused() {
    let mut group = Group::new();
    group.tick(1_000);
    let with = |deadline| Write::new(1, 1, "INCR n").deadline(deadline).stamped(1_000).proposal();
    assert_eq!(group.write(with(999)), Verdict::Unknown);
    assert_eq!(group.write(with(1_000 + RETRY_WINDOW_MAX_MS + 1)), Verdict::Unknown);
    assert_eq!(group.query("GET n"), Reply::Nil);
    assert_eq!(group.write(with(1_000)), done(Reply::Integer(1)));
    let mut group = Group::new();
    assert_eq!(group.write(with(1_000 + RETRY_WINDOW_MAX_MS)), done(Reply::Integer(1)));
}

#[test]
fn the_stamp_of_the_write_itself_counts_against_its_deadline() {
    let mut group = Group::new();
    let late = Write::new(1, 1, "SET k v").deadline(5).stamped(6).proposal();
    assert_eq!(group.write(late), Verdict::Unknown);
    assert_eq!(group.now(), 6, "the refused entry still moved the log time");
}

/// PROTOCOL 2. A node restarts, and a new connection gets the number of an old one: it is another
/// client, as is one of a node whose directory was formatted anew.
#[test]
fn a_client_of_another_boot_or_directory_has_no_record_of_the_old_one() {
    let mut group = Group::new();
    let old = Write::new(1, 1, "INCR n");
    assert_eq!(group.write(old.clone().proposal()), done(Reply::Integer(1)));
    let mut restarted = old.clone();
    restarted.request.client.boot += 1;
    assert_eq!(group.write(restarted.proposal()), done(Reply::Integer(2)));
    let mut formatted = old;
    formatted.request.client.incarnation.0 += 1;
    assert_eq!(group.write(formatted.proposal()), done(Reply::Integer(3)));
}

#[test]
fn another_command_under_the_same_number_is_an_error_without_effect() {
    let mut group = Group::new();
    group.write(Write::new(1, 1, "SET k first").proposal());
    let other = Write::new(1, 1, "SET k other").proposal();
    assert_eq!(group.write(other), Verdict::DigestMismatch);
    assert_eq!(group.query("GET k"), bulk("first"));
}

#[test]
fn error_replies_are_remembered_too() {
    let mut group = Group::new();
    group.run("SET k text");
    let incr = Write::new(1, 1, "INCR k");
    let first = group.write(incr.clone().proposal());
    assert!(matches!(&first, Verdict::Done(Reply::Error(_))), "{first:?}");
    group.run("SET k 5");
    assert_eq!(group.write(incr.proposal()), first, "not run again although it would succeed");
    assert_eq!(group.query("GET k"), bulk("5"));
}

#[test]
fn parts_of_one_write_on_several_slots_have_a_record_each() {
    let mut group = Group::new();
    let part = |key: &str| Write::new(1, 1, &format!("DEL {key}")).proposal();
    group.run("SET {a}k v");
    group.run("SET {b}k v");
    for _ in 0..2 {
        assert_eq!(group.write(part("{a}k")), done(Reply::Integer(1)));
        assert_eq!(group.write(part("{b}k")), done(Reply::Integer(1)));
    }
}

/// A client that waits for replies costs one record, whatever it writes to.
#[test]
fn each_write_frees_the_record_before() {
    let mut group = Group::new();
    for seq in 1..=50 {
        group.write(Write::new(1, seq, &format!("SET key{seq} v")).proposal());
    }
    let before = snapshot_bytes(&group);
    for seq in 51..=800 {
        group.write(Write::new(1, seq, &format!("SET key{} v", seq % 50)).proposal());
    }
    let after = snapshot_bytes(&group);
    assert!(after < before + 50 * 4, "{before} bytes, then {after}");
}

#[test]
fn a_long_reply_is_remembered_word_for_word_and_freed() {
    let mut group = Group::new();
    let long: &'static str = "x".repeat(100_000).leak();
    group.write(Write::new(2, 1, &format!("SET k {long}")).proposal());
    let swap = Write::new(1, 1, "SET k short GET");
    let both = [swap.clone().proposal(), swap.clone().proposal()];
    assert_eq!(group.apply(&both), [done(bulk(long)), done(bulk(long))]);
    let mut group = Group { machine: group.reopened(), log: Vec::new() };
    assert_eq!(group.write(swap.proposal()), done(bulk(long)));
    let held = stored_bytes(&group);
    group.write(Write::new(1, 2, "SET other v").proposal());
    assert!(held > long.len());
    assert!(stored_bytes(&group) < 2_000, "{}", stored_bytes(&group));
}

#[test]
fn a_long_reply_goes_when_its_deadline_passes_although_the_client_is_silent() {
    let mut group = Group::new();
    group.run(&format!("SET k {}", "x".repeat(100_000)));
    group.write(Write::new(1, 1, "SET k short GET").proposal());
    for number in 0..3_000 {
        let write = Write::new(2, number + 1, "SET other v").at(WINDOW + 1 + number);
        group.write(write.proposal());
    }
    assert!(stored_bytes(&group) < 200_000, "{}", stored_bytes(&group));
    assert!(!group.machine.store().rows().any(|(_, row)| row.len() > 50_000));
}

/// An engine refuses a key of 64 KiB and more, and a commit that fails stops the replica: all of
/// them, since the entry is in everyone's log.
#[test]
fn a_key_too_long_for_an_engine_is_an_error_reply() {
    let mut group = Group::new();
    let key = "k".repeat(kontiki_kv::KEY_BYTES_MAX + 1);
    assert!(matches!(group.run(&format!("SET {key} v")), Reply::Error(_)));
    assert!(matches!(group.run(&format!("RENAME k {key}")), Reply::Error(_)));
    assert_eq!(group.run(&format!("SET {} v", &key[1..])), Reply::Ok);
    let longest = group.machine.store().rows().map(|(key, _)| key.len()).max();
    assert!(longest < Some(65_000));
}

/// A null EXEC is an outcome like any other (PROTOCOL 3, 14).
#[test]
fn a_null_exec_is_recorded() {
    let mut group = Group::new();
    let version = group.version("k");
    group.run("SET k changed");
    let exec = kontiki_kv::command::Write::Exec {
        watched: vec![(Bytes::from_static(b"k"), version)],
        commands: vec![kontiki_kv::command::Parsed::Write(write("SET k mine"))],
    };
    let slot = kontiki_types::Slot::of(b"k");
    let exec = Write::of(1, 1, slot, &exec);
    assert_eq!(group.write(exec.clone().proposal()), done(Reply::NilArray));
    let set = Write::new(1, 2, "SET k later").low(1).after(1).proposal();
    assert_eq!(group.write(set), done(Reply::Ok), "the write after it finds it done");
    assert_eq!(group.write(exec.proposal()), done(Reply::NilArray));
    assert_eq!(group.query("GET k"), bulk("later"));
}

fn snapshot_bytes(group: &Group) -> usize {
    group.machine.export().unwrap().map(|chunk| chunk.unwrap().len()).sum()
}

fn stored_bytes(group: &Group) -> usize {
    group.machine.store().rows().map(|(key, row)| key.len() + row.len()).sum()
}
