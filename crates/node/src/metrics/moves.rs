//! What is shown of moves of slots: totals, and each move that this node has a side of.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kontiki_shard::{MoveId, Side, Stage};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// What people ask of a freeze is whether it took longer than 50 ms.
const FREEZE_BUCKETS: [f64; 16] = [
    0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 1.0,
    5.0,
];

/// Moves that are over and still shown, the latest ones.
const ENDED_SHOWN: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    id: u64,
    side: &'static str,
    stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MoveLabel {
    id: u64,
}

/// Moves of slots. But for the stages, those of which this node leads the source.
#[derive(Debug)]
pub(crate) struct MoveMetrics {
    pub(crate) attempts: Counter,
    pub(crate) done: Counter,
    pub(crate) given_up: Counter,
    bytes: Counter,
    freeze_seconds: Histogram,
    stages: Family<StageLabel, Gauge>,
    bytes_of: Family<MoveLabel, Gauge>,
    freeze_of: Family<MoveLabel, Gauge>,
    sides: Mutex<Sides>,
}

#[derive(Debug, Default)]
struct Sides {
    /// The stage that is shown of each side that is carried out here.
    open: Vec<StageLabel>,
    /// Moves with figures that have been left, the latest last.
    ended: VecDeque<MoveLabel>,
}

pub(crate) fn side_name(side: Side) -> &'static str {
    match side {
        Side::Source => "source",
        Side::Target => "target",
    }
}

impl MoveMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        macro_rules! metric {
            ($name:literal, $help:literal) => {{
                let metric = Default::default();
                registry.register($name, $help, Clone::clone(&metric));
                metric
            }};
        }
        let freeze_seconds = Histogram::new(FREEZE_BUCKETS);
        registry.register_with_unit(
            "move_freeze",
            "How long slots stood still when they changed hands",
            Unit::Seconds,
            freeze_seconds.clone(),
        );
        let attempts: Counter = metric!("move_attempts", "Attempts to move slots");
        let done: Counter = metric!("moves_done", "Moves that were carried out");
        let given_up: Counter =
            metric!("move_attempts_given_up", "Attempts to move slots that were given up");
        let bytes: Counter = metric!("move_bytes_sent", "Bytes sent by moves");
        let stages: Family<StageLabel, Gauge> =
            metric!("move_stage", "The stage of each side of a move that is carried out here: 1");
        let bytes_of: Family<MoveLabel, Gauge> =
            metric!("move_sent_bytes", "Bytes sent for a move, now or lately under way");
        let freeze_of: Family<MoveLabel, Gauge> = metric!(
            "move_freeze_microseconds",
            "How long the slots of a move that is lately over stood still"
        );
        let sides = Mutex::default();
        Self { attempts, done, given_up, bytes, freeze_seconds, stages, bytes_of, freeze_of, sides }
    }

    pub(crate) fn sent(&self, id: MoveId, bytes: u64) {
        self.bytes.inc_by(bytes);
        let label = MoveLabel { id: id.0 };
        self.bytes_of.get_or_create(&label).inc_by(bytes.cast_signed());
    }

    /// The slots of a move stood still for so long.
    pub(crate) fn froze(&self, id: MoveId, time: Duration) {
        self.freeze_seconds.observe(time.as_secs_f64());
        let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        self.freeze_of.get_or_create(&MoveLabel { id: id.0 }).set(micros);
    }

    /// A side has come to a stage, or is not carried out here any more.
    pub(crate) fn side_is_at(&self, id: MoveId, side: Side, stage: Option<Stage>) {
        let side = side_name(side);
        let mut sides = self.sides.lock().unwrap_or_else(PoisonError::into_inner);
        for old in sides.open.extract_if(.., |old| old.id == id.0 && old.side == side) {
            self.stages.remove(&old);
        }
        if let Some(stage) = stage {
            let label = StageLabel { id: id.0, side, stage: stage.name() };
            self.stages.get_or_create(&label).set(1);
            sides.open.push(label);
        } else if side == side_name(Side::Source) {
            sides.ended.retain(|ended| ended.id != id.0);
            sides.ended.push_back(MoveLabel { id: id.0 });
            let too_many = sides.ended.len().saturating_sub(ENDED_SHOWN);
            for old in sides.ended.drain(..too_many) {
                self.bytes_of.remove(&old);
                self.freeze_of.remove(&old);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn each_side_is_at_one_stage_and_old_moves_go() {
        let mut registry = Registry::default();
        let metrics = MoveMetrics::new(&mut registry);
        let page = || {
            let mut page = String::new();
            encode(&mut page, &registry).unwrap();
            page
        };
        for id in (1..=40).map(MoveId) {
            metrics.side_is_at(id, Side::Source, Some(Stage::Copying));
            metrics.side_is_at(id, Side::Target, Some(Stage::Committed));
            metrics.sent(id, 7);
            metrics.side_is_at(id, Side::Source, Some(Stage::Frozen));
            metrics.froze(id, Duration::from_millis(3));
        }
        let text = page();
        assert!(text.contains("move_stage{id=\"4\",side=\"source\",stage=\"frozen\"} 1"), "{text}");
        assert!(!text.contains("stage=\"copying\""), "{text}");
        for id in (1..=40).map(MoveId) {
            metrics.side_is_at(id, Side::Source, None);
        }
        let text = page();
        assert!(!text.contains("stage=\"frozen\""), "{text}");
        assert!(text.contains("stage=\"committed\""), "{text}");
        assert!(text.contains("move_sent_bytes{id=\"40\"} 7"), "{text}");
        assert!(text.contains("move_freeze_microseconds{id=\"9\"} 3000"), "{text}");
        assert!(!text.contains("move_sent_bytes{id=\"8\"}"), "{text}");
    }
}
