//! Where the output of a job goes: a folder, objects in a store below a prefix, or keys.
//!
//! Output is *prepared* before its task asks for the grant, and to be seen only once it is *put in
//! place*: by a rename, or by the end of an upload. Calls block.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::objects::{Place, Upload, is_url};
use crate::store::{Fence, KeysOutput, PreparedKeys, is_store};
use crate::task::{commit, output_name, put_in_place, sync_folder};

/// A folder or a prefix.
#[derive(Clone)]
pub enum Destination {
    /// A folder.
    Folder(PathBuf),
    /// A prefix.
    Objects(Place),
    /// Keys of a Kontiki store.
    Keys(KeysOutput),
}

/// An output that waits to be put in place.
pub(crate) enum Prepared {
    /// Under another name.
    File { file: PathBuf, folder: PathBuf, number: u32 },
    /// Uploaded, and not to be seen.
    Upload(Upload),
    /// Not written yet.
    Keys(PreparedKeys),
}

impl Destination {
    /// The destination that the command line names.
    ///
    /// # Errors
    /// A URL of no store that is known.
    pub fn of(output: &Path) -> io::Result<Self> {
        Self::behind(output, None)
    }

    /// The same for the workers of a job: what goes to a store is behind this fence.
    pub(crate) fn behind(output: &Path, fence: Option<Fence>) -> io::Result<Self> {
        let bytes = output.as_os_str().as_bytes();
        if is_store(bytes) {
            return KeysOutput::of(bytes, fence).map(Self::Keys);
        }
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
            Self::Keys(keys) => keys.is_empty(),
        }
    }

    /// Makes the fence that a job needs whose workers write to a store.
    pub(crate) fn begin(&self) -> io::Result<Option<Fence>> {
        match self {
            Self::Keys(keys) => keys.begin().map(Some),
            _ => Ok(None),
        }
    }

    /// Ends a job with so many outputs: no attempt writes to a store any more. Blocks.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub fn end(&self, outputs: u32) -> io::Result<()> {
        match self {
            Self::Keys(keys) => keys.end(outputs),
            _ => Ok(()),
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
            Self::Keys(keys) => keys.prepare(file, number).map(Prepared::Keys),
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
            Self::Keys(keys) => keys.add(file, name),
        }
    }

    /// Removes the first `outputs` outputs, as far as they are there and can be removed; of a store,
    /// all keys with the prefix.
    pub fn remove_outputs(&self, outputs: u32) {
        if let Self::Keys(keys) = self {
            // What stays has the prefix; the job's error says that it failed.
            let _ = keys.remove_all();
            return;
        }
        for name in (0..outputs).map(output_name) {
            // What stays is whole; the job's error says that it failed.
            let _ = match self {
                Self::Folder(folder) => fs::remove_file(folder.join(name)),
                Self::Objects(prefix) => prefix.child(&name).remove(),
                Self::Keys(_) => Ok(()),
            };
        }
    }

    /// Makes the names in a folder durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match self {
            Self::Folder(folder) => sync_folder(folder),
            Self::Objects(_) | Self::Keys(_) => Ok(()),
        }
    }
}

impl Prepared {
    /// Puts it in place; its name is durable once the folder is synced. For who is alone with it.
    pub(crate) fn put_in_place(self) -> io::Result<()> {
        match self {
            Self::Keys(keys) => match keys.write()? {
                None => Ok(()),
                Some(_) => Err(io::Error::other("another attempt writes the same keys")),
            },
            Self::File { file, folder, number } => put_in_place(&file, &folder, number).map(drop),
            Self::Upload(upload) => upload.finish(),
        }
    }

    /// Puts it in place, durably. `Some`: that was not possible any more, and it must be granted again.
    pub(crate) fn commit(self) -> io::Result<Option<Self>> {
        match self {
            Self::File { file, folder, number } => commit(&file, &folder, number).map(|_| None),
            Self::Upload(upload) => upload.finish().map(|()| None),
            Self::Keys(keys) => Ok(keys.write()?.map(Self::Keys)),
        }
    }
}
