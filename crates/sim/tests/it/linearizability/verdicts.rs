//! Histories of known verdict.

use std::time::Duration;

use kontiki_sim::linearizability::{Budget, Clocks, NoVerdict, Verdict, Violation, check};

use super::history;

fn good(lines: &str) {
    let verdict = check(&history(lines), &Budget::default());
    assert!(verdict.is_linearizable(), "{verdict:?}");
}

fn bad(lines: &str) -> Violation {
    match check(&history(lines), &Budget::default()) {
        Verdict::Violation(violation) => violation,
        other => panic!("no violation: {other:?}"),
    }
}

#[test]
fn one_after_the_other() {
    good(
        "1..2 SET k a = OK
         3..4 GET k = a
         5..6 SET k b = OK
         7..8 GET k = b",
    );
}

#[test]
fn bad_a_stale_read() {
    let violation = bad("1..2 SET k a = OK
                         3..4 SET k b = OK
                         5..6 GET k = a");
    assert_eq!((violation.order, violation.stuck), (vec![0, 1], vec![2]));
    assert_eq!(violation.states.last(), Some(&vec![Some(b"b".to_vec())]));
}

#[test]
fn a_write_is_seen_before_it_returns() {
    good(
        "1..9 SET k a = OK
         2..3 GET k = nil
         4..5 GET k = a
         6..7 GET k = a",
    );
}

#[test]
fn bad_a_value_comes_and_goes() {
    bad("1..9 SET k a = OK
         2..3 GET k = a
         4..5 GET k = nil");
}

#[test]
fn bad_a_write_is_lost() {
    bad("1..2 SET k a = OK
         3..4 GET k = nil");
}

#[test]
fn bad_a_value_from_nowhere() {
    bad("1..2 SET k a = OK
         3..4 GET k = b");
}

#[test]
fn bad_a_value_from_the_future() {
    bad("1..2 GET k = a
         3..4 SET k a = OK");
}

#[test]
fn what_overlaps_may_come_in_any_order() {
    good(
        "1..10 SET k a = OK
         1..10 SET k b = OK
         2..3 GET k = b
         4..5 GET k = a",
    );
}

#[test]
fn bad_but_in_one_order() {
    bad("1..10 SET k a = OK
         1..10 SET k b = OK
         11..12 GET k = a
         13..14 GET k = b");
}

#[test]
fn bad_two_readers_see_two_orders() {
    bad("1..20 SET k a = OK
         1..20 SET k b = OK
         2..4 GET k = a
         5..7 GET k = b
         8..9 GET k = a");
}

#[test]
fn times_that_touch_may_overlap() {
    good(
        "1..5 SET k a = OK
         5..6 GET k = nil",
    );
}

#[test]
fn an_unknown_write_takes_effect_late() {
    good(
        "1..2 SET k a = OK
         3.. SET k b
         5..6 GET k = a
         7..8 GET k = b",
    );
}

#[test]
fn an_unknown_write_never_takes_effect() {
    good(
        "1..2 SET k a = OK
         3.. SET k b
         5..6 GET k = a
         7..8 GET k = a",
    );
}

#[test]
fn bad_an_unknown_write_is_undone() {
    bad("1..2 SET k a = OK
         3.. SET k b
         5..6 GET k = b
         7..8 GET k = a");
}

#[test]
fn bad_an_unknown_write_takes_effect_before_its_call() {
    bad("1..2 GET k = b
         3.. SET k b");
}

#[test]
fn bad_a_refused_write_takes_effect() {
    bad("1..2 SET k a = OK
         3..4 SET k b = -TRYAGAIN too much is waiting
         5..6 GET k = b");
}

#[test]
fn what_is_answered_with_unknown_may_take_effect() {
    good(
        "1..2 SET k a = -UNKNOWN no majority answered in time
         5..6 GET k = nil
         7..8 GET k = a",
    );
}

#[test]
fn a_counter_counts_each_once() {
    good(
        "1..9 INCR n = :2
         1..9 INCR n = :1
         10..11 DECRBY n 5 = :-3
         12..13 GET n = -3",
    );
}

#[test]
fn bad_a_counter_answers_twice_the_same() {
    bad("1..9 INCR n = :1
         1..9 INCR n = :1");
}

#[test]
fn bad_a_retry_counts_twice() {
    bad("1..2 INCR n = :1
         3.. INCR n
         5..6 GET n = 3");
}

#[test]
fn each_unknown_increment_counts_or_does_not() {
    good(
        "1.. INCR n
         1.. INCR n
         1.. INCR n
         5..6 GET n = 1
         7..8 INCR n = :4",
    );
}

#[test]
fn a_number_and_a_text() {
    good(
        "1..2 SET n x = OK
         3..4 INCR n = -ERR value is not an integer or out of range
         5..6 SET n 9223372036854775807 = OK
         7..8 INCR n = -ERR increment or decrement would overflow
         9..10 GET n = 9223372036854775807",
    );
}

#[test]
fn bad_an_error_without_a_reason() {
    bad("1..2 SET n 5 = OK
         3..4 INCR n = -ERR value is not an integer or out of range");
}

#[test]
fn appended_strings_tell_their_order() {
    good(
        "1..9 APPEND s aa = :5
         1..9 APPEND s bbb = :3
         1.. APPEND s c
         10..11 GET s = bbbaa
         12..13 STRLEN s = :6
         14..15 GET s = bbbaac",
    );
}

#[test]
fn bad_an_appended_string_is_lost() {
    let violation = bad("1..2 APPEND s a = :1
                         3..4 APPEND s b = :2
                         5..6 GET s = b");
    assert_eq!((violation.order, violation.stuck), (vec![0, 1], vec![2]));
}

#[test]
fn bad_an_appended_string_is_there_twice() {
    bad("1.. APPEND s a
         3..4 GET s = aa");
}

#[test]
fn bad_two_clients_both_win_a_lock() {
    bad("1..9 SET lock a NX = OK
         1..9 SET lock b NX = OK");
}

#[test]
fn a_lock_changes_hands() {
    good(
        "1..9 SET lock a NX = OK
         1..9 SETNX lock b = :0
         10..11 GETDEL lock = a
         12..13 SET lock c XX = nil
         14..15 SET lock d NX GET = nil
         16..17 SET lock e XX GET = d
         18..19 EXISTS lock = :1
         20..21 DEL lock = :1
         22..23 DEL lock = :0",
    );
}

#[test]
fn a_transaction_has_one_moment() {
    good(
        "1..9 INCR {a}n; APPEND {a}s x = [:1, :1]
         1..9 INCR {a}n; APPEND {a}s y; = [:2, :2]
         10..11 MGET {a}n {a}s {a}t = [2, xy, nil]
         12..13 MSET {a}s p {a}t q = OK
         14..15 EXISTS {a}s {a}s {a}t = :3",
    );
}

#[test]
fn bad_a_transaction_is_seen_in_half() {
    let violation = bad("1..9 SET {a}x 1; SET {a}y 1 = [OK, OK]
                         2..3 MGET {a}x {a}y = [1, nil]");
    assert_eq!(violation.keys, ["{a}x", "{a}y"]);
}

#[test]
fn bad_half_a_transaction_of_unknown_outcome() {
    bad("1.. SET {a}x 1; SET {a}y 1;
         2..3 GET {a}x = 1
         4..5 GET {a}y = nil");
}

#[test]
fn keys_are_alone_unless_tied() {
    let violation = bad("1..2 SET a 1 = OK
                         1..2 SET b 1 = OK
                         3..4 GET a = 1
                         3..4 GET b = nil");
    assert_eq!((violation.keys, violation.operations), (vec!["b".into()], vec![1, 3]));
}

#[test]
fn a_key_expires_when_its_time_has_come() {
    good(
        "1..2 SET k a PX 100 = OK
         3..4 GET k = a
         102..103 GET k = nil
         104..105 APPEND k b = :1
         106..107 TTL k = :-1
         108..109 EXPIRE k 1 = :1
         110..111 PTTL k = :990
         112..113 PERSIST k = :1
         5000..5001 GET k = b
         5002..5003 GETEX k PX 5 = b
         5050..5051 TTL k = :-2",
    );
}

/// A SET that nobody reads may not be put before what reads that the key is gone (swarm, seed 89).
#[test]
fn that_a_key_is_gone_is_read_before_it_is_set_again() {
    good(
        "1..2 SET k a PX 2 = OK
         5..6 GET k = nil
         5..7 GET k = nil
         5..8 SET k b = OK",
    );
}

#[test]
fn bad_a_key_expires_too_early() {
    bad("1..2 SET k a PX 100 = OK
         3..4 GET k = nil");
}

#[test]
fn bad_an_expired_key_comes_back() {
    bad("1..2 SET k a PX 100 = OK
         110..111 GET k = nil
         112..113 GET k = a");
}

#[test]
fn a_key_that_does_not_expire_is_bad_only_by_a_given_bound() {
    let lines = history(
        "1..2 SET k a PX 100 = OK
         500..501 GET k = a",
    );
    assert!(check(&lines, &Budget::default()).is_linearizable());
    let bounded = |behind| {
        let behind = Some(Duration::from_millis(behind));
        let clocks = Clocks { behind, ..Clocks::default() };
        check(&lines, &Budget { clocks, ..Budget::default() })
    };
    assert!(matches!(bounded(390), Verdict::Violation(_)));
    assert!(bounded(398).is_linearizable());
}

#[test]
fn bad_an_answer_of_another_kind() {
    bad("1..2 GET k = :1");
    bad("1..2 DEL k = nil");
    bad("1..2 SET k a; GET k = [OK]");
}

#[test]
fn a_budget_that_is_used_up_is_no_verdict() {
    let lines = history(
        "1..9 SET k a = OK
         1..9 SET k b = OK
         10..11 GET k = a",
    );
    let budget = Budget { steps: 1, ..Budget::default() };
    let verdict = check(&lines, &budget);
    assert!(!verdict.is_linearizable());
    assert!(
        matches!(verdict, Verdict::NoVerdict(NoVerdict::OutOfBudget { operations: 3, .. })),
        "{verdict:?}"
    );
}

#[test]
fn a_command_that_the_model_does_not_know_is_no_verdict() {
    let verdict = check(&history("1..2 LPUSH k a = :1"), &Budget::default());
    assert!(
        matches!(verdict, Verdict::NoVerdict(NoVerdict::UnknownCommand { operation: 0, .. })),
        "{verdict:?}"
    );
}
