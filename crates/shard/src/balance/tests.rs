use kontiki_types::{ClientId, Index, LogTime, Seq};
use proptest::prelude::*;

use super::*;
use crate::{Command, Controller, MoveAnswer, Op, Reply, Session, Side};

/// A controller whose moves are carried out at once.
struct Cluster {
    controller: Controller,
    requests: u64,
}

impl Cluster {
    fn new() -> Self {
        Self { controller: Controller::new(), requests: 0 }
    }

    fn apply(&mut self, op: Op) -> Reply {
        self.requests += 1;
        let (client, seq) = (ClientId::default(), Seq(self.requests));
        let session = op.needs_session().then_some(Session { client, seq, deadline: LogTime(0) });
        let command = Command { stamp: LogTime(0), session, op };
        self.controller.apply(Index(self.requests), &command)
    }

    fn plan(&self, loads: &Loads) -> Vec<(SlotSet, GroupId)> {
        plan(self.controller.configuration(), self.controller.moves(), loads)
    }

    fn counts(&self) -> BTreeMap<GroupId, usize> {
        let configuration = self.controller.configuration();
        let groups = configuration.groups();
        groups.map(|(id, _)| (id, configuration.slots_of(Some(id)).len())).collect()
    }

    fn carry_out(&mut self, parts: Vec<(SlotSet, GroupId)>) {
        if parts.is_empty() {
            return;
        }
        let count = parts.len() as u64;
        let at = Some(self.controller.configuration().epoch());
        let reply = self.apply(Op::Plan { at, parts });
        let Reply::Planned { first, .. } = reply else { panic!("{reply:?}") };
        for id in (first.0..first.0 + count).map(crate::MoveId) {
            let MoveAnswer::UnderWay(found) = self.controller.answer(id) else { panic!() };
            if found.phase == Phase::Planned {
                self.apply(Op::Commit { tag: found.tag });
            }
            self.apply(Op::Closed { tag: found.tag, side: Side::Source });
            self.apply(Op::Closed { tag: found.tag, side: Side::Target });
        }
    }
}

fn group(number: u32) -> (GroupId, Vec<kontiki_types::NodeId>) {
    (GroupId(number), Vec::new())
}

/// What a plan must be on this configuration, whatever came before.
fn check(cluster: &Cluster, parts: &[(SlotSet, GroupId)]) {
    let configuration = cluster.controller.configuration();
    let staying = configuration.groups().filter(|(_, group)| !group.is_leaving);
    let mut counts: Vec<usize> =
        staying.map(|(id, _)| configuration.slots_of(Some(id)).len()).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let (each, more) = (usize::from(SLOTS) / counts.len(), usize::from(SLOTS) % counts.len());
    // What the largest hold beyond an even share must move, and what nobody who stays holds.
    let beyond = counts.iter().enumerate();
    let beyond: usize =
        beyond.map(|(at, count)| count.saturating_sub(each + usize::from(at < more))).sum();
    let homeless = usize::from(SLOTS) - counts.iter().sum::<usize>();
    let moved: usize = parts.iter().map(|(slots, _)| slots.len()).sum();
    assert_eq!(moved, beyond + homeless, "not the fewest slots are moved");
    for (at, (slots, _)) in parts.iter().enumerate() {
        let others = &parts[at + 1..];
        assert!(others.iter().all(|(other, _)| other.first_common(slots).is_none()));
    }
}

#[test]
fn the_first_groups_share_all_slots_and_a_third_takes_a_third() {
    let mut cluster = Cluster::new();
    cluster.apply(Op::Join { groups: vec![group(1), group(2)] });
    let parts = cluster.plan(&Loads::new());
    assert_eq!(parts.iter().map(|(slots, _)| slots.len()).collect::<Vec<_>>(), [8192, 8192]);
    assert!(parts.iter().all(|(slots, _)| slots.ranges().len() == 1));
    cluster.carry_out(parts);
    cluster.apply(Op::Join { groups: vec![group(3)] });
    let parts = cluster.plan(&Loads::new());
    assert!(parts.iter().all(|(_, to)| *to == GroupId(3)));
    check(&cluster, &parts);
    cluster.carry_out(parts);
    assert_eq!(cluster.counts().into_values().collect::<Vec<_>>(), [5462, 5461, 5461]);
    cluster.apply(Op::Leave { groups: vec![GroupId(1)] });
    let parts = cluster.plan(&Loads::new());
    check(&cluster, &parts);
    cluster.carry_out(parts);
    assert_eq!(cluster.counts().into_values().collect::<Vec<_>>(), [8192, 8192]);
    assert!(cluster.plan(&Loads::new()).is_empty());
}

