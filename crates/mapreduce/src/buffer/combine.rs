//! One value per key, in a hash table whose keys and values lie in one arena: nothing is allocated
//! per key or per pair.

use super::prefix::window_prefix;
use super::spill::Spiller;
use crate::api::{Combiner, Emit, Held, Partition};

/// A place of the table. Keys of up to eight bytes are known by prefix and length alone.
#[derive(Clone, Copy, Default)]
struct Slot {
    prefix: u64,
    /// While gathering, the key's hash; while spilling, its bucket.
    hash: u32,
    key_length: u32,
    /// Where its entry is in the arena, plus one; 0 is an empty slot.
    at: u32,
}

const SLOT_BYTES: usize = size_of::<Slot>();
const SLOTS_MIN: usize = 1024;
const ARENA_BYTES_MAX: usize = 1 << 31;

/// An entry of the arena begins with the room that its value has and the value's length, four bytes
/// each; then come the room and the key.
const ENTRY_HEADER_BYTES: usize = 8;

/// A buffer that folds the values of a key into one.
pub(crate) struct CombineBuffer<C, P> {
    combiner: C,
    partition: P,
    pub(crate) spiller: Spiller,
    slots: Vec<Slot>,
    used: usize,
    arena: Vec<u8>,
    /// A value that outgrew its room.
    grown: Vec<u8>,
    limit: usize,
}

#[inline(always)]
fn mixed(one: u64, two: u64) -> u64 {
    let product = u128::from(one) * u128::from(two);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Odd constants without structure (the fractional parts of roots).
const SALT: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b];

#[inline(always)]
fn hash(prefix: u64, key: &[u8]) -> u32 {
    let mut hash = mixed(prefix ^ SALT[0], key.len() as u64 ^ SALT[1]);
    if key.len() > 8 {
        let rest = key.get(8..).unwrap_or_default();
        let (chunks, _) = rest.as_chunks::<8>();
        for chunk in chunks {
            hash = mixed(hash ^ u64::from_le_bytes(*chunk), SALT[2]);
        }
        // The last eight bytes again, which takes in those that fill no chunk.
        let last = key.last_chunk::<8>().copied().unwrap_or_default();
        hash = mixed(hash ^ u64::from_le_bytes(last), SALT[1]);
    }
    (hash >> 32) as u32 ^ hash as u32
}

impl<C: Combiner, P: Partition> CombineBuffer<C, P> {
    /// A buffer that takes about `limit` bytes of memory.
    pub(crate) fn new(
        combiner: C,
        partition: P,
        spiller: Spiller,
        limit: usize,
    ) -> CombineBuffer<C, P> {
        let limit = limit.min(ARENA_BYTES_MAX);
        CombineBuffer {
            combiner,
            partition,
            spiller,
            slots: vec![Slot::default(); SLOTS_MIN],
            used: 0,
            // Address space only, until it is written to: growing would copy.
            arena: Vec::with_capacity(limit),
            grown: Vec::new(),
            limit,
        }
    }

