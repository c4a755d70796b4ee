//! Ids of jobs, tasks, attempts and workers.

use std::fmt;

/// A job. Grows with every submission to a coordinator; the lower half is random, so that a job of a
/// coordinator that lost its journal is not taken for another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:08x}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {self}")
    }
}

/// A text that is not a [`JobId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAJob;

impl fmt::Display for NotAJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a job is written like 1-0a1b2c3d")
    }
}

impl std::error::Error for NotAJob {}

impl std::str::FromStr for JobId {
    type Err = NotAJob;

    fn from_str(text: &str) -> Result<Self, NotAJob> {
        let (high, low) = text.split_once('-').ok_or(NotAJob)?;
        let high = u32::from_str_radix(high, 16).map_err(|_| NotAJob)?;
        let low = u32::from_str_radix(low, 16).map_err(|_| NotAJob)?;
        Ok(Self(u64::from(high) << 32 | u64::from(low)))
    }
}

/// The two halves of a job. All maps are done before a reduce begins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    /// Input split to intermediate data; in a job without reduces, to output.
    Map,
    /// One partition of the intermediate data of all maps to output.
    Reduce,
}

/// A task of a job: `map 3` reads split 3, `reduce 3` writes `mr-out-3`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// Map or reduce.
    pub phase: Phase,
    /// From 0.
    pub number: u32,
}

impl TaskId {
    /// The map of this number.
    pub const fn map(number: u32) -> Self {
        Self { phase: Phase::Map, number }
    }

    /// The reduce of this number.
    pub const fn reduce(number: u32) -> Self {
        Self { phase: Phase::Reduce, number }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::Map => "map",
            Phase::Reduce => "reduce",
        };
        write!(f, "{phase} {}", self.number)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One try of one task by one worker. Never given twice within the life of a job, also not by a
/// coordinator that was started again: its upper bits count the starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AttemptId(pub u64);

/// Bits of an attempt's number within one start of the coordinator.
pub(crate) const ATTEMPT_BITS: u32 = 40;

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> ATTEMPT_BITS, self.0 & ((1 << ATTEMPT_BITS) - 1))
    }
}

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a{self}")
    }
}

/// An attempt with what it is an attempt of, so that it is understood by a coordinator that has
/// never heard of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AttemptRef {
    /// The job.
    pub job: JobId,
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: AttemptId,
}

/// A worker: a random number that its directory keeps, so that a worker that is started again in
/// the same directory is known as the same one and its map outputs are found again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WorkerId(pub u64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{self}")
    }
}

/// One run of a worker's process: a random number drawn when it starts. A worker that comes with
/// another one has forgotten what it was doing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Life(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_is_read_as_it_is_written() {
        for number in [0, 1, 0x1_0000_0002, u64::MAX] {
            assert_eq!(JobId(number).to_string().parse(), Ok(JobId(number)));
        }
        for text in ["", "1", "-", "1-x", "1-2-3", "100000000-1"] {
            assert_eq!(text.parse::<JobId>(), Err(NotAJob), "{text}");
        }
    }
}
