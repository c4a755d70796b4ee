//! The persistence suite of 2015: nodes are killed, with their disks or without.
//!
//! A node whose disk is empty does not start: its directory must be formatted, which gives it
//! another identity, and an operator adds it in place of the member that it was. So it never votes
//! in the name of what it has forgotten. What the suite does to groups of shards is done here to the
//! replicas of the one group.

use std::collections::VecDeque;
use std::time::Duration;

use kontiki_kv::Reply;
use kontiki_replica::ChangeKind;
use kontiki_types::NodeId;

use super::kvraft::append_all;
use super::store::{Appenders, Clerk, SMALL_LOG, Service, config, cutting};
use super::{Lab, lab};
use crate::invariants::Checked;
use crate::store_cluster::StoreConfig;

/// See the module.
pub(super) const SUITE: &[Lab] = &[
    lab("lab-diskv-basic", "keys in many slots are written, appended to and read", basic),
    lab("lab-diskv-move", "the group moves to other nodes with all keys; the old ones go", moves),
    lab("lab-diskv-limp", "one replica is dead; it is replaced, and keys stay", limp),
    lab("lab-diskv-concurrent", "10 appenders while replicas move", |seed| concurrent(seed, false)),
    lab("lab-diskv-concurrent-unreliable", "the same over an unreliable network", |seed| {
        concurrent(seed, true)
    }),
    lab(
        "lab-diskv-basic-persistence",
        "all killed: no Get in 3 s; restarted: all there",
        persistence,
    ),
    lab("lab-diskv-one-restart", "each node in turn is killed and restarted", one_restart),
    lab("lab-diskv-disk-use", "110 times 1,000 bytes on a key: at most 20,000 bytes", disk_use),
    lab("lab-diskv-append-use", "n appends of 1,000 bytes: at most 3,000 n + 20,000", append_use),
    lab("lab-diskv-one-lost-disk", "each node in turn loses its disk and heals in 2 s", one_lost),
    lab(
        "lab-diskv-one-lost-one-down",
        "one of 5 is down, the others lose their disks in turn; then the stale one returns",
        one_lost_one_down,
    ),
    lab(
        "lab-diskv-concurrent-crash-reliable",
        "5 appenders; 3 kills with the disk kept, 3 with it lost; right on every majority",
        concurrent_crash,
    ),
    lab(
        "lab-diskv-simultaneous",
        "50 appends race a kill, half of them with the disk",
        simultaneous,
    ),
    lab(
        "lab-diskv-rejoin-mix1",
        "a stale node and two with lost disks answer nothing for 3 s",
        rejoin_mix1,
    ),
    lab(
        "lab-diskv-rejoin-mix3",
        "a node with a lost disk and two stale ones do not change what was agreed",
        rejoin_mix3,
    ),
];

const SECOND: Duration = Duration::from_secs(1);

fn idle(service: &mut Service, time: Duration) -> Checked {
    service.run(time)
}

fn others(service: &Service, than: &[NodeId]) -> Vec<NodeId> {
    service.cluster.node_ids().into_iter().filter(|node| !than.contains(node)).collect()
}

fn set_keys(service: &mut Service, clerk: Clerk, round: u64) -> Checked {
    for at in 0..10 {
        let (key, value) = (format!("key-{at}"), format!("{at} in round {round}"));
        demand_eq!(service.ask(clerk, &["SET", &key, &value])?, Reply::Ok, "the reply");
    }
    Ok(())
}

fn check_keys(service: &mut Service, clerk: Clerk, round: u64) -> Checked {
    for at in 0..10 {
        let (key, value) = (format!("key-{at}"), format!("{at} in round {round}"));
        demand_eq!(service.get(clerk, &key)?, value.as_bytes(), "the value");
    }
    Ok(())
}

/// No Get is answered for 3 s.
fn check_silence(service: &mut Service, node: NodeId) -> Checked {
    let reader = service.clerk_of(&[node]);
    service.begin(reader, &[b"GET", b"key-0"])?;
    service.run(3 * SECOND)?;
    service.abandon(reader);
    Ok(())
}

fn basic(seed: u64) -> Checked {
    let mut service = Service::new(config(3), seed);
    let clerk = service.clerk();
    demand_eq!(service.get(clerk, "key-0")?, b"".as_slice(), "a key that was never set");
    for round in 0..5 {
        set_keys(&mut service, clerk, round)?;
        let appended = service.ask(clerk, &["APPEND", "key-3", "!"])?;
        demand!(matches!(appended, Reply::Integer(_)), "APPEND is answered by {appended:?}");
        let expected = format!("3 in round {round}!");
        demand_eq!(service.get(clerk, "key-3")?, expected.as_bytes(), "the value");
        service.ask(clerk, &["SET", "key-3", &format!("3 in round {round}")])?;
        for node in service.cluster.node_ids() {
            let reader = service.clerk_of(&[node]);
            check_keys(&mut service, reader, round)?;
        }
    }
    Ok(())
}

