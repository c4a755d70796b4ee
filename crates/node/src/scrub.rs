//! Reads what nobody asks for, slowly, so that damage is found while other nodes can still help.
//!
//! Tables of the states are compared with the checksums that were kept of them, snapshots block by
//! block, and closed segments of the log frame by frame. A damaged state is discarded and made anew
//! (the process starts itself again for that), a damaged snapshot is removed: another one is made
//! when it is needed. A damaged segment is named, loudly: what it holds cannot be had from peers one by
//! one, and a start that has to read it refuses it.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use kontiki_storage::disk::{Disk as _, RealDisk};
use kontiki_storage::engine::TableFile;
use kontiki_storage::log::SegmentFile;
use kontiki_storage::snapshot::{SnapshotError, Snapshots};
use kontiki_types::GroupId;
use tracing::{error, info, warn};

use crate::event_loop::Input;
use crate::log_writer::LogWork;
use crate::mailbox::{InboxSender, Sender};
use crate::metrics::Metrics;

/// The disk cannot read it.
const EIO: i32 = 5;
/// Bytes that are read in a second, at most.
const BYTES_PER_SECOND: u64 = 16 << 20;
/// How long another thread may take to name its files.
const NAMES_TIMEOUT: Duration = Duration::from_secs(60);

/// What reads, and whom it tells.
pub(crate) struct Scrubber {
    pub(crate) dir: PathBuf,
    /// Between the end of a pass and the next one. Zero: never.
    pub(crate) interval: Duration,
    pub(crate) events: InboxSender<Input>,
    pub(crate) log: Sender<LogWork>,
    pub(crate) metrics: std::sync::Arc<Metrics>,
}

impl Scrubber {
    /// Starts the thread, unless there is to be none.
    pub(crate) fn start(self) -> io::Result<()> {
        if self.interval.is_zero() {
            return Ok(());
        }
        let run = move || {
            loop {
                thread::sleep(self.interval);
                let bytes = self.states() + self.snapshots() + self.segments();
                self.metrics.scrubs.inc();
                info!(bytes, "everything on disk was read");
            }
        };
        thread::Builder::new().name("scrub".into()).spawn(run).map(drop)
    }

    fn states(&self) -> u64 {
        let (sender, files) = mpsc::channel::<Vec<(GroupId, TableFile)>>();
        self.events.send(Input::TableFiles(sender));
        let mut bytes = 0;
        for (group, file) in files.recv_timeout(NAMES_TIMEOUT).unwrap_or_default() {
            match file.first_damage(|read| bytes += paced(read)) {
                Ok(Some(offset)) => {
                    let reason =
                        format!("{}: offset {offset}: a table is damaged", file.path.display());
                    self.found(&reason);
                    self.events.send(Input::Damaged { group, reason });
                    return bytes;
                }
                Ok(None) => {}
                // It was merged into others since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.raw_os_error() == Some(EIO) => {
                    let reason = format!("{}: {error}", file.path.display());
                    self.found(&reason);
                    self.events.send(Input::Damaged { group, reason });
                    return bytes;
                }
                Err(error) => warn!(%error, path = %file.path.display(), "cannot read a table"),
            }
        }
        bytes
    }

    fn snapshots(&self) -> u64 {
        let snapshots = Snapshots::existing(RealDisk, &self.dir.join("snapshots"));
        let mut bytes = 0;
        for (group, id, path) in snapshots.all().unwrap_or_default() {
            let read = snapshots.read(group, id).and_then(|mut snapshot| {
                let size = snapshot.meta().bytes;
                bytes += paced(usize::try_from(size).unwrap_or(usize::MAX));
                snapshot.verify()
            });
            if let Err(error @ SnapshotError::Damaged { .. }) = read {
                self.found(&error.to_string());
                if let Err(error) = RealDisk.remove(&path) {
                    error!(%error, path = %path.display(), "cannot remove a damaged snapshot");
                }
            }
        }
        bytes
    }

    fn segments(&self) -> u64 {
        let (sender, files) = mpsc::channel::<Vec<SegmentFile>>();
        self.log.send(LogWork::Segments(sender));
        let mut bytes = 0;
        for file in files.recv_timeout(NAMES_TIMEOUT).unwrap_or_default() {
            match file.first_damage(&RealDisk, |read| bytes += paced(read)) {
                Ok(Some(offset)) => self.found(&format!(
                    "{}: offset {offset}: a frame of the log is damaged, and a start that has to \
                     read it refuses it: as long as the others run, empty this node's directory, \
                     start it with --join HOST:PORT, and run `kontiki cluster readmit --node N`",
                    file.path.display()
                )),
                Ok(None) => {}
                // It was given back since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.found(&format!("{}: {error}", file.path.display())),
            }
        }
        bytes
    }

    fn found(&self, what: &str) {
        self.metrics.damaged_files.inc();
        error!(what, "damage on disk");
    }
}

/// Waits as long as reading so much is to take, and says how much that was.
fn paced(bytes: usize) -> u64 {
    let bytes = bytes as u64;
    thread::sleep(Duration::from_micros(bytes.saturating_mul(1_000_000) / BYTES_PER_SECOND));
    bytes
}
