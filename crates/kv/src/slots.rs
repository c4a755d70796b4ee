//! The slot table: what the machine knows of each hash slot beside its rows.

use kontiki_types::{SLOTS, Slot};

use crate::bytes_in::{BadBytes, Cursor, put_varint};
use crate::layout::read_slot;

/// Slots of one [page](crate::ledger).
pub(crate) const SLOTS_PER_PAGE: u16 = 256;
/// Pages that the table is stored in.
pub(crate) const SLOT_PAGES: u8 = (SLOTS / SLOTS_PER_PAGE) as u8;

/// Flags of a stored slot.
const HAS_INCARNATION: u8 = 1;
const HAS_LITTER: u8 = 2;

/// What is known of one slot. All zero: the slot was never written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotState {
    /// The live incarnation (PROTOCOL 9); rows under another one do not count. Its high half is the
    /// controller's log index that opened the import, its low half counts flushes since.
    pub(crate) incarnation: u64,
    /// Rises with every change of a key of this slot, and never falls (PROTOCOL 14).
    pub(crate) version: u64,
    /// The version as of the last time that a key of this slot ceased to be.
    // Invariant: deleted <= version.
    pub(crate) deleted: u64,
    /// Rows under the live incarnation, due ones that have not expired yet included.
    pub(crate) keys: u64,
    /// Whether rows under dead incarnations may be left to delete. Not part of the logical state.
    pub(crate) litter: bool,
}

impl SlotState {
    /// The state without what replicas need not agree on.
    pub(crate) fn logical(self) -> Self {
        Self { litter: false, ..self }
    }

    pub(crate) fn encode(self, slot: Slot, out: &mut Vec<u8>) {
        out.extend_from_slice(&slot.get().to_be_bytes());
        let incarnation = if self.incarnation > 0 { HAS_INCARNATION } else { 0 };
        out.push(incarnation | if self.litter { HAS_LITTER } else { 0 });
        put_varint(out, self.version);
        put_varint(out, self.version - self.deleted);
        put_varint(out, self.keys);
        if self.incarnation > 0 {
            out.extend_from_slice(&self.incarnation.to_be_bytes());
        }
    }

    pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Result<(Slot, Self), BadBytes> {
        let slot = read_slot(cursor)?;
        let flags = cursor.u8()?;
        if flags & !(HAS_INCARNATION | HAS_LITTER) != 0 {
            return Err(BadBytes::new("slot: unknown flags"));
        }
        let version = cursor.varint()?;
        let deleted = version.checked_sub(cursor.varint()?);
        let deleted = deleted.ok_or(BadBytes::new("slot: deletion after the last version"))?;
        let keys = cursor.varint()?;
        let incarnation = if flags & HAS_INCARNATION > 0 { cursor.u64()? } else { 0 };
        Ok((slot, Self { incarnation, version, deleted, keys, litter: flags & HAS_LITTER > 0 }))
    }
}

/// All slots, with totals and the set of those changed since the last commit.
#[derive(Debug)]
pub(crate) struct Slots {
    states: Vec<SlotState>,
    // Invariant: the sum of `states[..].keys`.
    keys: u64,
    changed: Vec<Slot>,
    is_changed: Vec<bool>,
}

impl Slots {
    pub(crate) fn new() -> Self {
        let slots = usize::from(SLOTS);
        Self {
            states: vec![SlotState::default(); slots],
            keys: 0,
            changed: Vec::new(),
            is_changed: vec![false; slots],
        }
    }

    /// Rows under live incarnations.
    pub(crate) fn keys(&self) -> u64 {
        self.keys
    }

    pub(crate) fn get(&self, slot: Slot) -> &SlotState {
        &self.states[usize::from(slot.get())]
    }

    /// Every slot that was ever written, in order.
    pub(crate) fn used(&self) -> impl Iterator<Item = (Slot, &SlotState)> {
        self.from(Slot::default()).filter(|(_, state)| **state != SlotState::default())
    }

    /// All slots from `first` on.
    pub(crate) fn from(&self, first: Slot) -> impl Iterator<Item = (Slot, &SlotState)> {
        let first = first.get();
        let slots = (first..SLOTS).filter_map(Slot::new);
        slots.zip(&self.states[usize::from(first)..])
    }

    /// Takes what was stored.
    pub(crate) fn restore(&mut self, slot: Slot, state: SlotState) {
        let place = &mut self.states[usize::from(slot.get())];
        self.keys = self.keys.saturating_sub(place.keys).saturating_add(state.keys);
        *place = state;
    }

    /// A key of `slot` was set; answers its version.
    pub(crate) fn set(&mut self, slot: Slot, is_new: bool) -> u64 {
        let state = self.change(slot);
        state.version += 1;
        state.keys += u64::from(is_new);
        let version = state.version;
        self.keys += u64::from(is_new);
        version
    }

    /// A key of `slot` is gone.
    pub(crate) fn remove(&mut self, slot: Slot) {
        let state = self.change(slot);
        state.version += 1;
        state.deleted = state.version;
        assert!(state.keys > 0, "{slot} lost a key more than it had");
        state.keys -= 1;
        self.keys -= 1;
    }

    /// Every key of `slot` is gone: rows written from now on lie under another incarnation.
    pub(crate) fn flush(&mut self, slot: Slot) {
        let state = self.change(slot);
        assert!(state.incarnation as u32 != u32::MAX, "{slot} was flushed 2^32 times");
        state.incarnation += 1;
        state.version += 1;
        state.deleted = state.version;
        state.litter = true;
        let keys = core::mem::take(&mut state.keys);
        self.keys -= keys;
    }

    /// No row of a dead incarnation of `slot` is left.
    pub(crate) fn clean(&mut self, slot: Slot) {
        self.change(slot).litter = false;
    }

    /// The slots changed since this was last asked, in order of their first change.
    pub(crate) fn take_changed(&mut self) -> Vec<Slot> {
        for slot in &self.changed {
            self.is_changed[usize::from(slot.get())] = false;
        }
        core::mem::take(&mut self.changed)
    }

    fn change(&mut self, slot: Slot) -> &mut SlotState {
        let place = usize::from(slot.get());
        if !self.is_changed[place] {
            self.is_changed[place] = true;
            self.changed.push(slot);
        }
        &mut self.states[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_survive_their_bytes() {
        let slot = Slot::of(b"k");
        let plain = SlotState { version: 300, deleted: 299, keys: 1, ..SlotState::default() };
        let moved = SlotState { incarnation: 7 << 32 | 1, litter: true, ..plain };
        for state in [SlotState::default(), plain, moved] {
            let mut bytes = Vec::new();
            state.encode(slot, &mut bytes);
            assert_eq!(SlotState::decode(&mut Cursor::new(&bytes)).unwrap(), (slot, state));
            for end in 0..bytes.len() {
                assert!(SlotState::decode(&mut Cursor::new(&bytes[..end])).is_err());
            }
        }
    }

    #[test]
    fn versions_never_fall_and_differ_before_and_after_a_deletion() {
        let slot = Slot::of(b"k");
        let mut slots = Slots::new();
        let first = slots.set(slot, true);
        let second = slots.set(slot, false);
        slots.remove(slot);
        let deleted = slots.get(slot).deleted;
        let third = slots.set(slot, true);
        slots.flush(slot);
        let flushed = slots.get(slot).deleted;
        assert!([first, second, deleted, third, flushed].is_sorted_by(|a, b| a < b));
        assert_eq!(slots.keys(), 0);
        assert_eq!(slots.take_changed(), [slot]);
        assert_eq!(slots.take_changed(), []);
    }
}
