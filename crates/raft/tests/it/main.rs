//! Tests of the core through its public interface.

mod cluster;
mod disk;
mod invariants;
mod show;

mod cache;
mod changes;
mod durability;
mod elections;
mod noise;
mod quiesce;
mod random;
mod reads;
mod replication;
mod restarts;
mod snapshots;
mod traces;
mod transfers;
mod wire;
