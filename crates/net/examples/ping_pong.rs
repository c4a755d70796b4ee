//! Measures two peer transports of one process over loopback: the time of a round trip of small
//! frames at several depths, and the CPU time per frame.
//!
//! `cargo run --release -p kontiki-net --example ping_pong [-- WORKER_THREADS]`

use std::error::Error;
use std::net::TcpListener;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kontiki_net::{ClusterId, Limits, Local, PeerConfig, PeerEvent, PeerTransport, Security};
use kontiki_types::{Incarnation, NodeId};

/// Size of a frame in bytes.
const FRAME: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let workers = std::env::args().nth(1).map_or(Ok(2), |arg| arg.parse())?;
    let (frames, received) = channel();
    let nodes = [NodeId(1), NodeId(2)];
    // Two runtimes, as two processes would have.
    let runtimes = [runtime(workers)?, runtime(workers)?];
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let addresses = [listeners[0].local_addr()?, listeners[1].local_addr()?];
    let (connected, ready) = channel();
    let echo: Arc<OnceLock<PeerTransport>> = Arc::default();
    let first = transport(nodes[0], &runtimes[0], connected.clone(), move |_, frame| {
        let _ = frames.send(frame);
    })?;
    let answering = Arc::clone(&echo);
    let second = transport(nodes[1], &runtimes[1], connected, move |from, frame| {
        if let Some(transport) = answering.get() {
            let _ = transport.send(from, frame);
        }
    })?;
    let _ = echo.set(second.clone());
    for ((transport, runtime), listener) in
        [&first, &second].into_iter().zip(&runtimes).zip(listeners)
    {
        let peers = transport.clone();
        runtime.spawn(async move {
            let (security, limits) = (Security::default(), Limits::default());
            kontiki_net::serve_peers(listener, &peers, &security, &limits, std::future::pending())
                .await
        });
    }
    first.set_peer(nodes[1], Incarnation(2), &addresses[1].to_string());
    second.set_peer(nodes[0], Incarnation(1), &addresses[0].to_string());
    ready.recv()?;
    ready.recv()?;

    println!("{:>6} {:>12} {:>12} {:>14}", "depth", "us/round", "frames/s", "cpu us/frame");
    for depth in [1, 8, 64, 512] {
        let payload = Bytes::from(vec![7; FRAME]);
        let (mut rounds, start, cpu) = (0u32, Instant::now(), cpu_time()?);
        for _ in 0..depth {
            first.send(nodes[1], payload.clone())?;
        }
        while start.elapsed() < Duration::from_secs(2) {
            let frame = received.recv()?;
            rounds += 1;
            first.send(nodes[1], frame)?;
        }
        for _ in 0..depth {
            received.recv()?;
        }
        let (took, cpu) = (start.elapsed().as_secs_f64(), (cpu_time()? - cpu).as_secs_f64());
        let rounds = f64::from(rounds);
        println!(
            "{depth:>6} {:>12.1} {:>12.0} {:>14.2}",
            took * 1e6 / rounds * f64::from(depth),
            2.0 * rounds / took,
            cpu * 1e6 / (2.0 * rounds)
        );
    }
    Ok(())
}

fn runtime(workers: usize) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()
}

fn transport(
    node: NodeId,
    runtime: &tokio::runtime::Runtime,
    connected: Sender<()>,
    on_frame: impl Fn(NodeId, Bytes) + Send + Sync + 'static,
) -> Result<PeerTransport, Box<dyn Error>> {
    let local = Local { cluster: ClusterId(1), node, incarnation: Incarnation(node.0) };
    let on_event = move |event| {
        if matches!(event, PeerEvent::Connected(_)) {
            let _ = connected.send(());
        }
    };
    let handle = runtime.handle().clone();
    let config = PeerConfig::default();
    Ok(PeerTransport::new(local, &Security::default(), config, handle, on_frame, on_event)?)
}

/// User and system time of this process, in steps of 10 ms.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse().unwrap_or(0)).sum();
    Ok(Duration::from_millis(ticks * 10))
}
