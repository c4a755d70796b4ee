//! What time takes away: leases, workers, grants of an earlier coordinator.

use std::collections::BTreeSet;
use std::time::Duration;

use kontiki_types::Instant;
use kontiki_types::plant::{Plant, planted};

use crate::job::TaskError;
use crate::{AttemptId, Cause, Failure, Output, Phase, Scheduler, WorkerId};

impl Scheduler {
    /// Time has passed. Due at [`Scheduler::next_deadline`]; earlier does no harm.
    pub fn tick(&mut self, now: Instant) {
        if now < self.next_tick {
            return;
        }
        // Who was stopped itself has heard of nobody meanwhile, and nobody is to blame for that.
        let late = now.since(self.next_tick);
        if late >= self.config.lease / 2 {
            self.extend_leases(late);
        }
        self.next_tick = now + self.config.tick;
        self.expire_workers(now);
        self.expire_absent(now);
        self.expire_attempts(now);
        self.expire_old_grants(now);
        // Somebody may be late by now.
        self.changed = true;
    }

    /// A lease may always be longer here than its worker takes it to be.
    fn extend_leases(&mut self, by: Duration) {
        for worker in self.workers.values_mut() {
            worker.lease_until = worker.lease_until + by;
        }
        for attempt in self.attempts.values_mut() {
            attempt.lease_until = attempt.lease_until + by;
            attempt.moved = attempt.moved + by;
        }
        for until in self.absent.values_mut() {
            *until = *until + by;
        }
        for job in self.jobs.values_mut() {
            for (_, until) in job.old_grants.values_mut() {
                *until = *until + by;
            }
        }
    }

    fn expire_workers(&mut self, now: Instant) {
        let early = self.config.lease * 4 / 5;
        let until = if planted(Plant::WorkerLeaseIgnored) { now + early } else { now };
        let gone: Vec<WorkerId> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.lease_until <= until)
            .map(|(id, _)| *id)
            .collect();
        for worker in gone {
            self.remove_worker(worker, now);
        }
    }

    fn expire_absent(&mut self, now: Instant) {
        let gone: Vec<WorkerId> =
            self.absent.iter().filter(|(_, until)| **until <= now).map(|(id, _)| *id).collect();
        for worker in gone {
            self.absent.remove(&worker);
            self.lose_outputs(worker, &BTreeSet::new());
        }
    }

    fn expire_attempts(&mut self, now: Instant) {
        let mut gone = Vec::new();
        for (id, attempt) in &self.attempts {
            let stalled = self.config.stall.is_some_and(|stall| now.since(attempt.moved) >= stall);
            if attempt.lease_until <= now {
                gone.push((*id, false));
            } else if stalled && !attempt.ready {
                gone.push((*id, true));
            }
        }
        for (id, stalled) in gone {
            if stalled {
                self.stalled(id, now);
            } else {
                self.lost(id, "its worker does not name it any more", now);
            }
        }
    }

    /// An attempt is heard of and does not get on.
    fn stalled(&mut self, id: AttemptId, now: Instant) {
        let Some(attempt) = self.attempts.get(&id) else { return };
        let (worker, of) = (attempt.worker, attempt.of);
        let (error, cause) =
            ("it made no progress for too long".to_owned(), Cause::User { suspects: None });
        self.failed(worker, of, Failure { error, cause }, now);
        self.durability.hold(Output::Cancel { worker, attempt: of });
    }

    fn expire_old_grants(&mut self, now: Instant) {
        let mut free = Vec::new();
        for job in self.live.iter().filter_map(|id| self.jobs.get(id)) {
            let over = job.old_grants.iter().filter(|(_, (_, until))| *until <= now);
            free.extend(over.map(|(task, _)| (job.id, *task)));
        }
        for (id, task) in free {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.old_grants.remove(&task);
                if let Some(task) = job.task_mut(task) {
                    task.granted = None;
                }
            }
            self.grant_next(id, task);
        }
    }

    /// An attempt is not heard of any more.
    fn lost(&mut self, id: AttemptId, why: &str, now: Instant) {
        let Some(attempt) = self.attempts.get(&id) else { return };
        let (of, worker) = (attempt.of, attempt.worker);
        if let Some(job) = self.jobs.get_mut(&of.job) {
            job.tasks_mut(of.task.phase).counts.lost += 1;
            job.noted(TaskError { task: of.task, attempt: id, worker, error: why.to_owned() });
        }
        self.end_attempt(id);
        self.lost_once_more(of.job, of.task, why, now);
    }

    /// The worker is dead: what it ran is to be run by others, and all that it held is lost at once.
    pub(crate) fn remove_worker(&mut self, worker: WorkerId, now: Instant) {
        self.forget_worker(worker, now);
        self.lose_outputs(worker, &BTreeSet::new());
    }

    /// What the worker ran is lost; what it held may still be there.
    pub(crate) fn forget_worker(&mut self, id: WorkerId, now: Instant) {
        let Some(worker) = self.workers.get(&id) else { return };
        for attempt in worker.running.clone() {
            self.lost(attempt, "its worker was lost", now);
        }
        self.workers.remove(&id);
        self.pulling.retain(|waiting| *waiting != id);
        self.changed = true;
    }

    /// Map outputs of this worker are lost, except those of the attempts in `kept`.
    pub(crate) fn lose_outputs(&mut self, worker: WorkerId, kept: &BTreeSet<AttemptId>) {
        for job in self.jobs.values_mut() {
            if !job.is_live() || job.commits(Phase::Map) {
                continue;
            }
            let is_lost = |accepted: Option<(AttemptId, WorkerId)>| {
                accepted
                    .is_some_and(|(attempt, holder)| holder == worker && !kept.contains(&attempt))
            };
            let lost: Vec<u32> = job
                .maps
                .iter()
                .filter(|(_, task)| is_lost(task.accepted))
                .map(|(number, _)| number)
                .collect();
            for number in lost {
                job.maps.counts.lost += 1;
                job.maps.lose(number);
                self.changed = true;
            }
        }
    }
}
