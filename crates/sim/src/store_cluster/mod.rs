//! Whole nodes in one thread on virtual time: the very code that serves, between clients that are
//! simulated, a simulated network and simulated disks.
//!
//! A node is the replica's `Core` and `Connection`s, the log of `storage` on a disk that forgets
//! what is not synced, and the state machine over the engine in memory. Every step of it (the event
//! loop, a sync, the apply stage) takes a time that comes from the seed, and so does every message.

mod apply_stage;
mod checks;
mod client;
mod clock;
mod faults;
mod groups;
mod host;
mod joining;
mod log_book;
mod log_stage;
mod moving;
mod node;
mod opening;
mod sharding;
mod snapshots;
mod steps;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{Config, Role};
use kontiki_replica::steward::BEGINS_AFTER;
use kontiki_replica::{
    Answer, Ask, ChangeFailure, ChangeKind, FIRST_GROUP, GroupConfig, MoverLimits, Report, Target,
};
use kontiki_resp::Reply;
use kontiki_shard::Why;
use kontiki_storage::disk::SimDisk;
use kontiki_storage::engine::MemoryEngine;
use kontiki_types::{GroupId, Incarnation, Index, Instant, LogTime, Member, NodeId, ReplicaId};

pub use client::{Answered, Call, ClientId, Ended};
pub use log_stage::DiskSpeed;
pub use steps::{MoveStep, Stepped};

use crate::invariants::{Checked, SlotOwnership, Violation};
use crate::network::{Kind, Network, Quality};
use crate::random::{Random, mix};
use crate::schedule::Schedule;
use checks::Checks;
use client::{Client, Session};
use clock::NodeClock;
use node::{Happening, Input, Running, Step};

/// The one group of a store that is not sharded.
pub const GROUP: GroupId = FIRST_GROUP;

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
    /// Groups that share the key space, beside a controller. 0: one group has it all, and there is
    /// no controller.
    pub shards: u32,
    /// The store begins with one group, and may get a controller and others later.
    pub may_share: bool,
    /// Bounds of moves of slots.
    pub moves: MoverLimits,
    /// Each group of a sharded store has so many nodes of its own, the controller the first. 0: all
    /// are on the same voters.
    pub nodes_of_group: u64,
}

impl StoreConfig {
    /// Whether the store is sharded, or may be some day.
    pub fn is_sharded(&self) -> bool {
        self.shards > 0 || self.may_share
    }

    /// Every group that the store begins with.
    pub fn groups(&self) -> Vec<GroupId> {
        match self.shards {
            0 => vec![GROUP],
            shards => (0..=shards).map(GroupId).collect(),
        }
    }
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
            shards: 0,
            may_share: false,
            moves: MoverLimits::default(),
            nodes_of_group: 0,
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
    /// Nothing passes between the node and its clients until then.
    clients_cut_until: Instant,
    /// Everything between the node and others is held up until then.
    clogged_until: Instant,
    clock: NodeClock,
    /// Its disk was tampered with, so that it may refuse to start or end by itself.
    is_excused: bool,
}

enum Event {
    Step { node: NodeId, life: u64, step: Step },
    Frame { from: NodeId, to: NodeId, frame: Bytes, intact: bool },
    Client { client: ClientId, life: u64, arrives: Arrives },
    Ask { node: NodeId, ticket: u64, to: Target, ask: Box<Ask> },
    Answer { ticket: u64, answer: Option<Answer> },
    Alarm(u64),
}