    /// Room for a value of `length` bytes: none to spare for numbers, and some for what has grown.
    fn add(&mut self, prefix: u64, hash: u32, key: &[u8], value: &[u8], room: usize) {
        let entry = ENTRY_HEADER_BYTES + room.max(value.len()) + key.len();
        let crowded = (self.used + 1) * 8 > self.slots.len() * 5;
        // While it grows, the table is there twice.
        let slots = if crowded { self.slots.len() * 3 } else { self.slots.len() };
        if self.arena.len() + entry + slots * SLOT_BYTES > self.limit && self.used > 0 {
            self.spiller.figures.full += 1;
            if !self.spill() {
                return;
            }
        } else if crowded {
            self.grow();
        }
        let at = self.arena.len() as u32 + 1;
        let room = room.max(value.len());
        self.arena.extend_from_slice(&(room as u32).to_le_bytes());
        self.arena.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.arena.extend_from_slice(value);
        self.arena.resize(self.arena.len() + room - value.len(), 0);
        self.arena.extend_from_slice(key);
        let mask = self.slots.len() - 1;
        let mut place = hash as usize & mask;
        while let Some(slot) = self.slots.get_mut(place) {
            if slot.at == 0 {
                *slot = Slot { prefix, hash, key_length: key.len() as u32, at };
                self.used += 1;
                return;
            }
            place = (place + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let size = self.slots.len() * 2;
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); size]);
        let mask = size - 1;
        for slot in old.iter().filter(|slot| slot.at != 0) {
            let mut place = slot.hash as usize & mask;
            while let Some(free) = self.slots.get_mut(place) {
                if free.at == 0 {
                    *free = *slot;
                    break;
                }
                place = (place + 1) & mask;
            }
        }
    }

    /// Folds `value` into the entry of `slot`. A value that outgrows its room gets another entry.
    #[inline(always)]
    fn fold(&mut self, place: usize, slot: Slot, key: &[u8], value: &[u8]) {
        let start = slot.at as usize - 1;
        let Some((header, rest)) =
            self.arena.get_mut(start..).and_then(|entry| entry.split_first_chunk_mut::<8>())
        else {
            return;
        };
        let [room, length] = header_fields(header);
        let Some(place_of_value) = rest.get_mut(..room) else { return };
        let mut held = Held::new(place_of_value, length, &mut self.grown);
        self.combiner.fold(key, &mut held, value);
        match held.length_in_room() {
            Some(new) if new == length => {}
            Some(new) => header[4..].copy_from_slice(&(new as u32).to_le_bytes()),
            None => self.moved(place, slot, key),
        }
    }

    /// Gives a value that has outgrown its room another entry, with room to grow on.
    #[cold]
    fn moved(&mut self, place: usize, slot: Slot, key: &[u8]) {
        let value = std::mem::take(&mut self.grown);
        let room = value.len() + value.len() / 2;
        let entry = ENTRY_HEADER_BYTES + room + key.len();
        if self.arena.len() + entry + self.slots.len() * SLOT_BYTES <= self.limit {
            let at = self.arena.len() as u32 + 1;
            self.arena.extend_from_slice(&(room as u32).to_le_bytes());
            self.arena.extend_from_slice(&(value.len() as u32).to_le_bytes());
            self.arena.extend_from_slice(&value);
            self.arena.resize(self.arena.len() + room - value.len(), 0);
            self.arena.extend_from_slice(key);
            if let Some(slot) = self.slots.get_mut(place) {
                slot.at = at;
            }
        } else if self.spiller.admit(key.len() + value.len()) {
            // No room: what is gathered is written, with this key's value as it was before the
            // fold would count it twice, so the entry goes without.
            self.spiller.figures.emitted -= 1;
            self.spiller.figures.emitted_bytes -= (key.len() + value.len()) as u64;
            self.spiller.figures.full += 1;
            if let Some(slot) = self.slots.get_mut(place) {
                slot.key_length = DROPPED;
            }
            if self.spill() {
                self.add(slot.prefix, slot.hash, key, &value, value.len());
            }
        }
        // Its allocation is used again, unless it is a large one.
        if value.capacity() <= 1 << 16 {
            self.grown = value;
        }
    }

    /// Writes everything as a run and begins anew.
    fn spill(&mut self) -> bool {
        let mut count = 0;
        for at in 0..self.slots.len() {
            let Some(mut slot) = self.slots.get(at).copied() else { break };
            if slot.at == 0 || slot.key_length == DROPPED {
                continue;
            }
            let (key, _) = entry(&self.arena, &slot);
            slot.prefix = slot.prefix.swap_bytes();
            slot.hash = self.partition.reduce_of(key, self.spiller.buckets());
            if !self.spiller.is_bucket(slot.hash) {
                return false;
            }
            if let Some(place) = self.slots.get_mut(count) {
                *place = slot;
                count += 1;
            }
        }
        let arena = &self.arena;
        let full = self.slots.get_mut(..count).unwrap_or_default();
        full.sort_unstable_by(|one, two| {
            (one.hash, one.prefix)
                .cmp(&(two.hash, two.prefix))
                .then_with(|| entry(arena, one).0.cmp(entry(arena, two).0))
        });
        let done = self.spiller.spill(|writer| {
            for slot in full.iter() {
                let (key, value) = entry(arena, slot);
                writer.push(slot.hash, key, value)?;
            }
            Ok(full.len() as u64)
        });
        self.slots.fill(Slot::default());
        self.used = 0;
        self.arena.clear();
        done
    }

    /// Spills what is left and gives back the runs.
    pub(crate) fn finish(mut self) -> Spiller {
        if self.used > 0 {
            self.spill();
        }
        self.spiller
    }
}

/// Marks the slot of an entry that is not to be written.
const DROPPED: u32 = u32::MAX;

#[inline(always)]
fn header_fields(header: &[u8; 8]) -> [usize; 2] {
    let both = u64::from_le_bytes(*header);
    [both as u32 as usize, (both >> 32) as usize]
}

/// Key and value of a slot.
#[inline]
fn entry<'a>(arena: &'a [u8], slot: &Slot) -> (&'a [u8], &'a [u8]) {
    let rest = arena.get(slot.at as usize - 1..).unwrap_or_default();
    let Some((header, rest)) = rest.split_first_chunk::<8>() else { return (&[], &[]) };
    let [room, length] = header_fields(header);
    let value = rest.get(..length).unwrap_or_default();
    let key = rest.get(room..room + slot.key_length as usize).unwrap_or_default();
    (key, value)
}

impl<C: Combiner, P: Partition> Emit for CombineBuffer<C, P> {
    #[inline]
    fn emit(&mut self, key: &[u8], value: &[u8]) {
        self.emit_within(key, key.len(), value);
    }

    #[inline(always)]
    fn emit_within(&mut self, window: &[u8], length: usize, value: &[u8]) {
        let Some(key) = window.get(..length) else { return };
        if !self.spiller.admit(length + value.len()) {
            return;
        }
        let prefix = window_prefix(window, length);
        let hash = hash(prefix, key);
        let mask = self.slots.len() - 1;
        let mut place = hash as usize & mask;
        while let Some(slot) = self.slots.get(place).copied() {
            if slot.at == 0 {
                break;
            }
            if slot.prefix == prefix
                && slot.key_length as usize == length
                && (length <= 8 || (slot.hash == hash && entry(&self.arena, &slot).0 == key))
            {
                return self.fold(place, slot, key, value);
            }
            place = (place + 1) & mask;
        }
        self.add(prefix, hash, key, value, value.len());
    }

    fn count(&mut self, group: &str, name: &str, amount: i64) {
        self.spiller.counters.add(group, name, amount);
    }
}
