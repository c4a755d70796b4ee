//! LCS: the longest common subsequence of two strings.
//!
//! The textbook table of lengths, row by row; of a cell only one bit is kept: whether the way back
//! goes up (to the shorter first string). Matching bytes go both ways and need no bit. Where both
//! ways are as good, the way goes left, as in Redis, so that the same subsequence is found.

use bytes::Bytes;

use super::options::LcsOutput;
use super::{error, strings};
use crate::{Access, Reply};

/// The largest table: Redis computes it with four bytes a cell, and at most 512 MiB of them.
const CELLS_MAX: usize = (512 << 20) / 4;

pub(super) fn lcs<A: Access + ?Sized>(
    state: &A,
    first: &[u8],
    second: &[u8],
    output: LcsOutput,
) -> Reply {
    let value = |key| state.get(key).map_or(Bytes::new(), |record| record.value);
    let (first, second) = (value(first), value(second));
    let cells = (first.len() + 1).checked_mul(second.len() + 1);
    if cells.is_none_or(|cells| cells > CELLS_MAX) {
        return error::fixed(error::LCS_TOO_LARGE);
    }
    if output == LcsOutput::Length {
        return Reply::Integer(i64::from(table(&first, &second, |_, _| {})));
    }
    let mut up = Bits::new(first.len() * second.len());
    let length = table(&first, &second, |row, column| up.set(row * second.len() + column));
    let runs = runs(&first, &second, &up);
    match output {
        LcsOutput::Indexes { min_length, with_length } => {
            indexes(&runs, i64::from(length), min_length, with_length)
        }
        _ => {
            let mut sequence = Vec::with_capacity(length as usize);
            for run in runs.iter().rev() {
                sequence.extend_from_slice(&first[run.first..run.first + run.length]);
            }
            Reply::Bulk(sequence.into())
        }
    }
}

/// The length of the longest common subsequence. Calls `goes_up` for each cell (row in `first`,
/// column in `second`) of different bytes from which the way back goes up.
fn table(first: &[u8], second: &[u8], mut goes_up: impl FnMut(usize, usize)) -> u32 {
    let mut above = vec![0_u32; second.len() + 1];
    let mut row = above.clone();
    for (at, byte) in first.iter().enumerate() {
        for (column, other) in second.iter().enumerate() {
            row[column + 1] = if byte == other {
                above[column] + 1
            } else {
                if above[column + 1] > row[column] {
                    goes_up(at, column);
                }
                above[column + 1].max(row[column])
            };
        }
        std::mem::swap(&mut above, &mut row);
    }
    above.last().copied().unwrap_or(0)
}

/// Bytes that follow each other in both strings.
struct Run {
    first: usize,
    second: usize,
    length: usize,
}

/// The runs of the longest common subsequence, from the last to the first.
fn runs(first: &[u8], second: &[u8], up: &Bits) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let (mut row, mut column) = (first.len(), second.len());
    while row > 0 && column > 0 {
        if first[row - 1] == second[column - 1] {
            row -= 1;
            column -= 1;
            match runs.last_mut() {
                Some(run) if run.first == row + 1 && run.second == column + 1 => {
                    *run = Run { first: row, second: column, length: run.length + 1 };
                }
                _ => runs.push(Run { first: row, second: column, length: 1 }),
            }
        } else if up.get((row - 1) * second.len() + column - 1) {
            row -= 1;
        } else {
            column -= 1;
        }
    }
    runs
}

fn indexes(runs: &[Run], length: i64, min_length: u64, with_length: bool) -> Reply {
    let range = |start: usize, length: usize| {
        Reply::Array(vec![strings::length(start), strings::length(start + length - 1)])
    };
    let matches = runs.iter().filter(|run| run.length as u64 >= min_length).map(|run| {
        let mut found = vec![range(run.first, run.length), range(run.second, run.length)];
        if with_length {
            found.push(strings::length(run.length));
        }
        Reply::Array(found)
    });
    let name = |name: &'static str| Reply::Bulk(Bytes::from_static(name.as_bytes()));
    Reply::Map(vec![
        (name("matches"), Reply::Array(matches.collect())),
        (name("len"), Reply::Integer(length)),
    ])
}

/// A fixed number of bits.
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn set(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn get(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }
}
