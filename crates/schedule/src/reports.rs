//! What workers report of attempts, and what becomes of a job by it.

use std::ops::Range;

use kontiki_types::Instant;

use crate::bisect::{self, Bisect, Step};
use crate::job::TaskError;
use crate::{
    AttemptId, AttemptRef, Cause, Counters, Failure, JobId, Life, Outcome, Output, Phase, Record,
    Report, Scheduler, TaskId, Verdict, WorkerId,
};

impl Scheduler {
    /// A worker reports. The answer is an [`Output::Verdict`]; to [`Report::Ready`] it may be long
    /// in coming, or not come at all: then the worker asks again, every tenth of a lease.
    pub fn report(
        &mut self,
        worker: WorkerId,
        life: Life,
        of: AttemptRef,
        report: Report,
        now: Instant,
    ) {
        if self.workers.get(&worker).is_none_or(|known| known.life != life) {
            return self.verdict(worker, of, Verdict::Unknown);
        }
        let job = self.jobs.get(&of.job).filter(|job| job.is_live());
        let Some(task) = job.and_then(|job| job.task(of.task)) else {
            return self.verdict(worker, of, Verdict::Superseded);
        };
        let commits = job.is_some_and(|job| job.commits(of.task.phase));
        let accepted = task.accepted.map(|(accepted, _)| accepted);
        let verdict = match (report, accepted) {
            (Report::Failed(failure), _) => {
                self.failed(worker, of, failure, now);
                Some(Verdict::Accepted)
            }
            (Report::ProbePassed, _) => {
                self.probe_passed(of, now);
                Some(Verdict::Accepted)
            }
            (Report::Ready, Some(first)) if first == of.attempt => Some(Verdict::Granted),
            (_, Some(first)) if first == of.attempt => Some(Verdict::Accepted),
            (_, Some(_)) => Some(Verdict::Superseded),
            (Report::MapDone(counters), None) if !commits => {
                self.accept(worker, of, &counters, now);
                Some(Verdict::Accepted)
            }
            (Report::Ready, None) if commits => self.ready(worker, of, now),
            (Report::Committed(counters), None) if commits => {
                Some(self.committed(worker, of, &counters, now))
            }
            // A report that does not belong to the phase.
            _ => Some(Verdict::Superseded),
        };
        if let Some(verdict) = verdict {
            self.verdict(worker, of, verdict);
        }
    }

    /// The output of a map counts, and this worker holds it.
    fn accept(&mut self, worker: WorkerId, of: AttemptRef, counters: &Counters, now: Instant) {
        let counters = counters.clone();
        self.durability.record(Record::Accepted {
            attempt: of,
            worker,
            counters: counters.clone(),
        });
        self.done(worker, of, &counters, now);
        let batch = self.durability.latest();
        if let Some(job) = self.jobs.get_mut(&of.job) {
            job.outputs.push((of.task.number, batch));
        }
    }

    /// A worker holds the output of a map. Returns whether it is to keep it.
    pub(crate) fn holds(
        &mut self,
        worker: WorkerId,
        of: AttemptRef,
        counters: &Counters,
        now: Instant,
    ) -> bool {
        let Some(job) = self.jobs.get(&of.job).filter(|job| job.is_live()) else { return false };
        if job.commits(of.task.phase) {
            return false;
        }
        match job.task(of.task) {
            Some(task) => match task.accepted {
                Some((attempt, holder)) => attempt == of.attempt && holder == worker,
                None => {
                    self.accept(worker, of, counters, now);
                    true
                }
            },
            None => false,
        }
    }

