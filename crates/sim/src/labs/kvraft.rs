//! The replicated key/value suite of 2024: clerks over 1 to 7 whole nodes.

use std::time::Duration;

use kontiki_kv::Reply;
use kontiki_storage::disk::Crash;
use kontiki_types::NodeId;

use super::store::{Event, Generic, SMALL_LOG, Service, config, cutting};
use super::{Lab, fails, lab};
use crate::invariants::Checked;

/// See the module.
pub(super) const SUITE: &[Lab] = &[
    lab("lab-kvraft-basic", "1 clerk, 5 nodes; the log stays whole", |seed| {
        Generic::new(1, 5).run(seed)
    }),
    lab("lab-kvraft-concurrent", "5 clerks, 5 nodes; the log stays whole", |seed| {
        Generic::new(5, 5).run(seed)
    }),
    lab("lab-kvraft-unreliable", "the same over an unreliable network", |seed| {
        Generic::new(5, 5).unreliable().run(seed)
    }),
    lab("lab-kvraft-unreliable-one-key", "5 clerks append 10 times to one key, each once", one_key),
    lab("lab-kvraft-speed", "1,000 appends, one after the other, take at most 33.3 ms each", speed),
    lab("lab-kvraft-speed-snapshots", "the same with a log of at most 8,000 bytes", speed_cutting),
    lab(
        "lab-kvraft-one-partition",
        "a minority answers nothing for 1 s, the majority goes on; all is done 3 s after it heals",
        one_partition,
    ),
    lab("lab-kvraft-many-partitions-one-client", "1 clerk, 5 nodes, partitions", |seed| {
        Generic::new(1, 5).partitions().run(seed)
    }),
    lab("lab-kvraft-many-partitions-many-clients", "5 clerks, 5 nodes, partitions", |seed| {
        Generic::new(5, 5).partitions().run(seed)
    }),
    lab(
        "lab-kvraft-persist-one-client",
        "1 clerk; three times the power of 5 nodes fails",
        |seed| Generic::new(1, 5).crash().run(seed),
    ),
    lab("lab-kvraft-persist-concurrent", "5 clerks; three times the power of all fails", |seed| {
        Generic::new(5, 5).crash().run(seed)
    }),
    lab("lab-kvraft-persist-concurrent-unreliable", "the same, unreliable", |seed| {
        Generic::new(5, 5).crash().unreliable().run(seed)
    }),
    lab("lab-kvraft-persist-partition", "power failures and partitions", |seed| {
        Generic::new(5, 5).crash().partitions().run(seed)
    }),
    lab("lab-kvraft-persist-partition-unreliable", "the same, unreliable", |seed| {
        Generic::new(5, 5).crash().partitions().unreliable().run(seed)
    }),
    lab(
        "lab-kvraft-persist-partition-unreliable-linearizable",
        "15 clerks on common keys, 7 nodes, all faults",
        |seed| Generic::new(15, 7).crash().partitions().unreliable().random_keys().run(seed),
    ),
    lab(
        "lab-kvraft-snapshot-rpc",
        "a node that missed 50 writes has all by a snapshot",
        snapshot_rpc,
    ),
    lab(
        "lab-kvraft-snapshot-size",
        "after 800 operations on one key: log at most 8,000 bytes, snapshot 500",
        snapshot_size,
    ),
    lab("lab-kvraft-snapshot-recover", "1 clerk, 5 nodes, small logs, power failures", |seed| {
        Generic::new(1, 5).snapshots().crash().run(seed)
    }),
    lab("lab-kvraft-snapshot-recover-many-clients", "the same with 20 clerks", |seed| {
        Generic::new(20, 5).snapshots().crash().run(seed)
    }),
    lab("lab-kvraft-snapshot-unreliable", "5 clerks, small logs, unreliable", |seed| {
        Generic::new(5, 5).snapshots().unreliable().run(seed)
    }),
    lab("lab-kvraft-snapshot-unreliable-recover", "the same with power failures", |seed| {
        Generic::new(5, 5).snapshots().unreliable().crash().run(seed)
    }),
    lab(
        "lab-kvraft-snapshot-unreliable-recover-concurrent-partition",
        "the same with partitions",
        |seed| Generic::new(5, 5).snapshots().unreliable().crash().partitions().run(seed),
    ),
    lab(
        "lab-kvraft-snapshot-unreliable-recover-concurrent-partition-linearizable",
        "15 clerks on common keys, 7 nodes, all of that",
        |seed| {
            let generic = Generic::new(15, 7).snapshots().unreliable().crash().partitions();
            generic.random_keys().run(seed)
        },
    ),
];

