//! Item 1: far more data than the nodes may take of memory. It loads, random reads go on at half the
//! rate that little data has, and each node stays within its setting; once more with each node in a
//! memory cgroup, so that the page cache is little, too.
//!
//! What counts is the rate of clients that wait for each answer, as the other comparisons have it; that
//! of clients which send many requests at a time stands beside it. Reads are measured once merges of
//! tables have ended, and right after loading, too.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::acceptance::cluster::Cluster;
use crate::acceptance::metrics::Counters;
use crate::acceptance::{Context, Figures, wait};
use crate::program::Program;

/// Bytes of a value; a key has 16.
const VALUE_BYTES: u64 = 128;
const FEW_KEYS: u64 = 10_000;
/// Another number of keys for a full run.
const KEYS: &str = "KONTIKI_LARGE_KEYS";
/// Of the rate of reads of little data.
const RATE_LEAST: f64 = 0.5;
/// What a node may take beyond its setting.
const RSS_MOST: f64 = 1.25;
/// What a cgroup has more than its node's setting: 640 MiB for 512.
const CGROUP_MORE: f64 = 1.25;
const LIMIT: Duration = Duration::from_secs(80 * 60);
/// Merges have ended when for so long none did; nodes wait for ten seconds before the last ones.
const QUIET: Duration = Duration::from_secs(15);

pub(super) fn run(context: &Context) -> Result<Figures> {
    let keys = match std::env::var(KEYS) {
        Ok(keys) => keys.parse().with_context(|| format!("{KEYS}={keys}"))?,
        Err(_) => context.amount(20_000_000, 60_000),
    };
    let memory: u64 = context.amount(512, 128) << 20;
    let mut figures = Figures::new();
    figures.insert("keys".to_string(), keys.into());
    figures.insert("payload_bytes".to_string(), (keys * VALUE_BYTES).into());
    figures.insert("memory_setting_bytes".to_string(), memory.into());
    let alone = measure(context, keys, memory, None)?;
    figures.insert("with all of the page cache".to_string(), alone);
    std::fs::remove_dir_all(context.scratch.join("data"))?;
    let limit = (memory as f64 * CGROUP_MORE) as u64;
    let inside = match Cgroups::new(limit) {
        Ok(cgroups) => measure(context, keys, memory, Some(&cgroups))?,
        Err(error) => json!(format!("not possible here: {error:#}")),
    };
    println!("in cgroups: {inside}");
    figures.insert(format!("in a cgroup of {} MiB a node", limit >> 20), inside);
    Ok(figures)
}

fn measure(context: &Context, keys: u64, memory: u64, cgroups: Option<&Cgroups>) -> Result<Value> {
    let setting = memory.to_string();
    let cluster = Cluster::start_with(context, &["--groups", "3", "--memory", &setting], &[])?;
    if let Some(cgroups) = cgroups {
        for node in cluster.nodes() {
            cgroups.put(node.id, node.pid)?;
        }
    }
    let bench = Bench::new(context, &cluster);
    let few_keys = FEW_KEYS.min(keys);
    let fill_seconds = |keys: u64| -> Result<f64> {
        let begun = Instant::now();
        bench.run(&MANY, keys, &["--warm-up", "0", "--ops", "1"])?;
        Ok(begun.elapsed().as_secs_f64())
    };
    fill_seconds(few_keys)?;
    let (few, few_pipelined) = (bench.reads(&SINGLE, few_keys)?, bench.reads(&MANY, few_keys)?);
    let loaded = fill_seconds(keys)?;
    println!("{keys} keys written in {loaded:.0} s");
    let at_once = bench.reads(&SINGLE, keys)?;
    let merged = if context.small { 0.0 } else { await_merges(&cluster)? };
    let (many, many_pipelined) = (bench.reads(&SINGLE, keys)?, bench.reads(&MANY, keys)?);
    let mut peaks = Vec::new();
    for node in cluster.nodes() {
        peaks.push(peak_rss(node.pid).with_context(|| format!("node {} is gone", node.id))?);
    }
    cluster.stop()?;
    let (share, share_pipelined) = (many / few, many_pipelined / few_pipelined);
    let most = peaks.iter().copied().max().unwrap_or_default();
    println!(
        "{keys} keys: {many:.0} random reads/s, {share:.2} of {few:.0} with few keys; right after loading \
         {at_once:.0}, merges ended after {merged:.0} s; many at a time {many_pipelined:.0}, \
         {share_pipelined:.2} of {few_pipelined:.0}; peak memory of a node {} MiB",
        most >> 20
    );
    ensure!(
        most as f64 <= memory as f64 * RSS_MOST,
        "a node took {} MiB where {} MiB are set",
        most >> 20,
        memory >> 20
    );
    ensure!(
        context.small || share >= RATE_LEAST,
        "random reads have {share:.2} of the rate with few keys"
    );
    Ok(json!({
        "reads_per_second_of_few_keys": few,
        "reads_per_second_right_after_loading": at_once,
        "reads_per_second": many,
        "share": share,
        "pipelined_reads_per_second_of_few_keys": few_pipelined,
        "pipelined_reads_per_second": many_pipelined,
        "pipelined_share": share_pipelined,
        "seconds_to_load": loaded,
        "seconds_until_merges_ended": merged,
        "peak_rss_bytes": peaks,
    }))
}

