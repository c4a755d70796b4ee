//! §5.3, §5.4.2.

use crate::cluster::{Cluster, isolate, ms, n};

#[test]
fn entries_are_applied_everywhere() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    cluster.propose(1, "a");
    cluster.propose(1, "b");
    cluster.deliver_all();
    assert_eq!(cluster.commands(), [2, 2, 2]);
}

#[test]
fn a_follower_that_was_away_catches_up() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    for command in 0..10 {
        cluster.propose(1, &command.to_string());
        cluster.deliver(isolate(3));
    }
    assert_eq!(cluster.commands(), [10, 10, 0]);
    cluster.run_all(ms(100));
    assert_eq!(cluster.commands(), [10, 10, 10]);
    assert_eq!(cluster.leader(), Some(n(1)));
}
