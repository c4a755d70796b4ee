//! What a worker runs and holds, and how it says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kontiki_schedule::{
    AttemptRef, Counters, Held, JobId, Life, Running, STATUS_BYTES_MAX, Sign, WorkerId, cut,
};
use kontiki_types::Instant;

use crate::task::Monitor;

/// Watches one attempt.
#[derive(Debug, Default)]
pub(super) struct Watch {
    progress: AtomicU64,
    cancelled: AtomicBool,
    /// The progress at which the attempt said how much there is to do, and how much that is; 0 if it has
    /// not.
    from: AtomicU64,
    total: AtomicU64,
    is_probe: bool,
    status: Mutex<String>,
}

impl Watch {
    pub(super) fn new(is_probe: bool) -> Self {
        Self { is_probe, ..Self::default() }
    }

    /// How far it is, in thousandths.
    fn permille(&self, progress: u64) -> u16 {
        let done = progress.saturating_sub(self.from.load(Relaxed)).saturating_mul(1000);
        let done = done.checked_div(self.total.load(Relaxed)).unwrap_or(0);
        done.min(1000) as u16
    }
}

impl Monitor for Watch {
    fn expect(&self, more: u64) {
        self.from.store(self.progress.load(Relaxed), Relaxed);
        self.total.store(more, Relaxed);
    }

    fn advanced(&self, amount: u64) {
        self.progress.fetch_add(amount, Relaxed);
    }

    fn said(&self, status: &str) {
        let mut known = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        known.clear();
        known.push_str(cut(status, STATUS_BYTES_MAX));
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }
}

/// See the module.
pub(super) struct Books {
    pub(super) worker: WorkerId,
    pub(super) life: Life,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    sequence: u64,
    running: BTreeMap<AttemptRef, Arc<Watch>>,
    held: BTreeMap<AttemptRef, Counters>,
    lease_until: Instant,
    heard_at: Instant,
}

impl Books {
    pub(super) fn new(worker: WorkerId, life: Life, held: BTreeMap<AttemptRef, Counters>) -> Self {
        Self { worker, life, inner: Mutex::new(Inner { held, ..Inner::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it runs at this moment, under the next number.
    pub(super) fn sign(&self) -> Sign {
        let mut inner = self.lock();
        inner.sequence += 1;
        let running = inner.running.iter().map(|(attempt, watch)| {
            let progress = watch.progress.load(Relaxed);
            Running {
                attempt: *attempt,
                progress,
                permille: watch.permille(progress),
                is_probe: watch.is_probe,
                status: watch.status.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            }
        });
        Sign {
            worker: self.worker,
            life: self.life,
            running: running.collect(),
            sequence: inner.sequence,
        }
    }

    /// The outputs that it holds whose attempts have had their verdict.
    pub(super) fn held(&self) -> Vec<Held> {
        let inner = self.lock();
        let settled = inner.held.iter().filter(|(of, _)| !inner.running.contains_key(of));
        settled.map(|(of, counters)| Held { attempt: *of, counters: counters.clone() }).collect()
    }

    pub(super) fn holds(&self, of: &AttemptRef) -> bool {
        self.lock().held.contains_key(of)
    }

    pub(super) fn hold(&self, of: AttemptRef, counters: Counters) {
        self.lock().held.insert(of, counters);
    }

    /// Forgets an output. Returns whether it was there.
    pub(super) fn drop_output(&self, of: &AttemptRef) -> bool {
        self.lock().held.remove(of).is_some()
    }

    /// Of these jobs, and of those of which outputs are held, the ones of which nothing runs.
    pub(super) fn idle_jobs(&self, known: impl IntoIterator<Item = JobId>) -> Vec<JobId> {
        let inner = self.lock();
        let runs = |job| inner.running.keys().any(|of| of.job == job);
        let mut jobs: BTreeSet<_> = inner.held.keys().map(|of| of.job).collect();
        jobs.extend(known);
        jobs.retain(|job| !runs(*job));
        jobs.into_iter().collect()
    }

    /// Forgets all outputs of a job.
    pub(super) fn drop_job(&self, job: JobId) {
        self.lock().held.retain(|of, _| of.job != job);
    }

    /// An attempt begins. `None` if it runs already.
    pub(super) fn begin(&self, of: AttemptRef, watch: Watch) -> Option<Arc<Watch>> {
        let mut inner = self.lock();
        if inner.running.contains_key(&of) || inner.held.contains_key(&of) {
            return None;
        }
        let watch = Arc::new(watch);
        inner.running.insert(of, Arc::clone(&watch));
        Some(watch)
    }

    pub(super) fn end(&self, of: &AttemptRef) {
        self.lock().running.remove(of);
    }

    pub(super) fn running(&self) -> usize {
        self.lock().running.len()
    }

    /// Nobody waits for this attempt. Returns whether it runs.
    pub(super) fn cancel(&self, of: &AttemptRef) -> bool {
        let inner = self.lock();
        let watch = inner.running.get(of);
        if let Some(watch) = watch {
            watch.cancelled.store(true, Relaxed);
        }
        watch.is_some()
    }

    /// The coordinator has answered what was sent at `asked`.
    pub(super) fn heard(&self, asked: Instant, lease: Duration) {
        let mut inner = self.lock();
        inner.lease_until = inner.lease_until.max(asked + lease);
        inner.heard_at = inner.heard_at.max(asked);
    }

    /// When the last question was sent that the coordinator has answered.
    pub(super) fn heard_at(&self) -> Instant {
        self.lock().heard_at
    }

    /// Until when a grant is good, as far as is known.
    pub(super) fn lease_until(&self) -> Instant {
        self.lock().lease_until
    }
}

#[cfg(test)]
mod tests {
    use kontiki_schedule::{AttemptId, TaskId};

    use super::*;

    fn of(attempt: u64) -> AttemptRef {
        AttemptRef { job: JobId(1), task: TaskId::map(0), attempt: AttemptId(attempt) }
    }

    #[test]
    fn an_attempt_is_named_until_it_ends_and_begins_once() {
        let books = Books::new(WorkerId(1), Life(1), BTreeMap::new());
        let watch = books.begin(of(1), Watch::new(false)).expect("it begins");
        assert!(books.begin(of(1), Watch::new(false)).is_none());
        // Of a merge that comes first nobody knows how much there is to do.
        watch.advanced(1000);
        assert_eq!(books.sign().running[0].permille, 0);
        watch.expect(200);
        watch.advanced(50);
        watch.said(&"\u{e9}".repeat(200));
        let sign = books.sign();
        assert_eq!((sign.sequence, sign.running.len(), sign.running[0].permille), (2, 1, 250));
        assert_eq!(sign.running[0].status, "\u{e9}".repeat(128), "cut between characters");
        books.hold(of(1), Counters::new());
        assert_eq!(books.held(), [], "its verdict is not there yet");
        books.end(&of(1));
        assert_eq!(books.held().len(), 1);
        assert_eq!(books.sign().running, []);
        assert_eq!(books.idle_jobs([JobId(0), JobId(1)]), [JobId(0), JobId(1)]);
    }
}
