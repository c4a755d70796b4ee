//! The configurations that were tried (Lowe's cache): a set of operations that have their place, and
//! the state after them. From the same two everything goes on the same, in whatever order they came.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::model::Cell;

/// A set of operations, one bit for each.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    pub(super) fn set(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    pub(super) fn clear(&mut self, at: usize) {
        self.0[at / 64] &= !(1 << (at % 64));
    }

    pub(super) fn has(&self, at: usize) -> bool {
        self.0[at / 64] & (1 << (at % 64)) != 0
    }

    fn is_within(&self, other: &[u64]) -> bool {
        self.0.iter().zip(other).all(|(mine, theirs)| mine & !theirs == 0)
    }
}

/// The bits of a set.
type Words = Box<[u64]>;

/// What was tried. Never iterated, so that its order is nobody's matter.
#[derive(Default)]
pub(super) struct Seen {
    states: HashMap<Box<[Cell]>, u32, Fold>,
    by_number: Vec<Box<[Cell]>>,
    /// For required operations and a state, the sets of optional ones with which it was reached.
    tried: HashMap<Words, Vec<Words>, Fold>,
    key: Vec<u64>,
    /// Configurations that are kept.
    pub(super) count: u64,
}

impl Seen {
    /// The number of a state.
    pub(super) fn state(&mut self, cells: &[Cell]) -> u32 {
        if let Some(&number) = self.states.get(cells) {
            return number;
        }
        let number = self.by_number.len() as u32;
        self.states.insert(cells.into(), number);
        self.by_number.push(cells.into());
        number
    }

    pub(super) fn cells(&self, state: u32) -> &[Cell] {
        &self.by_number[state as usize]
    }

    /// Notes a configuration; `false` if nothing is to be gained from it: the same state was reached
    /// with the same required operations, and with no optional ones that are not among these. From
    /// there everything can go on that can go on from here.
    ///
    /// All required operations below `first` are in `required`, which is left out of the key.
    pub(super) fn is_new(
        &mut self,
        state: u32,
        first: usize,
        required: &Bits,
        optional: &Bits,
    ) -> bool {
        let word = (first / 64).min(required.0.len());
        self.key.clear();
        self.key.push((word as u64) << 32 | u64::from(state));
        self.key.extend_from_slice(&required.0[word..]);
        while self.key.len() > 1 && self.key.last() == Some(&0) {
            self.key.pop();
        }
        match self.tried.get_mut(&self.key[..]) {
            Some(sets) => {
                if sets.iter().any(|set| set.iter().zip(&optional.0).all(|(s, o)| s & !o == 0)) {
                    return false;
                }
                sets.retain(|set| !optional.is_within(set));
                sets.push(optional.0[..].into());
            }
            None => {
                self.tried.insert(self.key[..].into(), vec![optional.0[..].into()]);
            }
        }
        self.count += 1;
        true
    }
}

/// A quick hash of words, the same on every machine.
pub(super) type Fold = BuildHasherDefault<FoldHasher>;

#[derive(Default)]
pub(super) struct FoldHasher(u64);

impl FoldHasher {
    fn fold(&mut self, word: u64) {
        let factor = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835_u128;
        let product = u128::from(self.0 ^ word).wrapping_mul(factor);
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}

impl Hasher for FoldHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.fold(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.fold(word as u64);
    }
}
