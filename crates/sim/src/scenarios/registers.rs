//! Clients that read and write a few keys, and the history of each key, to be judged as a register.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::history::{History, Operation, Outcome, Request};
use crate::invariants::{Checked, Violation};
use crate::linearizability::{Budget, Verdict, check};
use crate::store_cluster::{Call, ClientId, Ended, StoreCluster};

const KEYS: u64 = 3;

/// The clients and what they have seen.
pub struct Registers {
    clients: Vec<ClientId>,
    asks: BTreeMap<ClientId, Vec<String>>,
    history: History,
    next_value: u64,
}

impl Registers {
    /// `count` clients, spread over the nodes that run.
    pub fn new(cluster: &mut StoreCluster, count: usize) -> Self {
        let nodes = cluster.running();
        let clients = (0..count).map(|at| cluster.client(nodes[at % nodes.len()])).collect();
        Self { clients, asks: BTreeMap::new(), history: History::default(), next_value: 1 }
    }

    /// Operations so far.
    pub fn operations(&self) -> usize {
        self.history.operations.len()
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
        let key = format!("key:{}", cluster.random().below(KEYS));
        let words = if cluster.random().chance(500) {
            let value = self.next_value;
            self.next_value += 1;
            vec!["SET".to_owned(), key, value.to_string()]
        } else {
            vec!["GET".to_owned(), key]
        };
        let call = Call::new(&words.iter().map(String::as_str).collect::<Vec<_>>());
        if cluster.call(client, &call) {
            self.asks.insert(client, words);
        } else {
            let running = cluster.running();
            if let Some(&node) = cluster.random().pick(&running) {
                cluster.turn_to(client, node);
            }
        }
    }

    fn hear(&mut self, cluster: &mut StoreCluster) {
        for ended in cluster.take_ended() {
            let Some(words) = self.asks.remove(&ended.client) else { continue };
            self.history.push(operation(&words, &ended));
        }
    }

    /// Waits for what is under way, for at most `time`, and judges every key.
    ///
    /// # Errors
    /// A key's history is not linearizable, or no verdict was found.
    pub fn judge(&mut self, cluster: &mut StoreCluster, time: Duration) -> Checked {
        let end = cluster.now() + time;
        while !self.asks.is_empty() && cluster.now() < end {
            cluster.run(SLICE)?;
            self.hear(cluster);
        }
        if !self.asks.is_empty() {
            let seen = format!("{} calls have no end", self.asks.len());
            return Err(Violation::new("Calls end", seen));
        }
        match check(&self.history, &Budget::default()) {
            Verdict::Linearizable(_) => Ok(()),
            Verdict::Violation(violation) => {
                Err(Violation::new("Linearizability", violation.to_string()))
            }
            Verdict::NoVerdict(no_verdict) => {
                Err(Violation::new("A verdict on linearizability", no_verdict.to_string()))
            }
        }
    }
}

fn operation(words: &[String], ended: &Ended) -> Operation {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    Operation {
        client: ended.client.0,
        request: Request::command(&words),
        call: ended.asked.0 * NANOS,
        outcome: Outcome::of(ended.reply().cloned(), ended.at.0 * NANOS),
    }
}

const SLICE: Duration = Duration::from_millis(1);
/// In a unit of virtual time.
const NANOS: u64 = 1000;
