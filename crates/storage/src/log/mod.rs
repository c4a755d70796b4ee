//! The log of a node: one chain of frames in segment files, shared by all its groups.
//!
//! One frame holds what all groups have to write at a moment and costs one write and one
//! `fdatasync`. A group's part of it is a sequence of *records*: hard state, start of the log,
//! truncation, entries.
//!
//! # What recovery decides (PROTOCOL 4)
//! Each frame is chained to the one before by sequence and CRC and says up to which sequence all
//! was durable when it was written. `W` is the highest such mark in any whole frame of the
//! segments' present generations, also behind damage. If the first frame that is damaged or missing
//! has a sequence up to `W`, something that was promised is lost, and [`Log::open`] refuses, naming
//! file, offset, groups and entries. Otherwise everything from it on was never acknowledged and is
//! dropped. Whole frames above `W` may have been acknowledged, or may only be in the page cache:
//! they are written again into a fresh segment and synced before anything of them is returned.
//!
//! # Invariants
//! - A segment is appended to only by the process that began it.
//! - A file has a `segment-` name only after its header was durable under another name; so a
//!   damaged header is always damage, never a torn write.
//! - Segments in use have consecutive numbers; the oldest is freed first, and only when nothing in
//!   it is in force and what replaced it lies below a durable mark on disk.
//! - A record that is copied forward to free its segment is of a kind of its own, which at replay
//!   fills what is absent and never truncates or overrides.
//!
//! # The stated limit
//! Rot of the very last synced frame before any later frame is on disk cannot be told from a torn
//! write. A seal ([`Log::seal`]), written when the log is idle, closes that window.

mod clean;
mod counters;
mod error;
mod frame;
mod groups;
mod index;
mod opening;
mod pool;
mod read;
mod record;
mod scan;
mod segment;
mod segments;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kontiki_raft::{Base, Entry, HardState, StableStorage, WriteBatch};
use kontiki_types::plant::{Plant, planted};
use kontiki_types::{GroupId, Incarnation, Index};

use crate::disk::{Disk, File};
use clean::Cleaner;
pub use counters::{Counters, Counts};
pub use error::{Corruption, LogError, LostEntries, OpenError};
use frame::Frame;
use groups::{Groups, Place};
use index::Builder;
pub use index::is_index;
pub use opening::Opened;
pub use pool::SparePool;
use record::Encoder;
use scan::{TailFrame, io as open_error};
use segment::Mark;
pub use segment::{LOG_VERSION, is_segment};
pub use segments::SegmentFile;
pub use verify::{LogReport, inspect_log, verify_log};

/// Writes end at a page's end, the rest of it zeroed: then no page of a recycled segment has to be
/// read from disk before it is written in part.
const PAGE: u64 = 4096;
/// A buffer that one large frame has grown beyond this is given back.
const BUFFER_MAX: usize = 4 << 20;
/// Groups whose first states share a frame.
const CREATED_AT_ONCE: usize = 256;

/// How a log is kept.
#[derive(Clone)]
pub struct LogConfig {
    /// Size of a segment file. Default 64 MiB. A frame that does not fit gets a larger file.
    pub segment_bytes: u64,
    /// How many unused segments are kept ready. Default 2.
    pub spares: usize,
    /// The log counts as full when less than this is left in allocated segments and no further one
    /// can be made. What is left then is for votes, no-ops, configurations and proposals that were
    /// accepted before. Default 32 MiB.
    pub reserve_bytes: u64,
    /// The log counts as full, too, when the file system has less than this to give. Default
    /// 64 MiB.
    pub free_bytes_min: u64,
    /// The directory that the log belongs to.
    pub incarnation: Incarnation,
    /// Source of generations. Default: the operating system's random numbers.
    pub random: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl LogConfig {
    /// The defaults, for the log of this directory.
    pub fn new(incarnation: Incarnation) -> Self {
        Self {
            segment_bytes: 64 << 20,
            spares: 2,
            reserve_bytes: 32 << 20,
            free_bytes_min: 64 << 20,
            incarnation,
            random: Arc::new(|| crate::random_u64().unwrap_or_else(|_| std::process::abort())),
        }
    }

    fn capacity(&self, frame: u64) -> u64 {
        let segment = self.segment_bytes.max(3 * PAGE).next_multiple_of(PAGE);
        segment.max((segment::START as u64 + frame).next_multiple_of(PAGE))
    }
}

impl fmt::Debug for LogConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogConfig")
            .field("segment_bytes", &self.segment_bytes)
            .field("spares", &self.spares)
            .field("reserve_bytes", &self.reserve_bytes)
            .field("free_bytes_min", &self.free_bytes_min)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

/// What the log takes of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes of all segments in use.
    pub segments: u64,
    /// Bytes of records in force in them.
    pub live: u64,
    /// Bytes that can be written without asking the file system for more.
    pub available: u64,
    /// Whether new proposals should be refused. See [`LogConfig::reserve_bytes`].
    pub full: bool,
}

