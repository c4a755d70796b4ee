//! Whole jobs against the sequential run, with memory that is too small for them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::*;
use crate::api::{
    Combiner, Emit, HashPartition, Held, Job, Mapper, NoCombiner, Output, Record, Reducer, Values,
};
use crate::apps::{Grep, Indexer, Sort, Top, WordCount, sample};
use crate::error::{TaskError, UserError};
use crate::input::{MapTask, list, plan};
use crate::shuffle::LocalFetch;

/// What a job's tasks made, and what they counted.
struct Done {
    /// The outputs in order.
    outputs: Vec<Vec<u8>>,
    maps: Vec<MapFigures>,
    reduces: Vec<ReduceFigures>,
    counters: Counters,
}

fn run(
    program: &dyn Program,
    input: &Path,
    split_bytes: u64,
    reduces: u32,
    memory_bytes: u64,
) -> Result<Done, TaskError> {
    let folder = tempfile::tempdir().unwrap();
    let files = list(&[input.to_str().unwrap()]).unwrap();
    let mut done = Done {
        outputs: Vec::new(),
        maps: Vec::new(),
        reduces: Vec::new(),
        counters: Counters::default(),
    };
    let attempt = |attempt| Attempt {
        job: 5,
        attempt,
        reduces,
        memory_bytes,
        folder: folder.path().to_owned(),
        skip: Vec::new(),
    };
    let tasks = plan(&files, split_bytes);
    let mut paths = Vec::new();
    for task in &tasks {
        let output = program.map(task, &attempt(u64::from(task.number)), &Unwatched)?;
        paths.push(output.file);
        done.maps.push(output.figures);
        done.counters.add_all(&output.counters);
    }
    let fetch = LocalFetch::new(paths);
    for number in 0..reduces {
        let task = ReduceTask { number, maps: tasks.len() as u32 };
        let output = program.reduce(task, &fetch, &attempt(1000), &Unwatched)?;
        let path = commit(&output.file, folder.path(), number).unwrap();
        done.outputs.push(fs::read(path).unwrap());
        done.reduces.push(output.figures);
        done.counters.add_all(&output.counters);
    }
    Ok(done)
}

fn sequential(program: &dyn Program, input: &Path) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    program.sequential(&list(&[input.to_str().unwrap()]).unwrap(), &output).unwrap();
    fs::read(output).unwrap()
}

