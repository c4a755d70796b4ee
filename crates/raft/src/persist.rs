//! The order of durability, made hard to get wrong.
//!
//! Everything a replica must not forget leaves the core in one ordered sequence of [`WriteBatch`]es.
//! [`persist()`] hands them to a [`StableStorage`] and turns those that are on stable storage into
//! [`Receipt`]s; there is no other way to make one. Whatever asserts that a state is durable (a
//! granted vote, an append acknowledgement, a candidate's request) stays inside the core until the
//! receipt is given back, so every [`Output::Send`](crate::Output::Send) may be sent at once.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use kontiki_types::{GroupId, Index, LogId, Member, Term};

use crate::{Entries, Entry, EntryData, Membership};

/// What a replica must never forget about elections (Figure 2, "persistent state").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term seen.
    pub term: Term,
    /// For whom this replica voted in that term.
    pub vote: Option<Member>,
}

/// Where the log begins: the last entry before it, and the configuration in effect there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// The last entry that the log no longer holds. [`LogId::ZERO`] for a log from the beginning.
    pub id: LogId,
    /// The configuration in effect at that entry.
    pub membership: Arc<Membership>,
    /// The entry that holds that configuration. [`LogId::ZERO`] for an initial one.
    pub membership_id: LogId,
}

/// What a replica knows when it starts: what its stable storage proves.
#[derive(Clone, Debug)]
pub struct Recovered<P> {
    /// Term and vote.
    pub hard_state: HardState,
    /// Where the log begins. `None` only for a replica that waits to be added to a group; the first
    /// start of a voter of a new group has [`LogId::ZERO`] with the initial configuration.
    pub base: Option<Base>,
    /// The first entries after the base, as far as they are applied and need not be in memory: they
    /// are on stable storage, from where followers get them.
    pub stored: Stored,
    /// The entries after these.
    pub entries: Vec<Entry<P>>,
    /// Up to where the state machine has applied, durably or not: the first entry that comes out
    /// in [`Output::Apply`](crate::Output::Apply) is the next one.
    pub applied: Index,
}

impl<P> Default for Recovered<P> {
    fn default() -> Self {
        Self {
            hard_state: HardState::default(),
            base: None,
            stored: Stored::default(),
            entries: Vec::new(),
            applied: Index(0),
        }
    }
}

impl<P> Recovered<P> {
    /// The first start of a voter of a new group.
    pub fn initial(membership: Membership) -> Self {
        let base = Base { membership: Arc::new(membership), ..Base::default() };
        Self { base: Some(base), ..Self::default() }
    }

    /// The last entry of the log; the base if there is none.
    pub fn last(&self) -> LogId {
        let base = self.base.as_ref().map_or(LogId::ZERO, |base| base.id);
        let stored = self.stored.runs.last().map(|run| run.last);
        self.entries.last().map(|entry| entry.id).or(stored).unwrap_or(base)
    }

    /// The term of the entry at `index`, if the log has it or begins after it.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        let base = self.base.as_ref().map_or(LogId::ZERO, |base| base.id);
        if index == base.index {
            return Some(base.term);
        }
        let run = self.stored.runs.partition_point(|run| run.last.index < index);
        if let Some(run) = self.stored.runs.get(run) {
            return (run.first <= index).then_some(run.last.term);
        }
        let first = self.entries.first()?.id.index;
        let at = usize::try_from(index.0.checked_sub(first.0)?).ok()?;
        self.entries.get(at).map(|entry| entry.id.term)
    }

    /// The configurations among the entries, each with its entry, in order.
    pub fn memberships(&self) -> impl Iterator<Item = (LogId, &Arc<Membership>)> {
        let stored = self.stored.memberships.iter().map(|(id, membership)| (*id, membership));
        let entries = self.entries.iter().filter_map(|entry| match &entry.data {
            EntryData::Membership(membership) => Some((entry.id, membership)),
            EntryData::Noop | EntryData::Command(_) => None,
        });
        stored.chain(entries)
    }
}

/// What a replica that starts knows of entries that it does not have in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// All of them, in order and without a gap.
    pub runs: Vec<StoredRun>,
    /// The configurations among them, each with its entry.
    pub memberships: Vec<(LogId, Arc<Membership>)>,
}

