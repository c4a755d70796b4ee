//! node: one node in the foreground.

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use kontiki_net::{Limits, PeerConfig, Secret, Security, Tls};
use kontiki_node::{GroupConfig, Membership, RaftLimits, Settings, StartError};
use kontiki_shard::GROUPS_MAX;
use kontiki_types::NodeId;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{LogArgs, NodeArgs};
use crate::config::{Config, Size};

pub(crate) fn run(args: NodeArgs, log: &LogArgs) -> Result<()> {
    if let Some(parent) = args.parent {
        die_with(parent)?;
    }
    let config = Config::load(args.config.as_deref(), std::env::vars(), &args.settings)?;
    log.start(&config.log_level, config.log_format);
    let settings = settings(&config)?;
    let mut runtime = match settings.io_threads {
        // One thread for sockets and event loop, which then need not wake each other.
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime
        .worker_threads(settings.io_threads.max(1))
        .enable_all()
        .build()
        .context("cannot start the threads that serve sockets")?;
    let done = runtime.block_on(async {
        let listen = |kind| signal(kind).map_err(StartError::Listener);
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let stop = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        let listening = |addresses: &kontiki_node::Addresses| {
            println!(
                "listening  resp {}  grpc {}  http {}",
                addresses.resp, addresses.grpc, addresses.http
            );
        };
        kontiki_node::run(settings, listening, stop).await
    });
    match done {
        Err(error @ (StartError::Damaged { .. } | StartError::Differs { .. })) => {
            start_again(error)
        }
        done => Ok(done?),
    }
}

/// How often in a row a node starts itself again.
const STARTED_AGAIN_MAX: u32 = 3;
/// Says to the next start how often that was.
const STARTED_AGAIN: &str = "_KONTIKI_STARTED_AGAIN";

/// A state that cannot be read back is discarded and made anew by a start, and one that cannot be
/// trusted is not opened by it, so the process becomes a
/// new one of itself, unless that has not helped before. Returns only an error.
fn start_again(error: StartError) -> Result<()> {
    let times = std::env::var(STARTED_AGAIN).ok().and_then(|times| times.parse().ok()).unwrap_or(0);
    if times >= STARTED_AGAIN_MAX {
        return Err(error.into());
    }
    eprintln!("error: {error}\nthe node starts again by itself");
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let failed = std::process::Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(STARTED_AGAIN, (times + 1).to_string())
        .exec();
    bail!("{error}\nand cannot start again by itself: {failed}")
}

/// Has this process end when its parent does, unless that has happened already.
pub(crate) fn die_with(parent: u32) -> Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let is_parent =
        || getppid().is_some_and(|pid| pid.as_raw_nonzero().get().cast_unsigned() == parent);
    // A node started again by hand with the same flags has another parent, and lives by itself.
    if is_parent() {
        set_parent_process_death_signal(Some(Signal::TERM))
            .context("cannot ask to be told of the parent's end")?;
        if !is_parent() {
            bail!("the parent process {parent} ended during the start");
        }
    }
    Ok(())
}