fn sorted_lines(outputs: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = outputs.split_inclusive(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    lines
}

fn check(program: &dyn Program, input: &Path, split_bytes: u64, reduces: u32, memory: u64) -> Done {
    let done = run(program, input, split_bytes, reduces, memory).unwrap();
    let expect = sequential(program, input);
    assert!(
        sorted_lines(&done.outputs.concat()) == sorted_lines(&expect),
        "split {split_bytes}, reduces {reduces}, memory {memory}"
    );
    done
}

/// Pseudo-random text: `words` different words, lines of up to ten.
fn text(words: u64, lines: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut text = Vec::new();
    for _ in 0..lines {
        for _ in 0..next(10) {
            // Of one to twelve letters.
            let mut word = next(words) + 1;
            while word > 0 {
                text.push(b'a' + (word % 7) as u8);
                word /= 7;
            }
            text.push(b" ,1\t"[next(4) as usize]);
        }
        text.push(b'\n');
    }
    text
}

fn folder_of(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

#[test]
fn built_in_jobs_give_what_the_sequential_run_gives() {
    let (one, two) = (text(2000, 3000, 1), text(50, 2000, 2));
    let folder = folder_of(&[("one", &one), ("two", &two), ("empty", b"")]);
    let files = list(&[folder.path().to_str().unwrap()]).unwrap();
    for (split_bytes, reduces) in [(1 << 20, 10), (10_000, 3), (999, 1)] {
        let maps = plan(&files, split_bytes).len() as u32;
        check(&Compiled(WordCount), folder.path(), split_bytes, reduces, 1 << 20);
        check(&Compiled(Indexer), folder.path(), split_bytes, reduces, 1 << 20);
        check(&Compiled(Top::new(17)), folder.path(), split_bytes, 1, 1 << 20);
        let grep = Compiled(Grep::new(b"bcd", maps));
        let done = check(&grep, folder.path(), split_bytes, reduces, 1 << 20);
        assert!(done.outputs.concat() == sequential(&grep, folder.path()), "not in order");
        let sort = Compiled(Sort::new(sample(&files, reduces).unwrap()));
        let done = check(&sort, folder.path(), split_bytes, reduces, 1 << 20);
        assert!(done.outputs.concat() == sequential(&sort, folder.path()), "not in order");
        assert!(done.outputs.iter().all(|output| !output.is_empty()), "an empty range");
    }
}

#[test]
fn buffers_that_are_too_small_spill_and_merge() {
    let bytes = text(1 << 40, 40_000, 3);
    let folder = folder_of(&[("one", &bytes)]);
    let done = check(&Compiled(WordCount), folder.path(), 1 << 30, 4, 1 << 19);
    assert!(done.maps[0].spills > 16, "{:?}", done.maps);
    assert!(done.maps[0].spilled_bytes > 0, "{:?}", done.maps);
    let files = list(&[folder.path().to_str().unwrap()]).unwrap();
    let sort = Compiled(Sort::new(sample(&files, 3).unwrap()));
    let done = check(&sort, folder.path(), 100_000, 3, 1 << 18);
    assert!(done.maps.iter().any(|figures| figures.spills > 0), "{:?}", done.maps);
    assert!(done.reduces.iter().any(|figures| figures.spilled_bytes > 0), "{:?}", done.reduces);
}

#[test]
fn figures_count_what_was_done() {
    let folder = folder_of(&[("one", b"a b a\nb a\n\nlast")]);
    let done = check(&Compiled(WordCount), folder.path(), 1 << 20, 1, 1 << 20);
    let map = done.maps[0];
    assert_eq!((map.input_bytes, map.input_records, map.emitted, map.records), (15, 4, 6, 3));
    assert_eq!(map.emitted_bytes, 9 + 6 * 8);
    let reduce = done.reduces[0];
    assert_eq!((reduce.records, reduce.keys, reduce.output_records), (3, 3, 3));
    assert_eq!(done.outputs.concat(), b"a 3\nb 2\nlast 1\n");
    assert_eq!(reduce.output_bytes, 15);
}

/// Collects the values of each key in their order.
struct Collect;

struct CollectMapper;

impl Mapper for CollectMapper {
    fn map<E: Emit>(&mut self, record: Record<'_>, out: &mut E) -> Result<(), UserError> {
        out.count("lines", "all", 1);
        if record.bytes == b"refuse" {
            return Err("refused".into());
        }
        assert!(record.bytes != b"panic", "told to");
        let (key, value) = record.bytes.split_at(record.bytes.len().min(1));
        out.emit(key, value);
        Ok(())
    }
}

struct CollectReducer;

impl Reducer for CollectReducer {
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), TaskError> {
        out.count("keys", "all", 1);
        if key == b"!" {
            // Looks at one value only.
            values.next()?;
            return out.line(b"!");
        }
        out.write(key)?;
        while let Some(value) = values.next()? {
            out.write(b" ")?;
            out.write(value)?;
        }
        out.end_line()
    }
}

impl Job for Collect {
    type Mapper = CollectMapper;
    type Combiner = NoCombiner;
    type Reducer = CollectReducer;
    type Partition = HashPartition;

    fn mapper(&self) -> CollectMapper {
        CollectMapper
    }

    fn combiner(&self) -> Option<NoCombiner> {
        None
    }

    fn reducer(&self) -> CollectReducer {
        CollectReducer
    }

    fn partition(&self) -> HashPartition {
        HashPartition
    }
}

#[test]
fn values_come_in_the_order_of_the_input() {
    let lines: String =
        (0..20_000).map(|n| format!("{}{n}\n", ["a", "b", "!", "c"][n % 4])).collect();
    let folder = folder_of(&[("one", lines.as_bytes())]);
    let done = check(&Compiled(Collect), folder.path(), 7001, 2, 1 << 16);
    assert_eq!(done.counters.get("lines", "all"), 20_000);
    assert_eq!(done.counters.get("keys", "all"), 4);
}

#[test]
fn half_of_all_records_may_have_one_key() {
    let lines: String = (0..60_000)
        .map(|n| if n % 2 == 0 { format!("k{n}\n") } else { format!("{n}\n") })
        .collect();
    let folder = folder_of(&[("one", lines.as_bytes())]);
    let done = check(&Compiled(Collect), folder.path(), 100_000, 3, 1 << 16);
    assert!(done.maps.iter().all(|figures| figures.spills > 0));
}

#[test]
fn a_record_may_be_a_quarter_of_the_memory_and_no_more() {
    let memory = 1 << 20;
    let long = |length: usize| {
        let mut lines = vec![b'x'; length];
        lines.extend_from_slice(b"\nshort\n");
        lines.extend(vec![b'y'; length]);
        lines
    };
    let folder = folder_of(&[("one", &long(memory / 4)), ("two", &long(memory / 4))]);
    let sort = Compiled(Sort::new(vec![b"x".to_vec()]));
    check(&sort, folder.path(), 1 << 30, 2, memory as u64);
    check(&Compiled(Collect), folder.path(), 1 << 30, 2, memory as u64);
    check(&Compiled(WordCount), folder.path(), 1 << 30, 2, memory as u64 * 2);
    let folder = folder_of(&[("one", &long(memory / 4 + 1))]);
    let error = run(&sort, folder.path(), 1 << 30, 2, memory as u64).err().unwrap();
    assert!(matches!(error, TaskError::RecordTooLarge { .. }), "{error}");
}

#[test]
fn failing_user_code_names_the_record() {
    for (word, message) in [("refuse", "refused"), ("panic", "told to")] {
        let bytes = format!("fine\nfine too\n{word}\nfine\n");
        let folder = folder_of(&[("one", bytes.as_bytes())]);
        let error = run(&Compiled(Collect), folder.path(), 1 << 30, 2, 1 << 20).err().unwrap();
        let TaskError::User { message: found, place: Some(place), suspects: Some(suspects) } =
            &error
        else {
            panic!("{error}")
        };
        assert_eq!((found.as_str(), place.offset, suspects.clone()), (message, 14, 2..3));
        assert!(place.file.ends_with("one"));
    }
}

/// Joins texts, so that values grow.
struct Join;

struct JoinMapper;

impl Mapper for JoinMapper {
    fn map<E: Emit>(&mut self, record: Record<'_>, out: &mut E) -> Result<(), UserError> {
        let number: u64 = record.bytes.len() as u64 + record.offset;
        out.emit(format!("key-of-more-than-eight-{}", number % 7).as_bytes(), b"x");
        Ok(())
    }
}

struct Joiner;

impl Combiner for Joiner {
    fn fold(&mut self, _key: &[u8], held: &mut Held<'_>, value: &[u8]) {
        held.append(value);
    }
}

impl Reducer for Joiner {
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), TaskError> {
        let mut length = 0;
        while let Some(value) = values.next()? {
            assert!(value.iter().all(|byte| *byte == b'x'));
            length += value.len() as u64;
        }
        out.emit_number(key, length)
    }
}

