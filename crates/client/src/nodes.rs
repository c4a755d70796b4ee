//! The nodes that a client knows, and which one it talks to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kontiki_net::proto::StatusResponse;
use kontiki_net::proto::admin_client::AdminClient;
use kontiki_net::proto::kv_client::KvClient;
use kontiki_net::{Authenticated, connect_lazy};

use crate::error::Error;
use crate::options::Options;

/// Largest answer that a client takes, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// One node, connected to when it is first used.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) address: Arc<str>,
    channel: Authenticated,
}

impl Node {
    fn new(address: &str, options: &Options) -> Result<Self, Error> {
        let Options { token, tls, connect_timeout, .. } = options;
        let channel = connect_lazy(address, token.as_ref(), tls.as_ref(), *connect_timeout)?;
        Ok(Self { address: address.into(), channel })
    }

    pub(crate) fn kv(&self) -> KvClient<Authenticated> {
        KvClient::new(self.channel.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .max_encoding_message_size(usize::MAX)
    }

    pub(crate) fn admin(&self) -> AdminClient<Authenticated> {
        AdminClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }
}

/// All nodes, and the one that is asked first.
pub(crate) struct Nodes {
    all: Vec<Node>,
    preferred: AtomicUsize,
}

impl Nodes {
    pub(crate) fn new<A: AsRef<str>>(
        addresses: impl IntoIterator<Item = A>,
        options: &Options,
    ) -> Result<Self, Error> {
        let all: Result<Vec<_>, _> =
            addresses.into_iter().map(|address| Node::new(address.as_ref(), options)).collect();
        Ok(Self { all: all?, preferred: AtomicUsize::new(0) })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds the nodes that one of them named, and prefers the leader.
    pub(crate) fn learn(&mut self, status: &StatusResponse, options: &Options) {
        for endpoint in &status.endpoints {
            let address = &endpoint.grpc;
            let known = self.all.iter().any(|node| *node.address == **address);
            // An address that cannot be used is no reason to fail: there are others.
            if let (false, Ok(node)) = (known, Node::new(address, options)) {
                self.all.push(node);
            }
            if endpoint.node == status.leader && status.leader != 0 {
                let place = self.all.iter().position(|node| *node.address == **address);
                self.preferred = AtomicUsize::new(place.unwrap_or(0));
            }
        }
    }

    /// The node to ask, and its place.
    pub(crate) fn preferred(&self) -> (usize, &Node) {
        let place = self.preferred.load(Ordering::Relaxed) % self.all.len();
        (place, &self.all[place])
    }

    /// The node at `place` did not help: the next calls go elsewhere, unless somebody else has
    /// moved on already.
    pub(crate) fn leave(&self, place: usize) {
        let next = (place + 1) % self.all.len();
        let _ = self.preferred.compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}
