//! A coordinator and workers as a user starts them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::process::Process;
use super::{kontiki, until};

/// Nothing takes longer, on a machine that is busy with something else.
pub(super) const LIMIT: Duration = Duration::from_secs(180);

pub(super) struct Farm {
    pub(super) root: tempfile::TempDir,
    pub(super) coordinator: Process,
    pub(super) workers: Vec<Process>,
    address: String,
    lease: String,
    memory: &'static str,
    slots: u32,
}

fn start_coordinator(root: &Path, listen: &str, lease: &str) -> Process {
    let mut command = Command::new(kontiki());
    command.args(["mr", "coordinator", "--listen", listen, "--lease", lease, "--dir"]);
    command.arg(root.join("coordinator"));
    Process::start(command, &root.join("coordinator-log"))
}

impl Farm {
    /// A coordinator with so many workers of one slot.
    pub(super) fn start(workers: usize, lease: Duration) -> Self {
        Self::start_with(workers, 1, lease)
    }

    /// A coordinator with so many workers of so many slots.
    pub(super) fn start_with(workers: usize, slots: u32, lease: Duration) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let lease = lease.as_secs_f64().to_string();
        let coordinator = start_coordinator(root.path(), "127.0.0.1:0", &lease);
        let address = until("the coordinator's address", LIMIT, || {
            let said = coordinator.stdout();
            let (_, rest) = said.split_once("grpc ")?;
            let (address, _) = rest.split_once('\n')?;
            Some(address.to_owned())
        });
        let memory = "64MiB";
        let mut farm =
            Self { root, coordinator, workers: Vec::new(), address, lease, memory, slots };
        for _ in 0..workers {
            farm.add_worker();
        }
        farm
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The folder of a worker.
    pub(super) fn folder(&self, number: usize) -> PathBuf {
        self.path(&format!("worker-{number}"))
    }

    fn start_worker(&self, number: usize) -> Process {
        let mut command = Command::new(kontiki());
        command.args(["mr", "worker", "--coordinator", &self.url(), "--memory", self.memory]);
        command.arg("--dir").arg(self.folder(number));
        command.args(["--slots", &self.slots.to_string()]);
        Process::start(command, &self.path(&format!("worker-{number}-log")))
    }

    pub(super) fn add_worker(&mut self) {
        let worker = self.start_worker(self.workers.len());
        self.workers.push(worker);
    }

    /// kill -9 of a worker, which is started again at once.
    pub(super) fn replace_worker(&mut self, number: usize) {
        self.workers[number].kill();
        self.workers[number] = self.start_worker(number);
    }

    /// kill -9 of the coordinator, which is started again after a pause.
    pub(super) fn replace_coordinator(&mut self, pause: Duration) {
        self.coordinator.kill();
        std::thread::sleep(pause);
        self.coordinator = start_coordinator(self.root.path(), &self.address, &self.lease);
    }

    /// `mr run` by this coordinator, with its output in the folder `name`.
    pub(super) fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        &self,
        name: &str,
        arguments: I,
    ) -> Run {
        let output = self.path(name);
        let mut command = Command::new(kontiki());
        command.args(["mr", "run"]).args(arguments);
        command.args(["--coordinator", &self.url(), "--json", "--quiet", "--output"]);
        command.arg(&output);
        Run { process: Process::start(command, &self.path(&format!("{name}-log"))), output }
    }

    /// What the coordinator knows of its latest job, if it can be asked.
    pub(super) fn job(&self) -> Option<Value> {
        let asked = Command::new(kontiki())
            .args(["mr", "status", "--json", "--coordinator", &self.url()])
            .output();
        let text = asked.expect("kontiki runs").stdout;
        let all: Value = serde_json::from_slice(&text).ok()?;
        all["jobs"].as_array()?.last().cloned()
    }

    /// The latest job.
    pub(super) fn some_job(&self) -> Value {
        until("a job", LIMIT, || self.job())
    }

    /// Waits until so many maps of the latest job are done; how many are.
    pub(super) fn maps_done(&self, least: u64) -> u64 {
        until("maps to be done", LIMIT, || {
            let done = self.job()?["maps"]["done"].as_u64()?;
            (done >= least).then_some(done)
        })
    }
}

/// A job under way.
pub(super) struct Run {
    pub(super) process: Process,
    pub(super) output: PathBuf,
}

impl Run {
    /// What it says of itself in the end; it must end well.
    pub(super) fn done(&mut self) -> Value {
        let status = self.process.wait(LIMIT);
        assert!(status.success(), "the job failed: {}", self.process.stderr());
        serde_json::from_str(&self.process.stdout()).expect("JSON")
    }
}

/// How the numbers of attempts of maps are called in what a job says.
pub(super) fn of_maps(report: &Value, name: &str) -> u64 {
    report["maps"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"))
}
