//! What many seeds came to.

use std::fmt;
use std::time::Duration;

use super::{Area, FaultKind, Report, SwarmConfig};
use crate::store_cluster::MoveStep;

/// Sums over reports.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Seeds.
    pub seeds: u64,
    /// Of them with three voters at the start.
    pub with_three: u64,
    /// Seeds with an election after the first one.
    pub with_election: u64,
    /// Simulated time.
    pub virtual_time: Duration,
    /// Operations that were answered.
    pub completed: u64,
    /// Operations that were refused.
    pub refused: u64,
    /// Operations whose outcome is unknown.
    pub unknown: u64,
    /// Elections.
    pub elections: u64,
    /// Processes that ended.
    pub crashes: u64,
    /// Histories that are linearizable.
    pub linearizable: u64,
    /// Checks without a verdict.
    pub no_verdict: u64,
    /// The fewest operations answered in one seed.
    pub completed_min: u64,
    /// The shortest seed.
    pub virtual_min: Duration,
    /// How often each kind of fault happened.
    pub faults: [u64; FaultKind::ALL.len()],
    /// How often slots were sent on their way.
    pub moves: u64,
    /// Snapshots that were installed by a group while slots of it were on their way.
    pub installs_in_move: u64,
    /// Groups that have joined and got their replicas.
    pub joins: u64,
    /// How often each step of a move was seen, in the order of [`MoveStep::ALL`].
    pub steps: [u64; MoveStep::ALL.len()],
    /// And how often something went wrong just then.
    pub struck: [u64; MoveStep::ALL.len()],
    /// The traces of all seeds, in their order.
    pub trace_hash: u64,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            seeds: 0,
            with_three: 0,
            with_election: 0,
            virtual_time: Duration::ZERO,
            completed: 0,
            refused: 0,
            unknown: 0,
            elections: 0,
            crashes: 0,
            linearizable: 0,
            no_verdict: 0,
            completed_min: u64::MAX,
            virtual_min: Duration::MAX,
            faults: [0; FaultKind::ALL.len()],
            moves: 0,
            installs_in_move: 0,
            joins: 0,
            steps: [0; MoveStep::ALL.len()],
            struck: [0; MoveStep::ALL.len()],
            trace_hash: 0,
        }
    }
}

/// From so many seeds on each kind of fault must have happened.
const ENOUGH_SEEDS: u64 = 5000;
/// Of a hundred seeds so many have an election after the first one.
const ELECTIONS_PERCENT: u64 = 95;
/// Faults of a seed, on average, at the least; for [`ENOUGH_SEEDS`].
const FAULTS_MEAN: u64 = 5;

impl Summary {
    /// Adds a seed.
    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.with_three += u64::from(report.nodes == 3);
        self.with_election += u64::from(report.elections > 1);
        self.virtual_time += report.virtual_time;
        self.completed += report.completed;
        self.refused += report.refused;
        self.unknown += report.unknown;
        self.elections += report.elections;
        self.crashes += report.crashes;
        self.linearizable += report.linearizable;
        self.no_verdict += report.no_verdict;
        self.completed_min = self.completed_min.min(report.completed);
        self.virtual_min = self.virtual_min.min(report.virtual_time);
        for (sum, count) in self.faults.iter_mut().zip(report.faults) {
            *sum += count;
        }
        self.moves += report.moves;
        self.installs_in_move += report.installs_in_move;
        self.joins += report.joins;
        for at in 0..MoveStep::ALL.len() {
            self.steps[at] += report.steps[at];
            self.struck[at] += report.struck[at];
        }
        self.trace_hash = crate::random::mix(self.trace_hash, report.trace_hash);
    }

    /// Faults of all kinds.
    pub fn all_faults(&self) -> u64 {
        self.faults.iter().sum()
    }

    fn of(&self, which: impl Fn(FaultKind) -> bool) -> u64 {
        let kinds = FaultKind::ALL.into_iter().filter(|&kind| which(kind));
        kinds.map(|kind| self.faults[kind.number()]).sum()
    }

    /// What is wrong with the whole, although no seed failed. Faults are missed only if `config` has
    /// all of them.
    pub fn shortcomings(&self, config: &SwarmConfig) -> Vec<String> {
        let mut found = Vec::new();
        if self.no_verdict > 0 {
            found.push(format!("{} linearizability checks gave no verdict", self.no_verdict));
        }
        let has_faults = !config.is_calm && config.only_faults.is_none();
        if self.seeds >= ENOUGH_SEEDS && has_faults && config.is_sharded {
            for (step, _) in
                MoveStep::ALL.iter().zip(self.struck).filter(|(_, struck)| *struck == 0)
            {
                found.push(format!("nothing went wrong at a step {step:?}"));
            }
            if self.installs_in_move == 0 {
                found.push("no snapshot was installed in the middle of a move".to_owned());
            }
            if self.joins == 0 {
                found.push("no group joined".to_owned());
            }
        }
        if self.seeds >= ENOUGH_SEEDS && has_faults {
            for kind in FaultKind::ALL {
                if self.faults[kind.number()] == 0 {
                    found.push(format!("no fault of the kind \"{}\" happened", kind.name()));
                }
            }
            if self.with_election * 100 < self.seeds * ELECTIONS_PERCENT {
                found.push(format!(
                    "only {} of {} seeds had an election after the first one",
                    self.with_election, self.seeds
                ));
            }
            if self.all_faults() < self.seeds * FAULTS_MEAN {
                found.push(format!("only {} faults in {} seeds", self.all_faults(), self.seeds));
            }
        }
        found
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, with_three, with_election, .. } = self;
        writeln!(f, "seeds: {seeds} ({with_three} with 3 nodes, the others with 5)")?;
        let hours = self.virtual_time.as_secs_f64() / 3600.0;
        let shortest = self.virtual_min.as_secs_f64();
        writeln!(f, "virtual hours: {hours:.1} (the shortest seed {shortest:.1} s)")?;
        writeln!(
            f,
            "operations: {} completed (at least {} a seed), {} refused, {} unknown",
            self.completed, self.completed_min, self.refused, self.unknown
        )?;
        writeln!(
            f,
            "elections: {} (after the first one in {with_election} seeds)",
            self.elections
        )?;
        writeln!(f, "crashes: {}", self.crashes)?;
        writeln!(f, "partitions: {}", self.of(FaultKind::is_partition))?;
        writeln!(f, "disk faults: {}", self.of(|kind| kind.area() == Area::Disk))?;
        writeln!(f, "linearizable histories: {}", self.linearizable)?;
        writeln!(f, "faults: {}", self.all_faults())?;
        for kind in FaultKind::ALL.into_iter().filter(|_| self.all_faults() > 0) {
            writeln!(f, "  {:<34} {:>8}", kind.name(), self.faults[kind.number()])?;
        }
        if self.moves > 0 {
            writeln!(f, "moves: {}", self.moves)?;
            writeln!(f, "snapshots installed in the middle of moves: {}", self.installs_in_move)?;
            writeln!(f, "groups that joined: {}", self.joins)?;
            for (at, step) in MoveStep::ALL.iter().enumerate() {
                let (seen, struck) = (self.steps[at], self.struck[at]);
                writeln!(
                    f,
                    "  {:<34} {seen:>8}, {struck} of them met by a fault",
                    format!("{step:?}")
                )?;
            }
        }
        write!(f, "trace: {:016x}", self.trace_hash)
    }
}
