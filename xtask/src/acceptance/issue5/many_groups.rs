//! Items 6a and 6b: what a thousand groups cost that nobody uses, and 256 that everybody does.
//!
//! A small run has fewer groups and counts in place of taking times, which say nothing on a machine
//! that others use too: what nodes send and sync while all groups rest, and how many syncs a write
//! costs when it may be to any group.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};

use super::metrics::Counters;
use crate::acceptance::cluster::Cluster;
use crate::acceptance::{Context, Figures, wait};
use crate::program::Program;

/// A first start elects a leader in every group; a busy machine takes longer to let all come to rest.
const REST_MAX: Duration = Duration::from_secs(60);
const LOAD_MAX: Duration = Duration::from_secs(120);

/// CPU that a node may take of a core while all groups rest.
const IDLE_CORE_SHARE: f64 = 0.03;
/// What a node may send in a second while all groups rest, however many there are: it shows each
/// other node that it lives every 50 ms, and says who it is every half second.
const IDLE_FRAMES_PER_SECOND: f64 = 80.0;
const IDLE_BYTES_PER_SECOND: f64 = 10_000.0;
/// A pause of the machine wakes groups; so many times it is looked again.
const IDLE_LOOKS: usize = 10;

/// What 256 groups must give of the throughput of four.
const THROUGHPUT_SHARE: f64 = 0.8;
/// Syncs of all nodes for each write: three if nothing shared a sync.
const SYNCS_PER_WRITE: f64 = 1.5;

/// Starts groups that nobody uses, and looks at what the nodes do.
pub(super) fn idle(context: &Context) -> Result<Figures> {
    let mut figures = Figures::new();
    let groups = context.amount(1000, 100);
    let context = &within(context, "idle")?;
    let begun = Instant::now();
    let mut cluster = Cluster::start_sharded(context, groups)?;
    note(&mut figures, "idle_groups", f64::from(groups));
    note(&mut figures, "seconds_to_ready", begun.elapsed().as_secs_f64());
    await_rest(&cluster, groups)?;
    note(&mut figures, "seconds_to_rest", begun.elapsed().as_secs_f64());
    if context.small {
        idle_counts(&cluster, &mut figures)?;
    } else {
        idle_times(&cluster, &mut figures)?;
    }
    cluster.kill(2)?;
    let begun = Instant::now();
    cluster.restart(context, 2)?;
    note(&mut figures, "restart_seconds_to_listen", begun.elapsed().as_secs_f64());
    await_rest(&cluster, groups)?;
    note(&mut figures, "restart_seconds_to_rest", begun.elapsed().as_secs_f64());
    cluster.stop()?;
    Ok(figures)
}

/// Every replica rests, the controller's too.
fn await_rest(cluster: &Cluster, groups: u32) -> Result<()> {
    for node in 0..cluster.nodes().len() {
        wait::until("all groups to rest", REST_MAX, || {
            // A node that is just starting may refuse; that is an answer to wait on.
            let resting = Counters::of(cluster, node).map_or(0.0, |now| now.get("groups_resting"));
            Ok((resting >= f64::from(groups + 1)).then_some(()))
        })?;
    }
    Ok(())
}

fn all_counters(cluster: &Cluster) -> Result<Vec<Counters>> {
    (0..cluster.nodes().len()).map(|node| Counters::of(cluster, node)).collect()
}

fn idle_times(cluster: &Cluster, figures: &mut Figures) -> Result<()> {
    let before = all_counters(cluster)?;
    let begun = Instant::now();
    wait::let_pass(Duration::from_secs(30));
    let after = all_counters(cluster)?;
    let seconds = begun.elapsed().as_secs_f64();
    for (node, (before, after)) in before.iter().zip(&after).enumerate() {
        let rate = |name| (after.get(name) - before.get(name)) / seconds;
        let share = rate("process_cpu_seconds_total");
        let node = node + 1;
        figures.insert(
            format!("node_{node}_idle_cpu_percent"),
            ((share * 10_000.0).round() / 100.0).into(),
        );
        let bytes = after.get("process_resident_memory_bytes");
        figures.insert(format!("node_{node}_idle_mib"), (bytes / 1_048_576.0).round().into());
        ensure!(share < IDLE_CORE_SHARE, "node {node}, idle, takes {share:.4} of a core");
    }
    Ok(())
}