#[test]
fn more_groups_than_slots_are_no_trouble() {
    let mut cluster = Cluster::new();
    cluster.apply(Op::Join { groups: (1..=4000).map(group).collect() });
    let parts = cluster.plan(&Loads::new());
    let counts: Vec<usize> = parts.iter().map(|(slots, _)| slots.len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), usize::from(SLOTS));
    assert!(counts.iter().all(|count| (4..=5).contains(count)));
}

#[test]
fn what_is_on_its_way_counts_where_it_goes() {
    let mut cluster = Cluster::new();
    cluster.apply(Op::Join { groups: vec![group(1), group(2)] });
    cluster.carry_out(cluster.plan(&Loads::new()));
    cluster.apply(Op::Join { groups: vec![group(3)] });
    let parts = cluster.plan(&Loads::new());
    cluster.apply(Op::Plan { at: None, parts });
    assert!(cluster.plan(&Loads::new()).is_empty());
    assert_eq!(may_go_on(cluster.controller.moves()).len(), 2);
}

#[test]
fn the_work_goes_where_it_is_lacking() {
    let mut cluster = Cluster::new();
    cluster.apply(Op::Join { groups: vec![group(1)] });
    cluster.carry_out(cluster.plan(&Loads::new()));
    cluster.apply(Op::Join { groups: vec![group(2)] });
    // All the work is in the first 100 slots.
    let hot = (0..100).filter_map(Slot::new);
    let loads: Loads = hot.map(|slot| (slot, SlotLoad { bytes: 0, work: 10 })).collect();
    let parts = cluster.plan(&loads);
    let [(slots, GroupId(2))] = &parts[..] else { panic!("{parts:?}") };
    let moved: u64 = slots.iter().filter_map(|slot| loads.get(&slot)).map(|load| load.work).sum();
    assert_eq!((slots.len(), slots.ranges().len(), moved), (8192, 1, 500));
}

#[test]
fn parts_are_no_larger_than_they_may_be() {
    let slots = SlotSet::all();
    let parts = [(slots.clone(), GroupId(2))];
    let even = cut(&parts, &Loads::new(), Cut::default());
    assert_eq!(even.len(), 64);
    let loads: Loads =
        slots.iter().map(|slot| (slot, SlotLoad { bytes: 30 << 20, work: 0 })).collect();
    let large = cut(&parts, &loads, Cut::default());
    assert!(large.iter().all(|(slots, _)| slots.len() == 2));
    let small = Cut { bytes_max: 1, ..Cut::default() };
    assert!(cut(&parts, &loads, small).iter().all(|(slots, _)| slots.len() == 1));
    let again: SlotSet = large.iter().flat_map(|(slots, _)| slots.iter()).collect();
    assert_eq!(again, slots);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever joins, leaves and is loaded how: the fewest slots move, the outcome is even, and
    /// planning on it gives nothing.
    #[test]
    fn plans_are_even_minimal_and_the_same_again(
        changes in prop::collection::vec((0..3u8, 1..9u32), 1..12),
        work in prop::collection::btree_map(0..SLOTS, 0..1000u64, 0..50),
    ) {
        let loads: Loads = work
            .iter()
            .filter_map(|(slot, work)| Slot::new(*slot).map(|slot| (slot, *work)))
            .map(|(slot, work)| (slot, SlotLoad { bytes: work, work }))
            .collect();
        let mut cluster = Cluster::new();
        for (what, id) in changes {
            match what {
                0 => cluster.apply(Op::Leave { groups: vec![GroupId(id)] }),
                _ => cluster.apply(Op::Join { groups: vec![group(id)] }),
            };
            if cluster.controller.configuration().groups().len() == 0 {
                continue;
            }
            let parts = cluster.plan(&loads);
            prop_assert_eq!(&parts, &cluster.plan(&loads));
            check(&cluster, &parts);
            let cut = cut(&parts, &loads, Cut::default());
            prop_assert!(cut.iter().all(|(slots, _)| slots.len() <= 256));
            cluster.carry_out(cut);
            let counts = cluster.counts();
            let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
            prop_assert!(most - least <= 1, "{counts:?}");
            prop_assert!(cluster.plan(&loads).is_empty());
        }
    }
}
