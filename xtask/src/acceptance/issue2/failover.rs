//! Item 5: under load, the leader is killed with -9 ten times and once stopped for 5 s. Clients of
//! the other nodes notice nothing but a pause.

use anyhow::{Result, ensure};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::acceptance::cluster::Cluster;
use crate::acceptance::load::{Disturbance, Load};
use crate::acceptance::{Context, Figures, wait};

/// The load runs this long before and after each disturbance.
const QUIET: Duration = Duration::from_millis(1_500);
/// A killed node stays away for this long: longer than any election.
const AWAY: Duration = Duration::from_secs(2);
const STOPPED: Duration = Duration::from_secs(5);
const GAP_MAX: Duration = Duration::from_millis(500);

pub(super) fn run(context: &Context) -> Result<Figures> {
    let mut cluster = Cluster::start(context)?;
    let addresses: Vec<SocketAddr> = cluster.nodes().iter().map(|node| node.resp).collect();
    let load = Load::start(&addresses);
    let mut kills = Vec::new();
    for _ in 0..context.amount(10, 3) {
        wait::let_pass(QUIET);
        kills.push(kill_leader(context, &mut cluster)?);
    }
    wait::let_pass(QUIET);
    let stop = stop_leader(&cluster)?;
    wait::let_pass(QUIET);

    let history = load.stop()?;
    history.verify(&mut cluster.client(0)?)?;
    cluster.stop()?;

    let disturbances: Vec<Disturbance> = kills.iter().chain([&stop]).copied().collect();
    let errors = history.errors_at_live_nodes(&disturbances);
    ensure!(errors.is_empty(), "{} errors at live nodes, the first: {}", errors.len(), errors[0]);

    let gaps = |of: &[Disturbance]| -> (Vec<u64>, Vec<u64>) {
        of.iter()
            .map(|disturbance| history.gap(disturbance))
            .map(|(all, one)| (all.as_millis() as u64, one.as_millis() as u64))
            .unzip()
    };
    let (all, one) = gaps(&kills);
    let (stop_all, stop_one) = gaps(&[stop]);
    let median = median(&all);
    let figures = Figures::from_iter([
        ("acknowledged".to_string(), history.acknowledged().into()),
        ("unknown".to_string(), history.unknown().into()),
        ("gap_median_ms".to_string(), median.into()),
        ("gaps_ms".to_string(), all.into()),
        ("gaps_of_one_client_ms".to_string(), one.into()),
        ("gap_stopped_ms".to_string(), stop_all.into()),
        ("gap_stopped_of_one_client_ms".to_string(), stop_one.into()),
    ]);
    ensure!(Duration::from_millis(median) < GAP_MAX, "the median gap is {median} ms: {figures:?}");
    Ok(figures)
}

fn kill_leader(context: &Context, cluster: &mut Cluster) -> Result<Disturbance> {
    let node = cluster.leader(0)?;
    let from = Instant::now();
    cluster.kill(node)?;
    wait::let_pass(AWAY);
    cluster.restart(context, node)?;
    let to = Instant::now();
    cluster.await_whole(node)?;
    Ok(Disturbance { node, from, to })
}

fn stop_leader(cluster: &Cluster) -> Result<Disturbance> {
    let node = cluster.leader(0)?;
    let from = Instant::now();
    cluster.freeze(node)?;
    wait::let_pass(STOPPED);
    cluster.thaw(node)?;
    let to = Instant::now();
    cluster.await_whole(node)?;
    Ok(Disturbance { node, from, to })
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0,
        even if even % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2,
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(&[400, 100, 300, 200]), 250);
        assert_eq!(median(&[3, 1, 2]), 2);
        assert_eq!(median(&[]), 0);
    }
}
