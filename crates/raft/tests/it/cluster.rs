//! Replicas in one thread, a network of messages that wait until they are delivered, disks that
//! forget what is not synced, and virtual time. Every output is checked by [`Invariants`].

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kontiki_raft::{
    Body, Config, Membership, Message, Output, Raft, Recovered, Role, SnapshotMeta, Status,
    WriteBatch, persist,
};
use kontiki_types::{GroupId, Incarnation, Index, Instant, LogId, Member, NodeId, ReplicaId, Term};

use crate::disk::{Disk, Machine, State};
use crate::invariants::Invariants;
use crate::show;

pub type Core = Raft<Vec<u8>>;

pub const fn n(node: u64) -> Member {
    Member::new(NodeId(node), Incarnation(node + 100), ReplicaId(1))
}

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn membership(voters: &[u64], learners: &[u64]) -> Membership {
    let members = |nodes: &[u64]| nodes.iter().map(|&node| n(node)).collect::<Vec<_>>();
    Membership::new(members(voters), members(learners))
}

pub struct Node {
    pub me: Member,
    pub config: Config,
    pub raft: Option<Core>,
    pub disk: Disk,
    pub machine: Machine,
    /// Written and not synced.
    pub unsynced: VecDeque<WriteBatch<Vec<u8>>>,
    snapshot: Option<(SnapshotMeta, Vec<u8>)>,
    staged: Vec<u8>,
    pub reads: Vec<(u64, Option<Index>)>,
    pub tombstone: bool,
    starts: u64,
}

/// What happens without being asked for.
#[derive(Clone, Copy)]
pub struct Auto {
    pub persist: bool,
    pub apply: bool,
    pub snapshots: bool,
    /// Whether entries can be read from the disk.
    pub readable: bool,
}

pub struct Cluster {
    pub nodes: Vec<Node>,
    pub net: VecDeque<Message<Vec<u8>>>,
    pub now: Instant,
    pub auto: Auto,
    pub invariants: Invariants,
    /// What happened, one line each, since it was last taken.
    pub trace: Vec<String>,
    /// Which life of the second node the first one knows of.
    lives: BTreeMap<(NodeId, NodeId), u64>,
    seed: u64,
}

impl Cluster {
    pub fn new(voters: &[u64]) -> Self {
        Self::with(voters, voters, |_| {})
    }

