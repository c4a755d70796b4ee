//! The scheduler itself: its state, what it is told, and what comes out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kontiki_types::Instant;
use kontiki_types::plant::{Plant, planted};

use crate::config::{SLOTS_MAX, TASKS_MAX};
use crate::ids::ATTEMPT_BITS;
use crate::job::Job;
use crate::worker::{Attempt, Pull, Worker};
use crate::{
    AttemptId, AttemptRef, Config, Heard, JobId, JobSpec, Life, Outcome, Output, Phase, Receipt,
    Record, Registration, Running, Sign, TaskId, UnknownWorker, Verdict, WorkerId, WriteBatch,
};

/// The scheduler. See the [crate's documentation](crate).
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) config: Config,
    random: u64,
    pub(crate) epoch: u32,
    attempts_begun: u64,
    jobs_begun: u32,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    /// Those that have not ended.
    pub(crate) live: BTreeSet<JobId>,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    /// Workers that wait for work, the one that has waited longest first.
    pub(crate) pulling: VecDeque<WorkerId>,
    pub(crate) attempts: BTreeMap<AttemptId, Attempt>,
    /// Workers that held outputs before a restart, until when they may come back.
    pub(crate) absent: BTreeMap<WorkerId, Instant>,
    /// No work is given away before this.
    pub(crate) hold_until: Instant,
    /// Whether anything has changed that could make work for those who wait.
    pub(crate) changed: bool,
    pub(crate) next_tick: Instant,
    pub(crate) durability: Durability,
}

/// Records and the outputs that wait for them.
#[derive(Debug)]
pub(crate) struct Durability {
    owner: u64,
    pending: Vec<Record>,
    issued: u64,
    done: u64,
    /// Each with the batch before which it must not leave.
    held: VecDeque<(u64, Output)>,
}

impl Durability {
    pub(crate) fn record(&mut self, record: Record) {
        self.pending.push(record);
    }

    /// The batch after which everything that was recorded so far is durable.
    pub(crate) fn latest(&self) -> u64 {
        self.issued + u64::from(!self.pending.is_empty())
    }

    pub(crate) fn is_durable(&self, batch: u64) -> bool {
        batch <= self.done
    }

    pub(crate) fn hold(&mut self, output: Output) {
        let batch = if planted(Plant::ToldBeforeDurable) { 0 } else { self.latest() };
        self.held.push_back((batch, output));
    }

    fn next(&mut self) -> Option<Output> {
        if !self.pending.is_empty() {
            self.issued += 1;
            let records = std::mem::take(&mut self.pending);
            let receipt = Receipt { owner: self.owner, sequence: self.issued };
            return Some(Output::Write(WriteBatch { records, receipt }));
        }
        let (batch, _) = self.held.front()?;
        if !self.is_durable(*batch) {
            return None;
        }
        self.held.pop_front().map(|(_, output)| output)
    }
}

/// A job that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// A phase has more than [`TASKS_MAX`] tasks.
    TooManyTasks(u32),
    /// No failure at all is allowed, so not even a first attempt.
    NoAttempts,
}

impl std::fmt::Display for SubmitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooManyTasks(tasks) => {
                write!(f, "{tasks} tasks in one phase are more than {TASKS_MAX}")
            }
            Self::NoAttempts => f.write_str("a task needs at least one attempt"),
        }
    }
}

impl std::error::Error for SubmitError {}

impl Scheduler {
    /// A scheduler without a past. `seed`: any number; another one for each start.
    pub fn new(config: Config, seed: u64, now: Instant) -> Self {
        let mut scheduler = Self::empty(config, seed, now);
        scheduler.start();
        scheduler
    }

