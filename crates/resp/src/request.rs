//! What clients send: the server's side of the protocol.

use bytes::{Buf, Bytes, BytesMut};

use crate::{ProtocolError, inline, parse_integer};

/// How much a client may send in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Arguments of a request, its name included. Default 1,048,576.
    pub args_max: usize,
    /// Bytes of one argument. Default 16 MiB: more than the largest value a store takes, so that
    /// a value somewhat too large gets the store's own error and not a closed connection.
    pub bulk_bytes_max: usize,
    /// Bytes of a whole request, headers included. Default 64 MiB.
    pub request_bytes_max: usize,
    /// Bytes of an inline command and of a header line. Default 64 KiB, as in Redis.
    pub line_bytes_max: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            args_max: 1 << 20,
            bulk_bytes_max: 16 << 20,
            request_bytes_max: 64 << 20,
            line_bytes_max: 64 << 10,
        }
    }
}

/// Arguments of a request from a client that has yet to give its password; the value of Redis 7.0.
const UNAUTHENTICATED_ARGS_MAX: usize = 10;

/// Bytes of an argument from such a client; the value of Redis 7.0.
const UNAUTHENTICATED_BULK_BYTES_MAX: usize = 16_384;

/// What [`RequestParser::parse`] found at the beginning of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum RequestParse {
    /// No whole request: read more bytes from the client and call again.
    Incomplete,
    /// A request of at least one argument is in `args`, and gone from the buffer.
    Request,
    /// Not a request. Send this error and close the connection; every further call says the same.
    Invalid(ProtocolError),
}

/// Reads requests (arrays of bulk strings, or inline commands) from a growing buffer.
///
/// Between two calls the caller may append to the buffer and nothing else: the parser remembers
/// how far it has looked.
///
/// ```
/// use bytes::BytesMut;
/// use kontiki_resp::{RequestParse, RequestParser};
///
/// let mut parser = RequestParser::default();
/// let mut buffer = BytesMut::from("*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPI");
/// let mut args = Vec::new();
/// assert_eq!(parser.parse(&mut buffer, &mut args), RequestParse::Request);
/// assert_eq!(args, ["GET", "k"]);
/// assert_eq!(parser.parse(&mut buffer, &mut args), RequestParse::Incomplete);
/// buffer.extend_from_slice(b"NG\r\n");
/// assert_eq!(parser.parse(&mut buffer, &mut args), RequestParse::Request);
/// assert_eq!(args, ["PING"]);
/// ```
#[derive(Debug, Default)]
pub struct RequestParser {
    limits: RequestLimits,
    /// Whether the client still has to give its password.
    unauthenticated: bool,
    state: State,
    /// Everything before this offset of the buffer is understood: headers and whole arguments.
    at: usize,
    /// From `at` up to here there is no line end. Invariant: `at <= searched`, or it is unused.
    searched: usize,
    /// Where the arguments found so far lie in the buffer.
    found: Vec<Span>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    len: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Before the first byte of a request.
    #[default]
    Start,
    /// In an array: this many arguments are still to come, their next header is at `at`.
    Header { missing: usize },
    /// In an array: the argument of `len` bytes begins at `at`; it is one of the `missing`.
    Body { missing: usize, len: usize },
    /// The stream cannot be understood any more.
    Failed(ProtocolError),
}

/// Either the parser cannot go on with the bytes it has, or not at all.
enum Stop {
    Incomplete,
    Invalid(ProtocolError),
}

impl From<ProtocolError> for Stop {
    fn from(error: ProtocolError) -> Self {
        Self::Invalid(error)
    }
}

/// Larger lists of spans are given back after the request that needed them.
const SPANS_KEPT_MAX: usize = 1024;

