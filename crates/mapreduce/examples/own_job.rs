//! A job of one's own: the longest line of each first word.
//!
//! ```console
//! $ cargo run --release -p kontiki-mapreduce --example own_job -- OUTPUT-FOLDER INPUT...
//! $ cargo run ... -- --processes 4 OUTPUT-FOLDER INPUT...
//! ```
//! or on many machines, with `kontiki mr coordinator` on one of them:
//! ```console
//! $ own_job worker http://HOST:PORT FOLDER
//! $ own_job --coordinator http://HOST:PORT OUTPUT-FOLDER INPUT...
//! ```
//!
//! A job is a type that makes a mapper, a combiner if there is one, a reducer and a partition for
//! each attempt of a task. Keys and values are bytes; what they mean is up to the job. Here a key is
//! a word, and a value is a line: the combiner and the reducer keep the longest one.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use kontiki_mapreduce::access::Security;
use kontiki_mapreduce::api::{
    Combiner, Emit, HashPartition, Held, Job, Mapper, Output, Record, Reducer, Values,
};
use kontiki_mapreduce::client::{Client, JOB_DONE, SubmitOptions};
use kontiki_mapreduce::coordinator::{Coordinator, CoordinatorConfig};
use kontiki_mapreduce::description::Description;
use kontiki_mapreduce::error::{TaskError, UserError};
use kontiki_mapreduce::input::{SPLIT_BYTES, list, plan};
use kontiki_mapreduce::jobs::Jobs;
use kontiki_mapreduce::local::{LocalJob, Progress, clear, run};
use kontiki_mapreduce::spec::Application;
use kontiki_mapreduce::task::{Compiled, MEMORY_BYTES};
use kontiki_mapreduce::worker::{Worker, WorkerConfig};
use kontiki_schedule::Config;
use tokio::runtime::Runtime;

const REDUCES: u32 = 4;

/// The job.
pub struct LongestLine;

/// Emits each line under its first word. Lines without a word are counted and left out.
pub struct FirstWord;

impl Mapper for FirstWord {
    fn map<E: Emit>(&mut self, record: Record<'_>, out: &mut E) -> Result<(), UserError> {
        let line = record.bytes;
        match line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()) {
            Some(word) => out.emit(word, line),
            None => out.count("lines", "without a word", 1),
        }
        Ok(())
    }
}

/// Of two lines the longer one; of equally long ones the first in byte order, so that the result
/// does not depend on which came first.
pub struct Longest;

fn is_better(line: &[u8], best: &[u8]) -> bool {
    (best.len(), line) < (line.len(), best)
}

impl Combiner for Longest {
    fn fold(&mut self, _key: &[u8], held: &mut Held<'_>, value: &[u8]) {
        if is_better(value, held.bytes()) {
            held.replace(value);
        }
    }
}

impl Reducer for Longest {
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), TaskError> {
        let mut best: Vec<u8> = Vec::new();
        // One value is in memory at a time, however many there are.
        while let Some(line) = values.next()? {
            if best.is_empty() || is_better(line, &best) {
                best.clear();
                best.extend_from_slice(line);
            }
        }
        out.write(key)?;
        out.write(format!(" {} ", best.len()).as_bytes())?;
        out.line(&best)
    }
}

impl Job for LongestLine {
    type Mapper = FirstWord;
    type Combiner = Longest;
    type Reducer = Longest;
    type Partition = HashPartition;

    fn mapper(&self) -> FirstWord {
        FirstWord
    }

    fn combiner(&self) -> Option<Longest> {
        Some(Longest)
    }

    fn reducer(&self) -> Longest {
        Longest
    }

    fn partition(&self) -> HashPartition {
        HashPartition
    }
}

/// The jobs that this program and its workers have, by name.
fn jobs() -> Jobs {
    Jobs::new().with("longest-line", |_parameters| Ok(LongestLine))
}

/// One program is driver and local runner, and with `worker` as its first argument a worker.
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["worker", url, folder] => worker(url, Path::new(folder)),
        ["--coordinator", url, output, inputs @ ..] => by_coordinator(url, output, inputs),
        ["--processes", count, output, inputs @ ..] => in_processes(count.parse()?, output, inputs),
        [output, inputs @ ..] => in_threads(output, inputs),
        [] => Err("usage: own_job [--coordinator URL | --processes N] OUTPUT-FOLDER INPUT...\n\
                          own_job worker URL FOLDER"
            .into()),
    }
}

/// Runs the job on threads of this process.
fn in_threads(output: &str, inputs: &[&str]) -> Result<(), Box<dyn Error>> {
    let output = Path::new(output);
    let work = output.join("_work");
    fs::create_dir_all(&work)?;
    let job = LocalJob {
        program: &Compiled(LongestLine),
        maps: &plan(&list(inputs)?, SPLIT_BYTES),
        reduces: REDUCES,
        workers: thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
        memory_bytes: MEMORY_BYTES,
        skip_bad_records: false,
        output,
        work: &work,
    };
    let summary = run(&job, &Progress::default())?;
    clear(&work)?;
    println!("{} keys of {} lines", summary.reduce.keys, summary.map.input_records);
    Ok(())
}

/// Has a coordinator run the job: `kontiki mr coordinator`, with workers that are this program.
fn by_coordinator(url: &str, output: &str, inputs: &[&str]) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(output)?;
    let maps = plan(&list(inputs)?, SPLIT_BYTES);
    let application = Application::Own { name: "longest-line".into(), parameters: Vec::new() };
    let description = Description::new(application, maps, REDUCES, &fs::canonicalize(output)?);
    let options = SubmitOptions { name: "longest line".into(), ..SubmitOptions::default() };
    let status = Runtime::new()?.block_on(async {
        let client = Client::new(url)?;
        client.run(&description, &options).await
    })?;
    if status.state != JOB_DONE {
        return Err(status.error.into());
    }
    println!("{} maps, {} reduces", description.maps.len(), description.reduces);
    Ok(())
}

/// Runs the job on processes of its own: a coordinator in this one, and workers.
fn in_processes(count: u32, output: &str, inputs: &[&str]) -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new()?;
    let entered = runtime.enter();
    let coordinator = Coordinator::start(CoordinatorConfig {
        directory: None,
        listen: ([127, 0, 0, 1], 0).into(),
        http: None,
        schedule: Config::default(),
        security: Security::default(),
    })?;
    drop(entered);
    let url = format!("http://{}", coordinator.address());
    let folders = Path::new(output).join("_work");
    let mut workers = Vec::new();
    for number in 1..=count {
        let folder = folders.join(format!("worker-{number}"));
        let mut command = Command::new(std::env::current_exe()?);
        workers.push(command.args(["worker", &url]).arg(folder).spawn()?);
    }
    let done = by_coordinator(&url, output, inputs);
    for mut worker in workers {
        // What they hold is of no use any more.
        worker.kill()?;
        worker.wait()?;
    }
    done
}

/// Runs tasks until the coordinator has been away for ten seconds.
fn worker(url: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    let config = WorkerConfig {
        coordinator: url.to_owned(),
        directory: folder.to_path_buf(),
        listen: ([127, 0, 0, 1], 0).into(),
        advertise: None,
        slots: 1,
        memory_bytes: MEMORY_BYTES,
        patience: Some(Duration::from_secs(10)),
        security: Security::default(),
    };
    let runtime = Runtime::new()?;
    runtime.block_on(async { Worker::open(config, jobs())?.run(std::future::pending()).await })?;
    Ok(())
}