/// Three nodes with the group, and three without.
fn with_spares(seed: u64) -> Service {
    Service::new(StoreConfig { spares: 3, ..cutting(3, 32 << 10) }, seed)
}

/// The replica on `from` moves to `to`.
fn move_replica(
    service: &mut Service,
    from: NodeId,
    to: NodeId,
    mut idle: impl FnMut(&mut Service, Duration) -> Checked,
) -> Checked {
    let incarnation = service.cluster.incarnation(to);
    service.change(ChangeKind::Add(to, incarnation), &mut idle)?;
    service.change(ChangeKind::Remove(from), &mut idle)
}

fn moves(seed: u64) -> Checked {
    let mut service = with_spares(seed);
    let clerk = service.clerk_of(&[1, 2, 3].map(NodeId));
    set_keys(&mut service, clerk, 1)?;
    for at in 1..=3 {
        move_replica(&mut service, NodeId(at), NodeId(at + 3), idle)?;
    }
    for at in 1..=3 {
        service.crash(NodeId(at));
    }
    let clerk = service.clerk_of(&[4, 5, 6].map(NodeId));
    check_keys(&mut service, clerk, 1)?;
    set_keys(&mut service, clerk, 2)?;
    check_keys(&mut service, clerk, 2)?;
    // Those that were left behind know nothing any more, also if they come back alone.
    for at in 1..=3 {
        service.start(NodeId(at))?;
        service.crash(NodeId(at + 3));
    }
    check_silence(&mut service, NodeId(seed % 3 + 1))
}

fn limp(seed: u64) -> Checked {
    let mut service = with_spares(seed);
    let all = [1, 2, 3, 4].map(NodeId);
    let clerk = service.clerk_of(&all[..3]);
    set_keys(&mut service, clerk, 1)?;
    let dead = NodeId(seed % 3 + 1);
    service.crash(dead);
    check_keys(&mut service, clerk, 1)?;
    set_keys(&mut service, clerk, 2)?;
    move_replica(&mut service, dead, NodeId(4), idle)?;
    // The group has three again, so it stands the loss of another.
    let second = NodeId(dead.0 % 3 + 1);
    service.crash(second);
    let left: Vec<_> = all.into_iter().filter(|&node| node != dead && node != second).collect();
    service.turn_to(clerk, &left);
    check_keys(&mut service, clerk, 2)?;
    set_keys(&mut service, clerk, 3)?;
    check_keys(&mut service, clerk, 3)
}

fn concurrent(seed: u64, unreliable: bool) -> Checked {
    let mut service = with_spares(seed);
    service.leader()?;
    if unreliable {
        service.make_unreliable();
    }
    let mut appenders = Appenders::new(&mut service, 10)?;
    // Round the ring of six: the first three have replicas.
    let mut ring = VecDeque::from([1, 2, 3, 4, 5, 6].map(NodeId));
    for _ in 0..6 {
        appenders.run(&mut service, SECOND / 2)?;
        let (from, to) = (ring[0], ring[3]);
        move_replica(&mut service, from, to, |service, time| appenders.run(service, time))?;
        ring.rotate_left(1);
    }
    appenders.stop(&mut service)?;
    demand!(appenders.least() >= 5, "an appender appended {} times only", appenders.least());
    service.make_reliable();
    for &node in ring.iter().take(3) {
        appenders.check(&mut service, &[node])?;
    }
    Ok(())
}

fn persistence(seed: u64) -> Checked {
    let mut service = Service::new(cutting(3, SMALL_LOG), seed);
    let clerk = service.clerk();
    set_keys(&mut service, clerk, 1)?;
    service.ask(clerk, &["APPEND", "key-1", "+"])?;
    service.crash_all();
    let reader = service.clerk();
    service.begin(reader, &[b"GET", b"key-1"])?;
    service.run(3 * SECOND)?;
    service.start_all()?;
    demand_eq!(
        service.finish(reader)?.reply,
        Reply::Bulk("1 in round 1+".into()),
        "the value after the restart"
    );
    service.ask(clerk, &["SET", "key-1", "1 in round 1"])?;
    check_keys(&mut service, clerk, 1)
}

