//! Workers and what they say.

use std::collections::BTreeSet;
use std::ops::Range;

use kontiki_types::Instant;

use crate::{AttemptId, AttemptRef, Counters, Life, WorkerId};

/// A worker introduces itself: when it starts, and whenever it is told that it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Who and which life of it. A worker must not register with a life before one that it
    /// registered with.
    pub sign: Sign,
    /// Where others get its map outputs.
    pub address: String,
    /// Attempts that it can run at once, 1 to [`SLOTS_MAX`](crate::SLOTS_MAX).
    pub slots: u32,
    /// All map outputs that it holds, also of earlier lives.
    pub held: Vec<Held>,
}

/// A map output on a worker's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The attempt that made it.
    pub attempt: AttemptRef,
    /// What it counted.
    pub counters: Counters,
}

/// What every message of a worker begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign {
    /// Who.
    pub worker: WorkerId,
    /// In which life; a later one is greater.
    pub life: Life,
    /// Grows with every sign of this life, so that one that arrives late is known as such.
    pub sequence: u64,
    /// Everything that it runs, and everything that has ended and whose verdict it does not have.
    pub running: Vec<Running>,
}

/// An attempt that a worker names as its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The attempt.
    pub attempt: AttemptRef,
    /// Grows while it gets on, in whatever unit.
    pub progress: u64,
    /// How much is done, in thousandths; 0 if that is not known.
    pub permille: u16,
    /// Whether it is a [`Work::Probe`](crate::Work::Probe).
    pub is_probe: bool,
    /// What the user's code last said of itself, for people; cut to [`STATUS_BYTES_MAX`].
    pub status: String,
}

/// Longer words of user code about itself are cut, in bytes.
pub const STATUS_BYTES_MAX: usize = 256;

/// The beginning of `text`, whole characters of at most so many bytes.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// What a worker is told at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Attempts of those it runs, and outputs of those it holds, that nobody waits for.
    pub cancel: Vec<AttemptRef>,
}

/// A worker that is not known in this life: it must register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownWorker;

impl std::fmt::Display for UnknownWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the worker is not registered")
    }
}

impl std::error::Error for UnknownWorker {}

/// How an attempt ended, or wants to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The output of a map is on the worker's disk, whole.
    MapDone(Counters),
    /// The output of a task that writes output is on stable storage under a temporary name: may it
    /// be put in its place?
    Ready,
    /// It was granted and is in its place.
    Committed(Counters),
    /// A probe went through.
    ProbePassed,
    /// It failed.
    Failed(Failure),
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For people, with what the user's code said.
    pub error: String,
    /// What to make of it.
    pub cause: Cause,
}

/// What to make of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// User code, or the input. `suspects` are the records that were under way, if that is known.
    User {
        /// By their numbers in the task's input.
        suspects: Option<Range<u64>>,
    },
    /// The output of a map could not be had.
    Fetch {
        /// Of which map.
        map: u32,
        /// Of which of its attempts.
        from: AttemptId,
        /// Whether it came, but was not what was written. Otherwise its worker was not reached, or
        /// had it no more.
        corrupt: bool,
    },
    /// The worker: no disk space, no memory, not able to start a process. The task is not to blame.
    Worker,
}

/// A registered worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) life: Life,
    pub(crate) address: String,
    pub(crate) slots: u32,
    pub(crate) sequence: u64,
    pub(crate) lease_until: Instant,
    pub(crate) registered: Instant,
    pub(crate) running: BTreeSet<AttemptId>,
    /// The number of its latest pull, answered or not.
    pub(crate) pulled: u64,
    pub(crate) pull: Option<Pull>,
    pub(crate) done: u64,
    pub(crate) failed: u64,
}

/// A worker waits for work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pull {
    pub(crate) sequence: u64,
    pub(crate) free: u32,
}

/// An attempt under way.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) of: AttemptRef,
    pub(crate) worker: WorkerId,
    pub(crate) begun: Instant,
    pub(crate) lease_until: Instant,
    pub(crate) progress: u64,
    pub(crate) permille: u16,
    pub(crate) status: String,
    /// When `progress` last moved.
    pub(crate) moved: Instant,
    /// The pull that it was the answer to, as long as the worker has not named it.
    pub(crate) unconfirmed: Option<u64>,
    pub(crate) is_probe: bool,
    pub(crate) is_backup: bool,
    /// Its output could be put in place.
    pub(crate) ready: bool,
}

impl Attempt {
    /// Keeps what user code says of itself.
    pub(crate) fn said(&mut self, status: &str) {
        if self.status != status {
            self.status.clear();
            self.status.push_str(cut(status, STATUS_BYTES_MAX));
        }
    }
}
