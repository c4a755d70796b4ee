//! A load of everything that must not be lost or doubled by a move: `INCR`, `APPEND`, `SET` with a time
//! to live, and transactions. Half of its clients are plain ones at any node, the other half follow
//! the map of slots.

use anyhow::{Context as _, Result, ensure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::shards::slots_of;
use crate::acceptance::client::{Client, Reply};
use crate::acceptance::cluster_client::ClusterClient;

/// Beside those of the common load; together 32.
pub const CLIENTS: usize = 16;

/// An append rewrites the value, so a text goes on under another key after so many turns.
const TURNS_PER_KEY: u64 = 200;

/// The clients, each with a hash tag of its own.
pub struct Mixed {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<Done>>>,
}

/// What a client has done.
pub struct Done {
    tag: String,
    turns: u64,
    /// How often it was sent elsewhere, and told to try again.
    pub moved: u64,
    pub told_to_wait: u64,
}

/// How a client goes about it.
enum Way {
    Plain(Client),
    ByMap(ClusterClient),
}

impl Way {
    fn call(&mut self, words: &[&str]) -> Result<Reply> {
        match self {
            Way::Plain(client) => Ok(client.call(words)?),
            Way::ByMap(client) => client.call(words),
        }
    }

    fn transaction(&mut self, commands: &[&[&str]]) -> Result<Reply> {
        match self {
            Way::Plain(client) => {
                ensure!(client.call(&["MULTI"])?.is_ok(), "MULTI");
                for command in commands {
                    let reply = client.call(command)?;
                    ensure!(reply == Reply::Status("QUEUED".into()), "queued: {reply:?}");
                }
                Ok(client.call(&["EXEC"])?)
            }
            Way::ByMap(client) => client.transaction(commands),
        }
    }
}

impl Mixed {
    /// Starts the clients; each keeps to one of `tags`.
    pub fn start(nodes: &[SocketAddr], tags: &[String]) -> Mixed {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).map(|client| {
            let (address, tag) = (nodes[client % nodes.len()], tags[client].clone());
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let is_plain = client < CLIENTS / 2;
                let mut plain = Client::connect(address)?;
                let slots = slots_of(&mut plain, std::slice::from_ref(&tag))?;
                let slot = *slots.first().context("a slot")?;
                let mut way = match is_plain {
                    true => Way::Plain(plain),
                    false => Way::ByMap(ClusterClient::connect(address, slot)?),
                };
                let mut turns = 0;
                while !stop.load(Ordering::Relaxed) {
                    turn(&mut way, &tag, turns + 1).with_context(|| {
                        let kind = if is_plain { "plain" } else { "cluster" };
                        format!("{kind} client {client}, turn {}", turns + 1)
                    })?;
                    turns += 1;
                }
                let (moved, told_to_wait) = match way {
                    Way::Plain(_) => (0, 0),
                    Way::ByMap(client) => (client.moved, client.told_to_wait),
                };
                Ok(Done { tag, turns, moved, told_to_wait })
            })
        });
        let clients = clients.collect();
        Mixed { stop, clients }
    }

    /// What each has done; the first error that one has heard.
    pub fn stop(self) -> Result<Vec<Done>> {
        self.stop.store(true, Ordering::Relaxed);
        let join = |client: JoinHandle<Result<Done>>| {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?
        };
        self.clients.into_iter().map(join).collect()
    }
}

fn text_key(tag: &str, turn: u64) -> String {
    format!("t:{tag}:{}", turn / TURNS_PER_KEY)
}

/// Counts, appends, both in one transaction, and sets a key that expires later.
fn turn(client: &mut Way, tag: &str, turn: u64) -> Result<()> {
    let (alone, text) = (format!("i:{tag}"), text_key(tag, turn));
    let (count, bits, brief) = (format!("n:{tag}"), format!("s:{tag}"), format!("b:{tag}"));
    let number = turn.to_string();
    let reply = client.call(&["INCR", &alone])?;
    ensure!(reply == Reply::Integer(turn as i64), "INCR answered {reply:?}");
    let reply = client.call(&["APPEND", &text, &format!("{number} ")])?;
    ensure!(matches!(reply, Reply::Integer(1..)), "APPEND answered {reply:?}");
    let commands: &[&[&str]] = &[&["INCR", &count], &["SETBIT", &bits, &number, "1"]];
    let replies = client.transaction(commands)?;
    let expected = Reply::Array(vec![Reply::Integer(turn as i64), Reply::Integer(0)]);
    ensure!(replies == expected, "EXEC answered {replies:?}");
    let reply = client.call(&["SET", &brief, &number, "PX", "600000"])?;
    ensure!(reply.is_ok(), "SET PX answered {reply:?}");
    let reply = client.call(&["GET", &brief])?;
    ensure!(reply == Reply::Bulk(number.into_bytes()), "GET answered {reply:?}");
    Ok(())
}

/// Compares what is in the store with what was done; the turns of all clients.
pub fn verify(client: &mut Client, mixed: &[Done]) -> Result<u64> {
    for Done { tag, turns, .. } in mixed {
        for counter in ["i", "n"] {
            let count = client.call(&["GET", &format!("{counter}:{tag}")])?;
            let expected = Reply::Bulk(turns.to_string().into_bytes());
            ensure!(count == expected, "{counter}:{tag} is {count:?} after {turns} turns");
        }
        for first in (0..=*turns).step_by(TURNS_PER_KEY as usize) {
            let numbers = first.max(1)..(first + TURNS_PER_KEY).min(turns + 1);
            let expected: String = numbers.map(|number| format!("{number} ")).collect();
            let text = client.call(&["GET", &text_key(tag, first)])?;
            let is_right = match &text {
                Reply::Bulk(bytes) => *bytes == expected.as_bytes(),
                Reply::Nil => expected.is_empty(),
                _ => false,
            };
            ensure!(is_right, "{}: {text:?} instead of {expected}", text_key(tag, first));
        }
        let bits = client.call(&["BITCOUNT", &format!("s:{tag}")])?;
        ensure!(bits == Reply::Integer(*turns as i64), "{tag}: {bits:?} bits of {turns}");
        let left = client.call(&["PTTL", &format!("b:{tag}")])?;
        ensure!(matches!(left, Reply::Integer(1..=600_000)), "{tag}: {left:?} ms to live");
    }
    Ok(mixed.iter().map(|one| one.turns).sum())
}