/// Clients, and requests that each sends at a time.
type Clients = [&'static str; 4];
const SINGLE: Clients = ["--clients", "64", "--pipeline", "1"];
const MANY: Clients = ["--clients", "16", "--pipeline", "16"];

struct Bench<'a> {
    context: &'a Context,
    addresses: String,
}

impl<'a> Bench<'a> {
    fn new(context: &'a Context, cluster: &Cluster) -> Self {
        let addresses: Vec<_> = cluster.nodes().iter().map(|node| node.resp.to_string()).collect();
        Self { context, addresses: addresses.join(",") }
    }

    /// Reads some of these keys at random, each of which is there.
    fn reads(&self, clients: &Clients, keys: u64) -> Result<f64> {
        let (warm_up, seconds) = (self.context.amount("5", "0.2"), self.context.amount("20", "1"));
        self.run(clients, keys, &["--no-fill", "--warm-up", warm_up, "--seconds", seconds])
    }

    fn run(&self, clients: &Clients, keys: u64, more: &[&str]) -> Result<f64> {
        let said = Program::new(&self.context.binary)
            .args(["bench", "kv", "--json", "--read-share", "1", "--addr", &self.addresses])
            .args(["--keys", &keys.to_string(), "--value-bytes", &VALUE_BYTES.to_string()])
            .args(*clients)
            .args(more)
            .output_within(LIMIT)?;
        let report: Value = serde_json::from_str(&said)
            .with_context(|| format!("kontiki bench kv said: {said}"))?;
        ensure!(report["errors"] == 0, "reads failed: {}", report["first_error"]);
        report["ops_per_second"].as_f64().context("a rate")
    }
}

/// Waits until the nodes merge no more tables; how long they did.
fn await_merges(cluster: &Cluster) -> Result<f64> {
    let begun = Instant::now();
    let (mut merges, mut last) = (0.0, begun);
    wait::until("the end of merges", LIMIT, || {
        let mut now = 0.0;
        for node in 0..cluster.nodes().len() {
            now += Counters::of(cluster, node)?.get("state_compactions_total");
        }
        if now != merges {
            (merges, last) = (now, Instant::now());
        }
        wait::let_pass(Duration::from_secs(1));
        Ok((last.elapsed() >= QUIET).then_some(()))
    })?;
    Ok((last - begun).as_secs_f64())
}

/// The most that a process has ever had resident, in bytes.
fn peak_rss(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    peak_in(&status).context("the kernel does not say")
}

fn peak_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// A memory cgroup for each node, of the first or the second version; gone when this is dropped.
struct Cgroups {
    root: PathBuf,
    limit_file: &'static str,
    limit: u64,
}

impl Cgroups {
    fn new(limit: u64) -> Result<Cgroups> {
        let first = Path::new("/sys/fs/cgroup/memory");
        let (parent, limit_file) = match first.is_dir() {
            true => (first, "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup"), "memory.max"),
        };
        let root = parent.join(format!("kontiki-acceptance-{}", std::process::id()));
        std::fs::create_dir(&root).with_context(|| root.display().to_string())?;
        let cgroups = Cgroups { root, limit_file, limit };
        if !first.is_dir() {
            std::fs::write(cgroups.root.join("cgroup.subtree_control"), "+memory")?;
        }
        // Whether limits can be set shows before a cluster is started.
        cgroups.one(0)?;
        Ok(cgroups)
    }

    fn one(&self, node: u64) -> Result<PathBuf> {
        let path = self.root.join(format!("node-{node}"));
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        let file = path.join(self.limit_file);
        std::fs::write(&file, self.limit.to_string())
            .with_context(|| file.display().to_string())?;
        Ok(path)
    }

    /// What the process takes from here on counts, its part of the page cache included.
    fn put(&self, node: u64, pid: u32) -> Result<()> {
        let file = self.one(node)?.join("cgroup.procs");
        std::fs::write(&file, pid.to_string()).with_context(|| file.display().to_string())
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        // A cgroup can be removed once its last process is gone, and has no other files to remove.
        let within = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        for path in within.map(|entry| entry.path()).filter(|path| path.is_dir()) {
            let _ = std::fs::remove_dir(path);
        }
        let _ = std::fs::remove_dir(&self.root);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_peak_is_read_from_what_the_kernel_says() {
        let status = "VmPeak:\t  9000 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 1000 kB\n";
        assert_eq!(super::peak_in(status), Some(1234 << 10));
        assert_eq!(super::peak_in("VmRSS:\t 1000 kB\n"), None);
    }
}
