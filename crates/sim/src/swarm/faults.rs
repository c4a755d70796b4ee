//! How each kind of fault begins and ends.

use std::time::Duration;

use kontiki_storage::disk::{Crash, Fault as DiskFault};
use kontiki_types::{GroupId, NodeId};

use super::plan::{LEASE_DRIFT_PPM, Whom};
use super::{Alarm, FaultKind, Swarm, disks};
use crate::invariants::{Checked, Violation};
use crate::network::Quality;
use crate::random::Random;
use crate::store_cluster::GROUP;

/// Pairs of nodes that do not hear each other: from, to.
pub(super) type Cuts = Vec<(NodeId, NodeId)>;

/// What a fault has done, as far as it is to be undone.
#[derive(Debug, Default)]
pub(super) struct Struck {
    pub(super) cuts: Cuts,
    /// Pairs of nodes of which one hears the other late: from, to, by how much.
    pub(super) slow: Vec<((NodeId, NodeId), Duration)>,
    pub(super) quality: Option<Quality>,
    pub(super) nodes: Vec<NodeId>,
    /// How often it was tried in vain.
    pub(super) tries: u32,
    pub(super) is_on: bool,
}

/// How long after it went down a process is started again.
const RESTART_MIN: Duration = Duration::from_millis(5);
const RESTART_QUICK: Duration = Duration::from_millis(60);
const RESTART_MAX: Duration = Duration::from_millis(1500);
/// How often a fault waits for its moment, and how long in between.
const TRIES_MAX: u32 = 400;
const TRY_AGAIN: Duration = Duration::from_millis(2);
/// What a node said while its clock was wrong is believed for so long at the most: it may come late by
/// as long as a link or a process stands still, and counts for two seconds from then on.
const HEARD_WRONG: Duration = Duration::from_secs(7);

