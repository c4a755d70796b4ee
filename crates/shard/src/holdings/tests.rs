use kontiki_types::{Epoch, GroupId, Term};
use proptest::prelude::*;

use super::*;
use crate::controller::{Controller, Move, MoveAnswer, Op, Side, Then, Why};
use crate::{Attempt, Command, Session};

/// Rows that only note what was asked of them.
#[derive(Default)]
struct Noted {
    staged: usize,
    sums: Sums,
    dead: Vec<Dead>,
    activated: Option<LogTime>,
}

impl SlotData for Noted {
    fn track(&mut self, _: &SlotSet) {}
    fn untrack(&mut self, _: &SlotSet) {}
    fn freeze(&mut self, _: &SlotSet) {}
    fn thaw(&mut self, _: &SlotSet) {}
    fn open(&mut self, _: &SlotSet, _: SlotIncarnation) {
        self.staged = 0;
    }

    fn stage(&mut self, _: &SlotSet, _: SlotIncarnation, payload: &[u8]) -> Result<(), BadPayload> {
        self.staged += 1;
        if payload == b"not readable" { Err(BadPayload) } else { Ok(()) }
    }

    fn sums(&self, _: &SlotSet, _: SlotIncarnation) -> Sums {
        self.sums
    }

    fn activate(&mut self, _: &SlotSet, _: SlotIncarnation, time: LogTime) {
        self.activated = Some(time);
    }

    fn retire(&mut self, dead: &Dead) {
        self.dead.push(dead.clone());
    }
}

/// A controller, and the two groups of a move of slots 5 to 9 from 1 to 2.
struct Scene {
    controller: Controller,
    index: u64,
    source: Holdings,
    target: Holdings,
    source_data: Noted,
    target_data: Noted,
}

impl Scene {
    fn new() -> Self {
        let mut controller = Controller::adopting(GroupId(1), Vec::new());
        let join = Op::Join { groups: vec![(GroupId(2), Vec::new())] };
        controller.apply(Index(3), &request(1, join));
        let slots = "5-9".parse().unwrap();
        let plan = Op::Plan { at: None, parts: vec![(slots, GroupId(2))] };
        controller.apply(Index(4), &request(2, plan));
        Self {
            controller,
            index: 4,
            source: Holdings::of_everything(GroupRef { id: GroupId(1), joined: 0 }),
            target: Holdings::new(GroupRef { id: GroupId(2), joined: 3 }),
            source_data: Noted::default(),
            target_data: Noted::default(),
        }
    }

    fn found(&self) -> Move {
        match self.controller.answer(MoveId(1)) {
            MoveAnswer::UnderWay(found) => found,
            other => panic!("{other:?}"),
        }
    }

    fn decide(&mut self, op: Op) {
        self.index += 1;
        let command = Command { stamp: LogTime(0), session: None, op };
        self.controller.apply(Index(self.index), &command);
    }

    fn at_source(&mut self, op: GroupOp) -> Verdict {
        let command = GroupCommand { group: self.source.group(), tag: self.found().tag, op };
        let entry = Entry { index: Index(10), time: LogTime(500) };
        self.source.apply(entry, &command, &mut self.source_data)
    }

    fn at_target(&mut self, op: GroupOp) -> Verdict {
        let command = GroupCommand { group: self.target.group(), tag: self.found().tag, op };
        self.target.apply(entry(500), &command, &mut self.target_data)
    }

    fn open(&mut self) {
        let Move { slots, incarnation, .. } = self.found();
        let export = GroupOp::ExportOpen { slots: slots.clone() };
        assert_eq!(self.at_source(export), Verdict::Done);
        assert_eq!(self.at_target(GroupOp::ImportOpen { slots, incarnation }), Verdict::Done);
    }
}

fn request(number: u64, op: Op) -> Command {
    let session = Session { client: Default::default(), seq: number.into(), deadline: LogTime(0) };
    Command { stamp: LogTime(0), session: Some(session), op }
}

fn entry(time: u64) -> Entry {
    Entry { index: Index(20), time: LogTime(time) }
}

fn slot(number: u16) -> Slot {
    Slot::new(number).unwrap()
}

fn chunk(term: u64, number: u64) -> GroupOp {
    let reached = Reached { rows: Cursor::Done, changes: Index(number), closing: Cursor::START };
    let payload = bytes::Bytes::from_static(b"rows");
    let checksum = crc32c::crc32c(&payload);
    GroupOp::Chunk { place: Place { term: Term(term), number }, reached, payload, checksum }
}

