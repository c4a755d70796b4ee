//! The commit rule (Raft paper, Figure 2 and §5.4.2), computed anew and naively: a leader has
//! committed no more than what a majority has on stable storage, and not beyond the last entry of
//! its own term that is there. Everybody else knows of no commit before some leader does, and no
//! commit index goes back.

use kontiki_raft::Membership;
use kontiki_types::{Index, LogId, Member, Term};

use super::by_member::ByMember;
use super::{Checked, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct CommitByMajority {
    highest: Index,
    known: ByMember<Index>,
}

/// What a leader's commit index is judged by.
pub struct Leading<'a> {
    /// Its term.
    pub term: Term,
    /// The configuration in effect.
    pub membership: &'a Membership,
}

impl CommitByMajority {
    /// Of a group whose log begins after `begins`: that is given.
    pub fn beginning_after(begins: Index) -> Self {
        Self { highest: begins, ..Self::default() }
    }

    /// `member` takes everything up to `commit` for committed. `leading` says more of a leader,
    /// `term_at` the term of an entry in its log, and `holds` whether a member has an entry on
    /// stable storage.
    ///
    /// # Errors
    /// The rule is broken.
    pub fn knows(
        &mut self,
        member: Member,
        commit: Index,
        leading: Option<Leading<'_>>,
        term_at: impl Fn(Index) -> Option<Term>,
        holds: impl Fn(Member, LogId) -> bool,
    ) -> Checked {
        let before = self.known.insert(member, commit).unwrap_or(Index(0));
        if commit < before {
            return fails(format!("{member} goes back from {before} to {commit}"));
        }
        if commit <= self.highest {
            return Ok(());
        }
        let Some(Leading { term, membership }) = leading else {
            return fails(format!("{member} follows, and is the first to commit {commit}"));
        };
        if term_at(commit) != Some(term) {
            return fails(format!("{member} leads {term} and commits {commit} of another term"));
        }
        let id = LogId::new(term, commit);
        if !membership.majority(|voter| holds(voter, id)) {
            return fails(format!("{member} commits {id}, which no majority has on disk"));
        }
        self.highest = commit;
        Ok(())
    }

    /// `member` has stopped; it may know less when it starts again.
    pub fn stops(&mut self, member: Member) {
        self.known.remove(member);
    }

    /// The highest index committed so far.
    pub fn highest(&self) -> Index {
        self.highest
    }
}

fn fails(seen: String) -> Checked {
    Err(Violation::new("The commit rule", seen))
}
