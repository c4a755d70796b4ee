//! Votes (Raft paper, Figure 2, §5.2), counted anew and naively: a member votes for one candidate
//! in a term, whatever crashes come between; and who leads a term has, on stable storage, the votes
//! of a majority of its configuration, of both in a joint one (§6).
//!
//! An answer that leaves before its vote is durable shows here at once; two leaders of one term, to
//! which it may lead, are rare.

use std::collections::BTreeMap;

use kontiki_raft::Membership;
use kontiki_types::{Member, Term};

use super::{Checked, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct Votes {
    given: BTreeMap<(Term, Member), Member>,
    judged: BTreeMap<Term, Member>,
}

impl Votes {
    /// It is durable that `voter` votes for `candidate` in `term`.
    ///
    /// # Errors
    /// It has voted for another before.
    pub fn votes(&mut self, voter: Member, term: Term, candidate: Member) -> Checked {
        let before = *self.given.entry((term, voter)).or_insert(candidate);
        if before == candidate {
            return Ok(());
        }
        fails(format!("{voter} votes for {before} and for {candidate} in {term}"))
    }

    /// `leader` leads in `term`, elected under `membership`. Looked at once a term.
    ///
    /// # Errors
    /// It lacks votes.
    pub fn leads(&mut self, leader: Member, term: Term, membership: &Membership) -> Checked {
        if self.judged.insert(term, leader) == Some(leader) {
            return Ok(());
        }
        let voted = |voter| self.given.get(&(term, voter)) == Some(&leader);
        if membership.majority(voted) {
            return Ok(());
        }
        let voters = membership.members().filter(|&member| voted(member)).count();
        fails(format!("{leader} leads {term} with {voters} votes on disk, of {membership:?}"))
    }
}

fn fails(seen: String) -> Checked {
    Err(Violation::new("Votes are durable and given once", seen))
}

#[cfg(test)]
mod tests {
    use kontiki_types::{Incarnation, NodeId, ReplicaId};

    use super::*;

    fn member(node: u64) -> Member {
        Member::new(NodeId(node), Incarnation(node), ReplicaId(1))
    }

    #[test]
    fn a_leader_needs_the_votes_of_a_majority_on_disk() {
        let group = Membership::new([1, 2, 3].map(member), []);
        let mut votes = Votes::default();
        votes.votes(member(1), Term(1), member(1)).expect("the first");
        assert!(votes.leads(member(1), Term(1), &group).is_err());
        let mut votes = Votes::default();
        votes.votes(member(1), Term(1), member(1)).expect("the first");
        votes.votes(member(2), Term(1), member(1)).expect("the first");
        votes.leads(member(1), Term(1), &group).expect("two of three");
        votes.votes(member(2), Term(1), member(1)).expect("the same");
        assert!(votes.votes(member(2), Term(1), member(3)).is_err());
        votes.votes(member(2), Term(2), member(3)).expect("another term");
    }
}
