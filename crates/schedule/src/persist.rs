//! What must be durable before which output may leave.
//!
//! [`Output::Write`](crate::Output::Write) carries a [`WriteBatch`]; [`persist`] makes it durable
//! and is the only source of a [`Receipt`]. Whatever was decided after a batch was begun stays
//! inside until the receipt is given back, so every other output may be carried out at once.

use crate::Record;

/// Facts to be made durable, in order, all or nothing.
#[derive(Debug)]
#[must_use = "a batch must be persisted, or the scheduler waits for its receipt for ever"]
pub struct WriteBatch {
    pub(crate) records: Vec<Record>,
    pub(crate) receipt: Receipt,
}

impl WriteBatch {
    /// The facts.
    pub fn records(&self) -> &[Record] {
        &self.records
    }
}

/// Proof that a [`WriteBatch`] is on stable storage, for
/// [`Scheduler::persisted`](crate::Scheduler::persisted) of the scheduler it came from.
#[derive(Debug)]
#[must_use = "give the receipt back to the scheduler"]
pub struct Receipt {
    pub(crate) owner: u64,
    pub(crate) sequence: u64,
}

/// Where records survive the coordinator's process.
pub trait Journal {
    /// Why a write failed.
    type Error;

    /// Appends `records` and returns once they are durable.
    ///
    /// # Errors
    /// After an error it is unknown what is durable: end the process and recover.
    fn append(&mut self, records: &[Record]) -> Result<(), Self::Error>;
}

/// No journal: for a coordinator whose jobs may die with it, as within one process.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoJournal;

impl Journal for NoJournal {
    type Error = std::convert::Infallible;

    fn append(&mut self, _records: &[Record]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Makes `batch` durable.
///
/// # Errors
/// Those of the journal; then there is no receipt.
pub fn persist<J: Journal>(journal: &mut J, batch: WriteBatch) -> Result<Receipt, J::Error> {
    journal.append(&batch.records)?;
    Ok(batch.receipt)
}
