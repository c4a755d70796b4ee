//! What the search works on: the operations of keys that hang together, and no others.

use std::collections::HashMap;

use bytes::Bytes;
use kontiki_resp::Reply;

use super::Clocks;
use super::compile::{Answered, Command, Keys, Shape};
use super::model::{Answer, Cell, Expiry, Life, Step, When};
use super::seen::Fold;
use super::value::Value;
use crate::history::{History, Operation, Outcome, Request};

/// Operations that have to be put in one order.
#[derive(Debug)]
pub(super) struct Problem {
    /// The keys that they touch, by number.
    pub(super) keys: Vec<Bytes>,
    /// The operations whose answer is known, by when they were called: all of them have a place.
    pub(super) required: Vec<Op>,
    /// The writes whose outcome is unknown, by when they were called: each may have a place.
    pub(super) optional: Vec<Op>,
    /// For each key to which bytes are only ever appended, the longest value that was read: every
    /// value before is the front of it.
    pub(super) grows_to: Vec<Option<Bytes>>,
    /// For each key that only grows, how long it must be when each required operation finds it, the
    /// shortest first.
    pub(super) found_at: Vec<Vec<(u64, usize)>>,
    /// For each key, when each required operation that puts an end to what is there has returned,
    /// the earliest first.
    pub(super) ends_at: Vec<Vec<(u64, usize)>>,
    /// For each numbered value, when each required operation that was answered with it was called,
    /// the latest first.
    pub(super) read_at: Vec<Vec<(u64, usize)>>,
    /// For each value of a key to which values only ever come by SET, or which never has the same
    /// value twice, its number.
    values: HashMap<(usize, Value), usize, Fold>,
    /// Whether a key must be gone by some time.
    pub(super) has_latest: bool,
}

#[derive(Debug)]
pub(super) struct Op {
    /// Its place in the history.
    pub(super) index: usize,
    pub(super) call: u64,
    /// `u64::MAX` if that is unknown.
    pub(super) returned: u64,
    /// The keys, each once.
    pub(super) touched: Vec<usize>,
    pub(super) only_reads: bool,
    /// For an optional operation an earlier one that does the same: it can take this one's place.
    pub(super) earlier_twin: Option<usize>,
    /// The numbered values that it was answered with.
    pub(super) reads: Vec<usize>,
    /// The numbered values that it sets.
    pub(super) sets: Vec<usize>,
    /// Where it is in `Problem::found_at`, by keys.
    pub(super) places_found_at: Vec<(usize, usize)>,
    /// Where it is in `Problem::ends_at`, by keys.
    pub(super) places_ends_at: Vec<(usize, usize)>,
    /// Whether it is of use only to those who read what it sets.
    pub(super) only_sets: bool,
    commands: Vec<Vec<(usize, Step)>>,
    shapes: Vec<Shape>,
    answers: Option<Vec<Answered>>,
}

/// An operation of a history that may have had an effect, in the search's terms.
pub(super) struct Compiled<'a> {
    /// Its place in the history.
    pub(super) index: usize,
    pub(super) operation: &'a Operation,
    pub(super) commands: Vec<Command>,
    /// `None` if they are unknown.
    pub(super) answers: Option<Vec<Answered>>,
}

