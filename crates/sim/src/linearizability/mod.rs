//! Is a history linearizable? (Wing and Gong 1993, with Lowe's list and cache of configurations,
//! 2017.)
//!
//! It is if every operation can be put at one moment between its call and its return so that the
//! store, doing them one by one, gives the answers that were given. An operation of unknown outcome
//! may have its moment at any time after its call, or none. A refused one has none.
//!
//! Keys are independent of each other (locality, Herlihy and Wing 1990), so each is judged alone.
//! Commands on several keys and transactions tie their keys together; what is tied is judged as one.
//! The store orders commands on several keys only where they lie in one slot, so a recorder ties
//! keys of one hash tag and no others.
//!
//! A verdict is one of three. That the budget was used up is none of the other two, and never
//! success: see [`Verdict::NoVerdict`].

mod compile;
mod model;
mod problem;
mod search;
mod seen;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::history::{History, Outcome};
use compile::Keys;
use problem::{Compiled, Problem};
use search::{Found, Order};

/// How long to look for an order, for all keys that are judged together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Operations that are tried on a state. Default 40,000,000: some ten seconds.
    pub steps: u64,
    /// Configurations that are kept. Default 4,000,000: about 600 MB for thousands of operations.
    pub configurations: u64,
    /// What clocks may do.
    pub clocks: Clocks,
}

/// How far the store's clock, by which keys expire, may be from the clock of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// A key may be gone this much before its time, counted from the call that gave it a time to
    /// live. Default 10 ms.
    pub ahead: Duration,
    /// A key must be gone this much after its time, counted from the return of that call. Default
    /// `None`: it need not, ever.
    pub behind: Option<Duration>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: 40_000_000, configurations: 4_000_000, clocks: Clocks::default() }
    }
}

impl Default for Clocks {
    fn default() -> Self {
        Self { ahead: Duration::from_millis(10), behind: None }
    }
}

/// What is said of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Every key has an order.
    Linearizable(Effort),
    /// Some key has none.
    Violation(Violation),
    /// No order was found for some key, nor was it shown that there is none. That proves nothing.
    NoVerdict(NoVerdict),
}

/// What a verdict took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Keys, or groups of them, that were judged.
    pub groups: u64,
    /// Operations of the largest.
    pub largest: u64,
    /// Operations that were tried on a state.
    pub steps: u64,
}

/// Keys that have no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The keys: one, or several that operations tie together.
    pub keys: Vec<Bytes>,
    /// The operations on them that were called until `until`, as places in the history.
    pub operations: Vec<usize>,
    /// The answers that came until this time, in nanoseconds, have no order; the ones before have.
    pub until: u64,
    /// An order of all the others, as places in the history.
    pub order: Vec<usize>,
    /// What each key held after the last operations of `order`: the last state belongs to its last
    /// operation.
    pub states: Vec<Vec<Option<Vec<u8>>>>,
    /// The operations that were answered at `until`: one, but for answers at the same time. No order
    /// explains these answers with those before.
    pub stuck: Vec<usize>,
}

/// Why there is no verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoVerdict {
    /// The budget was used up.
    OutOfBudget {
        /// For these keys.
        keys: Vec<Bytes>,
        /// With so many operations.
        operations: usize,
        /// Of which so many were put in order at most.
        ordered: usize,
    },
    /// A command is in the history that the model does not know.
    UnknownCommand {
        /// The operation.
        operation: usize,
        /// Which command.
        what: String,
    },
}

impl Verdict {
    /// Whether an order was found for every key.
    pub fn is_linearizable(&self) -> bool {
        matches!(self, Self::Linearizable(_))
    }
}

/// Looks for an order of each key's operations, from an empty store.
pub fn check(history: &History, budget: &Budget) -> Verdict {
    let groups = match groups(history) {
        Ok(groups) => groups,
        Err(no_verdict) => return Verdict::NoVerdict(no_verdict),
    };
    let mut effort = Effort::default();
    let mut open = None;
    for group in groups {
        let (problem, found, steps) = solve(&group, u64::MAX, history, budget);
        effort.groups += 1;
        effort.largest = effort.largest.max(problem.required.len() as u64);
        effort.steps += steps;
        match found {
            Found::Order(_) => {}
            Found::NoOrder => return Verdict::Violation(explain(&group, history, budget)),
            // A violation of another key would say more.
            Found::Open(ordered) => {
                open.get_or_insert(NoVerdict::OutOfBudget {
                    keys: problem.keys,
                    operations: problem.required.len(),
                    ordered,
                });
            }
        }
    }
    match open {
        None => Verdict::Linearizable(effort),
        Some(no_verdict) => Verdict::NoVerdict(no_verdict),
    }
}

