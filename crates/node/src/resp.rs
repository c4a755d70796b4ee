//! The Redis port: accepting connections, and moving bytes between a socket and its
//! [`Connection`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use kontiki_replica::{Answer, Connection, Host, Request};
use kontiki_resp::{RequestParse, RequestParser};
use kontiki_types::{ClientId, GroupId};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::event_loop::Input;
use crate::registry::Outbox;
use crate::shared::Shared;

/// Bytes to read at the least into a connection's buffer at once.
const READ_BYTES: usize = 16 << 10;

/// Unwritten output from which on a connection is not read any more.
const OUTPUT_PAUSE_BYTES: usize = 1 << 20;

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
            let interest = match (reads, unwritten > 0) {
                (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
                (true, false) => Some(Interest::READABLE),
                (false, true) => Some(Interest::WRITABLE),
                (false, false) => None,
            };
            tokio::select! {
                ready = ready(&self.stream, interest) => {
                    let ready = ready?;
                    if ready.is_readable() && !self.read()? {
                        return Ok(());
                    }
                    if ready.is_writable() {
                        self.write()?;
                    }
                }
                () = self.outbox.arrived() => {
                    if !self.outbox.take(&mut self.answers) {
                        return Ok(());
                    }
                    for (ticket, answer) in self.answers.drain(..) {
                        self.connection.answer(ticket, answer, &*self.node, &mut self.requests);
                    }
                    // Commands that were parsed no further may be acceptable again.
                    self.parse();
                    self.write()?;
                }
            }
            self.submit();
        }
    }

    /// Reads what is there; `false` at the end of the stream.
    fn read(&mut self) -> io::Result<bool> {
        self.input.reserve(READ_BYTES);
        match self.stream.try_read_buf(&mut self.input) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
        self.parse();
        // Most replies of local commands fit the socket's buffer at once.
        self.write()?;
        Ok(true)
    }

    /// Takes every whole request out of the buffer that the connection accepts.
    fn parse(&mut self) {
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
        self.node.events.send(Input::Requests { group: GroupId(1), connection, requests });
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

async fn ready(stream: &TcpStream, interest: Option<Interest>) -> io::Result<tokio::io::Ready> {
    match interest {
        Some(interest) => stream.ready(interest).await,
        // Only an answer can bring the connection on.
        None => std::future::pending().await,
    }
}