    /// An attempt asks to put its output in place.
    fn ready(&mut self, worker: WorkerId, of: AttemptRef, now: Instant) -> Option<Verdict> {
        if !self.attempts.contains_key(&of.attempt) {
            // It was given up and is there after all.
            self.begin(of, worker, now, None, false);
        }
        let attempt = self.attempts.get_mut(&of.attempt)?;
        if attempt.of != of || attempt.worker != worker || attempt.is_probe {
            return Some(Verdict::Superseded);
        }
        attempt.ready = true;
        let job = self.jobs.get_mut(&of.job)?;
        let old = job.old_grants.get(&of.task).map(|(attempt, _)| *attempt);
        if old.is_some_and(|old| old != of.attempt) {
            return None;
        }
        job.old_grants.remove(&of.task);
        let task = job.task_mut(of.task)?;
        match task.granted {
            Some(granted) if granted != of.attempt => None,
            Some(_) => Some(Verdict::Granted),
            None => {
                task.granted = Some(of.attempt);
                self.durability.record(Record::Granted { attempt: of });
                Some(Verdict::Granted)
            }
        }
    }

    /// If nobody is granted any more and another attempt is ready, it is granted.
    pub(crate) fn grant_next(&mut self, job: JobId, task: TaskId) {
        let Some(known) = self.jobs.get(&job).filter(|job| job.is_live()) else { return };
        if known.old_grants.contains_key(&task) {
            return;
        }
        let Some(state) = known.task(task) else { return };
        if state.is_done() || state.granted.is_some() {
            return;
        }
        let ready = |id: &&AttemptId| self.attempts.get(id).is_some_and(|attempt| attempt.ready);
        let Some(attempt) = state.running.iter().find(ready).copied() else { return };
        let Some(worker) = self.attempts.get(&attempt).map(|attempt| attempt.worker) else {
            return;
        };
        let of = AttemptRef { job, task, attempt };
        if let Some(state) = self.jobs.get_mut(&job).and_then(|job| job.task_mut(task)) {
            state.granted = Some(attempt);
        }
        self.durability.record(Record::Granted { attempt: of });
        self.verdict(worker, of, Verdict::Granted);
    }

    /// The output of an attempt is in its place, which it was only if that was granted to it. If
    /// another attempt was granted the same since, that one will replace it.
    fn committed(
        &mut self,
        worker: WorkerId,
        of: AttemptRef,
        counters: &Counters,
        now: Instant,
    ) -> Verdict {
        let Some(job) = self.jobs.get_mut(&of.job) else { return Verdict::Superseded };
        let granted = job.task(of.task).and_then(|task| task.granted);
        let old = job.old_grants.get(&of.task).map(|(attempt, _)| *attempt);
        if granted.or(old).is_some_and(|granted| granted != of.attempt) {
            return Verdict::Superseded;
        }
        job.old_grants.remove(&of.task);
        let counters = counters.clone();
        self.durability.record(Record::Committed { attempt: of, counters: counters.clone() });
        self.done(worker, of, &counters, now);
        Verdict::Accepted
    }

    /// A task is done by this attempt.
    fn done(&mut self, worker: WorkerId, of: AttemptRef, counters: &Counters, now: Instant) {
        let took = self.attempts.get(&of.attempt).map(|attempt| now.since(attempt.begun));
        if let Some(known) = self.workers.get_mut(&worker) {
            known.done += 1;
        }
        let Some(job) = self.jobs.get_mut(&of.job) else { return };
        job.count(of.task, counters);
        let tasks = job.tasks_mut(of.task.phase);
        if let Some(took) = took {
            tasks.durations.add(took);
        }
        tasks.counts.skipped += tasks.skipped.get(&of.task.number).map_or(0, Vec::len) as u64;
        for id in tasks.accept(of.task.number, of.attempt, worker) {
            self.forget_attempt(id, id != of.attempt);
        }
        self.end_if_complete(of.job, now);
        self.changed = true;
    }

    /// Takes an attempt that its task has let go of out of the books, and says so to who runs it.
    fn forget_attempt(&mut self, id: AttemptId, tell: bool) {
        let Some(attempt) = self.attempts.remove(&id) else { return };
        if let Some(worker) = self.workers.get_mut(&attempt.worker) {
            worker.running.remove(&id);
        }
        if tell {
            let (worker, attempt) = (attempt.worker, attempt.of);
            self.durability.hold(Output::Cancel { worker, attempt });
        }
    }

