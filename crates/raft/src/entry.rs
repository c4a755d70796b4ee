//! Log entries, and the shared batches in which they travel.
//!
//! A batch of proposals is allocated once, when the leader seals it. From then on the leader's log,
//! its messages to the followers, its write batch and its apply output all hold a range of that one
//! allocation ([`Entries`]); no entry is copied again on the way.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use kontiki_types::LogId;

use crate::{Membership, Payload};

/// Bytes that an entry counts beyond its payload, towards every byte limit.
pub(crate) const ENTRY_OVERHEAD: usize = 48;

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryData<P> {
    /// The entry with which a leader opens its term (§8). The state machine ignores it.
    Noop,
    /// A command for the state machine.
    Command(P),
    /// A configuration of the group, in effect from the moment it is appended (§6). The first entry
    /// of a group is its initial configuration.
    Membership(Arc<Membership>),
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<P> {
    /// Where it stands and which term created it.
    pub id: LogId,
    /// What it says.
    pub data: EntryData<P>,
}

impl<P: Payload> Entry<P> {
    /// What the entry counts towards byte limits.
    pub(crate) fn cost(&self) -> usize {
        match &self.data {
            EntryData::Noop => ENTRY_OVERHEAD,
            EntryData::Command(payload) => payload.len().saturating_add(ENTRY_OVERHEAD),
            EntryData::Membership(membership) => {
                ENTRY_OVERHEAD + membership.members().count() * size_of::<kontiki_types::Member>()
            }
        }
    }
}

/// A range of entries, shared and immutable. Cloning it or taking a part of it copies no entry.
///
/// Reads as a slice.
pub struct Entries<P> {
    shared: Option<Arc<[Entry<P>]>>,
    // Messages and outputs are moved about by value: a small one is a fast one.
    from: u32,
    to: u32,
}

impl<P> Entries<P> {
    /// No entries. Allocates nothing.
    pub const fn new() -> Self {
        Self { shared: None, from: 0, to: 0 }
    }

    /// The entries as a slice.
    pub fn as_slice(&self) -> &[Entry<P>] {
        match &self.shared {
            Some(shared) => shared.get(self.from as usize..self.to as usize).unwrap_or(&[]),
            None => &[],
        }
    }

    /// The same entries without the first `count`.
    #[must_use]
    pub fn skip(&self, count: usize) -> Self {
        Self {
            shared: self.shared.clone(),
            from: self.from.saturating_add(clamp(count)).min(self.to),
            to: self.to,
        }
    }

    /// The first `count` of these entries.
    #[must_use]
    pub fn take(&self, count: usize) -> Self {
        Self {
            shared: self.shared.clone(),
            from: self.from,
            to: self.from.saturating_add(clamp(count)).min(self.to),
        }
    }

    pub(crate) fn drop_front(&mut self, count: usize) {
        self.from = self.from.saturating_add(clamp(count)).min(self.to);
    }

    pub(crate) fn truncate(&mut self, count: usize) {
        self.to = self.from.saturating_add(clamp(count)).min(self.to);
    }
}

/// A range beyond four thousand million entries ends there; none is built that long.
fn clamp(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl<P> Default for Entries<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> Clone for Entries<P> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), from: self.from, to: self.to }
    }
}

impl<P> Deref for Entries<P> {
    type Target = [Entry<P>];

    fn deref(&self) -> &[Entry<P>] {
        self.as_slice()
    }
}

impl<'a, P> IntoIterator for &'a Entries<P> {
    type Item = &'a Entry<P>;
    type IntoIter = core::slice::Iter<'a, Entry<P>>;

    fn into_iter(self) -> Self::IntoIter {
        self.as_slice().iter()
    }
}

impl<P> From<Vec<Entry<P>>> for Entries<P> {
    fn from(entries: Vec<Entry<P>>) -> Self {
        entries.into_iter().collect()
    }
}

impl<P> FromIterator<Entry<P>> for Entries<P> {
    fn from_iter<I: IntoIterator<Item = Entry<P>>>(entries: I) -> Self {
        let shared: Arc<[Entry<P>]> = entries.into_iter().collect();
        let to = clamp(shared.len());
        Self { shared: (to > 0).then_some(shared), from: 0, to }
    }
}

impl<P: fmt::Debug> fmt::Debug for Entries<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

impl<P: PartialEq> PartialEq for Entries<P> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<P: Eq> Eq for Entries<P> {}
