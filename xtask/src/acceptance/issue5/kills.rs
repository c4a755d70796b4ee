//! Item 3: slots go back and forth between two groups while the nodes are killed with -9 in turn,
//! and all at once; moves go on or are given up by themselves, nothing is lost or doubled, and in
//! the end every slot is served.

use anyhow::{Result, ensure};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::shards::{await_quiet, cluster_command, slots_of, text};
use crate::acceptance::cluster::{Cluster, free_base_port};
use crate::acceptance::load::{self, Disturbance, Load};
use crate::acceptance::{Context, Figures, wait};

/// From a kill to the next start.
const DEAD: Duration = Duration::from_millis(1500);
/// From a start to the next kill.
const ALIVE: Duration = Duration::from_secs(2);

pub(super) fn run(context: &Context) -> Result<Figures> {
    let base = free_base_port()?;
    let mut cluster = Cluster::start_sharded_at(context, base, 3)?;
    let addresses: Vec<SocketAddr> = cluster.nodes().iter().map(|node| node.resp).collect();
    let all = slots_of(&mut cluster.client(0)?, &load::keys())?;
    // Two halves that pass each other in opposite directions.
    let middle = all.iter().nth(all.len() / 2).copied().unwrap_or_default();
    let (low, high) = all.iter().copied().partition(|slot| *slot < middle);
    let load = Load::start(&addresses);
    let mut disturbances = Vec::new();
    let mut opened = 0u32;
    let kills = context.amount(30, 3);
    for at in 0..kills {
        let (victim, witness) = (at % 3, (at + 1) % 3);
        let (one, other) = if at % 2 == 0 { ("1", "2") } else { ("2", "1") };
        for (slots, to) in [(&low, one), (&high, other)] {
            let words = ["move", "--no-wait", "--slots", &text(slots), "--to", to];
            // Refused while the moves before are under way, which is part of the trouble.
            opened += u32::from(cluster_command(context, &cluster, witness, &words).is_ok());
        }
        let from = Instant::now();
        cluster.kill(victim)?;
        wait::let_pass(DEAD);
        cluster.restart(context, victim)?;
        wait::let_pass(ALIVE);
        disturbances.push(Disturbance { node: victim, from, to: Instant::now() });
    }
    let quiet = await_quiet(context, &cluster, 0)?;
    ensure!(quiet.groups.iter().map(|group| group.slots).sum::<u32>() == 16_384, "slots missing");
    // All at once, in the middle of moves.
    for (slots, to) in [(&low, "3"), (&high, "3")] {
        cluster_command(
            context,
            &cluster,
            0,
            &["move", "--no-wait", "--slots", &text(slots), "--to", to],
        )?;
    }
    cluster.kill_all()?;
    let cluster = Cluster::start_sharded_at(context, base, 3)?;
    wait::let_pass(ALIVE);
    let history = load.stop()?;
    await_quiet(context, &cluster, 0)?;
    history.verify(&mut cluster.client(1)?)?;
    cluster.stop()?;
    ensure!(opened > 0, "no move was opened");
    Ok(Figures::from_iter([
        ("kills".to_string(), kills.into()),
        ("moves_opened".to_string(), opened.into()),
        ("acknowledged".to_string(), history.acknowledged().into()),
        ("unknown".to_string(), history.unknown().into()),
        ("longest_gap_ms".to_string(), longest(&history, &disturbances).into()),
    ]))
}

/// The longest time without a success around any of the kills, at the other nodes.
fn longest(history: &load::History, disturbances: &[Disturbance]) -> u64 {
    let gaps = disturbances.iter().map(|disturbance| history.gap(disturbance).0);
    gaps.max().unwrap_or_default().as_millis() as u64
}
