//! The sharded store's suites of 2024 and 2025.

use std::time::Duration;

use kontiki_kv::command::{Parsed, parse};
use kontiki_replica::Target;
use kontiki_replica::steward::CONTROLLER;
use kontiki_shard::{Op, Phase, SlotSet};
use kontiki_types::{GroupId, Slot};

use super::town::{MOVED_WITHIN, Town};
use crate::invariants::{Checked, Violation};
use crate::labs::store::Appenders;
use crate::labs::{Lab, fails, lab};

pub(in crate::labs) const SUITE: &[Lab] = &[
    lab(
        "lab-shardkv-static-shards",
        "2 groups, one shut: exactly the other's keys are answered in 2 s; then all",
        static_shards,
    ),
    lab(
        "lab-shardkv-rejection",
        "a group that does not have the slot is asked by name: nothing takes effect there",
        rejection,
    ),
    lab(
        "lab-shardkv-leave",
        "a group leaves and is shut a second later: all of its data is with the others",
        leave,
    ),
    lab(
        "lab-shardkv-snapshot",
        "30 keys, 1000 B of log: moves, all restarted, all there",
        snapshot,
    ),
    lab(
        "lab-shardkv-miss-change",
        "one node of each group down through 4 changes, then another through 2 more",
        miss_change,
    ),
    lab(
        "lab-shardkv-concurrent-restarts",
        "10 clerks append, slots go back and forth, all groups restarted in mid-move",
        |seed| appends(seed, Kind::Restarts),
    ),
    lab(
        "lab-shardkv-concurrent",
        "10 clerks append while slots go back and forth: each once, in order",
        |seed| appends(seed, Kind::Good),
    ),
    lab("lab-shardkv-unreliable", "the same over an unreliable network", |seed| {
        appends(seed, Kind::Unreliable)
    }),
    lab(
        "lab-shardkv-delete",
        "30 keys of 1000 B go and come back: at the end each group needs bytes for its own only",
        delete,
    ),
    lab(
        "lab-shardkv-unaffected",
        "a move whose target is shut cannot end: keys of other slots are served in 2 s",
        unaffected,
    ),
    lab(
        "lab-shardkv-partial",
        "of two moves one cannot end: the slots of the other are served at once",
        partial,
    ),
    lab(
        "lab-shardkv-move-waits-for-its-group",
        "a move does not end while its source is down, and does within 5 s after",
        waits,
    ),
    lab(
        "lab-shardkv-recover-controller",
        "5 times the controller's leader is cut off in mid-move: another one ends it, no harm after",
        recover_controller,
    ),
];

fn of_group(known: &kontiki_shard::Configuration, keys: &[String], group: GroupId) -> Vec<String> {
    let is_its = |key: &&String| known.owner(Slot::of(key.as_bytes())) == Some(group);
    let mut keys: Vec<String> = keys.iter().filter(is_its).cloned().collect();
    keys.sort();
    keys
}

fn static_shards(seed: u64) -> Checked {
    let mut town = Town::new(seed, 2, None)?;
    let keys = town.fill(10, 10)?;
    let known = town.configuration()?;
    town.shut(GroupId(1));
    let expected = of_group(&known, &keys, GroupId(2));
    demand!(!expected.is_empty() && expected.len() < 10, "all keys are in one group");
    let answered = town.answered(&keys, 10, Duration::from_secs(2))?;
    demand_eq!(answered, expected, "what is answered");
    town.start(GroupId(1))?;
    town.check(&keys, 10)
}

/// A key of `keys` that is not `group`'s.
fn of_another(
    known: &kontiki_shard::Configuration,
    keys: &[String],
    group: GroupId,
) -> Result<String, Violation> {
    let found = keys.iter().find(|key| known.owner(Slot::of(key.as_bytes())) != Some(group));
    found.cloned().map_or_else(|| fails("all keys are in one group".to_owned()), Ok)
}

fn rejection(seed: u64) -> Checked {
    let mut town = Town::new(seed, 2, None)?;
    let keys = town.fill(10, 10)?;
    let known = town.configuration()?;
    let key = of_another(&known, &keys, GroupId(1))?;
    // Whoever has it is shut, so that an answer could come from the wrong group alone.
    town.shut(GroupId(2));
    for words in [["GET", key.as_str(), ""], ["SET", key.as_str(), "wrong"]] {
        let words: Vec<bytes::Bytes> = words
            .iter()
            .filter(|word| !word.is_empty())
            .map(|word| word.to_string().into())
            .collect();
        let clerk = town.service.clerk();
        let Ok(command) = parse(&words, 0) else { return fails(format!("{words:?}")) };
        let is_write = matches!(command, Parsed::Write(_));
        town.service.begin_at(clerk, command, Some(Target::Group(GroupId(1))));
        let end = town.service.cluster.now() + Duration::from_secs(3);
        if let Some(event) = town.service.next(end)? {
            return fails(format!("{event:?}, by a group that does not have {key}"));
        }
        if !is_write {
            town.service.abandon(clerk);
            continue;
        }
        town.start(GroupId(2))?;
        // The write goes to the owner, and there it takes effect once.
        town.service.finish(clerk)?;
        let reader = town.service.clerk();
        demand_eq!(&town.service.get(reader, &key)?[..], &b"wrong"[..], "the value");
        let append = town.service.ask(reader, &["SET", &key, &key.repeat(10)[..10]])?;
        demand_eq!(append, kontiki_kv::Reply::Ok, "a put");
    }
    Ok(())
}

