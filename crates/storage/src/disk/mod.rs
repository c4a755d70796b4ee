//! What this crate asks of a disk, so that a simulated one fits in the place of the real one.
//!
//! The model of durability, the same for both: a written byte is durable once [`File::sync_data`]
//! has returned; a name in a directory (created, renamed, removed) once [`Disk::sync_dir`] has.
//! Before that any subset of the bytes may survive a crash, in any state between old and new, and
//! any number of the name changes in the order they were made. A sync that failed proves nothing,
//! neither then nor when it is repeated.

mod read_only;
mod real;
mod sim;

use std::io;
use std::path::Path;

pub use read_only::{ReadOnlyDisk, ReadOnlyFile};
pub use real::{RealDisk, RealFile, RealLock};
#[cfg(test)]
pub(crate) use sim::Random;
pub use sim::{Crash, Fault, SimDisk, SimFile, SimLock};

/// What to do about an error of the disk, as the end of a message.
pub(crate) fn hint(error: &io::Error) -> &'static str {
    const EIO: i32 = 5;
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "\nhint: the disk is full: free some space and start the node again"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "\nhint: the file system is read-only, which an error of the disk may have brought about: \
             look into the system's log, have the disk repaired or replaced, and start the node again"
        }
        _ if error.raw_os_error() == Some(EIO) => {
            "\nhint: the disk fails: look into the system's log, and start the node again on a disk \
             that works, with its files or, without them, by --join HOST:PORT and `kontiki cluster \
             readmit --node N`"
        }
        _ => "",
    }
}

/// A file system below some root. Clones are handles to the same disk.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: File;
    /// Held while the process owns a directory; dropping it gives the directory free.
    type Lock: Send + Sync + 'static;

    /// Creates a file that must not exist, for reading and writing.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    /// Whether a file or directory has this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Renames a file, replacing the target if there is one, atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all in it; no error if it does not exist.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory and its parents; no error if it exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names of the files and directories directly in `path`, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Makes the names in `path` durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Bytes that an unprivileged process may still allocate on the file system of `path`.
    fn free_space(&self, path: &Path) -> io::Result<u64>;
    /// Locks `path` (a file, created if needed) against other processes; `None` if one holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Self::Lock>>;
}

/// An open file. Positioned reads and writes only; no cursor.
pub trait File: Send + Sync + 'static {
    /// Reads up to `buffer.len()` bytes from `offset`; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `data` at `offset`; the file grows as needed.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the file `length` bytes of zeros that are really allocated, so that later writes
    /// within it neither fail for space nor change metadata.
    fn preallocate(&self, length: u64) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Makes the bytes and the length durable.
    fn sync_data(&self) -> io::Result<()>;

    /// Reads exactly `buffer.len()` bytes.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_at(&mut buffer[done..], offset + done as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => done += read,
            }
        }
        Ok(())
    }
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// What reading gives; [`io::ErrorKind::InvalidData`] if the file is longer than `limit`.
pub fn read_file<F: File>(file: &F, limit: u64) -> io::Result<Vec<u8>> {
    let length = file.len()?;
    if length > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{length} bytes where at most {limit} are expected"),
        ));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Replaces `name` in `directory` by `bytes` so that a crash leaves the old or the new content.
/// Durable on return.
///
/// # Errors
/// What the disk gives. The old content is then still there, or the new one.
pub fn replace_file<D: Disk>(
    disk: &D,
    directory: &Path,
    name: &str,
    bytes: &[u8],
) -> io::Result<()> {
    let temporary = directory.join(format!("{name}.new"));
    if disk.exists(&temporary)? {
        disk.remove(&temporary)?;
    }
    let file = disk.create(&temporary)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    disk.rename(&temporary, &directory.join(name))?;
    disk.sync_dir(directory)
}
