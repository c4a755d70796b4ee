//! Opening a log: what the segments prove, read as far as it is needed, and a fresh segment to go on in.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kontiki_raft::Recovered;
use kontiki_types::plant::{Plant, planted};
use kontiki_types::{GroupId, LogId};

use super::counters::Counters;
use super::error::{Corruption, LogError, OpenError};
use super::groups::{Applied, Place};
use super::pool::SparePool;
use super::read::Piece;
use super::record::{Body, Decoder};
use super::scan::{self, Indexes, Scan, TailFrame, io as open_error};
use super::{Closed, Fresh, Log, LogConfig, index, segment};
use crate::disk::{Disk, File};

/// What opening a log has brought.
pub struct Opened<D: Disk> {
    /// The log.
    pub log: Log<D>,
    /// What it proves of each group.
    pub groups: BTreeMap<GroupId, Recovered<Bytes>>,
    /// Bytes of files that were read for it.
    pub bytes_read: u64,
    /// How long reading them took.
    pub reading: Duration,
    /// How long it took to begin a fresh segment.
    pub writing: Duration,
}

impl<D: Disk> Log<D> {
    /// Opens the log in `directory`, or begins one there, and returns what it proves of each group:
    /// [`Log::open_after`] with nothing known of the states.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing on disk has been changed then.
    pub fn open(
        disk: D,
        directory: &Path,
        config: LogConfig,
    ) -> Result<(Self, BTreeMap<GroupId, Recovered<Bytes>>), OpenError> {
        let opened = Self::open_after(disk, directory, config, &BTreeMap::new())?;
        Ok((opened.log, opened.groups))
    }

    /// Opens the log in `directory`, or begins one there. `applied` says up to which entry the states
    /// of groups are durable: what they have of the log is only named ([`Recovered::stored`]), and where
    /// segments have an index not even read. Everything returned is on stable storage.
    /// [`Recovered::applied`] is set to the base: the state engine knows better.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing on disk has been changed then.
    pub fn open_after(
        disk: D,
        directory: &Path,
        config: LogConfig,
        applied: &BTreeMap<GroupId, LogId>,
    ) -> Result<Opened<D>, OpenError> {
        let begun = Instant::now();
        disk.create_dir(directory).map_err(open_error("create", directory))?;
        let lock_path = directory.join("lock");
        let lock = disk.lock(&lock_path).map_err(open_error("lock", &lock_path))?;
        let lock = lock.ok_or_else(|| OpenError::Locked(directory.to_path_buf()))?;
        let incarnation = config.incarnation.get();
        let read = |indexes| {
            let scan = scan::scan(&disk, directory, incarnation, indexes)?;
            complete(&disk, directory, scan, applied)
        };
        let indexes = if applied.is_empty() { Indexes::Ignored } else { Indexes::Used };
        let scan = match read(indexes) {
            // With all of it read the damage can be named.
            Err(OpenError::Corrupt(_)) if indexes == Indexes::Used => read(Indexes::Ignored)?,
            read => read?,
        };
        let Scan { mut groups, segments, mut durable, mut durable_crc, mut tail, bytes_read } =
            scan;
        let recovered = groups.recovered(applied);
        let number = next_number(&segments);
        if let Some(last) = tail.back()
            && planted(Plant::TailTrusted)
        {
            (durable, durable_crc) = (last.frame.sequence, last.frame.crc);
            tail.clear();
        }
        let reading = begun.elapsed();

        let spares = config.spares.max(1);
        let pool = SparePool::open(&disk, directory, config.capacity(0), spares)
            .map_err(open_error("list", directory))?;
        let oldest = segments.first().map_or(number, |segment| segment.header.number);
        let header = segment::Header {
            incarnation,
            number,
            generation: (config.random)(),
            follows: durable,
            follows_crc: durable_crc,
            durable,
            oldest,
            capacity: 0,
        };
        let counters = Arc::<Counters>::default();
        let fresh = Fresh { disk: &disk, directory, config: &config, pool: &pool };
        let begun_segment = fresh.begin_with(header, &tail, &counters)?;
        let mut missing = Vec::new();
        let mut old = std::collections::VecDeque::new();
        for segment in segments {
            let scan::Segment { header, end, index } = segment;
            missing.extend(index.map(|index| (header.number, index)));
            let (number, generation, capacity) =
                (header.number, header.generation, header.capacity);
            old.push_back(Closed { number, generation, capacity, end });
        }
        let log = Self {
            current: begun_segment.current,
            sequence: begun_segment.sequence,
            crc: begun_segment.crc,
            synced: begun_segment.sequence,
            marked: begun_segment.sequence,
            last_records: begun_segment.sequence,
            directory: directory.to_path_buf(),
            groups,
            old,
            pool,
            disk,
            config,
            buffer: Vec::new(),
            sizes: Vec::new(),
            counters,
            cleaner: None,
            full: false,
            failed: false,
            _lock: lock,
        };
        log.remove_stray_indexes();
        for (number, index) in missing {
            log.leave_index(number, &index);
        }
        let writing = begun.elapsed().saturating_sub(reading);
        Ok(Opened { log, groups: recovered, bytes_read, reading, writing })
    }

