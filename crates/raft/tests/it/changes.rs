//! Paper §6, thesis §4; PROTOCOL 6, 7 and 16: configurations and identities.

use kontiki_raft::{AppendResult, Body, ChangeError, Membership, Role};
use kontiki_types::{Incarnation, Index, Member, ReplicaId};

use crate::cluster::{Cluster, isolate, log_id, membership, ms, n};

fn five(voters: &[u64]) -> Cluster {
    let mut cluster = Cluster::with(&[1, 2, 3, 4, 5], voters, |_| {});
    cluster.elect(1);
    cluster
}

/// The first entry of a group is its configuration, so that whoever joins finds it in the log.
#[test]
fn the_first_entry_is_the_initial_configuration() {
    let mut cluster = five(&[1, 2, 3]);
    assert_eq!(cluster.status(1).membership_id, log_id(1, 1));
    assert_eq!(*cluster.status(1).membership, membership(&[1, 2, 3], &[]));
}

/// §6: voters change by way of a joint configuration, left without being asked.
#[test]
fn voters_change_through_a_joint_configuration() {
    let mut cluster = five(&[1, 2, 3]);
    let id = cluster.change(1, &[1, 4, 5], &[]);
    let joint = cluster.status(1).membership;
    assert_eq!(joint.voters, [n(1), n(4), n(5)]);
    assert_eq!(joint.outgoing, [n(1), n(2), n(3)]);
    assert_eq!(cluster.status(1).membership_id, id, "it is in effect when it is appended");
    cluster.run_all(ms(300));
    assert_eq!(*cluster.status(1).membership, membership(&[1, 4, 5], &[]));
    cluster.propose(1, "a");
    cluster.run_all(ms(100));
    assert_eq!(cluster.commands(), [1, 0, 0, 1, 1]);
}

/// §6: a joint configuration decides by both majorities.
#[test]
fn a_joint_configuration_needs_both_majorities() {
    for away in [[2, 3], [4, 5]] {
        let mut cluster = five(&[1, 2, 3]);
        cluster.change(1, &[1, 4, 5], &[]);
        let lost =
            |from: Member, to: Member| away.contains(&from.node.0) || away.contains(&to.node.0);
        cluster.run(ms(130), lost);
        assert_eq!(cluster.status(1).commit, Index(1), "without {away:?}");
        cluster.run_all(ms(600));
        let leader = cluster.leader().unwrap().node.0;
        assert!(!cluster.status(leader).membership.is_joint());
    }
}

/// PROTOCOL 7: so do pre-votes and votes.
#[test]
fn an_election_in_a_joint_configuration_needs_both_majorities() {
    let mut cluster = five(&[1, 2, 3]);
    cluster.change(1, &[1, 4, 5], &[]);
    cluster.deliver(|from, _| from.node.0 != 1);
    cluster.crash_node(1);
    let lost = |_: Member, to: Member| to.node.0 >= 4;
    cluster.run(ms(1500), lost);
    assert_eq!(cluster.leader(), None, "2 and 3 are a majority of the old voters only");
    cluster.run_all(ms(1500));
    assert!(cluster.leader().is_some());
}

/// … and check-quorum.
#[test]
fn a_leader_needs_both_majorities_to_stay() {
    let mut cluster = five(&[1, 2, 3]);
    cluster.change(1, &[1, 4, 5], &[]);
    cluster.run(ms(400), |from, to| from.node.0 >= 4 || to.node.0 >= 4);
    assert_ne!(cluster.raft(1).role(), Role::Leader);
}

/// PROTOCOL 7: a truncation rolls the configuration back with the log.
#[test]
fn a_truncated_configuration_is_rolled_back() {
    let mut cluster = five(&[1, 2, 3]);
    cluster.run_all(ms(100));
    cluster.change(1, &[1, 4, 5], &[]);
    assert!(cluster.status(1).membership.is_joint());
    cluster.net.clear();
    cluster.run(ms(900), isolate(1));
    assert!(cluster.leader().is_some_and(|leader| leader != n(1)));
    cluster.run_all(ms(100));
    assert_eq!(*cluster.status(1).membership, membership(&[1, 2, 3], &[]));
    assert_eq!(cluster.status(1).membership_id, log_id(1, 1));
}

/// The next leader finishes what the last one began.
#[test]
fn a_new_leader_leaves_the_joint_configuration() {
    let mut cluster = five(&[1, 2, 3]);
    cluster.change(1, &[2, 3, 4], &[]);
    cluster.deliver(|from, to| from.node.0 != 1 && to.node.0 == 1);
    cluster.crash_node(1);
    cluster.run_all(ms(1500));
    let leader = cluster.leader().unwrap().node.0;
    assert_eq!(*cluster.status(leader).membership, membership(&[2, 3, 4], &[]));
}

