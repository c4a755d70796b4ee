use kontiki_types::{ClientId, LogId, Seq, Slot, Term};
use proptest::prelude::*;

use super::*;

/// A controller with its log index, and a client that makes one request after the other.
struct Log {
    controller: Controller,
    index: u64,
    seq: u64,
}

impl Log {
    fn new() -> Self {
        Self { controller: Controller::new(), index: 0, seq: 0 }
    }

    fn apply(&mut self, command: &Command) -> Reply {
        self.index += 1;
        self.controller.apply(Index(self.index), command)
    }

    fn command(&mut self, op: Op) -> Command {
        self.seq += 1;
        let session = Session {
            client: ClientId::default(),
            seq: Seq(self.seq),
            deadline: LogTime(DEADLINE_MAX_MS),
        };
        let session = op.needs_session().then_some(session);
        Command { stamp: LogTime(0), session, op }
    }

    fn run(&mut self, op: Op) -> Reply {
        let command = self.command(op);
        self.apply(&command)
    }

    fn refusal(&mut self, op: Op) -> Refusal {
        match self.run(op) {
            Reply::Refused { why } => why,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn plan(&mut self, slots: &str, to: u32) -> MoveId {
        match self.run(plan(slots, to)) {
            Reply::Planned { first, .. } => first,
            other => panic!("not planned: {other:?}"),
        }
    }

    fn tag(&self, id: MoveId) -> Tag {
        self.found(id).tag
    }

    fn found(&self, id: MoveId) -> Move {
        match self.controller.answer(id) {
            MoveAnswer::UnderWay(found) => found,
            other => panic!("{id} is not under way: {other:?}"),
        }
    }

    fn close(&mut self, id: MoveId) {
        let tag = self.tag(id);
        for side in [Side::Source, Side::Target] {
            // A move of slots that nobody had is over with its target.
            if matches!(self.controller.answer(id), MoveAnswer::UnderWay(_)) {
                assert!(matches!(self.run(Op::Closed { tag, side }), Reply::Done { .. }));
            }
        }
    }

    /// Groups 1 and 2, of which the first has every slot.
    fn two_groups() -> Self {
        let mut log = Self::new();
        log.run(join(&[1, 2]));
        let id = log.plan("0-16383", 1);
        log.close(id);
        log
    }

    fn owner(&self, slot: u16) -> Option<GroupId> {
        self.controller.configuration().owner(Slot::new(slot).unwrap())
    }
}

fn join(groups: &[u32]) -> Op {
    let nodes = |id: &u32| vec![NodeId(u64::from(*id))];
    Op::Join { groups: groups.iter().map(|id| (GroupId(*id), nodes(id))).collect() }
}

fn leave(group: u32) -> Op {
    Op::Leave { groups: vec![GroupId(group)] }
}

fn plan(slots: &str, to: u32) -> Op {
    Op::Plan { at: None, parts: vec![(slots.parse().unwrap(), GroupId(to))] }
}

#[test]
fn configuration_0_is_empty_and_numbers_rise_by_one() {
    let mut log = Log::new();
    let first = log.controller.configuration().clone();
    assert_eq!((first.epoch(), first.groups().len()), (Epoch(0), 0));
    assert_eq!(first.slots_of(None), SlotSet::all());
    assert_eq!(log.run(join(&[1, 2])), Reply::Done { epoch: Epoch(1) });
    assert_eq!(log.run(join(&[3])), Reply::Done { epoch: Epoch(2) });
    assert_eq!(log.refusal(join(&[3])), Refusal::GroupExists { group: GroupId(3) });
    assert_eq!(log.refusal(join(&[0])), Refusal::Malformed);
    assert_eq!(log.controller.configuration().epoch(), Epoch(2));
    assert_eq!(log.controller.configuration_at(Epoch(0)), Some(first));
    assert_eq!(log.controller.configuration_at(Epoch(3)), None);
}

#[test]
fn a_slot_changes_hands_at_the_commit_and_nowhere_else() {
    let mut log = Log::two_groups();
    let id = log.plan("5-9", 2);
    assert_eq!(log.owner(7), Some(GroupId(1)));
    let epoch = log.controller.configuration().epoch();
    let tag = log.tag(id);
    assert_eq!(log.run(Op::Commit { tag }), Reply::Done { epoch: epoch.next() });
    assert_eq!((log.owner(7), log.owner(10)), (Some(GroupId(2)), Some(GroupId(1))));
    // A second copy of the commit changes nothing.
    assert_eq!(log.refusal(Op::Commit { tag }), Refusal::NotCurrent { id });
    let abort = Op::Abort { tag, then: Then::Cancel, why: Why::Asked };
    assert_eq!(log.refusal(abort), Refusal::NotCurrent { id });
    log.close(id);
    assert_eq!(log.refusal(Op::Commit { tag }), Refusal::NoMove { id });
    let end = Finished { id, is_done: true, epoch: epoch.next() };
    assert_eq!(log.controller.answer(id), MoveAnswer::Finished(end));
    assert_eq!(log.controller.answer(MoveId(99)), MoveAnswer::Unknown);
}

#[test]
fn a_commit_of_an_attempt_that_was_given_up_is_refused() {
    let mut log = Log::two_groups();
    let id = log.plan("5", 2);
    let first = log.tag(id);
    assert_eq!(log.found(id).aborted(), None);
    log.run(Op::Abort { tag: first, then: Then::Retry, why: Why::Late });
    assert_eq!(log.refusal(Op::Commit { tag: first }), Refusal::NotCurrent { id });
    let second = log.found(id);
    assert!(second.tag > first && second.aborted().is_some_and(|proof| proof.is_of(first)));
    assert!(second.aborted().is_some_and(|proof| !proof.is_of(second.tag)));
    log.run(Op::Abort { tag: second.tag, then: Then::Cancel, why: Why::Asked });
    assert_eq!(log.refusal(Op::Commit { tag: second.tag }), Refusal::NotCurrent { id });
    assert!(log.found(id).aborted().is_some_and(|proof| proof.is_of(second.tag)));
    assert_eq!(log.owner(5), Some(GroupId(1)));
}

#[test]
fn a_move_of_too_much_is_split_and_what_was_begun_of_it_counts_no_more() {
    let mut log = Log::two_groups();
    let id = log.plan("5-9", 2);
    let whole = log.found(id);
    let slots = |text: &str| text.parse::<SlotSet>().unwrap();
    let split = |keep: &str| Op::Split { tag: whole.tag, keep: slots(keep) };
    for wrong in ["5-9", "8-10", "20"] {
        assert_eq!(log.refusal(split(wrong)), Refusal::Malformed, "{wrong}");
    }
    assert!(matches!(log.run(split("5-6")), Reply::Done { .. }));
    assert_eq!(log.refusal(split("5")), Refusal::NotCurrent { id });
    assert_eq!(log.refusal(Op::Commit { tag: whole.tag }), Refusal::NotCurrent { id });
    let (kept, rest) = (log.found(id), log.found(MoveId(id.0 + 1)));
    assert_eq!((kept.slots.clone(), rest.slots.clone()), (slots("5-6"), slots("7-9")));
    assert_eq!((kept.part_of, rest.part_of), (id, id));
    assert!(kept.aborted().is_some_and(|proof| proof.is_of(whole.tag)));
    assert!(kept.tag > whole.tag && rest.tag > whole.tag && rest.aborted().is_none());
    assert!(kept.incarnation > whole.incarnation && rest.incarnation > whole.incarnation);
    // Each is locked as before, and is decided by itself.
    assert!(matches!(log.refusal(plan("9", 2)), Refusal::InMove { .. }));
    log.run(Op::Commit { tag: kept.tag });
    assert_eq!((log.owner(6), log.owner(7)), (Some(GroupId(2)), Some(GroupId(1))));
    log.run(Op::Commit { tag: rest.tag });
    assert_eq!(log.owner(9), Some(GroupId(2)));
    let next = log.plan("20", 2);
    assert_eq!((next, log.found(next).part_of), (MoveId(id.0 + 2), next));
}

#[test]
fn a_slot_is_in_one_move_at_a_time() {
    let mut log = Log::two_groups();
    let id = log.plan("5-9", 2);
    let slot = Slot::new(9).unwrap();
    assert_eq!(log.refusal(plan("9-20", 2)), Refusal::InMove { slot, id });
    let parts = vec![("1-2".parse().unwrap(), GroupId(2)), ("2-3".parse().unwrap(), GroupId(2))];
    let refusal = log.refusal(Op::Plan { at: None, parts });
    assert!(matches!(refusal, Refusal::InMove { .. }), "{refusal}");
    // Given up: as soon as the source says so, whatever the target does.
    let tag = log.tag(id);
    log.run(Op::Abort { tag, then: Then::Cancel, why: Why::Asked });
    assert!(matches!(log.refusal(plan("9", 2)), Refusal::InMove { .. }));
    log.run(Op::Closed { tag, side: Side::Source });
    let next = log.plan("9", 2);
    // Committed: as soon as the target says so, whatever the source does.
    let tag = log.tag(next);
    log.run(Op::Commit { tag });
    assert!(matches!(log.refusal(plan("9", 1)), Refusal::InMove { .. }));
    log.run(Op::Closed { tag, side: Side::Target });
    log.plan("9", 1);
}

#[test]
fn plans_name_groups_that_stay_and_slots_of_one_owner() {
    let mut log = Log::two_groups();
    assert_eq!(log.refusal(plan("5", 1)), Refusal::AlreadyThere { group: GroupId(1) });
    assert_eq!(log.refusal(plan("5", 3)), Refusal::NoGroup { group: GroupId(3) });
    assert_eq!(log.refusal(Op::Plan { at: None, parts: Vec::new() }), Refusal::Malformed);
    let at = log.controller.configuration().epoch();
    let old = Op::Plan { at: Some(at.prev()), parts: vec![(SlotSet::all(), GroupId(2))] };
    assert_eq!(log.refusal(old), Refusal::OtherEpoch { epoch: at });
    let id = log.plan("5-9", 2);
    let tag = log.tag(id);
    log.run(Op::Commit { tag });
    log.close(id);
    let slot = Slot::new(10).unwrap();
    assert_eq!(log.refusal(plan("9-10", 1)), Refusal::TwoOwners { slot });
    log.run(leave(2));
    assert_eq!(log.refusal(plan("10", 2)), Refusal::Leaving { group: GroupId(2) });
}

#[test]
fn a_group_that_leaves_is_gone_when_it_has_nothing_and_comes_back_as_another() {
    let mut log = Log::two_groups();
    let first = log.controller.configuration().group_ref(GroupId(2)).unwrap();
    log.run(leave(2));
    assert_eq!(log.controller.configuration().group(GroupId(2)), None);
    log.run(join(&[2]));
    let second = log.controller.configuration().group_ref(GroupId(2)).unwrap();
    assert!(second.joined > first.joined);
    let nodes = vec![NodeId(9)];
    let stale = Op::Want { group: first, instead_of: vec![NodeId(2)], nodes: nodes.clone() };
    assert_eq!(log.refusal(stale), Refusal::NoGroup { group: GroupId(2) });
    assert_eq!(log.refusal(leave(7)), Refusal::NoGroup { group: GroupId(7) });
    // With slots it stays until they are gone; and somebody has to stay.
    log.run(leave(1));
    assert_eq!(log.refusal(leave(2)), Refusal::LastGroup);
    let id = log.plan("0-16383", 2);
    let tag = log.tag(id);
    log.run(Op::Commit { tag });
    assert!(log.controller.configuration().group(GroupId(1)).is_some());
    log.close(id);
    assert_eq!(log.controller.configuration().group(GroupId(1)), None);
}

#[test]
fn a_group_about_to_leave_may_stay_after_all() {
    let mut log = Log::two_groups();
    log.run(leave(1));
    let before = log.controller.configuration().group(GroupId(1)).unwrap().clone();
    assert!(before.is_leaving);
    log.run(join(&[1]));
    let after = log.controller.configuration().group(GroupId(1)).unwrap();
    assert!(!after.is_leaving && after.joined == before.joined);
}

#[test]
fn wishes_replace_the_one_they_name_and_reports_only_go_forward() {
    let mut log = Log::two_groups();
    let group = log.controller.configuration().group_ref(GroupId(2)).unwrap();
    let want = |instead_of: u64, nodes: u64| Op::Want {
        group,
        instead_of: vec![NodeId(instead_of)],
        nodes: vec![NodeId(nodes)],
    };
    log.run(want(2, 3));
    assert_eq!(log.refusal(want(2, 4)), Refusal::WishChanged { group: GroupId(2) });
    let observe = |index: u64, node: u64| Op::Observe {
        group,
        at: LogId::new(Term(1), Index(index)),
        nodes: vec![NodeId(node)],
    };
    log.run(observe(5, 3));
    log.run(observe(4, 2));
    assert_eq!(log.controller.observed(GroupId(2)).unwrap().nodes, [NodeId(3)]);
}

#[test]
fn a_request_takes_effect_once_and_not_after_its_deadline() {
    let mut log = Log::two_groups();
    let command = log.command(plan("1-3", 2));
    let reply = log.apply(&command);
    assert!(matches!(reply, Reply::Planned { .. }));
    assert_eq!(log.apply(&command), reply);
    assert_eq!(log.controller.moves().len(), 1);
    let later = log.command(plan("4", 2));
    log.apply(&later);
    // The client has gone on: a copy of its earlier request is late.
    assert_eq!(log.apply(&command), Reply::Unknown);
    // When the record is gone, the deadline is over, too.
    let stamp = LogTime(DEADLINE_MAX_MS + 1);
    for command in [command, later] {
        assert_eq!(log.apply(&Command { stamp, ..command }), Reply::Unknown);
    }
    let session = Some(Session {
        client: ClientId::default(),
        seq: Seq(99),
        deadline: LogTime(stamp.0 + DEADLINE_MAX_MS + 1),
    });
    assert_eq!(log.apply(&Command { stamp, session, op: plan("6", 2) }), Reply::Unknown);
    let without = Command { stamp, session: None, op: plan("6", 2) };
    assert_eq!(log.apply(&without), Reply::Refused { why: Refusal::NoSession });
    assert_eq!(log.controller.moves().len(), 2);
}

#[test]
fn a_store_from_before_the_controller_is_adopted() {
    let controller = Controller::adopting(GroupId(1), vec![NodeId(1)]);
    let configuration = controller.configuration();
    assert_eq!(configuration.epoch(), Epoch(1));
    assert_eq!(configuration.slots_of(Some(GroupId(1))), SlotSet::all());
    assert_eq!(controller.configuration_at(Epoch(1)).as_ref(), Some(configuration));
}

#[test]
fn history_forgets_the_oldest_and_says_so() {
    let mut log = Log::two_groups();
    for number in 0..HISTORY_MAX as u64 + 10 {
        let group = log.controller.configuration().group_ref(GroupId(2)).unwrap();
        let instead_of = log.controller.configuration().group(GroupId(2)).unwrap().nodes.clone();
        let nodes = vec![NodeId(number + 5)];
        assert!(matches!(log.run(Op::Want { group, instead_of, nodes }), Reply::Done { .. }));
    }
    let (oldest, latest) = (log.controller.oldest(), log.controller.configuration().epoch());
    assert_eq!(latest.0 - oldest.0, HISTORY_MAX as u64);
    assert_eq!(log.controller.configuration_at(oldest.prev()), None);
    assert_eq!(log.controller.configuration_at(oldest).unwrap().epoch(), oldest);
    let bytes = log.controller.to_bytes();
    assert_eq!(Controller::from_bytes(&bytes).as_ref(), Ok(&log.controller));
}

/// Operations of which many make sense, one after the other.
fn any_op() -> impl Strategy<Value = Op> {
    let group = || (0..5u32).prop_map(GroupId);
    let reference =
        (0..5u32, 0..4u64).prop_map(|(id, joined)| GroupRef { id: GroupId(id), joined });
    let tag = || {
        let parts = (0..9u64, 1..6u64, 1..4u32);
        parts.prop_map(|(epoch, id, attempt)| Tag {
            epoch: Epoch(epoch),
            id: MoveId(id),
            attempt: Attempt(attempt),
        })
    };
    let nodes = || prop::collection::vec((0..5u64).prop_map(NodeId), 0..3);
    let slots = || {
        let slots = prop::collection::vec(0..40u16, 1..6);
        slots.prop_map(|slots| slots.into_iter().filter_map(Slot::new).collect::<SlotSet>())
    };
    let side = prop_oneof![Just(Side::Source), Just(Side::Target)];
    let then = prop_oneof![Just(Then::Retry), Just(Then::Cancel)];
    let why = prop_oneof![Just(Why::Late), (0..9u64).prop_map(|millis| Why::Skew { millis })];
    prop_oneof![
        prop::collection::vec((group(), nodes()), 1..3).prop_map(|groups| Op::Join { groups }),
        prop::collection::vec(group(), 1..3).prop_map(|groups| Op::Leave { groups }),
        (reference, nodes(), nodes()).prop_map(|(group, instead_of, nodes)| Op::Want {
            group,
            instead_of,
            nodes
        }),
        (prop::option::of((0..9u64).prop_map(Epoch)), slots(), group())
            .prop_map(|(at, slots, to)| Op::Plan { at, parts: vec![(slots, to)] }),
        tag().prop_map(|tag| Op::Commit { tag }),
        (tag(), then, why).prop_map(|(tag, then, why)| Op::Abort { tag, then, why }),
        (tag(), side).prop_map(|(tag, side)| Op::Closed { tag, side }),
        (0..6u64).prop_map(|id| Op::Forget { node: NodeId(id), incarnation: Incarnation(id) }),
        (tag(), slots()).prop_map(|(tag, keep)| Op::Split { tag, keep }),
    ]
}

/// Makes the tags of most operations those that are current.
fn meant(log: &Log, op: Op) -> Op {
    let found = |tag: Tag| match log.controller.answer(tag.id) {
        MoveAnswer::UnderWay(found) if tag.epoch.0 > 1 => Some(found),
        _ => None,
    };
    let current = |tag: Tag| found(tag).map_or(tag, |found| found.tag);
    match op {
        Op::Commit { tag } => Op::Commit { tag: current(tag) },
        Op::Abort { tag, then, why } => Op::Abort { tag: current(tag), then, why },
        Op::Closed { tag, side } => Op::Closed { tag: current(tag), side },
        Op::Split { tag, keep } => {
            let some = found(tag).map(|found| found.slots.iter().take(keep.len()).collect());
            Op::Split { tag: current(tag), keep: some.unwrap_or(keep) }
        }
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Numbers rise by one; owners change by commits and foundings alone; old configurations stay
    /// as they were; a restart from bytes at any point changes nothing; no command doubles.
    #[test]
    fn history_is_what_it_was(ops in prop::collection::vec(any_op(), 1..60)) {
        let mut log = Log::new();
        log.run(join(&[1, 2, 3]));
        let mut seen = vec![log.controller.configuration_at(Epoch(0)).unwrap()];
        seen.push(log.controller.configuration().clone());
        for op in ops {
            let op = meant(&log, op);
            let before = log.controller.configuration().clone();
            let command = log.command(op.clone());
            let read = Command::from_bytes(&command.to_bytes());
            prop_assert_eq!(read.as_ref(), Ok(&command));
            let restarted = Controller::from_bytes(&log.controller.to_bytes());
            let mut restarted = restarted.map_err(|error| TestCaseError::fail(error.to_string()))?;
            let reply = log.apply(&command);
            prop_assert_eq!(restarted.apply(Index(log.index), &command), reply);
            prop_assert_eq!(&restarted, &log.controller);
            let after = log.controller.configuration().clone();
            for epoch in before.epoch().0 + 1..=after.epoch().0 {
                seen.push(log.controller.configuration_at(Epoch(epoch)).unwrap());
            }
            let gives = matches!(op, Op::Commit { .. } | Op::Plan { .. });
            prop_assert!(gives || before.owners == after.owners, "{op:?}");
            let owned = after.groups().all(|(id, _)| id != GroupId(0));
            prop_assert!(owned);
            for (_, _, owner) in after.owners.iter() {
                prop_assert!(owner.is_none_or(|owner| after.group(owner).is_some()));
            }
            // The same again: no effect, whatever it was.
            let state = log.controller.clone();
            log.apply(&command);
            prop_assert_eq!(&state, &log.controller);
        }
        for (epoch, configuration) in seen.iter().enumerate() {
            let found = log.controller.configuration_at(Epoch(epoch as u64));
            prop_assert_eq!(found.as_ref(), Some(configuration));
        }
    }

    /// Damaged bytes are told from whole ones, and never panic.
    #[test]
    fn damage_is_an_error(
        ops in prop::collection::vec(any_op(), 1..12),
        at in any::<prop::sample::Index>(),
        flip in 1..=255u8,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut log = Log::new();
        log.run(join(&[1, 2, 3]));
        for op in &ops {
            log.run(op.clone());
        }
        let mut bytes = log.controller.to_bytes();
        prop_assert!(Controller::from_bytes(&bytes[..cut.index(bytes.len())]).is_err());
        let place = at.index(bytes.len());
        bytes[place] ^= flip;
        prop_assert!(Controller::from_bytes(&bytes).is_err());
        for op in ops {
            let mut bytes = log.command(op).to_bytes();
            prop_assert!(Command::from_bytes(&bytes[..cut.index(bytes.len())]).is_err());
            let place = at.index(bytes.len());
            bytes[place] ^= flip;
            // A command has no checksum: the log has. It may be another command, and no more.
            if let Ok(command) = Command::from_bytes(&bytes) {
                log.apply(&command);
            }
        }
    }
}

#[test]
fn groups_that_begin_together_share_the_slots_evenly() {
    let groups: Vec<_> = (1..=3).map(|id| (GroupId(id), vec![NodeId(u64::from(id))])).collect();
    let controller = Controller::founding(&groups);
    let configuration = controller.configuration();
    assert_eq!(configuration.epoch(), Epoch(1));
    let counts: Vec<_> =
        groups.iter().map(|(id, _)| configuration.slots_of(Some(*id)).len()).collect();
    assert_eq!(counts, [5461, 5461, 5462]);
    assert_eq!(configuration.slots_of(None).len(), 0);
    for (at, (id, _)) in groups.iter().enumerate() {
        assert_eq!(configuration.slots_of(Some(*id)), founding_slots(at, groups.len()));
        let group = configuration.group_ref(*id).unwrap();
        let holdings = crate::Holdings::founding(group, &founding_slots(at, 3));
        assert_eq!(holdings.serving(), founding_slots(at, 3));
    }
    assert_eq!(Controller::from_bytes(&controller.to_bytes()), Ok(controller));
}

#[test]
fn a_node_is_forgotten_when_nothing_needs_it_and_only_its_directory() {
    let groups = [(GroupId(1), vec![NodeId(1), NodeId(2)])];
    let mut controller = Controller::founding(&groups);
    let group = controller.configuration().group_ref(GroupId(1)).unwrap();
    let mut index = 1;
    let mut decide = |controller: &mut Controller, op| {
        index += 1;
        controller.decide(Index(index), LogTime(0), &op)
    };
    let forget = Op::Forget { node: NodeId(2), incarnation: Incarnation(20) };
    let in_use = Reply::Refused { why: Refusal::NodeInUse { node: NodeId(2), group: GroupId(1) } };
    assert_eq!(decide(&mut controller, forget.clone()), in_use);
    let observe = |at, nodes: &[u64]| Op::Observe {
        group,
        at: LogId::new(Term(1), Index(at)),
        nodes: nodes.iter().copied().map(NodeId).collect(),
    };
    decide(&mut controller, observe(5, &[1, 2]));
    let (instead_of, nodes) = (vec![NodeId(1), NodeId(2)], vec![NodeId(1), NodeId(3)]);
    decide(&mut controller, Op::Want { group, instead_of, nodes });
    assert_eq!(decide(&mut controller, forget.clone()), in_use, "its replica is still there");
    decide(&mut controller, observe(9, &[1, 3]));
    let done = Reply::Done { epoch: Epoch(3) };
    assert_eq!(decide(&mut controller, forget.clone()), done);
    assert_eq!(decide(&mut controller, forget), done, "once is enough");
    let now = controller.configuration();
    assert!(now.is_gone(NodeId(2), Incarnation(20)));
    assert!(!now.is_gone(NodeId(2), Incarnation(21)));
    assert!(!controller.configuration_at(Epoch(2)).unwrap().is_gone(NodeId(2), Incarnation(20)));
    assert_eq!(Controller::from_bytes(&controller.to_bytes()), Ok(controller));
}
