//! External sort of 100-byte records by their first ten bytes: sorted runs, then one merge.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Result, Write};

const RECORD: usize = 100;

/// The first ten bytes of a record; runs are cut in the order of the input, so that equal keys need
/// no more than the run's number.
type Key = (u64, u16);

fn key(record: &[u8]) -> Key {
    let first = u64::from_be_bytes(record[..8].try_into().expect("eight bytes"));
    let second = u16::from_be_bytes(record[8..10].try_into().expect("two bytes"));
    (first, second)
}

pub fn external(memory: usize, input: &str, output: &str) -> Result<()> {
    // Records, and 16 bytes for each that are sorted in their place.
    let records = memory / (RECORD + 16);
    let mut chunk = vec![0; records * RECORD];
    let mut order: Vec<(u64, u16, u32)> = Vec::with_capacity(records);
    let mut source = File::open(input)?;
    let mut runs = Vec::new();
    loop {
        let mut filled = 0;
        while filled < chunk.len() {
            match source.read(&mut chunk[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        if filled == 0 {
            break;
        }
        order.clear();
        let numbered = chunk[..filled].chunks_exact(RECORD).enumerate();
        order.extend(numbered.map(|(at, record)| {
            let (first, second) = key(record);
            (first, second, at as u32)
        }));
        order.sort_unstable();
        let name = format!("{output}.run-{}", runs.len());
        let mut run = BufWriter::with_capacity(1 << 20, File::create(&name)?);
        for (_, _, at) in &order {
            let start = *at as usize * RECORD;
            run.write_all(&chunk[start..start + RECORD])?;
        }
        run.flush()?;
        runs.push(name);
    }
    drop((chunk, order));
    merge(memory, &runs, output)?;
    runs.iter().try_for_each(fs::remove_file)
}

fn merge(memory: usize, runs: &[String], output: &str) -> Result<()> {
    let buffer = (memory / (runs.len() + 1)).clamp(64 * 1024, 4 << 20);
    let opened = runs.iter().map(|run| Ok(BufReader::with_capacity(buffer, File::open(run)?)));
    let mut readers: Vec<BufReader<File>> = opened.collect::<Result<_>>()?;
    let mut records = vec![[0_u8; RECORD]; readers.len()];
    let mut heap: BinaryHeap<Reverse<(Key, usize)>> = BinaryHeap::new();
    for run in 0..readers.len() {
        if next(&mut readers[run], &mut records[run])? {
            heap.push(Reverse((key(&records[run]), run)));
        }
    }
    let mut out = BufWriter::with_capacity(1 << 20, File::create(output)?);
    while let Some(mut top) = heap.peek_mut() {
        let Reverse((_, run)) = *top;
        out.write_all(&records[run])?;
        if next(&mut readers[run], &mut records[run])? {
            *top = Reverse((key(&records[run]), run));
        } else {
            std::collections::binary_heap::PeekMut::pop(top);
        }
    }
    out.flush()
}

fn next(reader: &mut BufReader<File>, record: &mut [u8; RECORD]) -> Result<bool> {
    match reader.read_exact(record) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
