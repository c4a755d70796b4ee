//! Item 10: what strangers send. `kontiki bench garbage` torments one node after the other, with
//! byte strings, half-open connections and readers that never read; meanwhile its witness must be
//! served by that node and its memory must stay bounded, and afterwards the cluster be whole.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use std::time::Duration;

use crate::acceptance::cluster::{Cluster, Node};
use crate::acceptance::{Context, Figures};
use crate::program::Program;

const LIMIT: Duration = Duration::from_secs(150);

/// What the torment found, as far as it is kept.
#[derive(Deserialize)]
struct Torment {
    sent: u64,
    witness_ops: u64,
    witness_max_ms: f64,
    rss_before_bytes: Option<u64>,
    rss_peak_bytes: Option<u64>,
    problems: Vec<String>,
}

pub(super) fn run(context: &Context) -> Result<Figures> {
    let cluster = Cluster::start(context)?;
    let strings = context.amount(10_000, 1_000);
    let mut torments = Vec::new();
    for node in cluster.nodes() {
        let torment = torment(context, node, strings)?;
        let problems = torment.problems.join("; ");
        ensure!(problems.is_empty(), "node {}: {problems}", node.id);
        torments.push(torment);
    }
    let reply = cluster.client(0)?.call(&["SET", "after", "all"])?;
    ensure!(reply.is_ok(), "afterwards, SET answered {reply:?}");
    cluster.await_whole(0).context("after the garbage")?;
    cluster.stop()?;

    let sum = |of: fn(&Torment) -> u64| torments.iter().map(of).sum::<u64>();
    let slowest = torments.iter().map(|torment| torment.witness_max_ms).fold(0.0, f64::max);
    let grown = torments.iter().filter_map(grown_mib).max();
    Ok(Figures::from_iter([
        ("strings".to_string(), sum(|torment| torment.sent).into()),
        ("calls_of_others".to_string(), sum(|torment| torment.witness_ops).into()),
        ("slowest_call_of_others_ms".to_string(), slowest.into()),
        ("memory_grown_mib".to_string(), grown.into()),
    ]))
}

fn torment(context: &Context, node: &Node, strings: u64) -> Result<Torment> {
    let said = Program::new(&context.binary)
        .args(["bench", "garbage", "--json", "--resp", &node.resp.to_string()])
        .args(["--grpc", &node.grpc.to_string(), "--count", &strings.to_string()])
        .args(["--seed", &node.id.to_string()])
        .finish_within(LIMIT)?;
    let json = serde_json::from_str(&said.stdout);
    json.with_context(|| format!("kontiki bench garbage said:\n{}{}", said.stdout, said.stderr))
}

fn grown_mib(torment: &Torment) -> Option<u64> {
    Some(torment.rss_peak_bytes?.saturating_sub(torment.rss_before_bytes?) >> 20)
}
