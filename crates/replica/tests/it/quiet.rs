//! Many groups on three nodes: idle ones cost nothing, and are missed when their leader's node dies.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{
    Config, Membership, Receipt, Recovered, Role, StableStorage, WriteBatch, persist,
};
use kontiki_replica::{Core, Effect, GroupConfig, NodeInfo, Opened};
use kontiki_types::{GroupId, Incarnation, Instant, LogId, LogTime, Member, NodeId, ReplicaId};

const GROUPS: u32 = 200;
const NODES: u64 = 3;

fn member(node: u64) -> Member {
    Member::new(NodeId(node), Incarnation(node + 100), ReplicaId(1))
}

struct Sink;

impl StableStorage<Bytes> for Sink {
    type Error = ();

    fn write_and_sync(&mut self, _: &[(GroupId, WriteBatch<Bytes>)]) -> Result<(), ()> {
        Ok(())
    }
}

fn receipts(group: GroupId, batch: WriteBatch<Bytes>) -> Vec<(GroupId, Receipt)> {
    let (mut batches, mut receipts) = (vec![(group, batch)], Vec::new());
    persist(&mut Sink, &mut batches, &mut receipts).expect("a sink takes everything");
    receipts
}

struct World {
    cores: Vec<Option<Core>>,
    now: Instant,
    net: VecDeque<(NodeId, NodeId, Bytes)>,
    /// Frames that were sent, and turns of any node.
    frames: usize,
    turns: usize,
    elections: usize,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            cores: Vec::new(),
            now: Instant(1_000_000),
            net: VecDeque::new(),
            frames: 0,
            turns: 0,
            elections: 0,
        };
        let info = |node| NodeInfo {
            id: NodeId(node),
            incarnation: Incarnation(node + 100),
            ..NodeInfo::default()
        };
        let members: Vec<_> = (1..=NODES).map(member).collect();
        for node in 1..=NODES {
            let mut core = Core::new(info(node), GroupConfig::default(), (1..=NODES).map(info), []);
            core.set_time(world.now, LogTime(1));
            for group in 1..=GROUPS {
                let raft = Config {
                    quiesce_after: Some(Duration::from_millis(30)),
                    align_heartbeats: true,
                    ..Config::new(member(node))
                };
                let recovered = Recovered::initial(Membership::new(members.clone(), Vec::new()));
                core.open(Opened {
                    group: GroupId(group),
                    raft,
                    recovered,
                    applied: LogId::ZERO,
                    log_time: LogTime(0),
                    next_due: None,
                    seed: u64::from(group) << 8 | node,
                })
                .expect("sound");
            }
            world.cores.push(Some(core));
        }
        world
    }

    fn act(&mut self, at: usize) {
        self.turns += 1;
        let Some(core) = self.cores[at].as_mut() else { return };
        core.set_time(self.now, LogTime(self.now.0 / 1_000));
        core.tick();
        loop {
            let effects = core.flush();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                match effect {
                    Effect::Persist { group, batch } => {
                        for (group, receipt) in receipts(group, batch) {
                            core.persisted(group, receipt);
                        }
                    }
                    Effect::Apply { group, entries } => {
                        let last = entries.last().expect("not empty").id;
                        core.applied(group, last, LogTime(1), None, Vec::new());
                    }
                    Effect::Role { role: Role::Leader, .. } => self.elections += 1,
                    _ => {}
                }
            }
        }
        for (to, frame) in core.take_frames() {
            self.frames += 1;
            self.net.push_back((NodeId(at as u64 + 1), to, frame));
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            while !self.net.is_empty() {
                // What arrives at a node together is taken in one turn.
                let mut reached = [false; NODES as usize];
                for (from, to, frame) in std::mem::take(&mut self.net) {
                    let at = to.0 as usize - 1;
                    if let Some(core) = self.cores[at].as_mut() {
                        core.set_time(self.now, LogTime(self.now.0 / 1_000));
                        core.receive(from, frame).expect("well-formed");
                        reached[at] = true;
                    }
                }
                (0..reached.len()).filter(|&at| reached[at]).for_each(|at| self.act(at));
            }
            let running = self.cores.iter().flatten();
            let next = running.map(Core::next_deadline).min().unwrap_or(Instant::MAX);
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            for at in 0..self.cores.len() {
                if self.cores[at].as_ref().is_some_and(|core| core.next_deadline() <= self.now) {
                    self.act(at);
                }
            }
        }
        self.now = end;
    }

    fn led_by(&self, node: u64) -> usize {
        let core = self.cores.iter().flatten().next().expect("one runs");
        let is_led = |group: &u32| core.leader(GroupId(*group)) == Some(member(node));
        (1..=GROUPS).filter(is_led).count()
    }

    fn resting(&self) -> Vec<usize> {
        self.cores.iter().flatten().map(Core::resting).collect()
    }
}

#[test]
fn idle_groups_cost_a_few_frames_a_second_whatever_their_number() {
    let mut world = World::new();
    world.run(Duration::from_secs(3));
    assert_eq!(world.resting(), [GROUPS as usize; 3]);
    assert_eq!((1..=3).map(|node| world.led_by(node)).sum::<usize>(), GROUPS as usize);
    let (frames, turns, elections) = (world.frames, world.turns, world.elections);
    world.run(Duration::from_secs(60));
    assert_eq!(world.elections, elections);
    assert_eq!(world.resting(), [GROUPS as usize; 3]);
    // Six pairs of nodes, twenty signs of life a second each; a turn to send and one to take.
    let seconds = 60;
    assert!(world.frames - frames <= 6 * 21 * seconds, "{} frames", world.frames - frames);
    assert!(world.turns - turns <= 2 * 6 * 21 * seconds, "{} turns", world.turns - turns);
}

#[test]
fn groups_at_rest_are_led_again_soon_after_their_leaders_node_has_died() {
    let mut world = World::new();
    world.run(Duration::from_secs(3));
    let orphans = world.led_by(1);
    assert!(orphans > 0, "node 1 leads nothing");
    let spared = world.led_by(2) + world.led_by(3);
    let elections = world.elections;
    world.cores[0] = None;
    world.run(Duration::from_millis(800));
    assert_eq!(world.led_by(1), 0, "{orphans} groups had their leader there");
    assert_eq!(world.led_by(2) + world.led_by(3), orphans + spared);
    // Nobody who had a leader took part.
    assert!(world.elections - elections <= 2 * orphans, "{}", world.elections - elections);
}

#[test]
fn after_a_silence_of_all_every_group_is_led_and_rests_again() {
    let mut world = World::new();
    world.run(Duration::from_secs(3));
    // For four tenths of a second nothing gets through.
    for _ in 0..80 {
        world.now = world.now + Duration::from_millis(5);
        (0..3).for_each(|at| world.act(at));
        world.net.clear();
    }
    assert!(world.resting().iter().all(|&resting| resting < GROUPS as usize), "nobody noticed");
    world.run(Duration::from_secs(3));
    assert_eq!(world.resting(), [GROUPS as usize; 3]);
    assert_eq!(world.led_by(1) + world.led_by(2) + world.led_by(3), GROUPS as usize);
}
