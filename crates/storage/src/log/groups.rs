//! What of the log is in force, group by group, and in which segment it stands.
//!
//! The same code runs at replay and while writing, so that what a restart finds is what the writer
//! believed. Invariants after a successful recovery:
//! - `slots[i]` is the entry with index `first + i`; none is absent; terms never decrease.
//! - `first` is one above the base, or 1 without a base.
//! - `live[s]` is the sum of the bytes of all records in force in segment `s`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use kontiki_raft::{Base, Entry, EntryData, HardState, Membership, Recovered, Stored, StoredRun};
use kontiki_types::plant::{Plant, planted};
use kontiki_types::{GroupId, Index, LogId, Term};

use super::record::{Body, Decoder, Record};

/// More entries than this in one group are not believed: a guard against allocating by a number
/// that was read.
const ENTRIES_MAX: u64 = 1 << 26;

/// What a start tells of stored entries, it tells of about so many bytes at once.
const RUN_BYTES: u64 = 64 << 10;

/// Up to which entry the state of each group is durable.
pub(super) type Applied = BTreeMap<GroupId, LogId>;

#[derive(Default)]
pub(super) struct Groups {
    groups: BTreeMap<GroupId, Group>,
    live: BTreeMap<u64, u64>,
    recovering: bool,
}

#[derive(Default)]
struct Group {
    hard_state: Option<(HardState, Place)>,
    base: Option<(Base, Place)>,
    first: u64,
    slots: VecDeque<Slot>,
    /// The entries themselves, while recovering. As long as `slots`.
    entries: VecDeque<Option<Entry<Bytes>>>,
    log_bytes: u64,
}

/// Where a record in force stands: in which segment, where in it its frame begins, and how many bytes
/// it takes.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    pub segment: u64,
    pub offset: u32,
    pub bytes: u32,
}

impl Place {
    /// A segment has less than 4 GiB.
    pub(super) fn new(segment: u64, offset: u64, bytes: u32) -> Self {
        Self { segment, offset: u32::try_from(offset).unwrap_or(u32::MAX), bytes }
    }
}

/// One entry. `place.bytes` is 0 for a hole: an entry whose copy comes later in the log.
#[derive(Clone, Copy, Default)]
struct Slot {
    term: Term,
    place: Place,
}

/// Bytes in force per segment.
struct Live<'a>(&'a mut BTreeMap<u64, u64>);

impl Live<'_> {
    fn add(&mut self, place: Place) {
        if place.bytes > 0 {
            *self.0.entry(place.segment).or_default() += u64::from(place.bytes);
        }
    }

    fn remove(&mut self, place: Place) {
        if let Some(bytes) = self.0.get_mut(&place.segment) {
            *bytes = bytes.saturating_sub(u64::from(place.bytes));
        }
    }
}

impl Groups {
    /// An empty state that keeps the entries it is given, for [`Groups::recovered`].
    pub(super) fn recovering() -> Self {
        Self { recovering: true, ..Self::default() }
    }

    /// Takes in all records of the frame that stands at `offset` in `segment`.
    pub(super) fn replay(&mut self, segment: u64, offset: u64, body: Bytes) -> Result<(), String> {
        for record in Decoder::new(body) {
            let record = record.map_err(|_| "a whole frame has a record that is not understood")?;
            let bytes = u32::try_from(record.bytes).unwrap_or(u32::MAX);
            let place = Place::new(segment, offset, bytes);
            self.record(record, place)?;
        }
        Ok(())
    }

    pub(super) fn record(&mut self, record: Record, place: Place) -> Result<(), String> {
        let group = record.group;
        match (record.body, record.rewritten) {
            (Body::HardState(state), false) => self.hard_state(group, state, place),
            (Body::HardState(state), true) => self.fill_hard_state(group, state, place),
            (Body::Base(base), false) => self.base(group, base, place),
            (Body::Base(base), true) => self.fill_base(group, base, place),
            (Body::Truncate(from), _) => self.truncate(group, from),
            (Body::Entry(entry), false) => self.entry(group, &entry, place)?,
            (Body::Entry(entry), true) => self.fill_entry(group, entry, place)?,
            (Body::Forget, _) => self.forget(group),
        }
        Ok(())
    }

    /// `group` has this hard state from here on.
    pub(super) fn hard_state(&mut self, group: GroupId, state: HardState, place: Place) {
        let bytes = if planted(Plant::VoteLostByRecycling) { 0 } else { place.bytes };
        let place = Place { bytes, ..place };
        let mut live = Live(&mut self.live);
        live.add(place);
        let group = self.groups.entry(group).or_default();
        if let Some((_, old)) = group.hard_state.replace((state, place)) {
            live.remove(old);
        }
    }

