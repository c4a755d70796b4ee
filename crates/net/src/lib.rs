//! gRPC between Kontiki nodes, and from native clients to them.
//!
//! - [`proto`]: messages, service traits and clients, generated from the files in `proto/`.
//! - [`serve`] puts the services [`Kv`](proto::kv_server::Kv),
//!   [`Admin`](proto::admin_server::Admin) and `Peer` on one listener, behind one [`Security`].
//! - [`PeerTransport`] carries opaque frames between nodes: it never blocks, keeps the order of a
//!   connection, and loses frames rather than memory.
//! - [`connect`] opens a channel for a native client; [`Failure`] is how both sides speak of
//!   writes that did not succeed.
//!
//! Nothing here decides about terms, groups or commands. What a frame holds, and whether a caller
//! that presents itself properly may vote, is up to the floors above.

mod channel;
mod failure;
mod gate;
mod incoming;
mod peer;
mod security;
mod serve;

pub use channel::{Authenticated, ConnectError, Token, connect, connect_lazy};
pub use failure::{Failure, FailureCode, Outcome, never_sent};
pub use peer::{
    ClusterId, Dropped, Local, PROTOCOL_VERSION, PeerConfig, PeerEvent, PeerService, PeerStats,
    PeerTransport,
};
pub use security::{Secret, Security, SecurityError, Tls};
pub use serve::{Limits, ServeError, serve, serve_peers, serve_routes};

/// Generated from `proto/kontiki/v1/*.proto`; the documentation is in those files.
#[expect(missing_docs, clippy::all, reason = "generated code")]
pub mod proto {
    tonic::include_proto!("kontiki.v1");
}
