//! Thousands of operations on one key, in bounded work.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_resp::Reply;
use kontiki_sim::history::{History, Operation, Outcome, Request};
use kontiki_sim::linearizability::{Budget, Verdict, check};
use kontiki_sim::random::Random;

use super::history;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mix {
    Register,
    Counter,
    Log,
    Everything,
}

/// What a good store answers `clients`, of which each has one call after the other, on one key; one
/// call in `unknown` stays without an answer, and its client goes on as another one.
fn recorded(mix: Mix, seed: u64, operations: usize, clients: usize, unknown: u64) -> History {
    let mut random = Random::new(seed);
    let mut value: Option<Vec<u8>> = None;
    let mut history = History::default();
    // When a client is free again; and writes that will take effect though nobody will hear of it.
    let mut free: Vec<u64> = vec![0; clients];
    let mut late: BTreeMap<(u64, usize), Vec<String>> = BTreeMap::new();
    // By the moment of their effect.
    let mut planned: Vec<(u64, u64, u64, usize)> = (0..operations)
        .map(|at| {
            let client = at % clients;
            let call = free[client] + random.below(100);
            let moment = call + random.below(1000);
            let returned = moment + random.below(1000);
            free[client] = returned + 1;
            (moment, call, returned, at)
        })
        .collect();
    planned.sort_unstable();
    for (moment, call, returned, at) in planned {
        while let Some(entry) = late.first_entry().filter(|entry| entry.key().0 <= moment) {
            let words = entry.remove();
            answer(&mut value, &words);
        }
        let words = command(mix, &mut random, at);
        let outcome = if random.below(unknown) == 0 {
            if random.chance(500) {
                late.insert((moment + random.below(5000), at), words.clone());
            }
            Outcome::Unknown
        } else {
            Outcome::Known { reply: answer(&mut value, &words), at: returned }
        };
        let words = words.into_iter().map(Bytes::from).collect();
        let client = (at % clients) as u64;
        history.push(Operation { client, request: Request::Command(words), call, outcome });
    }
    // What is there in the end.
    let end = free.iter().max().copied().unwrap_or(0) + 10_000;
    for (_, words) in late {
        answer(&mut value, &words);
    }
    let words = ["GET".to_owned(), "k".to_owned()];
    let outcome = Outcome::Known { reply: answer(&mut value, &words), at: end + 1 };
    history.push(Operation::command(0, &["GET", "k"], end, outcome));
    history
}

fn command(mix: Mix, random: &mut Random, at: usize) -> Vec<String> {
    let line = match (mix, random.below(10)) {
        (_, 0..4) => "GET k".to_owned(),
        (Mix::Register, _) => format!("SET k {at}"),
        (Mix::Counter, _) => "INCR k".to_owned(),
        (Mix::Log, _) => format!("APPEND k <{at}>"),
        (Mix::Everything, 4) => format!("SET k {at}"),
        (Mix::Everything, 5) => "INCR k".to_owned(),
        (Mix::Everything, 6) => format!("APPEND k {}", at % 7),
        (Mix::Everything, 7) => "GETDEL k".to_owned(),
        (Mix::Everything, 8) => format!("SET k {at} NX"),
        (Mix::Everything, _) => "STRLEN k".to_owned(),
    };
    line.split(' ').map(str::to_owned).collect()
}

fn answer(value: &mut Option<Vec<u8>>, words: &[String]) -> Reply {
    let bulk = |value: &Option<Vec<u8>>| match value {
        Some(value) => Reply::Bulk(value.clone().into()),
        None => Reply::Null,
    };
    let number = value.as_ref().map_or(Some(0), |value| {
        let text = std::str::from_utf8(value).ok()?;
        text.parse::<i64>().ok().filter(|number| number.to_string() == text)
    });
    match words[0].as_str() {
        "GET" => bulk(value),
        "STRLEN" => Reply::Integer(value.as_ref().map_or(0, Vec::len) as i64),
        "GETDEL" => bulk(&value.take()),
        "SET" if words.len() == 4 && value.is_some() => Reply::Null,
        "SET" => {
            *value = Some(words[2].clone().into());
            Reply::Simple("OK".into())
        }
        "APPEND" => {
            let value = value.get_or_insert_default();
            value.extend_from_slice(words[2].as_bytes());
            Reply::Integer(value.len() as i64)
        }
        _ => match number.and_then(|number| number.checked_add(1)) {
            Some(sum) => {
                *value = Some(sum.to_string().into());
                Reply::Integer(sum)
            }
            None => Reply::Error("ERR value is not an integer or out of range".into()),
        },
    }
}

/// The work is bounded by steps, which are the same on every machine.
fn judged(history: &History, steps: u64) -> Verdict {
    check(history, &Budget { steps, ..Budget::default() })
}

#[test]
fn five_thousand_operations_on_one_key() {
    for mix in [Mix::Register, Mix::Counter, Mix::Log, Mix::Everything] {
        for seed in 1..=3 {
            let history = recorded(mix, seed, 5_000, 8, 100);
            let verdict = judged(&history, 1_000_000);
            assert!(verdict.is_linearizable(), "{verdict:?}");
        }
    }
}

/// The last answer is exchanged for one from long ago.
#[test]
fn a_wrong_answer_behind_two_thousand_operations() {
    for mix in [Mix::Register, Mix::Counter, Mix::Log] {
        for seed in 1..=2 {
            let mut history = recorded(mix, seed, 2_000, 8, 100);
            let reads = |operation: &&Operation| {
                matches!(operation.outcome, Outcome::Known { reply: Reply::Bulk(_), .. })
            };
            let early = history.operations.iter().filter(reads).nth(200).expect("a read").clone();
            let at = early.returned().expect("a return");
            let last = history.operations.last_mut().expect("the last");
            let Outcome::Known { at: then, .. } = last.outcome else { panic!("an answer") };
            last.outcome = match early.outcome {
                Outcome::Known { reply, .. } => Outcome::Known { reply, at: then },
                other => other,
            };
            assert!(then > at + 10_000);
            match judged(&history, 5_000_000) {
                Verdict::Violation(violation) => {
                    assert_eq!(violation.stuck, [2_000], "{violation}");
                    assert!(violation.order.len() > 1_900, "{violation}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Both turn wrong where `b` is placed too early, with many writes left that may have taken effect
/// and are of no help.
#[test]
fn times_to_live_of_unknown_outcome_are_not_tried_in_all_their_orders() {
    let unknown: String =
        (0..30).map(|at| format!("{at}.. PEXPIRE k {}\n{at}.. PERSIST k\n", 2000 + at)).collect();
    let read_later = "100..101 SET k a PX 9000 = OK
         110..120 SET k b PX 9000 = OK
         110..120 SET k c PX 9000 = OK
         130..131 PERSIST k = :1
         140..141 GET k = b";
    let gone_before = "100..101 SET k a PX 1000 = OK
         110..3000 SET k b PX 9000 = OK
         120..3000 GET k = nil
         3010..3011 GET k = b";
    for lines in [read_later, gone_before] {
        let verdict = judged(&history(&format!("{unknown}{lines}")), 20_000);
        assert!(verdict.is_linearizable(), "{verdict:?}");
    }
}
