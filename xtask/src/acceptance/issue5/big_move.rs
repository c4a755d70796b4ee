//! Item 2: a quarter of the slots with much data in them goes to another group and back, under load,
//! until there have been enough freezes to judge them; the load's counters and strings are exact, and
//! nobody hears an error.

use anyhow::{Context as _, Result, ensure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::metrics::Histogram;
use super::shards::{await_quiet, cluster_command_within, slots_of};
use crate::acceptance::client::{Client, Reply};
use crate::acceptance::cluster::Cluster;
use crate::acceptance::load::Load;
use crate::acceptance::{Context, Figures};

const MOVED: &str = "0-4095";
const MOVED_UPTO: u16 = 4095;

/// Clients beside those of the common load; together 32.
const MIXED: usize = 16;

/// Bytes of a value that only fills.
const VALUE_BYTES: usize = 4096;
/// Values sent at once.
const BATCH: usize = 64;

const MOVE_MAX: Duration = Duration::from_secs(600);
const FREEZE_P99_MS: f64 = 50.0;

pub(super) fn run(context: &Context) -> Result<Figures> {
    let cluster = Cluster::start_sharded(context, 3)?;
    let bytes = context.amount(1 << 30, 16 << 20);
    let tags = tags(&mut cluster.client(0)?)?;
    fill(&mut cluster.client(0)?, &tags, bytes / VALUE_BYTES)?;
    let addresses: Vec<SocketAddr> = cluster.nodes().iter().map(|node| node.resp).collect();
    let load = Load::start(&addresses);
    let mixed = Mixed::start(&addresses, &tags);

    let before = Histogram::of(&cluster, "move_freeze")?;
    let syncs = Histogram::of(&cluster, "log_sync")?;
    let wanted = context.amount(100, 1);
    let mut seconds = Vec::new();
    let mut to = 2;
    loop {
        let started = Instant::now();
        let words = ["move", "--slots", MOVED, "--to", &to.to_string()];
        cluster_command_within(context, &cluster, to % 3, &words, MOVE_MAX)?;
        seconds.push((started.elapsed().as_secs_f64() * 10.0).round() / 10.0);
        let freezes = Histogram::of(&cluster, "move_freeze")?.since(&before);
        if freezes.count() >= wanted {
            break;
        }
        to = 3 - to;
    }
    let (history, mixed) = (load.stop()?, mixed.stop()?);
    let freezes = Histogram::of(&cluster, "move_freeze")?.since(&before);
    let syncs = Histogram::of(&cluster, "log_sync")?.since(&syncs);
    await_quiet(context, &cluster, 0)?;
    let errors = history.errors_at_live_nodes(&[]);
    ensure!(errors.is_empty(), "{} errors, first: {:?}", errors.len(), errors.first());
    history.verify(&mut cluster.client(1)?)?;
    let turns = verify_mixed(&mut cluster.client(2)?, &mixed)?;
    filled(&mut cluster.client(1)?, &tags, bytes / VALUE_BYTES)?;
    cluster.stop()?;
    println!("freezes in ms: {}", freezes.shown());
    let p99 = freezes.within_ms(0.99).context("a freeze beyond all bounds")?;
    ensure!(context.small || p99 <= FREEZE_P99_MS, "99 % of the freezes took up to {p99} ms");
    Ok(Figures::from_iter([
        ("bytes".to_string(), bytes.into()),
        ("seconds_of_each_move".to_string(), seconds.into()),
        ("freezes".to_string(), freezes.count().into()),
        ("freezes_by_ms".to_string(), freezes.shown().into()),
        ("freeze_p50_within_ms".to_string(), freezes.within_ms(0.5).into()),
        ("freeze_p99_within_ms".to_string(), p99.into()),
        ("log_sync_p99_within_ms".to_string(), syncs.within_ms(0.99).into()),
        ("acknowledged".to_string(), history.acknowledged().into()),
        ("mixed_turns".to_string(), turns.into()),
    ]))
}

/// Hash tags whose slots are among those that move.
fn tags(client: &mut Client) -> Result<Vec<String>> {
    let candidates: Vec<String> = (0..2000).map(|number| format!("{{{number}}}")).collect();
    let mut tags = Vec::new();
    for tag in candidates {
        let slots = slots_of(client, std::slice::from_ref(&tag))?;
        if slots.first().is_some_and(|slot| *slot <= MOVED_UPTO) {
            tags.push(tag);
        }
    }
    ensure!(tags.len() > MIXED, "too few tags");
    Ok(tags)
}

fn fill_key(tags: &[String], number: usize) -> String {
    format!("fill:{}:{number}", tags[number % tags.len()])
}

fn fill_value(number: usize) -> Vec<u8> {
    let mut value = format!("{number:08}").into_bytes();
    // Nothing that compresses: what a move carries is what a user's data would be.
    let mut state = number as u64 ^ 0x9e37_79b9_7f4a_7c15;
    while value.len() < VALUE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value.extend_from_slice(&state.to_le_bytes());
    }
    value
}

