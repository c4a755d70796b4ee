//! The properties of the paper, looked at from outside whole nodes, after every step of one. Each
//! group is looked at by itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use kontiki_raft::{PeerStatus, Raft, Role};
use kontiki_types::{Index, Instant, LogId, Member, NodeId, Term};

use super::log_book::{Change, LogBook};
use crate::invariants::{
    Checked, CommitByMajority, ElectionSafety, LeaderAppendOnly, LeaderCompleteness, Leading,
    LeaseExclusivity, LogMatching, StateMachineSafety, Violation, Votes,
};

/// What a replica was when it was last looked at.
type Seen = (Role, Term, Index, LogId);

fn book<'a>(
    books: &'a [LogBook],
    places: &BTreeMap<Member, usize>,
    member: Member,
) -> Option<&'a LogBook> {
    places.get(&member).and_then(|&place| books.get(place))
}

/// See the module.
#[derive(Default)]
pub(super) struct Checks {
    election_safety: ElectionSafety,
    leader_append_only: LeaderAppendOnly,
    leader_completeness: LeaderCompleteness,
    log_matching: LogMatching,
    commit_by_majority: CommitByMajority,
    votes: Votes,
    leases: LeaseExclusivity,
    state_machine_safety: StateMachineSafety,
    /// Of every member that ever was: what one has acknowledged counts also after its end.
    books: Vec<LogBook>,
    /// Which of the books is a member's.
    places: BTreeMap<Member, usize>,
    here: BTreeMap<NodeId, Here>,
}

/// The replica that is open on a node.
struct Here {
    member: Member,
    /// Which of the books is its own.
    place: usize,
    seen: Option<Seen>,
}

impl Checks {
    /// Of a group whose log begins after `begins`.
    pub(super) fn beginning_after(begins: Index) -> Self {
        let commit_by_majority = CommitByMajority::beginning_after(begins);
        Self { commit_by_majority, ..Self::default() }
    }

    /// A replica is open on `node`, with what its book says.
    ///
    /// # Errors
    /// Something that was durable is not there any more.
    pub(super) fn opens(&mut self, node: NodeId, book: LogBook) -> Checked {
        let member = book.member;
        self.commit_by_majority.stops(member);
        self.leader_append_only.stops(member);
        let place = *self.places.entry(member).or_insert(self.books.len());
        self.here.insert(node, Here { member, place, seen: None });
        let before = match self.books.get_mut(place) {
            Some(known) => Some(std::mem::replace(known, book)),
            None => {
                self.books.push(book);
                None
            }
        };
        let Some(now) = self.books.get(place) else { return Ok(()) };
        now.vote(&mut self.votes)?;
        let Some(before) = before else { return Ok(()) };
        let lost = before.lost_in(now).map(|id| id.to_string());
        let lost = lost.or_else(|| before.forgotten_in(now).map(|state| format!("{state:?}")));
        let Some(lost) = lost else { return Ok(()) };
        let seen = format!("{member} had {lost} on stable storage and has it no longer");
        Err(Violation::new("What was synced is there after a restart", seen))
    }

    /// `node` stops. What of its log is durable still counts.
    pub(super) fn stops(&mut self, node: NodeId) {
        if let Some(Here { member, .. }) = self.here.remove(&node) {
            self.commit_by_majority.stops(member);
            self.leader_append_only.stops(member);
        }
    }

    pub(super) fn leads(&mut self, member: Member, term: Term) -> Checked {
        self.leases.leads(member, term);
        self.election_safety.leads(member, term)
    }

    /// Looks at the lease of a leader that may have been deposed, at the time that it goes by.
    pub(super) fn look_at_lease(&self, raft: &Raft<Bytes>, now: Instant) -> Checked {
        if raft.role() != Role::Leader || !self.leases.is_deposed(raft.term()) {
            return Ok(());
        }
        self.leases.holds(raft.status().me, raft.term(), raft.holds_lease(now))
    }

