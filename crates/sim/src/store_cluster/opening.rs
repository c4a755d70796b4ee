//! How a node comes up from its disk, in the order in which a real one does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kontiki_kv::{Machine, Store};
use kontiki_raft::{Base, Membership, Recovered};
use kontiki_replica::steward::{BEGINS_AFTER, Beginning, CONTROLLER};
use kontiki_replica::{Core, NodeInfo, Opened};
use kontiki_storage::directory::{Directory, Expected, Format};
use kontiki_storage::disk::{Disk, SimDisk};
use kontiki_storage::engine::{Engine, MemoryEngine, MemoryStore, fits};
use kontiki_storage::log::{Log, LogConfig, is_index, is_segment};
use kontiki_storage::recovery::finish_install;
use kontiki_types::{GroupId, Incarnation, Instant, LogId, LogTime, Member, NodeId, ReplicaId};

use super::StoreConfig;
use super::apply_stage::ApplyStage;
use super::log_book::LogBook;
use super::log_stage::LogStage;
use super::moving::Moving;
use super::node::Running;
use super::sharding;
use super::snapshots::Snapshots;
use crate::random::Random;

/// Where a node keeps everything on its disk.
const DIRECTORY: &str = "data";
/// The directory's note that its log was begun.
const LOG_BEGUN: &str = "log-begun";
/// The replica id of founding members.
pub(super) const FOUNDER: ReplicaId = ReplicaId(1);

/// Why a node cannot start.
pub(super) type StartFailure = String;

/// What all nodes know of each other.
pub(super) fn info(id: NodeId, incarnation: Incarnation, boot: u32) -> NodeInfo {
    NodeInfo { id, incarnation, boot, ..NodeInfo::default() }
}

/// Formats a disk. Each group begins with its `founders`; a node that joins later knows none.
pub(super) fn format(
    disk: &SimDisk,
    node: NodeId,
    incarnation: Incarnation,
    founders: &[(GroupId, Vec<Member>)],
) -> Result<(), StartFailure> {
    let path = Path::new(DIRECTORY);
    let format = Format { cluster: 1, node, incarnation };
    Directory::format(disk, path, format).map_err(text)?;
    if !founders.is_empty() {
        let opened = Directory::open(disk.clone(), path, Expected::default());
        let mut directory = opened.map_err(text)?;
        for (group, founders) in founders {
            directory.set_initial(*group, founders.clone()).map_err(text)?;
        }
    }
    Ok(())
}

/// The founding member on `node`.
pub(super) fn founder(node: NodeId, incarnation: Incarnation) -> Member {
    Member::new(node, incarnation, FOUNDER)
}

/// Removes what would spare the next start to read the whole log.
pub(super) fn remove_indexes(disk: &SimDisk) -> Result<(), StartFailure> {
    let path = Path::new(DIRECTORY).join("log");
    // A disk that was wiped has no log.
    for name in disk.list(&path).unwrap_or_default() {
        if is_index(&name) {
            disk.remove(&path.join(name)).map_err(text)?;
        }
    }
    Ok(())
}

/// Brings a node up.
pub(super) fn open(
    config: &StoreConfig,
    node: NodeId,
    disk: SimDisk,
    engine: MemoryEngine,
    peers: Vec<NodeInfo>,
    (now, wall): (Instant, LogTime),
    random: &mut Random,
) -> Result<Running, StartFailure> {
    let path = Path::new(DIRECTORY);
    let expected = Expected { node: Some(node), cluster: None };
    let mut directory = Directory::open(disk.clone(), path, expected).map_err(text)?;
    let mut engine = engine;
    let applied = states(&mut engine)?;
    let seed = random.number();
    let (mut log, recovered) = open_log(config, disk.clone(), &mut directory, seed, &applied)?;
    let snapshots = Snapshots::open(disk, &directory.snapshot_path())?;
    let recovered = replicas(config, &mut log, recovered, &mut directory)?;
    let identity = directory.identity().clone();
    let me = info(identity.node, identity.incarnation, directory.boots());
    let mut core = Core::new(me.clone(), config.group.clone(), peers, directory.removed());
    core.set_time(now, wall);
    let mut stage = ApplyStage::new(engine, snapshots, directory, config.raft.clone());
    let mut books = Vec::new();
    for (group, (member, recovered)) in recovered {
        let beginning = sharding::beginning(stage.directory(), group);
        let (machine, recovered) = open_machine(&mut stage, &mut log, group, recovered, beginning)?;
        books.push((group, LogBook::of(member, &recovered)));
        stage.members.insert(group, members_at(&recovered, machine.applied()));
        let mut raft = config.raft.clone();
        raft.me = member;
        core.open(Opened {
            group,
            raft,
            applied: machine.applied(),
            log_time: machine.log_time(),
            next_due: machine.next_due(),
            recovered: Recovered { applied: machine.applied().index, ..recovered },
            seed: random.number(),
        })
        .map_err(text)?;
        stage.machines.insert(group, machine);
    }
    let controller = stage.machines.get(&CONTROLLER);
    let configuration = controller
        .and_then(|machine| sharding::configuration(CONTROLLER, machine))
        .or_else(|| sharding::founding_configuration(stage.directory()));
    if let Some(configuration) = configuration {
        core.set_configuration(configuration);
    }
    let log = LogStage::new(log, config.disk.clone(), random.fork());
    let has_controller = stage.machines.contains_key(&CONTROLLER);
    let moving = Moving::new(config, &me, has_controller);
    let mut running = Running::new(me, core, log, stage, moving, random.fork());
    for (group, book) in books {
        running.opens(group, book);
    }
    Ok(running)
}