impl Problem {
    /// The operations that were called until `called`, and the answers that came until `answered`.
    pub(super) fn new(
        operations: &[Compiled<'_>],
        called: u64,
        answered: u64,
        clocks: &Clocks,
    ) -> Self {
        let mut keys = Keys::default();
        let (mut required, mut optional) = (Vec::new(), Vec::new());
        for compiled in operations.iter().filter(|of| of.operation.call <= called) {
            let op = Op::new(compiled, answered, &mut keys);
            if op.answers.is_some() {
                required.push(op);
            } else if !op.only_reads {
                optional.push(op);
            }
        }
        required.sort_unstable_by_key(|op| (op.call, op.index));
        optional.sort_unstable_by_key(|op| (op.call, op.index));
        for at in 1..optional.len() {
            let twin =
                (0..at).rev().find(|&earlier| optional[earlier].does_the_same(&optional[at]));
            optional[at].earlier_twin = twin;
        }
        let has_latest = clocks.behind.is_some()
            && required.iter().chain(&optional).any(|op| op.steps().any(|step| step.1.sets_life()));
        let grows_to = vec![None; keys.names.len()];
        let found_at = vec![Vec::new(); keys.names.len()];
        let ends_at = found_at.clone();
        Self {
            keys: keys.names,
            required,
            optional,
            grows_to,
            found_at,
            ends_at,
            read_at: Vec::new(),
            values: HashMap::default(),
            has_latest,
        }
    }

    /// Finds out what of the future the search may know.
    pub(super) fn look_ahead(&mut self, history: &History) {
        for key in 0..self.keys.len() {
            if self.all_steps(key, Step::only_appends) {
                let read = self.required.iter().flat_map(|op| op.values_of(key, history));
                self.grows_to[key] = read.max_by_key(|value| value.len());
                let found = self.required.iter().enumerate();
                let found = found.filter_map(|(at, op)| Some((op.length_found(key)?, at)));
                self.found_at[key] = found.collect();
                self.found_at[key].sort_unstable();
            }
        }
        for (key, found_at) in self.found_at.iter().enumerate() {
            for (place, &(_, at)) in found_at.iter().enumerate() {
                self.required[at].places_found_at.push((key, place));
            }
        }
        let traceable = |key| {
            self.all_steps(key, Step::only_sets)
                || self.all_steps(key, Step::only_appends)
                || self.all_steps(key, Step::only_adds_up)
        };
        let traceable: Vec<bool> = (0..self.keys.len()).map(traceable).collect();
        let blindly: Vec<bool> =
            (0..self.keys.len()).map(|key| self.all_steps(key, Step::sets_blindly)).collect();
        for op in self.required.iter_mut().chain(&mut self.optional) {
            op.number_values(&traceable, &mut self.values);
            let mut steps = op.steps();
            let is_silent = |step: &Step| {
                step.sets_for_good()
                    && (op.answers.is_none() || !matches!(step, Step::Set { get: true, .. }))
            };
            let only_sets = steps.all(|(key, step)| blindly[*key] && is_silent(step));
            drop(steps);
            op.only_sets = only_sets;
        }
        self.look_ahead_for_ends();
    }

    /// Finds out what puts an end to values, and who was answered with them.
    fn look_ahead_for_ends(&mut self) {
        self.read_at = vec![Vec::new(); self.values.len()];
        for (at, op) in self.required.iter().enumerate() {
            op.reads.iter().for_each(|&value| self.read_at[value].push((op.call, at)));
            for &key in &op.touched {
                if op.steps().any(|(of, step)| *of == key && step.puts_an_end()) {
                    self.ends_at[key].push((op.returned, at));
                }
            }
        }
        self.read_at.iter_mut().for_each(|list| list.sort_unstable_by(|a, b| b.cmp(a)));
        for (key, list) in self.ends_at.iter_mut().enumerate() {
            list.sort_unstable();
            for (place, &(_, at)) in list.iter().enumerate() {
                self.required[at].places_ends_at.push((key, place));
            }
        }
    }

    fn all_steps(&self, key: usize, holds: impl Fn(&Step) -> bool) -> bool {
        let ops = self.required.iter().chain(&self.optional);
        ops.flat_map(Op::steps).filter(|step| step.0 == key).all(|step| holds(&step.1))
    }

    /// How many values have numbers.
    pub(super) fn values(&self) -> usize {
        self.values.len()
    }

    /// The number of the value of a key.
    pub(super) fn value(&self, key: usize, value: Value) -> Option<usize> {
        self.values.get(&(key, value)).copied()
    }
}

impl Step {
    /// Whether the key of such steps only grows.
    fn only_appends(&self) -> bool {
        self.only_reads_plainly() || matches!(self, Self::Append(_))
    }

    fn only_reads_plainly(&self) -> bool {
        matches!(self, Self::Get | Self::Length | Self::Exists | Self::TimeLeft)
    }

