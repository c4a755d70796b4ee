//! A part of a file as whole lines.

use std::io::{self, BufReader, Read};

use memchr::{memchr, memrchr};

use super::listing::Codec;
use super::source::{FromStart, InputSource};
use super::split::Part;
use crate::api::{Batch, Source};
use crate::error::{RecordPlace, TaskError};
use crate::store::KeysReader;

/// Read at a time: fits in a core's cache together with what user code touches.
const CHUNK_BYTES: usize = 256 * 1024;

enum Stream {
    Plain { file: InputSource, position: u64 },
    Decoded(Box<dyn Read + Send>),
}

impl Stream {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Stream::Plain { file, position } => {
                    file.read_at(room, *position).inspect(|read| *position += *read as u64)
                }
                Stream::Decoded(reader) => reader.read(room),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// Reads the lines that a part owns, in batches.
pub struct BatchReader<'a> {
    part: &'a Part,
    task: u32,
    stream: Stream,
    /// Bytes from `offset` on; the first `filled` are read.
    buffer: Vec<u8>,
    filled: usize,
    /// Of `filled`, the bytes of the last batch: gone at the next call.
    given: usize,
    offset: u64,
    /// Where the part ends, or the end of time for what is decompressed.
    end: u64,
    /// The line under way began before the part.
    skipping: bool,
    at_end_of_file: bool,
    finished: bool,
    record_bytes_max: usize,
}

