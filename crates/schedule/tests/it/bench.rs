//! A scheduler with well-behaved workers, for tests that say what happens step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kontiki_schedule::{
    Assignment, AttemptRef, Cause, Config, Counters, Failure, Heard, Held, JobId, JobSpec, Journal,
    Life, Outcome, Output, Record, Registration, Report, Running, Scheduler, Sign, TaskId,
    UnknownWorker, Verdict, Work, WorkerId, persist,
};
use kontiki_types::Instant;

/// Records that are durable.
#[derive(Clone, Default)]
pub struct Kept(pub Vec<Record>);

impl Journal for Kept {
    type Error = ();

    fn append(&mut self, records: &[Record]) -> Result<(), ()> {
        self.0.extend_from_slice(records);
        Ok(())
    }
}

pub struct Bench {
    pub scheduler: Scheduler,
    pub now: Instant,
    pub journal: Kept,
    pub assigned: Vec<(WorkerId, Assignment)>,
    pub verdicts: Vec<(WorkerId, AttemptRef, Verdict)>,
    pub cancelled: Vec<(WorkerId, AttemptRef)>,
    pub ended: Vec<(JobId, Outcome)>,
    pub config: Config,
    /// Of the workers that register from here on.
    pub address: &'static str,
    lives: BTreeMap<WorkerId, u64>,
    sequence: u64,
    checks: bool,
    /// What each worker got by `take` and has not ended.
    mine: BTreeMap<u64, BTreeSet<AttemptRef>>,
}

pub fn worker(number: u64) -> WorkerId {
    WorkerId(number)
}

pub fn counted(amount: i64) -> Counters {
    let mut counters = Counters::new();
    counters.add("test", "records", amount);
    counters
}

pub fn user_failure(suspects: Option<std::ops::Range<u64>>) -> Report {
    Report::Failed(Failure { error: "boom".into(), cause: Cause::User { suspects } })
}

impl Bench {
    pub fn new() -> Self {
        Self::with(Config::default())
    }

    pub fn with(config: Config) -> Self {
        let now = Instant(1_000_000);
        Self {
            scheduler: Scheduler::new(config.clone(), 7, now),
            now,
            journal: Kept::default(),
            assigned: Vec::new(),
            verdicts: Vec::new(),
            cancelled: Vec::new(),
            ended: Vec::new(),
            config,
            address: "host:1",
            lives: BTreeMap::new(),
            sequence: 0,
            checks: true,
            mine: BTreeMap::new(),
        }
    }

    /// Without looking at all books after each step, which takes longer the more there is in them.
    pub fn quick() -> Self {
        Self { checks: false, ..Self::new() }
    }

    /// Kills the coordinator and starts it again with what is durable.
    pub fn restart(&mut self) {
        let records = self.journal.0.clone();
        self.scheduler =
            Scheduler::recover(self.config.clone(), 8, records, self.now).expect("its own journal");
        self.settle();
    }

    pub fn submit(&mut self, maps: u32, reduces: u32) -> JobId {
        self.submit_spec(JobSpec::new("test", maps, reduces))
    }

    pub fn submit_spec(&mut self, spec: JobSpec) -> JobId {
        let job = self.scheduler.submit(spec, self.now).expect("a job that can be");
        self.settle();
        job
    }

    pub fn sign(&mut self, id: WorkerId, running: &[AttemptRef]) -> Sign {
        self.sequence += 1;
        let life = Life(*self.lives.entry(id).or_insert(1));
        let running = running.iter().map(|attempt| Running {
            attempt: *attempt,
            progress: self.sequence,
            permille: 0,
            status: String::new(),
            is_probe: false,
        });
        Sign { worker: id, life, sequence: self.sequence, running: running.collect() }
    }

    pub fn register(&mut self, number: u64) -> Heard {
        self.register_with(number, &[], &[])
    }

    pub fn register_with(
        &mut self,
        number: u64,
        running: &[AttemptRef],
        held: &[AttemptRef],
    ) -> Heard {
        let sign = self.sign(worker(number), running);
        let held = held.iter().map(|attempt| Held { attempt: *attempt, counters: counted(1) });
        let hello =
            Registration { sign, address: self.address.to_owned(), slots: 4, held: held.collect() };
        let heard = self.scheduler.register(hello, self.now).expect("a present life");
        self.settle();
        heard
    }

    /// The worker's process died and was started again; it registers with what it still holds.
    pub fn reborn(&mut self, number: u64, held: &[AttemptRef]) -> Heard {
        *self.lives.entry(worker(number)).or_insert(1) += 1;
        self.mine.remove(&number);
        self.register_with(number, &[], held)
    }