impl Swarm {
    /// A fault begins, or takes its next step.
    pub(super) fn begin_fault(&mut self, at: usize) -> Checked {
        let fault = self.plan.faults[at];
        let mut random = Random::new(fault.seed);
        let Some(target) = self.target(fault.hits, &mut random) else { return Ok(()) };
        let all = self.cluster.node_ids();
        let others: Vec<_> = all.iter().copied().filter(|&node| node != target).collect();
        let mut struck = Struck { nodes: vec![target], is_on: true, ..Struck::default() };
        let mut happened = true;
        let timeout = self.plan.config.raft.election_timeout;
        match fault.kind {
            FaultKind::Delays
            | FaultKind::Losses
            | FaultKind::Duplicates
            | FaultKind::Reordering
            | FaultKind::Corruption => {
                struck.quality = Some(quality(fault.kind, timeout, &mut random))
            }
            FaultKind::Isolation => struck.cuts = between(&[target], &others),
            FaultKind::Split => {
                let size = 1 + random.below(all.len() as u64 - 1) as usize;
                let sides = shuffled(all, &mut random);
                struck.cuts = between(&sides[..size], &sides[size..]);
            }
            FaultKind::Bridge => {
                let others = shuffled(others, &mut random);
                let (one, two) = others.split_at(others.len() / 2);
                struck.cuts = between(one, two);
            }
            FaultKind::Ring => struck.cuts = ring(&shuffled(all, &mut random)),
            FaultKind::OneWay => {
                let Some(&other) = random.pick(&others) else { return Ok(()) };
                let drawn = if random.chance(500) { (target, other) } else { (other, target) };
                let (pair, is_cut) = match fault.hits {
                    Whom::Way(from, to) => ((from, to), false),
                    _ => (drawn, random.chance(500)),
                };
                if is_cut {
                    struck.cuts = vec![pair];
                } else {
                    let late = random.time(Duration::from_millis(50), Duration::from_millis(4000));
                    struck.slow = vec![(pair, late)];
                }
            }
            FaultKind::Deaf | FaultKind::Mute => {
                let pair = |other: NodeId| match fault.kind {
                    FaultKind::Deaf => (other, target),
                    _ => (target, other),
                };
                let pairs = others.iter().map(|&other| pair(other));
                if random.chance(400) {
                    struck.cuts = pairs.collect();
                } else {
                    let late = up_to(timeout * 3, &mut random);
                    struck.slow = pairs.map(|pair| (pair, late)).collect();
                }
            }
            FaultKind::ClientsCut => self.cluster.cut_clients(target, fault.length),
            FaultKind::SwizzleClog => {
                for node in shuffled(all, &mut random).into_iter().skip(1) {
                    let time = random.time(Duration::from_millis(100), fault.length);
                    self.cluster.clog(node, time);
                }
            }
            FaultKind::PowerLoss => self.crash(target, Crash::LoseAll, &mut random),
            FaultKind::PartialPowerLoss => {
                let crash = Crash::Seed(random.number());
                self.crash(target, crash, &mut random);
            }
            FaultKind::Kill => {
                let crash = Crash::Kill(random.number());
                self.crash(target, crash, &mut random);
            }
            FaultKind::TornWrite if random.chance(400) => {
                self.cluster.watch_for_installs(true);
                happened = false;
            }
            FaultKind::TornWrite => {
                if !self.cluster.is_log_busy(target) {
                    return self.try_again(at);
                }
                let crash = Crash::Seed(random.number());
                self.crash(target, crash, &mut random);
            }
            FaultKind::Blackout => {
                for node in all {
                    let crash = if random.chance(500) {
                        Crash::LoseAll
                    } else {
                        Crash::Seed(random.number())
                    };
                    self.crash(node, crash, &mut random);
                }
            }
            FaultKind::RestartLoop => {
                self.crash(target, any_crash(&mut random), &mut random);
                let rounds = random.between(2, 4);
                for round in 1..=rounds {
                    let wait = random.time(RESTART_MIN, RESTART_MAX / 3) * round as u32;
                    let at = self.cluster.now() + wait;
                    self.set(at, Alarm::CrashAgain(target));
                }
            }
            FaultKind::Pause => {
                self.cluster.pause(target, fault.length);
                // What is sent to it meanwhile waits in its sockets, or is lost with the connections.
                if random.chance(500) {
                    struck.cuts = others.iter().map(|&other| (other, target)).collect();
                }
            }
            // Groups whose log times are far apart refuse each other's deadlines: a stated limit, for
            // when most of the clocks that a leader has heard are wrong.
            FaultKind::WallClockJump
                if self.plan.config.is_sharded()
                    && (self.is_lasting(fault.kind)
                        || self.cluster.now() < self.clocks_right_at) =>
            {
                return Ok(());
            }
            FaultKind::WallClockJump => {
                let ahead = random.below(7_200_000).cast_signed() - 3_600_000;
                self.cluster.set_wall_clock(target, ahead);
            }
            FaultKind::ClockDrift => {
                // With leases, two clocks may run apart by the bound and no more.
                let most = match self.plan.config.raft.lease {
                    Some(_) => u64::from(LEASE_DRIFT_PPM) / 2 - 100,
                    None => 200_000,
                };
                let ppm = random.below(2 * most).cast_signed() - most.cast_signed();
                self.cluster.drift(target, ppm as i32);
            }
            FaultKind::FlipInLog | FaultKind::FlipInHardState | FaultKind::FlipInSnapshot => {
                // The very last batch before its seal cannot be told from a torn write: that is
                // the stated limit of the log, and no fault of ours.
                if !self.cluster.is_running(target) || self.cluster.is_writing(target) {
                    return self.try_again(at);
                }
                if !self.may_damage(target) {
                    return Ok(());
                }
                happened = disks::flip(self.cluster.disk(target), fault.kind, &mut random);
                if happened {
                    self.damage(target);
                }
            }
            FaultKind::DiskFull => {
                // Or the disk that gets its space back would be another one.
                if self.swapped.contains(&target) {
                    return Ok(());
                }
                self.cluster.excuse(target, true);
                let disk = self.cluster.disk(target);
                let used: u64 = disk.files().iter().map(|(_, bytes)| bytes).sum();
                disk.set_capacity(used + random.below(16 << 10));
            }
            FaultKind::WriteError | FaultKind::SyncFailure => {
                self.cluster.excuse(target, true);
                let what = match fault.kind {
                    FaultKind::WriteError => DiskFault::Write,
                    _ => DiskFault::Sync,
                };
                // A disk that has failed goes on failing, more often than not.
                let times = if random.chance(300) { 1 } else { random.between(2, 60) };
                (0..times).for_each(|_| self.cluster.disk(target).inject(what));
            }
            FaultKind::ReadError => {
                self.cluster.excuse(target, true);
                let crash = Crash::Kill(random.number());
                self.crash(target, crash, &mut random);
                self.cluster.disk(target).inject(DiskFault::Read);
            }
            FaultKind::DiskStall => self.cluster.stall_disk(target, fault.length),
            FaultKind::WipedDirectory => {
                let is_own = !self.swapped.contains(&target);
                if !is_own || !self.may_damage(target) {
                    return Ok(());
                }
                self.damage(target);
                self.crash(target, Crash::LoseAll, &mut random);
                self.cluster.wipe(target);
            }
            FaultKind::SwappedDisks => {
                // Twice swapped would be in its place again.
                let free = |node: &NodeId| {
                    !self.atlas.suspects.contains(node)
                        && !self.swapped.contains(node)
                        && !self.is_full(*node)
                };
                let others: Vec<_> = others.iter().copied().filter(&free).collect();
                let Some(&other) = random.pick(&others) else { return Ok(()) };
                if !free(&target) {
                    return Ok(());
                }
                struck.nodes.push(other);
                for &node in &struck.nodes {
                    self.cluster.excuse(node, true);
                    self.down(node, Crash::LoseAll);
                }
                self.cluster.swap_disks(target, other);
                self.check_swapped(&struck.nodes)?;
                self.swapped.extend(struck.nodes.iter().copied());
            }
            FaultKind::ReplicaAdded
            | FaultKind::ReplicaRemoved
            | FaultKind::ReplicaReplaced
            | FaultKind::LeadershipTransfer => {
                happened = self.change_members(fault.kind, target, &mut random);
            }
        }
        if happened {
            self.counts[fault.kind.number()] += 1;
        }
        self.struck[at] = struck;
        self.shape_network();
        self.wake_clients();
        self.set(self.cluster.now() + fault.length, Alarm::FaultEnds(at));
        Ok(())
    }