/// Something to write that does not come from the core: the first state of a group, or a state that
/// an operator restores.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// New hard state.
    pub hard_state: Option<HardState>,
    /// New start of the log.
    pub base: Option<Base>,
    /// Entries from here on are void.
    pub truncate_from: Option<Index>,
    /// Entries to append.
    pub entries: Vec<Entry<Bytes>>,
    /// Everything about the group is void, before the other fields count.
    pub forget: bool,
}

/// The log. Owned by one thread, which blocks in [`StableStorage::write_and_sync`].
pub struct Log<D: Disk> {
    disk: D,
    directory: PathBuf,
    config: LogConfig,
    groups: Groups,
    /// Segments in use but the current one, oldest first.
    old: VecDeque<Closed>,
    current: Current<D::File>,
    pool: SparePool<D>,
    /// Last frame written.
    sequence: u64,
    crc: u32,
    /// Highest sequence whose sync has returned.
    synced: u64,
    /// Highest durable mark in a frame that is itself synced.
    marked: u64,
    /// Last frame that holds records.
    last_records: u64,
    buffer: Vec<u8>,
    sizes: Vec<u32>,
    counters: Arc<Counters>,
    cleaner: Option<Cleaner<D::File>>,
    full: bool,
    failed: bool,
    _lock: D::Lock,
}

/// A segment that is not written any more.
struct Closed {
    number: u64,
    generation: u64,
    capacity: u64,
    end: u64,
}

struct Current<F> {
    file: F,
    path: PathBuf,
    number: u64,
    generation: u64,
    capacity: u64,
    /// Where the next frame goes.
    end: u64,
    /// What is in it.
    index: Builder,
}

/// One group's part of a frame, whoever wants it written.
trait Part {
    fn forget(&self) -> bool;
    fn hard_state(&self) -> Option<HardState>;
    fn base(&self) -> Option<&Base>;
    fn truncate_from(&self) -> Option<Index>;
    fn entries(&self) -> impl Iterator<Item = &Entry<Bytes>>;
}

impl Part for WriteBatch<Bytes> {
    fn forget(&self) -> bool {
        false
    }
    fn hard_state(&self) -> Option<HardState> {
        self.hard_state()
    }
    fn base(&self) -> Option<&Base> {
        self.base()
    }
    fn truncate_from(&self) -> Option<Index> {
        self.truncate_from()
    }
    fn entries(&self) -> impl Iterator<Item = &Entry<Bytes>> {
        self.entries()
    }
}

impl Part for Update {
    fn forget(&self) -> bool {
        self.forget
    }
    fn hard_state(&self) -> Option<HardState> {
        self.hard_state
    }
    fn base(&self) -> Option<&Base> {
        self.base.as_ref()
    }
    fn truncate_from(&self) -> Option<Index> {
        self.truncate_from
    }
    fn entries(&self) -> impl Iterator<Item = &Entry<Bytes>> {
        self.entries.iter()
    }
}

impl<D: Disk> Log<D> {
    /// Writes and syncs what does not come from a core. Durable on return, all or nothing.
    ///
    /// # Errors
    /// As [`StableStorage::write_and_sync`].
    pub fn update(&mut self, updates: &[(GroupId, Update)]) -> Result<(), LogError> {
        self.write(updates)?;
        self.sync()
    }

    /// Writes the first state of a group: its log begins after `base`. Durable on return.
    ///
    /// # Errors
    /// As [`StableStorage::write_and_sync`].
    pub fn create_group(&mut self, group: GroupId, base: Base) -> Result<(), LogError> {
        self.update(&[(group, Update { base: Some(base), ..Update::default() })])
    }

    /// [`Log::create_group`] of many groups, with one sync.
    ///
    /// # Errors
    /// As [`StableStorage::write_and_sync`].
    pub fn create_groups(&mut self, groups: &[(GroupId, Base)]) -> Result<(), LogError> {
        for some in groups.chunks(CREATED_AT_ONCE) {
            let update = |base: &Base| Update { base: Some(base.clone()), ..Update::default() };
            let updates: Vec<_> = some.iter().map(|(id, base)| (*id, update(base))).collect();
            self.write(&updates)?;
        }
        self.sync()
    }

