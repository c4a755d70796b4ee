//! The cases of the course's test script, with a program of the user's that is driver and worker.

mod jobs;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::process::Process;
use super::{amount, figure, nothing_half_written, union, until};

/// The course gives a case 45 s, and the one with accidents 120 s; this machine may be busy.
const LIMIT: Duration = Duration::from_secs(240);

/// The arguments of the program that this executable is when they are there, one a line.
const ARGUMENTS: &str = "KONTIKI_LAB_PROGRAM";

/// Processes of the tests below are this executable, asked for this "test". Without arguments for
/// them there is nothing to do.
#[test]
fn program() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let arguments: Vec<&str> = arguments.lines().collect();
    let code = match jobs::program(&arguments) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    };
    std::process::exit(code);
}

fn command(arguments: &[String]) -> Command {
    let own = std::env::current_exe().expect("this executable");
    let mut command = Command::new(own);
    command.args(["mr::labs::program", "--exact", "--nocapture"]);
    command.env(ARGUMENTS, arguments.join("\n"));
    command
}

/// One case: a folder, a driver, and workers.
struct Trial {
    name: &'static str,
    root: tempfile::TempDir,
    inputs: Vec<String>,
    driver: Process,
    url: String,
}

impl Trial {
    fn start(name: &'static str, inputs: usize) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let path = |file: &str| root.path().join(file).to_string_lossy().into_owned();
        std::fs::create_dir(path("marks")).expect("a folder");
        let inputs: Vec<String> = (0..inputs)
            .map(|number| {
                let file = path(&format!("in-{number}"));
                let words = "the quick brown fox of line ".repeat(number + 1);
                std::fs::write(&file, words + "\n").expect("an input");
                file
            })
            .collect();
        let mut arguments: Vec<String> =
            ["drive", name, &path("marks"), &path("address"), &path("out")]
                .map(String::from)
                .into();
        arguments.extend(inputs.iter().cloned());
        let driver = Process::start(command(&arguments), &root.path().join("driver"));
        let address = root.path().join("address");
        let url = until("the driver", LIMIT, || std::fs::read_to_string(&address).ok());
        Self { name, root, inputs, driver, url }
    }

    fn output(&self) -> PathBuf {
        self.root.path().join("out")
    }

    fn worker(&self, number: u32) -> Process {
        let folder = self.root.path().join(format!("worker-{number}"));
        let folder = folder.to_string_lossy().into_owned();
        let log = self.root.path().join(format!("worker-{number}"));
        Process::start(command(&["work".into(), self.url.clone(), folder]), &log)
    }

    fn driver_ends(&mut self) {
        let status = self.driver.wait(LIMIT);
        assert!(status.success(), "{}: {}", self.name, self.driver.stderr());
    }

    /// The lines of the output as key and value.
    fn lines(&self) -> Vec<(String, String)> {
        let text = String::from_utf8(union(&self.output())).expect("text");
        let cut = |line: &str| line.split_once(' ').map(|(k, v)| (k.to_owned(), v.to_owned()));
        text.lines().map(|line| cut(line).expect("key and value")).collect()
    }

    fn is_as_sequential(&self, name: &str) {
        let expected = jobs::sequential(name, &self.root.path().join("expected"), &self.inputs);
        assert!(union(&self.output()) == expected, "{}: another output", self.name);
        nothing_half_written(&self.output());
    }
}

/// Read when the driver, which has the coordinator, ends.
fn word_count() {
    let mut trial = Trial::start("wc", 8);
    let _workers = [1, 2, 3].map(|number| trial.worker(number));
    trial.driver_ends();
    trial.is_as_sequential("wc");
}

/// Read when a worker ends, which so must not be before everything is there.
fn index() {
    let mut trial = Trial::start("indexer", 8);
    let mut workers = [1, 2].map(|number| trial.worker(number));
    until("a worker's end", LIMIT, || workers.iter_mut().find_map(Process::ended));
    trial.is_as_sequential("indexer");
    trial.driver_ends();
    for worker in &mut workers {
        worker.wait(LIMIT);
    }
}

