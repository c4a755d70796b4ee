//! The scenarios of the course's suites under their names, each with at least its thresholds.

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
pub const LABS: &[Lab] = &[];

/// The scenario of this name.
pub fn find(name: &str) -> Option<&'static Lab> {
    LABS.iter().find(|lab| lab.name == name)
}
