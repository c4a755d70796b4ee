//! Item 2: much is written, all nodes are killed with -9 and started again; how long until the first
//! linearizable read is answered. With what the page cache has, and with that dropped; and the same of
//! etcd and Redis, where they are installed.

use anyhow::{Context as _, Result, anyhow, ensure};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::restart_others::{Etcd, Redis};
use crate::acceptance::client::{Client, Reply};
use crate::acceptance::cluster::{Cluster, free_base_port, fresh_log, up_arguments};
use crate::acceptance::{Context, Figures, fill_with_noise, wait};
use crate::program::{Group, Program, is_installed};

const CLIENTS: u64 = 8;
/// Writes that a client sends at once.
const BATCH: u64 = 64;
/// What the issue asks for.
const FIRST_READ_MAX: Duration = Duration::from_millis(1500);
/// A start that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// What is written.
#[derive(Clone, Copy)]
pub(super) struct Data {
    pub(super) keys: u64,
    pub(super) value_bytes: usize,
}

impl Data {
    fn bytes(self) -> u64 {
        self.keys * self.value_bytes as u64
    }
}

/// Servers that are killed and started again, on the data that they have.
pub(super) trait Servers {
    /// Starts them, without waiting for anything.
    fn start(&mut self) -> Result<()>;
    /// Kills them with -9 and waits until they are gone.
    fn kill(&mut self) -> Result<()>;
    /// Where clients ask.
    fn addresses(&self) -> Vec<SocketAddr>;
    /// How a client reads a key, linearizably. None: not answered yet.
    fn reader(&self) -> Reader;
}

pub(super) type Reader = fn(SocketAddr, &str) -> Option<Vec<u8>>;

pub(super) fn run(context: &Context) -> Result<Figures> {
    let mut figures = Figures::new();
    let large = Data { keys: context.amount(1 << 20, 50_000), value_bytes: 1024 };
    let small = Data { keys: 8 << 20, value_bytes: 128 };
    let data = context.amount(vec![large, small], vec![large]);
    let mut slowest = Duration::ZERO;
    for data in data {
        let name = format!("kontiki_{}", data.value_bytes);
        let mut nodes = Nodes::first(context)?;
        fill(&nodes.addresses(), data)?;
        slowest = slowest.max(measure(context, &name, &mut nodes, data, &mut figures)?);
        nodes.verify(data)?;
        nodes.remove(context)?;
    }
    if is_installed("redis-server") {
        let mut redis = Redis::new(context)?;
        redis.start()?;
        await_read(&redis, "nothing-yet", None)?;
        fill(&redis.addresses(), large)?;
        measure(context, "redis_1024", &mut redis, large, &mut figures)?;
    }
    if is_installed("etcd") {
        let mut etcd = Etcd::new(context)?;
        etcd.start()?;
        etcd.fill(large)?;
        measure(context, "etcd_1024", &mut etcd, large, &mut figures)?;
    }
    let bound = context.amount(FIRST_READ_MAX, PATIENCE);
    ensure!(slowest <= bound, "a start took {slowest:?} until the first read, bound {bound:?}");
    Ok(figures)
}

/// Kills and starts the servers again and again; the slowest start.
fn measure(
    context: &Context,
    name: &str,
    servers: &mut dyn Servers,
    data: Data,
    figures: &mut Figures,
) -> Result<Duration> {
    let key = key(data.keys - 1);
    let expected = value(data.keys - 1, data.value_bytes);
    let mut slowest = Duration::ZERO;
    figures.insert(format!("{name}_payload_bytes"), data.bytes().into());
    for cached in [true, false] {
        if !cached && std::fs::write(DROP_CACHES, "1").is_err() {
            println!("the page cache cannot be dropped here");
            continue;
        }
        let mut took = Vec::new();
        for _ in 0..context.amount(5, 1) {
            servers.kill()?;
            if !cached {
                drop_page_cache()?;
            }
            let begun = Instant::now();
            servers.start()?;
            await_read(servers, &key, Some(&expected))?;
            took.push(begun.elapsed());
        }
        slowest = slowest.max(took.iter().copied().max().unwrap_or_default());
        let millis: Vec<u64> = took.iter().map(|took| took.as_millis() as u64).collect();
        let cache = if cached { "cached" } else { "uncached" };
        println!("{name}, {cache}: first read after {millis:?} ms");
        figures.insert(format!("{name}_{cache}_first_read_ms"), millis.into());
    }
    Ok(slowest)
}

/// Pages that were not written back stay, so they are written back first.
fn drop_page_cache() -> Result<()> {
    ensure!(Program::new("sync").passes()?, "sync failed");
    std::fs::write(DROP_CACHES, "3").context(DROP_CACHES)
}

