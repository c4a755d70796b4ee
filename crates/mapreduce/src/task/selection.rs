//! Which records of its input a map attempt maps.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::PathBuf;

use crate::api::Record;
use crate::error::TaskError;

/// All records but those that are to be skipped, or only a range of them.
pub(crate) struct Selection<'a> {
    skip: &'a [u64],
    only: Option<Range<u64>>,
    /// Where skipped records go.
    path: PathBuf,
    file: Option<BufWriter<File>>,
    pub(crate) skipped: u64,
}

impl<'a> Selection<'a> {
    /// All but `skip`; the lines of those go to the file `path`.
    pub(crate) fn all_but(skip: &'a [u64], path: PathBuf) -> Selection<'a> {
        Selection { skip, only: None, path, file: None, skipped: 0 }
    }

    /// Of the range `only` all but `skip`.
    pub(crate) fn only(only: Range<u64>, skip: &'a [u64]) -> Selection<'a> {
        Selection { skip, only: Some(only), path: PathBuf::new(), file: None, skipped: 0 }
    }

    /// Whether every record is selected, so that nobody need look at them one by one.
    pub(crate) fn is_everything(&self) -> bool {
        self.skip.is_empty() && self.only.is_none()
    }

    /// Whether the record with this number is to be mapped; one that is skipped is written down.
    pub(crate) fn wants(&mut self, number: u64, record: &Record<'_>) -> Result<bool, TaskError> {
        if self.only.as_ref().is_some_and(|only| !only.contains(&number)) {
            return Ok(false);
        }
        if self.skip.binary_search(&number).is_err() {
            return Ok(true);
        }
        if self.only.is_none() {
            self.skipped += 1;
            self.write(record).map_err(|source| TaskError::files("write", &self.path, source))?;
        }
        Ok(false)
    }

    fn write(&mut self, record: &Record<'_>) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(BufWriter::new(File::create(&self.path)?)),
        };
        file.write_all(record.bytes)?;
        file.write_all(b"\n")
    }

    /// The file with the skipped records, if there are any.
    pub(crate) fn finish(self) -> Result<Option<PathBuf>, TaskError> {
        let Some(mut file) = self.file else { return Ok(None) };
        file.flush().map_err(|source| TaskError::files("write", &self.path, source))?;
        Ok(Some(self.path))
    }
}
