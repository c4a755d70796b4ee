//! Checking a node's directory offline: identity, log, snapshots, states, and whether they fit.
//!
//! Nothing in the directory is changed, and a disk that can only be read is enough. What is wrong is
//! gathered, not only the first of it; what cannot be told because something else is wrong is left
//! out.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kontiki_raft::Recovered;
use kontiki_types::{GroupId, Index, LogId};
use rustix::fs::{FlockOperation, flock};

use crate::directory::{Directory, DirectoryError, Format};
use crate::disk::ReadOnlyDisk;
use crate::engine::{self, GroupState};
use crate::log::{Corruption, LogReport, OpenError, inspect_log};
use crate::snapshot::{SnapshotError, Snapshots};

/// Which part of a directory something is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The file that says whose directory it is.
    Identity,
    /// The log of all groups.
    Log,
    /// A snapshot file.
    Snapshot,
    /// A group's state.
    State,
}

impl Part {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Log => "log",
            Self::Snapshot => "snapshot",
            Self::State => "state",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Where in the directory.
    pub part: Part,
    /// The file or folder.
    pub file: PathBuf,
    /// Where in the file, if that is known.
    pub offset: Option<u64>,
    /// The group, if it is about one.
    pub group: Option<GroupId>,
    /// Entries that are hit, first and last, if that is known.
    pub entries: Option<(Index, Index)>,
    /// What is wrong.
    pub detail: String,
}

/// One group as it is in the directory.
#[derive(Clone, Debug, Default)]
pub struct GroupReport {
    /// The log begins after this entry; `None`: the log has nothing of the group.
    pub base: Option<LogId>,
    /// The last entry in the log.
    pub last: LogId,
    /// Up to where the state on disk has applied.
    pub applied: Option<LogId>,
    /// Files and bytes of its state.
    pub tables: u64,
    /// See `tables`.
    pub table_bytes: u64,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Whose directory it is.
    pub identity: Option<Format>,
    /// What the log holds, if it is sound.
    pub log: Option<LogReport>,
    /// Snapshot files.
    pub snapshots: u64,
    /// The groups in log and state.
    pub groups: BTreeMap<GroupId, GroupReport>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Why a directory could not be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A process has it open, and writes to it.
    #[error("{0} is in use by another process\nhint: stop the node first")]
    InUse(PathBuf),
    /// It is no node's directory.
    #[error(
        "{0} is not a Kontiki directory: it has no file `node`\n\
         hint: give the folder of one node, such as kontiki-data/node-1"
    )]
    NotFormatted(PathBuf),
    /// Something cannot be read or made.
    #[error("cannot check {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

/// Checks the directory at `path`. A group's log that begins after nothing, or after `begins_after`,
/// needs no state: it is made from the log.
///
/// # Errors
/// See [`VerifyError`]; damage is not an error but a finding.
pub fn verify(path: &Path, begins_after: LogId) -> Result<Report, VerifyError> {
    let failed = |source| VerifyError::Io { path: path.to_path_buf(), source };
    let formatted = Directory::is_formatted(&ReadOnlyDisk, path);
    if !formatted.map_err(|error| failed(io::Error::other(error)))? {
        return Err(VerifyError::NotFormatted(path.to_path_buf()));
    }
    let _lock = lock(path)?;
    let mut report = Report::default();
    match Directory::identify(&ReadOnlyDisk, path) {
        Ok(format) => report.identity = Some(format),
        Err(error) => report.findings.push(of_identity(path, &error)),
    }
    let recovered = report.log(path);
    report.snapshots(path)?;
    report.states(path).map_err(failed)?;
    if let Some(recovered) = recovered {
        report.compare(path, begins_after, &recovered);
    }
    Ok(report)
}

/// Keeps a node from starting on the directory at `path` until the file is dropped, where that is
/// possible.
///
/// # Errors
/// [`VerifyError::InUse`].
pub fn lock(path: &Path) -> Result<Option<fs::File>, VerifyError> {
    let Ok(file) = fs::File::open(path.join("lock")) else { return Ok(None) };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(VerifyError::InUse(path.to_path_buf())),
        _ => Ok(Some(file)),
    }
}

fn of_identity(path: &Path, error: &DirectoryError) -> Finding {
    Finding {
        part: Part::Identity,
        file: path.join("node"),
        offset: None,
        group: None,
        entries: None,
        detail: first_line(&error.to_string()),
    }
}

/// Hints are for whoever starts a node.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