fn one_key(seed: u64) -> Checked {
    let mut service = Service::new(config(3), seed);
    service.leader()?;
    service.make_unreliable();
    append_all(&mut service, 5, 10)
}

/// Clerks append to one key: each token is there once, those of one clerk in its order.
pub(super) fn append_all(service: &mut Service, clerks: usize, each: usize) -> Checked {
    let clerks: Vec<_> = (0..clerks).map(|_| service.clerk()).collect();
    let token = |at: usize, turn: usize| format!("x {at} {turn} y");
    for (at, &clerk) in clerks.iter().enumerate() {
        service.begin(clerk, &[b"APPEND", b"k", token(at, 0).as_bytes()])?;
    }
    let mut turns = vec![0; clerks.len()];
    let end = service.cluster.now() + Duration::from_secs(120);
    while turns.iter().any(|&turn| turn < each) {
        match service.next(end)? {
            Some(Event::Done(done)) => {
                let at = clerks.iter().position(|&clerk| clerk == done.clerk).unwrap_or(0);
                turns[at] += 1;
                if turns[at] < each {
                    let token = token(at, turns[at]);
                    service.begin(done.clerk, &[b"APPEND", b"k", token.as_bytes()])?;
                }
            }
            Some(Event::Wake(_)) => {}
            None => return fails(format!("only {turns:?} appends are done after 120 s")),
        }
    }
    let value = service.get(clerks[0], "k")?;
    let value = String::from_utf8_lossy(&value).into_owned();
    demand_eq!(value.matches('x').count(), clerks.len() * each, "the number of tokens");
    for at in 0..clerks.len() {
        let mut rest = value.as_str();
        for turn in 0..each {
            let token = token(at, turn);
            let Some(found) = rest.find(&token) else {
                return fails(format!("{token:?} is not there, or not in its order: {value:?}"));
            };
            rest = &rest[found + token.len()..];
        }
    }
    Ok(())
}

fn speed(seed: u64) -> Checked {
    thousand_appends(&mut Service::new(config(3), seed))
}

fn speed_cutting(seed: u64) -> Checked {
    let mut service = Service::new(cutting(3, SMALL_LOG), seed);
    thousand_appends(&mut service)?;
    check_logs(&mut service)
}

fn thousand_appends(service: &mut Service) -> Checked {
    service.leader()?;
    let clerk = service.clerk();
    service.get(clerk, "x")?;
    let mut value = String::new();
    let begun = service.cluster.now();
    for at in 0..1000 {
        let token = format!("x 0 {at} y");
        service.ask(clerk, &["APPEND", "x", &token])?;
        value.push_str(&token);
    }
    let took = service.cluster.now().since(begun);
    demand!(took <= Duration::from_micros(33_300) * 1000, "1,000 appends took {took:?}");
    demand_eq!(service.get(clerk, "x")?, value.as_bytes(), "the value");
    Ok(())
}

/// Once nobody writes any more, no log is beyond eight times its bound.
fn check_logs(service: &mut Service) -> Checked {
    service.settle()?;
    for node in service.cluster.running() {
        let log = service.cluster.status(node).map_or(0, |status| status.raft.log_bytes);
        demand!(log <= 8 * SMALL_LOG, "the log of {node} has {log} bytes");
    }
    Ok(())
}