/// Why [`StoreCluster::wait`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// It is time for what was set by [`StoreCluster::alarm`].
    Alarm(u64),
    /// [`StoreCluster::take_ended`], [`StoreCluster::take_answered`],
    /// [`StoreCluster::take_exited`] or [`StoreCluster::take_changed`] has something.
    Something,
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
    sessions: BTreeMap<u64, Session>,
    next_ticket: u64,
    answered: Vec<Answered>,
    exited: Vec<(NodeId, String)>,
    has_changed: Vec<u64>,
    watches_steps: bool,
    stepped: Vec<Stepped>,
    ownership: SlotOwnership,
    /// Groups that have begun since the store did, each with the life of its id.
    joined: BTreeMap<GroupId, u64>,
    /// The last entry of each group that anybody has applied.
    newest: BTreeMap<GroupId, Index>,
    watches_installs: bool,
    installing: Vec<NodeId>,
    changes: BTreeMap<u64, Option<Result<(), ChangeFailure>>>,
    next_change: u64,
    checks: BTreeMap<GroupId, Checks>,
    violation: Option<Violation>,
    only_clients_judge: bool,
    leaders: u64,
    installs_in_move: u64,
    trace_hash: u64,
    trace: Option<Vec<String>>,
    happenings: Vec<Happening>,
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
        let groups = config.groups();
        let own = config.nodes_of_group as usize;
        let of = |at: usize| match own {
            0 => founders.clone(),
            own => founders.iter().skip(at * own).take(own).copied().collect(),
        };
        let founders: Vec<_> =
            groups.iter().enumerate().map(|(at, &group)| (group, of(at))).collect();
        let begins = if config.shards > 0 { BEGINS_AFTER.index } else { Index(0) };
        let checks =
            groups.into_iter().map(|group| (group, Checks::beginning_after(begins))).collect();
        let mut nodes = BTreeMap::new();
        for (id, incarnation) in all() {
            let disk = SimDisk::new();
            opening::format(&disk, id, incarnation, &founders).expect("an empty disk");
            nodes.insert(id, Node::new(incarnation, disk));
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
            sessions: BTreeMap::new(),
            next_ticket: 1,
            answered: Vec::new(),
            exited: Vec::new(),
            has_changed: Vec::new(),
            watches_steps: false,
            stepped: Vec::new(),
            ownership: SlotOwnership::default(),
            joined: BTreeMap::new(),
            newest: BTreeMap::new(),
            watches_installs: false,
            installing: Vec::new(),
            changes: BTreeMap::new(),
            next_change: 1,
            checks,
            violation: None,
            only_clients_judge: false,
            leaders: 0,
            installs_in_move: 0,
            trace_hash: 0,
            trace: None,
            happenings: Vec::new(),
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

    /// What was kept, to be had once.
    pub fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
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

    /// Whether all nodes run.
    pub fn all_run(&self) -> bool {
        self.nodes.values().all(|node| node.running.is_some())
    }

    /// The nodes that run.
    pub fn running(&self) -> Vec<NodeId> {
        self.node_ids().into_iter().filter(|&id| self.is_running(id)).collect()
    }

    /// Asks a node for a change of membership, or of leadership.
    pub fn change(&mut self, node: NodeId, kind: ChangeKind) -> u64 {
        self.change_of(GROUP, node, kind)
    }

    /// As [`StoreCluster::change`], of some group.
    pub fn change_of(&mut self, group: GroupId, node: NodeId, kind: ChangeKind) -> u64 {
        let ticket = self.next_change;
        self.next_change += 1;
        self.changes.insert(ticket, None);
        let caller = kontiki_replica::Caller { connection: 0, ticket };
        self.at(node, |node| node.input(Input::Change { group, caller, kind }));
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

    /// Lets time pass until something happens that a scenario waits for, or until `end`.
    ///
    /// # Errors
    /// As [`StoreCluster::run`].
    pub fn wait(&mut self, end: Instant) -> Result<Option<Woken>, Violation> {
        loop {
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
            if !(self.ended.is_empty()
                && self.answered.is_empty()
                && self.exited.is_empty()
                && self.has_changed.is_empty()
                && self.installing.is_empty()
                && self.stepped.is_empty())
            {
                return Ok(Some(Woken::Something));
            }
            let Some((at, event)) = self.schedule.pop(end) else { break };
            self.now = self.now.max(at);
            if let Event::Alarm(name) = event {
                self.trace_hash = mix(mix(self.trace_hash, self.now.0), name);
                return Ok(Some(Woken::Alarm(name)));
            }
            self.happen(event);
        }
        self.now = end;
        Ok(None)
    }

    /// Wakes who waits at `at`.
    pub fn alarm(&mut self, at: Instant, name: u64) {
        self.schedule.add(at.max(self.now), Event::Alarm(name));
    }

    /// The nodes that ended by themselves since this was last asked, each with its last words.
    pub fn take_exited(&mut self) -> Vec<(NodeId, String)> {
        std::mem::take(&mut self.exited)
    }

    /// The next node that is about to install a snapshot is to be told by
    /// [`StoreCluster::take_installing`], or no longer.
    pub fn watch_for_installs(&mut self, watch: bool) {
        self.watches_installs = watch;
    }

    /// The node that was watched for, once.
    pub fn take_installing(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.installing)
    }

    /// The changes that are over since this was last asked.
    pub fn take_changed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.has_changed)
    }

    /// A hash over everything that has happened: two runs that differ anywhere differ in it.
    pub fn trace_hash(&self) -> u64 {
        self.trace_hash
    }

    /// How often a node became the leader.
    pub fn leaders_elected(&self) -> u64 {
        self.leaders
    }

    /// Snapshots that were installed by a group while slots of it were on their way.
    pub fn installs_in_move(&self) -> u64 {
        self.installs_in_move
    }

    /// The highest index that is known to be committed.
    pub fn committed(&self) -> Index {
        self.checks.get(&GROUP).map_or(Index(0), Checks::committed)
    }

    fn clocks(&self, id: NodeId) -> (Instant, LogTime) {
        let clock = self.nodes.get(&id).map_or(NodeClock::default(), |node| node.clock);
        (clock.monotonic(self.now), clock.wall(self.now))
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
                if node.running.as_ref().is_none_or(|running| running.is_moot(step)) {
                    return;
                }
                self.mark(1, id, step.number());
                self.note(|| format!("{id} {step:?}"));
                self.at(id, |node| {
                    if let Err(error) = node.step(step) {
                        node.fail(error);
                    }
                });
            }
            Event::Frame { from, to, frame, intact } => {
                self.mark(2, to, frame.len() as u64);
                self.note(|| format!("{to} hears {from}: {} bytes", frame.len()));
                self.at(to, |node| node.input(Input::Frame { from, frame, intact }));
            }
            Event::Client { client, life, arrives } => {
                if let Arrives::Commands { node, .. } = arrives
                    && let Some(at) = self.waits(client, life, node)
                {
                    return self.schedule.add(at, Event::Client { client, life, arrives });
                }
                self.mark(3, NodeId(client.0), life);
                self.client_event(client, life, arrives);
            }
            Event::Ask { node, ticket, to, ask } => {
                self.mark(4, node, ticket);
                self.ask_arrives(node, ticket, to, *ask);
            }
            Event::Answer { ticket, answer } => {
                self.mark(5, NodeId(0), ticket);
                self.answer_arrives(ticket, answer);
            }
            Event::Alarm(_) => {}
        }
    }

    fn mark(&mut self, kind: u64, node: NodeId, more: u64) {
        let what = kind << 60 ^ node.0 << 48 ^ more;
        self.trace_hash = mix(mix(self.trace_hash, self.now.0), what);
    }

    fn stands_still(&self, id: NodeId) -> Option<Instant> {
        let node = self.nodes.get(&id)?;
        (node.paused_until > self.now).then_some(node.paused_until)
    }

    /// Does something at a running node, and what it leads to.
    fn at(&mut self, id: NodeId, act: impl FnOnce(&mut Running)) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let clock = node.clock;
        let Some(running) = &mut node.running else { return };
        running.set_clock(clock.monotonic(now), clock.wall(now));
        act(running);
        self.follow_up(id);
    }

    fn follow_up(&mut self, id: NodeId) {
        let mut happenings = std::mem::take(&mut self.happenings);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let (life, incarnation, clock) = (node.life, node.incarnation, node.clock);
        let Some(running) = node.running.as_mut() else { return };
        running.take_happenings(&mut happenings);
        for happening in happenings.drain(..) {
            match happening {
                Happening::Later(delay, step) => {
                    self.schedule.add(self.now + delay, Event::Step { node: id, life, step });
                }
                Happening::Timer(set, step) => {
                    let wait = set.since(clock.monotonic(self.now));
                    let at = self.now + clock.true_wait(wait);
                    self.schedule.add(at, Event::Step { node: id, life, step });
                }
                Happening::Frame { to, frame } => self.send(id, to, frame),
                Happening::Reply { connection, reply } => {
                    if let Some(&client) = self.connections.get(&(id, connection)) {
                        self.reply_leaves(id, client, reply);
                    }
                }
                Happening::Answer { ticket, answer } => self.answer_leaves(id, ticket, answer),
                Happening::Changed { ticket, result } => {
                    self.changes.insert(ticket, Some(result));
                    self.has_changed.push(ticket);
                }
                Happening::Role { group, role, term, leader } => {
                    let of = if self.config.is_sharded() {
                        format!(" of {group}")
                    } else {
                        String::new()
                    };
                    self.note(|| format!("{id} is {role:?}{of} in {term}, led by {leader:?}"));
                    let led = leader.filter(|leader| {
                        role == Role::Leader
                            && leader.node == id
                            && leader.incarnation == incarnation
                    });
                    if let Some(leader) = led {
                        self.leaders += 1;
                        self.checked(group, |checks| checks.leads(leader, term));
                    }
                }
                Happening::Writes(group, change) => {
                    self.checked(group, |checks| checks.writes(id, change));
                }
                Happening::HasWritten(groups) => {
                    for group in groups {
                        self.checked(group, |checks| checks.has_written(id));
                    }
                }
                Happening::Moves(report) => {
                    self.note(|| format!("{id} moves: {report:?}"));
                    self.check(adds_up(id, &report));
                }
                Happening::Stewarded(group) => self.look_at_steward(id, group),
                Happening::Opens(group, book) => {
                    self.checked(group, |checks| checks.opens(id, *book));
                }
                Happening::Applied { group, before, entry: (entry, payload) } => {
                    let content = log_book::payload(payload.as_ref());
                    self.trace_hash = mix(self.trace_hash, content);
                    self.look_at_step(id, group, entry.index, payload.as_ref());
                    self.checked(group, |checks| checks.applies(id, before.index, entry, content));
                }
                Happening::BadFrame { from, error, intact } => {
                    self.note(|| format!("{id} refuses a frame of {from}: {error}"));
                    if intact {
                        let seen = format!("{id} refuses a frame of {from}: {error}");
                        self.check(Err(Violation::new("Nodes understand each other", seen)));
                    }
                }
                Happening::Fooled { from } => {
                    let seen = format!("{id} takes a damaged frame of {from} for whole");
                    self.check(Err(Violation::new("A damaged frame is refused", seen)));
                }
                Happening::InstalledInMove(count) => self.installs_in_move += count,
                Happening::Installs => {
                    if std::mem::take(&mut self.watches_installs) {
                        self.installing.push(id);
                    }
                }
                Happening::Failed(error) => self.exits(id, error),
            }
        }
        self.happenings = happenings;
        let now = clock.monotonic(self.now);
        let running = self.nodes.get(&id).and_then(|node| node.running.as_ref());
        let mut looked = Ok(());
        for (&group, checks) in &mut self.checks {
            if let Some(raft) = running.and_then(|running| running.core.replica(group)) {
                let checked = checks.look(id, raft);
                looked = looked.and(checked.and_then(|()| checks.look_at_lease(raft, now)));
            }
        }
        self.check(looked);
    }

    /// Has a group's checks look at something.
    fn checked(&mut self, group: GroupId, look: impl FnOnce(&mut Checks) -> Checked) {
        let checked = look(self.checks.entry(group).or_default());
        self.check(checked);
    }

    fn send(&mut self, from: NodeId, to: NodeId, frame: Bytes) {
        let clogged = |id| self.nodes.get(&id).map_or(Instant(0), |node| node.clogged_until);
        let leaves = self.now.max(clogged(from)).max(clogged(to));
        let mut rest = frame;
        let mut arrivals = self.network.send(leaves, from, to, Kind::Request, rest.len());
        while let Some(at) = arrivals.next() {
            let is_last = arrivals.len() == 0;
            let mut frame = if is_last { std::mem::take(&mut rest) } else { rest.clone() };
            let mut intact = true;
            if let Some(random) = self.network.corrupts() {
                (frame, intact) = (corrupted(&frame, random), false);
            }
            self.schedule.add(at, Event::Frame { from, to, frame, intact });
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

/// The sums are there to find our own mistakes: what was sent whole adds up.
fn adds_up(node: NodeId, report: &Report) -> Checked {
    match report {
        Report::GivenUp { id, why: why @ (Why::SumsDiffer | Why::Unreadable) } => {
            let seen = format!("{node} gives up an attempt of {id}: {why:?}");
            Err(Violation::new("What has arrived adds up", seen))
        }
        _ => Ok(()),
    }
}

/// A frame with a flipped bit, other bytes in the middle, or cut.
fn corrupted(frame: &Bytes, random: &mut Random) -> Bytes {
    let mut bytes = frame.to_vec();
    let at = random.below(bytes.len() as u64) as usize;
    match random.below(4) {
        0 => bytes.truncate(at),
        1 => {
            let end = bytes.len().min(at + 1 + random.below(16) as usize);
            for byte in &mut bytes[at..end] {
                *byte = !*byte;
            }
        }
        _ => bytes[at] ^= 1 << random.below(8),
    }
    bytes.into()
}
