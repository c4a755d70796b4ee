//! The way to one peer: connects, greets, and does so again when the connection breaks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kontiki_types::{Incarnation, NodeId};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Streaming};

use super::queue::Queue;
use super::{
    Dropped, Local, OnEvent, PROTOCOL_VERSION, PeerConfig, PeerEvent, PeerStats, Shared, chain,
    lock,
};
use crate::channel::{Token, endpoint};
use crate::proto::peer_client::PeerClient;
use crate::proto::{PeerHello, PeerWelcome};
use crate::security::Security;

/// First pause after a failed attempt; doubles up to [`PeerConfig::backoff_max`].
const BACKOFF_MIN: Duration = Duration::from_millis(5);

/// Pause after a refusal, which does not go away by itself as soon as a peer comes back.
const REFUSED_PAUSE: Duration = Duration::from_millis(250);

pub(super) struct Link {
    incarnation: Incarnation,
    address: String,
    queue: Arc<Queue>,
    task: Mutex<Option<AbortHandle>>,
}

impl Link {
    pub(super) fn start(
        shared: &Arc<Shared>,
        node: NodeId,
        incarnation: Incarnation,
        address: &str,
    ) -> Arc<Self> {
        let queue = Arc::new(Queue::new(&shared.config));
        let caller = Outgoing {
            shared: Arc::clone(shared),
            peer: node,
            incarnation,
            address: address.to_owned(),
            queue: Arc::clone(&queue),
        };
        let task = shared.runtime.spawn(caller.run()).abort_handle();
        Arc::new(Self {
            incarnation,
            address: address.to_owned(),
            queue,
            task: Mutex::new(Some(task)),
        })
    }

    pub(super) fn leads_to(&self, incarnation: Incarnation, address: &str) -> bool {
        self.incarnation == incarnation && self.address == address
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub(super) fn send(&self, frame: Bytes) -> Result<(), Dropped> {
        self.queue.push(frame)
    }

    pub(super) fn stats(&self) -> PeerStats {
        self.queue.stats()
    }

    pub(super) fn stop(&self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
        self.queue.disconnected();
    }
}

/// Why a connection is not there.
enum Lost {
    /// It broke or did not come about.
    Broken(String),
    /// The peer said no.
    Refused(String),
    /// This node was removed from the cluster.
    Removed(String),
}

struct Outgoing {
    shared: Arc<Shared>,
    peer: NodeId,
    incarnation: Incarnation,
    address: String,
    queue: Arc<Queue>,
}

impl Outgoing {
    async fn run(self) {
        let config = &self.shared.config;
        let mut pause = BACKOFF_MIN;
        let mut refusal = None;
        let mut reported = false;
        loop {
            let lost = match self.open().await {
                Ok(welcomes) => {
                    pause = BACKOFF_MIN;
                    refusal = None;
                    reported = false;
                    self.queue.connected();
                    self.report(PeerEvent::Connected(self.peer));
                    ended(welcomes).await
                }
                Err(lost) => lost,
            };
            self.queue.disconnected();
            match lost {
                Lost::Removed(why) => {
                    self.report(PeerEvent::RemovedBy(self.peer, why));
                    return;
                }
                Lost::Refused(why) => {
                    if refusal.as_ref() != Some(&why) {
                        self.report(PeerEvent::RefusedBy(self.peer, why.clone()));
                        refusal = Some(why);
                    }
                    sleep(REFUSED_PAUSE).await;
                }
                Lost::Broken(why) => {
                    if !std::mem::replace(&mut reported, true) {
                        self.report(PeerEvent::Disconnected(self.peer, why));
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(config.backoff_max.max(BACKOFF_MIN));
                }
            }
        }
    }

    /// A connection on which the peer has welcomed us.
    async fn open(&self) -> Result<Streaming<PeerWelcome>, Lost> {
        let config = &self.shared.config;
        match timeout(config.connect_timeout, self.greet(&self.shared.security, config)).await {
            Ok(opened) => opened,
            Err(_) => Err(Lost::Broken(format!("no answer from {}", self.address))),
        }
    }

    async fn greet(
        &self,
        security: &Security,
        config: &PeerConfig,
    ) -> Result<Streaming<PeerWelcome>, Lost> {
        let endpoint = endpoint(&self.address, security.tls.as_ref(), config.connect_timeout)
            .map_err(|error| Lost::Broken(chain(&error)))?;
        let channel = endpoint.connect().await.map_err(|error| Lost::Broken(chain(&error)))?;
        let channel = InterceptedService::new(channel, Token::new(security.secret.as_ref()));
        let mut client = PeerClient::new(channel).max_encoding_message_size(config.frame_bytes_max);
        let frames = self.queue.connection(self.hello(&self.shared.local));
        let answer = client.exchange(frames).await.map_err(|status| lost(&status))?;
        let mut welcomes = answer.into_inner();
        match welcomes.message().await {
            Ok(Some(_)) => Ok(welcomes),
            Ok(None) => Err(Lost::Broken("closed by the peer".to_owned())),
            Err(status) => Err(lost(&status)),
        }
    }

    fn hello(&self, local: &Local) -> PeerHello {
        PeerHello {
            protocol_version: PROTOCOL_VERSION,
            cluster_id: local.cluster.0,
            node: local.node.0,
            incarnation: local.incarnation.0,
            to_node: self.peer.0,
            to_incarnation: self.incarnation.0,
        }
    }

    fn report(&self, event: PeerEvent) {
        let on_event: &OnEvent = &*self.shared.on_event;
        on_event(event);
    }
}

/// Waits for the end of a connection; there is nothing else to hear on it.
async fn ended(mut welcomes: Streaming<PeerWelcome>) -> Lost {
    loop {
        match welcomes.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return Lost::Broken("closed by the peer".to_owned()),
            Err(status) => return lost(&status),
        }
    }
}

fn lost(status: &tonic::Status) -> Lost {
    match status.code() {
        Code::FailedPrecondition | Code::Unauthenticated | Code::Unimplemented => {
            Lost::Refused(status.message().to_owned())
        }
        Code::PermissionDenied => Lost::Removed(status.message().to_owned()),
        code => Lost::Broken(format!("{code:?}: {}", status.message())),
    }
}
