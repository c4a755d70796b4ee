//! A local cluster under test: `kontiki up`, its nodes, and what one does to them.

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client::Client;
use super::{Context, wait};
use crate::program::{Group, Program, signal_to};

/// A start includes elections, and on a busy machine the builds of others.
const READY_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(20);

/// A cluster that `kontiki up` started. Dropping it ends every process of it.
pub struct Cluster {
    binary: PathBuf,
    up: Group,
    nodes: Vec<Node>,
}

/// One node, by the row that `up` printed.
pub struct Node {
    pub id: u64,
    pub pid: u32,
    pub resp: SocketAddr,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    launch: Launch,
    /// The process that took its place after a kill.
    successor: Option<Group>,
}

/// How a process was started, so that it can be started in just the same way again.
struct Launch {
    arguments: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
    directory: PathBuf,
}

/// What `kontiki cluster status --json` says, as far as the items need it.
#[derive(Deserialize)]
pub struct Status {
    pub nodes: Vec<StatusNode>,
    pub groups: Vec<StatusGroup>,
}

#[derive(Deserialize)]
pub struct StatusNode {
    pub id: u64,
    pub alive: bool,
}

#[derive(Deserialize)]
pub struct StatusGroup {
    pub id: u32,
    pub applied: u64,
    pub last_index: u64,
    pub leader: Option<u64>,
}

impl Cluster {
    /// Three nodes and one group on free ports, their data below the item's folder.
    pub fn start(context: &Context) -> Result<Cluster> {
        Cluster::start_at(context, free_base_port()?)
    }

