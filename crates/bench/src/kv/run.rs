//! One measurement, from the first connection to the report.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::task::{JoinSet, LocalSet};
use tonic::transport::Channel;

use super::cluster::SlotMap;
use super::etcd::proto::kv_client::KvClient;
use super::metrics::Counters;
use super::recorder::{Phase, Recorder};
use super::workload::{KEY_BYTES, Workload, value_pool};
use super::{KvOptions, KvReport, OperationReport, Target, etcd, resp};
use crate::processes::{self, Usage, own_usage, usage};

/// Why there is no measurement.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KvError {
    /// An option makes no sense.
    #[error("{0}")]
    Options(&'static str),
    /// The generator itself could not be set up.
    #[error("cannot start the load generator: {0}")]
    Start(#[source] io::Error),
    /// A server did not accept a connection, or refused the first request.
    #[error("cannot use {address}: {source}")]
    Connect {
        /// The server.
        address: String,
        /// What it said.
        source: io::Error,
    },
    /// An etcd server did not accept a connection.
    #[error("cannot use {address}: {source}")]
    ConnectEtcd {
        /// The server.
        address: String,
        /// What it said.
        source: tonic::transport::Error,
    },
    /// The node at this address did not answer with a complete slot map.
    #[error("{0} has no complete slot map: is it a cluster?")]
    SlotMap(String),
    /// Keys could not be written before the measurement.
    #[error("cannot fill the store: {0}")]
    Fill(String),
    /// A metrics page could not be read.
    #[error("cannot read the metrics: {0}")]
    Metrics(#[source] io::Error),
}

/// Without a success for this long the run ends; the report shows the gap.
const STALL_MAX: Duration = Duration::from_secs(30);

/// How often it is looked whether the run is over.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What is still under way when the measurement ends may take this long.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the load and measures it. Blocking; everything happens in the calling thread.
///
/// # Errors
/// If a server cannot be used at the start. Errors during the run are counted in the report.
///
/// # Panics
/// If called within an asynchronous runtime.
pub fn run_kv(options: &KvOptions) -> Result<KvReport, KvError> {
    options.check().map_err(KvError::Options)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(KvError::Start)?;
    LocalSet::new().block_on(&runtime, run(options))
}

async fn run(options: &KvOptions) -> Result<KvReport, KvError> {
    let load = Load::connect(options).await?;
    if options.fills() {
        load.fill().await?;
    }
    load.measure().await
}

/// The servers as the clients will use them.
enum Servers {
    /// One slot map for each address, shared by the clients that start there.
    Resp(Vec<Rc<RefCell<SlotMap>>>),
    /// Connections to share.
    Etcd(Vec<Channel>),
}

struct Load<'a> {
    options: &'a KvOptions,
    servers: Servers,
    recorder: Rc<Recorder>,
    pids: Vec<u32>,
}

/// All that is read off the servers before and after the measurement.
struct Reading {
    servers: Option<Usage>,
    generator: Usage,
    counters: Option<Counters>,
}

impl<'a> Load<'a> {
    async fn connect(options: &'a KvOptions) -> Result<Self, KvError> {
        let servers = match options.target {
            Target::Etcd => Servers::Etcd(connect_etcd(options).await?),
            _ => Servers::Resp(connect_resp(options).await?),
        };
        let pids = match options.server_pids.as_slice() {
            [] => processes::listening_on(&local_ports(&servers, options)),
            pids => pids.to_vec(),
        };
        let recorder = Recorder::new(options.keys, options.ops);
        Ok(Self { options, servers, recorder, pids })
    }

    fn spawn_clients(&self) -> JoinSet<()> {
        let options = self.options;
        let pool = value_pool(options.seed, options.value_bytes);
        let mut clients = JoinSet::new();
        for client in 0..options.clients {
            let workload = Workload::new(options, client, pool.clone());
            let (pipeline, recorder) = (options.pipeline, self.recorder.clone());
            match &self.servers {
                Servers::Resp(maps) => {
                    let map = maps[client % maps.len()].clone();
                    let client = resp::Client::new(map, options, workload, recorder);
                    clients.spawn_local(client.run());
                }
                Servers::Etcd(channels) => {
                    let kv = KvClient::new(channels[client % channels.len()].clone());
                    let client = etcd::Client { kv, pipeline, workload, recorder };
                    clients.spawn_local(client.run());
                }
            }
        }
        clients
    }

    async fn fill(&self) -> Result<(), KvError> {
        self.recorder.enter(Phase::Fill);
        let mut clients = self.spawn_clients();
        while clients.join_next().await.is_some() {}
        match self.recorder.first_error() {
            Some(error) => Err(KvError::Fill(error)),
            None => Ok(()),
        }
    }

    async fn measure(&self) -> Result<KvReport, KvError> {
        self.recorder.enter(Phase::WarmUp);
        let mut clients = self.spawn_clients();
        tokio::time::sleep(self.options.warm_up()).await;
        let before = self.read().await?;
        let start = Instant::now();
        self.recorder.enter(Phase::Measure);
        let end = self.wait_for_end(start).await;
        let gap = self.recorder.longest_gap(end);
        self.recorder.enter(Phase::Stop);
        let after = self.read().await?;
        let stopped = async { while clients.join_next().await.is_some() {} };
        // Clients that still wait for a dead server are dropped with the set.
        let _ = tokio::time::timeout(STOP_TIMEOUT, stopped).await;
        Ok(self.report(end - start, gap, &before, &after))
    }

    /// Waits until time, the number of operations or a stall ends the measurement; says when.
    async fn wait_for_end(&self, start: Instant) -> Instant {
        let deadline = self.options.length().map(|length| start + length);
        let (mut ops, mut progress) = (0, start);
        loop {
            let now = Instant::now();
            if self.recorder.phase() == Phase::Stop {
                return self.recorder.last_success();
            }
            if deadline.is_some_and(|deadline| now >= deadline) || now - progress > STALL_MAX {
                return now;
            }
            if self.recorder.ops() > ops {
                (ops, progress) = (self.recorder.ops(), now);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn read(&self) -> Result<Reading, KvError> {
        // The page first: fetching it takes a moment, and the rest belongs to the border.
        let counters = Counters::fetch(&self.options.metrics_urls).await;
        let counters = counters.map_err(KvError::Metrics)?;
        Ok(Reading { servers: usage(&self.pids), generator: own_usage(), counters })
    }

    fn report(
        &self,
        length: Duration,
        gap: Duration,
        before: &Reading,
        after: &Reading,
    ) -> KvReport {
        let options = self.options;
        let seconds = length.as_secs_f64().max(1e-9);
        let ops = self.recorder.ops();
        let (reads, writes) = self.recorder.counts(|reads, writes| {
            let report = |latency| OperationReport::of(latency, seconds);
            (report(&reads.latency), report(&writes.latency))
        });
        let servers = before.servers.zip(after.servers);
        let cpu = servers.map(|(before, after)| after.cpu_seconds - before.cpu_seconds);
        let disk =
            servers.map(|(before, after)| after.disk_bytes.saturating_sub(before.disk_bytes));
        let counters = before.counters.as_ref().zip(after.counters.as_ref());
        let syncs = counters.map(|(before, after)| after.syncs_since(before));
        let written = counters.and_then(|(before, after)| after.bytes_written_since(before));
        let payload = writes.as_ref().map(|writes: &OperationReport| {
            writes.ops as f64 * (KEY_BYTES + options.value_bytes) as f64
        });
        KvReport {
            target: options.target,
            addresses: options.addresses.clone(),
            clients: options.clients,
            pipeline: options.pipeline,
            value_bytes: options.value_bytes,
            keys: options.keys,
            read_share: options.read_share,
            seconds,
            ops,
            ops_per_second: ops as f64 / seconds,
            reads,
            writes,
            errors: self.recorder.errors(),
            first_error: self.recorder.first_error(),
            longest_gap_ms: gap.as_secs_f64() * 1e3,
            server_cpu_seconds: cpu,
            ops_per_server_cpu_second: cpu.filter(|cpu| *cpu > 0.0).map(|cpu| ops as f64 / cpu),
            server_cpu_us_per_op: cpu.filter(|_| ops > 0).map(|cpu| cpu * 1e6 / ops as f64),
            server_rss_bytes: after.servers.map(|usage| usage.rss_bytes),
            server_disk_bytes_per_op: disk.filter(|_| ops > 0).map(|disk| disk as f64 / ops as f64),
            syncs_per_second: syncs.map(|syncs| syncs / seconds),
            write_amplification: written.zip(payload).map(|(written, payload)| written / payload),
            stages: counters.map(|(before, after)| after.stages_since(before)).unwrap_or_default(),
            generator_cpu_seconds: after.generator.cpu_seconds - before.generator.cpu_seconds,
        }
    }
}

async fn connect_etcd(options: &KvOptions) -> Result<Vec<Channel>, KvError> {
    let mut channels = Vec::new();
    for index in 0..options.connections.unwrap_or(options.clients) {
        let address = &options.addresses[index % options.addresses.len()];
        let channel = etcd::connect(address)
            .await
            .map_err(|source| KvError::ConnectEtcd { address: address.clone(), source })?;
        channels.push(channel);
    }
    Ok(channels)
}

async fn connect_resp(options: &KvOptions) -> Result<Vec<Rc<RefCell<SlotMap>>>, KvError> {
    let mut maps = Vec::new();
    for address in &options.addresses {
        let failed = |source| KvError::Connect { address: address.clone(), source };
        let connection = resp::Connection::open(address, options.password.as_deref()).await;
        let mut connection = connection.map_err(failed)?;
        let map = if options.target == Target::RedisCluster {
            let reply = connection.call(&["CLUSTER", "SLOTS"]).await.map_err(failed)?;
            let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
            SlotMap::parse(&reply, host).ok_or_else(|| KvError::SlotMap(address.clone()))?
        } else {
            connection.call(&["PING"]).await.map_err(failed)?;
            SlotMap::single(address)
        };
        maps.push(Rc::new(RefCell::new(map)));
    }
    Ok(maps)
}

/// The ports of this machine among the addresses of the servers.
fn local_ports(servers: &Servers, options: &KvOptions) -> BTreeSet<u16> {
    let mut addresses: BTreeSet<String> = options.addresses.iter().cloned().collect();
    if let Servers::Resp(maps) = servers {
        addresses.extend(maps.iter().flat_map(|map| map.borrow().addresses.clone()));
    }
    let local = addresses.iter().filter_map(|address| {
        let (host, port) = address.rsplit_once(':')?;
        let local = host == "localhost" || host.starts_with("127.") || host == "[::1]";
        port.parse().ok().filter(|_| local)
    });
    local.collect()
}
