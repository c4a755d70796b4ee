//! A whole job in one process: threads that take tasks, map tasks first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::TaskError;
use crate::input::MapTask;
use crate::shuffle::LocalFetch;
use crate::task::{
    Attempt, Counters, MapFigures, MapOutput, Monitor, Program, ReduceFigures, ReduceOutput,
    ReduceTask, commit,
};

/// Attempts of one task; the last one's error is the job's.
const ATTEMPTS_MAX: u32 = 4;

/// What to run, and where.
pub struct LocalJob<'a> {
    /// The program.
    pub program: &'a dyn Program,
    /// The map tasks.
    pub maps: &'a [MapTask],
    /// Number of reduces, at least 1.
    pub reduces: u32,
    /// Number of threads, at least 1.
    pub workers: u32,
    /// Memory of each thread.
    pub memory_bytes: u64,
    /// Where the output goes. The folder exists.
    pub output: &'a Path,
    /// Where map output and other temporary files go. The folder exists, on the file system of
    /// `output`.
    pub work: &'a Path,
}

/// How far a job is; updated as it runs.
#[derive(Debug, Default)]
pub struct Progress {
    /// Map tasks done.
    pub maps_done: AtomicU64,
    /// Reduce tasks done.
    pub reduces_done: AtomicU64,
    /// Bytes of input read, as stored.
    pub input_bytes: AtomicU64,
    /// Set to end the job early.
    pub cancelled: AtomicBool,
}

/// What a job did.
#[derive(Debug, Default)]
pub struct Summary {
    /// Sums over the map tasks.
    pub map: MapFigures,
    /// Sums over the reduce tasks.
    pub reduce: ReduceFigures,
    /// Attempts of map tasks that were begun.
    pub map_attempts: u64,
    /// Attempts of reduce tasks that were begun.
    pub reduce_attempts: u64,
    /// What user code counted.
    pub counters: Counters,
    /// The shuffle file of each map task.
    pub map_files: Vec<PathBuf>,
}

/// What the threads share.
struct State {
    /// Attempts begun, by task.
    maps: Vec<u32>,
    outputs: Vec<Option<MapOutput>>,
    /// The same.
    reduces: Vec<u32>,
    reduced: Vec<Option<ReduceOutput>>,
    waiting_maps: Vec<u32>,
    waiting_reduces: Vec<u32>,
    running: u32,
    next_attempt: u64,
    error: Option<TaskError>,
}

enum Work {
    Map(u32, u64),
    Reduce(u32, u64, Vec<PathBuf>),
}

struct Runner<'a> {
    job: &'a LocalJob<'a>,
    progress: &'a Progress,
    state: Mutex<State>,
    changed: Condvar,
}

/// Reports to the job's progress; stops when the job is stopped.
struct JobMonitor<'a> {
    progress: &'a Progress,
    counts_input: bool,
}

impl Monitor for JobMonitor<'_> {
    fn advanced(&self, amount: u64) {
        if self.counts_input {
            self.progress.input_bytes.fetch_add(amount, Relaxed);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.progress.cancelled.load(Relaxed)
    }
}

/// Runs a job and returns when its output is in place.
///
/// # Errors
/// The error of a task that failed too often. Output that is in place by then stays.
pub fn run(job: &LocalJob<'_>, progress: &Progress) -> Result<Summary, TaskError> {
    let maps = job.maps.len();
    let reduces = job.reduces.max(1);
    let runner = Runner {
        job,
        progress,
        state: Mutex::new(State {
            maps: vec![0; maps],
            outputs: (0..maps).map(|_| None).collect(),
            reduces: vec![0; reduces as usize],
            reduced: (0..reduces).map(|_| None).collect(),
            // Taken from the end.
            waiting_maps: (0..maps as u32).rev().collect(),
            waiting_reduces: (0..reduces).rev().collect(),
            running: 0,
            next_attempt: 1,
            error: None,
        }),
        changed: Condvar::new(),
    };
    // A thread without a task is a thread for nothing.
    let useful = maps.max(reduces as usize).max(1);
    let workers = (job.workers.max(1) as usize).min(useful);
    thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(|| runner.work());
        }
        runner.work();
    });
    runner.summary()
}

