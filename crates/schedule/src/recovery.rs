//! Starting again from the journal.
//!
//! Workers come back by themselves: they say what they run, which is taken up, and what they hold,
//! which still counts. What no worker has claimed after a lease is lost, as if its worker had died.

use std::collections::BTreeSet;
use std::fmt;

use kontiki_types::Instant;
use kontiki_types::plant::{Plant, planted};

use crate::job::Job;
use crate::{
    AttemptRef, Config, Counters, JobId, Output, Phase, Record, Scheduler, TaskId, WorkerId,
};

/// A journal that contradicts itself: it is damaged, or of another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoverError {
    /// A record names a job that none before it submitted.
    UnknownJob(JobId),
    /// A record names a task that its job does not have.
    UnknownTask(JobId, TaskId),
    /// A job was submitted twice.
    Twice(JobId),
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownJob(job) => write!(f, "the journal names {job:?} but does not have it"),
            Self::UnknownTask(job, task) => write!(f, "{job:?} in the journal has no {task}"),
            Self::Twice(job) => write!(f, "the journal has {job:?} twice"),
        }
    }
}

impl std::error::Error for RecoverError {}

impl Scheduler {
    /// A scheduler that goes on where the one that wrote `records` ended. `seed`: any number;
    /// another one for each start.
    ///
    /// Outcomes of jobs that had ended come out again as [`Output::Ended`].
    ///
    /// # Errors
    /// Records that no scheduler writes.
    pub fn recover(
        config: Config,
        seed: u64,
        records: impl IntoIterator<Item = Record>,
        now: Instant,
    ) -> Result<Self, RecoverError> {
        let mut scheduler = Self::empty(config, seed, now);
        let mut any = false;
        for record in records {
            scheduler.replay(record, now)?;
            any = true;
        }
        scheduler.start();
        if any {
            scheduler.await_workers(now);
        }
        scheduler.changed = true;
        Ok(scheduler)
    }

    fn replay(&mut self, record: Record, now: Instant) -> Result<(), RecoverError> {
        match record {
            Record::Started { epoch } => self.epoch = self.epoch.max(epoch),
            Record::Submitted { job, spec } => {
                if self.jobs.contains_key(&job) {
                    return Err(RecoverError::Twice(job));
                }
                self.insert(Job::new(job, spec, now));
            }
            Record::Accepted { attempt, worker, counters } => {
                let job = self.replay_done(attempt, worker, &counters)?;
                job.outputs.push((attempt.task.number, 0));
            }
            Record::Granted { .. } if planted(Plant::GrantForgotten) => {}
            Record::Granted { attempt } => {
                let until = now + self.config.lease;
                let job = self.of(attempt)?;
                job.old_grants.insert(attempt.task, (attempt.attempt, until));
            }
            Record::Committed { attempt, counters } => {
                let job = self.replay_done(attempt, WorkerId::default(), &counters)?;
                job.old_grants.remove(&attempt.task);
            }
            Record::Ended { job, outcome } => {
                self.live.remove(&job);
                let known = self.jobs.get_mut(&job).ok_or(RecoverError::UnknownJob(job))?;
                known.end(outcome, now);
                self.forget_old_jobs();
            }
            Record::Counted { job, counters, lost } => {
                let known = self.jobs.get_mut(&job).ok_or(RecoverError::UnknownJob(job))?;
                known.counters.merge(&counters);
                for task in lost {
                    known.task(task).ok_or(RecoverError::UnknownTask(job, task))?;
                    known.count(task, &Counters::new());
                }
            }
        }
        Ok(())
    }

    fn of(&mut self, attempt: AttemptRef) -> Result<&mut Job, RecoverError> {
        let AttemptRef { job, task, .. } = attempt;
        let known = self.jobs.get_mut(&job).ok_or(RecoverError::UnknownJob(job))?;
        known.task(task).ok_or(RecoverError::UnknownTask(job, task))?;
        Ok(known)
    }

    fn replay_done(
        &mut self,
        attempt: AttemptRef,
        worker: WorkerId,
        counters: &Counters,
    ) -> Result<&mut Job, RecoverError> {
        let job = self.of(attempt)?;
        job.count(attempt.task, counters);
        job.tasks_mut(attempt.task.phase).accept(attempt.task.number, attempt.attempt, worker);
        Ok(job)
    }

    /// Whoever holds an output gets time to come back.
    fn await_workers(&mut self, now: Instant) {
        let mut holders = BTreeSet::new();
        for job in self.live.iter().filter_map(|id| self.jobs.get(id)) {
            if !job.commits(Phase::Map) {
                let accepted = job.maps.iter().filter_map(|(_, task)| task.accepted);
                holders.extend(accepted.map(|(_, worker)| worker));
            }
        }
        let until = now + self.config.lease;
        self.absent = holders.into_iter().map(|worker| (worker, until)).collect();
        if !self.live.is_empty() {
            self.hold_until = now + self.config.reattach;
        }
        let ended: Vec<_> = self
            .jobs
            .values()
            .filter_map(|job| Some((job.id, job.ended.as_ref()?.0.clone())))
            .collect();
        for (job, outcome) in ended {
            self.durability.hold(Output::Ended { job, outcome });
        }
        // The last record of a job may be all that is missing.
        for job in self.live.clone() {
            self.end_if_complete(job, now);
        }
    }

    /// Records from which [`Scheduler::recover`] makes what this scheduler knows: in the place of
    /// the whole journal up to here, once they are durable. Facts that were not yet durable are
    /// among them.
    pub fn checkpoint(&self) -> Vec<Record> {
        let mut records = vec![Record::Started { epoch: self.epoch }];
        for job in self.jobs.values() {
            checkpoint(job, &mut records);
        }
        records
    }
}

fn checkpoint(job: &Job, records: &mut Vec<Record>) {
    let id = job.id;
    records.push(Record::Submitted { job: id, spec: job.spec.clone() });
    let lost = |phase| {
        let tasks = job.tasks(phase).iter();
        let tasks = tasks.filter(|(_, task)| task.counted && !task.is_done());
        tasks.map(move |(number, _)| TaskId { phase, number })
    };
    let lost = lost(Phase::Map).chain(lost(Phase::Reduce)).collect();
    records.push(Record::Counted { job: id, counters: job.counters.clone(), lost });
    for phase in [Phase::Map, Phase::Reduce] {
        for (number, task) in job.tasks(phase).iter() {
            let of = |attempt| AttemptRef { job: id, task: TaskId { phase, number }, attempt };
            let counters = Counters::new();
            match (task.accepted, task.granted) {
                (Some((attempt, _)), _) if job.commits(phase) => {
                    records.push(Record::Committed { attempt: of(attempt), counters });
                }
                (Some((attempt, worker)), _) => {
                    records.push(Record::Accepted { attempt: of(attempt), worker, counters });
                }
                (None, Some(attempt)) => records.push(Record::Granted { attempt: of(attempt) }),
                (None, None) => {}
            }
        }
    }
    for (task, (attempt, _)) in &job.old_grants {
        records.push(Record::Granted {
            attempt: AttemptRef { job: id, task: *task, attempt: *attempt },
        });
    }
    if let Some((outcome, _)) = &job.ended {
        records.push(Record::Ended { job: id, outcome: outcome.clone() });
    }
}
