//! Records: lines of the input, and where they come from.

use memchr::memchr;

/// A file of the input, as user code sees it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The path as the command line or the glob spelled it.
    pub name: &'a [u8],
    /// Its place among all input files, from 0.
    pub number: u32,
    /// The number of the map task that reads it.
    pub task: u32,
}

/// One line.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The line without its newline; a carriage return before it is part of the line.
    pub bytes: &'a [u8],
    /// The file.
    pub source: Source<'a>,
    /// Offset of the line in the (decompressed) file.
    pub offset: u64,
}

/// One line or more. Each ends with a newline, except for a last line of a file without one.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The lines, newlines included.
    pub bytes: &'a [u8],
    /// The file.
    pub source: Source<'a>,
    /// Offset of the first line in the (decompressed) file.
    pub offset: u64,
}

impl<'a> Batch<'a> {
    /// The lines one by one.
    pub fn records(&self) -> Records<'a> {
        Records { rest: self.bytes, source: self.source, offset: self.offset }
    }
}

/// Iterator over the lines of a [`Batch`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
    source: Source<'a>,
    offset: u64,
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let end = memchr(b'\n', self.rest).unwrap_or(self.rest.len());
        let (bytes, rest) = self.rest.split_at_checked(end)?;
        let record = Record { bytes, source: self.source, offset: self.offset };
        self.rest = rest.get(1..).unwrap_or_default();
        self.offset += bytes.len() as u64 + 1;
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<(u64, &[u8])> {
        let source = Source { name: b"f", number: 0, task: 0 };
        let batch = Batch { bytes, source, offset: 10 };
        batch.records().map(|record| (record.offset, record.bytes)).collect()
    }

    #[test]
    fn lines_are_cut_at_newlines_only() {
        assert_eq!(lines(b""), []);
        assert_eq!(lines(b"\n"), [(10, &b""[..])]);
        assert_eq!(lines(b"a\r\n\nb"), [(10, &b"a\r"[..]), (13, b""), (14, b"b")]);
    }
}
