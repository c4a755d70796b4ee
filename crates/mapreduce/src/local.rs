//! A whole job in one process: the scheduler of the cluster, with threads as its workers.
//!
//! Each thread is a worker with one slot. The threads share the scheduler under one lock, which is
//! never held while user code runs. Nobody dies here, so that leases never end and nobody beats;
//! everything else is as in the cluster: tries, commits by grant, maps that run again when their
//! output is damaged, the search for bad records.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{self, Duration};

use kontiki_schedule::{
    Assignment, AttemptId, AttemptRef, Cause, Config, Counts, Failure, JobId, JobSpec, Life,
    NoJournal, Outcome, Output, Phase, Registration, Report, Scheduler, Sign, Verdict, Work,
    WorkerId, persist,
};
use kontiki_types::Instant;

use crate::destination::Destination;
use crate::error::TaskError;
use crate::input::MapTask;
use crate::shuffle::{LocalFetch, ShuffleError};
use crate::task::{
    Attempt, Counters, MapFigures, MapOutput, Monitor, Program, ReduceFigures, ReduceOutput,
    ReduceTask,
};

/// What to run, and where.
pub struct LocalJob<'a> {
    /// The program.
    pub program: &'a dyn Program,
    /// The map tasks.
    pub maps: &'a [MapTask],
    /// Number of reduces. 0: the output is that of the maps.
    pub reduces: u32,
    /// Number of threads, at least 1.
    pub workers: u32,
    /// Memory of each thread.
    pub memory_bytes: u64,
    /// Records on which user code fails again and again are left out.
    pub skip_bad_records: bool,
    /// Where the output goes: a folder that exists, or the URL of a prefix in a store.
    pub output: &'a Path,
    /// Where map output and other temporary files go. The folder exists, on the file system of
    /// `output` if that is a folder.
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
    /// What happened to the attempts of maps.
    pub map_counts: Counts,
    /// What happened to the attempts of reduces.
    pub reduce_counts: Counts,
    /// What user code counted.
    pub counters: Counters,
    /// Files with the records that were skipped.
    pub skipped: Vec<PathBuf>,
}

/// Why a job has no output.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A task failed too often, or cannot succeed; the text names it.
    #[error("{0}")]
    Failed(String),
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// A task fails the job when it failed so often.
const FAILURES_MAX: u32 = 4;

/// Failures of this machine, such as a full disk, that a task survives.
const LOSSES_MAX: u32 = 4;

/// The only life of each worker.
const LIFE: Life = Life(1);

/// What the threads share.
struct Brain {
    scheduler: Scheduler,
    job: JobId,
    assigned: BTreeMap<WorkerId, Assignment>,
    verdicts: BTreeMap<AttemptId, Verdict>,
    /// Set when nobody waits for the attempt any more.
    stops: BTreeMap<AttemptId, Arc<AtomicBool>>,
    /// Map output by attempt.
    outputs: BTreeMap<AttemptId, MapOutput>,
    /// The attempt that was accepted last, for each map.
    accepted: BTreeMap<u32, AttemptId>,
    reduced: BTreeMap<u32, ReduceOutput>,
    ended: Option<Outcome>,
}

struct Runner<'a> {
    job: &'a LocalJob<'a>,
    destination: Destination,
    progress: &'a Progress,
    brain: Mutex<Brain>,
    changed: Condvar,
    start: time::Instant,
}

/// Reports to the job's progress; stops when the job or the attempt is stopped.
struct JobMonitor<'a> {
    progress: &'a Progress,
    stop: Arc<AtomicBool>,
    counts_input: bool,
}

impl Monitor for JobMonitor<'_> {
    fn advanced(&self, amount: u64) {
        if self.counts_input {
            self.progress.input_bytes.fetch_add(amount, Relaxed);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.stop.load(Relaxed) || self.progress.cancelled.load(Relaxed)
    }
}