fn complete(term: u64, number: u64, sent_at: u64) -> GroupOp {
    let place = Place { term: Term(term), number };
    let frozen_at = LogTime(400);
    GroupOp::ImportComplete { place, sums: Sums::default(), frozen_at, sent_at: LogTime(sent_at) }
}

const VOID: fn(Void) -> Verdict = Verdict::Void;

#[test]
fn a_slot_is_served_frozen_and_gone_as_its_log_says() {
    let mut scene = Scene::new();
    scene.open();
    assert_eq!(scene.source.gate(slot(7)), Gate::Open);
    assert_eq!(scene.at_source(GroupOp::Freeze), Verdict::Done);
    assert_eq!(scene.at_source(GroupOp::Freeze), VOID(Void::Already));
    assert_eq!(scene.source.gate(slot(7)), Gate::Wait);
    assert_eq!(scene.source.gate(slot(4)), Gate::Open);
    assert_eq!(scene.at_target(chunk(1, 0)), Verdict::Done);
    assert_eq!(scene.at_target(complete(1, 1, 450)), Verdict::Done);
    assert_eq!(scene.target.gate(slot(7)), Gate::Away);
    let tag = scene.found().tag;
    scene.decide(Op::Commit { tag });
    let found = scene.found();
    let cites = found.committed().unwrap();
    let Move { slots, incarnation, .. } = found;
    let activate = GroupOp::Activate { cites, slots, incarnation, is_founding: false };
    assert_eq!(scene.at_target(activate.clone()), Verdict::Done);
    assert_eq!(scene.target.gate(slot(7)), Gate::Open);
    assert_eq!(scene.target.incarnation(slot(7)), Some(SlotIncarnation(4)));
    // The log time is that of the freeze at least.
    assert_eq!(scene.target_data.activated, Some(LogTime(400)));
    assert_eq!(scene.at_target(activate), VOID(Void::Old));
    assert_eq!(scene.at_source(GroupOp::Drop { cites }), Verdict::Done);
    assert_eq!(scene.source.gate(slot(7)), Gate::Away);
    let [dead] = &scene.source_data.dead[..] else { panic!() };
    assert!(dead.covers(SlotIncarnation(0)) && !dead.covers(incarnation));
    assert!(scene.source.is_closed(tag, dead.slots()));
}

#[test]
fn what_is_meant_for_another_life_of_the_group_has_no_effect() {
    let mut scene = Scene::new();
    let other = GroupRef { joined: 1, ..scene.source.group() };
    let found = scene.found();
    let op = GroupOp::ExportOpen { slots: found.slots };
    let command = GroupCommand { group: other, tag: found.tag, op };
    let verdict = scene.source.apply(entry(0), &command, &mut scene.source_data);
    assert_eq!(verdict, VOID(Void::OtherGroup));
}

#[test]
fn an_earlier_attempt_has_no_effect_after_a_later_one() {
    let mut scene = Scene::new();
    let first = scene.found();
    scene.open();
    scene.decide(Op::Abort { tag: first.tag, then: Then::Retry, why: Why::Late });
    let second = scene.found();
    let cites = second.aborted().unwrap();
    // A second attempt waits for the end of the first.
    let open = GroupOp::ExportOpen { slots: first.slots.clone() };
    assert_eq!(scene.at_source(open.clone()), VOID(Void::NotReady));
    let group = scene.source.group();
    let unfreeze = GroupOp::Unfreeze { cites, slots: first.slots.clone() };
    let close = GroupCommand { group, tag: first.tag, op: unfreeze.clone() };
    let verdict = scene.source.apply(entry(0), &close, &mut scene.source_data);
    assert_eq!(verdict, Verdict::Done);
    // What it cites says nothing of the second attempt.
    assert_eq!(scene.at_source(unfreeze), VOID(Void::NotCited));
    assert_eq!(scene.at_source(open.clone()), Verdict::Done);
    let late = GroupCommand { group, tag: first.tag, op: open };
    assert_eq!(scene.source.apply(entry(0), &late, &mut scene.source_data), VOID(Void::Old));
    // At the target the later attempt takes the place of the earlier one, and frees its rows.
    let Move { slots, incarnation, .. } = second;
    assert_eq!(scene.at_target(GroupOp::ImportOpen { slots, incarnation }), Verdict::Done);
    assert!(scene.target_data.dead[0].covers(first.incarnation));
    let late = GroupCommand { group: scene.target.group(), tag: first.tag, op: chunk(1, 0) };
    assert_eq!(scene.target.apply(entry(0), &late, &mut scene.target_data), VOID(Void::Old));
}