/// What the log proves of each group.
type Proven = BTreeMap<GroupId, Recovered<Bytes>>;

fn open_log(
    config: &StoreConfig,
    disk: SimDisk,
    directory: &mut Directory<SimDisk>,
    seed: u64,
    applied: &BTreeMap<GroupId, LogId>,
) -> Result<(Log<SimDisk>, Proven), StartFailure> {
    let path = directory.log_path();
    let is_there = disk.list(&path).is_ok_and(|names| names.iter().any(|name| is_segment(name)));
    if !is_there && directory.note(LOG_BEGUN).is_some() {
        return Err("the log is gone".to_owned());
    }
    let generations = std::sync::Mutex::new(Random::new(seed));
    let next = move || generations.lock().map_or(0, |mut random| random.number());
    let log = LogConfig {
        segment_bytes: config.segment_bytes,
        reserve_bytes: config.segment_bytes / 4,
        free_bytes_min: config.segment_bytes,
        random: Arc::new(next),
        ..LogConfig::new(directory.identity().incarnation)
    };
    let opened = Log::open_after(disk, &path, log, applied).map_err(text)?;
    directory.set_note(LOG_BEGUN, "yes").map_err(text)?;
    Ok((opened.log, opened.groups))
}

/// Up to which entry the states go.
fn states(engine: &mut MemoryEngine) -> Result<BTreeMap<GroupId, LogId>, StartFailure> {
    let groups = engine.groups().into_iter();
    groups.map(|group| Ok((group, engine.open_group(group).map_err(text)?.applied()))).collect()
}

type Replicas = BTreeMap<GroupId, (Member, Recovered<Bytes>)>;

fn replicas(
    config: &StoreConfig,
    log: &mut Log<SimDisk>,
    recovered: Proven,
    directory: &mut Directory<SimDisk>,
) -> Result<Replicas, StartFailure> {
    let identity = directory.identity().clone();
    let me = |replica| Member::new(identity.node, identity.incarnation, replica);
    let mut replicas = Replicas::new();
    for (group, recovered) in recovered {
        let noted = directory.note(&replica_note(group)).and_then(|note| note.parse().ok());
        let replica = noted.map_or(FOUNDER, ReplicaId);
        if directory.is_removed(group, replica) {
            log.forget_group(group).map_err(text)?;
        } else {
            replicas.insert(group, (me(replica), recovered));
        }
    }
    for group in config.groups() {
        let initial = directory.initial(group).map(<[Member]>::to_vec).unwrap_or_default();
        if !initial.contains(&me(FOUNDER))
            || replicas.contains_key(&group)
            || directory.is_removed(group, FOUNDER)
        {
            continue;
        }
        directory.use_initial(group, FOUNDER).map_err(text)?;
        let membership = Arc::new(Membership::new(initial, Vec::new()));
        let id = sharding::beginning(directory, group).map_or(LogId::ZERO, |_| BEGINS_AFTER);
        let base = Base { id, membership, ..Base::default() };
        log.create_group(group, base.clone()).map_err(text)?;
        let recovered = Recovered { base: Some(base), ..Recovered::default() };
        replicas.insert(group, (me(FOUNDER), recovered));
    }
    Ok(replicas)
}

/// Name of the directory's note of which replica of a group it is.
pub(super) fn replica_note(group: GroupId) -> String {
    format!("replica-{group}")
}

fn open_machine(
    stage: &mut ApplyStage,
    log: &mut Log<SimDisk>,
    group: GroupId,
    recovered: Recovered<Bytes>,
    beginning: Option<Beginning>,
) -> Result<(Machine<MemoryStore>, Recovered<Bytes>), StartFailure> {
    let mut recovered = recovered;
    let machine = sharding::machine(stage.engine.open_group(group).map_err(text)?);
    if let Ok(machine) = machine {
        let (snapshots, applied) = (stage.snapshots.files(), machine.applied());
        recovered = finish_install(log, snapshots, group, applied, recovered).map_err(text)?;
        let (base, last) = ends(&recovered);
        if fits(applied, base, last) {
            return Ok((machine, recovered));
        }
    }
    let recovered = log.reload(group, recovered).map_err(text)?;
    let (base, last) = ends(&recovered);
    let beginning = beginning.filter(|_| base == BEGINS_AFTER);
    if base != LogId::ZERO && beginning.is_none() {
        return Err(format!("the state of {group} is gone; its log is from {base} to {last}"));
    }
    stage.engine.drop_group(group).map_err(text)?;
    let mut store = stage.engine.open_group(group).map_err(text)?;
    if let Some(beginning) = beginning {
        store = Machine::found(store, BEGINS_AFTER, &*beginning.steward()).map_err(text)?;
    }
    Ok((sharding::machine(store).map_err(text)?, recovered))
}

/// The entry after which a log begins, and the one with which it ends.
fn ends(recovered: &Recovered<Bytes>) -> (LogId, LogId) {
    let base = recovered.base.as_ref().map_or(LogId::ZERO, |base| base.id);
    (base, recovered.last())
}

fn members_at(recovered: &Recovered<Bytes>, applied: LogId) -> (LogId, Arc<Membership>) {
    let base = recovered.base.clone().unwrap_or_default();
    let effective = recovered.memberships().take_while(|(id, _)| id.index <= applied.index).last();
    effective.map_or((base.membership_id, base.membership), |(id, membership)| {
        (id, Arc::clone(membership))
    })
}

pub(super) fn text(error: impl std::fmt::Display) -> StartFailure {
    error.to_string()
}
