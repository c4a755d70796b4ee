//! Faults that meet.
//!
//! Most of what breaks a protocol is not one fault but two or three at the right moment: a voter
//! that restarts while it is the only link, a leader that is cut off as soon as it is elected. Drawn
//! one by one they seldom meet; so most seeds have, beside faults of their own, one recipe: a few
//! kinds of faults, whom they hit, and when they come, in election timeouts. The details of each
//! fault are drawn as those of any other.
//!
//! A recipe says nothing of what is to be seen; the checks are those of every run.

use std::time::Duration;

use kontiki_raft::Config;

use super::FaultKind;
use super::FaultKind::*;
use super::plan::{FAULTS_FROM, FAULTS_UNTIL, Fault, Whom};
use crate::random::Random;

/// Of a thousand seeds so many have a recipe.
const SEEDS: u64 = 850;

/// One fault of a recipe.
struct Part {
    /// One of these.
    kinds: &'static [FaultKind],
    hits: Whom,
    /// When it begins, from the start of the recipe, and how long it lasts: from, to, in hundredths
    /// of an election timeout.
    begins: (u64, u64),
    lasts: (u64, u64),
}

const fn part(
    kinds: &'static [FaultKind],
    hits: Whom,
    begins: (u64, u64),
    lasts: (u64, u64),
) -> Part {
    Part { kinds, hits, begins, lasts }
}

const CRASH: &[FaultKind] = &[Kill, PowerLoss, PartialPowerLoss];
const GONE: &[FaultKind] = &[Isolation, Isolation, Mute, Pause, Kill];
const LEADER: Whom = Whom::Cast(0);
const VOTER: Whom = Whom::Cast(1);

/// Recipes that need a leader with a lease.
const WITH_LEASES: [&[Part]; 3] = [
    // The only voter that hears both the leader and one who would like to lead restarts.
    &[
        part(&[Bridge], VOTER, (0, 0), (350, 450)),
        part(CRASH, VOTER, (110, 150), (10, 10)),
        part(CRASH, VOTER, (160, 210), (10, 10)),
        part(CRASH, VOTER, (220, 280), (10, 10)),
    ],
    // An election has begun, over slow links, when the leader is heard again, but not by all.
    &[
        part(&[Bridge], VOTER, (0, 0), (450, 550)),
        part(&[Delays], VOTER, (0, 100), (450, 550)),
        part(&[Pause, Isolation, Mute], LEADER, (160, 230), (100, 140)),
    ],
    // A leader that hears others late hands over.
    &[
        part(&[Deaf], LEADER, (0, 0), (400, 500)),
        part(&[LeadershipTransfer], LEADER, (50, 200), (10, 10)),
    ],
];

/// Recipes for every cluster.
const ALWAYS: [&[Part]; 9] = [
    // Whoever leads is cut off or gone, again and again, as the one before comes back.
    &[
        part(GONE, Whom::Leader, (0, 0), (150, 300)),
        part(GONE, Whom::Leader, (200, 260), (150, 300)),
        part(GONE, Whom::Leader, (400, 500), (150, 300)),
        part(GONE, Whom::Leader, (600, 740), (150, 300)),
    ],
    // A leader is lost in the middle of a change of members, and so is the next one.
    &[
        part(&[ReplicaAdded, ReplicaRemoved, ReplicaReplaced], Whom::Anyone, (0, 0), (300, 300)),
        part(GONE, Whom::Leader, (10, 80), (200, 350)),
        part(GONE, Whom::Leader, (250, 400), (200, 350)),
    ],
    // The same over a network that loses, doubles or swaps messages.
    &[
        part(&[Losses, Duplicates, Reordering, Reordering], Whom::Anyone, (0, 0), (700, 900)),
        part(GONE, Whom::Leader, (50, 100), (150, 400)),
        part(GONE, Whom::Leader, (250, 500), (150, 400)),
    ],
    // Elections while messages overtake each other, by more than an election takes.
    &[
        part(&[Reordering], Whom::Anyone, (0, 0), (800, 1000)),
        part(&[Isolation, Pause], LEADER, (50, 150), (400, 700)),
    ],
    // A leader hears nobody, or late, and then nobody hears it.
    &[
        part(&[Deaf], LEADER, (0, 0), (300, 600)),
        part(&[Isolation, Mute], LEADER, (10, 250), (250, 400)),
    ],
    // A disk stalls when a leader is to be elected.
    &[part(GONE, LEADER, (0, 0), (300, 600)), part(&[DiskStall], VOTER, (0, 150), (150, 450))],
    // Power fails while somebody who comes anew installs a snapshot.
    &[
        part(&[TornWrite], Whom::Anyone, (0, 0), (10, 10)),
        part(&[TornWrite], Whom::Anyone, (0, 100), (10, 10)),
        part(&[ReplicaAdded, ReplicaReplaced, WipedDirectory], Whom::Anyone, (50, 200), (10, 10)),
    ],
    // One wall clock jumps, and leadership comes to that node or leaves it.
    &[
        part(&[WallClockJump], LEADER, (50, 50), (600, 900)),
        part(&[LeadershipTransfer], Whom::Leader, (0, 400), (10, 10)),
    ],
    // A disk fails, and then its machine.
    &[
        part(&[SyncFailure, WriteError], VOTER, (0, 0), (50, 200)),
        part(&[PowerLoss], VOTER, (20, 150), (10, 10)),
    ],
];

/// The faults of one recipe, or none.
pub(super) fn faults(config: &Config, random: &mut Random) -> Vec<Fault> {
    if !random.chance(SEEDS) {
        return Vec::new();
    }
    let has_lease = config.lease.is_some() && random.chance(500);
    let recipes = if has_lease { &WITH_LEASES[..] } else { &ALWAYS[..] };
    let Some(recipe) = random.pick(recipes) else { return Vec::new() };
    let hundredth = config.election_timeout / 100;
    let mut time = |(from, to)| random.time(hundredth * from as u32, hundredth * to as u32);
    let mut faults: Vec<_> = recipe
        .iter()
        .map(|part| Fault {
            kind: part.kinds[0],
            at: time(part.begins),
            length: time(part.lasts),
            hits: part.hits,
            seed: 0,
        })
        .collect();
    let end = faults.iter().map(|fault| fault.at + fault.length).max().unwrap_or(Duration::ZERO);
    let latest = FAULTS_UNTIL.saturating_sub(end).max(FAULTS_FROM);
    let begin = random.time(FAULTS_FROM, latest);
    for (fault, part) in faults.iter_mut().zip(*recipe) {
        fault.at += begin;
        fault.kind = random.pick(part.kinds).copied().unwrap_or(fault.kind);
        fault.seed = random.number();
    }
    faults
}
