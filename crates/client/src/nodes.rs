//! The nodes that a client knows, which one it talks to, and where slots are led.
//!
//! Any node takes any request, and sends it on under the same stamp; so what is known here may be
//! out of date and costs a detour then, not an error.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use kontiki_net::proto::StatusResponse;
use kontiki_net::proto::admin_client::AdminClient;
use kontiki_net::proto::kv_client::KvClient;
use kontiki_net::{Authenticated, connect_lazy};
use kontiki_types::Slot;

use crate::error::Error;
use crate::options::Options;

/// Largest answer that a client takes, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Routes are asked for again behind a call when they are older than this.
const ROUTES_AGE_MAX: Duration = Duration::from_secs(1);

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

/// All nodes, the one that is asked first, and where slots are led.
pub(crate) struct Nodes {
    known: RwLock<Known>,
    preferred: AtomicUsize,
    /// Somebody is asking for routes.
    is_asking: AtomicBool,
}

struct Known {
    all: Vec<Node>,
    /// Last slot of a run, and the place of the node that leads it if that is known; ascending.
    routes: Vec<(u32, Option<usize>)>,
    is_sharded: bool,
    learned: Instant,
}

impl Nodes {
    pub(crate) fn new<A: AsRef<str>>(
        addresses: impl IntoIterator<Item = A>,
        options: &Options,
    ) -> Result<Self, Error> {
        let all: Result<Vec<_>, _> =
            addresses.into_iter().map(|address| Node::new(address.as_ref(), options)).collect();
        let (routes, is_sharded, learned) = (Vec::new(), false, Instant::now());
        let known = RwLock::new(Known { all: all?, routes, is_sharded, learned });
        Ok(Self { known, preferred: AtomicUsize::new(0), is_asking: AtomicBool::new(false) })
    }

    // Each of them leaves what is known whole, so a panic elsewhere does no harm.
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.read().all.is_empty()
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.read().all.iter().map(|node| node.address.to_string()).collect()
    }

    /// Whether operations on several slots cannot take effect together.
    pub(crate) fn is_sharded(&self) -> bool {
        self.read().is_sharded
    }

    /// Adds the nodes that one of them named, and takes over its routes.
    pub(crate) fn learn(&self, status: &StatusResponse, options: &Options) {
        let mut known = self.write();
        let mut places = Vec::new();
        for endpoint in &status.endpoints {
            let address = &*endpoint.grpc;
            let mut place = known.all.iter().position(|node| *node.address == *address);
            // An address that cannot be used is no reason to fail: there are others.
            if let (None, Ok(node)) = (place, Node::new(address, options)) {
                place = Some(known.all.len());
                known.all.push(node);
            }
            places.push((endpoint.node, place));
        }
        let place = |node: u64| places.iter().find(|(id, _)| *id == node)?.1;
        known.routes.clear();
        let mut next = 0;
        for route in &status.routes {
            if route.first_slot > next {
                known.routes.push((route.first_slot - 1, None));
            }
            known.routes.push((route.last_slot, place(route.node)));
            next = route.last_slot.saturating_add(1);
        }
        known.is_sharded = status.sharded;
        known.learned = Instant::now();
    }

    /// Whether the caller should ask for routes; then it says [`Nodes::asked`] afterwards.
    pub(crate) fn should_ask(&self) -> bool {
        self.read().learned.elapsed() > ROUTES_AGE_MAX
            && !self.is_asking.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn asked(&self) {
        // Also when nobody answered: not again at once.
        self.write().learned = Instant::now();
        self.is_asking.store(false, Ordering::Relaxed);
    }

    /// The node that leads the slot, if that is known, and its place; else the preferred one.
    pub(crate) fn leader(&self, slot: Option<Slot>) -> (usize, Node) {
        let known = self.read();
        let route = slot.and_then(|slot| {
            let slot = u32::from(slot.get());
            known.routes.get(known.routes.partition_point(|(last, _)| *last < slot))?.1
        });
        match route.and_then(|place| Some((place, known.all.get(place)?.clone()))) {
            Some(found) => found,
            None => self.preferred_of(&known),
        }
    }

    /// The node to ask, and its place.
    pub(crate) fn preferred(&self) -> (usize, Node) {
        self.preferred_of(&self.read())
    }

    fn preferred_of(&self, known: &Known) -> (usize, Node) {
        let place = self.preferred.load(Ordering::Relaxed) % known.all.len();
        (place, known.all[place].clone())
    }

    /// The node at `place` did not help: the next calls go elsewhere, unless somebody else has
    /// moved on already.
    pub(crate) fn leave(&self, place: usize) {
        let mut known = self.write();
        known.routes.iter_mut().filter(|(_, at)| *at == Some(place)).for_each(|(_, at)| *at = None);
        let next = (place + 1) % known.all.len();
        let _ = self.preferred.compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}
