//! A few nodes in one thread: cores, frames between them that take a millisecond, logs that are
//! durable at once, and state machines that apply at once.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kontiki_kv::command::{Condition, Expiry, Read, Write};
use kontiki_kv::{Machine, MemStore, Proposal, QueryAnswer, WriteRequest};
use kontiki_raft::{
    Base, Config, EntryData, Membership, Receipt, Recovered, Role, StableStorage, WriteBatch,
};
use kontiki_replica::steward::{self, BEGINS_AFTER, Beginning, CONTROLLER, StewardMaker};
use kontiki_replica::{
    Answer, Ask, Caller, Core, Effect, GroupConfig, Mover, MoverLimits, MoverOutput, NodeInfo,
    Opened, SessionWrite, Target,
};
use kontiki_shard::{Answer as Said, Limits, Query};
use kontiki_types::{
    ClientId, GroupId, Incarnation, Index, Instant, LogId, LogTime, Member, NodeId, ReplicaId, Seq,
    Slot,
};

const DELAY: Duration = Duration::from_millis(1);
/// Wall clock of every node at time zero.
const EPOCH_MS: u64 = 1_000_000;

/// A log that is durable at once, and never read.
struct Nowhere;

impl StableStorage<Bytes> for Nowhere {
    type Error = Infallible;

    fn write_and_sync(&mut self, _: &[(GroupId, WriteBatch<Bytes>)]) -> Result<(), Infallible> {
        Ok(())
    }
}

pub struct Node {
    pub core: Core,
    pub machines: BTreeMap<GroupId, Machine<MemStore>>,
    pub answers: BTreeMap<u64, Answer>,
    mover: Mover,
    /// The last entry of the controller's steward that the core has heard of.
    stewarded: BTreeMap<GroupId, Index>,
    next_ticket: u64,
}

/// The connection of the mover's requests.
const MOVER: u64 = 2;

/// What a group's machine begins as.
pub fn sharded(groups: &[(u32, &[u64])], group: GroupId) -> Option<Beginning> {
    groups.iter().find(|(id, _)| *id == 0)?;
    let data: Vec<_> = groups.iter().filter(|(id, _)| *id != 0).collect();
    if group == CONTROLLER {
        let nodes = |members: &[u64]| members.iter().map(|&node| NodeId(node)).collect();
        let founders = data.iter().map(|(id, members)| (GroupId(*id), nodes(members)));
        return Some(Beginning::FoundingController(founders.collect()));
    }
    let at = data.iter().position(|(id, _)| *id == group.0)?;
    Some(Beginning::FoundingGroup { group, at, of: data.len() })
}

pub struct World {
    pub now: Instant,
    pub nodes: BTreeMap<NodeId, Node>,
    on_the_way: Vec<(Instant, NodeId, NodeId, Bytes)>,
    /// Nodes that hear nothing and are not heard.
    pub cut: BTreeSet<NodeId>,
    /// Every so many frames one is lost, and every so many one comes twice; 0: never.
    pub loses: u64,
    pub doubles: u64,
    pub frames: u64,
    pub frame_bytes: u64,
    /// Entries applied at each node, by group.
    pub applied: BTreeMap<(NodeId, GroupId), u64>,
}

fn me(node: NodeId) -> NodeInfo {
    NodeInfo { id: node, incarnation: Incarnation(100 + node.0), boot: 1, ..NodeInfo::default() }
}

fn member(node: NodeId) -> Member {
    Member::new(node, me(node).incarnation, ReplicaId(1))
}

