//! How long a request takes at each stage on its way through the node.
//!
//! Observed once for all that goes together, not once for each request: what is looked at is where
//! time is spent, and looking must cost nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kontiki_types::{GroupId, Index, Instant};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Histograms of all stages, in seconds.
pub(crate) struct Stages {
    /// From the socket to the event loop.
    pub(crate) queue: Histogram,
    /// Writing a batch to the log's file.
    pub(crate) append: Histogram,
    /// Its `fdatasync`.
    pub(crate) sync: Histogram,
    /// From the event loop until so many others have it that they and this node are a majority.
    pub(crate) replicate: Histogram,
    /// From the event loop until it is committed: the longer of the disk here and of that.
    pub(crate) commit: Histogram,
    /// From there until the state has changed.
    pub(crate) apply: Histogram,
    /// From an answer until it is written to the socket.
    pub(crate) reply: Histogram,
}

/// The histograms, and what shows them.
pub(crate) type StageFamily = Family<StageLabel, Histogram, fn() -> Histogram>;

/// What tells stages apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StageLabel {
    stage: &'static str,
}

impl Stages {
    pub(crate) fn new() -> (Self, StageFamily) {
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_01, 2.0, 20));
        let family = StageFamily::new_with_constructor(buckets);
        let of = |stage| family.get_or_create(&StageLabel { stage }).clone();
        let stages = Self {
            queue: of("queue"),
            append: of("append"),
            sync: of("sync"),
            replicate: of("replicate"),
            commit: of("commit"),
            apply: of("apply"),
            reply: of("reply"),
        };
        (stages, family)
    }
}

/// Batches under way that a stage waits for, oldest first: the last entry of each, and since when.
#[derive(Default)]
pub(crate) struct Underway(BTreeMap<GroupId, VecDeque<(Index, Instant)>>);

/// More of one group at once are not watched.
const BATCHES_MAX: usize = 1024;

impl Underway {
    pub(crate) fn begin(&mut self, group: GroupId, last: Index, now: Instant) {
        let batches = self.0.entry(group).or_default();
        if batches.len() < BATCHES_MAX {
            batches.push_back((last, now));
        }
    }

    /// Everything of `group` up to `upto` is through.
    pub(crate) fn end(&mut self, group: GroupId, upto: Index, now: Instant, stage: &Histogram) {
        let Some(batches) = self.0.get_mut(&group) else { return };
        while let Some(&(_, since)) = batches.front().filter(|(last, _)| *last <= upto) {
            stage.observe(seconds(now.since(since)));
            batches.pop_front();
        }
        if batches.is_empty() {
            self.0.remove(&group);
        }
    }

    /// Nothing of `group` is waited for any more.
    pub(crate) fn forget(&mut self, group: GroupId) {
        self.0.remove(&group);
    }

    pub(crate) fn groups(&self) -> Vec<GroupId> {
        self.0.keys().copied().collect()
    }
}

pub(crate) fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_through_is_observed_once() {
        let (stages, family) = Stages::new();
        let mut underway = Underway::default();
        let group = GroupId(1);
        for last in [3, 5, 9] {
            underway.begin(group, Index(last), Instant(1_000));
        }
        underway.end(group, Index(7), Instant(3_000), &stages.commit);
        underway.end(group, Index(7), Instant(9_000), &stages.commit);
        assert_eq!(underway.groups(), [group]);
        underway.forget(group);
        underway.end(group, Index(9), Instant(9_000), &stages.commit);
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("stage", "Stages", family);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("it is text");
        assert!(text.contains("stage_sum{stage=\"commit\"} 0.004"), "{text}");
        assert!(text.contains("stage_count{stage=\"commit\"} 2"), "{text}");
    }
}
