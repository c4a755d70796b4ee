//! The properties of the paper, looked at from outside whole nodes, after every step of one.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_raft::{Raft, Role};
use kontiki_types::{Index, LogId, Member, NodeId, Term};

use super::log_book::{Change, LogBook};
use crate::invariants::{
    Checked, CommitByMajority, ElectionSafety, LeaderAppendOnly, LeaderCompleteness, Leading,
    LogMatching, StateMachineSafety, Violation,
};

/// What a replica was when it was last looked at.
type Seen = (Role, Term, Index, LogId);

/// See the module.
#[derive(Default)]
pub(super) struct Checks {
    election_safety: ElectionSafety,
    leader_append_only: LeaderAppendOnly,
    leader_completeness: LeaderCompleteness,
    log_matching: LogMatching,
    commit_by_majority: CommitByMajority,
    pub(super) state_machine_safety: StateMachineSafety,
    /// Of every member that ever was: what one has acknowledged counts also after its end.
    books: BTreeMap<Member, LogBook>,
    here: BTreeMap<NodeId, Member>,
    seen: BTreeMap<NodeId, Seen>,
}

impl Checks {
    /// A replica is open on `node`, with what its book says.
    ///
    /// # Errors
    /// Something that was durable is not there any more.
    pub(super) fn opens(&mut self, node: NodeId, book: LogBook) -> Checked {
        let member = book.member;
        self.commit_by_majority.stops(member);
        self.leader_append_only.stops(member);
        self.seen.remove(&node);
        self.here.insert(node, member);
        let before = self.books.insert(member, book);
        match before.and_then(|before| before.lost_in(&self.books[&member])) {
            None => Ok(()),
            Some(lost) => {
                let seen = format!("{member} had {lost} on stable storage and has it no longer");
                Err(Violation::new("What was synced is there after a restart", seen))
            }
        }
    }

    /// `node` stops. What of its log is durable still counts.
    pub(super) fn stops(&mut self, node: NodeId) {
        if let Some(member) = self.here.remove(&node) {
            self.commit_by_majority.stops(member);
            self.leader_append_only.stops(member);
        }
        self.seen.remove(&node);
    }

    pub(super) fn leads(&mut self, member: Member, term: Term) -> Checked {
        self.election_safety.leads(member, term)
    }

    pub(super) fn writes(&mut self, node: NodeId, change: Change) -> Checked {
        let book = self.here.get(&node).and_then(|member| self.books.get_mut(member));
        let Some(book) = book else { return Ok(()) };
        book.begin(change, &mut self.log_matching)
    }

    pub(super) fn has_written(&mut self, node: NodeId, batches: usize) {
        let book = self.here.get(&node).and_then(|member| self.books.get_mut(member));
        if let Some(book) = book {
            book.end(batches);
        }
    }

    /// Looks at the replica of `node` if it has changed.
    pub(super) fn look(&mut self, node: NodeId, raft: &Raft<Bytes>) -> Checked {
        let book = self.here.get(&node).and_then(|member| self.books.get(member));
        let Some(book) = book else { return Ok(()) };
        let (role, term, commit) = (raft.role(), raft.term(), raft.commit());
        let seen = (role, term, commit, book.last());
        let before = self.seen.insert(node, seen);
        if before == Some(seen) {
            return Ok(());
        }
        let me = book.member;
        let leads = role == Role::Leader;
        if leads {
            self.leader_append_only.leads(me, term, book.last(), |at| book.term_at(at))?;
            self.leader_completeness.leads(me, term, || book.first(), |at| raft.term_at(at))?;
        } else {
            self.leader_append_only.stops(me);
        }
        let highest = self.commit_by_majority.highest();
        // One step of a node may hold two of its replica: it commits as the leader, and then hears of
        // a higher term, or has removed itself.
        let led = match before {
            _ if leads => Some(term),
            Some((Role::Leader, led, ..)) => Some(led),
            _ => None,
        };
        let led = led.filter(|_| commit > highest);
        let membership = led.map(|_| raft.status().membership);
        let leading =
            led.zip(membership.as_deref()).map(|(term, membership)| Leading { term, membership });
        let books = &self.books;
        let holds =
            |member: Member, id: LogId| books.get(&member).is_some_and(|book| book.holds(id));
        self.commit_by_majority.knows(me, commit, leading, |at| raft.term_at(at), holds)?;
        for index in highest.0 + 1..=commit.0 {
            if let Some(of) = raft.term_at(Index(index)) {
                let in_term = led.unwrap_or(term);
                self.leader_completeness.commits(LogId::new(of, Index(index)), in_term)?;
            }
        }
        Ok(())
    }

    /// The highest index that is known to be committed.
    pub(super) fn committed(&self) -> Index {
        self.commit_by_majority.highest()
    }
}
