//! What users run, as processes.

mod backup;
mod cluster;
mod mr;
mod redis_clients;
mod shards;
