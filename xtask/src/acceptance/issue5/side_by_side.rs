//! Item 7: a sharded Kontiki, Redis Cluster and etcd measured in one run.
//!
//! A small run only shows that all of it works: figures of a second say nothing.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::time::Duration;

use crate::acceptance::{Context, Figures, needs};
use crate::program::Program;

const LIMIT: Duration = Duration::from_secs(15 * 60);

/// What is asked of writes beside Redis Cluster with `WAIT 1`.
const AT_LEAST: f64 = 1.0;
const COMPARED: &str = "put-64_vs_redis_cluster_wait_1";

pub(super) fn run(context: &Context) -> Result<Figures> {
    needs(&["python3", "redis-server", "redis-cli", "etcd"])?;
    let out = match context.small {
        true => context.scratch.join("kv-sharded.json"),
        false => context.root.join("bench/results/kv-sharded.json"),
    };
    let said = Program::new("python3")
        .args([context.root.join("bench/sharded-side-by-side.py")])
        .args(["--rounds", context.amount("3", "1"), "--seconds", context.amount("3", "0.5")])
        .args(["--kontiki".as_ref(), context.binary.as_os_str()])
        .args(["--dir".as_ref(), context.scratch.join("servers").as_os_str()])
        .args(["--out".as_ref(), out.as_os_str()])
        .output_within(LIMIT)?;
    println!("{}", said.trim_end());
    let results = std::fs::read_to_string(&out).with_context(|| out.display().to_string())?;
    let results: Value = serde_json::from_str(&results)?;
    for (cell, figures) in results["results"]["kontiki"].as_object().into_iter().flatten() {
        ensure!(figures["errors"] == 0, "{cell}: errors, the first: {}", figures["first_error"]);
    }
    let comparisons = results["comparisons"].as_object().cloned().unwrap_or_default();
    if !context.small {
        let ratio = comparisons.get(COMPARED).and_then(Value::as_f64);
        let ratio = ratio.with_context(|| format!("the results do not compare {COMPARED}"))?;
        ensure!(ratio >= AT_LEAST, "{COMPARED} is {ratio}, less than {AT_LEAST}");
    }
    Ok(comparisons)
}
