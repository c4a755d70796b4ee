//! Item 8: what a write costs the disk, and where its time goes: on the nodes' pages of metrics and in
//! the benchmark's report, which must agree.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;

use crate::acceptance::cluster::Cluster;
use crate::acceptance::metrics::Counters;
use crate::acceptance::{Context, Figures};
use crate::program::Program;

/// Every stage that a write passes.
const STAGES: [&str; 7] = ["queue", "append", "sync", "replicate", "commit", "apply", "reply"];
/// What a node writes of each byte: once to the log at least.
const LEAST: f64 = 1.0;
/// And no more than this: log, a table, and merges of tables.
const MOST: f64 = 30.0;
/// Bytes of a key of the benchmark.
const KEY_BYTES: f64 = 16.0;
const LIMIT: Duration = Duration::from_secs(10 * 60);

pub(super) fn run(context: &Context) -> Result<Figures> {
    let mut figures = Figures::new();
    let sizes: &[u32] = context.amount(&[128, 1024], &[128]);
    for &value_bytes in sizes {
        let name = format!("values_of_{value_bytes}_bytes");
        figures.insert(name, measure(context, value_bytes)?);
        std::fs::remove_dir_all(context.scratch.join("data"))?;
    }
    Ok(figures)
}

fn measure(context: &Context, value_bytes: u32) -> Result<Value> {
    let cluster = Cluster::start(context)?;
    let report = bench(context, &cluster, value_bytes)?;
    let said = report["write_amplification"].as_f64();
    let said = said.context("the report has no write amplification")?;
    let writes = report["writes"]["ops"].as_f64().context("the report counts no writes")?;
    let payload = writes * (KEY_BYTES + f64::from(value_bytes));
    ensure!((LEAST..MOST).contains(&said), "the report says {said} bytes for each");
    let mut shown = Vec::new();
    for node in 0..cluster.nodes().len() {
        let page = Counters::of(&cluster, node)?;
        shown.push(check_page(&page, payload).with_context(|| format!("node {}", node + 1))?);
    }
    let stages = stages(&report)?;
    println!("{value_bytes} B: {said:.2} bytes written of each, pages {shown:?}, stages {stages}");
    cluster.stop()?;
    Ok(json!({
        "write_amplification": said,
        "on the pages, of commands": shown,
        "stages_us": stages,
    }))
}

fn bench(context: &Context, cluster: &Cluster, value_bytes: u32) -> Result<Value> {
    let list = |one: fn(&crate::acceptance::cluster::Node) -> String| -> String {
        cluster.nodes().iter().map(one).collect::<Vec<_>>().join(",")
    };
    let said = Program::new(&context.binary)
        .args(["bench", "kv", "--json", "--clients", "64", "--warm-up", "0.5"])
        .args(["--addr", &list(|node| node.resp.to_string())])
        .args(["--metrics", &list(|node| format!("http://{}/metrics", node.http))])
        .args(["--value-bytes", &value_bytes.to_string()])
        .args(["--keys", context.amount("1000000", "10000")])
        .args(["--seconds", context.amount("60", "2")])
        .output_within(LIMIT)?;
    serde_json::from_str(&said).with_context(|| format!("kontiki bench kv said: {said}"))
}

/// The page's figure is that of its parts, and these are no less than what was written.
fn check_page(page: &Counters, payload: f64) -> Result<f64> {
    let [log, tables, snapshots, commands] = [
        "log_bytes_written_total",
        "state_bytes_written_total",
        "snapshot_bytes_written_total",
        "command_bytes_applied_total",
    ]
    .map(|name| page.get(name));
    ensure!(
        log >= payload,
        "{log} bytes written to the log, of {payload} bytes of keys and values"
    );
    ensure!(commands >= payload, "{commands} bytes of commands, of {payload}");
    let (shown, is) = (page.get("write_amplification"), (log + tables + snapshots) / commands);
    ensure!((shown - is).abs() < 0.2 * is, "a page says {shown} where its parts say {is}");
    for stage in STAGES {
        let count = page.get(&format!("stage_seconds_count{{stage=\"{stage}\"}}"));
        // Only a leader waits for others.
        let waits = matches!(stage, "replicate" | "commit");
        ensure!(waits || count > 0.0, "the stage {stage} is not on the page");
    }
    Ok(shown)
}

/// The mean, the median and the 99th part of a hundred at each stage, as the report has them.
fn stages(report: &Value) -> Result<Value> {
    let found = report["stages"].as_array().context("the report has no stages")?;
    let mut all = serde_json::Map::new();
    for stage in STAGES {
        let one = found.iter().find(|one| one["stage"] == stage);
        let one = one.with_context(|| format!("the report does not have the stage {stage}"))?;
        let (mean, median) = (one["mean_us"].as_f64(), one["p50_us"].as_f64());
        let (mean, median) = mean.zip(median).with_context(|| format!("{stage}: {one}"))?;
        ensure!(mean > 0.0 && median > 0.0, "{stage}: {one}");
        let rounded = |us: f64| (us * 10.0).round() / 10.0;
        let last = one["p99_us"].as_f64();
        ensure!(last.is_none_or(|last| last >= median), "{stage}: {one}");
        all.insert(stage.to_string(), json!([rounded(mean), rounded(median), last.map(rounded)]));
    }
    Ok(Value::Object(all))
}
