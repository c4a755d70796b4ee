//! Coordinators with their journal in a store: one leads, another one takes over.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use super::farm::{LIMIT, of_maps};
use super::process::Process;
use super::store::Store;
use super::{figure, kontiki, nothing_half_written, sorted, union, until};

/// A coordinator, which leads or stands by.
struct Candidate {
    process: Process,
    url: String,
}

impl Candidate {
    fn start(folder: &Path, store: &Store, name: &str, takeover: &str) -> Self {
        let mut command = Command::new(kontiki());
        command.args(["mr", "coordinator", "--listen", "127.0.0.1:0", "--takeover", takeover]);
        command.args(["--lease", "3", "--journal", &store.url(0, "mr/")]);
        let process = Process::start(command, &folder.join(name));
        let address = until("a coordinator's address", LIMIT, || {
            let said = process.stdout();
            let (_, rest) = said.split_once("grpc ")?;
            rest.split_whitespace().next().map(str::to_owned)
        });
        Self { process, url: format!("http://{address}") }
    }

    fn leads(&self) -> bool {
        self.process.stdout().contains("listening  grpc")
    }
}

struct Setup {
    root: tempfile::TempDir,
    store: Store,
    candidates: Vec<Candidate>,
    workers: Vec<Process>,
}

impl Setup {
    /// A leader, others that stand by, and two workers that know all of them.
    fn start(candidates: usize, takeover: &str) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::start(root.path());
        let first = Candidate::start(root.path(), &store, "candidate-0", takeover);
        until("the first one to lead", LIMIT, || first.leads().then_some(()));
        let mut setup = Self { root, store, candidates: vec![first], workers: Vec::new() };
        for number in 1..candidates {
            let (folder, name) = (setup.root.path(), format!("candidate-{number}"));
            let next = Candidate::start(folder, &setup.store, &name, takeover);
            assert!(next.process.stdout().starts_with("standing by"), "{}", next.process.stdout());
            setup.candidates.push(next);
        }
        for number in 0..2 {
            let mut command = Command::new(kontiki());
            command.args(["mr", "worker", "--coordinator", &setup.urls(), "--memory", "64MiB"]);
            let folder = setup.root.path().join(format!("worker-{number}"));
            command.arg("--dir").arg(&folder);
            setup.workers.push(Process::start(command, &folder.with_extension("log")));
        }
        setup
    }

    fn urls(&self) -> String {
        let urls: Vec<&str> = self.candidates.iter().map(|one| one.url.as_str()).collect();
        urls.join(",")
    }

    /// A job of lines whose maps and reduces take their time; and what it gives.
    fn job(&self, name: &str) -> (Process, Vec<u8>) {
        let input = self.root.path().join("input");
        let text: String =
            (0..4000).map(|line| format!("{:05} line\n", line * 7919 % 10_000)).collect();
        std::fs::write(&input, &text).expect("an input");
        let mut command = Command::new(kontiki());
        command.args(["mr", "run", "--json", "--quiet", "--split-size", "1500", "--reduces", "6"]);
        command.args(["--mapper", "sleep 0.2; cat", "--reducer", "sleep 0.3; cat"]);
        command.args(["--coordinator", &self.urls(), "--input"]).arg(&input);
        // The record of the job is larger than one key of the journal holds.
        for number in 0..12 {
            command.arg("--cmdenv").arg(format!("PADDING{number}={}", "x".repeat(100_000)));
        }
        command.arg("--output").arg(self.root.path().join(name));
        let log = self.root.path().join(format!("{name}-log"));
        (Process::start(command, &log), sorted(text.as_bytes()))
    }

    fn status(&self) -> Option<Value> {
        let asked = Command::new(kontiki())
            .args(["mr", "status", "--json", "--coordinator", &self.urls()])
            .output();
        serde_json::from_slice(&asked.expect("kontiki runs").stdout).ok()
    }

    /// Waits until so many tasks of the latest job are done; what is known of it then.
    fn done(&self, phase: &str, least: u64) -> Value {
        until("tasks to be done", LIMIT, || {
            let job = self.status()?["jobs"].as_array()?.last()?.clone();
            (job[phase]["done"].as_u64()? >= least).then_some(job)
        })
    }

    /// Waits until another one than those before leads.
    fn next_leader(&self, before: &[usize]) -> usize {
        let others = || (0..self.candidates.len()).filter(|number| !before.contains(number));
        let leader = until("another one to lead", LIMIT, || {
            others().find(|number| self.candidates[*number].leads())
        });
        let leaders = others().filter(|number| self.candidates[*number].leads()).count();
        assert_eq!(leaders, 1, "only one of them");
        leader
    }

    fn check(&self, name: &str, mut run: Process, expected: &[u8]) -> Value {
        let status = run.wait(LIMIT);
        assert!(status.success(), "{}", run.stderr());
        let output = self.root.path().join(name);
        let report: Value = serde_json::from_str(&run.stdout()).expect("JSON");
        assert!(union(&output) == expected, "another output: {report}");
        nothing_half_written(&output);
        report
    }
}