    /// The log of `group` begins after `base` from here on.
    pub(super) fn base(&mut self, group: GroupId, base: Base, place: Place) {
        let mut live = Live(&mut self.live);
        live.add(place);
        let group = self.groups.entry(group).or_default();
        group.start_after(base.id, &mut live);
        if let Some((_, old)) = group.base.replace((base, place)) {
            live.remove(old);
        }
    }

    /// Entries of `group` at and after `from` are void.
    pub(super) fn truncate(&mut self, group: GroupId, from: Index) {
        let mut live = Live(&mut self.live);
        self.groups.entry(group).or_default().truncate(from.get(), &mut live);
    }

    /// `group` has this entry from here on, and none after it.
    pub(super) fn entry(
        &mut self,
        group: GroupId,
        entry: &Entry<Bytes>,
        place: Place,
    ) -> Result<(), String> {
        let (index, term) = (entry.id.index.get(), entry.id.term);
        let mut live = Live(&mut self.live);
        let group = self.groups.entry(group).or_default();
        if group.base.as_ref().is_some_and(|(base, _)| index <= base.id.index.get()) {
            return Ok(());
        }
        group.truncate(index, &mut live);
        group.make_slot(index, self.recovering)?;
        group.put(index, Slot { term, place }, self.recovering.then(|| entry.clone()), &mut live);
        Ok(())
    }

    /// As [`Groups::entry`], or as what a rewritten one does, while recovering; what the entry holds
    /// comes later, if it is needed: see [`Groups::missing`].
    pub(super) fn entry_at(
        &mut self,
        group: GroupId,
        id: LogId,
        rewritten: bool,
        place: Place,
    ) -> Result<(), String> {
        let (index, term) = (id.index.get(), id.term);
        let mut live = Live(&mut self.live);
        let group = self.groups.entry(group).or_default();
        if group.base.as_ref().is_some_and(|(base, _)| index <= base.id.index.get()) {
            return Ok(());
        }
        if !rewritten {
            group.truncate(index, &mut live);
        }
        group.make_slot(index, self.recovering)?;
        let present = group.slot(index).copied().unwrap_or_default();
        if present.place.bytes == 0 || present.term == term {
            group.put(index, Slot { term, place }, None, &mut live);
        }
        Ok(())
    }

    /// Nothing of `group` is in force any more.
    pub(super) fn forget(&mut self, group: GroupId) {
        let Some(mut group) = self.groups.remove(&group) else { return };
        let mut live = Live(&mut self.live);
        group.truncate(0, &mut live);
        for place in [group.hard_state.map(|state| state.1), group.base.map(|base| base.1)] {
            live.remove(place.unwrap_or_default());
        }
    }

    fn fill_hard_state(&mut self, group: GroupId, state: HardState, place: Place) {
        let mut live = Live(&mut self.live);
        let group = self.groups.entry(group).or_default();
        match &mut group.hard_state {
            Some((present, _)) if *present != state => {}
            present => {
                if let Some((_, old)) = present.replace((state, place)) {
                    live.remove(old);
                }
                live.add(place);
            }
        }
    }

    fn fill_base(&mut self, group: GroupId, base: Base, place: Place) {
        let mut live = Live(&mut self.live);
        let group = self.groups.entry(group).or_default();
        match &group.base {
            Some((present, _)) if *present != base => {}
            _ => {
                group.start_after(base.id, &mut live);
                if let Some((_, old)) = group.base.replace((base, place)) {
                    live.remove(old);
                }
                live.add(place);
            }
        }
    }

    fn fill_entry(
        &mut self,
        group: GroupId,
        entry: Entry<Bytes>,
        place: Place,
    ) -> Result<(), String> {
        let (index, term) = (entry.id.index.get(), entry.id.term);
        let mut live = Live(&mut self.live);
        let group = self.groups.entry(group).or_default();
        if group.base.as_ref().is_some_and(|(base, _)| index <= base.id.index.get()) {
            return Ok(());
        }
        group.make_slot(index, self.recovering)?;
        let present = group.slot(index).copied().unwrap_or_default();
        if present.place.bytes == 0 || present.term == term {
            group.put(index, Slot { term, place }, self.recovering.then_some(entry), &mut live);
        }
        Ok(())
    }

    /// Where the entry of `group` at `index` stands, if the log has it.
    pub(super) fn place(&self, group: GroupId, index: Index) -> Option<Place> {
        let slot = self.groups.get(&group)?.slot(index.get())?;
        (slot.place.bytes > 0).then_some(slot.place)
    }

