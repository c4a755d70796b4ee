//! Item 4: the slots of a load's keys go to another group and back, again and again, while the load
//! runs on all nodes; nobody hears of it, and nothing is lost or doubled.

use anyhow::{Result, ensure};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::shards::{await_quiet, move_to, slots_of};
use crate::acceptance::cluster::Cluster;
use crate::acceptance::load::{self, Load};
use crate::acceptance::{Context, Figures, wait};

/// The load alone, before and after.
const ALONE: Duration = Duration::from_secs(1);

pub(super) fn run(context: &Context) -> Result<Figures> {
    let cluster = Cluster::start_sharded(context, 3)?;
    let addresses: Vec<SocketAddr> = cluster.nodes().iter().map(|node| node.resp).collect();
    let slots = slots_of(&mut cluster.client(0)?, &load::keys())?;
    let load = Load::start(&addresses);
    wait::let_pass(ALONE);
    let moves = context.amount(200, 10);
    let started = Instant::now();
    for at in 0..moves {
        // All to one group first, then there and back.
        move_to(context, &cluster, at % 3, &slots, 1 + (at % 2) as u32)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    wait::let_pass(ALONE);
    let history = load.stop()?;
    let errors = history.errors_at_live_nodes(&[]);
    ensure!(errors.is_empty(), "{} errors, first: {:?}", errors.len(), errors.first());
    history.verify(&mut cluster.client(1)?)?;
    await_quiet(context, &cluster, 2)?;
    cluster.stop()?;
    Ok(Figures::from_iter([
        ("moves".to_string(), moves.into()),
        ("slots_each".to_string(), slots.len().into()),
        ("seconds_per_move".to_string(), (seconds / moves as f64).into()),
        ("acknowledged".to_string(), history.acknowledged().into()),
    ]))
}
