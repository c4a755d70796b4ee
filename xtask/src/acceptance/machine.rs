//! What the figures were measured on, and when.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

use crate::program::Program;

/// The machine, as far as it matters to a figure.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_gib: u64,
    pub kernel: String,
    /// The one that the clusters under test write to.
    pub filesystem: String,
}

impl Machine {
    /// This machine, with the filesystem that holds `directory`.
    pub fn here(directory: &Path) -> Result<Machine> {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let directory =
            directory.canonicalize().with_context(|| directory.display().to_string())?;
        Ok(Machine {
            processor: field(&cpu, "model name").unwrap_or("unknown processor").to_string(),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: field(&memory, "MemTotal").map_or(0, gibibytes),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_string(),
            filesystem: filesystem(&mounts, &directory.to_string_lossy()).to_string(),
        })
    }
}

/// The value of the first `name : value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// `24610000 kB` as gibibytes, rounded.
fn gibibytes(value: &str) -> u64 {
    let kibibytes: u64 = value.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    (kibibytes + (1 << 19)) >> 20
}

/// The type of the filesystem mounted nearest above `directory`.
fn filesystem<'a>(mounts: &'a str, directory: &str) -> &'a str {
    let mut best = ("", "unknown filesystem");
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(point), Some(kind)) = (words.next(), words.next()) else { continue };
        let inside =
            point == "/" || directory == point || directory.starts_with(&format!("{point}/"));
        if inside && point.len() >= best.0.len() {
            best = (point, kind);
        }
    }
    best.1
}

/// The time, in UTC, to the second.
pub fn date() -> Result<String> {
    Ok(Program::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output()?.trim().to_string())
}

/// The commit that is checked out; with `-dirty` if the tree differs from it.
pub fn commit(root: &Path) -> Result<String> {
    let git = |arguments: &[&str]| Program::new("git").args(arguments).in_directory(root).output();
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    // Results themselves change with every run and make no figure untrue.
    let changed = git(&["status", "--porcelain", "--", ".", ":!bench/results", ":!README.md"])?;
    let dirty = if changed.trim().is_empty() { "" } else { "-dirty" };
    Ok(format!("{}{dirty}", commit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "a / ext4 rw 0 0\nb /tmp tmpfs rw 0 0\nc /tmp/deep xfs rw 0 0\n";
        assert_eq!(filesystem(mounts, "/tmp/deep/x"), "xfs");
        assert_eq!(filesystem(mounts, "/tmp/deeper"), "tmpfs");
        assert_eq!(filesystem(mounts, "/home"), "ext4");
    }

    #[test]
    fn memory_is_rounded() {
        assert_eq!(gibibytes("25165824 kB"), 24);
        assert_eq!(field("MemTotal:  25165824 kB\nMemFree: 1 kB", "MemTotal"), Some("25165824 kB"));
    }
}
