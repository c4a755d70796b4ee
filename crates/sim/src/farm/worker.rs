//! A simulated worker: what it remembers, what is on its disk, and what it does when.

use std::collections::BTreeMap;
use std::time::Duration;

use kontiki_schedule::{
    Assignment, AttemptId, AttemptRef, Cause, Counters, Failure, Heard, Held, JobId, Life,
    MapOutput, Phase, Registration, Report, Running, Sign, Verdict, WorkerId,
};
use kontiki_types::Instant;

use super::message::{Answer, Ask, Fetch, Got};
use super::toy::{Counts, Toy};
use crate::random::Random;

const HEARTBEAT: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(500);
const PULL_PATIENCE: Duration = Duration::from_secs(2);
const FETCH_TRIES: u32 = 3;

/// What a worker wants done.
#[derive(Debug)]
pub(super) enum Deed {
    Ask(Ask),
    Fetch(WorkerId, Fetch),
    /// Put the output of a task in its place; the grant is good until then.
    Rename(AttemptRef, Counts, Instant),
    /// A map has run to its end.
    Mapped(AttemptRef),
}

/// On disk: it survives the process.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) lives: u64,
    /// Buckets, counters, and whether they are rotten.
    pub(super) outputs: BTreeMap<AttemptRef, (Vec<Counts>, Counters, bool)>,
}

#[derive(Debug)]
enum State {
    Map {
        until: Instant,
    },
    Fetch(Fetching),
    Reduce {
        until: Instant,
        output: Counts,
    },
    /// The output waits for its grant.
    Ready {
        output: Counts,
        ask: Instant,
        /// The registration in which it was asked for last.
        asked_in: u64,
    },
    /// It was granted, and is being put in its place.
    Placing {
        output: Counts,
        until: Instant,
        asked_in: u64,
    },
    /// It has ended.
    Ended {
        report: Report,
        ask: Instant,
    },
}

#[derive(Debug)]
struct Fetching {
    outputs: u64,
    ask: Instant,
    next: u32,
    tries: u32,
    sum: Counts,
}

/// The worker's process.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) life: Life,
    pub(super) disk: Disk,
    pub(super) is_up: bool,
    pub(super) paused_until: Instant,
    /// User code fails now and then.
    pub(super) user_fails: bool,
    /// Tasks take so many times as long.
    pub(super) slowness: u32,
    sequence: u64,
    registered: bool,
    /// How often it has registered.
    registrations: u64,
    next_register: Instant,
    next_heartbeat: Instant,
    /// When the last message was sent that was answered.
    lease_from: Instant,
    pull: Option<(u64, Instant)>,
    running: BTreeMap<AttemptRef, (State, u64)>,
    known: BTreeMap<JobId, Known>,
    random: Random,
}

/// Which attempt's output of each map counts, who has it, and up to where that is known.
type Known = (BTreeMap<u32, (AttemptId, WorkerId)>, u64);

const SLOTS: u32 = 2;

impl Worker {
    pub(super) fn new(id: WorkerId, random: Random) -> Self {
        Self {
            id,
            life: Life(0),
            disk: Disk::default(),
            is_up: false,
            paused_until: Instant(0),
            user_fails: false,
            slowness: 1,
            sequence: 0,
            registered: false,
            registrations: 0,
            next_register: Instant(0),
            next_heartbeat: Instant(0),
            lease_from: Instant(0),
            pull: None,
            running: BTreeMap::new(),
            known: BTreeMap::new(),
            random,
        }
    }

    pub(super) fn start(&mut self, now: Instant) {
        self.disk.lives += 1;
        self.life = Life(self.disk.lives);
        self.is_up = true;
        self.sequence = 0;
        self.registered = false;
        self.next_register = now;
        self.pull = None;
        self.running.clear();
        self.known.clear();
    }

    pub(super) fn kill(&mut self) {
        self.is_up = false;
    }

    fn sign(&mut self) -> Sign {
        self.sequence += 1;
        let running = self.running.iter().map(|(attempt, (_, progress))| Running {
            attempt: *attempt,
            progress: *progress,
            permille: 0,
            status: String::new(),
            is_probe: false,
        });
        Sign {
            worker: self.id,
            life: self.life,
            sequence: self.sequence,
            running: running.collect(),
        }
    }