type Proven = BTreeMap<GroupId, Recovered<Bytes>>;

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    fn log(&mut self, path: &Path) -> Option<Proven> {
        let incarnation = self.identity.as_ref()?.incarnation;
        let directory = path.join("log");
        match inspect_log(&ReadOnlyDisk, &directory, incarnation) {
            Ok((log, recovered)) => {
                if log.segments == 0 {
                    self.add(Part::Log, directory, None, None, "the log is missing".to_owned());
                    return None;
                }
                self.log = Some(log);
                Some(recovered)
            }
            Err(error) => {
                self.log_is_bad(&directory, error);
                None
            }
        }
    }

    fn log_is_bad(&mut self, directory: &Path, error: OpenError) {
        let detail = first_line(&error.to_string());
        match error {
            OpenError::Corrupt(corruption) => {
                let Corruption { file, offset, detail, lost } = *corruption;
                if lost.is_empty() {
                    self.add(Part::Log, file, Some(offset), None, detail);
                    return;
                }
                for lost in lost {
                    self.add(
                        Part::Log,
                        file.clone(),
                        Some(offset),
                        Some(lost.group),
                        detail.clone(),
                    );
                    if let Some(finding) = self.findings.last_mut() {
                        finding.entries = Some((lost.from, lost.to));
                    }
                }
            }
            OpenError::Io { path, .. }
            | OpenError::Version { path, .. }
            | OpenError::Foreign { path, .. } => self.add(Part::Log, path, None, None, detail),
            OpenError::Locked(_) => self.add(Part::Log, directory.into(), None, None, detail),
        }
    }

    fn snapshots(&mut self, path: &Path) -> Result<(), VerifyError> {
        let directory = path.join("snapshots");
        if !directory.exists() {
            return Ok(());
        }
        let snapshots = Snapshots::existing(ReadOnlyDisk, &directory);
        let all = snapshots.all().map_err(|error| VerifyError::Io {
            path: directory,
            source: io::Error::other(error),
        })?;
        for (group, id, file) in all {
            self.snapshots += 1;
            let read = snapshots.read(group, id).and_then(|mut snapshot| snapshot.verify());
            if let Err(error) = read {
                let offset = match &error {
                    SnapshotError::Damaged { offset, .. } => Some(*offset),
                    _ => None,
                };
                self.add(Part::Snapshot, file, offset, Some(group), error.to_string());
                if let Some(finding) = self.findings.last_mut() {
                    finding.entries = Some((id.index, id.index));
                }
            }
        }
        Ok(())
    }

    fn states(&mut self, path: &Path) -> io::Result<()> {
        let directory = path.join("state");
        if !directory.exists() {
            return Ok(());
        }
        let unique = crate::random_u64()?;
        let scratch = std::env::temp_dir().join(format!("kontiki-verify-{unique:016x}"));
        fs::create_dir_all(&scratch)?;
        let found = engine::verify_states(&directory, &scratch);
        fs::remove_dir_all(&scratch)?;
        let mut found = found?;
        // Of several installations the last that was finished counts.
        found.sort_by_key(|state| (state.group, state.applied.is_some(), state.number));
        for state in found {
            let GroupState { group, applied, tables, bytes, damage, .. } = state;
            let here = self.groups.entry(group).or_default();
            (here.applied, here.tables, here.table_bytes) = (applied, tables, bytes);
            for (file, offset, detail) in damage {
                self.add(Part::State, file, offset, Some(group), detail);
            }
        }
        Ok(())
    }

    /// Whether the log goes on where each state ends (PROTOCOL 4c).
    fn compare(&mut self, path: &Path, begins_after: LogId, proven: &Proven) {
        for (&group, recovered) in proven {
            let base = recovered.base.as_ref().map_or(LogId::ZERO, |base| base.id);
            let last = recovered.entries.last().map_or(base, |entry| entry.id);
            let here = self.groups.entry(group).or_default();
            (here.base, here.last) = (Some(base), last);
            let applied = here.applied;
            let is_damaged = self
                .findings
                .iter()
                .any(|found| found.part == Part::State && found.group == Some(group));
            let detail = match applied {
                // What is wrong was said already.
                _ if is_damaged => continue,
                None if base == LogId::ZERO || base == begins_after => continue,
                None => format!("there is no state, and the log begins only after {base}"),
                Some(applied) if applied.index < base.index => {
                    format!("the state ends at {applied}, and the log begins only after {base}")
                }
                Some(applied) if applied.index > last.index => {
                    format!("the state ends at {applied}, and the log before that, at {last}")
                }
                Some(applied) => match recovered.term_at(applied.index) {
                    Some(term) if term != applied.term => {
                        format!("the state ends at {applied}, where the log has term {term}")
                    }
                    _ => continue,
                },
            };
            self.add(Part::State, path.join("state"), None, Some(group), detail);
            if let Some(finding) = self.findings.last_mut() {
                finding.entries = applied.map(|applied| (applied.index, applied.index));
            }
        }
    }

    fn add(
        &mut self,
        part: Part,
        file: PathBuf,
        offset: Option<u64>,
        group: Option<GroupId>,
        detail: String,
    ) {
        self.findings.push(Finding { part, file, offset, group, entries: None, detail });
    }
}
