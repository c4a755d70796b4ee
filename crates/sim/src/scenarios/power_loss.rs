//! All nodes lose power at once, at random moments under load, again and again. Nothing that was
//! acknowledged may be lost, and nothing may be applied twice.

use std::time::Duration;

use kontiki_replica::GroupConfig;
use kontiki_storage::disk::Crash;

use super::Load;
use crate::invariants::Violation;
use crate::store_cluster::{StoreCluster, StoreConfig};

/// The scenario.
#[derive(Clone, Debug)]
pub struct PowerLoss {
    /// How often the power fails.
    pub rounds: u64,
    /// Clients that write.
    pub clients: usize,
    /// Syncs return and do nothing: a planted bug.
    pub sync_taken_out: bool,
    /// What a power loss does to what was not synced.
    pub forgets: Forgets,
}

/// What a power loss does to what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgets {
    /// All of it is gone.
    Everything,
    /// Each time everything, or any part of it down to torn pages.
    EverythingOrParts,
}

/// How it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survived {
    /// Power losses.
    pub rounds: u64,
    /// Calls that were answered with success.
    pub acknowledged: u64,
    /// Calls whose outcome is unknown.
    pub unknown: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Syncs asked of the disks.
    pub syncs: u64,
}

impl PowerLoss {
    /// Runs it.
    ///
    /// # Errors
    /// What was lost, or else went wrong.
    pub fn run(&self, seed: u64) -> Result<Survived, Violation> {
        let group = GroupConfig { log_keep_bytes: 96 << 10, ..GroupConfig::default() };
        let config = StoreConfig { group, ..StoreConfig::default() };
        let mut cluster = StoreCluster::new(config, seed);
        let nodes = cluster.node_ids();
        cluster.run(Duration::from_secs(1))?;
        for &node in &nodes {
            cluster.disk(node).set_sync_lies(self.sync_taken_out);
        }
        if self.sync_taken_out {
            cluster.let_only_clients_judge();
        }
        let mut load = Load::new(&mut cluster, self.clients);
        for round in 0..self.rounds {
            load.next_chapter();
            self.load_with_trouble(&mut cluster, &mut load)?;
            for &node in &nodes {
                let how = self.crash(&mut cluster);
                cluster.crash(node, how);
            }
            self.restart(&mut cluster)?;
            let reader = nodes[(round % nodes.len() as u64) as usize];
            load.verify(&mut cluster, reader, 2)?;
        }
        load.finish(&mut cluster, Duration::from_secs(20))?;
        load.verify(&mut cluster, nodes[0], u64::MAX)?;
        Ok(Survived {
            rounds: self.rounds,
            acknowledged: load.acknowledged,
            unknown: load.unknown,
            refused: load.refused,
            syncs: nodes.iter().map(|&node| cluster.disk(node).syncs()).sum(),
        })
    }

    /// Some load until a moment chosen by chance; sometimes a single node crashes on the way, and
    /// comes back or not.
    fn load_with_trouble(
        &self,
        cluster: &mut StoreCluster,
        load: &mut Load,
    ) -> Result<(), Violation> {
        let nodes = cluster.node_ids();
        let time = cluster.random().time(Duration::from_millis(5), Duration::from_millis(150));
        if cluster.random().chance(250) {
            load.run(cluster, time)?;
            let how = self.crash(cluster);
            if let Some(&node) = cluster.random().pick(&nodes) {
                cluster.crash(node, how);
                let time =
                    cluster.random().time(Duration::from_millis(1), Duration::from_millis(600));
                load.run(cluster, time)?;
                if cluster.random().chance(500) {
                    self.start(cluster, node)?;
                }
            }
        }
        let time = cluster.random().time(Duration::from_micros(1), Duration::from_millis(100));
        load.run(cluster, time)
    }

    fn restart(&self, cluster: &mut StoreCluster) -> Result<(), Violation> {
        let again = cluster.random().chance(150);
        for node in cluster.node_ids() {
            self.start(cluster, node)?;
            let pause = cluster.random().time(Duration::ZERO, Duration::from_millis(60));
            cluster.run(pause)?;
        }
        if again {
            // And once more before they have found to each other, or just when they have.
            let pause = cluster.random().time(Duration::ZERO, Duration::from_millis(500));
            cluster.run(pause)?;
            for node in cluster.node_ids() {
                let how = self.crash(cluster);
                cluster.crash(node, how);
            }
            for node in cluster.node_ids() {
                self.start(cluster, node)?;
            }
        }
        Ok(())
    }

    fn start(
        &self,
        cluster: &mut StoreCluster,
        node: kontiki_types::NodeId,
    ) -> Result<(), Violation> {
        cluster
            .start(node)
            .map_err(|error| Violation::new("A node starts after a power loss", error))
    }

    fn crash(&self, cluster: &mut StoreCluster) -> Crash {
        let random = cluster.random();
        match self.forgets {
            Forgets::EverythingOrParts if random.chance(500) => Crash::Seed(random.number()),
            Forgets::EverythingOrParts | Forgets::Everything => Crash::LoseAll,
        }
    }
}