    /// Does what is due.
    pub(super) fn step(&mut self, now: Instant, toy: &Toy, lease: Duration) -> Vec<Deed> {
        let mut deeds = Vec::new();
        if !self.registered {
            if now >= self.next_register {
                self.next_register = now + RETRY;
                let sign = self.sign();
                let held = self.disk.outputs.iter().map(|(attempt, (_, counters, _))| Held {
                    attempt: *attempt,
                    counters: counters.clone(),
                });
                let address = format!("{}", self.id);
                let held = held.filter(|held| !self.running.contains_key(&held.attempt)).collect();
                let hello = Registration { sign, address, slots: SLOTS, held };
                deeds.push(Deed::Ask(Ask::Register(hello, now)));
            }
        } else {
            if now >= self.next_heartbeat {
                self.next_heartbeat = now + HEARTBEAT;
                let sign = self.sign();
                deeds.push(Deed::Ask(Ask::Heartbeat(sign, now)));
            }
            let free = SLOTS.saturating_sub(self.running.len() as u32);
            let waits = self.pull.is_some_and(|(_, since)| now.since(since) < PULL_PATIENCE);
            if free > 0 && !waits {
                let sign = self.sign();
                self.pull = Some((sign.sequence, now));
                deeds.push(Deed::Ask(Ask::Pull(sign, free, now)));
            }
        }
        for attempt in self.running.keys().copied().collect::<Vec<_>>() {
            self.attend(attempt, now, toy, lease, &mut deeds);
        }
        deeds
    }

    fn attend(
        &mut self,
        attempt: AttemptRef,
        now: Instant,
        toy: &Toy,
        lease: Duration,
        deeds: &mut Vec<Deed>,
    ) {
        let (id, life) = (self.id, self.life);
        let Some((state, progress)) = self.running.get_mut(&attempt) else { return };
        *progress += 1;
        match state {
            State::Map { until } if now >= *until => {
                let report = if self.user_fails && self.random.chance(20) {
                    failed("the mapper did not like it", Cause::User { suspects: None })
                } else if toy.reduces == 0 {
                    let output = toy.map(attempt.task.number).pop().unwrap_or_default();
                    deeds.push(Deed::Mapped(attempt));
                    *state = State::Ready { output, ask: now, asked_in: 0 };
                    return;
                } else {
                    let mut counters = Counters::new();
                    counters.add("toy", "records", toy.records(attempt.task.number));
                    let output = toy.map(attempt.task.number);
                    self.disk.outputs.insert(attempt, (output, counters.clone(), false));
                    deeds.push(Deed::Mapped(attempt));
                    Report::MapDone(counters)
                };
                *state = State::Ended { report, ask: now };
            }
            State::Fetch(fetching) if now >= fetching.ask => {
                fetching.ask = now + RETRY;
                let known = self.known.entry(attempt.job).or_default();
                if known.1 < fetching.outputs {
                    deeds.push(Deed::Ask(Ask::Outputs(id, attempt.job, known.1)));
                    return;
                }
                if fetching.next == toy.maps() {
                    let output = std::mem::take(&mut fetching.sum);
                    let time = self.random.time(Duration::from_millis(20), Duration::from_secs(2));
                    *state = State::Reduce { until: now + time * self.slowness, output };
                    return;
                }
                let map = fetching.next;
                fetching.tries += 1;
                match known.0.get(&map) {
                    Some((from, holder)) if fetching.tries <= FETCH_TRIES => {
                        let of = AttemptRef {
                            job: attempt.job,
                            task: kontiki_schedule::TaskId::map(map),
                            attempt: *from,
                        };
                        let bucket = attempt.task.number;
                        deeds.push(Deed::Fetch(*holder, Fetch::Ask { of, bucket, by: attempt }));
                    }
                    other => {
                        let from = other.map_or(AttemptId(0), |(from, _)| *from);
                        let cause = Cause::Fetch { map, from, corrupt: false };
                        *state = State::Ended { report: failed("not reached", cause), ask: now };
                    }
                }
            }
            State::Reduce { until, output } if now >= *until => {
                let output = std::mem::take(output);
                *state = State::Ready { output, ask: now, asked_in: 0 };
            }
            State::Ready { ask, asked_in, .. } if now >= *ask => {
                (*ask, *asked_in) = (now + RETRY, self.registrations);
                deeds.push(Deed::Ask(Ask::Report(id, life, attempt, Report::Ready)));
            }
            State::Placing { output, until, asked_in } if now >= *until => {
                let is_same = *asked_in == self.registrations;
                let output = std::mem::take(output);
                let valid_until = self.lease_from + lease;
                // A grant is good for as long as the lease, and ends with a lease that was over,
                // though the worker may have registered since; it is looked at at the last moment.
                if now < valid_until && is_same {
                    let mut counters = Counters::new();
                    counters.add("toy", "keys", output.len() as i64);
                    if toy.reduces == 0 {
                        counters.add("toy", "records", toy.records(attempt.task.number));
                    }
                    *state = State::Ended { report: Report::Committed(counters), ask: now };
                    deeds.push(Deed::Rename(attempt, output, valid_until));
                } else {
                    *state = State::Ready { output, ask: now, asked_in: 0 };
                }
            }
            State::Ended { report, ask } if now >= *ask => {
                *ask = now + RETRY;
                deeds.push(Deed::Ask(Ask::Report(id, life, attempt, report.clone())));
            }
            _ => {}
        }
    }

