//! Leader Completeness (Raft paper, Figure 3 and §5.4): an entry that was committed in some term is
//! in the logs of the leaders of all higher terms.

use std::collections::BTreeMap;

use kontiki_types::{Index, LogId, Member, Term};

use super::by_index::ByIndex;
use super::{Checked, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct LeaderCompleteness {
    /// Committed entries, and the term of the leader that committed them.
    committed: ByIndex<(LogId, Term)>,
    checked: BTreeMap<Term, Member>,
    /// The last that was put there: mostly the only one that is asked for.
    latest: Option<(Term, Member)>,
}

impl LeaderCompleteness {
    /// The leader of `term` has committed the entry `id`.
    ///
    /// # Errors
    /// Another entry was committed at that index.
    pub fn commits(&mut self, id: LogId, term: Term) -> Checked {
        let (known, _) = self.committed.get_or_insert(id.index, (id, term));
        if known == id {
            return Ok(());
        }
        fails(format!("{known} and {id} are both committed"))
    }

    /// `member` leads in `term`; its log begins with `first`, and `term_at` tells the term of an
    /// entry that it has. Looked at once a term, since a leader only appends.
    ///
    /// # Errors
    /// It lacks a committed entry.
    pub fn leads(
        &mut self,
        member: Member,
        term: Term,
        first: impl FnOnce() -> Index,
        term_at: impl Fn(Index) -> Option<Term>,
    ) -> Checked {
        if self.latest == Some((term, member)) {
            return Ok(());
        }
        self.latest = Some((term, member));
        if self.checked.insert(term, member) == Some(member) {
            return Ok(());
        }
        for (index, (id, in_term)) in self.committed.from(first()) {
            if in_term < term && term_at(index) != Some(id.term) {
                return fails(format!("{member}, which leads {term}, lacks committed {id}"));
            }
        }
        Ok(())
    }

    /// The term of the committed entry at `index`.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.committed.get(index).map(|(id, _)| id.term)
    }

    /// The last entry known to be committed.
    pub fn highest(&self) -> Index {
        self.committed.last().unwrap_or(Index(0))
    }
}

fn fails(seen: String) -> Checked {
    Err(Violation::new("Leader Completeness", seen))
}
