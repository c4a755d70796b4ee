//! Yardsticks: each task as one would write it by hand for these data alone.
//!
//! ```text
//! yardstick wc OUTPUT FILES...             word count, two threads, mmap; ASCII only
//! yardstick index OUTPUT FILES...          inverted index, the same way
//! yardstick grep PATTERN OUTPUT FILES...   lines with a text, two threads, mmap
//! yardstick sort MIB INPUT OUTPUT          external sort of 100-byte records, one thread
//! ```
//!
//! They do not survive anything, check nothing that they read, and know only their own task.

mod lines;
mod sort;
mod words;

use std::fs::File;
use std::io::{Error, Result};

use memmap2::Mmap;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["wc", output, files @ ..] => words::count(output, files),
        ["index", output, files @ ..] => words::index(output, files),
        ["grep", pattern, output, files @ ..] => lines::grep(pattern, output, files),
        ["sort", mib, input, output] => {
            let mib: usize = mib.parse().map_err(Error::other)?;
            sort::external(mib << 20, input, output)
        }
        _ => Err(Error::other("see src/main.rs for the arguments")),
    }
}

/// Maps all files.
fn map(files: &[&str]) -> Result<Vec<Mmap>> {
    // SAFETY: nobody changes the benchmark's input while it runs.
    files.iter().map(|file| unsafe { Mmap::map(&File::open(file)?) }).collect()
}

/// A part of a file: its number, and its bytes.
type Piece<'a> = (usize, &'a [u8]);

/// The files' bytes cut into two halves, on line borders.
fn halves<'a>(files: &'a [Mmap]) -> [Vec<Piece<'a>>; 2] {
    let total: usize = files.iter().map(|file| file.len()).sum();
    let mut left = total / 2;
    let mut halves = [Vec::new(), Vec::new()];
    for (number, file) in files.iter().enumerate() {
        let mut cut = left.min(file.len());
        if cut > 0 && cut < file.len() {
            cut = memchr::memchr(b'\n', &file[cut..]).map_or(file.len(), |at| cut + at + 1);
        }
        left = left.saturating_sub(file.len());
        halves[0].push((number, &file[..cut]));
        halves[1].push((number, &file[cut..]));
    }
    halves
}
