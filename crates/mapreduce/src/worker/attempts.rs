//! One attempt, from its assignment to its verdict.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use kontiki_schedule::{
    Assignment, AttemptRef, Cause, Counters, Failure, Phase, Report, Verdict, Work,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::books::Watch;
use super::fetch::{Outputs, Places};
use super::{JobOfWorker, Shared};
use crate::coordinator::now;
use crate::error::TaskError;
use crate::shuffle::ShuffleError;
use crate::task::{self, Attempt, MapFigures, MapOutput, Monitor, ReduceFigures, ReduceTask};

/// The group of our own counters.
const GROUP: &str = "kontiki";
/// Between two tries to get an answer.
const RETRY: Duration = Duration::from_millis(100);

/// Runs an attempt to its end.
pub(super) async fn run(shared: Arc<Shared>, assignment: Assignment, watch: Arc<Watch>) {
    let of = assignment.attempt;
    let ended = attempt(&shared, &assignment, &watch).await;
    match ended {
        Ok(()) => {}
        // Nobody waits for it.
        Err(TaskError::Cancelled) => shared.drop_output(&of),
        Err(error) => {
            let places = shared.places(of.job);
            let report = Report::Failed(failure(&error, &places));
            tracing::warn!(attempt = %of.attempt, task = %of.task, error = %chain(&error), "failed");
            verdict(&shared, of, &report, &watch).await;
        }
    }
    shared.books.end(&of);
    shared.slot_freed.notify_one();
}

async fn attempt(
    shared: &Arc<Shared>,
    assignment: &Assignment,
    watch: &Arc<Watch>,
) -> Result<(), TaskError> {
    let of = assignment.attempt;
    let job = shared.job(of.job).await?;
    match (of.task.phase, &assignment.work) {
        (Phase::Map, Work::Run) => map(shared, &job, assignment, watch).await,
        (Phase::Map, Work::Probe(records)) => {
            probe(shared, &job, assignment, records.clone(), watch).await
        }
        (Phase::Reduce, _) => reduce(shared, &job, assignment, watch).await,
    }
}

fn attempt_of(
    shared: &Shared,
    job: &JobOfWorker,
    assignment: &Assignment,
    folder: &Path,
) -> Attempt {
    Attempt {
        job: assignment.attempt.job.0,
        attempt: assignment.attempt.attempt.0,
        reduces: job.description.reduces,
        memory_bytes: shared.memory_bytes,
        folder: folder.to_path_buf(),
        skip: assignment.skip.clone(),
    }
}

async fn probe(
    shared: &Arc<Shared>,
    job: &Arc<JobOfWorker>,
    assignment: &Assignment,
    records: Range<u64>,
    watch: &Arc<Watch>,
) -> Result<(), TaskError> {
    let of = assignment.attempt;
    let folder = shared.folder.job(of.job);
    let attempt = attempt_of(shared, job, assignment, &folder);
    let (watched, job) = (Arc::clone(watch), Arc::clone(job));
    let probed = on_thread(of, move || {
        let failed = |source| TaskError::files("make", &folder, source);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let task = job.description.maps.get(of.task.number as usize);
        let task = task.ok_or(TaskError::Cancelled)?;
        job.program.probe(task, records, &attempt, &*watched)
    });
    probed.await?;
    verdict(shared, of, &Report::ProbePassed, watch).await;
    Ok(())
}

async fn map(
    shared: &Arc<Shared>,
    job: &Arc<JobOfWorker>,
    assignment: &Assignment,
    watch: &Arc<Watch>,
) -> Result<(), TaskError> {
    let of = assignment.attempt;
    if job.description.reduces == 0 {
        return map_to_output(shared, job, assignment, watch).await;
    }
    let (output, counters) =
        run_map(shared, job, assignment, watch, shared.folder.job(of.job)).await?;
    let (worker, finished) = (Arc::clone(shared), counters.clone());
    let marked = blocking(move || worker.folder.finish(&of, &finished)).await;
    marked.map_err(|source| TaskError::files("write", &output.file, source))?;
    shared.books.hold(of, counters.clone());
    match verdict(shared, of, &Report::MapDone(counters), watch).await {
        Some(Verdict::Accepted) => {
            if let Some(skipped) = output.skipped {
                show_skipped(job, skipped, of.task.number).await;
            }
            Ok(())
        }
        _ => Err(TaskError::Cancelled),
    }
}

