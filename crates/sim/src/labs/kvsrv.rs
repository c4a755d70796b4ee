//! The single-server suites of 2024 and 2025: one node, also when it comes to memory.
//!
//! Memory is that of the encoded live state, which is what a node has to keep: the snapshot of the
//! state machine, with its completion records, and the retained log. In scenarios with large values
//! the log is cut from one of them on.

use std::time::Duration;

use bytes::Bytes;
use kontiki_kv::Reply;
use kontiki_kv::command::{Parsed, Read, Write};

use super::history::Book;
use super::kvraft::append_all;
use super::store::{Clerk, Event, Generic, Service, config, cutting};
use super::{Lab, fails, lab};
use crate::invariants::{Checked, Violation};
use crate::store_cluster::StoreConfig;

/// Of 2024.
pub(super) const SUITE: &[Lab] = &[
    lab("lab-kvsrv-basic", "1 client of one node, 15 s", |seed| Generic::new(1, 1).run(seed)),
    lab("lab-kvsrv-concurrent", "5 clients on common keys", |seed| {
        Generic::new(5, 1).random_keys().run(seed)
    }),
    lab("lab-kvsrv-unreliable", "the same over an unreliable network", |seed| {
        Generic::new(5, 1).unreliable().random_keys().run(seed)
    }),
    lab("lab-kvsrv-unreliable-one-key", "5 clients append 10 times to one key, each once", one_key),
    lab("lab-kvsrv-mem-get", "10 MiB read by 2 clients and overwritten: below 10 MiB", mem_get),
    lab("lab-kvsrv-mem-put", "10 MiB written by 2 clients and overwritten: below 10 MiB", mem_put),
    lab("lab-kvsrv-mem-append", "two large appends: at most three times one of them", mem_append),
    lab("lab-kvsrv-mem-put-many-clients", "100,000 clients put: at most 200 bytes each", put_many),
    lab("lab-kvsrv-mem-get-many-clients", "100,000 clients get: below 10 bytes each", get_many),
    lab("lab-kvsrv-mem-many-appends", "1,000 appends of 1,000 bytes: below 3 MB", many_appends),
];

/// Of 2025: puts on condition of a version.
pub(super) const VERSIONED: &[Lab] = &[
    lab("lab-kvsrv1-reliable-put", "versions: made, raised, refused, absent", reliable_put),
    lab(
        "lab-kvsrv1-put-concurrent",
        "10 clients on one key for 1 s: version = successes",
        |seed| put_concurrent(&mut Service::new(config(1), seed)),
    ),
    lab("lab-kvsrv1-mem-put-many-clients", "100,000 clients: at most 200 bytes each", |seed| {
        let mut service = Service::new(large(), seed);
        let put = |at: usize| put_if(&at.to_string(), "", 0);
        let per_client = per_client(&mut service, put)?;
        demand!(per_client <= 200, "{per_client} bytes for each client");
        Ok(())
    }),
    lab("lab-kvsrv1-unreliable-net", "100 puts with losses: one version each", unreliable_net),
];

fn one_key(seed: u64) -> Checked {
    let mut service = Service::new(config(1), seed);
    service.make_unreliable();
    append_all(&mut service, 5, 10)
}

const MIB: usize = 1 << 20;

/// One node that takes values of 10 MiB and keeps no log of them.
fn large() -> StoreConfig {
    StoreConfig { segment_bytes: 32 << 20, ..cutting(1, 1 << 10) }
}

fn set(service: &mut Service, clerk: Clerk, key: &str, value: &[u8]) -> Checked {
    service.begin(clerk, &[b"SET", key.as_bytes(), value])?;
    demand_eq!(service.finish(clerk)?.reply, Reply::Ok, "the reply");
    Ok(())
}

/// What the node keeps once it has put its log in order.
fn live_bytes(service: &mut Service) -> Result<u64, Violation> {
    service.settle()?;
    let bytes = service.cluster.node_ids().into_iter().map(|node| service.cluster.live_bytes(node));
    Ok(bytes.max().unwrap_or(0))
}

fn mem_get(seed: u64) -> Checked {
    let mut service = Service::new(large(), seed);
    service.make_unreliable();
    let clerks = [service.clerk(), service.clerk()];
    let value = vec![b'x'; 10 * MIB];
    set(&mut service, clerks[0], "k", &value)?;
    let held = live_bytes(&mut service)?;
    demand!(held >= 10 << 20, "{held} bytes with a value of 10 MiB");
    for clerk in clerks {
        demand_eq!(service.get(clerk, "k")?.len(), value.len(), "the length that is read");
    }
    for clerk in clerks {
        set(&mut service, clerk, "k", b"0")?;
    }
    below_10_mib(&mut service)
}

