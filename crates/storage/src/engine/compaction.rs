//! Putting tables in order: merging them, and giving back the space of what was deleted.
//!
//! Tables are merged where there are too many ([`Leveled`]). That alone gives back nothing when nobody
//! writes any more: a deletion is a row of its own until it meets, in a merge, the row that it deletes.
//! Each table knows how many of its rows are deletions, also after a restart. Where they are many
//! beside the rows that they may stand for, everything above the lowest level is merged downwards, the
//! smallest merge first, and deletions end at the lowest level. So at most three times what is given
//! back is written for it.
//!
//! A merge leaves the files of the tables that it read to the versions of the tree that still name
//! them. The tree itself forgets old versions only with the next merge, which may never come; so they
//! are forgotten here, as soon as no view is left that sees them.

use std::sync::Arc;

use lsm_tree::compaction::{Leveled, PullDown};
use lsm_tree::{AbstractTree, AnyTree, Table};

use super::tables::{Tables, Tree};
use super::{Compacted, Effort};

/// Deletions are merged with what they delete when that may be this part of all rows, 1 in so many.
const DELETED_PART: u64 = 4;
/// Less than this is not worth a merge, in bytes.
const DELETED_MIN: u64 = 1 << 20;
/// Tables of what was persisted that are merged at once, at least. A merge reads and writes all of the
/// next level: the more of them at once, the less is written in all. A reader looks at the filter of each.
const UNMERGED: u8 = 12;
/// Bytes of a table. [`UNMERGED`] of them are what the first level may have.
const TABLE_BYTES: u64 = 32 << 20;
/// So many tables that are not merged are worth a merge where nothing is written.
const UNMERGED_QUIET: usize = 3;
/// They are then merged with at most so many times as much below them.
const BELOW_QUIET: u64 = 8;
/// The last of a tree's levels, where deletions end.
const LAST: u8 = 6;
/// A tree of no more bytes than this may be merged at once, where smaller steps lead to nothing.
const WHOLE_MAX: u64 = 4 << 30;

/// What the tables say of deletions, by their own counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Deletions {
    /// In the last level: they stand for nothing.
    lowest: u64,
    /// In the levels above: each stands for a row below it at the most.
    above: u64,
    rows: u64,
    bytes: u64,
}

impl Deletions {
    fn of(tree: &AnyTree) -> Self {
        let mut found = Self::default();
        for (level, runs) in tree.current_version().iter_levels().enumerate() {
            for table in runs.iter().flat_map(|run| run.iter()) {
                let deletions = table.metadata.tombstone_count;
                let lowest = level == usize::from(LAST);
                *(if lowest { &mut found.lowest } else { &mut found.above }) += deletions;
                found.rows += table.metadata.item_count.saturating_sub(deletions);
                found.bytes += table.metadata.file_size;
            }
        }
        found
    }

    /// Whether merging everything downwards gives back much.
    fn are_many(&self) -> bool {
        let deleted = self.above.min(self.rows);
        let bytes = u128::from(self.bytes) * u128::from(deleted) / u128::from(self.rows.max(1));
        deleted * DELETED_PART >= self.rows && bytes >= u128::from(DELETED_MIN)
    }

    /// Whether the last level is mostly deletions, which came there without meeting anything.
    fn are_left(&self) -> bool {
        let all = u128::from(self.rows.saturating_add(self.lowest).max(1));
        self.lowest >= self.rows
            && u128::from(self.bytes) * u128::from(self.lowest) / all >= u128::from(DELETED_MIN)
    }
}

impl Tree {
    /// Takes one step. One caller at a time.
    pub(super) fn compact(&self, effort: Effort) -> Result<Compacted, lsm_tree::Error> {
        let Some(tables) = self.tables.get() else { return Ok(Compacted::Nothing) };
        let tree = &tables.tree;
        // Files of tables go with the last that holds them. Not while the tree is locked: that takes
        // milliseconds, and everybody who reads would wait.
        let before: Vec<Table> = tree.current_version().iter_tables().cloned().collect();
        let done = self.step(tables, effort)?;
        if done != Compacted::Nothing {
            tables.published.publish(tree);
        }
        // A version stays while a view may see it, or one that opens from here on.
        tree.get_version_history_lock().maintenance(&self.path, self.oldest_view())?;
        drop(before);
        let is_held = tree.version_free_list_len() > 0;
        Ok(if done == Compacted::Nothing && is_held { Compacted::Held } else { done })
    }

    fn step(&self, tables: &Tables, effort: Effort) -> Result<Compacted, lsm_tree::Error> {
        let tree = &tables.tree;
        let before = shape(tree);
        let oldest = self.oldest_view().saturating_sub(1);
        tree.compact(Arc::new(leveled()), oldest)?;
        if effort == Effort::Reads
            && shape(tree) == before
            && let Some(level) = below_unmerged(tree)
        {
            tree.compact(Arc::new(PullDown(0, level)), oldest)?;
        }
        if shape(tree) != before {
            return Ok(Compacted::Merged);
        }
        match effort {
            Effort::Needed => Ok(Compacted::Nothing),
            Effort::Space | Effort::Reads => self.reclaim(tree),
        }
    }

    fn reclaim(&self, tree: &AnyTree) -> Result<Compacted, lsm_tree::Error> {
        let (before, oldest) = (shape(tree), self.oldest_view());
        let deletions = Deletions::of(tree);
        if !deletions.are_many() && !deletions.are_left() {
            return Ok(Compacted::Nothing);
        }
        if oldest < self.visible() {
            // A merge keeps what is not older than the oldest view, and little would come of it.
            return Ok(Compacted::Held);
        }
        if deletions.are_many() {
            // No level but the last may have anything, so that each is over its limit.
            let downwards = leveled().with_l0_threshold(0);
            tree.compact(Arc::new(downwards), oldest.saturating_sub(1))?;
            // It merges only tables that do not reach beyond those below them.
            let lowest = (0..LAST).rev().find(|level| count(tree, *level) > 0);
            if shape(tree) == before
                && deletions.bytes <= WHOLE_MAX
                && let Some(level) = lowest
            {
                tree.compact(Arc::new(PullDown(level, LAST)), oldest.saturating_sub(1))?;
            }
        } else {
            tree.compact(Arc::new(PullDown(LAST, LAST)), oldest.saturating_sub(1))?;
        }
        Ok(if shape(tree) == before { Compacted::Nothing } else { Compacted::Reclaimed })
    }
}

fn leveled() -> Leveled {
    Leveled::default().with_l0_threshold(UNMERGED).with_table_target_size(TABLE_BYTES)
}

fn count(tree: &AnyTree, level: u8) -> usize {
    tree.level_table_count(level.into()).unwrap_or(0)
}

/// The level to merge what is not merged into, where that makes reads cheaper for what it costs.
fn below_unmerged(tree: &AnyTree) -> Option<u8> {
    let bytes = |level: u8| {
        let version = tree.current_version();
        let runs = version.level(level.into()).into_iter().flat_map(|level| level.iter());
        runs.flat_map(|run| run.iter()).map(|table| table.metadata.file_size).sum::<u64>()
    };
    let level = (1..=LAST).find(|level| count(tree, *level) > 0).unwrap_or(LAST);
    let is_worth = count(tree, 0) >= UNMERGED_QUIET && bytes(0) * BELOW_QUIET >= bytes(level);
    is_worth.then_some(level)
}

/// Changes whenever tables come, go or move.
fn shape(tree: &AnyTree) -> Vec<usize> {
    let levels = (0..=LAST).map(|level| count(tree, level));
    levels.chain([tree.next_table_id() as usize]).collect()
}