impl RequestParser {
    /// A parser at the beginning of a stream, for a client that needs no password.
    pub fn new(limits: RequestLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Says whether the client may send commands. While it may not, its requests are held to 10
    /// arguments of 16,384 bytes, as in Redis 7.0. It counts from the next header parsed.
    pub fn set_authenticated(&mut self, authenticated: bool) {
        self.unauthenticated = !authenticated;
    }

    /// How many bytes the argument being received still lacks, its line end included; zero between
    /// arguments. A hint for the size of the next read, already within the limits; reserve a
    /// bounded part of it only, since it is what the client claims.
    pub fn bytes_missing(&self, buffer: &[u8]) -> usize {
        match self.state {
            State::Body { len, .. } => (self.at + len + 2).saturating_sub(buffer.len()),
            _ => 0,
        }
    }

    /// Takes the next request from the beginning of `buffer` and puts its arguments into `args`,
    /// whose former contents are dropped.
    pub fn parse(&mut self, buffer: &mut BytesMut, args: &mut Vec<Bytes>) -> RequestParse {
        args.clear();
        match self.advance(buffer, args) {
            Ok(()) => RequestParse::Request,
            Err(Stop::Incomplete) => RequestParse::Incomplete,
            Err(Stop::Invalid(error)) => {
                args.clear();
                self.state = State::Failed(error);
                RequestParse::Invalid(error)
            }
        }
    }

    fn advance(&mut self, buffer: &mut BytesMut, args: &mut Vec<Bytes>) -> Result<(), Stop> {
        // Empty requests (a blank line, `*0`, `*-1`) are passed over without an answer.
        while args.is_empty() {
            match self.state {
                State::Start if buffer.is_empty() => return Err(Stop::Incomplete),
                State::Start if buffer[0] == b'*' => self.array_header(buffer)?,
                State::Start => self.inline(buffer, args)?,
                State::Header { missing } => self.bulk_header(buffer, missing)?,
                State::Body { missing, len } => self.bulk_body(buffer, missing, len)?,
                State::Failed(error) => return Err(error.into()),
            }
            if let State::Header { missing: 0 } = self.state {
                self.take(buffer, args);
            }
        }
        Ok(())
    }

    fn array_header(&mut self, buffer: &[u8]) -> Result<(), Stop> {
        let (count, next) = self.number(buffer, ProtocolError::MultibulkCountTooBig)?;
        let count = count.ok_or(ProtocolError::InvalidMultibulkLength)?;
        // A negative count is an empty request.
        let missing = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
        if missing > self.limits.args_max {
            return Err(ProtocolError::InvalidMultibulkLength.into());
        }
        if self.unauthenticated && missing > UNAUTHENTICATED_ARGS_MAX {
            return Err(ProtocolError::UnauthenticatedMultibulkLength.into());
        }
        self.go_to(next, State::Header { missing });
        Ok(())
    }

    fn bulk_header(&mut self, buffer: &[u8], missing: usize) -> Result<(), Stop> {
        match buffer.get(self.at) {
            Some(b'$') => {}
            // Redis looks at the type only once the line is there; the answer is the same.
            Some(other) => return Err(ProtocolError::ExpectedBulk(*other).into()),
            None => return Err(Stop::Incomplete),
        }
        let (len, next) = self.number(buffer, ProtocolError::BulkCountTooBig)?;
        let len = len
            .and_then(|len| usize::try_from(len).ok())
            .filter(|len| *len <= self.limits.bulk_bytes_max)
            .ok_or(ProtocolError::InvalidBulkLength)?;
        if self.unauthenticated && len > UNAUTHENTICATED_BULK_BYTES_MAX {
            return Err(ProtocolError::UnauthenticatedBulkLength.into());
        }
        self.go_to(next, State::Body { missing, len });
        // Checked before the bytes come, so that nobody waits for what will be refused.
        if self.at + len + 2 > self.limits.request_bytes_max {
            return Err(ProtocolError::RequestTooBig.into());
        }
        Ok(())
    }

    fn bulk_body(&mut self, buffer: &[u8], missing: usize, len: usize) -> Result<(), Stop> {
        // Two bytes of line end follow; like Redis we do not look at them.
        if buffer.len() < self.at + len + 2 {
            return Err(Stop::Incomplete);
        }
        self.found.push(Span { start: self.at, len });
        self.go_to(self.at + len + 2, State::Header { missing: missing - 1 });
        Ok(())
    }

    fn inline(&mut self, buffer: &mut BytesMut, args: &mut Vec<Bytes>) -> Result<(), Stop> {
        let Some(end) = self.find(buffer, b'\n', ProtocolError::InlineTooBig)? else {
            return Err(Stop::Incomplete);
        };
        let line = buffer.split_to(end).freeze();
        buffer.advance(1);
        self.restart();
        let line = match line.last() {
            Some(b'\r') => line.slice(..end - 1),
            _ => line,
        };
        Ok(inline::split(&line, args)?)
    }

    /// Reads the number of the header line at `at`, whose first byte is its type. Gives the number
    /// (`None` if it is not one) and the offset after the line.
    fn number(
        &mut self,
        buffer: &[u8],
        too_long: ProtocolError,
    ) -> Result<(Option<i64>, usize), Stop> {
        let end = self.find(buffer, b'\r', too_long)?;
        match end {
            // Like Redis we take any byte for the line feed.
            Some(end) if end + 1 < buffer.len() => {
                Ok((parse_integer(&buffer[self.at + 1..end]), end + 2))
            }
            _ => Err(Stop::Incomplete),
        }
    }

    /// Finds `byte` from `at` on, without looking twice at what has been searched.
    fn find(
        &mut self,
        buffer: &[u8],
        byte: u8,
        too_long: ProtocolError,
    ) -> Result<Option<usize>, Stop> {
        let from = self.searched.max(self.at);
        let end = buffer[from..].iter().position(|b| *b == byte).map(|offset| from + offset);
        let line_end = end.unwrap_or(buffer.len());
        if line_end - self.at > self.limits.line_bytes_max {
            return Err(too_long.into());
        }
        self.searched = line_end;
        Ok(end)
    }

    fn go_to(&mut self, at: usize, state: State) {
        self.at = at;
        self.state = state;
    }

    /// The request is whole: cuts it off the buffer, and its arguments out of it.
    fn take(&mut self, buffer: &mut BytesMut, args: &mut Vec<Bytes>) {
        let request = buffer.split_to(self.at).freeze();
        args.extend(
            self.found.drain(..).map(|Span { start, len }| request.slice(start..start + len)),
        );
        self.restart();
    }

    fn restart(&mut self) {
        self.state = State::Start;
        self.at = 0;
        self.searched = 0;
        if self.found.capacity() > SPANS_KEPT_MAX {
            self.found = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests;
