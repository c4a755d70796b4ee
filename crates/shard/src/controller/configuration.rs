//! A configuration: which groups there are, and which of them owns which slot.

use std::collections::BTreeMap;

use kontiki_types::{Epoch, GroupId, LogId, NodeId, Slot};

use crate::runs::Runs;
use crate::wire::wire;
use crate::{GroupRef, SlotSet};

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
}

wire!(struct GroupEntry { joined, nodes, is_leaving });
wire!(struct Observed { at, nodes });
wire!(struct Configuration { epoch, groups, owners });

impl Configuration {
    /// Number 0: no group, no slot owned.
    pub(crate) fn first() -> Self {
        Self { epoch: Epoch(0), groups: BTreeMap::new(), owners: Runs::filled(None) }
    }

    /// Its number; each change makes a following one.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The groups, in the order of their ids.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (GroupId, &GroupEntry)> {
        self.groups.iter().map(|(id, group)| (*id, group))
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
