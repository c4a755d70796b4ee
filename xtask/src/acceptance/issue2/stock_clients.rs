//! Item 4: redis-py (over HELLO 3), ioredis and redis-benchmark, as anybody installs them.
//!
//! The programs under `tests/clients/` check their own expectations and end with 0 if all hold.

use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::acceptance::cluster::Cluster;
use crate::acceptance::{Context, Figures, needs};
use crate::program::Program;

const INSTALL_MAX: Duration = Duration::from_secs(300);
const RUN_MAX: Duration = Duration::from_secs(120);

pub(super) fn run(context: &Context) -> Result<Figures> {
    needs(&["python3", "node", "npm", "redis-benchmark"])?;
    let python = redis_py(context)?;
    let node = ioredis(context)?.join("client.js");

    let cluster = Cluster::start(context)?;
    let ports: Vec<String> =
        cluster.nodes().iter().map(|node| node.resp.port().to_string()).collect();
    let scripts = context.root.join("tests/clients");
    let said = Program::new(&python)
        .args([scripts.join("redis-py/client.py")])
        .args(&ports)
        .output_within(RUN_MAX)?;
    print!("{said}");
    let said = Program::new("node").args([&node]).args(&ports).output_within(RUN_MAX)?;
    print!("{said}");

    let mut figures = Figures::new();
    for (node, port) in ports.iter().enumerate() {
        for (test, rate) in redis_benchmark(context, port)? {
            figures.insert(format!("redis_benchmark_{test}_at_node_{}", node + 1), rate.into());
        }
    }
    cluster.stop()?;
    Ok(figures)
}

/// A virtual environment with the pinned version; its interpreter.
pub fn redis_py(context: &Context) -> Result<PathBuf> {
    let home = installed(context, "python");
    let python = home.join("bin/python");
    if !python.exists() {
        Program::new("python3").args(["-m", "venv"]).args([&home]).output_within(INSTALL_MAX)?;
    }
    let requirements = context.root.join("tests/clients/redis-py/requirements.txt");
    Program::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--requirement"])
        .args([&requirements])
        .output_within(INSTALL_MAX)?;
    Ok(python)
}

/// A folder with the pinned packages, away from the tree, and the scripts beside them.
pub fn ioredis(context: &Context) -> Result<PathBuf> {
    let home = installed(context, "ioredis");
    std::fs::create_dir_all(&home)?;
    for file in ["package.json", "package-lock.json", "client.js", "cluster.js"] {
        let from = context.root.join("tests/clients/ioredis").join(file);
        std::fs::copy(&from, home.join(file)).with_context(|| from.display().to_string())?;
    }
    Program::new("npm").args(["ci", "--silent"]).in_directory(&home).output_within(INSTALL_MAX)?;
    Ok(home)
}

/// Where a client stays installed between runs: beside the items' folders.
fn installed(context: &Context, name: &str) -> PathBuf {
    context.scratch.parent().unwrap_or(Path::new(".")).join(format!("client-{name}"))
}

/// Requests per second by test.
fn redis_benchmark(context: &Context, port: &str) -> Result<Vec<(String, f64)>> {
    let requests = context.amount("100000", "10000");
    let finished = Program::new("redis-benchmark")
        .args(["-p", port, "-t", "ping,set,get,incr,mset", "-n", requests, "--csv"])
        .finish_within(RUN_MAX)?;
    let said = format!("{}{}", finished.stdout, finished.stderr);
    ensure!(finished.success, "redis-benchmark failed:\n{said}");
    ensure!(!said.contains("rror") && !said.contains("WARN"), "redis-benchmark complains:\n{said}");
    let rates = rates(&finished.stdout);
    // PING is measured twice, inline and as bulk.
    ensure!(rates.len() == 6, "redis-benchmark measured {} tests of 6:\n{said}", rates.len());
    Ok(rates)
}

/// `"SET","123456.78","0.2",…` after a line of titles.
fn rates(csv: &str) -> Vec<(String, f64)> {
    let rows = csv.lines().filter_map(|line| {
        let mut cells = line.split(',').map(|cell| cell.trim_matches('"'));
        let test = cells.next()?;
        // `MSET (10 keys)` and `PING_INLINE`, in words of our own kind.
        let test = test.split(' ').next()?.to_lowercase();
        Some((test, cells.next()?.parse().ok()?))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::rates;

    #[test]
    fn rates_are_read_from_the_table() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"10.5\",\"1\"\n\"MSET (10 keys)\",\"7\",\"1\"\n";
        assert_eq!(rates(csv), [("set".to_string(), 10.5), ("mset".to_string(), 7.0)]);
    }
}
