use kontiki_kv::{Machine, MemStore, Outcome, Proposal, QueryAnswer, Verdict, WriteRequest};
use kontiki_shard::{MoveAnswer, Phase, Reply as Decision, SlotSet};
use kontiki_types::{ClientId, Epoch, Incarnation, Seq};

use super::*;

/// A group of one replica.
struct Group {
    machine: Machine<MemStore>,
    seq: u64,
}

fn open(store: MemStore) -> Machine<MemStore> {
    let machine = Machine::open(store).expect("a sound store");
    machine.with_stewards(Box::new(StewardMaker)).expect("a sound steward")
}

impl Group {
    fn beginning(beginning: &Beginning) -> Self {
        let store = Machine::found(MemStore::new(), BEGINS_AFTER, &*beginning.steward());
        Self { machine: open(store.expect("an empty store")), seq: 0 }
    }

    fn unsharded() -> Self {
        Self { machine: open(MemStore::new()), seq: 0 }
    }

    fn write(&mut self, write: &Write) -> Verdict {
        self.seq += 1;
        let mut command = Vec::new();
        write.encode(&mut command);
        let client = ClientId { incarnation: Incarnation(1), boot: 1, connection: 1 };
        let request = WriteRequest {
            client,
            seq: Seq(self.seq),
            low: Seq(self.seq),
            deadline: LogTime(1000),
            after: None,
            slot: write.home_slot(),
            command: command.into(),
        };
        let payload = Proposal::write(LogTime(5), request).to_bytes();
        let id = LogId::new(Term(1), self.machine.applied().index.next());
        let mut outcomes: Vec<Outcome> = Vec::new();
        self.machine.apply(&[(id, Some(payload))], &mut outcomes).expect("it applies");
        outcomes.remove(0).verdict
    }

    fn tell(&mut self, call: &Call) -> Result<Told, StewardError> {
        match self.write(&tell(call)) {
            Verdict::Done(reply) => told(&reply),
            other => panic!("{other:?}"),
        }
    }

    fn ask(&self, query: &Query) -> Result<Answer, StewardError> {
        match self.machine.query(&ask(query), LogTime(0)) {
            Ok(QueryAnswer::Reply(reply)) => answered(&reply),
            other => panic!("{other:?}"),
        }
    }
}

fn set(key: &'static [u8]) -> Write {
    Write::SetNx { key: Bytes::from_static(key), value: Bytes::from_static(b"1") }
}

fn founders() -> Vec<(GroupId, Vec<NodeId>)> {
    vec![(GroupId(1), vec![NodeId(1)]), (GroupId(2), vec![NodeId(2)])]
}

#[test]
fn the_controller_is_told_and_asked_through_its_machine() {
    let mut zero = Group::beginning(&Beginning::FoundingController(founders()));
    let slots = SlotSet::range(Slot::default(), Slot::default());
    let plan = Op::Plan { at: Some(Epoch(1)), parts: vec![(slots, GroupId(2))] };
    let told = zero.tell(&Call::Decide { op: plan });
    let Ok(Told::Decided { reply: Decision::Planned { first, .. }, .. }) = told else {
        panic!("{told:?}")
    };
    for of_store in [zero.machine.store().clone(), zero.machine.into_store()] {
        let again = Group { machine: open(of_store), seq: 0 };
        let Ok(Answer::Move { found: MoveAnswer::UnderWay(found) }) =
            again.ask(&Query::Move { id: first })
        else {
            panic!("the move is unknown")
        };
        assert_eq!(found.phase, Phase::Planned);
        let groups = vec![GroupId(1)];
        let duties = again.ask(&Query::Duties { groups });
        assert_eq!(duties, Ok(Answer::Duties { epoch: Epoch(1), moves: vec![found] }));
        let groups = vec![GroupId(3)];
        let nothing = Answer::Duties { epoch: Epoch(1), moves: Vec::new() };
        assert_eq!(again.ask(&Query::Duties { groups }), Ok(nothing));
        assert_eq!(again.ask(&Query::Holdings), Ok(Answer::Elsewhere));
    }
}

#[test]
fn group_zero_takes_no_keys() {
    let mut zero = Group::beginning(&Beginning::FoundingController(founders()));
    let slot = Slot::of(b"k");
    assert_eq!(zero.write(&set(b"k")), Verdict::Closed { slot, gate: Gate::Away });
}

#[test]
fn founding_groups_serve_their_share_and_no_other() {
    let group = |at| {
        let id = GroupId(at as u32 + 1);
        Group::beginning(&Beginning::FoundingGroup { group: id, at, of: 2 })
    };
    let (mut first, mut second) = (group(0), group(1));
    for key in [&b"foo"[..], b"bar"] {
        let slot = Slot::of(key);
        let (away, done) =
            (Verdict::Closed { slot, gate: Gate::Away }, Verdict::Done(Reply::Integer(1)));
        let is_low = slot.get() < 8192;
        let expected = if is_low { (done, away) } else { (away, done) };
        assert_eq!((first.write(&set(key)), second.write(&set(key))), expected);
    }
    let told = first.tell(&Call::Decide { op: Op::Leave { groups: vec![GroupId(2)] } });
    assert_eq!(told, Ok(Told::Elsewhere));
}

#[test]
fn a_group_that_had_everything_shares_from_one_entry_on() {
    let mut group = Group::unsharded();
    assert_eq!(group.write(&set(b"k")), Verdict::Done(Reply::Integer(1)));
    assert!(matches!(group.ask(&Query::Holdings), Err(StewardError::Refused(_))));
    let named = GroupRef { id: GroupId(1), joined: 0 };
    let share = Call::Share { group: named, controller: NodeId(3) };
    let shares = Told::Shares { group: named, controller: Some(NodeId(3)) };
    assert_eq!(group.tell(&share), Ok(shares.clone()));
    let other = GroupRef { id: GroupId(9), joined: 4 };
    let late = Call::Share { group: other, controller: NodeId(4) };
    assert_eq!(group.tell(&late), Ok(shares));
    assert_eq!(group.write(&set(b"k")), Verdict::Done(Reply::Integer(0)));
    let Ok(Answer::Holdings { serving, .. }) = group.ask(&Query::Holdings) else {
        panic!("no holdings")
    };
    assert_eq!(serving, SlotSet::all());
}

#[test]
fn a_group_that_joined_serves_nothing() {
    let named = GroupRef { id: GroupId(7), joined: 12 };
    let mut group = Group::beginning(&Beginning::Joined(named));
    let slot = Slot::of(b"k");
    assert_eq!(group.write(&set(b"k")), Verdict::Closed { slot, gate: Gate::Away });
    let holdings = holdings_of(group.machine.steward().expect("it has one"));
    assert_eq!(holdings.map(|holdings| holdings.group()).ok(), Some(named));
}
