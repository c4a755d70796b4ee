//! Made-up data: text with words as frequent as in books, and records to sort. The same seed gives
//! the same bytes.

use std::io::{self, Write};

/// SplitMix64: a small generator with a state of one number.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        // The bias is below 2⁻³² for the bounds here.
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

/// Different words of the text.
const WORDS: usize = 20_000;

/// Makes lines until `bytes` would be passed: each `line` call appends one with its newline.
fn lines(bytes: u64, to: &mut dyn Write, mut line: impl FnMut(&mut Vec<u8>)) -> io::Result<u64> {
    let mut buffer = Vec::with_capacity(300 * 1024);
    let mut written = 0;
    loop {
        let before = buffer.len();
        line(&mut buffer);
        if written + buffer.len() as u64 > bytes {
            buffer.truncate(before);
            to.write_all(&buffer)?;
            return Ok(written + buffer.len() as u64);
        }
        if buffer.len() >= 256 * 1024 {
            to.write_all(&buffer)?;
            written += buffer.len() as u64;
            buffer.clear();
        }
    }
}

/// Writes about `bytes` of text (whole lines): the word of rank r has a frequency of about 1/r.
/// Returns the bytes written.
///
/// # Errors
/// Of `to`.
pub fn text(bytes: u64, seed: u64, to: &mut dyn Write) -> io::Result<u64> {
    let mut random = Random(seed);
    let words: Vec<Vec<u8>> = (0..WORDS).map(|rank| word(rank, &mut random)).collect();
    let mut total = 0.0;
    let sums: Vec<f64> = (0..WORDS)
        .map(|rank| {
            total += 1.0 / (rank + 1) as f64;
            total
        })
        .collect();
    lines(bytes, to, |line| {
        for at in 0..6 + random.below(9) {
            if at > 0 {
                line.extend_from_slice(if random.below(12) == 0 { b", " } else { b" " });
            }
            let point = (random.next() >> 11) as f64 / (1_u64 << 53) as f64 * total;
            let rank = sums.partition_point(|sum| *sum <= point);
            line.extend_from_slice(words.get(rank).map_or(b"x", Vec::as_slice));
        }
        line.push(b'\n');
    })
}

/// A word; frequent ones are short.
fn word(rank: usize, random: &mut Random) -> Vec<u8> {
    let length = 1 + (rank + 2).ilog2() as usize / 2 + random.below(5);
    let mut word: Vec<u8> = (0..length).map(|_| b'a' + random.below(26) as u8).collect();
    if random.below(10) == 0
        && let Some(first) = word.first_mut()
    {
        first.make_ascii_uppercase();
    }
    word
}

/// Writes about `bytes` of text whose lines are drawn from `from`, each as likely as the other.
/// Returns the bytes written; nothing if `from` is empty.
///
/// # Errors
/// Of `to`.
pub fn text_of_lines(bytes: u64, seed: u64, from: &[u8], to: &mut dyn Write) -> io::Result<u64> {
    let all: Vec<&[u8]> = from.split_inclusive(|byte| *byte == b'\n').collect();
    if all.is_empty() {
        return Ok(0);
    }
    let mut random = Random(seed);
    lines(bytes, to, |line| {
        line.extend_from_slice(all.get(random.below(all.len())).copied().unwrap_or_default());
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
    })
}

/// Bytes of a record to sort, with its newline.
pub const RECORD_BYTES: u64 = 100;

/// Writes records of 100 bytes: a key of ten characters, a number in order, filler. Returns the
/// bytes written.
///
/// # Errors
/// Of `to`.
pub fn records(bytes: u64, seed: u64, to: &mut dyn Write) -> io::Result<u64> {
    const ALPHABET: &[u8; 64] = b"+0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
    let mut random = Random(seed);
    let mut number = 0_u64;
    lines(bytes, to, |line| {
        let key = random.next();
        line.extend((0..10).map(|at| ALPHABET[(key >> (6 * at)) as usize % 64]));
        // Writing to a vector does not fail.
        let _ = write!(line, " {number:016x} ");
        let letter = ALPHABET[(key >> 58) as usize % 64];
        line.extend(std::iter::repeat_n(letter, RECORD_BYTES as usize - 10 - 18 - 1));
        line.push(b'\n');
        number += 1;
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let make = |seed| {
            let mut bytes = Vec::new();
            let written = text(100_000, seed, &mut bytes).unwrap();
            assert_eq!(written, bytes.len() as u64);
            bytes
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
        let bytes = make(1);
        assert!(bytes.len() > 99_000 && bytes.ends_with(b"\n"));
    }

    #[test]
    fn the_most_frequent_word_is_as_frequent_as_in_books() {
        let mut bytes = Vec::new();
        text(1_000_000, 3, &mut bytes).unwrap();
        let mut counts: BTreeMap<&[u8], u64> = BTreeMap::new();
        for word in bytes.split(|byte| !byte.is_ascii_alphabetic()).filter(|word| !word.is_empty())
        {
            *counts.entry(word).or_default() += 1;
        }
        let total: u64 = counts.values().sum();
        let most = counts.values().max().unwrap();
        assert!((total / 20..total / 5).contains(most), "{most} of {total}");
        assert!(counts.len() > 8000, "{}", counts.len());
    }

    #[test]
    fn records_have_a_hundred_bytes() {
        let mut bytes = Vec::new();
        assert_eq!(records(10_050, 1, &mut bytes).unwrap(), 10_000);
        assert!(bytes.chunks(100).all(|record| record.ends_with(b"\n")));
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 100);
    }

    #[test]
    fn lines_of_a_text_are_drawn_whole() {
        let mut bytes = Vec::new();
        text_of_lines(1000, 1, b"one\ntwo\nthree", &mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.lines().all(|line| ["one", "two", "three"].contains(&line)));
        assert_eq!(text_of_lines(1000, 1, b"", &mut Vec::new()).unwrap(), 0);
    }
}
