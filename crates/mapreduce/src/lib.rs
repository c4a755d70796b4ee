//! MapReduce: what a job's author writes, and what an attempt of a task does.
//!
//! - [`api`]: mapper, combiner, reducer, partition.
//! - [`input`]: files cut into map tasks, read as whole lines.
//! - [`shuffle`]: map output as files that are checked byte by byte, and fetched from anywhere.
//! - [`objects`], [`store`], [`destination`]: input and output in object stores, and in a Kontiki store.
//! - [`task`]: one attempt of a map or a reduce task, within a budget of memory.
//! - [`access`]: who may talk to whom.
//! - [`coordinator`]: the service around the scheduler of `kontiki-schedule`, and its journal.
//! - [`jobs`]: the jobs that a program has of its own, for it and its workers.
//! - [`worker`]: a process that runs attempts for a coordinator and serves their map output.
//!
//! Which task runs where and when is decided in `kontiki-schedule`, and nowhere here.

pub mod access;
pub mod api;
pub mod apps;
mod buffer;
pub mod client;
pub mod coordinator;
mod coordinators;
pub mod description;
pub mod destination;
pub mod error;
pub mod generate;
pub mod input;
pub mod jobs;
mod journal;
pub mod letters;
pub mod local;
mod merge;
pub mod objects;
pub mod proto;
pub mod shuffle;
pub mod spec;
mod status;
pub mod store;
pub mod streaming;
pub mod task;
pub mod worker;
