//! Movers of several nodes, with machines of one replica each between them: requests are carried out
//! in an order, with losses and repetitions that a seed draws.

use kontiki_kv::{MemStore, Outcome, QueryAnswer, Reply, Verdict as Came};
use kontiki_shard::{Op, Phase, Reply as Decision, SlotSet};
use kontiki_types::{Incarnation, Index, LogId, NodeId};

use super::*;
use crate::connection::Failure;
use crate::steward::{BEGINS_AFTER, Beginning, StewardMaker};

const SOURCE: GroupId = GroupId(1);
const TARGET: GroupId = GroupId(2);

struct World {
    machines: BTreeMap<GroupId, Machine<MemStore>>,
    movers: Vec<Mover>,
    /// Requests and looks that are under way, each with its mover.
    open: Vec<(usize, MoverOutput)>,
    reports: Vec<Report>,
    /// Requests arrive as they were sent, not in any order.
    in_order: bool,
    /// Looks at the source between the freeze and the commit.
    looks_frozen: usize,
    terms: BTreeMap<GroupId, u64>,
    now: u64,
    random: u64,
    /// One of so many answers is lost; 0 for none.
    loses: u64,
    seq: u64,
}

fn mover(number: u64) -> Mover {
    mover_of_parts(number, MoverLimits::default().part_bytes)
}

fn mover_of_parts(number: u64, part_bytes: u64) -> Mover {
    let client = ClientId { incarnation: Incarnation(number), boot: 1, connection: u64::MAX };
    let step = Limits { chunk_bytes: 256, freeze_bytes: 512 };
    Mover::new(client, MoverLimits { step, part_bytes, ..MoverLimits::default() })
}

impl World {
    fn new(seed: u64, loses: u64) -> Self {
        let founders: Vec<_> = [SOURCE, TARGET].map(|id| (id, vec![NodeId(1)])).into();
        let beginnings = [
            (CONTROLLER, Beginning::FoundingController(founders)),
            (SOURCE, Beginning::FoundingGroup { group: SOURCE, at: 0, of: 2 }),
            (TARGET, Beginning::FoundingGroup { group: TARGET, at: 1, of: 2 }),
        ];
        let machines = beginnings.map(|(group, beginning)| {
            let steward = beginning.steward();
            let store = Machine::found(MemStore::new(), BEGINS_AFTER, &*steward).expect("empty");
            let machine = Machine::open(store).expect("sound");
            (group, machine.with_stewards(Box::new(StewardMaker)).expect("sound"))
        });
        let mut world = Self {
            machines: machines.into(),
            movers: (0..2).map(mover).collect(),
            open: Vec::new(),
            reports: Vec::new(),
            in_order: false,
            looks_frozen: 0,
            terms: [CONTROLLER, SOURCE, TARGET].map(|group| (group, 0)).into(),
            now: 1_000_000,
            random: seed,
            loses,
            seq: 0,
        };
        world.lead(SOURCE, 0);
        world.lead(TARGET, 1);
        world
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % below
    }

    /// The group has another leader, at this node.
    fn lead(&mut self, group: GroupId, node: usize) {
        let term = self.terms.entry(group).or_default();
        *term += 1;
        let term = Term(*term);
        self.append(group, None);
        for (at, mover) in self.movers.iter_mut().enumerate() {
            mover.role(group, (at == node).then_some(term));
        }
    }

    fn append(&mut self, group: GroupId, payload: Option<bytes::Bytes>) -> Vec<Outcome> {
        let term = Term(self.terms[&group]);
        let machine = self.machines.get_mut(&group).expect("a group");
        let id = LogId::new(term, machine.applied().index.next());
        let mut outcomes = Vec::new();
        machine.apply(&[(id, payload)], &mut outcomes).expect("it applies");
        outcomes
    }

    fn write(&mut self, group: GroupId, proposal: &bytes::Bytes) -> Came {
        let mut stamped = proposal.to_vec();
        Proposal::restamp(&mut stamped, LogTime(self.now)).expect("a proposal");
        self.append(group, Some(stamped.into())).remove(0).verdict
    }

