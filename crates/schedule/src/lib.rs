//! The brain of the MapReduce coordinator: which worker runs which attempt of which task, whose
//! output counts, and what must be durable before anybody is told. A value with methods: no I/O, no
//! clock, no thread, no randomness but from a seed.
//!
//! # The duties of the caller, in order
//! 1. Start with [`Scheduler::recover`] and what the journal holds, or [`Scheduler::new`].
//! 2. Whenever something happens, call the method for it with the time `now`, which never goes back:
//!    [`Scheduler::submit`], [`Scheduler::register`], [`Scheduler::pull`], [`Scheduler::heartbeat`],
//!    [`Scheduler::report`], … and [`Scheduler::tick`] at [`Scheduler::next_deadline`].
//! 3. Then take [`Scheduler::poll`] until it gives `None`, and carry out the outputs in order.
//!    [`Output::Write`] goes through [`persist`], which is the only source of the receipt for
//!    [`Scheduler::persisted`]. Everything else may leave at once: what waits for a batch does not
//!    come out before its receipt is in.
//!
//! # The model
//! A *job* has map and reduce *tasks*. A task is tried by *attempts*; each runs on one *worker*,
//! under a *lease*. Workers pull: they say what they run and how many slots are free. Messages from
//! and to them may be lost, late and doubled.
//!
//! - All maps are done before a reduce begins, so that no reduce holds a slot that a map needs.
//! - The output of a map stays on the worker that made it and counts as long as that worker lives.
//!   When the worker is lost all its outputs are lost at once, and their maps run again.
//! - What writes the output of the job (reduces; maps of a job without reduces) makes it under a
//!   temporary name and asks. One attempt is *granted*; it puts the output in its place and reports
//!   it *committed*.
//! - An attempt that runs for much longer than others did gets a *backup*. The first to be done
//!   wins.
//!
//! # Invariants
//! - At most one attempt of a task is granted at a time; another is granted only when the first is
//!   known to be dead, or its worker's lease is over.
//! - What a worker or client was told is durable: a job submitted, an output accepted, a grant, a
//!   commit, an end.
//! - A task's counters are counted once, whichever and however many of its attempts are accepted.
//! - An attempt that reports a whole output is accepted even if it was given up for lost, if no
//!   other one was accepted.
//! - Memory is bounded by tasks, workers and attempts under way, never by pairs of map and reduce.
//!
//! # Missing on purpose
//! Reduces do not fetch early, before all maps are done: it would take the rule against deadlock
//! away. Tasks are not placed near their input. Jobs are served in the order of their submission.

mod assign;
pub mod bisect;
mod config;
mod counters;
mod durations;
mod expiry;
mod ids;
mod job;
mod output;
mod persist;
mod record;
mod recovery;
mod reports;
mod scheduler;
mod status;
mod task;
mod worker;

pub use config::{Config, JobSpec, SLOTS_MAX, TASKS_MAX};
pub use counters::{COUNTERS_MAX, Counters, NAME_BYTES_MAX};
pub use ids::{AttemptId, AttemptRef, JobId, Life, NotAJob, Phase, TaskId, WorkerId};
pub use job::{ERROR_BYTES_MAX, TaskError};
pub use output::{Assignment, Outcome, Output, Verdict, Work};
pub use persist::{Journal, NoJournal, Receipt, WriteBatch, persist};
pub use record::{BadRecord, Record};
pub use recovery::RecoverError;
pub use scheduler::{MapOutput, Scheduler, SubmitError};
pub use status::{AttemptStatus, JobStatus, PhaseStatus, WorkerStatus};
pub use task::Counts;
pub use worker::{
    Cause, Failure, Heard, Held, Registration, Report, Running, STATUS_BYTES_MAX, Sign,
    UnknownWorker, cut,
};

use task::Task;
