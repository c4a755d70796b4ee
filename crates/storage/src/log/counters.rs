//! What the log has done, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts since the log was opened. Shared with whoever reports them.
#[derive(Debug, Default)]
pub struct Counters {
    syncs: AtomicU64,
    sync_nanos: AtomicU64,
    frames: AtomicU64,
    bytes_written: AtomicU64,
    bytes_rewritten: AtomicU64,
    segments_allocated: AtomicU64,
    segments_recycled: AtomicU64,
    segments_freed: AtomicU64,
}

/// A reading of [`Counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Completed `fdatasync` calls on segments.
    pub syncs: u64,
    /// How long they took in sum, in nanoseconds.
    pub sync_nanos: u64,
    /// Frames written, seals included.
    pub frames: u64,
    /// Bytes written to segments.
    pub bytes_written: u64,
    /// Of these, bytes of records copied forward to free a segment.
    pub bytes_rewritten: u64,
    /// Segments that had to be allocated while a write waited.
    pub segments_allocated: u64,
    /// Segments taken from the spares.
    pub segments_recycled: u64,
    /// Segments taken out of use.
    pub segments_freed: u64,
}

impl Counters {
    /// The counts at this moment, each for itself.
    pub fn read(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            syncs: get(&self.syncs),
            sync_nanos: get(&self.sync_nanos),
            frames: get(&self.frames),
            bytes_written: get(&self.bytes_written),
            bytes_rewritten: get(&self.bytes_rewritten),
            segments_allocated: get(&self.segments_allocated),
            segments_recycled: get(&self.segments_recycled),
            segments_freed: get(&self.segments_freed),
        }
    }

    pub(super) fn synced(&self, took: Duration) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sync_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(super) fn wrote(&self, bytes: u64) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn rewrote(&self, bytes: u64) {
        self.bytes_rewritten.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn began_segment(&self, recycled: bool) {
        let counter = if recycled { &self.segments_recycled } else { &self.segments_allocated };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn freed_segment(&self) {
        self.segments_freed.fetch_add(1, Ordering::Relaxed);
    }
}
