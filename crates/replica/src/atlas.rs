//! What a node knows of its cluster at one moment: which group owns a slot, who leads a group, and
//! where nodes are. For routing and for showing, never for deciding: whether a group serves a slot
//! is asked when a command is applied (PROTOCOL 9), and who leads is known to the group alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use kontiki_shard::Configuration;
use kontiki_types::{Epoch, GroupId, NodeId, Slot};

use crate::connection::Encoded;
use crate::peer::NodeInfo;
use crate::steward::CONTROLLER;

/// The group of a store that is not sharded, and the first of one that is.
pub const FIRST_GROUP: GroupId = GroupId(1);

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// To the group that owns the slot when it gets there, wherever that is.
    Slot(Slot),
    /// To this group.
    Group(GroupId),
}

/// A group as far as a node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupPlace {
    /// Who leads it; `None`: unknown.
    pub leader: Option<NodeId>,
    /// The nodes with a replica that has a vote, in order.
    pub nodes: Vec<NodeId>,
}

/// A node's knowledge of its cluster. Each part of it may be out of date.
#[derive(Clone, Debug, Default)]
pub struct Atlas {
    /// The newest configuration heard of. `None`: the store is not sharded, and [`FIRST_GROUP`] has
    /// every slot.
    pub configuration: Option<Arc<Configuration>>,
    /// Every group, the controller included if there is one.
    pub groups: BTreeMap<GroupId, GroupPlace>,
    /// Every node, each with whether it was heard lately.
    pub nodes: BTreeMap<NodeId, (NodeInfo, bool)>,
    /// Answers to clients that ask for the map of slots.
    pub(crate) encoded: Encoded,
}

impl Atlas {
    /// Whether there is a controller.
    pub fn is_sharded(&self) -> bool {
        self.configuration.is_some()
    }

    /// The number of the configuration; 0 if the store is not sharded.
    pub fn epoch(&self) -> Epoch {
        self.configuration.as_ref().map_or(Epoch(0), |configuration| configuration.epoch())
    }

    /// Who owns a slot; `None` before it was given to a group.
    pub fn owner(&self, slot: Slot) -> Option<GroupId> {
        self.configuration.as_ref().map_or(Some(FIRST_GROUP), |known| known.owner(slot))
    }

    /// Whether each slot has an owner whose leader is known and was heard lately.
    pub fn is_served(&self) -> bool {
        let is_led = |group| {
            let leader = self.leader(group).and_then(|leader| self.nodes.get(&leader));
            leader.is_some_and(|(_, is_alive)| *is_alive)
        };
        match &self.configuration {
            None => is_led(FIRST_GROUP),
            Some(known) => known.runs().all(|(.., owner)| owner.is_some_and(is_led)),
        }
    }

    /// The groups that own slots, or may.
    pub fn data_groups(&self) -> impl Iterator<Item = (GroupId, &GroupPlace)> {
        self.groups.iter().filter(|(id, _)| **id != CONTROLLER).map(|(id, place)| (*id, place))
    }

    /// Who leads a group, if known.
    pub fn leader(&self, group: GroupId) -> Option<NodeId> {
        self.groups.get(&group)?.leader
    }
}
