//! Bare Raft cores on virtual time, on a simulated network and disks that take their time.
//!
//! Every safety property of the paper is checked after every step.

mod command;
mod course;
mod disk;
mod links;
mod machine;
mod nodes;
pub mod speed;
mod view;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use kontiki_raft::{
    Config, HardState, Membership, Message, Output, Raft, Receipt, Recovered, Role, SnapshotMeta,
    WriteBatch, persist,
};
use kontiki_types::{GroupId, Incarnation, Index, Instant, LogId, Member, NodeId, ReplicaId, Term};

use crate::invariants::{
    Checked, CommitByMajority, ElectionSafety, LeaderAppendOnly, LeaderCompleteness, Leading,
    LogMatching, ReadIndex, StateMachineSafety, Violation, Votes,
};
use crate::network::{Network, Quality, Traffic};
use crate::random::Random;
use crate::schedule::Schedule;
use command::Command;
use disk::Disk;
use links::Links;
use machine::{Machine, State, hash};
use nodes::Nodes;
use view::View;

type Core = Raft<Command>;
type Batch = (GroupId, WriteBatch<Command>);

const GROUP: GroupId = GroupId(1);

/// A cluster of bare cores.
#[derive(Clone, Debug)]
pub struct RaftClusterConfig {
    /// How many.
    pub nodes: u64,
    /// Timing and limits; `me` is replaced.
    pub raft: Config,
    /// The network.
    pub network: Quality,
    /// The shortest and the longest write to a disk. Without any time at all a write is done at once,
    /// and no event of its own.
    pub disk: (Duration, Duration),
    /// The log is cut each time so many commands were applied since.
    pub snapshot_every: Option<u64>,
    /// Whether the bytes that are sent are counted: each message is encoded for that.
    pub count_bytes: bool,
}

impl RaftClusterConfig {
    /// The timing of the course's suites: heartbeats at most ten times a second.
    pub fn course(nodes: u64) -> Self {
        let raft = Config {
            election_timeout: Duration::from_millis(400),
            heartbeat: Duration::from_millis(100),
            snapshot_chunk_bytes: 4096,
            ..Config::new(member(NodeId(0)))
        };
        Self {
            nodes,
            raft,
            network: Quality::good(),
            disk: (Duration::from_micros(50), Duration::from_micros(500)),
            snapshot_every: None,
            count_bytes: true,
        }
    }
}

fn member(node: NodeId) -> Member {
    Member::new(node, Incarnation(node.0 + 100), ReplicaId(1))
}

struct Node {
    me: Member,
    raft: Option<Core>,
    disk: Disk,
    machine: Machine,
    view: View,
    waiting: Vec<Batch>,
    under_way: Vec<Batch>,
    snapshot: Option<(SnapshotMeta, Vec<u8>)>,
    staged: Vec<u8>,
    /// Grows with each crash.
    life: u64,
    timer: Instant,
    draining: bool,
    snapshots_installed: u64,
    /// What it was when it was last checked.
    seen: Cell<Option<(Role, Term, Index, LogId)>>,
}

enum Event {
    Deliver(Message<Command>),
    Written { node: NodeId, life: u64 },
    Timer { node: NodeId, life: u64 },
    Drain { node: NodeId, life: u64 },
}

#[derive(Default)]
struct Invariants {
    election_safety: ElectionSafety,
    leader_append_only: LeaderAppendOnly,
    log_matching: LogMatching,
    leader_completeness: LeaderCompleteness,
    state_machine_safety: StateMachineSafety,
    commit_by_majority: CommitByMajority,
    read_index: ReadIndex,
    votes: Votes,
}

/// See the module.
pub struct RaftCluster {
    config: RaftClusterConfig,
    now: Instant,
    schedule: Schedule<Event>,
    links: Links,
    random: Random,
    nodes: Nodes<Node>,
    invariants: Invariants,
    violation: Option<Violation>,
    reads: BTreeMap<u64, Option<Index>>,
    next_read: u64,
    trace: Option<Vec<String>>,
    receipts: Vec<(GroupId, Receipt)>,
}