    pub(super) fn answered(&mut self, answer: Answer, now: Instant) {
        match answer {
            Answer::Registered(heard, asked) => {
                self.registered = true;
                self.registrations += 1;
                self.lease_from = self.lease_from.max(asked);
                self.cancel(&heard);
            }
            Answer::Heard(heard, asked) => {
                self.lease_from = self.lease_from.max(asked);
                self.cancel(&heard);
            }
            Answer::Unknown => {
                if self.registered {
                    self.registered = false;
                    self.next_register = now;
                    self.pull = None;
                }
            }
            Answer::Assigned(pull, assignments) => {
                if self.pull.is_some_and(|(latest, _)| latest == pull) {
                    self.pull = None;
                    for assignment in assignments {
                        self.begin(&assignment, now);
                    }
                }
            }
            Answer::Verdict(attempt, verdict) => self.verdict(attempt, verdict, now),
            Answer::Outputs(job, since, outputs) => self.learn(job, since, outputs),
        }
    }

    fn cancel(&mut self, heard: &Heard) {
        for attempt in &heard.cancel {
            self.running.remove(attempt);
            self.disk.outputs.remove(attempt);
        }
    }

    fn begin(&mut self, assignment: &Assignment, now: Instant) {
        let state = match assignment.attempt.task.phase {
            Phase::Map => {
                let time = self.random.time(Duration::from_millis(50), Duration::from_secs(4));
                State::Map { until: now + time * self.slowness }
            }
            Phase::Reduce => State::Fetch(Fetching {
                outputs: assignment.outputs,
                ask: now,
                next: 0,
                tries: 0,
                sum: Counts::new(),
            }),
        };
        self.running.entry(assignment.attempt).or_insert((state, 0));
    }

    fn learn(&mut self, job: JobId, since: u64, outputs: Option<(Vec<MapOutput>, u64)>) {
        let Some((list, next)) = outputs else { return };
        let known = self.known.entry(job).or_default();
        if known.1 != since {
            return;
        }
        known.1 = next;
        for output in list {
            known.0.insert(output.map, (output.attempt, output.worker));
        }
        for (attempt, (state, _)) in &mut self.running {
            if attempt.job == job
                && let State::Fetch(fetching) = state
            {
                fetching.ask = Instant(0);
            }
        }
    }

    fn verdict(&mut self, attempt: AttemptRef, verdict: Verdict, now: Instant) {
        let Some((state, _)) = self.running.get_mut(&attempt) else { return };
        match (verdict, state) {
            (Verdict::Accepted, State::Ended { .. }) => {
                self.running.remove(&attempt);
            }
            (Verdict::Granted, state @ State::Ready { .. }) => {
                if let State::Ready { output, asked_in, .. } = state {
                    let (output, asked_in) = (std::mem::take(output), *asked_in);
                    let time = self.random.time(Duration::ZERO, Duration::from_secs(2));
                    *state = State::Placing { output, until: now + time, asked_in };
                }
            }
            (Verdict::Superseded, _) => {
                self.running.remove(&attempt);
                self.disk.outputs.remove(&attempt);
            }
            (Verdict::Unknown, _) => {
                self.registered = false;
            }
            _ => {}
        }
    }

    /// Another worker asks for a bucket, or answers.
    pub(super) fn fetch(&mut self, from: WorkerId, fetch: Fetch, now: Instant) -> Option<Deed> {
        match fetch {
            Fetch::Ask { of, bucket, by } => {
                let output = self.disk.outputs.get(&of);
                let data = output.map(|(buckets, _, rotten)| match buckets.get(bucket as usize) {
                    Some(counts) if !rotten => Got::Whole(counts.clone()),
                    _ => Got::Damaged,
                });
                Some(Deed::Fetch(from, Fetch::Got { of, by, data }))
            }
            Fetch::Got { of, by, data } => {
                let (state, _) = self.running.get_mut(&by)?;
                let State::Fetch(fetching) = state else { return None };
                let map = of.task.number;
                if map != fetching.next {
                    return None;
                }
                match data {
                    Some(Got::Whole(counts)) => {
                        for (number, count) in counts {
                            *fetching.sum.entry(number).or_default() += count;
                        }
                        (fetching.next, fetching.tries, fetching.ask) = (map + 1, 0, now);
                    }
                    Some(Got::Damaged) => {
                        let cause = Cause::Fetch { map, from: of.attempt, corrupt: true };
                        *state = State::Ended { report: failed("damaged", cause), ask: now };
                    }
                    None => {
                        let cause = Cause::Fetch { map, from: of.attempt, corrupt: false };
                        *state = State::Ended { report: failed("not there", cause), ask: now };
                    }
                }
                None
            }
        }
    }

    /// Some byte on the disk rots.
    pub(super) fn rot(&mut self) {
        let attempts: Vec<_> = self.disk.outputs.keys().copied().collect();
        if let Some(attempt) = self.random.pick(&attempts)
            && let Some(output) = self.disk.outputs.get_mut(attempt)
        {
            output.2 = true;
        }
    }
}

fn failed(error: &str, cause: Cause) -> Report {
    Report::Failed(Failure { error: error.to_owned(), cause })
}
