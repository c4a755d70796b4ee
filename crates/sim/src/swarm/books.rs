//! What clients ask for, and the books of what they were told: counters, lists of tokens.
//!
//! - A counter only ever grows by one: in the end it holds at least as many as were acknowledged,
//!   and at most those and the unknown ones; no value is answered twice.
//! - A list only ever gets tokens, each appended once: an acknowledged one is there once, a refused
//!   one never, an unknown one at most once; of two that were sent one behind the other the second
//!   is never there without the first before it.
//!
//! Registers, keys that expire and transactions over them are judged by their histories alone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kontiki_resp::Reply;

use crate::history::{Outcome, Request};
use crate::invariants::{Checked, Violation};
use crate::random::Random;

/// How many families there are of each kind.
const REGISTERS: u64 = 2;
const COUNTERS: u64 = 2;
const LISTS: u64 = 2;
const EXPIRING: u64 = 1;

#[derive(Default)]
struct Counter {
    acknowledged: i64,
    unknown: i64,
    answered: BTreeSet<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Acknowledged,
    Unknown,
    Refused,
}

/// See the module.
#[derive(Default)]
pub(super) struct Books {
    next: u64,
    counters: BTreeMap<Bytes, Counter>,
    lists: BTreeMap<Bytes, BTreeMap<Bytes, Fate>>,
    /// For the second token of a pair the first.
    pairs: BTreeMap<Bytes, Bytes>,
}

