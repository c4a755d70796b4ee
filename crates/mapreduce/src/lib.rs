//! MapReduce: what a job's author writes, and what an attempt of a task does.
//!
//! - [`api`]: mapper, combiner, reducer, partition.
//! - [`input`]: files cut into map tasks, read as whole lines.
//! - [`shuffle`]: map output as files that are checked byte by byte, and fetched from anywhere.
//! - [`task`]: one attempt of a map or a reduce task, within a budget of memory.
//!
//! Nothing here decides which task runs where or when.

pub mod api;
pub mod apps;
mod buffer;
pub mod error;
pub mod generate;
pub mod input;
pub mod letters;
pub mod local;
mod merge;
pub mod shuffle;
pub mod spec;
pub mod streaming;
pub mod task;