    /// `nodes` are there, `voters` make up the group.
    pub fn with(nodes: &[u64], voters: &[u64], mut configure: impl FnMut(&mut Config)) -> Self {
        let mut cluster = Self {
            nodes: Vec::new(),
            net: VecDeque::new(),
            now: Instant(1_000_000),
            auto: Auto { persist: true, apply: true, snapshots: true, readable: true },
            invariants: Invariants::default(),
            trace: Vec::new(),
            lives: BTreeMap::new(),
            seed: 1,
        };
        for &node in nodes {
            let initial = voters.contains(&node).then(|| membership(voters, &[]));
            cluster.add(n(node), initial, &mut configure);
        }
        cluster
    }

    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        for at in 0..self.nodes.len() {
            self.start(at);
        }
        self
    }

    pub fn add(
        &mut self,
        me: Member,
        initial: Option<Membership>,
        configure: &mut impl FnMut(&mut Config),
    ) {
        let mut config = Config::new(me);
        configure(&mut config);
        let disk = Disk {
            base: initial.and_then(|initial| Recovered::<Vec<u8>>::initial(initial).base),
            ..Disk::default()
        };
        self.nodes.push(Node {
            me,
            config,
            raft: None,
            disk,
            machine: Machine::default(),
            unsynced: VecDeque::new(),
            snapshot: None,
            staged: Vec::new(),
            reads: Vec::new(),
            tombstone: false,
            starts: 0,
        });
        self.start(self.nodes.len() - 1);
    }

    pub fn at(&self, member: Member) -> usize {
        self.nodes.iter().position(|node| node.me == member).expect("no such replica")
    }

    pub fn node(&mut self, node: u64) -> &mut Node {
        let at = self.at(n(node));
        &mut self.nodes[at]
    }

    pub fn raft(&mut self, node: u64) -> &mut Core {
        self.node(node).raft.as_mut().expect("it is down")
    }

    pub fn start(&mut self, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[at];
        if node.tombstone {
            return;
        }
        let recovered = node.machine.recovered(&node.disk);
        node.starts += 1;
        let seed = self.seed.wrapping_mul(1_000_003) ^ (node.me.node.0 << 32) ^ node.starts;
        let raft = Raft::new(node.config.clone(), recovered, seed, now);
        node.raft = Some(raft.expect("what is on the disk is sound"));
        self.drain(at);
    }

    pub fn crash(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.raft = None;
        node.unsynced.clear();
        node.snapshot = None;
        node.staged.clear();
        self.invariants.crashed(node.me);
    }

    pub fn leader(&self) -> Option<Member> {
        self.nodes
            .iter()
            .filter_map(|node| node.raft.as_ref())
            .filter(|raft| raft.role() == Role::Leader)
            .max_by_key(|raft| raft.term())
            .and_then(|raft| raft.leader())
    }

    pub fn propose(&mut self, node: u64, command: &str) -> LogId {
        let now = self.now;
        let id = self.raft(node).propose(now, command.into()).expect("refused");
        let at = self.at(n(node));
        self.drain(at);
        id
    }

    /// Polls a replica until it has nothing more to say.
    pub fn drain(&mut self, at: usize) {
        self.invariants.check(&self.nodes, at);
        loop {
            let Some(raft) = self.nodes[at].raft.as_mut() else { return };
            let Some(output) = raft.poll(self.now) else { break };
            self.carry_out(at, output);
        }
        self.invariants.check(&self.nodes, at);
    }

    fn carry_out(&mut self, at: usize, output: Output<Vec<u8>>) {
        let now = self.now;
        let node = &mut self.nodes[at];
        let Some(raft) = node.raft.as_mut() else { return };
        let name = show::member(node.me);
        match output {
            Output::Send(message) => {
                self.trace.push(show::message(&message));
                self.net.push_back(message);
            }
            Output::Write(batch) => {
                self.trace.push(format!("{name} writes {}", show::batch(&batch)));
                self.invariants.written(raft, &batch);
                node.unsynced.push_back(batch);
                if self.auto.persist {
                    self.persist(at, usize::MAX);
                }
            }
            Output::Apply(entries) => {
                self.trace.push(format!("{name} applies {}", show::entries(&entries)));
                for entry in &entries {
                    assert!(entry.id.index <= node.disk.last().index, "applied, not durable");
                    node.machine.state.apply(entry);
                    self.invariants.applied(node.me, entry, node.machine.state);
                }
                if self.auto.apply {
                    raft.applied(now, Index(node.machine.state.index));
                }
            }
            Output::ReadReady { token, index } => {
                self.trace.push(format!("{name} may read {token} at {index}"));
                self.invariants.read_ready(token, index);
                node.reads.push((token, Some(index)));
            }
            Output::ReadFailed { token } => {
                self.trace.push(format!("{name} fails read {token}"));
                node.reads.push((token, None));
            }
            Output::Role { role, term, leader } => {
                let leader = leader
                    .map_or(String::new(), |leader| format!(", leader {}", show::member(leader)));
                self.trace.push(format!("{name} is {} in t{term}{leader}", show::role(role)));
                self.invariants.role(node.me, role, term);
            }
            Output::ReadEntries { to, from, max } => {
                let entries =
                    if self.auto.readable { node.disk.read(from, max) } else { Vec::new() };
                let end = entries.last().map_or(from.prev(), |entry| entry.id.index);
                self.trace.push(format!("{name} reads {from} to {end} for {}", show::member(to)));
                raft.entries_read(now, to, from, entries.into());
            }
            Output::BuildSnapshot => {
                self.trace.push(format!("{name} builds a snapshot"));
                if self.auto.snapshots {
                    self.build_snapshot(at);
                }
            }
            Output::ReadChunk { to, meta, offset, max } => {
                let data = match &node.snapshot {
                    Some((current, bytes)) if current.is_same(&meta) => {
                        let from = offset as usize;
                        bytes[from..bytes.len().min(from + max)].to_vec()
                    }
                    _ => Vec::new(),
                };
                raft.chunk_read(now, to, &meta, offset, data);
            }
            Output::WriteChunk { meta, offset, data } => {
                node.staged.truncate(offset as usize);
                assert_eq!(node.staged.len(), offset as usize, "a hole in the snapshot");
                node.staged.extend_from_slice(&data);
                raft.chunk_written(now, &meta, node.staged.len() as u64);
            }
            Output::InstallSnapshot(meta) => {
                self.trace.push(format!("{name} installs snapshot {}", meta.id));
                let state = State::from_bytes(&node.staged);
                let ok = hash(&node.staged) == meta.hash;
                assert!(ok, "the snapshot was put together wrongly");
                assert_eq!(state.index, meta.id.index.0);
                self.invariants.installed(state);
                node.machine.state = state;
                node.machine.installed = Some(state);
                raft.snapshot_installed(now, &meta, ok);
            }
            Output::Removed => {
                self.trace.push(format!("{name} is removed"));
                node.tombstone = true;
            }
            Output::Faulted => self.trace.push(format!("{name} is faulted")),
            Output::Mismatch { from, to } => {
                self.trace.push(format!(
                    "{name} drops a message from {} to {}",
                    show::member(from),
                    show::member(to)
                ));
            }
        }
    }

    /// Syncs up to `count` batches.
    pub fn persist(&mut self, at: usize, count: usize) {
        let now = self.now;
        let node = &mut self.nodes[at];
        let count = count.min(node.unsynced.len());
        let mut batches: Vec<_> =
            node.unsynced.drain(..count).map(|batch| (GroupId(1), batch)).collect();
        let mut receipts = Vec::new();
        let result = persist(&mut node.disk, &mut batches, &mut receipts);
        node.machine.log_written(&node.disk);
        let Some(raft) = node.raft.as_mut() else { return };
        match result {
            Ok(()) => receipts.into_iter().for_each(|(_, receipt)| raft.persisted(now, receipt)),
            Err(_) => raft.persist_failed(now),
        }
    }

    pub fn persist_all(&mut self, node: u64) {
        let at = self.at(n(node));
        self.persist(at, usize::MAX);
        self.drain(at);
    }

    pub fn build_snapshot(&mut self, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[at];
        let Some(raft) = node.raft.as_mut() else { return };
        let index = Index(node.machine.state.index);
        let known = raft.membership_at(index).zip(raft.term_at(index));
        let Some(((membership_id, membership), term)) = known else {
            return raft.snapshot_built(now, None);
        };
        let bytes = node.machine.state.to_bytes();
        let meta = SnapshotMeta {
            id: LogId::new(term, index),
            membership: membership.clone(),
            membership_id,
            bytes: State::BYTES as u64,
            hash: hash(&bytes),
        };
        node.snapshot = Some((meta.clone(), bytes));
        raft.snapshot_built(now, Some(meta));
    }

    /// Makes the applied state durable and drops the log up to it.
    pub fn compact(&mut self, node: u64) {
        let at = self.at(n(node));
        self.compact_at(at);
    }

    pub fn compact_at(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(raft) = node.raft.as_mut() else { return };
        // An installed snapshot is durable only together with the log's new start.
        if node.machine.installed.is_none_or(|state| state.index <= node.machine.flushed.index) {
            node.machine.flushed = node.machine.state;
        }
        let upto = node.machine.flushed.index.min(raft.status().applied.0);
        raft.compact(Index(upto));
        self.drain(at);
    }

    /// Delivers the message at this place in the queue.
    pub fn deliver_at(&mut self, place: usize) {
        let Some(message) = self.net.remove(place) else { return };
        // A node may have had several replicas; what is for none that runs goes to the latest.
        let runs = |node: &Node| node.me == message.to && node.raft.is_some();
        let exact = self.nodes.iter().position(runs);
        let latest = self.nodes.iter().rposition(|node| node.me.node == message.to.node);
        let Some(at) = exact.or(latest) else { return };
        if let Some(raft) = self.nodes[at].raft.as_mut() {
            raft.receive(self.now, message);
            self.drain(at);
        }
    }

    /// Delivers all messages, in order, and those they lead to. Those that `lost` names are lost.
    pub fn deliver(&mut self, lost: impl Fn(Member, Member) -> bool) {
        for _ in 0..100_000 {
            let Some(message) = self.net.front() else { return };
            if lost(message.from, message.to) {
                self.net.pop_front();
            } else {
                self.deliver_at(0);
            }
        }
        panic!("messages without end");
    }

    pub fn deliver_all(&mut self) {
        self.deliver(|_, _| false);
    }

    /// Lets time pass: timers run when they are due, messages travel in no time.
    pub fn run(&mut self, time: Duration, lost: impl Fn(Member, Member) -> bool) {
        let end = self.now + time;
        self.deliver(&lost);
        self.watch(&lost);
        while let Some(next) = self.next_deadline().filter(|&next| next <= end) {
            self.now = self.now.max(next);
            for at in 0..self.nodes.len() {
                self.tick_at(at);
            }
            self.deliver(&lost);
            self.watch(&lost);
        }
        self.now = end;
    }

    /// What an owner does that watches nodes: tells replicas of the nodes that cannot be heard, and
    /// of those that were started anew.
    pub fn watch(&mut self, lost: impl Fn(Member, Member) -> bool) {
        for at in 0..self.nodes.len() {
            let me = self.nodes[at].me;
            let Some(leader) = self.nodes[at].raft.as_ref().and_then(Raft::leader) else {
                continue;
            };
            let Some(other) = self.nodes.iter().find(|node| node.me == leader) else { continue };
            let known = self.lives.insert((me.node, leader.node), other.starts);
            let anew = known.is_some_and(|life| life != other.starts);
            if me != leader && (other.raft.is_none() || anew || lost(leader, me)) {
                let now = self.now;
                if let Some(raft) = self.nodes[at].raft.as_mut() {
                    raft.peer_down(now, leader);
                }
                self.drain(at);
            }
        }
    }

    /// Delivers message by message, and lets time pass where there is none, until something ends a
    /// line of the trace with this.
    pub fn run_until(&mut self, text: &str) {
        for _ in 0..10_000 {
            if self.trace.iter().any(|line| line.ends_with(text)) {
                return;
            }
            if !self.net.is_empty() {
                self.deliver_at(0);
            } else if let Some(next) = self.next_deadline() {
                self.now = self.now.max(next);
                (0..self.nodes.len()).for_each(|at| self.tick_at(at));
            }
        }
        panic!("there never was {text}");
    }

    pub fn run_all(&mut self, time: Duration) {
        self.run(time, |_, _| false);
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.nodes.iter().filter_map(|node| node.raft.as_ref()).map(deadline).min()
    }

    pub fn tick_at(&mut self, at: usize) {
        if let Some(raft) = self.nodes[at].raft.as_mut()
            && raft.next_deadline() <= self.now
        {
            raft.tick(self.now);
            self.drain(at);
        }
    }

    /// Lets this node, and no other, run into its election timeout. Messages stay undelivered.
    pub fn time_out(&mut self, node: u64) {
        let at = self.at(n(node));
        self.now = self.now.max(self.raft(node).next_deadline());
        self.tick_at(at);
    }

    /// Makes this node the leader.
    pub fn elect(&mut self, node: u64) {
        // All others have forgotten any leader by then.
        self.now = self.now + ms(300);
        for _ in 0..20 {
            self.time_out(node);
            self.deliver_all();
            if self.raft(node).role() == Role::Leader {
                return;
            }
        }
        panic!("n{node} was not elected");
    }

    /// Makes this node the leader, and stops at that moment: what it sends as one is still under way.
    pub fn win(&mut self, node: u64) {
        // All others have forgotten any leader by then.
        self.now = self.now + ms(600);
        for _ in 0..20 {
            self.time_out(node);
            while !self.net.is_empty() {
                if self.raft(node).role() == Role::Leader {
                    return;
                }
                self.deliver_at(0);
            }
        }
        panic!("n{node} was not elected");
    }

    /// Hands a message to a replica as if it had arrived, and returns what it sends in answer.
    pub fn inject(
        &mut self,
        from: u64,
        to: u64,
        term: u64,
        body: Body<Vec<u8>>,
    ) -> Vec<Message<Vec<u8>>> {
        let message = Message { from: n(from), to: n(to), term: Term(term), body };
        let waiting = self.net.len();
        let now = self.now;
        self.raft(to).receive(now, message);
        let at = self.at(n(to));
        self.drain(at);
        self.net.split_off(waiting).into()
    }

    /// The messages that wait for one replica.
    pub fn waiting(&self, from: u64, to: u64) -> Vec<&Message<Vec<u8>>> {
        let between =
            |message: &&Message<_>| message.from.node.0 == from && message.to.node.0 == to;
        self.net.iter().filter(between).collect()
    }

    pub fn read(&mut self, node: u64, token: u64) {
        let now = self.now;
        self.raft(node).read(now, token).expect("refused");
        self.invariants.read_asked(token);
        let at = self.at(n(node));
        self.drain(at);
    }

    pub fn status(&mut self, node: u64) -> Status {
        self.raft(node).status()
    }

    pub fn crash_node(&mut self, node: u64) {
        let at = self.at(n(node));
        self.crash(at);
    }

    pub fn start_node(&mut self, node: u64) {
        let at = self.at(n(node));
        self.start(at);
    }

    pub fn change(&mut self, node: u64, voters: &[u64], learners: &[u64]) -> LogId {
        let now = self.now;
        let replaces = self.status(node).membership_id;
        let members = |nodes: &[u64]| nodes.iter().map(|&node| n(node)).collect::<Vec<_>>();
        let (voters, learners) = (members(voters), members(learners));
        let id = self.raft(node).change_membership(now, voters, learners, replaces);
        let at = self.at(n(node));
        self.drain(at);
        id.expect("refused")
    }

    pub fn commands(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.machine.state.commands).collect()
    }
}

pub fn log_id(index: u64, term: u64) -> LogId {
    LogId::new(Term(term), Index(index))
}

pub fn isolate(node: u64) -> impl Fn(Member, Member) -> bool {
    move |from, to| from.node.0 == node || to.node.0 == node
}

fn hash(bytes: &[u8]) -> u128 {
    bytes.iter().fold(7, |sum: u128, &byte| sum.wrapping_mul(0x1_0000_01b3) ^ u128::from(byte))
}

/// The next deadline of a replica, which both ways of asking must agree on.
fn deadline(raft: &Core) -> Instant {
    let deadline = raft.next_deadline();
    assert_eq!(raft.next_deadline_before(deadline), None);
    if deadline < Instant::MAX {
        assert_eq!(raft.next_deadline_before(Instant(deadline.0 + 1)), Some(deadline));
        assert_eq!(raft.next_deadline_before(Instant::MAX), Some(deadline));
    }
    deadline
}
