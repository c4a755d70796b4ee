//! What a node may have in memory, and who of it how much.
//!
//! `memory` is the bound on the process as a whole. A part of it is for the program itself; of the
//! rest, every cache, queue and buffer that can grow has a share, so that all of them full at once
//! stay within it. The allocator keeps some of what was freed, so the process is looked at, too:
//! beyond the bound the caches give way, and come back when there is room.

use kontiki_storage::engine::{EngineMeter, FjallConfig};

use crate::settings::Settings;

/// For the program, its threads and what is not counted.
const PROGRAM_BYTES: u64 = 40 << 20;
/// With less than this the shares are as with this.
const MEMORY_MIN: u64 = 72 << 20;
/// The shares are counted in this many parts of what is left for them.
const PARTS: u64 = 32;

/// Shares in bytes. Their sum with what the program takes is at most `memory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budgets {
    /// All of it.
    pub(crate) memory: u64,
    /// Applied and not in tables yet.
    pub(crate) overlay: u64,
    /// Hot rows.
    pub(crate) rows: u64,
    /// Blocks of tables: data, indexes, filters.
    pub(crate) blocks: u64,
    /// Entries that followers may need, of all groups.
    pub(crate) log_cache: u64,
    /// Entries that are not committed, of one group.
    pub(crate) uncommitted: u64,
    /// Entries that are not applied, of one group.
    pub(crate) unapplied: u64,
    /// What waits for all other nodes.
    pub(crate) peers: u64,
    /// What clients sent and what they have not read.
    pub(crate) connections: u64,
    /// Snapshots that are sent, received, built and installed.
    pub(crate) snapshots: u64,
}

impl Budgets {
    pub(crate) fn of(memory: u64) -> Self {
        let left = memory.max(MEMORY_MIN) - PROGRAM_BYTES;
        let parts = |count: u64| left / PARTS * count;
        Self {
            memory,
            overlay: parts(4),
            rows: parts(4),
            blocks: parts(10),
            log_cache: parts(2),
            uncommitted: parts(2),
            unapplied: parts(4),
            peers: parts(2),
            connections: parts(3),
            snapshots: parts(1),
        }
    }

    /// The sizes of the state engine.
    pub(crate) fn engine(&self) -> FjallConfig {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        FjallConfig {
            overlay_bytes: size(self.overlay),
            cache_bytes: size(self.rows),
            block_cache_bytes: self.blocks,
        }
    }

    /// Lowers the limits that together would be more than their share. What one entry needs is not
    /// lowered.
    pub(crate) fn bound(&self, settings: &mut Settings) {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let entry = settings.entry_bytes_max.saturating_mul(2);
        let raft = &mut settings.raft;
        let lower = |limit: &mut usize, share: u64| *limit = (*limit).min(size(share).max(entry));
        lower(&mut raft.uncommitted_bytes_max, self.uncommitted);
        lower(&mut raft.unapplied_bytes_max, self.unapplied);
        lower(&mut raft.inflight_bytes_max, self.peers);
        lower(&mut settings.output_bytes_max, self.connections);
        raft.log_cache_bytes = raft.log_cache_bytes.min(self.log_cache);
        // Two nodes that do not keep up at the same time are a majority of most groups.
        lower(&mut settings.peer_transport.queue_bytes_max, self.peers / 2);
        raft.snapshot_chunk_bytes = raft.snapshot_chunk_bytes.min(size(self.snapshots / 4));
    }
}

/// Has the caches give way when the process takes more than it may.
pub(crate) struct Governor {
    memory: u64,
    engine: EngineMeter,
    /// What the caches may take, in percent of their share.
    percent: u32,
}

/// How much the caches give way, or get back, at once.
const STEP_PERCENT: u32 = 10;
const PERCENT_MIN: u32 = 10;

impl Governor {
    pub(crate) fn new(memory: u64, engine: EngineMeter) -> Self {
        Self { memory, engine, percent: 100 }
    }

    /// To be called about once a second, with what the process takes.
    pub(crate) fn look(&mut self, resident: u64) {
        let percent = next_percent(self.percent, resident, self.memory);
        if percent != self.percent {
            self.percent = percent;
            self.engine.squeeze(percent);
        }
    }
}

fn next_percent(percent: u32, resident: u64, memory: u64) -> u32 {
    if resident > memory {
        percent.saturating_sub(STEP_PERCENT).max(PERCENT_MIN)
    } else if resident < memory - memory / 8 {
        (percent + STEP_PERCENT).min(100)
    } else {
        percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shares_together_are_within_the_bound() {
        for memory in [72 << 20, 100 << 20, 512 << 20, 4 << 30, 1 << 40] {
            let budgets = Budgets::of(memory);
            let Budgets { overlay, rows, blocks, log_cache, uncommitted, .. } = budgets;
            let Budgets { unapplied, peers, connections, snapshots, .. } = budgets;
            let state = overlay + rows + blocks;
            let queues = log_cache + uncommitted + unapplied + peers + connections + snapshots;
            assert!(PROGRAM_BYTES + state + queues <= memory, "{budgets:?}");
            assert!(state >= memory / 8);
        }
    }

    #[test]
    fn limits_are_lowered_but_an_entry_always_fits() {
        let mut settings = Settings::new(kontiki_types::NodeId(1), "dir".into(), 0);
        let given = settings.clone();
        Budgets::of(64 << 30).bound(&mut settings);
        assert_eq!(settings.raft.unapplied_bytes_max, given.raft.unapplied_bytes_max);
        Budgets::of(16 << 20).bound(&mut settings);
        let entry = settings.entry_bytes_max;
        assert_eq!(settings.raft.unapplied_bytes_max, 2 * entry);
        assert!(settings.raft.snapshot_chunk_bytes >= 64 << 10);
        assert!(settings.raft.log_cache_bytes < given.raft.log_cache_bytes);
    }

    #[test]
    fn caches_give_way_and_come_back() {
        assert_eq!(next_percent(100, 90, 100), 100);
        assert_eq!(next_percent(100, 101, 100), 90);
        assert_eq!(next_percent(90, 95, 100), 90);
        assert_eq!(next_percent(90, 80, 100), 100);
        assert_eq!(next_percent(10, 500, 100), 10);
    }
}
