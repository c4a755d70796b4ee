//! What users run, as processes.

mod backup;
mod cluster;
mod form;
mod mr;
mod redis_clients;
mod shards;
