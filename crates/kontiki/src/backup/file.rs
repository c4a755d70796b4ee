//! The file of a backup: what it looks like (docs/backup-format.md), and reading it with suspicion.
//!
//! Invariants
//! - Each frame's checksum covers its number, so that none is missing, doubled or out of its place.
//! - The last frame counts all keys: a file that was cut short, also between two frames, is not whole.

use std::io::{self, Read, Write};

use bytes::Bytes;
use kontiki_client::Row;

const MAGIC: &[u8; 7] = b"KTKBKUP";
const VERSION: u8 = 1;

/// The largest body of a frame: a page of a view, or one pair that is larger.
const BODY_MAX: u32 = 64 << 20;

const HEAD: u8 = 1;
const ROWS: u8 = 2;
const END: u8 = 3;

/// Where a backup is from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) cluster: u64,
    /// By the clock of the machine that wrote it, in milliseconds since the Unix epoch.
    pub(super) taken_at_ms: u64,
    /// The configuration of slots; 0: the store was not sharded.
    pub(super) epoch: u64,
    /// Each group with the index of its log that its keys are as of.
    pub(super) groups: Vec<(u32, u64)>,
}

/// What a whole backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) keys: u64,
    /// Of keys and values.
    pub(super) bytes: u64,
}

impl Totals {
    fn count(&mut self, rows: &[Row]) {
        self.keys += rows.len() as u64;
        self.bytes += rows.iter().map(|row| (row.key.len() + row.value.len()) as u64).sum::<u64>();
    }
}

/// Writes a backup.
pub(super) struct Writer<W> {
    file: W,
    next: u64,
    totals: Totals,
}

impl<W: Write> Writer<W> {
    pub(super) fn begin(mut file: W, head: &Head) -> io::Result<Self> {
        file.write_all(MAGIC)?;
        file.write_all(&[VERSION])?;
        let mut writer = Self { file, next: 0, totals: Totals::default() };
        let mut body = Vec::new();
        for number in [head.cluster, head.taken_at_ms, head.epoch] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        for (group, applied) in &head.groups {
            body.extend_from_slice(&group.to_le_bytes());
            body.extend_from_slice(&applied.to_le_bytes());
        }
        writer.frame(HEAD, &body)?;
        Ok(writer)
    }

    pub(super) fn rows(&mut self, rows: &[Row]) -> io::Result<()> {
        let mut raw = Vec::new();
        for Row { key, value, expires_at_ms } in rows {
            raw.extend_from_slice(&length(key)?.to_le_bytes());
            raw.extend_from_slice(&length(value)?.to_le_bytes());
            raw.extend_from_slice(&expires_at_ms.unwrap_or_default().to_le_bytes());
            raw.extend_from_slice(key);
            raw.extend_from_slice(value);
        }
        self.totals.count(rows);
        self.frame(ROWS, &lz4_flex::block::compress_prepend_size(&raw))
    }

    /// Writes the end; what is written is not durable yet.
    pub(super) fn end(mut self) -> io::Result<(W, Totals)> {
        let mut body = self.totals.keys.to_le_bytes().to_vec();
        body.extend_from_slice(&self.totals.bytes.to_le_bytes());
        self.frame(END, &body)?;
        self.file.flush()?;
        Ok((self.file, self.totals))
    }

    fn frame(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        self.file.write_all(&length(body)?.to_le_bytes())?;
        self.file.write_all(&checksum(self.next, kind, body).to_le_bytes())?;
        self.file.write_all(&[kind])?;
        self.file.write_all(body)?;
        self.next += 1;
        Ok(())
    }
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= BODY_MAX);
    length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "more than a frame can hold"))
}

fn checksum(number: u64, kind: u8, body: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&number.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(sum, &[kind]), body)
}

/// Why a backup cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BackupError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is not a backup of Kontiki: it does not begin as one")]
    Foreign,
    #[error("it is of version {0} and this program reads version {VERSION}")]
    Version(u8),
    #[error("it was cut short: it ends at byte {0}, before its end frame")]
    Cut(u64),
    #[error("it was altered: the frame at byte {at} {problem}")]
    Altered { at: u64, problem: &'static str },
}

