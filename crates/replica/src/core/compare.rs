//! When the replicas of which group are compared.

use std::ops::Bound;

use kontiki_kv::Checked;
use kontiki_types::GroupId;

use super::{Core, Group};

impl Core {
    /// Has the replicas of the next group in turn compared, if it is time.
    pub(super) fn compare_replicas(&mut self) {
        let interval = self.config.check_interval;
        if interval.is_zero() || self.check_at > self.now {
            return;
        }
        self.check_at = self.now + interval;
        let after = self.check_last.map_or(Bound::Unbounded, Bound::Excluded);
        let wants = |(id, group): (&GroupId, &Group)| group.wants_check().then_some(*id);
        let later = self.groups.range((after, Bound::Unbounded)).find_map(wants);
        let next = later.or_else(|| self.groups.iter().find_map(wants));
        if let Some(group) = next {
            self.check_last = Some(group);
            self.with(group, Group::propose_check);
        }
    }

    /// A comparison of a group's replicas came to this here.
    pub fn checked(&mut self, group: GroupId, checked: Checked) {
        self.with(group, |group, _| group.checked(checked));
    }
}
