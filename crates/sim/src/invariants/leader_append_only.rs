//! Leader Append-Only (Raft paper, Figure 3 and §5.3): a leader never overwrites or deletes entries
//! of its log; it only appends.

use kontiki_types::{Index, LogId, Member, Term};

use super::by_member::ByMember;
use super::{Checked, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct LeaderAppendOnly {
    last: ByMember<(Term, LogId)>,
}

impl LeaderAppendOnly {
    /// `member` leads in `term`, its log ends at `last`, and `term_at` tells the term of an entry
    /// that it still has.
    ///
    /// # Errors
    /// What it had when it was last looked at in this term is not there any more.
    pub fn leads(
        &mut self,
        member: Member,
        term: Term,
        last: LogId,
        term_at: impl Fn(Index) -> Option<Term>,
    ) -> Checked {
        if let Some((in_term, had)) = self.last.insert(member, (term, last))
            && in_term == term
            && (last.index < had.index || term_at(had.index).is_some_and(|now| now != had.term))
        {
            let seen = format!("{member} leads {term}, had {had} and now ends at {last}");
            return Err(Violation::new("Leader Append-Only", seen));
        }
        Ok(())
    }

    /// `member` has stopped, or does not lead.
    pub fn stops(&mut self, member: Member) {
        self.last.remove(member);
    }
}