    /// Whether the key of such steps holds a number that only grows.
    fn only_adds_up(&self) -> bool {
        self.only_reads_plainly() || matches!(self, Self::Add(1..))
    }

    /// Whether values come to the key of such steps by SET only.
    fn only_sets(&self) -> bool {
        !matches!(self, Self::Add(_) | Self::Append(_))
    }

    /// Whether nothing but an answer with the value depends on what the key of such steps holds.
    fn sets_blindly(&self) -> bool {
        match self {
            Self::Get => true,
            Self::Set { when: When::Always, counts: false, expiry, .. } => *expiry != Expiry::Keep,
            _ => false,
        }
    }

    /// Whether what was there before is not there afterwards, whatever it was, unless the step sets
    /// it once more.
    fn puts_an_end(&self) -> bool {
        matches!(self, Self::Set { when: When::Always, .. } | Self::Delete | Self::Take)
    }

    /// Whether it sets a value that stays until the next one.
    fn sets_for_good(&self) -> bool {
        matches!(self, Self::Set { expiry: Expiry::Clear, .. })
    }
}

impl Op {
    fn new(compiled: &Compiled<'_>, answered: u64, keys: &mut Keys) -> Self {
        let Compiled { index, operation, commands, answers } = compiled;
        let answers = answers.clone().filter(|_| operation.returned() <= Some(answered));
        let shapes = commands.iter().map(|command| command.shape).collect();
        let commands: Vec<Vec<(usize, Step)>> = commands
            .iter()
            .map(|command| {
                let steps = command.steps.iter();
                steps.map(|(key, step)| (keys.number(key), step.clone())).collect()
            })
            .collect();
        let mut touched: Vec<usize> = commands.iter().flatten().map(|step| step.0).collect();
        touched.sort_unstable();
        touched.dedup();
        let only_reads = commands.iter().flatten().all(|(_, step)| step.only_reads());
        let returned = match answers {
            Some(_) => operation.returned().unwrap_or(u64::MAX),
            None => u64::MAX,
        };
        Self {
            index: *index,
            call: operation.call,
            returned,
            touched,
            only_reads,
            earlier_twin: None,
            reads: Vec::new(),
            sets: Vec::new(),
            places_found_at: Vec::new(),
            places_ends_at: Vec::new(),
            only_sets: false,
            commands,
            shapes,
            answers,
        }
    }

    /// Notes which values it sets and was answered with, of the keys that are `traceable`.
    fn number_values(
        &mut self,
        traceable: &[bool],
        values: &mut HashMap<(usize, Value), usize, Fold>,
    ) {
        let mut number = |key: usize, value: Value| {
            let next = values.len();
            *values.entry((key, value)).or_insert(next)
        };
        for (at, steps) in self.commands.iter().enumerate() {
            for (place, (key, step)) in steps.iter().enumerate().filter(|(_, s)| traceable[s.0]) {
                if let Step::Set { value, .. } = step {
                    self.sets.push(number(*key, *value));
                }
                if let Some(Answered::Each(each)) = self.answers.as_ref().map(|all| &all[at])
                    && let Answer::Value(value) = each[place]
                {
                    self.reads.push(number(*key, value));
                }
            }
        }
    }

