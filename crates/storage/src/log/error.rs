//! What can go wrong with the log.

use std::fmt;
use std::io;
use std::path::PathBuf;

use kontiki_types::{GroupId, Index};

use crate::disk::hint;

/// Why a write to the log failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// There is no room for another segment. Nothing was written and the log is unchanged; it may
    /// be tried again when there is space.
    #[error("no space for a log segment of {needed} bytes in {directory}")]
    NoSpace {
        /// Size of the segment that could not be made.
        needed: u64,
        /// Where.
        directory: PathBuf,
    },
    /// An operation of the disk failed. What is on stable storage is unknown: end the process.
    #[error("cannot {action} {path}: {source}{hint}", hint = hint(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// An earlier operation failed; see [`LogError::Io`].
    #[error("the log failed before and takes no more writes")]
    Failed,
    /// A record that had to be copied forward is damaged.
    #[error(transparent)]
    Corrupt(Box<Corruption>),
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the log open.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// The disk failed.
    #[error("cannot {action} {path}: {source}{hint}", hint = hint(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The file was written by another version.
    #[error(
        "{path} has log format version {found}; this program reads version {supported}\n\
         hint: start the version of Kontiki that wrote it"
    )]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// The file belongs to another directory.
    #[error(
        "{path} belongs to another node's directory (incarnation {found:016x}, here is \
         {expected:016x})\nhint: put the files back where they came from"
    )]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// The incarnation in the file.
        found: u64,
        /// The incarnation of this directory.
        expected: u64,
    },
    /// Something that was durable is damaged or missing.
    #[error(transparent)]
    Corrupt(Box<Corruption>),
}

/// Durable data that cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// The damaged file.
    pub file: PathBuf,
    /// Where in it the damage begins.
    pub offset: u64,
    /// What is wrong.
    pub detail: String,
    /// Entries known to be lost. Empty if that cannot be told.
    pub lost: Vec<LostEntries>,
}

/// A range of lost entries, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostEntries {
    /// The group.
    pub group: GroupId,
    /// First lost entry.
    pub from: Index,
    /// Last lost entry.
    pub to: Index,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: offset {}: {}", self.file.display(), self.offset, self.detail)?;
        if self.lost.is_empty() {
            write!(f, "; which groups and entries are hit cannot be told")?;
        }
        for lost in &self.lost {
            write!(f, "; group {}: entries {} to {} are lost", lost.group, lost.from, lost.to)?;
        }
        write!(
            f,
            "\nhint: this node can no longer prove what it promised, so it does not start. Empty \
             its directory, start it with --join HOST:PORT, and run `kontiki cluster readmit \
             --node N`"
        )
    }
}

impl std::error::Error for Corruption {}
