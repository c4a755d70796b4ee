//! Item 4: a follower is down while so much is written that its log is gone elsewhere. It catches up by
//! a snapshot while writes go on; the transfer is broken three times by kill -9 and goes on where it
//! was, and lives through a change of leader.

use anyhow::{Context as _, Result, anyhow, ensure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::restart::{Data, fill, key, value};
use crate::acceptance::client::{Client, Reply};
use crate::acceptance::cluster::Cluster;
use crate::acceptance::issue5::shards::cluster_command_within;
use crate::acceptance::metrics::Counters;
use crate::acceptance::{Context, Figures, wait};

const VALUE_BYTES: usize = 1024;
/// Clients that write while the follower catches up, and what each sends at once.
const WRITERS: usize = 4;
const BATCH: usize = 16;
const BREAKS: u64 = 3;
/// Each break is when so many hundredths more of the data have arrived.
const STEP: u64 = 15;
/// What may be lost of what had arrived: a block that was not full, and what came since the last look
/// is more, not less.
const BLOCK: u64 = 64 << 10;
/// Writes must go on at this part of their rate.
const RATE_LEAST: f64 = 0.7;
const PATIENCE: Duration = Duration::from_secs(180);

pub(super) fn run(context: &Context) -> Result<Figures> {
    let data = Data { keys: context.amount(1 << 20, 12_000), value_bytes: VALUE_BYTES };
    let bytes = data.keys * VALUE_BYTES as u64;
    let keep = context.amount("64MiB", "1MiB");
    let environment = [
        ("KONTIKI_SEGMENT_BYTES", context.amount("64MiB", "2MiB")),
        ("KONTIKI_ENTRY_BYTES_MAX", "1MiB"),
        ("KONTIKI_SNAPSHOT_CHUNK_BYTES", context.amount("1MiB", "256KiB")),
        // Slow enough to be broken in its middle.
        ("KONTIKI_SNAPSHOT_RATE", context.amount("32MiB", "8MiB")),
        ("KONTIKI_LOG_LEVEL", "info"),
    ];
    let mut cluster = Cluster::start_with(context, &["--log-keep", keep], &environment)?;
    let leader = cluster.leader(0)?;
    let (behind, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill(behind)?;
    let known = last_index(&cluster, leader)?;
    let alive = [cluster.nodes()[leader].resp, cluster.nodes()[other].resp];
    fill(&alive, data)?;
    wait::until("the log that the follower lacks to be gone", PATIENCE, || {
        let first = Counters::of(&cluster, leader)?.get("raft_first_index{group=\"1\"}");
        Ok((first > known).then_some(()))
    })?;

    let writers = Writers::start(&alive, data);
    let look = Duration::from_secs(context.amount(20, 1));
    let two = writers.rate_over(look)?;
    let (begun, before) = (Instant::now(), writers.count());
    cluster.restart(context, behind)?;
    let mut resumed = Vec::new();
    for round in 1..=BREAKS {
        let there = await_arrived(&cluster, behind, bytes * round * STEP / 100)?;
        cluster.kill(behind)?;
        cluster.restart(context, behind)?;
        let again = wait::until("the transfer to be taken up", PATIENCE, || {
            // It may not listen yet.
            let Ok(page) = Counters::of(&cluster, behind) else { return Ok(None) };
            let again = page.get("snapshot_bytes_resumed_total") as u64;
            let began_again = again == 0 && page.get("snapshot_bytes_received_total") > 0.0;
            ensure!(!began_again, "the transfer began again after {there} bytes");
            Ok((again > 0).then_some(again))
        })?;
        ensure!(again + BLOCK >= there, "taken up at {again}, where {there} had arrived");
        println!("broken after {there} bytes, taken up at {again}");
        resumed.push(again);
    }
    // Beyond what was there already.
    let there = await_arrived(&cluster, behind, bytes * (BREAKS + 1) * STEP / 100)?;
    let during = (writers.count() - before) as f64 / begun.elapsed().as_secs_f64();

    let id = cluster.nodes()[other].id.to_string();
    cluster_command_within(context, &cluster, leader, &["transfer", "--to", &id], PATIENCE)?;
    // With what was written meanwhile: more than any snapshot holds that has begun so far.
    let goal = last_index(&cluster, leader)?;
    await_applied(&cluster, behind, goal)?;
    let took = begun.elapsed().as_secs_f64();
    let received = Counters::of(&cluster, behind)?.get("snapshot_bytes_received_total") as u64;
    // All three take part in every write.
    let three = writers.rate_over(look)?;
    let latest = writers.stop()?;
    await_applied(&cluster, behind, last_index(&cluster, other)?)?;
    println!(
        "writes/s: {two:.0} of two nodes, {during:.0} during the transfer, {three:.0} of all three; \
         caught up after {took:.1} s"
    );
    let id = cluster.nodes()[behind].id.to_string();
    cluster_command_within(context, &cluster, other, &["transfer", "--to", &id], PATIENCE)?;
    wait::until("the node that caught up to lead", PATIENCE, || {
        Ok((cluster.leader(behind)? == behind).then_some(()))
    })?;
    verify(&mut cluster.client(behind)?, data, &latest)?;
    cluster.stop()?;
    let rate = during / three;
    ensure!(
        context.small || rate >= RATE_LEAST,
        "writes went on at {rate:.2} of their rate during the transfer"
    );
    Ok(Figures::from_iter([
        ("payload_bytes".to_string(), bytes.into()),
        ("taken_up_at_bytes".to_string(), resumed.into()),
        ("arrived_before_the_change_of_leader".to_string(), there.into()),
        ("arrived_in_the_last_life".to_string(), received.into()),
        ("seconds_to_catch_up".to_string(), took.into()),
        ("writes_per_second_of_two".to_string(), two.into()),
        ("writes_per_second_during".to_string(), during.into()),
        ("writes_per_second_of_three".to_string(), three.into()),
        ("rate_during".to_string(), rate.into()),
    ]))
}

fn last_index(cluster: &Cluster, node: usize) -> Result<f64> {
    Ok(Counters::of(cluster, node)?.get("raft_last_index{group=\"1\"}"))
}

fn await_applied(cluster: &Cluster, node: usize, index: f64) -> Result<()> {
    wait::until("the follower to have caught up", PATIENCE, || {
        let applied = Counters::of(cluster, node)?.get("raft_applied_index{group=\"1\"}");
        Ok((applied >= index).then_some(()))
    })
}

/// Waits until so many bytes of a snapshot are at the node; how many are.
fn await_arrived(cluster: &Cluster, node: usize, bytes: u64) -> Result<u64> {
    wait::until("a part of the snapshot to arrive", PATIENCE, || {
        let Ok(page) = Counters::of(cluster, node) else { return Ok(None) };
        let there =
            page.get("snapshot_bytes_received_total") + page.get("snapshot_bytes_resumed_total");
        Ok((there as u64 >= bytes).then_some(there as u64))
    })
}

/// Rounds in which keys were overwritten last; those that are not here are as they were filled.
type Rounds = Vec<(u64, u64)>;

/// Clients that overwrite keys, each its own.
struct Writers {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Result<Rounds>>>,
}

impl Writers {
    fn start(nodes: &[SocketAddr], data: Data) -> Writers {
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let clients = (0..WRITERS).map(|client| {
            let (address, stop) = (nodes[client % nodes.len()], Arc::clone(&stop));
            let count = Arc::clone(&count);
            std::thread::spawn(move || overwrite(client as u64, address, data, &stop, &count))
        });
        let clients = clients.collect();
        Writers { stop, count, clients }
    }

    /// Writes so far.
    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Writes per second from now on for so long.
    fn rate_over(&self, time: Duration) -> Result<f64> {
        let (begun, before) = (Instant::now(), self.count());
        wait::let_pass(time);
        let rate = (self.count() - before) as f64 / begun.elapsed().as_secs_f64();
        let ended = self.clients.iter().any(JoinHandle::is_finished);
        ensure!(rate > 0.0 && !ended, "a writer has ended, or none gets an answer");
        Ok(rate)
    }

    fn stop(mut self) -> Result<Rounds> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for client in self.clients.drain(..) {
            all.extend(client.join().map_err(|_| anyhow!("a writer panicked"))??);
        }
        Ok(all)
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn overwrite(
    client: u64,
    address: SocketAddr,
    data: Data,
    stop: &AtomicBool,
    count: &AtomicU64,
) -> Result<Rounds> {
    let mut connection = Client::connect(address)?;
    let own = (client..data.keys).step_by(WRITERS).take(1000);
    let mut latest: Rounds = own.map(|number| (number, 0)).collect();
    for round in 1.. {
        for batch in latest.chunks_mut(BATCH) {
            if stop.load(Ordering::Relaxed) {
                return Ok(latest);
            }
            for (number, last) in batch.iter_mut() {
                *last = round;
                let (key, value) = (key(*number), later_value(*number, round));
                connection.add(&[b"SET", key.as_bytes(), &value]);
            }
            connection.send()?;
            for (number, _) in batch.iter() {
                let reply = connection.reply().context("a writer's reply")?;
                ensure!(reply.is_ok(), "SET of key {number} answered {reply:?}");
            }
            count.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
    }
    Ok(latest)
}

/// Another value for each round; round 0 is what the store was filled with.
fn later_value(number: u64, round: u64) -> Vec<u8> {
    match round {
        0 => value(number, VALUE_BYTES),
        round => value(number << 32 | round, VALUE_BYTES),
    }
}

/// All that was overwritten, and samples of the rest.
fn verify(client: &mut Client, data: Data, latest: &Rounds) -> Result<()> {
    let overwritten: std::collections::BTreeMap<u64, u64> = latest.iter().copied().collect();
    let samples = (0..data.keys).step_by((data.keys / 2000).max(1) as usize);
    let rest = samples.filter(|number| !overwritten.contains_key(number)).map(|number| (number, 0));
    let all: Vec<(u64, u64)> = latest.iter().copied().chain(rest).collect();
    for batch in all.chunks(BATCH) {
        for (number, _) in batch {
            client.add(&[b"GET", key(*number).as_bytes()]);
        }
        client.send()?;
        for &(number, round) in batch {
            let found = client.reply()?;
            ensure!(
                found == Reply::Bulk(later_value(number, round)),
                "key {number} is not as of round {round}"
            );
        }
    }
    Ok(())
}
