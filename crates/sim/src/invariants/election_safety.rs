//! Election Safety (Raft paper, Figure 3 and §5.2): at most one leader is elected in a term.

use std::collections::BTreeMap;

use kontiki_types::{Member, Term};

use super::{Checked, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, Member>,
}

impl ElectionSafety {
    /// `member` leads in `term`.
    ///
    /// # Errors
    /// Somebody else did, too.
    pub fn leads(&mut self, member: Member, term: Term) -> Checked {
        let leader = *self.leaders.entry(term).or_insert(member);
        if leader == member {
            return Ok(());
        }
        Err(Violation::new("Election Safety", format!("{leader} and {member} both lead in {term}")))
    }
}
