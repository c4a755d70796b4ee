//! The memory of a whole process, as the operating system sees it, stays within what was allowed: N
//! workers' budgets and 48 MiB.
//!
//! Each case runs in a process of its own, this program with the name of a case.

use std::env;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, ExitCode};

use kontiki_mapreduce::api::{
    Emit, HashPartition, Job, Mapper, NoCombiner, Output, Record, Reducer, Values,
};
use kontiki_mapreduce::apps::{Sort, WordCount, sample};
use kontiki_mapreduce::error::{TaskError, UserError};
use kontiki_mapreduce::generate::records;
use kontiki_mapreduce::input::{list, plan};
use kontiki_mapreduce::local::{LocalJob, Progress, run};
use kontiki_mapreduce::task::{Compiled, Program};

const WORKERS: u32 = 2;
const MEMORY_BYTES: u64 = 8 << 20;
const ALLOWED_BYTES: u64 = WORKERS as u64 * MEMORY_BYTES + (48 << 20);

/// Every case has more input than the process may use memory.
const INPUT_BYTES: u64 = ALLOWED_BYTES * 3 / 2;

/// Name, reduces, and what makes the input.
type Case = (&'static str, u32, fn(&mut dyn Write) -> std::io::Result<()>);

const CASES: [Case; 5] = [
    ("sort", 4, |to| records(INPUT_BYTES, 1, to).map(|_| ())),
    ("one-key", 2, |to| {
        for number in 0..INPUT_BYTES / 100 {
            let key = if number % 2 == 0 { 0 } else { number };
            writeln!(to, "{key:010} {number:088}")?;
        }
        Ok(())
    }),
    ("large-records", 2, |to| {
        let length = MEMORY_BYTES as usize / 4 - 16;
        for number in 0..INPUT_BYTES / length as u64 {
            let letter = b'a' + (number * 7 % 26) as u8;
            to.write_all(&vec![letter; length])?;
            writeln!(to, "{:09}", number * 7919 % 1000)?;
        }
        Ok(())
    }),
    ("many-reduces", 2000, |to| records(INPUT_BYTES, 2, to).map(|_| ())),
    ("many-keys-combined", 4, |to| {
        let mut state = 1_u64;
        for _ in 0..INPUT_BYTES / 13 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let word: Vec<u8> = (0..12).map(|at| b'a' + (state >> (4 * at)) as u8 % 16).collect();
            to.write_all(&word)?;
            to.write_all(b"\n")?;
        }
        Ok(())
    }),
];

/// The first word is the key, the rest the value; the reducer counts bytes.
struct ByKey;

struct Cut;

impl Mapper for Cut {
    fn map<E: Emit>(&mut self, record: Record<'_>, out: &mut E) -> Result<(), UserError> {
        let at = record.bytes.iter().position(|byte| *byte == b' ').unwrap_or_default();
        let (key, value) = record.bytes.split_at(at);
        out.emit(key, value);
        Ok(())
    }
}

struct Bytes;

impl Reducer for Bytes {
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), TaskError> {
        let mut bytes = 0;
        while let Some(value) = values.next()? {
            bytes += value.len() as u64;
        }
        out.emit_number(key, bytes)
    }
}

impl Job for ByKey {
    type Mapper = Cut;
    type Combiner = NoCombiner;
    type Reducer = Bytes;
    type Partition = HashPartition;

    fn mapper(&self) -> Cut {
        Cut
    }

    fn combiner(&self) -> Option<NoCombiner> {
        None
    }

    fn reducer(&self) -> Bytes {
        Bytes
    }

    fn partition(&self) -> HashPartition {
        HashPartition
    }
}

/// Runs one case and prints the most memory that this process had.
fn child(folder: &Path, case: &Case) {
    let (name, reduces, _) = *case;
    let files = list(&[folder.join("in").to_str().unwrap()]).unwrap();
    let program: Box<dyn Program> = match name {
        "many-keys-combined" => Box::new(Compiled(WordCount)),
        "one-key" => Box::new(Compiled(ByKey)),
        _ => Box::new(Compiled(Sort::new(sample(&files, reduces).unwrap()))),
    };
    let (output, work) = (folder.join("out"), folder.join("work"));
    fs::create_dir(&output).unwrap();
    fs::create_dir(&work).unwrap();
    let job = LocalJob {
        program: &*program,
        maps: &plan(&files, 32 << 20),
        reduces,
        workers: WORKERS,
        memory_bytes: MEMORY_BYTES,
        skip_bad_records: false,
        output: &output,
        work: &work,
    };
    let summary = run(&job, &Progress::default()).unwrap();
    assert!(summary.map.spills > 0, "{:?}", summary.map);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{} {} {}", kib * 1024, summary.map.input_records, summary.reduce.records);
}

/// Runs a case in a process of its own; what is wrong, if anything.
fn check(case: &Case) -> Result<String, String> {
    let (name, reduces, make) = *case;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut input = BufWriter::new(File::create(folder.path().join("in")).unwrap());
    make(&mut input).and_then(|()| input.flush()).map_err(|error| error.to_string())?;
    let child = Command::new(env::current_exe().unwrap()).arg(folder.path()).arg(name).output();
    let child = child.map_err(|error| error.to_string())?;
    if !child.status.success() {
        return Err(format!("{name}: {}", String::from_utf8_lossy(&child.stderr)));
    }
    let text = String::from_utf8_lossy(&child.stdout).into_owned();
    let numbers: Vec<u64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let [peak, lines, shuffled] = numbers[..] else { return Err(format!("{name}: {text}")) };
    if peak > ALLOWED_BYTES {
        return Err(format!("{name}: {} MiB, allowed {}", peak >> 20, ALLOWED_BYTES >> 20));
    }
    if name != "many-keys-combined" && lines != shuffled {
        return Err(format!("{name}: {lines} lines, {shuffled} pairs"));
    }
    let count = |reduce| fs::read(folder.path().join(format!("out/mr-out-{reduce}"))).unwrap();
    let output: usize = (0..reduces)
        .map(|reduce| count(reduce).iter().filter(|byte| **byte == b'\n').count())
        .sum();
    if name != "many-keys-combined" && name != "one-key" && output as u64 != lines {
        return Err(format!("{name}: {lines} lines in, {output} out"));
    }
    Ok(format!("{name}: {} MiB of {}", peak >> 20, ALLOWED_BYTES >> 20))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [folder, name] = arguments.as_slice()
        && let Some(case) = CASES.iter().find(|case| case.0 == name)
    {
        child(Path::new(folder), case);
        return ExitCode::SUCCESS;
    }
    let mut code = ExitCode::SUCCESS;
    for case in &CASES {
        match check(case) {
            Ok(line) => println!("ok {line}"),
            Err(line) => {
                println!("FAILED {line}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
