//! Every key: its type, its default, and what it means.

use std::path::PathBuf;
use std::time::Duration;

use kontiki_node::Redirect;

use super::value::{LogFormat, Peer, Setting, Size, Value};

/// One key, as data.
pub(super) struct Key {
    /// As a field: `election_timeout`.
    pub(super) field: &'static str,
    /// As in the file and as a flag: `election-timeout`.
    pub(super) name: &'static str,
    /// Lines that say what it means.
    pub(super) doc: &'static [&'static str],
    /// A value as TOML, for keys that have none by default.
    pub(super) example: &'static str,
    pub(super) placeholder: Option<&'static str>,
    pub(super) repeated: bool,
    pub(super) set: fn(&mut Config, &Value) -> Result<(), String>,
    pub(super) show: fn(&Config) -> Option<String>,
}

impl Key {
    /// As in the environment: `KONTIKI_ELECTION_TIMEOUT`.
    pub(super) fn variable(&self) -> String {
        format!("KONTIKI_{}", self.field.to_ascii_uppercase())
    }

    /// What it means, in one line.
    pub(super) fn meaning(&self) -> String {
        self.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }
}

/// Keys that belong together.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) keys: &'static [Key],
}

/// All keys, in the order of the file.
pub(super) fn keys() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().flat_map(|section| section.keys)
}

/// A field's name with dashes, at compile time: clap takes static names alone.
const fn dashed<const LENGTH: usize>(field: &str) -> [u8; LENGTH] {
    let mut name = [0; LENGTH];
    let mut at = 0;
    while at < LENGTH {
        let letter = field.as_bytes()[at];
        name[at] = if letter == b'_' { b'-' } else { letter };
        at += 1;
    }
    name
}