    pub fn heartbeat(
        &mut self,
        number: u64,
        running: &[AttemptRef],
    ) -> Result<Heard, UnknownWorker> {
        let sign = self.sign(worker(number), running);
        let heard = self.scheduler.heartbeat(&sign, self.now);
        self.settle();
        heard
    }

    /// Asks for up to `free` attempts and gives those that come at once.
    pub fn pull(&mut self, number: u64, free: u32, running: &[AttemptRef]) -> Vec<Assignment> {
        let before = self.assigned.len();
        let sign = self.sign(worker(number), running);
        self.scheduler.pull(&sign, free, self.now).expect("a registered worker");
        self.settle();
        let new = self.assigned[before..].iter().filter(|(id, _)| *id == worker(number));
        let new = new.map(|(_, assignment)| assignment.clone()).collect();
        self.scheduler.withdraw(worker(number), self.sequence);
        new
    }

    /// Asks for one attempt, which there must be.
    pub fn take(&mut self, number: u64) -> AttemptRef {
        self.take_beside(number, &[])
    }

    pub fn take_beside(&mut self, number: u64, running: &[AttemptRef]) -> AttemptRef {
        let mut all = self.mine.get(&number).cloned().unwrap_or_default();
        all.extend(running);
        let all: Vec<_> = all.into_iter().collect();
        let mut assignments = self.pull(number, 1, &all);
        assert_eq!(assignments.len(), 1, "worker {number} gets one attempt");
        let assignment = assignments.remove(0);
        assert_eq!(assignment.work, Work::Run);
        self.mine.entry(number).or_default().insert(assignment.attempt);
        assignment.attempt
    }

    pub fn report(&mut self, number: u64, attempt: AttemptRef, report: Report) -> Option<Verdict> {
        let before = self.verdicts.len();
        if !matches!(report, Report::Ready) {
            self.mine.entry(number).or_default().remove(&attempt);
        }
        let life = Life(*self.lives.entry(worker(number)).or_insert(1));
        self.scheduler.report(worker(number), life, attempt, report, self.now);
        self.settle();
        let mut new = self.verdicts[before..].iter();
        new.find(|(id, of, _)| (*id, *of) == (worker(number), attempt))
            .map(|(_, _, verdict)| *verdict)
    }

    pub fn map_done(&mut self, number: u64, attempt: AttemptRef) -> Option<Verdict> {
        self.report(number, attempt, Report::MapDone(counted(1)))
    }

    /// Asks for the grant, has it and commits.
    pub fn commit(&mut self, number: u64, attempt: AttemptRef) {
        assert_eq!(self.report(number, attempt, Report::Ready), Some(Verdict::Granted));
        let verdict = self.report(number, attempt, Report::Committed(counted(1)));
        assert_eq!(verdict, Some(Verdict::Accepted));
    }

    /// Time passes in which these workers send heartbeats and all others are silent.
    pub fn pass(&mut self, time: Duration, alive: &[(u64, &[AttemptRef])]) {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + Duration::from_millis(500));
            for (number, running) in alive {
                let _ = self.heartbeat(*number, running);
            }
            self.scheduler.tick(self.now);
            self.settle();
        }
    }

    pub fn settle(&mut self) {
        while let Some(output) = self.scheduler.poll(self.now) {
            match output {
                Output::Write(batch) => {
                    let receipt = persist(&mut self.journal, batch).expect("it keeps all");
                    self.scheduler.persisted(receipt);
                }
                Output::Submitted { .. } => {}
                Output::Assign { worker, assignments, .. } => {
                    self.assigned.extend(assignments.into_iter().map(|one| (worker, one)));
                }
                Output::Verdict { worker, attempt, verdict } => {
                    self.verdicts.push((worker, attempt, verdict));
                }
                Output::Cancel { worker, attempt } => self.cancelled.push((worker, attempt)),
                Output::Ended { job, outcome } => self.ended.push((job, outcome)),
            }
        }
        if self.checks {
            self.scheduler.check().expect("the books are right");
        }
    }

    /// Does all maps of the only job on one worker.
    pub fn do_maps(&mut self, number: u64, maps: u32) -> Vec<AttemptRef> {
        let attempts: Vec<_> = (0..maps).map(|_| self.take(number)).collect();
        for attempt in &attempts {
            assert_eq!(self.map_done(number, *attempt), Some(Verdict::Accepted));
        }
        attempts
    }
}

pub fn tasks(attempts: &[AttemptRef]) -> Vec<TaskId> {
    attempts.iter().map(|attempt| attempt.task).collect()
}