    /// Whether the entry of `group` with this id stands in the same frame as `place`.
    pub(super) fn has(&self, group: GroupId, id: LogId, place: Place) -> bool {
        let slot = self.groups.get(&group).and_then(|group| group.slot(id.index.get()));
        slot.is_some_and(|slot| {
            slot.term == id.term
                && (slot.place.segment, slot.place.offset) == (place.segment, place.offset)
        })
    }

    /// Whether a record read from `segment` is in force there.
    pub(super) fn is_live(&self, record: &Record, segment: u64) -> bool {
        let Some(group) = self.groups.get(&record.group) else { return false };
        match &record.body {
            Body::HardState(state) => group
                .hard_state
                .as_ref()
                .is_some_and(|(present, place)| present == state && place.segment == segment),
            Body::Base(base) => group
                .base
                .as_ref()
                .is_some_and(|(present, place)| present == base && place.segment == segment),
            Body::Entry(entry) => group
                .slot(entry.id.index.get())
                .is_some_and(|slot| slot.term == entry.id.term && slot.place.segment == segment),
            Body::Truncate(_) | Body::Forget => false,
        }
    }

    /// Bytes in force in `segment`.
    pub(super) fn live(&self, segment: u64) -> u64 {
        self.live.get(&segment).copied().unwrap_or(0)
    }

    /// Bytes in force in all segments.
    pub(super) fn live_total(&self) -> u64 {
        self.live.values().sum()
    }

    /// `segment` is gone.
    pub(super) fn drop_segment(&mut self, segment: u64) {
        self.live.remove(&segment);
    }

    /// Bytes of the entries of `group`, as they stand in the log.
    pub(super) fn log_bytes(&self, group: GroupId) -> u64 {
        self.groups.get(&group).map_or(0, |group| group.log_bytes)
    }

    /// The groups that have anything in the log.
    pub(super) fn ids(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.groups.keys().copied()
    }

    /// The last entry of each group.
    pub(super) fn last_indexes(&self) -> BTreeMap<GroupId, Index> {
        self.groups.iter().map(|(&id, group)| (id, group.last_index())).collect()
    }

    /// Checks what must hold of every group after replay. `applied`: up to where the states of groups
    /// are durable.
    pub(super) fn check(&self) -> Result<(), String> {
        for (id, group) in &self.groups {
            group.check().map_err(|detail| format!("group {id}: {detail}"))?;
        }
        Ok(())
    }

    /// Where the entries stand that [`Groups::recovered`] needs and that are not known, all but those
    /// that the state at `applied` has: segments, and in them the frames.
    pub(super) fn missing(&self, applied: &Applied) -> BTreeMap<u64, BTreeSet<u32>> {
        let mut missing: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
        for (id, group) in &self.groups {
            let stored = group.stored(applied.get(id));
            for (entry, slot) in group.entries.iter().zip(&group.slots).skip(stored) {
                if entry.is_none() {
                    missing.entry(slot.place.segment).or_default().insert(slot.place.offset);
                }
            }
        }
        missing
    }

    /// Takes in an entry that stands in the frame at `place`, if it was missing.
    pub(super) fn found(&mut self, group: GroupId, entry: Entry<Bytes>, place: Place) {
        if !self.has(group, entry.id, place) {
            return;
        }
        let Some(group) = self.groups.get_mut(&group) else { return };
        let at = entry.id.index.get().checked_sub(group.first);
        let at = at.and_then(|at| usize::try_from(at).ok());
        if let Some(known) = at.and_then(|at| group.entries.get_mut(at)) {
            *known = Some(entry);
        }
    }

    /// Gives the entries away. Those that the state at `applied` has are only named.
    pub(super) fn recovered(&mut self, applied: &Applied) -> BTreeMap<GroupId, Recovered<Bytes>> {
        self.recovering = false;
        let mut recovered = BTreeMap::new();
        for (&id, group) in &mut self.groups {
            let stored = group.stored(applied.get(&id));
            let base = group.base.as_ref().map(|(base, _)| base.clone());
            let applied = base.as_ref().map_or(Index(0), |base| base.id.index);
            let hard_state = group.hard_state.map(|(state, _)| state).unwrap_or_default();
            let runs = group.runs(stored);
            let mut entries = std::mem::take(&mut group.entries);
            let memberships = entries.drain(..stored).flatten().filter_map(configuration).collect();
            let entries = entries.into_iter().flatten().collect();
            let stored = Stored { runs, memberships };
            recovered.insert(id, Recovered { hard_state, base, stored, entries, applied });
        }
        recovered
    }
}

