//! The vocabulary of Kontiki: ids, log positions, times and hash slots.
//!
//! Floor 0 of the house: every crate may use it, and it uses none. Nothing here has behaviour over
//! time. `no_std` with `alloc`, no dependency. [`plant`] is for the simulator: see there.
#![no_std]

extern crate alloc;

mod ids;
pub mod plant;
mod slot;
mod time;

pub use ids::{
    ClientId, Epoch, GroupId, Incarnation, Index, LogId, Member, NodeId, ReplicaId, Seq, Term,
};
pub use slot::{SLOTS, Slot, crc16, hash_tag};
pub use time::{Instant, LogTime};