impl<'a> BatchReader<'a> {
    /// Opens the file of `part`, for the map task `task`. A record is at most `record_bytes_max`
    /// bytes.
    ///
    /// # Errors
    /// When the file cannot be opened or has changed since the job was planned.
    pub fn open(
        part: &'a Part,
        task: u32,
        record_bytes_max: usize,
    ) -> Result<BatchReader<'a>, TaskError> {
        let failed = |source| input_error(part, source);
        let whole = |stream| BatchReader {
            part,
            task,
            stream,
            buffer: vec![0; CHUNK_BYTES.min(record_bytes_max + 1)],
            filled: 0,
            given: 0,
            offset: 0,
            end: u64::MAX,
            skipping: false,
            at_end_of_file: false,
            finished: false,
            record_bytes_max,
        };
        if let Some(range) = &part.keys {
            let reader = KeysReader::open(&part.name, range.clone()).map_err(failed)?;
            return Ok(whole(Stream::Decoded(Box::new(reader))));
        }
        let (file, bytes) = InputSource::open(&part.name).map_err(failed)?;
        if bytes != part.file_bytes {
            let planned = part.file_bytes;
            let message =
                format!("it has {bytes} bytes, and had {planned} when the job was planned");
            return Err(failed(io::Error::other(message)));
        }
        // From the byte before the part, which tells whether its first line starts in it.
        let from = part.start.saturating_sub(1);
        let stream = match part.codec {
            Codec::Plain => {
                let stream = Stream::Plain { file, position: from };
                let (offset, end, skipping) = (from, part.end, part.start > 0);
                return Ok(BatchReader { offset, end, skipping, ..whole(stream) });
            }
            Codec::Gzip => {
                let decoder =
                    flate2::read::MultiGzDecoder::new(BufReader::new(FromStart::new(file)));
                Stream::Decoded(Box::new(decoder))
            }
            Codec::Zstd => {
                let file = FromStart::new(file);
                let mut decoder = zstd::stream::read::Decoder::new(file).map_err(failed)?;
                // What a frame may make the decoder keep: 8 MiB, which every decoder must be able to,
                // or as much as a record may take.
                let window = record_bytes_max.max(8 << 20).ilog2().min(27);
                decoder.window_log_max(window).map_err(failed)?;
                Stream::Decoded(Box::new(decoder))
            }
        };
        Ok(whole(stream))
    }

    /// The next lines, or nothing after the last ones.
    ///
    /// # Errors
    /// When the file cannot be read or decompressed, or a line is too long.
    pub fn next_batch(&mut self) -> Result<Option<Batch<'_>>, TaskError> {
        self.forget(self.given);
        self.given = 0;
        if self.skipping {
            self.skip_line()?;
        }
        while !self.finished && self.offset < self.end {
            if self.filled > 0
                && let Some(length) = self.whole_lines()
            {
                self.given = length;
                let bytes = self.buffer.get(..length).unwrap_or_default();
                let source =
                    Source { name: &self.part.name, number: self.part.file, task: self.task };
                return Ok(Some(Batch { bytes, source, offset: self.offset }));
            }
            if self.at_end_of_file {
                break;
            }
            self.read_more()?;
        }
        self.finished = true;
        Ok(None)
    }

    /// Bytes of the stored file that have been read, for progress.
    pub fn bytes_read(&self) -> u64 {
        match &self.stream {
            Stream::Plain { position, .. } => {
                position.saturating_sub(self.part.start).min(self.part.bytes())
            }
            Stream::Decoded(_) => 0,
        }
    }

    /// How many bytes of the buffer are whole lines that the part owns.
    fn whole_lines(&mut self) -> Option<usize> {
        let filled = self.buffer.get(..self.filled)?;
        // The line that holds the part's last byte is the last one that starts in the part.
        let last_byte = usize::try_from(self.end - 1 - self.offset).unwrap_or(usize::MAX);
        if let Some(tail) = filled.get(last_byte..)
            && let Some(newline) = memchr(b'\n', tail)
        {
            self.finished = true;
            return Some(last_byte + newline + 1);
        }
        if self.at_end_of_file {
            self.finished = true;
            return Some(self.filled);
        }
        if filled.len() < self.buffer.len() && filled.len() < CHUNK_BYTES {
            // Larger batches are quicker, and the file goes on.
            return None;
        }
        memrchr(b'\n', filled).map(|newline| newline + 1)
    }

    /// Drops everything up to the first newline.
    fn skip_line(&mut self) -> Result<(), TaskError> {
        loop {
            let filled = self.buffer.get(..self.filled).unwrap_or_default();
            if let Some(newline) = memchr(b'\n', filled) {
                self.forget(newline + 1);
                self.skipping = false;
                return Ok(());
            }
            self.forget(self.filled);
            // A line that goes on beyond the part leaves nothing to own.
            if self.at_end_of_file || self.offset >= self.end {
                self.finished = true;
                return Ok(());
            }
            self.read_more()?;
        }
    }

    /// Drops the first bytes of the buffer.
    fn forget(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.buffer.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
        self.offset += bytes as u64;
        if self.buffer.len() > CHUNK_BYTES && self.filled < CHUNK_BYTES {
            self.buffer.truncate(CHUNK_BYTES);
            self.buffer.shrink_to_fit();
        }
    }

    fn read_more(&mut self) -> Result<(), TaskError> {
        if self.filled == self.buffer.len() {
            self.grow()?;
        }
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let read = self.stream.read(room).map_err(|source| input_error(self.part, source))?;
        self.filled += read;
        self.at_end_of_file = read == 0;
        Ok(())
    }

    /// Makes room for a line that is longer than the buffer.
    fn grow(&mut self) -> Result<(), TaskError> {
        // With its newline.
        let most = self.record_bytes_max + 1;
        let length = self.buffer.len();
        if length >= most {
            let file = String::from_utf8_lossy(&self.part.name).into_owned();
            let place = RecordPlace { file, offset: self.offset };
            let limit = self.record_bytes_max as u64;
            return Err(TaskError::RecordTooLarge { place, limit });
        }
        let more = length.min(most - length);
        self.buffer.reserve_exact(more);
        self.buffer.resize(length + more, 0);
        Ok(())
    }
}

