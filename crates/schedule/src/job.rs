//! One job.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kontiki_types::Instant;

use crate::task::Tasks;
use crate::worker::cut;
use crate::{AttemptId, Counters, JobId, JobSpec, Outcome, Phase, Task, TaskId, WorkerId};

/// Errors kept per job, the latest.
const ERRORS_KEPT: usize = 20;
/// Longer errors are cut, in bytes.
pub const ERROR_BYTES_MAX: usize = 8 << 10;

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) spec: JobSpec,
    pub(crate) maps: Tasks,
    pub(crate) reduces: Tasks,
    /// Maps in the order in which their outputs were accepted, each with the batch of the journal
    /// that says so.
    pub(crate) outputs: Vec<(u32, u64)>,
    pub(crate) counters: Counters,
    pub(crate) worker_failures: BTreeMap<WorkerId, u32>,
    pub(crate) errors: VecDeque<TaskError>,
    /// Failed attempts: a late message that names them as running is not to be believed.
    pub(crate) given_up: BTreeSet<AttemptId>,
    pub(crate) submitted: Instant,
    pub(crate) ended: Option<(Outcome, Instant)>,
    /// Grants of an earlier coordinator, until when they may be in use.
    pub(crate) old_grants: BTreeMap<TaskId, (AttemptId, Instant)>,
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskError {
    /// Of which task.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: AttemptId,
    /// Who ran it.
    pub worker: WorkerId,
    /// What it said, cut to [`ERROR_BYTES_MAX`].
    pub error: String,
}

impl Job {
    pub(crate) fn new(id: JobId, spec: JobSpec, now: Instant) -> Self {
        let (maps, reduces) = (Tasks::new(spec.maps), Tasks::new(spec.reduces));
        Self {
            id,
            spec,
            maps,
            reduces,
            outputs: Vec::new(),
            counters: Counters::new(),
            worker_failures: BTreeMap::new(),
            errors: VecDeque::new(),
            given_up: BTreeSet::new(),
            submitted: now,
            ended: None,
            old_grants: BTreeMap::new(),
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.ended.is_none()
    }

    pub(crate) fn tasks(&self, phase: Phase) -> &Tasks {
        match phase {
            Phase::Map => &self.maps,
            Phase::Reduce => &self.reduces,
        }
    }

    pub(crate) fn tasks_mut(&mut self, phase: Phase) -> &mut Tasks {
        match phase {
            Phase::Map => &mut self.maps,
            Phase::Reduce => &mut self.reduces,
        }
    }

    pub(crate) fn task(&self, task: TaskId) -> Option<&Task> {
        self.tasks(task.phase).get(task.number)
    }

    pub(crate) fn task_mut(&mut self, task: TaskId) -> Option<&mut Task> {
        self.tasks_mut(task.phase).get_mut(task.number)
    }

    /// Whether tasks of this phase write the job's output, so that an attempt needs a grant, and a
    /// worker that is lost takes nothing with it.
    pub(crate) fn commits(&self, phase: Phase) -> bool {
        phase == Phase::Reduce || self.spec.reduces == 0
    }

    /// Whether everything that writes output is done.
    pub(crate) fn is_complete(&self) -> bool {
        self.reduces.all_done() && (self.spec.reduces > 0 || self.maps.all_done())
    }

    pub(crate) fn noted(&mut self, mut error: TaskError) {
        error.error.truncate(cut(&error.error, ERROR_BYTES_MAX).len());
        if self.errors.len() == ERRORS_KEPT {
            self.errors.pop_front();
        }
        self.errors.push_back(error);
    }

    /// Counts the attempt of a task, unless one was.
    pub(crate) fn count(&mut self, task: TaskId, counters: &Counters) {
        if self.tasks_mut(task.phase).count_once(task.number) {
            self.counters.merge(counters);
        }
    }

    /// Gives back what only a live job needs.
    pub(crate) fn end(&mut self, outcome: Outcome, now: Instant) {
        self.ended = Some((outcome, now));
        self.spec.payload = Vec::new();
        self.outputs = Vec::new();
        self.old_grants.clear();
        self.given_up.clear();
    }
}
