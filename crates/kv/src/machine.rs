//! The state machine: committed entries in, outcomes out.

use bytes::Bytes;
use kontiki_types::{LogId, LogTime};

use crate::{MachineError, Outcome, Store};

/// The state of one group.
#[derive(Debug)]
pub struct Machine<S> {
    store: S,
    log_time: LogTime,
}

impl<S: Store> Machine<S> {
    /// Opens the state in `store`; an empty store is an empty state.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn open(store: S) -> Result<Self, MachineError> {
        Ok(Self { store, log_time: LogTime(0) })
    }

    /// Applies committed entries, in order, with one commit of the store, and appends an outcome
    /// for each write. `None` is an entry without a command (no-op, membership).
    ///
    /// # Errors
    /// [`MachineError`]; the machine then refuses everything.
    pub fn apply(
        &mut self,
        entries: &[(LogId, Option<Bytes>)],
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), MachineError> {
        let _ = (entries, outcomes);
        Ok(())
    }

    /// The log id of the last applied entry.
    pub fn applied(&self) -> LogId {
        self.store.applied()
    }

    /// The log time as of the last apply.
    pub fn log_time(&self) -> LogTime {
        self.log_time
    }

    /// A time at or before the next expiry; `None` if no key expires. When the leader's clock
    /// reaches it, the leader proposes a tick.
    pub fn next_due(&self) -> Option<LogTime> {
        None
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }
}