/// Entries of one term, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRun {
    /// The first of them.
    pub first: Index,
    /// The last.
    pub last: LogId,
    /// What they take in the log, about, in bytes.
    pub bytes: u64,
}

/// One step of what must become durable. To be written in this order: hard state, base, truncation,
/// entries; atomically in the sense that a batch that is only partly there after a crash counts as
/// not there.
///
/// Batches of one replica must become durable in the order in which they came out. Not `Clone`, and
/// a receipt exists only for a batch that went through [`persist()`].
#[derive(Debug)]
#[must_use = "a write batch must be persisted, or the replica waits for its receipt for ever"]
pub struct WriteBatch<P> {
    /// Most batches hold one range of entries and nothing else; the rest is out of the way, so that
    /// they are small and need no allocation.
    pub(crate) first: Entries<P>,
    pub(crate) more: Option<Box<More<P>>>,
    pub(crate) receipt: Receipt,
}

#[derive(Debug)]
pub(crate) struct More<P> {
    pub(crate) hard_state: Option<HardState>,
    pub(crate) base: Option<Base>,
    pub(crate) truncate_from: Option<Index>,
    pub(crate) rest: Vec<Entries<P>>,
}

impl<P> WriteBatch<P> {
    /// The hard state from here on, if it changed.
    pub fn hard_state(&self) -> Option<HardState> {
        self.more.as_ref()?.hard_state
    }

    /// The start of the log from here on, if it moved: entries up to its index are not needed any
    /// more (compaction, or a snapshot took their place).
    pub fn base(&self) -> Option<&Base> {
        self.more.as_ref()?.base.as_ref()
    }

    /// Entries at and after this index are void, to be followed by [`WriteBatch::entries`].
    pub fn truncate_from(&self) -> Option<Index> {
        self.more.as_ref()?.truncate_from
    }

    /// Entries to append, in order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry<P>> {
        self.ranges().flat_map(|entries| entries.iter())
    }

    /// How many entries there are to append.
    pub fn entry_count(&self) -> usize {
        self.ranges().fold(0, |sum, entries| sum + entries.len())
    }

    /// The same entries, in the ranges in which they came.
    pub fn ranges(&self) -> impl Iterator<Item = &Entries<P>> {
        let rest = self.more.iter().flat_map(|more| more.rest.iter());
        core::iter::once(&self.first).chain(rest)
    }
}

/// Proof that a [`WriteBatch`] is on stable storage. Give it to
/// [`Raft::persisted`](crate::Raft::persisted) of the replica it came from.
#[derive(Debug)]
#[must_use = "give the receipt back to the replica"]
pub struct Receipt {
    /// The replica that the batch came from, in this life of it: a random number.
    pub(crate) owner: u64,
    /// Which of its batches.
    pub(crate) sequence: u64,
}

/// A place where bytes survive a crash of the process and the machine.
pub trait StableStorage<P> {
    /// Why a write failed.
    type Error;

    /// Writes the batches in order and returns once **all** of them are on stable storage (one
    /// `fdatasync` serves them all).
    ///
    /// # Errors
    /// After an error it is unknown what is durable: report
    /// [`Raft::persist_failed`](crate::Raft::persist_failed) to every replica that writes here and
    /// end the process.
    fn write_and_sync(&mut self, batches: &[(GroupId, WriteBatch<P>)]) -> Result<(), Self::Error>;
}

/// Makes `batches` durable, in order, and appends one receipt for each to `receipts`. Empties
/// `batches`, whatever happens. The only source of receipts.
///
/// # Errors
/// Those of the storage; then there are no receipts.
pub fn persist<P, S: StableStorage<P>>(
    storage: &mut S,
    batches: &mut Vec<(GroupId, WriteBatch<P>)>,
    receipts: &mut Vec<(GroupId, Receipt)>,
) -> Result<(), S::Error> {
    let result = storage.write_and_sync(batches);
    match result {
        Ok(()) => {
            receipts.extend(batches.drain(..).map(|(group, batch)| (group, batch.receipt)));
        }
        Err(_) => batches.clear(),
    }
    result
}
