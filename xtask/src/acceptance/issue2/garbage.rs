//! Item 10: what strangers send. Random and mutated byte strings, connections that say half a
//! command and nothing more, and a client that asks for much and never reads: all others are
//! served, and memory stays bounded.

mod noise;

use anyhow::{Context as _, Result, ensure};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::acceptance::client::{Client, encode};
use crate::acceptance::cluster::{Cluster, Node};
use crate::acceptance::{Context, Figures, wait};
use noise::Noise;

/// The longest that a well-behaved client may wait meanwhile.
const LATENCY_MAX: Duration = Duration::from_secs(2);
/// What a node may grow by.
const GROWTH_MAX: u64 = 512 << 20;
const HALF_OPEN: usize = 100;
/// What the client that never reads asks for, again and again.
const VALUE_BYTES: usize = 1 << 20;
const REQUESTS: usize = 2_000;

pub(super) fn run(context: &Context) -> Result<Figures> {
    let cluster = Cluster::start(context)?;
    let before = memory(&cluster)?;
    let witness = Witness::start(cluster.nodes().iter().map(|node| node.resp).collect());

    let mut open = Vec::new();
    for node in cluster.nodes() {
        open.extend(half_open(node)?);
    }
    let silent = never_reads(cluster.nodes()[0].resp)?;
    let strings = context.amount(10_000, 1_000);
    let mut highest = before;
    for (place, node) in cluster.nodes().iter().enumerate() {
        let share = strings / 3 + usize::from(place < strings % 3);
        send_noise(node.resp, share, Noise::resp(place as u64 + 1))?;
        send_noise(node.grpc, share, Noise::grpc(place as u64 + 11))?;
        highest = highest.max(memory(&cluster)?);
    }
    let (calls, slowest) = witness.stop()?;
    highest = highest.max(memory(&cluster)?);
    drop((open, silent));

    let reply = cluster.client(0)?.call(&["SET", "after", "all"])?;
    ensure!(reply.is_ok(), "afterwards, SET answered {reply:?}");
    cluster.await_whole(0).context("after the garbage")?;
    cluster.stop()?;

    let figures = Figures::from_iter([
        ("strings_to_each_protocol".to_string(), strings.into()),
        ("calls_of_others".to_string(), calls.into()),
        ("slowest_call_of_others_ms".to_string(), (slowest.as_millis() as u64).into()),
        ("memory_before_mib".to_string(), (before >> 20).into()),
        ("memory_highest_mib".to_string(), (highest >> 20).into()),
    ]);
    ensure!(slowest < LATENCY_MAX, "another client waited {slowest:?}");
    ensure!(highest < before + GROWTH_MAX, "a node grew beyond bounds: {figures:?}");
    Ok(figures)
}

/// The largest resident size among the nodes.
fn memory(cluster: &Cluster) -> Result<u64> {
    let sizes = cluster.nodes().iter().map(Node::memory).collect::<Result<Vec<u64>>>()?;
    sizes.into_iter().max().context("there are nodes")
}

/// Connections to both ports that begin to speak and stop.
fn half_open(node: &Node) -> Result<Vec<TcpStream>> {
    let mut open = Vec::new();
    for _ in 0..HALF_OPEN {
        let mut resp = TcpStream::connect(node.resp)?;
        resp.write_all(b"*3\r\n$3\r\nSET\r\n$1000000\r\nbegun")?;
        let mut grpc = TcpStream::connect(node.grpc)?;
        grpc.write_all(b"PRI * HTTP/2.0\r\n\r\nSM")?;
        open.extend([resp, grpc]);
    }
    Ok(open)
}

/// A connection with 2 GB of replies under way that nobody reads.
fn never_reads(address: SocketAddr) -> Result<TcpStream> {
    let mut client = Client::connect(address)?;
    let value = "x".repeat(VALUE_BYTES);
    let reply = client.call(&["SET", "large", &value])?;
    ensure!(reply.is_ok(), "SET of {VALUE_BYTES} bytes answered {reply:?}");
    let mut requests = Vec::new();
    (0..REQUESTS).for_each(|_| encode(&[b"GET", b"large"], &mut requests));
    let mut stream = TcpStream::connect(address)?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    // The server may stop reading, or close: both are bounds.
    let _ = stream.write_all(&requests);
    Ok(stream)
}

/// Sends each string on a connection of its own.
fn send_noise(address: SocketAddr, strings: usize, mut noise: Noise) -> Result<()> {
    let mut answer = [0; 1024];
    for number in 0..strings {
        let mut stream = TcpStream::connect(address).context("the server no longer accepts")?;
        // A server that closes at the first wrong byte is right.
        let _ = stream.write_all(&noise.next());
        // Now and then, listen to what it has to say about it.
        if number % 100 == 0 {
            stream.set_read_timeout(Some(Duration::from_millis(20)))?;
            match stream.read(&mut answer) {
                Err(error) if is_expected(error.kind()) => {}
                read => drop(read?),
            }
        }
    }
    Ok(())
}

fn is_expected(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock
            | ErrorKind::TimedOut
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
    )
}

/// A client of all nodes that behaves well and measures how it is treated.
struct Witness {
    stop: Arc<AtomicBool>,
    work: JoinHandle<Result<(usize, Duration)>>,
}

impl Witness {
    fn start(addresses: Vec<SocketAddr>) -> Witness {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = std::thread::spawn(move || {
            let clients = addresses.into_iter().map(Client::connect);
            let mut clients = clients.collect::<std::io::Result<Vec<Client>>>()?;
            let (mut calls, mut slowest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                for client in &mut clients {
                    let asked = Instant::now();
                    let reply = client.call(&["INCR", "witness"])?;
                    ensure!(!reply.is_error(), "a well-behaved client heard {reply:?}");
                    slowest = slowest.max(asked.elapsed());
                    calls += 1;
                }
                wait::let_pass(Duration::from_millis(5));
            }
            Ok((calls, slowest))
        });
        Witness { stop, work }
    }

    fn stop(self) -> Result<(usize, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        self.work.join().map_err(|_| anyhow::anyhow!("the witness panicked"))?
    }
}