fn settings(config: &Config) -> Result<Settings> {
    let id = config.id.context("which node is it?\nhint: --id N, the number in its cluster")?;
    if id == 0 {
        bail!("node ids count from 1");
    }
    let dir = config.dir.clone();
    let dir = dir.unwrap_or_else(|| PathBuf::from(format!("./kontiki-data/node-{id}")));
    let mut settings = Settings::new(NodeId(id), dir, 7000);
    addresses(config, &mut settings)?;
    settings.peers =
        config.peer.iter().map(|peer| (NodeId(peer.id), peer.address.clone())).collect();
    settings.membership = match &config.join {
        Some(address) => Membership::Join(address.clone()),
        None if config.bootstrap => Membership::Found,
        None => Membership::Formatted,
    };
    if config.groups > GROUPS_MAX {
        bail!("groups: {}\nhint: at most {GROUPS_MAX}", config.groups);
    }
    settings.groups = config.groups;
    settings.security = Security {
        secret: config.shared_secret()?.map(Secret::new),
        password: config.password()?.map(Secret::new),
        tls: tls(config)?,
    };
    settings.insecure = config.insecure;
    settings.maxclients = config.maxclients;
    settings.output_bytes_max = bytes(config.output_bytes_max);
    settings.entry_bytes_max = bytes(config.entry_bytes_max);
    settings.pipeline_max = config.pipeline_max;
    settings.redirect = config.redirect;
    settings.group = GroupConfig {
        request_timeout: config.request_timeout,
        retry_after: config.retry_after,
        waiting_max: config.waiting_max,
        log_keep_bytes: config.log_keep.0,
        check_interval: config.check_interval,
        ..GroupConfig::default()
    };
    settings.raft = RaftLimits {
        election_timeout: config.election_timeout,
        heartbeat: config.heartbeat,
        write_deadline: config.write_deadline,
        lease_drift_ppm: config.lease_drift_ppm,
        append_bytes_max: bytes(config.append_bytes_max),
        inflight_bytes_max: bytes(config.inflight_bytes_max),
        inflight_appends_max: config.inflight_appends_max,
        uncommitted_bytes_max: bytes(config.uncommitted_bytes_max),
        unapplied_bytes_max: bytes(config.unapplied_bytes_max),
        snapshot_chunk_bytes: bytes(config.snapshot_chunk_bytes),
        log_cache_bytes: config.log_cache.0,
        ..RaftLimits::default()
    };
    // A frame or a call holds one entry of the largest size, and what goes around it.
    let message_bytes_max = bytes(config.entry_bytes_max).saturating_add(1 << 20).max(9 << 20);
    settings.grpc_limits = Limits {
        message_bytes_max,
        connections_max: config.grpc_connections_max,
        calls_per_connection_max: config.grpc_calls_max,
        keepalive_interval: config.grpc_keepalive,
        keepalive_timeout: config.grpc_keepalive,
        ..Limits::default()
    };
    settings.peer_transport = PeerConfig {
        frame_bytes_max: message_bytes_max,
        queue_frames_max: config.peer_queue_frames_max,
        queue_bytes_max: bytes(config.peer_queue_bytes_max),
        ..PeerConfig::default()
    };
    settings.memory_bytes = config.memory.0;
    settings.segment_bytes = config.segment_bytes.0;
    settings.scrub_interval = config.scrub_interval;
    settings.snapshot_rate = config.snapshot_rate.0;
    settings.io_threads = config.io_threads;
    // For tests, and no setting: see docs/sharding.md.
    settings.move_stops = std::env::var_os("KONTIKI_MOVE_STOPS").map(PathBuf::from);
    Ok(settings)
}

fn addresses(config: &Config, settings: &mut Settings) -> Result<()> {
    if let Some(listen) = &config.listen {
        settings.resp = resolve(listen)?;
        let shifted = |by: u16| -> Result<SocketAddr> {
            let port = settings.resp.port();
            let port =
                if port == 0 { 0 } else { port.checked_add(by).context("port too large")? };
            Ok(SocketAddr::new(settings.resp.ip(), port))
        };
        (settings.grpc, settings.http) = (shifted(100)?, shifted(200)?);
    }
    if let Some(listen) = &config.listen_grpc {
        settings.grpc = resolve(listen)?;
    }
    if let Some(listen) = &config.listen_http {
        settings.http = resolve(listen)?;
    }
    settings.advertise.clone_from(&config.advertise);
    Ok(())
}

fn tls(config: &Config) -> Result<Option<Tls>> {
    let (Some(certificate), Some(key)) = (&config.tls_certificate, &config.tls_key) else {
        return Ok(None);
    };
    let files = Tls::from_files(Some((certificate, key)), config.tls_authority.as_deref())?;
    Ok(Some(Tls {
        server_name: config.tls_server_name.clone(),
        peer_certificates: config.tls_peer_certificates,
        ..files
    }))
}

fn bytes(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

fn resolve(address: &str) -> Result<SocketAddr> {
    let mut found = address.to_socket_addrs().with_context(|| {
        format!("'{address}' is no address to listen on\nhint: HOST:PORT, such as 127.0.0.1:7001")
    })?;
    found.next().with_context(|| format!("'{address}' has no address"))
}
