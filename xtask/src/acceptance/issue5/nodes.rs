//! Item 5: a node is added and filled, another one drained and removed, and then all nodes are
//! restarted one after the other, while native, cluster-aware and plain clients write. Clients of a
//! node that stops go elsewhere; nobody else hears of it.

use anyhow::{Result, ensure};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::running::{Running, Stock, native};
use super::shards::{cluster_command, masters};
use crate::acceptance::cluster::Cluster;
use crate::acceptance::load::{Disturbance, Load};
use crate::acceptance::{Context, Figures, needs, wait};

/// The load alone, before and after each change.
const ALONE: Duration = Duration::from_millis(1_500);

/// Leaders are on all nodes so soon after a node has come or gone.
const SPREAD_MAX: Duration = Duration::from_secs(20);

const MEDIAN_MAX: Duration = Duration::from_millis(500);
const GAP_MAX: Duration = Duration::from_secs(2);

/// The place of no node: everybody's clients count.
const NOBODY: usize = usize::MAX;

/// The node that goes, by its place and id.
const LEAVER: (usize, u64) = (2, 3);
const NEWCOMER: u64 = 4;

pub(super) fn run(context: &Context) -> Result<Figures> {
    needs(&["python3", "node", "npm"])?;
    let stock = Stock::install(context)?;
    let mut cluster = Cluster::start_sharded(context, context.amount(8, 4))?;
    // Clients find the others by themselves; plain ones stay where they are.
    let stay: Vec<_> = cluster.nodes()[..2].iter().map(|node| (node.resp, node.grpc)).collect();
    let (resp, grpc): (Vec<SocketAddr>, Vec<SocketAddr>) = stay.into_iter().unzip();
    let ports: Vec<String> = resp.iter().map(|address| address.port().to_string()).collect();
    let mut aware = stock.load(context, &ports)?;
    aware.push(native(context, &grpc)?);
    let plain = Load::start(&resp);
    let mut changes = Changes(Vec::new());

    wait::let_pass(ALONE);
    changes.note(NOBODY, || {
        let joined = cluster.join(context, NEWCOMER)?;
        cluster_command(context, &cluster, 0, &["add-node", "--id", &NEWCOMER.to_string()])?;
        await_masters(&cluster, &[0, 1, 2, joined])
    })?;
    check(&mut aware)?;
    changes.note(NOBODY, || {
        cluster_command(context, &cluster, 1, &["remove-node", "--id", &LEAVER.1.to_string()])?;
        cluster.await_end(LEAVER.0)
    })?;
    forgotten(&cluster)?;
    check(&mut aware)?;

    let rounds = context.amount(4, 1);
    for node in (0..rounds).flat_map(|_| [0, 1, 3]) {
        changes.note(node, || {
            cluster.terminate(node)?;
            cluster.restart(context, node)
        })?;
        await_masters(&cluster, &[0, 1, 3])?;
        check(&mut aware)?;
    }
    let history = plain.stop()?;
    let waits: Vec<u64> = aware.into_iter().map(Running::stop).collect::<Result<_>>()?;
    history.verify(&mut cluster.client(1)?)?;
    cluster.stop()?;

    let errors = history.errors_at_live_nodes(&changes.0);
    ensure!(errors.is_empty(), "{} errors at other nodes, first: {:?}", errors.len(), errors[0]);
    let gaps = |which: &[Disturbance]| -> Vec<u64> {
        which.iter().map(|change| history.gap(change).1.as_millis() as u64).collect()
    };
    let (moves, restarts) = (gaps(&changes.0[..2]), gaps(&changes.0[2..]));
    let mut sorted: Vec<u64> = moves.iter().chain(&restarts).copied().collect();
    sorted.sort_unstable();
    let (median, most) = (sorted[sorted.len() / 2], sorted.last().copied().unwrap_or_default());
    let slowest = waits.iter().max().copied().unwrap_or_default();
    let figures = Figures::from_iter([
        ("acknowledged".to_string(), history.acknowledged().into()),
        ("gap_median_ms".to_string(), median.into()),
        ("gaps_of_one_client_ms_added_removed".to_string(), moves.into()),
        ("gaps_of_one_client_ms_restarts".to_string(), restarts.into()),
        ("longest_turn_ms_redis_py_ioredis_native".to_string(), waits.into()),
    ]);
    ensure!(median < MEDIAN_MAX.as_millis() as u64, "the median gap is {median} ms: {figures:?}");
    ensure!(most < GAP_MAX.as_millis() as u64, "a gap of {most} ms: {figures:?}");
    ensure!(slowest < GAP_MAX.as_millis() as u64, "a turn of {slowest} ms: {figures:?}");
    Ok(figures)
}

/// What was done to the nodes, and when.
struct Changes(Vec<Disturbance>);

impl Changes {
    /// Does it, and lets the load alone before and after.
    fn note(&mut self, node: usize, change: impl FnOnce() -> Result<()>) -> Result<()> {
        let from = Instant::now();
        change()?;
        let to = Instant::now();
        wait::let_pass(ALONE);
        self.0.push(Disturbance { node, from, to });
        Ok(())
    }
}

fn check(aware: &mut [Running]) -> Result<()> {
    aware.iter_mut().try_for_each(Running::check)
}

/// Waits until each of these nodes says that they, and they alone, lead what has slots.
fn await_masters(cluster: &Cluster, places: &[usize]) -> Result<()> {
    let port = |place: &usize| i64::from(cluster.nodes()[*place].resp.port());
    let expected = places.iter().map(port).collect();
    wait::until("leaders on all nodes", SPREAD_MAX, || {
        for place in places {
            // A node that is just starting may refuse; that is an answer to wait on.
            let Ok(mut client) = cluster.client(*place) else { return Ok(None) };
            if masters(&mut client)? != expected {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

/// The node that was removed is in no map and no status, and may not come back.
fn forgotten(cluster: &Cluster) -> Result<()> {
    await_masters(cluster, &[0, 1, 3])?;
    wait::until("a removed node to be forgotten", SPREAD_MAX, || {
        for place in [0, 1, 3] {
            if cluster.status(place)?.nodes.iter().any(|node| node.id == LEAVER.1) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?;
    let said = cluster.refused_again(LEAVER.0)?;
    ensure!(said.contains("was removed from"), "a removed node that came back said: {said}");
    Ok(())
}
