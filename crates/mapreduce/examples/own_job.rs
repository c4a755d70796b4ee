//! A job of one's own: the longest line of each first word.
//!
//! ```console
//! $ cargo run --release -p kontiki-mapreduce --example own_job -- OUTPUT-FOLDER INPUT...
//! ```
//!
//! A job is a type that makes a mapper, a combiner if there is one, a reducer and a partition for
//! each attempt of a task. Keys and values are bytes; what they mean is up to the job. Here a key is
//! a word, and a value is a line: the combiner and the reducer keep the longest one.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::thread;

use kontiki_mapreduce::api::{
    Combiner, Emit, HashPartition, Held, Job, Mapper, Output, Record, Reducer, Values,
};
use kontiki_mapreduce::error::{TaskError, UserError};
use kontiki_mapreduce::input::{SPLIT_BYTES, list, plan};
use kontiki_mapreduce::local::{LocalJob, Progress, clear, run};
use kontiki_mapreduce::task::{Compiled, MEMORY_BYTES};

/// The job.
pub struct LongestLine;

/// Emits each line under its first word. Lines without a word are counted and left out.
pub struct FirstWord;

impl Mapper for FirstWord {
    fn map<E: Emit>(&mut self, record: Record<'_>, out: &mut E) -> Result<(), UserError> {
        let line = record.bytes;
        match line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()) {
            Some(word) => out.emit(word, line),
            None => out.count("lines", "without a word", 1),
        }
        Ok(())
    }
}

/// Of two lines the longer one; of equally long ones the first in byte order, so that the result
/// does not depend on which came first.
pub struct Longest;

fn is_better(line: &[u8], best: &[u8]) -> bool {
    (best.len(), line) < (line.len(), best)
}

impl Combiner for Longest {
    fn fold(&mut self, _key: &[u8], held: &mut Held<'_>, value: &[u8]) {
        if is_better(value, held.bytes()) {
            held.replace(value);
        }
    }
}

impl Reducer for Longest {
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), TaskError> {
        let mut best: Vec<u8> = Vec::new();
        // One value is in memory at a time, however many there are.
        while let Some(line) = values.next()? {
            if best.is_empty() || is_better(line, &best) {
                best.clear();
                best.extend_from_slice(line);
            }
        }
        out.write(key)?;
        out.write(format!(" {} ", best.len()).as_bytes())?;
        out.line(&best)
    }
}

impl Job for LongestLine {
    type Mapper = FirstWord;
    type Combiner = Longest;
    type Reducer = Longest;
    type Partition = HashPartition;

    fn mapper(&self) -> FirstWord {
        FirstWord
    }

    fn combiner(&self) -> Option<Longest> {
        Some(Longest)
    }

    fn reducer(&self) -> Longest {
        Longest
    }

    fn partition(&self) -> HashPartition {
        HashPartition
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [output, inputs @ ..] = arguments.as_slice() else {
        return Err("usage: own_job OUTPUT-FOLDER INPUT...".into());
    };
    let output = Path::new(output);
    let work = output.join("_work");
    fs::create_dir_all(&work)?;
    let files = list(inputs)?;
    let job = LocalJob {
        program: &Compiled(LongestLine),
        maps: &plan(&files, SPLIT_BYTES),
        reduces: 4,
        workers: thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
        memory_bytes: MEMORY_BYTES,
        skip_bad_records: false,
        output,
        work: &work,
    };
    let summary = run(&job, &Progress::default())?;
    clear(&work)?;
    println!("{} keys of {} lines", summary.reduce.keys, summary.map.input_records);
    Ok(())
}
