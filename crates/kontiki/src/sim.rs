//! sim: the simulator on the command line.
//!
//! stdout is the same bytes for the same arguments, on every machine; times and ratios go to stderr.

use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use kontiki_sim::farm::SCENARIOS;
use kontiki_sim::labs::{LABS, Lab};
use kontiki_sim::raft_cluster::speed;
use kontiki_sim::swarm::{self, Report, Summary, SwarmConfig};
use kontiki_sim::timeline;
use kontiki_types::plant::Plant;

/// The scenario that a seed runs unless another one is named.
const SWARM: &str = "swarm";
/// The same with a sharded store.
const SHARDS: &str = "shards";

#[derive(Args, Debug)]
#[command(
    after_help = "The scenario `swarm` runs unless another one is named: whole clusters under \
                        all kinds of faults at once.\n\nExample:\n  kontiki sim --seeds 100\n  kontiki \
                        sim --scenario lab-raft-figure8-unreliable"
)]
pub(crate) struct SimArgs {
    /// How many seeds to run [default: 100 of the swarm, 1 of another scenario].
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Only this seed.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// What to run; see --list.
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Run every scenario.
    #[arg(long, conflicts_with = "scenario")]
    all: bool,
    /// Print the scenarios' names.
    #[arg(long)]
    list: bool,
    /// Voters of the swarm's clusters, 3 or 5 [default: by the seed].
    #[arg(long, value_parser = voters)]
    nodes: Option<u64>,
    /// No faults, and three nodes unless --nodes says otherwise: a store under the swarm's load.
    #[arg(long)]
    calm: bool,
    /// Bare consensus cores, five for hours, without work and with a proposal each 100 ms: how fast
    /// they are simulated.
    #[arg(long, conflicts_with_all = ["scenario", "all", "seed", "calm"])]
    cores: bool,
    /// Write what the clients saw to this file, as JSON lines; with --seed.
    #[arg(long, value_name = "FILE", requires = "seed")]
    history: Option<PathBuf>,
    /// Draw the swarm's violation, if it is one of linearizability, as a page in this file.
    #[arg(long, value_name = "FILE")]
    timeline: Option<PathBuf>,
    /// Plant this bug in the swarm's nodes, to see it found; another name lists them. Only in a
    /// build with the feature `plants`.
    #[arg(long, value_name = "NAME", value_parser = bug, conflicts_with_all = ["all", "scenario"])]
    plant: Option<Plant>,
    /// Print everything that happens; with --seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Only these faults of the seed, by their numbers; with --seed.
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS", requires = "seed")]
    faults: Option<Vec<usize>>,
    /// At most so many clients on connections, and so many with sessions of their own; with --seed.
    #[arg(long, value_name = "CONNECTIONS,SESSIONS", value_parser = two, requires = "seed")]
    clients: Option<(usize, usize)>,
    /// When the swarm's faults stop, in seconds; with --seed.
    #[arg(long, value_name = "SECONDS", requires = "seed")]
    faults_until: Option<u64>,
}

fn voters(text: &str) -> Result<u64, String> {
    match text {
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("a cluster of the swarm has 3 or 5 voters".to_owned()),
    }
}

fn bug(text: &str) -> Result<Plant, String> {
    Plant::named(text).ok_or_else(|| {
        let names: Vec<_> = Plant::ALL.iter().map(|plant| plant.name()).collect();
        format!("the bugs that can be planted are {}", names.join(", "))
    })
}

/// The bug is in all code of this process from here on.
#[cfg(feature = "plants")]
fn plant(bug: Plant) -> Result<()> {
    kontiki_types::plant::plant(Some(bug));
    println!("planted: {bug}: {}", bug.about());
    Ok(())
}

#[cfg(not(feature = "plants"))]
fn plant(bug: Plant) -> Result<()> {
    bail!(
        "this program was built without bugs to plant\nhint: cargo run --release -p kontiki \
         --features plants -- sim --plant {bug}"
    )
}

fn two(text: &str) -> Result<(usize, usize), String> {
    let numbers =
        text.split_once(',').and_then(|(one, two)| Some((one.parse().ok()?, two.parse().ok()?)));
    numbers.ok_or_else(|| "two numbers, like 3,1".to_owned())
}