    /// A fault ends.
    pub(super) fn end_fault(&mut self, at: usize) {
        let struck = std::mem::take(&mut self.struck[at]);
        if !struck.is_on {
            return;
        }
        self.shape_network();
        match self.plan.faults[at].kind {
            FaultKind::WallClockJump => {
                struck.nodes.iter().for_each(|&node| self.cluster.set_wall_clock(node, 0));
                self.clocks_right_at = self.cluster.now() + HEARD_WRONG;
            }
            FaultKind::ClockDrift => {
                struck.nodes.iter().for_each(|&node| self.cluster.drift(node, 0));
            }
            FaultKind::DiskFull => {
                struck.nodes.iter().for_each(|&node| {
                    self.cluster.disk(node).set_capacity(u64::MAX / 2);
                });
            }
            FaultKind::SwappedDisks => {
                if let [one, two] = struck.nodes[..] {
                    self.cluster.swap_disks(one, two);
                    self.swapped.retain(|node| *node != one && *node != two);
                    self.restart_soon(one, RESTART_MIN);
                    self.restart_soon(two, RESTART_MIN);
                }
            }
            FaultKind::SyncFailure | FaultKind::WriteError => {
                // A machine whose disk has failed is reset sooner or later.
                let mut random = Random::new(!self.plan.faults[at].seed);
                if random.chance(600) {
                    struck.nodes.iter().for_each(|&node| {
                        self.crash(node, Crash::LoseAll, &mut random);
                    });
                }
            }
            FaultKind::ReplicaRemoved => {
                struck.nodes.iter().for_each(|&node| self.wish_to_return(node));
            }
            _ => {}
        }
    }

