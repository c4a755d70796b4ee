//! What to measure.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The kind of server at the addresses; it decides the protocol spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Kontiki, by RESP.
    Kontiki,
    /// One Redis server.
    Redis,
    /// A Redis Cluster: keys are routed by their slots, redirections followed.
    RedisCluster,
    /// etcd, by gRPC.
    Etcd,
}

impl Target {
    /// All of them, in the order of the help text.
    pub const ALL: [Self; 4] = [Self::Kontiki, Self::Redis, Self::RedisCluster, Self::Etcd];

    /// The name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kontiki => "kontiki",
            Self::Redis => "redis",
            Self::RedisCluster => "redis-cluster",
            Self::Etcd => "etcd",
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|target| target.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("unknown target '{name}': expected one of {names}")
        })
    }
}

/// One measurement. [`KvOptions::new`] gives the defaults named here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KvOptions {
    /// What is at the addresses.
    pub target: Target,
    /// `host:port` of each server; client `i` uses address `i` modulo their number. For a Redis
    /// Cluster, where to ask for the slot map.
    pub addresses: Vec<String>,
    /// Password for RESP targets.
    pub password: Option<String>,
    /// Concurrent clients. Default 64.
    pub clients: usize,
    /// Connections that the clients of an etcd target share. Default (`None`): one each.
    pub connections: Option<usize>,
    /// Operations that a client sends before it waits. Default 1. etcd gets them as concurrent
    /// calls.
    pub pipeline: usize,
    /// Replicas that a RESP target must have waited for before a write counts, by `WAIT` sent right
    /// behind it; fewer is an error. Default 0: `WAIT` is not sent.
    pub wait: u32,
    /// Bytes of a value. Default 128.
    pub value_bytes: usize,
    /// Distinct keys, of 16 bytes each, chosen uniformly. Default 10,000.
    pub keys: u64,
    /// Which part of the operations are reads, 0 to 1. Default 0.
    pub read_share: f64,
    /// How long to measure. Default: 10 s if `ops` is not set either. The first limit ends the run.
    pub seconds: Option<f64>,
    /// How many operations to measure. Default: no limit.
    pub ops: Option<u64>,
    /// How long to run before measuring. Default 1 s.
    pub warm_up_seconds: f64,
    /// Write every key once before the warm-up. Default (`None`): if there are reads.
    pub fill: Option<bool>,
    /// Seed of keys, values and the order of reads and writes. Default 1.
    pub seed: u64,
    /// Processes whose CPU time is the servers'. Default (empty): whoever listens at those of the
    /// addresses that are on this machine.
    pub server_pids: Vec<u32>,
    /// Prometheus pages (`http://host:port/metrics`) whose counters of syncs to disk are summed.
    pub metrics_urls: Vec<String>,
}

impl KvOptions {
    /// The defaults, for these servers.
    pub fn new(target: Target, addresses: Vec<String>) -> Self {
        Self {
            target,
            addresses,
            password: None,
            clients: 64,
            connections: None,
            pipeline: 1,
            wait: 0,
            value_bytes: 128,
            keys: 10_000,
            read_share: 0.0,
            seconds: None,
            ops: None,
            warm_up_seconds: 1.0,
            fill: None,
            seed: 1,
            server_pids: Vec::new(),
            metrics_urls: Vec::new(),
        }
    }

    /// Says in words which value makes no sense, if one does.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let finite = |seconds: f64| (0.0..=1e6).contains(&seconds);
        match self {
            _ if self.addresses.is_empty() => Err("at least one address is needed"),
            _ if self.clients == 0 => Err("at least one client is needed"),
            _ if self.connections == Some(0) => Err("at least one connection is needed"),
            _ if self.pipeline == 0 => Err("the pipeline must be at least 1 deep"),
            _ if self.keys == 0 => Err("at least one key is needed"),
            _ if self.keys > 1_000_000_000_000 => Err("at most 10^12 keys"),
            _ if !(0.0..=1.0).contains(&self.read_share) => Err("the read share is from 0 to 1"),
            _ if !finite(self.warm_up_seconds) => Err("the warm-up must be 0 to 10^6 seconds"),
            _ if !self.seconds.is_none_or(finite) => Err("the run must be 0 to 10^6 seconds long"),
            _ => Ok(()),
        }
    }

    pub(crate) fn fills(&self) -> bool {
        self.fill.unwrap_or(self.read_share > 0.0)
    }

    pub(crate) fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up_seconds)
    }

    /// The length of the measurement, if time ends it.
    pub(crate) fn length(&self) -> Option<Duration> {
        let default = if self.ops.is_none() { Some(10.0) } else { None };
        self.seconds.or(default).map(Duration::from_secs_f64)
    }
}