macro_rules! sections {
    ($($title:literal { $($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr, $example:literal;)+ })+) => {
        /// The settings of a node.
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct Config {
            $($($(#[doc = $doc])+ pub(crate) $field: $type,)+)+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($($field: $default,)+)+ }
            }
        }

        /// All keys by section.
        pub(super) static SECTIONS: &[Section] = &[$(Section {
            title: $title,
            keys: &[$(Key {
                field: stringify!($field),
                name: {
                    const NAME: [u8; stringify!($field).len()] = dashed(stringify!($field));
                    match str::from_utf8(&NAME) {
                        Ok(name) => name,
                        Err(_) => panic!("field names are ASCII"),
                    }
                },
                doc: &[$($doc),+],
                example: $example,
                placeholder: <$type as Setting>::PLACEHOLDER,
                repeated: <$type as Setting>::REPEATED,
                set: |config, value| {
                    config.$field = Setting::read(value)?;
                    Ok(())
                },
                show: |config| Setting::shown(&config.$field),
            }),+],
        }),+];
    };
}

const fn kib(count: u64) -> Size {
    Size(count << 10)
}

const fn mib(count: u64) -> Size {
    kib(count << 10)
}

sections! {
    "The node" {
        /// Number of the node in its cluster, from 1.
        id: Option<u64> = None, "1";
        /// Where the node keeps its log and its state.
        dir: Option<PathBuf> = None, "\"/var/lib/kontiki\"";
    }
    "Addresses" {
        /// Where to listen for Redis clients. Beyond loopback a node starts only with a client
        /// password and a cluster secret (or mutual TLS), or with `insecure`.
        /// Default: 127.0.0.1, port 7000 + id.
        listen: Option<String> = None, "\"127.0.0.1:7001\"";
        /// Where to listen for other nodes and native clients. Default: the port of `listen` + 100.
        listen_grpc: Option<String> = None, "\"127.0.0.1:7101\"";
        /// Where to listen for metrics and health checks. Default: the port of `listen` + 200.
        listen_http: Option<String> = None, "\"127.0.0.1:7201\"";
        /// The host that others are told to reach this node at. Default: as it listens.
        advertise: Option<String> = None, "\"node1.example.org\"";
    }
    "The cluster" {
        /// Other nodes with their gRPC addresses: the founders with `bootstrap`, else where they may be
        /// found.
        peer: Vec<Peer> = Vec::new(), "[\"2=10.0.0.2:7101\", \"3=10.0.0.3:7101\"]";
        /// Found a cluster with the peers. Without effect once the directory belongs to one.
        bootstrap: bool = false, "true";
        /// With `bootstrap`: data groups that share the slots. With 1 the store is not sharded; it can be
        /// later. The same at all founders.
        groups: usize = 1, "3";
        /// Join the cluster of the node with this gRPC address. Without effect once it has.
        join: Option<String> = None, "\"10.0.0.2:7101\"";
    }
    "Security" {
        /// Password of Redis clients (AUTH, HELLO) and native clients. A flag shows it to everybody
        /// who can list processes: prefer the file or the environment.
        requirepass: Option<String> = None, "\"swordfish\"";
        /// File whose first line is the password.
        requirepass_file: Option<PathBuf> = None, "\"/etc/kontiki/password\"";
        /// What the nodes of a cluster share to trust each other. The same warning.
        cluster_secret: Option<String> = None, "\"a long random text\"";
        /// File whose first line is the cluster secret.
        cluster_secret_file: Option<PathBuf> = None, "\"/etc/kontiki/secret\"";
        /// Certificate chain of this node, PEM: the gRPC port speaks TLS.
        tls_certificate: Option<PathBuf> = None, "\"/etc/kontiki/node.pem\"";
        /// Private key of the certificate, PEM.
        tls_key: Option<PathBuf> = None, "\"/etc/kontiki/node.key\"";
        /// Certificate of the authority that signs the nodes' certificates, PEM.
        tls_authority: Option<PathBuf> = None, "\"/etc/kontiki/authority.pem\"";
        /// Name to expect in other nodes' certificates. Default: the host of their address.
        tls_server_name: Option<String> = None, "\"kontiki.example.org\"";
        /// Other nodes must show a certificate too (mutual TLS).
        tls_peer_certificates: bool = false, "true";
        /// Listen beyond loopback without password and secret.
        insecure: bool = false, "true";
    }
    "Clients" {
        /// Open connections of Redis clients.
        maxclients: usize = 10_000, "10000";
        /// Replies that a client has not read; beyond it the connection is closed.
        output_bytes_max: Size = mib(128), "\"128MiB\"";
        /// Commands of one connection without an answer; beyond it no more are read.
        pipeline_max: usize = 1024, "1024";
        /// Who is told MOVED when another node leads a slot: `auto`, clients that have asked for the
        /// map of slots; `always`, every client, as in Redis Cluster; `never`, nobody: the node
        /// passes commands on.
        redirect: Redirect = Redirect::Auto, "\"auto\"";
        /// One write in the log.
        entry_bytes_max: Size = mib(8), "\"8MiB\"";
        /// How long a command waits for a majority.
        request_timeout: Duration = Duration::from_secs(5), "\"5s\"";
        /// Requests that wait at the node.
        waiting_max: usize = 65_536, "65536";
        /// How long a write may be with a leader before it is sent again.
        retry_after: Duration = Duration::from_millis(400), "\"400ms\"";
        /// How often the replicas of one of the groups led here are compared, in turn: a part of the
        /// state each time, and only where something was written since. `0s`: never.
        check_interval: Duration = Duration::from_secs(1), "\"1s\"";
        /// Open gRPC connections, those of other nodes included.
        grpc_connections_max: usize = 4096, "4096";
        /// gRPC calls at once on one connection.
        grpc_calls_max: u32 = 256, "256";
        /// A silent gRPC connection is asked for a sign of life this often, and closed when it
        /// takes as long again.
        grpc_keepalive: Duration = Duration::from_secs(10), "\"10s\"";
    }
    "Consensus" {
        /// A follower campaigns after this long to twice as long without a leader.
        election_timeout: Duration = Duration::from_millis(150), "\"150ms\"";
        /// How often a leader is heard; at most a third of `election-timeout`.
        heartbeat: Duration = Duration::from_millis(30), "\"30ms\"";
        /// A leader whose disk takes longer than this for a write steps down.
        write_deadline: Duration = Duration::from_secs(1), "\"1s\"";
        /// Serve reads under a leader lease, trusting that clocks drift less than this many parts
        /// per million. Default: off, every read is confirmed by a majority.
        lease_drift_ppm: Option<u32> = None, "1000";
        /// Entries of one append message.
        append_bytes_max: Size = mib(1), "\"1MiB\"";
        /// Sent to one follower and not acknowledged.
        inflight_bytes_max: Size = mib(16), "\"16MiB\"";
        /// Messages sent to one follower and not acknowledged.
        inflight_appends_max: usize = 256, "256";
        /// Appended and not committed; beyond it writes are refused.
        uncommitted_bytes_max: Size = mib(64), "\"64MiB\"";
        /// Committed and not applied; beyond it writes are refused.
        unapplied_bytes_max: Size = mib(128), "\"128MiB\"";
        /// A piece of a snapshot on its way to a follower.
        snapshot_chunk_bytes: Size = mib(1), "\"1MiB\"";
        /// Bytes of snapshots that a node sends in a second, to all followers together. `0`: no
        /// limit.
        snapshot_rate: Size = mib(256), "\"256MiB\"";
        /// Frames that wait for one other node; beyond it they are dropped and sent again later.
        peer_queue_frames_max: usize = 16_384, "16384";
        /// Bytes that wait for one other node.
        peer_queue_bytes_max: Size = mib(32), "\"32MiB\"";
    }
    "Storage" {
        /// Memory of the node's process. What its caches, queues and connections may take is derived
        /// from it.
        memory: Size = mib(512), "\"512MiB\"";
        /// Log that is kept for followers that lag; one further behind gets a snapshot.
        log_keep: Size = mib(256), "\"256MiB\"";
        /// Log that stays in memory; what is older is read from disk for a follower that needs it.
        log_cache: Size = mib(4), "\"4MiB\"";
        /// A file of the log.
        segment_bytes: Size = mib(64), "\"64MiB\"";
        /// How long after a pass over everything on disk, to find damage, the next one begins. `0s`: never.
        scrub_interval: Duration = Duration::from_secs(6 * 3600), "\"6h\"";
    }
    "The process" {
        /// Threads that serve sockets.
        io_threads: usize = 1, "1";
        /// What is logged to stderr: error, warn, info, debug, trace, or a filter such as
        /// `kontiki_node=debug`.
        log_level: String = "warn".to_owned(), "\"info\"";
        /// How a log line looks: "text" or "json".
        log_format: LogFormat = LogFormat::Text, "\"json\"";
    }
}
