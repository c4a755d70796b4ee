//! Paper §5.1, §5.2, §5.4.1, §6; thesis §6.2, §9.6; PROTOCOL 5 and 7: terms, votes, pre-votes,
//! check-quorum.

use std::collections::BTreeSet;

use kontiki_raft::{Body, Role};
use kontiki_types::Term;

use crate::cluster::{Cluster, isolate, log_id, ms, n};

fn granted(replies: &[kontiki_raft::Message<Vec<u8>>]) -> Vec<bool> {
    replies
        .iter()
        .filter_map(|reply| match reply.body {
            Body::VoteReply { granted } | Body::PreVoteReply { granted } => Some(granted),
            _ => None,
        })
        .collect()
}

fn vote(index: u64, term: u64) -> Body<Vec<u8>> {
    Body::Vote { last: log_id(index, term), transfer: false }
}

/// §5.2: servers start as followers; without a leader one is elected.
#[test]
fn a_leader_is_elected() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    assert!((1..=3).all(|node| cluster.raft(node).role() == Role::Follower));
    cluster.run_all(ms(500));
    assert!(cluster.leader().is_some());
}

/// §5.2: a group of one needs only its own vote, when that is durable.
#[test]
fn a_group_of_one_elects_itself_when_its_vote_is_durable() {
    let mut cluster = Cluster::new(&[1]);
    cluster.auto.persist = false;
    cluster.time_out(1);
    assert_eq!(cluster.raft(1).role(), Role::Candidate);
    cluster.persist_all(1);
    assert_eq!(cluster.raft(1).role(), Role::Leader);
}

/// §5.1: whoever sees a later term adopts it; a leader or candidate becomes a follower.
#[test]
fn a_later_term_makes_a_follower_of_everyone() {
    for role in [Role::Follower, Role::Candidate, Role::Leader] {
        let mut cluster = Cluster::new(&[1, 2, 3]);
        match role {
            Role::Leader => cluster.elect(1),
            Role::Candidate => {
                cluster.now = cluster.now + ms(300);
                cluster.auto.persist = false;
                cluster.time_out(1);
                let term = cluster.raft(1).term().0 + 1;
                cluster.inject(2, 1, term, Body::PreVoteReply { granted: true });
            }
            _ => {}
        }
        assert_eq!(cluster.raft(1).role(), role);
        cluster.inject(
            2,
            1,
            9,
            Body::Append {
                session: 1,
                prev: log_id(0, 0),
                commit: 0.into(),
                entries: vec![].into(),
            },
        );
        assert_eq!(cluster.raft(1).role(), Role::Follower);
        assert_eq!(cluster.raft(1).term(), Term(9));
        assert_eq!(cluster.raft(1).leader(), Some(n(2)));
    }
}

/// §5.1: a request with an old term is rejected, and its sender learns the newer one.
#[test]
fn an_old_leader_is_told_that_it_is_one() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    let entries = vec![].into();
    let old = Body::Append { session: 1, prev: log_id(0, 0), commit: 0.into(), entries };
    let replies = cluster.inject(3, 2, 0, old);
    assert!(matches!(replies[..], [ref reply] if reply.body == Body::Stale && reply.term.0 == 1));
}

/// §5.2: one vote per term, first come, first served; also across a crash.
#[test]
fn a_vote_is_given_once_per_term() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.now = cluster.now + ms(200);
    assert_eq!(granted(&cluster.inject(2, 1, 5, vote(0, 0))), [true]);
    assert_eq!(granted(&cluster.inject(3, 1, 5, vote(9, 4))), [false]);
    assert_eq!(granted(&cluster.inject(2, 1, 5, vote(0, 0))), [true], "it may be asked again");
    cluster.crash_node(1);
    cluster.start_node(1);
    cluster.now = cluster.now + ms(200);
    assert_eq!(granted(&cluster.inject(3, 1, 5, vote(9, 4))), [false]);
    assert_eq!(granted(&cluster.inject(3, 1, 6, vote(9, 4))), [true]);
}