/// Of a job without reduces: the map's output is put in place like that of a reduce.
async fn map_to_output(
    shared: &Arc<Shared>,
    job: &Arc<JobOfWorker>,
    assignment: &Assignment,
    watch: &Arc<Watch>,
) -> Result<(), TaskError> {
    let of = assignment.attempt;
    let folder = folder_for_outputs(shared, job, &of);
    let (output, counters) = run_map(shared, job, assignment, watch, folder).await?;
    place(shared, job, of, &output.file, counters, watch).await?;
    if let Some(skipped) = output.skipped {
        show_skipped(job, skipped, of.task.number).await;
    }
    Ok(())
}

/// Maps, with the attempt's files in `folder`; what comes of it, and its counters with ours.
async fn run_map(
    shared: &Arc<Shared>,
    job: &Arc<JobOfWorker>,
    assignment: &Assignment,
    watch: &Arc<Watch>,
    folder: PathBuf,
) -> Result<(MapOutput, Counters), TaskError> {
    let of = assignment.attempt;
    let attempt = attempt_of(shared, job, assignment, &folder);
    let (watched, running) = (Arc::clone(watch), Arc::clone(job));
    let output = on_thread(of, move || {
        let failed = |source| TaskError::files("make", &folder, source);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let task = running.description.maps.get(of.task.number as usize);
        let task = task.ok_or(TaskError::Cancelled)?;
        watched.expect(task.bytes());
        running.program.map(task, &attempt, &*watched)
    });
    let output = output.await?;
    let counters = counted(&output.counters, &map_figures(&output.figures));
    Ok((output, counters))
}

/// Copies the records that were left out to where the output is.
async fn show_skipped(job: &Arc<JobOfWorker>, file: PathBuf, map: u32) {
    let job = Arc::clone(job);
    let shown = tokio::task::spawn_blocking(move || {
        job.description.destination()?.add(&file, &format!("skipped-{map}"))
    });
    if let Ok(Err(error)) = shown.await {
        tracing::warn!(%error, map, "skipped records cannot be shown");
    }
}

/// Where a job's outputs are made before they are put in their place.
fn folder_for_outputs(shared: &Shared, job: &JobOfWorker, of: &AttemptRef) -> PathBuf {
    match job.description.work() {
        Some(work) => work.join(shared.books.worker.to_string()),
        None => shared.folder.job(of.job),
    }
}

async fn reduce(
    shared: &Arc<Shared>,
    job: &Arc<JobOfWorker>,
    assignment: &Assignment,
    watch: &Arc<Watch>,
) -> Result<(), TaskError> {
    let of = assignment.attempt;
    let places = shared.learn_places(of.job, assignment.outputs, watch).await?;
    let maps = job.description.maps.len() as u32;
    let task = ReduceTask { number: of.task.number, maps };
    let folder = folder_for_outputs(shared, job, &of);
    let attempt = attempt_of(shared, job, assignment, &folder);
    let fetch = Outputs::new(Arc::clone(shared), of.job, maps, places, Handle::current());
    let (watched, running) = (Arc::clone(watch), Arc::clone(job));
    let output = on_thread(of, move || {
        let failed = |source| TaskError::files("make", &folder, source);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        running.program.reduce(task, &fetch, &attempt, &*watched)
    });
    let output = output.await?;
    let counters = counted(&output.counters, &reduce_figures(&output.figures));
    place(shared, job, of, &output.file, counters, watch).await
}

/// Puts an output in its place, or removes it.
async fn place(
    shared: &Arc<Shared>,
    job: &Arc<JobOfWorker>,
    of: AttemptRef,
    file: &Path,
    counters: Counters,
    watch: &Watch,
) -> Result<(), TaskError> {
    let placed = place_granted(shared, job, of, file, counters, watch).await;
    if placed.is_err() {
        let file = file.to_path_buf();
        // Without its final name it is nothing.
        let _ = blocking(move || std::fs::remove_file(file)).await;
    }
    placed
}

