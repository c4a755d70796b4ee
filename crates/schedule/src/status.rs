//! What is to be seen of a scheduler.

use std::time::Duration;

use kontiki_types::Instant;

use crate::job::Job;
use crate::{
    AttemptId, Counters, Counts, JobId, Life, Outcome, Phase, Scheduler, TaskError, TaskId,
    WorkerId,
};

/// One job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobStatus {
    /// Its id.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// How it ended, if it did.
    pub outcome: Option<Outcome>,
    /// How long it has been going on, or went on, in this life of the coordinator.
    pub age: Duration,
    /// Its maps.
    pub maps: PhaseStatus,
    /// Its reduces.
    pub reduces: PhaseStatus,
    /// Sums over one attempt of each task.
    pub counters: Counters,
    /// The latest errors, oldest first.
    pub errors: Vec<TaskError>,
    /// Attempts under way, longest first.
    pub running: Vec<AttemptStatus>,
}

/// One phase of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhaseStatus {
    /// Tasks.
    pub total: u32,
    /// Of these, neither done nor under way.
    pub waiting: u32,
    /// Of these, under way.
    pub running: u32,
    /// Of these, done.
    pub done: u32,
    /// What happened.
    pub counts: Counts,
    /// Of those that were done in this life of the coordinator, the median, to a ninth.
    pub median: Duration,
    /// And the longest.
    pub longest: Duration,
}

/// One attempt under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptStatus {
    /// Of which task.
    pub task: TaskId,
    /// Which.
    pub attempt: AttemptId,
    /// Who runs it.
    pub worker: WorkerId,
    /// For how long.
    pub age: Duration,
    /// How much is done, in thousandths; 0 if that is not known.
    pub permille: u16,
    /// What the user's code last said of itself.
    pub status: String,
    /// Whether another attempt of the task ran when it began.
    pub is_backup: bool,
}

/// One registered worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Who.
    pub worker: WorkerId,
    /// Which life of it.
    pub life: Life,
    /// Where its map outputs are served.
    pub address: String,
    /// Attempts that it can run at once.
    pub slots: u32,
    /// Attempts that it runs.
    pub running: u32,
    /// Tasks that it did.
    pub done: u64,
    /// Attempts that failed there.
    pub failed: u64,
    /// Since when it is registered.
    pub age: Duration,
    /// When it must have been heard of, from now.
    pub lease_left: Duration,
}

impl Scheduler {
    /// All jobs that are remembered, in the order of their submission.
    pub fn jobs(&self, now: Instant) -> impl Iterator<Item = JobStatus> {
        self.jobs.values().map(move |job| self.describe(job, now))
    }

    /// One job.
    pub fn job(&self, job: JobId, now: Instant) -> Option<JobStatus> {
        self.jobs.get(&job).map(|job| self.describe(job, now))
    }

    /// How a job ended. `None` if it goes on, or is not known.
    pub fn outcome(&self, job: JobId) -> Option<&Outcome> {
        self.jobs.get(&job)?.ended.as_ref().map(|(outcome, _)| outcome)
    }

    /// All registered workers.
    pub fn workers(&self, now: Instant) -> impl Iterator<Item = WorkerStatus> {
        self.workers.iter().map(move |(id, worker)| WorkerStatus {
            worker: *id,
            life: worker.life,
            address: worker.address.clone(),
            slots: worker.slots,
            running: worker.running.len() as u32,
            done: worker.done,
            failed: worker.failed,
            age: now.since(worker.registered),
            lease_left: worker.lease_until.since(now),
        })
    }

    fn describe(&self, job: &Job, now: Instant) -> JobStatus {
        let ours = self.attempts.iter().filter(|(_, attempt)| attempt.of.job == job.id);
        let mut running: Vec<_> = ours
            .map(|(id, attempt)| AttemptStatus {
                task: attempt.of.task,
                attempt: *id,
                worker: attempt.worker,
                age: now.since(attempt.begun),
                permille: attempt.permille,
                status: attempt.status.clone(),
                is_backup: attempt.is_backup,
            })
            .collect();
        running.sort_by_key(|attempt| (std::cmp::Reverse(attempt.age), attempt.attempt));
        let until = job.ended.as_ref().map_or(now, |(_, at)| *at);
        JobStatus {
            job: job.id,
            name: job.spec.name.clone(),
            outcome: job.ended.as_ref().map(|(outcome, _)| outcome.clone()),
            age: until.since(job.submitted),
            maps: phase(job, Phase::Map),
            reduces: phase(job, Phase::Reduce),
            counters: job.counters.clone(),
            errors: job.errors.iter().cloned().collect(),
            running,
        }
    }
}

fn phase(job: &Job, phase: Phase) -> PhaseStatus {
    let tasks = job.tasks(phase);
    let (total, done, waiting) = (tasks.count(), tasks.done(), tasks.waiting().len() as u32);
    PhaseStatus {
        total,
        waiting,
        running: total.saturating_sub(done).saturating_sub(waiting),
        done,
        counts: tasks.counts,
        median: tasks.durations.median().unwrap_or_default(),
        longest: tasks.durations.longest(),
    }
}
