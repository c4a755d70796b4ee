//! A closed-loop load generator for key/value stores.
//!
//! Each client sends `pipeline` operations, waits for all their replies, and sends the next. The
//! same loop drives every target, so that figures of one run compare: Kontiki, Redis and Redis
//! Cluster by RESP, etcd by its gRPC API (linearizable reads, its default).
//!
//! All clients run in one thread, since the machine is shared with the servers: what the
//! generator itself costs is measured and reported. Latency counts from the moment a batch is
//! written to the moment a reply is parsed. There is no correction for coordinated omission; a
//! closed loop has no schedule to fall behind, and its throughput says the same thing.
//!
//! Missing on purpose: open-loop load, key distributions other than uniform, TLS.

mod cluster;
mod etcd;
mod metrics;
mod options;
mod recorder;
mod report;
mod resp;
mod run;
mod workload;

pub use options::{KvOptions, Target};
pub use report::{KvReport, OperationReport, StageReport};
pub use run::{KvError, run_kv};

#[cfg(test)]
mod tests;
