//! The deterministic key/value state machine of Kontiki.

mod access;
mod bytes_in;
pub mod command;
mod machine;
mod mem_store;
mod outcome;
mod proposal;
mod reply;
mod store;
pub mod table;

pub use access::{Access, AccessMut, Record};
pub use bytes_in::BadBytes;
pub use machine::Machine;
pub use mem_store::{MemStore, MemView};
pub use outcome::{MachineError, Outcome, QueryAnswer, Verdict};
pub use proposal::{Body, Proposal, WriteRequest};
pub use reply::Reply;
pub use store::{Store, StoreError, StoreView, WriteSet};
