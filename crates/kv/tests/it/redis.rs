//! A Redis server to compare with, and just enough of its protocol.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kontiki_kv::Reply;

/// A `redis-server` of our own, gone with this value.
pub struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Starts a server without persistence on a free port of loopback. `None`: none is installed,
    /// which is a failure where `CI` is `true`.
    pub fn start() -> Option<Self> {
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let process = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                .args([
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                    "--proto-max-bulk-len",
                    "8mb",
                    "--databases",
                    "1",
                ])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let process = match process {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "install redis-server");
                    eprintln!("skipped: redis-server is not installed");
                    return None;
                }
                process => process.unwrap(),
            };
            let mut server = Self { process, port };
            if server.is_ready() {
                return Some(server);
            }
        }
        panic!("redis-server does not start");
    }

    /// Whether it answers; `false` once it has ended, as when another process took the port.
    fn is_ready(&mut self) -> bool {
        let patience = Instant::now() + Duration::from_secs(10);
        while Instant::now() < patience {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    pub fn connect(&self, protocol: Protocol) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut client = Client { stream: BufReader::new(stream) };
        let version = if protocol == Protocol::Resp3 { "3" } else { "2" };
        client.call(&[b"HELLO".as_slice(), version.as_bytes()]);
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Resp2,
    Resp3,
}

/// A connection to a server.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// The answer to a request.
    pub fn call(&mut self, args: &[impl AsRef<[u8]>]) -> Frame {
        self.send(&[args]);
        self.receive()
    }

    /// Sends requests at once.
    pub fn send(&mut self, requests: &[&[impl AsRef<[u8]>]]) {
        let mut out = Vec::new();
        for args in requests {
            out.extend(format!("*{}\r\n", args.len()).into_bytes());
            for arg in args.iter().map(AsRef::as_ref) {
                out.extend(format!("${}\r\n", arg.len()).into_bytes());
                out.extend_from_slice(arg);
                out.extend_from_slice(b"\r\n");
            }
        }
        self.stream.get_mut().write_all(&out).unwrap();
    }

    /// The next answer.
    pub fn receive(&mut self) -> Frame {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).unwrap();
        let text = &line[1..line.len() - 2];
        let number = || std::str::from_utf8(text).unwrap().parse::<i64>().unwrap();
        match line[0] {
            kind @ (b'+' | b'-' | b':' | b'_') => Frame::Line(kind, text.to_vec()),
            kind if number() < 0 => Frame::Line(kind, text.to_vec()),
            kind @ (b'$' | b'=') => {
                let mut bytes = vec![0; number() as usize + 2];
                self.stream.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Frame::Bulk(kind, bytes)
            }
            kind @ b'%' => Frame::Many(kind, (0..2 * number()).map(|_| self.receive()).collect()),
            kind => Frame::Many(kind, (0..number()).map(|_| self.receive()).collect()),
        }
    }
}

/// An answer as it stands on the wire.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Frame {
    /// All in one line.
    Line(u8, Vec<u8>),
    /// A string after its length.
    Bulk(u8, Vec<u8>),
    /// Others after their number.
    Many(u8, Vec<Frame>),
}

impl Frame {
    /// A reply as it goes out.
    pub fn of(reply: &Reply, protocol: Protocol) -> Self {
        let resp3 = protocol == Protocol::Resp3;
        let of = |reply| Self::of(reply, protocol);
        match reply {
            Reply::Ok => Self::Line(b'+', b"OK".to_vec()),
            Reply::Simple(text) => Self::Line(b'+', text.as_bytes().to_vec()),
            Reply::Status(text) => Self::Line(b'+', text.to_vec()),
            Reply::Nil | Reply::NilArray if resp3 => Self::Line(b'_', Vec::new()),
            Reply::Nil => Self::Line(b'$', b"-1".to_vec()),
            Reply::NilArray => Self::Line(b'*', b"-1".to_vec()),
            Reply::Integer(number) => Self::Line(b':', number.to_string().into_bytes()),
            Reply::Bulk(bytes) | Reply::Verbatim(bytes) => Self::Bulk(b'$', bytes.to_vec()),
            Reply::Error(text) => Self::Line(b'-', text.to_vec()),
            Reply::Set(elements) if resp3 => Self::Many(b'~', elements.iter().map(of).collect()),
            Reply::Array(elements) | Reply::Set(elements) => {
                Self::Many(b'*', elements.iter().map(of).collect())
            }
            Reply::Map(pairs) => {
                let kind = if resp3 { b'%' } else { b'*' };
                let flat = pairs.iter().flat_map(|(key, value)| [of(key), of(value)]);
                Self::Many(kind, flat.collect())
            }
        }
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Self::Line(b'-', _))
    }

    /// The number that it is.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Line(b':', text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// What it consists of.
    pub fn elements(&self) -> &[Frame] {
        match self {
            Self::Many(_, elements) => elements,
            _ => &[],
        }
    }

    /// With the elements in order.
    pub fn sorted(mut self) -> Self {
        if let Self::Many(_, elements) = &mut self {
            elements.sort();
        }
        self
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(kind, bytes) | Self::Bulk(kind, bytes) => {
                write!(f, "{}{}", *kind as char, bytes.escape_ascii())
            }
            Self::Many(kind, elements) => {
                write!(f, "{}", *kind as char)?;
                f.debug_list().entries(elements).finish()
            }
        }
    }
}
