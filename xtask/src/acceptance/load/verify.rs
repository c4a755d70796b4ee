//! What a load's history says about what must be in the store, and what must not.

use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};

use super::{Answer, COUNTER_OF_ALL, ClientHistory, History, Operation, log_key, own_counter};
use crate::acceptance::client::Reply;

/// Reads the value of a key.
type Read<'a> = &'a mut dyn FnMut(&str) -> Result<Reply>;

pub fn verify(history: &History, read: Read<'_>) -> Result<()> {
    let mut of_all = Counted::default();
    for client in &history.clients {
        let mut own = Counted::default();
        for event in &client.events {
            match event.operation {
                Operation::CountOwn => own.add(&event.answer),
                Operation::CountAll => of_all.add(&event.answer),
                Operation::Append(_) => {}
            }
        }
        own.check(&own_counter(client.client), read)?;
        check_log(client, read)?;
    }
    of_all.check(COUNTER_OF_ALL, read)
}

/// The answers that one counter gave.
#[derive(Default)]
struct Counted {
    values: Vec<i64>,
    unknown: usize,
}

impl Counted {
    fn add(&mut self, answer: &Answer) {
        match answer {
            Answer::Acknowledged(value) => self.values.push(*value),
            Answer::Unknown(_) => self.unknown += 1,
        }
    }

    /// acknowledged ≤ final ≤ acknowledged + unknown, and no two answers are the same.
    fn check(&self, key: &str, read: Read<'_>) -> Result<()> {
        let last = match read(key)? {
            Reply::Bulk(bytes) => std::str::from_utf8(&bytes)?.parse::<usize>()?,
            Reply::Nil => 0,
            other => bail!("GET {key} answered {other:?}"),
        };
        let acknowledged = self.values.len();
        ensure!(
            last >= acknowledged,
            "{key} is {last}, but {acknowledged} increments were acknowledged: lost writes"
        );
        ensure!(
            last <= acknowledged + self.unknown,
            "{key} is {last} after {acknowledged} acknowledged and {} unknown: doubled writes",
            self.unknown
        );
        let distinct: BTreeSet<i64> = self.values.iter().copied().collect();
        ensure!(distinct.len() == acknowledged, "{key} answered the same number twice");
        let highest = distinct.last().copied().unwrap_or(0);
        ensure!(highest <= last as i64, "{key} is {last}, but {highest} was answered");
        Ok(())
    }
}

/// Each acknowledged number is there once, in order; others only if their outcome is unknown.
fn check_log(client: &ClientHistory, read: Read<'_>) -> Result<()> {
    let mut acknowledged: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut unknown = BTreeSet::new();
    for event in &client.events {
        let Operation::Append(number) = event.operation else { continue };
        let numbers = acknowledged.entry(log_key(client.client, number)).or_default();
        match event.answer {
            Answer::Acknowledged(_) => numbers.push(number),
            Answer::Unknown(_) => drop(unknown.insert(number)),
        }
    }
    for (key, expected) in acknowledged {
        let stored = match read(&key)? {
            Reply::Bulk(bytes) => numbers(&bytes).with_context(|| format!("{key} is garbled"))?,
            Reply::Nil => Vec::new(),
            other => bail!("GET {key} answered {other:?}"),
        };
        let distinct: BTreeSet<u64> = stored.iter().copied().collect();
        ensure!(distinct.len() == stored.len(), "{key} holds a number twice: doubled writes");
        let known: Vec<u64> =
            stored.iter().copied().filter(|number| !unknown.contains(number)).collect();
        if known != expected {
            let lost: Vec<&u64> =
                expected.iter().filter(|number| !distinct.contains(number)).collect();
            bail!("{key} does not hold the acknowledged numbers in order; missing: {lost:?}");
        }
    }
    Ok(())
}

fn numbers(bytes: &[u8]) -> Result<Vec<u64>> {
    let words = std::str::from_utf8(bytes)?.split_whitespace();
    Ok(words.map(str::parse).collect::<Result<Vec<u64>, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::super::Event;
    use super::*;
    use std::time::Instant;

    fn event(operation: Operation, answer: Option<i64>) -> Event {
        let now = Instant::now();
        let answer = answer.map_or(Answer::Unknown("no".into()), Answer::Acknowledged);
        Event { operation, called: now, answered: now, answer }
    }

    /// Two acknowledged increments and one unknown; numbers 0 and 2 acknowledged, 1 unknown.
    fn history() -> History {
        let events = vec![
            event(Operation::CountOwn, Some(1)),
            event(Operation::CountOwn, None),
            event(Operation::CountOwn, Some(3)),
            event(Operation::Append(0), Some(2)),
            event(Operation::Append(1), None),
            event(Operation::Append(2), Some(4)),
        ];
        History { clients: vec![ClientHistory { client: 0, node: 0, events }] }
    }

    fn check(counter: &str, log: &str) -> Result<()> {
        verify(&history(), &mut |key| {
            Ok(match key {
                "count:0" => Reply::Bulk(counter.into()),
                "log:0:0" => Reply::Bulk(log.into()),
                _ => Reply::Nil,
            })
        })
    }

    #[test]
    fn what_may_be_there_passes() {
        check("3", "0 2 ").expect("the unknown append was not applied");
        check("3", "0 1 2 ").expect("the unknown append was applied");
        check("3", "0 2 1 ").expect("the unknown append was applied late");
    }

    #[test]
    fn losses_doubles_and_inventions_are_found() {
        for (counter, log, why) in [
            ("1", "0 2 ", "lost"),
            ("4", "0 2 ", "doubled"),
            ("2", "0 2 ", "was answered"),
            ("3", "0 1 ", "missing: [2]"),
            ("3", "0 1 1 2 ", "twice"),
            ("3", "2 0 ", "in order"),
            ("3", "0 2 9 ", "in order"),
            ("3", "0 x ", "garbled"),
        ] {
            let error = check(counter, log).expect_err(why);
            assert!(format!("{error:#}").contains(why), "{error:#} instead of {why}");
        }
    }

    #[test]
    fn one_answer_given_twice_is_found() {
        let events = vec![event(Operation::CountAll, Some(1)), event(Operation::CountAll, Some(1))];
        let history = History { clients: vec![ClientHistory { client: 0, node: 0, events }] };
        let mut read = |key: &str| match key {
            COUNTER_OF_ALL => Ok(Reply::Bulk(b"2".to_vec())),
            _ => Ok(Reply::Nil),
        };
        let error = verify(&history, &mut read).expect_err("twice");
        assert!(error.to_string().contains("twice"));
    }
}