    /// Whether a fault keeps the node's disk full.
    fn is_full(&self, node: NodeId) -> bool {
        self.struck.iter().zip(&self.plan.faults).any(|(struck, fault)| {
            fault.kind == FaultKind::DiskFull && struck.is_on && struck.nodes.contains(&node)
        })
    }

    /// Whether a fault of this kind lasts.
    fn is_lasting(&self, kind: FaultKind) -> bool {
        let mut faults = self.struck.iter().zip(&self.plan.faults);
        faults.any(|(struck, fault)| fault.kind == kind && struck.is_on)
    }

    /// The network is as the faults that last make it.
    fn shape_network(&mut self) {
        let mut quality = self.plan.config.network.clone();
        let network = self.cluster.network();
        network.heal();
        for struck in &self.struck {
            for &(from, to) in &struck.cuts {
                network.cut_one_way(from, to);
            }
            for &((from, to), late) in &struck.slow {
                network.slow_one_way(from, to, late);
            }
            if let Some(other) = &struck.quality {
                quality.delay_min = quality.delay_min.max(other.delay_min);
                quality.delay_max = quality.delay_max.max(other.delay_max);
                quality.lost = quality.lost.max(other.lost);
                quality.doubled = quality.doubled.max(other.doubled);
                quality.corrupted = quality.corrupted.max(other.corrupted);
            }
        }
        network.set_quality(quality);
    }

    /// Whom a fault hits.
    fn target(&mut self, whom: Whom, random: &mut Random) -> Option<NodeId> {
        if let Whom::Node(node) | Whom::Way(node, _) = whom {
            return Some(node);
        }
        let group = self.some_group(random);
        if whom == Whom::Leader
            && let Some(leader) = self.cluster.leader_of(group)
        {
            return Some(leader);
        }
        let nodes = self.cluster.node_ids();
        let members: Vec<_> =
            nodes.iter().copied().filter(|&node| self.cluster.is_member(node)).collect();
        let nodes = if members.is_empty() { nodes } else { members };
        if let Whom::Cast(part) = whom {
            if self.cast.is_empty() {
                // Not from the fault's own chance: another one may be the first.
                self.cast = shuffled(nodes, &mut Random::new(!self.plan.seed));
                let leader = self.cluster.leader_of(group);
                self.cast.sort_by_key(|&node| Some(node) != leader);
            }
            return self.cast.get(part % self.cast.len()).copied();
        }
        random.pick(&nodes).copied()
    }

    /// One of the groups.
    pub(super) fn some_group(&self, random: &mut Random) -> GroupId {
        match self.cluster.groups()[..] {
            [group] => group,
            ref groups => random.pick(groups).copied().unwrap_or(GROUP),
        }
    }

    /// The moment was not right.
    fn try_again(&mut self, at: usize) -> Checked {
        self.struck[at].tries += 1;
        if self.struck[at].tries < TRIES_MAX {
            let again = self.cluster.now() + TRY_AGAIN;
            self.set(again, Alarm::FaultBegins(at));
        }
        Ok(())
    }

    /// A node crashes and is started again after a while.
    fn crash(&mut self, node: NodeId, crash: Crash, random: &mut Random) {
        if self.down(node, crash) {
            let most = if random.chance(600) { RESTART_QUICK } else { RESTART_MAX };
            self.restart_soon(node, random.time(RESTART_MIN, most));
        }
    }