/// Runs a job and returns when its output is in place.
///
/// # Errors
/// [`JobError`]. Outputs that are in place by then stay.
pub fn run(job: &LocalJob<'_>, progress: &Progress) -> Result<Summary, JobError> {
    let config = Config {
        // Threads do not die by themselves, and all are equally fast.
        lease: Duration::from_secs(1 << 32),
        backup_percent: 0,
        losses_max: LOSSES_MAX,
        ..Config::default()
    };
    let mut scheduler = Scheduler::new(config, 0, Instant(0));
    let maps = u32::try_from(job.maps.len()).unwrap_or(u32::MAX);
    let mut spec = JobSpec::new("local", maps, job.reduces);
    spec.failures_max = FAILURES_MAX;
    spec.skip_bad_records = job.skip_bad_records;
    let id =
        scheduler.submit(spec, Instant(0)).map_err(|error| JobError::Failed(error.to_string()))?;
    let destination = Destination::of(job.output).map_err(|error| {
        JobError::Failed(format!("the output {}: {error}", job.output.display()))
    })?;
    let runner = Runner {
        job,
        destination,
        progress,
        brain: Mutex::new(Brain {
            scheduler,
            job: id,
            assigned: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            stops: BTreeMap::new(),
            outputs: BTreeMap::new(),
            accepted: BTreeMap::new(),
            reduced: BTreeMap::new(),
            ended: None,
        }),
        changed: Condvar::new(),
        start: time::Instant::now(),
    };
    // A thread without a task is a thread for nothing.
    let useful = maps.max(job.reduces).max(1);
    let workers = u64::from(job.workers.clamp(1, useful));
    thread::scope(|scope| {
        let runner = &runner;
        for worker in 2..=workers {
            scope.spawn(move || runner.work(WorkerId(worker)));
        }
        runner.work(WorkerId(1));
    });
    runner.summary()
}

