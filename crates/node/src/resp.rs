//! The Redis port: accepting connections, and moving bytes between a socket and its
//! [`Connection`].
//!
//! When the node is about to stop, a connection goes on until it has been quiet for a moment, which
//! clients that know other nodes are soon; one that never is closes between two commands after
//! [`BUSY_MAX`]. It closes its sending half first: what a client sent before it could know is not
//! executed any more, and the replies before it arrive.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use kontiki_replica::{Answer, Connection, Host, Request};
use kontiki_resp::{RequestParse, RequestParser};
use kontiki_types::ClientId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::clock;
use crate::event_loop::Input;
use crate::registry::Outbox;
use crate::shared::Shared;

/// Bytes to read at the least into a connection's buffer at once.
const READ_BYTES: usize = 8 << 10;

/// And at the most, whatever a client claims is to come.
const READ_BYTES_MAX: usize = 256 << 10;

/// Unwritten output from which on a connection is not read any more.
const OUTPUT_PAUSE_BYTES: usize = 1 << 20;

/// A connection of a node that is about to stop closes when it was quiet for so long.
const QUIET: Duration = Duration::from_millis(100);

/// One that is never quiet closes after so long, between two commands.
const BUSY_MAX: Duration = Duration::from_millis(1000);

/// How long a client has to close its half.
const LINGER: Duration = Duration::from_millis(300);

/// Takes connections until `stop` says so.
pub(crate) async fn serve(
    listener: TcpListener,
    node: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => accept(stream, peer, &node),
                Err(error) => {
                    // Out of file descriptors, most likely: the next attempt may find one.
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            _ = stop.changed() => return,
        }
    }
}

fn accept(stream: TcpStream, peer: SocketAddr, node: &Arc<Shared>) {
    let node = Arc::clone(node);
    let local = stream.local_addr().unwrap_or(peer);
    let _ = stream.set_nodelay(true);
    let Some((id, outbox)) = node.registry.open(peer, local, node.settings.maxclients()) else {
        // Best effort: whoever is refused may not even read.
        let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
        return;
    };
    tokio::spawn(async move {
        let client = node.client_id(id);
        let session = Session::new(stream, id, client, outbox, Arc::clone(&node));
        if let Err(error) = session.run().await {
            debug!(id, %error, "connection ended");
        }
        node.registry.close(id);
    });
}

/// Waits, if there is something to wait for. A function, so that no timer is made in vain.
async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

struct Session {
    stream: TcpStream,
    connection: Connection,
    parser: RequestParser,
    input: BytesMut,
    outbox: Arc<Outbox>,
    node: Arc<Shared>,
    args: Vec<bytes::Bytes>,
    requests: Vec<Request>,
    answers: Vec<(u64, Answer)>,
    /// Since when the connection is to close, and since when it has been quiet.
    closing: Option<(Instant, Instant)>,
}

impl Session {
    fn new(
        stream: TcpStream,
        id: u64,
        client: ClientId,
        outbox: Arc<Outbox>,
        node: Arc<Shared>,
    ) -> Self {
        let open = node.authenticate(b"default", b"").is_none();
        let mut parser = RequestParser::new(node.settings.request_limits());
        parser.set_authenticated(open);
        Self {
            stream,
            connection: Connection::new(id, client, open, node.settings.connection_limits()),
            parser,
            input: BytesMut::new(),
            outbox,
            node,
            args: Vec::new(),
            requests: Vec::new(),
            answers: Vec::new(),
            closing: None,
        }
    }

