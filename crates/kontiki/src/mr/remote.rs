//! mr run with workers that are processes: of its own, or a coordinator's.

use std::fs;
use std::io::{IsTerminal, Write, stderr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use kontiki_mapreduce::access::Security;
use kontiki_mapreduce::client::{Client, ClientError, SubmitOptions};
use kontiki_mapreduce::coordinator::{Coordinator, CoordinatorConfig};
use kontiki_mapreduce::description::Description;
use kontiki_mapreduce::destination::Destination;
use kontiki_mapreduce::input::MapTask;
use kontiki_mapreduce::objects::is_url;
use kontiki_mapreduce::proto::{JobStatus, Phase};
use kontiki_schedule::Config;

use super::RunArgs;
use super::cluster::runtime;
use super::run::{Plan, work_folder};

/// How long a coordinator may not be reached: it may be started again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a job.
const LOOK: Duration = Duration::from_millis(500);

/// Runs the job.
pub(super) fn run(args: &RunArgs, plan: &Plan, start: Instant) -> Result<()> {
    let runtime = runtime()?;
    let is_url = is_url(args.output.as_os_str().as_bytes());
    let output = if is_url { Ok(args.output.clone()) } else { fs::canonicalize(&args.output) };
    let output = output.with_context(|| format!("the output {}", args.output.display()))?;
    let description =
        Description::new(plan.application.clone(), plan.tasks.clone(), plan.reduces, &output);
    let named = || format!("the output {}", output.display());
    let description = description.fenced().with_context(named)?;
    let done = runtime.block_on(async {
        match &args.coordinator {
            Some(url) => submit_and_wait(args, &description, url, &args.access.client()?).await,
            None => in_processes(args, &description).await,
        }
    });
    let ended = description.destination()?.end(plan.outputs()).with_context(named);
    // Reduces that nobody waited for may have left something.
    if !is_url {
        let _ = fs::remove_dir_all(output.join("_work"));
    }
    let status = match done {
        Ok(status) if status.state == 1 => {
            ended?;
            status
        }
        other => {
            Destination::of(&output)?.remove_outputs(plan.outputs());
            let status = other?;
            bail!("the job did not end well: {}", status.error);
        }
    };
    if !args.quiet {
        eprintln!("{}", sentence(&status, start));
        for counter in status.counters.iter().filter(|counter| counter.group != "kontiki") {
            eprintln!("counter {} {} {}", counter.group, counter.name, counter.sum);
        }
    }
    if args.json {
        println!("{}", json(&status, start));
    }
    Ok(())
}

/// A worker's process; killed when it is dropped, since what it holds is of no use then.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn in_processes(args: &RunArgs, description: &Description) -> Result<JobStatus> {
    let work = work_folder(args);
    let made = !work.is_dir();
    let config = CoordinatorConfig {
        directory: None,
        listen: ([127, 0, 0, 1], 0).into(),
        http: None,
        schedule: Config::default(),
        security: Security::default(),
    };
    let coordinator = Coordinator::start(config)?;
    let url = format!("http://{}", coordinator.address());
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let count = args.workers.unwrap_or(cores);
    let processes: Result<Vec<_>> = (1..=count)
        .map(|number| worker(&url, &work.join(format!("worker-{number}")), args.memory))
        .collect();
    let processes = processes?;
    let done = submit_and_wait(args, description, &url, &Security::default()).await;
    drop(processes);
    if made && !args.keep_work {
        let _ = fs::remove_dir_all(&work);
    }
    done
}

