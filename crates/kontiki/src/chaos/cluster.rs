//! The nodes' processes. Each node lies behind proxies: it is told to advertise an address of its
//! own on loopback (127.0.1.ID), on which a proxy listens at the ports at which the node itself
//! listens on 127.0.0.1. Peers and clients know no other way to it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kontiki_types::NodeId;
use rustix::process::{Pid, Signal, kill_process};

use crate::free_ports::FreePorts;

use super::proxy::Callers;

/// A node and its process, if one runs.
pub(super) struct Node {
    pub(super) id: u64,
    dir: PathBuf,
    log: PathBuf,
    resp: u16,
    grpc: u16,
    http: u16,
    child: Option<Child>,
}

/// All nodes. None of their processes outlives this value.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
}

impl Node {
    /// Where clients find the node: a proxy.
    pub(super) fn resp(&self) -> SocketAddr {
        front(self.id, self.resp)
    }

    /// The ways that proxies make: for whom, where each listens, and where it leads.
    pub(super) fn ways(&self) -> [(Callers, (SocketAddr, SocketAddr)); 2] {
        let way = |port| (front(self.id, port), SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        [(Callers::Clients, way(self.resp)), (Callers::Nodes, way(self.grpc))]
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    fn signal(&self, signal: Signal) {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself, which is found out elsewhere.
            let _ = kill_process(pid, signal);
        }
    }

    /// SIGSTOP.
    pub(super) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(super) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits until the process has ended. A process that takes too long is killed and
    /// reported.
    pub(super) fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::TERM);
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            match child.try_wait()? {
                // One that has only just started does not listen for signals yet.
                Some(status)
                    if status.success() || status.signal() == Some(Signal::TERM.as_raw()) =>
                {
                    return Ok(());
                }
                Some(status) => bail!("node {} ended with {status} when asked to", self.id),
                None if Instant::now() >= deadline => {
                    let _ = child.kill();
                    let _ = child.wait();
                    bail!("node {} did not end within {STOP_TIMEOUT:?}", self.id);
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Fails if the process has ended by itself, or cannot be asked.
    pub(super) fn check(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        if let Some(status) = child.try_wait()? {
            let signal = status.signal().map_or(String::new(), |signal| format!(" ({signal})"));
            bail!(
                "node {} ended by itself with {status}{signal}:\n{}",
                self.id,
                last_lines(&self.log)
            );
        }
        Ok(())
    }
}

impl Cluster {
    /// Formats directories in `dir` for `count` nodes.
    pub(super) fn format(dir: &Path, count: u64) -> Result<Self> {
        let mut free = FreePorts::default();
        let mut port = |id: u64| -> Result<u16> {
            let suits = |port| TcpListener::bind(front(id, port)).is_ok();
            free.choose(suits).context("cannot find a free port")
        };
        let mut nodes = Vec::new();
        for id in 1..=count {
            nodes.push(Node {
                id,
                dir: dir.join(format!("node-{id}")),
                log: dir.join(format!("node-{id}.log")),
                resp: port(id)?,
                grpc: port(id)?,
                http: port(id)?,
                child: None,
            });
        }
        drop(free);
        fs::create_dir_all(dir).with_context(|| format!("cannot use {}", dir.display()))?;
        let founders: Vec<_> =
            nodes.iter().map(|node| (NodeId(node.id), node.dir.as_path())).collect();
        kontiki_node::format_cluster(&founders, founders.len(), 1)?;
        Ok(Self { nodes })
    }

    pub(super) fn node(&mut self, id: u64) -> &mut Node {
        &mut self.nodes[(id - 1) as usize]
    }

    /// The processes of the nodes that run.
    pub(super) fn pids(&self) -> BTreeMap<u64, u32> {
        self.nodes.iter().filter_map(|node| Some((node.id, node.pid()?))).collect()
    }

    /// Starts a node that does not run. Its log goes to a file beside its directory.
    ///
    /// To be called by one thread that lives on: the kernel ends the process with that thread.
    pub(super) fn start(&mut self, id: u64) -> Result<()> {
        let peers: Vec<String> = self
            .nodes
            .iter()
            .filter(|peer| peer.id != id)
            .map(|peer| format!("{}={}", peer.id, front(peer.id, peer.grpc)))
            .collect();
        let node = self.node(id);
        if node.child.is_some() {
            return Ok(());
        }
        let binary = std::env::current_exe().context("cannot find this program's own file")?;
        let log = File::options().create(true).append(true).open(&node.log)?;
        let mut command = Command::new(binary);
        command
            .args(["node", "--id", &id.to_string()])
            .arg("--dir")
            .arg(&node.dir)
            .args(["--listen", &format!("127.0.0.1:{}", node.resp)])
            .args(["--listen-grpc", &format!("127.0.0.1:{}", node.grpc)])
            .args(["--listen-http", &format!("127.0.0.1:{}", node.http)])
            .args(["--advertise", &front(id, node.grpc).ip().to_string()])
            // So that followers that were away get snapshots too, and segments are used again.
            .args(["--memory", "32MiB", "--log-keep", "256KiB", "--log-cache", "16KiB"])
            .args(["--entry-bytes-max", "1MiB", "--segment-bytes", "2MiB"])
            .args(["--log-level", "info"])
            .args(["--parent", &std::process::id().to_string()]);
        for peer in peers {
            command.args(["--peer", &peer]);
        }
        // Ctrl-C is for us: what is stopped when is our matter.
        command.process_group(0);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start node {id}"))?;
        node.child = Some(child);
        Ok(())
    }

    /// Kills whatever runs, stopped or not.
    pub(super) fn kill_all(&mut self) {
        self.nodes.iter_mut().for_each(Node::kill);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// The address by which others know a node.
fn front(id: u64, port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, 0, 1, id as u8), port))
}

fn last_lines(log: &Path) -> String {
    let Ok(file) = File::open(log) else { return String::new() };
    let lines: Vec<String> = BufReader::new(file).lines().map_while(Result::ok).collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// How long a node has to end when it is asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