impl World {
    /// `nodes` nodes, and groups with the nodes that have a replica of them.
    pub fn new(nodes: u64, groups: &[(u32, &[u64])]) -> Self {
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        let mut world = Self {
            now: Instant(1_000_000),
            nodes: BTreeMap::new(),
            on_the_way: Vec::new(),
            cut: BTreeSet::new(),
            loses: 0,
            doubles: 0,
            frames: 0,
            frame_bytes: 0,
            applied: BTreeMap::new(),
        };
        for &id in &ids {
            let infos = ids.iter().map(|&id| me(id));
            let mut core = Core::new(me(id), GroupConfig::default(), infos, []);
            core.set_time(world.now, world.wall());
            let mut machines = BTreeMap::new();
            for (group, members) in groups {
                if !members.contains(&id.0) {
                    continue;
                }
                let group = GroupId(*group);
                let voters: Vec<_> = members.iter().map(|&node| member(NodeId(node))).collect();
                let membership = Arc::new(Membership::new(voters, Vec::new()));
                let beginning = sharded(groups, group);
                let (begins, store) = match beginning {
                    Some(beginning) => {
                        let steward = beginning.steward();
                        let store = Machine::found(MemStore::new(), BEGINS_AFTER, &*steward);
                        (BEGINS_AFTER, store.expect("an empty store"))
                    }
                    None => (LogId::ZERO, MemStore::new()),
                };
                let machine = Machine::open(store).expect("a sound store");
                let machine = machine.with_stewards(Box::new(StewardMaker)).expect("sound");
                let base = Base { id: begins, membership, membership_id: begins };
                core.open(Opened {
                    group,
                    raft: Config::new(member(id)),
                    recovered: Recovered {
                        base: Some(base),
                        applied: begins.index,
                        ..Recovered::default()
                    },
                    applied: begins,
                    log_time: LogTime(0),
                    next_due: None,
                    seed: id.0 << 8 | u64::from(group.0),
                })
                .expect("a first start");
                machines.insert(group, machine);
            }
            let session =
                ClientId { incarnation: me(id).incarnation, boot: 1, connection: u64::MAX };
            let step = Limits { chunk_bytes: 2048, freeze_bytes: 4096 };
            let mut mover = Mover::new(session, MoverLimits { step, ..MoverLimits::default() });
            mover.set_hears_controller(machines.contains_key(&CONTROLLER));
            let (answers, stewarded, next_ticket) = (BTreeMap::new(), BTreeMap::new(), 1);
            let node = Node { core, machines, answers, mover, stewarded, next_ticket };
            world.nodes.insert(id, node);
            world.hear_steward(id, CONTROLLER);
        }
        world
    }

    pub fn wall(&self) -> LogTime {
        LogTime(EPOCH_MS + self.now.0 / 1000)
    }

    pub fn node(&mut self, node: u64) -> &mut Node {
        self.nodes.get_mut(&NodeId(node)).expect("a node")
    }

    pub fn core(&mut self, node: u64) -> &mut Core {
        &mut self.node(node).core
    }

