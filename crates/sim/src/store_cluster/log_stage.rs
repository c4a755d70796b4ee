//! The log thread of a node: one write and one sync for everything that waits, done after a while.

use std::time::Duration;

use bytes::Bytes;
use kontiki_raft::{Base, Entries, Receipt, WriteBatch, persist};
use kontiki_replica::Opened;
use kontiki_storage::disk::SimDisk;
use kontiki_storage::log::{Log, LogError};
use kontiki_types::{GroupId, Index, Member};

use crate::random::Random;

/// How fast a disk is.
#[derive(Clone, Debug)]
pub struct DiskSpeed {
    /// The shortest sync.
    pub sync_min: Duration,
    /// The longest sync.
    pub sync_max: Duration,
    /// Of a thousand syncs so many stall.
    pub stalls: u64,
    /// For as long as this, at the most.
    pub stall_max: Duration,
}

impl DiskSpeed {
    /// 0.1 to 0.5 ms, and up to 30 ms once in two hundred.
    pub const fn usual() -> Self {
        Self {
            sync_min: Duration::from_micros(100),
            sync_max: Duration::from_micros(500),
            stalls: 5,
            stall_max: Duration::from_millis(30),
        }
    }
}

/// What the log is asked to do, in order.
pub(super) enum LogWork {
    Write(GroupId, WriteBatch<Bytes>),
    Read {
        group: GroupId,
        to: Member,
        from: Index,
        max: usize,
    },
    Forget(GroupId),
    /// The log of a group begins, which is open then.
    Begin(GroupId, Base, Box<Opened>),
}

/// Entries that were asked for.
pub(super) struct Reading {
    pub(super) group: GroupId,
    pub(super) to: Member,
    pub(super) from: Index,
    pub(super) entries: Entries<Bytes>,
}

/// The log and what waits for it.
///
/// An operation takes effect on the disk when it ends. A crash in between carries it out up to an
/// operation of the disk chosen by chance, so that every state from nothing to all of it, synced or
/// not, is met.
pub(super) struct LogStage {
    log: Log<SimDisk>,
    speed: DiskSpeed,
    random: Random,
    waiting: Vec<LogWork>,
    under_way: Vec<LogWork>,
    /// The next sync takes this much longer.
    stall: Duration,
    /// Grows with each write, so that an idle time is told from a busy one.
    writes: u64,
    is_full: bool,
    reads: Vec<Reading>,
    begun: Vec<Opened>,
}

impl LogStage {
    pub(super) fn new(log: Log<SimDisk>, speed: DiskSpeed, random: Random) -> Self {
        Self {
            log,
            speed,
            random,
            waiting: Vec::new(),
            under_way: Vec::new(),
            stall: Duration::ZERO,
            writes: 0,
            is_full: false,
            reads: Vec::new(),
            begun: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, work: LogWork) {
        self.waiting.push(work);
    }

    /// Begins with everything that waits, if nothing is under way: how long it takes.
    pub(super) fn begin(&mut self) -> Option<Duration> {
        if self.waiting.is_empty() || !self.under_way.is_empty() {
            return None;
        }
        std::mem::swap(&mut self.waiting, &mut self.under_way);
        self.writes += 1;
        if !self.stall.is_zero() {
            return Some(std::mem::take(&mut self.stall));
        }
        let DiskSpeed { sync_min, sync_max, stalls, stall_max } = self.speed;
        if self.random.chance(stalls) {
            return Some(self.random.time(sync_max, stall_max.max(sync_max)));
        }
        Some(self.random.time(sync_min, sync_max))
    }

    /// Carries out what is under way.
    pub(super) fn finish(&mut self) -> Result<Vec<(GroupId, Receipt)>, String> {
        let mut receipts = Vec::new();
        let mut batch = Vec::new();
        for work in std::mem::take(&mut self.under_way) {
            match work {
                LogWork::Write(group, one) => batch.push((group, one)),
                LogWork::Read { group, to, from, max } => {
                    // As on a real node: what cannot be read is answered with nothing.
                    let entries = self.log.read(group, from, max).unwrap_or_default().into();
                    self.reads.push(Reading { group, to, from, entries });
                }
                LogWork::Begin(group, base, opened) => {
                    self.write(&mut batch, &mut receipts)?;
                    self.log.create_group(group, base).map_err(|error| error.to_string())?;
                    self.begun.push(*opened);
                }
                LogWork::Forget(group) => {
                    self.write(&mut batch, &mut receipts)?;
                    self.log.forget_group(group).map_err(|error| error.to_string())?;
                }
            }
        }
        self.write(&mut batch, &mut receipts)?;
        match self.log.maintain() {
            // Nothing was written: the next segment that is freed brings it on.
            Ok(_) | Err(LogError::NoSpace { .. }) => Ok(receipts),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What was read since this was last asked.
    pub(super) fn take_reads(&mut self) -> Vec<Reading> {
        std::mem::take(&mut self.reads)
    }

    /// The groups that have begun since this was last asked.
    pub(super) fn take_begun(&mut self) -> Vec<Opened> {
        std::mem::take(&mut self.begun)
    }

    fn write(
        &mut self,
        batch: &mut Vec<(GroupId, WriteBatch<Bytes>)>,
        receipts: &mut Vec<(GroupId, Receipt)>,
    ) -> Result<(), String> {
        if batch.is_empty() {
            return Ok(());
        }
        persist(&mut self.log, batch, receipts).map_err(|error| error.to_string())
    }

    /// The next sync takes this long.
    pub(super) fn stall(&mut self, time: Duration) {
        self.stall = time;
    }

    /// Names this moment of the log if its last batch wants a seal; see [`LogStage::seal`].
    pub(super) fn unsealed(&self) -> Option<u64> {
        self.log.is_unsealed().then_some(self.writes)
    }

    /// Seals the log if nothing was written since the moment that was named.
    pub(super) fn seal(&mut self, writes: u64) -> Result<(), String> {
        if self.writes == writes && self.under_way.is_empty() && self.waiting.is_empty() {
            self.log.seal().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// What is done once a second: segments are allocated in advance, and the disk is asked for
    /// space. Whether it is full, if that has changed.
    pub(super) fn look_for_space(&mut self) -> Option<bool> {
        let spares = self.log.spares();
        if spares.is_wanting() {
            // As on a real node: the log allocates for itself what it does not find.
            let _ = spares.fill();
        }
        let full = self.log.refresh_space();
        (std::mem::replace(&mut self.is_full, full) != full).then_some(full)
    }

    /// Whether something waits to be written.
    pub(super) fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || !self.under_way.is_empty()
    }

    /// Bytes of all segments in use.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.log.space().segments
    }

    /// The power fails in the middle of what is under way.
    pub(super) fn cut_off(mut self, disk: &SimDisk) {
        if !self.under_way.is_empty() && self.random.chance(700) {
            disk.cut_power_after(self.random.below(6));
            let _ = self.finish();
        }
    }
}
