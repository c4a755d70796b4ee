//! Which moves make a configuration even, which of them at a time, and in what parts.
//!
//! [`plan`] gives every group that stays the same number of slots, give or take one, with the
//! fewest slots moved that this takes; *which* slots move is chosen so that loads come out even,
//! too, and then so that ranges stay long. A function of what it is given alone: planning again
//! gives the same, and on the outcome, nothing.
//!
//! Missing on purpose: slots are not moved for their load alone. Counts say how many go, loads
//! which; so a plan never swings back.

mod cut;
mod leaders;
mod pace;
mod placement;

use std::collections::BTreeMap;

use kontiki_types::{GroupId, SLOTS, Slot};

pub use cut::{Cut, cut};
pub use leaders::leaders;
pub use pace::may_go_on;
pub use placement::{Wishes, choose, drain, spread};

use crate::SlotSet;
use crate::controller::{Configuration, Move, Phase};

/// What is known of a slot's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SlotLoad {
    /// Bytes that a move has to carry.
    pub bytes: u64,
    /// Work that it makes, in any unit that is the same for all: requests a second, say.
    pub work: u64,
}

/// What is known of slots; nothing is 0.
pub type Loads = BTreeMap<Slot, SlotLoad>;

/// Slots that a group has to give, or has free places for.
struct Account {
    group: Option<GroupId>,
    slots: Vec<Slot>,
    count: usize,
}

/// The moves that make `configuration` even, once the moves that are under way have ended: parts
/// for [`Op::Plan`](crate::Op::Plan), not yet [cut](cut()). Slots without an owner are given away
/// like those of a group that leaves. Empty if there is nothing to do, or no group that stays.
pub fn plan<'a>(
    configuration: &Configuration,
    under_way: impl Iterator<Item = &'a Move>,
    loads: &Loads,
) -> Vec<(SlotSet, GroupId)> {
    let (owners, is_locked) = as_after(configuration, under_way);
    let staying: Vec<GroupId> =
        configuration.groups().filter(|(_, group)| !group.is_leaving).map(|(id, _)| id).collect();
    if staying.is_empty() {
        return Vec::new();
    }
    let mut accounts: BTreeMap<Option<GroupId>, Account> = BTreeMap::new();
    for group in owners.iter().copied().chain(staying.iter().map(|id| Some(*id))) {
        let empty = || Account { group, slots: Vec::new(), count: 0 };
        accounts.entry(group).or_insert_with(empty);
    }
    let slots = (0..SLOTS).filter_map(Slot::new);
    for (slot, (owner, is_locked)) in slots.zip(owners.iter().zip(&is_locked)) {
        if let Some(account) = accounts.get_mut(owner) {
            account.count += 1;
            if !is_locked {
                account.slots.push(slot);
            }
        }
    }
    let quotas = quotas(&staying, &accounts);
    let work = |slot: &Slot| loads.get(slot).map_or(0, |load| load.work);
    let all_work: u64 = loads.values().map(|load| load.work).sum();
    let even = all_work / staying.len() as u64;
    let mut works: BTreeMap<Option<GroupId>, u64> = BTreeMap::new();
    for (slot, load) in loads {
        let owner = owners.get(usize::from(slot.get())).copied().flatten();
        *works.entry(owner).or_default() += load.work;
    }
    // How many slots each group that takes some lacks, and how much work.
    let mut lacks: BTreeMap<GroupId, (usize, u64)> = BTreeMap::new();
    for (id, quota) in &quotas {
        let count = accounts.get(&Some(*id)).map_or(0, |account| account.count);
        let work = works.get(&Some(*id)).copied().unwrap_or_default();
        if count < *quota {
            lacks.insert(*id, (quota - count, even.saturating_sub(work)));
        }
    }
    let mut parts: BTreeMap<(Option<GroupId>, GroupId), SlotSet> = BTreeMap::new();
    for account in accounts.values_mut() {
        let quota = account.group.and_then(|id| quotas.get(&id)).copied().unwrap_or(0);
        let mut surplus = account.count.saturating_sub(quota).min(account.slots.len());
        for (to, (places, wanted)) in &mut lacks {
            let count = surplus.min(*places);
            if count == 0 {
                continue;
            }
            // Its share of what the taker lacks, for so many of the slots that it lacks.
            let goal = (u128::from(*wanted) * count as u128 / *places as u128) as u64;
            let taken = take(&mut account.slots, count, goal, work);
            *wanted = wanted.saturating_sub(taken.iter().map(work).sum());
            *places -= count;
            surplus -= count;
            parts.insert((account.group, *to), taken.into_iter().collect());
        }
    }
    parts.into_iter().map(|((_, to), slots)| (slots, to)).collect()
}

/// Who owns each slot when the moves under way have ended, and which slots no other move may have.
fn as_after<'a>(
    configuration: &Configuration,
    under_way: impl Iterator<Item = &'a Move>,
) -> (Vec<Option<GroupId>>, Vec<bool>) {
    let slots = || (0..SLOTS).filter_map(Slot::new);
    let mut owners: Vec<_> = slots().map(|slot| configuration.owner(slot)).collect();
    let mut is_locked = vec![false; usize::from(SLOTS)];
    for found in under_way.filter(|found| found.locks()) {
        for slot in found.slots.iter().map(|slot| usize::from(slot.get())) {
            if let (Phase::Planned, Some(owner)) = (found.phase, owners.get_mut(slot)) {
                *owner = Some(found.to.id);
            }
            if let Some(is_locked) = is_locked.get_mut(slot) {
                *is_locked = true;
            }
        }
    }
    (owners, is_locked)
}

/// How many slots each group that stays is to have: those that have most keep one more, where the
/// number does not divide, so that fewest move.
fn quotas(
    staying: &[GroupId],
    accounts: &BTreeMap<Option<GroupId>, Account>,
) -> BTreeMap<GroupId, usize> {
    let count = |id: GroupId| accounts.get(&Some(id)).map_or(0, |account| account.count);
    let mut by_count = staying.to_vec();
    by_count.sort_by_key(|id| (usize::MAX - count(*id), *id));
    let (each, more) = (usize::from(SLOTS) / staying.len(), usize::from(SLOTS) % staying.len());
    let quotas = by_count.into_iter().enumerate();
    quotas.map(|(at, id)| (id, each + usize::from(at < more))).collect()
}

/// Takes `count` neighbours out of `slots`: those whose work together is nearest to `goal`; of such
/// the ones with the fewest gaps; of such the last.
fn take(slots: &mut Vec<Slot>, count: usize, goal: u64, work: impl Fn(&Slot) -> u64) -> Vec<Slot> {
    let mut sums = vec![(0u64, 0usize)];
    for (at, slot) in slots.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| slots.get(at));
        let is_gap = before.is_none_or(|before| before.get() + 1 != slot.get());
        let (sum, gaps) = sums.last().copied().unwrap_or_default();
        sums.push((sum.saturating_add(work(slot)), gaps + usize::from(is_gap)));
    }
    let windows = sums.iter().zip(sums.iter().skip(count)).enumerate();
    let best = windows.min_by_key(|(at, (before, after))| {
        ((after.0 - before.0).abs_diff(goal), after.1 - before.1, usize::MAX - at)
    });
    let first = best.map_or(0, |(at, _)| at);
    slots.drain(first..(first + count).min(slots.len())).collect()
}

#[cfg(test)]
mod tests;