    /// What a leader takes for durable at its members is.
    fn look_at_peers(&self, raft: &Raft<Bytes>, peers: &[PeerStatus]) -> Checked {
        for peer in peers.iter().filter(|peer| peer.matched > Index(0)) {
            let (Some(term), Some(book)) =
                (raft.term_at(peer.matched), book(&self.books, &self.places, peer.member))
            else {
                continue;
            };
            let id = LogId::new(term, peer.matched);
            if !book.holds(id) {
                let seen = format!("{} is taken to have {id} on disk, and has not", peer.member);
                return Err(Violation::new("What is acknowledged is durable", seen));
            }
        }
        Ok(())
    }

    pub(super) fn writes(&mut self, node: NodeId, change: Change) -> Checked {
        let book = self.here.get(&node).and_then(|here| self.books.get_mut(here.place));
        let Some(book) = book else { return Ok(()) };
        book.begin(change, &mut self.log_matching)
    }

    /// The oldest batch that is under way is durable.
    pub(super) fn has_written(&mut self, node: NodeId) -> Checked {
        let book = self.here.get(&node).and_then(|here| self.books.get_mut(here.place));
        book.map_or(Ok(()), |book| book.end(&mut self.votes))
    }

    /// `node` applies an entry: not before its log has it on stable storage.
    pub(super) fn applies(
        &mut self,
        node: NodeId,
        before: Index,
        id: LogId,
        content: u64,
    ) -> Checked {
        let book = self.here.get(&node).and_then(|here| self.books.get(here.place));
        if let Some(book) = book.filter(|book| !book.holds(id)) {
            let seen = format!("{} applies {id}, which its disk does not have", book.member);
            return Err(Violation::new("What is applied is durable", seen));
        }
        self.state_machine_safety.applies(before, id, content)
    }

    /// Looks at the replica of `node` if it has changed.
    pub(super) fn look(&mut self, node: NodeId, raft: &Raft<Bytes>) -> Checked {
        let Some(here) = self.here.get_mut(&node) else { return Ok(()) };
        let Some(book) = self.books.get(here.place) else { return Ok(()) };
        let (role, term, commit) = (raft.role(), raft.term(), raft.commit());
        let seen = (role, term, commit, book.last());
        let before = here.seen.replace(seen);
        if before == Some(seen) {
            return Ok(());
        }
        let me = book.member;
        let last = book.last();
        if let Some((id, _)) = raft.membership_at(last.index)
            && raft.term_at(id.index).is_some_and(|term| term != id.term)
        {
            let seen = format!("{me} goes by that of {id}, and has another entry there");
            return Err(Violation::new("The configuration in effect is in the log", seen));
        }
        let status = (role == Role::Leader).then(|| raft.status());
        let leads = status.is_some();
        if let Some(status) = &status {
            if !matches!(before, Some((Role::Leader, led, ..)) if led == term) {
                self.votes.leads(me, term, &status.membership)?;
            }
            // What a deposed leader was told may have been overwritten since.
            if !self.leases.is_deposed(term) {
                self.look_at_peers(raft, &status.peers)?;
            }
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
        let membership = led.map(|_| status.unwrap_or_else(|| raft.status()).membership);
        let leading =
            led.zip(membership.as_deref()).map(|(term, membership)| Leading { term, membership });
        let (books, places) = (&self.books, &self.places);
        let holds = |member: Member, id: LogId| {
            self::book(books, places, member).is_some_and(|book| book.holds(id))
        };
        let term_at = |at| raft.term_at(at);
        let judged = self.commit_by_majority.knows(me, commit, leading, term_at, holds);
        if judged.is_err() {
            // One step may commit, and then append another configuration, which is in effect at
            // once and had no say in it.
            let earlier = before.and_then(|(.., last)| raft.membership_at(last.index));
            let Some((led, (_, membership))) = led.zip(earlier) else { return judged };
            let leading = Some(Leading { term: led, membership });
            self.commit_by_majority.knows(me, commit, leading, term_at, holds)?;
        }
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
