//! The file of a reduce: written under another name, synced, then renamed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::TaskError;

/// The name of the output of reduce `reduce`.
pub fn output_name(reduce: u32) -> String {
    format!("mr-out-{reduce}")
}

/// An output file that has not got its final name.
pub(super) struct OutputFile {
    path: PathBuf,
    file: File,
    pub(super) bytes: u64,
    kept: bool,
}

impl OutputFile {
    pub(super) fn create(path: PathBuf) -> Result<OutputFile, TaskError> {
        let file =
            File::create(&path).map_err(|source| TaskError::files("write", &path, source))?;
        Ok(OutputFile { path, file, bytes: 0, kept: false })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), TaskError> {
        self.bytes += bytes.len() as u64;
        let written = self.file.write_all(bytes);
        written.map_err(|source| TaskError::files("write", &self.path, source))
    }

    /// Syncs the file and keeps it.
    pub(super) fn finish(mut self) -> Result<PathBuf, TaskError> {
        self.file.sync_data().map_err(|source| TaskError::files("sync", &self.path, source))?;
        self.kept = true;
        Ok(self.path.clone())
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.kept {
            // It has no final name, so that nobody takes it for output.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Gives the output of reduce `reduce` its final name in `folder`, durably. `temporary` must be on
/// the same file system. Doing it twice with two attempts' files leaves the later one.
///
/// # Errors
/// When it cannot be renamed, or the folder not be synced.
pub fn commit(temporary: &Path, folder: &Path, reduce: u32) -> io::Result<PathBuf> {
    let path = put_in_place(temporary, folder, reduce)?;
    sync_folder(folder)?;
    Ok(path)
}

/// [`commit`] without making the name durable, for whoever syncs the folder once for many.
pub(crate) fn put_in_place(temporary: &Path, folder: &Path, reduce: u32) -> io::Result<PathBuf> {
    let path = folder.join(output_name(reduce));
    fs::rename(temporary, &path)?;
    Ok(path)
}

/// Makes the names in `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
