//! Frames between the nodes of a cluster.
//!
//! Each node opens one connection to each other and sends on it; what it receives comes on the
//! connections that the others opened. A frame is opaque here. Frames on one connection keep
//! their order; a connection that breaks loses those that were under way, and nobody is told:
//! what must arrive is repeated by the floors above, as Raft does.
//!
//! Invariants
//! - `send` never blocks and never waits for memory: a frame finds room in the queue of its peer,
//!   bounded in frames and bytes, or is dropped and counted.
//! - A frame is handed over only if both ends agreed on protocol version and cluster, and the
//!   receiver is the node and incarnation that the sender meant.
//! - Of two connections from the same node only the younger hands frames over.

mod inbound;
mod link;
mod queue;
mod refusals;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use kontiki_types::{Incarnation, NodeId};
use tokio::runtime::Handle;

use crate::security::{Security, SecurityError};

pub use self::inbound::PeerService;
use self::link::Link;
pub use self::queue::Dropped;

/// Version of the peer protocol. Another one is refused, naming both.
pub const PROTOCOL_VERSION: u32 = 1;

/// Random number that a cluster gets when it is founded; tells clusters on the same network apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {self}")
    }
}

/// Who a node is towards others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Local {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Itself.
    pub node: NodeId,
    /// Its directory.
    pub incarnation: Incarnation,
}

/// Limits and times of a [`PeerTransport`].
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Largest frame in bytes. Default 9 MiB.
    pub frame_bytes_max: usize,
    /// Frames that wait for one peer. Default 16384.
    pub queue_frames_max: usize,
    /// Bytes that wait for one peer. Default 32 MiB.
    pub queue_bytes_max: usize,
    /// Longest pause between two attempts to connect. Default 50 ms, so that a node that comes
    /// back is found at once.
    pub backoff_max: Duration,
    /// How long an attempt may take, the greeting included. Default 1 s.
    pub connect_timeout: Duration,
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            frame_bytes_max: 9 << 20,
            queue_frames_max: 16 << 10,
            queue_bytes_max: 32 << 20,
            backoff_max: Duration::from_millis(50),
            connect_timeout: Duration::from_secs(1),
        }
    }
}

/// What happens to connections; for logs and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// The way to a peer is open.
    Connected(NodeId),
    /// The way to a peer broke, or could not be opened for the first time.
    Disconnected(NodeId, String),
    /// A peer does not take us for whom it expects. Reported when the reason changes.
    RefusedBy(NodeId, String),
    /// A peer sends to us.
    Accepted(NodeId),
    /// A peer says that this node was removed from the cluster. Reported once.
    RemovedBy(NodeId, String),
    /// We refused a caller that speaks for this node. Reported once for a reason, and again while it
    /// goes on, every 10 s.
    Refused(NodeId, String),
}

/// What was sent to one peer so far.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct PeerStats {
    /// Whether the way to it is open.
    pub connected: bool,
    /// Frames handed to the connection.
    pub sent_frames: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames that were dropped: no room, or no connection.
    pub dropped_frames: u64,
    /// Frames that wait.
    pub queued_frames: usize,
    /// Their bytes.
    pub queued_bytes: usize,
}

type OnFrame = dyn Fn(NodeId, Bytes) + Send + Sync;
type OnEvent = dyn Fn(PeerEvent) + Send + Sync;

/// Sends frames to other nodes and hands over those that come from them. Clones are the same.
#[derive(Clone)]
pub struct PeerTransport(Arc<Shared>);

struct Shared {
    local: Local,
    config: PeerConfig,
    security: Security,
    runtime: Handle,
    links: RwLock<BTreeMap<NodeId, Arc<Link>>>,
    /// Number of the youngest inbound connection of each node.
    inbound: Mutex<BTreeMap<NodeId, Arc<std::sync::atomic::AtomicU64>>>,
    /// Nodes that were removed from the cluster.
    gone: RwLock<BTreeSet<(NodeId, Incarnation)>>,
    /// Refusals that were reported.
    refusals: Mutex<refusals::Refusals>,
    on_frame: Box<OnFrame>,
    on_event: Box<OnEvent>,
}