    /// A client's write; `None` if the slot is closed.
    fn set(&mut self, group: GroupId, key: &str, value: &str) -> Option<Reply> {
        self.seq += 1;
        let write = Write::Append {
            key: bytes::Bytes::copy_from_slice(key.as_bytes()),
            value: bytes::Bytes::copy_from_slice(value.as_bytes()),
        };
        let mut command = Vec::new();
        write.encode(&mut command);
        let client = ClientId { incarnation: Incarnation(99), boot: 1, connection: 1 };
        let deadline = LogTime(self.now + 1000);
        let (seq, low) = (Seq(self.seq), Seq(self.seq));
        let (slot, command) = (write.home_slot(), command.into());
        let request = WriteRequest { client, seq, low, deadline, after: None, slot, command };
        match self.write(group, &Proposal::write(LogTime(0), request).to_bytes()) {
            Came::Done(reply) => Some(reply),
            Came::Closed { .. } => None,
            other => panic!("{other:?}"),
        }
    }

    fn get(&self, group: GroupId, key: &str) -> Option<Reply> {
        let read = Read::Get { key: bytes::Bytes::copy_from_slice(key.as_bytes()) };
        match self.machines[&group].query(&read, LogTime(0)).expect("sound") {
            QueryAnswer::Reply(reply) => Some(reply),
            QueryAnswer::Closed { .. } => None,
            QueryAnswer::Due => panic!("nothing expires"),
        }
    }

