//! From the words of a history to what the search works on: commands as steps on numbered keys,
//! replies as answers.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kontiki_resp::Reply;

use super::model::{Answer, Expiry, Step, When};
use super::value::Value;
use crate::history::{Operation, Outcome};

/// A command: what it does to which keys, and how its answer is made of theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) steps: Vec<(Bytes, Step)>,
    pub(super) shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The one step's answer.
    One,
    /// The list of the answers.
    Each,
    /// The sum of the answers.
    Sum,
    /// OK, whatever the steps answer.
    Fine,
}

/// What a command answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// An answer for each step.
    Each(Vec<Answer>),
    /// Their sum.
    Sum(i64),
    /// OK.
    Fine,
    /// Something that no state lets the command answer.
    Absurd,
}

/// The commands of an operation.
///
/// # Errors
/// The model does not know one of them.
pub(super) fn commands(operation: &Operation) -> Result<Vec<Command>, String> {
    operation
        .request
        .commands()
        .iter()
        .map(|words| {
            command(words).ok_or_else(|| {
                let words: Vec<_> =
                    words.iter().map(|word| String::from_utf8_lossy(word)).collect();
                format!("the model does not know {:?}", words.join(" "))
            })
        })
        .collect()
}

fn command(words: &[Bytes]) -> Option<Command> {
    let (name, arguments) = words.split_first()?;
    let name = name.to_ascii_uppercase();
    let key = arguments.first()?.clone();
    let one = |step: Step| Some(Command { steps: vec![(key.clone(), step)], shape: Shape::One });
    let many = |step: Step, shape: Shape| {
        let steps = arguments.iter().map(|key| (key.clone(), step.clone())).collect();
        Some(Command { steps, shape })
    };
    match (&name[..], &arguments[1..]) {
        (b"GET", []) => one(Step::Get),
        (b"STRLEN", []) => one(Step::Length),
        (b"TTL" | b"PTTL", []) => one(Step::TimeLeft),
        (b"MGET", _) => many(Step::Get, Shape::Each),
        (b"EXISTS", _) => many(Step::Exists, Shape::Sum),
        (b"DEL" | b"UNLINK", _) => many(Step::Delete, Shape::Sum),
        (b"SET", [value, options @ ..]) => one(set(value, options)?),
        (b"SETNX", [value]) => one(plain(value, When::IfAbsent, true)),
        (b"SETEX", [time, value]) => one(expiring(value, seconds(time)?)),
        (b"PSETEX", [time, value]) => one(expiring(value, millis(time)?)),
        (b"GETSET", [value]) => one(set(value, &[Bytes::from_static(b"GET")])?),
        (b"MSET", [_, ..]) if arguments.len().is_multiple_of(2) => {
            let pairs = arguments.chunks(2);
            let steps = pairs.map(|pair| (pair[0].clone(), plain(&pair[1], When::Always, false)));
            Some(Command { steps: steps.collect(), shape: Shape::Fine })
        }
        (b"GETDEL", []) => one(Step::Take),
        (b"INCR", []) => one(Step::Add(1)),
        (b"DECR", []) => one(Step::Add(-1)),
        (b"INCRBY", [by]) => one(Step::Add(number(by)?)),
        (b"DECRBY", [by]) => one(Step::Add(number(by)?.checked_neg()?)),
        (b"APPEND", [bytes]) => one(Step::Append(bytes.clone())),
        (b"PERSIST", []) => one(Step::Persist),
        (b"EXPIRE", [time]) => one(Step::Expire(seconds(time)?)),
        (b"PEXPIRE", [time]) => one(Step::Expire(millis(time)?)),
        (b"GETEX", []) => one(Step::GetAndExpire(Expiry::Keep)),
        (b"GETEX", [option]) if option.eq_ignore_ascii_case(b"PERSIST") => {
            one(Step::GetAndExpire(Expiry::Clear))
        }
        (b"GETEX", [unit, time]) => one(Step::GetAndExpire(after(unit, time)?)),
        _ => None,
    }
}

fn plain(value: &Bytes, when: When, counts: bool) -> Step {
    let expiry = Expiry::Clear;
    Step::Set { value: Value::new(value), bytes: value.clone(), when, get: false, counts, expiry }
}

fn expiring(value: &Bytes, time: Expiry) -> Step {
    match plain(value, When::Always, false) {
        Step::Set { value, bytes, when, get, counts, .. } => {
            Step::Set { value, bytes, when, get, counts, expiry: time }
        }
        other => other,
    }
}

