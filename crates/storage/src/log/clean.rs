//! Giving segments back (PROTOCOL 4b): the oldest one is freed when nothing in it is in force. When
//! the log takes too much for what it holds, what is in force in the oldest is copied forward first,
//! so that a quiet group pins nothing.

use std::path::PathBuf;

use bytes::Bytes;

use super::error::{Corruption, LogError};
use super::frame::{self, Frame};
use super::record::{Body, Decoder, Encoder, Record};
use super::segment::{self, Header};
use super::{Closed, Log, index};
use crate::disk::{Disk, File};

/// Bytes copied forward in one step, so that a write never waits long for one.
const STEP: usize = 1 << 20;
/// Segments that the log may take beyond twice what it holds.
const SLACK_SEGMENTS: u64 = 3;
/// Beyond this many, a write that needs a segment first frees one itself.
const SLACK_SEGMENTS_HARD: u64 = 6;

/// A pass over the oldest segment.
pub(super) struct Cleaner<F> {
    file: F,
    path: PathBuf,
    number: u64,
    generation: u64,
    /// Next frame to look at.
    at: u64,
    end: u64,
}

impl<D: Disk> Log<D> {
    /// Takes one step, if one is due, towards giving back a segment: frees the oldest, or copies up
    /// to 1 MiB of it forward. Returns whether another step is due. To be called after each batch,
    /// once its receipts have been passed on.
    ///
    /// # Errors
    /// As [`write_and_sync`](kontiki_raft::StableStorage::write_and_sync), and
    /// [`LogError::Corrupt`] when what must be copied is damaged.
    pub fn maintain(&mut self) -> Result<bool, LogError> {
        let Some(oldest) = self.old.front() else { return Ok(false) };
        if self.groups.live(oldest.number) == 0 {
            self.free_oldest()?;
        } else if self.excess() > SLACK_SEGMENTS * self.config.capacity(0) {
            self.copy_forward()?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether [`Log::maintain`] should run before another segment is taken.
    pub(super) fn is_bloated(&self) -> bool {
        self.excess() > SLACK_SEGMENTS_HARD * self.config.capacity(0)
    }

    fn excess(&self) -> u64 {
        let space = self.space();
        space.segments.saturating_sub(2 * space.live)
    }

    fn free_oldest(&mut self) -> Result<(), LogError> {
        let Some(oldest) = self.old.pop_front() else { return Ok(()) };
        // This frame says that the segment is not needed. It also says that what is in force
        // instead is durable: were that in the very last frame and taken for a torn write, the
        // older state would be needed.
        if let Err(error) = self.write_seal() {
            self.old.push_front(oldest);
            return Err(error);
        }
        self.cleaner = None;
        self.groups.drop_segment(oldest.number);
        let path = self.directory.join(segment::name(oldest.number));
        let _ = self.disk.remove(&self.directory.join(index::name(oldest.number)));
        self.pool.give_back(&path, oldest.capacity).map_err(|source| {
            self.failed = true;
            LogError::Io { action: "free", path, source }
        })?;
        self.counters.freed_segment();
        Ok(())
    }

    fn copy_forward(&mut self) -> Result<(), LogError> {
        let Some(mut cleaner) =
            self.cleaner.take().map_or_else(|| self.cleaner(), |c| Ok(Some(c)))?
        else {
            return Ok(());
        };
        let mut records: Vec<Record> = Vec::new();
        let mut bytes = 0;
        while bytes < STEP && cleaner.at < cleaner.end {
            for record in cleaner.next_frame()? {
                if self.groups.is_live(&record, cleaner.number) {
                    bytes += record.bytes;
                    records.push(record);
                }
            }
        }
        let done = cleaner.at >= cleaner.end;
        if !records.is_empty() {
            self.write_again(&records)?;
            self.counters.rewrote(bytes as u64);
        }
        assert!(
            !done || self.groups.live(cleaner.number) == 0,
            "{} bytes in segment {} count as in force, but no record there is",
            self.groups.live(cleaner.number),
            cleaner.number
        );
        self.cleaner = (!done).then_some(cleaner);
        Ok(())
    }

    fn write_again(&mut self, records: &[Record]) -> Result<(), LogError> {
        self.begin_frame();
        let mut encoder = Encoder::new(&mut self.buffer).rewriting();
        for record in records {
            match &record.body {
                Body::HardState(state) => encoder.hard_state(record.group, state),
                Body::Base(base) => encoder.base(record.group, base),
                Body::Entry(entry) => encoder.entry(record.group, entry),
                Body::Truncate(_) | Body::Forget => continue,
            };
        }
        let count = encoder.records;
        let body = Bytes::copy_from_slice(&self.buffer[frame::HEADER..]);
        let offset = self.write_frame(count)?;
        self.last_records = self.sequence;
        self.sync()?;
        let taken = self.groups.replay(self.current.number, offset, body);
        assert!(taken.is_ok(), "a record that was just encoded cannot be read: {taken:?}");
        Ok(())
    }

    fn cleaner(&self) -> Result<Option<Cleaner<D::File>>, LogError> {
        let Some(&Closed { number, end, .. }) = self.old.front() else { return Ok(None) };
        let path = self.directory.join(segment::name(number));
        let io = |source| LogError::Io { action: "read", path: path.clone(), source };
        let file = self.disk.open(&path).map_err(io)?;
        let mut page = vec![0; segment::PAGE];
        file.read_exact_at(&mut page, segment::HEADER as u64).map_err(io)?;
        let header = Header::decode(&page)
            .map_err(|_| corrupt(&path, 0, "the header of the segment is damaged"))?;
        let (generation, at) = (header.generation, segment::START as u64);
        Ok(Some(Cleaner { file, path, number, generation, at, end }))
    }
}

impl<F: File> Cleaner<F> {
    fn next_frame(&mut self) -> Result<Vec<Record>, LogError> {
        let path = &self.path;
        let io = |source| LogError::Io { action: "read", path: path.clone(), source };
        let damaged =
            || corrupt(path, self.at, "a frame was whole when it was written, but is not");
        let mut bytes = vec![0; frame::HEADER];
        self.file.read_exact_at(&mut bytes, self.at).map_err(io)?;
        let header = Frame::header(&bytes, self.generation).ok_or_else(damaged)?;
        if self.at + header.size() > self.end {
            return Err(damaged());
        }
        bytes.resize(header.size() as usize, 0);
        self.file.read_exact_at(&mut bytes, self.at).map_err(io)?;
        let (frame, body) = Frame::parse(&bytes, self.generation).ok_or_else(damaged)?;
        let records: Result<Vec<_>, _> = Decoder::new(Bytes::copy_from_slice(body)).collect();
        let records = records.map_err(|_| damaged())?;
        self.at += frame.size();
        Ok(records)
    }
}

pub(super) fn corrupt(path: &std::path::Path, offset: u64, detail: &str) -> LogError {
    let (file, detail) = (path.to_path_buf(), detail.to_owned());
    LogError::Corrupt(Box::new(Corruption { file, offset, detail, lost: Vec::new() }))
}