/// Waits for the first answer, from whichever server it comes; `expected`: what it has to be.
pub(super) fn await_read(servers: &dyn Servers, key: &str, expected: Option<&[u8]>) -> Result<()> {
    let stop = Arc::<AtomicBool>::default();
    let (answers, answered) = channel();
    for address in servers.addresses() {
        let (read, key, stop) = (servers.reader(), key.to_owned(), Arc::clone(&stop));
        let answers = answers.clone();
        std::thread::spawn(move || {
            let first = wait::until("a first read", PATIENCE, || {
                Ok(if stop.load(Ordering::Relaxed) {
                    Some(None)
                } else {
                    read(address, &key).map(Some)
                })
            });
            if let Ok(Some(value)) = first {
                let _ = answers.send(value);
            }
        });
    }
    drop(answers);
    let answer = answered.recv_timeout(PATIENCE);
    stop.store(true, Ordering::Relaxed);
    let answer = answer.map_err(|_| anyhow!("no read was answered within {PATIENCE:?}"))?;
    if let Some(expected) = expected {
        ensure!(answer == expected, "the first read of {key} is not what was written");
    }
    Ok(())
}

pub(super) fn key(number: u64) -> String {
    format!("key-{number:010}")
}

pub(super) fn value(number: u64, length: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(length + 7);
    fill_with_noise(&mut value, length, number);
    value.truncate(length);
    value
}

/// Writes all keys, each once, through all of these addresses.
pub(super) fn fill(addresses: &[SocketAddr], data: Data) -> Result<()> {
    let begun = Instant::now();
    let writers: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let address = addresses[client as usize % addresses.len()];
            std::thread::spawn(move || fill_part(address, data, client))
        })
        .collect();
    for writer in writers {
        writer.join().map_err(|_| anyhow!("a writer panicked"))??;
    }
    println!("{} MB written in {:.1} s", data.bytes() >> 20, begun.elapsed().as_secs_f64());
    Ok(())
}

fn fill_part(address: SocketAddr, data: Data, client: u64) -> Result<()> {
    let mut connection = Client::connect(address)?;
    let own: Vec<u64> = (client..data.keys).step_by(CLIENTS as usize).collect();
    for batch in own.chunks(BATCH as usize) {
        for &number in batch {
            let (key, value) = (key(number), value(number, data.value_bytes));
            connection.add(&[b"SET", key.as_bytes(), &value]);
        }
        connection.send()?;
        for number in batch {
            let reply = connection.reply()?;
            ensure!(reply.is_ok(), "SET of key {number} answered {reply:?}");
        }
    }
    Ok(())
}

/// A `GET` on a connection of its own: none while the server does not answer with a value.
pub(super) fn ask(address: SocketAddr, key: &str) -> Option<Vec<u8>> {
    let mut client = Client::connect(address).ok()?;
    match client.call(&["GET", key]).ok()? {
        Reply::Bulk(value) => Some(value),
        Reply::Nil => Some(Vec::new()),
        _ => None,
    }
}

/// Three nodes of Kontiki, as `up` makes them.
struct Nodes<'a> {
    context: &'a Context,
    base: u16,
    up: Option<(Group, PathBuf)>,
    cluster: Option<Cluster>,
}

impl<'a> Nodes<'a> {
    fn first(context: &'a Context) -> Result<Nodes<'a>> {
        let base = free_base_port()?;
        let cluster = Some(Cluster::start_as_it_is(context, base)?);
        Ok(Nodes { context, base, up: None, cluster })
    }

    /// The cluster of the start that is under way, once it is ready.
    fn cluster(&mut self) -> Result<&mut Cluster> {
        if let Some((up, log)) = self.up.take() {
            self.cluster = Some(Cluster::await_ready(self.context, up, &log)?);
        }
        self.cluster.as_mut().context("a cluster that runs")
    }

    /// What was acknowledged is there; looked at in samples.
    fn verify(&mut self, data: Data) -> Result<()> {
        let mut client = self.cluster()?.client(1)?;
        for number in (0..data.keys).step_by((data.keys / 1000).max(1) as usize) {
            let reply = client.call(&["GET", &key(number)])?;
            ensure!(
                reply == Reply::Bulk(value(number, data.value_bytes)),
                "key {number} is not what was written"
            );
        }
        Ok(())
    }

    fn remove(mut self, context: &Context) -> Result<()> {
        self.cluster()?;
        if let Some(cluster) = self.cluster.take() {
            cluster.kill_all()?;
        }
        remove(&context.scratch.join("data"))
    }
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_dir_all(path).with_context(|| path.display().to_string())
}

impl Servers for Nodes<'_> {
    fn start(&mut self) -> Result<()> {
        let log = fresh_log(self.context)?;
        let program =
            Program::new(&self.context.binary).args(up_arguments(self.context, self.base));
        let up = program.spawn_logged(&log)?;
        self.up = Some((up, log));
        Ok(())
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        (1..=3).map(|node| SocketAddr::from(([127, 0, 0, 1], self.base + node))).collect()
    }

    fn reader(&self) -> Reader {
        ask
    }

    fn kill(&mut self) -> Result<()> {
        self.cluster()?.kill_where_it_is()
    }
}
