//! Which of the moves under way are carried out at a time.

use std::collections::BTreeSet;

use crate::MoveId;
use crate::controller::{Move, Phase};

/// The moves to go on with: of those that are planned, the first between each two groups, so that
/// a rebalance is not a thousand copies at once; and all that are decided, which have little to
/// do. In both directions at once is two pairs: neither waits for the other.
pub fn may_go_on<'a>(under_way: impl Iterator<Item = &'a Move>) -> BTreeSet<MoveId> {
    let mut pairs = BTreeSet::new();
    under_way
        .filter(|found| found.phase != Phase::Planned || pairs.insert((found.from, found.to)))
        .map(|found| found.tag.id)
        .collect()
}
