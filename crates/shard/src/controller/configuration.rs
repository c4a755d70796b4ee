//! A configuration: which groups there are, and which of them owns which slot.

use std::collections::BTreeMap;

use kontiki_types::{Epoch, GroupId, Incarnation, LogId, NodeId, Slot};

use crate::controller::{GROUPS_MAX, NODES_PER_GROUP_MAX};
use crate::runs::Runs;
use crate::wire::{BadBytes, from_bytes, to_bytes, wire};
use crate::{GroupRef, SlotSet};

/// The version of the byte form by which nodes tell each other a configuration.
const VERSION: u8 = 2;

/// Removed nodes that are remembered; beyond it the first are forgotten.
pub const GONE_MAX: usize = 1024;

/// A group as the controller knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupEntry {
    /// The controller's log index at which it joined.
    pub joined: u64,
    /// The nodes that are wanted to have a replica, in order: a wish. The group's own log says
    /// which have one (PROTOCOL 16).
    pub nodes: Vec<NodeId>,
    /// It is to give all its slots away, and is no more when it has.
    pub is_leaving: bool,
}

/// The members that a group's own log names, as last reported: a copy, for showing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observed {
    /// The log id of the group's configuration entry.
    pub at: LogId,
    /// The nodes that it names, in order.
    pub nodes: Vec<NodeId>,
}

/// One numbered configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Configuration {
    pub(crate) epoch: Epoch,
    pub(crate) groups: BTreeMap<GroupId, GroupEntry>,
    pub(crate) owners: Runs<Option<GroupId>>,
    /// Nodes that were removed, in that order.
    pub(crate) gone: Vec<(NodeId, Incarnation)>,
}

wire!(struct GroupEntry { joined, nodes, is_leaving });
wire!(struct Observed { at, nodes });
wire!(struct Configuration { epoch, groups, owners, gone });

impl Configuration {
    /// Number 0: no group, no slot owned.
    pub(crate) fn first() -> Self {
        Self {
            epoch: Epoch(0),
            groups: BTreeMap::new(),
            owners: Runs::filled(None),
            gone: Vec::new(),
        }
    }

    /// The byte form, by which nodes tell each other: 20 bytes a group and 5 a run of slots, or so.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(VERSION, self)
    }

    /// Reads [`Configuration::to_bytes`].
    ///
    /// # Errors
    /// The bytes are of another version or cut, or say what no controller would: more groups or
    /// nodes than it allows, or an owner that is no group.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadBytes> {
        let read: Self = from_bytes(VERSION, bytes)?;
        let too_many = read.groups.len() > GROUPS_MAX
            || read.gone.len() > GONE_MAX
            || read.groups.values().any(|group| group.nodes.len() > NODES_PER_GROUP_MAX);
        if too_many {
            return Err(BadBytes::Broken("more groups or nodes than there may be"));
        }
        if read.runs().any(|(.., owner)| owner.is_some_and(|id| read.group(id).is_none())) {
            return Err(BadBytes::Broken("a slot is owned by a group that is not there"));
        }
        Ok(read)
    }

    /// Its number; each change makes a following one.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The groups, in the order of their ids.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (GroupId, &GroupEntry)> {
        self.groups.iter().map(|(id, group)| (*id, group))
    }

    /// Nodes that were removed from the cluster, each with its directory.
    pub fn gone(&self) -> &[(NodeId, Incarnation)] {
        &self.gone
    }

    /// Whether this directory of a node was removed from the cluster.
    pub fn is_gone(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.gone.contains(&(node, incarnation))
    }

    /// A group.
    pub fn group(&self, id: GroupId) -> Option<&GroupEntry> {
        self.groups.get(&id)
    }

    /// A group's name in entries about it.
    pub fn group_ref(&self, id: GroupId) -> Option<GroupRef> {
        self.group(id).map(|group| GroupRef { id, joined: group.joined })
    }

    /// Who owns `slot`; `None` only before it was first given to a group.
    pub fn owner(&self, slot: Slot) -> Option<GroupId> {
        self.owners.get(slot)
    }

    /// The slots of one owner, or those of none.
    pub fn slots_of(&self, owner: Option<GroupId>) -> SlotSet {
        self.owners.select(|found| found == owner)
    }

    /// Runs of slots with the same owner, in order: first slot, last slot, owner.
    pub fn runs(&self) -> impl Iterator<Item = (Slot, Slot, Option<GroupId>)> {
        let slot = |number| Slot::new(number).unwrap_or_default();
        self.owners.iter().map(move |(first, last, owner)| (slot(first), slot(last), owner))
    }

    /// The one owner of all of `slots`; the first slot with another one is the error.
    pub(crate) fn one_owner(&self, slots: &SlotSet) -> Result<Option<GroupId>, Slot> {
        let mut runs = self.owners.within(slots);
        let Some((_, _, owner)) = runs.next() else { return Ok(None) };
        match runs.find(|(_, _, other)| *other != owner) {
            Some((first, ..)) => Err(Slot::new(first).unwrap_or_default()),
            None => Ok(owner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_groups() -> Configuration {
        let entry = |joined| GroupEntry { joined, nodes: vec![NodeId(1)], is_leaving: false };
        let groups = BTreeMap::from([(GroupId(1), entry(3)), (GroupId(2), entry(4))]);
        let mut owners = Runs::filled(Some(GroupId(1)));
        let second: SlotSet = (100..200).filter_map(Slot::new).collect();
        owners.change(&second, |_| Some(GroupId(2)));
        let gone = vec![(NodeId(7), Incarnation(70))];
        Configuration { epoch: Epoch(9), groups, owners, gone }
    }

    #[test]
    fn configurations_survive_their_bytes_and_every_cut_is_refused() {
        let whole = two_groups();
        let bytes = whole.to_bytes();
        assert_eq!(Configuration::from_bytes(&bytes), Ok(whole));
        for end in 0..bytes.len() {
            assert!(Configuration::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn an_owner_that_is_no_group_is_refused() {
        let mut broken = two_groups();
        broken.groups.remove(&GroupId(2));
        let read = Configuration::from_bytes(&broken.to_bytes());
        assert!(matches!(read, Err(BadBytes::Broken(_))), "{read:?}");
    }
}
