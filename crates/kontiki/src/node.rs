//! node: one node in the foreground.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use kontiki_net::Secret;
use kontiki_node::{Membership, Settings};
use kontiki_types::NodeId;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::NodeArgs;

pub(crate) fn run(args: NodeArgs) -> Result<()> {
    if let Some(parent) = args.parent {
        die_with(parent)?;
    }
    let settings = settings(args)?;
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
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
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
        kontiki_node::run(settings, listening, stop).await.map_err(anyhow::Error::from)
    })
}

/// Has this process end when its parent does, unless that has happened already.
fn die_with(parent: u32) -> Result<()> {
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

fn settings(args: NodeArgs) -> Result<Settings> {
    let id = args.id.context("which node is it?\nhint: --id N, the number in its cluster")?;
    if id == 0 {
        bail!("node ids count from 1");
    }
    let dir =
        args.dir.unwrap_or_else(|| PathBuf::from("./kontiki-data/node-").join(id.to_string()));
    let mut settings = Settings::new(NodeId(id), dir, 7000);
    if let Some(listen) = &args.listen {
        settings.resp = resolve(listen)?;
        let shifted = |by: u16| -> Result<SocketAddr> {
            let port = settings.resp.port();
            let port =
                if port == 0 { 0 } else { port.checked_add(by).context("port too large")? };
            Ok(SocketAddr::new(settings.resp.ip(), port))
        };
        (settings.grpc, settings.http) = (shifted(100)?, shifted(200)?);
    }
    if let Some(listen) = &args.listen_grpc {
        settings.grpc = resolve(listen)?;
    }
    if let Some(listen) = &args.listen_http {
        settings.http = resolve(listen)?;
    }
    settings.advertise = args.advertise;
    settings.peers = args.peers.iter().map(|(id, at)| (NodeId(*id), at.clone())).collect();
    settings.membership = match args.join {
        Some(address) => Membership::Join(address),
        None if args.bootstrap => Membership::Found,
        None => Membership::Formatted,
    };
    if let Some(memory) = args.memory {
        settings.memory_bytes = memory;
    }
    if let Some(log_keep) = args.log_keep {
        settings.group.log_keep_bytes = log_keep;
    }
    if let Some(password) = args.requirepass {
        settings.security.password = Some(Secret::new(password));
    }
    if let Some(secret) = args.cluster_secret {
        settings.security.secret = Some(Secret::new(secret));
    }
    settings.insecure = args.insecure;
    Ok(settings)
}

fn resolve(address: &str) -> Result<SocketAddr> {
    let mut found = address.to_socket_addrs().with_context(|| {
        format!("'{address}' is no address to listen on\nhint: HOST:PORT, such as 127.0.0.1:7001")
    })?;
    found.next().with_context(|| format!("'{address}' has no address"))
}