pub(crate) fn run(args: &SimArgs) -> Result<()> {
    if args.list {
        println!("{SWARM:<48} all kinds of faults at once, on whole nodes");
        println!("{SHARDS:<48} the same with several groups, whose slots move all the while");
        for lab in scenarios() {
            println!("{:<48} {}", lab.name, lab.about);
        }
        return Ok(());
    }
    if args.all {
        for lab in scenarios() {
            run_lab(lab, args)?;
        }
        run_swarm(args, true)?;
        return run_swarm(args, false);
    }
    if args.cores {
        return run_cores(args.from);
    }
    match args.scenario.as_deref() {
        None | Some(SWARM) => run_swarm(args, args.plant.is_some_and(Plant::is_of_handoff)),
        Some(SHARDS) => run_swarm(args, true),
        Some(name) => match scenarios().find(|lab| lab.name == name) {
            Some(lab) => run_lab(lab, args),
            None => bail!("there is no scenario {name}\nhint: kontiki sim --list shows them"),
        },
    }
}

/// All scenarios but the swarm.
fn scenarios() -> impl Iterator<Item = &'static Lab> {
    LABS.iter().chain(SCENARIOS)
}

fn run_cores(seed: u64) -> Result<()> {
    for (name, hours, load) in [("idle", 50, false), ("loaded", 10, true)] {
        let begun = thread_cpu();
        let commands = speed::run(seed, hours, load).map_err(|violation| anyhow!("{violation}"))?;
        let cpu = thread_cpu().saturating_sub(begun);
        println!("{name}: {hours} virtual hours of five cores, {commands} commands");
        let rate = f64::from(hours) / cpu.as_secs_f64();
        eprintln!("{name}: CPU {cpu:.1?}, {rate:.1} cluster-hours per CPU second");
    }
    Ok(())
}

fn run_lab(lab: &Lab, args: &SimArgs) -> Result<()> {
    let (first, count) = match args.seed {
        Some(seed) => (seed, 1),
        None => (args.from, args.seeds.unwrap_or(1)),
    };
    for seed in first..first + count {
        println!("{}: seed {seed}", lab.name);
        let begun = Instant::now();
        if let Err(violation) = (lab.run)(seed) {
            println!("violation: {violation}");
            println!("replay: kontiki sim --scenario {} --seed {seed}", lab.name);
            bail!("{} failed with seed {seed}", lab.name);
        }
        eprintln!("{}: seed {seed} took {:.2?}", lab.name, begun.elapsed());
    }
    Ok(())
}

/// Which scenario this is.
fn name(config: &SwarmConfig) -> &'static str {
    if config.is_sharded { SHARDS } else { SWARM }
}

fn config(args: &SimArgs, is_sharded: bool) -> SwarmConfig {
    SwarmConfig {
        is_sharded,
        nodes: args.nodes,
        is_calm: args.calm,
        only_faults: args.faults.clone(),
        clients: args.clients,
        faults_until: args.faults_until.map(Duration::from_secs),
        keep_trace: args.trace,
    }
}

fn run_swarm(args: &SimArgs, is_sharded: bool) -> Result<()> {
    let config = config(args, is_sharded);
    if let Some(bug) = args.plant {
        plant(bug)?;
    }
    if let Some(seed) = args.seed {
        return one_seed(seed, &config, args);
    }
    let (first, count) = (args.from, args.seeds.unwrap_or(100));
    println!("{}: seeds {first} to {}", name(&config), first + count - 1);
    let (begun, cpu) = (Instant::now(), AtomicU64::new(0));
    let mut summary = Summary::default();
    let failed = in_order(first, count, &config, &cpu, |report| summary.add(report));
    if let Some(report) = failed {
        println!("{}: seed {}", name(&config), report.seed);
        return fail(&report, &config, args);
    }
    println!("{summary}");
    let cpu = Duration::from_nanos(cpu.into_inner());
    eprintln!(
        "{:.1?}, CPU {:.1?}: {:.2} ms a seed, {:.0} x real time",
        begun.elapsed(),
        cpu,
        cpu.as_secs_f64() * 1e3 / count as f64,
        summary.virtual_time.as_secs_f64() / cpu.as_secs_f64(),
    );
    let shortcomings = summary.shortcomings(&config);
    for shortcoming in &shortcomings {
        println!("insufficient: {shortcoming}");
    }
    match shortcomings.len() {
        0 => Ok(()),
        count => Err(anyhow!("{count} things that must be seen were not")),
    }
}

