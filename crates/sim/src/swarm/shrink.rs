//! A failing seed, made smaller: fewer faults, fewer clients, less time.

use std::time::Duration;

use super::{Report, SwarmConfig, run};

/// What is left of a failing seed.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What it runs with.
    pub config: SwarmConfig,
    /// How it went.
    pub report: Report,
    /// Runs that it took.
    pub runs: u32,
}

/// Runs that shrinking may take.
const RUNS_MAX: u32 = 60;

/// Leaves out what a violation does not need. It must stay a violation of the same property; what
/// exactly is seen may change. `None` if `report` has none.
pub fn shrink(report: &Report, config: &SwarmConfig) -> Option<Shrunk> {
    let property = report.violation.as_ref()?.property;
    let seed = report.seed;
    let mut best = Shrunk { config: config.clone(), report: report.clone(), runs: 0 };
    let attempt = |best: &mut Shrunk, config: SwarmConfig| -> bool {
        if best.runs >= RUNS_MAX {
            return false;
        }
        best.runs += 1;
        let report = run(seed, &config);
        let same = report.violation.as_ref().is_some_and(|found| found.property == property);
        if same {
            (best.config, best.report) = (config, report);
        }
        same
    };
    let mut kept: Vec<usize> =
        config.only_faults.clone().unwrap_or_else(|| (0..report.plan.len()).collect());
    // What comes after the violation is not needed; then one after the other, the last first.
    for at in kept.clone().into_iter().rev() {
        let without: Vec<_> = kept.iter().copied().filter(|&other| other != at).collect();
        let smaller = SwarmConfig { only_faults: Some(without.clone()), ..best.config.clone() };
        if attempt(&mut best, smaller) {
            kept = without;
        }
    }
    for clients in [(1, 0), (1, 1), (2, 0), (2, 1), (3, 1)] {
        let smaller = SwarmConfig { clients: Some(clients), ..best.config.clone() };
        if attempt(&mut best, smaller) {
            break;
        }
    }
    for seconds in [3, 5, 8, 12, 16] {
        let faults_until = Some(Duration::from_secs(seconds));
        let smaller = SwarmConfig { faults_until, ..best.config.clone() };
        if attempt(&mut best, smaller) {
            break;
        }
    }
    Some(best)
}
