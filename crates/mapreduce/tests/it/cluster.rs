//! A coordinator and workers over gRPC, in this process but with folders and ports of their own, as
//! on machines that share the output folder only.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kontiki_mapreduce::access::Security;
use kontiki_mapreduce::client::{Client, SubmitOptions};
use kontiki_mapreduce::coordinator::{Coordinator, CoordinatorConfig};
use kontiki_mapreduce::description::Description;
use kontiki_mapreduce::input::list;
use kontiki_mapreduce::jobs::Jobs;
use kontiki_mapreduce::proto::JobStatus;
use kontiki_mapreduce::spec::Application;
use kontiki_mapreduce::streaming::Commands;
use kontiki_mapreduce::task::output_name;
use kontiki_mapreduce::worker::{Worker, WorkerConfig};
use kontiki_schedule::Config;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::{FIXTURE, sequential, sorted, tasks};

const REDUCES: u32 = 3;
/// Longer than any of these jobs takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Farm {
    root: tempfile::TempDir,
    pub(crate) output: PathBuf,
    pub(crate) description: Description,
    expected: Vec<u8>,
}

pub(crate) fn coordinator(folder: &Path, listen: std::net::SocketAddr) -> Coordinator {
    secured(folder, listen, Security::default())
}

/// A coordinator that asks for what `security` says.
pub(crate) fn secured(
    folder: &Path,
    listen: std::net::SocketAddr,
    security: Security,
) -> Coordinator {
    let schedule = Config { lease: Duration::from_secs(2), ..Config::default() };
    let directory = Some(folder.to_path_buf());
    let config = CoordinatorConfig { directory, listen, http: None, schedule, security };
    Coordinator::start(config).unwrap()
}

/// Starts a worker; it takes its leave when the sender is used, and is dropped with it otherwise.
pub(crate) fn worker(folder: &Path, url: &str) -> oneshot::Sender<()> {
    let worker = Worker::open(worker_config(folder, url), Jobs::new()).unwrap();
    let (sender, stop) = oneshot::channel::<()>();
    tokio::spawn(worker.run(async {
        let _ = stop.await;
    }));
    sender
}

pub(crate) fn worker_config(folder: &Path, url: &str) -> WorkerConfig {
    WorkerConfig {
        coordinator: url.to_owned(),
        directory: folder.to_path_buf(),
        listen: ([127, 0, 0, 1], 0).into(),
        advertise: None,
        slots: 2,
        memory_bytes: 16 << 20,
        patience: None,
        security: Security::default(),
    }
}

impl Farm {
    pub(crate) fn new(application: Application, split_bytes: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let input = root.path().join("in.txt");
        std::fs::write(&input, FIXTURE.repeat(20)).unwrap();
        let files = list(&[input.to_str().unwrap()]).unwrap();
        let expected = sequential(&*Jobs::new().program(&application).unwrap(), &files);
        let expected = sorted(&[expected]);
        let output = root.path().join("out");
        std::fs::create_dir(&output).unwrap();
        let maps = tasks(&files, split_bytes);
        let description = Description::new(application, maps, REDUCES, &output);
        Self { root, output, description, expected }
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) async fn submit(&self, client: &Client) -> u64 {
        let options = SubmitOptions {
            name: "test".into(),
            failures_max: 4,
            skip_bad_records: false,
            patience: PATIENCE,
        };
        client.submit(&self.description, &options).await.unwrap()
    }

    pub(crate) fn check_output(&self) {
        let read = |reduce| std::fs::read(self.output.join(output_name(reduce))).unwrap();
        let outputs: Vec<Vec<u8>> = (0..REDUCES).map(read).collect();
        assert!(sorted(&outputs) == self.expected, "the output is another one");
    }
}

