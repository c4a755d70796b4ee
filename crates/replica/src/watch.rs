//! Whether the nodes behind groups that rest are there: watched once per node, not once per group.
//!
//! A group that rests says nothing, so that nobody in it can miss its leader. Instead, a node that
//! leads such groups sends every node with a replica of one a frame at least every
//! [`alive_interval`](crate::GroupConfig::alive_interval), an empty one if there is nothing to say;
//! and a node that has not heard the leader's node for
//! [`silent_after`](crate::GroupConfig::silent_after) wakes the groups that rest under it
//! ([`kontiki_raft::Raft::peer_down`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kontiki_types::{GroupId, Instant, NodeId};

use crate::clock::WallClocks;

/// How a group rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Led here; the nodes with other replicas of it.
    Leading(Vec<NodeId>),
    /// Led by a replica on this node.
    Following(NodeId),
}

/// Who has to be heard here, and who has to hear from here.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The groups that rest here, by the node of their leader.
    following: BTreeMap<NodeId, BTreeSet<GroupId>>,
    /// How many groups that are led here and rest have a replica on a node.
    leading: BTreeMap<NodeId, usize>,
    /// When a frame last went to a node.
    sent: BTreeMap<NodeId, Instant>,
    resting: usize,
}

impl Watch {
    /// The group went from `was` to `rest`; `None` is awake.
    pub(crate) fn set(&mut self, group: GroupId, was: Option<&Rest>, rest: Option<&Rest>) {
        match was {
            Some(Rest::Following(node)) => {
                if let Some(groups) = self.following.get_mut(node) {
                    groups.remove(&group);
                    if groups.is_empty() {
                        self.following.remove(node);
                    }
                }
            }
            Some(Rest::Leading(nodes)) => {
                for node in nodes {
                    if let Some(count) = self.leading.get_mut(node) {
                        *count -= 1;
                        if *count == 0 {
                            self.leading.remove(node);
                        }
                    }
                }
            }
            None => {}
        }
        match rest {
            Some(Rest::Following(node)) => {
                self.following.entry(*node).or_default().insert(group);
            }
            Some(Rest::Leading(nodes)) => {
                nodes.iter().for_each(|&node| *self.leading.entry(node).or_default() += 1);
            }
            None => {}
        }
        self.resting += usize::from(rest.is_some());
        self.resting -= usize::from(was.is_some());
    }

    /// Groups that rest here.
    pub(crate) fn resting(&self) -> usize {
        self.resting
    }

    /// A frame goes to `node`.
    pub(crate) fn sent(&mut self, now: Instant, node: NodeId) {
        self.sent.insert(node, now);
    }

    fn beat_at(&self, node: NodeId, interval: Duration) -> Instant {
        self.sent.get(&node).map_or(Instant(0), |&sent| sent + interval)
    }

    /// The nodes that must hear from this one now.
    pub(crate) fn beats(&self, now: Instant, interval: Duration) -> Vec<NodeId> {
        let due = self.leading.keys().filter(|&&node| self.beat_at(node, interval) <= now);
        due.copied().collect()
    }

    /// The groups that rest under leaders of `node`.
    pub(crate) fn under(&self, node: NodeId) -> Vec<GroupId> {
        self.following.get(&node).into_iter().flatten().copied().collect()
    }

    /// The nodes that have been silent for too long.
    pub(crate) fn silent(&self, now: Instant, walls: &WallClocks, limit: Duration) -> Vec<NodeId> {
        let silent = |node: &&NodeId| silent_at(walls, **node, limit) <= now;
        self.following.keys().filter(silent).copied().collect()
    }

    /// When the next of these is due.
    pub(crate) fn next(&self, walls: &WallClocks, interval: Duration, limit: Duration) -> Instant {
        let beats = self.leading.keys().map(|&node| self.beat_at(node, interval));
        let silence = self.following.keys().map(|&node| silent_at(walls, node, limit));
        beats.chain(silence).min().unwrap_or(Instant::MAX)
    }
}

/// When a node counts as silent, if nothing more is heard of it.
fn silent_at(walls: &WallClocks, node: NodeId, limit: Duration) -> Instant {
    walls.last_heard(node).map_or(Instant(0), |heard| heard + limit)
}
