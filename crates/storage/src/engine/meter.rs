//! The engine to whoever watches it: what it has done, and what of its memory is in use.

use std::sync::Arc;

use super::FjallConfig;
use super::budget::Budget;
use super::lsm::Shared;
use super::overlay::{EngineCounters, EngineCounts};
use super::tables::Trees;

/// Shows an engine, also while others use it.
#[derive(Clone)]
pub struct EngineMeter {
    pub(super) config: FjallConfig,
    pub(super) trees: Arc<Trees>,
    pub(super) budget: Arc<Budget<Shared>>,
    pub(super) counters: Arc<EngineCounters>,
}

/// What an engine takes at a moment, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineUsage {
    /// Committed and not in tables.
    pub overlay: u64,
    /// Hot rows.
    pub cache: u64,
    /// Blocks of tables in memory.
    pub block_cache: u64,
    /// Tables on disk.
    pub disk: u64,
}

impl EngineMeter {
    /// What it has done since it was opened.
    pub fn counts(&self) -> EngineCounts {
        self.counters.read()
    }

    /// The sizes that it keeps to.
    pub fn limits(&self) -> FjallConfig {
        self.config
    }

    /// From here on the rows in memory may take only so much of their limits, in percent.
    pub fn squeeze(&self, percent: u32) {
        self.budget.squeeze(percent);
        for group in self.budget.all() {
            group.overlay().cache.set_limit(group.cache_limit());
        }
    }

    /// What it takes. Looks at every group: to be asked seldom.
    pub fn usage(&self) -> EngineUsage {
        let mut usage = EngineUsage {
            overlay: self.budget.used() as u64,
            block_cache: self.trees.cache.size(),
            ..EngineUsage::default()
        };
        for group in self.budget.all() {
            usage.cache += group.overlay().cache.bytes() as u64;
            usage.disk += group.tree.reader().map_or(0, |reader| reader.disk_bytes);
        }
        usage
    }
}