pub(crate) async fn ended(client: &Client, job: u64) -> JobStatus {
    let wait = async {
        loop {
            match client.wait(job, Duration::from_secs(1)).await {
                Ok(status) if status.state != 0 => return status,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(PATIENCE, wait).await.expect("the job ends")
}

pub(crate) fn any_port() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_count_words_as_one_thread_does() {
    let farm = Farm::new(Application::WordCount, 2000);
    let coordinator = coordinator(&farm.folder("coordinator"), any_port());
    let url = format!("http://{}", coordinator.address());
    let client = Client::new(&url).unwrap();
    let job = farm.submit(&client).await;
    let _workers = [worker(&farm.folder("w1"), &url), worker(&farm.folder("w2"), &url)];
    let status = ended(&client, job).await;
    assert_eq!((status.state, status.error.as_str()), (1, ""));
    farm.check_output();
    let (maps, reduces) = (status.maps.unwrap(), status.reduces.unwrap());
    assert_eq!(maps.started, u64::from(maps.total), "each map once");
    assert_eq!(reduces.started, u64::from(REDUCES));
    let counted = |name: &str| {
        let mut counters = status.counters.iter();
        counters.find(|counter| counter.name == name).map_or(0, |counter| counter.sum)
    };
    assert_eq!(counted("map_input_bytes"), (FIXTURE.len() * 20) as i64);
    assert!(client.status().await.unwrap().contains("\"done\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_started_again_goes_on_and_runs_no_finished_map_again() {
    // Each map takes a while.
    let commands = Commands::new("sleep 0.3; cat", "sort");
    let farm = Farm::new(Application::Streaming(commands), 2500);
    let folder = farm.folder("coordinator");
    let first = coordinator(&folder, any_port());
    let address = first.address();
    let url = format!("http://{address}");
    let client = Client::new(&url).unwrap();
    let job = farm.submit(&client).await;
    let _workers = [worker(&farm.folder("w1"), &url), worker(&farm.folder("w2"), &url)];
    let some_done = async {
        loop {
            let status = client.wait(job, Duration::from_millis(20)).await.unwrap();
            let done = status.maps.unwrap().done;
            if done >= 2 {
                return done;
            }
        }
    };
    let done = timeout(PATIENCE, some_done).await.expect("maps are done");
    drop(first);
    // The thread gives the journal free when the last call has gone.
    let again = async {
        loop {
            let listen = std::net::TcpListener::bind(address).map(drop);
            let directory = Some(folder.clone());
            let schedule = Config { lease: Duration::from_secs(2), ..Config::default() };
            let config = CoordinatorConfig {
                directory,
                listen: address,
                http: None,
                schedule,
                security: Security::default(),
            };
            if listen.is_ok()
                && let Ok(coordinator) = Coordinator::start(config)
            {
                return coordinator;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _second = timeout(PATIENCE, again).await.expect("it starts again");
    let status = ended(&client, job).await;
    assert_eq!((status.state, status.error.as_str()), (1, ""));
    farm.check_output();
    let maps = status.maps.unwrap();
    assert_eq!(maps.reruns, 0);
    assert!(maps.started + u64::from(done) <= u64::from(maps.total), "{maps:?} after {done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn maps_of_a_worker_that_leaves_before_the_reduces_run_again() {
    let commands = Commands::new("sleep 0.2; cat", "sleep 1; sort");
    let farm = Farm::new(Application::Streaming(commands), 4000);
    let coordinator = coordinator(&farm.folder("coordinator"), any_port());
    let url = format!("http://{}", coordinator.address());
    let client = Client::new(&url).unwrap();
    let job = farm.submit(&client).await;
    let first = worker(&farm.folder("w1"), &url);
    let half_done = async {
        loop {
            let maps = client.wait(job, Duration::from_millis(20)).await.unwrap().maps.unwrap();
            if maps.done * 2 >= maps.total {
                return;
            }
        }
    };
    timeout(PATIENCE, half_done).await.expect("maps are done");
    let _second = worker(&farm.folder("w2"), &url);
    first.send(()).unwrap();
    let status = ended(&client, job).await;
    assert_eq!((status.state, status.error.as_str()), (1, ""));
    farm.check_output();
    assert!(status.maps.unwrap().reruns > 0);
}