    /// Drops everything about a group. Durable on return. The replica's tombstone, which must
    /// outlive this, is kept by the [directory](crate::directory).
    ///
    /// # Errors
    /// As [`StableStorage::write_and_sync`].
    pub fn forget_group(&mut self, group: GroupId) -> Result<(), LogError> {
        self.update(&[(group, Update { forget: true, ..Update::default() })])
    }

    /// Whether a seal is due once the log has been idle for a moment (50 ms): the last batch is
    /// durable, but no later frame says so yet.
    pub fn is_unsealed(&self) -> bool {
        self.last_records > self.marked
    }

    /// Writes an empty frame that says that everything before it is durable, if that is not said
    /// yet. Returns whether it did.
    ///
    /// # Errors
    /// As [`StableStorage::write_and_sync`].
    pub fn seal(&mut self) -> Result<bool, LogError> {
        let due = self.is_unsealed();
        if due {
            self.write_seal()?;
        }
        Ok(due)
    }

    /// Bytes of the entries of `group` in the log: what `--log-keep` is compared with.
    pub fn group_bytes(&self, group: GroupId) -> u64 {
        self.groups.log_bytes(group)
    }

    /// The groups that have anything in the log.
    pub fn groups(&self) -> Vec<GroupId> {
        self.groups.ids().collect()
    }

    /// What the log has done since it was opened.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// The spare segments, to be filled from a background thread.
    pub fn spares(&self) -> SparePool<D> {
        self.pool.clone()
    }

    /// The segments that are not written any more, to be read and checked elsewhere.
    pub fn closed_segments(&self) -> Vec<SegmentFile> {
        let file = |closed: &Closed| SegmentFile {
            path: self.directory.join(segment::name(closed.number)),
            generation: closed.generation,
            end: closed.end,
        };
        self.old.iter().map(file).collect()
    }

    /// What the log takes of the disk, without asking the disk.
    pub fn space(&self) -> Space {
        let old: u64 = self.old.iter().map(|segment| segment.capacity).sum();
        Space {
            segments: old + self.current.capacity,
            live: self.groups.live_total(),
            available: self.available(),
            full: self.full,
        }
    }

    /// Whether new proposals should be refused, as of the last [`Log::refresh_space`].
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Asks the disk for space, and returns whether new proposals should be refused. To be called
    /// about once a second, and after [`LogError::NoSpace`]. A spare segment is allocated here only
    /// where the reserve would be missing without it: writes wait for as long as that takes.
    pub fn refresh_space(&mut self) -> bool {
        let reserve = self.config.reserve_bytes.min(self.config.capacity(0) / 2);
        if self.available() < reserve && self.pool.is_wanting() {
            let _ = self.pool.fill();
        }
        let free = self.disk.free_space(&self.directory).unwrap_or(u64::MAX);
        self.full = self.available() < reserve || free < self.config.free_bytes_min;
        self.full
    }

    fn available(&self) -> u64 {
        let spare = self.pool.ready() as u64 * self.config.capacity(0);
        self.current.capacity - self.current.end + spare
    }

    fn oldest(&self) -> u64 {
        self.old.front().map_or(self.current.number, |segment| segment.number)
    }

    /// Writes one frame without syncing it.
    fn write<P: Part>(&mut self, parts: &[(GroupId, P)]) -> Result<(), LogError> {
        while self.is_bloated() && self.maintain()? {}
        self.begin_frame();
        let records = self.encode(parts);
        let offset = self.write_frame(records)?;
        if records > 0 {
            self.last_records = self.sequence;
        }
        self.take_in(parts, offset);
        Ok(())
    }

    fn write_seal(&mut self) -> Result<(), LogError> {
        self.sync()?;
        self.begin_frame();
        self.write_frame(0)?;
        self.sync()
    }

    fn begin_frame(&mut self) {
        if self.buffer.capacity() > BUFFER_MAX {
            self.buffer = Vec::new();
        }
        self.buffer.clear();
        self.buffer.resize(frame::HEADER, 0);
        self.sizes.clear();
    }

