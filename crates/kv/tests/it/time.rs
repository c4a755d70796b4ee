//! PROTOCOL 8: keys expire by log time, which only entries move.

use kontiki_kv::{QueryAnswer, Reply};
use kontiki_types::LogTime;

use crate::group::{Group, Write, bulk, done};

#[test]
fn log_time_is_the_largest_stamp_so_far() {
    let mut group = Group::new();
    for (stamp, time) in [(5, 5), (3, 5), (5, 5), (9, 9)] {
        group.tick(stamp);
        assert_eq!(group.now(), time);
    }
    group.write(Write::new(1, 1, "SET k v").at(20).proposal());
    assert_eq!(group.now(), 20);
}

#[test]
fn entries_without_a_proposal_leave_the_time_alone() {
    let mut group = Group::new();
    group.tick(5);
    let id = kontiki_types::LogId::new(kontiki_types::Term(2), kontiki_types::Index(2));
    group.machine.apply(&[(id, None)], &mut Vec::new()).unwrap();
    assert_eq!((group.now(), group.machine.applied()), (5, id));
    assert_eq!(group.reopened().log_time(), LogTime(5));
}

/// SET k v EX 1, and nothing else is written: the reader's node sees by its clock that the key is
/// due, has a tick proposed, and answers nil.
#[test]
fn a_read_that_meets_a_due_key_waits_for_a_tick() {
    let mut group = Group::new();
    group.write(Write::new(1, 1, "SET k v EX 1").at(1_000).proposal());
    group.run("SET other v");
    assert_eq!(group.machine.next_due(), Some(LogTime(2_000)));
    assert_eq!(group.query_at("GET k", 1_999), QueryAnswer::Reply(bulk("v")));
    for request in ["GET k", "TTL k", "EXISTS other k", "DBSIZE", "KEYS *", "SCAN 0", "RANDOMKEY"] {
        assert_eq!(group.query_at(request, 2_000), QueryAnswer::Due, "{request}");
    }
    assert_eq!(group.query_at("GET other", 2_000), QueryAnswer::Reply(bulk("v")));
    group.tick(2_000);
    assert_eq!(group.query_at("GET k", 2_000), QueryAnswer::Reply(Reply::Nil));
    assert_eq!(group.query_at("DBSIZE", 2_000), QueryAnswer::Reply(Reply::Integer(1)));
    assert_eq!(group.machine.next_due(), None);
}

/// A leader whose clock is ahead expires a key; the next leader's clock is behind.
#[test]
fn what_expired_does_not_come_back_under_a_slower_clock() {
    let mut group = Group::new();
    group.write(Write::new(1, 1, "SET k v PX 100").at(1_000).proposal());
    group.tick(1_100);
    group.tick(900);
    assert_eq!(group.query_at("GET k", 900), QueryAnswer::Reply(Reply::Nil));
    assert_eq!(group.run("GETSET k new"), Reply::Nil);
}

#[test]
fn a_write_at_the_very_time_finds_the_key_gone() {
    let mut group = Group::new();
    group.write(Write::new(1, 1, "SET n 41 PX 100").at(1_000).proposal());
    let incr = Write::new(2, 1, "INCR n").at(1_100).proposal();
    assert_eq!(group.write(incr), done(Reply::Integer(1)));
    assert_eq!(group.query("PTTL n"), Reply::Integer(-1));
}

#[test]
fn an_expiry_that_was_changed_or_taken_back_does_not_strike() {
    let mut group = Group::new();
    for request in ["SET a 1 PX 100", "SET b 1 PX 100", "SET c 1 PX 100", "SET d 1 PX 100"] {
        group.run(request);
    }
    group.run("PERSIST a");
    group.run("PEXPIRE b 200");
    group.run("SET c 2");
    group.run("DEL d");
    group.run("SET d 2 PX 300");
    group.tick(100);
    assert_eq!(group.query("DBSIZE"), Reply::Integer(4));
    group.tick(200);
    assert_eq!(group.query("EXISTS a b c d"), Reply::Integer(3));
    group.tick(300);
    assert_eq!(group.query("EXISTS a b c d"), Reply::Integer(2));
    assert_eq!(group.machine.next_due(), None);
}

