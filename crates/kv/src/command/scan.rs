//! SCAN's cursor, and the order of keys that makes it possible.
//!
//! A cursor must be a number, hold all there is to know (any node may get the next step, also
//! after a failover), and miss no key that is there from the first step to the last, whatever else
//! is written meanwhile. A number cannot hold a key, so keys are walked in the order
//! (slot, [scan hash](scan_hash) of the key, key), and a cursor is a slot and a hash: a step
//! answers keys from that position on, and the next cursor is the position of the first one that is
//! left. A key's position never changes, so a key that is there throughout is met exactly once;
//! one that comes or goes meanwhile may be met or not.
//!
//! Keys with the same position stay together in one step, which so may be longer than COUNT.
//! With 39 bits of hash within a slot, that takes a million keys in one slot for one such pair to
//! be likely; only keys chosen to collide make a long step, of their own number.
//!
//! The engine keeps rows in this same order, so a step costs what it looks at, also in a slot that
//! holds millions of keys under one hash tag.
//!
//! 14 bits of slot and 39 of hash make cursors below 2^53: JavaScript clients that keep a cursor
//! in a double do not round it.

use kontiki_types::{SLOTS, Slot};

/// Bits of the hash.
const HASH_BITS: u32 = 39;

/// A place in the order of SCAN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScanPosition {
    slot: Slot,
    // Invariant: below 1 << HASH_BITS.
    hash: u64,
}

impl ScanPosition {
    /// Bits of a [cursor](Self::cursor) below the slot.
    pub const HASH_BITS: u32 = HASH_BITS;

    /// The place of the first possible key.
    pub const START: Self = Self { slot: slot(0), hash: 0 };

    /// The place of the last possible key.
    pub const LAST: Self = Self { slot: slot(SLOTS - 1), hash: (1 << HASH_BITS) - 1 };

    /// The place of the first possible key of a slot.
    pub fn start_of(slot: Slot) -> Self {
        Self { slot, hash: 0 }
    }

    /// Where `key` stands.
    pub fn of(key: &[u8]) -> Self {
        Self { slot: Slot::of(key), hash: scan_hash(key) }
    }

    /// The slot.
    pub fn slot(self) -> Slot {
        self.slot
    }

    /// The place within the slot, as the engine's rows are ordered: big-endian.
    pub fn hash_bytes(self) -> [u8; 5] {
        let bytes = self.hash.to_be_bytes();
        [bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]
    }

    /// The number that a client keeps. 0 is the start, and as an answer the end.
    pub fn cursor(self) -> u64 {
        u64::from(self.slot.get()) << HASH_BITS | self.hash
    }

    /// The place of a cursor. A number that no SCAN answered is beyond the last key.
    pub fn from_cursor(cursor: u64) -> Self {
        let hash = cursor & ((1 << HASH_BITS) - 1);
        let slot = u16::try_from(cursor >> HASH_BITS).ok().and_then(Slot::new);
        slot.map_or(Self::LAST, |slot| Self { slot, hash })
    }
}

const fn slot(number: u16) -> Slot {
    match Slot::new(number) {
        Some(slot) => slot,
        None => panic!("not a slot"),
    }
}

/// The hash of a key in SCAN's order: 39 bits. It is part of the storage format and never changes.
///
/// FNV-1a with a final mix; not keyed, since every node must agree on it for ever.
pub fn scan_hash(key: &[u8]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for &byte in key {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^= hash >> 32;
    hash >> (64 - HASH_BITS)
}
