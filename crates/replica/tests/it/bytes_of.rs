//! Configurations out of nothing: those that a controller would come to take many steps.

use kontiki_replica::Atlas;
use kontiki_shard::Configuration;
use kontiki_types::{GroupId, NodeId, SLOTS};

/// A configuration in which `groups` own equal shares of the slots, in order, but for those in
/// `given`. Each group's nodes are those of `nodes`.
pub fn configuration(
    epoch: u64,
    groups: &[GroupId],
    nodes: &[NodeId],
    given: &[(u16, GroupId)],
) -> Configuration {
    let mut out = vec![2];
    number(&mut out, epoch);
    number(&mut out, groups.len() as u64);
    for group in groups {
        number(&mut out, u64::from(group.0));
        number(&mut out, 1);
        number(&mut out, nodes.len() as u64);
        nodes.iter().for_each(|node| number(&mut out, node.0));
        out.push(0);
    }
    let share = usize::from(SLOTS).div_ceil(groups.len());
    let mut owners: Vec<GroupId> =
        (0..usize::from(SLOTS)).map(|slot| groups[slot / share]).collect();
    for &(slot, group) in given {
        owners[usize::from(slot)] = group;
    }
    let runs: Vec<_> = owners.chunk_by(|one, next| one == next).collect();
    number(&mut out, runs.len() as u64);
    for run in runs {
        number(&mut out, run.len() as u64);
        out.push(1);
        number(&mut out, u64::from(run[0].0));
    }
    // No node was removed.
    number(&mut out, 0);
    Configuration::from_bytes(&out).expect("a configuration")
}

fn number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The epoch of an atlas, as a number.
pub fn epoch(atlas: &Atlas) -> u64 {
    atlas.epoch().0
}
