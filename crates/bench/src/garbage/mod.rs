//! Clients that a node must survive: noise, half-open connections, readers that never read.
//!
//! While they are at it, a witness, an ordinary client, writes and reads and times its requests,
//! and the memory of the server is sampled. Afterwards the server must be the same process, take
//! new connections on both ports, and have told the witness no untruth.
//!
//! Everything is bounded in time, talks to the given addresses only, and uses keys that begin
//! with `garbage:`; mutated requests may also leave a few keys with nonsense names.

mod http2;
mod noise;
mod offenders;
mod witness;

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::processes;
use witness::Witness;

/// What to do to a node. [`GarbageOptions::new`] gives the defaults named here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GarbageOptions {
    /// `host:port` of its RESP listener.
    pub resp: String,
    /// `host:port` of its gRPC listener.
    pub grpc: String,
    /// Byte strings to send, half to each port.
    pub count: u64,
    /// Seed of the byte strings.
    pub seed: u64,
    /// Connections, half to each port, that stop in the middle of a request and stay open.
    /// Default 200.
    pub half_open: usize,
    /// Requests for a reply of 1 MiB that a client sends and never reads. Default 4,096.
    pub unread: usize,
    /// Password of the RESP listener, for the witness and the client that never reads.
    pub password: Option<String>,
    /// The server's processes. Default (empty): whoever listens at the two ports.
    pub server_pids: Vec<u32>,
    /// No more byte strings are sent after this time. Default 60 s.
    pub seconds_max: f64,
    /// By how much the server's memory may grow, in bytes. Default 512 MiB.
    pub rss_growth_bytes_max: u64,
    /// How long the witness may wait for an answer, in milliseconds. Default 2,000.
    pub witness_ms_max: f64,
}

impl GarbageOptions {
    /// The defaults, for this node.
    pub fn new(resp: impl Into<String>, grpc: impl Into<String>, count: u64, seed: u64) -> Self {
        Self {
            resp: resp.into(),
            grpc: grpc.into(),
            count,
            seed,
            half_open: 200,
            unread: 4096,
            password: None,
            server_pids: Vec::new(),
            seconds_max: 60.0,
            rss_growth_bytes_max: 512 << 20,
            witness_ms_max: 2000.0,
        }
    }
}

/// Why nothing could be tried.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GarbageError {
    /// The name of the server means nothing.
    #[error("cannot resolve {address}: {source}")]
    Resolve {
        /// The name.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The witness could not even begin.
    #[error("cannot use {address}: {source}")]
    Connect {
        /// The server.
        address: String,
        /// What went wrong.
        source: io::Error,
    },
}

/// What was done to the node and how it bore it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GarbageReport {
    /// Byte strings sent, or at least begun to be sent.
    pub sent: u64,
    /// Connections that could not be opened for them.
    pub refused: u64,
    /// Half-open connections that stood throughout, whether or not the server closed them.
    pub half_open: usize,
    /// Bytes of requests that the clients which never read could send.
    pub unread_request_bytes: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Requests the witness had answered meanwhile.
    pub witness_ops: u64,
    /// Requests of the witness that failed or were answered wrongly, and the first such case.
    pub witness_errors: u64,
    /// The first of them.
    pub witness_first_error: Option<String>,
    /// The slowest answer to the witness, in milliseconds.
    pub witness_max_ms: f64,
    /// The server's memory before.
    pub rss_before_bytes: Option<u64>,
    /// The highest seen meanwhile.
    pub rss_peak_bytes: Option<u64>,
    /// After all bad connections were closed.
    pub rss_after_bytes: Option<u64>,
    /// What the node did wrong; empty if it did nothing wrong.
    pub problems: Vec<String>,
}

/// Memory is looked at this often.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);

/// After the bad connections are closed, the server gets this long before the last look.
const SETTLE: Duration = Duration::from_millis(500);