    /// An operator's request to the controller.
    fn decide(&mut self, op: Op) -> Decision {
        self.seq += 1;
        let mut operator = mover(7);
        operator.set_time(Instant(0), LogTime(self.now));
        let proposal = operator.proposal(self.seq, self.seq, &tell(&Call::Decide { op }));
        let Came::Done(reply) = self.write(CONTROLLER, &proposal) else { panic!("refused") };
        self.movers.iter_mut().for_each(Mover::controller_changed);
        match told(&reply) {
            Ok(Told::Decided { reply, .. }) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn moves(&self) -> usize {
        let read = ask(&Query::Moves);
        let Ok(QueryAnswer::Reply(reply)) = self.machines[&CONTROLLER].query(&read, LogTime(0))
        else {
            panic!("no answer")
        };
        match answered(&reply) {
            Ok(Said::Moves { moves }) => moves.len(),
            other => panic!("{other:?}"),
        }
    }

    /// Something happens: an answer arrives, or time goes on.
    fn turn(&mut self) {
        for (at, mover) in self.movers.iter_mut().enumerate() {
            mover.set_time(Instant(self.now * 1000), LogTime(self.now));
            for output in mover.poll() {
                match output {
                    MoverOutput::Report(report) => self.reports.push(report),
                    other => self.open.push((at, other)),
                }
            }
        }
        if self.open.is_empty() {
            self.now += 10;
            return;
        }
        let which = if self.in_order { 0 } else { self.draw(self.open.len() as u64) as usize };
        let (at, output) = self.open.remove(which);
        let is_lost = self.loses > 0 && self.draw(self.loses) == 0;
        match output {
            MoverOutput::Report(_) | MoverOutput::Slow { .. } => {}
            MoverOutput::Look { ticket, group, mut look } => {
                let has = |wanted: fn(&Report) -> bool| self.reports.iter().any(wanted);
                let is_frozen = has(|report| matches!(report, Report::Freezing { .. }))
                    && !has(|report| matches!(report, Report::Committed { .. }));
                self.looks_frozen += usize::from(group == SOURCE && is_frozen);
                look.set_clock(LogTime(self.now));
                let machine = self.machines.get_mut(&group).expect("a group");
                let step = look.take(machine).expect("sound");
                self.movers[at].looked(ticket, step);
            }
            MoverOutput::Ask { ticket, to, ask } => {
                // Half of what is lost has had its effect.
                let has_effect = !is_lost || self.draw(2) == 0;
                let answer = match ask {
                    Ask::Write(write) if has_effect => match self.write(to, &write.proposal) {
                        Came::Done(reply) => Answer::Reply(reply),
                        _ => Answer::Failed(Failure::Unknown),
                    },
                    Ask::Read(read) => {
                        match self.machines[&to].query(&read, LogTime(0)).expect("sound") {
                            QueryAnswer::Reply(reply) => Answer::Reply(reply),
                            other => panic!("{other:?}"),
                        }
                    }
                    Ask::Write(_) => Answer::Failed(Failure::Unknown),
                };
                let lost = Answer::Failed(Failure::Unknown);
                self.movers[at].answer(ticket, if is_lost { lost } else { answer });
            }
        }
    }
}

fn key(number: usize) -> String {
    format!("key:{number}")
}

/// Moves what the source has to the target, with writes all the time and, if wanted, losses and
/// other leaders.
fn run(seed: u64, loses: u64, leaders_change: bool) -> World {
    run_in(World::new(seed, loses), leaders_change)
}

fn run_in(mut world: World, leaders_change: bool) -> World {
    let mut owners: BTreeMap<usize, GroupId> = BTreeMap::new();
    let slots: Vec<usize> = (0..400)
        .filter(|number| Slot::of(key(*number).as_bytes()).get() < 8192)
        .take(100)
        .collect();
    let mut expected: BTreeMap<usize, String> = BTreeMap::new();
    for &number in &slots {
        world.set(SOURCE, &key(number), "first ");
        expected.insert(number, "first ".into());
    }
    let moved = SlotSet::range(Slot::default(), Slot::new(8191).expect("in range"));
    let plan = Op::Plan { at: None, parts: vec![(moved, TARGET)] };
    assert!(matches!(world.decide(plan), Decision::Planned { .. }));
    let mut turns = 0;
    while world.moves() > 0 {
        turns += 1;
        assert!(turns < 100_000, "the move comes to no end: {:?}", world.movers);
        world.turn();
        if leaders_change && world.draw(60) == 0 {
            let (group, node) = ([SOURCE, TARGET][world.draw(2) as usize], world.draw(2) as usize);
            world.lead(group, node);
        }
        let number = slots[world.draw(slots.len() as u64) as usize];
        let value = format!("{turns} ");
        let served: Vec<GroupId> = [SOURCE, TARGET]
            .into_iter()
            .filter(|group| world.get(*group, &key(number)).is_some())
            .collect();
        assert!(served.len() <= 1, "two owners");
        if let Some(&group) = served.first() {
            let before = owners.insert(number, group);
            assert!(before != Some(TARGET) || group == TARGET, "the source serves again");
            if world.set(group, &key(number), &value).is_some() {
                expected.entry(number).or_default().push_str(&value);
            }
        }
    }
    for (number, value) in expected {
        let found = world.get(TARGET, &key(number));
        assert_eq!(found, Some(Reply::Bulk(value.into())), "{}", key(number));
        assert_eq!(world.get(SOURCE, &key(number)), None);
    }
    world
}

#[test]
fn a_move_is_carried_out_while_clients_write() {
    for seed in 0..4 {
        let world = run(seed, 0, false);
        let done = world.reports.iter().filter(|report| matches!(report, Report::Done { .. }));
        assert_eq!(done.count(), 1, "{:?}", world.reports);
        let given_up = |report: &Report| matches!(report, Report::GivenUp { .. });
        assert!(!world.reports.iter().any(given_up), "{:?}", world.reports);
    }
}

/// Clients wait, and each look is a way through the apply stage and back.
#[test]
fn slots_that_stand_still_are_looked_at_once() {
    for seed in 0..8 {
        let world = run_in(World { in_order: true, ..World::new(seed, 0) }, false);
        assert_eq!(world.looks_frozen, 1, "seed {seed}");
    }
}

/// Chunks of other moves would stand before what clients wait for.
#[test]
fn while_slots_stand_still_nothing_is_copied_for_others() {
    for seed in 0..4 {
        let mut world = World::new(seed, 0);
        world.movers = (0..2).map(|number| mover_of_parts(number, 1500)).collect();
        world.lead(SOURCE, 0);
        world.lead(TARGET, 1);
        let world = run_in(world, false);
        let (mut still, mut freezes) = (None, 0);
        for report in &world.reports {
            match report {
                Report::Freezing { id } => {
                    assert_eq!(still.replace(*id), None, "seed {seed}: two stand still");
                    freezes += 1;
                }
                Report::Sent { id, .. } => assert!(still.is_none_or(|still| still == *id)),
                Report::Done { id, .. } | Report::GivenUp { id, .. } if still == Some(*id) => {
                    still = None;
                }
                _ => {}
            }
        }
        assert!(freezes > 2, "seed {seed}: {freezes}");
    }
}

#[test]
fn lost_answers_cost_time_and_nothing_else() {
    for seed in 0..4 {
        run(seed, 5, false);
    }
}

#[test]
fn any_leader_goes_on_where_the_one_before_stopped() {
    for seed in 0..4 {
        run(seed, 10, true);
    }
}

#[test]
fn much_is_moved_in_parts() {
    for seed in 0..4 {
        let mut world = World::new(seed, 10);
        world.movers = (0..2).map(|number| mover_of_parts(number, 1500)).collect();
        world.lead(SOURCE, 0);
        world.lead(TARGET, 1);
        let world = run_in(world, seed % 2 == 0);
        let parts: BTreeSet<MoveId> = world
            .reports
            .iter()
            .filter_map(|report| match report {
                Report::Stage { id, stage: Stage::Committed, .. } => Some(*id),
                _ => None,
            })
            .collect();
        // A hundred keys and some hundreds of bytes.
        assert!(parts.len() > 2, "{parts:?}");
    }
}

#[test]
fn a_cancelled_move_leaves_everything_where_it_was() {
    let mut world = World::new(3, 0);
    let low = "bar";
    let slot = Slot::of(low.as_bytes());
    assert!(slot.get() < 8192);
    world.set(SOURCE, low, "1");
    let parts = vec![(SlotSet::range(slot, slot), TARGET)];
    let Decision::Planned { first, .. } = world.decide(Op::Plan { at: None, parts }) else {
        panic!("not planned")
    };
    for _ in 0..4 {
        world.turn();
    }
    let read = ask(&Query::Move { id: first });
    let Ok(QueryAnswer::Reply(reply)) = world.machines[&CONTROLLER].query(&read, LogTime(0)) else {
        panic!("no answer")
    };
    let Ok(Said::Move { found: kontiki_shard::MoveAnswer::UnderWay(found) }) = answered(&reply)
    else {
        panic!("not under way")
    };
    assert_eq!(found.phase, Phase::Planned);
    let (then, why) = (kontiki_shard::Then::Cancel, kontiki_shard::Why::Asked);
    world.decide(Op::Abort { tag: found.tag, then, why });
    let mut turns = 0;
    while world.moves() > 0 {
        turns += 1;
        assert!(turns < 1000, "it is not forgotten");
        world.turn();
    }
    assert_eq!(world.get(SOURCE, low), Some(Reply::Bulk(bytes::Bytes::from_static(b"1"))));
    assert_eq!(world.get(TARGET, low), None);
}

#[test]
fn a_node_that_leads_nothing_asks_nothing() {
    let mut idle = mover(1);
    idle.set_time(Instant(1), LogTime(1));
    idle.controller_changed();
    assert!(idle.poll().is_empty());
    assert_eq!(idle.next_deadline(), Instant::MAX);
    // And one that hears of the controller by itself, no more than it must.
    idle.set_hears_controller(true);
    idle.role(SOURCE, Some(Term(1)));
    assert_eq!(idle.poll().len(), 1);
    assert_eq!(idle.next_deadline(), Instant::MAX);
    let duties = Said::Duties { epoch: kontiki_types::Epoch(1), moves: Vec::new() };
    idle.answer(1, Answer::Reply(Reply::Bulk(duties.to_bytes().into())));
    assert_eq!(idle.next_deadline(), Instant::MAX);
    assert_eq!(BEGINS_AFTER.index, Index(1));
}