/// That all groups rest shows in what is *not* done, which no other load on the machine disturbs
/// for long.
fn idle_counts(cluster: &Cluster, figures: &mut Figures) -> Result<()> {
    let mut last = None;
    for _ in 0..IDLE_LOOKS {
        let before = Counters::of(cluster, 0)?;
        let begun = Instant::now();
        wait::let_pass(Duration::from_secs(1));
        let after = Counters::of(cluster, 0)?;
        let seconds = begun.elapsed().as_secs_f64();
        let rate = |name| (after.get(name) - before.get(name)) / seconds;
        let rates = [
            rate("log_fdatasyncs_total"),
            rate("frames_sent_total"),
            rate("frame_bytes_sent_total"),
        ];
        let [syncs, frames, bytes] = *last.insert(rates);
        if syncs == 0.0 && frames < IDLE_FRAMES_PER_SECOND && bytes < IDLE_BYTES_PER_SECOND {
            note(figures, "idle_frames_per_second", frames);
            note(figures, "idle_bytes_per_second", bytes);
            return Ok(());
        }
    }
    let [syncs, frames, bytes] = last.unwrap_or_default();
    ensure!(
        false,
        "idle, a node syncs {syncs:.1} times and sends {frames:.0} frames of {bytes:.0} bytes a second"
    );
    Ok(())
}

/// The same uniform load on a store of few groups and one of many, in turns.
pub(super) fn busy(context: &Context) -> Result<Figures> {
    let mut figures = Figures::new();
    let counts = [4, context.amount(256, 32)];
    let mut clusters = Vec::new();
    for groups in counts {
        let folder = within(context, &format!("busy-{groups}"))?;
        clusters.push(Cluster::start_sharded(&folder, groups)?);
    }
    let mut rates = [Vec::new(), Vec::new()];
    let mut cost = 0.0;
    for turn in 0..context.amount(5, 1) {
        for step in 0..clusters.len() {
            let place = (turn + step) % clusters.len();
            let loaded = load(context, &clusters[place])?;
            rates[place].push(loaded.per_second);
            cost = if place == 1 { loaded.syncs_per_write } else { cost };
        }
    }
    let [few, many] = rates.map(median);
    note(&mut figures, "writes_per_second_4_groups", few.round());
    note(&mut figures, &format!("writes_per_second_{}_groups", counts[1]), many.round());
    note(&mut figures, "throughput_share", many / few);
    note(&mut figures, "syncs_per_write", cost);
    ensure!(cost < SYNCS_PER_WRITE, "a write to one of {} groups costs {cost:.2} syncs", counts[1]);
    let share = many / few;
    ensure!(
        context.small || share >= THROUGHPUT_SHARE,
        "{} groups give {many:.0} writes a second, 4 give {few:.0}: {share:.2} of it",
        counts[1]
    );
    clusters.into_iter().try_for_each(Cluster::stop)?;
    Ok(figures)
}

struct Loaded {
    per_second: f64,
    syncs_per_write: f64,
}

/// 64 clients that know the map write 128 B to keys of all groups.
fn load(context: &Context, cluster: &Cluster) -> Result<Loaded> {
    let nodes = cluster.nodes();
    let each = |write: &dyn Fn(&crate::acceptance::cluster::Node) -> String| {
        nodes.iter().map(write).collect::<Vec<_>>().join(",")
    };
    let said = Program::new(&context.binary)
        .args(["bench", "kv", "--json", "--target", "redis-cluster", "--clients", "64"])
        .args(["--value-bytes", "128", "--read-share", "0"])
        .args(["--seconds", context.amount("4", "1")])
        .args(["--addr", &each(&|node| node.resp.to_string())])
        .args(["--server-pids", &each(&|node| node.pid.to_string())])
        .args(["--metrics", &each(&|node| format!("http://{}/metrics", node.http))])
        .output_within(LOAD_MAX)?;
    let said: Value = serde_json::from_str(&said).with_context(|| format!("bench said: {said}"))?;
    ensure!(said["errors"] == 0, "the load met errors, the first: {}", said["first_error"]);
    let number = |name: &str| said[name].as_f64().with_context(|| format!("bench says no {name}"));
    let per_second = number("ops_per_second")?;
    Ok(Loaded { per_second, syncs_per_write: number("syncs_per_second")? / per_second })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// A context whose folder is one below.
fn within(context: &Context, name: &str) -> Result<Context> {
    let scratch = context.scratch.join(name);
    std::fs::create_dir_all(&scratch)?;
    Ok(Context { scratch, ..context.clone() })
}

/// Figures to a hundredth.
fn note(figures: &mut Figures, name: &str, value: f64) {
    figures.insert(name.to_owned(), ((value * 100.0).round() / 100.0).into());
}
