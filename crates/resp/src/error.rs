//! What can be wrong with a stream of bytes, in the words of Redis 7.0.

use thiserror::Error;

/// Why the bytes of a client are not a request.
///
/// `Display` is the text of the error reply without its leading `-`, as Redis 7.0 writes it. The
/// connection is closed after that reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The number after `*` is not a number, or more arguments than allowed.
    #[error("ERR Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// The number after `$` is not a length, or more bytes than allowed.
    #[error("ERR Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// An argument begins with this byte instead of `$`.
    #[error("ERR Protocol error: expected '$', got '{}'", Offender(*.0))]
    ExpectedBulk(u8),
    /// An inline command, or the beginning of one, is longer than allowed.
    #[error("ERR Protocol error: too big inline request")]
    InlineTooBig,
    /// The line after `*` does not end.
    #[error("ERR Protocol error: too big mbulk count string")]
    MultibulkCountTooBig,
    /// The line after `$` does not end.
    #[error("ERR Protocol error: too big bulk count string")]
    BulkCountTooBig,
    /// A quoted string of an inline command does not end, or goes on after its end.
    #[error("ERR Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// Too many arguments for a client that has not authenticated.
    #[error("ERR Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// Too long an argument for a client that has not authenticated.
    #[error("ERR Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// The request as a whole is longer than allowed (not a limit of Redis).
    #[error("ERR Protocol error: too big request")]
    RequestTooBig,
}

/// The byte of [`ProtocolError::ExpectedBulk`] as Redis shows it: line ends become spaces.
struct Offender(u8);

impl std::fmt::Display for Offender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = match self.0 {
            b'\r' | b'\n' => ' ',
            byte if byte.is_ascii() => char::from(byte),
            // Redis sends the raw byte; a `Display` can only send text.
            _ => char::REPLACEMENT_CHARACTER,
        };
        write!(f, "{shown}")
    }
}

/// Why the bytes of a server are not a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// No type of RESP2 or RESP3 begins with this byte.
    #[error("a reply begins with the byte {0:#04x}, which is no RESP type")]
    UnknownType(u8),
    /// A length, number, boolean or null is not written as the protocol says.
    #[error("a reply of type '{}' has a malformed header", char::from(*.0))]
    Malformed(u8),
    /// Aggregates nested deeper than [`ReplyLimits::depth_max`](crate::ReplyLimits::depth_max).
    #[error("a reply is nested too deeply")]
    TooDeep,
    /// More elements than [`ReplyLimits::elements_max`](crate::ReplyLimits::elements_max).
    #[error("a reply has too many elements")]
    TooManyElements,
    /// More bytes than [`ReplyLimits::bytes_max`](crate::ReplyLimits::bytes_max).
    #[error("a reply has too many bytes")]
    TooManyBytes,
}
