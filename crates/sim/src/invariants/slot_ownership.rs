//! Slot Ownership: at each moment at most one group may acknowledge a write to a slot, the one that
//! the controller names (PROTOCOL 9 and 10).
//!
//! A group may as far as its log says so that is known to be committed: what its replicas have
//! applied, the most advanced of them. That a group serves a slot which the controller has given to
//! nobody else implies that no other group does.

use std::collections::BTreeMap;
use std::sync::Arc;

use kontiki_shard::{Configuration, SlotSet};
use kontiki_types::{GroupId, Index};

use super::{Checked, Violation};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct SlotOwnership {
    configuration: Option<Arc<Configuration>>,
    /// What each group serves, as of this entry of its log.
    serving: BTreeMap<GroupId, (Index, SlotSet)>,
}

impl SlotOwnership {
    /// A replica of the controller has applied a configuration. An older one changes nothing.
    ///
    /// # Errors
    /// Somebody serves what is another one's by it.
    pub fn owns(&mut self, configuration: Arc<Configuration>) -> Checked {
        let known = self.configuration.as_ref().map(|known| known.epoch());
        if known.is_some_and(|known| known >= configuration.epoch()) {
            return Ok(());
        }
        self.configuration = Some(configuration);
        self.serving.keys().try_for_each(|&group| self.check(group))
    }

    /// A replica of `group` has applied its log up to `index`: it serves these slots. An older state
    /// than is known changes nothing.
    ///
    /// # Errors
    /// One of them is another group's.
    pub fn serves(&mut self, group: GroupId, index: Index, slots: SlotSet) -> Checked {
        if self.serving.get(&group).is_some_and(|(known, _)| *known >= index) {
            return Ok(());
        }
        self.serving.insert(group, (index, slots));
        self.check(group)
    }

    /// The log of `group` begins anew: the id is another group's from here on.
    pub fn forgets(&mut self, group: GroupId) {
        self.serving.remove(&group);
    }

    fn check(&self, group: GroupId) -> Checked {
        let (Some(configuration), Some((index, slots))) =
            (&self.configuration, self.serving.get(&group))
        else {
            return Ok(());
        };
        for (first, last, owner) in configuration.runs() {
            let of_another = SlotSet::range(first, last);
            if owner != Some(group)
                && let Some(slot) = slots.first_common(&of_another)
            {
                let epoch = configuration.epoch();
                let seen = format!(
                    "{group} serves slot {slot} at {index}, which is {owner:?}'s in epoch {epoch}"
                );
                return Err(Violation::new("At most one group serves a slot", seen));
            }
        }
        Ok(())
    }

    /// Who owns what, as last heard.
    pub fn configuration(&self) -> Option<&Arc<Configuration>> {
        self.configuration.as_ref()
    }
}