    pub(crate) fn failed(
        &mut self,
        worker: WorkerId,
        of: AttemptRef,
        failure: Failure,
        now: Instant,
    ) {
        let Some(attempt) = self.attempts.get(&of.attempt) else { return };
        if attempt.of != of || attempt.worker != worker {
            return;
        }
        let was_probe = attempt.is_probe;
        let probed = self.probed_records(of).filter(|_| was_probe);
        let Some(job) = self.jobs.get_mut(&of.job) else { return };
        let error = failure.error;
        job.given_up.insert(of.attempt);
        job.noted(TaskError { task: of.task, attempt: of.attempt, worker, error: error.clone() });
        let tasks = job.tasks_mut(of.task.phase);
        match failure.cause {
            Cause::Fetch { .. } => tasks.counts.lost += 1,
            Cause::User { .. } | Cause::Worker => tasks.counts.failed += 1,
        }
        if let Some(task) = tasks.get_mut(of.task.number) {
            task.failed_on = Some(worker);
        }
        match failure.cause {
            Cause::Fetch { map, from, corrupt } => {
                self.end_attempt(of.attempt);
                self.unfetched(of.job, map, from, corrupt);
                self.lost_once_more(of.job, of.task, &error, now);
            }
            Cause::Worker => {
                self.blame(of.job, worker);
                self.end_attempt(of.attempt);
                self.lost_once_more(of.job, of.task, &error, now);
            }
            Cause::User { suspects } => {
                self.blame(of.job, worker);
                self.end_attempt(of.attempt);
                match probed {
                    Some(_) => self.probe_ended(of.job, of.task, true, &error, now),
                    None if was_probe => {}
                    None => self.user_failed(of.job, of.task, suspects, &error, now),
                }
            }
        }
    }

    fn blame(&mut self, job: JobId, worker: WorkerId) {
        if let Some(known) = self.workers.get_mut(&worker) {
            known.failed += 1;
        }
        if let Some(job) = self.jobs.get_mut(&job) {
            *job.worker_failures.entry(worker).or_default() += 1;
        }
    }

    fn user_failed(
        &mut self,
        id: JobId,
        task: TaskId,
        suspects: Option<Range<u64>>,
        error: &str,
        now: Instant,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (max, skips) = (job.spec.failures_max, job.spec.skip_bad_records);
        let tasks = job.tasks_mut(task.phase);
        let Some(state) = tasks.get_mut(task.number) else { return };
        state.failures = state.failures.saturating_add(1);
        let failures = state.failures;
        let exhausted = u32::from(failures) >= max;
        let search = suspects.and_then(Bisect::new);
        let has_search = tasks.searches.contains_key(&task.number);
        match search {
            Some(search)
                if !has_search && (exhausted || skips && failures >= bisect::FAILURES_BEFORE) =>
            {
                tasks.searches.insert(task.number, search);
            }
            _ if exhausted && !has_search => {
                self.end_job(id, Outcome::Failed(failed_for_good(task, failures, error)), now);
            }
            _ => {}
        }
    }

    fn probe_passed(&mut self, of: AttemptRef, now: Instant) {
        let known = self.attempts.get(&of.attempt);
        if known.is_none_or(|attempt| attempt.of != of || !attempt.is_probe) {
            return;
        }
        self.end_attempt(of.attempt);
        self.probe_ended(of.job, of.task, false, "", now);
    }

