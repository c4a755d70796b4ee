//! Each property is seen to be violated by an observation that was made up, and by nothing less.

use kontiki_raft::Membership;
use kontiki_types::{Incarnation, Index, LogId, Member, NodeId, ReplicaId, Term};

use super::*;

fn member(node: u64) -> Member {
    Member::new(NodeId(node), Incarnation(node + 100), ReplicaId(1))
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term(term), Index(index))
}

#[track_caller]
fn violates(property: &str, checked: Checked) {
    match checked {
        Err(violation) => assert_eq!(violation.property, property),
        Ok(()) => panic!("{property} is not seen to be violated"),
    }
}

#[test]
fn two_leaders_of_a_term() {
    let mut safety = ElectionSafety::default();
    safety.leads(member(1), Term(1)).unwrap();
    safety.leads(member(2), Term(2)).unwrap();
    safety.leads(member(1), Term(1)).unwrap();
    violates("Election Safety", safety.leads(member(2), Term(1)));
}

#[test]
fn a_leader_whose_log_got_shorter() {
    let mut append_only = LeaderAppendOnly::default();
    append_only.leads(member(1), Term(2), id(2, 5), |_| None).unwrap();
    append_only.leads(member(1), Term(2), id(2, 6), |_| Some(Term(2))).unwrap();
    violates(
        "Leader Append-Only",
        append_only.leads(member(1), Term(2), id(2, 5), |_| Some(Term(2))),
    );
}

#[test]
fn a_leader_that_overwrote_an_entry() {
    let mut append_only = LeaderAppendOnly::default();
    append_only.leads(member(1), Term(3), id(2, 5), |_| None).unwrap();
    violates(
        "Leader Append-Only",
        append_only.leads(member(1), Term(3), id(3, 6), |_| Some(Term(3))),
    );
}

#[test]
fn a_log_that_got_shorter_before_its_owner_led_again() {
    let mut append_only = LeaderAppendOnly::default();
    append_only.leads(member(1), Term(2), id(2, 5), |_| None).unwrap();
    append_only.stops(member(1));
    append_only.leads(member(1), Term(4), id(3, 4), |_| Some(Term(3))).unwrap();
}

#[test]
fn one_entry_with_two_contents() {
    let mut matching = LogMatching::default();
    matching.has(id(2, 5), Term(1), 7).unwrap();
    matching.has(id(2, 5), Term(1), 7).unwrap();
    matching.has(id(3, 5), Term(1), 8).unwrap();
    violates("Log Matching", matching.has(id(2, 5), Term(1), 8));
    violates("Log Matching", matching.has(id(3, 5), Term(1), 7));
}

#[test]
fn one_entry_after_two_others() {
    let mut matching = LogMatching::default();
    matching.has(id(3, 5), Term(1), 7).unwrap();
    matching.has(id(4, 5), Term(3), 9).unwrap();
    violates("Log Matching", matching.has(id(3, 5), Term(2), 7));
    violates("Log Matching", matching.has(id(4, 5), Term(1), 9));
}

#[test]
fn a_leader_without_a_committed_entry() {
    let mut completeness = LeaderCompleteness::default();
    completeness.commits(id(1, 1), Term(1)).unwrap();
    completeness.commits(id(1, 2), Term(1)).unwrap();
    let whole = |_| Some(Term(1));
    completeness.leads(member(1), Term(2), || Index(1), whole).unwrap();
    // The leader of a term below may not know of it yet.
    completeness.leads(member(3), Term(1), || Index(1), |_| None).unwrap();
    let lacks = |at: Index| (at.0 < 2).then_some(Term(1));
    violates("Leader Completeness", completeness.leads(member(2), Term(3), || Index(1), lacks));
    let other = |_| Some(Term(3));
    violates("Leader Completeness", completeness.leads(member(2), Term(4), || Index(1), other));
}

#[test]
fn two_committed_entries_at_an_index() {
    let mut completeness = LeaderCompleteness::default();
    completeness.commits(id(1, 1), Term(1)).unwrap();
    violates("Leader Completeness", completeness.commits(id(2, 1), Term(2)));
}

#[test]
fn two_entries_applied_at_an_index() {
    let mut safety = StateMachineSafety::default();
    safety.applies(Index(4), id(1, 5), 7).unwrap();
    safety.applies(Index(4), id(1, 5), 7).unwrap();
    violates("State Machine Safety", safety.applies(Index(4), id(2, 5), 7));
    violates("State Machine Safety", safety.applies(Index(4), id(1, 5), 8));
}

#[test]
fn an_entry_applied_twice_or_after_a_gap() {
    let mut safety = StateMachineSafety::default();
    violates("State Machine Safety", safety.applies(Index(5), id(1, 5), 7));
    violates("State Machine Safety", safety.applies(Index(3), id(1, 5), 7));
}

#[test]
fn two_states_after_an_entry() {
    let mut safety = StateMachineSafety::default();
    safety.has_state(Index(5), 1).unwrap();
    safety.has_state(Index(6), 2).unwrap();
    violates("State Machine Safety", safety.has_state(Index(5), 2));
}

const RULE: &str = "The commit rule";

/// What `node` says is committed, with what is on disks: each member up to an index, all of term 2.
fn knows(
    rule: &mut CommitByMajority,
    node: u64,
    commit: u64,
    leads: Option<u64>,
    disks: [u64; 3],
) -> Checked {
    let membership = Membership::new([1, 2, 3].map(member), []);
    let leading = leads.map(|term| Leading { term: Term(term), membership: &membership });
    let holds = |of: Member, id: LogId| disks[of.node.0 as usize - 1] >= id.index.0;
    rule.knows(member(node), Index(commit), leading, |_| Some(Term(2)), holds)
}

#[test]
fn a_commit_without_a_majority() {
    let mut rule = CommitByMajority::default();
    knows(&mut rule, 1, 3, Some(2), [3, 3, 0]).unwrap();
    knows(&mut rule, 2, 3, None, [3, 3, 0]).unwrap();
    violates(RULE, knows(&mut rule, 1, 4, Some(2), [4, 3, 3]));
}

#[test]
fn a_commit_of_an_older_term_by_count() {
    let mut rule = CommitByMajority::default();
    violates(RULE, knows(&mut rule, 1, 3, Some(3), [3, 3, 3]));
}

#[test]
fn a_follower_that_is_the_first_to_commit() {
    let mut rule = CommitByMajority::default();
    violates(RULE, knows(&mut rule, 2, 3, None, [3, 3, 3]));
}

#[test]
fn a_commit_index_that_goes_back() {
    let mut rule = CommitByMajority::default();
    knows(&mut rule, 1, 3, Some(2), [3, 3, 3]).unwrap();
    violates(RULE, knows(&mut rule, 1, 2, Some(2), [3, 3, 3]));
    // Whoever was down may know less for a while.
    rule.stops(member(1));
    knows(&mut rule, 1, 1, None, [3, 3, 3]).unwrap();
}

#[test]
fn a_read_that_would_miss_a_commit() {
    let mut reads = ReadIndex::default();
    reads.asked(1, Index(4));
    reads.asked(2, Index(4));
    reads.ready(1, Index(4)).unwrap();
    violates("Linearizable reads", reads.ready(2, Index(3)));
}
