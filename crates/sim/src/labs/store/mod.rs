//! What the scenarios of whole nodes share.

mod appenders;
mod generic;
mod service;

use kontiki_replica::GroupConfig;

pub(super) use appenders::Appenders;
pub(super) use generic::Generic;
pub(super) use service::{Clerk, Done, Event, Service};

use crate::store_cluster::StoreConfig;

/// The suites' `maxraftstate` of scenarios with snapshots, in bytes.
pub(super) const SMALL_LOG: u64 = 1000;

/// A cluster that never cuts its log.
pub(super) fn config(nodes: u64) -> StoreConfig {
    StoreConfig { voters: nodes, ..StoreConfig::default() }
}

/// A cluster that cuts its log beyond `log_keep_bytes`.
pub(super) fn cutting(nodes: u64, log_keep_bytes: u64) -> StoreConfig {
    let group = GroupConfig { log_keep_bytes, ..GroupConfig::default() };
    StoreConfig { group, ..config(nodes) }
}