fn leave(seed: u64) -> Checked {
    let mut town = Town::new(seed, 3, None)?;
    let keys = town.fill(30, 50)?;
    town.leave(GroupId(1))?;
    town.service.cluster.run(Duration::from_secs(1))?;
    town.shut(GroupId(1));
    town.check(&keys, 50)
}

/// Slots with keys go to the next group each.
fn rotate(town: &mut Town, keys: &[String], groups: u32) -> Checked {
    let known = town.configuration()?;
    let mut parts = Vec::new();
    for group in (1..=groups).map(GroupId) {
        let slots = of_group(&known, keys, group);
        let slots: SlotSet = slots.iter().map(|key| Slot::of(key.as_bytes())).collect();
        if !slots.is_empty() {
            parts.push((slots, GroupId(group.0 % groups + 1)));
        }
    }
    town.plan(parts)
}

fn snapshot(seed: u64) -> Checked {
    let mut town = Town::new(seed, 3, Some(1000))?;
    let keys = town.fill(30, 20)?;
    for _ in 0..4 {
        rotate(&mut town, &keys, 3)?;
        town.moved(MOVED_WITHIN)?;
        town.check(&keys, 20)?;
    }
    town.service.crash_all();
    town.service.start_all()?;
    town.check(&keys, 20)
}

