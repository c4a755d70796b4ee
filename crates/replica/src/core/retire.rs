//! A node that is about to stop: what it leads goes to other nodes first, so that nobody has to find
//! out by silence that it is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use kontiki_raft::PeerState;
use kontiki_types::{GroupId, NodeId};

use super::Core;
use crate::group::Group;
use crate::placement;
use crate::steward::CONTROLLER;

/// How often it is looked whether there is something left to hand over.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A follower that is behind by fewer entries may take over.
const BEHIND_MAX: u64 = 1024;

impl Core {
    /// This node is about to stop: the others hear of it at once, and what is led here goes to them.
    /// Everything else goes on.
    pub fn retire(&mut self) {
        if !self.me.leaving {
            self.me.leaving = true;
            self.atlas_changed();
            (self.info_at, self.retire_at) = (self.now, Some(self.now));
        }
    }

    /// Whether nothing is led here any more that another node could lead.
    pub fn has_retired(&self) -> bool {
        self.me.leaving && self.led().all(|(_, group)| self.heirs(group).is_empty())
    }

    fn led(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.groups.iter().filter(|(_, group)| group.is_leader()).map(|(id, group)| (*id, group))
    }

    /// The nodes that could lead a group: they have a vote, are heard, and are not about to stop.
    fn heirs(&self, group: &Group) -> Vec<NodeId> {
        let is_up = |node: NodeId| {
            self.is_alive(node) && self.infos.get(&node).is_some_and(|info| !info.leaving)
        };
        let voters = group.consensus().membership().voters.iter().map(|voter| voter.node);
        voters.filter(|node| *node != self.me.id && is_up(*node)).collect()
    }

    /// Hands over what is led here, each group to the node that is to lead it from then on, or to
    /// the one that has got the fewest.
    pub(super) fn hand_over(&mut self) {
        if self.retire_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.retire_at = Some(self.now + LOOK_EVERY);
        let rests = |group: &Group| !group.consensus().is_transferring();
        let led: Vec<GroupId> =
            self.led().filter(|(_, group)| rests(group)).map(|(id, _)| id).collect();
        if led.is_empty() {
            return;
        }
        let members = self.groups.get(&CONTROLLER).map(|group| group.place().nodes);
        let wanted = self.configuration().map(|configuration| {
            placement::leaders(configuration, &members.unwrap_or_default(), &self.nodes())
        });
        let mut given: BTreeMap<NodeId, usize> = BTreeMap::new();
        for id in led {
            let Some(group) = self.groups.get(&id) else { continue };
            let status = group.consensus().status();
            let mut heirs = self.heirs(group);
            heirs.retain(|node| {
                status.peers.iter().any(|peer| {
                    peer.member.node == *node
                        && peer.state == PeerState::Replicate
                        && peer.matched.0 + BEHIND_MAX >= status.commit.0
                })
            });
            let wish = wanted.as_ref().and_then(|wanted| wanted.get(&id)).copied();
            let fewest = || {
                let count = |node: &NodeId| given.get(node).copied().unwrap_or_default();
                heirs.iter().copied().min_by_key(|node| (count(node), *node))
            };
            let Some(heir) = wish.filter(|node| heirs.contains(node)).or_else(fewest) else {
                continue;
            };
            *given.entry(heir).or_default() += 1;
            // Refused now, it is tried again by the next look.
            self.with(id, |group, node| group.raft().transfer(node.now, heir).is_ok());
        }
    }
}
