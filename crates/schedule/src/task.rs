//! One task, and all tasks of a phase.
//!
//! Invariants
//! - A task is waiting if and only if it is not done and none of its attempts runs.
//! - A done task has no running attempts, and an accepted one.
//! - At most one attempt of a task is granted at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::bisect::Bisect;
use crate::durations::Durations;
use crate::{AttemptId, WorkerId};

/// One task. Small: a job may have a million.
#[derive(Debug, Default)]
pub(crate) struct Task {
    /// Whose output is the task's, and who had it.
    pub(crate) accepted: Option<(AttemptId, WorkerId)>,
    /// Which attempt may put its output in place.
    pub(crate) granted: Option<AttemptId>,
    /// Attempts under way.
    pub(crate) running: Vec<AttemptId>,
    /// Where it failed last.
    pub(crate) failed_on: Option<WorkerId>,
    /// Attempts that failed by the user's code or data.
    pub(crate) failures: u16,
    /// Attempts whose worker was lost.
    pub(crate) losses: u16,
    /// Reducers that could not get the accepted output.
    pub(crate) unfetched: u8,
    /// Whether the job's counters have those of an attempt of this task.
    pub(crate) counted: bool,
}

impl Task {
    pub(crate) fn is_done(&self) -> bool {
        self.accepted.is_some()
    }
}

/// All tasks of a phase.
#[derive(Debug)]
pub(crate) struct Tasks {
    list: Box<[Task]>,
    waiting: BTreeSet<u32>,
    done: u32,
    pub(crate) searches: BTreeMap<u32, Bisect>,
    pub(crate) skipped: BTreeMap<u32, Vec<u64>>,
    pub(crate) counts: Counts,
    pub(crate) durations: Durations,
}

/// What happened in a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts given to workers.
    pub started: u64,
    /// Of these, in parallel to another attempt.
    pub backups: u64,
    /// Of these, of tasks that had been done before.
    pub reruns: u64,
    /// Of these, on some records only, to find a bad one.
    pub probes: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Attempts whose worker was lost, or that could not get their input from another worker.
    pub lost: u64,
    /// Records left out.
    pub skipped: u64,
}

impl Tasks {
    pub(crate) fn new(count: u32) -> Self {
        Self {
            list: (0..count).map(|_| Task::default()).collect(),
            waiting: (0..count).collect(),
            done: 0,
            searches: BTreeMap::new(),
            skipped: BTreeMap::new(),
            counts: Counts::default(),
            durations: Durations::default(),
        }
    }

    pub(crate) fn count(&self) -> u32 {
        self.list.len() as u32
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Task> {
        self.list.get(number as usize)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Task> {
        self.list.get_mut(number as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Task)> {
        (0..).zip(self.list.iter())
    }

    pub(crate) fn waiting(&self) -> &BTreeSet<u32> {
        &self.waiting
    }

    pub(crate) fn done(&self) -> u32 {
        self.done
    }

    pub(crate) fn all_done(&self) -> bool {
        self.done == self.count()
    }

    /// An attempt of the task begins.
    pub(crate) fn begin(&mut self, number: u32, attempt: AttemptId) {
        self.waiting.remove(&number);
        if let Some(task) = self.get_mut(number) {
            task.running.push(attempt);
        }
    }

    /// An attempt of the task is under way no more; the task waits if it was the last.
    pub(crate) fn end(&mut self, number: u32, attempt: AttemptId) {
        let Some(task) = self.list.get_mut(number as usize) else { return };
        task.running.retain(|running| *running != attempt);
        if task.granted == Some(attempt) && !task.is_done() {
            task.granted = None;
        }
        if task.running.is_empty() && !task.is_done() {
            self.waiting.insert(number);
        }
    }

    /// The output of the task is this attempt's. Returns the attempts that are not needed any more.
    pub(crate) fn accept(
        &mut self,
        number: u32,
        attempt: AttemptId,
        worker: WorkerId,
    ) -> Vec<AttemptId> {
        let Some(task) = self.list.get_mut(number as usize) else { return Vec::new() };
        if task.accepted.replace((attempt, worker)).is_none() {
            self.done += 1;
        }
        task.unfetched = 0;
        self.waiting.remove(&number);
        self.searches.remove(&number);
        std::mem::take(&mut task.running)
    }

    /// The output of the task is gone.
    pub(crate) fn lose(&mut self, number: u32) {
        let Some(task) = self.list.get_mut(number as usize) else { return };
        if task.accepted.take().is_some() {
            self.done -= 1;
            task.granted = None;
            if task.running.is_empty() {
                self.waiting.insert(number);
            }
        }
    }

    /// Marks the task as counted. Returns whether it was not before.
    pub(crate) fn count_once(&mut self, number: u32) -> bool {
        self.get_mut(number).is_some_and(|task| !std::mem::replace(&mut task.counted, true))
    }

    /// What is in the way of the invariants, for tests.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut done = 0;
        for (number, task) in self.iter() {
            let waits = self.waiting.contains(&number);
            if waits != (!task.is_done() && task.running.is_empty()) {
                return Err(format!("task {number}: waiting {waits}, {task:?}"));
            }
            if task.is_done() && !task.running.is_empty() {
                return Err(format!("task {number} is done and runs: {task:?}"));
            }
            done += u32::from(task.is_done());
        }
        if done != self.done {
            Err(format!("{done} tasks are done, not {}", self.done))
        } else {
            Ok(())
        }
    }
}

/// How many may run twice in parallel.
pub(crate) fn backups_allowed(tasks: u32, permille: u32) -> u64 {
    (u64::from(tasks) * u64::from(permille)).div_ceil(1000)
}

/// The age from which an attempt counts as late, if anything is known about its phase.
pub(crate) fn late_age(durations: &Durations, percent: u32, least: Duration) -> Option<Duration> {
    if percent == 0 {
        return None;
    }
    let median = durations.median()?;
    let hundredth = median.as_micros() as u64 / 100;
    Some(Duration::from_micros(hundredth.saturating_mul(u64::from(percent))).max(least))
}