impl RaftCluster {
    /// A cluster that runs.
    pub fn new(config: RaftClusterConfig, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let network = Network::new(config.network.clone(), random.fork());
        let ids: Vec<NodeId> = (1..=config.nodes).map(NodeId).collect();
        let voters: Vec<Member> = ids.iter().copied().map(member).collect();
        let base = Recovered::<Command>::initial(Membership::new(voters, Vec::new())).base;
        let nodes = ids.iter().map(|&id| Node {
            me: member(id),
            raft: None,
            disk: Disk::new(base.clone()),
            machine: Machine::default(),
            view: View::default(),
            waiting: Vec::new(),
            under_way: Vec::new(),
            snapshot: None,
            staged: Vec::new(),
            life: 0,
            timer: Instant::MAX,
            draining: false,
            snapshots_installed: 0,
            seen: Cell::new(None),
        });
        let mut cluster = Self {
            now: Instant(1_000_000),
            schedule: Schedule::default(),
            links: Links::new(network, config.count_bytes),
            random,
            nodes: Nodes::new(nodes),
            invariants: Invariants::default(),
            violation: None,
            reads: BTreeMap::new(),
            next_read: 1,
            trace: None,
            receipts: Vec::new(),
            config,
        };
        for id in ids {
            cluster.restart(id);
        }
        cluster
    }

    /// Keeps a line of everything that happens from here on.
    pub fn keep_trace(&mut self) {
        self.trace = Some(Vec::new());
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
        &mut self.links.network
    }

    /// What was sent since the start.
    pub fn traffic(&self) -> Traffic {
        self.links.network.traffic()
    }

    /// All nodes.
    pub fn node_ids(&self) -> Vec<NodeId> {
        self.nodes.ids().collect()
    }

    /// Whether a node runs.
    pub fn is_running(&self, node: NodeId) -> bool {
        self.nodes[&node].raft.is_some()
    }

    /// Role and term of a node that runs.
    pub fn role(&self, node: NodeId) -> Option<(Role, Term)> {
        self.nodes[&node].raft.as_ref().map(|raft| (raft.role(), raft.term()))
    }

    /// How many snapshots a node has installed.
    pub fn snapshots_installed(&self, node: NodeId) -> u64 {
        self.nodes[&node].snapshots_installed
    }

    /// Bytes of a node's log in force on its disk.
    pub fn log_bytes(&self, node: NodeId) -> usize {
        self.nodes[&node].disk.bytes()
    }

    /// Nothing passes to or from a node.
    pub fn disconnect(&mut self, node: NodeId) {
        self.links.disconnected.insert(node);
    }

    /// The node is reachable again.
    pub fn connect(&mut self, node: NodeId) {
        self.links.disconnected.remove(&node);
    }

    /// Whether a node is reachable.
    pub fn is_connected(&self, node: NodeId) -> bool {
        self.links.is_connected(node)
    }

    /// Syncs do nothing from here on: a planted bug.
    pub fn take_sync_out(&mut self) {
        for node in self.nodes.values_mut() {
            node.disk.take_sync_out();
        }
    }

    /// A node crashes. Of the writes under way some may be durable; the rest is lost.
    pub fn crash(&mut self, id: NodeId) {
        self.note(|| format!("{id} crashes"));
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.life += 1;
        node.raft = None;
        let kept = self.random.below(node.under_way.len() as u64 + 1) as usize;
        node.under_way.truncate(kept);
        let Ok(()) = persist(&mut node.disk, &mut node.under_way, &mut Vec::new());
        node.machine.log_begins_after(node.disk.base_id().index);
        node.disk.crash();
        node.machine.crash();
        node.waiting.clear();
        node.snapshot = None;
        node.staged.clear();
        node.timer = Instant::MAX;
        node.draining = false;
        node.seen.set(None);
        self.invariants.commit_by_majority.stops(member(id));
        self.invariants.leader_append_only.stops(member(id));
    }

