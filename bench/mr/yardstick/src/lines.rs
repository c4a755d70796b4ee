//! Lines with a text.

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::thread;

use memchr::{memchr, memmem, memrchr};

use crate::{Piece, halves, map};

fn hits<'a>(pieces: Vec<Piece<'a>>, pattern: &[u8]) -> Vec<(usize, &'a [u8])> {
    let finder = memmem::Finder::new(pattern);
    let mut hits = Vec::new();
    for (number, text) in pieces {
        let mut from = 0;
        while let Some(at) = finder.find(&text[from..]) {
            let at = from + at;
            let start = memrchr(b'\n', &text[..at]).map_or(0, |newline| newline + 1);
            let end = memchr(b'\n', &text[at..]).map_or(text.len(), |newline| at + newline);
            hits.push((number, &text[start..end]));
            from = (end + 1).min(text.len());
        }
    }
    hits
}

pub fn grep(pattern: &str, output: &str, files: &[&str]) -> Result<()> {
    let mapped = map(files)?;
    let [one, two] = halves(&mapped);
    let pattern = pattern.as_bytes();
    let found = thread::scope(|scope| {
        let other = scope.spawn(|| hits(two, pattern));
        let mut found = hits(one, pattern);
        found.extend(other.join().expect("the other thread panicked"));
        found
    });
    let mut out = BufWriter::new(File::create(output)?);
    for (_, line) in found {
        out.write_all(line)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}