    /// As [`Cluster::start`], with more flags of `up`, and settings in the environment.
    pub fn start_with(
        context: &Context,
        flags: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Cluster> {
        let log = fresh_log(context)?;
        let arguments = up_arguments(context, free_base_port()?);
        let one: &[&str] = if flags.contains(&"--groups") { &[] } else { &["--groups", "1"] };
        let mut up = Program::new(&context.binary).args(arguments).args(one).args(flags);
        for (key, value) in environment {
            up = up.env(key, value);
        }
        Cluster::await_ready(context, up.spawn_logged(&log)?, &log)
    }

    /// Three nodes and one group on the ports that belong to `base`; on the data that is there, if any.
    pub fn start_at(context: &Context, base: u16) -> Result<Cluster> {
        Cluster::start_sharded_at(context, base, 1)
    }

    /// As [`Cluster::start`], sharded into groups.
    pub fn start_sharded(context: &Context, groups: u32) -> Result<Cluster> {
        Cluster::start_sharded_at(context, free_base_port()?, groups)
    }

    /// As [`Cluster::start_at`], sharded into groups.
    pub fn start_sharded_at(context: &Context, base: u16, groups: u32) -> Result<Cluster> {
        Cluster::start_at_with(context, base, &["--groups", &groups.to_string()], &[])
    }

    /// The same, with variables in the environment of all nodes.
    pub fn start_sharded_with(
        context: &Context,
        base: u16,
        groups: u32,
        environment: &[(&str, &OsStr)],
    ) -> Result<Cluster> {
        Cluster::start_at_with(context, base, &["--groups", &groups.to_string()], environment)
    }

    /// On the data that is there, as it is; a new store is as `up` makes it unless told otherwise.
    pub fn start_as_it_is(context: &Context, base: u16) -> Result<Cluster> {
        Cluster::start_at_with(context, base, &[], &[])
    }

    fn start_at_with(
        context: &Context,
        base: u16,
        arguments: &[&str],
        environment: &[(&str, &OsStr)],
    ) -> Result<Cluster> {
        let log = fresh_log(context)?;
        let up = Program::new(&context.binary).args(up_arguments(context, base)).args(arguments);
        let set = |up: Program, (name, value): &(&str, &OsStr)| up.env(name, value);
        let up = environment.iter().fold(up, set).spawn_logged(&log)?;
        Cluster::await_ready(context, up, &log)
    }

    /// The cluster of an `up` that writes to `log` (see [`fresh_log`]), once it says `ready`.
    pub fn await_ready(context: &Context, mut up: Group, log: &Path) -> Result<Cluster> {
        let said = wait::until("the line `ready` from up", READY_MAX, || {
            let said = std::fs::read_to_string(log.with_extension("out")).unwrap_or_default();
            if said.lines().any(|line| line.starts_with("ready")) {
                return Ok(Some(said));
            }
            if !up.is_running() {
                let log = std::fs::read_to_string(log.with_extension("err")).unwrap_or_default();
                bail!("up ended before it was ready:\n{}", tail(&log, 20));
            }
            Ok(None)
        })?;
        let nodes: Vec<Node> =
            said.lines().filter_map(Row::parse).map(Node::of).collect::<Result<_>>()?;
        if nodes.len() != 3 {
            bail!("up printed {} rows of nodes instead of 3:\n{said}", nodes.len());
        }
        Ok(Cluster { binary: context.binary.clone(), up, nodes })
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A client of the node at this place (from 0).
    pub fn client(&self, node: usize) -> Result<Client> {
        let Node { id, resp, .. } = &self.nodes[node];
        Client::connect(*resp).with_context(|| format!("cannot connect to node {id} at {resp}"))
    }

    /// What the node at this place says of the cluster.
    pub fn status(&self, node: usize) -> Result<Status> {
        let said = Program::new(&self.binary)
            .args(["cluster", "status", "--json", "--addr"])
            .args([self.nodes[node].grpc.to_string()])
            .output_within(Duration::from_secs(10))?;
        serde_json::from_str(&said).with_context(|| format!("status --json said: {said}"))
    }

    /// The place of the leader, as the node at place `asked` knows it, once there is one.
    pub fn leader(&self, asked: usize) -> Result<usize> {
        wait::until("a leader", READY_MAX, || {
            // A node that is just starting may refuse; that is an answer to wait on.
            let Ok(status) = self.status(asked) else { return Ok(None) };
            let leader = status.groups.first().and_then(|group| group.leader);
            Ok(leader.and_then(|id| self.nodes.iter().position(|node| node.id == id)))
        })
    }

    /// Waits until the node at place `asked` finds all nodes alive and a leader among them.
    pub fn await_whole(&self, asked: usize) -> Result<()> {
        wait::until("all nodes alive with a leader", READY_MAX, || {
            let Ok(status) = self.status(asked) else { return Ok(None) };
            let alive = status.nodes.iter().filter(|node| node.alive).count();
            let known = |id| self.nodes.iter().any(|node| node.id == id);
            let whole = alive == self.nodes.len() && status.nodes.iter().all(|node| known(node.id));
            let led = status.groups.first().is_some_and(|group| group.leader.is_some());
            Ok((whole && led).then_some(()))
        })
    }

    /// Kills the node with -9 and waits until it is gone.
    pub fn kill(&mut self, node: usize) -> Result<()> {
        let node = &mut self.nodes[node];
        signal_to(&[node.pid.to_string()], "KILL")?;
        node.await_end()?;
        node.successor = None;
        Ok(())
    }

    /// Stops the node as a service manager does (SIGTERM) and waits until it is gone.
    pub fn terminate(&mut self, node: usize) -> Result<()> {
        let node = &mut self.nodes[node];
        signal_to(&[node.pid.to_string()], "TERM")?;
        node.await_end()?;
        node.successor = None;
        Ok(())
    }

    /// Starts another node, which joins; its place.
    pub fn join(&mut self, context: &Context, id: u64) -> Result<usize> {
        let free = || -> Result<SocketAddr> {
            Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
        };
        let (resp, grpc, http) = (free()?, free()?, free()?);
        let log = context.scratch.join(format!("node-{id}"));
        let group = Program::new(&self.binary)
            .args(["node", "--id", &id.to_string(), "--dir"])
            .args([context.scratch.join(format!("data/node-{id}"))])
            .args(["--listen", &resp.to_string(), "--listen-grpc", &grpc.to_string()])
            .args(["--listen-http", &http.to_string()])
            .args(["--join", &self.nodes[0].grpc.to_string()])
            .spawn_logged(&log)?;
        let (pid, mut group) = (group.id(), group);
        wait::until("a joining node to listen", READY_MAX, || {
            if group.is_running() {
                return Ok(Client::connect(resp).ok().map(drop));
            }
            let log = std::fs::read_to_string(log.with_extension("err")).unwrap_or_default();
            bail!("the joining node ended:\n{}", tail(&log, 20));
        })?;
        let launch = Launch::of(pid)?;
        self.nodes.push(Node { id, pid, resp, grpc, http, launch, successor: Some(group) });
        Ok(self.nodes.len() - 1)
    }

    /// What a process says that ended when it was started again just as it had been.
    pub fn refused_again(&self, node: usize) -> Result<String> {
        let finished = self.nodes[node].launch.program()?.finish_within(READY_MAX)?;
        if finished.success {
            bail!("node {} started and ended well", self.nodes[node].id);
        }
        Ok(finished.stderr)
    }

    /// Waits until the process of the node has ended by itself.
    pub fn await_end(&mut self, node: usize) -> Result<()> {
        self.nodes[node].await_end()
    }

    /// Kills everything with -9 at once: the nodes, and `up`, which could tell them to stop.
    pub fn kill_all(mut self) -> Result<()> {
        self.kill_where_it_is()
    }

    /// The same; what is left of the cluster is only to be dropped.
    pub fn kill_where_it_is(&mut self) -> Result<()> {
        let mut targets: Vec<String> = self.nodes.iter().map(|node| node.pid.to_string()).collect();
        targets.push(self.up.id().to_string());
        signal_to(&targets, "KILL")?;
        self.nodes.iter_mut().try_for_each(Node::await_end)
    }

    /// Starts a killed node again, in the very way it was started.
    pub fn restart(&mut self, context: &Context, node: usize) -> Result<()> {
        let node = &mut self.nodes[node];
        let log = context.scratch.join(format!("node-{}", node.id));
        let group = node.launch.program()?.spawn_logged(&log)?;
        node.pid = group.id();
        node.successor = Some(group);
        let resp = node.resp;
        wait::until("a restarted node to listen", READY_MAX, || {
            if node.successor.as_mut().is_some_and(Group::is_running) {
                return Ok(Client::connect(resp).ok().map(drop));
            }
            let log = std::fs::read_to_string(log.with_extension("err")).unwrap_or_default();
            bail!("the restarted node ended:\n{}", tail(&log, 20));
        })
    }

    /// Starts a node in the place of one that was killed, on an empty directory, as a new member of
    /// the cluster that the node at place `witness` belongs to.
    pub fn rejoin(&mut self, context: &Context, node: usize, witness: usize) -> Result<()> {
        let join = self.nodes[witness].grpc.to_string();
        let node = &mut self.nodes[node];
        let log = context.scratch.join(format!("node-{}", node.id));
        let group = node.launch.program()?.args(["--join", &join]).spawn_logged(&log)?;
        node.pid = group.id();
        node.successor = Some(group);
        let resp = node.resp;
        wait::until("a node that has joined to listen", READY_MAX, || {
            if node.successor.as_mut().is_some_and(Group::is_running) {
                return Ok(Client::connect(resp).ok().map(drop));
            }
            let log = std::fs::read_to_string(log.with_extension("err")).unwrap_or_default();
            bail!("the node that joined ended:\n{}", tail(&log, 20));
        })
    }

    /// Freezes the node's process (SIGSTOP), and waits until none of its threads runs: on a busy
    /// machine some go on for many milliseconds after the signal was sent.
    pub fn freeze(&self, node: usize) -> Result<()> {
        let node = &self.nodes[node];
        signal_to(&[node.pid.to_string()], "STOP")?;
        wait::until("a frozen process", STOP_MAX, || {
            let threads = node.threads()?;
            let frozen = threads.iter().all(|thread| {
                state(&format!("/proc/{}/task/{thread}/stat", node.pid)) == Some('T')
            });
            Ok(frozen.then_some(()))
        })
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self, node: usize) -> Result<()> {
        signal_to(&[self.nodes[node].pid.to_string()], "CONT")
    }

    /// Ctrl-C, as a terminal sends it; waits for the end and checks that no process is left.
    pub fn stop(mut self) -> Result<()> {
        self.up.signal("INT")?;
        for node in &mut self.nodes {
            if let Some(group) = &mut node.successor
                && group.is_running()
            {
                group.signal("INT")?;
            }
        }
        let status = self.up.wait(STOP_MAX).context("after Ctrl-C, up")?;
        if !status.success() {
            bail!("after Ctrl-C, up ended with {status}");
        }
        self.nodes.iter_mut().try_for_each(Node::await_end)
    }
}

impl Node {
    fn of(row: Row) -> Result<Node> {
        let Row { id, pid, resp, grpc, http } = row;
        Ok(Node { id, pid, resp, grpc, http, launch: Launch::of(pid)?, successor: None })
    }

    /// The data directory, as the process was told it.
    pub fn directory(&self) -> Result<PathBuf> {
        let mut words = self.launch.arguments.iter();
        let flag = words.find(|word| *word == "--dir").and_then(|_| words.next());
        let directory =
            flag.ok_or_else(|| anyhow!("node {} was started without --dir", self.id))?;
        Ok(self.launch.directory.join(directory))
    }

    /// The ids of the threads.
    pub fn threads(&self) -> Result<Vec<u32>> {
        let listing = std::fs::read_dir(format!("/proc/{}/task", self.pid))?;
        let names = listing.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(names.collect())
    }

    fn await_end(&mut self) -> Result<()> {
        let id = self.id;
        wait::until(&format!("the end of node {id}"), STOP_MAX, || {
            if let Some(group) = &mut self.successor {
                return Ok((!group.is_running()).then_some(()));
            }
            Ok(has_ended(self.pid).then_some(()))
        })
    }
}

/// Whether the process is gone, or only waits to be reaped. As long as one of its threads is there, so
/// are its open files and locks, even if the first thread has ended.
fn has_ended(pid: u32) -> bool {
    let is_last = |threads: std::fs::ReadDir| threads.count() <= 1;
    match state(&format!("/proc/{pid}/stat")) {
        None => true,
        Some('Z') => std::fs::read_dir(format!("/proc/{pid}/task")).map_or(true, is_last),
        Some(_) => false,
    }
}

/// The state letter of a process or thread; none if it is gone.
fn state(stat: &str) -> Option<char> {
    let stat = std::fs::read_to_string(stat).ok()?;
    // It follows the name, which stands in brackets and may hold any character.
    stat.rsplit_once(") ")?.1.chars().next()
}

impl Launch {
    fn of(pid: u32) -> Result<Launch> {
        let list = |file: &str| -> Result<Vec<OsString>> {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}"))
                .with_context(|| format!("the process {pid} of a node"))?;
            let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
            Ok(parts.map(|part| OsString::from_vec(part.to_vec())).collect())
        };
        let environment = list("environ")?.into_iter().filter_map(|pair| {
            let text = pair.into_string().ok()?;
            let (key, value) = text.split_once('=')?;
            Some((key.into(), value.into()))
        });
        Ok(Launch {
            arguments: list("cmdline")?,
            environment: environment.collect(),
            directory: std::fs::read_link(format!("/proc/{pid}/cwd"))?,
        })
    }

    fn program(&self) -> Result<Program> {
        let (program, arguments) = self.arguments.split_first().context("a process has a name")?;
        Ok(Program::new(program)
            .args(arguments)
            .environment(&self.environment)
            .in_directory(&self.directory))
    }
}

/// A row of the table that `up` prints.
struct Row {
    id: u64,
    pid: u32,
    resp: SocketAddr,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Row {
    /// `node 1  pid 123  resp 127.0.0.1:7001  grpc 127.0.0.1:7101  http 127.0.0.1:7201`
    fn parse(line: &str) -> Option<Row> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1).copied()
        };
        Some(Row {
            id: after("node")?.parse().ok()?,
            pid: after("pid")?.parse().ok()?,
            resp: after("resp")?.parse().ok()?,
            grpc: after("grpc")?.parse().ok()?,
            http: after("http")?.parse().ok()?,
        })
    }
}