/// However many keys are due at once: none is ever seen after its time, counts are exact at every
/// moment, and each entry does a bounded part of the work.
#[test]
fn a_landslide_of_expiries_is_seen_at_once_and_cleared_bit_by_bit() {
    let mut group = Group::new();
    let sets: Vec<_> = (0..3_000)
        .map(|number| Write::new(number, 1, &format!("SET key{number} v PX 100")).proposal())
        .collect();
    group.apply(&sets);
    group.run("SET stays v");
    let before = group.rows();
    group.write(Write::new(9_999, 1, "APPEND stays w").at(100).proposal());
    assert_eq!(group.query("DBSIZE"), Reply::Integer(1));
    assert_eq!(group.query("KEYS *"), Reply::Array(vec![bulk("stays")]));
    assert_eq!(group.query("RANDOMKEY"), bulk("stays"));
    assert_eq!(group.query("GET key7"), Reply::Nil);
    assert!(before - group.rows() < 100, "a write does not do it all");
    assert_eq!(group.machine.next_due(), Some(LogTime(100)), "ticks are called for");
    let mut ticks = 0;
    while group.machine.next_due().is_some() {
        group.tick(100);
        ticks += 1;
        assert_eq!(group.query("DBSIZE"), Reply::Integer(1));
    }
    assert_eq!(ticks, 3);
    assert_eq!(group.rows(), 1);
}

/// A key that is due but whose row still waits is written anew: the old expiry must not strike it,
/// and it counts once.
#[test]
fn a_due_key_can_be_written_before_its_row_has_gone() {
    for request in
        ["SET {tag}7 new", "APPEND {tag}7 new", "SET {tag}7 new PX 900", "COPY keep {tag}7"]
    {
        let mut group = Group::new();
        group.run("SET keep new");
        let sets: Vec<_> = (0..100)
            .map(|number| {
                Write::new(number, 1, &format!("SET {{tag}}{number} v PX 100")).proposal()
            })
            .collect();
        group.apply(&sets);
        let before = group.version("{tag}7");
        group.write(Write::new(200, 1, request).at(100).proposal());
        assert!(group.machine.next_due() == Some(LogTime(100)), "a backlog is left");
        assert_eq!(group.query("GET {tag}7"), bulk("new"), "{request}");
        assert_eq!(group.query("DBSIZE"), Reply::Integer(2), "{request}");
        assert!(group.version("{tag}7") > before);
        group.tick(101);
        assert_eq!(group.query("GET {tag}7"), bulk("new"), "{request}");
        assert_eq!(group.query("DBSIZE"), Reply::Integer(2), "{request}");
        assert_eq!(group.run("DEL {tag}7"), Reply::Integer(1));
        group.tick(2_000);
        assert_eq!(group.query("DBSIZE"), Reply::Integer(1), "{request}");
    }
}

#[test]
fn a_due_key_cannot_be_deleted_or_changed_before_its_row_has_gone() {
    let mut group = Group::new();
    let sets: Vec<_> = (0..100)
        .map(|number| Write::new(number, 1, &format!("SET {{tag}}{number} v PX 100")).proposal())
        .collect();
    group.apply(&sets);
    for request in ["DEL {tag}50", "PERSIST {tag}50", "PEXPIRE {tag}50 900", "EXPIRE {tag}50 9 XX"]
    {
        let write = Write::new(200, 1, request).at(100);
        let mut group = Group { machine: group.reopened(), log: Vec::new() };
        assert_eq!(group.write(write.proposal()), done(Reply::Integer(0)), "{request}");
        assert!(group.machine.next_due().is_some());
        group.tick(101);
        assert_eq!(group.query("DBSIZE"), Reply::Integer(0), "{request}");
        assert_eq!(group.rows(), 0);
    }
}

/// How many keys each entry expires is a matter of the log, not of batches: versions depend on it.
#[test]
fn a_backlog_of_expiries_is_worked_off_the_same_in_any_batches() {
    let mut proposals = Vec::new();
    for number in 0..40 {
        let request = format!("SET {{tag}}{number} v PX 100");
        proposals.push(Write::new(number, 1, &request).proposal());
    }
    for number in 0..10 {
        let request = format!("SET {{tag}}again{number} v PX 50");
        proposals.push(Write::new(100 + number, 1, &request).at(100 + number).proposal());
    }
    let mut whole = Group::new();
    whole.apply(&proposals);
    let mut single = Group::new();
    for proposal in proposals {
        single.apply(&[proposal]);
    }
    assert_eq!(whole.hash(), single.hash());
    assert_eq!(whole.query("DBSIZE"), Reply::Integer(10));
}

#[test]
fn time_within_a_transaction_stands_still() {
    let mut group = Group::new();
    let commands = ["SET k v PX 1", "GET k", "DBSIZE"].map(crate::group::parsed).to_vec();
    let exec = kontiki_kv::command::Write::Exec { watched: Vec::new(), commands };
    let exec = Write::of(1, 1, kontiki_types::Slot::of(b"k"), &exec).at(1_000).proposal();
    let replies = vec![Reply::Ok, bulk("v"), Reply::Integer(1)];
    assert_eq!(group.write(exec), done(Reply::Array(replies)));
}