    fn probe_ended(&mut self, id: JobId, task: TaskId, failed: bool, error: &str, now: Instant) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (max, skips) = (job.spec.failures_max, job.spec.skip_bad_records);
        let last = job.errors.iter().rev().find(|error| error.task == task);
        let last = last.map_or_else(String::new, |error| error.error.clone());
        let tasks = job.tasks_mut(task.phase);
        let Some(search) = tasks.searches.get_mut(&task.number) else { return };
        let step = search.probed(failed);
        let failures = tasks.get(task.number).map_or(0, |task| task.failures);
        self.changed = true;
        let ended = match step {
            Step::Again => return,
            Step::Bad(record) if skips => {
                tasks.searches.remove(&task.number);
                let skipped = tasks.skipped.entry(task.number).or_default();
                if let Err(place) = skipped.binary_search(&record) {
                    skipped.insert(place, record);
                }
                let count = skipped.len();
                // What is left has not failed yet.
                if let Some(task) = tasks.get_mut(task.number) {
                    task.failures = 0;
                }
                (count > bisect::SKIPPED_MAX).then(|| {
                    format!("{task}: more than {} bad records\n{error}", bisect::SKIPPED_MAX)
                })
            }
            Step::Bad(record) => {
                Some(format!("{task}: user code fails on record {record} of its input\n{error}"))
            }
            Step::Innocent => {
                tasks.searches.remove(&task.number);
                (u32::from(failures) >= max).then(|| failed_for_good(task, failures, &last))
            }
        };
        if let Some(why) = ended {
            self.end_job(id, Outcome::Failed(why), now);
        }
    }

    /// A reducer could not get the output of a map.
    fn unfetched(&mut self, job: JobId, map: u32, from: AttemptId, corrupt: bool) {
        let Some(job) = self.jobs.get_mut(&job) else { return };
        if job.commits(Phase::Map) {
            return;
        }
        let Some(task) = job.maps.get_mut(map) else { return };
        if task.accepted.is_none_or(|(accepted, _)| accepted != from) {
            return;
        }
        task.unfetched = task.unfetched.saturating_add(1);
        // One reducer may be cut off by itself.
        if corrupt || task.unfetched >= 2 {
            job.maps.counts.lost += 1;
            job.maps.lose(map);
            self.changed = true;
        }
    }

    /// An attempt was lost without the task being to blame, as far as is known.
    pub(crate) fn lost_once_more(&mut self, id: JobId, task: TaskId, why: &str, now: Instant) {
        let Some(state) = self.jobs.get_mut(&id).and_then(|job| job.task_mut(task)) else { return };
        state.losses = state.losses.saturating_add(1);
        let losses = state.losses;
        if u32::from(losses) >= self.config.losses_max {
            let why = format!("{task} was lost with its worker {losses} times\n{why}");
            self.end_job(id, Outcome::Failed(why), now);
        }
    }

    pub(crate) fn end_if_complete(&mut self, job: JobId, now: Instant) {
        if self.jobs.get(&job).is_some_and(|job| job.is_complete()) {
            self.end_job(job, Outcome::Done, now);
        }
    }

    /// Ends a live job.
    pub(crate) fn end_job(&mut self, id: JobId, outcome: Outcome, now: Instant) {
        if !self.live.remove(&id) {
            return;
        }
        let ids: Vec<_> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| attempt.of.job == id)
            .map(|(id, _)| *id)
            .collect();
        for attempt in ids {
            self.forget_attempt(attempt, true);
        }
        self.durability.record(Record::Ended { job: id, outcome: outcome.clone() });
        if let Some(job) = self.jobs.get_mut(&id) {
            job.end(outcome.clone(), now);
        }
        self.durability.hold(Output::Ended { job: id, outcome });
        self.forget_old_jobs();
        self.changed = true;
    }

    pub(crate) fn forget_old_jobs(&mut self) {
        let ended = self.jobs.len().saturating_sub(self.live.len());
        let excess = ended.saturating_sub(self.config.ended_jobs_kept);
        let old: Vec<_> =
            self.jobs.keys().filter(|id| !self.live.contains(id)).take(excess).copied().collect();
        for id in old {
            self.jobs.remove(&id);
        }
    }
}

fn failed_for_good(task: TaskId, failures: u16, error: &str) -> String {
    format!("{task} failed {failures} times, at last with:\n{error}")
}
