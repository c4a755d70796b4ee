//! A job small enough to be known by heart: counting numbers.

use std::collections::BTreeMap;

use crate::random::Random;

/// How often each number occurs.
pub(super) type Counts = BTreeMap<u64, u64>;

/// Splits of numbers, and how many reduces there are. Without reduces, each map's counts are output.
#[derive(Clone, Debug)]
pub(super) struct Toy {
    splits: Vec<Vec<u64>>,
    pub(super) reduces: u32,
}

impl Toy {
    pub(super) fn new(maps: u32, reduces: u32, random: &mut Random) -> Self {
        let split = |random: &mut Random| {
            let length = random.between(0, 30);
            (0..length).map(|_| random.below(20)).collect()
        };
        Self { splits: (0..maps).map(|_| split(random)).collect(), reduces }
    }

    pub(super) fn maps(&self) -> u32 {
        self.splits.len() as u32
    }

    /// Number of outputs of the job.
    pub(super) fn outputs(&self) -> u32 {
        if self.reduces == 0 { self.maps() } else { self.reduces }
    }

    /// The output of a map, a bucket for each reduce; without reduces, one.
    pub(super) fn map(&self, map: u32) -> Vec<Counts> {
        let mut buckets = vec![Counts::new(); self.reduces.max(1) as usize];
        for number in self.splits.get(map as usize).into_iter().flatten() {
            let bucket = (number % u64::from(self.reduces.max(1))) as usize;
            *buckets[bucket].entry(*number).or_default() += 1;
        }
        buckets
    }

    /// How many numbers a map reads.
    pub(super) fn records(&self, map: u32) -> i64 {
        self.splits.get(map as usize).map_or(0, |split| split.len() as i64)
    }

    /// What a sequential run gives for an output.
    pub(super) fn expected(&self, output: u32) -> Counts {
        if self.reduces == 0 {
            return self.map(output).pop().unwrap_or_default();
        }
        let mut sum = Counts::new();
        for number in self.splits.iter().flatten() {
            if number % u64::from(self.reduces) == u64::from(output) {
                *sum.entry(*number).or_default() += 1;
            }
        }
        sum
    }

    /// How many numbers all maps read.
    pub(super) fn all_records(&self) -> i64 {
        self.splits.iter().map(|split| split.len() as i64).sum()
    }
}