/// Asks for the grant, puts the output in its place, and says so.
async fn place_granted(
    shared: &Arc<Shared>,
    job: &Arc<JobOfWorker>,
    of: AttemptRef,
    output: &Path,
    counters: Counters,
    watch: &Watch,
) -> Result<(), TaskError> {
    let failed =
        |source| TaskError::Files { action: "put in place", path: output.to_path_buf(), source };
    let (preparing, file) = (Arc::clone(job), output.to_path_buf());
    let prepared =
        blocking(move || preparing.description.destination()?.prepare(&file, of.task.number));
    let mut prepared = prepared.await.map_err(failed)?;
    loop {
        let registration = shared.registrations.load(SeqCst);
        match verdict(shared, of, &Report::Ready, watch).await {
            Some(Verdict::Granted) => {}
            _ => return Err(TaskError::Cancelled),
        }
        let lease_until = shared.books.lease_until();
        // A grant ends with a lease that was over, though the worker may have registered since: it
        // may have slept with the verdict on its way.
        if shared.registrations.load(SeqCst) != registration {
            continue;
        }
        let placed = blocking(move || {
            // Looked at at the last moment: a grant is good for as long as the lease.
            if now() < lease_until { prepared.commit() } else { Ok(Some(prepared)) }
        });
        match placed.await.map_err(failed)? {
            None => break,
            Some(waiting) => prepared = waiting,
        }
        sleep(RETRY).await;
    }
    // Superseded: another attempt was granted since, and replaces the output by its own.
    verdict(shared, of, &Report::Committed(counters), watch).await;
    Ok(())
}

/// Reports until there is a verdict, or nobody waits for one any more.
async fn verdict(
    shared: &Arc<Shared>,
    of: AttemptRef,
    report: &Report,
    watch: &Watch,
) -> Option<Verdict> {
    loop {
        match shared.report(of, report).await {
            Some(Verdict::Unknown) => shared.register_again().await,
            Some(verdict) => return Some(verdict),
            None => sleep(RETRY).await,
        }
        if watch.is_cancelled() || shared.is_stopping() {
            return None;
        }
    }
}

/// Runs what waits for disks or stores.
async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(run).await.map_err(std::io::Error::other)?
}

/// Runs what blocks, and what the user wrote, on a thread of its own.
async fn on_thread<T: Send + 'static>(
    of: AttemptRef,
    run: impl FnOnce() -> Result<T, TaskError> + Send + 'static,
) -> Result<T, TaskError> {
    let (sender, done) = oneshot::channel();
    let thread = std::thread::Builder::new().name(of.task.to_string()).spawn(move || {
        let _ = sender.send(run());
    });
    thread.map_err(|error| TaskError::user(format!("no thread for the attempt: {error}")))?;
    done.await.map_err(|_| TaskError::user("the attempt's thread ended by a panic"))?
}

fn failure(error: &TaskError, places: &Places) -> Failure {
    let cause = match error {
        TaskError::Shuffle(shuffle) => Cause::Fetch {
            map: shuffle.map(),
            from: places.attempt(shuffle.map()),
            corrupt: matches!(shuffle, ShuffleError::Damaged { .. }),
        },
        TaskError::Files { .. } | TaskError::Unfit(_) => Cause::Worker,
        TaskError::User { suspects, .. } => Cause::User { suspects: suspects.clone() },
        _ => Cause::User { suspects: None },
    };
    Failure { error: chain(error), cause }
}

/// An error with its causes.
fn chain(error: &TaskError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn counted(user: &task::Counters, figures: &[(&str, u64)]) -> Counters {
    let mut counters = Counters::new();
    for (name, figure) in figures {
        counters.add(GROUP, name, i64::try_from(*figure).unwrap_or(i64::MAX));
    }
    for (group, name, sum) in user.iter() {
        counters.add(group, name, sum);
    }
    counters
}

fn map_figures(figures: &MapFigures) -> [(&'static str, u64); 11] {
    [
        ("map_input_bytes", figures.input_bytes),
        ("map_input_records", figures.input_records),
        ("map_emitted", figures.emitted),
        ("map_emitted_bytes", figures.emitted_bytes),
        ("map_records", figures.records),
        ("map_spills", figures.spills),
        ("map_spilled_bytes", figures.spilled_bytes),
        ("map_decoded_bytes", figures.decoded_bytes),
        ("map_stored_bytes", figures.stored_bytes),
        ("map_output_records", figures.output_records),
        ("map_output_bytes", figures.output_bytes),
    ]
}

fn reduce_figures(figures: &ReduceFigures) -> [(&'static str, u64); 7] {
    [
        ("reduce_runs", figures.runs),
        ("reduce_fetched_bytes", figures.fetched_bytes),
        ("reduce_records", figures.records),
        ("reduce_keys", figures.keys),
        ("reduce_spilled_bytes", figures.spilled_bytes),
        ("reduce_output_records", figures.output_records),
        ("reduce_output_bytes", figures.output_bytes),
    ]
}
