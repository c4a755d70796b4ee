//! §5.1, §5.2, §5.4.1 and thesis §9.6, §6.2: terms, votes, pre-votes, check-quorum.

use kontiki_raft::Role;

use crate::cluster::{Cluster, isolate, ms, n};

/// §5.2: servers start up as followers, and without a leader one is elected.
#[test]
fn a_leader_is_elected() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    assert!(cluster.nodes.iter().all(|node| node.raft.as_ref().unwrap().role() == Role::Follower));
    cluster.run_all(ms(500));
    assert!(cluster.leader().is_some());
}
