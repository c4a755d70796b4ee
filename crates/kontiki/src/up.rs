//! up: a whole local cluster, a child process per node.

mod shape;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kontiki_types::NodeId;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{LogArgs, UpArgs};
use crate::config::LogFormat;
use crate::free_ports::FreePorts;
use shape::Shape;

/// How long the nodes have to come up before `up` gives up.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a node has to say whether it serves, and in how many bytes.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
const SAID_MAX: u64 = 4096;

/// How long the nodes have to end before they are killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What wakes the main thread.
enum Event {
    /// A node listens.
    Listening,
    /// A node's process has ended.
    Ended(u64, String),
    /// Ctrl-C or SIGTERM.
    Stop,
}

pub(crate) fn run(args: &UpArgs, log: &LogArgs) -> Result<()> {
    let shape = Shape::of(args)?;
    check_ports(args.base_port, shape.nodes)?;
    let mut nodes = plan(args, shape.nodes)?;
    format_directories(args, &shape, &nodes)?;
    let (events, inbox) = mpsc::channel();
    watch_signals(events.clone())?;
    let mut children = Children(Vec::new());
    for node in &nodes {
        children.0.push(start(node, &nodes, args, log, &events)?);
    }
    for (node, child) in nodes.iter_mut().zip(&children.0) {
        node.pid = child.id();
    }
    match await_ready(&nodes, &inbox)? {
        Some(()) => {
            print_table(&nodes)?;
            serve(&inbox);
        }
        None => eprintln!("stopped before it was ready"),
    }
    children.stop();
    Ok(())
}

fn check_ports(base: u16, nodes: u64) -> Result<()> {
    if u64::from(base) + 200 + nodes > u64::from(u16::MAX) {
        bail!("--base-port {base} leaves no room for the ports above it");
    }
    Ok(())
}

/// One node of the cluster.
#[derive(Clone, Debug)]
struct Planned {
    id: u64,
    dir: PathBuf,
    resp: u16,
    grpc: u16,
    http: u16,
    pid: u32,
}

fn plan(args: &UpArgs, nodes: u64) -> Result<Vec<Planned>> {
    let mut free = FreePorts::default();
    let mut port = |offset: u16, id: u64| -> Result<u16> {
        if args.base_port != 0 {
            return Ok(args.base_port + offset + id as u16);
        }
        free.choose(|_| true).context("cannot find a free port")
    };
    (1..=nodes)
        .map(|id| {
            Ok(Planned {
                id,
                dir: args.dir.join(format!("node-{id}")),
                resp: port(0, id)?,
                grpc: port(100, id)?,
                http: port(200, id)?,
                pid: 0,
            })
        })
        .collect()
}

/// Formats the directories of a new cluster. An existing one is left as it is: a node whose
/// directory is gone is not given another, since it may have voted (PROTOCOL 6).
fn format_directories(args: &UpArgs, shape: &Shape, nodes: &[Planned]) -> Result<()> {
    fs::create_dir_all(&args.dir)
        .with_context(|| format!("cannot use the directory {}", args.dir.display()))?;
    let formatted: Vec<bool> = nodes
        .iter()
        .map(|node| kontiki_node::is_formatted(&node.dir).map_err(anyhow::Error::from))
        .collect::<Result<_>>()?;
    if formatted.iter().all(|formatted| !formatted) {
        let founders: Vec<_> =
            nodes.iter().map(|node| (NodeId(node.id), node.dir.as_path())).collect();
        kontiki_node::format_cluster(&founders, shape.replicas, shape.groups)?;
    } else if let Some(empty) = nodes.iter().zip(&formatted).find(|(_, formatted)| !**formatted) {
        let other = nodes.iter().find(|node| node.id != empty.0.id);
        warn_of_empty(args, empty.0, other.map_or(0, |node| node.grpc));
    }
    Ok(())
}

fn warn_of_empty(args: &UpArgs, node: &Planned, grpc: u16) {
    let (dir, id) = (args.dir.display(), node.id);
    eprintln!(
        "warning: the cluster in {dir} exists, but the directory of node {id} is empty; a node that \
         lost its directory may have voted, so it is not taken back as the same member"
    );
    eprintln!(
        "hint: start it as a new member by `kontiki node --id {id} --dir {} --listen 127.0.0.1:{} \
         --join 127.0.0.1:{grpc}`, then `kontiki cluster readmit --node {id}`",
        node.dir.display(),
        node.resp
    );
}

