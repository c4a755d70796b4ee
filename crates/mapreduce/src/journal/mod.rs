//! The coordinator's journal: on disk, in a store, or nowhere.

mod disk;
mod store;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use kontiki_schedule::{BadRecord, Journal, NoJournal, Record};
use kontiki_storage::log::{LogError, OpenError};
use kontiki_types::Instant;

pub(crate) use disk::DiskJournal;
pub(crate) use store::{CONFIRM_EVERY, StoreJournal};

/// Why there is no journal to go on with.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The log cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log cannot be written.
    #[error(transparent)]
    Write(#[from] LogError),
    /// A file of the directory cannot be used.
    #[error("cannot use {path}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A record was written by another version, or is not of a journal.
    #[error("{place}: record {index}: {error}\nhint: start the version of Kontiki that wrote it")]
    Record {
        /// Where the journal is.
        place: String,
        /// Which record.
        index: u64,
        /// What is wrong.
        error: BadRecord,
    },
    /// The journal in a store cannot be read or written.
    #[error("the journal at {url}")]
    Store {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another coordinator has the journal now.
    #[error("another coordinator, {by}, has taken over")]
    Deposed {
        /// Which.
        by: String,
    },
}

/// A journal on disk, or none.
pub enum AnyJournal {
    /// On disk.
    Disk(Box<DiskJournal>),
    /// In a store.
    Store(Box<StoreJournal>),
    /// None: the jobs die with the process.
    None(NoJournal),
}

impl Journal for AnyJournal {
    type Error = JournalError;

    fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        match self {
            Self::Disk(journal) => journal.append(records),
            Self::Store(journal) => journal.append(records),
            Self::None(_) => Ok(()),
        }
    }
}

impl AnyJournal {
    /// Makes sure that no other coordinator has the journal: to be called before anything is told to
    /// anyone. Costs nothing if that was seen not long ago.
    pub(crate) fn confirm(&mut self, now: Instant) -> Result<(), JournalError> {
        match self {
            Self::Store(journal) => journal.confirm(now),
            Self::Disk(_) | Self::None(_) => Ok(()),
        }
    }

    /// After so long without a call, [`AnyJournal::confirm`] is to be called.
    pub(crate) fn confirm_within(&self) -> Option<Duration> {
        match self {
            Self::Store(_) => Some(CONFIRM_EVERY),
            Self::Disk(_) | Self::None(_) => None,
        }
    }

    /// If the journal has become long, puts the records that `known` gives in the place of everything.
    /// All that was decided must be durable.
    pub(crate) fn shorten(
        &mut self,
        known: impl FnOnce() -> Vec<Record>,
    ) -> Result<(), JournalError> {
        match self {
            Self::Store(journal) if journal.is_long() => journal.shorten(&known()),
            _ => Ok(()),
        }
    }

    /// Leaves the journal to the next coordinator, which need not wait then.
    pub(crate) fn release(&mut self) {
        if let Self::Store(journal) = self {
            journal.release();
        }
    }
}
