//! Work of many groups, taken in turns: in order within a group, and no group waits for more than a
//! slice of each other's.

use std::collections::{BTreeMap, VecDeque};

use kontiki_types::GroupId;

/// What waits, by group. Groups without work have no place here.
pub(crate) struct Turns<T> {
    queues: BTreeMap<GroupId, VecDeque<T>>,
    /// Whose turn it is, and then whose.
    order: VecDeque<GroupId>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { queues: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl<T> Turns<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Adds work behind the group's other work; a group that had none comes last.
    pub(crate) fn push(&mut self, group: GroupId, item: T) {
        let queue = self.queues.entry(group).or_default();
        if queue.is_empty() {
            self.order.push_back(group);
        }
        queue.push_back(item);
    }

    /// The first work of the group whose turn it is, up to a weight of `slice` but at least one
    /// item; up to `alone` if no other group has any. What remains waits for the group's next turn.
    pub(crate) fn next(
        &mut self,
        slice: usize,
        alone: usize,
        weight: impl Fn(&T) -> usize,
    ) -> Vec<T> {
        let limit = if self.order.len() == 1 { alone } else { slice };
        let Some(group) = self.order.pop_front() else { return Vec::new() };
        let Some(queue) = self.queues.get_mut(&group) else { return Vec::new() };
        let mut taken = Vec::new();
        let mut sum = 0usize;
        while let Some(item) = queue.front() {
            sum = sum.saturating_add(weight(item));
            if sum > limit && !taken.is_empty() {
                break;
            }
            taken.extend(queue.pop_front());
        }
        if queue.is_empty() {
            self.queues.remove(&group);
        } else {
            self.order.push_back(group);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(turns: &mut Turns<(u32, usize)>) -> Vec<(u32, usize)> {
        turns.next(10, 100, |_| 1)
    }

    #[test]
    fn a_busy_group_does_not_keep_others_waiting() {
        let mut turns = Turns::default();
        for at in 0..1000 {
            turns.push(GroupId(1), (1, at));
        }
        turns.push(GroupId(2), (2, 0));
        turns.push(GroupId(3), (3, 0));
        let first = next(&mut turns);
        assert_eq!(first.len(), 10);
        assert_eq!(next(&mut turns), [(2, 0)]);
        // Who comes now waits for one slice of the busy one.
        turns.push(GroupId(4), (4, 0));
        assert_eq!(next(&mut turns), [(3, 0)]);
        assert_eq!(next(&mut turns).len(), 10);
        assert_eq!(next(&mut turns), [(4, 0)]);
    }

    #[test]
    fn nothing_is_lost_and_a_groups_work_keeps_its_order() {
        let mut turns = Turns::default();
        for at in 0..500 {
            for group in 0..7 {
                if at % (group + 1) == 0 {
                    turns.push(GroupId(group as u32), (group as u32, at));
                }
            }
        }
        let mut seen: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        while !turns.is_empty() {
            let some = next(&mut turns);
            assert!(!some.is_empty());
            some.into_iter().for_each(|(group, at)| seen.entry(group).or_default().push(at));
        }
        for (group, seen) in seen {
            let step = group as usize + 1;
            assert_eq!(seen, (0..500).step_by(step).collect::<Vec<_>>());
        }
    }

    #[test]
    fn who_is_alone_takes_more_at_once_and_one_heavy_item_goes_alone() {
        let mut turns = Turns::default();
        (0..300).for_each(|at| turns.push(GroupId(1), (1, at)));
        assert_eq!(next(&mut turns).len(), 100);
        turns.push(GroupId(2), (2, 0));
        assert_eq!(turns.next(10, 100, |_| 1_000).len(), 1);
        assert_eq!(turns.next(10, 100, |_| 1_000), [(2, 0)]);
    }
}
