//! Whole nodes in one thread on virtual time: the very code that serves, between clients that are
//! simulated, a simulated network and simulated disks.
//!
//! A node is the replica's `Core` and `Connection`s, the log of `storage` on a disk that forgets
//! what is not synced, and the state machine over the engine in memory. Every step of it (the event
//! loop, a sync, the apply stage) takes a time that comes from the seed, and so does every message.

mod apply_stage;
mod client;
mod host;
mod log_stage;
mod node;
mod opening;
mod snapshots;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{Config, Role};
use kontiki_replica::{ChangeFailure, ChangeKind, GroupConfig, GroupStatus};
use kontiki_resp::Reply;
use kontiki_storage::disk::{Crash, SimDisk};
use kontiki_storage::engine::MemoryEngine;
use kontiki_types::{GroupId, Incarnation, Instant, LogTime, Member, NodeId, ReplicaId};

pub use client::{Call, ClientId, Ended};
pub use log_stage::DiskSpeed;

use crate::invariants::{Checked, ElectionSafety, StateMachineSafety, Violation};
use crate::network::{Kind, Network, Quality};
use crate::random::Random;
use crate::schedule::Schedule;
use client::Client;
use node::{Happening, Input, Running, Step};

/// The one group of a store.
pub const GROUP: GroupId = GroupId(1);

/// A cluster to simulate.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Nodes that begin the group.
    pub voters: u64,
    /// Further nodes, which have no replica.
    pub spares: u64,
    /// The network.
    pub network: Quality,
    /// The disks.
    pub disk: DiskSpeed,
    /// Timing and limits of the consensus cores; `me` is replaced.
    pub raft: Config,
    /// Timing and limits around them.
    pub group: GroupConfig,
    /// Size of a segment of the log.
    pub segment_bytes: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        let nobody = Member::new(NodeId(0), Incarnation(0), ReplicaId(0));
        Self {
            voters: 3,
            spares: 0,
            network: Quality::good(),
            disk: DiskSpeed::usual(),
            raft: Config::new(nobody),
            group: GroupConfig::default(),
            segment_bytes: 128 << 10,
        }
    }
}

struct Node {
    incarnation: Incarnation,
    disk: SimDisk,
    /// What a crash has left of the state; `None` while it runs.
    engine: Option<MemoryEngine>,
    running: Option<Running>,
    /// Grows with each crash, so that steps of an earlier life are known.
    life: u64,
    /// The node stands still until then, as under SIGSTOP.
    paused_until: Instant,
    /// By how many milliseconds its wall clock is ahead.
    wall_ahead: i64,
}

enum Event {
    Step { node: NodeId, life: u64, step: Step },
    Frame { from: NodeId, to: NodeId, frame: Bytes },
    Client { client: ClientId, life: u64, arrives: Arrives },
}

enum Arrives {
    /// The client's commands at the node.
    Commands { node: NodeId, connection: u64, commands: Vec<Vec<Bytes>> },
    /// A reply at the client.
    Reply(Reply),
}

/// Whole nodes on virtual time.
pub struct StoreCluster {
    config: StoreConfig,
    /// The time.
    now: Instant,
    schedule: Schedule<Event>,
    network: Network,
    random: Random,
    nodes: BTreeMap<NodeId, Node>,
    clients: BTreeMap<ClientId, Client>,
    /// Which client holds a connection of a node.
    connections: BTreeMap<(NodeId, u64), ClientId>,
    ended: Vec<Ended>,
    changes: BTreeMap<u64, Option<Result<(), ChangeFailure>>>,
    next_change: u64,
    election_safety: ElectionSafety,
    state_machine_safety: StateMachineSafety,
    violation: Option<Violation>,
    only_clients_judge: bool,
    trace: Option<Vec<String>>,
}

impl StoreCluster {
    /// A cluster whose disks are formatted and whose nodes run.
    pub fn new(config: StoreConfig, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let network = Network::new(config.network.clone(), random.fork());
        let ids: Vec<_> = (1..=config.voters + config.spares).map(NodeId).collect();
        let incarnations: Vec<_> = ids.iter().map(|_| Incarnation(random.number())).collect();
        let all = || ids.iter().copied().zip(incarnations.iter().copied());
        let founders: Vec<Member> = all()
            .take(config.voters as usize)
            .map(|(id, incarnation)| opening::founder(id, incarnation))
            .collect();
        let mut nodes = BTreeMap::new();
        for (id, incarnation) in all() {
            let disk = SimDisk::new();
            opening::format(&disk, id, incarnation, &founders).expect("an empty disk");
            let engine = Some(MemoryEngine::new());
            let paused_until = Instant(0);
            let node = Node {
                incarnation,
                disk,
                engine,
                running: None,
                life: 0,
                paused_until,
                wall_ahead: 0,
            };
            nodes.insert(id, node);
        }
        let mut cluster = Self {
            config,
            now: Instant(1_000_000),
            schedule: Schedule::default(),
            network,
            random,
            nodes,
            clients: BTreeMap::new(),
            connections: BTreeMap::new(),
            ended: Vec::new(),
            changes: BTreeMap::new(),
            next_change: 1,
            election_safety: ElectionSafety::default(),
            state_machine_safety: StateMachineSafety::default(),
            violation: None,
            only_clients_judge: false,
            trace: None,
        };
        for id in ids {
            cluster.start(id).expect("a first start");
        }
        cluster
    }