/// Reads a backup. What it has given is sound; that it is whole is known at the end.
pub(super) struct Reader<R> {
    file: R,
    next: u64,
    /// Where the next frame begins.
    at: u64,
    totals: Totals,
    is_ended: bool,
}

impl<R: Read> Reader<R> {
    pub(super) fn begin(mut file: R) -> Result<(Self, Head), BackupError> {
        let mut start = Vec::new();
        (&mut file).take(MAGIC.len() as u64 + 1).read_to_end(&mut start)?;
        let version = match start.split_at_checked(MAGIC.len()) {
            Some((magic, [version])) if magic == MAGIC => *version,
            Some((magic, [])) if magic == MAGIC => return Err(BackupError::Cut(7)),
            _ => return Err(BackupError::Foreign),
        };
        if version != VERSION {
            return Err(BackupError::Version(version));
        }
        let at = start.len() as u64;
        let mut reader = Self { file, next: 0, at, totals: Totals::default(), is_ended: false };
        let (kind, body) = reader.frame()?;
        let head = (kind == HEAD).then(|| read_head(&body)).flatten();
        let problem = "is not the head of a backup";
        let head = head.ok_or(BackupError::Altered { at, problem })?;
        Ok((reader, head))
    }

    /// Some more keys; `None` at the end of a whole backup.
    pub(super) fn rows(&mut self) -> Result<Option<Vec<Row>>, BackupError> {
        if self.is_ended {
            return Ok(None);
        }
        let at = self.at;
        let altered = |problem| BackupError::Altered { at, problem };
        match self.frame()? {
            (ROWS, body) => {
                let rows = unpack(body).ok_or(altered("does not hold keys and values"))?;
                self.totals.count(&rows);
                Ok(Some(rows))
            }
            (END, body) => {
                let mut cursor = &body[..];
                let totals = (u64_of(&mut cursor), u64_of(&mut cursor));
                if totals != (Some(self.totals.keys), Some(self.totals.bytes)) || !cursor.is_empty()
                {
                    return Err(altered("counts other keys than there are"));
                }
                let mut more = [0];
                if self.file.read(&mut more)? > 0 {
                    return Err(altered("is the end, and something follows"));
                }
                self.is_ended = true;
                Ok(None)
            }
            _ => Err(altered("is of no known kind")),
        }
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    fn frame(&mut self) -> Result<(u8, Bytes), BackupError> {
        let mut front = Vec::new();
        (&mut self.file).take(9).read_to_end(&mut front)?;
        let mut cursor = &front[..];
        let cut = BackupError::Cut(self.at + front.len() as u64);
        let (Some(length), Some(sum), Some(kind)) =
            (u32_of(&mut cursor), u32_of(&mut cursor), cursor.first().copied())
        else {
            return Err(cut);
        };
        let altered = |problem| BackupError::Altered { at: self.at, problem };
        if length > BODY_MAX {
            return Err(altered("claims to be larger than any"));
        }
        let mut body = Vec::new();
        (&mut self.file).take(length.into()).read_to_end(&mut body)?;
        if body.len() as u64 != u64::from(length) {
            return Err(BackupError::Cut(self.at + 9 + body.len() as u64));
        }
        if checksum(self.next, kind, &body) != sum {
            return Err(altered("does not have its checksum"));
        }
        self.at += 9 + u64::from(length);
        self.next += 1;
        Ok((kind, body.into()))
    }
}

fn take<'a>(cursor: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = cursor.split_at_checked(length)?;
    *cursor = rest;
    Some(taken)
}

fn u32_of(cursor: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(cursor, 4)?.try_into().ok()?))
}

fn u64_of(cursor: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(take(cursor, 8)?.try_into().ok()?))
}

fn read_head(body: &[u8]) -> Option<Head> {
    let mut cursor = body;
    let mut number = || u64_of(&mut cursor);
    let (cluster, taken_at_ms, epoch) = (number()?, number()?, number()?);
    let mut groups = Vec::new();
    while !cursor.is_empty() {
        groups.push((u32_of(&mut cursor)?, u64_of(&mut cursor)?));
    }
    Some(Head { cluster, taken_at_ms, epoch, groups })
}

