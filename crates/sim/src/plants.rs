//! The checkers are checked: a bug is planted in the code under test, and runs of one seed after
//! the other must find it.
//!
//! What is planted, and where, is told by [`kontiki_types::plant`]. The runs are those of the
//! command, with the same faults; nothing in here knows what to look for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

pub use kontiki_types::plant::Plant;

use crate::farm;
use crate::invariants::{Checked, Violation};
use crate::swarm::{self, SwarmConfig};

/// The seed that gave a planted bug away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Seeds that were run, this one included.
    pub seeds: u64,
    /// This one.
    pub seed: u64,
    /// What was seen.
    pub violation: Violation,
    /// Whether the same seed passes without the bug.
    pub passes_without: bool,
}

/// The run that is to find a bug: the swarm; for the handoff of slots that of a sharded store; for
/// the MapReduce coordinator its worst moments.
pub fn run_of(plant: Plant) -> fn(u64) -> Checked {
    match plant {
        Plant::ToldBeforeDurable | Plant::GrantForgotten | Plant::WorkerLeaseIgnored => {
            farm::moments
        }
        plant if plant.is_of_handoff() => swarm::shards,
        _ => |seed| swarm::run(seed, &SwarmConfig::default()).violation.map_or(Ok(()), Err),
    }
}

/// Bugs are planted in the whole process, so there is one search at a time.
static SEARCHING: Mutex<()> = Mutex::new(());

/// Runs the seeds after `from`, at most `bound` of them, on all cores, until one violates a
/// property; then that one once more without the bug.
pub fn search(
    plant: Plant,
    from: u64,
    bound: u64,
    run: impl Fn(u64) -> Checked + Sync,
) -> Option<Found> {
    let alone = SEARCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let planted = Planted::new(plant, &alone);
    let next = AtomicU64::new(1);
    let first: Mutex<Option<(u64, Violation)>> = Mutex::new(None);
    let first_at = AtomicU64::new(u64::MAX);
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at > bound || at > first_at.load(Ordering::Relaxed) {
                return;
            }
            let Err(violation) = judge(&run, from + at) else { continue };
            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
            if first.as_ref().is_none_or(|(earlier, _)| at < *earlier) {
                first_at.store(at, Ordering::Relaxed);
                *first = Some((at, violation));
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    drop(planted);
    let (seeds, violation) = first.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    let seed = from + seeds;
    Some(Found { seeds, seed, violation, passes_without: judge(&run, seed).is_ok() })
}

/// The bug is there as long as this value.
struct Planted<'a>(#[expect(dead_code, reason = "one search at a time")] &'a MutexGuard<'a, ()>);

impl<'a> Planted<'a> {
    fn new(plant: Plant, alone: &'a MutexGuard<'a, ()>) -> Self {
        kontiki_types::plant::plant(Some(plant));
        Self(alone)
    }
}

impl Drop for Planted<'_> {
    fn drop(&mut self) {
        kontiki_types::plant::plant(None);
    }
}

/// A run; an assertion of the code under test that stops it is a find like any other.
fn judge(run: impl Fn(u64) -> Checked, seed: u64) -> Checked {
    catch_unwind(AssertUnwindSafe(|| run(seed))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        Err(Violation::new("No assertion fails", text.unwrap_or_default()))
    })
}

/// The middle one of what several searches needed; `None` if half of them found nothing.
pub fn median(mut searches: Vec<Option<u64>>) -> Option<u64> {
    // What was not found needs more than everything.
    searches.sort_unstable_by_key(|seeds| seeds.unwrap_or(u64::MAX));
    searches.get(searches.len() / 2).copied().flatten()
}
