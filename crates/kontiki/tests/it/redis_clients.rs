//! Clients of Redis Cluster, as anybody installs them, against `kontiki up`.
//!
//! The scripts are in `tests/clients`; they check what they expect and end with 0 if all holds. What
//! they need is installed once, beside what is built. Where it cannot be installed the tests say so
//! and are skipped, but not where `CI` is `true`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::form::kontiki;

/// A cluster on this machine, gone with this value.
struct Store {
    up: Child,
    /// Of the nodes, for Redis clients.
    ports: Vec<String>,
    /// gRPC address of the first node.
    address: String,
    _folder: TempDir,
}

impl Store {
    fn start(groups: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(kontiki());
        command.args(["up", "--base-port", "0", "--memory", "16MiB"]);
        command.args(["--groups", &groups.to_string(), "--dir"]).arg(folder.path().join("data"));
        let mut up = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut said = BufReader::new(up.stdout.take().expect("piped"));
        let mut ports = Vec::new();
        let mut addresses = Vec::new();
        // Lines of `node 1  pid 7  resp HOST:PORT  …`, and one that begins with `ready`.
        loop {
            let mut line = String::new();
            assert!(said.read_line(&mut line).expect("text") > 0, "kontiki up ended");
            if line.starts_with("ready") {
                break;
            }
            let after = |name: &str| {
                let mut words = line.split_whitespace().skip_while(|word| *word != name);
                words.nth(1).map(str::to_owned)
            };
            let port =
                after("resp").and_then(|address| address.rsplit(':').next().map(str::to_owned));
            ports.extend(port);
            addresses.extend(after("grpc"));
        }
        // Whoever closed this would end what writes to it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let address = addresses.swap_remove(0);
        let store = Self { up, ports, address, _folder: folder };
        if groups > 1 {
            store.await_leaders();
        }
        store
    }

    /// Waits until each node leads a group, and every node knows.
    fn await_leaders(&self) {
        for port in &self.ports {
            let limit = Instant::now() + Duration::from_secs(30);
            // A line without slots ends with the state of the link.
            while asked(port, "CLUSTER NODES").contains("connected\n") {
                assert!(Instant::now() < limit, "the node on {port} does not know the leaders");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// `kontiki cluster`, to its end.
    fn cluster(&self, arguments: &[&str]) {
        let mut command = Command::new(kontiki());
        command.arg("cluster").args(arguments);
        let moved = run(command.args(["--timeout", "120", "--addr", &self.address]));
        let (done, said) = moved.expect("kontiki runs");
        assert!(done, "{arguments:?}: {said}");
    }
}

/// What a node answers to an inline command; a bulk string.
fn asked(port: &str, command: &str) -> String {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("it listens");
    stream.write_all(format!("{command}\r\n").as_bytes()).expect("written");
    let mut answer = BufReader::new(stream);
    let mut length = String::new();
    answer.read_line(&mut length).expect("text");
    let length = length.trim().strip_prefix('$').and_then(|length| length.parse().ok());
    let mut text = vec![0; length.expect("a bulk string")];
    answer.read_exact(&mut text).expect("its bytes");
    String::from_utf8(text).expect("text")
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}

/// Says why a test is skipped, if it may be.
fn skipped(why: &str) {
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why}");
    eprintln!("skipped: {why}");
}

/// Runs a program to its end. `None`: there is none.
fn run(command: &mut Command) -> Option<(bool, String)> {
    let output = match command.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        output => output.expect("it runs"),
    };
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients")
}

/// One installs, the others wait.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Where what is installed stays between runs.
fn installed(name: &str) -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&home).expect("a folder");
    home
}

/// A script with the interpreter that has its library; `None`: it cannot be had here.
type Library = fn(script: &str) -> Option<Command>;

fn redis_py(script: &str) -> Option<Command> {
    let _one = INSTALLING.lock();
    let home = installed("client-python");
    let python = home.join("bin/python");
    let requirements = scripts().join("redis-py/requirements.txt");
    let install = |command: &mut Command| run(command).is_some_and(|(done, _)| done);
    if !python.exists() && !install(Command::new("python3").args(["-m", "venv"]).arg(&home)) {
        return None;
    }
    let quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    if !install(Command::new(&python).args(quiet).arg("--requirement").arg(requirements)) {
        return None;
    }
    let mut command = Command::new(python);
    command.arg(scripts().join("redis-py").join(format!("{script}.py")));
    Some(command)
}