fn unpack(body: Bytes) -> Option<Vec<Row>> {
    let (claimed, packed) = lz4_flex::block::uncompressed_size(&body).ok()?;
    if claimed > BODY_MAX as usize {
        return None;
    }
    let raw = Bytes::from(lz4_flex::block::decompress(packed, claimed).ok()?);
    let mut cursor = &raw[..];
    let mut rows = Vec::new();
    while !cursor.is_empty() {
        let (key, value) = (u32_of(&mut cursor)? as usize, u32_of(&mut cursor)? as usize);
        let expires_at_ms = Some(u64_of(&mut cursor)?).filter(|at| *at > 0);
        let (key, value) = (take(&mut cursor, key)?, take(&mut cursor, value)?);
        rows.push(Row { key: raw.slice_ref(key), value: raw.slice_ref(value), expires_at_ms });
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn head() -> Head {
        Head { cluster: 7, taken_at_ms: 8, epoch: 9, groups: vec![(1, 100), (2, 200)] }
    }

    fn row(key: &str, value: &[u8], expires_at_ms: Option<u64>) -> Row {
        let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value));
        Row { key, value, expires_at_ms }
    }

    fn pages() -> Vec<Vec<Row>> {
        vec![
            vec![row("a", b"1", None), row("b", &[0, 255, 10], Some(5))],
            vec![],
            vec![row("", b"", None), row("long", &[7; 5000], None)],
        ]
    }

    fn written() -> Vec<u8> {
        let mut writer = Writer::begin(Vec::new(), &head()).unwrap();
        for page in pages() {
            writer.rows(&page).unwrap();
        }
        let (file, totals) = writer.end().unwrap();
        assert_eq!(totals, Totals { keys: 4, bytes: 5010 });
        file
    }

    fn read(file: &[u8]) -> Result<(Head, Vec<Vec<Row>>), BackupError> {
        let (mut reader, head) = Reader::begin(file)?;
        let mut pages = Vec::new();
        while let Some(rows) = reader.rows()? {
            pages.push(rows);
        }
        Ok((head, pages))
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&written()).unwrap(), (head(), pages()));
    }

    #[test]
    fn a_file_of_version_1_is_read() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/version-1.backup");
        if std::env::var_os("KONTIKI_REWRITE").is_some() {
            std::fs::write(&golden, written()).unwrap();
        }
        let file = std::fs::read(&golden).unwrap();
        assert_eq!(read(&file).unwrap(), (head(), pages()));
    }

    #[test]
    fn a_file_that_ends_anywhere_is_refused() {
        let file = written();
        for end in 0..file.len() {
            let error = read(&file[..end]).unwrap_err();
            let is_told = match error {
                BackupError::Foreign => end < MAGIC.len(),
                BackupError::Cut(at) => at == end as u64,
                _ => false,
            };
            assert!(is_told, "{end}: {error}");
        }
        let more = [&file[..], b"x"].concat();
        assert!(matches!(read(&more), Err(BackupError::Altered { .. })));
    }

    #[test]
    fn a_file_with_any_bit_changed_is_refused() {
        let file = written();
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut altered = file.clone();
                altered[at] ^= 1 << bit;
                assert!(read(&altered).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn frames_in_another_order_are_refused() {
        let rows = |text: &str| {
            let mut writer = Writer::begin(Vec::new(), &head()).unwrap();
            let begun = writer.file.len();
            writer.rows(&[row(text, b"", None)]).unwrap();
            (begun, writer)
        };
        let (begun, mut writer) = rows("a");
        let first = writer.file[begun..].to_vec();
        writer.rows(&[row("b", b"", None)]).unwrap();
        // The first frame once more, instead of the second.
        let second = begun + first.len()..;
        writer.file.splice(second, first);
        let (file, _) = writer.end().unwrap();
        let error = read(&file).unwrap_err();
        assert!(matches!(error, BackupError::Altered { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(tail in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut file = written();
            file.truncate(8);
            file.extend_from_slice(&tail);
            prop_assert!(read(&file).is_err());
            prop_assert!(read(&tail).is_err());
        }
    }
}
