//! What a seed decides before anything runs: who takes part, how fast, and which faults come when.
//!
//! A fault draws its details from a number of its own, so that a plan with some faults left out
//! still means the same by the others.

use std::time::Duration;

use kontiki_raft::Lease;
use kontiki_replica::GroupConfig;

use kontiki_types::NodeId;

use super::{FaultKind, SwarmConfig, recipes};
use crate::network::Quality;
use crate::random::Random;
use crate::store_cluster::{DiskSpeed, StoreConfig};

/// When the first fault may come.
pub(super) const FAULTS_FROM: Duration = Duration::from_secs(2);
/// When all faults stop.
pub(super) const FAULTS_UNTIL: Duration = Duration::from_secs(21);
/// A seed takes at least so long.
pub(super) const TIME_MIN: Duration = Duration::from_millis(30_500);
/// A seed completes at least so many operations.
pub const OPERATIONS_MIN: u64 = 200;

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// Somebody.
    Anyone,
    /// Who leads when it comes.
    Leader,
    /// One of the recipe's cast: 0 led when its first fault came, the others were drawn then.
    Cast(usize),
    /// This one.
    Node(NodeId),
    /// The way from the one to the other.
    Way(NodeId, NodeId),
}

/// A fault that is to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    /// Counted from the start.
    pub(super) at: Duration,
    /// How long it lasts, if it lasts.
    pub(super) length: Duration,
    pub(super) hits: Whom,
    pub(super) seed: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) config: StoreConfig,
    pub(super) faults: Vec<Fault>,
    /// Clients on connections, then such that keep a session of their own.
    pub(super) clients: (usize, usize),
    /// Of a thousand clients so many mostly read, and of a thousand calls of such a one so many are
    /// reads.
    pub(super) reading: (u64, u64),
    pub(super) faults_until: Duration,
    pub(super) seed: u64,
}

impl Plan {
    pub(super) fn of(seed: u64, of: &SwarmConfig) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        // Seeds that follow each other must have nothing in common.
        let mut random = random.fork();
        let drawn = if random.chance(700) { 3 } else { 5 };
        let voters = of.nodes.unwrap_or(if of.is_calm { 3 } else { drawn });
        let mut config = config(voters, &mut random);
        // Followers that lag are served from memory, from the disk, or by a snapshot.
        let caches = [None, Some(0), Some(1 << 10), Some(4 << 10)];
        config.raft.log_cache_bytes = Random::new(seed ^ 0xcac4e).pick(&caches).copied().flatten();
        // Some groups rest as soon as they may, and their nodes are watched as a node does it.
        let rests = [None, Some(1), Some(2)];
        let rests = Random::new(seed ^ 0x9e57).pick(&rests).copied().flatten();
        config.raft.quiesce_after = rests.map(|beats| config.raft.heartbeat * beats);
        config.raft.commits_can_wait = Random::new(seed ^ 0xc0117).chance(700);
        config.group.alive_interval = config.raft.election_timeout / 3;
        config.group.silent_after = config.raft.election_timeout;
        if of.is_calm {
            config.spares = 0;
        }
        if of.is_sharded {
            shard(&mut config, &mut Random::new(seed ^ 0x5a4d));
        }
        let count = if of.is_calm { 0 } else { random.between(2, 6) };
        let mut faults: Vec<Fault> = (0..count).map(|at| fault(at == 0, &mut random)).collect();
        // Trouble seldom comes alone: what breaks a protocol is often a second fault while the first
        // one lasts.
        for at in 1..faults.len() {
            let before = faults[at - 1];
            if random.chance(400) {
                faults[at].at = before.at + random.time(Duration::ZERO, before.length);
            }
        }
        if !of.is_calm {
            faults.extend(recipes::faults(&config.raft, &mut random));
        }
        faults.sort_by_key(|fault| fault.at);
        let clients = (random.between(3, 5) as usize, random.between(1, 2) as usize);
        // Where hardly anything is written, whoever is cut off has as long a log as the others, and
        // may be elected: that is when leases matter.
        let is_quiet = !of.is_calm && config.raft.lease.is_some() && random.chance(500);
        let reading = if is_quiet { (1000, 990) } else { (400, 850) };
        Self { config, faults, clients, reading, faults_until: FAULTS_UNTIL, seed: random.number() }
    }
}

