//! Reading the segments back: the chain of frames, up to where all was durable, and whether
//! anything of that is missing (PROTOCOL 4). Changes nothing on disk.
//!
//! Where the states of groups are durable, a segment that was left may be taken by its
//! [index](super::index): of what it holds only what the states lack is read then.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kontiki_types::plant::{Plant, planted};
use kontiki_types::{GroupId, Index};

use super::error::{Corruption, LostEntries, OpenError};
use super::frame::{self, Frame};
use super::groups::Groups;
use super::index::{self, Builder, SegmentIndex};
use super::record::{Body, Decoder};
use super::segment::{self, BadHeader, Header, Mark};
use crate::disk::{Disk, File, read_file};

/// Largest segment file that is read. A guard against a damaged directory entry, far above any
/// configured size.
const SEGMENT_MAX: u64 = 4 << 30;

/// Largest index that is read.
const INDEX_MAX: u64 = 256 << 20;

/// What the segments prove.
pub(super) struct Scan {
    /// The state of every group as of the last durable frame.
    pub groups: Groups,
    /// All segments, oldest first.
    pub segments: Vec<Segment>,
    /// Everything up to this sequence was durable.
    pub durable: u64,
    /// CRC of the frame with that sequence.
    pub durable_crc: u32,
    /// Whole frames beyond `durable`, in order: they may have been acknowledged, too.
    pub tail: VecDeque<TailFrame>,
    /// Bytes of files that were read.
    pub bytes_read: u64,
}

/// A segment file.
pub(super) struct Segment {
    pub header: Header,
    /// Where the last frame that counts ends.
    pub end: u64,
    /// An index that the segment should have and has not.
    pub index: Option<Vec<u8>>,
}

/// A frame that is not yet known to be durable.
pub(super) struct TailFrame {
    pub frame: Frame,
    pub segment: u64,
    pub offset: u64,
    pub body: Bytes,
}

/// Where the chain of frames ends.
struct Break {
    segment: u64,
    offset: u64,
    sequence: u64,
}

struct Scanner<'a> {
    directory: &'a Path,
    groups: Groups,
    /// Last frame of the chain: sequence and CRC.
    last: (u64, u32),
    /// Highest durable mark seen anywhere.
    durable: u64,
    durable_crc: u32,
    /// Highest durable mark that is not in a frame.
    highest: u64,
    oldest: u64,
    tail: VecDeque<TailFrame>,
    /// Indexes of the segments that are read, as far as they are durable.
    builders: BTreeMap<u64, Builder>,
    bytes_read: u64,
    broken: Option<Break>,
    /// First entry of each group behind a break.
    index_after: BTreeMap<GroupId, Index>,
}

/// Whether indexes may stand for the segments that they are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Indexes {
    Used,
    Ignored,
}

/// Reads all segments in `directory`.
pub(super) fn scan<D: Disk>(
    disk: &D,
    directory: &Path,
    incarnation: u64,
    indexes: Indexes,
) -> Result<Scan, OpenError> {
    let headers = headers(disk, directory, incarnation)?;
    let first = headers.first().map_or((0, 0), |first| (first.follows, first.follows_crc));
    let marks = headers.iter().map(|header| header.durable.max(header.follows));
    let mut scanner = Scanner {
        directory,
        groups: Groups::recovering(),
        last: first,
        durable: first.0,
        durable_crc: first.1,
        highest: marks.max().unwrap_or(0),
        oldest: headers.iter().map(|header| header.oldest).max().unwrap_or(0),
        tail: VecDeque::new(),
        builders: BTreeMap::new(),
        bytes_read: 0,
        broken: None,
        index_after: BTreeMap::new(),
    };
    // What later segments leave standing: a segment begun by a recovery voids frames before it.
    let mut limits: Vec<u64> = Vec::with_capacity(headers.len());
    let mut limit = u64::MAX;
    for header in headers.iter().rev() {
        limits.push(limit);
        limit = limit.min(header.follows);
    }
    limits.reverse();
    let mut segments = Vec::with_capacity(headers.len());
    let next = headers.iter().skip(1).map(|next| Some((next.follows, next.follows_crc)));
    let ends: Vec<_> = next.chain([None]).collect();
    for ((header, limit), ends_with) in headers.into_iter().zip(limits).zip(ends) {
        let path = directory.join(segment::name(header.number));
        let file = disk.open(&path).map_err(io("open", &path))?;
        if indexes == Indexes::Used
            && file.len().map_err(io("read", &path))? == header.capacity
            && let Some(index) = read_index(disk, directory, header.number)
            && Some(index.covered.last) == ends_with
            && index.covered.last.0 <= limit
            && scanner.indexed(&header, &index)?
        {
            segments.push(Segment { header, end: index.covered.end, index: None });
            continue;
        }
        let bytes = read_file(&file, SEGMENT_MAX).map_err(io("read", &path))?;
        scanner.bytes_read += bytes.len() as u64;
        let end = scanner.segment(&header, &bytes, limit)?;
        segments.push(Segment { header, end, index: None });
    }
    scanner.finish(segments)
}

