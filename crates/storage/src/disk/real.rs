//! The disk of the operating system.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock, statvfs};

use super::{Disk, File};

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// A file of [`RealDisk`].
#[derive(Debug)]
pub struct RealFile(fs::File);

/// An exclusive `flock`, held until dropped or the process ends.
#[derive(Debug)]
pub struct RealLock(#[expect(dead_code, reason = "held for its lock")] fs::File);

/// Zeros are written in pieces of this size: large enough for the disk, small for memory.
const ZEROS: usize = 1 << 20;
/// What direct I/O asks of addresses, offsets and lengths, on all disks there are.
#[cfg(target_os = "linux")]
const ALIGNMENT: usize = 4096;
/// Between two pieces of a preallocation, for others that use the disk.
const PREALLOCATION_PAUSE: std::time::Duration = std::time::Duration::from_millis(2);

impl Disk for RealDisk {
    type File = RealFile;
    type Lock = RealLock;

    fn create(&self, path: &Path) -> io::Result<RealFile> {
        fs::OpenOptions::new().read(true).write(true).create_new(true).open(path).map(RealFile)
    }

    fn open(&self, path: &Path) -> io::Result<RealFile> {
        fs::OpenOptions::new().read(true).write(true).open(path).map(RealFile)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        let status = statvfs(path)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<RealLock>> {
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(RealLock(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&self.0, data, offset)
    }

    // Zeros are written rather than extents reserved: a reserved extent is marked as written at
    // the first write into it, and that is a metadata change which every fdatasync then pays for.
    fn preallocate(&self, length: u64) -> io::Result<()> {
        self.0.set_len(0)?;
        match self.write_zeros_uncached(length) {
            // This file system cannot.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.write_zeros(length)?
            }
            result => result?,
        }
        self.0.sync_all()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl RealFile {
    /// Past the page cache: memory for a whole segment of zeros costs several times what the zeros
    /// cost, in time of the processor, and takes it from pages that somebody reads.
    #[cfg(target_os = "linux")]
    fn write_zeros_uncached(&self, length: u64) -> io::Result<()> {
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
        let flags = fcntl_getfl(&self.0)?;
        fcntl_setfl(&self.0, flags | OFlags::DIRECT)?;
        let zeros = vec![0; ZEROS + ALIGNMENT];
        let start = zeros.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let written = self.write_pieces(&zeros[start..start + ZEROS], length, || Ok(()));
        fcntl_setfl(&self.0, flags)?;
        written
    }

    #[cfg(not(target_os = "linux"))]
    fn write_zeros_uncached(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::InvalidInput.into())
    }

    fn write_zeros(&self, length: u64) -> io::Result<()> {
        // Piece by piece: one sync of it all would hold up those of the log for long.
        self.write_pieces(&vec![0; ZEROS], length, || self.0.sync_data())
    }

    fn write_pieces(
        &self,
        piece: &[u8],
        length: u64,
        after_each: impl Fn() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut offset = 0;
        while offset < length {
            let end = piece.len().min(usize::try_from(length - offset).unwrap_or(piece.len()));
            FileExt::write_all_at(&self.0, &piece[..end], offset)?;
            offset += end as u64;
            after_each()?;
            std::thread::sleep(PREALLOCATION_PAUSE);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_preallocated_is_zeros_and_takes_writes_of_any_size() {
        let directory = tempfile::tempdir().unwrap();
        for length in [0, 1000, 4096, 3 << 20, (5 << 20) + 8192, (1 << 20) + 7] {
            let file = RealDisk.create(&directory.path().join(format!("{length}"))).unwrap();
            file.preallocate(length).unwrap();
            assert_eq!(file.len().unwrap(), length);
            let mut bytes = vec![1; length as usize];
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert!(bytes.iter().all(|byte| *byte == 0), "{length}");
            file.write_at(b"odd", 1).unwrap();
            file.sync_data().unwrap();
        }
    }
}
