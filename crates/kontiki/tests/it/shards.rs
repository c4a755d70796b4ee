//! Sharded stores, as processes: they begin, slots move while clients write, nodes are killed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// This machine may be busy.
const LIMIT: Duration = Duration::from_secs(120);

const KONTIKI: &str = env!("CARGO_BIN_EXE_kontiki");

/// What `kontiki up` prints of a node.
#[derive(Clone, Debug)]
struct Node {
    pid: String,
    resp: String,
    grpc: String,
}

/// A cluster of three nodes; its processes end with it.
struct Cluster {
    up: Child,
    nodes: Vec<Node>,
}

impl Cluster {
    fn up(dir: &Path, groups: u32) -> Self {
        let log = File::options().create(true).append(true).open(dir.join("log")).expect("a log");
        let mut up = Command::new(KONTIKI)
            .args(["up", "--nodes", "3", "--base-port", "0", "--log-level", "info"])
            .args(["--groups", &groups.to_string(), "--dir"])
            .arg(dir.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("it starts");
        let mut nodes = Vec::new();
        let mut is_ready = false;
        for line in BufReader::new(up.stdout.take().expect("a pipe")).lines() {
            let line = line.expect("text");
            let words: Vec<&str> = line.split_whitespace().collect();
            match &words[..] {
                ["node", _, "pid", pid, "resp", resp, "grpc", grpc, ..] => nodes.push(Node {
                    pid: (*pid).to_owned(),
                    resp: (*resp).to_owned(),
                    grpc: (*grpc).to_owned(),
                }),
                ["ready:", ..] => {
                    is_ready = true;
                    break;
                }
                _ => {}
            }
        }
        assert!(is_ready && nodes.len() == 3, "not ready: {nodes:?}; see {}", dir.display());
        Self { up, nodes }
    }

    /// kill -9.
    fn kill(&self, node: usize) {
        let status = Command::new("kill").args(["-9", &self.nodes[node].pid]).status();
        assert!(status.expect("a command").success());
    }

    fn kill_all(mut self) {
        (0..3).for_each(|node| self.kill(node));
        self.up.kill().expect("our child");
        self.up.wait().expect("our child");
    }

    fn client(&self, node: usize) -> Client {
        Client::new(&self.nodes[node].resp)
    }

    /// Asks node 1, or another one.
    fn cluster(&self, by: usize, arguments: &[&str]) -> String {
        let output = Command::new(KONTIKI)
            .arg("cluster")
            .args(arguments)
            .args(["--addr", &self.nodes[by].grpc])
            .output()
            .expect("it runs");
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {err}");
        out.into_owned()
    }

    /// The node that leads a group, by its place.
    fn leader(&self, by: usize, group: u32) -> usize {
        let begins = format!("group {group}  leader node ");
        until("a leader", || {
            let status = self.cluster(by, &["status"]);
            let line = status.lines().find_map(|line| line.strip_prefix(&begins))?;
            let id: usize = line.split_whitespace().next()?.parse().ok()?;
            Some(id - 1)
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Ok(None) = self.up.try_wait() {
            let _ = Command::new("kill").arg(self.up.id().to_string()).status();
            let _ = self.up.wait();
        }
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < LIMIT, "{what} did not come");
        thread::yield_now();
    }
}

/// A Redis client that knows nothing of clusters.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        Self(BufReader::new(stream))
    }

    /// The reply: a string, or the text of a number; `Err` is an error reply.
    fn run(&mut self, arguments: &[&str]) -> Result<Option<String>, String> {
        let mut request = format!("*{}\r\n", arguments.len());
        for argument in arguments {
            request += &format!("${}\r\n{argument}\r\n", argument.len());
        }
        self.0.get_mut().write_all(request.as_bytes()).expect("the node lives");
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the node answers");
        let line = line.trim_end();
        match line.split_at(1) {
            ("-", error) => Err(error.to_owned()),
            ("$", "-1") => Ok(None),
            ("$", length) => {
                let mut value = vec![0; length.parse::<usize>().expect("a length") + 2];
                self.0.read_exact(&mut value).expect("the node answers");
                value.truncate(value.len() - 2);
                Ok(Some(String::from_utf8(value).expect("text")))
            }
            (_, rest) => Ok(Some(rest.to_owned())),
        }
    }

    fn text(&mut self, arguments: &[&str]) -> String {
        self.run(arguments).expect("no error").expect("a value")
    }
}

