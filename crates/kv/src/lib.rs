//! The deterministic key/value state machine of Kontiki.
//!
//! What it is for: every replica of a group feeds the same committed log entries to a [`Machine`]
//! and gets the same state and the same replies. No I/O, clock, thread or randomness is in here;
//! the rows are kept by a [`Store`] that the driver brings.
//!
//! The model. An entry's payload is a [`Proposal`]: the leader's clock, and a [tick](Body::Tick) or
//! a [write](WriteRequest), which is a [command](command::Write) with what makes it take effect
//! once (client, number, low mark, deadline) and in order (the write it comes after). A group that
//! does not have every slot has a [`Steward`], with entries of its own. Applying it
//! moves the *log time*, lets keys expire, and gives an [`Outcome`]. Queries
//! ([`command::Read`]) are answered from the state as of the last apply.
//!
//! Invariants
//! - The logical state (keys with values, expiries and versions, slots, completion records, log
//!   time) is a function of the log prefix alone: not of how it was cut into batches, nor of
//!   restarts or snapshots between. [`Machine::state_hash`] is over exactly that.
//! - A commit of the store holds all effects of a batch and its applied index, or nothing.
//! - A write takes effect at most once, and the same write is answered the same as long as its
//!   completion record lives; after that it is refused, never run again (PROTOCOL 1).
//! - The log time never decreases, and a key whose expiry it has reached is never seen again.
//! - Versions of a slot never decrease, and no two states of a key have the same (PROTOCOL 14).
//! - Bytes from outside (proposals, snapshots) never panic and never reserve by a length they claim.
//!
//! Rows, formats and limits: `docs/state-machine.md`. Slots move in and out by way of the
//! steward.

mod access;
mod batch;
mod bytes_in;
mod check;
mod clients;
pub mod command;
mod dead;
mod expiry;
mod hash;
mod key_view;
mod layout;
mod ledger;
mod litter;
mod machine;
mod mem_store;
mod moving;
mod outcome;
mod overlay;
mod proposal;
mod query;
mod reply;
mod scan;
mod slots;
mod snapshot;
mod steward;
mod store;
pub mod table;

pub use access::{Access, AccessMut, Record};
pub use bytes_in::BadBytes;
pub use check::{Check, Checked};
pub use key_view::{KeyPage, KeyRow, KeyView};
pub use machine::{KEY_BYTES_MAX, Machine, RETRY_WINDOW_MAX_MS};
pub use mem_store::{MemStore, MemView};
pub use moving::{SlotChanges, SlotPiece, SlotRows, SlotSums, Weighed, Weighing};
pub use outcome::{MachineError, Outcome, QueryAnswer, Verdict};
pub use proposal::{Body, Proposal, WriteRequest};
pub use reply::Reply;
pub use snapshot::{Export, Import, SnapshotError};
pub use steward::{Gate, Steward, Stewards};
pub use store::{Store, StoreError, StoreView, WriteSet};
