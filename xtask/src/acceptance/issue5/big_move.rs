//! Item 2: a quarter of the slots with much data in them goes to another group and back, under load,
//! until there have been enough freezes to judge them; the load's counters and strings are exact, and
//! nobody hears an error.

use anyhow::{Context as _, Result, ensure};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::mixed::{self, Mixed};
use super::shards::{await_quiet, cluster_command_within, slots_of};
use crate::acceptance::client::{Client, Reply};
use crate::acceptance::cluster::Cluster;
use crate::acceptance::load::Load;
use crate::acceptance::metrics::{Histogram, largest_gauge};
use crate::acceptance::{Context, Figures, fill_with_noise, wait};

const MOVED: &str = "0-4095";
const MOVED_UPTO: u16 = 4095;

/// Bytes of a value that only fills.
const VALUE_BYTES: usize = 4096;
/// Values sent at once.
const BATCH: usize = 64;

/// More than this in a range is split.
const PART_BYTES: u64 = 64 << 20;

/// More than the state engine keeps in memory, so that there are tables to shrink.
const BYTES_SMALL: usize = 40 << 20;
/// What a tree may keep of what was deleted, beside an eighth.
const SPACE_KEPT: u64 = 4 << 20;
const GIVEN_BACK_MAX: Duration = Duration::from_secs(180);
const PERSISTED_MAX: Duration = Duration::from_secs(60);

const MOVE_MAX: Duration = Duration::from_secs(600);
const FREEZE_P99_MS: f64 = 50.0;

pub(super) fn run(context: &Context) -> Result<Figures> {
    let cluster = Cluster::start_sharded(context, 3)?;
    let bytes = context.amount(1 << 30, BYTES_SMALL);
    let tags = tags(&mut cluster.client(0)?)?;
    let begun = Instant::now();
    fill(&mut cluster.client(0)?, &tags, bytes / VALUE_BYTES)?;
    println!("{} MiB filled in {:.1} s", bytes >> 20, begun.elapsed().as_secs_f64());
    let addresses: Vec<SocketAddr> = cluster.nodes().iter().map(|node| node.resp).collect();
    let load = Load::start(&addresses);
    let mixed = Mixed::start(&addresses, &tags);

    let space = Space::of(&cluster, bytes as u64)?;
    let before = Histogram::of(&cluster, "move_freeze")?;
    let syncs = Histogram::of(&cluster, "log_sync")?;
    let wanted = context.amount(100, 1);
    let mut seconds = Vec::new();
    let mut given_back = None;
    let mut largest = 0;
    let mut to = 2;
    loop {
        let started = Instant::now();
        let words = ["move", "--slots", MOVED, "--to", &to.to_string()];
        cluster_command_within(context, &cluster, to % 3, &words, MOVE_MAX)?;
        seconds.push((started.elapsed().as_secs_f64() * 10.0).round() / 10.0);
        largest = largest.max(largest_gauge(&cluster, "move_sent_bytes")?);
        if given_back.is_none() {
            given_back = Some(space.await_given_back(&cluster)?);
        }
        let freezes = Histogram::of(&cluster, "move_freeze")?.since(&before);
        println!("move to {to}: {:?} s; freezes in ms: {}", seconds.last(), freezes.shown());
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
    let turns = mixed::verify(&mut cluster.client(2)?, &mixed)?;
    filled(&mut cluster.client(1)?, &tags, bytes / VALUE_BYTES)?;
    cluster.stop()?;
    let p99 = freezes.within_ms(0.99).context("a freeze beyond all bounds")?;
    ensure!(context.small || p99 <= FREEZE_P99_MS, "99 % of the freezes took up to {p99} ms");
    // Rows have names and headers, and what was written meanwhile is sent again.
    ensure!(largest < PART_BYTES + PART_BYTES / 4, "a range of {largest} bytes");
    let back = given_back.context("a move")?;
    Ok(Figures::from_iter([
        ("bytes".to_string(), bytes.into()),
        ("seconds_of_each_move".to_string(), seconds.into()),
        ("freezes".to_string(), freezes.count().into()),
        ("freezes_by_ms".to_string(), freezes.shown().into()),
        ("freeze_p50_within_ms".to_string(), freezes.within_ms(0.5).into()),
        ("freeze_p99_within_ms".to_string(), p99.into()),
        ("log_sync_p99_within_ms".to_string(), syncs.within_ms(0.99).into()),
        ("largest_range_bytes_sent".to_string(), largest.into()),
        ("source_state_mib_before".to_string(), (back.before >> 20).into()),
        ("source_state_mib_after".to_string(), (back.after >> 20).into()),
        ("source_state_given_back_s".to_string(), back.seconds.into()),
        ("acknowledged".to_string(), history.acknowledged().into()),
        ("mixed_turns".to_string(), turns.into()),
        ("moved".to_string(), mixed.iter().map(|one| one.moved).sum::<u64>().into()),
        ("tryagain".to_string(), mixed.iter().map(|one| one.told_to_wait).sum::<u64>().into()),
    ]))
}

/// What the states of the source, group 1, take on the disks of all nodes.
struct Space {
    before: u64,
}

struct GivenBack {
    before: u64,
    after: u64,
    seconds: f64,
}

impl Space {
    /// Once at least half of what was filled is in tables, at each replica.
    fn of(cluster: &Cluster, filled: u64) -> Result<Space> {
        let before = wait::until("what was filled to be in tables", PERSISTED_MAX, || {
            let now = Space::now(cluster)?;
            Ok((now > filled / 2 * 3).then_some(now))
        });
        Ok(Space { before: before.with_context(|| format!("{:?}", Space::now(cluster)))? })
    }

    fn now(cluster: &Cluster) -> Result<u64> {
        let mut bytes = 0;
        for node in cluster.nodes() {
            for tree in std::fs::read_dir(node.directory()?.join("state"))? {
                let tree = tree?;
                if tree.file_name().to_string_lossy().starts_with("g1.") {
                    bytes += bytes_below(&tree.path());
                }
            }
        }
        Ok(bytes)
    }

    /// Waits until most of it is free again.
    fn await_given_back(&self, cluster: &Cluster) -> Result<GivenBack> {
        let begun = Instant::now();
        let before = self.before;
        let most = before / 8 + (3 * SPACE_KEPT);
        let after = wait::until("the source's space to be free again", GIVEN_BACK_MAX, || {
            let now = Space::now(cluster)?;
            Ok((now <= most).then_some(now))
        })
        .with_context(|| format!("of {before} bytes {:?} are left", Space::now(cluster)))?;
        let seconds = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        println!(
            "the source's states: {} MiB before, {} after {seconds} s",
            before >> 20,
            after >> 20
        );
        Ok(GivenBack { before, after, seconds })
    }
}

/// Files come and go while they are counted.
fn bytes_below(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else {
        return std::fs::metadata(path).map_or(0, |file| file.len());
    };
    entries.filter_map(|entry| Some(bytes_below(&entry.ok()?.path()))).sum()
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
    ensure!(tags.len() > mixed::CLIENTS, "too few tags");
    Ok(tags)
}

fn fill_key(tags: &[String], number: usize) -> String {
    format!("fill:{}:{number}", tags[number % tags.len()])
}

fn fill_value(number: usize) -> Vec<u8> {
    let mut value = format!("{number:08}").into_bytes();
    // What a move carries is what a user's data would be.
    fill_with_noise(&mut value, VALUE_BYTES, number as u64);
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