    /// A node goes down, if it is up.
    pub(super) fn down(&mut self, node: NodeId, crash: Crash) -> bool {
        self.atlas.look(&self.cluster);
        let was_up = self.cluster.is_running(node);
        if was_up {
            self.crashes += 1;
            self.cluster.crash(node, crash);
        }
        was_up
    }

    /// The power of a node fails that is about to install a snapshot.
    pub(super) fn crash_at_install(&mut self, node: NodeId) {
        if self.cluster.now() >= self.start + self.plan.faults_until {
            return;
        }
        let mut random = self.cluster.fork_random();
        let crash = any_crash(&mut random);
        self.crash(node, crash, &mut random);
        self.counts[FaultKind::TornWrite.number()] += 1;
    }

    /// A process of a restart loop crashes once more, if it is up.
    pub(super) fn crash_again(&mut self, node: NodeId) {
        let mut random = self.cluster.fork_random();
        let crash = any_crash(&mut random);
        self.crash(node, crash, &mut random);
    }

    /// Whether a disk may be damaged: not while a change that nobody has written down is under way.
    fn may_damage(&mut self, node: NodeId) -> bool {
        !self.operator.is_asking()
            && !self.founder.needs(node)
            && self.atlas.may_damage(&self.cluster, node, self.operator.leaving())
    }

    fn damage(&mut self, node: NodeId) {
        self.atlas.damages(node);
        self.cluster.excuse(node, true);
    }

    /// A node must notice that it stands on another one's disk.
    fn check_swapped(&mut self, nodes: &[NodeId]) -> Checked {
        for &node in nodes {
            if self.cluster.start(node).is_ok() {
                let seen = format!("{node} starts on the disk of another node");
                return Err(Violation::new("A node knows its own directory", seen));
            }
        }
        Ok(())
    }
}

fn any_crash(random: &mut Random) -> Crash {
    match random.below(3) {
        0 => Crash::LoseAll,
        1 => Crash::Kill(random.number()),
        _ => Crash::Seed(random.number()),
    }
}

/// A time up to `most` and down to a thirtieth of it, as often short as long.
fn up_to(most: Duration, random: &mut Random) -> Duration {
    let most = most / 2_u32.pow(random.below(5) as u32);
    random.time(most / 2, most)
}

fn quality(kind: FaultKind, timeout: Duration, random: &mut Random) -> Quality {
    let good = Quality::good();
    match kind {
        FaultKind::Delays => {
            let delay_max = random.time(Duration::from_millis(20), Duration::from_millis(300));
            Quality { delay_min: delay_max / 2, delay_max, ..good }
        }
        FaultKind::Losses => Quality { lost: random.between(20, 330), ..good },
        FaultKind::Duplicates => Quality { doubled: random.between(50, 500), ..good },
        FaultKind::Reordering => {
            Quality { delay_min: Duration::ZERO, delay_max: up_to(timeout * 2, random), ..good }
        }
        _ => Quality { corrupted: random.between(20, 300), ..good },
    }
}

fn shuffled(mut nodes: Vec<NodeId>, random: &mut Random) -> Vec<NodeId> {
    for at in (1..nodes.len()).rev() {
        nodes.swap(at, random.below(at as u64 + 1) as usize);
    }
    nodes
}

/// Nothing passes between the two sides.
fn between(one: &[NodeId], two: &[NodeId]) -> Cuts {
    let pairs = one.iter().flat_map(|&one| two.iter().map(move |&two| (one, two)));
    pairs.flat_map(|(one, two)| [(one, two), (two, one)]).collect()
}

/// Only neighbours hear each other.
fn ring(nodes: &[NodeId]) -> Cuts {
    let count = nodes.len();
    let pairs = (0..count).flat_map(|one| (0..count).map(move |two| (one, two)));
    let apart = pairs.filter(|&(one, two)| {
        let distance = (one + count - two) % count;
        distance > 1 && distance < count - 1
    });
    apart.map(|(one, two)| (nodes[one], nodes[two])).collect()
}