fn maps_run_in_parallel() {
    let mut trial = Trial::start("map-timing", 8);
    let _workers = [1, 2].map(|number| trial.worker(number));
    trial.driver_ends();
    let lines = trial.lines();
    let processes: BTreeSet<_> =
        lines.iter().filter(|(key, _)| key.starts_with("process-")).map(|(key, _)| key).collect();
    assert_eq!(processes.len(), 2, "{lines:?}");
    let saw_two = |(key, value): &(String, String)| {
        key.starts_with("parallel-") && value.split(' ').any(|live| live == "2")
    };
    assert!(lines.iter().any(saw_two), "{lines:?}");
}

fn reduces_run_in_parallel() {
    let mut trial = Trial::start("reduce-timing", 8);
    let _workers = [1, 2].map(|number| trial.worker(number));
    trial.driver_ends();
    let lines = trial.lines();
    assert_eq!(lines.len(), 10, "{lines:?}");
    assert!(lines.iter().filter(|(_, live)| live == "2").count() >= 2, "{lines:?}");
}

fn each_map_runs_once() {
    let mut trial = Trial::start("job-count", 8);
    let _first = [1, 2].map(|number| trial.worker(number));
    thread::sleep(Duration::from_millis(500));
    let _second = [3, 4].map(|number| trial.worker(number));
    trial.driver_ends();
    assert_eq!(trial.lines(), [("a".to_owned(), "8".to_owned())]);
}

fn nobody_ends_early() {
    let mut trial = Trial::start("early-exit", 8);
    let mut workers = [1, 2, 3].map(|number| trial.worker(number));
    until("the first end", LIMIT, || {
        let mut all = workers.iter_mut().chain([&mut trial.driver]);
        all.find_map(Process::ended)
    });
    let first = union(&trial.output());
    trial.driver_ends();
    // The coordinator is gone, and the workers notice.
    for worker in &mut workers {
        worker.wait(LIMIT);
    }
    assert!(first == union(&trial.output()), "the output changed after the first end");
    trial.is_as_sequential("early-exit");
}

/// One worker that is left alone, and three that are started again a second after each end.
fn calls_crash_and_stall() {
    let mut trial = Trial::start("crash", 8);
    let _alone = trial.worker(1);
    let mut others = [2, 3, 4].map(|number| (number, trial.worker(number), None));
    let mut starts = 4;
    let begun = Instant::now();
    while trial.driver.ended().is_none() {
        assert!(begun.elapsed() < LIMIT, "crash: {}", trial.driver.stderr());
        for (number, worker, ended) in &mut others {
            if ended.is_none() && worker.ended().is_some() {
                *ended = Some(Instant::now());
            }
            if ended.is_some_and(|at: Instant| at.elapsed() > Duration::from_secs(1)) {
                (*worker, *ended) = (trial.worker(*number), None);
                starts += 1;
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    trial.driver_ends();
    trial.is_as_sequential("no-crash");
    println!("crash: {starts} starts of workers in {:.0} s", begun.elapsed().as_secs_f64());
}

/// A map of 11 s under a lease of 10 s.
fn a_map_longer_than_its_lease_runs_once() {
    let mut trial = Trial::start("long-map", 2);
    let _workers = [1, 2].map(|number| trial.worker(number));
    trial.driver_ends();
    assert_eq!(trial.lines(), [("a".to_owned(), "2".to_owned())]);
}

/// All cases at once: they sleep more than they work.
#[test]
fn all_cases_pass() {
    let cases = [
        word_count,
        index,
        maps_run_in_parallel,
        reduces_run_in_parallel,
        each_map_runs_once,
        nobody_ends_early,
        calls_crash_and_stall,
        a_map_longer_than_its_lease_runs_once,
    ];
    let (trials, lanes) = amount((50, 5), (1, 1));
    let begun = Instant::now();
    thread::scope(|scope| {
        for lane in 0..lanes {
            scope.spawn(move || {
                for trial in (lane..trials).step_by(lanes) {
                    thread::scope(|scope| {
                        for case in cases {
                            scope.spawn(case);
                        }
                    });
                    println!("trial {} of {trials} passed", trial + 1);
                }
            });
        }
    });
    figure("trials", trials);
    figure("cases", cases.len());
    figure("seconds", begun.elapsed().as_secs());
}
