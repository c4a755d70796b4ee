//! Nodes to test with, all in this process.

use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use kontiki_net::{
    ClusterId, Limits, Local, PeerConfig, PeerEvent, PeerTransport, Security, serve,
};
use kontiki_types::{Incarnation, NodeId};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::services::OneKey;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const CLUSTER: ClusterId = ClusterId(0xc0ffee);

pub struct Node {
    pub address: String,
    pub transport: PeerTransport,
    pub frames: UnboundedReceiver<(NodeId, Bytes)>,
    pub events: UnboundedReceiver<PeerEvent>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

/// How a test node differs from the ordinary.
#[derive(Clone)]
pub struct Setup {
    pub cluster: ClusterId,
    pub incarnation: u64,
    pub security: Security,
    pub limits: Limits,
    pub config: PeerConfig,
    pub address: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            cluster: CLUSTER,
            incarnation: 0,
            security: Security::default(),
            limits: Limits { drain_timeout: Duration::from_millis(100), ..Limits::default() },
            config: PeerConfig::default(),
            address: "127.0.0.1:0".to_owned(),
        }
    }
}

impl Node {
    pub fn start(id: u64) -> Self {
        Self::with(id, Setup::default())
    }

    /// Starts node `id`; unless set up otherwise, its incarnation is `id` too.
    pub fn with(id: u64, setup: Setup) -> Self {
        let incarnation = if setup.incarnation == 0 { id } else { setup.incarnation };
        let local = Local {
            cluster: setup.cluster,
            node: NodeId(id),
            incarnation: Incarnation(incarnation),
        };
        let listener = TcpListener::bind(&setup.address).expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (to_frames, frames) = unbounded_channel();
        let (to_events, events): (UnboundedSender<PeerEvent>, _) = unbounded_channel();
        let transport = PeerTransport::new(
            local,
            &setup.security,
            setup.config,
            Handle::current(),
            move |from, frame| drop(to_frames.send((from, frame))),
            move |event| drop(to_events.send(event)),
        )
        .expect("usable security");
        let (stop, stopped) = oneshot::channel::<()>();
        let peers = transport.clone();
        let serving = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            let (security, limits) = (&setup.security, &setup.limits);
            serve(listener, OneKey, OneKey, &peers, security, limits, stopped)
                .await
                .expect("serves until stopped");
        });
        Self { address, transport, frames, events, stop: Some(stop), serving }
    }

    pub async fn frame(&mut self) -> (NodeId, Bytes) {
        timeout(PATIENCE, self.frames.recv()).await.expect("a frame in time").expect("open")
    }

    /// Waits for the first event of which `pick` makes something.
    pub async fn event<T>(&mut self, pick: impl Fn(&PeerEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.events.recv().await.expect("open");
                if let Some(picked) = pick(&event) {
                    return picked;
                }
            }
        };
        timeout(PATIENCE, search).await.expect("the event in time")
    }

    pub async fn connected_to(&mut self, node: u64) {
        self.event(|event| (*event == PeerEvent::Connected(NodeId(node))).then_some(())).await;
    }

    pub async fn stop(mut self) {
        self.transport.shutdown();
        drop(self.stop.take());
        timeout(PATIENCE, self.serving).await.expect("ends in time").expect("no panic");
    }
}
