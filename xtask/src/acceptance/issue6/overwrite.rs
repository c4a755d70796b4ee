//! Item 3: the same 1000 keys are overwritten again and again; what the nodes take of the disk stays
//! where it is.

use anyhow::{Context as _, Result, ensure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::disk_use;
use crate::acceptance::client::{Client, Reply};
use crate::acceptance::cluster::Cluster;
use crate::acceptance::{Context, Figures, fill_with_noise, wait};

const KEYS: u64 = 1000;
const VALUE_BYTES: usize = 1024;
const KEY_BYTES: usize = 8;
const CLIENTS: usize = 4;
/// Writes that a client sends at once.
const BATCH: u64 = 32;
/// How often the disk is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// What the later part of the run may take beyond the earlier one.
const GROWTH_MAX: f64 = 1.1;
/// What a small run may take more: its files are so small that a moment without the disk is some of them.
const SLACK_SMALL: f64 = 1.5;

/// Sizes of the log: what is kept for followers, and a file of it.
struct LogSizes {
    keep: u64,
    segment: u64,
}

impl LogSizes {
    /// What `docs/limits.md` says that a node's log takes at the most, whatever is written.
    fn fixed(&self) -> u64 {
        2 * self.keep + 8 * self.segment
    }
}

pub(super) fn run(context: &Context) -> Result<Figures> {
    let sizes = context.amount(
        LogSizes { keep: 256 << 20, segment: 64 << 20 },
        LogSizes { keep: 8 << 20, segment: 2 << 20 },
    );
    let (keep, segment) = (sizes.keep.to_string(), sizes.segment.to_string());
    let flags = ["--log-keep", &keep];
    // A file of the log is never smaller than the largest entry may be.
    let environment = [("KONTIKI_SEGMENT_BYTES", &*segment), ("KONTIKI_ENTRY_BYTES_MAX", "1MiB")];
    let cluster = Cluster::start_with(context, &flags, &environment)?;
    let addresses: Vec<SocketAddr> = cluster.nodes().iter().map(|node| node.resp).collect();
    let directories =
        cluster.nodes().iter().map(|node| node.directory()).collect::<Result<Vec<_>>>()?;
    let writers = Writers::start(&addresses);
    let (begun, length) = (Instant::now(), context.amount(600, 8));
    let mut looks: Vec<(f64, Vec<u64>)> = Vec::new();
    while begun.elapsed() < Duration::from_secs(length) {
        wait::let_pass(LOOK);
        let used = directories.iter().map(|path| disk_use::of(path)).collect::<Result<_>>()?;
        looks.push((begun.elapsed().as_secs_f64(), used));
    }
    let (writes, latest) = writers.stop()?;
    verify(&mut cluster.client(1)?, &latest)?;
    cluster.stop()?;

    // The first third is there to fill the log.
    let settled = |look: &&(f64, Vec<u64>)| look.0 > length as f64 / 3.0;
    let settled: Vec<&(f64, Vec<u64>)> = looks.iter().filter(settled).collect();
    let (earlier, later) = settled.split_at(settled.len() / 2);
    let most = |looks: &[&(f64, Vec<u64>)]| {
        looks.iter().flat_map(|look| look.1.iter().copied()).max().context("no look at the disk")
    };
    let (earlier, later) = (most(earlier)?, most(later)?);
    let live = KEYS * (VALUE_BYTES + KEY_BYTES) as u64;
    let written = writes * VALUE_BYTES as u64;
    let slack = context.amount(1.0, SLACK_SMALL);
    let bound = ((3 * live + sizes.fixed()) as f64 * slack) as u64;
    println!(
        "{writes} writes, {} MB; disk of a node at most {} MB, later {} MB; bound {} MB",
        written >> 20,
        earlier >> 20,
        later >> 20,
        bound >> 20
    );
    ensure!(written > 2 * sizes.fixed(), "only {written} bytes written: the log was never full");
    ensure!(
        earlier.max(later) <= bound,
        "a node takes {} bytes, bound {bound}",
        later.max(earlier)
    );
    let growth = later as f64 / earlier as f64;
    ensure!(growth <= GROWTH_MAX * slack, "disk use grows: {earlier} bytes, later {later}");
    Ok(Figures::from_iter([
        ("seconds".to_string(), length.into()),
        ("writes".to_string(), writes.into()),
        ("payload_bytes".to_string(), written.into()),
        ("live_bytes".to_string(), live.into()),
        ("disk_bytes_of_a_node_earlier".to_string(), earlier.into()),
        ("disk_bytes_of_a_node_later".to_string(), later.into()),
        ("bound_bytes".to_string(), bound.into()),
    ]))
}

/// Keys, each with the round in which it was written last.
type Rounds = Vec<(u64, u64)>;

/// Clients that overwrite, each its own part of the keys.
struct Writers {
    stop: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Result<Rounds>>>,
}

impl Writers {
    fn start(nodes: &[SocketAddr]) -> Writers {
        let (stop, writes) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let clients = (0..CLIENTS).map(|client| {
            let (address, stop) = (nodes[client % nodes.len()], Arc::clone(&stop));
            let writes = Arc::clone(&writes);
            std::thread::spawn(move || overwrite(client as u64, address, &stop, &writes))
        });
        let clients = clients.collect();
        Writers { stop, writes, clients }
    }

    /// How many writes there were, and the round in which each key was written last.
    fn stop(self) -> Result<(u64, Rounds)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut latest = Vec::new();
        for client in self.clients {
            let joined = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
            latest.extend(joined?);
        }
        Ok((self.writes.load(Ordering::Relaxed), latest))
    }
}

fn overwrite(
    client: u64,
    address: SocketAddr,
    stop: &AtomicBool,
    writes: &AtomicU64,
) -> Result<Rounds> {
    let mut connection = Client::connect(address)?;
    let own: Vec<u64> = (0..KEYS).filter(|key| key % CLIENTS as u64 == client).collect();
    let mut latest: Rounds = own.iter().map(|&key| (key, 0)).collect();
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        for batch in latest.chunks_mut(BATCH as usize) {
            for (key, last) in batch.iter_mut() {
                *last = round;
                connection.add(&[b"SET", name(*key).as_bytes(), &value(*key, round)]);
            }
            connection.send()?;
            for (key, _) in batch.iter() {
                let reply = connection.reply()?;
                ensure!(reply.is_ok(), "SET of key {key} answered {reply:?}");
            }
            writes.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
    }
    Ok(latest)
}

fn verify(client: &mut Client, latest: &[(u64, u64)]) -> Result<()> {
    ensure!(latest.len() as u64 == KEYS, "{} keys", latest.len());
    for &(key, round) in latest {
        let reply = client.call(&["GET", &name(key)])?;
        ensure!(reply == Reply::Bulk(value(key, round)), "key {key} is not as of round {round}");
    }
    Ok(())
}

fn name(key: u64) -> String {
    format!("key-{key:04}")
}

fn value(key: u64, round: u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(VALUE_BYTES);
    fill_with_noise(&mut value, VALUE_BYTES, key << 40 | round);
    value
}