#[test]
fn chunks_are_taken_in_sequence_and_a_later_leader_begins_another() {
    let mut scene = Scene::new();
    scene.open();
    assert_eq!(scene.at_target(chunk(3, 1)), VOID(Void::OutOfSequence));
    assert_eq!(scene.at_target(chunk(3, 0)), Verdict::Done);
    assert_eq!(scene.at_target(chunk(3, 0)), VOID(Void::OutOfSequence));
    assert_eq!(scene.at_target(chunk(3, 1)), Verdict::Done);
    assert_eq!(scene.at_target(chunk(5, 2)), VOID(Void::OutOfSequence));
    assert_eq!(scene.at_target(chunk(5, 0)), Verdict::Done);
    assert_eq!(scene.at_target(chunk(3, 2)), VOID(Void::OutOfSequence));
    assert_eq!(scene.target_data.staged, 3);
    let tag = scene.found().tag;
    let status = scene.target.status(tag, &scene.found().slots, LogTime(9));
    assert_eq!(status.import.unwrap().next, Place { term: Term(5), number: 1 });
}

#[test]
fn damage_has_no_effect_and_nonsense_ends_the_attempt() {
    let mut scene = Scene::new();
    scene.open();
    let GroupOp::Chunk { place, reached, payload, checksum } = chunk(1, 0) else { panic!() };
    let damaged =
        GroupOp::Chunk { place, reached: reached.clone(), payload, checksum: checksum ^ 1 };
    assert_eq!(scene.at_target(damaged), VOID(Void::Damaged));
    let payload = bytes::Bytes::from_static(b"not readable");
    let checksum = crc32c::crc32c(&payload);
    let nonsense = GroupOp::Chunk { place, reached, payload, checksum };
    assert_eq!(scene.at_target(nonsense), Verdict::Done);
    let why = Why::Unreadable;
    assert_eq!(scene.target.import(MoveId(1)).unwrap().stage, ImportStage::Failed { why });
    assert_eq!(scene.at_target(chunk(1, 1)), VOID(Void::Already));
}

#[test]
fn sums_that_differ_and_clocks_that_are_apart_end_the_attempt() {
    for (sums, sent_at, why) in [
        (Sums { keys: 1, ..Sums::default() }, 500, Why::SumsDiffer),
        (Sums { rows: 1, ..Sums::default() }, 500, Why::SumsDiffer),
        (Sums { records: 1, ..Sums::default() }, 500, Why::SumsDiffer),
        (Sums::default(), 0, Why::Skew { millis: 1500 }),
    ] {
        let mut scene = Scene::new();
        scene.open();
        scene.target_data.sums = sums;
        let time = if sent_at == 0 { 1500 } else { 500 };
        let op = complete(1, 0, sent_at);
        let command = GroupCommand { group: scene.target.group(), tag: scene.found().tag, op };
        let verdict = scene.target.apply(entry(time), &command, &mut scene.target_data);
        assert_eq!(verdict, Verdict::Done);
        assert_eq!(scene.target.import(MoveId(1)).unwrap().stage, ImportStage::Failed { why });
    }
}

#[test]
fn a_cancelled_move_is_closed_also_where_it_was_never_opened() {
    let mut scene = Scene::new();
    let tag = scene.found().tag;
    scene.decide(Op::Abort { tag, then: Then::Cancel, why: Why::Asked });
    let Move { slots, incarnation, .. } = scene.found();
    let cites = scene.found().aborted().unwrap();
    let unfreeze = GroupOp::Unfreeze { cites, slots: slots.clone() };
    assert_eq!(scene.at_source(unfreeze.clone()), Verdict::Done);
    assert_eq!(scene.at_source(unfreeze), VOID(Void::Already));
    assert_eq!(scene.at_target(GroupOp::Discard { cites, slots: slots.clone() }), Verdict::Done);
    // What comes late finds the door shut.
    let export = GroupOp::ExportOpen { slots: slots.clone() };
    assert_eq!(scene.at_source(export), VOID(Void::Old));
    assert_eq!(scene.at_target(GroupOp::ImportOpen { slots, incarnation }), VOID(Void::Old));
    scene.decide(Op::Closed { tag, side: Side::Source });
    scene.decide(Op::Closed { tag, side: Side::Target });
    assert!(
        matches!(scene.controller.answer(MoveId(1)), MoveAnswer::Finished(end) if !end.is_done)
    );
}

