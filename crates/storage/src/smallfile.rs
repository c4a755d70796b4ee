//! Small text files that are replaced as a whole: lines of words, the last one a checksum.

use std::io;
use std::path::Path;

use crate::disk::{Disk, read_file, replace_file};

/// Largest such file that is read.
const BYTES_MAX: u64 = 1 << 20;

/// Why a small file cannot be used.
pub(crate) enum BadFile {
    Io(io::Error),
    Damaged,
}

/// Replaces the file by these lines. Durable on return; a crash leaves the old file or the new one.
pub(crate) fn write<D: Disk>(
    disk: &D,
    directory: &Path,
    name: &str,
    lines: &[String],
) -> io::Result<()> {
    let mut text = lines.join("\n");
    text.push('\n');
    let crc = crc32c::crc32c(text.as_bytes());
    text.push_str(&format!("crc32c {crc:08x}\n"));
    replace_file(disk, directory, name, text.as_bytes())
}

/// The lines of the file without the checksum.
pub(crate) fn read<D: Disk>(disk: &D, path: &Path) -> Result<Vec<String>, BadFile> {
    let file = disk.open(path).map_err(BadFile::Io)?;
    let bytes = read_file(&file, BYTES_MAX).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => BadFile::Damaged,
        _ => BadFile::Io(error),
    })?;
    let text = std::str::from_utf8(&bytes).map_err(|_| BadFile::Damaged)?;
    let at = text.rfind("crc32c ").ok_or(BadFile::Damaged)?;
    let (content, last) = text.split_at(at);
    let crc = crc32c::crc32c(content.as_bytes());
    if last != format!("crc32c {crc:08x}\n") || !content.ends_with('\n') {
        return Err(BadFile::Damaged);
    }
    Ok(content.lines().map(str::to_owned).collect())
}