    /// Lets time pass.
    pub fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        self.run_until(end, |_| false);
    }

    /// Lets time pass until `enough`; fails if it was not within ten seconds.
    pub fn until(&mut self, what: &str, enough: impl FnMut(&mut Self) -> bool) {
        let end = self.now + Duration::from_secs(10);
        assert!(self.run_until(end, enough), "{what}: not within ten seconds");
    }

    fn run_until(&mut self, end: Instant, mut enough: impl FnMut(&mut Self) -> bool) -> bool {
        loop {
            let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
            for &id in &ids {
                self.act(id);
            }
            if enough(self) {
                return true;
            }
            let arrival = self.on_the_way.iter().map(|(at, ..)| *at).min();
            let deadline = |node: &Node| node.core.next_deadline().min(node.mover.next_deadline());
            let timers = self.nodes.values().map(deadline);
            let next = timers.chain(arrival).min().unwrap_or(Instant::MAX);
            let next = next.max(self.now + Duration::from_micros(50));
            if next > end {
                self.now = end;
                return false;
            }
            self.now = next;
            let (due, later) = std::mem::take(&mut self.on_the_way)
                .into_iter()
                .partition(|(at, ..)| *at <= self.now);
            self.on_the_way = later;
            let (now, wall) = (self.now, self.wall());
            for (_, from, to, frame) in due {
                if !self.cut.contains(&from) && !self.cut.contains(&to) {
                    let core = &mut self.nodes.get_mut(&to).expect("a node").core;
                    core.set_time(now, wall);
                    core.receive(from, frame).expect("a well-formed frame");
                }
            }
        }
    }

    /// Lets a node do what there is to do.
    fn act(&mut self, id: NodeId) {
        let (now, wall) = (self.now, self.wall());
        let core = &mut self.nodes.get_mut(&id).expect("a node").core;
        core.set_time(now, wall);
        core.tick();
        loop {
            let node = self.nodes.get_mut(&id).expect("a node");
            let effects = node.core.flush();
            let frames = node.core.take_frames();
            let is_over = effects.is_empty();
            for (to, frame) in frames {
                self.send(id, to, frame);
            }
            for effect in effects {
                self.carry_out(id, effect);
            }
            if !self.let_move(id) && is_over {
                return;
            }
        }
    }

    /// Lets a node's mover act; whether it did.
    fn let_move(&mut self, id: NodeId) -> bool {
        let (now, wall) = (self.now, self.wall());
        let node = self.nodes.get_mut(&id).expect("a node");
        node.mover.set_time(now, wall);
        let outputs = node.mover.poll();
        let has_acted = !outputs.is_empty();
        for output in outputs {
            match output {
                MoverOutput::Ask { ticket, to, ask } => {
                    let caller = Caller { connection: MOVER, ticket };
                    node.core.request(Target::Group(to), caller, ask);
                }
                MoverOutput::Look { ticket, group, mut look } => {
                    look.set_clock(node.core.stamp(group));
                    let machine = node.machines.get_mut(&group);
                    let step = machine.and_then(|machine| look.take(machine).expect("sound"));
                    node.mover.looked(ticket, step);
                }
                MoverOutput::Slow { group, slots } => node.core.slow(group, slots),
                MoverOutput::Report(_) => {}
            }
        }
        has_acted
    }

    /// Tells a core if a group's steward has acted, and of a newer configuration.
    fn hear_steward(&mut self, id: NodeId, group: GroupId) {
        let node = self.nodes.get_mut(&id).expect("a node");
        let Some(machine) = node.machines.get(&group) else { return };
        let at = machine.stewarded();
        if node.stewarded.insert(group, at) == Some(at) {
            return;
        }
        node.core.stewarded(group);
        if group != CONTROLLER {
            return;
        }
        node.mover.controller_changed();
        let query = steward::ask(&Query::Configuration { at: None });
        if let Ok(QueryAnswer::Reply(reply)) = machine.query(&query, LogTime(0))
            && let Ok(Said::Configuration { found: Some(found), .. }) = steward::answered(&reply)
        {
            node.core.set_configuration(Arc::new(found));
        }
    }

    fn answered(&mut self, id: NodeId, caller: Caller, answer: Answer) {
        let node = self.nodes.get_mut(&id).expect("a node");
        if caller.is_inward() {
            node.core.answered(vec![(caller, answer)]);
        } else if caller.connection == MOVER {
            node.mover.answer(caller.ticket, answer);
        } else {
            node.answers.insert(caller.ticket, answer);
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, frame: Bytes) {
        self.frames += 1;
        self.frame_bytes += frame.len() as u64;
        if self.loses > 0 && self.frames.is_multiple_of(self.loses) {
            return;
        }
        if self.doubles > 0 && self.frames.is_multiple_of(self.doubles) {
            let late = self.now + 3 * DELAY;
            self.on_the_way.push((late, from, to, frame.clone()));
        }
        self.on_the_way.push((self.now + DELAY, from, to, frame));
    }

    fn carry_out(&mut self, id: NodeId, effect: Effect) {
        let node = self.nodes.get_mut(&id).expect("a node");
        match effect {
            Effect::Persist { group, batch } => {
                let mut receipts: Vec<(GroupId, Receipt)> = Vec::new();
                let batches = &mut vec![(group, batch)];
                let Ok(()) = kontiki_raft::persist(&mut Nowhere, batches, &mut receipts);
                for (group, receipt) in receipts {
                    node.core.persisted(group, receipt);
                }
            }
            Effect::Apply { group, entries } => {
                let Some(machine) = node.machines.get_mut(&group) else { return };
                let batch: Vec<(LogId, Option<Bytes>)> = entries
                    .iter()
                    .map(|entry| match &entry.data {
                        EntryData::Command(command) => (entry.id, Some(command.clone())),
                        _ => (entry.id, None),
                    })
                    .collect();
                *self.applied.entry((id, group)).or_default() += batch.len() as u64;
                let mut outcomes = Vec::new();
                machine.apply(&batch, &mut outcomes).expect("entries of this version");
                let (at, time, due) = (machine.applied(), machine.log_time(), machine.next_due());
                node.core.applied(group, at, time, due, outcomes);
                self.hear_steward(id, group);
            }
            Effect::Query { group, log_time, reads } => {
                for question in reads {
                    let node = self.nodes.get_mut(&id).expect("a node");
                    let machine = &node.machines[&group];
                    match machine.query(&question.read, log_time).expect("a query") {
                        QueryAnswer::Reply(reply) => {
                            self.answered(id, question.caller, Answer::Reply(reply));
                        }
                        QueryAnswer::Due => node.core.due(group, vec![question]),
                        QueryAnswer::Closed { slot, gate } => {
                            node.core.barred(group, vec![(question, slot, gate)]);
                        }
                    }
                }
            }
            Effect::Answer { caller, answer } => self.answered(id, caller, answer),
            Effect::Role { group, role, term, .. } => {
                node.mover.role(group, (role == Role::Leader).then_some(term));
            }
            Effect::ReadEntries { group, to, from, .. } => {
                node.core.entries_read(group, to, from, Vec::new().into());
            }
            Effect::BuildSnapshot { group } => node.core.snapshot_built(group, None),
            _ => {}
        }
    }

    /// A client of `node` asks; the number under which it is answered.
    pub fn ask(&mut self, node: u64, to: Target, ask: Ask) -> u64 {
        let (now, wall) = (self.now, self.wall());
        let node = self.node(node);
        let ticket = node.next_ticket;
        node.next_ticket += 1;
        node.core.set_time(now, wall);
        node.core.request(to, Caller { connection: 1, ticket }, ask);
        ticket
    }

    /// As [`World::ask`], by a client that does not wait long for a slot that stands still.
    pub fn ask_briefly(&mut self, node: u64, to: Target, ask: Ask) -> u64 {
        let (now, wall) = (self.now, self.wall());
        let node = self.node(node);
        let ticket = node.next_ticket;
        node.next_ticket += 1;
        node.core.set_time(now, wall);
        let caller = Caller { connection: 1, ticket };
        node.core.request_with(to, caller, ask, kontiki_replica::Patience::Short);
        ticket
    }

    /// The answer, if it is there.
    pub fn take_answer(&mut self, node: u64, ticket: u64) -> Option<Answer> {
        self.node(node).answers.remove(&ticket)
    }

    /// Waits for an answer.
    pub fn answer(&mut self, node: u64, ticket: u64) -> Answer {
        self.until("an answer", |world| world.node(node).answers.contains_key(&ticket));
        self.node(node).answers.remove(&ticket).expect("it was there")
    }

    /// Waits until each of the groups has a leader that has applied something of its term.
    pub fn until_led(&mut self, groups: &[u32]) {
        for &group in groups {
            self.until("a leader", |world| world.leader(group).is_some());
        }
    }

    pub fn leader(&self, group: u32) -> Option<u64> {
        let leads = |node: &&Node| {
            let replica = node.core.replica(GroupId(group));
            replica.is_some_and(|raft| raft.role() == Role::Leader)
        };
        let leader = self.nodes.iter().find(|(id, node)| !self.cut.contains(id) && leads(node));
        leader.map(|(id, _)| id.0)
    }
}

/// The write number `seq` of a client: key := value.
pub fn set(client: ClientId, seq: u64, key: &str, value: &str, world: &World) -> SessionWrite {
    let write = Write::Set {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        condition: Condition::Always,
        get: false,
        expiry: Expiry::Clear,
    };
    session(client, seq, None, key, &write, world)
}

pub fn session(
    client: ClientId,
    seq: u64,
    after: Option<u64>,
    key: &str,
    write: &Write,
    world: &World,
) -> SessionWrite {
    let mut command = Vec::new();
    write.encode(&mut command);
    let request = WriteRequest {
        client,
        seq: Seq(seq),
        low: Seq(1),
        deadline: LogTime(world.wall().0 + 30_000),
        after: after.map(Seq),
        slot: Slot::of(key.as_bytes()),
        command: command.into(),
    };
    let proposal = Proposal::write(LogTime(0), request).to_bytes();
    SessionWrite { client, seq: Seq(seq), proposal }
}

pub fn client(number: u64) -> ClientId {
    ClientId { incarnation: Incarnation(7), boot: 1, connection: number }
}

pub fn get(key: &str) -> Ask {
    Ask::Read(Read::Get { key: Bytes::copy_from_slice(key.as_bytes()) })
}
