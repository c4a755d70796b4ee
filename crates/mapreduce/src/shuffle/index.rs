//! Where the runs of a file under way are, in little memory.
//!
//! With thousands of buckets and a small budget there are many runs of a few records each. What is
//! kept of one, some ten bytes, is the difference to the one before it: buckets ascend, and one run
//! begins where the other ends.

use super::format::Run;

/// The runs written so far.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Of ascending buckets each, without a gap in the file.
    lists: Vec<List>,
}

#[derive(Debug, Default)]
struct List {
    /// Where its first run begins.
    begin: u64,
    /// Of its last run.
    bucket: u32,
    end: u64,
    encoded: Vec<u8>,
}

impl Index {
    /// Adds a run, which lies behind all others.
    pub(super) fn add(&mut self, bucket: u32, run: &Run) {
        let goes_on = |list: &List| list.bucket <= bucket && list.end == run.offset;
        if !self.lists.last().is_some_and(goes_on) {
            if let Some(full) = self.lists.last_mut() {
                full.encoded.shrink_to_fit();
            }
            self.lists.push(List { begin: run.offset, ..List::default() });
        }
        let Some(list) = self.lists.last_mut() else { return };
        let step = u64::from(bucket - list.bucket);
        let (largest, blocks) = (u64::from(run.largest_block), u64::from(run.blocks));
        let numbers = [step, run.stored_bytes, run.decoded_bytes, run.records, largest, blocks];
        for number in numbers {
            put(&mut list.encoded, number);
        }
        (list.bucket, list.end) = (bucket, run.offset + run.stored_bytes);
    }

    /// A cursor for each list, the oldest first.
    pub(super) fn cursors(&self) -> Vec<Cursor<'_>> {
        let cursors = self.lists.iter().map(|list| {
            let mut cursor =
                Cursor { rest: &list.encoded, bucket: 0, offset: list.begin, next: None };
            cursor.advance();
            cursor
        });
        cursors.collect()
    }
}

/// Goes through the runs of a list.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    bucket: u32,
    offset: u64,
    next: Option<Run>,
}

impl Cursor<'_> {
    /// The next run, if it is one of this bucket.
    pub(super) fn next_of(&mut self, bucket: u32) -> Option<Run> {
        if self.bucket != bucket {
            return None;
        }
        let run = self.next.take()?;
        self.advance();
        Some(run)
    }

    fn advance(&mut self) {
        let mut numbers = [0; 6];
        for number in &mut numbers {
            match take(&mut self.rest) {
                Some(found) => *number = found,
                None => return,
            }
        }
        let [step, stored_bytes, decoded_bytes, records, largest, blocks] = numbers;
        self.bucket += step as u32;
        self.next = Some(Run {
            offset: self.offset,
            stored_bytes,
            decoded_bytes,
            records,
            largest_block: largest as u32,
            blocks: blocks as u32,
        });
        self.offset += stored_bytes;
    }
}

/// Seven bits a byte, the lowest first; all but the last with the highest bit set.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(offset: u64, stored_bytes: u64, blocks: u32) -> Run {
        let (decoded_bytes, records) = (stored_bytes * 3, stored_bytes / 2);
        Run { offset, stored_bytes, decoded_bytes, records, largest_block: 1 << 20, blocks }
    }

    #[test]
    fn runs_are_given_back_bucket_by_bucket_oldest_first() {
        let mut index = Index::default();
        let runs = [
            (0, run(48, 100, 1)),
            (7, run(148, 1 << 40, 9)),
            (7, run(148 + (1 << 40), 5, 1)),
            // A gap, and then buckets from the beginning again.
            (3, run(1 << 50, 1, 1)),
            (0, run((1 << 50) + 1, 200, 2)),
            (u32::MAX, run((1 << 50) + 201, u64::from(u32::MAX), u32::MAX)),
        ];
        for (bucket, run) in &runs {
            index.add(*bucket, run);
        }
        let mut cursors = index.cursors();
        let mut found = Vec::new();
        for bucket in [0, 1, 3, 7, u32::MAX] {
            for cursor in &mut cursors {
                while let Some(run) = cursor.next_of(bucket) {
                    found.push((bucket, run));
                }
            }
        }
        let mut expected = runs.to_vec();
        expected.sort_by_key(|(bucket, _)| *bucket);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_run_takes_some_ten_bytes() {
        let mut index = Index::default();
        let mut offset = 48;
        for bucket in 0..10_000 {
            index.add(bucket, &Run { largest_block: 300, ..run(offset, 180, 1) });
            offset += 180;
        }
        let bytes: usize = index.lists.iter().map(|list| list.encoded.len()).sum();
        assert!(bytes <= 100_000, "{bytes}");
    }
}