fn mem_put(seed: u64) -> Checked {
    let mut service = Service::new(large(), seed);
    let clerks = [service.clerk(), service.clerk()];
    let value = vec![b'x'; 10 * MIB];
    set(&mut service, clerks[0], "k", &value)?;
    set(&mut service, clerks[1], "k", &value)?;
    set(&mut service, clerks[1], "k", b"")?;
    below_10_mib(&mut service)
}

fn below_10_mib(service: &mut Service) -> Checked {
    let bytes = live_bytes(service)?;
    demand!(bytes < 10 << 20, "{bytes} bytes are kept of a value that is gone");
    Ok(())
}

/// APPEND makes no value beyond 8 MiB, so the appends are of 4 MiB, with a third of the bound.
fn mem_append(seed: u64) -> Checked {
    let mut service = Service::new(large(), seed);
    let clerks = [service.clerk(), service.clerk()];
    let part = vec![b'x'; 4 * MIB];
    for (at, clerk) in clerks.into_iter().enumerate() {
        service.begin(clerk, &[b"APPEND", b"k", &part])?;
        let length = Reply::Integer(((at + 1) * part.len()) as i64);
        demand_eq!(service.finish(clerk)?.reply, length, "the length");
    }
    let bytes = live_bytes(&mut service)?;
    demand!(bytes <= 3 * part.len() as u64, "{bytes} bytes are kept");
    Ok(())
}

/// 100,000 clients, a thousand at a time, each with one command: by how much the live state grows
/// for each.
fn per_client(service: &mut Service, command: impl Fn(usize) -> Parsed) -> Result<u64, Violation> {
    const CLIENTS: usize = 100_000;
    const AT_ONCE: usize = 1000;
    let first = service.clerk();
    service.ask_command(first, command(0))?;
    let before = live_bytes(service)?;
    for batch in 0..CLIENTS / AT_ONCE {
        for at in 0..AT_ONCE {
            let clerk = service.clerk();
            service.begin_command(clerk, command(batch * AT_ONCE + at + 1));
        }
        let end = service.cluster.now() + Duration::from_secs(10);
        for _ in 0..AT_ONCE {
            if !matches!(service.next(end)?, Some(Event::Done(_))) {
                return fails("clients are not answered within 10 s".to_owned());
            }
        }
    }
    let waiting =
        service.cluster.node_ids().into_iter().find_map(|node| service.cluster.status(node));
    let waiting = waiting.map(|status| (status.pending_writes, status.waiting_reads));
    demand_eq!(waiting, Some((0, 0)), "what still waits");
    Ok(live_bytes(service)?.saturating_sub(before).div_ceil(CLIENTS as u64))
}

fn put_many(seed: u64) -> Checked {
    let mut service = Service::new(large(), seed);
    let put = |at: usize| {
        let words = ["SET".into(), at.to_string().into(), Bytes::new()];
        kontiki_kv::command::parse(&words, 0).unwrap_or(Parsed::Read(Read::DbSize))
    };
    let per_client = per_client(&mut service, put)?;
    demand!(per_client <= 200, "{per_client} bytes for each client");
    // It must have been measured: a key, and a record of who wrote it.
    demand!(per_client >= 20, "only {per_client} bytes for each client");
    Ok(())
}

fn get_many(seed: u64) -> Checked {
    let mut service = Service::new(large(), seed);
    let get = |at: usize| Parsed::Read(Read::Get { key: at.to_string().into() });
    let per_client = per_client(&mut service, get)?;
    demand!(per_client < 10, "{per_client} bytes for each client");
    Ok(())
}

fn many_appends(seed: u64) -> Checked {
    let mut service = Service::new(large(), seed);
    let clerk = service.clerk();
    let part = "x".repeat(1000);
    for at in 1..=1000 {
        let reply = service.ask(clerk, &["APPEND", "k", &part])?;
        demand_eq!(reply, Reply::Integer(at * 1000), "the length");
    }
    let bytes = live_bytes(&mut service)?;
    demand!(bytes < 3_000_000, "{bytes} bytes are kept");
    Ok(())
}

pub(super) fn put_if(key: &str, value: &str, version: u64) -> Parsed {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    Parsed::Write(Write::PutIfVersion { key, value, version })
}

fn get_with_version(key: &str) -> Parsed {
    Parsed::Read(Read::GetWithVersion { key: key.to_owned().into() })
}

/// What a conditional put says: the version made, or the one found.
pub(super) fn put_result(reply: &Reply) -> Result<Result<i64, i64>, Violation> {
    match reply {
        Reply::Array(items) => match items.as_slice() {
            [Reply::Integer(1), Reply::Integer(version)] => Ok(Ok(*version)),
            [Reply::Integer(0), Reply::Integer(version)] => Ok(Err(*version)),
            _ => fails(format!("a put is answered by {items:?}")),
        },
        other => fails(format!("a put is answered by {other:?}")),
    }
}