/// PROTOCOL 16 and thesis errata: one change at a time, naming what it replaces, and none before
/// the leader has committed an entry of its term.
#[test]
fn a_change_is_refused_unless_it_is_its_turn() {
    let mut cluster = five(&[1, 2, 3]);
    let now = cluster.now;
    let current = cluster.status(1).membership_id;
    let change = |cluster: &mut Cluster, node, voters: &[u64], replaces| {
        let voters = voters.iter().map(|&node| n(node)).collect();
        cluster.raft(node).change_membership(now, voters, vec![], replaces).map(drop)
    };
    let refused = change(&mut cluster, 2, &[1, 2], current);
    assert!(matches!(refused, Err(ChangeError::Refused(_))));
    let refused = change(&mut cluster, 1, &[1, 2], log_id(0, 0));
    assert_eq!(refused, Err(ChangeError::Replaced { current }));
    assert_eq!(change(&mut cluster, 1, &[], current), Err(ChangeError::Malformed));
    assert_eq!(change(&mut cluster, 1, &[1, 2, 4], current), Ok(()));
    let joint = cluster.status(1).membership_id;
    assert_eq!(change(&mut cluster, 1, &[1, 2], joint), Err(ChangeError::InProgress));
    cluster.drain(0);
    cluster.crash_node(1);
    cluster.win(2);
    let current = cluster.status(2).membership_id;
    assert_eq!(change(&mut cluster, 2, &[1, 2], current), Err(ChangeError::NotReady));
}

/// One replica of a group per node.
#[test]
fn a_node_is_named_once() {
    let mut cluster = five(&[1, 2, 3]);
    let again = Member { replica: ReplicaId(2), ..n(2) };
    let (now, current) = (cluster.now, cluster.status(1).membership_id);
    let voters = vec![n(1), n(2), again];
    let refused = cluster.raft(1).change_membership(now, voters, vec![], current);
    assert_eq!(refused, Err(ChangeError::Malformed));
    let refused = cluster.raft(1).change_membership(now, vec![n(1), n(2)], vec![again], current);
    assert_eq!(refused, Err(ChangeError::Malformed));
}

/// Thesis §4.2.1: a learner gets the log, counts for nothing, and never campaigns.
#[test]
fn a_learner_learns_and_does_not_count() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[1, 2], |_| {});
    cluster.elect(1);
    cluster.change(1, &[1, 2], &[3]);
    cluster.propose(1, "a");
    cluster.run_all(ms(100));
    assert_eq!(cluster.commands(), [1, 1, 1]);
    cluster.propose(1, "b");
    cluster.deliver(isolate(2));
    assert_eq!(cluster.commands(), [1, 1, 1], "a leader and a learner are no majority");
    cluster.crash_node(1);
    cluster.crash_node(2);
    cluster.run_all(ms(3000));
    assert_eq!(cluster.raft(3).role(), Role::Follower);
}

/// A change of learners alone takes one entry, and no joint step.
#[test]
fn learners_change_without_a_joint_configuration() {
    let mut cluster = five(&[1, 2, 3]);
    cluster.change(1, &[1, 2, 3], &[4, 5]);
    assert!(!cluster.status(1).membership.is_joint());
    cluster.run_all(ms(100));
    cluster.change(1, &[1, 2, 3], &[4]);
    cluster.run_all(ms(100));
    assert_eq!(*cluster.status(1).membership, membership(&[1, 2, 3], &[4]));
    assert!(cluster.node(5).tombstone);
}

/// A voter can become a learner, and a learner a voter.
#[test]
fn members_change_sides() {
    let mut cluster = five(&[1, 2, 3]);
    cluster.change(1, &[1, 2, 3], &[4]);
    cluster.run_all(ms(100));
    cluster.change(1, &[1, 2, 4], &[3]);
    cluster.propose(1, "a");
    cluster.run_all(ms(200));
    assert_eq!(*cluster.status(1).membership, membership(&[1, 2, 4], &[3]));
    assert_eq!(cluster.commands(), [1, 1, 1, 1, 0]);
}

/// A removed follower is told so, and is silent from then on.
#[test]
fn a_removed_follower_learns_of_it() {
    let mut cluster = five(&[1, 2, 3]);
    cluster.change(1, &[1, 2], &[]);
    cluster.run_all(ms(100));
    assert!(cluster.node(3).tombstone);
    assert_eq!(cluster.raft(3).role(), Role::Removed);
    cluster.run_all(ms(3000));
    assert!(cluster.waiting(3, 1).is_empty());
    assert!(cluster.status(1).peers.iter().all(|peer| peer.member != n(3)));
    assert_eq!(cluster.leader(), Some(n(1)));
}

/// §6: a leader that is not part of the new configuration steps down when that is committed, and
/// not before; a successor takes over at once.
#[test]
fn a_removed_leader_steps_down_when_its_removal_is_committed() {
    let mut cluster = five(&[1, 2, 3]);
    cluster.run_all(ms(50));
    let before = cluster.now;
    cluster.change(1, &[2, 3], &[]);
    assert_eq!(cluster.raft(1).role(), Role::Leader);
    cluster.deliver_all();
    assert!(cluster.node(1).tombstone);
    assert_eq!(cluster.raft(1).role(), Role::Removed);
    assert_eq!(cluster.now, before);
    assert!(cluster.leader().is_some_and(|leader| leader != n(1)));
    let leader = cluster.leader().unwrap().node.0;
    cluster.propose(leader, "a");
    cluster.deliver_all();
    assert_eq!(cluster.commands()[1..3], [1, 1]);
}

