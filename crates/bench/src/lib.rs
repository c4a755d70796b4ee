//! Benchmarks of Kontiki, side by side with its peers, and a tormentor for its sockets.
//!
//! - [`kv`]: a closed-loop load generator for Kontiki, Redis, Redis Cluster and etcd.
//! - [`garbage`]: noise, half-open connections and clients that never read, against a node that
//!   has to go on serving others.

pub mod garbage;
pub mod kv;
mod processes;
mod random;

#[cfg(test)]
mod testing;
