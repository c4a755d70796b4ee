//! The suites of the shard controller and of the sharded store. Each group has three nodes of its
//! own, and so has the controller; ten shards are as many slots as there are. A change of who serves
//! what is a leave, and moves that the balancer plans.

mod controller;
mod store;
mod town;

pub(super) use controller::SUITE as CONTROLLER_SUITE;
pub(super) use store::SUITE as STORE_SUITE;