fn one_restart(seed: u64) -> Checked {
    let mut service = Service::new(cutting(3, SMALL_LOG), seed);
    let clerk = service.clerk();
    set_keys(&mut service, clerk, 0)?;
    for (round, node) in service.cluster.node_ids().into_iter().enumerate() {
        service.crash(node);
        check_keys(&mut service, clerk, round as u64)?;
        set_keys(&mut service, clerk, round as u64 + 1)?;
        service.start(node)?;
        service.run(SECOND)?;
        let reader = service.clerk_of(&[node]);
        check_keys(&mut service, reader, round as u64 + 1)?;
    }
    Ok(())
}

/// What all nodes keep, checked live and after a restart.
fn check_use(service: &mut Service, limit: u64) -> Checked {
    for restart in [false, true, false] {
        if restart {
            service.crash_all();
            service.start_all()?;
            service.leader()?;
        }
        service.settle()?;
        let nodes = service.cluster.node_ids().into_iter();
        let bytes: u64 = nodes.map(|node| service.cluster.live_bytes(node)).sum();
        demand!(bytes <= limit, "the nodes keep {bytes} bytes; {limit} are allowed");
        demand!(bytes >= 3000, "{bytes} bytes cannot be all that three nodes keep");
    }
    Ok(())
}

fn disk_use(seed: u64) -> Checked {
    let mut service = Service::new(cutting(3, SMALL_LOG), seed);
    let clerk = service.clerk();
    let value = |at: usize| format!("{at:04}").repeat(250);
    for at in 0..110 {
        service.ask(clerk, &["SET", "k", &value(at)])?;
    }
    check_use(&mut service, 20_000)?;
    demand_eq!(service.get(clerk, "k")?, value(109).as_bytes(), "the value");
    Ok(())
}

fn append_use(seed: u64) -> Checked {
    let mut service = Service::new(cutting(3, SMALL_LOG), seed);
    let clerk = service.clerk();
    let part = "x".repeat(1000);
    let appends = 25;
    for _ in 0..appends {
        service.ask(clerk, &["APPEND", "k", &part])?;
    }
    check_use(&mut service, 3 * appends * 1000 + 20_000)?;
    demand_eq!(service.get(clerk, "k")?.len() as u64, appends * 1000, "the length");
    Ok(())
}

fn one_lost(seed: u64) -> Checked {
    let mut service = Service::new(cutting(3, SMALL_LOG), seed);
    let clerk = service.clerk();
    set_keys(&mut service, clerk, 0)?;
    for (round, node) in service.cluster.node_ids().into_iter().enumerate() {
        let begun = service.cluster.now();
        service.lose_disk(node, idle)?;
        let took = service.cluster.now().since(begun);
        demand!(took <= 2 * SECOND, "{node} takes {took:?} to heal");
        check_keys(&mut service, clerk, round as u64)?;
        set_keys(&mut service, clerk, round as u64 + 1)?;
        // It counts again: another one may go.
        let second = NodeId(node.0 % 3 + 1);
        service.crash(second);
        let reader = service.clerk_of(&[node]);
        check_keys(&mut service, reader, round as u64 + 1)?;
        service.start(second)?;
    }
    Ok(())
}

fn one_lost_one_down(seed: u64) -> Checked {
    let mut service = Service::new(cutting(5, SMALL_LOG), seed);
    let clerk = service.clerk();
    set_keys(&mut service, clerk, 0)?;
    let down = NodeId(seed % 5 + 1);
    service.crash(down);
    for (round, node) in others(&service, &[down]).into_iter().enumerate() {
        service.lose_disk(node, idle)?;
        check_keys(&mut service, clerk, round as u64)?;
        set_keys(&mut service, clerk, round as u64 + 1)?;
    }
    service.start(down)?;
    service.run(SECOND)?;
    for node in service.cluster.node_ids() {
        let reader = service.clerk_of(&[node]);
        check_keys(&mut service, reader, 4)?;
    }
    // With the stale one the group stands the loss of two again.
    for node in others(&service, &[down]).into_iter().take(2) {
        service.crash(node);
    }
    let reader = service.clerk_of(&[down]);
    check_keys(&mut service, reader, 4)
}

