//! Memory that the groups of a node share: what is not in tables yet, counted over all of them.
//!
//! A group alone may use all of it. Where there are many, those with more than their share are
//! persisted first, and whoever goes beyond the whole has the largest persisted, which may be one
//! that nobody writes to any more.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Shared by all groups of an engine; `T` is a group.
pub(super) struct Budget<T> {
    limit: usize,
    total: AtomicUsize,
    /// How much of the limit counts.
    percent: AtomicU32,
    groups: Mutex<Vec<Weak<T>>>,
}

impl<T> Budget<T> {
    pub(super) fn new(limit: usize) -> Self {
        let (total, percent) = (AtomicUsize::new(0), AtomicU32::new(100));
        Self { limit, total, percent, groups: Mutex::default() }
    }

    fn groups(&self) -> MutexGuard<'_, Vec<Weak<T>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A group takes part until it is dropped.
    pub(super) fn join(&self, group: &Arc<T>) {
        let mut groups = self.groups();
        groups.retain(|group| group.strong_count() > 0);
        groups.push(Arc::downgrade(group));
    }

    /// How many groups take part; at least 1.
    pub(super) fn members(&self) -> usize {
        self.groups().len().max(1)
    }

    /// The groups that take part.
    pub(super) fn all(&self) -> Vec<Arc<T>> {
        self.groups().iter().filter_map(Weak::upgrade).collect()
    }

    /// What all groups have that is not in tables.
    pub(super) fn used(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// From here on only so much of every limit counts.
    pub(super) fn squeeze(&self, percent: u32) {
        self.percent.store(percent.clamp(1, 100), Ordering::Relaxed);
    }

    /// What counts of `limit`.
    pub(super) fn squeezed(&self, limit: usize) -> usize {
        let percent = self.percent.load(Ordering::Relaxed).min(100);
        limit - limit / 100 * (100 - percent as usize)
    }

    /// A group had `before` bytes that are not in tables, and has `after`.
    pub(super) fn moved(&self, before: usize, after: usize) {
        if after >= before {
            self.total.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.total.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// Whether there is more than there may be.
    pub(super) fn is_exceeded(&self) -> bool {
        self.total.load(Ordering::Relaxed) > self.squeezed(self.limit)
    }

    /// Whether a group with `own` bytes should make room soon. From half of the whole on those with twice
    /// the mean are, and the fuller it is the less they need; at three quarters the mean is enough. So
    /// groups take turns, and each writes about twice as much at once as if all went together.
    pub(super) fn is_due(&self, own: usize) -> bool {
        let total = self.total.load(Ordering::Relaxed);
        let limit = self.squeezed(self.limit);
        let (half, quarter) = (limit / 2, (limit / 4).max(1));
        if total <= half {
            return false;
        }
        let left = quarter - (total - half).min(quarter);
        let needed = total as u128 * (quarter + left) as u128;
        own as u128 * self.members() as u128 * quarter as u128 >= needed
    }

    /// The group with the most bytes.
    pub(super) fn largest(&self, bytes: impl Fn(&T) -> usize) -> Option<Arc<T>> {
        self.all().into_iter().max_by_key(|group| bytes(group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups that are written alike write most of what they may keep at once.
    #[test]
    fn groups_take_turns() {
        let groups: Vec<Arc<()>> = (0..4).map(|_| Arc::new(())).collect();
        let budget = Budget::new(100_000);
        groups.iter().for_each(|group| budget.join(group));
        let (mut own, mut persisted) = ([0; 4], Vec::new());
        for turn in 0..40_000 {
            let group = turn % own.len();
            own[group] += 10;
            budget.moved(0, 10);
            assert!(!budget.is_exceeded());
            if budget.is_due(own[group]) {
                persisted.push(own[group]);
                budget.moved(std::mem::take(&mut own[group]), 0);
            }
        }
        let later = &persisted[8..];
        assert!(later.iter().all(|bytes| *bytes > 20_000), "{persisted:?}");
    }

    #[test]
    fn a_group_alone_uses_three_quarters_and_of_many_the_large_ones_go_first() {
        let budget = Budget::new(1000);
        let group = Arc::new(());
        budget.join(&group);
        budget.moved(0, 749);
        assert!(!budget.is_due(749));
        budget.moved(749, 750);
        assert!(budget.is_due(750));
        let other = Arc::new(());
        budget.join(&other);
        assert!(budget.is_due(375) && !budget.is_due(374));
        budget.moved(750, 600);
        assert!(budget.is_due(480) && !budget.is_due(470));
    }
}
