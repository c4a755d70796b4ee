//! What a server sends: replies, in the version of the protocol that its client asked for.

use bytes::BufMut;

use crate::number::{DECIMAL_BYTES_MAX, format_integer};

/// The version of the protocol a connection speaks, chosen by `HELLO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// What a connection speaks until it says otherwise.
    #[default]
    Resp2,
    /// With maps, sets, doubles, booleans, nulls and pushes.
    Resp3,
}

/// Writes replies to the end of an output buffer (`Vec<u8>` or `BytesMut`).
///
/// Types that RESP2 lacks are written the way Redis writes them for a RESP2 client: a map is an
/// array of twice the length, sets and pushes are arrays, a double and a verbatim string are bulk
/// strings, a boolean is the integer 1 or 0. An aggregate is its header followed by exactly as
/// many replies as the header says; the caller writes those.
///
/// ```
/// use kontiki_resp::{Encoder, Protocol};
///
/// let mut out = Vec::new();
/// let mut reply = Encoder::new(&mut out, Protocol::Resp2);
/// reply.map(1);
/// reply.bulk(b"proto");
/// reply.integer(2);
/// assert_eq!(out, b"*2\r\n$5\r\nproto\r\n:2\r\n");
/// ```
#[derive(Debug)]
pub struct Encoder<'a, B> {
    out: &'a mut B,
    protocol: Protocol,
}

impl<'a, B: BufMut> Encoder<'a, B> {
    /// An encoder that appends to `out`.
    pub fn new(out: &'a mut B, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    /// The version of the protocol it writes.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// `+OK`, the most common reply.
    pub fn ok(&mut self) {
        self.out.put_slice(b"+OK\r\n");
    }

    /// A simple string. Line ends in it become blanks, since it could not be told from two replies.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error: its code (`ERR`, `WRONGTYPE`, …), a blank, and a sentence. Line ends become blanks.
    pub fn error(&mut self, text: impl AsRef<[u8]>) {
        self.line(b'-', text.as_ref());
    }

    /// An integer.
    pub fn integer(&mut self, value: i64) {
        self.header(b':', value);
    }

    /// A bulk string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.length(b'$', bytes.len());
        self.out.put_slice(bytes);
        self.out.put_slice(b"\r\n");
    }

    /// A bulk string that holds an integer in decimal, as many Redis replies do.
    pub fn bulk_integer(&mut self, value: i64) {
        let mut digits = [0; DECIMAL_BYTES_MAX];
        self.bulk(format_integer(value, &mut digits));
    }

    /// The absence of a value.
    pub fn null(&mut self) {
        self.out.put_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// The absence of a list: what `EXEC` answers when a watched key has changed.
    pub fn null_array(&mut self) {
        self.out.put_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// The header of an array of `len` replies.
    pub fn array(&mut self, len: usize) {
        self.length(b'*', len);
    }

    /// The header of a map of `pairs` keys, each followed by its value.
    pub fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.length(b'*', 2 * pairs),
            Protocol::Resp3 => self.length(b'%', pairs),
        }
    }

    /// The header of a set of `len` replies.
    pub fn set(&mut self, len: usize) {
        self.length(self.if_resp3(b'~', b'*'), len);
    }

    /// The header of a push of `len` replies: something the client did not ask for.
    pub fn push(&mut self, len: usize) {
        self.length(self.if_resp3(b'>', b'*'), len);
    }

    /// A boolean.
    pub fn boolean(&mut self, value: bool) {
        self.out.put_slice(match (self.protocol, value) {
            (Protocol::Resp2, true) => b":1\r\n",
            (Protocol::Resp2, false) => b":0\r\n",
            (Protocol::Resp3, true) => b"#t\r\n",
            (Protocol::Resp3, false) => b"#f\r\n",
        });
    }

    /// A floating point number: the shortest decimal that reads back as the same number, or
    /// `inf`, `-inf`, `nan`.
    pub fn double(&mut self, value: f64) {
        let mut text = ShortText::default();
        text.double(value);
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => self.line(b',', text.as_bytes()),
        }
    }

    /// A text that says how it is meant to be shown: `format` is `*b"txt"` or `*b"mkd"`.
    pub fn verbatim(&mut self, format: [u8; 3], text: &[u8]) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.length(b'=', text.len() + 4);
                self.out.put_slice(&format);
                self.out.put_slice(b":");
                self.out.put_slice(text);
                self.out.put_slice(b"\r\n");
            }
        }
    }

    /// An integer beyond 64 bits, given by its decimal digits.
    pub fn big_number(&mut self, digits: &[u8]) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(digits),
            Protocol::Resp3 => self.line(b'(', digits),
        }
    }

    /// A reply that was encoded before, for this version of the protocol.
    pub fn raw(&mut self, encoded: &[u8]) {
        self.out.put_slice(encoded);
    }

    fn if_resp3(&self, resp3: u8, resp2: u8) -> u8 {
        match self.protocol {
            Protocol::Resp2 => resp2,
            Protocol::Resp3 => resp3,
        }
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.put_u8(kind);
        for (nth, piece) in text.split(|byte| matches!(byte, b'\r' | b'\n')).enumerate() {
            if nth > 0 {
                self.out.put_u8(b' ');
            }
            self.out.put_slice(piece);
        }
        self.out.put_slice(b"\r\n");
    }

    fn length(&mut self, kind: u8, len: usize) {
        // A length in memory fits an i64.
        self.header(kind, len as i64);
    }

    fn header(&mut self, kind: u8, value: i64) {
        put_header(self.out, kind, value);
    }
}