impl Runner<'_> {
    fn lock(&self) -> MutexGuard<'_, Brain> {
        self.brain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Carries out what the scheduler has decided.
    fn carry_out(&self, brain: &mut Brain) {
        if self.progress.cancelled.load(Relaxed) && brain.ended.is_none() {
            brain.scheduler.cancel(brain.job, self.now());
        }
        while let Some(output) = brain.scheduler.poll(self.now()) {
            match output {
                Output::Write(batch) => {
                    let Ok(receipt) = persist(&mut NoJournal, batch);
                    brain.scheduler.persisted(receipt);
                }
                Output::Assign { worker, mut assignments, .. } => {
                    // One slot, one assignment.
                    if let Some(assignment) = assignments.pop() {
                        brain.assigned.insert(worker, assignment);
                    }
                }
                Output::Verdict { attempt, verdict, .. } => {
                    brain.verdicts.insert(attempt.attempt, verdict);
                }
                Output::Cancel { attempt, .. } => {
                    if let Some(stop) = brain.stops.get(&attempt.attempt) {
                        stop.store(true, Relaxed);
                    }
                }
                Output::Submitted { .. } => {}
                Output::Ended { outcome, .. } => {
                    brain.ended = Some(outcome);
                    brain.stops.values().for_each(|stop| stop.store(true, Relaxed));
                }
            }
        }
        self.changed.notify_all();
    }

    /// Runs attempts until the job has ended.
    fn work(&self, worker: WorkerId) {
        let mut sequence = 0;
        let mut sign = || {
            sequence += 1;
            Sign { worker, life: LIFE, sequence, running: Vec::new() }
        };
        let registration =
            Registration { sign: sign(), address: String::new(), slots: 1, held: Vec::new() };
        // Known from here on: nothing takes a worker away.
        let _ = self.lock().scheduler.register(registration, self.now());
        while let Some((assignment, stop)) = self.pull(&sign()) {
            let of = assignment.attempt;
            match assignment.work {
                Work::Probe(ref records) => {
                    self.probe(worker, &assignment, records.clone(), stop);
                }
                Work::Run if of.task.phase == Phase::Map => self.map(worker, &assignment, stop),
                Work::Run => self.reduce(worker, &assignment, stop),
            }
        }
    }

    /// Waits for an attempt to run; nothing when the job has ended.
    fn pull(&self, sign: &Sign) -> Option<(Assignment, Arc<AtomicBool>)> {
        let mut brain = self.lock();
        brain.scheduler.pull(sign, 1, self.now()).ok()?;
        self.carry_out(&mut brain);
        loop {
            if brain.ended.is_some() {
                return None;
            }
            if let Some(assignment) = brain.assigned.remove(&sign.worker) {
                let stop = Arc::new(AtomicBool::new(false));
                brain.stops.insert(assignment.attempt.attempt, Arc::clone(&stop));
                return Some((assignment, stop));
            }
            brain = self.changed.wait(brain).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says how an attempt went, and waits for what becomes of it.
    fn report(&self, worker: WorkerId, of: AttemptRef, report: Report) -> Verdict {
        let mut brain = self.lock();
        brain.verdicts.remove(&of.attempt);
        brain.scheduler.report(worker, LIFE, of, report, self.now());
        self.carry_out(&mut brain);
        loop {
            if let Some(verdict) = brain.verdicts.remove(&of.attempt) {
                return verdict;
            }
            if brain.ended.is_some() {
                return Verdict::Superseded;
            }
            brain = self.changed.wait(brain).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn failed(&self, worker: WorkerId, of: AttemptRef, error: &TaskError, cause: Cause) {
        let failure = Failure { error: chain(error), cause };
        self.report(worker, of, Report::Failed(failure));
    }

    fn attempt(&self, assignment: &Assignment) -> Attempt {
        Attempt {
            job: self.lock().job.0,
            attempt: assignment.attempt.attempt.0,
            reduces: self.job.reduces,
            memory_bytes: self.job.memory_bytes,
            folder: self.job.work.to_owned(),
            skip: assignment.skip.clone(),
        }
    }

    fn monitor(&self, stop: Arc<AtomicBool>, counts_input: bool) -> JobMonitor<'_> {
        JobMonitor { progress: self.progress, stop, counts_input }
    }

    fn map(&self, worker: WorkerId, assignment: &Assignment, stop: Arc<AtomicBool>) {
        let of = assignment.attempt;
        let Some(task) = self.job.maps.get(of.task.number as usize) else { return };
        let monitor = self.monitor(stop, true);
        match self.job.program.map(task, &self.attempt(assignment), &monitor) {
            Ok(output) if self.job.reduces == 0 => {
                let file = output.file.clone();
                if self.put_in_place(worker, of, &file, |brain| {
                    brain.outputs.insert(of.attempt, output);
                    brain.accepted.insert(of.task.number, of.attempt);
                }) {
                    self.progress.maps_done.fetch_add(1, Relaxed);
                }
            }
            Ok(output) => {
                let file = output.file.clone();
                self.lock().outputs.insert(of.attempt, output);
                match self.report(worker, of, Report::MapDone(Default::default())) {
                    Verdict::Accepted => {
                        let first = self.lock().accepted.insert(of.task.number, of.attempt);
                        // A map that ran again had been counted.
                        self.progress.maps_done.fetch_add(u64::from(first.is_none()), Relaxed);
                    }
                    _ => remove(&file),
                }
            }
            Err(error) => self.failed(worker, of, &error, cause(&error)),
        }
    }

    fn probe(
        &self,
        worker: WorkerId,
        assignment: &Assignment,
        records: std::ops::Range<u64>,
        stop: Arc<AtomicBool>,
    ) {
        let of = assignment.attempt;
        let Some(task) = self.job.maps.get(of.task.number as usize) else { return };
        let monitor = self.monitor(stop, false);
        match self.job.program.probe(task, records, &self.attempt(assignment), &monitor) {
            Ok(()) => {
                self.report(worker, of, Report::ProbePassed);
            }
            Err(error) => self.failed(worker, of, &error, cause(&error)),
        }
    }

    fn reduce(&self, worker: WorkerId, assignment: &Assignment, stop: Arc<AtomicBool>) {
        let of = assignment.attempt;
        let Some(attempts) = self.map_attempts() else { return };
        let paths = self.paths(&attempts);
        let task = ReduceTask { number: of.task.number, maps: paths.len() as u32 };
        let monitor = self.monitor(stop, false);
        let attempt = self.attempt(assignment);
        let fetch = LocalFetch::new(paths);
        let reduced = self.job.program.reduce(task, &fetch, &attempt, &monitor);
        drop(fetch);
        match reduced {
            Ok(output) => {
                let file = output.file.clone();
                if self.put_in_place(worker, of, &file, |brain| {
                    brain.reduced.insert(of.task.number, output);
                }) {
                    self.progress.reduces_done.fetch_add(1, Relaxed);
                }
            }
            Err(TaskError::Shuffle(error)) => {
                let map = error.map();
                let from = attempts.get(&map).copied().unwrap_or(of.attempt);
                let corrupt = matches!(error, ShuffleError::Damaged { .. });
                let cause = Cause::Fetch { map, from, corrupt };
                self.failed(worker, of, &TaskError::Shuffle(error), cause);
            }
            Err(error) => self.failed(worker, of, &error, cause(&error)),
        }
    }

    /// The attempt whose output counts, for each map.
    fn map_attempts(&self) -> Option<BTreeMap<u32, AttemptId>> {
        let brain = self.lock();
        let (outputs, _) = brain.scheduler.map_outputs(brain.job, 0)?;
        Some(outputs.into_iter().map(|output| (output.map, output.attempt)).collect())
    }

    fn paths(&self, attempts: &BTreeMap<u32, AttemptId>) -> Vec<PathBuf> {
        let brain = self.lock();
        let file = |map: u32| {
            let output = attempts.get(&map).and_then(|attempt| brain.outputs.get(attempt));
            // Without one, the reduce says that it is lost.
            output.map_or_else(PathBuf::new, |output| output.file.clone())
        };
        (0..self.job.maps.len() as u32).map(file).collect()
    }

    /// Gives an output its final name, if that is granted; `keep` remembers it. Returns whether it
    /// is the task's.
    fn put_in_place(
        &self,
        worker: WorkerId,
        of: AttemptRef,
        file: &Path,
        keep: impl FnOnce(&mut Brain),
    ) -> bool {
        let failed = |source| {
            remove(file);
            let error = TaskError::files("put in place", file, source);
            self.failed(worker, of, &error, Cause::Worker);
            false
        };
        let prepared = match self.destination.prepare(file, of.task.number) {
            Ok(prepared) => prepared,
            Err(error) => return failed(error),
        };
        if self.report(worker, of, Report::Ready) != Verdict::Granted {
            remove(file);
            return false;
        }
        if let Err(error) = prepared.put_in_place() {
            return failed(error);
        }
        keep(&mut self.lock());
        self.report(worker, of, Report::Committed(Default::default())) == Verdict::Accepted
    }

    fn summary(self) -> Result<Summary, JobError> {
        let brain = self.brain.into_inner().unwrap_or_else(PoisonError::into_inner);
        match brain.ended {
            Some(Outcome::Done) => {}
            Some(Outcome::Failed(message)) => return Err(JobError::Failed(message)),
            Some(Outcome::Cancelled) | None => return Err(JobError::Cancelled),
        }
        // Once for all outputs, each of which was synced before it got its name.
        self.destination.sync().map_err(|error| {
            JobError::Failed(format!("cannot sync {}: {error}", self.job.output.display()))
        })?;
        let mut summary = Summary::default();
        if let Some(status) = brain.scheduler.job(brain.job, Instant::MAX) {
            summary.map_counts = status.maps.counts;
            summary.reduce_counts = status.reduces.counts;
        }
        for output in brain.accepted.values().filter_map(|attempt| brain.outputs.get(attempt)) {
            summary.map.add(&output.figures);
            summary.counters.add_all(&output.counters);
            summary.skipped.extend(output.skipped.clone());
        }
        for output in brain.reduced.values() {
            summary.reduce.add(&output.figures);
            summary.counters.add_all(&output.counters);
        }
        Ok(summary)
    }
}

/// What the scheduler is to make of an error.
fn cause(error: &TaskError) -> Cause {
    match error {
        TaskError::Files { .. } | TaskError::Cancelled => Cause::Worker,
        TaskError::User { suspects, .. } => Cause::User { suspects: suspects.clone() },
        _ => Cause::User { suspects: None },
    }
}

/// An error with its causes.
fn chain(error: &TaskError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn remove(file: &Path) {
    // It goes with its folder if it stays.
    let _ = fs::remove_file(file);
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