    pub(crate) fn empty(config: Config, seed: u64, now: Instant) -> Self {
        let mut scheduler = Self {
            random: seed,
            epoch: 0,
            attempts_begun: 0,
            jobs_begun: 0,
            jobs: BTreeMap::new(),
            live: BTreeSet::new(),
            workers: BTreeMap::new(),
            pulling: VecDeque::new(),
            attempts: BTreeMap::new(),
            absent: BTreeMap::new(),
            hold_until: now,
            changed: false,
            next_tick: now + config.tick,
            config,
            durability: Durability {
                owner: 0,
                pending: Vec::new(),
                issued: 0,
                done: 0,
                held: VecDeque::new(),
            },
        };
        scheduler.durability.owner = scheduler.random();
        scheduler
    }

    /// Begins a new epoch.
    pub(crate) fn start(&mut self) {
        self.epoch += 1;
        self.durability.record(Record::Started { epoch: self.epoch });
    }

    /// The next thing to do, `None` when there is nothing before the next event. To be called until
    /// then after every event, or after several.
    pub fn poll(&mut self, now: Instant) -> Option<Output> {
        if self.changed && now >= self.hold_until {
            self.changed = false;
            self.assign(now);
        }
        self.durability.next()
    }

    /// The batch is durable.
    pub fn persisted(&mut self, receipt: Receipt) {
        let ours = receipt.owner == self.durability.owner;
        if ours && receipt.sequence == self.durability.done + 1 {
            self.durability.done = receipt.sequence;
        }
    }

    /// When [`Scheduler::tick`] is to be called at the latest.
    pub fn next_deadline(&self) -> Instant {
        self.next_tick
    }

    /// Takes a job. It may be spoken of once [`Output::Submitted`] comes out. A job whose token is
    /// known is that one, whatever else the spec says.
    ///
    /// # Errors
    /// A job that cannot be.
    pub fn submit(&mut self, spec: JobSpec, now: Instant) -> Result<JobId, SubmitError> {
        if let Some(tasks) = [spec.maps, spec.reduces].into_iter().find(|tasks| *tasks > TASKS_MAX)
        {
            return Err(SubmitError::TooManyTasks(tasks));
        }
        if spec.failures_max == 0 {
            return Err(SubmitError::NoAttempts);
        }
        let known = self.jobs.values().find(|job| spec.token != 0 && job.spec.token == spec.token);
        if let Some(job) = known.map(|job| job.id) {
            self.durability.hold(Output::Submitted { job });
            return Ok(job);
        }
        self.jobs_begun += 1;
        let job = JobId(u64::from(self.jobs_begun) << 32 | self.random() & 0xffff_ffff);
        self.durability.record(Record::Submitted { job, spec: spec.clone() });
        self.insert(Job::new(job, spec, now));
        self.durability.hold(Output::Submitted { job });
        self.end_if_complete(job, now);
        self.changed = true;
        Ok(job)
    }

    pub(crate) fn insert(&mut self, job: Job) {
        self.jobs_begun = self.jobs_begun.max((job.id.0 >> 32) as u32);
        self.live.insert(job.id);
        self.jobs.insert(job.id, job);
    }

    /// Ends a job, if it has not ended. Returns whether there is such a job.
    pub fn cancel(&mut self, job: JobId, now: Instant) -> bool {
        self.end_job(job, Outcome::Cancelled, now);
        self.jobs.contains_key(&job)
    }

    /// The payload of a job that has not ended.
    pub fn payload(&self, job: JobId) -> Option<&[u8]> {
        self.jobs.get(&job).filter(|job| job.is_live()).map(|job| job.spec.payload.as_slice())
    }

    /// Whether anything is still to be done for this job, so that its map outputs must be kept.
    pub fn is_live(&self, job: JobId) -> bool {
        self.live.contains(&job)
    }

    /// Where the map outputs of this worker are served.
    pub fn address(&self, worker: WorkerId) -> Option<&str> {
        self.workers.get(&worker).map(|worker| worker.address.as_str())
    }

