//! What a node is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kontiki_net::{Limits, PeerConfig, Security};
use kontiki_raft::{Config, Lease};
use kontiki_replica::{ConnectionLimits, GroupConfig, Redirect};
use kontiki_resp::RequestLimits;
use kontiki_types::{Incarnation, Member, NodeId, ReplicaId};

/// How a node comes to belong to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Its directory says so: an ordinary start. An empty directory is refused.
    Formatted,
    /// It founds a cluster with [`Settings::peers`]. All founders must be given each other; the
    /// cluster begins when each has heard every other.
    Found,
    /// It asks the cluster behind this gRPC address for an invitation, as a node without replicas.
    Join(String),
}

/// Timing and limits of the consensus core; see [`kontiki_raft::Config`] for what each bounds.
#[derive(Clone, Debug)]
pub struct RaftLimits {
    /// A follower campaigns after this long to twice as long without a leader.
    pub election_timeout: Duration,
    /// How often a leader sends heartbeats.
    pub heartbeat: Duration,
    /// A leader whose disk takes longer than this for a write steps down.
    pub write_deadline: Duration,
    /// A group that has had nothing to do for this long rests; `None`: never. Going to rest costs what
    /// a heartbeat costs, so the sooner the better, but a leader that rests has no lease. Default
    /// 30 ms, an interval between heartbeats.
    pub quiesce_after: Option<Duration>,
    /// Reads under a leader lease, with this bound on clock drift in parts per million.
    pub lease_drift_ppm: Option<u32>,
    /// Entries of one append message, in bytes.
    pub append_bytes_max: usize,
    /// Bytes sent to one follower and not acknowledged.
    pub inflight_bytes_max: usize,
    /// Messages sent to one follower and not acknowledged.
    pub inflight_appends_max: usize,
    /// Bytes appended and not committed.
    pub uncommitted_bytes_max: usize,
    /// Bytes in the log and not applied.
    pub unapplied_bytes_max: usize,
    /// Bytes of a snapshot in one message.
    pub snapshot_chunk_bytes: usize,
    /// Bytes of each group's log that stay in memory.
    pub log_cache_bytes: u64,
}

impl Default for RaftLimits {
    fn default() -> Self {
        let nobody = Member::new(NodeId(0), Incarnation(0), ReplicaId(0));
        let config = Config::new(nobody);
        Self {
            election_timeout: config.election_timeout,
            heartbeat: config.heartbeat,
            write_deadline: config.write_deadline,
            quiesce_after: Some(config.heartbeat),
            lease_drift_ppm: None,
            append_bytes_max: config.max_append_bytes,
            inflight_bytes_max: config.max_inflight_bytes,
            inflight_appends_max: config.max_inflight_appends,
            uncommitted_bytes_max: config.max_uncommitted_bytes,
            unapplied_bytes_max: config.max_unapplied_bytes,
            snapshot_chunk_bytes: config.snapshot_chunk_bytes,
            log_cache_bytes: 4 << 20,
        }
    }
}

/// With leases a group rests after this time at the earliest: the next read needs a round.
const REST_WITH_LEASE: Duration = Duration::from_secs(1);

impl RaftLimits {
    /// The core's own form, for the replica `me`.
    pub(crate) fn config(&self, me: Member) -> Config {
        Config {
            election_timeout: self.election_timeout,
            heartbeat: self.heartbeat,
            write_deadline: self.write_deadline,
            quiesce_after: self.quiesce_after.map(|after| match self.lease_drift_ppm {
                Some(_) => after.max(REST_WITH_LEASE),
                None => after,
            }),
            commits_can_wait: true,
            align_heartbeats: true,
            lease: self.lease_drift_ppm.map(|drift_ppm| Lease { drift_ppm }),
            max_append_bytes: self.append_bytes_max,
            max_inflight_bytes: self.inflight_bytes_max,
            max_inflight_appends: self.inflight_appends_max,
            max_uncommitted_bytes: self.uncommitted_bytes_max,
            max_unapplied_bytes: self.unapplied_bytes_max,
            snapshot_chunk_bytes: self.snapshot_chunk_bytes,
            log_cache_bytes: Some(self.log_cache_bytes),
            ..Config::new(me)
        }
    }
}