/// Value and version; version 0 if it is absent.
pub(super) fn get_result(reply: &Reply) -> Result<(Bytes, i64), Violation> {
    match reply {
        Reply::Array(items) => match items.as_slice() {
            [Reply::Bulk(value), Reply::Integer(version)] => Ok((value.clone(), *version)),
            [Reply::Nil, Reply::Integer(version)] => Ok((Bytes::new(), *version)),
            _ => fails(format!("a get is answered by {items:?}")),
        },
        Reply::Nil => Ok((Bytes::new(), 0)),
        other => fails(format!("a get is answered by {other:?}")),
    }
}

fn reliable_put(seed: u64) -> Checked {
    let mut service = Service::new(config(1), seed);
    let clerk = service.clerk();
    let mut put = |value, version| {
        let reply = service.ask_command(clerk, put_if("k", value, version))?;
        put_result(&reply)
    };
    demand_eq!(put("a", 1)?, Err(0), "a put of version 1 where nothing is");
    demand_eq!(put("a", 0)?, Ok(1), "a put that creates");
    demand_eq!(put("b", 0)?, Err(1), "a put that creates what is there");
    demand_eq!(put("b", 1)?, Ok(2), "a put of the version that is there");
    demand_eq!(put("c", 1)?, Err(2), "a put of an older version");
    let reply = service.ask_command(clerk, get_with_version("k"))?;
    demand_eq!(get_result(&reply)?, (Bytes::from("b"), 2), "value and version");
    let reply = service.ask_command(clerk, get_with_version("other"))?;
    demand_eq!(get_result(&reply)?.1, 0, "the version of what is absent");
    Ok(())
}

/// Ten clients read and put on condition, for a second: each version is made by one success.
fn put_concurrent(service: &mut Service) -> Checked {
    service.leader()?;
    let end = service.cluster.now() + Duration::from_secs(1);
    let clerks: Vec<_> = (0..10).map(|_| service.clerk()).collect();
    for &clerk in &clerks {
        service.begin_command(clerk, get_with_version("k"));
    }
    let (mut busy, mut successes, mut refused) = (clerks.len(), 0, 0);
    let mut made = std::collections::BTreeMap::new();
    while busy > 0 {
        let limit = end + Duration::from_secs(30);
        let Some(Event::Done(done)) = service.next(limit)? else {
            return fails(format!("{busy} clients are not answered"));
        };
        let next = match &done.command {
            Parsed::Write(Write::PutIfVersion { value, .. }) => {
                match put_result(&done.reply)? {
                    Ok(version) => {
                        successes += 1;
                        let before = made.insert(version, value.clone());
                        demand!(before.is_none(), "version {version} was made twice");
                    }
                    Err(_) => refused += 1,
                }
                get_with_version("k")
            }
            _ => {
                let (value, version) = get_result(&done.reply)?;
                let written = made.get(&version);
                demand!(
                    written.is_none_or(|written| *written == value),
                    "version {version} was made as {written:?} and is read as {value:?}"
                );
                let value = format!("{} {}", done.at.0, successes + refused);
                put_if("k", &value, version.unsigned_abs())
            }
        };
        if service.cluster.now() < end || matches!(next, Parsed::Write(_)) {
            service.begin_command(done.clerk, next);
        } else {
            busy -= 1;
        }
    }
    demand!(refused > 0, "10 clients never met");
    let reply = service.ask_command(clerks[0], get_with_version("k"))?;
    demand_eq!(get_result(&reply)?.1, successes, "the version, by the number of successes");
    Ok(())
}

/// What the course's clerk must call "maybe" our session knows: the retry gets the first result.
fn unreliable_net(seed: u64) -> Checked {
    let mut service = Service::new(config(1), seed);
    service.make_unreliable();
    let clerk = service.clerk();
    let (mut retried, mut book) = (0, Book::default());
    for version in 0..100 {
        service.begin_command(clerk, put_if("k", &version.to_string(), version));
        let done = service.finish(clerk)?;
        book.note(&done);
        // The first one opens the session before.
        retried += u64::from(version > 0 && done.attempts > 1);
        demand_eq!(put_result(&done.reply)?, Ok(version as i64 + 1), "the version made");
    }
    demand!(retried > 0, "nothing was lost, so nothing was tried");
    let reply = service.ask_command(clerk, get_with_version("k"))?;
    demand_eq!(get_result(&reply)?, (Bytes::from("99"), 100), "value and version");
    Ok(())
}
