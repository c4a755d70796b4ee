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

    /// Whether a group with `own` bytes should make room soon: half of the whole is used, and this
    /// group has its share of it or more.
    pub(super) fn is_due(&self, own: usize) -> bool {
        let total = self.total.load(Ordering::Relaxed);
        total > self.squeezed(self.limit) / 2 && own.saturating_mul(self.members()) >= total
    }

    /// The group with the most bytes.
    pub(super) fn largest(&self, bytes: impl Fn(&T) -> usize) -> Option<Arc<T>> {
        self.all().into_iter().max_by_key(|group| bytes(group))
    }
}
