//! Who does what: waiting tasks, then backups of late ones.

use std::ops::Range;

use kontiki_types::Instant;

use crate::job::Job;
use crate::task::{backups_allowed, late_age};
use crate::worker::Pull;
use crate::{
    Assignment, AttemptId, AttemptRef, JobId, Output, Phase, Scheduler, TaskId, Work, WorkerId,
};

/// So many waiting tasks are looked at to find one that did not fail on this worker.
const LOOK_AHEAD: usize = 8;

impl Scheduler {
    /// Answers those who wait for work, as far as there is some.
    pub(crate) fn assign(&mut self, now: Instant) {
        for _ in 0..self.pulling.len() {
            let Some(worker) = self.pulling.pop_front() else { return };
            let pull = self.workers.get(&worker).and_then(|worker| worker.pull);
            let Some(pull) = pull else { continue };
            let assignments = self.answer(worker, pull, now);
            if assignments.is_empty() {
                self.pulling.push_back(worker);
                continue;
            }
            if let Some(known) = self.workers.get_mut(&worker) {
                known.pull = None;
            }
            self.durability.hold(Output::Assign { worker, pull: pull.sequence, assignments });
        }
    }

    fn answer(&mut self, worker: WorkerId, pull: Pull, now: Instant) -> Vec<Assignment> {
        let mut assignments = self.unheard_of(worker, pull);
        let share = pull.free.min(self.fair_share());
        while (assignments.len() as u64) < u64::from(share) {
            let Some((job, task)) = self.pick(worker, now) else { break };
            let attempt = AttemptRef { job, task, attempt: self.next_attempt() };
            let Some(assignment) = self.assignment(attempt) else { break };
            let is_probe = assignment.work != Work::Run;
            self.begin(attempt, worker, now, Some(pull.sequence), is_probe);
            self.count_start(attempt);
            assignments.push(assignment);
        }
        assignments
    }

    /// At most this many tasks in one answer: a first worker with many slots leaves some for others.
    fn fair_share(&self) -> u32 {
        let live = self.live.iter().filter_map(|job| self.jobs.get(job));
        let waiting: usize =
            live.map(|job| job.maps.waiting().len() + job.reduces.waiting().len()).sum();
        let share = waiting / (2 * self.workers.len().max(1));
        u32::try_from(share).unwrap_or(u32::MAX).max(1)
    }

    /// Attempts that the worker got in answer to an earlier pull and does not know of: the answer
    /// was lost. It gets them again, whether it has a slot or not.
    fn unheard_of(&mut self, worker: WorkerId, pull: Pull) -> Vec<Assignment> {
        let Some(known) = self.workers.get(&worker) else { return Vec::new() };
        let mut again = Vec::new();
        for id in &known.running {
            let Some(attempt) = self.attempts.get_mut(id) else { continue };
            if attempt.unconfirmed.is_some_and(|earlier| earlier < pull.sequence) {
                attempt.unconfirmed = Some(pull.sequence);
                again.push((attempt.of, attempt.is_probe));
            }
        }
        let mut assignments = Vec::new();
        for (attempt, was_probe) in again {
            match self.assignment(attempt) {
                Some(assignment) if was_probe == (assignment.work != Work::Run) => {
                    assignments.push(assignment);
                }
                // What is to be done has changed meanwhile.
                _ => self.end_attempt(attempt.attempt),
            }
        }
        assignments
    }

    fn pick(&self, worker: WorkerId, now: Instant) -> Option<(JobId, TaskId)> {
        let jobs = || {
            let live = self.live.iter().filter_map(|job| self.jobs.get(job));
            live.filter(|job| !self.is_avoided(job, worker))
        };
        let waiting = jobs().find_map(|job| Some((job.id, self.pick_waiting(job, worker)?)));
        waiting.or_else(|| jobs().find_map(|job| Some((job.id, self.pick_late(job, worker, now)?))))
    }

    /// Whether too much of the job failed on this worker, and there is another one to turn to.
    fn is_avoided(&self, job: &Job, worker: WorkerId) -> bool {
        let max = self.config.worker_failures_max;
        let is_bad =
            |worker: &WorkerId| job.worker_failures.get(worker).is_some_and(|count| *count >= max);
        is_bad(&worker) && !self.workers.keys().all(is_bad)
    }