/// Runs seeds on all cores and hands out their reports in order, until one has a violation: that
/// one, if any.
fn in_order(
    first: u64,
    count: u64,
    config: &SwarmConfig,
    cpu: &AtomicU64,
    mut take: impl FnMut(&Report),
) -> Option<Report> {
    let next = AtomicU64::new(first);
    let stop = AtomicBool::new(false);
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get());
    let (sender, receiver) = mpsc::sync_channel(threads * 8);
    thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, stop) = (sender.clone(), &next, &stop);
            scope.spawn(move || {
                let begun = thread_cpu();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || sender.send(swarm::run(seed, config)).is_err() {
                        break;
                    }
                }
                let spent = thread_cpu().saturating_sub(begun);
                cpu.fetch_add(spent.as_nanos() as u64, Ordering::Relaxed);
            });
        }
        drop(sender);
        let (mut early, mut expected) = (BTreeMap::new(), first);
        for report in receiver {
            early.insert(report.seed, report);
            while let Some(report) = early.remove(&expected) {
                if report.violation.is_some() {
                    stop.store(true, Ordering::Relaxed);
                    return Some(report);
                }
                take(&report);
                expected += 1;
            }
        }
        None
    })
}

/// The CPU time of this thread.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn one_seed(seed: u64, config: &SwarmConfig, args: &SimArgs) -> Result<()> {
    println!("{}: seed {seed}", name(config));
    let begun = thread_cpu();
    let report = swarm::run(seed, config);
    let cpu = thread_cpu().saturating_sub(begun);
    let mut out = stdout().lock();
    for line in &report.trace {
        writeln!(out, "{line}")?;
    }
    drop(out);
    for (number, at, kind) in &report.plan {
        println!("fault {number} at {:.3} s: {}", at.as_secs_f64(), kind.name());
    }
    if let Some(path) = &args.history {
        std::fs::write(path, report.history.to_json_lines())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if report.violation.is_some() {
        return fail(&report, config, args);
    }
    let mut summary = Summary::default();
    summary.add(&report);
    println!("{summary}");
    let ratio = report.virtual_time.as_secs_f64() / cpu.as_secs_f64();
    eprintln!("CPU {cpu:.1?}: {ratio:.0} x real time");
    Ok(())
}

fn calm(config: &SwarmConfig) -> &'static str {
    if config.is_calm { " --calm" } else { "" }
}

/// Says what a seed violates, what of it is needed for that, and how to see it again.
fn fail(report: &Report, config: &SwarmConfig, args: &SimArgs) -> Result<()> {
    let seed = report.seed;
    let Some(violation) = &report.violation else { return Ok(()) };
    println!("violation: {violation}");
    let planted = args.plant.map_or(String::new(), |bug| format!(" --plant {bug}"));
    let is_shrunk = config.only_faults.is_some();
    let shrunk = if is_shrunk { None } else { swarm::shrink(report, config) };
    if let Some(path) = &args.timeline {
        // The smaller one is the easier to read.
        draw(shrunk.as_ref().map_or(report, |shrunk| &shrunk.report), path)?;
    }
    if let Some(shrunk) = shrunk {
        let mut command = format!(
            "kontiki sim --scenario {} --seed {seed}{}{planted}",
            name(config),
            calm(config)
        );
        if let Some(nodes) = shrunk.config.nodes {
            command.push_str(&format!(" --nodes {nodes}"));
        }
        if let Some(faults) = &shrunk.config.only_faults {
            let numbers: Vec<_> = faults.iter().map(usize::to_string).collect();
            command.push_str(&format!(" --faults={}", numbers.join(",")));
            for (number, at, kind) in &report.plan {
                if faults.contains(number) {
                    println!("needs fault {number} at {:.3} s: {}", at.as_secs_f64(), kind.name());
                }
            }
        }
        if let Some((connections, sessions)) = shrunk.config.clients {
            command.push_str(&format!(" --clients {connections},{sessions}"));
        }
        if let Some(until) = shrunk.config.faults_until {
            command.push_str(&format!(" --faults-until {}", until.as_secs()));
        }
        if let Some(violation) = &shrunk.report.violation {
            println!("shrunk in {} runs to: {violation}", shrunk.runs);
        }
        println!("shrunk: {command}");
    }
    let nodes = config.nodes.map_or(String::new(), |nodes| format!(" --nodes {nodes}"));
    println!(
        "replay: kontiki sim --scenario {} --seed {seed}{}{nodes}{planted}",
        name(config),
        calm(config)
    );
    bail!("seed {seed} violates a property")
}

/// Draws what no order explains.
fn draw(report: &Report, path: &Path) -> Result<()> {
    let Some(violation) = &report.unordered else {
        println!("timeline: none, since the violation is not one of linearizability");
        return Ok(());
    };
    std::fs::write(path, timeline::html(&report.history, violation))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("timeline: {}", path.display());
    Ok(())
}
