//! Deterministic simulation of Kontiki clusters: one thread, virtual time, one seed.

pub mod invariants;
pub mod linearizability;
pub mod network;
pub mod raft_cluster;
pub mod random;
pub mod scenarios;
pub mod schedule;
pub mod seeds;
pub mod store_cluster;
