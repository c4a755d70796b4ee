//! The `kontiki` binary: a local cluster, a node, a client, an operator's tool and the benchmarks.
//!
//! stdout is data, stderr is logs and errors. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the
//! outcome of a write is unknown, 4 `verify` found damage.

mod backup;
mod bench;
mod chaos;
mod cli;
mod cluster;
mod config;
mod free_ports;
mod keys;
mod mr;
mod node;
mod reshape;
mod sim;
mod up;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use kontiki_bench::allocations::Counting;
use mimalloc::MiMalloc;

/// Counts allocations while `bench raft` asks for it.
#[global_allocator]
static ALLOCATOR: Counting<MiMalloc> = Counting(MiMalloc);

/// An error with an exit code of its own.
#[derive(Debug)]
pub(crate) struct UnknownOutcome(pub(crate) String);

impl std::fmt::Display for UnknownOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnknownOutcome {}

/// The error and its causes, without repeating a cause that a message names already.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if !matches!(cli.command, Command::Node(_)) {
        cli.log.start("warn", config::LogFormat::Text);
    }
    let done = match cli.command {
        Command::Up(args) => up::run(&args, &cli.log),
        Command::Node(args) => node::run(*args, &cli.log),
        Command::Get(args) => keys::get(&args),
        Command::Set(args) => keys::set(&args),
        Command::Append(args) => keys::append(&args),
        Command::Del(args) => keys::del(&args),
        Command::Cluster(args) => cluster::run(&args),
        Command::Backup(args) => backup::backup(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::RecoverWithLoss(args) => backup::recover_with_loss(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Config { .. } => {
            print!("{}", config::defaults_toml());
            Ok(())
        }
        Command::Bench(args) => bench::run(args),
        Command::Chaos(args) => chaos::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Mr(args) => mr::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            if error.downcast_ref::<UnknownOutcome>().is_some() {
                return ExitCode::from(3);
            }
            if error.downcast_ref::<verify::Damaged>().is_some() {
                return ExitCode::from(4);
            }
            ExitCode::FAILURE
        }
    }
}
