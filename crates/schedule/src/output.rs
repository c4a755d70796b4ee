//! What the scheduler gives its driver to do.

use std::ops::Range;

use crate::{AttemptRef, JobId, WorkerId, WriteBatch};

/// One thing to do. To be done in the order in which they come.
#[derive(Debug)]
pub enum Output {
    /// Make this durable ([`persist`](crate::persist)) and report
    /// [`Scheduler::persisted`](crate::Scheduler::persisted).
    Write(WriteBatch),
    /// The job is there for good: its submission may be confirmed.
    Submitted {
        /// The job.
        job: JobId,
    },
    /// The answer to a pull.
    Assign {
        /// Whose.
        worker: WorkerId,
        /// The sequence number of the pull.
        pull: u64,
        /// At least one.
        assignments: Vec<Assignment>,
    },
    /// The answer to a report or a request to commit. A worker that gets none asks again.
    Verdict {
        /// Whom to tell.
        worker: WorkerId,
        /// About which attempt.
        attempt: AttemptRef,
        /// What.
        verdict: Verdict,
    },
    /// Nobody waits for this attempt any more. The answers to heartbeats say the same, so a driver
    /// need not deliver it.
    Cancel {
        /// Who runs it.
        worker: WorkerId,
        /// The attempt.
        attempt: AttemptRef,
    },
    /// The job has ended, for good.
    Ended {
        /// The job.
        job: JobId,
        /// How.
        outcome: Outcome,
    },
}

/// One attempt that a worker is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Which attempt of what.
    pub attempt: AttemptRef,
    /// What to do.
    pub work: Work,
    /// Records to leave out, by their numbers in the task's input, in order.
    pub skip: Vec<u64>,
    /// For a reduce: [`Scheduler::map_outputs`](crate::Scheduler::map_outputs) must be known up to
    /// this position, and names an output of every map then.
    pub outputs: u64,
}

/// What an attempt does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// The task.
    Run,
    /// User code on these records only, by their numbers in the task's input, its output thrown
    /// away. See [`bisect`](crate::bisect).
    Probe(Range<u64>),
}

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The report is taken; what it says is durable. Map output is to be kept until the job ends.
    Accepted,
    /// The output may, and must, be put in its final place now; then
    /// [`Report::Committed`](crate::Report::Committed). Valid for as long as the worker's
    /// lease.
    Granted,
    /// Another attempt was first, or the job has ended: throw the output away.
    Superseded,
    /// The coordinator does not know this worker in this life: register, then say it again.
    Unknown,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All output is in its place.
    Done,
    /// What went wrong.
    Failed(String),
    /// Somebody asked for it.
    Cancelled,
}