fn one_partition(seed: u64) -> Checked {
    let mut service = Service::new(config(5), seed);
    let first = service.clerk();
    service.ask(first, &["SET", "1", "13"])?;
    let leader = service.leader()?;
    let others: Vec<_> =
        service.cluster.node_ids().into_iter().filter(|&id| id != leader).collect();
    let (minority, majority) = ([leader, others[0]], others[1..].to_vec());
    service.cluster.network().partition(&[minority.to_vec(), majority.clone()]);

    // There is progress in the majority.
    let above = service.clerk_of(&majority);
    service.ask(above, &["SET", "1", "14"])?;
    demand_eq!(service.get(above, "1")?, b"14".as_slice(), "what the majority reads");

    // And none in the minority.
    let below: Vec<_> = (0..2).map(|at| service.clerk_of(&minority[at..=at])).collect();
    let reader = service.clerk_of(&minority);
    service.begin(below[0], &[b"SET", b"1", b"15"])?;
    service.begin(below[1], &[b"APPEND", b"2", b"x"])?;
    service.begin(reader, &[b"GET", b"1"])?;
    service.run(Duration::from_secs(1))?;
    demand_eq!(service.get(above, "1")?, b"14".as_slice(), "what the majority reads");
    service.ask(above, &["SET", "1", "16"])?;
    demand_eq!(service.get(above, "1")?, b"16".as_slice(), "what the majority reads");

    // All of it is done once the two are one again.
    service.cluster.network().heal();
    let mut left = 3;
    let end = service.cluster.now() + Duration::from_secs(3);
    while left > 0 {
        match service.next(end)? {
            Some(Event::Done(done)) => {
                left -= 1;
                if done.clerk == reader {
                    let read = [Reply::Bulk("15".into()), Reply::Bulk("16".into())];
                    demand!(read.contains(&done.reply), "the minority reads {:?}", done.reply);
                }
            }
            Some(Event::Wake(_)) => {}
            None => return fails(format!("{left} calls are not done 3 s after the heal")),
        }
    }
    demand_eq!(service.get(first, "1")?, b"15".as_slice(), "the value in the end");
    demand_eq!(service.get(first, "2")?, b"x".as_slice(), "the value in the end");
    Ok(())
}

fn snapshot_rpc(seed: u64) -> Checked {
    let mut service = Service::new(cutting(3, SMALL_LOG), seed);
    let clerk = service.clerk();
    service.ask(clerk, &["SET", "a", "A"])?;
    let leader = service.leader()?;
    let [behind, other] = [1, 2].map(|steps| NodeId((leader.0 - 1 + steps) % 3 + 1));
    service.cluster.network().partition(&[vec![leader, other], vec![behind]]);
    let writer = service.clerk_of(&[leader, other]);
    for at in 0..50 {
        let key = at.to_string();
        service.ask(writer, &["SET", &key, &key])?;
    }
    service.run(Duration::from_secs(1))?;
    service.ask(writer, &["SET", "b", "B"])?;
    check_logs(&mut service)?;

    // The one that lags is needed now.
    service.cluster.network().partition(&[vec![leader, behind], vec![other]]);
    let writer = service.clerk_of(&[leader, behind]);
    service.ask(writer, &["SET", "c", "C"])?;
    service.ask(writer, &["SET", "d", "D"])?;
    let reader = service.clerk_of(&[behind]);
    for (key, value) in [("a", "A"), ("b", "B"), ("1", "1"), ("49", "49"), ("c", "C")] {
        demand_eq!(service.get(reader, key)?, value.as_bytes(), "what the one that lagged reads");
    }
    let (_, installed) = service.cluster.snapshots(behind);
    demand!(installed > 0, "{behind} caught up without a snapshot");
    service.cluster.network().heal();
    service.ask(clerk, &["SET", "e", "E"])?;
    demand_eq!(service.get(clerk, "e")?, b"E".as_slice(), "the value in the end");
    Ok(())
}

fn snapshot_size(seed: u64) -> Checked {
    let mut service = Service::new(cutting(3, SMALL_LOG), seed);
    let clerk = service.clerk();
    for _ in 0..200 {
        for value in ["0", "1"] {
            service.ask(clerk, &["SET", "x", value])?;
            demand_eq!(service.get(clerk, "x")?, value.as_bytes(), "the value");
        }
    }
    check_logs(&mut service)?;
    for node in service.cluster.node_ids() {
        let bytes = service.cluster.state_bytes(node).unwrap_or(u64::MAX);
        demand!(bytes <= 500, "a snapshot of {node} has {bytes} bytes");
    }
    // It is all there, also after a restart from it.
    for node in service.cluster.node_ids() {
        service.cluster.crash(node, Crash::LoseAll);
    }
    service.start_all()?;
    demand_eq!(service.get(clerk, "x")?, b"1".as_slice(), "the value after a restart");
    Ok(())
}
