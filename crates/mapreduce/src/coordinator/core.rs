//! The one thread that owns the scheduler: it takes what has been asked, makes durable what must be,
//! and answers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use kontiki_schedule::{
    Assignment, AttemptRef, JobId, Life, Output, Scheduler, Verdict, WorkerId, persist,
};
use kontiki_storage::disk::{RealDisk, replace_file};
use kontiki_types::Instant;
use tokio::sync::oneshot;

use crate::journal::{AnyJournal, JournalError};
use crate::status;

/// Calls that wait for the thread. One more is refused, and its caller tries again.
const QUEUE: usize = 16 << 10;
/// Calls taken in before what they bring about is made durable.
const BATCH: usize = 1024;

type Call = Box<dyn FnOnce(&mut Core, Instant) + Send>;

/// What the thread owns.
pub(super) struct Core {
    pub(super) scheduler: Scheduler,
    journal: AnyJournal,
    history: Option<PathBuf>,
    pulls: BTreeMap<WorkerId, (Life, u64, oneshot::Sender<Vec<Assignment>>)>,
    verdicts: BTreeMap<(WorkerId, AttemptRef), Vec<oneshot::Sender<Verdict>>>,
    submits: BTreeMap<JobId, Vec<oneshot::Sender<JobId>>>,
    waits: BTreeMap<JobId, Vec<oneshot::Sender<()>>>,
    stopped: bool,
}

/// A handle to the thread.
#[derive(Clone)]
pub(super) struct CoreHandle(SyncSender<Call>);

/// The thread has ended, or has too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    Busy,
    Ended,
}

impl CoreHandle {
    /// Has the thread do something and waits for what it gives.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Core, Instant) -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (sender, answer) = oneshot::channel();
        self.send(move |core, now| {
            // Whoever asked may have gone.
            let _ = sender.send(call(core, now));
        })?;
        answer.await.map_err(|_| NoAnswer::Ended)
    }

    /// Has the thread do something.
    pub(super) fn send(
        &self,
        call: impl FnOnce(&mut Core, Instant) + Send + 'static,
    ) -> Result<(), NoAnswer> {
        self.0.try_send(Box::new(call)).map_err(|error| match error {
            TrySendError::Full(_) => NoAnswer::Busy,
            TrySendError::Disconnected(_) => NoAnswer::Ended,
        })
    }
}

/// Starts the thread. It ends when it is stopped or all handles are gone, or with an error of the journal, which
/// comes out of the receiver.
pub(super) fn start(
    scheduler: Scheduler,
    journal: AnyJournal,
    history: Option<PathBuf>,
) -> std::io::Result<(CoreHandle, oneshot::Receiver<JournalError>)> {
    let (sender, calls) = sync_channel(QUEUE);
    let (failed, failure) = oneshot::channel();
    let core = Core {
        scheduler,
        journal,
        history,
        pulls: BTreeMap::new(),
        verdicts: BTreeMap::new(),
        submits: BTreeMap::new(),
        waits: BTreeMap::new(),
        stopped: false,
    };
    std::thread::Builder::new().name("coordinator".into()).spawn(move || {
        if let Err(error) = core.run(&calls) {
            let _ = failed.send(error);
        }
    })?;
    Ok((CoreHandle(sender), failure))
}

/// The monotonic clock, the one that runs through a suspend: a lease must not outlive a nap.
pub(crate) fn now() -> Instant {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanos) = (time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned());
    Instant(seconds * 1_000_000 + nanos / 1_000)
}

