//! bench: the benchmarks on the command line.

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use kontiki_bench::garbage::{GarbageOptions, run_garbage};
use kontiki_bench::kv::{KvOptions, Target, run_kv};

#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Subcommand, Debug)]
enum BenchCommand {
    /// Load on a running store: a closed loop of clients that read and write.
    Kv(Box<KvArgs>),
    /// The consensus core alone: three replicas in one thread, in memory.
    Raft {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Bytes that are no protocol, half-open connections and clients that never read.
    Garbage {
        /// RESP address of a node.
        #[arg(long, default_value = "127.0.0.1:7001")]
        resp: String,
        /// gRPC address of the same node.
        #[arg(long, default_value = "127.0.0.1:7101")]
        grpc: String,
        /// Byte strings to send.
        #[arg(long, default_value_t = 10_000)]
        count: u64,
        /// Seed of the byte strings.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
struct KvArgs {
    /// What is measured: redis, redis-cluster, etcd or kontiki.
    #[arg(long, default_value = "kontiki")]
    target: Target,
    /// Addresses of its servers, by commas; clients are spread over them.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:7001", value_name = "HOST:PORT")]
    addr: Vec<String>,
    /// Password of Redis-like targets.
    #[arg(long, env = "KONTIKI_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Clients, each waiting for its answer.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Connections that the clients of an etcd target share [default: one each].
    #[arg(long)]
    connections: Option<usize>,
    /// Operations that a client sends before it waits.
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    /// Replicas that WAIT, sent behind each write, must say have it; of Redis-like targets.
    #[arg(long, default_value_t = 0)]
    wait: u32,
    /// Bytes of a value.
    #[arg(long, default_value_t = 128)]
    value_bytes: usize,
    /// Distinct keys.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Part of the operations that read, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    read_share: f64,
    /// Read without having written every key first: an earlier run has.
    #[arg(long)]
    no_fill: bool,
    /// How long to measure, in seconds [default: 10 unless --ops is given].
    #[arg(long)]
    seconds: Option<f64>,
    /// How many operations to measure.
    #[arg(long)]
    ops: Option<u64>,
    /// How long to run before measuring, in seconds.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seed of keys, values and the order of reads and writes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Processes whose CPU time counts as the servers', by commas [default: who listens there].
    #[arg(long, value_delimiter = ',')]
    server_pids: Vec<u32>,
    /// Pages of metrics of its servers, by commas: for syncs, write amplification and stages.
    #[arg(long, value_delimiter = ',')]
    metrics: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: BenchArgs) -> Result<()> {
    match args.command {
        BenchCommand::Kv(args) => kv(*args),
        BenchCommand::Raft { json } => raft(json),
        BenchCommand::Garbage { resp, grpc, count, seed, json } => {
            let report = run_garbage(&GarbageOptions::new(resp, grpc, count, seed))?;
            if json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                println!("{report:#?}");
            }
            match report.problems.first() {
                Some(problem) => Err(anyhow!("the node did wrong: {problem}")),
                None => Ok(()),
            }
        }
    }
}

fn kv(args: KvArgs) -> Result<()> {
    let report = run_kv(&KvOptions {
        password: args.password,
        clients: args.clients,
        connections: args.connections,
        pipeline: args.pipeline,
        wait: args.wait,
        value_bytes: args.value_bytes,
        keys: args.keys,
        read_share: args.read_share,
        seconds: args.seconds,
        ops: args.ops,
        warm_up_seconds: args.warm_up,
        fill: args.no_fill.then_some(false),
        seed: args.seed,
        server_pids: args.server_pids,
        metrics_urls: args.metrics,
        ..KvOptions::new(args.target, args.addr)
    })?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", report.table());
    }
    Ok(())
}

fn raft(json: bool) -> Result<()> {
    let rows = kontiki_bench::raft::run();
    if json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", kontiki_bench::raft::table(&rows));
    }
    Ok(())
}
