//! What must hold after every step. One file each, named after the property.

mod by_index;
mod by_member;
mod commit_by_majority;
mod election_safety;
mod leader_append_only;
mod leader_completeness;
mod lease_exclusivity;
mod log_matching;
mod read_index;
mod slot_ownership;
mod state_machine_safety;
mod votes;

use std::fmt;

pub use commit_by_majority::{CommitByMajority, Leading};
pub use election_safety::ElectionSafety;
pub use leader_append_only::LeaderAppendOnly;
pub use leader_completeness::LeaderCompleteness;
pub use lease_exclusivity::LeaseExclusivity;
pub use log_matching::LogMatching;
pub use read_index::ReadIndex;
pub use slot_ownership::SlotOwnership;
pub use state_machine_safety::StateMachineSafety;
pub use votes::Votes;

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which property.
    pub property: &'static str,
    /// What was seen.
    pub seen: String,
}

impl Violation {
    /// `property` does not hold, because of what was `seen`.
    pub fn new(property: &'static str, seen: impl Into<String>) -> Self {
        Self { property, seen: seen.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not hold: {}", self.property, self.seen)
    }
}

impl std::error::Error for Violation {}

/// Whether a property holds so far.
pub type Checked = Result<(), Violation>;

#[cfg(test)]
mod tests;