impl Job for Join {
    type Mapper = JoinMapper;
    type Combiner = Joiner;
    type Reducer = Joiner;
    type Partition = HashPartition;

    fn mapper(&self) -> JoinMapper {
        JoinMapper
    }

    fn combiner(&self) -> Option<Joiner> {
        Some(Joiner)
    }

    fn reducer(&self) -> Joiner {
        Joiner
    }

    fn partition(&self) -> HashPartition {
        HashPartition
    }
}

#[test]
fn values_that_grow_in_the_combiner_are_not_lost_and_not_counted_twice() {
    let folder = folder_of(&[("one", &text(100, 200_000, 4))]);
    let done = check(&Compiled(Join), folder.path(), 1 << 30, 2, 300_000);
    assert!(done.maps[0].spills > 0, "{:?}", done.maps);
}

/// A cancelled attempt.
struct Cancelled;

impl Monitor for Cancelled {
    fn advanced(&self, _amount: u64) {}

    fn is_cancelled(&self) -> bool {
        true
    }
}

#[test]
fn a_cancelled_attempt_leaves_nothing() {
    let folder = folder_of(&[("one", b"a b\n")]);
    let work = tempfile::tempdir().unwrap();
    let tasks = plan(&list(&[folder.path().to_str().unwrap()]).unwrap(), 1000);
    let attempt = Attempt {
        job: 1,
        attempt: 1,
        reduces: 1,
        memory_bytes: 1 << 20,
        folder: work.path().to_owned(),
        skip: Vec::new(),
    };
    let error = Compiled(WordCount).map(&tasks[0], &attempt, &Cancelled).unwrap_err();
    assert!(matches!(error, TaskError::Cancelled));
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0);
}

/// Remembers how far an attempt said that it was, and how much it expected.
#[derive(Default)]
struct Onlooker {
    advanced: AtomicU64,
    expected: AtomicU64,
}

impl Monitor for Onlooker {
    fn advanced(&self, amount: u64) {
        self.advanced.fetch_add(amount, Relaxed);
    }

