//! What a reducer writes.

use std::io::Write;

use crate::error::TaskError;
use crate::task::Counters;

/// The output of one reduce attempt, and its counters.
pub struct Output<'a> {
    sink: &'a mut dyn FnMut(&[u8]) -> Result<(), TaskError>,
    buffer: Vec<u8>,
    counters: &'a mut Counters,
    lines: u64,
}

/// Handed on to the file at a time.
const BUFFER_BYTES: usize = 256 * 1024;

impl<'a> Output<'a> {
    /// Output that goes to `sink` in large pieces; [`Output::flush`] hands on the last one.
    pub fn new(
        sink: &'a mut dyn FnMut(&[u8]) -> Result<(), TaskError>,
        counters: &'a mut Counters,
    ) -> Output<'a> {
        Output { sink, buffer: Vec::with_capacity(BUFFER_BYTES + 4096), counters, lines: 0 }
    }

    /// Writes `key`, a space, `value` and a newline: the course lab's format.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn emit(&mut self, key: &[u8], value: &[u8]) -> Result<(), TaskError> {
        self.write(key)?;
        self.buffer.push(b' ');
        self.write(value)?;
        self.end_line()
    }

    /// Writes `key`, a space, a number and a newline.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn emit_number(&mut self, key: &[u8], value: u64) -> Result<(), TaskError> {
        self.write(key)?;
        // Writing to a vector does not fail.
        let _ = write!(self.buffer, " {value}");
        self.end_line()
    }

    /// Writes `line` and a newline.
    ///
    /// # Errors
    /// When the file cannot be written.
    #[inline]
    pub fn line(&mut self, line: &[u8]) -> Result<(), TaskError> {
        self.write(line)?;
        self.end_line()
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// When the file cannot be written.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), TaskError> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
            if bytes.len() > BUFFER_BYTES {
                return (self.sink)(bytes);
            }
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes lines as they are.
    pub(crate) fn write_lines(&mut self, bytes: &[u8]) -> Result<(), TaskError> {
        self.lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
        self.write(bytes)
    }

    /// Ends the line that was written in pieces.
    ///
    /// # Errors
    /// When the file cannot be written.
    #[inline]
    pub fn end_line(&mut self) -> Result<(), TaskError> {
        self.lines += 1;
        self.write(b"\n")
    }

    /// Adds `amount` to a counter of the job.
    pub fn count(&mut self, group: &str, name: &str, amount: i64) {
        self.counters.add(group, name, amount);
    }

    /// Lines ended so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Hands on what is buffered.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&mut self) -> Result<(), TaskError> {
        if !self.buffer.is_empty() {
            (self.sink)(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}
