//! `top`: the most frequent words. Lines `word count`, the most frequent one first. One reduce.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::word_count::{Sum, Words, sum};
use crate::api::{HashPartition, Job, Output, Reducer, Values};
use crate::error::TaskError;

/// Finds the most frequent words.
#[derive(Debug, Clone, Copy)]
pub struct Top {
    most: usize,
}

impl Top {
    /// The `most` most frequent ones; of equally frequent ones the first in byte order.
    pub fn new(most: usize) -> Top {
        Top { most }
    }
}

/// Keeps the most frequent words so far; the first one in the heap is the first to go.
#[derive(Debug, Clone)]
pub struct Best {
    most: usize,
    heap: BinaryHeap<(Reverse<u64>, Vec<u8>)>,
}

impl Reducer for Best {
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        _out: &mut Output<'_>,
    ) -> Result<(), TaskError> {
        let total = sum(values)?;
        let is_better = self
            .heap
            .peek()
            .is_none_or(|(Reverse(least), word)| (Reverse(total), key) < (Reverse(*least), word));
        if self.heap.len() < self.most || is_better {
            self.heap.push((Reverse(total), key.to_vec()));
            if self.heap.len() > self.most {
                self.heap.pop();
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), TaskError> {
        for (Reverse(count), word) in std::mem::take(&mut self.heap).into_sorted_vec() {
            out.emit_number(&word, count)?;
        }
        Ok(())
    }
}

impl Job for Top {
    type Mapper = Words;
    type Combiner = Sum;
    type Reducer = Best;
    type Partition = HashPartition;

    fn mapper(&self) -> Words {
        Words
    }

    fn combiner(&self) -> Option<Sum> {
        Some(Sum)
    }

    fn reducer(&self) -> Best {
        Best { most: self.most, heap: BinaryHeap::new() }
    }

    fn partition(&self) -> HashPartition {
        HashPartition
    }
}