impl PeerTransport {
    /// A transport without peers, whose tasks run on `runtime`.
    ///
    /// `on_frame` and `on_event` are called on those tasks, one call at a time for each
    /// connection: they must be quick and must not block. A payload shares memory with others
    /// that came at the same time: copy what is kept for long.
    ///
    /// # Errors
    /// TLS material that cannot be used.
    pub fn new(
        local: Local,
        security: &Security,
        config: PeerConfig,
        runtime: Handle,
        on_frame: impl Fn(NodeId, Bytes) + Send + Sync + 'static,
        on_event: impl Fn(PeerEvent) + Send + Sync + 'static,
    ) -> Result<Self, SecurityError> {
        if let Some(tls) = &security.tls {
            tls.client()?;
        }
        Ok(Self(Arc::new(Shared {
            local,
            config,
            security: security.clone(),
            runtime,
            links: RwLock::default(),
            inbound: Mutex::default(),
            gone: RwLock::default(),
            refusals: Mutex::default(),
            on_frame: Box::new(on_frame),
            on_event: Box::new(on_event),
        })))
    }

    /// Makes `node` reachable at `address` (`HOST:PORT`), as this incarnation only. Replaces what
    /// was known of the node; without effect if nothing differs.
    pub fn set_peer(&self, node: NodeId, incarnation: Incarnation, address: &str) {
        let mut links = self.0.links.write().unwrap_or_else(PoisonError::into_inner);
        if links.get(&node).is_some_and(|link| link.leads_to(incarnation, address)) {
            return;
        }
        let link = Link::start(&self.0, node, incarnation, address);
        if let Some(old) = links.insert(node, link) {
            old.stop();
        }
    }

    /// From here on no connection is taken from these nodes, which were removed from the cluster; those
    /// that there are go on until they end. Replaces what was said before.
    pub fn refuse(&self, gone: impl IntoIterator<Item = (NodeId, Incarnation)>) {
        let gone = gone.into_iter().collect();
        *self.0.gone.write().unwrap_or_else(PoisonError::into_inner) = gone;
    }

    /// Forgets a node; what waits for it is dropped.
    pub fn remove_peer(&self, node: NodeId) {
        let old = self.0.links.write().unwrap_or_else(PoisonError::into_inner).remove(&node);
        if let Some(old) = old {
            old.stop();
        }
    }

    /// Queues a frame for `node`. Never blocks; see the invariants of the module.
    ///
    /// # Errors
    /// The frame was dropped at once. (A frame that was queued may still get lost.)
    pub fn send(&self, node: NodeId, frame: Bytes) -> Result<(), Dropped> {
        let links = self.0.links.read().unwrap_or_else(PoisonError::into_inner);
        links.get(&node).ok_or(Dropped::UnknownPeer)?.send(frame)
    }

    /// Counters of each peer, by node.
    pub fn stats(&self) -> Vec<(NodeId, PeerStats)> {
        let links = self.0.links.read().unwrap_or_else(PoisonError::into_inner);
        links.iter().map(|(&node, link)| (node, link.stats())).collect()
    }

    /// Closes all outgoing connections and forgets all peers. Without it the tasks of the peers keep
    /// the transport alive.
    pub fn shutdown(&self) {
        let links =
            std::mem::take(&mut *self.0.links.write().unwrap_or_else(PoisonError::into_inner));
        links.values().for_each(|link| link.stop());
    }

    /// The receiving side, for [`serve`](crate::serve).
    pub fn service(&self) -> PeerService {
        PeerService::new(Arc::clone(&self.0))
    }

    /// The limits that it was made with.
    pub fn config(&self) -> &PeerConfig {
        &self.0.config
    }
}

impl fmt::Debug for PeerTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTransport")
            .field("local", &self.0.local)
            .field("peers", &self.stats())
            .finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with its causes in one line, since the outermost one says only "transport error".
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}
