//! A disk that can only be read, whatever is asked of it: for those who look and must not touch.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Disk, File, RealDisk};

/// The file system of this machine, for reading. Everything that would change it fails with
/// [`io::ErrorKind::ReadOnlyFilesystem`], on a disk that could be written, too.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOnlyDisk;

/// A file of [`ReadOnlyDisk`].
#[derive(Debug)]
pub struct ReadOnlyFile(fs::File);

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for ReadOnlyDisk {
    type File = ReadOnlyFile;
    type Lock = ();

    fn create(&self, _: &Path) -> io::Result<ReadOnlyFile> {
        refused()
    }

    fn open(&self, path: &Path) -> io::Result<ReadOnlyFile> {
        fs::File::open(path).map(ReadOnlyFile)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        RealDisk.exists(path)
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        RealDisk.free_space(path)
    }

    fn lock(&self, _: &Path) -> io::Result<Option<()>> {
        refused()
    }
}

impl File for ReadOnlyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, buffer, offset)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        refused()
    }

    fn preallocate(&self, _: u64) -> io::Result<()> {
        refused()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        refused()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        refused()
    }
}