    /// Accepted map outputs from position `since` of the list on, 0 for all, in the order of their
    /// acceptance, and the next `since`. A later one for the same map counts, and one that is lost
    /// is left out. `None` if the job is not live.
    ///
    /// A position is of one epoch: after a restart the list is another one, and who has read some
    /// of the list before gets all of it. A position beyond the end gets nothing.
    pub fn map_outputs(&self, job: JobId, since: u64) -> Option<(Vec<MapOutput>, u64)> {
        let job = self.jobs.get(&job).filter(|job| job.is_live())?;
        let durable = job.outputs.partition_point(|(_, batch)| self.durability.is_durable(*batch));
        let from = since.saturating_sub(self.position(0));
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(durable);
        let new = job.outputs.get(from..durable).unwrap_or(&[]);
        let outputs = new.iter().filter_map(|(map, _)| {
            let (attempt, worker) = job.maps.get(*map)?.accepted?;
            Some(MapOutput { map: *map, attempt, worker })
        });
        Some((outputs.collect(), self.position(durable)))
    }

    /// The position of an entry in this epoch's list of map outputs.
    pub(crate) fn position(&self, entry: usize) -> u64 {
        u64::from(self.epoch) << 32 | entry as u64
    }

    /// A worker introduces itself. See [`Registration`].
    ///
    /// # Errors
    /// A life before the one that is registered: an old message, not to be answered.
    pub fn register(&mut self, hello: Registration, now: Instant) -> Result<Heard, UnknownWorker> {
        let Registration { sign, address, slots, held } = hello;
        let (id, lease_until) = (sign.worker, now + self.config.lease);
        let slots = slots.clamp(1, SLOTS_MAX);
        let has_moved = self.workers.get(&id).is_none_or(|known| known.address != address);
        match self.workers.get_mut(&id) {
            Some(known) if sign.life < known.life => return Err(UnknownWorker),
            Some(known) if sign.life == known.life => {
                if sign.sequence <= known.sequence {
                    return Ok(Heard::default());
                }
                (known.address, known.slots) = (address, slots);
            }
            known => {
                if known.is_some() {
                    self.forget_worker(id, now);
                }
                let worker = Worker {
                    life: sign.life,
                    address,
                    slots,
                    sequence: 0,
                    lease_until,
                    registered: now,
                    running: BTreeSet::new(),
                    pulled: 0,
                    pull: None,
                    done: 0,
                    failed: 0,
                };
                self.workers.insert(id, worker);
            }
        }
        self.absent.remove(&id);
        // An output whose verdict is still on its way is named as running.
        let running = sign.running.iter().map(|running| running.attempt.attempt);
        let kept: BTreeSet<_> =
            held.iter().map(|held| held.attempt.attempt).chain(running).collect();
        self.lose_outputs(id, &kept);
        if has_moved {
            self.list_again(id);
        }
        let mut heard = self.hear(&sign, now)?;
        for held in held {
            if !self.holds(id, held.attempt, &held.counters, now) {
                heard.cancel.push(held.attempt);
            }
        }
        self.changed = true;
        Ok(heard)
    }

    /// Those who know where this worker's outputs were are to learn where they are.
    fn list_again(&mut self, worker: WorkerId) {
        let batch = self.durability.latest();
        for job in self.jobs.values_mut().filter(|job| job.is_live()) {
            let ours =
                |task: &crate::Task| task.accepted.is_some_and(|(_, holder)| holder == worker);
            let maps = job.maps.iter().filter(|(_, task)| ours(task)).map(|(map, _)| (map, batch));
            let maps: Vec<_> = maps.collect();
            if !job.commits(Phase::Map) {
                job.outputs.extend(maps);
            }
        }
    }

    /// A worker leaves, or its death is certain. Everything that it ran or held is lost.
    pub fn leave(&mut self, worker: WorkerId, life: Life, now: Instant) {
        if self.workers.get(&worker).is_some_and(|known| known.life == life) {
            self.remove_worker(worker, now);
        }
    }

