//! A job's parts put together.

use super::{Combiner, Held, Mapper, Reducer};

/// Which reduce a key belongs to.
pub trait Partition: Send {
    /// A number below `reduces`, the same for the same key in every attempt; anything else fails
    /// the attempt. `reduces` is at least 1.
    fn reduce_of(&self, key: &[u8], reduces: u32) -> u32;
}

/// FNV-1a over the key, 32 bits, the sign bit cleared, modulo the number of reduces: the course
/// lab's partition.
#[derive(Debug, Clone, Copy, Default)]
pub struct HashPartition;

impl Partition for HashPartition {
    fn reduce_of(&self, key: &[u8], reduces: u32) -> u32 {
        let mut hash = 0x811c_9dc5_u32;
        for byte in key {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
        (hash & 0x7fff_ffff) % reduces.max(1)
    }
}

/// For jobs without a combiner.
#[derive(Debug, Clone, Copy)]
pub enum NoCombiner {}

impl Combiner for NoCombiner {
    fn fold(&mut self, _key: &[u8], _held: &mut Held<'_>, _value: &[u8]) {
        match *self {}
    }
}

/// A job: makes the parts that an attempt of a task needs.
pub trait Job: Send + Sync {
    /// Maps the records of one map attempt.
    type Mapper: Mapper;
    /// Combines the pairs of one map attempt; [`NoCombiner`] if there is none.
    type Combiner: Combiner;
    /// Reduces the keys of one reduce attempt.
    type Reducer: Reducer;
    /// Chooses the reduce of a key.
    type Partition: Partition;

    /// A mapper for one attempt.
    fn mapper(&self) -> Self::Mapper;
    /// A combiner for one attempt, if the job has one.
    fn combiner(&self) -> Option<Self::Combiner>;
    /// A reducer for one attempt.
    fn reducer(&self) -> Self::Reducer;
    /// The partition.
    fn partition(&self) -> Self::Partition;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Go's `fnv.New32a`, as the lab's `ihash` uses it.
    #[test]
    fn keys_go_where_the_lab_sends_them() {
        for (key, hash) in [("", 0x811c_9dc5_u32), ("a", 0xe40c_292c), ("foobar", 0xbf9c_f968)] {
            let expect = (hash & 0x7fff_ffff) % 10;
            assert_eq!(HashPartition.reduce_of(key.as_bytes(), 10), expect, "{key}");
        }
    }
}