/// Figure 2, "updated on stable storage before responding": no vote leaves before it is durable.
#[test]
fn a_granted_vote_leaves_when_it_is_durable() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.now = cluster.now + ms(200);
    cluster.auto.persist = false;
    assert!(cluster.inject(2, 1, 5, vote(0, 0)).is_empty());
    cluster.persist_all(1);
    assert_eq!(cluster.waiting(1, 2).len(), 1);
}

/// A candidate's requests assert its term and its vote for itself: they wait as well.
#[test]
fn a_candidate_asks_when_its_own_vote_is_durable() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.now = cluster.now + ms(200);
    cluster.auto.persist = false;
    cluster.time_out(1);
    cluster.deliver(|from, _| from.node.0 == 3);
    assert_eq!(cluster.raft(1).role(), Role::Candidate);
    assert!(cluster.net.is_empty());
    cluster.persist_all(1);
    assert_eq!(cluster.net.len(), 2);
    assert_eq!(cluster.raft(1).role(), Role::Candidate, "one vote of three is no majority");
}

/// §5.2: a candidate that crashed before its vote was durable has asked for nothing.
#[test]
fn a_candidate_that_forgets_its_vote_has_told_nobody() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.now = cluster.now + ms(200);
    cluster.auto.persist = false;
    cluster.time_out(1);
    cluster.deliver_all();
    cluster.crash_node(1);
    cluster.start_node(1);
    assert_eq!(cluster.raft(1).term(), Term(0));
    assert!(cluster.net.is_empty());
}

/// §5.2: it takes a majority of all voters.
#[test]
fn two_of_five_votes_elect_nobody() {
    let mut cluster = Cluster::new(&[1, 2, 3, 4, 5]);
    cluster.now = cluster.now + ms(200);
    cluster.time_out(1);
    cluster.deliver(|from, to| [from, to].iter().any(|member| [3, 4, 5].contains(&member.node.0)));
    assert_eq!(cluster.raft(1).role(), Role::PreCandidate);
    assert_eq!(cluster.raft(1).term(), Term(0), "a pre-vote changes no term");
    cluster.elect(1);
}

/// §5.4.1: by last term, then by length.
#[test]
fn a_vote_goes_to_a_log_that_is_at_least_as_up_to_date() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.propose(1, "a");
    cluster.deliver_all();
    assert_eq!(cluster.status(2).last, log_id(2, 1));
    cluster.now = cluster.now + ms(400);
    for (term, index, last_term, expected) in
        [(5, 1, 1, false), (6, 9, 0, false), (7, 2, 1, true), (8, 3, 1, true), (9, 1, 2, true)]
    {
        let replies = cluster.inject(3, 2, term, vote(index, last_term));
        assert_eq!(granted(&replies), [expected], "last {index}@{last_term}");
        cluster.now = cluster.now + ms(400);
    }
}

/// §5.2: a candidate that hears the leader of its term follows it.
#[test]
fn a_candidate_follows_the_winner() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.now = cluster.now + ms(200);
    cluster.time_out(1);
    cluster.deliver(|_, to| to.node.0 == 1);
    cluster.inject(2, 1, 1, Body::PreVoteReply { granted: true });
    assert_eq!(cluster.raft(1).role(), Role::Candidate);
    cluster.inject(3, 1, 1, Body::Heartbeat { session: 1, commit: 0.into(), round: 1 });
    assert_eq!(cluster.raft(1).role(), Role::Follower);
    assert_eq!(cluster.raft(1).leader(), Some(n(3)));
}

/// §5.2: election timeouts are drawn at random, from the timeout to twice that.
#[test]
fn election_timeouts_are_spread() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let mut cluster = Cluster::new(&[1, 2, 3]).seed(seed);
        let start = cluster.now;
        for node in 1..=3 {
            let timeout = cluster.raft(node).next_deadline().since(start);
            assert!(timeout >= ms(150) && timeout < ms(300));
            seen.insert(timeout);
        }
    }
    assert!(seen.len() > 140);
}

/// §5.2: split votes are resolved by another election.
#[test]
fn a_split_vote_is_followed_by_another_election() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.now = cluster.now + ms(300);
    for node in [1, 2] {
        cluster.time_out(node);
    }
    cluster.run_all(ms(1000));
    assert!(cluster.leader().is_some());
}

