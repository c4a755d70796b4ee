//! The thread that owns the log: one write and one fdatasync for everything that waits.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kontiki_raft::{Base, Entry, Receipt, WriteBatch, persist};
use kontiki_replica::Opened;
use kontiki_storage::disk::RealDisk;
use kontiki_storage::log::{Log, LogError};
use kontiki_types::{GroupId, Index, Member};
use tracing::{error, warn};

use crate::event_loop::{FailOnPanic, Input};
use crate::mailbox::{InboxSender, Receiver};
use crate::metrics::Metrics;

/// What the log thread is asked to do, in order.
pub(crate) enum LogWork {
    /// Make the batch durable.
    Write(GroupId, WriteBatch<Bytes>),
    /// Read entries from `from` on, about `max` bytes of them, for a follower.
    Read { group: GroupId, to: Member, from: Index, max: usize },
    /// Begin the log of a group, and then say that its replica is open.
    Begin(GroupId, Base, Box<Opened>),
    /// Drop everything about a group whose replica has its tombstone.
    Forget(GroupId),
}

/// An idle log is sealed after this time, so that its last batch can be told from a torn write
/// (PROTOCOL 4).
const SEAL_AFTER: Duration = Duration::from_millis(20);

/// How often the disk is asked for its free space.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct LogWriter {
    pub(crate) log: Log<RealDisk>,
    pub(crate) work: Receiver<LogWork>,
    pub(crate) events: InboxSender<Input>,
    pub(crate) metrics: Arc<Metrics>,
}

impl LogWriter {
    /// Runs until the process ends, or the log fails.
    pub(crate) fn run(mut self) {
        let _guard = FailOnPanic(self.events.clone(), "log");
        self.keep_spares();
        let mut work = Vec::new();
        let mut batch = Vec::new();
        let mut receipts = Vec::new();
        let mut space_at = Instant::now();
        let mut full = false;
        loop {
            let idle = if self.log.is_unsealed() { SEAL_AFTER } else { SPACE_INTERVAL };
            self.work.receive(&mut work, Some(idle));
            let done = if work.is_empty() {
                self.log.seal().map(|_| ())
            } else {
                self.carry_out(&mut work, &mut batch, &mut receipts)
            };
            if let Err(error) = done {
                return self.fail(&error.to_string());
            }
            if !receipts.is_empty() {
                self.events.send(Input::Persisted(std::mem::take(&mut receipts)));
            }
            match self.log.maintain() {
                // Nothing was written: the next segment that is freed brings it on.
                Ok(_) | Err(LogError::NoSpace { .. }) => {}
                Err(error) => return self.fail(&error.to_string()),
            }
            if space_at.elapsed() >= SPACE_INTERVAL {
                space_at = Instant::now();
                let now_full = self.log.refresh_space();
                if now_full != full {
                    full = now_full;
                    warn!(full, "free space for the log");
                    self.events.send(Input::StorageFull(full));
                }
            }
        }
    }

    /// Everything that waits, with one write and one sync, unless a group is dropped in between.
    fn carry_out(
        &mut self,
        work: &mut Vec<LogWork>,
        batch: &mut Vec<(GroupId, WriteBatch<Bytes>)>,
        receipts: &mut Vec<(GroupId, Receipt)>,
    ) -> Result<(), LogError> {
        for item in work.drain(..) {
            match item {
                LogWork::Write(group, one) => batch.push((group, one)),
                LogWork::Begin(group, base, opened) => {
                    self.write(batch, receipts)?;
                    self.log.create_group(group, base)?;
                    self.events.send(Input::Opened(opened));
                }
                LogWork::Forget(group) => {
                    self.write(batch, receipts)?;
                    self.log.forget_group(group)?;
                }
                // What is read has long been written: its place among the writes does not matter.
                LogWork::Read { group, to, from, max } => {
                    let entries = self.read(group, from, max).into();
                    self.events.send(Input::EntriesRead { group, to, from, entries });
                }
            }
        }
        self.write(batch, receipts)
    }

    /// Nothing where the log is damaged: the follower gets a snapshot instead, and the next start
    /// names what is lost.
    fn read(&self, group: GroupId, from: Index, max: usize) -> Vec<Entry<Bytes>> {
        self.log.read(group, from, max).unwrap_or_else(|error| {
            error!(%group, %from, %error, "entries of the log cannot be read");
            Vec::new()
        })
    }

    fn write(
        &mut self,
        batch: &mut Vec<(GroupId, WriteBatch<Bytes>)>,
        receipts: &mut Vec<(GroupId, Receipt)>,
    ) -> Result<(), LogError> {
        if batch.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        let before = self.log.counters().read();
        persist(&mut self.log, batch, receipts)?;
        let took = begun.elapsed();
        self.metrics.sync_seconds.observe(took.as_secs_f64());
        let counts = self.log.counters().read();
        let sync = Duration::from_nanos(counts.sync_nanos - before.sync_nanos);
        self.metrics.stages.sync.observe(sync.as_secs_f64());
        self.metrics.stages.append.observe(took.saturating_sub(sync).as_secs_f64());
        self.metrics.show_log(counts.syncs, counts.bytes_written);
        Ok(())
    }

    /// After a failed write nothing about the log's tail is known: the process ends, and recovery
    /// reads what the disk has.
    fn fail(&self, reason: &str) {
        error!(reason, "the log has failed");
        self.events.send(Input::PersistFailed(format!("the log has failed: {reason}")));
    }

    /// Allocates spare segments in the background: it takes as long as writing one.
    fn keep_spares(&self) {
        let spares = self.log.spares();
        let fill = move || {
            loop {
                if let Err(error) = spares.fill() {
                    warn!(%error, "cannot allocate a segment of the log in advance");
                    thread::sleep(SPACE_INTERVAL);
                }
                spares.wait_until_wanting(SPACE_INTERVAL);
            }
        };
        if let Err(error) = thread::Builder::new().name("spare-segments".into()).spawn(fill) {
            warn!(%error, "cannot start the thread that allocates segments");
        }
    }
}
