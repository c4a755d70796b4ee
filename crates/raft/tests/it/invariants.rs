//! What must hold after every step of every test: the five safety properties of the paper (Figure
//! 3), a naive recomputation of every commit from what is on the disks, and reads that never miss a
//! committed entry.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_raft::{Entry, Role, WriteBatch};
use kontiki_types::{Index, LogId, Member, Term};

use crate::cluster::{Core, Node};
use crate::disk::State;

#[derive(Default)]
pub struct Invariants {
    leaders: BTreeMap<Term, Member>,
    /// Entries known to be committed, and the term of the leader that first knew.
    committed: BTreeMap<Index, (LogId, Term)>,
    entries: BTreeMap<Index, Entry<Vec<u8>>>,
    states: BTreeMap<u64, State>,
    /// Commit index of each running replica when it was last looked at.
    commits: BTreeMap<Member, Index>,
    /// What a read must not be behind.
    reads: BTreeMap<u64, Index>,
    members: BTreeSet<Member>,
    steps: u64,
}

impl Invariants {
    pub fn highest(&self) -> Index {
        self.committed.last_key_value().map_or(Index(0), |(&index, _)| index)
    }

    /// Whether any configuration that was applied had this member, or the first one had.
    pub fn was_member(&self, member: Member) -> bool {
        self.members.contains(&member)
    }

    pub fn crashed(&mut self, member: Member) {
        self.commits.remove(&member);
    }

    /// Election Safety (§5.2): at most one leader per term.
    pub fn role(&mut self, member: Member, role: Role, term: Term) {
        if role == Role::Leader {
            let leader = *self.leaders.entry(term).or_insert(member);
            assert_eq!(leader, member, "two leaders in term {term}");
        }
    }

    /// Leader Append-Only (§5.3): a leader never overwrites its log.
    pub fn written(&self, raft: &Core, batch: &WriteBatch<Vec<u8>>) {
        if raft.role() == Role::Leader
            && let Some(from) = batch.truncate_from()
        {
            // What it truncated as a follower of an earlier term may still wait to be written.
            let foreign = batch.entries().next().is_some_and(|entry| entry.id.term < raft.term());
            assert!(foreign, "a leader truncates from {from}");
        }
    }

    /// State Machine Safety (§5.4.3): nobody applies another entry at the same index.
    pub fn applied(&mut self, member: Member, entry: &Entry<Vec<u8>>, state: State) {
        let known = self.entries.entry(entry.id.index).or_insert_with(|| entry.clone());
        assert_eq!(known, entry, "{member} applies something else at {}", entry.id.index);
        let known = *self.states.entry(state.index).or_insert(state);
        assert_eq!(known, state, "{member} has another state at {}", state.index);
    }

    pub fn installed(&self, state: State) {
        if let Some(known) = self.states.get(&state.index) {
            assert_eq!(*known, state, "a snapshot holds another state");
        }
    }

    pub fn read_asked(&mut self, token: u64) {
        self.reads.insert(token, self.highest());
    }

    /// Linearizable reads (thesis §6.4).
    pub fn read_ready(&mut self, token: u64, index: Index) {
        if let Some(asked) = self.reads.remove(&token) {
            assert!(index >= asked, "read {token} at {index} misses committed entry {asked}");
        }
    }

    /// After something happened to the replica `at`.
    pub fn check(&mut self, nodes: &[Node], at: usize) {
        self.steps += 1;
        let node = &nodes[at];
        if let Some(raft) = &node.raft {
            self.check_commit(node.me, raft, nodes);
            if raft.role() == Role::Leader {
                self.check_leader_completeness(raft);
                self.members.extend(raft.status().membership.members());
            }
        }
        if self.steps.is_multiple_of(256) {
            check_log_matching(nodes);
        }
    }

    fn check_commit(&mut self, me: Member, raft: &Core, nodes: &[Node]) {
        let commit = raft.commit();
        let before = self.commits.insert(me, commit).unwrap_or(Index(0));
        assert!(commit >= before, "the commit index of {me} went back");
        if commit == before {
            return;
        }
        // A commit index may be news only from a leader, by what a majority has on disk.
        if commit > self.highest() {
            assert_eq!(raft.role(), Role::Leader, "{me} commits {commit} before any leader");
            let term = raft.term();
            assert_eq!(raft.term_at(commit), Some(term), "commits an older term by count (§5.4.2)");
            let status = raft.status();
            let held = status.membership.majority(|member| {
                nodes
                    .iter()
                    .find(|node| node.me == member)
                    .is_some_and(|node| holds(node, LogId::new(term, commit)))
            });
            assert!(held, "{me} commits {commit} without a majority");
            for index in self.highest().0 + 1..=commit.0 {
                let index = Index(index);
                let id = LogId::new(raft.term_at(index).expect("the leader has it"), index);
                self.committed.insert(index, (id, term));
            }
        }
        for (&index, (id, _)) in self.committed.range(before.next()..=commit) {
            if let Some(term) = raft.term_at(index) {
                assert_eq!(term, id.term, "{me} has another entry committed at {index}");
            }
        }
    }

    /// Leader Completeness (§5.4): a committed entry is in the log of every later leader.
    fn check_leader_completeness(&self, raft: &Core) {
        let first = raft.status().first;
        for (&index, (id, committed_in)) in self.committed.iter().rev().take(50) {
            if *committed_in < raft.term() && index >= first {
                assert_eq!(
                    raft.term_at(index),
                    Some(id.term),
                    "the leader of {} lacks committed {id}",
                    raft.term()
                );
            }
        }
    }
}

fn holds(node: &Node, id: LogId) -> bool {
    node.disk.base_id().index > id.index || node.disk.term_at(id.index) == Some(id.term)
}

/// Log Matching (§5.3): the same index and term means the same log up to there.
pub fn check_log_matching(nodes: &[Node]) {
    let logs: Vec<_> = nodes.iter().filter_map(|node| node.raft.as_ref()).collect();
    for (at, one) in logs.iter().enumerate() {
        for two in logs.iter().skip(at + 1) {
            let (a, b) = (one.status(), two.status());
            let first = a.first.max(b.first);
            let mut index = a.last.index.min(b.last.index);
            while index >= first && one.term_at(index) != two.term_at(index) {
                index = index.prev();
            }
            while index >= first {
                assert_eq!(one.term_at(index), two.term_at(index), "logs differ below a match");
                index = index.prev();
            }
        }
    }
}
