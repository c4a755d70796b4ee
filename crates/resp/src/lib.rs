//! The Redis serialization protocol (RESP2 and RESP3), both directions, without I/O.
//!
//! A server owns one [`RequestParser`] per connection, feeds it the connection's read buffer and
//! gets requests as lists of byte strings; it answers by an [`Encoder`] over its output buffer. A
//! client (benchmarks, tests, the command line) reads answers with a [`ReplyParser`].
//!
//! Invariants
//! - *Incremental*: however the bytes are cut into pieces, the same requests, replies and errors
//!   come out. The time spent is linear in the bytes fed, also when they come one by one.
//! - *Bounded*: no memory is reserved because a peer claims a length; what is held is at most a
//!   constant factor of the bytes that arrived, and those are limited ([`RequestLimits`],
//!   [`ReplyLimits`]). Nested replies use a heap stack of limited depth, never recursion.
//! - *No panic* on any input. An error is final: the stream has lost its frame boundaries, so the
//!   parser keeps returning the error and the connection must be closed.
//! - *Zero copy*: arguments and bulk strings are slices of the read buffer. A slice keeps the
//!   buffer it was cut from alive, so whoever stores one for long copies it.
//!
//! The accepted language and the error texts are those of Redis 7.0, with three differences on
//! purpose: a request has a limit in bytes ([`RequestLimits::request_bytes_max`]), a line's limit
//! does not depend on how the network cut it, and a NUL byte in an inline command is a byte like
//! any other (Redis waits for ever).
//!
//! Missing on purpose: streamed strings and streamed aggregates of RESP3, which no Redis server
//! sends; attributes are read over and dropped by [`ReplyParser`].

mod encode;
mod error;
mod inline;
mod number;
mod reply;
mod request;

pub use encode::{Encoder, Protocol, encode_request};
pub use error::{ProtocolError, ReplyError};
pub use number::{format_integer, parse_integer};
pub use reply::{Reply, ReplyLimits, ReplyParse, ReplyParser};
pub use request::{RequestLimits, RequestParse, RequestParser};
