//! Whole jobs through the public API.

mod access;
mod cluster;
mod cuts;
mod failures;
mod fuzz;
mod live;
mod objects;
mod own_job;
mod words;

use std::fs;
use std::path::Path;

use kontiki_mapreduce::input::{InputFile, MapTask, list, plan};
use kontiki_mapreduce::local::{LocalJob, Progress, Summary, run};
use kontiki_mapreduce::task::{Program, output_name};

/// The fixture: CRLF, NUL, invalid UTF-8, letters of many scripts, no newline at the end.
const FIXTURE: &[u8] = include_bytes!("fixture.txt");

/// A folder with one file, `in.txt`.
fn folder_with(bytes: &[u8]) -> (tempfile::TempDir, Vec<InputFile>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.txt");
    fs::write(&path, bytes).unwrap();
    let files = list(&[path.to_str().unwrap()]).unwrap();
    (folder, files)
}

/// Runs a job; the output files in order, and what was done.
fn run_tasks(program: &dyn Program, maps: &[MapTask], reduces: u32) -> (Vec<Vec<u8>>, Summary) {
    let output = tempfile::tempdir().unwrap();
    let work = output.path().join("_work");
    fs::create_dir(&work).unwrap();
    let job = LocalJob {
        program,
        maps,
        reduces,
        workers: 2,
        memory_bytes: 4 << 20,
        skip_bad_records: false,
        output: output.path(),
        work: &work,
    };
    let summary = run(&job, &Progress::default()).unwrap();
    let read = |reduce| fs::read(output.path().join(output_name(reduce))).unwrap();
    ((0..reduces).map(read).collect(), summary)
}

/// All lines in byte order, as `LC_ALL=C sort mr-out-*` gives them.
fn sorted(outputs: &[Vec<u8>]) -> Vec<u8> {
    let all = outputs.concat();
    let mut lines: Vec<&[u8]> = all.split_inclusive(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    lines.concat()
}

/// The output of the sequential run.
fn sequential(program: &dyn Program, files: &[InputFile]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path: &Path = &folder.path().join("out");
    program.sequential(files, path).unwrap();
    fs::read(path).unwrap()
}

/// Tasks of about `split_bytes`.
fn tasks(files: &[InputFile], split_bytes: u64) -> Vec<MapTask> {
    plan(files, split_bytes)
}
