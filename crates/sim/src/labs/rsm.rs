//! The replicated-state-machine suite of 2025: what a group promises to whoever submits a command.
//! A submit is an INCR; the state machine is the store's own.

use std::collections::BTreeSet;
use std::time::Duration;

use kontiki_kv::Reply;
use kontiki_resp::Reply as Redis;
use kontiki_storage::disk::Crash;
use kontiki_types::NodeId;

use super::store::{Clerk, Event, SMALL_LOG, Service, config, cutting};
use super::{Lab, fails, lab};
use crate::invariants::{Checked, Violation};
use crate::store_cluster::{Call, ClientId, Ended};

/// See the module.
pub(super) const SUITE: &[Lab] = &[
    lab("lab-rsm-basic", "10 increments, and the counter is right on all 3 nodes", basic),
    lab("lab-rsm-concurrent", "50 increments at once, each with a result of its own", concurrent),
    lab(
        "lab-rsm-leader-failure",
        "an increment without the leader; all agree later",
        leader_failure,
    ),
    lab(
        "lab-rsm-leader-partition",
        "100 submits at a cut leader wait 1 s, fail within 1 s of the heal, and did nothing",
        leader_partition,
    ),
    lab("lab-rsm-restart-replay", "100 increments, all restart, the next is 101", restart_replay),
    lab("lab-rsm-shutdown", "100 submits under way all end within 11 s of the shutdown", shutdown),
    lab(
        "lab-rsm-restart-submit",
        "submits under way at a restart are not mixed up with new ones",
        restart_submit,
    ),
    lab("lab-rsm-snapshot", "100 increments: log and snapshot at most 2,000 bytes", snapshot),
];

fn increment(service: &mut Service, clerk: Clerk) -> Result<i64, Violation> {
    match service.ask(clerk, &["INCR", "n"])? {
        Reply::Integer(value) => Ok(value),
        other => fails(format!("INCR is answered by {other:?}")),
    }
}

/// Every node has applied the same and reads `value`.
fn check_all(service: &mut Service, value: i64) -> Checked {
    for node in service.cluster.node_ids() {
        let reader = service.clerk_of(&[node]);
        let read = service.get(reader, "n")?;
        demand_eq!(read, value.to_string().as_bytes(), "the counter");
    }
    let end = service.cluster.now() + Duration::from_secs(5);
    let nodes = service.cluster.node_ids();
    let level = service.cluster.run_until(end, |cluster| {
        let states: Vec<_> = nodes.iter().map(|&node| cluster.state_hash(node)).collect();
        states.windows(2).all(|pair| pair[0].is_some() && pair[0] == pair[1])
    })?;
    demand!(level, "the nodes do not come to the same state");
    Ok(())
}

fn basic(seed: u64) -> Checked {
    let mut service = Service::new(config(3), seed);
    let clerk = service.clerk();
    for at in 1..=10 {
        demand_eq!(increment(&mut service, clerk)?, at, "the result");
    }
    check_all(&mut service, 10)
}

fn concurrent(seed: u64) -> Checked {
    let mut service = Service::new(config(3), seed);
    service.leader()?;
    let clerks: Vec<_> = (0..50).map(|_| service.clerk()).collect();
    for &clerk in &clerks {
        service.begin(clerk, &[b"INCR", b"n"])?;
    }
    let mut results = BTreeSet::new();
    let end = service.cluster.now() + Duration::from_secs(10);
    while let Some(Event::Done(done)) = service.next(end)? {
        results.insert(format!("{:?}", done.reply));
        if results.len() == clerks.len() {
            break;
        }
    }
    let expected = (1..=50).map(|value| format!("{:?}", Reply::Integer(value))).collect();
    demand_eq!(results, expected, "the set of results");
    check_all(&mut service, 50)
}

fn others(service: &Service, than: NodeId) -> Vec<NodeId> {
    service.cluster.node_ids().into_iter().filter(|&node| node != than).collect()
}

fn leader_failure(seed: u64) -> Checked {
    let mut service = Service::new(config(3), seed);
    let clerk = service.clerk();
    increment(&mut service, clerk)?;
    let leader = service.leader()?;
    let others = others(&service, leader);
    service.cluster.network().partition(&[vec![leader], others.clone()]);
    service.turn_to(clerk, &others);
    demand_eq!(increment(&mut service, clerk)?, 2, "the result");
    service.cluster.network().heal();
    demand_eq!(increment(&mut service, clerk)?, 3, "the result");
    check_all(&mut service, 3)
}

/// Sends one call through each of `clients`.
fn call_all(service: &mut Service, clients: &[ClientId], call: &Call) -> Checked {
    for &client in clients {
        demand!(service.cluster.call(client, call), "{client:?} cannot call");
    }
    Ok(())
}

/// Waits until so many calls are over.
fn ends(service: &mut Service, count: usize, within: Duration) -> Result<Vec<Ended>, Violation> {
    let end = service.cluster.now() + within;
    let mut ended = service.take_ended();
    while ended.len() < count {
        let slice = Duration::from_millis(10);
        service.run(slice)?;
        ended.append(&mut service.take_ended());
        demand!(service.cluster.now() <= end, "{} of {count} end in {within:?}", ended.len());
    }
    Ok(ended)
}

