//! Against every order there is, and a model written once more, in another way.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_resp::Reply;
use kontiki_sim::history::{History, Operation, Outcome, Request};
use kontiki_sim::linearizability::{Budget, Verdict, check};
use kontiki_sim::random::Random;

type Store = BTreeMap<Bytes, Vec<u8>>;

/// A few commands, done on whole strings.
fn run(store: &mut Store, words: &[Bytes]) -> Reply {
    let name = std::str::from_utf8(&words[0]).expect("a name");
    let key = words[1].clone();
    let bulk = |value: Option<&Vec<u8>>| {
        value.map_or(Reply::Null, |value| Reply::Bulk(value.clone().into()))
    };
    let before = store.get(&key).cloned();
    match name {
        "GET" => bulk(before.as_ref()),
        "MGET" => Reply::Array(words[1..].iter().map(|key| bulk(store.get(key))).collect()),
        "STRLEN" => Reply::Integer(before.unwrap_or_default().len() as i64),
        "DEL" => Reply::Integer(i64::from(store.remove(&key).is_some())),
        "GETDEL" => bulk(store.remove(&key).as_ref()),
        "SET" => {
            let option = words.get(3).map(|word| &word[..]);
            if option == Some(b"NX") && before.is_some()
                || option == Some(b"XX") && before.is_none()
            {
                return Reply::Null;
            }
            store.insert(key, words[2].to_vec());
            match option {
                Some(b"GET") => bulk(before.as_ref()),
                _ => Reply::Simple("OK".into()),
            }
        }
        "APPEND" => {
            let value = store.entry(key).or_default();
            value.extend_from_slice(&words[2]);
            Reply::Integer(value.len() as i64)
        }
        "INCR" => {
            let text = before.map_or("0".to_owned(), |value| String::from_utf8(value).expect("a"));
            let Ok(number) = text.parse::<i64>() else {
                return Reply::Error("ERR value is not an integer or out of range".into());
            };
            store.insert(key, (number + 1).to_string().into());
            Reply::Integer(number + 1)
        }
        other => panic!("{other}"),
    }
}

fn run_all(store: &mut Store, request: &Request) -> Reply {
    match request {
        Request::Command(words) => run(store, words),
        Request::Transaction(commands) => {
            Reply::Array(commands.iter().map(|words| run(store, words)).collect())
        }
    }
}

/// Whether some order explains the operations that are left.
fn has_order(left: &[&Operation], store: &Store) -> bool {
    let is_required = |operation: &&Operation| operation.returned().is_some();
    if !left.iter().any(is_required) {
        return true;
    }
    let first_return = left.iter().filter_map(|operation| operation.returned()).min();
    left.iter().enumerate().any(|(at, operation)| {
        if Some(operation.call) > first_return {
            return false;
        }
        let mut rest = left.to_vec();
        rest.remove(at);
        let mut store = store.clone();
        let reply = run_all(&mut store, &operation.request);
        let fits = match &operation.outcome {
            Outcome::Known { reply: seen, .. } => *seen == reply,
            Outcome::Unknown => true,
            Outcome::Refused { .. } => false,
        };
        fits && has_order(&rest, &store)
    })
}

fn request(random: &mut Random, mix: u64) -> Request {
    let pick = |random: &mut Random, from: &[&str]| {
        random.pick(from).map(|text| (*text).to_owned()).unwrap_or_default()
    };
    let command = |random: &mut Random| -> Vec<Bytes> {
        let line = match (mix, random.below(12)) {
            (0, 0..5) | (_, 0) => format!("SET k {}", pick(random, &["a", "b", "1"])),
            (0, _) | (_, 1..4) => "GET k".to_owned(),
            (1, _) => pick(random, &["APPEND k a", "APPEND k ab", "APPEND k b", "STRLEN k"]),
            (2, 4..8) => "INCR k".to_owned(),
            (_, 4) => "INCR k".to_owned(),
            (_, 5) => format!(
                "SET k {} {}",
                pick(random, &["a", "2"]),
                pick(random, &["NX", "XX", "GET"])
            ),
            (_, 6) => "GETDEL k".to_owned(),
            (_, 7) => "DEL k".to_owned(),
            (_, 8) => "MGET k l".to_owned(),
            (_, 9) => "SET l a".to_owned(),
            (_, 10) => "APPEND l b".to_owned(),
            _ => "STRLEN k".to_owned(),
        };
        line.split(' ').map(|word| Bytes::from(word.to_owned())).collect()
    };
    if mix == 3 && random.chance(300) {
        return Request::Transaction((0..2).map(|_| command(random)).collect());
    }
    Request::Command(command(random))
}

/// A tiny history: some store answers, mostly the right one.
fn tiny(random: &mut Random) -> History {
    let (mix, operations) = (random.below(4), random.between(2, 7));
    let mut store = Store::new();
    let mut history = History::default();
    for client in 0..operations {
        let request = request(random, mix);
        let moment = 10 * client;
        let before = store.clone();
        let reply = run_all(&mut store, &request);
        let (call, at) = (moment.saturating_sub(random.below(25)), moment + random.below(25));
        let outcome = if random.chance(200) {
            if random.chance(500) {
                store = before;
            }
            Outcome::Unknown
        } else {
            Outcome::Known { reply, at }
        };
        history.push(Operation { client, request, call, outcome });
    }
    if random.chance(500) {
        // One answer for another's.
        let reply_of = |operation: &Operation| match &operation.outcome {
            Outcome::Known { reply, .. } => Some(reply.clone()),
            _ => None,
        };
        let replies: Vec<Reply> = history.operations.iter().filter_map(reply_of).collect();
        let at = random.below(operations) as usize;
        if let Outcome::Known { reply, .. } = &mut history.operations[at].outcome {
            *reply = random.pick(&replies).cloned().unwrap_or(Reply::Null);
        }
    }
    history
}

#[test]
fn tiny_histories_have_the_verdict_of_all_orders() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..15_000 {
        let mut random = Random::new(seed);
        let history = tiny(&mut random);
        // A transaction that is answered with nil has done nothing.
        let does_something = |operation: &&Operation| match (&operation.request, &operation.outcome)
        {
            (Request::Transaction(_), Outcome::Known { reply, .. }) => *reply != Reply::Null,
            _ => true,
        };
        let left: Vec<&Operation> = history.operations.iter().filter(does_something).collect();
        let expected = has_order(&left, &Store::new());
        let verdict = check(&history, &Budget::default());
        match &verdict {
            Verdict::Linearizable(_) if expected => good += 1,
            Verdict::Violation(_) if !expected => bad += 1,
            _ => panic!("seed {seed}: {verdict:?} of\n{}", history.to_json_lines()),
        }
        let read = History::from_json_lines(&history.to_json_lines()).expect("a history");
        assert_eq!(check(&read, &Budget::default()).is_linearizable(), expected, "seed {seed}");
    }
    assert!(good > 2_000 && bad > 2_000, "{good} good, {bad} bad");
}