    /// Keeps a line of everything that happens from here on.
    pub fn keep_trace(&mut self) {
        self.trace = Some(Vec::new());
    }

    /// What goes on inside is not judged from here on, only what clients see: to find out what they
    /// would see.
    pub fn let_only_clients_judge(&mut self) {
        self.only_clients_judge = true;
    }

    /// What was kept.
    pub fn trace(&self) -> &[String] {
        self.trace.as_deref().unwrap_or_default()
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Chance, for scenarios.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// The network, for scenarios.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    /// The disk of a node.
    pub fn disk(&self, node: NodeId) -> &SimDisk {
        &self.nodes[&node].disk
    }

    /// All nodes, running or not.
    pub fn node_ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// Whether a node runs.
    pub fn is_running(&self, node: NodeId) -> bool {
        self.nodes[&node].running.is_some()
    }

    /// The nodes that run.
    pub fn running(&self) -> Vec<NodeId> {
        self.node_ids().into_iter().filter(|&id| self.is_running(id)).collect()
    }

    /// The state of the group's replica on a node.
    pub fn status(&self, node: NodeId) -> Option<GroupStatus> {
        let statuses = self.nodes[&node].running.as_ref()?.core.statuses();
        statuses.into_iter().find(|status| status.group == GROUP)
    }

    /// The node that leads the highest term, if one does.
    pub fn leader(&self) -> Option<NodeId> {
        self.node_ids()
            .into_iter()
            .filter_map(|id| Some((id, self.status(id)?.raft)))
            .filter(|(_, raft)| raft.role == Role::Leader)
            .max_by_key(|(_, raft)| raft.term)
            .map(|(id, _)| id)
    }

    /// Snapshots that a running node has built and installed since it started.
    pub fn snapshots(&self, node: NodeId) -> (u64, u64) {
        let running = self.nodes[&node].running.as_ref();
        running.map_or((0, 0), |node| (node.stage.snapshots_built, node.stage.snapshots_installed))
    }

    /// A hash of the logical state of a running node's replica, and what it has applied.
    pub fn state_hash(&self, node: NodeId) -> Option<(kontiki_types::Index, u128)> {
        let machine = self.nodes[&node].running.as_ref()?.stage.machines.get(&GROUP)?;
        Some((machine.applied().index, machine.state_hash().ok()?))
    }

    /// Moves a node's wall clock to this many milliseconds ahead of the true time.
    pub fn set_wall_clock(&mut self, node: NodeId, ahead: i64) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.wall_ahead = ahead;
        }
    }

    /// A node stands still for this long.
    pub fn pause(&mut self, node: NodeId, time: Duration) {
        let until = self.now + time;
        if let Some(node) = self.nodes.get_mut(&node) {
            node.paused_until = until;
        }
    }

    /// The power of a node fails; it stays down. Clients connected to it learn nothing more.
    pub fn crash(&mut self, id: NodeId, crash: Crash) {
        self.note(|| format!("{id} crashes {crash:?}"));
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.life += 1;
        if let Some(running) = node.running.take() {
            let disk = node.disk.clone();
            node.engine = Some(running.cut_off(&disk, &mut self.random));
        }
        node.disk = node.disk.crash(crash);
        node.paused_until = Instant(0);
        let lost: Vec<_> =
            self.connections.range((id, 0)..=(id, u64::MAX)).map(|(&key, &of)| (key, of)).collect();
        for (key, client) in lost {
            self.connections.remove(&key);
            self.connection_lost(client);
        }
    }

    /// Brings a node up again.
    ///
    /// # Errors
    /// Why it refuses to start.
    pub fn start(&mut self, id: NodeId) -> Result<(), String> {
        let peers = self.nodes.iter().filter(|&(&other, _)| other != id);
        let peers = peers.map(|(&other, node)| opening::info(other, node.incarnation, 0)).collect();
        let (now, wall) = (self.now, self.wall(id));
        let Some(node) = self.nodes.get_mut(&id) else { return Err(format!("there is no {id}")) };
        if node.running.is_some() {
            return Ok(());
        }
        let engine = node.engine.take().unwrap_or_default();
        let disk = node.disk.clone();
        let opened =
            opening::open(&self.config, disk, engine, peers, (now, wall), &mut self.random);
        let mut running = opened.map_err(|error| format!("{id} cannot start: {error}"))?;
        running.set_clock(now, wall);
        running.begin();
        node.running = Some(running);
        self.note(|| format!("{id} starts"));
        self.follow_up(id);
        Ok(())
    }

    /// Asks a node for a change of membership, or of leadership.
    pub fn change(&mut self, node: NodeId, kind: ChangeKind) -> u64 {
        let ticket = self.next_change;
        self.next_change += 1;
        self.changes.insert(ticket, None);
        let caller = kontiki_replica::Caller { connection: 0, ticket };
        self.at(node, |node| node.input(Input::Change { caller, kind }));
        ticket
    }

    /// What came of a change.
    pub fn changed(&self, ticket: u64) -> Option<&Result<(), ChangeFailure>> {
        self.changes.get(&ticket)?.as_ref()
    }

    /// Who a node is.
    pub fn incarnation(&self, node: NodeId) -> Incarnation {
        self.nodes[&node].incarnation
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// A property was violated, or a node could not go on.
    pub fn run(&mut self, time: Duration) -> Checked {
        self.run_until(self.now + time, |_| false).map(|_| ())
    }

    /// Lets time pass until `enough`, or until `end`; says whether it was enough.
    ///
    /// # Errors
    /// As [`StoreCluster::run`].
    pub fn run_until(
        &mut self,
        end: Instant,
        mut enough: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, Violation> {
        loop {
            if enough(self) {
                return Ok(true);
            }
            let Some((at, event)) = self.schedule.pop(end) else { break };
            self.now = self.now.max(at);
            self.happen(event);
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
        }
        self.now = end;
        Ok(false)
    }

    fn wall(&self, id: NodeId) -> LogTime {
        let ahead = self.nodes.get(&id).map_or(0, |node| node.wall_ahead);
        LogTime((EPOCH_MS + self.now.0 / 1000).saturating_add_signed(ahead))
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{} {}", now.0, line()));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Step { node: id, life, step } => {
                let Some(node) = self.nodes.get(&id).filter(|node| node.life == life) else {
                    return;
                };
                if node.paused_until > self.now {
                    let at = node.paused_until;
                    return self.schedule.add(at, Event::Step { node: id, life, step });
                }
                self.note(|| format!("{id} {step:?}"));
                self.at(id, |node| {
                    if let Err(error) = node.step(step) {
                        node.fail(error);
                    }
                });
            }
            Event::Frame { from, to, frame } => {
                self.note(|| format!("{to} hears {from}: {} bytes", frame.len()));
                self.at(to, |node| node.input(Input::Frame { from, frame }));
            }
            Event::Client { client, life, arrives } => self.client_event(client, life, arrives),
        }
    }

    /// Does something at a running node, and what it leads to.
    fn at(&mut self, id: NodeId, act: impl FnOnce(&mut Running)) {
        let (now, wall) = (self.now, self.wall(id));
        let node = self.nodes.get_mut(&id).and_then(|node| node.running.as_mut());
        let Some(running) = node else { return };
        running.set_clock(now, wall);
        act(running);
        self.follow_up(id);
    }

    fn follow_up(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let (life, incarnation) = (node.life, node.incarnation);
        let Some(running) = node.running.as_mut() else { return };
        for happening in running.take_happenings() {
            match happening {
                Happening::Later(delay, step) => {
                    self.schedule.add(self.now + delay, Event::Step { node: id, life, step });
                }
                Happening::Frame { to, frame } => {
                    for delay in self.network.send(id, to, Kind::Request, frame.len()) {
                        let frame = frame.clone();
                        self.schedule.add(self.now + delay, Event::Frame { from: id, to, frame });
                    }
                }
                Happening::Reply { connection, reply } => {
                    if let Some(&client) = self.connections.get(&(id, connection)) {
                        self.reply_leaves(client, reply);
                    }
                }
                Happening::Changed { ticket, result } => {
                    self.changes.insert(ticket, Some(result));
                }
                Happening::Role { role, term, leader } => {
                    self.note(|| format!("{id} is {role:?} in {term}, led by {leader:?}"));
                    let led = leader.filter(|leader| {
                        role == Role::Leader
                            && leader.node == id
                            && leader.incarnation == incarnation
                    });
                    if let Some(leader) = led {
                        let checked = self.election_safety.leads(leader, term);
                        self.check(checked);
                    }
                }
                Happening::Applied { before, entry: (entry, payload) } => {
                    let mut hasher = DefaultHasher::new();
                    payload.hash(&mut hasher);
                    let content = hasher.finish();
                    let checked = self.state_machine_safety.applies(before.index, entry, content);
                    self.check(checked);
                }
                Happening::Failed(error) => {
                    let seen = format!("{id} cannot go on: {error}");
                    self.check(Err(Violation::new("A node serves on", seen)));
                }
            }
        }
    }

    fn check(&mut self, checked: Checked) {
        if let Err(violation) = checked
            && !self.only_clients_judge
        {
            self.violation.get_or_insert(violation);
        }
    }
}

/// The true time when a simulation begins, so that clocks show plausible dates.
const EPOCH_MS: u64 = 1_800_000_000_000;
