//! Files that a merge writes for itself when not all runs fit in memory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::TaskError;
use crate::shuffle::{Bucket, Fetch, FileIdentity, Run, ShuffleError, ShuffleFile, ShuffleWriter};

/// The scratch files of one merge; they have the format of map output, with one bucket each.
pub(super) struct Scratch {
    prefix: PathBuf,
    next: u32,
    files: BTreeMap<u32, (PathBuf, ShuffleFile)>,
}

/// A scratch file being written.
pub(super) struct Pen {
    number: u32,
    path: PathBuf,
    writer: ShuffleWriter,
}

impl Pen {
    #[inline]
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), TaskError> {
        let pushed = self.writer.push(0, key, value);
        pushed.map_err(|source| TaskError::files("write", &self.path, source))
    }
}

impl Scratch {
    pub(super) fn new(folder: &Path, name: &str) -> Scratch {
        Scratch { prefix: folder.join(name), next: 0, files: BTreeMap::new() }
    }

    /// Begins a file.
    pub(super) fn begin(&mut self) -> Result<Pen, TaskError> {
        let number = self.next;
        self.next += 1;
        let mut path = self.prefix.as_os_str().to_owned();
        path.push(format!(".merge-{number}"));
        let path = PathBuf::from(path);
        let identity = FileIdentity { job: 0, map: number, attempt: 0, buckets: 1 };
        let writer = ShuffleWriter::create(&path, identity)
            .map_err(|source| TaskError::files("write", &path, source))?;
        Ok(Pen { number, path, writer })
    }

    /// Ends a file: what is in it.
    pub(super) fn finish(&mut self, mut pen: Pen) -> Result<(FileIdentity, Run), TaskError> {
        let written = pen.writer.end_run().and_then(|()| pen.writer.finish());
        written.map_err(|source| TaskError::files("write", &pen.path, source))?;
        let opened = ShuffleFile::open(&pen.path, pen.number);
        let file = opened.map_err(|error| self.error(&error))?;
        let bucket = file.bucket(0).map_err(|error| self.error(&error))?;
        let identity = *file.identity();
        self.files.insert(pen.number, (pen.path, file));
        Ok((identity, bucket.runs.first().copied().unwrap_or_default()))
    }

    /// Removes the files that are not needed any more.
    pub(super) fn forget_all_but(&mut self, needed: impl Fn(u32) -> bool) {
        self.files.retain(|number, (path, _)| {
            let keep = needed(*number);
            if !keep {
                // A file that cannot be removed goes with its folder.
                let _ = fs::remove_file(path);
            }
            keep
        });
    }

    /// What a damaged scratch file is to the task.
    pub(super) fn error(&self, error: &ShuffleError) -> TaskError {
        TaskError::files("read", &self.prefix, io::Error::other(error.to_string()))
    }
}

impl Fetch for Scratch {
    fn bucket(&self, map: u32, bucket: u32) -> Result<Bucket, ShuffleError> {
        let lost = || ShuffleError::Lost { map, reason: "a scratch file is gone".into() };
        self.files.get(&map).ok_or_else(lost)?.1.bucket(bucket)
    }

    fn read(&self, map: u32, offset: u64, room: &mut [u8]) -> Result<(), ShuffleError> {
        let lost = || ShuffleError::Lost { map, reason: "a scratch file is gone".into() };
        self.files.get(&map).ok_or_else(lost)?.1.read(offset, room)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.forget_all_but(|_| false);
    }
}