    /// A sign of life, due every tenth of a lease.
    ///
    /// # Errors
    /// The worker must register.
    pub fn heartbeat(&mut self, sign: &Sign, now: Instant) -> Result<Heard, UnknownWorker> {
        self.hear(sign, now)
    }

    /// A worker with `free` slots waits for work, from here until it is answered by an
    /// [`Output::Assign`], its next pull, or [`Scheduler::withdraw`]. The worker is to ignore the
    /// answers to pulls before its latest: what they gave comes again.
    ///
    /// # Errors
    /// The worker must register.
    pub fn pull(&mut self, sign: &Sign, free: u32, now: Instant) -> Result<Heard, UnknownWorker> {
        let heard = self.hear(sign, now)?;
        // A heartbeat may have overtaken it: that is no reason not to answer.
        if let Some(worker) = self.workers.get_mut(&sign.worker)
            && sign.sequence > worker.pulled
        {
            worker.pulled = sign.sequence;
            let free = free.min(worker.slots);
            worker.pull = Some(Pull { sequence: sign.sequence, free });
            self.pulling.retain(|waiting| *waiting != sign.worker);
            self.pulling.push_back(sign.worker);
            self.changed = true;
        }
        Ok(heard)
    }

    /// Nobody waits for the answer to this pull any more.
    pub fn withdraw(&mut self, worker: WorkerId, pull: u64) {
        let Some(known) = self.workers.get_mut(&worker) else { return };
        if known.pull.is_some_and(|waiting| waiting.sequence == pull) {
            known.pull = None;
            self.pulling.retain(|waiting| *waiting != worker);
        }
    }

    /// Takes what a worker says of itself.
    fn hear(&mut self, sign: &Sign, now: Instant) -> Result<Heard, UnknownWorker> {
        let lease_until = now + self.config.lease;
        let worker = self.workers.get_mut(&sign.worker).ok_or(UnknownWorker)?;
        if worker.life != sign.life {
            return Err(UnknownWorker);
        }
        let mut heard = Heard::default();
        if sign.sequence <= worker.sequence {
            // Late or doubled: a newer one has said how things are.
            return Ok(heard);
        }
        worker.sequence = sign.sequence;
        worker.lease_until = lease_until;
        for running in &sign.running {
            if !self.goes_on(sign.worker, running, now) {
                heard.cancel.push(running.attempt);
            }
        }
        Ok(heard)
    }

    /// An attempt goes on. Returns whether anybody waits for it.
    fn goes_on(&mut self, worker: WorkerId, running: &Running, now: Instant) -> bool {
        let lease_until = now + self.config.lease;
        let known = self.attempts.get_mut(&running.attempt.attempt);
        let Some(attempt) = known else { return self.adopt(worker, running, now) };
        if attempt.of != running.attempt || attempt.worker != worker {
            return false;
        }
        attempt.unconfirmed = None;
        attempt.lease_until = lease_until;
        attempt.permille = running.permille.min(1000);
        attempt.said(&running.status);
        if running.progress > attempt.progress {
            (attempt.progress, attempt.moved) = (running.progress, now);
        }
        true
    }

    /// Takes up an attempt that was forgotten: by a coordinator that was started again, or because
    /// it was not heard of for too long.
    fn adopt(&mut self, worker: WorkerId, running: &Running, now: Instant) -> bool {
        let of = running.attempt;
        let Some(job) = self.jobs.get(&of.job).filter(|job| job.is_live()) else { return false };
        let Some(task) = job.task(of.task) else { return false };
        if let Some((accepted, _)) = task.accepted {
            // Its own verdict may still be on the way.
            return accepted == of.attempt;
        }
        if running.is_probe || job.given_up.contains(&of.attempt) {
            return false;
        }
        self.begin(of, worker, now, None, false);
        if let Some(attempt) = self.attempts.get_mut(&of.attempt) {
            attempt.unconfirmed = None;
            (attempt.progress, attempt.permille) = (running.progress, running.permille.min(1000));
            attempt.said(&running.status);
        }
        if let Some(job) = self.jobs.get_mut(&of.job) {
            let ours = |(granted, _): &(AttemptId, Instant)| *granted == of.attempt;
            if job.old_grants.get(&of.task).is_some_and(ours) {
                job.old_grants.remove(&of.task);
                // It may be about to put its output in place: nobody else may before it is lost.
                if let Some(task) = job.task_mut(of.task) {
                    task.granted = Some(of.attempt);
                }
            }
        }
        true
    }

