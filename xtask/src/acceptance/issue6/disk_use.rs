//! What a node's directory takes of the disk.

use anyhow::{Context as _, Result};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Unit of `st_blocks`.
const BLOCK: u64 = 512;

/// Bytes allocated for all files below `path`. Files that go while it looks count as gone.
pub fn of(path: &Path) -> Result<u64> {
    let shown = || path.display().to_string();
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries.with_context(shown)?,
    };
    let mut sum = 0;
    for entry in entries {
        let entry = entry.with_context(shown)?;
        let metadata = match entry.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            metadata => metadata.with_context(|| entry.path().display().to_string())?,
        };
        sum += match metadata.is_dir() {
            true => of(&entry.path())?,
            false => metadata.blocks() * BLOCK,
        };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    #[test]
    fn files_below_are_counted() {
        let directory = std::env::temp_dir().join(format!("disk-use-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("below")).expect("a temporary folder");
        std::fs::write(directory.join("below/file"), vec![7; 100_000]).expect("room");
        let used = super::of(&directory).expect("readable");
        assert!((100_000..1_000_000).contains(&used), "{used}");
        std::fs::remove_dir_all(&directory).expect("ours");
        assert_eq!(super::of(&directory).expect("gone"), 0);
    }
}