    fn expect(&self, more: u64) {
        self.advanced.store(0, Relaxed);
        self.expected.store(more, Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Also when runs do not fit in memory and are merged in files first.
#[test]
fn a_reduce_says_how_much_there_is_to_do_and_how_far_it_is() {
    let lines: String = (0..30_000).map(|n| format!("{}{n}\n", ["a", "b", "c"][n % 3])).collect();
    let folder = folder_of(&[("one", lines.as_bytes())]);
    let work = tempfile::tempdir().unwrap();
    let tasks = plan(&list(&[folder.path().to_str().unwrap()]).unwrap(), 20_000);
    let attempt = Attempt {
        job: 1,
        attempt: 1,
        reduces: 1,
        memory_bytes: 1 << 16,
        folder: work.path().to_owned(),
        skip: Vec::new(),
    };
    let program = Compiled(Collect);
    let map = |task: &MapTask| program.map(task, &attempt, &Unwatched).unwrap().file;
    let fetch = LocalFetch::new(tasks.iter().map(map).collect());
    let task = ReduceTask { number: 0, maps: tasks.len() as u32 };
    let onlooker = Onlooker::default();
    let figures = program.reduce(task, &fetch, &attempt, &onlooker).unwrap().figures;
    let (advanced, expected) = (onlooker.advanced.load(Relaxed), onlooker.expected.load(Relaxed));
    assert!(figures.records == 30_000 && figures.spilled_bytes > 0, "{figures:?}");
    assert_eq!(expected, figures.records);
    assert!(advanced <= expected && advanced + 5000 > expected, "{advanced} of {expected}");
}

#[test]
fn damaged_map_output_is_blamed_on_its_map() {
    let folder = folder_of(&[("one", &text(500, 500, 5))]);
    let work = tempfile::tempdir().unwrap();
    let tasks = plan(&list(&[folder.path().to_str().unwrap()]).unwrap(), 2000);
    let attempt = Attempt {
        job: 1,
        attempt: 1,
        reduces: 1,
        memory_bytes: 1 << 20,
        folder: work.path().to_owned(),
        skip: Vec::new(),
    };
    let program = Compiled(WordCount);
    let paths: Vec<_> =
        tasks.iter().map(|task| program.map(task, &attempt, &Unwatched).unwrap().file).collect();
    let mut bytes = fs::read(&paths[2]).unwrap();
    bytes[100] ^= 4;
    fs::write(&paths[2], bytes).unwrap();
    let task = ReduceTask { number: 0, maps: tasks.len() as u32 };
    let error = program.reduce(task, &LocalFetch::new(paths), &attempt, &Unwatched).unwrap_err();
    assert_eq!(error.lost_map(), Some(2), "{error}");
    let left: BTreeMap<String, ()> = fs::read_dir(work.path())
        .unwrap()
        .map(|entry| (entry.unwrap().file_name().into_string().unwrap(), ()))
        .filter(|(name, ())| !name.starts_with("map-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn bad_records_are_skipped_and_written_down() {
    let folder = folder_of(&[("one", b"apple\nrefuse\nbanana\npanic\n"), ("two", b"avocado\n")]);
    let work = tempfile::tempdir().unwrap();
    let tasks = plan(&list(&[folder.path().to_str().unwrap()]).unwrap(), 1000);
    let program = Compiled(Collect);
    let mut attempt = Attempt {
        job: 1,
        attempt: 1,
        reduces: 1,
        memory_bytes: 1 << 20,
        folder: work.path().to_owned(),
        skip: vec![1],
    };
    let error = program.map(&tasks[0], &attempt, &Unwatched).unwrap_err();
    assert!(
        matches!(&error, TaskError::User { suspects: Some(suspects), .. } if *suspects == (3..4))
    );
    let probe =
        |records, attempt: &Attempt| program.probe(&tasks[0], records, attempt, &Unwatched).is_ok();
    assert!(probe(0..3, &attempt) && probe(4..9, &attempt) && !probe(2..4, &attempt));
    attempt.skip = vec![1, 3];
    assert!(probe(0..4, &attempt));
    let output = program.map(&tasks[0], &attempt, &Unwatched).unwrap();
    assert_eq!((output.figures.input_records, output.figures.skipped_records), (4, 2));
    assert_eq!(fs::read(output.skipped.unwrap()).unwrap(), b"refuse\npanic\n");
    attempt.skip = Vec::new();
    let other = program.map(&tasks[1], &attempt, &Unwatched).unwrap();
    assert!(other.skipped.is_none());
    let fetch = LocalFetch::new(vec![output.file, other.file]);
    let task = ReduceTask { number: 0, maps: 2 };
    let reduced = program.reduce(task, &fetch, &attempt, &Unwatched).unwrap();
    assert_eq!(fs::read(reduced.file).unwrap(), b"a pple vocado\nb anana\n");
}
