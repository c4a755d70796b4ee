//! chaos: real processes under faults of every kind, and their clients' history judged.
//!
//! The nodes are processes of this very program on loopback. They are killed, stopped and restarted,
//! and cut from each other and from clients by proxies. Then the faults end, every key is read once
//! more through every node, and the history must be linearizable.

mod client;
mod cluster;
mod faults;
mod proxy;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use kontiki_sim::history::{History, Outcome};
use kontiki_sim::linearizability::{Budget, Clocks, Verdict, check};
use kontiki_sim::random::Random;
use kontiki_sim::timeline;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::ChaosArgs;
use client::{Client, Shared};
use cluster::Cluster;
use faults::{Faults, Kind};
use proxy::Ways;

pub(crate) fn run(args: &ChaosArgs) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = args.seed.unwrap_or(u64::from(now.subsec_nanos()));
    println!("seed {seed}, {} nodes, {} clients, {} s", args.nodes, args.clients, args.seconds);
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("kontiki-chaos-{}", std::process::id())),
    };
    if dir.exists() {
        bail!("{} exists\nhint: chaos wants a folder of its own", dir.display());
    }
    let judged = torment(args, seed, &dir);
    match &judged {
        Ok(()) if !args.keep => {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        _ => eprintln!("kept: {}", dir.display()),
    }
    judged
}

fn torment(args: &ChaosArgs, seed: u64, dir: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the threads of the clients")?;
    let stopped = watch_signals(&runtime)?;
    let mut random = Random::new(seed);
    let mut cluster = Cluster::format(dir, args.nodes)?;
    let ways = Ways::new(args.nodes);
    for node in &cluster.nodes {
        for (callers, way) in node.ways() {
            runtime.block_on(ways.serve(node.id, callers, way))?;
        }
    }
    for id in 1..=args.nodes {
        cluster.start(id)?;
    }
    ways.know(cluster.pids());
    let shared = Shared {
        addresses: Arc::new(cluster.nodes.iter().map(cluster::Node::resp).collect()),
        began: Instant::now(),
        stop: Arc::default(),
    };
    let clients: Vec<_> = (1..=args.clients)
        .map(|id| runtime.spawn(Client::new(id, shared.clone(), random.fork()).run()))
        .collect();
    let mut faults = Faults::new(random.fork(), args.nodes);
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let mut gone_wrong = None;
    while Instant::now() < end && !stopped.load(Ordering::Relaxed) && gone_wrong.is_none() {
        gone_wrong = faults.go_on(&mut cluster, &ways).err();
        gone_wrong = gone_wrong.or_else(|| cluster.nodes.iter_mut().find_map(|n| n.check().err()));
        thread::sleep(STEP);
    }
    shared.stop.store(true, Ordering::Relaxed);
    if gone_wrong.is_none() {
        gone_wrong = faults.stop(&mut cluster, &ways).err();
    }
    let mut history = History::default();
    for client in clients {
        history.operations.extend(runtime.block_on(client).context("a client has panicked")?);
    }
    let under_faults = history.operations.len();
    if gone_wrong.is_none() && !stopped.load(Ordering::Relaxed) {
        gone_wrong = read_everything(&runtime, &shared, args, &mut random, &mut history).err();
        gone_wrong = gone_wrong.or_else(|| cluster.nodes.iter_mut().find_map(|n| n.check().err()));
    }
    // Nothing runs while the history is judged.
    cluster.kill_all();
    runtime.shutdown_background();
    if let Some(file) = &args.history {
        fs::write(file, history.to_json_lines())
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    print_summary(&history, under_faults, &faults);
    judge(args, &history, dir)?;
    if let Some(error) = gone_wrong {
        return Err(error);
    }
    if stopped.load(Ordering::Relaxed) {
        bail!("interrupted before {} s were over", args.seconds);
    }
    Ok(())
}

/// After the faults every node must serve soon. Each reads every key that was ever used.
fn read_everything(
    runtime: &Runtime,
    shared: &Shared,
    args: &ChaosArgs,
    random: &mut Random,
    history: &mut History,
) -> Result<()> {
    let keys: BTreeSet<Bytes> = history
        .operations
        .iter()
        .flat_map(|operation| operation.request.commands())
        .flat_map(|words| match &words[0][..] {
            b"MGET" => words[1..].to_vec(),
            _ => vec![words[1].clone()],
        })
        .collect();
    let keys: Vec<Bytes> = keys.into_iter().collect();
    let until = Instant::now() + HEALING_MAX;
    let readers: Vec<_> = (0..args.nodes)
        .map(|at| {
            let address = shared.addresses[at as usize];
            let shared = Shared { addresses: Arc::new(vec![address]), ..shared.clone() };
            let client = Client::new(args.clients + 1 + at, shared, random.fork());
            runtime.spawn(client.read_all(keys.clone(), until))
        })
        .collect();
    for (reader, node) in readers.into_iter().zip(1..) {
        match runtime.block_on(reader).context("a reader has panicked")? {
            Some(seen) => history.operations.extend(seen),
            None => bail!("node {node} does not serve {HEALING_MAX:?} after the faults"),
        }
    }
    Ok(())
}

fn print_summary(history: &History, under_faults: usize, faults: &Faults) {
    let counts: Vec<String> = Kind::ALL
        .iter()
        .map(|kind| format!("{} {}", kind.name(), faults.counts.get(kind).unwrap_or(&0)))
        .collect();
    println!("faults: {}", counts.join(", "));
    let (mut known, mut refused, mut unknown) = (0, 0, 0);
    let mut answers: Vec<u64> = Vec::new();
    for operation in &history.operations {
        match operation.outcome {
            Outcome::Known { at, .. } => {
                known += 1;
                answers.push(at);
            }
            Outcome::Refused { .. } => refused += 1,
            Outcome::Unknown => unknown += 1,
        }
    }
    answers.sort_unstable();
    let gap = answers.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    println!(
        "operations: {known} answered ({} of them after the faults), {refused} refused, {unknown} of \
         unknown outcome",
        history.operations.len() - under_faults
    );
    println!("longest time without an answer: {:.2} s", gap as f64 / 1e9);
}

fn judge(args: &ChaosArgs, history: &History, dir: &Path) -> Result<()> {
    let clocks = Clocks { ahead: CLOCK_AHEAD, behind: Some(CLOCK_BEHIND) };
    let began = Instant::now();
    let verdict = check(history, &Budget { clocks, ..Budget::default() });
    eprintln!("judged in {:.2} s", began.elapsed().as_secs_f64());
    match verdict {
        Verdict::Linearizable(effort) => {
            println!(
                "linearizable: {} groups of keys, {} operations on the largest",
                effort.groups, effort.largest
            );
            Ok(())
        }
        Verdict::Violation(violation) => {
            let file = args.timeline.clone().unwrap_or_else(|| dir.join("violation.html"));
            let page = timeline::html(history, &violation);
            fs::write(&file, page).with_context(|| format!("cannot write {}", file.display()))?;
            let lines: PathBuf = dir.join("history.jsonl");
            fs::write(&lines, history.to_json_lines())
                .with_context(|| format!("cannot write {}", lines.display()))?;
            bail!(
                "not linearizable: {violation}\nhint: look at {}; the history is {}",
                file.display(),
                lines.display()
            )
        }
        Verdict::NoVerdict(no_verdict) => bail!("no verdict on linearizability: {no_verdict}"),
    }
}

/// Ctrl-C and SIGTERM set the flag that is returned.
fn watch_signals(runtime: &Runtime) -> Result<Arc<AtomicBool>> {
    let _guard = runtime.enter();
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stopped);
    runtime.spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        flag.store(true, Ordering::Relaxed);
    });
    Ok(stopped)
}

