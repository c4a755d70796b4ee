//! The thread that owns the log: one write and one fdatasync for everything that waits.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kontiki_raft::{Base, Entry, Receipt, Recovered, StableStorage, WriteBatch, persist};
use kontiki_replica::Opened;
use kontiki_storage::disk::RealDisk;
use kontiki_storage::log::{Log, LogError, SegmentFile};
use kontiki_storage::recovery::finish_install;
use kontiki_storage::snapshot::Snapshots;
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
    /// Have the log of a replica begin where the state that a peer has given it needs it to, and
    /// then say that it is open.
    Adopt(Box<Opened>),
    /// Drop everything about a group whose replica has its tombstone.
    Forget(GroupId),
    /// Name the segments that are not written any more.
    Segments(mpsc::Sender<Vec<SegmentFile>>),
}

/// An idle log is sealed after this time, so that its last batch can be told from a torn write
/// (PROTOCOL 4).
const SEAL_AFTER: Duration = Duration::from_millis(20);

/// How often a write is tried again for which there was no space.
const FULL_PAUSE: Duration = Duration::from_millis(200);

/// How often the disk is asked for its free space.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct LogWriter {
    pub(crate) log: Log<RealDisk>,
    /// Where snapshot files are.
    pub(crate) snapshots: Snapshots<RealDisk>,
    pub(crate) work: Receiver<LogWork>,
    pub(crate) events: InboxSender<Input>,
    pub(crate) metrics: Arc<Metrics>,
    /// Whether the event loop believes that the disk is full.
    pub(crate) full: bool,
}

/// The log as a storage that waits for space.
struct Patient<'a>(&'a mut LogWriter);

impl StableStorage<Bytes> for Patient<'_> {
    type Error = LogError;

    fn write_and_sync(&mut self, batches: &[(GroupId, WriteBatch<Bytes>)]) -> Result<(), LogError> {
        self.0.patiently(|log| log.write_and_sync(batches))
    }
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
        loop {
            let idle = if self.log.is_unsealed() { SEAL_AFTER } else { SPACE_INTERVAL };
            self.work.receive(&mut work, Some(idle));
            let done = if work.is_empty() {
                match self.log.seal() {
                    // It is only put off.
                    Ok(_) | Err(LogError::NoSpace { .. }) => Ok(()),
                    Err(error) => Err(error),
                }
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
                if now_full != self.full {
                    self.full = now_full;
                    warn!(full = now_full, "free space for the log");
                    self.events.send(Input::StorageFull(now_full));
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
                    self.patiently(|log| log.create_group(group, base.clone()))?;
                    self.events.send(Input::Opened(opened));
                }
                LogWork::Adopt(opened) => {
                    self.write(batch, receipts)?;
                    let adopted = self.adopt(*opened)?;
                    self.events.send(Input::Opened(Box::new(adopted)));
                }
                LogWork::Forget(group) => {
                    self.write(batch, receipts)?;
                    self.patiently(|log| log.forget_group(group))?;
                }
                // Whoever asked may have gone.
                LogWork::Segments(asker) => drop(asker.send(self.log.closed_segments())),
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
        persist(&mut Patient(self), batch, receipts)?;
        let took = begun.elapsed();
        self.metrics.sync_seconds.observe(took.as_secs_f64());
        let counts = self.log.counters().read();
        let sync = Duration::from_nanos(counts.sync_nanos - before.sync_nanos);
        self.metrics.stages.sync.observe(sync.as_secs_f64());
        self.metrics.stages.append.observe(took.saturating_sub(sync).as_secs_f64());
        self.metrics.show_log(counts.syncs, counts.bytes_written);
        Ok(())
    }

    fn adopt(&mut self, mut opened: Opened) -> Result<Opened, LogError> {
        let (group, applied) = (opened.group, opened.applied);
        let recovered = std::mem::take(&mut opened.recovered);
        let recovered = finish_install(&mut self.log, &self.snapshots, group, applied, recovered)?;
        Ok(Opened { recovered: Recovered { applied: applied.index, ..recovered }, ..opened })
    }

    /// Writes to the log. Where there is no space for it nothing was written, and it is tried again
    /// until there is: what waits behind it waits, and this replica says nothing meanwhile that it
    /// could not keep.
    fn patiently<T>(
        &mut self,
        mut write: impl FnMut(&mut Log<RealDisk>) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let mut is_said = false;
        loop {
            match write(&mut self.log) {
                Err(error @ LogError::NoSpace { .. }) => {
                    if !std::mem::replace(&mut is_said, true) {
                        error!(%error, "the disk is full: this node waits for space, and acknowledges \
                                nothing until there is some");
                        self.full = true;
                        self.events.send(Input::StorageFull(true));
                    }
                    thread::sleep(FULL_PAUSE);
                    self.log.refresh_space();
                }
                done => {
                    if is_said {
                        warn!("there is space for the log again");
                    }
                    return done;
                }
            }
        }
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
