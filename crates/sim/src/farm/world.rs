//! The coordinator, the workers, and what happens between and to them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kontiki_schedule::{
    AttemptRef, Config, JobId, JobSpec, Journal, Life, Outcome, Output, Phase, Record, Scheduler,
    Verdict, WorkerId, WriteBatch, persist,
};
use kontiki_types::{Instant, NodeId};

use super::PATIENCE;
use super::message::{Answer, Ask, Fetch};
use super::toy::{Counts, Toy};
use super::worker::{Deed, Worker};
use crate::invariants::{Checked, Violation};
use crate::network::{Kind, Network, Quality};
use crate::random::Random;
use crate::schedule::Schedule;

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    pub(super) network: bool,
    pub(super) workers: bool,
    pub(super) coordinator: bool,
    pub(super) rot: bool,
    pub(super) straggler: bool,
    /// User code fails now and then.
    pub(super) failures: bool,
    /// The coordinator dies, and workers fall asleep, just when something was said that counts.
    pub(super) moments: bool,
    /// No fault: the job has no reduces, so its maps put their outputs in place.
    pub(super) maps_only: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            network: false,
            workers: false,
            coordinator: false,
            rot: false,
            straggler: false,
            failures: true,
            moments: false,
            maps_only: false,
        }
    }
}

impl Faults {
    pub(super) fn all() -> Self {
        Self {
            network: true,
            workers: true,
            coordinator: true,
            rot: true,
            straggler: true,
            failures: true,
            moments: true,
            maps_only: false,
        }
    }
}

/// What was seen of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) maps: u32,
    pub(super) reduces: u32,
    /// Maps that ran to their end.
    pub(super) mapped: u32,
    /// Attempts of maps that had been accepted before.
    pub(super) again: u32,
    pub(super) backups: u64,
    /// Starts of the coordinator.
    pub(super) starts: u32,
}

/// The output of a task, where everybody sees it.
struct Placed {
    by: AttemptRef,
    worker: WorkerId,
    life: Life,
    /// Until when its worker could take its grant as good.
    valid_until: Instant,
    counts: Counts,
}

enum Event {
    Ask(Ask),
    Answer(WorkerId, Answer),
    Fetch(WorkerId, WorkerId, Fetch),
    /// A worker does what is due.
    Step(WorkerId),
    Tick,
    /// A batch has reached the disk, in this life of the coordinator.
    Synced(u32),
    Fault,
    WorkerUp(WorkerId),
    CoordinatorUp,
    Submit,
}

#[derive(Default)]
struct Disk(Vec<Record>);

impl Journal for Disk {
    type Error = std::convert::Infallible;

    fn append(&mut self, records: &[Record]) -> Result<(), Self::Error> {
        // As on a real disk: in bytes.
        for record in records {
            self.0.push(Record::decode(&record.encode()).unwrap_or_else(|_| record.clone()));
        }
        Ok(())
    }
}

/// See the module.
pub(super) struct World {
    now: Instant,
    events: Schedule<Event>,
    network: Network,
    random: Random,
    faults: Faults,
    faults_until: Instant,
    config: Config,
    toy: Toy,
    token: u64,
    scheduler: Option<Scheduler>,
    starts: u32,
    journal: Disk,
    writing: VecDeque<WriteBatch>,
    disk_free_at: Instant,
    workers: BTreeMap<WorkerId, Worker>,
    /// Where the job's output goes.
    finals: BTreeMap<u32, Placed>,
    /// Outputs whose workers know that they are committed.
    told: BTreeSet<u32>,
    job: Option<JobId>,
    done: bool,
    mapped: u32,
    /// Maps whose workers know that they are accepted.
    accepted: BTreeSet<u32>,
    again: u32,
}

const STEP: Duration = Duration::from_millis(20);
const COORDINATOR: NodeId = NodeId(1000);
/// The property that the output shows.
const OUTPUT: &str = "The output is that of a sequential run";

