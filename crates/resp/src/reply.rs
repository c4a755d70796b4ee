//! What servers send: the client's side of the protocol, both versions.

use bytes::{Buf, Bytes, BytesMut};

use crate::{ReplyError, parse_integer};

/// One reply of a server. Byte strings are slices of the buffer they were parsed from.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+`: a status such as `OK`.
    Simple(Bytes),
    /// `-` or `!`: an error, its code first.
    Error(Bytes),
    /// `:`
    Integer(i64),
    /// `$`
    Bulk(Bytes),
    /// `_`, `$-1` or `*-1`
    Null,
    /// `*`
    Array(Vec<Reply>),
    /// `%`, in the order sent.
    Map(Vec<(Reply, Reply)>),
    /// `~`, in the order sent.
    Set(Vec<Reply>),
    /// `>`: not the answer to a request.
    Push(Vec<Reply>),
    /// `,`
    Double(f64),
    /// `#`
    Boolean(bool),
    /// `=`: a text and how to show it (`txt`, `mkd`).
    Verbatim {
        /// Three letters.
        format: [u8; 3],
        /// What follows the colon.
        text: Bytes,
    },
    /// `(`: decimal digits, possibly with a sign.
    BigNumber(Bytes),
}

/// How large a reply may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Aggregates within aggregates. Default 32; Redis itself sends up to about 8.
    pub depth_max: usize,
    /// Replies within a reply, at all depths together. Default 16,777,216.
    pub elements_max: usize,
    /// Bytes of a reply, headers included. Default 1 GiB.
    pub bytes_max: usize,
}

impl Default for ReplyLimits {
    fn default() -> Self {
        Self { depth_max: 32, elements_max: 16 << 20, bytes_max: 1 << 30 }
    }
}

/// What [`ReplyParser::parse`] found at the beginning of the buffer.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum ReplyParse {
    /// No whole reply: read more bytes from the server and call again.
    Incomplete,
    /// A reply, and it is gone from the buffer.
    Reply(Reply),
    /// Not a reply. Close the connection; every further call says the same.
    Invalid(ReplyError),
}

/// Reads replies from a growing buffer. It takes the parts of a large reply out of the buffer as
/// they come, so between two calls the caller may append to the buffer and nothing else.
///
/// ```
/// use bytes::BytesMut;
/// use kontiki_resp::{Reply, ReplyParse, ReplyParser};
///
/// let mut parser = ReplyParser::default();
/// let mut buffer = BytesMut::from("*2\r\n:1\r\n$1\r\nk");
/// assert_eq!(parser.parse(&mut buffer), ReplyParse::Incomplete);
/// buffer.extend_from_slice(b"\r\n");
/// let expect = Reply::Array(vec![Reply::Integer(1), Reply::Bulk("k".into())]);
/// assert_eq!(parser.parse(&mut buffer), ReplyParse::Reply(expect));
/// ```
#[derive(Debug, Default)]
pub struct ReplyParser {
    limits: ReplyLimits,
    /// Aggregates that have begun, the outermost first.
    open: Vec<Open>,
    /// Bytes and elements of the reply that begins at the bottom of `open`.
    bytes: usize,
    elements: usize,
    /// The buffer has no line end before this offset.
    searched: usize,
    /// The string whose header has been read.
    string: Option<(StringKind, usize)>,
    failed: Option<ReplyError>,
}

