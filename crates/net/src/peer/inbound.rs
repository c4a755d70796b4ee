//! The receiving side: checks the greeting, then hands frames over.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kontiki_types::{Incarnation, NodeId};
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{PROTOCOL_VERSION, PeerEvent, Shared, lock};
use crate::proto::peer_server::Peer;
use crate::proto::{Frame, PeerHello, PeerWelcome};

/// How long a caller may take for its greeting.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Frames handed over before other connections get their turn.
const FRAMES_PER_TURN: usize = 64;

/// The receiving side of a [`PeerTransport`](crate::PeerTransport).
pub struct PeerService(Arc<Shared>);

impl PeerService {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Whether the caller was removed from this very cluster.
    fn is_gone(&self, hello: &PeerHello) -> bool {
        let gone = self.0.gone.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        hello.cluster_id == self.0.local.cluster.0
            && gone.contains(&(NodeId(hello.node), Incarnation(hello.incarnation)))
    }

    fn report_refusal(&self, from: NodeId, why: &str) {
        let is_news = lock(&self.0.refusals).is_news(from, why, Instant::now());
        if is_news {
            (self.0.on_event)(PeerEvent::Refused(from, why.to_owned()));
        }
    }

    /// Whether the caller means this node, and is whom this node knows under its id.
    fn check(&self, hello: &PeerHello) -> Result<(), String> {
        let local = &self.0.local;
        let (version, node) = (hello.protocol_version, hello.node);
        if version != PROTOCOL_VERSION {
            return Err(format!(
                "node {node} speaks version {version} of the peer protocol, \
                 node {} speaks version {PROTOCOL_VERSION}",
                local.node
            ));
        }
        if hello.cluster_id != local.cluster.0 {
            return Err(format!(
                "node {node} belongs to cluster {:016x}, node {} to cluster {}",
                hello.cluster_id, local.node, local.cluster
            ));
        }
        if hello.to_node != local.node.0 {
            return Err(format!(
                "node {node} calls node {}, this is {}",
                hello.to_node, local.node
            ));
        }
        if hello.to_incarnation != local.incarnation.0 {
            return Err(format!(
                "node {node} calls incarnation {:x} of node {}, this is {:x}: \
                 its directory is another one",
                hello.to_incarnation, local.node, local.incarnation.0
            ));
        }
        let links = self.0.links.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = links.get(&NodeId(node)).map(|link| link.incarnation());
        match known {
            Some(known) if known != Incarnation(hello.incarnation) => Err(format!(
                "node {node} is known as incarnation {:x} and calls as {:x}: \
                 its directory is another one",
                known.0, hello.incarnation
            )),
            _ => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    type ExchangeStream = Inbound;

    async fn exchange(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Inbound>, Status> {
        let mut frames = request.into_inner();
        let first = timeout(HELLO_TIMEOUT, frames.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no greeting"))??;
        let Some(hello) = first.and_then(|frame| frame.hello) else {
            return Err(Status::invalid_argument("the first frame must be a greeting"));
        };
        let from = NodeId(hello.node);
        if self.is_gone(&hello) {
            let why = format!("node {from} was removed from the cluster");
            self.report_refusal(from, &why);
            return Err(Status::permission_denied(why));
        }
        if let Err(why) = self.check(&hello) {
            self.report_refusal(from, &why);
            return Err(Status::failed_precondition(why));
        }
        let youngest = Arc::clone(lock(&self.0.inbound).entry(from).or_default());
        let number = youngest.fetch_add(1, Ordering::AcqRel) + 1;
        lock(&self.0.refusals).accepted(from);
        (self.0.on_event)(PeerEvent::Accepted(from));
        let shared = Arc::clone(&self.0);
        Ok(Response::new(Inbound { shared, from, frames, number, youngest, welcomed: false }))
    }
}

/// The answer to a caller: one welcome. It is polled for as long as the call lasts, and whoever
/// polls it also receives: no task or channel stands between the connection and the callback.
pub struct Inbound {
    shared: Arc<Shared>,
    from: NodeId,
    frames: Streaming<Frame>,
    number: u64,
    youngest: Arc<AtomicU64>,
    welcomed: bool,
}

impl Stream for Inbound {
    type Item = Result<PeerWelcome, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.welcomed {
            self.welcomed = true;
            let local = &self.shared.local;
            return Poll::Ready(Some(Ok(PeerWelcome {
                protocol_version: PROTOCOL_VERSION,
                node: local.node.0,
                incarnation: local.incarnation.0,
            })));
        }
        for _ in 0..FRAMES_PER_TURN {
            let frame = match ready!(Pin::new(&mut self.frames).poll_next(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None => return Poll::Ready(None),
            };
            if self.youngest.load(Ordering::Acquire) != self.number {
                let why = "a younger connection of the same node took over";
                return Poll::Ready(Some(Err(Status::aborted(why))));
            }
            // Entries of a log live long. As parts of the connection's buffer they would keep all of
            // it in memory, and each frame would need new memory to be received into.
            let payload = Bytes::copy_from_slice(&frame.payload);
            (self.shared.on_frame)(self.from, payload);
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
