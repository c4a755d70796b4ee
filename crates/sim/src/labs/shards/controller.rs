//! The shard controller's suite of 2024.

use std::time::Duration;

use kontiki_replica::steward::CONTROLLER;
use kontiki_shard::{Configuration, Op, Reply, SlotSet};
use kontiki_types::{GroupId, Slot};

use super::town::{MOVED_WITHIN, Town};
use crate::invariants::Checked;
use crate::labs::{Lab, lab};

pub(in crate::labs) const SUITE: &[Lab] = &[
    lab("lab-shardctrler-leave", "two of four groups leave: the others share evenly", leave),
    lab(
        "lab-shardctrler-historical-queries",
        "six configurations, each node of the controller down in turn: all as they were",
        historical_queries,
    ),
    lab(
        "lab-shardctrler-move",
        "10 moves: the epoch rises, the slots are where they were put",
        moves,
    ),
    lab(
        "lab-shardctrler-concurrent",
        "10 operators move slots at once: what is accepted is done, every slot is owned",
        concurrent,
    ),
    lab(
        "lab-shardctrler-minimal-transfer-after-leave",
        "no slot moves between groups that stay",
        minimal_transfer,
    ),
    lab("lab-shardctrler-agree", "the leader is killed: the others say the same", agree),
];

fn even(known: &Configuration) -> Checked {
    let counts: Vec<usize> = known.groups().map(|(id, _)| known.slots_of(Some(id)).len()).collect();
    let (least, most) = (counts.iter().min(), counts.iter().max());
    demand!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{counts:?} slots");
    demand!(known.slots_of(None).is_empty(), "slots without an owner");
    Ok(())
}

fn leave(seed: u64) -> Checked {
    let mut town = Town::new(seed, 4, None)?;
    even(&town.configuration()?)?;
    for group in [GroupId(1), GroupId(3)] {
        town.leave(group)?;
        let known = town.configuration()?;
        demand!(known.group(group).is_none(), "{group} is still there");
        even(&known)?;
    }
    let refused = town.tell(Op::Leave { groups: vec![GroupId(2), GroupId(4)] })?;
    demand!(matches!(refused, Reply::Refused { .. }), "the last groups leave: {refused:?}");
    Ok(())
}

fn slot(number: u64) -> Slot {
    Slot::new(number as u16).unwrap_or_default()
}

fn one(at: Slot) -> SlotSet {
    SlotSet::range(at, at)
}

fn historical_queries(seed: u64) -> Checked {
    let mut town = Town::new(seed, 2, None)?;
    let mut saved = vec![town.configuration()?];
    for at in 0..5 {
        let known = town.configuration()?;
        let to = if known.owner(slot(at)) == Some(GroupId(1)) { GroupId(2) } else { GroupId(1) };
        town.plan(vec![(one(slot(at)), to)])?;
        town.moved(MOVED_WITHIN)?;
        saved.push(town.configuration()?);
    }
    for node in Town::nodes(CONTROLLER) {
        town.service.crash(node);
        for before in &saved {
            let now = town.configuration_at(Some(before.epoch()))?;
            demand!(now == *before, "configuration {} is another one", before.epoch());
        }
        town.service.start(node)?;
    }
    Ok(())
}

fn moves(seed: u64) -> Checked {
    let mut town = Town::new(seed, 3, None)?;
    let mut put = Vec::new();
    for at in 0..10 {
        let (from, known) = (slot(at * 1600), town.configuration()?);
        let others = (1..=3).map(GroupId).filter(|group| known.owner(from) != Some(*group));
        let others: Vec<GroupId> = others.collect();
        let to = others[town.service.cluster.random().below(2) as usize];
        town.plan(vec![(one(from), to)])?;
        town.moved(MOVED_WITHIN)?;
        let epoch = town.configuration()?.epoch();
        demand!(epoch > known.epoch(), "the epoch is {epoch} after {}", known.epoch());
        put.push((from, to));
    }
    let known = town.configuration()?;
    for (slot, to) in put {
        demand_eq!(known.owner(slot), Some(to), "the owner");
    }
    Ok(())
}

fn concurrent(seed: u64) -> Checked {
    let mut town = Town::new(seed, 3, None)?;
    let known = town.configuration()?;
    let operators: Vec<_> = (0..10).map(|_| town.service.clerk()).collect();
    let mut asked = Vec::new();
    for &operator in &operators {
        let from = slot(town.service.cluster.random().below(8) * 2000);
        let to = GroupId(town.service.cluster.random().between(1, 3) as u32);
        town.begin(operator, Op::Plan { at: None, parts: vec![(one(from), to)] });
        asked.push((from, to));
    }
    let mut accepted = Vec::new();
    let end = town.service.cluster.now() + Duration::from_secs(10);
    let mut left = operators.len();
    while left > 0
        && let Some(event) = town.service.next(end)?
    {
        let crate::labs::store::Event::Done(done) = event else { continue };
        let at = operators.iter().position(|operator| *operator == done.clerk);
        let told = kontiki_replica::steward::told(&done.reply);
        let planned = Ok(true)
            == told.map(|told| {
                matches!(told, kontiki_shard::Told::Decided { reply: Reply::Planned { .. }, .. })
            });
        accepted.extend(at.filter(|_| planned).map(|at| asked[at]));
        left -= 1;
    }
    demand_eq!(left, 0, "operators without an answer");
    demand!(!accepted.is_empty(), "nothing was accepted of {asked:?} on {known:?}");
    town.moved(MOVED_WITHIN)?;
    let now = town.configuration()?;
    for (slot, _) in &accepted {
        let to: Vec<_> = accepted.iter().filter(|(at, _)| at == slot).map(|(_, to)| *to).collect();
        let owner = now.owner(*slot);
        demand!(
            owner.is_some_and(|owner| to.contains(&owner)),
            "{slot} is {owner:?}'s, not {to:?}"
        );
    }
    demand!(now.slots_of(None).is_empty(), "slots without an owner");
    Ok(())
}

fn minimal_transfer(seed: u64) -> Checked {
    let mut town = Town::new(seed, 4, None)?;
    let before = town.configuration()?;
    let group = GroupId(town.service.cluster.random().between(1, 4) as u32);
    town.leave(group)?;
    let after = town.configuration()?;
    for (first, _, owner) in before.runs() {
        if owner != Some(group) {
            demand_eq!(after.owner(first), owner, "the owner of a slot that need not move");
        }
    }
    for (id, _) in after.groups() {
        let (had, has) = (before.slots_of(Some(id)), after.slots_of(Some(id)));
        let moved = had.iter().filter(|slot| !has.contains(*slot)).count();
        demand_eq!(moved, 0, "slots that a group that stays has given away");
    }
    even(&after)
}

fn agree(seed: u64) -> Checked {
    let mut town = Town::new(seed, 3, None)?;
    town.leave(GroupId(2))?;
    let known = town.configuration()?;
    for _ in 0..3 {
        let Some(leader) = town.service.cluster.leader_of(CONTROLLER) else {
            return crate::labs::fails("the controller has no leader".to_owned());
        };
        town.service.crash(leader);
        demand!(town.configuration()? == known, "another leader says something else");
        town.service.start(leader)?;
    }
    Ok(())
}