    /// All that the log has of `group`, in memory: what `recovered` only names is read.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn reload(
        &self,
        group: GroupId,
        recovered: Recovered<Bytes>,
    ) -> Result<Recovered<Bytes>, LogError> {
        let Some(first) = recovered.stored.runs.first() else { return Ok(recovered) };
        let mut entries = self.read(group, first.first, usize::MAX)?;
        let known = recovered.entries.first().map(|entry| entry.id.index);
        entries.retain(|entry| known.is_none_or(|known| entry.id.index < known));
        entries.extend(recovered.entries);
        Ok(Recovered { stored: kontiki_raft::Stored::default(), entries, ..recovered })
    }

    /// Leaves an index beside its segment. Without one the next start takes longer, that is all.
    pub(super) fn leave_index(&self, number: u64, bytes: &[u8]) {
        let path = self.directory.join(index::name(number));
        // Numbers are used once; but what stands there may be an index that could not be used.
        let _ = self.disk.remove(&path);
        let left = self.disk.create(&path).and_then(|file| file.write_at(bytes, 0));
        if left.is_err() {
            let _ = self.disk.remove(&path);
        }
    }

    /// Removes what is no index of a segment in use, also one that is about to be written again.
    fn remove_stray_indexes(&self) {
        let Ok(names) = self.disk.list(&self.directory) else { return };
        for name in names {
            let is_stray = index::number(&name)
                .is_some_and(|number| !self.old.iter().any(|old| old.number == number));
            if is_stray {
                let _ = self.disk.remove(&self.directory.join(name));
            }
        }
    }
}

fn next_number(segments: &[scan::Segment]) -> u64 {
    segments.last().map_or(1, |segment| segment.header.number + 1)
}

/// Takes in the frames that are not known to be durable, checks what must hold, and reads what the
/// segments have beyond `applied` and their indexes have not told.
fn complete<D: Disk>(
    disk: &D,
    directory: &Path,
    mut scan: Scan,
    applied: &Applied,
) -> Result<Scan, OpenError> {
    let corrupt = |detail| {
        let (file, offset, lost) = (directory.to_path_buf(), 0, Vec::new());
        OpenError::Corrupt(Box::new(Corruption { file, offset, detail, lost }))
    };
    // They will stand in the segment that is about to begin, one behind the other.
    let number = next_number(&scan.segments);
    let mut offset = segment::START as u64;
    for TailFrame { frame, body, .. } in &scan.tail {
        scan.groups.replay(number, offset, body.clone()).map_err(corrupt)?;
        offset += frame.size();
    }
    scan.groups.check().map_err(corrupt)?;
    let segments = scan.segments.iter().map(|segment| {
        let header = &segment.header;
        (header.number, (header.generation, segment.end))
    });
    let segments: BTreeMap<_, _> = segments.collect();
    let unreadable = |error| match error {
        LogError::Io { action, path, source } => OpenError::Io { action, path, source },
        LogError::Corrupt(corruption) => OpenError::Corrupt(corruption),
        other => corrupt(other.to_string()),
    };
    for (number, frames) in scan.groups.missing(applied) {
        let Some(&segment) = segments.get(&number) else { continue };
        let mut piece = Piece::open(disk, directory, number, segment).map_err(unreadable)?;
        for offset in frames {
            let place = Place::new(number, u64::from(offset), 0);
            let body = piece.body_at(u64::from(offset)).map_err(unreadable)?;
            for record in Decoder::new(body) {
                let record =
                    record.map_err(|_| corrupt("a record is not understood".to_owned()))?;
                if let Body::Entry(entry) = record.body {
                    scan.groups.found(record.group, entry, place);
                }
            }
        }
        scan.bytes_read += piece.bytes_read;
    }
    if !scan.groups.missing(applied).is_empty() {
        return Err(corrupt("entries that the log has are not where they should be".to_owned()));
    }
    Ok(scan)
}
