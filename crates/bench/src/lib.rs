//! Benchmarks of Kontiki, side by side with its peers, and a tormentor for its sockets.
//!
//! - [`kv`]: a closed-loop load generator for Kontiki, Redis, Redis Cluster and etcd.
//! - [`mod@raft`]: three consensus cores in one thread, beside the `raft` crate.
//! - [`allocations`]: counts heap allocations, for binaries that want to know.
//! - [`garbage`]: noise, half-open connections and clients that never read, against a node that
//!   has to go on serving others.

pub mod allocations;
pub mod garbage;
pub mod kv;
mod processes;
pub mod raft;
mod random;

#[cfg(test)]
mod testing;
