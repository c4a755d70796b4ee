//! The checker of histories is checked: on histories whose verdict a person can see, against every
//! order there is, and for size.

mod brute_force;
mod large;
mod verdicts;

use bytes::Bytes;
use kontiki_resp::Reply;
use kontiki_sim::history::{History, Operation, Outcome, Request};

/// A history from lines such as `1..4 SET k a = OK`: call, return (nothing if it is unknown), words,
/// answer. Commands of a transaction stand between semicolons. Each line is a client of its own.
pub fn history(lines: &str) -> History {
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let operations = lines.zip(1..).map(|(line, client)| operation(client, line));
    History { operations: operations.collect() }
}

fn operation(client: u64, line: &str) -> Operation {
    let (times, rest) = line.split_once(' ').expect("times");
    let (call, returned) = times.split_once("..").expect("two times");
    let (words, answer) = match rest.rsplit_once(" = ") {
        Some((words, answer)) => (words, Some(answer)),
        None => (rest, None),
    };
    let commands = words.split(';').map(|command| {
        command.split_whitespace().map(|word| Bytes::from(word.to_owned())).collect()
    });
    let mut commands: Vec<Vec<Bytes>> = commands.collect();
    let is_transaction = words.contains(';');
    commands.retain(|command| !command.is_empty());
    let request = if is_transaction {
        Request::Transaction(commands)
    } else {
        Request::Command(commands.remove(0))
    };
    let outcome = match returned.parse::<u64>() {
        Err(_) => Outcome::Unknown,
        Ok(at) => Outcome::of(Some(reply(answer.expect("an answer"))), at * MS),
    };
    Operation { client, request, call: call.parse::<u64>().expect("a time") * MS, outcome }
}

fn reply(text: &str) -> Reply {
    if let Some(items) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return Reply::Array(items.split(", ").map(reply).collect());
    }
    match text {
        "nil" => Reply::Null,
        "OK" => Reply::Simple("OK".into()),
        text if text.starts_with('-') => Reply::Error(text[1..].to_owned().into()),
        text => match text.strip_prefix(':') {
            Some(number) => Reply::Integer(number.parse().expect("a number")),
            None => Reply::Bulk(text.to_owned().into()),
        },
    }
}

/// Times are written in milliseconds.
const MS: u64 = 1_000_000;
