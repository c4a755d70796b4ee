//! What is between the nodes: the network, and nodes that are cut off.

use std::collections::BTreeSet;

use kontiki_raft::{Body, Message, wire};
use kontiki_types::{Instant, NodeId};

use super::Event;
use super::command::Command;
use crate::network::{Kind, Network};
use crate::schedule::Schedule;

/// See the module.
pub(super) struct Links {
    pub(super) network: Network,
    pub(super) disconnected: BTreeSet<NodeId>,
    counts_bytes: bool,
    scratch: Vec<u8>,
}

impl Links {
    pub(super) fn new(network: Network, counts_bytes: bool) -> Self {
        Self { network, disconnected: BTreeSet::new(), counts_bytes, scratch: Vec::new() }
    }

    pub(super) fn is_connected(&self, node: NodeId) -> bool {
        self.disconnected.is_empty() || !self.disconnected.contains(&node)
    }

    fn are_connected(&self, message: &Message<Command>) -> bool {
        self.is_connected(message.from.node) && self.is_connected(message.to.node)
    }

    /// Whether what has come so far arrives.
    pub(super) fn arrives(&self, message: &Message<Command>) -> bool {
        self.are_connected(message) && self.network.passes(message.from.node, message.to.node)
    }

    #[inline]
    /// Lets a message arrive when its time has come, perhaps twice, or never.
    pub(super) fn send(
        &mut self,
        now: Instant,
        message: Message<Command>,
        schedule: &mut Schedule<Event>,
    ) {
        let (from, to) = (message.from.node, message.to.node);
        if self.counts_bytes {
            self.scratch.clear();
            wire::encode_message(&message, &mut self.scratch);
        }
        let kind = kind(&message.body);
        let mut arrivals = self.network.send(now, from, to, kind, self.scratch.len());
        if !self.are_connected(&message) {
            return;
        }
        let Some(first) = arrivals.next() else { return };
        for second in arrivals {
            schedule.add(second, Event::Deliver(message.clone()));
        }
        schedule.add(first, Event::Deliver(message));
    }
}

/// Whether a message asks or answers.
fn kind(body: &Body<Command>) -> Kind {
    match body {
        Body::PreVote { .. }
        | Body::Vote { .. }
        | Body::Append { .. }
        | Body::Heartbeat { .. }
        | Body::Commit { .. }
        | Body::Snapshot { .. }
        | Body::Quiesce { .. }
        | Body::Wake
        | Body::TimeoutNow
        | Body::ReadIndex { .. } => Kind::Request,
        Body::PreVoteReply { .. }
        | Body::VoteReply { .. }
        | Body::AppendReply { .. }
        | Body::HeartbeatReply { .. }
        | Body::Quiet { .. }
        | Body::SnapshotReply { .. }
        | Body::ReadIndexReply { .. }
        | Body::Stale => Kind::Answer,
    }
}
