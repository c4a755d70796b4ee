//! The scenarios of the course's suites (MIT 6.5840 and 6.824) under their names, each with at
//! least its thresholds, in virtual time. `docs/course-suites.md` says how their words are taken.
//!
//! They are rewritten from descriptions. Indexes count client commands, not entries. Bytes are those
//! of encoded live state: what is retained of the log, and the snapshot. To add one, write a
//! function of a seed that uses `demand!`, and add a line to the list of its suite.

macro_rules! demand {
    ($condition:expr, $($seen:tt)+) => {
        if !$condition {
            return $crate::labs::fails(format!($($seen)+));
        }
    };
}

macro_rules! demand_eq {
    ($found:expr, $right:expr, $what:literal) => {
        match (&$found, &$right) {
            (found, right) if found != right => {
                return $crate::labs::fails(format!("{} is {found:?} and not {right:?}", $what));
            }
            _ => {}
        }
    };
}

mod diskv;
mod history;
mod kvraft;
mod kvsrv;
mod lock;
mod raft;
#[cfg(test)]
mod readme;
mod rsm;
mod shards;
mod store;

use crate::invariants::Violation;

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Lab {
    /// `lab-`, the suite, and what happens.
    pub name: &'static str,
    /// What it does and what it demands, in a line.
    pub about: &'static str,
    /// Runs it with a seed.
    pub run: fn(seed: u64) -> Result<(), Violation>,
}

/// All scenarios, suite by suite.
pub const LABS: &[Lab] = &all();

const SUITES: &[&[Lab]] = &[
    raft::SUITE,
    kvsrv::SUITE,
    kvraft::SUITE,
    kvsrv::VERSIONED,
    rsm::SUITE,
    lock::SUITE,
    diskv::SUITE,
    shards::CONTROLLER_SUITE,
    shards::STORE_SUITE,
];

const fn count() -> usize {
    let (mut suite, mut count) = (0, 0);
    while suite < SUITES.len() {
        count += SUITES[suite].len();
        suite += 1;
    }
    count
}

const fn all() -> [Lab; count()] {
    let mut all = [SUITES[0][0]; count()];
    let (mut suite, mut to) = (0, 0);
    while suite < SUITES.len() {
        let mut at = 0;
        while at < SUITES[suite].len() {
            all[to] = SUITES[suite][at];
            to += 1;
            at += 1;
        }
        suite += 1;
    }
    all
}

/// The scenario of this name.
pub fn find(name: &str) -> Option<&'static Lab> {
    LABS.iter().find(|lab| lab.name == name)
}

/// What was seen is not what the scenario demands.
fn fails<T>(seen: String) -> Result<T, Violation> {
    Err(Violation::new("What the scenario demands", seen))
}

const fn lab(
    name: &'static str,
    about: &'static str,
    run: fn(seed: u64) -> Result<(), Violation>,
) -> Lab {
    Lab { name, about, run }
}