    fn encode<P: Part>(&mut self, parts: &[(GroupId, P)]) -> u32 {
        let mut encoder = Encoder::new(&mut self.buffer);
        for (group, part) in parts {
            let group = *group;
            let mut size = |bytes: usize| self.sizes.push(bytes as u32);
            if part.forget() {
                size(encoder.forget(group));
            }
            if let Some(state) = part.hard_state() {
                size(encoder.hard_state(group, &state));
            }
            if let Some(base) = part.base() {
                size(encoder.base(group, base));
            }
            if let Some(from) = part.truncate_from() {
                size(encoder.truncate(group, from));
            }
            for entry in part.entries() {
                size(encoder.entry(group, entry));
            }
        }
        encoder.records
    }

    /// What was written is in force: the same steps as at replay.
    fn take_in<P: Part>(&mut self, parts: &[(GroupId, P)], offset: u64) {
        let segment = self.current.number;
        let mut sizes = self.sizes.iter().copied();
        let mut place = || Place::new(segment, offset, sizes.next().unwrap_or(0));
        for (group, part) in parts {
            let group = *group;
            if part.forget() {
                place();
                self.groups.forget(group);
            }
            if let Some(state) = part.hard_state() {
                self.groups.hard_state(group, state, place());
            }
            if let Some(base) = part.base() {
                self.groups.base(group, base.clone(), place());
            }
            if let Some(from) = part.truncate_from() {
                place();
                self.groups.truncate(group, from);
            }
            for entry in part.entries() {
                let taken = self.groups.entry(group, entry, place());
                assert!(taken.is_ok(), "the log of {group} jumps to entry {}", entry.id);
            }
        }
    }

    /// Writes the buffer as the next frame, and says where in the current segment it stands.
    fn write_frame(&mut self, records: u32) -> Result<u64, LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        let length = self.buffer.len();
        let size = frame::padded(length) as u64;
        if self.current.end + size > self.current.capacity {
            self.next_segment(size)?;
        }
        let frame = Frame {
            generation: self.current.generation,
            sequence: self.sequence + 1,
            durable: self.synced,
            oldest: self.oldest(),
            previous: self.crc,
            records,
            crc: 0,
            length: 0,
        };
        let crc = frame.seal(&mut self.buffer);
        let end = (self.current.end + size).next_multiple_of(PAGE);
        self.buffer.resize((end - self.current.end) as usize, 0);
        let written = self.current.file.write_at(&self.buffer, self.current.end);
        self.check(written, "write")?;
        self.counters.wrote(self.buffer.len() as u64);
        self.buffer.truncate(length);
        let offset = self.current.end;
        let frame = Frame { crc, length: (length - frame::HEADER) as u32, ..frame };
        self.current.index.frame(offset, &frame, &self.buffer[frame::HEADER..]);
        self.current.end += size;
        self.sequence += 1;
        self.crc = crc;
        Ok(offset)
    }

    /// Returns once all frames written are on stable storage.
    fn sync(&mut self) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        if self.synced < self.sequence {
            let mark = Mark { generation: self.current.generation, durable: self.synced };
            let place = Mark::offset(self.sequence) as u64;
            let marked = self.current.file.write_at(&mark.encode(), place);
            self.check(marked, "write")?;
            let begun = Instant::now();
            let mut synced = self.current.file.sync_data();
            if planted(Plant::SyncErrorIgnored) {
                synced = Ok(());
            }
            self.check(synced, "sync")?;
            self.counters.synced(begun.elapsed());
            // The frame that is durable last says this of all frames before it.
            self.marked = self.synced;
            self.synced = self.sequence;
        }
        Ok(())
    }

    fn next_segment(&mut self, frame: u64) -> Result<(), LogError> {
        self.sync()?;
        let header = segment::Header {
            incarnation: self.config.incarnation.get(),
            number: self.current.number + 1,
            generation: (self.config.random)(),
            follows: self.sequence,
            follows_crc: self.crc,
            durable: self.synced,
            oldest: self.oldest(),
            capacity: self.config.capacity(frame),
        };
        let (disk, directory, config) = (&self.disk, &self.directory, &self.config);
        let fresh = Fresh { disk, directory, config, pool: &self.pool };
        let next = match fresh.begin(header, &[], &self.counters) {
            Ok(next) => next,
            Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::StorageFull => {
                self.full = true;
                let directory = self.directory.clone();
                return Err(LogError::NoSpace { needed: header.capacity, directory });
            }
            Err(OpenError::Io { action, path, source }) => {
                self.failed = true;
                return Err(LogError::Io { action, path, source });
            }
            Err(_) => {
                self.failed = true;
                return Err(LogError::Failed);
            }
        };
        let last = std::mem::replace(&mut self.current, next);
        self.marked = self.synced;
        let Current { number, generation, capacity, end, index, .. } = last;
        if let Some(index) = index.finish(number, generation) {
            self.leave_index(number, &index);
        }
        self.old.push_back(Closed { number, generation, capacity, end });
        Ok(())
    }

    fn check(&mut self, result: io::Result<()>, action: &'static str) -> Result<(), LogError> {
        result.map_err(|source| {
            self.failed = true;
            LogError::Io { action, path: self.current.path.clone(), source }
        })
    }
}