    fn pick_waiting(&self, job: &Job, worker: WorkerId) -> Option<TaskId> {
        let phase = self.phase(job)?;
        let tasks = job.tasks(phase);
        let failed_here =
            |number: &&u32| tasks.get(**number).is_some_and(|task| task.failed_on == Some(worker));
        let mut first = tasks.waiting().iter().take(LOOK_AHEAD);
        let number = first.clone().find(|number| !failed_here(number)).or_else(|| first.next());
        number.map(|number| TaskId { phase, number: *number })
    }

    /// The phase whose tasks can be run.
    fn phase(&self, job: &Job) -> Option<Phase> {
        if !job.maps.all_done() {
            return Some(Phase::Map);
        }
        // Outputs of workers that have not come back yet may be lost.
        (job.spec.reduces > 0 && self.absent.is_empty()).then_some(Phase::Reduce)
    }

    /// A task that is late and could run here as well.
    fn pick_late(&self, job: &Job, worker: WorkerId, now: Instant) -> Option<TaskId> {
        let phase = self.phase(job)?;
        let tasks = job.tasks(phase);
        let allowed = backups_allowed(tasks.count(), self.config.backups_permille);
        if !tasks.waiting().is_empty() || tasks.counts.backups >= allowed {
            return None;
        }
        let (percent, least) = (self.config.backup_percent, self.config.backup_age_min);
        let late = late_age(&tasks.durations, percent, least)?;
        let mut worst = None;
        for attempt in self.attempts.values() {
            let age = now.since(attempt.begun);
            let ours = attempt.of.job == job.id && attempt.of.task.phase == phase;
            if !ours || attempt.is_probe || attempt.ready || attempt.worker == worker || age < late
            {
                continue;
            }
            let alone =
                tasks.get(attempt.of.task.number).is_some_and(|task| task.running.len() == 1);
            if alone && worst.is_none_or(|(oldest, _)| age > oldest) {
                worst = Some((age, attempt.of.task));
            }
        }
        worst.map(|(_, task)| task)
    }

    /// What there is to do for the task of this attempt.
    fn assignment(&self, attempt: AttemptRef) -> Option<Assignment> {
        let AttemptRef { job, task, .. } = attempt;
        let job = self.jobs.get(&job)?;
        let outputs =
            if task.phase == Phase::Reduce { self.position(job.outputs.len()) } else { 0 };
        let tasks = job.tasks(task.phase);
        let search = tasks.searches.get(&task.number);
        let work = search.map_or(Work::Run, |search| Work::Probe(search.next()));
        let skip = tasks.skipped.get(&task.number).cloned().unwrap_or_default();
        Some(Assignment { attempt, work, skip, outputs })
    }

    fn count_start(&mut self, of: AttemptRef) {
        let Some(attempt) = self.attempts.get(&of.attempt) else { return };
        let (is_probe, is_backup) = (attempt.is_probe, attempt.is_backup);
        let Some(job) = self.jobs.get_mut(&of.job) else { return };
        let rerun = job.task(of.task).is_some_and(|task| task.counted);
        let counts = &mut job.tasks_mut(of.task.phase).counts;
        counts.started += 1;
        counts.probes += u64::from(is_probe);
        counts.backups += u64::from(is_backup);
        counts.reruns += u64::from(rerun);
    }

    /// Takes an attempt out of the books. Its task waits again if nothing else runs for it.
    pub(crate) fn end_attempt(&mut self, id: AttemptId) {
        let Some(attempt) = self.attempts.remove(&id) else { return };
        if let Some(worker) = self.workers.get_mut(&attempt.worker) {
            worker.running.remove(&id);
        }
        let AttemptRef { job, task, .. } = attempt.of;
        if let Some(job) = self.jobs.get_mut(&job) {
            job.tasks_mut(task.phase).end(task.number, id);
        }
        self.grant_next(job, task);
        self.changed = true;
    }

    /// The records of the probe that this attempt is.
    pub(crate) fn probed_records(&self, of: AttemptRef) -> Option<Range<u64>> {
        let tasks = self.jobs.get(&of.job)?.tasks(of.task.phase);
        tasks.searches.get(&of.task.number).map(|search| search.next())
    }
}