/// Here a submit is an EXEC that asks for the counter to be what it was, because a plain write is
/// not given up when its leader is deposed: its node carries it to the next leader.
fn leader_partition(seed: u64) -> Checked {
    let mut service = Service::new(config(3), seed);
    let clerk = service.clerk();
    for _ in 0..10 {
        increment(&mut service, clerk)?;
    }
    let leader = service.leader()?;
    let clients: Vec<_> = (0..100).map(|_| service.cluster.client(leader)).collect();
    call_all(&mut service, &clients, &Call::new(&["WATCH", "n"]))?;
    ends(&mut service, 100, Duration::from_secs(5))?;
    demand_eq!(service.leader()?, leader, "the leader");
    let others = others(&service, leader);
    service.cluster.network().partition(&[vec![leader], others.clone()]);
    call_all(&mut service, &clients, &Call::new(&["MULTI"]).then(&["INCR", "n"]).then(&["EXEC"]))?;
    service.run(Duration::from_secs(1))?;
    let early = service.take_ended();
    demand!(early.is_empty(), "{} submits without a majority return", early.len());
    service.turn_to(clerk, &others);
    demand_eq!(increment(&mut service, clerk)?, 11, "the result at the majority");
    service.cluster.network().heal();
    for ended in ends(&mut service, 100, Duration::from_secs(1))? {
        demand!(
            matches!(ended.reply(), Some(Redis::Null | Redis::Error(_))),
            "a submit without a majority is answered by {ended:?}"
        );
    }
    demand_eq!(increment(&mut service, clerk)?, 12, "the result after the heal");
    check_all(&mut service, 12)
}

fn restart_replay(seed: u64) -> Checked {
    let mut service = Service::new(config(3), seed);
    let clerk = service.clerk();
    for _ in 0..100 {
        increment(&mut service, clerk)?;
    }
    service.crash_all();
    service.start_all()?;
    demand_eq!(increment(&mut service, clerk)?, 101, "the result after the restart");
    check_all(&mut service, 101)
}

/// A third of the submits is at a node that stays: it cannot know, and must say so.
fn shutdown(seed: u64) -> Checked {
    let mut service = Service::new(config(3), seed);
    let leader = service.leader()?;
    let clients: Vec<_> = (0..100).map(|at| service.cluster.client(NodeId(at % 3 + 1))).collect();
    call_all(&mut service, &clients, &Call::new(&["INCR", "n"]))?;
    let pause = service.cluster.random().time(Duration::ZERO, Duration::from_micros(1500));
    service.run(pause)?;
    let stays = NodeId(leader.0 % 3 + 1);
    for node in others(&service, stays) {
        service.crash(node);
    }
    let ended = ends(&mut service, 100, Duration::from_secs(11))?;
    let acknowledged =
        ended.iter().filter(|ended| matches!(ended.reply(), Some(Redis::Integer(_))));
    let acknowledged = acknowledged.count() as i64;
    let unknown = ended.iter().filter(|ended| ended.is_unknown()).count() as i64;
    service.start_all()?;
    let clerk = service.clerk();
    let next = increment(&mut service, clerk)?;
    demand!(
        (acknowledged + 1..=acknowledged + unknown + 1).contains(&next),
        "{acknowledged} acknowledged, {unknown} unknown, and the next is {next}"
    );
    check_all(&mut service, next)
}

fn restart_submit(seed: u64) -> Checked {
    let mut service = Service::new(config(3), seed);
    let clerk = service.clerk();
    for _ in 0..100 {
        increment(&mut service, clerk)?;
    }
    let clients: Vec<_> = (0..100).map(|at| service.cluster.client(NodeId(at % 3 + 1))).collect();
    call_all(&mut service, &clients, &Call::new(&["INCR", "n"]))?;
    let pause = service.cluster.random().time(Duration::ZERO, Duration::from_micros(1500));
    service.run(pause)?;
    for node in service.cluster.node_ids() {
        service.cluster.crash(node, Crash::LoseAll);
    }
    let ended = ends(&mut service, 100, Duration::from_secs(11))?;
    service.start_all()?;
    service.leader()?;
    // New ones, from the same nodes: each gets its own result, and nobody else's.
    call_all(&mut service, &clients, &Call::new(&["INCR", "n"]))?;
    let again = ends(&mut service, 100, Duration::from_secs(11))?;
    let mut results = BTreeSet::new();
    let acknowledged = ended.iter().filter(|ended| ended.whole);
    for ended in acknowledged.chain(&again) {
        let Some(Redis::Integer(value)) = ended.reply() else {
            return fails(format!("INCR is answered by {ended:?}"));
        };
        demand!(results.insert(*value), "{value} is the result of two submits");
    }
    let next = increment(&mut service, clerk)?;
    let (low, high) = (100 + results.len() as i64 + 1, 301);
    demand!((low..=high).contains(&next), "the counter is {next}, and not from {low} to {high}");
    check_all(&mut service, next)
}

fn snapshot(seed: u64) -> Checked {
    let mut service = Service::new(cutting(3, SMALL_LOG), seed);
    let clerk = service.clerk();
    for _ in 0..100 {
        increment(&mut service, clerk)?;
    }
    service.settle()?;
    for node in service.cluster.node_ids() {
        let bytes = service.cluster.live_bytes(node);
        demand!(bytes <= 2 * SMALL_LOG, "{node} keeps {bytes} bytes");
    }
    service.crash_all();
    service.start_all()?;
    demand_eq!(increment(&mut service, clerk)?, 101, "the result after the restart");
    check_all(&mut service, 101)
}