fn miss_change(seed: u64) -> Checked {
    let mut town = Town::new(seed, 3, Some(1000))?;
    let keys = town.fill(12, 20)?;
    for (which, changes) in [(0, 4), (1, 2)] {
        let down: Vec<_> = (0..=3).map(|group| Town::nodes(GroupId(group))[which]).collect();
        down.iter().for_each(|&node| town.service.crash(node));
        for _ in 0..changes {
            rotate(&mut town, &keys, 3)?;
            town.moved(MOVED_WITHIN)?;
            town.check(&keys, 20)?;
        }
        down.into_iter().try_for_each(|node| town.service.start(node))?;
        town.check(&keys, 20)?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    Restarts,
    Unreliable,
}

fn appends(seed: u64, kind: Kind) -> Checked {
    let mut town = Town::new(seed, 3, Some(3000))?;
    if kind == Kind::Unreliable {
        town.service.make_unreliable();
    }
    let mut appenders = Appenders::new(&mut town.service, 10)?;
    let operator = town.operator;
    let mut moved = 0;
    for round in 0..12 {
        // Where messages are lost, the operator may be busy with one move for some rounds.
        if round >= 6 && moved > 3 {
            break;
        }
        let Some(known) = town.service.cluster.configuration() else {
            return fails("no configuration is known".to_owned());
        };
        let from = GroupId(round % 3 + 1);
        let parts = vec![(known.slots_of(Some(from)), GroupId((round + 1) % 3 + 1))];
        if !town.service.is_busy(operator) && !parts[0].0.is_empty() {
            town.begin(operator, Op::Plan { at: None, parts });
            moved += 1;
        }
        let time = town.service.cluster.random().time(Duration::ZERO, Duration::from_millis(300));
        appenders.run(&mut town.service, time)?;
        if kind == Kind::Restarts {
            for group in (1..=3).map(GroupId) {
                town.shut(group);
            }
            appenders.run(&mut town.service, Duration::from_millis(300))?;
            town.service.start_all()?;
        }
        appenders.run(&mut town.service, Duration::from_secs(2))?;
    }
    demand!(moved > 3, "only {moved} moves were asked for");
    town.service.make_reliable();
    appenders.run(&mut town.service, Duration::from_secs(1))?;
    appenders.stop(&mut town.service)?;
    town.moved(MOVED_WITHIN)?;
    let epoch = town.configuration()?.epoch();
    demand!(epoch.0 > 3, "slots have changed hands up to epoch {epoch} only");
    let nodes = town.service.cluster.node_ids();
    appenders.check(&mut town.service, &nodes)
}

fn delete(seed: u64) -> Checked {
    let mut town = Town::new(seed, 2, Some(1))?;
    let keys = town.fill(30, 1000)?;
    for _ in 0..4 {
        rotate(&mut town, &keys, 2)?;
        town.moved(MOVED_WITHIN)?;
    }
    town.check(&keys, 1000)?;
    town.service.cluster.run(Duration::from_secs(3))?;
    let mut bytes = 0;
    for group in [GroupId(1), GroupId(2)] {
        for node in Town::nodes(group) {
            bytes += town.service.cluster.live_bytes_of(group, node);
        }
    }
    // That of the suite: three replicas of the values, of a few in the log, and of the rest.
    demand!(bytes <= 117_000, "{bytes} bytes are needed for 30,000 on three replicas");
    Ok(())
}

/// Moves everything of a group, which cannot end since its target is shut.
fn stuck(town: &mut Town, from: GroupId, to: GroupId) -> Checked {
    let known = town.configuration()?;
    town.shut(to);
    town.plan(vec![(known.slots_of(Some(from)), to)])
}

fn unaffected(seed: u64) -> Checked {
    let mut town = Town::new(seed, 3, Some(3000))?;
    let keys = town.fill(30, 20)?;
    let known = town.configuration()?;
    let third = of_group(&known, &keys, GroupId(3));
    stuck(&mut town, GroupId(1), GroupId(2))?;
    demand!(!third.is_empty(), "no key is in the third group");
    for _ in 0..3 {
        let answered = town.answered(&third, 20, Duration::from_secs(2))?;
        demand_eq!(answered, third, "what is answered");
    }
    let moves = town.service.cluster.moves().unwrap_or_default();
    demand!(moves.len() == 1, "{moves:?} are under way");
    town.start(GroupId(2))?;
    town.moved(MOVED_WITHIN)?;
    town.check(&keys, 20)
}

fn partial(seed: u64) -> Checked {
    let mut town = Town::new(seed, 3, Some(3000))?;
    let keys = town.fill(30, 20)?;
    let known = town.configuration()?;
    let moving = of_group(&known, &keys, GroupId(1));
    let (half, rest) = moving.split_at(moving.len() / 2);
    demand!(!half.is_empty(), "no key is in the first group");
    let slots = |keys: &[String]| keys.iter().map(|key| Slot::of(key.as_bytes())).collect();
    town.shut(GroupId(2));
    town.plan(vec![(slots(rest), GroupId(2)), (slots(half), GroupId(3))])?;
    town.service.cluster.run(Duration::from_secs(1))?;
    for key in half {
        demand_eq!(town.owner(key)?, GroupId(3), "the owner");
    }
    let answered = town.answered(half, 20, Duration::from_secs(2))?;
    demand_eq!(answered, half.to_vec(), "what is answered");
    town.start(GroupId(2))?;
    town.moved(MOVED_WITHIN)?;
    town.check(&keys, 20)
}

fn waits(seed: u64) -> Checked {
    let mut town = Town::new(seed, 2, Some(3000))?;
    let keys = town.fill(20, 20)?;
    let known = town.configuration()?;
    town.shut(GroupId(1));
    town.plan(vec![(known.slots_of(Some(GroupId(1))), GroupId(2))])?;
    town.service.cluster.run(Duration::from_secs(4))?;
    let moves = town.service.cluster.moves().unwrap_or_default();
    let [one] = &moves[..] else { return fails(format!("{moves:?} are under way")) };
    demand_eq!(one.phase, Phase::Planned, "the phase");
    town.start(GroupId(1))?;
    town.moved(Duration::from_secs(5))?;
    town.check(&keys, 20)
}

fn recover_controller(seed: u64) -> Checked {
    let mut town = Town::new(seed, 2, Some(3000))?;
    let keys = town.fill(20, 20)?;
    for round in 0..5 {
        let known = town.configuration()?;
        let (from, to) = (GroupId(round % 2 + 1), GroupId((round + 1) % 2 + 1));
        town.plan(vec![(known.slots_of(Some(from)), to)])?;
        let time = town.service.cluster.random().time(Duration::ZERO, Duration::from_millis(20));
        town.service.cluster.run(time)?;
        let Some(leader) = town.service.cluster.leader_of(CONTROLLER) else {
            return fails("the controller has no leader".to_owned());
        };
        let all = town.service.cluster.node_ids();
        let others = all.into_iter().filter(|node| *node != leader).collect();
        town.service.cluster.network().partition(&[vec![leader], others]);
        let end = town.service.cluster.now() + MOVED_WITHIN;
        let is_moved = town.service.cluster.run_until(end, |cluster| {
            cluster.configuration().is_some_and(|now| now.slots_of(Some(from)).is_empty())
        })?;
        demand!(is_moved, "no other leader of the controller has ended the move");
        town.service.cluster.network().heal();
        town.moved(MOVED_WITHIN)?;
        town.check(&keys, 20)?;
    }
    Ok(())
}
