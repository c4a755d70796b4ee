//! Clients that know of clusters, as anybody installs them, and the native one, each a program that
//! writes until its input ends and then checks that every write was done exactly once.

use anyhow::{Context as _, Result, bail};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::acceptance::issue2::stock_clients::{ioredis, redis_py};
use crate::acceptance::{Context, wait};
use crate::program::{Group, Program};

const BUILD_MAX: Duration = Duration::from_secs(600);
const BEGIN_MAX: Duration = Duration::from_secs(30);
const END_MAX: Duration = Duration::from_secs(120);

/// The stock clients, installed.
pub struct Stock {
    python: PathBuf,
    redis_py: PathBuf,
    ioredis: PathBuf,
}

impl Stock {
    pub fn install(context: &Context) -> Result<Stock> {
        Ok(Stock {
            python: redis_py(context)?,
            redis_py: context.root.join("tests/clients/redis-py/cluster.py"),
            ioredis: ioredis(context)?.join("cluster.js"),
        })
    }

    /// What the scripts do without a load: every kind of command, each once.
    pub fn try_everything(&self, ports: &[String]) -> Result<()> {
        for program in [self.redis_py(), self.ioredis()] {
            print!("{}", program.args(ports).output_within(END_MAX)?);
        }
        Ok(())
    }

    fn redis_py(&self) -> Program {
        Program::new(&self.python).args([&self.redis_py])
    }

    fn ioredis(&self) -> Program {
        Program::new("node").args([&self.ioredis])
    }

    /// Both of them, under load.
    pub fn load(&self, context: &Context, ports: &[String]) -> Result<Vec<Running>> {
        Ok(vec![
            Running::start(context, "redis-py", self.redis_py().args(["--load"]).args(ports))?,
            Running::start(context, "ioredis", self.ioredis().args(["--load"]).args(ports))?,
        ])
    }
}

/// The native client, under load.
pub fn native(context: &Context, addresses: &[SocketAddr]) -> Result<Running> {
    Program::new("cargo")
        .args(["build", "--release", "--quiet", "--locked", "-p", "kontiki"])
        .args(["--example", "load"])
        .in_directory(&context.root)
        .output_within(BUILD_MAX)?;
    let folder = context.binary.parent().context("the binary is in a folder")?;
    let addresses = addresses.iter().map(SocketAddr::to_string);
    Running::start(context, "native", Program::new(folder.join("examples/load")).args(addresses))
}

/// A client that writes.
pub struct Running {
    name: &'static str,
    group: Group,
    log: PathBuf,
}

impl Running {
    /// Once it has said that it has begun.
    fn start(context: &Context, name: &'static str, program: Program) -> Result<Running> {
        let log = context.scratch.join(name);
        let group = program.spawn_logged_with_input(&log)?;
        let mut running = Running { name, group, log };
        wait::until("the beginning of a load", BEGIN_MAX, || {
            let has_begun = read(&running.log, "out").starts_with("begun");
            running.check()?;
            Ok(has_begun.then_some(()))
        })?;
        Ok(running)
    }

    /// It ends only by a fault while its input is open.
    pub fn check(&mut self) -> Result<()> {
        if !self.group.is_running() {
            bail!("{} has ended:\n{}{}", self.name, read(&self.log, "out"), read(&self.log, "err"));
        }
        Ok(())
    }

    /// Lets it end and check what it wrote. How long it waited at most in one turn, in milliseconds.
    pub fn stop(mut self) -> Result<u64> {
        self.check()?;
        self.group.close_input();
        let status = self.group.wait(END_MAX).with_context(|| self.name)?;
        let (said, errors) = (read(&self.log, "out"), read(&self.log, "err"));
        if !status.success() {
            bail!("{} ended with {status}:\n{said}{errors}", self.name);
        }
        let last = said.lines().last().unwrap_or_default();
        println!("{last}");
        let longest = last.rsplit_once("longest ").and_then(|(_, text)| text.strip_suffix(" ms"));
        let longest = longest.and_then(|text| text.parse().ok());
        longest.with_context(|| format!("{} did not say how long it waited: {last}", self.name))
    }
}

fn read(log: &Path, extension: &str) -> String {
    std::fs::read_to_string(log.with_extension(extension)).unwrap_or_default()
}
