//! Where the output of a job goes: a folder, or objects in a store below a prefix.
//!
//! Output is *prepared* before its task asks for the grant, and to be seen only once it is *put in
//! place*: by a rename, or by the end of an upload. Calls block.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::objects::{Place, Upload, is_url};
use crate::task::{commit, output_name, put_in_place, sync_folder};

/// A folder or a prefix.
#[derive(Clone)]
pub enum Destination {
    /// A folder.
    Folder(PathBuf),
    /// A prefix.
    Objects(Place),
}

/// An output that waits to be put in place.
pub(crate) enum Prepared {
    /// Under another name.
    File { file: PathBuf, folder: PathBuf, number: u32 },
    /// Uploaded, and not to be seen.
    Upload(Upload),
}

impl Destination {
    /// The destination that the command line names.
    ///
    /// # Errors
    /// A URL of no store that is known.
    pub fn of(output: &Path) -> io::Result<Self> {
        let bytes = output.as_os_str().as_bytes();
        if is_url(bytes) {
            return Place::of(bytes).map(Self::Objects);
        }
        Ok(Self::Folder(output.to_path_buf()))
    }

    /// Whether there is anything in it yet. A folder that is not there is empty.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn is_empty(&self) -> io::Result<bool> {
        match self {
            Self::Folder(folder) => match fs::read_dir(folder) {
                Ok(mut entries) => Ok(entries.next().is_none()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
                Err(error) => Err(error),
            },
            Self::Objects(prefix) => Ok(prefix.list()?.is_empty()),
        }
    }

    /// Prepares the output `number`, a synced file.
    pub(crate) fn prepare(&self, file: &Path, number: u32) -> io::Result<Prepared> {
        match self {
            Self::Folder(folder) => {
                let (file, folder) = (file.to_path_buf(), folder.clone());
                Ok(Prepared::File { file, folder, number })
            }
            Self::Objects(prefix) => {
                let upload = prefix.child(&output_name(number)).upload(file)?;
                // Its bytes are where they are to be.
                let _ = fs::remove_file(file);
                Ok(Prepared::Upload(upload))
            }
        }
    }

    /// Adds a file that is no output, such as skipped records.
    ///
    /// # Errors
    /// It cannot be written there.
    pub fn add(&self, file: &Path, name: &str) -> io::Result<()> {
        match self {
            Self::Folder(folder) => fs::copy(file, folder.join(name)).map(drop),
            Self::Objects(prefix) => prefix.child(name).upload(file)?.finish(),
        }
    }

    /// Removes the first `outputs` outputs, as far as they are there and can be removed.
    pub fn remove_outputs(&self, outputs: u32) {
        for name in (0..outputs).map(output_name) {
            // What stays is whole; the job's error says that it failed.
            let _ = match self {
                Self::Folder(folder) => fs::remove_file(folder.join(name)),
                Self::Objects(prefix) => prefix.child(&name).remove(),
            };
        }
    }

    /// Makes the names in a folder durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match self {
            Self::Folder(folder) => sync_folder(folder),
            Self::Objects(_) => Ok(()),
        }
    }
}

impl Prepared {
    /// Puts it in place; its name is durable once the folder is synced.
    pub(crate) fn put_in_place(self) -> io::Result<()> {
        match self {
            Self::File { file, folder, number } => put_in_place(&file, &folder, number).map(drop),
            Self::Upload(upload) => upload.finish(),
        }
    }

    /// Puts it in place, durably.
    pub(crate) fn commit(self) -> io::Result<()> {
        match self {
            Self::File { file, folder, number } => commit(&file, &folder, number).map(drop),
            Self::Upload(upload) => upload.finish(),
        }
    }
}
