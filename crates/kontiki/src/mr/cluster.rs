//! mr coordinator, mr worker and mr status.

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use kontiki_mapreduce::client::Client;
use kontiki_mapreduce::coordinator::{Coordinator, CoordinatorConfig};
use kontiki_mapreduce::jobs::Jobs;
use kontiki_mapreduce::worker::{Worker, WorkerConfig};
use kontiki_schedule::Config;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::{CoordinatorArgs, ScheduleArgs, StatusArgs, WorkerArgs};
use crate::node::die_with;

/// Threads for sockets. What users wrote never runs on them.
pub(super) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the threads that serve sockets")
}

fn address(text: &str) -> Result<SocketAddr> {
    let mut found = text.to_socket_addrs().with_context(|| format!("no address: {text}"))?;
    found.next().ok_or_else(|| anyhow!("no address: {text}"))
}

async fn asked_to_stop() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

pub(super) fn schedule(args: &ScheduleArgs) -> Result<Config> {
    if !(0.1..=3600.0).contains(&args.lease) {
        bail!("--lease is from 0.1 to 3600 seconds");
    }
    let mut config = Config { lease: Duration::from_secs_f64(args.lease), ..Config::default() };
    config.tick = config.tick.min(config.lease / 10);
    if args.no_backups {
        config.backup_percent = 0;
    }
    Ok(config)
}

fn seconds(seconds: f64) -> Result<Duration> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => bail!("{seconds} is no time to wait"),
    }
}

/// Runs a coordinator until it is asked to stop.
pub(super) fn coordinator(args: &CoordinatorArgs) -> Result<()> {
    let listen = address(&args.listen)?;
    let config = CoordinatorConfig {
        directory: args.dir.clone(),
        listen,
        http: args.http.as_deref().map(address).transpose()?,
        schedule: schedule(&args.schedule)?,
        security: args.access.server(&args.server, listen, true)?,
    };
    if !(0.5..=3600.0).contains(&args.takeover) {
        bail!("--takeover is from 0.5 to 3600 seconds");
    }
    let takeover = Duration::from_secs_f64(args.takeover);
    runtime()?.block_on(async {
        let mut coordinator = match &args.journal {
            None => Coordinator::start(config)?,
            Some(url) => {
                let tell = |own: SocketAddr, leads: &str| {
                    println!("standing by  grpc {own}  leads {leads}");
                };
                let journal = url.as_bytes();
                tokio::select! {
                    coordinator = Coordinator::stand_by(config, journal, takeover, tell) => coordinator?,
                    stopped = asked_to_stop() => return stopped,
                }
            }
        };
        let http = coordinator.http_address().map(|http| format!("  http {http}"));
        println!("listening  grpc {}{}", coordinator.address(), http.unwrap_or_default());
        tokio::select! {
            error = coordinator.failed() => match error {
                Some(error) => Err(error.into()),
                None => bail!("the coordinator's thread ended"),
            },
            stopped = asked_to_stop() => {
                coordinator.stop().await;
                stopped
            }
        }
    })
}

/// Runs a worker until it is asked to stop.
pub(super) fn worker(args: &WorkerArgs) -> Result<()> {
    if let Some(parent) = args.parent {
        die_with(parent)?;
    }
    let listen = address(&args.listen)?;
    let config = WorkerConfig {
        coordinator: args.coordinator.clone(),
        directory: args.dir.clone(),
        listen,
        advertise: args.advertise.clone(),
        slots: args.slots,
        memory_bytes: args.memory,
        patience: args.give_up.map(seconds).transpose()?,
        security: args.access.server(&args.server, listen, false)?,
    };
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let worker = Worker::open(config, Jobs::new())?;
        println!("listening  shuffle {}", worker.address());
        let stop = async {
            // Without signals it is stopped by force.
            if asked_to_stop().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        worker.run(stop).await.map_err(anyhow::Error::from)
    });
    // Attempts under way are given up.
    runtime.shutdown_background();
    done
}

/// Prints what a coordinator knows.
pub(super) fn status(args: &StatusArgs) -> Result<()> {
    let security = args.access.client()?;
    let status = async { Client::with(&args.coordinator, &security)?.status().await };
    let text = runtime()?.block_on(status)?;
    if args.json {
        println!("{text}");
        return Ok(());
    }
    let all: Value = serde_json::from_str(&text).context("the coordinator's answer")?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for job in list(&all["jobs"]) {
        println!(
            "job {}  {}  {}  {:.1} s",
            plain(&job["job"]),
            plain(&job["name"]),
            plain(&job["state"]),
            job["seconds"].as_f64().unwrap_or_default()
        );
        for phase in ["maps", "reduces"] {
            let of = &job[phase];
            let number = |name: &str| plain(&of[name]);
            println!(
                "  {phase:<8} {}/{} done, {} running, {} attempts, {} backups, {} run again, {} \
                 failed, {} lost",
                number("done"),
                number("total"),
                number("running"),
                number("attempts"),
                number("backups"),
                number("reruns"),
                number("failed"),
                number("lost")
            );
        }
        for attempt in list(&job["running"]) {
            println!(
                "  {} on {} for {:.1} s  {}",
                plain(&attempt["task"]),
                plain(&attempt["worker"]),
                attempt["seconds"].as_f64().unwrap_or_default(),
                plain(&attempt["status"])
            );
        }
        for error in list(&job["errors"]) {
            println!("  {}: {}", plain(&error["task"]), plain(&error["error"]));
        }
    }
    for worker in list(&all["workers"]) {
        println!(
            "worker {}  {}  {} of {} slots, {} done, {} failed",
            plain(&worker["worker"]),
            plain(&worker["address"]),
            plain(&worker["running"]),
            plain(&worker["slots"]),
            plain(&worker["done"]),
            plain(&worker["failed"])
        );
    }
    Ok(())
}