/// Settings of a node. Every one has a default but the directory and the id.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node.
    pub id: NodeId,
    /// Where it keeps everything.
    pub dir: PathBuf,
    /// Where it listens for Redis clients.
    pub resp: SocketAddr,
    /// Where it listens for peers and native clients.
    pub grpc: SocketAddr,
    /// Where it listens for metrics and health checks.
    pub http: SocketAddr,
    /// The host that others are told to reach it at; the listening address if `None`.
    pub advertise: Option<String>,
    /// How it comes to belong to a cluster.
    pub membership: Membership,
    /// gRPC addresses of other nodes: founders, or where known nodes may have moved to.
    pub peers: Vec<(NodeId, String)>,
    /// Data groups of a cluster that it founds; from 2 on the store is sharded.
    pub groups: usize,
    /// What it asks of its callers: the password of Redis clients too is in here.
    pub security: Security,
    /// Listen beyond loopback without password and secret all the same.
    pub insecure: bool,
    /// Open client connections at the most.
    pub maxclients: usize,
    /// Unwritten replies of one connection, in bytes; beyond it the connection is closed.
    pub output_bytes_max: usize,
    /// Bytes of one write in the log at the most.
    pub entry_bytes_max: usize,
    /// Unanswered commands of one connection.
    pub pipeline_max: usize,
    /// Who is told MOVED.
    pub redirect: Redirect,
    /// Waiting, retrying and log keeping of a group.
    pub group: GroupConfig,
    /// Timing and limits of the consensus core.
    pub raft: RaftLimits,
    /// What gRPC callers may take of the node.
    pub grpc_limits: Limits,
    /// Limits of the way to other nodes.
    pub peer_transport: PeerConfig,
    /// Bytes of a segment of the log.
    pub segment_bytes: u64,
    /// How long after a pass over everything on disk the next one begins. Zero: never. Default 6 h.
    pub scrub_interval: Duration,
    /// Bytes of snapshots that are sent to followers in a second; 0: no limit.
    pub snapshot_rate: u64,
    /// Memory of the process, in bytes: caches, queues and connections have shares of it, and the
    /// limits above are lowered to them.
    pub memory_bytes: u64,
    /// Threads that serve sockets.
    pub io_threads: usize,
    /// For tests: a folder with the stages at which moves of slots are to stop, as files
    /// (`source-frozen`).
    pub move_stops: Option<PathBuf>,
}

impl Settings {
    /// The defaults, for node `id` in `dir` on loopback with the ports of `base_port`
    /// (`base + id`, `base + 100 + id`, `base + 200 + id`; any free ones for 0).
    pub fn new(id: NodeId, dir: PathBuf, base_port: u16) -> Self {
        let port = |offset: u16| {
            let number = base_port.saturating_add(offset).saturating_add(id.0 as u16);
            SocketAddr::from(([127, 0, 0, 1], if base_port == 0 { 0 } else { number }))
        };
        Self {
            id,
            dir,
            resp: port(0),
            grpc: port(100),
            http: port(200),
            advertise: None,
            membership: Membership::Formatted,
            peers: Vec::new(),
            groups: 1,
            security: Security::default(),
            insecure: false,
            maxclients: 10_000,
            output_bytes_max: 128 << 20,
            entry_bytes_max: 8 << 20,
            pipeline_max: 1024,
            redirect: Redirect::default(),
            group: GroupConfig::default(),
            raft: RaftLimits::default(),
            grpc_limits: Limits::default(),
            peer_transport: PeerConfig::default(),
            segment_bytes: 64 << 20,
            scrub_interval: Duration::from_secs(6 * 3600),
            snapshot_rate: 256 << 20,
            memory_bytes: 512 << 20,
            io_threads: 1,
            move_stops: None,
        }
    }

    /// Why the node may not start like this, if it may not: addresses beyond loopback need a
    /// password and a secret.
    pub fn refusal(&self) -> Option<String> {
        if self.insecure {
            return None;
        }
        let beyond = |address: &SocketAddr| !address.ip().is_loopback();
        if beyond(&self.resp) && self.security.password.is_none() {
            return Some(format!(
                "{} is beyond loopback and no client password is set\n\
                 hint: set requirepass (KONTIKI_REQUIREPASS or a file), or --insecure",
                self.resp
            ));
        }
        let secured = self.security.secret.is_some()
            || self.security.tls.as_ref().is_some_and(|tls| tls.peer_certificates);
        if beyond(&self.grpc) && !(secured && self.security.password.is_some()) {
            return Some(format!(
                "{} is beyond loopback and {}\n\
                 hint: set both requirepass and cluster-secret (or mutual TLS), or --insecure",
                self.grpc,
                if secured { "no client password is set" } else { "no cluster secret is set" }
            ));
        }
        None
    }
}

/// Settings that `CONFIG SET` may change, and the limits derived from the fixed ones.
#[derive(Debug)]
pub(crate) struct LiveSettings {
    maxclients: AtomicUsize,
    pub(crate) output_bytes_max: usize,
    entry_bytes_max: usize,
    pipeline_max: usize,
    pub(crate) redirect: Redirect,
    pub(crate) move_stops: Option<PathBuf>,
}

impl LiveSettings {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            maxclients: AtomicUsize::new(settings.maxclients),
            output_bytes_max: settings.output_bytes_max,
            entry_bytes_max: settings.entry_bytes_max,
            pipeline_max: settings.pipeline_max,
            redirect: settings.redirect,
            move_stops: settings.move_stops.clone(),
        }
    }

    pub(crate) fn maxclients(&self) -> usize {
        self.maxclients.load(Ordering::Relaxed)
    }

    pub(crate) fn set_maxclients(&self, max: usize) {
        self.maxclients.store(max, Ordering::Relaxed);
    }

    pub(crate) fn entry_bytes_max(&self) -> usize {
        self.entry_bytes_max
    }

    pub(crate) fn connection_limits(&self) -> ConnectionLimits {
        ConnectionLimits { pipeline: self.pipeline_max, entry_bytes: self.entry_bytes_max }
    }

    /// A request may be larger than an entry, so that it gets the error that names the limit.
    pub(crate) fn request_limits(&self) -> RequestLimits {
        let bulk_bytes_max = self.entry_bytes_max.saturating_mul(2);
        RequestLimits {
            bulk_bytes_max,
            request_bytes_max: bulk_bytes_max.saturating_mul(4),
            ..RequestLimits::default()
        }
    }
}
