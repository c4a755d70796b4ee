//! Clients that read and write a few keys, and the history of each key, to be judged as a register.

use std::collections::BTreeMap;
use std::time::Duration;

use kontiki_resp::Reply;

use crate::invariants::{Checked, Violation};
use crate::linearizability::{Action, Operation, check_register};
use crate::store_cluster::{Call, ClientId, Ended, StoreCluster};

const KEYS: u64 = 3;

/// A key's value: none, or the number that was written.
type Value = Option<u64>;

/// The clients and what they have seen.
pub struct Registers {
    clients: Vec<ClientId>,
    asks: BTreeMap<ClientId, (u64, Action<Value>)>,
    histories: BTreeMap<u64, Vec<Operation<Value>>>,
    next_value: u64,
}

impl Registers {
    /// `count` clients, spread over the nodes that run.
    pub fn new(cluster: &mut StoreCluster, count: usize) -> Self {
        let nodes = cluster.running();
        let clients = (0..count).map(|at| cluster.client(nodes[at % nodes.len()])).collect();
        Self { clients, asks: BTreeMap::new(), histories: BTreeMap::new(), next_value: 1 }
    }

    /// Operations that say something, so far.
    pub fn operations(&self) -> usize {
        self.histories.values().map(Vec::len).sum()
    }

    /// The clients read and write for `time`, with a pause after each call.
    ///
    /// # Errors
    /// The cluster violated a property.
    pub fn run(&mut self, cluster: &mut StoreCluster, time: Duration) -> Checked {
        let end = cluster.now() + time;
        while cluster.now() < end {
            for at in 0..self.clients.len() {
                let client = self.clients[at];
                if !self.asks.contains_key(&client) && cluster.random().chance(100) {
                    self.send(cluster, client);
                }
            }
            cluster.run(SLICE)?;
            self.hear(cluster);
        }
        Ok(())
    }

    fn send(&mut self, cluster: &mut StoreCluster, client: ClientId) {
        let key = cluster.random().below(KEYS);
        let (action, call) = if cluster.random().chance(500) {
            let value = self.next_value;
            self.next_value += 1;
            let call = Call::new(&["SET", &name(key), &value.to_string()]);
            (Action::Write(Some(value)), call)
        } else {
            (Action::Read(None), Call::new(&["GET", &name(key)]))
        };
        if cluster.call(client, &call) {
            self.asks.insert(client, (key, action));
        } else {
            let running = cluster.running();
            if let Some(&node) = cluster.random().pick(&running) {
                cluster.turn_to(client, node);
            }
        }
    }

    fn hear(&mut self, cluster: &mut StoreCluster) {
        for ended in cluster.take_ended() {
            let Some((key, action)) = self.asks.remove(&ended.client) else { continue };
            if let Some(operation) = operation(action, &ended) {
                self.histories.entry(key).or_default().push(operation);
            }
        }
    }

    /// Waits for what is under way, for at most `time`, and judges every key.
    ///
    /// # Errors
    /// A key's history is not linearizable.
    pub fn judge(&mut self, cluster: &mut StoreCluster, time: Duration) -> Checked {
        let end = cluster.now() + time;
        while !self.asks.is_empty() && cluster.now() < end {
            cluster.run(SLICE)?;
            self.hear(cluster);
        }
        for (key, history) in &self.histories {
            check_register(None, history).map_err(|error| {
                let stuck: Vec<_> = error.stuck.iter().map(|&at| &history[at]).collect();
                let seen = format!(
                    "{} has {} operations, of which {} have an order; then come {stuck:?}",
                    name(*key),
                    error.answered,
                    error.ordered
                );
                Violation::new("Linearizability", seen)
            })?;
        }
        Ok(())
    }
}

/// What an ended call says, if anything.
fn operation(action: Action<Value>, ended: &Ended) -> Option<Operation<Value>> {
    let (action, answered) = match (action, ended.reply()) {
        (write @ Action::Write(_), _) if ended.is_unknown() => (write, None),
        (_, None | Some(Reply::Error(_))) => return None,
        (write @ Action::Write(_), Some(_)) => (write, Some(ended.at)),
        (Action::Read(_), Some(Reply::Bulk(value))) => {
            let value = String::from_utf8_lossy(value).parse().ok();
            (Action::Read(value), Some(ended.at))
        }
        (Action::Read(_), Some(_)) => (Action::Read(None), Some(ended.at)),
    };
    Some(Operation { action, asked: ended.asked, answered })
}

fn name(key: u64) -> String {
    format!("key:{key}")
}

const SLICE: Duration = Duration::from_millis(1);
