//! What users run, as processes.

mod mr;
mod redis_clients;
mod shards;