/// Starts the process of a node, and a thread that reports what becomes of it.
fn start(
    node: &Planned,
    all: &[Planned],
    args: &UpArgs,
    log: &LogArgs,
    events: &mpsc::Sender<Event>,
) -> Result<Child> {
    let binary = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(binary);
    command
        .args(["node", "--id", &node.id.to_string()])
        .arg("--dir")
        .arg(&node.dir)
        .args(["--listen", &format!("127.0.0.1:{}", node.resp)])
        .args(["--listen-grpc", &format!("127.0.0.1:{}", node.grpc)])
        .args(["--listen-http", &format!("127.0.0.1:{}", node.http)])
        .args(["--memory", &args.memory.to_string()])
        .args(["--log-keep", &args.log_keep.to_string()])
        .args(["--parent", &std::process::id().to_string()]);
    for peer in all.iter().filter(|peer| peer.id != node.id) {
        command.args(["--peer", &format!("{}=127.0.0.1:{}", peer.id, peer.grpc)]);
    }
    if let Some(config) = &args.config {
        command.arg("--config").arg(config);
    }
    if let Some(level) = &log.log_level {
        command.args(["--log-level", level]);
    }
    if log.log_format == Some(LogFormat::Json) {
        command.args(["--log-format", "json"]);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start node {}", node.id))?;
    let (id, events) = (node.id, events.clone());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::spawn(move || {
        let errors = thread::spawn(move || pass_on(id, stderr));
        for line in stdout.into_iter().flat_map(|out| BufReader::new(out).lines()) {
            if line.is_ok_and(|line| line.starts_with("listening")) {
                let _ = events.send(Event::Listening);
            }
        }
        // Both pipes are closed: the process has ended.
        let last = errors.join().unwrap_or_default();
        let _ = events.send(Event::Ended(id, last));
    });
    Ok(child)
}

/// Copies a node's stderr to ours, line by line, and returns the last lines.
fn pass_on(id: u64, stderr: Option<impl std::io::Read>) -> String {
    let mut last = std::collections::VecDeque::new();
    for line in stderr.into_iter().flat_map(|err| BufReader::new(err).lines()).map_while(Result::ok)
    {
        eprintln!("[node {id}] {line}");
        last.push_back(line);
        if last.len() > 3 {
            last.pop_front();
        }
    }
    Vec::from(last).join("\n")
}

fn watch_signals(events: mpsc::Sender<Event>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _guard = runtime.enter();
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    drop(_guard);
    thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if events.send(Event::Stop).is_err() {
                    return;
                }
            }
        });
    });
    Ok(())
}

/// Waits until every node that can listen does, and one of them serves. `None`: told to stop.
fn await_ready(nodes: &[Planned], inbox: &mpsc::Receiver<Event>) -> Result<Option<()>> {
    let deadline = Instant::now() + READY_TIMEOUT;
    let mut listening = 0;
    let mut ended: Vec<(u64, String)> = Vec::new();
    while listening + ended.len() < nodes.len() {
        match inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Listening) => listening += 1,
            Ok(Event::Ended(id, why)) => {
                ended.push((id, why));
                // Without a majority nothing will be served.
                if ended.len() * 2 >= nodes.len() {
                    let why: Vec<_> =
                        ended.iter().map(|(id, why)| format!("node {id}: {why}")).collect();
                    bail!("too few nodes could start\n{}", why.join("\n"));
                }
            }
            Ok(Event::Stop) => return Ok(None),
            Err(_) => bail!("the nodes did not listen within {READY_TIMEOUT:?}"),
        }
    }
    loop {
        if let Ok(Event::Stop) = inbox.try_recv() {
            return Ok(None);
        }
        if serves(nodes) {
            return Ok(Some(()));
        }
        if Instant::now() >= deadline {
            bail!("no leader was elected within {READY_TIMEOUT:?}");
        }
    }
}

/// Whether a node says that it serves. Asked where neither a password nor a certificate is needed.
fn serves(nodes: &[Planned]) -> bool {
    let is_ready = nodes.iter().any(|node| ask_ready(node.http).unwrap_or(false));
    if !is_ready {
        thread::sleep(Duration::from_millis(20));
    }
    is_ready
}

fn ask_ready(port: u16) -> std::io::Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ASK_TIMEOUT)?;
    stream.set_read_timeout(Some(ASK_TIMEOUT))?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
    let mut said = Vec::new();
    stream.take(SAID_MAX).read_to_end(&mut said)?;
    let status = said.splitn(3, |&byte| byte == b' ').nth(1);
    Ok(status == Some(b"200"))
}

fn print_table(nodes: &[Planned]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for Planned { id, pid, resp, grpc, http, .. } in nodes {
        writeln!(
            out,
            "node {id}  pid {pid}  resp 127.0.0.1:{resp}  grpc 127.0.0.1:{grpc}  http \
             127.0.0.1:{http}"
        )?;
    }
    writeln!(out, "ready: redis-cli -p {}", nodes[0].resp)?;
    out.flush()?;
    Ok(())
}

/// Until Ctrl-C. A node that ends by itself is reported; the others go on.
fn serve(inbox: &mpsc::Receiver<Event>) {
    for event in inbox {
        match event {
            Event::Stop => return,
            Event::Ended(id, _) => eprintln!("node {id} has ended; the others go on"),
            Event::Listening => {}
        }
    }
}

/// The processes of the nodes; none of them outlives this value.
struct Children(Vec<Child>);

impl Children {
    /// Asks all of them to end and waits until they have.
    fn stop(&mut self) {
        for child in &self.0 {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        for child in &mut self.0 {
            while matches!(child.try_wait(), Ok(None)) {
                if Instant::now() >= deadline {
                    let _ = child.kill();
                    let _ = child.wait();
                    break;
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        let running = self.0.iter_mut().any(|child| matches!(child.try_wait(), Ok(None)));
        if running {
            self.stop();
        }
    }
}
