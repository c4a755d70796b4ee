//! What a command answers, before any protocol encodes it.

use bytes::Bytes;

/// The answer to a command. Replies of writes are kept in completion records, so they have a
/// byte form ([`Reply::encode`]).
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+OK`.
    Ok,
    /// A simple string other than OK.
    Simple(&'static str),
    /// A simple string made at run time. No CR or LF.
    Status(Bytes),
    /// The null of the protocol in use.
    Nil,
    /// The null array: an EXEC whose watched keys changed.
    NilArray,
    /// A 64-bit integer.
    Integer(i64),
    /// A binary-safe string.
    Bulk(Bytes),
    /// A sequence.
    Array(Vec<Reply>),
    /// A map: in RESP2 a flat array of keys and values.
    Map(Vec<(Reply, Reply)>),
    /// A set: in RESP2 an array.
    Set(Vec<Reply>),
    /// A text for people: in RESP3 a verbatim string of format `txt`, in RESP2 a bulk string.
    Verbatim(Bytes),
    /// An error line, code first: `ERR syntax error`. No trailing CRLF.
    Error(Bytes),
}