impl Core {
    fn run(mut self, calls: &Receiver<Call>) -> Result<(), JournalError> {
        loop {
            self.carry_out(now())?;
            self.journal.shorten(|| self.scheduler.checkpoint())?;
            if self.stopped {
                self.journal.release();
                return Ok(());
            }
            let wait = self.scheduler.next_deadline().since(now());
            let wait = wait.min(self.journal.confirm_within().unwrap_or(wait));
            match calls.recv_timeout(wait.max(Duration::from_micros(100))) {
                Ok(call) => self.take(call)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            for call in calls.try_iter().take(BATCH) {
                self.take(call)?;
            }
            self.journal.confirm(now())?;
            self.scheduler.tick(now());
        }
    }

    /// A call answers: only a coordinator that still has its journal may.
    fn take(&mut self, call: Call) -> Result<(), JournalError> {
        self.journal.confirm(now())?;
        call(self, now());
        Ok(())
    }

    fn carry_out(&mut self, at: Instant) -> Result<(), JournalError> {
        while let Some(output) = self.scheduler.poll(at) {
            // A write before may have taken its time.
            self.journal.confirm(now())?;
            match output {
                Output::Write(batch) => {
                    let receipt = persist(&mut self.journal, batch)?;
                    self.scheduler.persisted(receipt);
                }
                Output::Submitted { job } => {
                    for waiting in self.submits.remove(&job).unwrap_or_default() {
                        let _ = waiting.send(job);
                    }
                }
                Output::Assign { worker, pull, assignments } => {
                    // If nobody waits any more the worker gets them with its next pull.
                    if self.pulls.get(&worker).is_some_and(|(_, latest, _)| *latest == pull)
                        && let Some((_, _, waiting)) = self.pulls.remove(&worker)
                    {
                        let _ = waiting.send(assignments);
                    }
                }
                Output::Verdict { worker, attempt, verdict } => {
                    for waiting in self.verdicts.remove(&(worker, attempt)).unwrap_or_default() {
                        let _ = waiting.send(verdict);
                    }
                }
                // The answers to heartbeats say the same.
                Output::Cancel { .. } => {}
                Output::Ended { job, .. } => {
                    self.keep_history(job, at);
                    for waiting in self.waits.remove(&job).unwrap_or_default() {
                        let _ = waiting.send(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Leaves what is to be known of an ended job in a file.
    fn keep_history(&self, job: JobId, now: Instant) {
        let Some((folder, status)) = self.history.as_ref().zip(self.scheduler.job(job, now)) else {
            return;
        };
        let name = format!("{job}.json");
        if folder.join(&name).exists() {
            // From before a restart, when more was known.
            return;
        }
        let text = status::job(&status).to_string();
        if let Err(error) = replace_file(&RealDisk, folder, &name, text.as_bytes()) {
            tracing::warn!(%error, %job, "the history of the job cannot be written");
        }
    }

    /// Ends the thread. Whoever waits gets no answer.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// The answer to `pull` is to go to `waiting`.
    pub(super) fn await_work(
        &mut self,
        worker: WorkerId,
        life: Life,
        pull: u64,
        waiting: oneshot::Sender<Vec<Assignment>>,
    ) {
        self.pulls.insert(worker, (life, pull, waiting));
    }

    /// Nobody waits for the answer to `pull` any more. One of an earlier life may have the number of
    /// one that waits.
    pub(super) fn withdraw(&mut self, worker: WorkerId, life: Life, pull: u64) {
        let latest = self.pulls.get(&worker);
        if latest.is_some_and(|(of, latest, _)| (*of, *latest) == (life, pull)) {
            self.pulls.remove(&worker);
            self.scheduler.withdraw(worker, pull);
        }
    }

    pub(super) fn await_verdict(
        &mut self,
        worker: WorkerId,
        attempt: AttemptRef,
        waiting: oneshot::Sender<Verdict>,
    ) {
        let all = self.verdicts.entry((worker, attempt)).or_default();
        all.retain(|earlier| !earlier.is_closed());
        all.push(waiting);
    }

    pub(super) fn await_submitted(&mut self, job: JobId, waiting: oneshot::Sender<JobId>) {
        self.submits.entry(job).or_default().push(waiting);
    }

    pub(super) fn await_end(&mut self, job: JobId, waiting: oneshot::Sender<()>) {
        let all = self.waits.entry(job).or_default();
        all.retain(|earlier| !earlier.is_closed());
        all.push(waiting);
    }
}
