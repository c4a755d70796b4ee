//! Three clients while nodes are cut off, crash and return (ReliableChurn, UnreliableChurn).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::network::Quality;
use crate::raft_cluster::RaftCluster;
use kontiki_types::Instant;

use super::{cluster, fresh, millis, unreliable};
use crate::invariants::Checked;

/// A client that proposes wherever it is accepted, and looks whether its command lands where it was
/// promised.
struct Client {
    waits: Option<(String, u64, Instant)>,
    pauses_until: Instant,
    /// Commands that it saw committed.
    seen: Vec<String>,
}

impl Client {
    fn act(&mut self, cluster: &mut RaftCluster) {
        let now = cluster.now();
        if let Some((command, position, until)) = self.waits.take() {
            match cluster.command(position) {
                Some(there) if there == command.as_bytes() => self.seen.push(command),
                None if now < until => self.waits = Some((command, position, until)),
                Some(_) | None => self.pauses_until = now + millis(cluster, 40),
            }
        } else if self.pauses_until <= now {
            let command = fresh(cluster);
            let nodes = cluster.node_ids();
            let started = nodes.into_iter().filter_map(|node| cluster.start(node, &command)).last();
            match started {
                Some((position, _)) => {
                    let patience = [10, 20, 50, 100, 200][cluster.random().below(5) as usize];
                    let until = now + Duration::from_millis(patience);
                    self.waits = Some((command, position, until));
                }
                None => self.pauses_until = now + Duration::from_millis(79) + millis(cluster, 100),
            }
        }
    }
}

fn churn(mut cluster: RaftCluster) -> Checked {
    let idle = |_| Client { waits: None, pauses_until: Instant(0), seen: Vec::new() };
    let mut clients: Vec<Client> = (0..3).map(idle).collect();
    let nodes = cluster.node_ids();
    for _ in 0..20 {
        let at = |cluster: &mut RaftCluster| nodes[cluster.random().below(5) as usize];
        if cluster.random().chance(200) {
            let node = at(&mut cluster);
            cluster.disconnect(node);
        }
        if cluster.random().chance(500) {
            let node = at(&mut cluster);
            if !cluster.is_running(node) {
                cluster.restart(node);
            }
            cluster.connect(node);
        }
        if cluster.random().chance(200) {
            let node = at(&mut cluster);
            cluster.crash(node);
        }
        let end = cluster.now() + Duration::from_millis(700);
        while cluster.now() < end {
            clients.iter_mut().for_each(|client| client.act(&mut cluster));
            cluster.run(Duration::from_millis(1))?;
        }
    }
    cluster.run(Duration::from_secs(1))?;
    cluster.network().set_quality(Quality::good());
    for &node in &nodes {
        if !cluster.is_running(node) {
            cluster.restart(node);
        }
        cluster.connect(node);
    }
    let last = fresh(&mut cluster);
    let last = cluster.agree(&last, 5, true)?;
    let log: BTreeSet<_> = (1..=last).filter_map(|position| cluster.command(position)).collect();
    let mut seen = 0;
    for command in clients.into_iter().flat_map(|client| client.seen) {
        demand!(log.contains(command.as_bytes()), "{command} was committed and is gone");
        seen += 1;
    }
    demand!(seen > 0, "nothing was committed at all");
    Ok(())
}

pub(super) fn reliable_churn(seed: u64) -> Checked {
    churn(cluster(5, seed))
}

pub(super) fn unreliable_churn(seed: u64) -> Checked {
    churn(unreliable(5, seed))
}
