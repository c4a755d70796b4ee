//! Tests of the core through its public interface.

mod cluster;
mod disk;
mod invariants;
mod show;

mod elections;
mod random;
mod replication;