/// `up` with three nodes at `base`, its data below the item's folder.
pub fn up_arguments(context: &Context, base: u16) -> Vec<OsString> {
    let data = context.scratch.join("data").into_os_string();
    ["up", "--nodes", "3", "--base-port", &base.to_string(), "--dir"]
        .into_iter()
        .map(OsString::from)
        .chain([data])
        .collect()
}

/// Where the next start of this item's cluster writes what it says: `.out` and `.err` of this.
pub fn fresh_log(context: &Context) -> Result<PathBuf> {
    let paths = (1..).map(|start| context.scratch.join(format!("up-{start}")));
    let mut fresh = paths.filter(|path| !path.with_extension("out").exists());
    fresh.next().context("starts can be numbered")
}

/// A base such that all ports which `up` derives from it are free just now.
pub fn free_base_port() -> Result<u16> {
    // Below the range from which the system hands out ports of its own accord.
    let start = 20_000 + (std::process::id() % 100) as u16 * 10;
    let bases = (0..1_000u16).map(|step| 20_000 + (start - 20_000 + step * 10) % 10_000);
    let all_free = |base: &u16| {
        [0, 100, 200].iter().all(|floor| (1..=3).all(|node| is_free(base + floor + node)))
    };
    bases.into_iter().find(all_free).context("no free ports between 20000 and 30000")
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_up_are_understood() {
        let row = Row::parse(
            "node 2  pid 41  resp 127.0.0.1:7002  grpc 127.0.0.1:7102  http 127.0.0.1:7202",
        );
        let row = row.expect("a row");
        assert_eq!((row.id, row.pid, row.resp.port(), row.http.port()), (2, 41, 7002, 7202));
        assert!(Row::parse("ready: redis-cli -p 7001").is_none());
    }

    #[test]
    fn our_own_process_can_be_looked_at() {
        let launch = Launch::of(std::process::id()).expect("our own");
        assert!(!launch.arguments.is_empty());
        assert!(!has_ended(std::process::id()));
        assert!(has_ended(u32::MAX));
    }
}