    /// Puts an attempt into the books.
    pub(crate) fn begin(
        &mut self,
        of: AttemptRef,
        worker: WorkerId,
        now: Instant,
        pull: Option<u64>,
        is_probe: bool,
    ) {
        let Some(job) = self.jobs.get_mut(&of.job) else { return };
        let Some(known) = self.workers.get_mut(&worker) else { return };
        let is_backup = job.task(of.task).is_some_and(|task| !task.running.is_empty());
        job.tasks_mut(of.task.phase).begin(of.task.number, of.attempt);
        known.running.insert(of.attempt);
        let attempt = Attempt {
            of,
            worker,
            begun: now,
            lease_until: now + self.config.lease,
            progress: 0,
            permille: 0,
            status: String::new(),
            moved: now,
            unconfirmed: pull,
            is_probe,
            is_backup,
            ready: false,
        };
        self.attempts.insert(of.attempt, attempt);
    }

    pub(crate) fn next_attempt(&mut self) -> AttemptId {
        self.attempts_begun += 1;
        AttemptId(u64::from(self.epoch) << ATTEMPT_BITS | self.attempts_begun)
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn verdict(&mut self, worker: WorkerId, attempt: AttemptRef, verdict: Verdict) {
        self.durability.hold(Output::Verdict { worker, attempt, verdict });
    }

    /// Whether the books are right. For tests: it looks at everything.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        for job in self.live.iter().filter_map(|job| self.jobs.get(job)) {
            for phase in [Phase::Map, Phase::Reduce] {
                job.tasks(phase).check().map_err(|wrong| format!("{phase:?} {wrong}"))?;
                for (number, task) in job.tasks(phase).iter() {
                    let of = TaskId { phase, number };
                    let known = task.running.iter().all(|running| {
                        let attempt = self.attempts.get(running);
                        attempt.is_some_and(|attempt| {
                            (attempt.of.job, attempt.of.task) == (job.id, of)
                        })
                    });
                    if !known {
                        return Err(format!("{of}: not all of {:?} are known", task.running));
                    }
                }
            }
        }
        for (id, attempt) in &self.attempts {
            let job = self.jobs.get(&attempt.of.job).filter(|job| job.is_live());
            let task = job.and_then(|job| job.task(attempt.of.task));
            let worker = self.workers.get(&attempt.worker);
            let in_task = task.is_some_and(|task| task.running.contains(id));
            let in_worker = worker.is_some_and(|worker| worker.running.contains(id));
            if !(in_task && in_worker) {
                return Err(format!("{id} is in task: {in_task}, in worker: {in_worker}"));
            }
        }
        for (id, worker) in &self.workers {
            if let Some(lost) = worker.running.iter().find(|id| !self.attempts.contains_key(id)) {
                return Err(format!("{id} has {lost}, which is not known"));
            }
            if worker.pull.is_some() != self.pulling.contains(id) {
                return Err(format!("{id} waits for work, or does not, in one place only"));
            }
        }
        Ok(())
    }
}

/// Where the output of a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapOutput {
    /// The map.
    pub map: u32,
    /// The attempt whose output counts.
    pub attempt: AttemptId,
    /// Who holds it.
    pub worker: WorkerId,
}
