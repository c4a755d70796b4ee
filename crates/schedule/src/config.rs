//! The settings of a coordinator and of a job.

use std::time::Duration;

/// How a coordinator schedules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a worker that is not heard of counts as alive, and an attempt that it does not name
    /// as running. Default 10 s. Workers send a heartbeat every tenth of it.
    pub lease: Duration,
    /// How long a coordinator that recovered gives no work away, so that workers can first say what
    /// they are doing. Default 1 s.
    pub reattach: Duration,
    /// How often [`Scheduler::tick`](crate::Scheduler::tick) has something to do. Default 200 ms.
    pub tick: Duration,
    /// A task is tried a second time in parallel once an attempt has run for this many hundredths
    /// of the median of its phase. Default 300: tasks of one job differ by themselves. 0: never.
    pub backup_percent: u32,
    /// No attempt gets a backup before this age. Default 300 ms.
    pub backup_age_min: Duration,
    /// At most this many thousandths of a phase's tasks, rounded up, get a backup. Default 100.
    pub backups_permille: u32,
    /// A worker on which this many attempts of a job failed gets no more of its tasks, as long as
    /// another worker does. Default 3.
    pub worker_failures_max: u32,
    /// A task whose worker was lost this often fails the job: it kills workers. Default 100.
    pub losses_max: u32,
    /// An attempt whose progress has not moved for this long counts as failed. Default: never.
    pub stall: Option<Duration>,
    /// Ended jobs that are remembered. Default 100.
    pub ended_jobs_kept: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            reattach: Duration::from_secs(1),
            tick: Duration::from_millis(200),
            backup_percent: 300,
            backup_age_min: Duration::from_millis(300),
            backups_permille: 100,
            worker_failures_max: 3,
            losses_max: 100,
            stall: None,
            ended_jobs_kept: 100,
        }
    }
}

/// Most tasks of one phase of a job.
pub const TASKS_MAX: u32 = 1_000_000;
/// Most slots of one worker.
pub const SLOTS_MAX: u32 = 1024;

/// What is to be done. What the tasks are is in `payload`, which is of no concern here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    /// For people.
    pub name: String,
    /// Number of map tasks, at most [`TASKS_MAX`].
    pub maps: u32,
    /// Number of reduce tasks, at most [`TASKS_MAX`]. Without any the maps write the output.
    pub reduces: u32,
    /// A task that failed this often fails the job. From 1; 4 is usual.
    pub failures_max: u32,
    /// Records on which user code fails again and again are left out. See
    /// [`bisect`](crate::bisect).
    pub skip_bad_records: bool,
    /// A random number that whoever submits draws for this job, so that submitting it again, for
    /// want of an answer, gives the same job. 0: none.
    pub token: u64,
    /// What the workers need to know.
    pub payload: Vec<u8>,
}

impl JobSpec {
    /// A job of so many tasks, with the defaults and no payload.
    pub fn new(name: impl Into<String>, maps: u32, reduces: u32) -> Self {
        Self {
            name: name.into(),
            maps,
            reduces,
            failures_max: 4,
            skip_bad_records: false,
            token: 0,
            payload: Vec::new(),
        }
    }
}
