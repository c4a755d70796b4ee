//! Three replicas in one thread: an in-memory transport, "disks" that survive a crash, virtual time.
//! They elect a leader, replicate a counter, lose the leader, elect another, and get the first back.
//!
//! `cargo run -p kontiki-raft --example three_replicas`

use std::collections::VecDeque;
use std::convert::Infallible;

use kontiki_raft::{
    Base, Config, Entry, EntryData, HardState, Membership, Message, Output, Raft, Recovered, Role,
    StableStorage, WriteBatch, persist,
};
use kontiki_types::{GroupId, Incarnation, Index, Instant, Member, NodeId, ReplicaId};

type Command = Vec<u8>;

/// What survives a crash. A real one would sync a file in `write_and_sync`.
#[derive(Default)]
struct Disk {
    hard_state: HardState,
    base: Option<Base>,
    entries: Vec<Entry<Command>>,
}

impl StableStorage<Command> for Disk {
    type Error = Infallible;

    fn write_and_sync(
        &mut self,
        batches: &[(GroupId, WriteBatch<Command>)],
    ) -> Result<(), Infallible> {
        for (_, batch) in batches {
            self.hard_state = batch.hard_state().unwrap_or(self.hard_state);
            if let Some(base) = batch.base() {
                self.entries.retain(|entry| entry.id.index > base.id.index);
                self.base = Some(base.clone());
            }
            if let Some(from) = batch.truncate_from() {
                self.entries.retain(|entry| entry.id.index < from);
            }
            self.entries.extend(batch.entries().cloned());
        }
        Ok(())
    }
}

/// A replica, its disk, and its state machine: a sum, which lives in memory only.
struct Node {
    me: Member,
    disk: Disk,
    raft: Option<Raft<Command>>,
    sum: u64,
}

impl Node {
    fn start(&mut self, now: Instant) {
        self.sum = 0;
        let recovered = Recovered {
            hard_state: self.disk.hard_state,
            base: self.disk.base.clone(),
            entries: self.disk.entries.clone(),
            applied: Index(0), // the whole log is applied again
            ..Recovered::default()
        };
        let seed = now.0 ^ self.me.node.0; // another one for each start
        self.raft = Some(Raft::new(Config::new(self.me), recovered, seed, now).expect("sound"));
    }

    /// Carries out what the core wants, until it wants nothing more.
    fn drain(&mut self, now: Instant, network: &mut VecDeque<Message<Command>>) {
        let Some(raft) = &mut self.raft else { return };
        while let Some(output) = raft.poll(now) {
            match output {
                Output::Send(message) => network.push_back(message),
                Output::Write(batch) => {
                    let (mut batches, mut receipts) = (vec![(GroupId(1), batch)], Vec::new());
                    let Ok(()) = persist(&mut self.disk, &mut batches, &mut receipts);
                    receipts.into_iter().for_each(|(_, receipt)| raft.persisted(now, receipt));
                }
                Output::Apply(entries) => {
                    for entry in &entries {
                        if let EntryData::Command(command) = &entry.data {
                            self.sum += u64::from(command[0]);
                        }
                        raft.applied(now, entry.id.index);
                    }
                }
                Output::Role { role: Role::Leader, term, .. } => {
                    println!("{:>4} ms: {} leads term {term}", now.0 / 1000, self.me);
                }
                _ => {} // roles; reads, snapshots and removals do not occur here
            }
        }
    }
}

/// Lets time pass, a millisecond at a time.
fn run(nodes: &mut [Node], now: &mut Instant, millis: u64) {
    let mut network = VecDeque::new();
    for _ in 0..millis {
        now.0 += 1000;
        for node in nodes.iter_mut() {
            if let Some(raft) = node.raft.as_mut().filter(|raft| raft.next_deadline() <= *now) {
                raft.tick(*now);
            }
            node.drain(*now, &mut network);
        }
        while let Some(message) = network.pop_front() {
            let Some(node) = nodes.iter_mut().find(|node| node.me == message.to) else { continue };
            let Some(raft) = &mut node.raft else { continue }; // it is down
            raft.receive(*now, message);
            node.drain(*now, &mut network);
        }
    }
}

fn leader(nodes: &[Node]) -> usize {
    let leads = |node: &Node| node.raft.as_ref().is_some_and(|raft| raft.role() == Role::Leader);
    nodes.iter().position(leads).expect("a leader")
}

fn main() {
    let member = |node| Member::new(NodeId(node), Incarnation(node), ReplicaId(1));
    let group = Membership::new([member(1), member(2), member(3)], []);
    let mut now = Instant(0);
    let mut nodes = [1, 2, 3].map(|node| {
        let base = Recovered::<Command>::initial(group.clone()).base;
        Node { me: member(node), disk: Disk { base, ..Disk::default() }, raft: None, sum: 0 }
    });
    nodes.iter_mut().for_each(|node| node.start(now));
    run(&mut nodes, &mut now, 400);
    let first = leader(&nodes);
    for number in 1..=10 {
        nodes[first].raft.as_mut().unwrap().propose(now, vec![number]).expect("it leads");
    }
    run(&mut nodes, &mut now, 10);
    println!("sums: {:?}", nodes.each_ref().map(|node| node.sum));

    println!("{:>4} ms: {} crashes", now.0 / 1000, nodes[first].me);
    nodes[first].raft = None;
    run(&mut nodes, &mut now, 500);
    let second = leader(&nodes);
    nodes[second].raft.as_mut().unwrap().propose(now, vec![100]).expect("it leads");
    nodes[first].start(now);
    run(&mut nodes, &mut now, 200);
    println!("sums: {:?}", nodes.each_ref().map(|node| node.sum));
    assert!(nodes.iter().all(|node| node.sum == 155));
}