    /// A node that is down starts from its disk; one that runs crashes first.
    pub fn restart(&mut self, id: NodeId) {
        if self.is_running(id) {
            self.crash(id);
        }
        self.note(|| format!("{id} starts"));
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let recovered = node.disk.recovered(node.machine.flushed.index);
        node.view = View::of(&recovered);
        let config = Config { me: node.me, ..self.config.raft.clone() };
        match Raft::new(config, recovered, self.random.number(), self.now) {
            Ok(raft) => node.raft = Some(raft),
            Err(error) => {
                let violation = Violation::new("A replica restarts", format!("{id}: {error}"));
                self.violation.get_or_insert(violation);
            }
        }
        self.drain(id);
    }

    /// Proposes a command at a node; `None` if it is refused. All proposals of one moment travel
    /// together.
    pub fn propose(&mut self, id: NodeId, command: &[u8]) -> Option<LogId> {
        let now = self.now;
        let node = self.nodes.get_mut(&id)?;
        let proposed = node.raft.as_mut()?.propose(now, command.into()).ok()?;
        if !node.draining {
            node.draining = true;
            self.schedule.add(now, Event::Drain { node: id, life: node.life });
        }
        Some(proposed)
    }

    /// Proposes a command that travels alone.
    pub fn propose_alone(&mut self, id: NodeId, command: &[u8]) -> Option<LogId> {
        let now = self.now;
        let raft = self.nodes.get_mut(&id)?.raft.as_mut()?;
        let proposed = raft.propose(now, command.into()).ok()?;
        self.drain(id);
        Some(proposed)
    }

    /// Asks for a linearizable read at a node; `false` if it is refused.
    pub fn read(&mut self, id: NodeId) -> bool {
        let (now, token) = (self.now, self.next_read);
        let committed = self.invariants.commit_by_majority.highest();
        let Some(raft) = self.nodes.get_mut(&id).and_then(|node| node.raft.as_mut()) else {
            return false;
        };
        if raft.read(now, token).is_err() {
            return false;
        }
        self.next_read += 1;
        self.invariants.read_index.asked(token, committed);
        self.drain(id);
        true
    }

    /// Reads that were confirmed, and reads that failed.
    pub fn reads(&self) -> (usize, usize) {
        let confirmed = self.reads.values().filter(|index| index.is_some()).count();
        (confirmed, self.reads.len() - confirmed)
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// A property is violated.
    pub fn run(&mut self, time: Duration) -> Checked {
        self.run_until(self.now + time, |_| false).map(|_| ())
    }

    /// Lets time pass until `enough`, or until `end`; says whether it was enough.
    ///
    /// # Errors
    /// A property is violated.
    pub fn run_until(
        &mut self,
        end: Instant,
        mut enough: impl FnMut(&Self) -> bool,
    ) -> Result<bool, Violation> {
        loop {
            if self.violation.is_some() {
                return self.violation.take().map_or(Ok(false), Err);
            }
            if enough(self) {
                return Ok(true);
            }
            let Some((at, event)) = self.schedule.pop(end) else { break };
            self.now = self.now.max(at);
            self.happen(event);
        }
        self.now = end;
        Ok(false)
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{} {}", self.now.0, line()));
        }
    }

