//! How long a start takes, stage by stage: as lines of the log, and as metrics.
//!
//! Up to the open ports one stage follows the other. What comes then runs beside each other, and is
//! counted from the beginning: until leaders are known, until everything is applied that the log held
//! and the state did not, until a read is answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kontiki_replica::Core;
use kontiki_types::{GroupId, Index};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tracing::info;

use crate::shared::Shared;

/// How long a start waits for what another process holds. One that was killed keeps its files and
/// sockets until its memory is given back, which on a busy machine takes more than a second.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Tries until another process does not hold `what` any more, or it has been waited for long enough.
pub(crate) async fn patiently<T, E>(
    what: &str,
    is_held: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let begun = Instant::now();
    let mut is_said = false;
    loop {
        match attempt() {
            Err(error) if is_held(&error) && begun.elapsed() < PATIENCE => {
                if !std::mem::replace(&mut is_said, true) {
                    info!("{what} is in use: waiting for the process that has it to end");
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            done => return done,
        }
    }
}

/// What tells stages apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

/// How long the stages took, as metrics.
pub(crate) struct StartMetrics(Family<StageLabel, Gauge<f64, AtomicU64>>);

impl StartMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let family = Family::default();
        registry.register_with_unit(
            "start",
            "Time of each stage of the start; served, led and applied count from its beginning",
            Unit::Seconds,
            family.clone(),
        );
        Self(family)
    }

    fn show(&self, stage: &'static str, took: Duration) {
        self.0.get_or_create(&StageLabel { stage }).set(took.as_secs_f64());
    }
}

/// Watches a start up to the open ports.
pub(crate) struct StartClock {
    begun: Instant,
    last: Instant,
    stages: Vec<(&'static str, Duration)>,
}

impl StartClock {
    pub(crate) fn begin() -> Self {
        let now = Instant::now();
        Self { begun: now, last: now, stages: Vec::new() }
    }

    /// The stage that went on is over.
    pub(crate) fn done(&mut self, stage: &'static str) {
        let now = Instant::now();
        self.stages.push((stage, now - self.last));
        self.last = now;
    }

    /// Everything runs: tells how long it took. `replicas`: the last entry in the log of each group,
    /// and how many of all are to be applied again.
    pub(crate) fn runs(mut self, metrics: &StartMetrics, replicas: Replicas) -> Starting {
        self.done("threads");
        for (stage, took) in &self.stages {
            metrics.show(stage, *took);
            info!(stage, millis = millis(*took), "start");
        }
        let took = self.begun.elapsed();
        metrics.show("listening", took);
        let Replicas { last, entries } = replicas;
        info!(millis = millis(took), groups = last.len(), entries, "the node runs");
        Starting { begun: self.begun, last, entries, led: false, applied: false, served: false }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What the replicas of a node begin with.
#[derive(Default)]
pub(crate) struct Replicas {
    /// The last entry in the log of each group.
    pub(crate) last: BTreeMap<GroupId, Index>,
    /// Entries that the state lacks.
    pub(crate) entries: u64,
}

/// What a node that runs has still to reach.
pub(crate) struct Starting {
    begun: Instant,
    last: BTreeMap<GroupId, Index>,
    entries: u64,
    led: bool,
    applied: bool,
    served: bool,
}

impl Starting {
    /// Looks at what was reached; returns whether that is all.
    pub(crate) fn look(&mut self, core: &Core, node: &Shared) -> bool {
        let metrics = &node.metrics.start;
        let took = self.begun.elapsed();
        if !self.led && node.view.serving.load(Ordering::Relaxed) == 1 {
            self.led = true;
            metrics.show("led", took);
            info!(millis = millis(took), "the leaders are known");
        }
        if !self.applied {
            self.last.retain(|&group, last| {
                core.replica(group).is_some_and(|raft| raft.status().applied < *last)
            });
            if self.last.is_empty() {
                self.applied = true;
                metrics.show("applied", took);
                info!(
                    millis = millis(took),
                    entries = self.entries,
                    "what the log held is applied"
                );
            }
        }
        if !self.served && node.metrics.queries.get() > 0 {
            self.served = true;
            metrics.show("served", took);
            info!(millis = millis(took), "the first read is answered");
        }
        self.served && self.led && self.applied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_another_process_holds_is_waited_for_but_not_for_ever() {
        let mut attempts = 0;
        let got = patiently(
            "it",
            |held: &bool| *held,
            || {
                attempts += 1;
                if attempts < 3 { Err(true) } else { Ok(attempts) }
            },
        );
        assert_eq!(got.await, Ok(3));
        let mut attempts = 0;
        let refused = patiently(
            "it",
            |held: &bool| *held,
            || {
                attempts += 1;
                Err::<(), _>(false)
            },
        );
        assert_eq!((refused.await, attempts), (Err(false), 1));
    }
}