/// Writes the request `args` as a client sends it: an array of bulk strings.
pub fn encode_request<B: BufMut, A: AsRef<[u8]>>(out: &mut B, args: &[A]) {
    let mut encoder = Encoder::new(out, Protocol::Resp2);
    encoder.array(args.len());
    for arg in args {
        encoder.bulk(arg.as_ref());
    }
}

/// One copy into the buffer, since this is in every reply.
fn put_header(out: &mut impl BufMut, kind: u8, value: i64) {
    let mut digits = [0; DECIMAL_BYTES_MAX];
    let digits = format_integer(value, &mut digits);
    let mut header = [0; DECIMAL_BYTES_MAX + 3];
    header[0] = kind;
    header[1..=digits.len()].copy_from_slice(digits);
    header[digits.len() + 1..digits.len() + 3].copy_from_slice(b"\r\n");
    out.put_slice(&header[..digits.len() + 3]);
}

/// A formatted number without a heap allocation.
#[derive(Default)]
struct ShortText {
    bytes: [u8; Self::BYTES_MAX],
    len: usize,
}

impl ShortText {
    /// Longer than any double written here: a sign, 17 digits, a point, zeros or an exponent.
    const BYTES_MAX: usize = 32;

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn double(&mut self, value: f64) {
        use std::fmt::Write;
        let plain = value == 0.0 || (1e-5..1e17).contains(&value.abs());
        let written = match value {
            _ if value.is_nan() => self.write_str("nan"),
            _ if value.is_infinite() => self.write_str(if value > 0.0 { "inf" } else { "-inf" }),
            _ if plain => write!(self, "{value}"),
            _ => write!(self, "{value:e}"),
        };
        debug_assert!(written.is_ok(), "{value} needs more than {} bytes", Self::BYTES_MAX);
    }
}

impl std::fmt::Write for ShortText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(write: impl Fn(&mut Encoder<'_, Vec<u8>>), resp2: &str, resp3: &str) {
        for (protocol, expect) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
            let mut out = Vec::new();
            write(&mut Encoder::new(&mut out, protocol));
            assert_eq!(String::from_utf8_lossy(&out), expect, "{protocol:?}");
        }
    }

    #[test]
    fn types_of_both_versions_look_the_same() {
        let same = |write: fn(&mut Encoder<'_, Vec<u8>>), text| check(write, text, text);
        same(|r| r.ok(), "+OK\r\n");
        same(|r| r.simple("PONG"), "+PONG\r\n");
        same(|r| r.error("ERR syntax error"), "-ERR syntax error\r\n");
        same(|r| r.integer(-7), ":-7\r\n");
        same(|r| r.bulk(b""), "$0\r\n\r\n");
        same(|r| r.bulk(b"a\r\nb"), "$4\r\na\r\nb\r\n");
        same(|r| r.bulk_integer(120), "$3\r\n120\r\n");
        same(|r| r.array(0), "*0\r\n");
    }

    #[test]
    fn types_of_resp3_fall_back_as_in_redis() {
        check(|r| r.null(), "$-1\r\n", "_\r\n");
        check(|r| r.null_array(), "*-1\r\n", "_\r\n");
        check(|r| r.map(3), "*6\r\n", "%3\r\n");
        check(|r| r.set(3), "*3\r\n", "~3\r\n");
        check(|r| r.push(3), "*3\r\n", ">3\r\n");
        check(|r| r.boolean(true), ":1\r\n", "#t\r\n");
        check(|r| r.boolean(false), ":0\r\n", "#f\r\n");
        check(|r| r.verbatim(*b"txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
        check(|r| r.big_number(b"123"), "$3\r\n123\r\n", "(123\r\n");
    }

    #[test]
    fn doubles_are_short_and_exact() {
        check(|r| r.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n");
        check(|r| r.double(3.0), "$1\r\n3\r\n", ",3\r\n");
        check(|r| r.double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n");
        check(|r| r.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
        check(|r| r.double(f64::NAN), "$3\r\nnan\r\n", ",nan\r\n");
        check(|r| r.double(1e300), "$5\r\n1e300\r\n", ",1e300\r\n");
        for extreme in [f64::MIN, f64::MAX, f64::MIN_POSITIVE, -5e-324, -1.0 / 3e5, 0.1 + 0.2] {
            let mut text = ShortText::default();
            text.double(extreme);
            let read: f64 = std::str::from_utf8(text.as_bytes()).unwrap().parse().unwrap();
            assert_eq!(read, extreme);
        }
    }

    #[test]
    fn a_line_end_in_a_message_cannot_fake_a_second_reply() {
        check(|r| r.error("ERR a\r\n+OK"), "-ERR a  +OK\r\n", "-ERR a  +OK\r\n");
        check(|r| r.simple("a\nb"), "+a b\r\n", "+a b\r\n");
    }

    #[test]
    fn requests_are_arrays_of_bulk_strings() {
        let mut out = Vec::new();
        encode_request(&mut out, &["GET", "k"]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }
}