/// The index of a segment, if it has one that is whole.
fn read_index<D: Disk>(disk: &D, directory: &Path, number: u64) -> Option<SegmentIndex> {
    let file = disk.open(&directory.join(index::name(number))).ok()?;
    SegmentIndex::decode(read_file(&file, INDEX_MAX).ok()?.into())
}

impl Scanner<'_> {
    fn segment(&mut self, header: &Header, bytes: &[u8], limit: u64) -> Result<u64, OpenError> {
        let mut at = segment::START;
        if bytes.len() as u64 != header.capacity {
            let detail = format!("the file should have {} bytes", header.capacity);
            return Err(self.corrupt(header.number, bytes.len() as u64, detail));
        }
        if limit <= header.follows {
            return Ok(at as u64);
        }
        let mark = Mark::highest(&bytes[..segment::PAGE], header.generation);
        self.highest = self.highest.max(mark.unwrap_or(0));
        if self.broken.is_none() && self.last != (header.follows, header.follows_crc) {
            let sequence = header.follows.min(self.last.0 + 1);
            self.broken = Some(Break { segment: header.number, offset: 0, sequence });
        }
        while self.broken.is_none() && self.last.0 < limit {
            let found = bytes.get(at..).and_then(|rest| Frame::parse(rest, header.generation));
            match found {
                Some((frame, body)) if self.continues(&frame) => {
                    self.accept(header.number, at as u64, &frame, body)?;
                    at += frame.size() as usize;
                }
                _ => {
                    let (segment, sequence) = (header.number, self.last.0 + 1);
                    self.broken = Some(Break { segment, offset: at as u64, sequence });
                }
            }
        }
        if self.broken.is_some() {
            self.beyond(header, bytes, at);
        }
        Ok(at as u64)
    }

    /// Takes a segment by its index, which ends where the next segment begins; returns whether it is of
    /// this use of the segment. Everything that it is of was durable when the next segment began.
    fn indexed(&mut self, header: &Header, index: &SegmentIndex) -> Result<bool, OpenError> {
        let covered = &index.covered;
        let is_its = (covered.number, covered.generation) == (header.number, header.generation)
            && (segment::START as u64..=header.capacity).contains(&covered.end)
            && self.last == (header.follows, header.follows_crc)
            && self.broken.is_none()
            && covered.last.0 > header.follows;
        if !is_its {
            return Ok(false);
        }
        let number = header.number;
        self.mark(header.follows).map_err(|detail| self.corrupt(number, 0, detail))?;
        self.bytes_read += index.bytes();
        index.replay(&mut self.groups).map_err(|detail| self.corrupt(number, 0, detail))?;
        self.last = covered.last;
        (self.durable, self.durable_crc) = covered.last;
        self.oldest = self.oldest.max(covered.oldest);
        Ok(true)
    }

    fn continues(&self, frame: &Frame) -> bool {
        (frame.sequence, frame.previous) == (self.last.0 + 1, self.last.1)
    }

    fn accept(
        &mut self,
        segment: u64,
        offset: u64,
        frame: &Frame,
        body: &[u8],
    ) -> Result<(), OpenError> {
        self.last = (frame.sequence, frame.crc);
        self.oldest = self.oldest.max(frame.oldest);
        let body = Bytes::copy_from_slice(body);
        self.tail.push_back(TailFrame { frame: *frame, segment, offset, body });
        self.mark(frame.durable).map_err(|detail| self.corrupt(segment, offset, detail))
    }

    /// Everything up to `durable` is durable: replay it.
    fn mark(&mut self, durable: u64) -> Result<(), String> {
        self.durable = self.durable.max(durable);
        while let Some(first) = self.tail.front()
            && first.frame.sequence <= self.durable
        {
            self.durable_crc = first.frame.crc;
            let builder = self.builders.entry(first.segment).or_default();
            builder.frame(first.offset, &first.frame, &first.body);
            self.groups.replay(first.segment, first.offset, first.body.clone())?;
            self.tail.pop_front();
        }
        Ok(())
    }

    /// Looks at what stands behind a break, at every place where a frame may begin.
    fn beyond(&mut self, header: &Header, bytes: &[u8], from: usize) {
        let mut at = frame::next_magic(bytes, from);
        while at + frame::HEADER <= bytes.len() {
            match Frame::parse(&bytes[at..], header.generation) {
                Some((frame, body)) => {
                    self.durable = self.durable.max(frame.durable);
                    self.oldest = self.oldest.max(frame.oldest);
                    for record in Decoder::new(Bytes::copy_from_slice(body)).flatten() {
                        if let Body::Entry(entry) = record.body {
                            self.index_after.entry(record.group).or_insert(entry.id.index);
                        }
                    }
                    at += frame.size() as usize;
                }
                None => at += frame::ALIGN,
            }
            at = frame::next_magic(bytes, at);
        }
    }

    fn finish(mut self, segments: Vec<Segment>) -> Result<Scan, OpenError> {
        let mut beyond = self.durable.max(self.highest);
        if planted(Plant::TailForgotten) {
            (beyond, self.durable) = (beyond.min(self.last.0), self.durable.min(self.last.0));
        }
        if let Some(broken) = self.broken.take()
            && broken.sequence <= beyond
        {
            let detail = format!(
                "frame {} of the log is damaged or missing, though everything up to frame \
                 {beyond} was durable",
                broken.sequence
            );
            return Err(self.corrupt(broken.segment, broken.offset, detail));
        }
        let first = segments.first().map_or(0, |segment| segment.header.number);
        if first > self.oldest {
            let detail =
                format!("the log needs segments from {} on; the file is gone", self.oldest);
            return Err(self.corrupt(self.oldest, 0, detail));
        }
        let last = segments.last().map_or(0, |segment| segment.header.number);
        self.mark(beyond).map_err(|detail| self.corrupt(last, 0, detail))?;
        let mut segments = segments;
        for Segment { header, index, .. } in &mut segments {
            let builder = self.builders.remove(&header.number);
            *index = builder.and_then(|builder| builder.finish(header.number, header.generation));
        }
        Ok(Scan {
            groups: self.groups,
            segments,
            durable: self.durable,
            durable_crc: self.durable_crc,
            tail: self.tail,
            bytes_read: self.bytes_read,
        })
    }

    fn corrupt(&self, segment: u64, offset: u64, detail: String) -> OpenError {
        let mut before = self.groups.last_indexes();
        for frame in &self.tail {
            for record in Decoder::new(frame.body.clone()).flatten() {
                if let Body::Entry(entry) = record.body {
                    before.insert(record.group, entry.id.index);
                }
            }
        }
        let lost = self.index_after.iter().filter_map(|(&group, &after)| {
            let from = before.get(&group)?.next();
            (from < after).then(|| LostEntries { group, from, to: after.prev() })
        });
        OpenError::Corrupt(Box::new(Corruption {
            file: self.directory.join(segment::name(segment)),
            offset,
            detail,
            lost: lost.collect(),
        }))
    }
}

