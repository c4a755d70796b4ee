//! The Raft consensus core of Kontiki: events in, outputs out, no I/O, clock, thread or ambient
//! randomness.
#![no_std]

extern crate alloc;

mod change;
mod config;
mod durability;
mod election;
mod entry;
mod error;
mod follower;
mod leader;
mod log;
mod membership;
mod message;
mod output;
mod payload;
mod persist;
mod progress;
mod raft;
mod read;
mod replication;
mod rng;
mod snapshot;
mod status;
mod transfer;
pub mod wire;

pub use config::{Config, Lease};
pub use entry::{Entries, Entry, EntryData};
pub use error::{ChangeError, Reason, Refused, RestartError, TransferError};
pub use membership::{MEMBERS_MAX, Membership};
pub use message::{AppendResult, Body, Message, Session};
pub use output::{Output, Role};
pub use payload::Payload;
pub use persist::{Base, HardState, Receipt, Recovered, StableStorage, WriteBatch, persist};
pub use raft::Raft;
pub use snapshot::SnapshotMeta;
pub use status::{PeerState, PeerStatus, Status};