impl Runner<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes tasks until there are none.
    fn work(&self) {
        while let Some(work) = self.next() {
            match work {
                Work::Map(number, attempt) => {
                    let done = self.map(number, attempt);
                    self.mapped(number, done);
                }
                Work::Reduce(number, attempt, paths) => {
                    let done = self.reduce(number, attempt, paths);
                    self.reduced(number, done);
                }
            }
        }
        self.changed.notify_all();
    }

    /// The next task to run; waits if others must end before. Nothing when all is done.
    fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if state.error.is_some() {
                return None;
            }
            if let Some(number) = state.waiting_maps.pop() {
                let attempt = begin(&mut state, number, true);
                return Some(Work::Map(number, attempt));
            }
            if state.outputs.iter().all(Option::is_some)
                && let Some(number) = state.waiting_reduces.pop()
            {
                let attempt = begin(&mut state, number, false);
                let files = state.outputs.iter().flatten().map(|output| output.file.clone());
                return Some(Work::Reduce(number, attempt, files.collect()));
            }
            if state.running == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn attempt(&self, attempt: u64) -> Attempt {
        Attempt {
            job: 0,
            attempt,
            reduces: self.job.reduces.max(1),
            memory_bytes: self.job.memory_bytes,
            folder: self.job.work.to_owned(),
            skip: Vec::new(),
        }
    }

    fn map(&self, number: u32, attempt: u64) -> Result<MapOutput, TaskError> {
        let monitor = JobMonitor { progress: self.progress, counts_input: true };
        let Some(task) = self.job.maps.get(number as usize) else {
            return Err(TaskError::Cancelled);
        };
        self.job.program.map(task, &self.attempt(attempt), &monitor)
    }

    fn reduce(
        &self,
        number: u32,
        attempt: u64,
        paths: Vec<PathBuf>,
    ) -> Result<ReduceOutput, TaskError> {
        let monitor = JobMonitor { progress: self.progress, counts_input: false };
        let task = ReduceTask { number, maps: paths.len() as u32 };
        let fetch = LocalFetch::new(paths);
        let output = self.job.program.reduce(task, &fetch, &self.attempt(attempt), &monitor)?;
        let failed = |source: io::Error| TaskError::Files {
            action: "rename",
            path: output.file.clone(),
            source,
        };
        commit(&output.file, self.job.output, number).map_err(failed)?;
        Ok(output)
    }

    fn mapped(&self, number: u32, done: Result<MapOutput, TaskError>) {
        let mut state = self.lock();
        state.running -= 1;
        match done {
            Ok(output) => {
                if let Some(place) = state.outputs.get_mut(number as usize) {
                    *place = Some(output);
                }
                self.progress.maps_done.fetch_add(1, Relaxed);
            }
            Err(error) => {
                if self.again(&mut state, number, true, error) {
                    state.waiting_maps.push(number);
                }
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    fn reduced(&self, number: u32, done: Result<ReduceOutput, TaskError>) {
        let mut state = self.lock();
        state.running -= 1;
        match done {
            Ok(output) => {
                if let Some(place) = state.reduced.get_mut(number as usize) {
                    *place = Some(output);
                }
                self.progress.reduces_done.fetch_add(1, Relaxed);
            }
            Err(error) => {
                let lost = error.lost_map();
                if self.again(&mut state, number, false, error) {
                    state.waiting_reduces.push(number);
                    // Another reduce may have found the same map's output damaged before.
                    if let Some(map) = lost
                        && state.outputs.get_mut(map as usize).and_then(Option::take).is_some()
                    {
                        self.progress.maps_done.fetch_sub(1, Relaxed);
                        state.waiting_maps.push(map);
                    }
                }
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Whether a task that failed is tried again; if not, the job has failed.
    fn again(&self, state: &mut State, number: u32, is_map: bool, error: TaskError) -> bool {
        let tasks = if is_map { &state.maps } else { &state.reduces };
        let begun = tasks.get(number as usize).copied().unwrap_or(ATTEMPTS_MAX);
        let again = begun < ATTEMPTS_MAX && is_worth_trying(&error) && state.error.is_none();
        if !again {
            self.progress.cancelled.store(true, Relaxed);
            state.error.get_or_insert(error);
        }
        again
    }

    fn summary(self) -> Result<Summary, TaskError> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = state.error {
            return Err(error);
        }
        let attempts = |tasks: &[u32]| tasks.iter().copied().map(u64::from).sum();
        let mut summary = Summary {
            map_attempts: attempts(&state.maps),
            reduce_attempts: attempts(&state.reduces),
            ..Summary::default()
        };
        for output in state.outputs.into_iter().flatten() {
            summary.map.add(&output.figures);
            summary.counters.add_all(&output.counters);
            summary.map_files.push(output.file);
        }
        for output in state.reduced.into_iter().flatten() {
            summary.reduce.add(&output.figures);
            summary.counters.add_all(&output.counters);
        }
        Ok(summary)
    }
}

/// What fails the same way every time need not be tried again.
fn is_worth_trying(error: &TaskError) -> bool {
    !matches!(
        error,
        TaskError::RecordTooLarge { .. }
            | TaskError::PairTooLarge { .. }
            | TaskError::Memory { .. }
            | TaskError::Cancelled
    )
}

/// Counts an attempt; its number.
fn begin(state: &mut State, number: u32, is_map: bool) -> u64 {
    let tasks = if is_map { &mut state.maps } else { &mut state.reduces };
    if let Some(begun) = tasks.get_mut(number as usize) {
        *begun += 1;
    }
    state.running += 1;
    state.next_attempt += 1;
    state.next_attempt
}

/// Removes a work folder with what is in it.
///
/// # Errors
/// When it cannot be removed.
pub fn clear(work: &Path) -> io::Result<()> {
    match fs::remove_dir_all(work) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
