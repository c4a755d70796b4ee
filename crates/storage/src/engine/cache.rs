//! Hot rows, so that reading one costs a look into a hash table.
//!
//! What goes first is chosen by a clock: a hand moves over the rows and takes the first that was
//! not used since it last came by. Where rows have to go, one that was read for the first time in a while
//! comes in only when it is read again: reads all over much data, or a walk through it, would put out
//! what is hot and have the work of coming and going for nothing.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;

/// Bytes that a row costs beyond its key and value: its places in a table and in a list, which are
/// on average three quarters full, and what the two allocations carry with them. Measured.
const ROW_OVERHEAD: usize = 192;

/// Rows as last committed; `None` for a key known to be absent.
pub(super) struct Cache {
    // Iterated by nobody, so its random order reaches nothing.
    places: HashMap<Bytes, usize>,
    slots: Vec<Slot>,
    hand: usize,
    bytes: usize,
    limit: usize,
    /// Marks of rows that were read and not kept, by their keys' hashes.
    seen: Vec<u16>,
    hashing: RandomState,
}

struct Slot {
    key: Bytes,
    row: Option<Bytes>,
    used: bool,
}

impl Cache {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            places: HashMap::new(),
            slots: Vec::new(),
            hand: 0,
            bytes: 0,
            limit,
            seen: Vec::new(),
            hashing: RandomState::new(),
        }
    }

    /// Changes how many bytes may be remembered; what is too much goes with the next row that comes.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// What the rows take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The row under `key`, if it is known here.
    pub(super) fn get(&mut self, key: &[u8]) -> Option<Option<Bytes>> {
        let slot = self.slots.get_mut(*self.places.get(key)?)?;
        slot.used = true;
        Some(slot.row.clone())
    }

    /// Remembers a row that was read, unless others would have to go for it and it was not read lately.
    pub(super) fn offer(&mut self, key: &[u8], row: Option<&Bytes>) {
        let is_full = self.bytes + cost(key, row) > self.limit;
        if !is_full || self.is_seen(key) {
            self.insert(Bytes::copy_from_slice(key), row.cloned());
        } else {
            self.make_room(0);
        }
    }

    /// Whether this row was offered lately; from here on it was.
    fn is_seen(&mut self, key: &[u8]) -> bool {
        // About as many marks as rows fit, in a small part of their room.
        let marks = (self.limit / ROW_OVERHEAD / 2).max(1);
        if self.seen.len() != marks {
            self.seen = vec![0; marks];
        }
        let hash = self.hashing.hash_one(key);
        let mark = (hash >> 48) as u16 | 1;
        let place = (hash & 0xFFFF_FFFF) as usize % marks;
        std::mem::replace(&mut self.seen[place], mark) == mark
    }

    /// Remembers a row, in the place of what is remembered of its key.
    pub(super) fn insert(&mut self, key: Bytes, row: Option<Bytes>) {
        self.forget(&key);
        let cost = cost(&key, row.as_ref());
        if cost > self.limit {
            return;
        }
        self.make_room(cost);
        self.bytes += cost;
        self.places.insert(key.clone(), self.slots.len());
        self.slots.push(Slot { key, row, used: false });
    }

    /// Forgets a row.
    pub(super) fn forget(&mut self, key: &[u8]) {
        if let Some(&place) = self.places.get(key) {
            self.remove(place);
        }
    }

    fn make_room(&mut self, cost: usize) {
        while self.bytes + cost > self.limit {
            self.evict();
        }
    }

    fn evict(&mut self) {
        while !self.slots.is_empty() {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let slot = &mut self.slots[self.hand];
            if !std::mem::take(&mut slot.used) {
                break;
            }
            self.hand += 1;
        }
        if self.hand < self.slots.len() {
            // The hand has not come by the row that moves here in this round, or has just begun a
            // new one.
            self.remove(self.hand);
            self.hand += 1;
        }
    }

    /// Removes a row; the last one moves into the hole.
    fn remove(&mut self, place: usize) {
        let gone = self.slots.swap_remove(place);
        self.places.remove(&gone.key);
        self.bytes -= cost(&gone.key, gone.row.as_ref());
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(moved.key.clone(), place);
        }
    }
}

/// Bytes that a row counts towards a limit.
pub(super) fn cost(key: &[u8], row: Option<&Bytes>) -> usize {
    ROW_OVERHEAD + key.len() + row.map_or(0, Bytes::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Bytes {
        Bytes::from(format!("key {number:05}"))
    }

    fn row(bytes: usize) -> Option<Bytes> {
        Some(Bytes::from(vec![1; bytes]))
    }

    #[test]
    fn it_stays_within_its_limit_and_keeps_what_is_used() {
        let mut cache = Cache::new(100_000);
        cache.insert(key(0), row(10));
        for number in 1..5000 {
            cache.insert(key(number), row(number % 300));
            assert!(cache.bytes <= 100_000);
            assert_eq!(cache.get(&key(0)), Some(row(10)), "in use, but gone after {number}");
            assert_eq!(cache.places.len(), cache.slots.len());
        }
        let bytes: usize = cache.slots.iter().map(|slot| cost(&slot.key, slot.row.as_ref())).sum();
        assert_eq!(cache.bytes, bytes);
        for (place, slot) in cache.slots.iter().enumerate() {
            assert_eq!(cache.places[&slot.key], place);
        }
    }

    #[test]
    fn a_row_takes_the_place_of_the_one_before() {
        let mut cache = Cache::new(10_000);
        for number in 0..20 {
            cache.insert(key(number), row(10));
        }
        cache.insert(key(1), row(20));
        assert_eq!(cache.get(&key(1)), Some(row(20)));
        cache.insert(key(1), None);
        assert_eq!(cache.get(&key(1)), Some(None));
        cache.forget(&key(1));
        assert_eq!(cache.get(&key(1)), None);
        cache.forget(&key(1));
        assert_eq!(cache.slots.len(), 19);
        for number in (0..20).filter(|&number| number != 1) {
            assert_eq!(cache.get(&key(number)), Some(row(10)));
        }
    }

    #[test]
    fn where_rows_have_to_go_what_is_read_once_does_not_come_in() {
        let mut cache = Cache::new(100_000);
        (0..20).for_each(|number| cache.offer(&key(number), row(10).as_ref()));
        assert!((0..20).all(|number| cache.get(&key(number)).is_some()), "there is room");
        (20..5000).for_each(|number| cache.offer(&key(number), row(10).as_ref()));
        let kept = (0..20).filter(|number| cache.get(&key(*number)).is_some()).count();
        assert!(kept > 15, "a walk has put out {} of 20", 20 - kept);
        cache.offer(&key(9000), row(10).as_ref());
        assert_eq!(cache.get(&key(9000)), None);
        cache.offer(&key(9000), row(10).as_ref());
        assert_eq!(cache.get(&key(9000)), Some(row(10)));
        assert!(cache.bytes <= 100_000);
    }

    #[test]
    fn rows_beyond_the_limit_are_not_kept() {
        let mut cache = Cache::new(0);
        cache.insert(key(1), row(10));
        assert_eq!(cache.get(&key(1)), None);
    }
}
