//! Checking a node's directory while the node does not run.

use std::path::Path;

use kontiki_replica::steward::BEGINS_AFTER;
pub use kontiki_storage::verify::{Finding, GroupReport, Part, Report, VerifyError};

/// Checks the directory `dir` of a node that does not run, and changes nothing in it.
///
/// # Errors
/// It cannot be read, is no node's, or is in use. Damage is not an error but a finding.
pub fn verify(dir: &Path) -> Result<Report, VerifyError> {
    kontiki_storage::verify::verify(dir, BEGINS_AFTER)
}