fn configuration(entry: Entry<Bytes>) -> Option<(LogId, Arc<Membership>)> {
    match entry.data {
        EntryData::Membership(membership) => Some((entry.id, membership)),
        EntryData::Noop | EntryData::Command(_) => None,
    }
}

impl Group {
    fn last_index(&self) -> Index {
        match (self.slots.is_empty(), &self.base) {
            (false, _) => Index(self.first + self.slots.len() as u64 - 1),
            (true, Some((base, _))) => base.id.index,
            (true, None) => Index(0),
        }
    }

    fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    fn truncate(&mut self, from: u64, live: &mut Live<'_>) {
        let keep = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        while self.slots.len() > keep {
            let place = self.slots.pop_back().map_or_else(Place::default, |slot| slot.place);
            self.log_bytes -= u64::from(place.bytes);
            live.remove(place);
        }
        self.entries.truncate(keep);
    }

    fn start_after(&mut self, id: LogId, live: &mut Live<'_>) {
        let conflict = self
            .slot(id.index.get())
            .is_some_and(|slot| slot.place.bytes > 0 && slot.term != id.term);
        if conflict {
            self.truncate(0, live);
        }
        while !self.slots.is_empty() && self.first <= id.index.get() {
            let place = self.slots.pop_front().map_or_else(Place::default, |slot| slot.place);
            self.entries.pop_front();
            self.first += 1;
            self.log_bytes -= u64::from(place.bytes);
            live.remove(place);
        }
    }

    /// Makes `index` a slot, with holes around it where it does not touch the others.
    fn make_slot(&mut self, index: u64, recovering: bool) -> Result<(), String> {
        if self.slots.is_empty() {
            self.first = index;
        }
        let span = self.first.max(index) - self.first.min(index);
        if span >= ENTRIES_MAX {
            return Err(format!("entries {} and {index} in one log", self.first));
        }
        while index < self.first {
            self.first -= 1;
            self.slots.push_front(Slot::default());
            if recovering {
                self.entries.push_front(None);
            }
        }
        while index >= self.first + self.slots.len() as u64 {
            self.slots.push_back(Slot::default());
            if recovering {
                self.entries.push_back(None);
            }
        }
        Ok(())
    }

    fn put(&mut self, index: u64, slot: Slot, entry: Option<Entry<Bytes>>, live: &mut Live<'_>) {
        let at = (index - self.first) as usize;
        live.add(slot.place);
        let old = std::mem::replace(&mut self.slots[at], slot).place;
        live.remove(old);
        self.log_bytes = self.log_bytes + u64::from(slot.place.bytes) - u64::from(old.bytes);
        // While recovering: what is not given is read from its place later.
        if let Some(known) = self.entries.get_mut(at) {
            *known = entry;
        }
    }

    /// How many of the first entries a state at `applied` has, if it fits.
    fn stored(&self, applied: Option<&LogId>) -> usize {
        let Some(applied) = applied else { return 0 };
        let index = applied.index.get();
        match self.slot(index) {
            Some(slot) if slot.term == applied.term => (index - self.first) as usize + 1,
            _ => 0,
        }
    }

    /// The first `count` entries, in runs of one term and about [`RUN_BYTES`].
    fn runs(&self, count: usize) -> Vec<StoredRun> {
        let mut runs: Vec<StoredRun> = Vec::new();
        for (slot, index) in self.slots.iter().zip(self.first..).take(count) {
            let (index, bytes) = (Index(index), u64::from(slot.place.bytes));
            match runs.last_mut() {
                Some(run) if run.last.term == slot.term && run.bytes < RUN_BYTES => {
                    run.last.index = index;
                    run.bytes += bytes;
                }
                _ => {
                    let last = LogId::new(slot.term, index);
                    runs.push(StoredRun { first: index, last, bytes });
                }
            }
        }
        runs
    }

    fn check(&self) -> Result<(), String> {
        let base = self.base.as_ref().map_or(LogId::ZERO, |(base, _)| base.id);
        let wanted = base.index.get() + 1;
        if !self.slots.is_empty() && self.first != wanted {
            return Err(format!(
                "entries {wanted} to {} are missing",
                self.first.saturating_sub(1)
            ));
        }
        let mut term = base.term;
        for (slot, index) in self.slots.iter().zip(self.first..) {
            if slot.place.bytes == 0 {
                return Err(format!("entry {index} is missing"));
            }
            if slot.term < term {
                return Err(format!("entry {index} has term {}, after {term}", slot.term));
            }
            term = slot.term;
        }
        Ok(())
    }
}
