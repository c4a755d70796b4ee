//! A journal on disk: its records as entries of the log that nodes use, in a group of their own.
//!
//! An append is one frame and one `fdatasync`. At every start the records are replaced by a
//! checkpoint, in one atomic frame, and what was before it is given back.

use std::io;
use std::path::Path;

use bytes::Bytes;
use kontiki_raft::{Base, Entry, EntryData};
use kontiki_schedule::{Journal, Record};
use kontiki_storage::disk::{Disk, RealDisk, replace_file};
use kontiki_storage::log::{Log, LogConfig, Update};
use kontiki_storage::random_u64;
use kontiki_types::{GroupId, Incarnation, Index, LogId, Term};

use super::JournalError;

/// The only group of the log.
const GROUP: GroupId = GroupId(0);
/// Entries have no terms here; all are of the first.
const TERM: Term = Term(1);
/// Size of a segment in bytes: a journal is small.
const SEGMENT_BYTES: u64 = 4 << 20;

/// A journal on disk.
pub struct DiskJournal {
    log: Log<RealDisk>,
    last: u64,
}

impl DiskJournal {
    /// Opens the journal in `directory`, or begins one there; and the records in it.
    ///
    /// # Errors
    /// See [`JournalError`]; another process that has it open is among them.
    pub fn open(directory: &Path) -> Result<(Self, Vec<Record>), JournalError> {
        let incarnation = incarnation(directory)?;
        let mut config = LogConfig::new(incarnation);
        config.segment_bytes = SEGMENT_BYTES;
        (config.spares, config.reserve_bytes) = (1, 0);
        let path = directory.join("journal");
        let (log, mut groups) = Log::open(RealDisk, &path, config)?;
        let recovered = groups.remove(&GROUP).unwrap_or_default();
        let mut last = recovered.base.as_ref().map_or(0, |base| base.id.index.get());
        let mut records = Vec::new();
        for entry in &recovered.entries {
            last = entry.id.index.get();
            if let EntryData::Command(bytes) = &entry.data {
                let record = Record::decode(bytes).map_err(|error| JournalError::Record {
                    place: path.display().to_string(),
                    index: last,
                    error,
                })?;
                records.push(record);
            }
        }
        Ok((Self { log, last }, records))
    }

    fn entries(&mut self, records: &[Record]) -> Vec<Entry<Bytes>> {
        let next = |record: &Record| {
            self.last += 1;
            let id = LogId { index: Index(self.last), term: TERM };
            Entry { id, data: EntryData::Command(Bytes::from(record.encode())) }
        };
        records.iter().map(next).collect()
    }

    /// Puts `records` in the place of everything before. Durable on return, all or nothing.
    ///
    /// # Errors
    /// After an error it is unknown what is durable.
    pub fn replace(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let id = LogId { index: Index(self.last), term: TERM };
        let base = Some(Base { id, ..Base::default() });
        let entries = self.entries(records);
        self.log.update(&[(GROUP, Update { base, entries, ..Update::default() })])?;
        while self.log.maintain()? {}
        Ok(())
    }
}

impl Journal for DiskJournal {
    type Error = JournalError;

    fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let entries = self.entries(records);
        self.log.update(&[(GROUP, Update { entries, ..Update::default() })])?;
        Ok(())
    }
}

/// The random number of the directory, drawn when it is first used.
fn incarnation(directory: &Path) -> Result<Incarnation, JournalError> {
    let path = directory.join("incarnation");
    let failed = |source| JournalError::Directory { path: path.clone(), source };
    RealDisk.create_dir(directory).map_err(failed)?;
    match std::fs::read_to_string(&path) {
        Ok(text) => u64::from_str_radix(text.trim(), 16).map(Incarnation).map_err(|_| {
            failed(io::Error::new(io::ErrorKind::InvalidData, "it does not hold a number"))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let number = random_u64().map_err(failed)?;
            let text = format!("{number:016x}\n");
            replace_file(&RealDisk, directory, "incarnation", text.as_bytes()).map_err(failed)?;
            Ok(Incarnation(number))
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use kontiki_schedule::{JobId, Outcome};
    use kontiki_storage::log::OpenError;

    use super::*;

    fn record(number: u64) -> Record {
        Record::Ended { job: JobId(number), outcome: Outcome::Failed(number.to_string()) }
    }

    #[test]
    fn records_are_there_after_a_restart_and_a_checkpoint_takes_their_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut expected = Vec::new();
        for round in 0..4 {
            let (mut journal, found) = DiskJournal::open(folder.path()).expect("it opens");
            assert_eq!(found, expected);
            if round == 2 {
                expected = vec![record(77)];
                journal.replace(&expected).expect("written");
            }
            for number in 0..3 {
                let batch = [record(round * 10 + number), record(99)];
                journal.append(&batch).expect("written");
                expected.extend(batch);
            }
        }
    }

    #[test]
    fn two_processes_do_not_share_a_journal() {
        let folder = tempfile::tempdir().expect("a folder");
        let _held = DiskJournal::open(folder.path()).expect("it opens");
        let second = DiskJournal::open(folder.path()).map(drop);
        assert!(matches!(second, Err(JournalError::Open(OpenError::Locked(_)))), "{second:?}");
    }
}