fn config(voters: u64, random: &mut Random) -> StoreConfig {
    let mut config = StoreConfig {
        voters,
        spares: 1,
        network: Quality::good(),
        disk: DiskSpeed { stalls: 2, ..DiskSpeed::usual() },
        segment_bytes: 32 << 10,
        group: GroupConfig {
            request_timeout: Duration::from_secs(2),
            retry_interval: Duration::from_millis(50),
            info_interval: Duration::from_secs(5),
            log_keep_bytes: random.between(4, 24) << 10,
            ..GroupConfig::default()
        },
        ..StoreConfig::default()
    };
    let heartbeat = random.between(100, 200);
    config.raft.heartbeat = Duration::from_millis(heartbeat);
    config.raft.election_timeout = Duration::from_millis(heartbeat * random.between(4, 7));
    config.raft.snapshot_chunk_bytes = 4 << 10;
    config.raft.max_append_bytes = if random.chance(500) { 4 << 10 } else { 256 };
    if random.chance(500) {
        config.raft.lease = Some(Lease { drift_ppm: LEASE_DRIFT_PPM });
    }
    config
}

/// So many groups share the keys, and what moves is cut into parts, so that there are steps enough.
fn shard(config: &mut StoreConfig, random: &mut Random) {
    let mut random = random.fork();
    // Some stores get their controller while they serve.
    config.may_share = Random::new(!random.clone().number()).chance(150);
    config.shards = if config.may_share { 0 } else { random.between(2, 3) as u32 };
    let moves = &mut config.moves;
    moves.step.chunk_bytes = random.between(60, 2000) as usize;
    moves.step.freeze_bytes = random.between(0, 600);
    moves.chunks_in_flight = random.between(1, 4) as usize;
    // What is sent at once arrives in order, or not at all.
    moves.chunks_at_a_look = random.between(1, 4) as usize;
    moves.attempt = random.time(Duration::from_millis(1500), Duration::from_secs(8));
    moves.freeze = random.time(Duration::from_millis(300), Duration::from_secs(2));
    // Content that takes its time is content that changes on its way.
    if random.chance(500) {
        moves.copy_bytes_per_second = random.between(2_000, 20_000);
        moves.attempt = moves.attempt.max(Duration::from_secs(4));
    }
    if random.chance(500) {
        moves.part_bytes = random.between(200, 4000);
    }
}

/// What goes wrong just when slots come a step further.
pub(super) const AT_STEPS: &[FaultKind] = {
    use FaultKind::*;
    &[
        PowerLoss,
        PartialPowerLoss,
        Kill,
        TornWrite,
        RestartLoop,
        Blackout,
        Isolation,
        Split,
        Mute,
        Deaf,
        OneWay,
        Pause,
        Losses,
        Duplicates,
        Reordering,
        WallClockJump,
        ClockDrift,
        DiskStall,
        SyncFailure,
        DiskFull,
        LeadershipTransfer,
        LeadershipTransfer,
    ]
};

/// By how much clocks may run apart when leases are on.
pub(super) const LEASE_DRIFT_PPM: u32 = 10_000;

fn fault(is_first: bool, random: &mut Random) -> Fault {
    use FaultKind::*;
    // One fault of each seed takes the leader away, so that (nearly) every seed has an election
    // after the first one.
    const OUSTS: [FaultKind; 7] =
        [Isolation, PowerLoss, TornWrite, Kill, Pause, PartialPowerLoss, LeadershipTransfer];
    let kinds: &[FaultKind] = if is_first { &OUSTS } else { &FaultKind::ALL };
    let kind = random.pick(kinds).copied().unwrap_or(PowerLoss);
    let window = FAULTS_UNTIL - FAULTS_FROM - Duration::from_secs(2);
    let mut length = random.time(Duration::from_millis(200), Duration::from_millis(4500));
    if is_first {
        length = length.max(Duration::from_millis(2500));
    }
    Fault {
        kind,
        at: FAULTS_FROM + random.time(Duration::ZERO, window),
        length,
        hits: if is_first || random.chance(450) { Whom::Leader } else { Whom::Anyone },
        seed: random.number(),
    }
}
