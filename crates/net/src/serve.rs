//! The gRPC server of a node.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::channel::{FRAME_BYTES, WINDOW_BYTES};
use crate::gate::GateLayer;
use crate::incoming::{Cutter, Incoming};
use crate::peer::PeerTransport;
use crate::proto::admin_server::{Admin, AdminServer};
use crate::proto::kv_server::{Kv, KvServer};
use crate::proto::peer_server::PeerServer;
use crate::security::{Security, SecurityError};

/// What a caller may take of a node.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest message in bytes, either way. Default 9 MiB: an entry of 8 MiB and its envelope.
    pub message_bytes_max: usize,
    /// Open connections, those of other nodes included. Default 4096. One more is closed at once.
    pub connections_max: usize,
    /// Calls at once on one connection. Default 256. One more waits in the caller.
    pub calls_per_connection_max: u32,
    /// Headers of a call in bytes. Default 16 KiB.
    pub header_bytes_max: u32,
    /// How long a connection may stay without its first bytes. Default 10 s.
    pub first_bytes_timeout: Duration,
    /// How often a quiet connection is asked for a sign of life. Default 10 s.
    pub keepalive_interval: Duration,
    /// How long the sign may take before the connection is dropped. Default 10 s.
    pub keepalive_timeout: Duration,
    /// How long calls may go on after the shutdown began. Default 2 s.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 9 << 20,
            connections_max: 4096,
            calls_per_connection_max: 256,
            header_bytes_max: 16 << 10,
            first_bytes_timeout: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(2),
        }
    }
}

/// A server that could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The security settings cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The listener cannot be used.
    #[error("cannot use the listener: {0}")]
    Listener(#[from] std::io::Error),
    /// The server failed.
    #[error("the gRPC server failed: {}", crate::peer::chain(.0))]
    Server(#[source] tonic::transport::Error),
}

/// Serves `kv`, `admin` and the inbound side of `peers` on `listener` until `shutdown` is ready.
/// Then no connection is accepted any more, calls may go on for [`Limits::drain_timeout`], and
/// what is left is cut.
///
/// Callers are checked by `security` before a body is read. Runs on the current tokio runtime.
///
/// # Errors
/// Settings that cannot be used, found before the first connection is accepted.
///
/// # Cancel safety
/// Not cancel safe: dropping the future closes the listener and leaves accepted connections to
/// themselves.
pub async fn serve<K: Kv, A: Admin>(
    listener: TcpListener,
    kv: K,
    admin: A,
    peers: &PeerTransport,
    security: &Security,
    limits: &Limits,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let bytes_max = limits.message_bytes_max;
    let kv =
        KvServer::new(kv).max_decoding_message_size(bytes_max).max_encoding_message_size(bytes_max);
    let admin = AdminServer::new(admin)
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(bytes_max);
    let routes = routes_of(peers).add_service(kv).add_service(admin);
    serve_routes(listener, routes, security, limits, shutdown).await
}

/// As [`serve`], the inbound side of `peers` alone.
///
/// # Errors
/// As [`serve`].
///
/// # Cancel safety
/// As [`serve`].
pub async fn serve_peers(
    listener: TcpListener,
    peers: &PeerTransport,
    security: &Security,
    limits: &Limits,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    serve_routes(listener, routes_of(peers), security, limits, shutdown).await
}

fn routes_of(peers: &PeerTransport) -> Routes {
    let bytes_max = peers.config().frame_bytes_max;
    Routes::new(PeerServer::new(peers.service()).max_decoding_message_size(bytes_max))
}

/// As [`serve`], the services in `routes`, which have their own limits of messages.
///
/// # Errors
/// As [`serve`].
///
/// # Cancel safety
/// As [`serve`].
pub async fn serve_routes(
    listener: TcpListener,
    routes: Routes,
    security: &Security,
    limits: &Limits,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut server = Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(limits.calls_per_connection_max)
        .http2_max_header_list_size(limits.header_bytes_max)
        .http2_keepalive_interval(Some(limits.keepalive_interval))
        .http2_keepalive_timeout(Some(limits.keepalive_timeout));
    if let Some(tls) = &security.tls {
        server = server.tls_config(tls.server()?).map_err(SecurityError::Unusable)?;
    }
    let cutter = Cutter::default();
    let (places, patience) = (limits.connections_max, limits.first_bytes_timeout);
    let incoming = Incoming::new(listener, places, patience, cutter.clone());
    let (began, begun) = tokio::sync::oneshot::channel();
    let serving = server
        .layer(GateLayer(Arc::new(security.clone())))
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, async {
            shutdown.await;
            let _ = began.send(());
        });
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended.map_err(ServeError::Server),
        // An error means that `serving` dropped the sender: it is about to end by itself.
        _ = begun => {}
    }
    if let Ok(ended) = timeout(limits.drain_timeout, &mut serving).await {
        return ended.map_err(ServeError::Server);
    }
    cutter.cut_all();
    // The cut connections end at their next poll.
    let _ = timeout(limits.drain_timeout, serving).await;
    Ok(())
}
