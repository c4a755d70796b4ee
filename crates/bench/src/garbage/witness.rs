//! The ordinary client beside the bad ones.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kontiki_resp::{Reply, ReplyParse, ReplyParser, encode_request};

use super::GarbageReport;

/// A key whose value is large, for the client that never reads it.
pub(super) const BIG_KEY: &str = "garbage:big";
const BIG_VALUE_BYTES: usize = 1 << 20;

/// The witness's own key; nothing else names it.
const OWN_KEY: &str = "garbage:witness";

/// An answer that takes longer is an error.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause between requests, so that the witness is a bystander and not a load.
const PAUSE: Duration = Duration::from_millis(2);

pub(super) struct Witness {
    address: SocketAddr,
    password: Option<String>,
    stream: TcpStream,
    parser: ReplyParser,
    input: BytesMut,
}

/// What the witness has to tell.
#[derive(Default)]
pub(super) struct Testimony {
    ops: u64,
    errors: u64,
    first_error: Option<String>,
    slowest: Duration,
}

impl Witness {
    /// Connects and sees that it is answered.
    pub(super) fn open(address: SocketAddr, password: Option<&str>) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_nodelay(true)?;
        let (parser, input) = (ReplyParser::default(), BytesMut::new());
        let password = password.map(str::to_owned);
        let mut witness = Self { address, password, stream, parser, input };
        if let Some(password) = witness.password.clone() {
            witness.call(&[b"AUTH", password.as_bytes()])?;
        }
        witness.call(&[b"PING"])?;
        Ok(witness)
    }

    pub(super) fn set_big_value(&mut self) -> io::Result<()> {
        let value = vec![b'x'; BIG_VALUE_BYTES];
        self.call(&[b"SET", BIG_KEY.as_bytes(), &value]).map(|_| ())
    }

    /// Writes and reads back until `stop`, starting anew on a new connection after an error.
    pub(super) fn run(mut self, stop: &AtomicBool) -> Testimony {
        let mut testimony = Testimony::default();
        for round in 0_u64.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let start = Instant::now();
            match self.round(&round.to_le_bytes()) {
                Ok(()) => testimony.ops += 2,
                Err(error) => {
                    testimony.errors += 1;
                    testimony.first_error.get_or_insert_with(|| error.to_string());
                    if let Ok(again) = Self::open(self.address, self.password.as_deref()) {
                        self = again;
                    }
                }
            }
            testimony.slowest = testimony.slowest.max(start.elapsed() / 2);
            std::thread::sleep(PAUSE);
        }
        testimony
    }

    fn round(&mut self, value: &[u8]) -> io::Result<()> {
        self.call(&[b"SET", OWN_KEY.as_bytes(), value])?;
        match self.call(&[b"GET", OWN_KEY.as_bytes()])? {
            Reply::Bulk(read) if read == value => Ok(()),
            other => Err(io::Error::other(format!("read {other:?} after writing {value:?}"))),
        }
    }

    fn call(&mut self, request: &[&[u8]]) -> io::Result<Reply> {
        let mut out = Vec::new();
        encode_request(&mut out, request);
        self.stream.write_all(&out)?;
        let mut piece = [0; 16 * 1024];
        loop {
            match self.parser.parse(&mut self.input) {
                ReplyParse::Reply(Reply::Error(text)) => {
                    return Err(io::Error::other(String::from_utf8_lossy(&text).into_owned()));
                }
                ReplyParse::Reply(reply) => return Ok(reply),
                ReplyParse::Invalid(error) => return Err(io::Error::other(error)),
                ReplyParse::Incomplete => {}
            }
            match self.stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.input.extend_from_slice(&piece[..read]),
            }
        }
    }
}

impl Testimony {
    pub(super) fn into_report(self, report: &mut GarbageReport) {
        report.witness_ops = self.ops;
        report.witness_errors = self.errors;
        report.witness_first_error = self.first_error;
        report.witness_max_ms = self.slowest.as_secs_f64() * 1e3;
    }
}
