//! The output of a map whose job has no reduces: lines, in the order in which they were made.

use std::path::PathBuf;

use super::map::path;
use super::output::OutputFile;
use super::{Attempt, Counters, MapFigures, MapOutput};
use crate::api::{Emit, Output};
use crate::error::TaskError;
use crate::input::MapTask;

/// Takes what is emitted as lines: `key value`, or the key alone if the value is empty.
pub(super) struct Direct<'a, 'b> {
    output: &'a mut Output<'b>,
    error: Option<TaskError>,
    pub(super) emitted: u64,
    pub(super) emitted_bytes: u64,
}

impl<'a, 'b> Direct<'a, 'b> {
    pub(super) fn new(output: &'a mut Output<'b>) -> Self {
        Direct { output, error: None, emitted: 0, emitted_bytes: 0 }
    }

    /// What went wrong since it was last asked.
    pub(super) fn take_error(&mut self) -> Option<TaskError> {
        self.error.take()
    }
}

impl Emit for Direct<'_, '_> {
    fn emit(&mut self, key: &[u8], value: &[u8]) {
        if self.error.is_some() {
            return;
        }
        self.emitted += 1;
        self.emitted_bytes += (key.len() + value.len()) as u64;
        let written =
            if value.is_empty() { self.output.line(key) } else { self.output.emit(key, value) };
        self.error = written.err();
    }

    fn count(&mut self, group: &str, name: &str, amount: i64) {
        self.output.count(group, name, amount);
    }
}

/// Writes the output of a map. `fill` gives what was done, and the file with the lines that were
/// skipped.
pub(crate) fn write(
    task: &MapTask,
    attempt: &Attempt,
    fill: impl FnOnce(&mut Output<'_>) -> Result<(MapFigures, Option<PathBuf>), TaskError>,
) -> Result<MapOutput, TaskError> {
    let mut file = OutputFile::create(path(task, attempt))?;
    let mut counters = Counters::default();
    let mut sink = |bytes: &[u8]| file.write(bytes);
    let mut output = Output::new(&mut sink, &mut counters);
    let (mut figures, skipped) = fill(&mut output)?;
    output.flush()?;
    figures.output_records = output.lines();
    figures.output_bytes = file.bytes;
    Ok(MapOutput { file: file.finish()?, figures, counters, skipped })
}