fn node(worker: WorkerId) -> NodeId {
    NodeId(worker.0)
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let mut random = Random::new(seed);
        let maps = if faults.straggler { random.between(10, 30) } else { random.between(0, 12) };
        let mut toy = Toy::new(maps as u32, random.between(1, 6) as u32, &mut random);
        if faults.maps_only {
            toy.reduces = 0;
        }
        let mut config = Config { backup_age_min: Duration::from_secs(2), ..Config::default() };
        if !faults.failures && !faults.straggler {
            // Runs are counted.
            config.backup_percent = 0;
        }
        if faults.moments {
            // Attempts that race, so that there is somebody else to be granted.
            config.backup_age_min = Duration::from_millis(100);
            (config.backup_percent, config.backups_permille) = (100, 1000);
        }
        let quality = if faults.network { Quality::long_reordering() } else { Quality::good() };
        let network = Network::new(quality, random.fork());
        let mut workers: BTreeMap<_, _> = (1..=random.between(2, 4))
            .map(|number| (WorkerId(number), Worker::new(WorkerId(number), random.fork())))
            .collect();
        for worker in workers.values_mut() {
            worker.user_fails = faults.failures;
        }
        if faults.straggler
            && let Some(worker) = workers.get_mut(&WorkerId(1))
        {
            worker.slowness = 10;
        }
        Self {
            now: Instant(0),
            events: Schedule::default(),
            network,
            faults,
            faults_until: Instant(0) + Duration::from_secs(random.between(5, 60)),
            config,
            toy,
            token: random.number() | 1,
            scheduler: None,
            starts: 0,
            journal: Disk::default(),
            writing: VecDeque::new(),
            disk_free_at: Instant(0),
            workers,
            finals: BTreeMap::new(),
            told: BTreeSet::new(),
            job: None,
            done: false,
            mapped: 0,
            accepted: BTreeSet::new(),
            again: 0,
            random,
        }
    }

    pub(super) fn run(mut self) -> Result<Seen, Violation> {
        self.events.add(self.now, Event::CoordinatorUp);
        for id in self.workers.keys().copied().collect::<Vec<_>>() {
            self.events.add(self.now, Event::WorkerUp(id));
        }
        self.events.add(self.now, Event::Submit);
        self.events.add(self.now + Duration::from_millis(100), Event::Fault);
        let end = self.faults_until + PATIENCE;
        while !self.done {
            let Some((at, event)) = self.events.pop(end) else {
                let seen = format!("it goes on {PATIENCE:?} after the last fault");
                return Err(Violation::new("A job ends when faults do", seen));
            };
            self.now = at;
            self.happen(event)?;
        }
        // What is still under way must not change anything.
        let end = self.now + 3 * self.config.lease;
        while let Some((at, event)) = self.events.pop(end) {
            self.now = at;
            self.happen(event)?;
        }
        self.seen()
    }

    fn seen(&self) -> Result<Seen, Violation> {
        let status = match (&self.scheduler, self.job) {
            (Some(scheduler), Some(job)) => scheduler.job(job, self.now),
            _ => None,
        };
        let backups = status.map_or(0, |job| job.maps.counts.backups + job.reduces.counts.backups);
        Ok(Seen {
            maps: self.toy.maps(),
            reduces: self.toy.reduces,
            mapped: self.mapped,
            again: self.again,
            backups,
            starts: self.starts,
        })
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Ask(ask) => self.asked(ask),
            Event::Answer(to, answer) => self.answered(to, answer)?,
            Event::Fetch(from, to, fetch) => self.fetched(from, to, fetch)?,
            Event::Step(id) => self.step(id)?,
            Event::Tick => {
                if let Some(scheduler) = &mut self.scheduler {
                    scheduler.tick(self.now);
                    self.events.add(scheduler.next_deadline(), Event::Tick);
                }
            }
            Event::Synced(start) => {
                if start == self.starts
                    && let Some(scheduler) = &mut self.scheduler
                    && let Some(batch) = self.writing.pop_front()
                    && let Ok(receipt) = persist(&mut self.journal, batch)
                {
                    scheduler.persisted(receipt);
                }
            }
            Event::Fault => self.fault(),
            Event::WorkerUp(id) => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.start(self.now);
                    self.events.add(self.now, Event::Step(id));
                }
            }
            Event::CoordinatorUp => self.coordinator_up()?,
            Event::Submit => {
                if !self.done && self.job.is_none() {
                    self.ask(NodeId(0), Ask::Submit);
                    self.events.add(self.now + Duration::from_secs(1), Event::Submit);
                }
            }
        }
        self.drain()
    }

    fn coordinator_up(&mut self) -> Checked {
        self.starts += 1;
        let seed = self.random.number();
        let records = self.journal.0.clone();
        let scheduler = Scheduler::recover(self.config.clone(), seed, records, self.now)
            .map_err(|error| Violation::new("A journal can be read again", error.to_string()))?;
        if let Some(job) = self.job {
            let commits = |job: kontiki_schedule::JobStatus| {
                if self.toy.reduces == 0 { job.maps.done } else { job.reduces.done }
            };
            let done = scheduler.job(job, self.now).map(|job| commits(job) as usize);
            if done.is_none_or(|done| done < self.told.len()) {
                let seen = format!("{} commits were told, and {done:?} are known", self.told.len());
                return Err(Violation::new("What was told is durable", seen));
            }
        }
        self.events.add(scheduler.next_deadline(), Event::Tick);
        self.scheduler = Some(scheduler);
        self.disk_free_at = self.now;
        Ok(())
    }

    fn coordinator_down(&mut self) {
        self.scheduler = None;
        // Of what was on its way to the disk some may have arrived, in order.
        let arrived = self.random.between(0, self.writing.len() as u64) as usize;
        for batch in self.writing.drain(..).take(arrived) {
            let _ = persist(&mut self.journal, batch);
        }
        let back = self.now + self.random.time(Duration::from_millis(50), Duration::from_secs(5));
        self.events.add(back, Event::CoordinatorUp);
    }

    /// Takes what the scheduler wants done, and looks at its books.
    fn drain(&mut self) -> Checked {
        while let Some(scheduler) = &mut self.scheduler {
            let Some(output) = scheduler.poll(self.now) else {
                let books = |wrong| Violation::new("The scheduler's books are right", wrong);
                return scheduler.check().map_err(books);
            };
            match output {
                Output::Write(batch) => {
                    self.writing.push_back(batch);
                    let least = Duration::from_micros(200);
                    // Now and then a disk stalls, so that much waits for it.
                    let most = if self.random.chance(200) { 600 } else { 8 };
                    let time = self.random.time(least, Duration::from_millis(most));
                    self.disk_free_at = self.disk_free_at.max(self.now) + time;
                    self.events.add(self.disk_free_at, Event::Synced(self.starts));
                }
                Output::Submitted { job } => {
                    if self.job.is_some_and(|known| known != job) {
                        let seen = format!("{job:?} after {:?}", self.job);
                        return Err(Violation::new("A job submitted again is the same", seen));
                    }
                    self.job = Some(job);
                }
                Output::Assign { worker, pull, assignments } => {
                    let done = assignments.iter().map(|it| it.attempt.task).filter(|task| {
                        task.phase == Phase::Map && self.accepted.contains(&task.number)
                    });
                    self.again += done.count() as u32;
                    self.answer(worker, Answer::Assigned(pull, assignments));
                }
                Output::Verdict { worker, attempt, verdict } => {
                    if verdict == Verdict::Accepted && attempt.task.phase == Phase::Map {
                        self.accepted.insert(attempt.task.number);
                    }
                    let placed = self.finals.get(&attempt.task.number);
                    if verdict == Verdict::Accepted && placed.is_some_and(|one| one.by == attempt) {
                        self.told.insert(attempt.task.number);
                    }
                    self.answer(worker, Answer::Verdict(attempt, verdict));
                    self.moment(worker, verdict);
                }
                Output::Cancel { .. } => {}
                Output::Ended { job, outcome } => self.ended(job, outcome)?,
            }
        }
        Ok(())
    }

    /// Something was said. Only just: what the coordinator had not made durable may be lost.
    fn moment(&mut self, to: WorkerId, verdict: Verdict) {
        if !self.faults.moments || self.now >= self.faults_until {
            return;
        }
        let counts = matches!(verdict, Verdict::Granted | Verdict::Accepted);
        if counts && self.random.chance(100) {
            self.coordinator_down();
        }
        if verdict == Verdict::Granted && self.random.chance(200) {
            let nap = self.random.time(Duration::from_secs(1), self.config.lease);
            if let Some(worker) = self.workers.get_mut(&to) {
                worker.paused_until = self.now + nap;
            }
        }
    }

    fn ended(&mut self, job: JobId, outcome: Outcome) -> Checked {
        if outcome != Outcome::Done {
            return Err(Violation::new(
                "No job fails but by its own fault",
                format!("{outcome:?}"),
            ));
        }
        self.done = true;
        for output in 0..self.toy.outputs() {
            let expected = self.toy.expected(output);
            let found = self.finals.get(&output).map(|placed| &placed.counts);
            if found != Some(&expected) {
                return Err(Violation::new(
                    OUTPUT,
                    format!("output {output} has {found:?} and not {expected:?}"),
                ));
            }
        }
        let Some(status) = self.scheduler.as_ref().and_then(|known| known.job(job, self.now))
        else {
            return Ok(());
        };
        let outputs = 0..self.toy.outputs();
        let keys: usize = outputs.map(|output| self.toy.expected(output).len()).sum();
        let expected = (self.toy.all_records(), keys as i64);
        let found = (status.counters.get("toy", "records"), status.counters.get("toy", "keys"));
        if found != expected {
            let seen = format!("records and keys are {found:?} and not {expected:?}");
            return Err(Violation::new("Each task is counted once", seen));
        }
        Ok(())
    }

    fn ask(&mut self, from: NodeId, ask: Ask) {
        for at in self.network.send(self.now, from, COORDINATOR, Kind::Request, 100) {
            self.events.add(at, Event::Ask(ask.clone()));
        }
    }

    fn answer(&mut self, to: WorkerId, answer: Answer) {
        for at in self.network.send(self.now, COORDINATOR, node(to), Kind::Answer, 100) {
            self.events.add(at, Event::Answer(to, answer.clone()));
        }
    }

    fn asked(&mut self, ask: Ask) {
        let now = self.now;
        let Some(scheduler) = &mut self.scheduler else { return };
        let (worker, answer) = match ask {
            Ask::Submit => {
                let mut spec = JobSpec::new("toy", self.toy.maps(), self.toy.reduces);
                (spec.token, spec.failures_max) = (self.token, 20);
                let _ = scheduler.submit(spec, now);
                return;
            }
            Ask::Register(hello, asked) => {
                let worker = hello.sign.worker;
                // An old message is not answered.
                let Ok(heard) = scheduler.register(hello, now) else { return };
                (worker, Answer::Registered(heard, asked))
            }
            Ask::Heartbeat(sign, asked) => {
                let heard = scheduler.heartbeat(&sign, now);
                let heard = heard.map(|heard| Answer::Heard(heard, asked));
                (sign.worker, heard.unwrap_or(Answer::Unknown))
            }
            Ask::Pull(sign, free, asked) => {
                let heard = scheduler.pull(&sign, free, now);
                let heard = heard.map(|heard| Answer::Heard(heard, asked));
                (sign.worker, heard.unwrap_or(Answer::Unknown))
            }
            Ask::Report(worker, life, of, report) => {
                return scheduler.report(worker, life, of, report, now);
            }
            Ask::Outputs(worker, job, since) => {
                (worker, Answer::Outputs(job, since, scheduler.map_outputs(job, since)))
            }
        };
        self.answer(worker, answer);
    }

    fn answered(&mut self, to: WorkerId, answer: Answer) -> Checked {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&to).filter(|worker| worker.is_up) else {
            return Ok(());
        };
        if worker.paused_until > now {
            self.events.add(worker.paused_until, Event::Answer(to, answer));
            return Ok(());
        }
        worker.answered(answer, now);
        Ok(())
    }

    fn fetched(&mut self, from: WorkerId, to: WorkerId, fetch: Fetch) -> Checked {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&to).filter(|worker| worker.is_up) else {
            return Ok(());
        };
        if worker.paused_until > now {
            self.events.add(worker.paused_until, Event::Fetch(from, to, fetch));
            return Ok(());
        }
        let deeds = worker.fetch(from, fetch, now).into_iter().collect();
        self.perform(to, deeds)
    }

    fn step(&mut self, id: WorkerId) -> Checked {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.is_up) else {
            return Ok(());
        };
        if worker.paused_until > now {
            self.events.add(worker.paused_until, Event::Step(id));
            return Ok(());
        }
        let deeds = worker.step(now, &self.toy, self.config.lease);
        self.events.add(now + STEP, Event::Step(id));
        self.perform(id, deeds)
    }

    fn perform(&mut self, by: WorkerId, deeds: Vec<Deed>) -> Checked {
        for deed in deeds {
            match deed {
                Deed::Ask(ask) => self.ask(node(by), ask),
                Deed::Fetch(to, fetch) => {
                    for at in self.network.send(self.now, node(by), node(to), Kind::Request, 100) {
                        self.events.add(at, Event::Fetch(by, to, fetch.clone()));
                    }
                }
                Deed::Mapped(attempt) => {
                    debug_assert_eq!(attempt.task.phase, Phase::Map);
                    self.mapped += 1;
                }
                Deed::Rename(attempt, counts, valid_until) => {
                    self.rename(by, attempt, counts, valid_until)?;
                }
            }
        }
        Ok(())
    }

    fn rename(
        &mut self,
        worker: WorkerId,
        by: AttemptRef,
        counts: Counts,
        valid_until: Instant,
    ) -> Checked {
        if self.done {
            let seen = format!("{by:?} put another one in its place");
            return Err(Violation::new("Output is final when a job is done", seen));
        }
        let output = by.task.number;
        if let Some(earlier) = self.finals.get(&output).filter(|earlier| earlier.by != by) {
            let holder = self.workers.get(&earlier.worker);
            let lives = holder.is_some_and(|holder| holder.is_up && holder.life == earlier.life);
            if lives && self.now < earlier.valid_until {
                let seen = format!("{by:?} while {:?} had the grant", earlier.by);
                return Err(Violation::new("One attempt at a time is granted", seen));
            }
        }
        let life = self.workers.get(&worker).map_or(Life(0), |worker| worker.life);
        self.finals.insert(output, Placed { by, worker, life, valid_until, counts });
        Ok(())
    }

    fn fault(&mut self) {
        if self.now >= self.faults_until {
            self.network.set_quality(Quality::good());
            return;
        }
        let next = self.random.time(Duration::from_millis(200), Duration::from_secs(8));
        self.events.add(self.now + next, Event::Fault);
        let kind = self.random.below(6);
        let ids: Vec<_> = self.workers.keys().copied().collect();
        let Some(&id) = self.random.pick(&ids) else { return };
        let soon = self.random.time(Duration::from_millis(10), Duration::from_secs(15));
        let lost_disk = self.random.chance(300);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match kind {
            0 | 1 if self.faults.workers && worker.is_up => {
                worker.kill();
                if lost_disk {
                    worker.disk.outputs.clear();
                }
                self.events.add(self.now + soon, Event::WorkerUp(id));
            }
            2 if self.faults.workers && worker.is_up => worker.paused_until = self.now + soon,
            3 | 4 if self.faults.coordinator && self.scheduler.is_some() => self.coordinator_down(),
            5 if self.faults.rot => worker.rot(),
            _ => {}
        }
    }
}