/// Torments a node and reports how it bore it. Blocking; ends within `seconds_max` and some 20 s.
///
/// # Errors
/// If the node does not serve an ordinary client to begin with.
pub fn run_garbage(options: &GarbageOptions) -> Result<GarbageReport, GarbageError> {
    let (resp, grpc) = (resolve(&options.resp)?, resolve(&options.grpc)?);
    let pids = match options.server_pids.as_slice() {
        [] => processes::listening_on(&BTreeSet::from([resp.port(), grpc.port()])),
        pids => pids.to_vec(),
    };
    let connect = |source| GarbageError::Connect { address: options.resp.clone(), source };
    let mut witness = Witness::open(resp, options.password.as_deref()).map_err(connect)?;
    witness.set_big_value().map_err(connect)?;
    let start = Instant::now();
    let deadline = start + Duration::from_secs_f64(options.seconds_max.clamp(0.0, 1e6));
    let rss_before = processes::usage(&pids).map(|usage| usage.rss_bytes);

    let stop = AtomicBool::new(false);
    let mut report = GarbageReport { rss_before_bytes: rss_before, ..GarbageReport::default() };
    thread::scope(|scope| {
        let witness = scope.spawn(|| witness.run(&stop));
        let peak = scope.spawn(|| watch_memory(&pids, &stop));
        let half_open = offenders::half_open(resp, grpc, options.half_open);
        report.half_open = half_open.len();
        let unread = scope.spawn(|| {
            let password = options.password.as_deref();
            offenders::never_read(resp, grpc, options.unread, password, &stop)
        });
        (report.sent, report.refused) = offenders::make_noise(resp, grpc, options, deadline);
        stop.store(true, Ordering::Relaxed);
        // A thread that panicked is a bug of ours and reported as a problem.
        match witness.join() {
            Ok(seen) => seen.into_report(&mut report),
            Err(_) => report.problems.push("the witness panicked".to_owned()),
        }
        report.rss_peak_bytes = peak.join().ok().flatten();
        report.unread_request_bytes = unread.join().unwrap_or_default();
    });
    thread::sleep(SETTLE);
    report.rss_after_bytes = processes::usage(&pids).map(|usage| usage.rss_bytes);
    report.seconds = start.elapsed().as_secs_f64();
    judge(options, &pids, resp, grpc, &mut report);
    Ok(report)
}

fn resolve(address: &str) -> Result<SocketAddr, GarbageError> {
    let failed = |source| GarbageError::Resolve { address: address.to_owned(), source };
    let mut found = address.to_socket_addrs().map_err(failed)?;
    found.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

fn watch_memory(pids: &[u32], stop: &AtomicBool) -> Option<u64> {
    let mut peak = None;
    while !stop.load(Ordering::Relaxed) {
        peak = peak.max(processes::usage(pids).map(|usage| usage.rss_bytes));
        thread::sleep(SAMPLE_INTERVAL);
    }
    peak
}

/// Writes down what is not as it must be.
fn judge(
    options: &GarbageOptions,
    pids: &[u32],
    resp: SocketAddr,
    grpc: SocketAddr,
    report: &mut GarbageReport,
) {
    let mut problems = Vec::new();
    if report.sent < options.count {
        problems.push(format!("only {} of {} byte strings were sent", report.sent, options.count));
    }
    if report.witness_ops == 0 {
        problems.push("the witness was not served".to_owned());
    }
    if report.witness_errors > 0 {
        let first = report.witness_first_error.as_deref().unwrap_or("?");
        problems.push(format!("the witness saw {} errors, first: {first}", report.witness_errors));
    }
    if report.witness_max_ms > options.witness_ms_max {
        problems.push(format!("the witness waited {:.0} ms", report.witness_max_ms));
    }
    if let Err(error) = Witness::open(resp, options.password.as_deref()) {
        problems.push(format!("RESP takes no new client: {error}"));
    }
    if let Err(error) = http2::greets(grpc) {
        problems.push(format!("gRPC takes no new client: {error}"));
    }
    if !pids.is_empty() && report.rss_after_bytes.is_none() {
        problems.push("a server process is gone".to_owned());
    }
    if let (Some(before), Some(peak)) = (report.rss_before_bytes, report.rss_peak_bytes) {
        let grown = peak.saturating_sub(before);
        if grown > options.rss_growth_bytes_max {
            problems.push(format!("memory grew by {} MiB", grown >> 20));
        }
    }
    report.problems.append(&mut problems);
}

#[cfg(test)]
mod tests;
