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

/// Slots that come into memory together, when the first of them is written.
const TOGETHER: usize = 64;

#[derive(Clone, Debug)]
struct Chunk {
    states: [SlotState; TOGETHER],
    /// A bit for each of them that is in [`Slots::changed`].
    changed: u64,
}

/// What every slot is that was never written.
const UNWRITTEN: Chunk = Chunk {
    states: [SlotState { incarnation: 0, version: 0, deleted: 0, keys: 0, litter: false };
        TOGETHER],
    changed: 0,
};

/// All slots, with totals and the set of those changed since the last commit.
#[derive(Debug)]
pub(crate) struct Slots {
    chunks: Vec<Option<Box<Chunk>>>,
    // Invariant: the sum of the `keys` of all states.
    keys: u64,
    changed: Vec<Slot>,
}

impl Slots {
    pub(crate) fn new() -> Self {
        let chunks = vec![None; usize::from(SLOTS).div_ceil(TOGETHER)];
        Self { chunks, keys: 0, changed: Vec::new() }
    }

    /// Rows under live incarnations.
    pub(crate) fn keys(&self) -> u64 {
        self.keys
    }

    pub(crate) fn get(&self, slot: Slot) -> &SlotState {
        let (chunk, place) = place(slot);
        let chunk = self.chunks.get(chunk).and_then(Option::as_deref);
        &chunk.unwrap_or(&UNWRITTEN).states[place]
    }

    /// Every slot that was ever written, in order.
    pub(crate) fn used(&self) -> impl Iterator<Item = (Slot, &SlotState)> {
        self.from(Slot::default())
    }

    /// Every slot from `first` on that was ever written, in order.
    pub(crate) fn from(&self, first: Slot) -> impl Iterator<Item = (Slot, &SlotState)> {
        let (chunk, _) = place(first);
        let chunks = self.chunks.iter().enumerate().skip(chunk);
        let states = chunks.flat_map(|(chunk, states)| {
            let states = states.iter().flat_map(|chunk| &chunk.states);
            states.enumerate().map(move |(at, state)| (chunk * TOGETHER + at, state))
        });
        let used = states.filter(|(_, state)| **state != SlotState::default());
        let named = used.filter_map(|(slot, state)| Some((Slot::new(slot as u16)?, state)));
        named.skip_while(move |(slot, _)| *slot < first)
    }

    /// Takes what was stored.
    pub(crate) fn restore(&mut self, slot: Slot, state: SlotState) {
        let (chunk, place) = self.place_mut(slot);
        let before = core::mem::replace(&mut chunk.states[place], state);
        self.keys = self.keys.saturating_sub(before.keys).saturating_add(state.keys);
    }

    /// `slot` is what arrived, or was not to arrive after all.
    pub(crate) fn install(&mut self, slot: Slot, state: SlotState) {
        let before = self.change(slot);
        let old = core::mem::replace(before, state);
        self.keys = self.keys.saturating_sub(old.keys).saturating_add(state.keys);
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
        let changed = core::mem::take(&mut self.changed);
        for &slot in &changed {
            self.place_mut(slot).0.changed = 0;
        }
        changed
    }

    fn change(&mut self, slot: Slot) -> &mut SlotState {
        let (chunk, at) = place(slot);
        let chunk = self.chunks[chunk].get_or_insert_with(|| Box::new(UNWRITTEN));
        if chunk.changed & 1 << at == 0 {
            chunk.changed |= 1 << at;
            self.changed.push(slot);
        }
        &mut chunk.states[at]
    }

    fn place_mut(&mut self, slot: Slot) -> (&mut Chunk, usize) {
        let (chunk, at) = place(slot);
        (self.chunks[chunk].get_or_insert_with(|| Box::new(UNWRITTEN)), at)
    }
}

/// Where a slot's state is: the chunk, and the place in it.
fn place(slot: Slot) -> (usize, usize) {
    let slot = usize::from(slot.get());
    (slot / TOGETHER, slot % TOGETHER)
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