    #[inline(always)]
    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Deliver(message) => {
                if !self.links.arrives(&message) {
                    return;
                }
                self.note(|| format!("{message:?}"));
                let to = message.to.node;
                if let Some(raft) = self.nodes.get_mut(&to).and_then(|node| node.raft.as_mut()) {
                    raft.receive(now, message);
                    self.drain(to);
                }
            }
            Event::Written { node, life } => {
                if self.nodes.get(&node).is_some_and(|node| node.life == life) {
                    self.written(node);
                    self.drain(node);
                }
            }
            Event::Timer { node: id, life } => {
                let Some(node) = self.nodes.get_mut(&id).filter(|node| node.life == life) else {
                    return;
                };
                if node.timer > now {
                    return;
                }
                node.timer = Instant::MAX;
                if let Some(raft) = &mut node.raft {
                    raft.tick(now);
                    self.drain(id);
                }
            }
            Event::Drain { node: id, life } => {
                if let Some(node) = self.nodes.get_mut(&id).filter(|node| node.life == life) {
                    node.draining = false;
                    self.drain(id);
                }
            }
        }
    }

    /// What is under way to a disk is there.
    fn written(&mut self, id: NodeId) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        for HardState { term, vote } in node.under_way.iter().filter_map(|(_, it)| it.hard_state())
        {
            let voted = vote.map_or(Ok(()), |of| self.invariants.votes.votes(node.me, term, of));
            if let Err(violation) = voted {
                self.violation.get_or_insert(violation);
            }
        }
        let Ok(()) = persist(&mut node.disk, &mut node.under_way, &mut self.receipts);
        node.machine.log_begins_after(node.disk.base_id().index);
        if let Some(raft) = &mut node.raft {
            for (_, receipt) in self.receipts.drain(..) {
                raft.persisted(now, receipt);
            }
        }
        self.receipts.clear();
        self.note(|| format!("{id} has written"));
    }

    /// Begins to write what waits; says whether that is done already.
    fn write(&mut self, id: NodeId) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        if node.waiting.is_empty() || !node.under_way.is_empty() {
            return false;
        }
        std::mem::swap(&mut node.under_way, &mut node.waiting);
        if self.config.disk.1.is_zero() {
            self.written(id);
            return true;
        }
        let event = Event::Written { node: id, life: node.life };
        let delay = self.random.time(self.config.disk.0, self.config.disk.1);
        self.schedule.add(self.now + delay, event);
        false
    }

    /// Polls a replica until it has nothing more to say, and checks every property before anything of
    /// that gets to a disk.
    fn drain(&mut self, id: NodeId) {
        loop {
            if let Err(violation) = self.carry_out_all(id).and_then(|()| self.check(id)) {
                self.violation.get_or_insert(violation);
            }
            if !self.write(id) {
                break;
            }
        }
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(raft) = &node.raft else { return };
        // A timer that comes too early finds out when it should have.
        if let Some(deadline) = raft.next_deadline_before(node.timer) {
            let deadline = deadline.max(now + Duration::from_micros(1));
            node.timer = deadline;
            self.schedule.add(deadline, Event::Timer { node: id, life: node.life });
        }
    }

    fn carry_out_all(&mut self, id: NodeId) -> Checked {
        let now = self.now;
        loop {
            let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
            let Some(raft) = &mut node.raft else { return Ok(()) };
            let other = loop {
                match raft.poll(now) {
                    None => return Ok(()),
                    Some(Output::Send(message)) => {
                        self.links.send(now, message, &mut self.schedule);
                    }
                    Some(Output::Write(batch)) => {
                        node.view.write(&batch, &mut self.invariants.log_matching)?;
                        node.waiting.push((GROUP, batch));
                    }
                    Some(Output::Apply(entries)) => {
                        node.machine.apply(&entries, &mut self.invariants.state_machine_safety)?;
                        raft.applied(now, node.machine.state.index);
                        if let Some(upto) = node.machine.flush_each(self.config.snapshot_every) {
                            raft.compact(upto);
                        }
                    }
                    Some(output) => break output,
                }
            };
            self.carry_out(id, other)?;
        }
    }

    /// What is seldom to be done.
    fn carry_out(&mut self, id: NodeId, output: Output<Command>) -> Checked {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let Some(raft) = node.raft.as_mut() else { return Ok(()) };
        match output {
            Output::ReadReady { token, index } => {
                self.reads.insert(token, Some(index));
                self.invariants.read_index.ready(token, index)?;
            }
            Output::ReadFailed { token } => {
                self.reads.insert(token, None);
                self.invariants.read_index.failed(token);
            }
            Output::Role { role, term, .. } => {
                let me = node.me;
                self.note(|| format!("{id} is {role:?} in {term}"));
                if role == Role::Leader {
                    self.invariants.election_safety.leads(me, term)?;
                    if let Some(raft) = self.nodes.get(&id).and_then(|node| node.raft.as_ref()) {
                        self.invariants.votes.leads(me, term, raft.membership())?;
                    }
                }
            }
            Output::ReadEntries { to, from, max } => {
                raft.entries_read(now, to, from, node.disk.read(from, max));
            }
            Output::BuildSnapshot => Self::build_snapshot(node, now),
            Output::ReadChunk { to, meta, offset, max } => {
                let data = match &node.snapshot {
                    Some((current, bytes)) if current.is_same(&meta) => {
                        let from = (offset as usize).min(bytes.len());
                        bytes[from..bytes.len().min(from + max)].to_vec()
                    }
                    _ => Vec::new(),
                };
                raft.chunk_read(now, to, &meta, offset, data);
            }
            Output::WriteChunk { meta, offset, data } => {
                node.staged.truncate(offset as usize);
                node.staged.extend_from_slice(&data);
                raft.chunk_written(now, &meta, node.staged.len() as u64);
            }
            Output::InstallSnapshot(meta) => {
                let state = Some(&node.staged)
                    .filter(|staged| hash(staged) == meta.hash)
                    .and_then(|staged| State::from_bytes(staged))
                    .filter(|state| state.index == meta.id.index);
                let Some(state) = state else {
                    let seen = format!("{id} cannot read snapshot {}", meta.id);
                    return Err(Violation::new("Snapshots arrive whole", seen));
                };
                let safety = &mut self.invariants.state_machine_safety;
                safety.has_state(state.index, state.hash)?;
                node.machine.install(state);
                node.snapshots_installed += 1;
                raft.snapshot_installed(now, &meta, true);
                self.note(|| format!("{id} installs snapshot {}", meta.id));
            }
            Output::Removed | Output::Faulted | Output::Mismatch { .. } => {}
            Output::Send(_) | Output::Write(_) | Output::Apply(_) => unreachable!("done above"),
        }
        Ok(())
    }

    fn build_snapshot(node: &mut Node, now: Instant) {
        let Some(raft) = node.raft.as_mut() else { return };
        let index = node.machine.state.index;
        let known = raft.membership_at(index).zip(raft.term_at(index));
        let Some(((membership_id, membership), term)) = known else {
            return raft.snapshot_built(now, None);
        };
        let bytes = node.machine.state.to_bytes();
        let meta = SnapshotMeta {
            id: LogId::new(term, index),
            membership: membership.clone(),
            membership_id,
            bytes: bytes.len() as u64,
            hash: hash(&bytes),
        };
        node.snapshot = Some((meta.clone(), bytes));
        raft.snapshot_built(now, Some(meta));
    }

    fn check(&mut self, id: NodeId) -> Checked {
        let Some(node) = self.nodes.get(&id) else { return Ok(()) };
        let Some(raft) = &node.raft else { return Ok(()) };
        let (me, term, commit) = (node.me, raft.term(), raft.commit());
        // Every property here speaks of these four only.
        let seen = (raft.role(), term, commit, node.view.last());
        let before = node.seen.get();
        if before == Some(seen) {
            return Ok(());
        }
        node.seen.set(Some(seen));
        let invariants = &mut self.invariants;
        let leads = raft.role() == Role::Leader;
        if leads {
            let view = &node.view;
            invariants.leader_append_only.leads(me, term, view.last(), |at| view.term_at(at))?;
            invariants.leader_completeness.leads(
                me,
                term,
                || view.first(),
                |at| raft.term_at(at),
            )?;
        } else if before.is_none_or(|(role, ..)| role == Role::Leader) {
            invariants.leader_append_only.stops(me);
        }
        if before.is_some_and(|(_, _, known, _)| known == commit) {
            return Ok(());
        }
        let highest = invariants.commit_by_majority.highest();
        let leading = leads.then(|| Leading { term, membership: raft.membership() });
        let nodes = &self.nodes;
        let holds = |member: Member, id: LogId| {
            nodes.get(&member.node).is_some_and(|node| node.me == member && node.disk.holds(id))
        };
        invariants.commit_by_majority.knows(me, commit, leading, |at| raft.term_at(at), holds)?;
        for index in highest.0 + 1..=commit.0 {
            if let Some(of) = raft.term_at(Index(index)) {
                invariants.leader_completeness.commits(LogId::new(of, Index(index)), term)?;
            }
        }
        Ok(())
    }
}