fn fill(client: &mut Client, tags: &[String], count: usize) -> Result<()> {
    for first in (0..count).step_by(BATCH) {
        let batch = first..count.min(first + BATCH);
        for number in batch.clone() {
            client.add(&[b"SET", fill_key(tags, number).as_bytes(), &fill_value(number)]);
        }
        client.send()?;
        for number in batch {
            let reply = client.reply()?;
            ensure!(reply.is_ok(), "SET of value {number} answered {reply:?}");
        }
    }
    Ok(())
}

/// Some of the values, spread over all.
fn filled(client: &mut Client, tags: &[String], count: usize) -> Result<()> {
    for number in (0..count).step_by(97) {
        let reply = client.call(&["GET", &fill_key(tags, number)])?;
        ensure!(reply == Reply::Bulk(fill_value(number)), "value {number} is another one");
    }
    Ok(())
}

/// Clients that use transactions and times to live, each on slots that move.
struct Mixed {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<(String, u64)>>>,
}

impl Mixed {
    fn start(nodes: &[SocketAddr], tags: &[String]) -> Mixed {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..MIXED).map(|client| {
            let (address, tag) = (nodes[client % nodes.len()], tags[client].clone());
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut connection = Client::connect(address)?;
                let mut turns = 0;
                while !stop.load(Ordering::Relaxed) {
                    turn(&mut connection, &tag, turns + 1)
                        .with_context(|| format!("client {client}, turn {}", turns + 1))?;
                    turns += 1;
                }
                Ok((tag, turns))
            })
        });
        let clients = clients.collect();
        Mixed { stop, clients }
    }

    fn stop(self) -> Result<Vec<(String, u64)>> {
        self.stop.store(true, Ordering::Relaxed);
        let join = |client: JoinHandle<Result<(String, u64)>>| {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?
        };
        self.clients.into_iter().map(join).collect()
    }
}

/// Counts and appends in one transaction, and sets a key that expires later.
fn turn(client: &mut Client, tag: &str, turn: u64) -> Result<()> {
    let (count, text, brief) = (format!("n:{tag}"), format!("t:{tag}"), format!("b:{tag}"));
    ensure!(client.call(&["MULTI"])?.is_ok(), "MULTI");
    client.call(&["INCR", &count])?;
    client.call(&["SETBIT", &text, &turn.to_string(), "1"])?;
    let replies = client.call(&["EXEC"])?;
    let expected = Reply::Array(vec![Reply::Integer(turn as i64), Reply::Integer(0)]);
    ensure!(replies == expected, "EXEC answered {replies:?}");
    let reply = client.call(&["SET", &brief, &turn.to_string(), "PX", "600000"])?;
    ensure!(reply.is_ok(), "SET PX answered {reply:?}");
    let reply = client.call(&["GET", &brief])?;
    ensure!(reply == Reply::Bulk(turn.to_string().into_bytes()), "GET answered {reply:?}");
    Ok(())
}

fn verify_mixed(client: &mut Client, mixed: &[(String, u64)]) -> Result<u64> {
    for (tag, turns) in mixed {
        let count = client.call(&["GET", &format!("n:{tag}")])?;
        ensure!(count == Reply::Bulk(turns.to_string().into_bytes()), "{tag}: {count:?}");
        let bits = client.call(&["BITCOUNT", &format!("t:{tag}")])?;
        ensure!(bits == Reply::Integer(*turns as i64), "{tag}: {bits:?} bits of {turns}");
        let left = client.call(&["PTTL", &format!("b:{tag}")])?;
        ensure!(matches!(left, Reply::Integer(1..=600_000)), "{tag}: {left:?} ms to live");
    }
    Ok(mixed.iter().map(|(_, turns)| turns).sum())
}
