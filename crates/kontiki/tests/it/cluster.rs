//! A local cluster, as a user starts it, and a client.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::form::kontiki;

/// This machine may be busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// What `kontiki up` prints of a node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) pid: String,
    pub(crate) resp: String,
    pub(crate) grpc: String,
}

/// A cluster of three nodes; its processes end with it.
pub(crate) struct Cluster {
    up: Child,
    pub(crate) nodes: Vec<Node>,
    log: PathBuf,
}

impl Cluster {
    /// A new one in a folder, or the one that is there.
    pub(crate) fn up(dir: &Path, groups: u32) -> Self {
        Self::up_in(&dir.join("data"), dir, groups)
    }

    /// As [`Cluster::up`], with its data and its log where they are to be.
    pub(crate) fn up_in(data: &Path, dir: &Path, groups: u32) -> Self {
        let path = dir.join("log");
        let log = File::options().create(true).append(true).open(&path).expect("a log");
        let mut up = Command::new(kontiki())
            .args(["up", "--nodes", "3", "--base-port", "0", "--log-level", "info"])
            .args(["--groups", &groups.to_string(), "--dir"])
            .arg(data)
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
        Self { up, nodes, log: path }
    }

    /// kill -9.
    pub(crate) fn kill(&self, node: usize) {
        let status = Command::new("kill").args(["-9", &self.nodes[node].pid]).status();
        assert!(status.expect("a command").success());
    }

    pub(crate) fn kill_all(mut self) {
        (0..3).for_each(|node| self.kill(node));
        self.up.kill().expect("our child");
        self.up.wait().expect("our child");
    }

    pub(crate) fn client(&self, node: usize) -> Client {
        Client::new(&self.nodes[node].resp)
    }

    /// A test failed: its folder goes, so what the nodes said is printed.
    fn say_what_went_wrong(&self) {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let is_grave = |line: &&str| !line.contains(" INFO ");
        let grave: Vec<&str> = text.lines().filter(is_grave).collect();
        let last =
            |lines: &[&str], most: usize| lines[lines.len().saturating_sub(most)..].join("\n");
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("nodes: {:?}\nwarnings:\n{}", self.nodes, last(&grave, 40));
        eprintln!("last lines:\n{}", last(&lines, 40));
    }

    /// Asks node 1, or another one.
    pub(crate) fn cluster(&self, by: usize, arguments: &[&str]) -> String {
        let output = Command::new(kontiki())
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
    pub(crate) fn leader(&self, by: usize, group: u32) -> usize {
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
        if thread::panicking() {
            self.say_what_went_wrong();
        }
        if let Ok(None) = self.up.try_wait() {
            let _ = Command::new("kill").arg(self.up.id().to_string()).status();
            let _ = self.up.wait();
        }
    }
}

pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
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
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) fn new(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        Self(BufReader::new(stream))
    }

    /// The reply: a string, or the text of a number; `Err` is an error reply.
    pub(crate) fn run(&mut self, arguments: &[&str]) -> Result<Option<String>, String> {
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

    pub(crate) fn text(&mut self, arguments: &[&str]) -> String {
        self.run(arguments).expect("no error").expect("a value")
    }
}

pub(crate) fn folder() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().to_path_buf();
    (root, path)
}
