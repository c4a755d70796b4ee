//! What is in a segment, without the commands: so that a start need not read all of it.
//!
//! An index is written when its segment is left, beside it, and never synced: it is only a shortcut.
//! One that is damaged, missing, or does not go with its segment (by generation, and by the frame with
//! which the next segment says that it ends) is not used, and the segment is read instead. What is
//! needed of the segment then is read frame by frame, each proven by its checksum; damage in the rest
//! is found when it is read, and by [`verify_log`](super::verify_log). Byte table: `docs/log-format.md`.

use bytes::Bytes;
use kontiki_types::{GroupId, Index, LogId, Term};

use super::frame::{u32_at, u64_at};
use super::groups::{Groups, Place};
use super::record::{Decoder, Head, heads};

const MAGIC: [u8; 8] = *b"KTKIIDX\n";
const VERSION: u32 = 1;
const HEADER: usize = 64;

const FRAME: u8 = 1;
const ENTRIES: u8 = 2;
const ENTRIES_REWRITTEN: u8 = 3;
const RECORD: u8 = 4;

/// Of which segment an index is, and where that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Covered {
    pub number: u64,
    pub generation: u64,
    /// Where the last frame ends.
    pub end: u64,
    /// Sequence and CRC of the last frame.
    pub last: (u64, u32),
    /// The oldest segment that is needed, as its frames say.
    pub oldest: u64,
}

/// Gathers the index of a segment, frame by frame.
#[derive(Default)]
pub(super) struct Builder {
    items: Vec<u8>,
    frame: u64,
    run: Run,
    sizes: Vec<u8>,
    oldest: u64,
    last: (u64, u32),
    end: u64,
}

/// Entries of one group and term, one after the other in a frame.
#[derive(Default)]
struct Run {
    rewritten: bool,
    group: GroupId,
    term: u64,
    first: u64,
    count: u64,
}

impl Builder {
    /// Takes in the frame at `offset`, whose body is whole.
    pub(super) fn frame(&mut self, offset: u64, frame: &super::frame::Frame, body: &[u8]) {
        self.items.push(FRAME);
        put(&mut self.items, offset - self.frame);
        self.frame = offset;
        for (head, record) in heads(body) {
            let Head { rewritten, group, entry } = head;
            let Some((term, index)) = entry else {
                self.end_run();
                self.items.push(RECORD);
                put(&mut self.items, record.len() as u64);
                self.items.extend_from_slice(record);
                continue;
            };
            let run = &mut self.run;
            let goes_on = run.count > 0
                && (run.rewritten, run.group, run.term) == (rewritten, group, term)
                && run.first + run.count == index;
            if goes_on {
                run.count += 1;
            } else {
                self.end_run();
                self.run = Run { rewritten, group, term, first: index, count: 1 };
            }
            put(&mut self.sizes, record.len() as u64);
        }
        self.end_run();
        self.oldest = self.oldest.max(frame.oldest);
        self.last = (frame.sequence, frame.crc);
        self.end = offset + frame.size();
    }

    fn end_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        if run.count == 0 {
            return;
        }
        self.items.push(if run.rewritten { ENTRIES_REWRITTEN } else { ENTRIES });
        for number in [u64::from(run.group.get()), run.term, run.first, run.count] {
            put(&mut self.items, number);
        }
        self.items.append(&mut self.sizes);
    }

    /// The file of the index, if the segment has any frame.
    pub(super) fn finish(self, number: u64, generation: u64) -> Option<Vec<u8>> {
        if self.end == 0 {
            return None;
        }
        let mut file = vec![0; HEADER];
        file[..8].copy_from_slice(&MAGIC);
        file[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let numbers =
            [(16, number), (24, generation), (32, self.end), (40, self.last.0), (48, self.oldest)];
        for (at, number) in numbers {
            file[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        file[56..60].copy_from_slice(&self.last.1.to_le_bytes());
        file.extend_from_slice(&self.items);
        let crc = crc(&file);
        file[12..16].copy_from_slice(&crc.to_le_bytes());
        Some(file)
    }
}

fn crc(file: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&file[..12]), &file[16..])
}

/// A whole index.
pub(super) struct SegmentIndex {
    pub covered: Covered,
    items: Bytes,
}

impl SegmentIndex {
    /// None if it is damaged, or of another version.
    pub(super) fn decode(file: Bytes) -> Option<Self> {
        let header = file.get(..HEADER)?;
        let is_ours = header[..8] == MAGIC && u32_at(header, 8) == VERSION;
        if !is_ours || u32_at(header, 12) != crc(&file) {
            return None;
        }
        let covered = Covered {
            number: u64_at(header, 16),
            generation: u64_at(header, 24),
            end: u64_at(header, 32),
            last: (u64_at(header, 40), u32_at(header, 56)),
            oldest: u64_at(header, 48),
        };
        Some(Self { covered, items: file.slice(HEADER..) })
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        (HEADER + self.items.len()) as u64
    }

    /// Takes into `groups` what the segment holds, as reading it would, but for the entries
    /// themselves.
    pub(super) fn replay(&self, groups: &mut Groups) -> Result<(), String> {
        self.replay_all(groups)
            .ok_or_else(|| "the index of a segment is not understood".to_owned())?
    }

    fn replay_all(&self, groups: &mut Groups) -> Option<Result<(), String>> {
        let mut at = 0;
        let (mut offset, segment) = (0, self.covered.number);
        let number = |at: &mut usize| get(&self.items, at);
        while let Some(&kind) = self.items.get(at) {
            at += 1;
            match kind {
                FRAME => offset += number(&mut at)?,
                RECORD => {
                    let length = usize::try_from(number(&mut at)?).ok()?;
                    let end = at.checked_add(length).filter(|end| *end <= self.items.len())?;
                    let record = Decoder::new(self.items.slice(at..end)).next()?.ok()?;
                    let bytes = u32::try_from(length).ok()?;
                    if let Err(error) = groups.record(record, Place::new(segment, offset, bytes)) {
                        return Some(Err(error));
                    }
                    at = end;
                }
                ENTRIES | ENTRIES_REWRITTEN => {
                    let group = GroupId(u32::try_from(number(&mut at)?).ok()?);
                    let (term, first) = (Term(number(&mut at)?), number(&mut at)?);
                    let count = number(&mut at)?;
                    for index in first..first.checked_add(count)? {
                        let bytes = u32::try_from(number(&mut at)?).ok()?;
                        let id = LogId::new(term, Index(index));
                        let place = Place::new(segment, offset, bytes);
                        let rewritten = kind == ENTRIES_REWRITTEN;
                        if let Err(error) = groups.entry_at(group, id, rewritten, place) {
                            return Some(Err(error));
                        }
                    }
                }
                _ => return None,
            }
        }
        Some(Ok(()))
    }
}

/// Appends a number, seven bits a byte.
fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn get(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// The file name of the index of a segment.
pub(super) fn name(number: u64) -> String {
    format!("index-{number:016x}")
}

/// Whether a file name in a log's directory is that of an index. A start does without one: it then reads
/// the segment.
pub fn is_index(name: &str) -> bool {
    number(name).is_some()
}

/// The number in an index's file name.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("index-")?;
    if digits.len() == 16 { u64::from_str_radix(digits, 16).ok() } else { None }
}