fn set(bytes: &Bytes, mut options: &[Bytes]) -> Option<Step> {
    let (mut when, mut get, mut expiry) = (When::Always, false, Expiry::Clear);
    while let Some((option, rest)) = options.split_first() {
        options = rest;
        match &option.to_ascii_uppercase()[..] {
            b"NX" => when = When::IfAbsent,
            b"XX" => when = When::IfPresent,
            b"GET" => get = true,
            b"KEEPTTL" => expiry = Expiry::Keep,
            b"EX" | b"PX" => {
                let (time, rest) = options.split_first()?;
                options = rest;
                expiry = after(option, time)?;
            }
            _ => return None,
        }
    }
    let value = Value::new(bytes);
    Some(Step::Set { value, bytes: bytes.clone(), when, get, counts: false, expiry })
}

fn after(unit: &Bytes, time: &Bytes) -> Option<Expiry> {
    match &unit.to_ascii_uppercase()[..] {
        b"EX" => seconds(time),
        b"PX" => millis(time),
        _ => None,
    }
}

fn seconds(text: &Bytes) -> Option<Expiry> {
    number(text)?.checked_mul(1000).map(in_millis)
}

fn millis(text: &Bytes) -> Option<Expiry> {
    number(text).map(in_millis)
}

fn in_millis(count: i64) -> Expiry {
    Expiry::After(Duration::from_millis(u64::try_from(count).unwrap_or(0)))
}

fn number(text: &Bytes) -> Option<i64> {
    Value::new(text).number()
}

/// What each command answered; `None` if that is unknown.
///
/// # Errors
/// It was refused: there is nothing to explain.
pub(super) fn answered(
    operation: &Operation,
    commands: &[Command],
) -> Result<Option<Vec<Answered>>, Refused> {
    match &operation.outcome {
        Outcome::Refused { .. } => Err(Refused),
        Outcome::Unknown => Ok(None),
        Outcome::Known { reply, .. } => match (&operation.request, reply) {
            (crate::history::Request::Command(_), reply) => {
                Ok(Some(commands.iter().map(|command| answer(command, reply)).collect()))
            }
            // A watched key had changed: nothing was done.
            (_, Reply::Null) => Err(Refused),
            (_, Reply::Array(replies)) if replies.len() == commands.len() => Ok(Some(
                commands.iter().zip(replies).map(|(of, reply)| answer(of, reply)).collect(),
            )),
            (_, _) => Ok(Some(vec![Answered::Absurd; commands.len()])),
        },
    }
}

/// The operation had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

fn answer(command: &Command, reply: &Reply) -> Answered {
    let is_ok = |bytes: &Bytes| bytes[..] == *b"OK";
    match (command.shape, reply) {
        (Shape::Fine, Reply::Simple(bytes) | Reply::Bulk(bytes)) if is_ok(bytes) => Answered::Fine,
        (Shape::Sum, &Reply::Integer(sum)) => Answered::Sum(sum),
        (Shape::One, reply) => match (&command.steps[0].1, reply) {
            (_, Reply::Null) => Answered::Each(vec![Answer::Nil]),
            (_, Reply::Error(_)) => Answered::Each(vec![Answer::Error]),
            (Step::TimeLeft, Reply::Integer(0..)) => Answered::Each(vec![Answer::SomeTime]),
            (_, &Reply::Integer(number)) => Answered::Each(vec![Answer::Integer(number)]),
            // A file does not tell a status from a string: the command does.
            (
                Step::Set { get: false, counts: false, .. },
                Reply::Simple(text) | Reply::Bulk(text),
            ) if is_ok(text) => Answered::Each(vec![Answer::Ok]),
            (_, Reply::Bulk(value)) => Answered::Each(vec![Answer::Value(Value::new(value))]),
            _ => Answered::Absurd,
        },
        (Shape::Each, Reply::Array(items)) if items.len() == command.steps.len() => {
            let each = items.iter().map(|item| match item {
                Reply::Null => Some(Answer::Nil),
                Reply::Bulk(value) => Some(Answer::Value(Value::new(value))),
                _ => None,
            });
            each.collect::<Option<_>>().map_or(Answered::Absurd, Answered::Each)
        }
        _ => Answered::Absurd,
    }
}

/// Numbers for keys, in the order in which they are first met.
#[derive(Debug, Default)]
pub(super) struct Keys {
    numbers: BTreeMap<Bytes, usize>,
    pub(super) names: Vec<Bytes>,
}

impl Keys {
    pub(super) fn number(&mut self, key: &Bytes) -> usize {
        if let Some(&number) = self.numbers.get(key) {
            return number;
        }
        let number = self.names.len();
        self.numbers.insert(key.clone(), number);
        self.names.push(key.clone());
        number
    }
}