/// Thesis §9.6: a replica that was cut off comes back with the term it had, and disturbs nobody.
#[test]
fn a_rejoining_replica_does_not_disrupt() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.run(ms(3000), isolate(3));
    assert_eq!(cluster.raft(3).role(), Role::PreCandidate);
    assert_eq!(cluster.raft(3).term(), Term(1));
    cluster.run_all(ms(1000));
    assert_eq!(cluster.leader(), Some(n(1)));
    assert_eq!(cluster.raft(1).term(), Term(1));
    assert_eq!(cluster.raft(3).role(), Role::Follower);
}

/// §6: within the election timeout of hearing a leader, votes are ignored with their term.
#[test]
fn a_loyal_follower_ignores_candidates() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.run_all(ms(100));
    assert!(cluster.inject(3, 2, 7, vote(99, 6)).is_empty());
    assert_eq!(cluster.raft(2).term(), Term(1));
    assert_eq!(granted(&cluster.inject(3, 2, 7, Body::PreVote { last: log_id(99, 6) })), [false]);
    // So does the leader itself, as long as it has its majority.
    assert!(cluster.inject(3, 1, 7, vote(99, 6)).is_empty());
    assert_eq!(cluster.raft(1).role(), Role::Leader);
}

/// PROTOCOL 5: after a start a replica may have forgotten a promise of loyalty.
#[test]
fn a_replica_that_has_just_started_grants_no_vote() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    assert!(cluster.inject(3, 2, 7, vote(99, 6)).is_empty());
    assert_eq!(granted(&cluster.inject(3, 2, 7, Body::PreVote { last: log_id(99, 6) })), [false]);
    cluster.now = cluster.now + ms(150);
    assert_eq!(granted(&cluster.inject(3, 2, 7, vote(99, 6))), [true]);
}

/// PROTOCOL 7: a member answers votes even if it still believes itself a learner.
#[test]
fn a_replica_without_a_configuration_votes() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[1, 2], |_| {});
    cluster.now = cluster.now + ms(150);
    assert!(!cluster.status(3).membership.is_voter(n(3)));
    assert_eq!(granted(&cluster.inject(1, 3, 7, vote(5, 6))), [true]);
}

/// Thesis §6.2: a leader without a majority steps down, within the most patient election timeout
/// and a heartbeat.
#[test]
fn a_leader_without_a_majority_steps_down() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.run(ms(100), isolate(1));
    assert_eq!(cluster.raft(1).role(), Role::Leader);
    cluster.run(ms(260), isolate(1));
    assert_ne!(cluster.raft(1).role(), Role::Leader);
    assert_ne!(cluster.leader(), Some(n(1)));
}

/// §5.2: without a majority that can talk there is no leader, and terms stand still.
#[test]
fn a_minority_elects_nobody() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.crash_node(1);
    cluster.crash_node(2);
    cluster.run_all(ms(3000));
    assert_eq!(cluster.leader(), None);
    assert_eq!(cluster.raft(3).term(), Term(1));
}

/// After the death of a leader another serves well below half a second later, for all seeds.
#[test]
fn failover_is_fast() {
    let mut times = Vec::new();
    for seed in 0..100 {
        let mut cluster = Cluster::new(&[1, 2, 3]).seed(seed);
        cluster.elect(1);
        cluster.run_all(ms(500));
        cluster.crash_node(1);
        let start = cluster.now;
        while cluster.leader().is_none_or(|leader| cluster.status(leader.node.0).commit.0 < 2) {
            cluster.run_all(ms(1));
        }
        times.push(cluster.now.since(start));
    }
    times.sort_unstable();
    assert!(times[50] < ms(260), "median {:?}", times[50]);
    assert!(times[98] < ms(400), "98 of 100 take up to {:?}", times[98]);
}

/// Without failures the term and the leader stay.
#[test]
fn a_healthy_group_is_stable() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(2);
    cluster.run_all(ms(10_000));
    assert_eq!(cluster.leader(), Some(n(2)));
    assert_eq!(cluster.raft(1).term(), Term(1));
}
