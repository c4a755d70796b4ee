//! Reading entries back: for followers that need what the core does not keep in memory.
//!
//! An entry's place is that of its frame, so that everything read is proven by the frame's checksum.
//! Frames of one stretch of the log stand one behind the other, so a file is read in large pieces.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use kontiki_raft::Entry;
use kontiki_types::{GroupId, Index};

use super::clean::corrupt;
use super::error::LogError;
use super::frame::{self, Frame};
use super::groups::Place;
use super::record::{Body, Decoder};
use super::{Log, segment};
use crate::disk::{Disk, File};

/// Bytes of a file that are read at once. A larger frame is read by itself.
const PIECE: u64 = 256 << 10;

impl<D: Disk> Log<D> {
    /// Entries of `group` from `from` on, as they stand on disk, in one piece and in order: as many
    /// as take about `bytes_max` there, and at least one. None if the log does not have `from`.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] names a frame that is damaged; otherwise what reading gives. Writing goes
    /// on.
    pub fn read(
        &self,
        group: GroupId,
        from: Index,
        bytes_max: usize,
    ) -> Result<Vec<Entry<Bytes>>, LogError> {
        let mut entries: Vec<Entry<Bytes>> = Vec::new();
        let mut piece: Option<Piece<D::File>> = None;
        let mut bytes = 0;
        let mut next = from;
        while bytes < bytes_max
            && let Some(place) = self.groups.place(group, next)
        {
            let mut reader = match piece.take() {
                Some(reader) if reader.segment == place.segment => reader,
                _ => self.piece(place.segment)?,
            };
            let before = next;
            for record in Decoder::new(reader.body_at(u64::from(place.offset))?) {
                let record = record.map_err(|_| reader.damaged(place))?;
                let Body::Entry(entry) = record.body else { continue };
                let wanted = (record.group, entry.id.index) == (group, next)
                    && self.groups.has(group, entry.id, place)
                    && (bytes < bytes_max || entries.is_empty());
                if wanted {
                    bytes += record.bytes;
                    next = next.next();
                    entries.push(entry);
                }
            }
            if next == before {
                return Err(reader.damaged(place));
            }
            piece = Some(reader);
        }
        Ok(entries)
    }

    fn piece(&self, number: u64) -> Result<Piece<D::File>, LogError> {
        let old = self.old.iter().find(|segment| segment.number == number);
        let (generation, end) = old
            .map_or((self.current.generation, self.current.end), |old| (old.generation, old.end));
        Piece::open(&self.disk, &self.directory, number, (generation, end))
    }
}

/// A part of a segment.
pub(super) struct Piece<F> {
    file: F,
    path: PathBuf,
    segment: u64,
    generation: u64,
    /// Where the last frame ends.
    end: u64,
    /// Where `bytes` begin.
    start: u64,
    bytes: Bytes,
    /// Bytes of the file that were read.
    pub(super) bytes_read: u64,
}

impl<F: File> Piece<F> {
    /// A segment that has this generation and whose last frame ends there.
    pub(super) fn open<D: Disk<File = F>>(
        disk: &D,
        directory: &Path,
        number: u64,
        (generation, end): (u64, u64),
    ) -> Result<Self, LogError> {
        let path = directory.join(segment::name(number));
        let file = disk.open(&path).map_err(|source| failed(&path, source))?;
        let (start, bytes, bytes_read) = (0, Bytes::new(), 0);
        Ok(Self { file, path, segment: number, generation, end, start, bytes, bytes_read })
    }

    /// The body of the frame at `offset`, proven.
    pub(super) fn body_at(&mut self, offset: u64) -> Result<Bytes, LogError> {
        if self.available(offset) < frame::HEADER as u64 {
            self.load(offset, PIECE)?;
        }
        let header = Frame::header(self.from(offset), self.generation);
        let header = header.ok_or_else(|| self.damaged_at(offset))?;
        if self.available(offset) < header.size() {
            self.load(offset, header.size().max(PIECE))?;
        }
        let parsed = Frame::parse(self.from(offset), self.generation);
        let (_, body) = parsed.ok_or_else(|| self.damaged_at(offset))?;
        Ok(self.bytes.slice_ref(body))
    }

    fn available(&self, offset: u64) -> u64 {
        self.from(offset).len() as u64
    }

    fn from(&self, offset: u64) -> &[u8] {
        let at = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.bytes.get(at..)).unwrap_or(&[])
    }

    /// Reads up to `length` bytes from `offset`, not beyond the last frame.
    fn load(&mut self, offset: u64, length: u64) -> Result<(), LogError> {
        let length = length.min(self.end.saturating_sub(offset));
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = self.file.read_exact_at(&mut bytes, offset);
        read.map_err(|source| failed(&self.path, source))?;
        self.bytes_read += length;
        (self.start, self.bytes) = (offset, bytes.into());
        Ok(())
    }

    fn damaged(&self, place: Place) -> LogError {
        self.damaged_at(u64::from(place.offset))
    }

    fn damaged_at(&self, offset: u64) -> LogError {
        corrupt(&self.path, offset, "a frame was whole when it was written, but is not")
    }
}

fn failed(path: &Path, source: std::io::Error) -> LogError {
    LogError::Io { action: "read", path: path.to_path_buf(), source }
}
