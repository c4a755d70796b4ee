//! What travels between the coordinator and the workers.

use kontiki_schedule::{
    Assignment, AttemptRef, Heard, JobId, Life, MapOutput, Registration, Report, Sign, Verdict,
    WorkerId,
};
use kontiki_types::Instant;

use super::toy::Counts;

/// To the coordinator.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Submit,
    Register(Registration, Instant),
    Heartbeat(Sign, Instant),
    Pull(Sign, u32, Instant),
    Report(WorkerId, Life, AttemptRef, Report),
    Outputs(WorkerId, JobId, u64),
}

/// From the coordinator to a worker. `Instant`s are when the worker asked.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Registered(Heard, Instant),
    Heard(Heard, Instant),
    Unknown,
    Assigned(u64, Vec<Assignment>),
    Verdict(AttemptRef, Verdict),
    Outputs(JobId, u64, Option<(Vec<MapOutput>, u64)>),
}

/// Between workers.
#[derive(Clone, Debug)]
pub(super) enum Fetch {
    /// Of the output of this attempt this bucket, for this attempt of a reduce.
    Ask { of: AttemptRef, bucket: u32, by: AttemptRef },
    /// `None`: it is not there.
    Got { of: AttemptRef, by: AttemptRef, data: Option<Got> },
}

/// A bucket that was fetched.
#[derive(Clone, Debug)]
pub(super) enum Got {
    Whole(Counts),
    /// Its checksum is wrong.
    Damaged,
}
