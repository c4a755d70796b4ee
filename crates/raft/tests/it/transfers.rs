//! Thesis §3.10: leadership transfer.

use kontiki_raft::{Body, Reason, Role, TransferError};

use crate::cluster::{Cluster, isolate, ms, n};

/// The target is up to date, campaigns at once, and wins without waiting for any timeout.
#[test]
fn leadership_is_handed_over_at_once() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.run_all(ms(50));
    let now = cluster.now;
    cluster.raft(1).transfer(now, 3.into()).unwrap();
    cluster.drain(0);
    cluster.deliver_all();
    assert_eq!(cluster.now, now);
    assert_eq!(cluster.leader(), Some(n(3)));
    assert_eq!(cluster.raft(1).leader(), Some(n(3)));
}

/// A target that lags gets the log first; proposals wait meanwhile.
#[test]
fn a_lagging_target_catches_up_first() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.propose(1, "a");
    cluster.deliver(isolate(3));
    let now = cluster.now;
    cluster.raft(1).transfer(now, 3.into()).unwrap();
    cluster.drain(0);
    assert!(!cluster.net.iter().any(|message| message.body == Body::TimeoutNow));
    let refused = cluster.raft(1).propose(now, b"b".to_vec()).unwrap_err();
    assert_eq!(refused.reason, Reason::Transferring);
    cluster.run_all(ms(40));
    assert_eq!(cluster.leader(), Some(n(3)));
}

/// If nothing comes of it within an election timeout, the leader goes on.
#[test]
fn a_transfer_that_fails_is_given_up() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.crash_node(3);
    let now = cluster.now;
    cluster.raft(1).transfer(now, 3.into()).unwrap();
    cluster.run_all(ms(160));
    assert_eq!(cluster.leader(), Some(n(1)));
    cluster.propose(1, "a");
}

/// Only voters can be asked for, only by the leader, one at a time.
#[test]
fn a_transfer_is_refused_where_it_makes_no_sense() {
    let mut cluster = Cluster::with(&[1, 2, 3, 4], &[1, 2, 3], |_| {});
    cluster.elect(1);
    cluster.change(1, &[1, 2, 3], &[4]);
    cluster.deliver_all();
    let now = cluster.now;
    assert_eq!(cluster.raft(1).transfer(now, 4.into()), Err(TransferError::NotVoter));
    assert_eq!(cluster.raft(1).transfer(now, 9.into()), Err(TransferError::NotVoter));
    assert!(matches!(cluster.raft(2).transfer(now, 3.into()), Err(TransferError::Refused(_))));
    assert_eq!(cluster.raft(1).transfer(now, 1.into()), Ok(()));
    assert_eq!(cluster.raft(1).transfer(now, 2.into()), Ok(()));
    let again = cluster.raft(1).transfer(now, 3.into());
    assert_eq!(again, Err(TransferError::Refused(Reason::Transferring)));
}

/// `TimeoutNow` counts only from the leader of the term.
#[test]
fn a_stray_timeout_now_is_ignored() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.inject(3, 2, 1, Body::TimeoutNow);
    assert_eq!(cluster.raft(2).role(), Role::Follower);
    cluster.inject(1, 2, 0, Body::TimeoutNow);
    assert_eq!(cluster.raft(2).role(), Role::Follower);
    cluster.inject(1, 2, 1, Body::TimeoutNow);
    assert_ne!(cluster.raft(2).role(), Role::Follower);
}
