//! PROTOCOL 3: the writes of one connection on one slot take effect in the order sent.

use kontiki_kv::{Reply, Verdict};

use crate::group::{Group, WINDOW, Write, bulk, done};

/// SET k 1 (refused once, retried) and SET k 2 are pipelined. Without the rule: final value 1.
#[test]
fn a_write_whose_predecessor_is_missing_is_sent_back() {
    let mut group = Group::new();
    let first = Write::new(1, 1, "SET k 1").low(1);
    let second = Write::new(1, 2, "SET k 2").low(1).after(1);
    assert_eq!(group.write(second.clone().proposal()), Verdict::SentBack);
    assert_eq!(group.query("GET k"), Reply::Nil);
    assert_eq!(group.write(first.clone().proposal()), done(Reply::Ok));
    assert_eq!(group.write(second.proposal()), done(Reply::Ok));
    assert_eq!(group.write(first.proposal()), done(Reply::Ok), "a late copy changes nothing");
    assert_eq!(group.query("GET k"), bulk("2"));
}

#[test]
fn a_predecessor_below_the_low_mark_was_answered() {
    let mut group = Group::new();
    group.write(Write::new(1, 1, "SET k 1").proposal());
    let third = Write::new(1, 3, "SET k 3").low(3).after(2).proposal();
    assert_eq!(group.write(third), done(Reply::Ok), "its own low mark says so");
}

#[test]
fn a_predecessor_on_another_slot_does_not_do() {
    let mut group = Group::new();
    group.write(Write::new(1, 1, "SET {a}k v").low(1).proposal());
    let second = Write::new(1, 2, "SET {b}k v").low(1).after(1).proposal();
    assert_eq!(group.write(second), Verdict::SentBack);
}

#[test]
fn a_whole_pipeline_in_one_batch_takes_effect_in_order() {
    let mut group = Group::new();
    let sent = |seq: u64| {
        let write = Write::new(1, seq, &format!("APPEND k {seq}")).low(1);
        if seq == 1 { write.proposal() } else { write.after(seq - 1).proposal() }
    };
    let jumbled: Vec<_> = [2, 1, 2, 3, 5, 4, 5].into_iter().map(sent).collect();
    let verdicts = group.apply(&jumbled);
    let sent_back = verdicts.iter().filter(|verdict| **verdict == Verdict::SentBack).count();
    assert_eq!(sent_back, 2);
    assert_eq!(group.query("GET k"), bulk("12345"));
}

/// The predecessor's record is gone with its deadline and was never acknowledged: nobody can say
/// whether it was first, so this one waits, and in the end is refused by its own deadline.
#[test]
fn a_predecessor_forgotten_by_its_deadline_is_missing() {
    let mut group = Group::new();
    group.write(Write::new(1, 1, "SET k 1").low(1).proposal());
    let second = Write::new(1, 2, "SET k 2").low(1).after(1).at(WINDOW + 1);
    assert_eq!(group.write(second.clone().proposal()), Verdict::SentBack);
    assert_eq!(group.write(second.stamped(3 * WINDOW).proposal()), Verdict::Unknown);
    assert_eq!(group.query("GET k"), bulk("1"));
}

#[test]
fn a_write_that_is_sent_back_still_raises_the_low_mark() {
    let mut group = Group::new();
    let first = Write::new(1, 1, "INCR n").low(1);
    group.write(first.clone().proposal());
    let third = Write::new(1, 3, "INCR n").low(2).after(2).proposal();
    assert_eq!(group.write(third), Verdict::SentBack);
    assert_eq!(group.write(first.proposal()), Verdict::Unknown);
}
