//! The project's own tool: one gate, its rewriting twin, and the acceptance runs.
//!
//! `cargo xtask check` reads and never writes; `cargo xtask fix` does the rewriting;
//! `cargo xtask acceptance ISSUE` runs what an issue asks to see, against the released
//! binary and stock clients; `cargo xtask tables` renders README's tables from the figures
//! that acceptance runs and benchmarks left under `bench/results/`.

mod acceptance;
mod dependencies;
mod gate;
mod house;
mod program;
mod rust_source;
mod tables;
mod tree;

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
The gate and the acceptance runs of Kontiki.

Usage: cargo xtask COMMAND

  check [--only STEP[,STEP]] [--skip STEP[,STEP]]
        the read-only gate; steps: format, lints, docs, house, dependencies, tables, package, tests
  fix   rewrites: rustfmt, clippy's suggestions, docs/dependencies.md, README's tables
  acceptance ISSUE [--item ITEM]... [--small]
        runs the issue's 'What must be seen' against target/release/kontiki and writes
        bench/results/issue-ISSUE.json (with --small: target/acceptance/issue-ISSUE-small.json)
  tables [--check]
        renders README's tables from bench/results/*.json, or says which one is out of date
  deps [--check]
        writes docs/dependencies.md, or says that it is out of date or a licence is not allowed

Example: cargo xtask acceptance 2 --item 5 --small
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs one command; `Ok(false)` means it ran and found something wrong.
fn run(arguments: &[String]) -> Result<bool> {
    let root = root();
    let Some((command, rest)) = arguments.split_first() else {
        print!("{HELP}");
        return Ok(false);
    };
    match command.as_str() {
        "check" => gate::check(&root, rest),
        "fix" => gate::fix(&root),
        "acceptance" => acceptance::run(&root, rest),
        "tables" => tables::run(&root, only_check(rest)?),
        "deps" => dependencies::run(&root, only_check(rest)?),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(true)
        }
        other => bail!("unknown command `{other}`\nhint: cargo xtask help"),
    }
}

/// The commands of [`run`], for the test that README names only ones that exist.
#[cfg(test)]
pub(crate) const COMMANDS: [&str; 6] = ["check", "fix", "acceptance", "tables", "deps", "help"];

fn only_check(rest: &[String]) -> Result<bool> {
    match rest {
        [] => Ok(false),
        [flag] if flag == "--check" => Ok(true),
        _ => bail!("unknown arguments {rest:?}\nhint: the only flag is --check"),
    }
}

/// The root of the workspace this tool was built in.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().map_or_else(|| own.to_path_buf(), Path::to_path_buf)
}

/// Where cargo puts what it builds.
pub(crate) fn target_directory(root: &Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => root.join(directory),
        None => root.join("target"),
    }
}
