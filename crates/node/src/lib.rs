//! A running Kontiki node: threads, sockets, timers and disks around the pure replica.
//!
//! Nothing is decided here about terms, sessions or order: that is `kontiki-replica`'s and below.
//! The threads, and what each owns:
//!
//! | thread | owns | hands on |
//! |---|---|---|
//! | events | the node's core | batches to the log, entries and reads to the apply stage, frames to peers, answers to connections |
//! | log | the log | receipts to events |
//! | apply | the state machines, snapshot files | outcomes to events, replies to connections |
//! | persist | nothing | how far the state engine is durable, to events |
//! | sockets | connections | requests to events |

mod admin;
mod apply;
mod asked;
mod clock;
mod error;
mod event_loop;
mod founding;
mod http;
mod info;
mod introduce;
mod log_writer;
mod lost;
mod mailbox;
mod memory;
mod metrics;
mod moving;
mod native;
mod native_views;
mod peers_file;
mod persist;
mod placing;
mod registry;
mod reshape;
mod resp;
pub mod salvage;
mod scrub;
mod settings;
mod sharding;
mod shared;
mod snapshots;
mod stages;
mod start;
mod starting;
mod storage_metrics;
mod turns;
pub mod verify;
mod views;

pub use error::StartError;
pub use kontiki_replica::{GroupConfig, Redirect};
pub use settings::{Membership, RaftLimits, Settings};
pub use start::{Addresses, Founded, format_cluster, founded, is_formatted, run};
