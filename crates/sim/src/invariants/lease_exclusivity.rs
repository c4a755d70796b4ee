//! Leases (Raft thesis, §6.4.1; PROTOCOL 5): while a leader holds a lease, nobody leads a later term.
//!
//! A stale read needs a client that asks just then; this shows whether it could have been one.

use kontiki_types::{Member, Term};

use super::{Checked, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct LeaseExclusivity {
    latest: Option<(Term, Member)>,
}

impl LeaseExclusivity {
    /// `member` leads in `term`.
    pub fn leads(&mut self, member: Member, term: Term) {
        self.latest = self.latest.max(Some((term, member)));
    }

    /// Whether somebody leads a later term than `term`.
    pub fn is_deposed(&self, term: Term) -> bool {
        self.latest.is_some_and(|(latest, _)| term < latest)
    }

    /// `member` leads in `term`, and takes itself to hold a lease or not.
    ///
    /// # Errors
    /// It does, and somebody leads a later term.
    pub fn holds(&self, member: Member, term: Term, lease: bool) -> Checked {
        match self.latest {
            Some((latest, other)) if lease && term < latest => {
                let seen = format!("{member} holds a lease of {term}, and {other} leads {latest}");
                Err(Violation::new("A lease excludes other leaders", seen))
            }
            _ => Ok(()),
        }
    }
}