#[derive(Clone, Copy, Debug)]
enum StringKind {
    Bulk,
    Error,
    Verbatim,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum AggregateKind {
    Array,
    Map,
    Set,
    Push,
    /// Out-of-band data before a reply: read and dropped.
    Attribute,
}

#[derive(Debug)]
struct Open {
    kind: AggregateKind,
    /// Replies still to come; both halves of a pair count.
    missing: usize,
    items: Vec<Reply>,
}

enum Stop {
    Incomplete,
    Invalid(ReplyError),
}

impl From<ReplyError> for Stop {
    fn from(error: ReplyError) -> Self {
        Self::Invalid(error)
    }
}

/// Room reserved for an aggregate before its elements have come; beyond it the list grows with them.
const ITEMS_RESERVED_MAX: usize = 64;

impl ReplyParser {
    /// A parser at the beginning of a stream.
    pub fn new(limits: ReplyLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes the next reply from the beginning of `buffer`.
    pub fn parse(&mut self, buffer: &mut BytesMut) -> ReplyParse {
        if let Some(error) = self.failed {
            return ReplyParse::Invalid(error);
        }
        match self.advance(buffer) {
            Ok(reply) => ReplyParse::Reply(reply),
            Err(Stop::Incomplete) => ReplyParse::Incomplete,
            Err(Stop::Invalid(error)) => {
                self.open = Vec::new();
                self.failed = Some(error);
                ReplyParse::Invalid(error)
            }
        }
    }

    fn advance(&mut self, buffer: &mut BytesMut) -> Result<Reply, Stop> {
        loop {
            let item = match self.string {
                Some((kind, len)) => Some(self.string_body(buffer, kind, len)?),
                None => self.line(buffer)?,
            };
            let done = match item {
                Some(reply) => self.close(reply),
                // An aggregate without elements is complete with its header.
                None => self.close_empty(),
            };
            if let Some(reply) = done {
                self.bytes = 0;
                self.elements = 0;
                return Ok(reply);
            }
        }
    }

    /// Reads a line: a whole reply, or (`None`) the header of a string or an aggregate.
    fn line(&mut self, buffer: &mut BytesMut) -> Result<Option<Reply>, Stop> {
        let Some(&kind) = buffer.first() else { return Err(Stop::Incomplete) };
        if !b"+-:$*_,#(%~>|!=".contains(&kind) {
            return Err(ReplyError::UnknownType(kind).into());
        }
        let feed = buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(feed) = feed.map(|offset| self.searched + offset) else {
            self.searched = buffer.len();
            self.within_bytes(buffer.len())?;
            return Err(Stop::Incomplete);
        };
        self.searched = 0;
        self.count(feed + 1)?;
        let line = buffer.split_to(feed + 1).freeze();
        let [_, text @ .., b'\r', b'\n'] = &line[..] else {
            return Err(ReplyError::Malformed(kind).into());
        };
        let text = line.slice_ref(text);
        Ok(Some(match kind {
            b'+' => Reply::Simple(text),
            b'-' => Reply::Error(text),
            b':' => Reply::Integer(parse_plus(&text).ok_or(ReplyError::Malformed(kind))?),
            b'_' if text.is_empty() => Reply::Null,
            b'#' if text == "t" => Reply::Boolean(true),
            b'#' if text == "f" => Reply::Boolean(false),
            b',' => Reply::Double(parse_double(&text).ok_or(ReplyError::Malformed(kind))?),
            b'(' if is_big_number(&text) => Reply::BigNumber(text),
            b'$' | b'*' if text == "-1" => Reply::Null,
            b'$' => return self.begin_string(StringKind::Bulk, kind, &text),
            b'!' => return self.begin_string(StringKind::Error, kind, &text),
            b'=' => return self.begin_string(StringKind::Verbatim, kind, &text),
            b'*' => return self.begin(AggregateKind::Array, 1, kind, &text),
            b'%' => return self.begin(AggregateKind::Map, 2, kind, &text),
            b'~' => return self.begin(AggregateKind::Set, 1, kind, &text),
            b'>' => return self.begin(AggregateKind::Push, 1, kind, &text),
            b'|' => return self.begin(AggregateKind::Attribute, 2, kind, &text),
            _ => return Err(ReplyError::Malformed(kind).into()),
        }))
    }

    fn begin_string(
        &mut self,
        kind: StringKind,
        byte: u8,
        text: &[u8],
    ) -> Result<Option<Reply>, Stop> {
        let len = parse_length(text).ok_or(ReplyError::Malformed(byte))?;
        // Refused before its bytes come.
        self.within_bytes(len)?;
        self.string = Some((kind, len));
        Ok(None)
    }

    fn string_body(
        &mut self,
        buffer: &mut BytesMut,
        kind: StringKind,
        len: usize,
    ) -> Result<Reply, Stop> {
        if buffer.len() < len + 2 {
            return Err(Stop::Incomplete);
        }
        self.count(len + 2)?;
        self.string = None;
        let mut text = buffer.split_to(len).freeze();
        let end = buffer.split_to(2);
        Ok(match kind {
            _ if end != "\r\n" => return Err(ReplyError::Malformed(b'$').into()),
            StringKind::Bulk => Reply::Bulk(text),
            StringKind::Error => Reply::Error(text),
            StringKind::Verbatim => {
                let [a, b, c, b':', ..] = text[..] else {
                    return Err(ReplyError::Malformed(b'=').into());
                };
                text.advance(4);
                Reply::Verbatim { format: [a, b, c], text }
            }
        })
    }

    fn begin(
        &mut self,
        kind: AggregateKind,
        items_each: usize,
        byte: u8,
        text: &[u8],
    ) -> Result<Option<Reply>, Stop> {
        let len = parse_length(text).ok_or(ReplyError::Malformed(byte))?;
        let missing = len.checked_mul(items_each).ok_or(ReplyError::TooManyElements)?;
        self.elements = self.elements.saturating_add(missing);
        if self.elements > self.limits.elements_max {
            return Err(ReplyError::TooManyElements.into());
        }
        if self.open.len() >= self.limits.depth_max {
            return Err(ReplyError::TooDeep.into());
        }
        self.open.push(Open {
            kind,
            missing,
            items: Vec::with_capacity(missing.min(ITEMS_RESERVED_MAX)),
        });
        Ok(None)
    }

    /// Puts a finished reply where it belongs; returns the whole one if it was the last part.
    fn close(&mut self, mut reply: Reply) -> Option<Reply> {
        loop {
            let Some(parent) = self.open.last_mut() else { return Some(reply) };
            if parent.kind != AggregateKind::Attribute {
                parent.items.push(reply);
            }
            parent.missing -= 1;
            if parent.missing > 0 {
                return None;
            }
            reply = self.open.pop()?.finish()?;
        }
    }

    fn close_empty(&mut self) -> Option<Reply> {
        match self.open.last() {
            Some(open) if open.missing == 0 && self.string.is_none() => {
                let reply = self.open.pop()?.finish()?;
                self.close(reply)
            }
            _ => None,
        }
    }

    fn within_bytes(&self, more: usize) -> Result<(), Stop> {
        match self.bytes.saturating_add(more) > self.limits.bytes_max {
            true => Err(ReplyError::TooManyBytes.into()),
            false => Ok(()),
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), Stop> {
        self.within_bytes(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Open {
    /// The aggregate as a reply; `None` for an attribute, which stands beside the reply it is about.
    fn finish(self) -> Option<Reply> {
        Some(match self.kind {
            AggregateKind::Array => Reply::Array(self.items),
            AggregateKind::Set => Reply::Set(self.items),
            AggregateKind::Push => Reply::Push(self.items),
            AggregateKind::Map => {
                let mut items = self.items.into_iter();
                let pairs = std::iter::from_fn(|| Some((items.next()?, items.next()?)));
                Reply::Map(pairs.collect())
            }
            AggregateKind::Attribute => return None,
        })
    }
}

fn parse_length(text: &[u8]) -> Option<usize> {
    usize::try_from(parse_integer(text)?).ok()
}

/// RESP allows a plus sign before an integer.
fn parse_plus(text: &[u8]) -> Option<i64> {
    match text {
        [b'+', digits @ ..] if !digits.starts_with(b"-") => parse_integer(digits),
        text => parse_integer(text),
    }
}

fn parse_double(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn is_big_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests;