    /// How long the value of `key` was when the operation began, as its answer tells.
    fn length_found(&self, key: usize) -> Option<u64> {
        let steps = self.commands.iter().enumerate().flat_map(|(command, steps)| {
            steps.iter().enumerate().map(move |(place, step)| (command, place, step))
        });
        let (command, place, (_, step)) = steps.into_iter().find(|(_, _, step)| step.0 == key)?;
        let Answered::Each(each) = &self.answers.as_ref()?[command] else { return None };
        match (step, each[place]) {
            (Step::Append(bytes), Answer::Integer(after)) => {
                u64::try_from(after).ok()?.checked_sub(bytes.len() as u64)
            }
            (Step::Length, Answer::Integer(length)) => u64::try_from(length).ok(),
            (Step::Get, Answer::Value(value)) => Some(value.length()),
            (Step::Get, Answer::Nil) => Some(0),
            _ => None,
        }
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = &(usize, Step)> {
        self.commands.iter().flatten()
    }

    /// Two commands that do the same whenever they run. One that sets a time to live does not: it
    /// has bounds from its own call.
    fn does_the_same(&self, other: &Self) -> bool {
        self.commands == other.commands && !self.steps().any(|(_, step)| step.sets_life())
    }

    /// What the operation read of `key`.
    fn values_of(&self, key: usize, history: &History) -> Vec<Bytes> {
        let operation = &history.operations[self.index];
        let Outcome::Known { reply, .. } = &operation.outcome else { return Vec::new() };
        let replies = match (&operation.request, reply) {
            (Request::Transaction(_), Reply::Array(replies)) => &replies[..],
            (_, reply) => std::slice::from_ref(reply),
        };
        let mut values = Vec::new();
        for ((steps, shape), reply) in self.commands.iter().zip(&self.shapes).zip(replies) {
            let each = match (shape, reply) {
                (Shape::Each, Reply::Array(items)) => &items[..],
                (_, reply) => std::slice::from_ref(reply),
            };
            for ((of, step), item) in steps.iter().zip(each) {
                if let (true, Step::Get, Reply::Bulk(bytes)) = (*of == key, step, item) {
                    values.push(bytes.clone());
                }
            }
        }
        values
    }

    /// Runs it on `cells`; `None` if it would not have answered what it did.
    pub(super) fn run(
        &self,
        cells: &mut [Cell],
        clocks: &Clocks,
        grows_to: &[Option<Bytes>],
    ) -> Option<()> {
        let answers = self.answers.as_deref();
        for (at, (steps, shape)) in self.commands.iter().zip(&self.shapes).enumerate() {
            let expected = answers.map(|answers| &answers[at]);
            let mut sum = 0;
            for (place, (key, step)) in steps.iter().enumerate() {
                if let (Step::Append(bytes), Some(whole)) = (step, &grows_to[*key]) {
                    let before = cells[*key].map_or(0, |live| live.value.length()) as usize;
                    if whole
                        .get(before..)
                        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(bytes))
                    {
                        return None;
                    }
                }
                let (after, answer) = step.run(cells[*key], |time| self.life(time, clocks));
                cells[*key] = after;
                match expected {
                    Some(Answered::Each(each)) if each[place] != answer => return None,
                    Some(Answered::Absurd) => return None,
                    _ => {}
                }
                if let (Shape::Sum, Answer::Integer(number)) = (shape, answer) {
                    sum += number;
                }
            }
            match expected {
                Some(&Answered::Sum(expected)) if expected != sum => return None,
                _ => {}
            }
        }
        Some(())
    }

    fn life(&self, time: std::time::Duration, clocks: &Clocks) -> Life {
        let time = nanos(time);
        let earliest = self.call.saturating_add(time).saturating_sub(nanos(clocks.ahead));
        let latest = match clocks.behind {
            Some(behind) => self.returned.saturating_add(time).saturating_add(nanos(behind)),
            None => u64::MAX,
        };
        Life { earliest, latest: latest.max(earliest) }
    }

    /// What `key` holds after the operation, as text; `before` is what it held.
    pub(super) fn text_after(
        &self,
        key: usize,
        before: Option<Vec<u8>>,
        mut cell: Cell,
        clocks: &Clocks,
    ) -> Option<Vec<u8>> {
        let mut text = before;
        for (_, step) in self.steps().filter(|(of, _)| *of == key) {
            let (after, _) = step.run(cell, |time| self.life(time, clocks));
            let (Some(live), before) = (after, cell) else {
                (cell, text) = (None, None);
                continue;
            };
            cell = after;
            if before.is_some_and(|before| before.value == live.value) {
                continue;
            }
            text = match step {
                Step::Append(bytes) => {
                    let mut whole = text.unwrap_or_default();
                    whole.extend_from_slice(bytes);
                    Some(whole)
                }
                Step::Set { bytes, .. } => Some(bytes.to_vec()),
                _ => live.value.small().map(<[u8]>::to_vec),
            };
        }
        text
    }
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
