//! Item 1: `cargo run --release -- up`, a key through all three nodes, Ctrl-C, and `up` again.

use anyhow::{Result, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::acceptance::cluster::{Cluster, free_base_port, fresh_log, up_arguments};
use crate::acceptance::{Context, Figures, needs};
use crate::program::Program;

const READY_MAX: Duration = Duration::from_secs(5);

pub(super) fn run(context: &Context) -> Result<Figures> {
    needs(&["redis-cli"])?;
    let base = free_base_port()?;
    let started = Instant::now();
    let cluster = cargo_run_up(context, base)?;
    let ready = started.elapsed();
    ensure!(ready < READY_MAX, "ready only after {} s", ready.as_secs_f32());

    ensure!(redis_cli(base + 1, &["SET", "k", "v"])? == "OK", "SET is not answered with OK");
    expect_everywhere(base)?;
    for node in cluster.nodes() {
        for path in ["/healthz", "/readyz", "/metrics"] {
            expect_http_ok(node.http, path)?;
        }
    }
    a_second_up_is_refused(context)?;
    cluster.stop()?;

    let again = Instant::now();
    let cluster = Cluster::start_as_it_is(context, base)?;
    let ready_again = again.elapsed();
    expect_everywhere(base)?;
    cluster.stop()?;

    let mut figures = Figures::new();
    figures.insert("ready_seconds".into(), ready.as_secs_f64().into());
    figures.insert("ready_again_seconds".into(), ready_again.as_secs_f64().into());
    Ok(figures)
}

/// As README has it; cargo finds the binary built and becomes it.
fn cargo_run_up(context: &Context, base: u16) -> Result<Cluster> {
    let log = fresh_log(context)?;
    let up = Program::new("cargo")
        .args(["run", "--release", "--quiet", "--locked", "--"])
        .args(up_arguments(context, base))
        .in_directory(&context.root)
        .spawn_logged(&log)?;
    Cluster::await_ready(context, up, &log)
}

fn expect_everywhere(base: u16) -> Result<()> {
    for node in 1..=3 {
        let value = redis_cli(base + node, &["GET", "k"])?;
        ensure!(value == "v", "GET k at node {node} says {value:?}");
    }
    Ok(())
}

fn expect_http_ok(address: SocketAddr, path: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(READY_MAX))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    let status = said.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200"), "http://{address}{path} answers {status:?}");
    Ok(())
}

/// Two clusters on one directory would be two truths.
fn a_second_up_is_refused(context: &Context) -> Result<()> {
    let second = Program::new(&context.binary)
        .args(up_arguments(context, free_base_port()?))
        .finish_within(Duration::from_secs(20))?;
    ensure!(!second.success, "a second up on the same directory was not refused");
    ensure!(!second.stderr.trim().is_empty(), "a second up was refused without a word");
    Ok(())
}

fn redis_cli(port: u16, words: &[&str]) -> Result<String> {
    let said = Program::new("redis-cli").args(["-p", &port.to_string()]).args(words).output()?;
    Ok(said.trim().to_string())
}
