//! The state machine from outside: one module for each promise.

mod exactly_once;
mod group;
mod order;