impl<D: Disk> StableStorage<Bytes> for Log<D> {
    type Error = LogError;

    /// One write and one `fdatasync`, whatever the number of groups.
    ///
    /// # Errors
    /// After [`LogError::NoSpace`] the log is unchanged. After any other it takes no more writes,
    /// and what is on stable storage is unknown.
    fn write_and_sync(&mut self, batches: &[(GroupId, WriteBatch<Bytes>)]) -> Result<(), LogError> {
        if batches.is_empty() {
            return Ok(());
        }
        self.write(batches)?;
        self.sync()
    }
}

/// Begins segments.
struct Fresh<'a, D: Disk> {
    disk: &'a D,
    directory: &'a Path,
    config: &'a LogConfig,
    pool: &'a SparePool<D>,
}

/// A segment begun by a recovery, and the last frame in it.
struct Begun<F> {
    current: Current<F>,
    sequence: u64,
    crc: u32,
}

impl<D: Disk> Fresh<'_, D> {
    /// Makes a segment that begins with `frames`. They, the header and the file's name are durable
    /// on return, and none of it is visible as a segment before all of it is durable.
    fn begin(
        &self,
        header: segment::Header,
        frames: &[u8],
        counters: &Counters,
    ) -> Result<Current<D::File>, OpenError> {
        let (spare, file, recycled) =
            self.pool.take(header.capacity).map_err(open_error("allocate", self.directory))?;
        let mark = Mark { generation: header.generation, durable: header.durable };
        let mut start = vec![0; segment::PAGE];
        let mark = mark.encode();
        start[..mark.len()].copy_from_slice(&mark);
        start.extend_from_slice(&header.encode());
        start.extend_from_slice(frames);
        let end = start.len() as u64;
        start.resize((end.next_multiple_of(PAGE)) as usize, 0);
        file.write_at(&start, 0).map_err(open_error("write", &spare))?;
        file.sync_data().map_err(open_error("sync", &spare))?;
        let path = self.directory.join(segment::name(header.number));
        self.disk.rename(&spare, &path).map_err(open_error("rename", &spare))?;
        self.disk.sync_dir(self.directory).map_err(open_error("sync", self.directory))?;
        counters.began_segment(recycled);
        let (number, generation, capacity) = (header.number, header.generation, header.capacity);
        let index = Builder::default();
        Ok(Current { file, path, number, generation, capacity, end, index })
    }

    /// The segment with which a recovery begins: the frames that were not known to be durable,
    /// written again, and a seal over them.
    fn begin_with(
        &self,
        mut header: segment::Header,
        tail: &VecDeque<TailFrame>,
        counters: &Counters,
    ) -> Result<Begun<D::File>, OpenError> {
        let mut frames = Vec::new();
        let mut index = Builder::default();
        let (mut sequence, mut crc) = (header.follows, header.follows_crc);
        let seal = (0, Bytes::new());
        let bodies = tail.iter().map(|old| (old.frame.records, old.body.clone()));
        for (records, body) in bodies.chain([seal]) {
            let mut buffer = vec![0; frame::HEADER];
            buffer.extend_from_slice(&body);
            sequence += 1;
            let frame = Frame {
                generation: header.generation,
                sequence,
                // Nothing here is visible before all of it is durable, so the seal may say so.
                durable: if body.is_empty() { sequence - 1 } else { header.follows },
                oldest: header.oldest,
                previous: crc,
                records,
                crc: 0,
                length: 0,
            };
            crc = frame.seal(&mut buffer);
            let frame = Frame { crc, length: body.len() as u32, ..frame };
            index.frame((segment::START + frames.len()) as u64, &frame, &body);
            buffer.resize(frame::padded(buffer.len()), 0);
            frames.extend_from_slice(&buffer);
        }
        header.capacity = self.config.capacity(frames.len() as u64);
        let current = self.begin(header, &frames, counters)?;
        Ok(Begun { current: Current { index, ..current }, sequence, crc })
    }
}
