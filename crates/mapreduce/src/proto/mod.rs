//! Messages between coordinator, workers and clients, and what they are in the scheduler's words.

mod convert;

pub(crate) use convert::{
    assignment_from, assignment_to, attempt_from, attempt_to, held_from, held_to, report_from,
    report_to, sign_from, sign_to, status_to, verdict_from, verdict_to,
};
pub use generated::*;

/// Generated from `proto/kontiki/mapreduce/v1/mapreduce.proto`; the documentation is there.
#[expect(missing_docs, reason = "generated code")]
mod generated {
    tonic::include_proto!("kontiki.mapreduce.v1");
}

/// Largest message: a job's description with a million splits.
pub(crate) const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// What must be the same in a coordinator and its workers.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "+mapreduce.1");