fn worker(url: &str, folder: &PathBuf, memory: u64) -> Result<Process> {
    let binary = std::env::current_exe().context("the path of this program")?;
    let child = Command::new(binary)
        .args(["mr", "worker", "--coordinator", url, "--memory", &memory.to_string(), "--dir"])
        .arg(folder)
        .args(["--parent", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start a worker")?;
    Ok(Process(child))
}

async fn submit_and_wait(
    args: &RunArgs,
    description: &Description,
    url: &str,
    security: &Security,
) -> Result<JobStatus> {
    let client = Client::with(url, security)?;
    let name = args.app.map_or_else(|| "streaming".to_owned(), |app| format!("{app:?}"));
    let options = SubmitOptions {
        name: name.to_lowercase(),
        failures_max: args.attempts,
        skip_bad_records: args.skip_bad_records,
        patience: PATIENCE,
    };
    let job = client.submit(description, &options).await?;
    let total: u64 = description.maps.iter().map(MapTask::bytes).sum();
    let waited = wait(&client, job, args.quiet, total);
    tokio::select! {
        status = waited => status,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("cannot wait for Ctrl-C")?;
            client.cancel(job).await.map_err(anyhow::Error::from)
        }
    }
}

async fn wait(client: &Client, job: u64, quiet: bool, total: u64) -> Result<JobStatus> {
    let terminal = stderr().is_terminal();
    let mut unreachable_since = None;
    let mut said = String::new();
    loop {
        match client.wait(job, LOOK).await {
            Ok(status) if status.state != 0 => {
                if terminal && !said.is_empty() {
                    let _ = write!(stderr(), "\r\x1b[K");
                }
                return Ok(status);
            }
            Ok(status) => {
                unreachable_since = None;
                let line = progress(&status, total);
                if !quiet && line != said {
                    // Nobody to tell is no reason to fail.
                    let _ = if terminal {
                        write!(stderr(), "\r\x1b[K{line}")
                    } else {
                        writeln!(stderr(), "{line}")
                    };
                    said = line;
                }
            }
            Err(error @ ClientError::Unreachable { .. }) => {
                let since = *unreachable_since.get_or_insert_with(Instant::now);
                if since.elapsed() > PATIENCE {
                    return Err(error.into());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(anyhow!(error)),
        }
    }
}

fn phases(status: &JobStatus) -> [Phase; 2] {
    [status.maps.unwrap_or_default(), status.reduces.unwrap_or_default()]
}

fn progress(status: &JobStatus, input_bytes: u64) -> String {
    let [maps, reduces] = phases(status);
    format!(
        "map {}/{} of {input_bytes} bytes, reduce {}/{}",
        maps.done, maps.total, reduces.done, reduces.total
    )
}

fn ours(status: &JobStatus, name: &str) -> i64 {
    let mut counters = status.counters.iter();
    let found = counters.find(|counter| counter.group == "kontiki" && counter.name == name);
    found.map_or(0, |counter| counter.sum)
}

fn sentence(status: &JobStatus, start: Instant) -> String {
    let [maps, reduces] = phases(status);
    format!(
        "{} maps in {} attempts, {} reduces in {} attempts, in {:.2} s: {} bytes in {} lines; {} \
         pairs emitted, {} shuffled in {} bytes; {} lines of output",
        maps.total,
        maps.started,
        reduces.total,
        reduces.started,
        start.elapsed().as_secs_f64(),
        ours(status, "map_input_bytes"),
        ours(status, "map_input_records"),
        ours(status, "map_emitted"),
        ours(status, "map_records"),
        ours(status, "map_stored_bytes"),
        ours(status, "map_output_records") + ours(status, "reduce_output_records"),
    )
}

fn json(status: &JobStatus, start: Instant) -> serde_json::Value {
    let counters: Vec<serde_json::Value> = status
        .counters
        .iter()
        .map(|counter| {
            let (group, name) = (&counter.group, &counter.name);
            serde_json::json!({"group": group, "name": name, "sum": counter.sum})
        })
        .collect();
    let [maps, reduces] = phases(status);
    let phase = |phase: &Phase| {
        serde_json::json!({
            "total": phase.total,
            "attempts": phase.started,
            "backups": phase.backups,
            "reruns": phase.reruns,
            "failed": phase.failed,
            "lost": phase.lost,
        })
    };
    serde_json::json!({
        "seconds": start.elapsed().as_secs_f64(),
        "maps": phase(&maps),
        "reduces": phase(&reduces),
        "counters": counters,
    })
}
