//! Proxies between nodes and before clients, in which the ways can be cut.
//!
//! A cut way either *holds* what is sent, as a network does that loses packets while TCP repeats
//! them: when it heals, everything arrives late. Or it *breaks*: connections are closed, and new ones
//! too.
//!
//! Who connects is found out by the process that owns the other end, since all nodes share one
//! address to connect from.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Who sends: a node, or 0 for clients.
pub(super) type Source = u64;
/// Clients, as a source.
pub(super) const CLIENTS: Source = 0;

/// What becomes of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Open,
    Held,
    Broken,
}

/// Who connects to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callers {
    Clients,
    Nodes,
}

/// All ways, from a source to a node.
#[derive(Clone)]
pub(super) struct Ways {
    ways: Arc<BTreeMap<(Source, u64), watch::Sender<Way>>>,
    /// The nodes' processes.
    pids: Arc<Mutex<BTreeMap<u64, u32>>>,
}

impl Ways {
    pub(super) fn new(nodes: u64) -> Self {
        let pairs = (CLIENTS..=nodes).flat_map(|from| (1..=nodes).map(move |to| (from, to)));
        let ways = pairs.map(|pair| (pair, watch::Sender::new(Way::Open))).collect();
        Self { ways: Arc::new(ways), pids: Arc::default() }
    }

    fn pids(&self) -> MutexGuard<'_, BTreeMap<u64, u32>> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells which processes the nodes are.
    pub(super) fn know(&self, pids: BTreeMap<u64, u32>) {
        *self.pids() = pids;
    }

    /// Lets each way be what `way` says.
    pub(super) fn set(&self, way: impl Fn(Source, u64) -> Way) {
        for (&(from, to), sender) in self.ways.iter() {
            let way = way(from, to);
            sender.send_if_modified(|before| std::mem::replace(before, way) != way);
        }
    }

    /// Serves a way to `node` until the runtime ends.
    pub(super) async fn serve(
        &self,
        node: u64,
        callers: Callers,
        (listen, to): (SocketAddr, SocketAddr),
    ) -> Result<()> {
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        let ways = self.clone();
        tokio::spawn(async move {
            loop {
                // Out of files, say: the next attempt may do better.
                let Ok((stream, from)) = listener.accept().await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let ways = ways.clone();
                tokio::spawn(async move {
                    let source = match callers {
                        Callers::Clients => Some(CLIENTS),
                        // A caller that is nobody has ended meanwhile, and is dropped.
                        Callers::Nodes => ways.source(from),
                    };
                    if let Some(way) = source.and_then(|source| ways.ways.get(&(source, node))) {
                        // A connection that breaks is what the proxy is for.
                        let _ = join(stream, to, way.subscribe()).await;
                    }
                });
            }
        });
        Ok(())
    }

    /// The node whose end of a connection has this address.
    fn source(&self, end: SocketAddr) -> Option<Source> {
        let socket = format!("socket:[{}]", inode_of(end)?);
        let pids = self.pids().clone();
        let owns = |pid: u32| {
            let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            files.filter_map(|file| fs::read_link(file.path()).ok()).any(|to| *to == *socket)
        };
        pids.into_iter().find(|&(_, pid)| owns(pid)).map(|(node, _)| node)
    }
}

/// The inode of the socket with this local address, as the kernel lists it.
fn inode_of(end: SocketAddr) -> Option<u64> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let port = format!(":{:04X}", end.port());
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1)?.ends_with(&port)).then(|| fields.get(9)?.parse().ok())?
    })
}

async fn join(
    stream: TcpStream,
    to: SocketAddr,
    mut way: watch::Receiver<Way>,
) -> std::io::Result<()> {
    if !until_open(&mut way).await {
        return Ok(());
    }
    let onward = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    onward.set_nodelay(true)?;
    let (stream_in, stream_out) = stream.into_split();
    let (onward_in, onward_out) = onward.into_split();
    // When one direction ends, so does the other.
    tokio::select! {
        ended = copy(stream_in, onward_out, way.clone()) => ended,
        ended = copy(onward_in, stream_out, way) => ended,
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read?,
            broken = way.wait_for(|way| *way == Way::Broken) => {
                drop(broken);
                return Ok(());
            }
        };
        if read == 0 || !until_open(&mut way).await {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}

/// Waits while the way is held; `false` if it is broken.
async fn until_open(way: &mut watch::Receiver<Way>) -> bool {
    matches!(way.wait_for(|way| *way != Way::Held).await.as_deref(), Ok(Way::Open))
}
