//! The native Kontiki client: linearizable reads, writes that are applied exactly once, and errors
//! that say what became of a write.
//!
//! ```no_run
//! # async fn example() -> Result<(), kontiki_client::Error> {
//! use kontiki_client::{Client, Options, Version};
//!
//! let client = Client::connect(["127.0.0.1:7101"], Options::default()).await?;
//! client.set("greeting", "hello").await?;
//! let read = client.get("greeting").await?.expect("just set");
//! // Only if nobody else has written it since.
//! client.put_if_version("greeting", "hello, world", read.version).await?;
//! // Only if it does not exist.
//! client.put_if_version("other", "first", Version::ABSENT).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Semantics
//! - **Linearizable.** Each call takes effect at one moment between its start and its return.
//!   Calls that run at the same time have no promised order among themselves.
//! - **Exactly once.** A write carries a stamp: the client's id, a sequence number and a deadline.
//!   When an answer stays away, the same write with the same stamp goes to another node, until
//!   [`Options::timeout`]. The store applies a stamp once and remembers the answer. What is
//!   sent again by the *program* is a new write.
//! - **Durable.** A write that returned is on disk on a majority of the replicas.
//! - **Versions.** Each key has a [`Version`] that grows with every write to it, also when it was
//!   deleted in between; an absent key has [`Version::ABSENT`] for
//!   [`Client::put_if_version`] and [`Client::transaction`].
//!
//! # Errors
//! Every [`Error`] answers one question first, by [`Error::outcome`]: the write was not applied
//! and may be tried again, was not applied and never will be, or nobody can say.
//!
//! [`blocking::Client`] is the same for programs without an async runtime.

pub mod blocking;

mod admin;
mod client;
mod error;
mod nodes;
mod options;
mod retry;
mod stamps;
mod types;
mod view;
mod whole;

pub use admin::{
    AddNode, CancelMoves, Change, ClusterStatus, DrainNode, EnableSharding, ForgetNode,
    GroupStatus, JoinGroup, LeaveGroup, Members, MovePhase, MoveSlots, NodeStatus, Rebalance,
    ReplicaStatus, Reshaped, SlotGroup, SlotMove, SlotRange, Slots,
};
pub use client::Client;
pub use error::{Error, Outcome, Reason};
pub use options::Options;
pub use types::{Compare, Op, OpResult, Status, Version, Versioned};
pub use view::{Opened, Page, Row, ViewId};
pub use whole::{GroupView, Views};

pub use kontiki_net::{Secret, Tls};