fn ioredis(script: &str) -> Option<Command> {
    let _one = INSTALLING.lock();
    let home = installed("client-ioredis");
    let script = format!("{script}.js");
    for file in ["package.json", "package-lock.json", &script] {
        std::fs::copy(scripts().join("ioredis").join(file), home.join(file)).expect("copied");
    }
    if !home.join("node_modules/ioredis").exists() {
        let done = run(Command::new("npm").args(["ci", "--silent"]).current_dir(&home));
        done.filter(|(done, _)| *done)?;
    }
    let mut command = Command::new("node");
    command.arg(home.join(script));
    Some(command)
}

const LIBRARIES: [(&str, Library); 2] = [("redis-py", redis_py), ("ioredis", ioredis)];

fn libraries_are_served(groups: u32) {
    let store = Store::start(groups);
    for (name, library) in LIBRARIES {
        let Some(mut command) = library("cluster") else {
            skipped(&format!("{name} cannot be installed"));
            continue;
        };
        let (done, said) = run(command.args(&store.ports)).expect("it was installed");
        assert!(done, "{name}, {groups} groups: {said}");
    }
}

#[test]
fn cluster_libraries_find_a_cluster_in_several_groups() {
    libraries_are_served(3);
}

#[test]
fn cluster_libraries_find_a_cluster_in_one_group() {
    libraries_are_served(1);
}

/// A load that is to see no error.
struct Load {
    name: &'static str,
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Load {
    fn start(name: &'static str, mut command: Command, ports: &[String]) -> Self {
        command.arg("--load").args(ports).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let mut said = BufReader::new(process.stdout.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("text");
        assert_eq!(line, "begun\n", "{name}");
        Self { name, process, said }
    }

    /// Ends it, and has it check what it did.
    fn end(mut self) {
        drop(self.process.stdin.take());
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).expect("text");
        let status = self.process.wait().expect("our child");
        assert!(status.success(), "{}: {rest}", self.name);
        print!("{rest}");
    }
}

#[test]
fn cluster_libraries_see_nothing_of_slots_that_move() {
    let store = Store::start(3);
    let loads: Vec<Load> = LIBRARIES
        .into_iter()
        .filter_map(|(name, library)| match library("cluster") {
            Some(command) => Some(Load::start(name, command, &store.ports)),
            None => {
                skipped(&format!("{name} cannot be installed"));
                None
            }
        })
        .collect();
    for (slots, to) in [("0-2000", "2"), ("11000-13000", "1"), ("0-2000", "3"), ("6000-6500", "1")]
    {
        store.cluster(&["move", "--slots", slots, "--to", to]);
    }
    loads.into_iter().for_each(Load::end);
}

#[test]
fn redis_cli_and_redis_benchmark_are_served() {
    let store = Store::start(3);
    let mut cli = match Command::new("redis-cli")
        .args(["-c", "-p", &store.ports[0]])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return skipped("redis-cli is not installed");
        }
        cli => cli.expect("it starts"),
    };
    let mut commands = String::new();
    for number in 0..50 {
        commands += &format!("SET k{number} {number}\n");
    }
    commands += "GET k7\nDEL k1 k2 k3\nDBSIZE\nCLUSTER KEYSLOT k7\nMSET k1 1 k2 2\n";
    cli.stdin.take().expect("piped").write_all(commands.as_bytes()).expect("written");
    let output = cli.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    assert!(lines[..50].iter().all(|line| *line == "OK"), "{said}");
    let crossing = "CROSSSLOT Keys in request don't hash to the same slot";
    let slot = kontiki_types::Slot::of(b"k7").to_string();
    assert_eq!(lines[50..], ["7", "3", "47", &slot, crossing]);

    let mut benchmark = Command::new("redis-benchmark");
    benchmark.args(["--cluster", "-p", &store.ports[1], "-t", "set,get,incr", "-n", "3000", "-q"]);
    let Some((done, said)) = run(&mut benchmark) else {
        return skipped("redis-benchmark is not installed");
    };
    assert!(done && !said.contains("rror") && !said.contains("nvalid"), "{said}");
    assert_eq!(said.matches("requests per second").count(), 3, "{said}");
}
