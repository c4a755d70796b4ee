//! Faults of every kind, one at a time or several, chosen by chance.

use std::time::Duration;

use kontiki_storage::disk::Crash;
use kontiki_types::NodeId;

use crate::invariants::{Checked, Violation};
use crate::network::Quality;
use crate::store_cluster::StoreCluster;

/// Which faults may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Nodes lose power, and come back.
    pub crashes: bool,
    /// The network splits, one way or both.
    pub partitions: bool,
    /// Nodes stand still for a while.
    pub pauses: bool,
    /// Wall clocks jump, by up to an hour.
    pub clocks: bool,
    /// Messages are late, lost and doubled.
    pub bad_network: bool,
}

impl Trouble {
    /// All of them.
    pub const fn all() -> Self {
        Self { crashes: true, partitions: true, pauses: true, clocks: true, bad_network: true }
    }

    /// Lets one thing happen. A node that crashed comes back by a later call.
    ///
    /// # Errors
    /// A node cannot start.
    pub fn strike(&self, cluster: &mut StoreCluster) -> Checked {
        let nodes = cluster.node_ids();
        let random = cluster.random();
        let (Some(&one), Some(&two)) = (random.pick(&nodes), random.pick(&nodes)) else {
            return Ok(());
        };
        match random.below(10) {
            0 | 1 if self.crashes => {
                let crash =
                    if random.chance(500) { Crash::LoseAll } else { Crash::Seed(random.number()) };
                cluster.crash(one, crash);
            }
            2 | 3 if self.crashes => return start(cluster, one),
            4 if self.partitions && one != two => cluster.network().cut_one_way(one, two),
            5 if self.partitions => {
                let others: Vec<_> = nodes.into_iter().filter(|&node| node != one).collect();
                cluster.network().partition(&[vec![one], others]);
            }
            6 | 7 if self.partitions => cluster.network().heal(),
            8 if self.pauses => {
                let time = random.time(Duration::from_millis(20), Duration::from_secs(2));
                cluster.pause(one, time);
            }
            8 if self.clocks => {
                let ahead = random.below(7_200_000).cast_signed() - 3_600_000;
                cluster.set_wall_clock(one, ahead);
            }
            9 if self.clocks && random.chance(500) => {
                let ahead = random.below(7_200_000).cast_signed() - 3_600_000;
                cluster.set_wall_clock(one, ahead);
            }
            9 if self.bad_network => {
                let quality =
                    if random.chance(500) { Quality::good() } else { Quality::unreliable() };
                cluster.network().set_quality(quality);
            }
            _ => {}
        }
        Ok(())
    }

    /// All faults stop.
    ///
    /// # Errors
    /// A node cannot start.
    pub fn stop(&self, cluster: &mut StoreCluster) -> Checked {
        cluster.network().heal();
        cluster.network().set_quality(Quality::good());
        for node in cluster.node_ids() {
            cluster.set_wall_clock(node, 0);
            cluster.pause(node, Duration::ZERO);
            start(cluster, node)?;
        }
        Ok(())
    }
}

fn start(cluster: &mut StoreCluster, node: NodeId) -> Checked {
    cluster.start(node).map_err(|error| Violation::new("A node starts after a crash", error))
}
