//! `wc`: how often each word occurs. Lines `word count`.

use crate::api::{
    Batch, Combiner, Emit, HashPartition, Held, Job, Mapper, Output, Record, Reducer, Values,
};
use crate::error::{TaskError, UserError};
use crate::letters::words;

/// Counts words.
#[derive(Debug, Clone, Copy, Default)]
pub struct WordCount;

/// Emits each word with a one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Words;

/// Adds up numbers: little-endian, eight bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum;

const ONE: [u8; 8] = 1_u64.to_le_bytes();

impl Mapper for Words {
    fn map<E: Emit>(&mut self, record: Record<'_>, out: &mut E) -> Result<(), UserError> {
        words(record.bytes, |window, length| out.emit_within(window, length, &ONE));
        Ok(())
    }

    // A newline is no letter, so that no word is in two lines.
    fn map_batch<E: Emit>(&mut self, batch: Batch<'_>, out: &mut E) -> Result<(), UserError> {
        words(batch.bytes, |window, length| out.emit_within(window, length, &ONE));
        Ok(())
    }
}

impl Combiner for Sum {
    #[inline(always)]
    fn fold(&mut self, _key: &[u8], held: &mut Held<'_>, value: &[u8]) {
        let (Some(sum), Some(more)) =
            (held.bytes_mut().first_chunk_mut::<8>(), value.first_chunk::<8>())
        else {
            return;
        };
        let total = u64::from_le_bytes(*sum).saturating_add(u64::from_le_bytes(*more));
        *sum = total.to_le_bytes();
    }
}

/// The sum of a key's values.
pub(super) fn sum(values: &mut Values<'_>) -> Result<u64, TaskError> {
    let mut total = 0_u64;
    while let Some(value) = values.next()? {
        let Some(bytes) = value.first_chunk::<8>() else {
            return Err(UserError::from("a count has less than eight bytes").into());
        };
        total = total.saturating_add(u64::from_le_bytes(*bytes));
    }
    Ok(total)
}

impl Reducer for Sum {
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), TaskError> {
        let total = sum(values)?;
        out.emit_number(key, total)
    }
}

impl Job for WordCount {
    type Mapper = Words;
    type Combiner = Sum;
    type Reducer = Sum;
    type Partition = HashPartition;

    fn mapper(&self) -> Words {
        Words
    }

    fn combiner(&self) -> Option<Sum> {
        Some(Sum)
    }

    fn reducer(&self) -> Sum {
        Sum
    }

    fn partition(&self) -> HashPartition {
        HashPartition
    }
}