    async fn run(mut self) -> io::Result<()> {
        let output_max = self.node.settings.output_bytes_max;
        loop {
            let unwritten = self.connection.output().len();
            if unwritten > output_max {
                warn!(id = self.connection.id(), unwritten, "client does not read its replies");
                return Ok(());
            }
            let reads = self.connection.accepts() && unwritten < OUTPUT_PAUSE_BYTES;
            if self.connection.is_finished() && unwritten == 0 {
                return Ok(());
            }
            let close_at = self.close_at(unwritten);
            if close_at.is_some_and(|at| at <= Instant::now()) && self.has_nothing_to_read()? {
                return self.close().await;
            }
            // A read that does not fill the buffer tells the runtime that the socket is empty, which
            // spares the system call that would find it so.
            let wanted = self.parser.bytes_missing(&self.input).clamp(READ_BYTES, READ_BYTES_MAX);
            self.input.reserve(wanted);
            let (mut reader, writer) = self.stream.split();
            tokio::select! {
                read = reader.read_buf(&mut self.input), if reads => {
                    if read? == 0 {
                        return Ok(());
                    }
                    self.stir();
                    self.parse();
                    // Most replies of local commands fit the socket's buffer at once.
                    self.write()?;
                }
                () = until(close_at), if close_at.is_some() => {}
                writable = writer.writable(), if unwritten > 0 => {
                    writable?;
                    self.write()?;
                }
                () = self.outbox.arrived() => {
                    let (goes_on, since) = self.outbox.take(&mut self.answers);
                    if !goes_on {
                        return Ok(());
                    }
                    for (ticket, answer) in self.answers.drain(..) {
                        self.connection.answer(ticket, answer, &*self.node, &mut self.requests);
                    }
                    self.stir();
                    // Commands that were parsed no further may be acceptable again.
                    self.parse();
                    self.write()?;
                    if let Some(since) = since {
                        let took = clock::now().since(since);
                        self.node.metrics.stages.reply.observe(took.as_secs_f64());
                    }
                }
            }
            self.submit();
        }
    }

    /// When the connection is to close, as things are; `None`: it has something to do, or the node
    /// is not about to stop.
    fn close_at(&mut self, unwritten: usize) -> Option<Instant> {
        if !self.node.registry.is_closing() {
            return None;
        }
        let now = Instant::now();
        let (since, quiet_since) = *self.closing.get_or_insert((now, now));
        let is_idle = unwritten == 0 && self.input.is_empty() && self.connection.is_idle();
        let quiet = if self.connection.is_in_transaction() { BUSY_MAX } else { QUIET };
        is_idle.then(|| (since + BUSY_MAX).min(quiet_since + quiet))
    }

    /// Something came in or was answered.
    fn stir(&mut self) {
        if let Some((_, quiet_since)) = &mut self.closing {
            *quiet_since = Instant::now();
        }
    }

    /// Whether the socket is empty. What is read has a reply due, so that the connection is not quiet.
    fn has_nothing_to_read(&mut self) -> io::Result<bool> {
        match self.stream.try_read_buf(&mut self.input) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {
                self.stir();
                self.parse();
                self.write()?;
                self.submit();
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Closes the sending half, and the other one with the client or after [`LINGER`].
    async fn close(mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let _ = tokio::time::timeout(LINGER, async {
            loop {
                self.input.clear();
                self.input.reserve(READ_BYTES);
                match self.stream.read_buf(&mut self.input).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return,
                }
            }
        })
        .await;
        Ok(())
    }

    /// Takes every whole request out of the buffer that the connection accepts.
    fn parse(&mut self) {
        self.parse_all();
        // What it holds would keep the buffer from being used again.
        self.args.clear();
    }

    fn parse_all(&mut self) {
        while self.connection.accepts() && self.connection.output().len() < OUTPUT_PAUSE_BYTES {
            match self.parser.parse(&mut self.input, &mut self.args) {
                RequestParse::Incomplete => return,
                RequestParse::Request => {
                    self.connection.command(&self.args, &*self.node, &mut self.requests);
                    self.parser.set_authenticated(self.connection.is_authenticated());
                }
                RequestParse::Invalid(error) => {
                    self.connection.protocol_error(&error.to_string());
                    return;
                }
            }
        }
    }

    /// Hands the requests to the event loop, all with one wake-up.
    fn submit(&mut self) {
        if self.requests.is_empty() {
            return;
        }
        let connection = self.connection.id();
        let requests = std::mem::take(&mut self.requests);
        let at = clock::now();
        self.node.events.send(Input::Requests { connection, requests, at });
    }

    fn write(&mut self) -> io::Result<()> {
        let output = self.connection.output();
        while !output.is_empty() {
            match self.stream.try_write(output) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => output.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
