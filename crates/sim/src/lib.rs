//! Deterministic simulation of Kontiki clusters: one thread, virtual time, one seed.
//!
//! The code under test is the code that serves; clients, network, disks and clocks are simulated.
//!
//! - [`raft_cluster`]: bare Raft cores, with every safety property of the paper checked after every
//!   step ([`invariants`]).
//! - [`store_cluster`]: whole nodes on disks that forget what is not synced, with clients.
//! - [`labs`]: the course suites' scenarios, by name.
//! - [`scenarios`]: what a cluster is put through, and the books that are compared in the end.
//! - [`farm`]: a MapReduce coordinator and its workers.
//! - [`swarm`]: whole nodes under all kinds of faults at once.
//! - [`history`], [`linearizability`]: what clients saw, and whether one store can have answered it.
//! - [`timeline`]: a history that has no order, as a page to look at.
//! - [`network`], [`schedule`], [`random`], [`seeds`]: what both clusters are made of.
//!
//! The same seed gives the same run. Nothing here reads a clock, starts a thread or iterates over a
//! map without an order.

pub mod farm;
pub mod history;
pub mod invariants;
pub mod labs;
pub mod linearizability;
pub mod network;
#[cfg(feature = "plants")]
pub mod plants;
pub mod raft_cluster;
pub mod random;
pub mod scenarios;
pub mod schedule;
pub mod seeds;
pub mod store_cluster;
pub mod swarm;
pub mod timeline;