fn input_error(part: &Part, source: io::Error) -> TaskError {
    TaskError::Input { path: String::from_utf8_lossy(&part.name).into_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::super::{list, plan};
    use super::*;

    /// All lines of all tasks, with their offsets.
    fn read(path: &str, split_bytes: u64, record_bytes_max: usize) -> Vec<(u64, Vec<u8>)> {
        let mut lines = Vec::new();
        for task in plan(&list(&[path]).unwrap(), split_bytes) {
            for part in &task.parts {
                let mut reader = BatchReader::open(part, task.number, record_bytes_max).unwrap();
                while let Some(batch) = reader.next_batch().unwrap() {
                    lines.extend(batch.records().map(|line| (line.offset, line.bytes.to_vec())));
                }
            }
        }
        lines
    }

    fn expected(bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut offset = 0;
        let mut lines = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            lines.push((offset, line.strip_suffix(b"\n").unwrap_or(line).to_vec()));
            offset += line.len() as u64;
        }
        lines
    }

    fn stored(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> String {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    proptest! {
        #[test]
        fn every_line_is_read_once_wherever_the_cuts_are(
            bytes in prop::collection::vec(prop::sample::select(&b"\n\n\nab\r\0\xff"[..]), 0..300),
            split_bytes in 1_u64..320,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = stored(&folder, "f", &bytes);
            prop_assert_eq!(read(&path, split_bytes, 1000), expected(&bytes));
        }
    }

    #[test]
    fn lines_longer_than_the_buffer_are_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = vec![b'x'; 3 * CHUNK_BYTES];
        bytes.extend_from_slice(b"\nshort\n");
        bytes.extend(vec![b'y'; CHUNK_BYTES + 1]);
        let path = stored(&folder, "f", &bytes);
        for split_bytes in [CHUNK_BYTES as u64 - 1, 1 << 20, 1 << 30] {
            assert_eq!(read(&path, split_bytes, 4 * CHUNK_BYTES), expected(&bytes));
        }
    }

    #[test]
    fn a_line_of_the_most_bytes_is_read_and_a_longer_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = b"ok\n".to_vec();
        bytes.extend(vec![b'x'; 100]);
        bytes.push(b'\n');
        let path = stored(&folder, "f", &bytes);
        assert_eq!(read(&path, 1000, 100), expected(&bytes));
        let task = plan(&list(&[&path]).unwrap(), 1000).remove(0);
        let mut reader = BatchReader::open(&task.parts[0], 0, 99).unwrap();
        let error = loop {
            match reader.next_batch() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("no error"),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(&error, TaskError::RecordTooLarge { place, limit: 99 } if place.offset == 3),
            "{error}"
        );
    }

    #[test]
    fn compressed_files_are_read_also_with_several_members() {
        let folder = tempfile::tempdir().unwrap();
        let text: Vec<u8> = (0..50_000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        let (one, two) = text.split_at(100_001);
        let gzip = |bytes: &[u8]| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let path = stored(&folder, "f.gz", &[gzip(one), gzip(two)].concat());
        assert_eq!(read(&path, 1000, 1000), expected(&text));
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
        let path = stored(&folder, "f.zst", &[zstd(one), zstd(two)].concat());
        assert_eq!(read(&path, 1000, 1000), expected(&text));
    }

    #[test]
    fn a_damaged_or_cut_compressed_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let text: Vec<u8> = (0..5000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&text).unwrap();
        let gzip = encoder.finish().unwrap();
        let zstd = zstd::encode_all(&text[..], 3).unwrap();
        for (name, bytes) in [("f.gz", gzip), ("f.zst", zstd)] {
            let path = stored(&folder, name, &bytes[..bytes.len() - 5]);
            let task = plan(&list(&[&path]).unwrap(), 1000).remove(0);
            let mut reader = BatchReader::open(&task.parts[0], 0, 1000).unwrap();
            let failed = loop {
                match reader.next_batch() {
                    Ok(Some(_)) => {}
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            assert!(failed, "{name}");
        }
    }

    #[test]
    fn a_file_that_changed_since_the_plan_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = stored(&folder, "f", b"a\n");
        let task = plan(&list(&[&path]).unwrap(), 1000).remove(0);
        stored(&folder, "f", b"a\nb\n");
        assert!(BatchReader::open(&task.parts[0], 0, 1000).is_err());
    }
}
