//! Clients that write and read, and keep what they were told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kontiki_resp::{Reply, ReplyParse, ReplyParser, encode_request};
use kontiki_sim::history::{Operation, Outcome, Request};
use kontiki_sim::random::Random;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// What all clients share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) addresses: Arc<Vec<SocketAddr>>,
    /// When the history's clock began.
    pub(super) began: Instant,
    pub(super) stop: Arc<AtomicBool>,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// One client: one connection, one batch after the other.
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) shared: Shared,
    pub(super) random: Random,
    pub(super) seen: Vec<Operation>,
    connection: Option<Connection>,
    /// For values that nobody else writes.
    next_value: u64,
}

struct Connection {
    stream: TcpStream,
    parser: ReplyParser,
    input: BytesMut,
}

impl Client {
    pub(super) fn new(id: u64, shared: Shared, random: Random) -> Self {
        Self { id, shared, random, seen: Vec::new(), connection: None, next_value: 0 }
    }

    /// Runs until told to stop; returns what it has seen.
    pub(super) async fn run(mut self) -> Vec<Operation> {
        while !self.shared.is_over() {
            let count = if self.random.chance(150) { self.random.between(2, 5) } else { 1 };
            let batch = (0..count).map(|_| self.request()).collect();
            let patience = self.random.time(Duration::from_millis(300), Duration::from_secs(7));
            if !self.call(batch, patience).await {
                sleep(RECONNECT_PAUSE).await;
            }
            let pause = self.random.time(Duration::ZERO, THINKING_MAX);
            sleep(pause).await;
        }
        self.seen
    }

    /// Reads each key once, as soon as some node answers.
    pub(super) async fn read_all(
        mut self,
        keys: Vec<Bytes>,
        until: Instant,
    ) -> Option<Vec<Operation>> {
        for key in keys {
            loop {
                let before = self.seen.len();
                let request = Request::Command(vec![Bytes::from_static(b"GET"), key.clone()]);
                self.call(vec![request], Duration::from_secs(7)).await;
                let last = self.seen[before..].first().map(|operation| &operation.outcome);
                if matches!(last, Some(Outcome::Known { .. })) {
                    break;
                }
                if Instant::now() >= until {
                    return None;
                }
                sleep(RECONNECT_PAUSE).await;
            }
        }
        Some(self.seen)
    }

    /// Sends a batch and waits for its answers; `false` if there was nobody to send it to.
    async fn call(&mut self, batch: Vec<Request>, patience: Duration) -> bool {
        if self.connection.is_none() {
            self.connection = self.connect().await;
        }
        let Some(connection) = &mut self.connection else { return false };
        let mut out = Vec::new();
        for request in &batch {
            encode(request, &mut out);
        }
        let (call, until) = (self.shared.now(), tokio::time::Instant::now() + patience);
        let mut alive = tokio::time::timeout_at(until, connection.stream.write_all(&out))
            .await
            .is_ok_and(|written| written.is_ok());
        for request in batch {
            let mut reply = None;
            if alive {
                reply = tokio::time::timeout_at(until, connection.answer(&request)).await.ok();
                alive = reply.as_ref().is_some_and(Option::is_some);
            }
            let outcome = Outcome::of(reply.flatten(), self.shared.now());
            self.seen.push(Operation { client: self.id, request, call, outcome });
        }
        // Of a connection that owes an answer nothing more is heard: it would be taken for another's.
        if !alive || self.random.chance(20) {
            self.connection = None;
        }
        true
    }

    async fn connect(&mut self) -> Option<Connection> {
        let address = *self.random.pick(&self.shared.addresses)?;
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await.ok()?.ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Connection { stream, parser: ReplyParser::default(), input: BytesMut::new() })
    }

    /// Something to ask, on one of a few keys, which change with the time so that their histories
    /// stay short enough to be judged.
    fn request(&mut self) -> Request {
        let chapter = self.shared.now() / CHAPTER;
        self.next_value += 1;
        let value = format!("{}.{}", self.id, self.next_value);
        let random = &mut self.random;
        let (register, counter) = (random.below(3), random.below(2));
        let (r, c, l) = (
            format!("r{register}:{chapter}"),
            format!("c{counter}:{chapter}"),
            format!("l:{chapter}"),
        );
        let (t, f) = (format!("t:{chapter}"), format!("{{f{chapter}}}"));
        let (n, s) = (format!("{f}n"), format!("{f}s"));
        let token = format!("{value};");
        let ttl = random.between(1000, 3000).to_string();
        let words: Vec<&str> = match random.below(100) {
            0..16 => vec!["GET", &r],
            16..26 => vec!["SET", &r, &value],
            26..29 => vec!["SET", &r, &value, "GET"],
            29..31 => vec!["SET", &r, &value, "NX"],
            31..33 => vec!["SET", &r, &value, "XX"],
            33..34 => vec!["GETDEL", &r],
            34..35 => vec!["DEL", &r],
            35..45 => vec!["INCR", &c],
            45..55 => vec!["GET", &c],
            55..63 => vec!["APPEND", &l, &token],
            63..67 => vec!["STRLEN", &l],
            67..69 => vec!["GET", &l],
            69..73 => vec!["SET", &t, &value, "PX", &ttl],
            73..79 => vec!["GET", &t],
            79..80 => vec!["PEXPIRE", &t, &ttl],
            80..81 => vec!["PERSIST", &t],
            81..82 => vec!["EXISTS", &t],
            82..90 => {
                let commands: [&[&str]; 2] = [&["INCR", &n], &["APPEND", &s, &token]];
                return Request::Transaction(commands.iter().map(|words| bytes(words)).collect());
            }
            90..93 => {
                let commands: [&[&str]; 2] = [&["GET", &n], &["STRLEN", &s]];
                return Request::Transaction(commands.iter().map(|words| bytes(words)).collect());
            }
            93..97 => vec!["GET", &n],
            97..98 => vec!["GET", &s],
            _ => vec!["MGET", &n, &s],
        };
        Request::Command(bytes(&words))
    }
}

impl Connection {
    /// The answer to a request; that of a transaction is the last of its replies.
    async fn answer(&mut self, request: &Request) -> Option<Reply> {
        if let Request::Transaction(commands) = request {
            for _ in 0..=commands.len() {
                self.reply().await?;
            }
        }
        self.reply().await
    }

    async fn reply(&mut self) -> Option<Reply> {
        loop {
            match self.parser.parse(&mut self.input) {
                ReplyParse::Reply(reply) => return Some(reply),
                ReplyParse::Invalid(_) => return None,
                ReplyParse::Incomplete => {
                    if self.stream.read_buf(&mut self.input).await.ok()? == 0 {
                        return None;
                    }
                }
            }
        }
    }
}

fn bytes(words: &[&str]) -> Vec<Bytes> {
    words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

fn encode(request: &Request, out: &mut Vec<u8>) {
    match request {
        Request::Command(words) => encode_request(out, words),
        Request::Transaction(commands) => {
            encode_request(out, &["MULTI"]);
            for words in commands {
                encode_request(out, words);
            }
            encode_request(out, &["EXEC"]);
        }
    }
}

const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two calls of a client.
const THINKING_MAX: Duration = Duration::from_millis(8);
/// How long the same keys are used, in nanoseconds.
const CHAPTER: u64 = 6_000_000_000;
