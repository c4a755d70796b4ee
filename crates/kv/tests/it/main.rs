//! The state machine from outside: one module for each promise, and commands beside Redis.

mod commands;
mod exactly_once;
mod flush;
mod group;
mod handoff;
mod key_views;
mod model;
mod order;
mod random;
mod redis;
mod redis_differential;
mod replay;
mod scripts;
mod slots;
mod snapshots;
mod time;
mod versions;
mod weighing;