fn any_state() -> impl Strategy<Value = Holdings> {
    let steps = prop::collection::vec((0..8u8, 0..4u64), 0..12);
    steps.prop_map(|steps| {
        let mut scene = Scene::new();
        for (what, number) in steps {
            let Move { slots, incarnation, .. } = scene.found();
            match what {
                0 => drop(scene.at_source(GroupOp::ExportOpen { slots })),
                1 => drop(scene.at_source(GroupOp::Freeze)),
                2 => drop(scene.at_target(GroupOp::ImportOpen { slots, incarnation })),
                3 => drop(scene.at_target(complete(1, number, 450))),
                _ => drop(scene.at_target(chunk(1, number))),
            }
        }
        if scene.source.exports().len() > 0 { scene.source } else { scene.target }
    })
}

fn any_tag() -> impl Strategy<Value = Tag> {
    (any::<u64>(), any::<u64>(), any::<u32>()).prop_map(|(epoch, id, attempt)| Tag {
        epoch: Epoch(epoch),
        id: MoveId(id),
        attempt: Attempt(attempt),
    })
}

fn any_op() -> impl Strategy<Value = GroupOp> {
    let committed = || any_tag().prop_map(crate::Committed::forged);
    let aborted = || any_tag().prop_map(crate::Aborted::forged);
    let slots = || {
        let slots = prop::collection::vec(0..16384u16, 0..6);
        slots.prop_map(|slots| slots.into_iter().filter_map(Slot::new).collect::<SlotSet>())
    };
    let payload = prop::collection::vec(any::<u8>(), 0..40).prop_map(bytes::Bytes::from);
    prop_oneof![
        slots().prop_map(|slots| GroupOp::ExportOpen { slots }),
        Just(GroupOp::Freeze),
        (aborted(), slots()).prop_map(|(cites, slots)| GroupOp::Unfreeze { cites, slots }),
        committed().prop_map(|cites| GroupOp::Drop { cites }),
        (slots(), any::<u64>()).prop_map(|(slots, life)| GroupOp::ImportOpen {
            slots,
            incarnation: SlotIncarnation(life)
        }),
        (any::<u64>(), payload, any::<u32>()).prop_map(|(number, payload, checksum)| {
            let place = Place { term: Term(number), number };
            let rows = Cursor::At { place: payload.clone() };
            let reached = Reached { rows, changes: Index(number), closing: Cursor::Done };
            GroupOp::Chunk { place, reached, payload, checksum }
        }),
        (0..9u64).prop_map(|number| complete(number, number, number)),
        (committed(), slots(), any::<bool>()).prop_map(|(cites, slots, is_founding)| {
            let incarnation = SlotIncarnation(7);
            GroupOp::Activate { cites, slots, incarnation, is_founding }
        }),
        (aborted(), slots()).prop_map(|(cites, slots)| GroupOp::Discard { cites, slots }),
    ]
}

proptest! {
    #[test]
    fn states_survive_their_bytes_and_damage_is_an_error(
        state in any_state(),
        at in any::<prop::sample::Index>(),
        flip in 1..=255u8,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = state.to_bytes();
        prop_assert_eq!(Holdings::from_bytes(&bytes), Ok(state));
        prop_assert!(Holdings::from_bytes(&bytes[..cut.index(bytes.len())]).is_err());
        let place = at.index(bytes.len());
        bytes[place] ^= flip;
        prop_assert!(Holdings::from_bytes(&bytes).is_err());
    }

    #[test]
    fn commands_survive_their_bytes_and_damage_never_panics(
        op in any_op(),
        tag in any_tag(),
        at in any::<prop::sample::Index>(),
        flip in 1..=255u8,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut scene = Scene::new();
        let command = GroupCommand { group: scene.source.group(), tag, op };
        let mut bytes = command.to_bytes();
        prop_assert_eq!(GroupCommand::from_bytes(&bytes), Ok(command.clone()));
        prop_assert!(GroupCommand::from_bytes(&bytes[..cut.index(bytes.len())]).is_err());
        scene.source.apply(entry(0), &command, &mut scene.source_data);
        let place = at.index(bytes.len());
        bytes[place] ^= flip;
        if let Ok(command) = GroupCommand::from_bytes(&bytes) {
            scene.source.apply(entry(0), &command, &mut scene.source_data);
        }
    }

    #[test]
    fn any_bytes_at_all_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = GroupCommand::from_bytes(&bytes);
        let _ = Command::from_bytes(&bytes);
        let _ = Holdings::from_bytes(&bytes);
        let _ = Controller::from_bytes(&bytes);
    }
}
