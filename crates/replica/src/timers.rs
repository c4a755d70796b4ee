//! When each group has something to do next, so that a turn costs what is due and not what there is.

use std::collections::BTreeSet;

use kontiki_types::{GroupId, Instant};

/// The deadlines of groups, in their order. Each group keeps its own beside it.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Instant, GroupId)>);

impl Timers {
    /// Moves a group's deadline from `set`, where it was, to `deadline`. [`Instant::MAX`]: none.
    pub(crate) fn set(&mut self, group: GroupId, set: &mut Instant, deadline: Instant) {
        if *set == deadline {
            return;
        }
        if *set < Instant::MAX {
            self.0.remove(&(*set, group));
        }
        if deadline < Instant::MAX {
            self.0.insert((deadline, group));
        }
        *set = deadline;
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Instant {
        self.0.first().map_or(Instant::MAX, |&(deadline, _)| deadline)
    }

    /// The groups whose deadline has come, earliest first. They stay where they are.
    pub(crate) fn due(&self, now: Instant) -> Vec<GroupId> {
        let due = self.0.iter().take_while(|&&(deadline, _)| deadline <= now);
        due.map(|&(_, group)| group).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_order_and_what_was_moved_does_not() {
        let mut timers = Timers::default();
        let mut set = [Instant::MAX; 4];
        for (group, deadline) in [(0, 30), (1, 10), (2, 20), (3, 10)] {
            timers.set(GroupId(group), &mut set[group as usize], Instant(deadline));
        }
        assert_eq!(timers.next(), Instant(10));
        timers.set(GroupId(1), &mut set[1], Instant(40));
        timers.set(GroupId(0), &mut set[0], Instant::MAX);
        assert_eq!(timers.due(Instant(20)), [GroupId(3), GroupId(2)]);
        assert_eq!(timers.due(Instant(9)), []);
        timers.set(GroupId(3), &mut set[3], Instant::MAX);
        timers.set(GroupId(2), &mut set[2], Instant::MAX);
        assert_eq!(timers.due(Instant(100)), [GroupId(1)]);
        assert_eq!(timers.next(), Instant(40));
    }
}
