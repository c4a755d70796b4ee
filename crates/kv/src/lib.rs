//! The deterministic key/value state machine of Kontiki.

mod access;
mod batch;
mod bytes_in;
mod clients;
pub mod command;
mod expiry;
mod hash;
mod layout;
mod ledger;
mod litter;
mod machine;
mod mem_store;
mod outcome;
mod overlay;
mod proposal;
mod query;
mod reply;
mod scan;
mod slots;
mod snapshot;
mod store;
pub mod table;

pub use access::{Access, AccessMut, Record};
pub use bytes_in::BadBytes;
pub use machine::{Machine, RETRY_WINDOW_MAX_MS};
pub use mem_store::{MemStore, MemView};
pub use outcome::{MachineError, Outcome, QueryAnswer, Verdict};
pub use proposal::{Body, Proposal, WriteRequest};
pub use reply::Reply;
pub use snapshot::{Export, Import, SnapshotError};
pub use store::{Store, StoreError, StoreView, WriteSet};
