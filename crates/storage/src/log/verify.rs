//! Checking a log without opening it.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use kontiki_raft::Recovered;
use kontiki_types::{GroupId, Incarnation};

use super::Corruption;
use super::error::OpenError;
use super::groups::Applied;
use super::scan::{Indexes, scan};
use crate::disk::Disk;

/// What a sound log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogReport {
    /// Segment files in use.
    pub segments: u64,
    /// Frames that were known to be durable: the sequence of the last.
    pub durable: u64,
    /// Whole frames after that.
    pub tail: u64,
    /// Groups with anything in the log.
    pub groups: u64,
    /// Entries after the groups' log starts.
    pub entries: u64,
}

/// Reads and checks the whole log in `directory` and changes nothing. The log must not be open.
///
/// # Errors
/// As [`Log::open`](super::Log::open).
pub fn verify_log<D: Disk>(
    disk: &D,
    directory: &Path,
    incarnation: Incarnation,
) -> Result<LogReport, OpenError> {
    inspect_log(disk, directory, incarnation).map(|(report, _)| report)
}

/// As [`verify_log`], with what the log proves of each group.
///
/// # Errors
/// As [`Log::open`](super::Log::open).
pub fn inspect_log<D: Disk>(
    disk: &D,
    directory: &Path,
    incarnation: Incarnation,
) -> Result<(LogReport, BTreeMap<GroupId, Recovered<Bytes>>), OpenError> {
    let mut scan = scan(disk, directory, incarnation.get(), Indexes::Ignored)?;
    let corrupt = |detail| {
        let (file, offset, lost) = (directory.to_path_buf(), 0, Vec::new());
        OpenError::Corrupt(Box::new(Corruption { file, offset, detail, lost }))
    };
    for frame in &scan.tail {
        scan.groups.replay(frame.segment, frame.offset, frame.body.clone()).map_err(corrupt)?;
    }
    scan.groups.check().map_err(corrupt)?;
    let recovered = scan.groups.recovered(&Applied::new());
    let report = LogReport {
        segments: scan.segments.len() as u64,
        durable: scan.durable,
        tail: scan.tail.len() as u64,
        groups: recovered.len() as u64,
        entries: recovered.values().map(|group| group.entries.len() as u64).sum(),
    };
    Ok((report, recovered))
}
