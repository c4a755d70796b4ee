//! Item 1: redis-cli -c, redis-py's RedisCluster, ioredis' Cluster and redis-benchmark --cluster, as
//! anybody installs them, before, while and after slots go from group to group.

use anyhow::{Context as _, Result, ensure};
use std::time::{Duration, Instant};

use super::running::Stock;
use super::shards::{await_quiet, cluster_command};
use crate::acceptance::cluster::Cluster;
use crate::acceptance::{Context, Figures, needs, wait};
use crate::program::Program;

const RUN_MAX: Duration = Duration::from_secs(180);

/// Leaders are spread within this time of readiness.
const SPREAD_MAX: Duration = Duration::from_secs(2);

/// What makes the slots uneven, so that there is something to rebalance.
const UNEVEN: &str = "0-2047,9000-9999";

pub(super) fn run(context: &Context) -> Result<Figures> {
    needs(&["python3", "node", "npm", "redis-cli", "redis-benchmark"])?;
    let stock = Stock::install(context)?;
    let cluster = Cluster::start_sharded(context, context.amount(8, 3))?;
    let ready = Instant::now();
    await_spread(&cluster, SPREAD_MAX)?;
    let spread = ready.elapsed();
    let ports: Vec<String> =
        cluster.nodes().iter().map(|node| node.resp.port().to_string()).collect();
    redis_cli(&ports)?;
    if !context.small {
        stock.try_everything(&ports)?;
    }
    let before = redis_benchmark(context, &ports[0])?;

    let mut loads = stock.load(context, &ports)?;
    let mut during = Vec::new();
    let begun = Instant::now();
    let length = Duration::from_secs(context.amount(60, 2));
    while during.is_empty() || begun.elapsed() < length {
        let node = during.len() % ports.len();
        let move_away = ["move", "--slots", UNEVEN, "--to", "2"];
        cluster_command(context, &cluster, node, &move_away)?;
        // The rest goes on beside the others' commands.
        cluster_command(context, &cluster, node, &["rebalance", "--no-wait"])?;
        during.push(redis_benchmark(context, &ports[node])?);
        redis_cli(&ports)?;
        await_quiet(context, &cluster, node)?;
        loads.iter_mut().try_for_each(|load| load.check())?;
    }
    let waits: Vec<u64> = loads.into_iter().map(|load| load.stop()).collect::<Result<_>>()?;

    let quiet = await_quiet(context, &cluster, 0)?;
    let counts: Vec<u32> = quiet.groups.iter().map(|group| group.slots).collect();
    let (most, least) = (counts.iter().max(), counts.iter().min());
    ensure!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "uneven: {counts:?}");
    redis_cli(&ports)?;
    stock.try_everything(&ports)?;
    let after = redis_benchmark(context, &ports[1])?;
    cluster.stop()?;
    Ok(Figures::from_iter([
        ("spread_seconds".to_string(), spread.as_secs_f64().into()),
        ("rebalances".to_string(), during.len().into()),
        ("redis_benchmark_set_before".to_string(), before.into()),
        ("redis_benchmark_set_during".to_string(), during.into()),
        ("redis_benchmark_set_after".to_string(), after.into()),
        ("longest_turn_ms_redis_py_ioredis".to_string(), waits.into()),
    ]))
}

/// Waits until every node says that each node is the master of some slots.
fn await_spread(cluster: &Cluster, limit: Duration) -> Result<()> {
    wait::until("leaders on all nodes", limit, || {
        for node in 0..cluster.nodes().len() {
            let masters = super::shards::masters(&mut cluster.client(node)?)?;
            if masters.len() < cluster.nodes().len() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

/// redis-cli follows redirections with -c, and needs none without.
fn redis_cli(ports: &[String]) -> Result<()> {
    for port in ports {
        for mode in [&["-c"][..], &[]] {
            for key in ["a", "b", "c", "foo", "bar"] {
                let run = |words: &[&str]| {
                    Program::new("redis-cli")
                        .args(["-p", port])
                        .args(mode)
                        .args(words)
                        .output_within(RUN_MAX)
                };
                let (set, got) = (run(&["SET", key, port])?, run(&["GET", key])?);
                ensure!(set.trim() == "OK" && got.trim() == port, "{mode:?} {key}: {set}, {got}");
            }
        }
    }
    Ok(())
}

/// SETs a second over all masters.
fn redis_benchmark(context: &Context, port: &str) -> Result<f64> {
    let requests = context.amount("200000", "10000");
    let finished = Program::new("redis-benchmark")
        .args(["-p", port, "--cluster", "-t", "set", "-n", requests, "-r", "100000", "-q"])
        .finish_within(RUN_MAX)?;
    let said = format!("{}{}", finished.stdout, finished.stderr);
    ensure!(finished.success && !said.contains("rror"), "redis-benchmark failed:\n{said}");
    ensure!(said.contains("Cluster has 3 master nodes"), "it does not see all nodes:\n{said}");
    // The last of many lines that each overwrite the one before.
    let rate = said.rsplit(['\r', '\n']).find_map(|line| {
        let words = line.strip_prefix("SET: ")?;
        words.strip_suffix(" msec")?.split_once(" requests per second")?.0.parse().ok()
    });
    rate.with_context(|| format!("redis-benchmark gave no rate:\n{said}"))
}
