//! Every configuration there was, kept as what each changed.
//!
//! At most [`HISTORY_MAX`] changes are kept: then the oldest is worked into the base, and the
//! configuration before it is forgotten.

use std::collections::VecDeque;

use kontiki_types::{Epoch, GroupId, Incarnation, NodeId};

use super::configuration::{Configuration, GONE_MAX, GroupEntry};
use crate::SlotSet;
use crate::wire::wire;

/// Configurations that can be asked for. A full rebalance of 16384 slots makes about 64; this many
/// take some hundred KiB.
pub const HISTORY_MAX: usize = 4096;

/// How a configuration differs from the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Change {
    /// Slots with their new owner.
    pub(crate) slots: Vec<(SlotSet, GroupId)>,
    /// Groups that came, changed, or went (`None`).
    pub(crate) groups: Vec<(GroupId, Option<GroupEntry>)>,
    /// Nodes that were removed.
    pub(crate) gone: Vec<(NodeId, Incarnation)>,
}

/// The configurations, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct History {
    base: Configuration,
    changes: VecDeque<Change>,
    // Invariant: the base with all changes.
    latest: Configuration,
}

wire!(struct Change { slots, groups, gone });
wire!(struct History { base, changes, latest });

impl History {
    pub(crate) fn new() -> Self {
        let first = Configuration::first();
        Self { base: first.clone(), changes: VecDeque::new(), latest: first }
    }

    pub(crate) fn latest(&self) -> &Configuration {
        &self.latest
    }

    /// Makes the next configuration.
    pub(crate) fn advance(&mut self, change: Change) {
        change.apply(&mut self.latest);
        self.changes.push_back(change);
        if self.changes.len() > HISTORY_MAX
            && let Some(oldest) = self.changes.pop_front()
        {
            oldest.apply(&mut self.base);
        }
    }

    /// The oldest configuration that is kept.
    pub(crate) fn oldest(&self) -> Epoch {
        self.base.epoch
    }

    /// Configuration `epoch`, if it is kept.
    pub(crate) fn at(&self, epoch: Epoch) -> Option<Configuration> {
        if epoch > self.latest.epoch {
            return None;
        }
        let steps = usize::try_from(epoch.0.checked_sub(self.base.epoch.0)?).ok()?;
        let mut found = self.base.clone();
        self.changes.iter().take(steps).for_each(|change| change.apply(&mut found));
        Some(found)
    }

    /// Whether what was read holds together.
    pub(crate) fn is_sound(&self) -> bool {
        self.at(self.latest.epoch).is_some_and(|replayed| replayed == self.latest)
            && self.changes.len() <= HISTORY_MAX
    }
}

impl Change {
    fn apply(&self, configuration: &mut Configuration) {
        configuration.epoch = configuration.epoch.next();
        for (slots, owner) in &self.slots {
            configuration.owners.change(slots, |_| Some(*owner));
        }
        for (id, entry) in &self.groups {
            match entry {
                Some(entry) => configuration.groups.insert(*id, entry.clone()),
                None => configuration.groups.remove(id),
            };
        }
        configuration.gone.extend(&self.gone);
        let too_many = configuration.gone.len().saturating_sub(GONE_MAX);
        configuration.gone.drain(..too_many);
    }
}
