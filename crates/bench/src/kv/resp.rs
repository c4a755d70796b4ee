//! Clients of the targets that speak RESP.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kontiki_resp::{Reply, ReplyParse, ReplyParser, encode_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::KvOptions;
use super::cluster::{Redirect, SlotMap};
use super::recorder::Recorder;
use super::workload::{Kind, Operation, Workload, key};

/// How long a client waits before it connects again, so that a dead server is not flooded.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// How often an operation follows redirections before it counts as an error.
const REDIRECTS_MAX: usize = 5;

/// How long `WAIT` may take, in milliseconds.
const WAIT_MILLIS: &str = "5000";

const READ_BUFFER_BYTES: usize = 16 * 1024;

/// A connection to one server.
pub(crate) struct Connection {
    stream: TcpStream,
    parser: ReplyParser,
    input: BytesMut,
}

impl Connection {
    pub(crate) async fn open(address: &str, password: Option<&str>) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let input = BytesMut::with_capacity(READ_BUFFER_BYTES);
        let mut connection = Self { stream, parser: ReplyParser::default(), input };
        if let Some(password) = password {
            connection.call(&["AUTH", password]).await?;
        }
        Ok(connection)
    }

    /// Sends one request and waits for its reply; an error reply is an error.
    pub(crate) async fn call(&mut self, request: &[&str]) -> io::Result<Reply> {
        let mut out = Vec::new();
        encode_request(&mut out, request);
        self.stream.write_all(&out).await?;
        match self.reply().await? {
            Reply::Error(text) => {
                Err(io::Error::other(String::from_utf8_lossy(&text).into_owned()))
            }
            reply => Ok(reply),
        }
    }

    async fn reply(&mut self) -> io::Result<Reply> {
        loop {
            match self.parser.parse(&mut self.input) {
                ReplyParse::Reply(Reply::Push(_)) => {}
                ReplyParse::Reply(reply) => return Ok(reply),
                ReplyParse::Invalid(error) => return Err(io::Error::other(error)),
                ReplyParse::Incomplete => {
                    if self.stream.read_buf(&mut self.input).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }
}

/// An operation that is under way.
struct Sent {
    operation: Operation,
    at: Instant,
    redirects: usize,
    /// It was sent after `ASKING`, whose reply comes before its own.
    asks: bool,
    /// `WAIT` was sent behind it, whose reply comes after its own.
    waits: bool,
}

/// One node as a client sees it.
#[derive(Default)]
struct Node {
    connection: Option<Connection>,
    out: Vec<u8>,
    sent: VecDeque<Sent>,
}

/// A closed-loop client: sends a batch, waits for all replies, again.
pub(crate) struct Client {
    pub map: Rc<RefCell<SlotMap>>,
    pub password: Option<String>,
    pub pipeline: usize,
    pub wait: u32,
    pub workload: Workload,
    pub recorder: Rc<Recorder>,
    nodes: Vec<Node>,
    /// Operations to be sent again, and where.
    redirected: Vec<(usize, Sent)>,
}

impl Client {
    pub(crate) fn new(
        map: Rc<RefCell<SlotMap>>,
        options: &KvOptions,
        workload: Workload,
        recorder: Rc<Recorder>,
    ) -> Self {
        let (nodes, redirected) = (Vec::new(), Vec::new());
        let KvOptions { pipeline, wait, .. } = *options;
        let password = options.password.clone();
        Self { map, password, pipeline, wait, workload, recorder, nodes, redirected }
    }

    /// Runs until the recorder says stop.
    pub(crate) async fn run(mut self) {
        loop {
            for _ in 0..self.pipeline {
                let Some(operation) = self.recorder.next(&mut self.workload) else { break };
                let node = self.map.borrow().node_of(&key(operation.key));
                let waits = self.wait > 0 && operation.kind == Kind::Write;
                let at = Instant::now();
                self.queue(node, Sent { operation, at, redirects: 0, asks: false, waits });
            }
            if self.nodes.iter().all(|node| node.sent.is_empty()) {
                return;
            }
            self.exchange().await;
            while !self.redirected.is_empty() {
                for (node, sent) in std::mem::take(&mut self.redirected) {
                    self.queue(node, sent);
                }
                self.exchange().await;
            }
        }
    }

    fn queue(&mut self, node: usize, sent: Sent) {
        if self.nodes.len() <= node {
            self.nodes.resize_with(node + 1, Node::default);
        }
        let node = &mut self.nodes[node];
        if sent.asks {
            encode_request(&mut node.out, &["ASKING"]);
        }
        let key = key(sent.operation.key);
        match sent.operation.kind {
            Kind::Read => encode_request(&mut node.out, &[&b"GET"[..], &key]),
            Kind::Write => {
                encode_request(&mut node.out, &[&b"SET"[..], &key, self.workload.value()]);
            }
        }
        if sent.waits {
            let replicas = self.wait.to_string();
            encode_request(&mut node.out, &["WAIT", &replicas, WAIT_MILLIS]);
        }
        node.sent.push_back(sent);
    }

    /// Sends what is queued and takes all replies.
    async fn exchange(&mut self) {
        for index in 0..self.nodes.len() {
            let idle = self.nodes[index].sent.is_empty();
            if !idle && let Err(error) = self.send(index).await {
                self.broken(index, error).await;
            }
        }
        for index in 0..self.nodes.len() {
            while !self.nodes[index].sent.is_empty() {
                if let Err(error) = self.receive(index).await {
                    self.broken(index, error).await;
                }
            }
        }
    }

    async fn send(&mut self, index: usize) -> io::Result<()> {
        let node = &mut self.nodes[index];
        let connection = match &mut node.connection {
            Some(connection) => connection,
            none => {
                let address = self.map.borrow().addresses[index].clone();
                none.insert(Connection::open(&address, self.password.as_deref()).await?)
            }
        };
        connection.stream.write_all(&node.out).await?;
        node.out.clear();
        Ok(())
    }

    async fn receive(&mut self, index: usize) -> io::Result<()> {
        let node = &mut self.nodes[index];
        let connection = node.connection.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let asked = node.sent.front().is_some_and(|sent| sent.asks);
        if asked {
            connection.reply().await?;
        }
        let mut reply = connection.reply().await?;
        if node.sent.front().is_some_and(|sent| sent.waits) {
            let waited = connection.reply().await?;
            let enough = matches!(waited, Reply::Integer(count) if count >= i64::from(self.wait));
            if !enough && !matches!(reply, Reply::Error(_)) {
                reply = Reply::Error(format!("WAIT answered {waited:?}").into());
            }
        }
        let Some(sent) = node.sent.pop_front() else { return Ok(()) };
        match reply {
            Reply::Error(text) => self.refused(sent, &text),
            _ => self.recorder.success(sent.operation.kind, sent.at),
        }
        Ok(())
    }

    fn refused(&mut self, mut sent: Sent, text: &[u8]) {
        match Redirect::parse(text) {
            Some(redirect) if sent.redirects < REDIRECTS_MAX => {
                sent.redirects += 1;
                sent.asks = redirect.asks;
                let node = self.map.borrow_mut().learn(&redirect);
                self.redirected.push((node, sent));
            }
            _ => self.recorder.error(|| String::from_utf8_lossy(text).into_owned()),
        }
    }

    /// The outcome of everything under way at this node is unknown; the next batch reconnects.
    async fn broken(&mut self, index: usize, error: io::Error) {
        let lost = self.nodes[index].sent.len();
        self.nodes[index] = Node::default();
        for _ in 0..lost {
            self.recorder.error(|| format!("connection: {error}"));
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}