fn words(words: &[&str]) -> Vec<Bytes> {
    words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

impl Books {
    /// All keys, to be read in the end.
    pub(super) fn keys() -> Vec<String> {
        let registers = (0..REGISTERS).flat_map(|at| [register(at, 0), register(at, 1)]);
        let others = (0..COUNTERS).map(counter).chain((0..LISTS).map(list));
        registers.chain(others).chain((0..EXPIRING).map(expiring)).collect()
    }

    /// What a client on a connection sends next, and how many replies come before that of the last
    /// request in addition to one for each.
    pub(super) fn next_call(&mut self, random: &mut Random) -> (Vec<Request>, usize) {
        match random.below(10) {
            0 => {
                let list = list(random.below(LISTS));
                let (first, second) = (self.token(), self.token());
                self.pairs.insert(second.clone(), first.clone());
                let append = |token| {
                    let mut command = words(&["APPEND", &list]);
                    command.push(token);
                    Request::Command(command)
                };
                (vec![append(first), append(second)], 0)
            }
            1 => {
                let inner = self.transaction(random);
                let extra = inner.len() + 1;
                (vec![Request::Transaction(inner)], extra)
            }
            2 if random.chance(300) => {
                let requests = self.watched(random);
                let extra = requests.last().map_or(0, |last| last.commands().len()) + 1;
                (requests, extra)
            }
            2 => {
                let most = if random.chance(200) { 16 } else { 4 };
                let count = random.between(2, most);
                let commands = (0..count).map(|_| Request::Command(self.next_command(random)));
                (commands.collect(), 0)
            }
            _ => (vec![Request::Command(self.next_command(random))], 0),
        }
    }

    /// A single command.
    pub(super) fn next_command(&mut self, random: &mut Random) -> Vec<Bytes> {
        match random.below(12) {
            0..5 => self.on_register(random),
            5..7 => {
                let counter = counter(random.below(COUNTERS));
                if random.chance(750) {
                    words(&["INCR", &counter])
                } else {
                    words(&["GET", &counter])
                }
            }
            7..10 => {
                let list = list(random.below(LISTS));
                if random.chance(750) {
                    let mut command = words(&["APPEND", &list]);
                    command.push(self.token());
                    command
                } else {
                    words(&["GET", &list])
                }
            }
            _ => self.on_expiring(random),
        }
    }

    /// A single command that changes nothing.
    pub(super) fn read(random: &mut Random) -> Vec<Bytes> {
        match random.below(5) {
            0 => words(&["GET", &counter(random.below(COUNTERS))]),
            1 => words(&["GET", &list(random.below(LISTS))]),
            2 => words(&["GET", &expiring(random.below(EXPIRING))]),
            _ => words(&["GET", &register(random.below(REGISTERS), random.below(2))]),
        }
    }

    fn on_register(&mut self, random: &mut Random) -> Vec<Bytes> {
        let family = random.below(REGISTERS);
        let (key, other) = (register(family, random.below(2)), register(family, 1));
        let mut value = self.value();
        if random.chance(60) {
            // So that a few of them fill a message, or the log that is kept.
            value.extend(std::iter::repeat_n('x', random.between(500, 3000) as usize));
        }
        match random.below(16) {
            0..5 => words(&["SET", &key, &value]),
            5..10 => words(&["GET", &key]),
            10 => words(&["DEL", &key]),
            11 => words(&["GETDEL", &key]),
            12 => words(&["SET", &key, &value, "NX"]),
            13 => words(&["SET", &key, &value, "XX"]),
            14 => words(&["SET", &key, &value, "GET"]),
            _ if random.chance(500) => words(&["EXISTS", &key]),
            _ => words(&["MGET", &register(family, 0), &other]),
        }
    }

    fn on_expiring(&mut self, random: &mut Random) -> Vec<Bytes> {
        let key = expiring(random.below(EXPIRING));
        match random.below(6) {
            0 | 1 => {
                // The longer ones outlive every run, unless time is wrong.
                let most = if random.chance(500) { 4000 } else { 2_000_000 };
                let millis = random.between(50, most).to_string();
                words(&["SET", &key, &self.value(), "PX", &millis])
            }
            2 => words(&["SET", &key, &self.value()]),
            _ => words(&["GET", &key]),
        }
    }

    /// The commands of a transaction, all of one family.
    fn transaction(&mut self, random: &mut Random) -> Vec<Vec<Bytes>> {
        match random.below(3) {
            0 => {
                let family = random.below(REGISTERS);
                let value = self.value();
                let (one, two) = (register(family, 0), register(family, 1));
                vec![
                    words(&["SET", &one, &value]),
                    words(&["GET", &two]),
                    words(&["SET", &two, &value]),
                ]
            }
            1 => {
                let counter = counter(random.below(COUNTERS));
                vec![words(&["INCR", &counter]), words(&["GET", &counter])]
            }
            _ => {
                let list = list(random.below(LISTS));
                let mut append = words(&["APPEND", &list]);
                append.push(self.token());
                vec![append, words(&["GET", &list])]
            }
        }
    }

    /// A transaction that takes effect only if a key of its family is still what was read of it.
    fn watched(&mut self, random: &mut Random) -> Vec<Request> {
        let family = random.below(REGISTERS);
        let key = register(family, random.below(2));
        let value = self.value();
        let inner = vec![
            words(&["SET", &register(family, 0), &value]),
            words(&["SET", &register(family, 1), &value]),
        ];
        vec![
            Request::Command(words(&["WATCH", &key])),
            Request::Command(words(&["GET", &key])),
            Request::Transaction(inner),
        ]
    }

    fn value(&mut self) -> String {
        self.next += 1;
        format!("v{}", self.next)
    }

    fn token(&mut self) -> Bytes {
        self.next += 1;
        format!("{};", self.next).into()
    }

    /// Writes down what became of a request.
    ///
    /// # Errors
    /// The answer cannot be right.
    pub(super) fn book(&mut self, request: &Request, outcome: &Outcome) -> Checked {
        let commands = request.commands();
        for (at, command) in commands.iter().enumerate() {
            let reply = match (request, outcome) {
                (Request::Transaction(_), Outcome::Known { reply: Reply::Array(replies), .. }) => {
                    replies.get(at)
                }
                (_, Outcome::Known { reply, .. }) => Some(reply),
                _ => None,
            };
            let fate = match outcome {
                Outcome::Known { .. } => Fate::Acknowledged,
                Outcome::Refused { .. } => Fate::Refused,
                Outcome::Unknown => Fate::Unknown,
            };
            match &command[0][..] {
                b"INCR" => self.raised(&command[1], fate, reply)?,
                b"APPEND" => {
                    let tokens = self.lists.entry(command[1].clone()).or_default();
                    tokens.insert(command[2].clone(), fate);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn raised(&mut self, key: &Bytes, fate: Fate, reply: Option<&Reply>) -> Checked {
        let counter = self.counters.entry(key.clone()).or_default();
        match (fate, reply) {
            (Fate::Unknown, _) => counter.unknown += 1,
            (Fate::Refused, _) => {}
            (Fate::Acknowledged, Some(&Reply::Integer(value))) => {
                counter.acknowledged += 1;
                if !counter.answered.insert(value) {
                    return twice(format!("{key:?} was raised to {value} twice"));
                }
            }
            (Fate::Acknowledged, other) => {
                return twice(format!("INCR {key:?} is answered by {other:?}"));
            }
        }
        Ok(())
    }

    /// Compares what a key holds in the end with the books.
    ///
    /// # Errors
    /// Something is lost, or there twice.
    pub(super) fn audit(&self, key: &str, reply: &Reply) -> Checked {
        let value = match reply {
            Reply::Bulk(value) => value.clone(),
            _ => Bytes::new(),
        };
        if let Some(counter) = self.counters.get(key.as_bytes()) {
            let text = if value.is_empty() { "0".into() } else { String::from_utf8_lossy(&value) };
            let Ok(number) = text.parse::<i64>() else {
                return twice(format!("counter {key} holds {text}"));
            };
            let Counter { acknowledged, unknown, .. } = counter;
            if number < *acknowledged {
                return lost(format!("{key} holds {number}, and {acknowledged} were acknowledged"));
            }
            if number > acknowledged + unknown {
                return twice(format!(
                    "{key} holds {number} after {acknowledged} acknowledged and {unknown} unknown"
                ));
            }
        }
        match self.lists.get(key.as_bytes()) {
            Some(tokens) => self.audit_list(key, &value, tokens),
            None => Ok(()),
        }
    }

    fn audit_list(&self, key: &str, value: &Bytes, tokens: &BTreeMap<Bytes, Fate>) -> Checked {
        let mut seen = BTreeSet::new();
        for token in value.split_inclusive(|&byte| byte == b';') {
            let token = Bytes::copy_from_slice(token);
            if tokens.get(&token).is_none_or(|fate| *fate == Fate::Refused) {
                return twice(format!("{key} has {token:?}, which was refused or never sent"));
            }
            if let Some(first) = self.pairs.get(&token)
                && !seen.contains(first)
                && tokens.get(first) != Some(&Fate::Refused)
            {
                return Err(Violation::new(
                    "Commands of a connection keep their order",
                    format!("{key} has {token:?} and not {first:?} before it"),
                ));
            }
            if !seen.insert(token.clone()) {
                return twice(format!("{key} has {token:?} twice"));
            }
        }
        let missing = tokens
            .iter()
            .find(|(token, fate)| **fate == Fate::Acknowledged && !seen.contains(*token));
        match missing {
            Some((token, _)) => lost(format!("{key} lacks {token:?}, which was acknowledged")),
            None => Ok(()),
        }
    }
}

fn lost(seen: String) -> Checked {
    Err(Violation::new("What was acknowledged is kept", seen))
}

fn twice(seen: String) -> Checked {
    Err(Violation::new("Each write takes effect once", seen))
}

fn register(family: u64, at: u64) -> String {
    format!("{{r{family}}}{at}")
}

fn counter(family: u64) -> String {
    format!("{{c{family}}}")
}

fn list(family: u64) -> String {
    format!("{{l{family}}}")
}

fn expiring(family: u64) -> String {
    format!("{{t{family}}}")
}