/// How often faults and processes are looked after.
const STEP: Duration = Duration::from_millis(10);
/// How long the nodes have to serve after the last fault: elections, snapshots and reconnections.
const HEALING_MAX: Duration = Duration::from_secs(30);
/// The store's clock is at most this far from the clients', on one machine: a leader stamps with
/// clocks that it has heard of.
const CLOCK_AHEAD: Duration = Duration::from_millis(500);
const CLOCK_BEHIND: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use clap::Parser;
    use kontiki_resp::Reply;
    use kontiki_sim::history::Operation;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn a_stale_read_fails_the_run_and_is_drawn() {
        let Command::Chaos(args) = Cli::parse_from(["kontiki", "chaos"]).command else {
            panic!("another command")
        };
        let dir = std::env::temp_dir().join(format!("kontiki-judge-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder");
        let known = |reply, at| Outcome::Known { reply, at };
        let mut history = History::default();
        let ok = || Reply::Simple("OK".into());
        history.push(Operation::command(1, &["SET", "k", "old"], 1, known(ok(), 2)));
        history.push(Operation::command(1, &["SET", "k", "new"], 3, known(ok(), 4)));
        assert!(judge(&args, &history, &dir).is_ok());
        let read = known(Reply::Bulk("old".into()), 6);
        history.push(Operation::command(2, &["GET", "k"], 5, read));
        let error = judge(&args, &history, &dir).expect_err("a stale read");
        assert!(error.to_string().starts_with("not linearizable: k: "), "{error}");
        let page = fs::read_to_string(dir.join("violation.html")).expect("the page");
        assert!(page.contains("No order explains this answer"));
        assert!(dir.join("history.jsonl").exists());
        fs::remove_dir_all(&dir).expect("the folder");
    }
}