/// The headers of all segments, in order; they must be whole, ours and without a gap.
fn headers<D: Disk>(
    disk: &D,
    directory: &Path,
    incarnation: u64,
) -> Result<Vec<Header>, OpenError> {
    let names = disk.list(directory).map_err(io("list", directory))?;
    let mut headers: Vec<Header> = Vec::new();
    for number in names.iter().filter_map(|name| segment::number(name)) {
        let path = directory.join(segment::name(number));
        if let Some(before) = headers.last()
            && number != before.number + 1
        {
            let missing = directory.join(segment::name(before.number + 1));
            return Err(damaged(&missing, "the segment is missing"));
        }
        let header = read_header(disk, &path)?;
        if header.incarnation != incarnation {
            let found = header.incarnation;
            return Err(OpenError::Foreign { path, found, expected: incarnation });
        }
        if header.number != number {
            return Err(damaged(&path, "the segment says that it is another one"));
        }
        headers.push(header);
    }
    Ok(headers)
}

fn read_header<D: Disk>(disk: &D, path: &Path) -> Result<Header, OpenError> {
    let file = disk.open(path).map_err(io("open", path))?;
    let mut page = vec![0; segment::PAGE];
    // A file gets this name only after its header was durable, so no torn write leads here.
    match file.read_exact_at(&mut page, segment::HEADER as u64) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(damaged(path, "the segment is cut off within its header"));
        }
        result => result.map_err(io("read", path))?,
    }
    Header::decode(&page).map_err(|bad| match bad {
        BadHeader::Damaged => damaged(path, "the header of the segment is damaged"),
        BadHeader::Version(found) => {
            OpenError::Version { path: path.to_path_buf(), found, supported: segment::LOG_VERSION }
        }
    })
}

fn damaged(file: &Path, detail: &str) -> OpenError {
    let (file, detail) = (file.to_path_buf(), detail.to_owned());
    let offset = segment::HEADER as u64;
    OpenError::Corrupt(Box::new(Corruption { file, offset, detail, lost: Vec::new() }))
}

/// Wraps an I/O error with what was tried on which file.
pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> OpenError {
    let path: PathBuf = path.to_path_buf();
    move |source| OpenError::Io { action, path, source }
}
