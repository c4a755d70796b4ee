use std::sync::Arc;

use kontiki_raft::{Membership, PeerStatus, Role};
use kontiki_shard::Controller;
use kontiki_types::{GroupId, Incarnation, Index, LogId, Member, Term};

use super::*;

fn member(node: u64) -> Member {
    Member::new(NodeId(node), Incarnation(node), ReplicaId(1))
}

fn nodes(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().map(|id| NodeId(*id)).collect()
}

/// Node 1 leads voters 1, 2, …; all of them have everything.
fn status(voters: &[u64]) -> Status {
    let voters: Vec<_> = voters.iter().map(|id| member(*id)).collect();
    let peer = |member: &Member| PeerStatus {
        member: *member,
        matched: Index(9),
        next: Index(10),
        state: PeerState::Replicate,
        active: true,
        inflight_bytes: 0,
    };
    Status {
        me: member(1),
        role: Role::Leader,
        term: Term(1),
        leader: Some(member(1)),
        commit: Index(9),
        applied: Index(9),
        durable: Index(9),
        last: LogId::new(Term(1), Index(9)),
        first: Index(1),
        peers: voters.iter().filter(|voter| voter.node != NodeId(1)).map(peer).collect(),
        membership: Arc::new(Membership::new(voters, Vec::new())),
        membership_id: LogId::ZERO,
        uncommitted_bytes: 0,
        unapplied_bytes: 0,
        log_bytes: 0,
        cached_bytes: 0,
        quiet: false,
        waiting_reads: 0,
        dropped_messages: 0,
    }
}

/// Nodes 1 to 4, of which these are not alive.
fn known(dead: &[u64]) -> Vec<(NodeInfo, bool)> {
    let info =
        |id| NodeInfo { id: NodeId(id), incarnation: Incarnation(id), ..NodeInfo::default() };
    (1..=4).map(|id| (info(id), !dead.contains(&id))).collect()
}

#[test]
fn what_is_missing_comes_before_what_is_not_wanted_goes() {
    let wish = nodes(&[1, 2, 4]);
    let add = Placing::Change(ChangeKind::Add(NodeId(4), Incarnation(4)));
    assert_eq!(place(&status(&[1, 2, 3]), &wish, None, &known(&[])), add);
    assert_eq!(place(&status(&[1, 2, 3]), &wish, None, &known(&[4])), Placing::Wait);
    let remove = Placing::Change(ChangeKind::Remove(NodeId(3)));
    assert_eq!(place(&status(&[1, 2, 3, 4]), &wish, None, &known(&[])), remove);
    assert_eq!(place(&status(&[1, 2, 4]), &wish, None, &known(&[])), Placing::Settled);
}

#[test]
fn a_leader_that_is_not_wanted_hands_over() {
    let wish = nodes(&[2, 3, 4]);
    let hand_over = |to| Placing::Change(ChangeKind::Transfer(NodeId(to)));
    assert_eq!(place(&status(&[1, 2, 3, 4]), &wish, None, &known(&[])), hand_over(2));
    assert_eq!(place(&status(&[1, 2, 3, 4]), &wish, None, &known(&[2])), hand_over(3));
}

#[test]
fn the_node_that_is_to_lead_gets_the_group_once_it_has_everything() {
    let wish = nodes(&[2, 1, 3]);
    let three = || status(&[1, 2, 3]);
    let to = |leader| Some(NodeId(leader));
    let transfer = Placing::Change(ChangeKind::Transfer(NodeId(2)));
    assert_eq!(place(&three(), &wish, to(2), &known(&[])), transfer);
    assert_eq!(place(&three(), &wish, to(1), &known(&[])), Placing::Settled);
    assert_eq!(place(&three(), &wish, None, &known(&[])), Placing::Settled);
    let mut behind = three();
    behind.commit = Index(1000);
    assert_eq!(place(&behind, &wish, to(2), &known(&[])), Placing::Wait);
    assert_eq!(place(&three(), &[], to(2), &known(&[])), Placing::Settled);
}

#[test]
fn a_node_that_is_about_to_stop_is_to_lead_nothing() {
    let groups: Vec<_> = [(1, [1, 2, 3]), (2, [2, 3, 1]), (3, [3, 1, 2])]
        .map(|(id, ids)| (GroupId(id), nodes(&ids)))
        .into();
    let configuration = Controller::founding(&groups).configuration().clone();
    let lead = |known: &[(NodeInfo, bool)]| -> Vec<u64> {
        leaders(&configuration, &nodes(&[1, 2, 3]), known).values().map(|node| node.0).collect()
    };
    // The controller's is the first.
    assert_eq!(lead(&known(&[])), [1, 1, 2, 3]);
    assert_eq!(lead(&known(&[1])), [2, 2, 2, 3]);
    let mut stopping = known(&[]);
    stopping[0].0.leaving = true;
    assert_eq!(lead(&stopping), lead(&known(&[1])));
    let mut drained = status(&[1, 2, 3, 4]);
    drained.me = member(4);
    drained.peers = status(&[1, 2, 3]).peers;
    let heir = Placing::Change(ChangeKind::Transfer(NodeId(2)));
    assert_eq!(place(&drained, &nodes(&[1, 2, 3]), None, &stopping), heir);
}

#[test]
fn one_change_at_a_time() {
    let mut changing = status(&[1, 2, 3]);
    changing.membership_id = LogId::new(Term(1), Index(10));
    assert_eq!(place(&changing, &nodes(&[1]), None, &known(&[])), Placing::Wait);
}

#[test]
fn the_controller_is_where_groups_are() {
    let groups = |ids: &[&[u64]]| {
        let groups: Vec<_> = (1..).map(GroupId).zip(ids.iter().map(|ids| nodes(ids))).collect();
        Controller::founding(&groups).configuration().clone()
    };
    let some = groups(&[&[1, 2, 3], &[4, 5, 6]]);
    assert_eq!(controller_nodes(&some, &nodes(&[2, 3, 9])), nodes(&[2, 3, 1, 4, 5]));
    let few = groups(&[&[1, 2, 3, 4]]);
    assert_eq!(controller_nodes(&few, &nodes(&[4, 3])), nodes(&[4, 3, 1]));
    assert_eq!(controller_nodes(&groups(&[&[7, 8]]), &nodes(&[8, 7])), nodes(&[8]));
}

#[test]
fn replica_ids_tell_the_life_of_a_group() {
    let first = first_replica(300);
    assert_eq!(life_of(first), 300);
    let later = later_replica(first, 12).expect("of a group that has joined");
    assert_eq!(life_of(later), 300);
    assert!(later > first && later != later_replica(first, 13).expect("another"));
    assert_ne!(later_replica(first_replica(301), 12), Some(later));
    assert_eq!((life_of(ReplicaId(1)), later_replica(ReplicaId(1 << 40 | 5), 12)), (0, None));
}
