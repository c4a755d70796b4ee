//! Word count and inverted index: a byte loop and a hash table of slices into the mapped files.

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::thread;

use hashbrown::HashMap;

use crate::{Piece, halves, map};

/// Which bytes are ASCII letters.
const LETTERS: [bool; 256] = {
    let mut letters = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        letters[byte] = (byte as u8).is_ascii_alphabetic();
        byte += 1;
    }
    letters
};

/// Calls `found` for each run of ASCII letters.
fn words<'a>(text: &'a [u8], mut found: impl FnMut(&'a [u8])) {
    let mut at = 0;
    while at < text.len() {
        while at < text.len() && !LETTERS[usize::from(text[at])] {
            at += 1;
        }
        let start = at;
        while at < text.len() && LETTERS[usize::from(text[at])] {
            at += 1;
        }
        if start < at {
            found(&text[start..at]);
        }
    }
}

/// Runs `work` on both halves at the same time.
fn both<'a, T: Send>(
    halves: [Vec<Piece<'a>>; 2],
    work: impl Fn(Vec<Piece<'a>>) -> T + Sync,
) -> [T; 2] {
    let [one, two] = halves;
    thread::scope(|scope| {
        let other = scope.spawn(|| work(two));
        let first = work(one);
        [first, other.join().expect("the other thread panicked")]
    })
}

pub fn count(output: &str, files: &[&str]) -> Result<()> {
    let mapped = map(files)?;
    let [mut counts, more] = both(halves(&mapped), |pieces| {
        let mut counts: HashMap<&[u8], u64> = HashMap::new();
        for (_, text) in pieces {
            words(text, |word| *counts.entry(word).or_insert(0) += 1);
        }
        counts
    });
    for (word, count) in more {
        *counts.entry(word).or_insert(0) += count;
    }
    let mut counts: Vec<(&[u8], u64)> = counts.into_iter().collect();
    counts.sort_unstable();
    let mut out = BufWriter::new(File::create(output)?);
    for (word, count) in counts {
        out.write_all(word)?;
        writeln!(out, " {count}")?;
    }
    out.flush()
}

pub fn index(output: &str, files: &[&str]) -> Result<()> {
    let mapped = map(files)?;
    let [mut index, more] = both(halves(&mapped), |pieces| {
        let mut index: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (number, text) in pieces {
            words(text, |word| {
                let files = index.entry(word).or_default();
                if files.last() != Some(&number) {
                    files.push(number);
                }
            });
        }
        index
    });
    for (word, files) in more {
        index.entry(word).or_default().extend(files);
    }
    let mut index: Vec<(&[u8], Vec<usize>)> = index.into_iter().collect();
    index.sort_unstable();
    let mut out = BufWriter::new(File::create(output)?);
    for (word, numbers) in index {
        let mut names: Vec<&str> = numbers.into_iter().map(|number| files[number]).collect();
        names.sort_unstable();
        names.dedup();
        out.write_all(word)?;
        writeln!(out, " {} {}", names.len(), names.join(","))?;
    }
    out.flush()
}
