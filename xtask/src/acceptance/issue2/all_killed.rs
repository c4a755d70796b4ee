//! Item 6: all three nodes, and `up` with them, are killed with -9 at once under load and started
//! again; what was acknowledged is there.

use anyhow::Result;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::acceptance::cluster::{Cluster, free_base_port};
use crate::acceptance::load::Load;
use crate::acceptance::{Context, Figures, wait};

const LOADED: Duration = Duration::from_secs(3);

pub(super) fn run(context: &Context) -> Result<Figures> {
    let base = free_base_port()?;
    let mut cluster = Cluster::start_at(context, base)?;
    let addresses: Vec<SocketAddr> = cluster.nodes().iter().map(|node| node.resp).collect();
    let load = Load::start(&addresses);
    let mut ready = Vec::new();
    for _ in 0..context.amount(5, 1) {
        wait::let_pass(LOADED);
        cluster.kill_all()?;
        let started = Instant::now();
        cluster = Cluster::start_at(context, base)?;
        ready.push(started.elapsed().as_millis() as u64);
    }
    let history = load.stop()?;
    history.verify(&mut cluster.client(0)?)?;
    cluster.stop()?;
    Ok(Figures::from_iter([
        ("acknowledged".to_string(), history.acknowledged().into()),
        ("unknown".to_string(), history.unknown().into()),
        ("ready_again_ms".to_string(), ready.into()),
    ]))
}
