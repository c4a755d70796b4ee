//! A MapReduce coordinator and its workers: messages that are lost, late and doubled, workers that
//! die, sleep, crawl and whose disks rot, a coordinator that dies.
//!
//! Under test is the scheduler that serves. The job counts numbers; what it must give is known.
//! Checked: the output of each reduce is that of a sequential run, put in place by an attempt that
//! was granted, and not touched after the job was said to be done; counters are those of one run of
//! each task; the scheduler's books are right after every step; and when the faults stop, the job
//! ends.

mod message;
mod toy;
mod worker;
mod world;

use std::time::Duration;

use crate::invariants::Violation;
use crate::labs::Lab;
use world::{Faults, World};

const fn scenario(
    name: &'static str,
    about: &'static str,
    run: fn(seed: u64) -> Result<(), Violation>,
) -> Lab {
    Lab { name, about, run }
}

/// All scenarios.
pub const SCENARIOS: &[Lab] = &[
    scenario("mr-quiet", "no faults: each task runs once", quiet),
    scenario(
        "mr-network",
        "a tenth of the messages lost, some doubled, up to 2.2 s late",
        |seed| World::new(seed, Faults { network: true, ..Faults::default() }).run().map(drop),
    ),
    scenario("mr-workers", "workers die, lose their disks, sleep beyond their lease", |seed| {
        World::new(seed, Faults { workers: true, ..Faults::default() }).run().map(drop)
    }),
    scenario("mr-coordinator", "the coordinator dies; no finished map runs again", coordinator),
    scenario("mr-rot", "map outputs rot on disk", |seed| {
        World::new(seed, Faults { rot: true, ..Faults::default() }).run().map(drop)
    }),
    scenario("mr-straggler", "one worker is ten times slower; few tasks run twice", straggler),
    scenario("mr-moments", "coordinator and workers fail at the moments that count", moments),
    scenario(
        "mr-maps",
        "all of it at once, of a job whose maps put their outputs in place",
        |seed| World::new(seed, Faults { maps_only: true, ..Faults::all() }).run().map(drop),
    ),
    scenario("mr-all", "all of it at once", |seed| World::new(seed, Faults::all()).run().map(drop)),
];

fn quiet(seed: u64) -> Result<(), Violation> {
    let seen = World::new(seed, Faults { failures: false, ..Faults::default() }).run()?;
    demand("Each task runs once without faults", seen.mapped == seen.maps, || {
        format!("{} maps ran {} times", seen.maps, seen.mapped)
    })
}

fn coordinator(seed: u64) -> Result<(), Violation> {
    let faults = Faults { coordinator: true, failures: false, ..Faults::default() };
    let seen = World::new(seed, faults).run()?;
    demand("No finished map runs again", seen.again == 0, || {
        format!("{} of {} maps, over {} starts", seen.again, seen.maps, seen.starts)
    })
}

/// The coordinator dies, and workers fall asleep, just after something was granted or accepted.
///
/// # Errors
/// What was violated.
pub fn moments(seed: u64) -> Result<(), Violation> {
    let faults = Faults { coordinator: true, workers: true, moments: true, ..Faults::default() };
    World::new(seed, faults).run().map(drop)
}

fn straggler(seed: u64) -> Result<(), Violation> {
    let faults = Faults { straggler: true, failures: false, ..Faults::default() };
    let seen = World::new(seed, faults).run()?;
    let allowed = u64::from(seen.maps.div_ceil(10) + seen.reduces.div_ceil(10));
    demand("At most a tenth of the tasks run twice", seen.backups <= allowed, || {
        format!("{} backups for {} maps and {} reduces", seen.backups, seen.maps, seen.reduces)
    })
}

fn demand(
    property: &'static str,
    holds: bool,
    seen: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::new(property, seen())) }
}

/// Longest time that a job may take after the faults have stopped.
const PATIENCE: Duration = Duration::from_secs(600);