/// Counts up keys of all slots, one at a time, until it is told to stop; answers how often each.
fn count_up(address: &str, name: String, stop: &AtomicBool) -> Vec<(String, u64)> {
    let mut client = Client::new(address);
    let mut counts: Vec<(String, u64)> =
        (0..40).map(|number| (format!("{name}:{number}"), 0)).collect();
    while !stop.load(Ordering::Relaxed) {
        for (key, count) in &mut counts {
            *count += 1;
            assert_eq!(client.text(&["INCR", key]), count.to_string(), "{key}");
        }
    }
    counts
}

struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<Vec<(String, u64)>>>,
}

impl Load {
    /// Two clients at each of these nodes.
    fn begin(cluster: &Cluster, nodes: &[usize]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = nodes.iter().flat_map(|node| [(*node, 1), (*node, 2)]);
        let threads = clients.map(|(node, number)| {
            let (stop, address) = (Arc::clone(&stop), cluster.nodes[node].resp.clone());
            thread::spawn(move || count_up(&address, format!("n{node}:{number}"), &stop))
        });
        Self { threads: threads.collect(), stop }
    }

    /// Every count must be what was acknowledged, seen from this node.
    fn check(self, client: &mut Client) {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = 0;
        for thread in self.threads {
            for (key, count) in thread.join().expect("no error at a client") {
                assert_eq!(client.text(&["GET", &key]), count.to_string(), "{key}");
                total += count;
            }
        }
        assert!(total > 200, "only {total} commands");
    }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().to_path_buf();
    (root, path)
}

#[test]
fn a_sharded_store_keeps_keys_and_owners_when_all_nodes_are_killed() {
    let (_root, dir) = folder();
    let cluster = Cluster::up(&dir, 3);
    let mut client = cluster.client(0);
    for number in 0..300 {
        client.text(&["SET", &format!("key:{number}"), &format!("value-{number}")]);
    }
    cluster.cluster(1, &["move", "--slots", "0-999", "--to", "3"]);
    let slots = cluster.cluster(0, &["slots"]);
    assert!(slots.contains("0-999  group 3"), "{slots}");
    cluster.kill_all();

    let cluster = Cluster::up(&dir, 3);
    let mut client = cluster.client(1);
    for number in 0..300 {
        let found = until("an answer", || client.run(&["GET", &format!("key:{number}")]).ok());
        assert_eq!(found, Some(format!("value-{number}")), "key:{number}");
    }
    assert_eq!(cluster.cluster(2, &["slots"]), slots);
}

#[test]
fn slots_move_there_and_back_under_load_and_the_leader_that_gives_them_is_killed() {
    let (_root, dir) = folder();
    let cluster = Cluster::up(&dir, 3);
    let first = cluster.leader(0, 1);
    let others: Vec<usize> = (0..3).filter(|node| *node != first).collect();
    let load = Load::begin(&cluster, &others);
    cluster.cluster(others[0], &["move", "--slots", "0-1023", "--to", "2"]);
    cluster.cluster(others[1], &["move", "--slots", "0-1023", "--to", "1"]);
    cluster.cluster(others[0], &["move", "--slots", "0-4095", "--to", "2", "--no-wait"]);
    cluster.kill(cluster.leader(others[0], 1));
    until("the moves", || {
        let slots = cluster.cluster(others[1], &["slots"]);
        slots.contains("0-4095  group 2").then_some(())
    });
    load.check(&mut cluster.client(others[0]));
}

#[test]
fn a_store_with_one_group_becomes_a_sharded_one_under_load() {
    let (_root, dir) = folder();
    let cluster = Cluster::up(&dir, 1);
    let load = Load::begin(&cluster, &[0, 1, 2]);
    cluster.cluster(1, &["enable-sharding"]);
    cluster.cluster(2, &["join", "--group", "2"]);
    cluster.cluster(0, &["move", "--slots", "0-2047", "--to", "2"]);
    let slots = cluster.cluster(2, &["slots"]);
    assert!(slots.contains("0-2047  group 2"), "{slots}");
    load.check(&mut cluster.client(2));
    // A group gives everything back, and is gone.
    cluster.cluster(1, &["leave", "--group", "2"]);
    assert_eq!(cluster.cluster(0, &["slots"]).trim(), "0-16383  group 1");
}