/// Thesis §4.2.2: a replica that its latest configuration leaves out still stands for election
/// until that is known to be committed: it may be the only one whose log is long enough.
#[test]
fn a_replica_on_its_way_out_may_have_to_lead() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[1, 2], |_| {});
    cluster.elect(1);
    cluster.change(1, &[1, 3], &[]);
    // The joint configuration is committed; the entry that leaves it reaches only 2.
    for _ in 0..100 {
        let Some(message) = cluster.net.front() else {
            let now = cluster.next_deadline().unwrap();
            cluster.now = cluster.now.max(now);
            cluster.tick_at(0);
            continue;
        };
        let leaves = matches!(&message.body, Body::Append { entries, .. }
            if entries.iter().any(|entry| entry.id.index == Index(3)));
        if leaves && message.to == n(3) {
            cluster.net.pop_front();
        } else {
            cluster.deliver_at(0);
        }
        if cluster.status(2).last.index == Index(3) {
            break;
        }
    }
    assert_eq!(cluster.status(2).last.index, Index(3));
    cluster.crash_node(1);
    cluster.net.clear();
    cluster.node(1).disk.entries.truncate(2);
    cluster.start_node(1);
    cluster.run_all(ms(2000));
    let leader = cluster.leader().expect("2 has to lead once more");
    assert_eq!(*cluster.status(leader.node.0).membership, membership(&[1, 3], &[]));
}

/// PROTOCOL 6: an acknowledgement from before a remove-and-add counts for nothing.
#[test]
fn an_old_sessions_acknowledgement_counts_for_nothing() {
    let mut cluster = five(&[1, 2, 3]);
    cluster.change(1, &[1, 2, 3], &[4]);
    cluster.deliver_all();
    let session = session_of(&mut cluster, 4);
    cluster.change(1, &[1, 2, 3], &[]);
    cluster.run_all(ms(100));
    let at = cluster.at(n(4));
    cluster.crash(at);
    // Another replica on the node would have another id; suppose somebody forgot that.
    cluster.nodes[at].disk = Default::default();
    cluster.nodes[at].machine = Default::default();
    cluster.nodes[at].tombstone = false;
    cluster.change(1, &[1, 2, 3], &[4]);
    cluster.net.clear();
    let last = cluster.status(1).last.index;
    let late = Body::AppendReply { session, result: AppendResult::Matched(last) };
    cluster.inject(4, 1, 1, late);
    let peer = cluster.status(1).peers.into_iter().find(|peer| peer.member == n(4)).unwrap();
    assert_eq!(peer.matched, Index(0));
    assert_ne!(session_of(&mut cluster, 4), session);
}

/// The session of the next heartbeat to a member.
fn session_of(cluster: &mut Cluster, node: u64) -> u64 {
    cluster.now = cluster.now + ms(30);
    cluster.tick_at(0);
    let session = cluster.waiting(1, node).iter().find_map(|message| match message.body {
        Body::Heartbeat { session, .. } => Some(session),
        _ => None,
    });
    cluster.net.clear();
    session.expect("a heartbeat")
}

/// PROTOCOL 6: a node whose directory was emptied is not the member it was: its votes do not count,
/// and it answers nothing that is addressed to the old one.
#[test]
fn an_emptied_directory_does_not_vote() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    for _ in 0..3 {
        cluster.propose(1, "acknowledged");
        cluster.deliver(isolate(3));
    }
    cluster.crash_node(1);
    cluster.crash_node(2);
    cluster.net.clear();
    // 2 comes back with the same flags, another directory, and the initial configuration.
    let fresh = Member { incarnation: Incarnation(999), ..n(2) };
    let initial = Membership::new([n(1), fresh, n(3)], []);
    cluster.add(fresh, Some(initial), &mut |_| {});
    cluster.run_all(ms(5000));
    assert_eq!(cluster.raft(3).role(), Role::PreCandidate, "3 lacks committed entries");
    assert!(cluster.trace.iter().any(|line| line == "n2 drops a message from n3 to n2"));
}

/// A replica that is behind takes a leader it has never heard of: it may be a later member.
#[test]
fn a_leader_may_be_unknown() {
    let mut cluster = five(&[1, 2, 3]);
    cluster.crash_node(3);
    cluster.change(1, &[3, 4, 5], &[]);
    cluster.run_all(ms(1000));
    let leader = cluster.leader().unwrap();
    assert!(leader == n(4) || leader == n(5));
    cluster.start_node(3);
    assert!(!cluster.status(3).membership.contains(leader));
    cluster.run_all(ms(200));
    assert_eq!(cluster.status(3).leader, Some(leader));
    assert_eq!(*cluster.status(3).membership, membership(&[3, 4, 5], &[]));
}