/// kill -9 of the leader among the maps, and of its successor among the reduces: no finished map is
/// run again.
#[test]
fn another_coordinator_goes_on_where_the_dead_one_was() {
    let mut setup = Setup::start(3, "3");
    let (run, expected) = setup.job("out");
    let before = of_maps(&setup.done("maps", 8), "done");
    setup.candidates[0].process.kill();
    let killed = Instant::now();
    let second = setup.next_leader(&[0]);
    figure("takeover_seconds", killed.elapsed().as_secs_f64());
    let job = setup.done("reduces", 1);
    // Attempts are counted from the last start on.
    let started = of_maps(&job, "attempts") - of_maps(&job, "backups");
    assert!(started + before <= of_maps(&job, "total"), "{before} were done before: {job}");
    assert_eq!(of_maps(&job, "reruns"), 0, "{job}");
    setup.candidates[second].process.kill();
    setup.next_leader(&[0, second]);
    let report = setup.check("out", run, &expected);
    assert_eq!(of_maps(&report, "reruns"), 0, "{report}");
    assert_eq!(of_maps(&report, "attempts"), 0, "all maps were done: {report}");
}

/// A leader that is stopped for longer than the takeover time has lost its journal. It comes back, and
/// ends at once.
#[test]
fn a_leader_that_comes_back_late_says_nothing_and_ends() {
    let mut setup = Setup::start(2, "3");
    let (run, expected) = setup.job("out");
    setup.done("maps", 5);
    setup.candidates[0].process.stop();
    setup.next_leader(&[0]);
    setup.candidates[0].process.go_on();
    let ended = setup.candidates[0].process.wait(LIMIT);
    let said = setup.candidates[0].process.stderr();
    assert!(!ended.success() && said.contains("has taken over"), "{said}");
    assert!(said.contains(setup.candidates[1].url.trim_start_matches("http://")), "{said}");
    let report = setup.check("out", run, &expected);
    assert_eq!(of_maps(&report, "reruns"), 0, "{report}");
}

/// A leader that is asked to end frees its place; the next one need not wait. A coordinator that is
/// started again with the same journal knows the jobs.
#[test]
fn a_leader_that_ends_is_followed_at_once() {
    let mut setup = Setup::start(2, "100");
    let (run, expected) = setup.job("out");
    setup.check("out", run, &expected);
    setup.candidates[0].process.terminate();
    assert!(setup.candidates[0].process.wait(LIMIT).success());
    setup.next_leader(&[0]);
    let status = setup.status().expect("a status");
    assert_eq!(status["jobs"][0]["state"], "done", "{status}");
    let (run, expected) = setup.job("again");
    setup.check("again", run, &expected);
}

#[test]
fn a_journal_that_cannot_be_is_told_at_once() {
    let check = |arguments: &[&str], expect: &str| {
        let mut command = Command::new(kontiki());
        command.args(["mr", "coordinator", "--listen", "127.0.0.1:0"]).args(arguments);
        let done = command.output().expect("kontiki runs");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains(expect), "no {expect} in {said}");
    };
    check(&[], "--dir");
    check(&["--journal", "kontiki://here/mr"], "HOST:PORT");
    check(&["--journal", "/var/lib/mr"], "HOST:PORT");
    check(&["--journal", "kontiki://127.0.0.1:1/mr"], "cannot reach a store at 127.0.0.1:1");
    check(&["--journal", "kontiki://127.0.0.1:1/mr", "--takeover", "0"], "takeover");
}