/// Looks for an order of what was called until `until`, given the answers that had come.
fn solve(
    group: &[Compiled<'_>],
    until: u64,
    history: &History,
    budget: &Budget,
) -> (Problem, Found, u64) {
    search(Problem::new(group, until, until, &budget.clocks), history, budget)
}

fn search(mut problem: Problem, history: &History, budget: &Budget) -> (Problem, Found, u64) {
    problem.look_ahead(history);
    let (found, steps) = search::search(&problem, budget);
    (problem, found, steps)
}

/// Says where a group that has no order has none any more: at the first answer that cannot be
/// explained with all that was called before it.
fn explain(group: &[Compiled<'_>], history: &History, budget: &Budget) -> Violation {
    let returns = group.iter().filter_map(|of| of.operation.returned());
    let mut returns: Vec<u64> = returns.collect();
    returns.sort_unstable();
    returns.dedup();
    // Until `returns[bad]` there is no order; with more answers there is none either.
    let (mut good, mut bad) = (0, returns.len().saturating_sub(1));
    while good < bad {
        let middle = (good + bad) / 2;
        match solve(group, returns[middle], history, budget).1 {
            Found::NoOrder => bad = middle,
            Found::Order(_) | Found::Open(_) => good = middle + 1,
        }
    }
    let until = returns.get(bad).copied().unwrap_or(u64::MAX);
    let problem = Problem::new(group, until, until.saturating_sub(1), &budget.clocks);
    let (problem, found, _) = search(problem, history, budget);
    let Order { operations: order, states } = match found {
        Found::Order(order) => order,
        Found::NoOrder | Found::Open(_) => Order::default(),
    };
    let called = group.iter().filter(|of| of.operation.call <= until);
    let operations = called.map(|of| of.index).collect();
    let last = group.iter().filter(|of| of.operation.returned() == Some(until));
    let stuck = last.map(|of| of.index).collect();
    Violation { keys: problem.keys, operations, until, order, states, stuck }
}

/// The operations of keys that hang together, in the order in which the keys are first met.
fn groups(history: &History) -> Result<Vec<Vec<Compiled<'_>>>, NoVerdict> {
    let mut compiled = Vec::with_capacity(history.operations.len());
    let mut keys = Keys::default();
    let mut ties = Ties::default();
    for (index, operation) in history.operations.iter().enumerate() {
        if let Outcome::Refused { .. } = operation.outcome {
            continue;
        }
        let commands = compile::commands(operation)
            .map_err(|what| NoVerdict::UnknownCommand { operation: index, what })?;
        let Ok(answers) = compile::answered(operation, &commands) else { continue };
        let mut first = None;
        for (key, _) in commands.iter().flat_map(|command| &command.steps) {
            let key = keys.number(key);
            ties.tie(*first.get_or_insert(key), key);
        }
        if let Some(first) = first {
            compiled.push((first, Compiled { index, operation, commands, answers }));
        }
    }
    let mut groups: BTreeMap<usize, Vec<Compiled<'_>>> = BTreeMap::new();
    for (key, operation) in compiled {
        groups.entry(ties.root(key)).or_default().push(operation);
    }
    Ok(groups.into_values().collect())
}

/// Which keys hang together: a forest in which each points to a lower one, or to itself.
#[derive(Default)]
struct Ties(Vec<usize>);

impl Ties {
    fn root(&mut self, mut key: usize) -> usize {
        while self.0.len() <= key {
            self.0.push(self.0.len());
        }
        while self.0[key] != key {
            self.0[key] = self.0[self.0[key]];
            key = self.0[key];
        }
        key
    }

    fn tie(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        self.0[one.max(other)] = one.min(other);
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
        write!(
            f,
            "{}: {} of {} operations have an order, with which the answer to operation {:?} does not \
             agree",
            keys.join(", "),
            self.order.len(),
            self.operations.len(),
            self.stuck
        )
    }
}

impl fmt::Display for NoVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBudget { keys, operations, ordered } => {
                let keys: Vec<_> = keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
                let keys = keys.join(", ");
                write!(f, "{keys}: the budget was used up with {ordered} of {operations} in order")
            }
            Self::UnknownCommand { operation, what } => write!(f, "operation {operation}: {what}"),
        }
    }
}