fn concurrent_crash(seed: u64) -> Checked {
    let mut service = Service::new(cutting(3, 32 << 10), seed);
    service.leader()?;
    let mut appenders = Appenders::new(&mut service, 5)?;
    for turn in 0..6 {
        appenders.run(&mut service, SECOND / 2)?;
        let node = NodeId(service.cluster.random().between(1, 3));
        if turn % 2 == 0 {
            service.crash(node);
            appenders.run(&mut service, SECOND / 2)?;
            service.start(node)?;
            appenders.run(&mut service, 2 * SECOND)?;
        } else {
            service.lose_disk(node, |service, time| appenders.run(service, time))?;
        }
    }
    appenders.stop(&mut service)?;
    demand!(appenders.least() >= 20, "an appender appended {} times only", appenders.least());
    for node in service.cluster.node_ids() {
        service.crash(node);
        let rest = others(&service, &[node]);
        appenders.check(&mut service, &rest)?;
        service.start(node)?;
        service.run(SECOND)?;
    }
    Ok(())
}

fn simultaneous(seed: u64) -> Checked {
    let mut service = Service::new(cutting(3, SMALL_LOG), seed);
    service.leader()?;
    service.make_unreliable();
    let mut appenders = Appenders::new(&mut service, 1)?;
    for round in 0..50 {
        if round > 0 {
            appenders.go_on(&mut service)?;
        }
        let moment = service.cluster.random().time(Duration::ZERO, Duration::from_millis(60));
        appenders.run(&mut service, moment)?;
        let node = NodeId(service.cluster.random().between(1, 3));
        if service.cluster.random().chance(500) {
            service.lose_disk(node, |service, time| appenders.run(service, time))?;
        } else {
            service.crash(node);
            appenders.run(&mut service, SECOND / 10)?;
            service.start(node)?;
        }
        appenders.stop(&mut service)?;
        let nodes = service.cluster.node_ids();
        appenders.check(&mut service, &nodes)?;
    }
    demand!(appenders.least() >= 50, "only {} appends", appenders.least());
    Ok(())
}

fn rejoin_mix1(seed: u64) -> Checked {
    let mut service = Service::new(cutting(5, SMALL_LOG), seed);
    let ring = |steps: u64| NodeId((seed + steps) % 5 + 1);
    let clerk = service.clerk();
    set_keys(&mut service, clerk, 0)?;
    let stale = ring(0);
    service.crash(stale);
    set_keys(&mut service, clerk, 1)?;
    // Two that have it all are down, two lose their disks, and the stale one comes back.
    for steps in [1, 2, 3, 4] {
        service.crash(ring(steps));
    }
    service.wipe(ring(3))?;
    service.wipe(ring(4))?;
    service.start(stale)?;
    for node in [stale, ring(3), ring(4)] {
        check_silence(&mut service, node)?;
        demand_eq!(service.cluster.leader(), None, "who leads without a majority");
    }
    service.start(ring(1))?;
    service.start(ring(2))?;
    let reader = service.clerk_of(&[stale, ring(1), ring(2)]);
    check_keys(&mut service, reader, 1)?;
    for node in [ring(3), ring(4)] {
        service.change(ChangeKind::Remove(node), idle)?;
        let incarnation = service.cluster.incarnation(node);
        service.change(ChangeKind::Add(node, incarnation), idle)?;
    }
    let reader = service.clerk_of(&[ring(3)]);
    check_keys(&mut service, reader, 1)
}

fn rejoin_mix3(seed: u64) -> Checked {
    let mut service = Service::new(cutting(5, SMALL_LOG), seed);
    let ring = |steps: u64| NodeId((seed + steps) % 5 + 1);
    let clerk = service.clerk();
    set_keys(&mut service, clerk, 0)?;
    // 100 operations on three of five.
    service.crash(ring(0));
    service.crash(ring(1));
    for round in 1..=10 {
        set_keys(&mut service, clerk, round)?;
    }
    // One of the three loses its disk and meets the two that know nothing of them.
    for steps in [2, 3, 4] {
        service.crash(ring(steps));
    }
    service.wipe(ring(2))?;
    service.start(ring(0))?;
    service.start(ring(1))?;
    check_silence(&mut service, ring(0))?;
    demand_eq!(service.cluster.leader(), None, "who leads without a majority");
    // One that knows comes back.
    service.start(ring(3))?;
    let reader = service.clerk_of(&[ring(0), ring(1), ring(3)]);
    check_keys(&mut service, reader, 10)?;
    set_keys(&mut service, reader, 11)?;
    service.start(ring(4))?;
    service.change(ChangeKind::Remove(ring(2)), idle)?;
    let incarnation = service.cluster.incarnation(ring(2));
    service.change(ChangeKind::Add(ring(2), incarnation), idle)?;
    for node in service.cluster.node_ids() {
        let reader = service.clerk_of(&[node]);
        check_keys(&mut service, reader, 11)?;
    }
    append_all(&mut service, 3, 5)
}
