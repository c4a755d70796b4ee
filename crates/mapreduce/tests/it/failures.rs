//! Jobs whose user code fails, and map output that is damaged.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use kontiki_mapreduce::error::TaskError;
use kontiki_mapreduce::input::{InputFile, MapTask};
use kontiki_mapreduce::local::{JobError, LocalJob, Progress, Summary, run};
use kontiki_mapreduce::shuffle::Fetch;
use kontiki_mapreduce::streaming::{Commands, Streaming};
use kontiki_mapreduce::task::{
    Attempt, Compiled, MapOutput, Monitor, Program, ReduceOutput, ReduceTask,
};

use super::{folder_with, run_tasks, sequential, sorted, tasks};

fn try_run(
    program: &dyn Program,
    maps: &[MapTask],
    skip_bad_records: bool,
) -> Result<(Vec<u8>, Summary), JobError> {
    let output = tempfile::tempdir().unwrap();
    let job = LocalJob {
        program,
        maps,
        reduces: 1,
        workers: 2,
        memory_bytes: 4 << 20,
        skip_bad_records,
        output: output.path(),
        work: output.path(),
    };
    let mut summary = run(&job, &Progress::default())?;
    let skipped = summary.skipped.iter().map(|path| fs::read(path).unwrap());
    let skipped: Vec<u8> = skipped.collect::<Vec<_>>().concat();
    summary.skipped.clear();
    let all = [fs::read(output.path().join("mr-out-0")).unwrap(), b"--\n".to_vec(), skipped];
    Ok((all.concat(), summary))
}

fn dies_of(word: &str) -> Streaming {
    let mapper =
        format!("while read line; do [ \"$line\" != {word} ] || exit 9; echo \"$line\"; done");
    Streaming::new(Commands::new(mapper, "cat"))
}

#[test]
fn a_job_that_fails_names_the_record() {
    let (_folder, files) = folder_with(b"one\ntwo\nbad\nthree\n");
    let error = try_run(&dies_of("bad"), &tasks(&files, 1000), false).unwrap_err();
    let JobError::Failed(message) = error else { panic!("{error}") };
    assert!(message.contains("record 2"), "{message}");
    assert!(message.contains("in.txt at offset 8"), "{message}");
    assert!(message.contains("exit status: 9"), "{message}");
}

#[test]
fn bad_records_are_found_skipped_and_kept() {
    let lines: String = (0..200)
        .map(|n| if n % 90 == 70 { "bad\n".to_owned() } else { format!("{n:03}\n") })
        .collect();
    let (_folder, files) = folder_with(lines.as_bytes());
    let (found, summary) = try_run(&dies_of("bad"), &tasks(&files, 300), true).unwrap();
    let good: String =
        lines.lines().filter(|line| *line != "bad").map(|l| l.to_owned() + "\n").collect();
    assert_eq!(String::from_utf8(found).unwrap(), format!("{good}--\nbad\nbad\n"));
    assert_eq!(summary.map.skipped_records, 2);
    assert!(summary.map_counts.probes > 0, "{:?}", summary.map_counts);
}

/// A program whose first map output is damaged after it was made.
struct Damaging<'a> {
    program: &'a dyn Program,
    maps_run: AtomicU32,
}

impl Program for Damaging<'_> {
    fn map(
        &self,
        task: &MapTask,
        attempt: &Attempt,
        monitor: &dyn Monitor,
    ) -> Result<MapOutput, TaskError> {
        let output = self.program.map(task, attempt, monitor)?;
        if self.maps_run.fetch_add(1, Ordering::Relaxed) == 0 {
            let mut bytes = fs::read(&output.file).unwrap();
            bytes[70] ^= 0x10;
            fs::write(&output.file, bytes).unwrap();
        }
        Ok(output)
    }

    fn probe(
        &self,
        task: &MapTask,
        records: std::ops::Range<u64>,
        attempt: &Attempt,
        monitor: &dyn Monitor,
    ) -> Result<(), TaskError> {
        self.program.probe(task, records, attempt, monitor)
    }

    fn reduce(
        &self,
        task: ReduceTask,
        fetch: &dyn Fetch,
        attempt: &Attempt,
        monitor: &dyn Monitor,
    ) -> Result<ReduceOutput, TaskError> {
        self.program.reduce(task, fetch, attempt, monitor)
    }

    fn sequential(&self, files: &[InputFile], output: &std::path::Path) -> Result<(), TaskError> {
        self.program.sequential(files, output)
    }

    fn sequential_maps(
        &self,
        files: &[InputFile],
        output: &std::path::Path,
    ) -> Result<(), TaskError> {
        self.program.sequential_maps(files, output)
    }
}

#[test]
fn a_map_whose_output_is_damaged_runs_again() {
    let text: String = (0..2000).map(|n| format!("word{} and more\n", n % 50)).collect();
    let (_folder, files) = folder_with(text.as_bytes());
    let program = Compiled(kontiki_mapreduce::apps::WordCount);
    let damaging = Damaging { program: &program, maps_run: AtomicU32::new(0) };
    let maps = tasks(&files, 8000);
    let (outputs, summary) = run_tasks(&damaging, &maps, 3);
    assert_eq!(sorted(&outputs), sorted(&[sequential(&program, &files)]));
    assert_eq!(summary.map_counts.started, maps.len() as u64 + 1);
    assert_eq!(summary.map.input_records, 2000);
}
