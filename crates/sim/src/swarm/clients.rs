//! The clients: some on connections, as Redis clients are, with pipelines and transactions; some
//! that keep a session of their own and send a write again, under the same stamp, until they hear
//! what became of it.
//!
//! Keys come in families (`{r0}x`), and no command touches two: so each family can be judged alone.

use std::time::Duration;

use bytes::Bytes;
use kontiki_kv::command::{Parsed, parse};
use kontiki_kv::{Proposal, Reply as StoreReply, WriteRequest};
use kontiki_replica::{Answer, Ask, Failure, RETENTION_MILLIS, SessionWrite};
use kontiki_resp::Reply;
use kontiki_types::{ClientId as Session, Incarnation, Instant, LogTime, NodeId, Seq};

use super::books::Books;
use super::{Alarm, Swarm};
use crate::history::{Operation, Outcome, Request};
use crate::invariants::{Checked, Violation};
use crate::random::Random;
use crate::store_cluster::{Answered, Call, ClientId, Ended};

/// A client.
pub(super) struct Client {
    random: Random,
    kind: Kind,
    node: NodeId,
    /// Grows with each call, so that an alarm of an earlier one is known.
    generation: u64,
    under_way: Option<UnderWay>,
    /// Calls until the next pause.
    burst: u64,
    /// Whether it mostly reads: such a client goes on where writers wait.
    reads: bool,
}

enum Kind {
    Connection(ClientId),
    Session(SessionState),
}

struct SessionState {
    id: Session,
    next: u64,
    /// When to give up on the call under way.
    give_up: Instant,
    ask: Option<Again>,
    ticket: u64,
}

/// What a session sends, again and again if need be.
#[derive(Clone)]
enum Again {
    Read(Vec<Bytes>),
    Write(SessionWrite),
}

struct UnderWay {
    requests: Vec<Request>,
    /// Replies that belong to the last request, if that is a transaction.
    extra: usize,
    at: Instant,
}

/// Between two calls of a burst.
const THINK: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(25));
/// Between two bursts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(5600));
/// How long a client waits on a connection before it turns to another node.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(400), Duration::from_millis(4000));
/// How long a session tries.
const SESSION_PATIENCE: Duration = Duration::from_secs(7);
/// How long a session waits before it tries elsewhere.
const SESSION_TRY: Duration = Duration::from_millis(900);
const BURST_MAX: u64 = 9;

impl Swarm {
    pub(super) fn make_clients(&mut self) {
        let (connections, sessions) = self.plan.clients;
        let nodes = self.cluster.node_ids();
        let mut random = Random::new(self.plan.seed);
        for at in 0..connections + sessions {
            let mut random = random.fork();
            let node = nodes[at % nodes.len()];
            let reads = random.chance(self.plan.reading.0);
            let kind = if at < connections {
                Kind::Connection(self.cluster.client(node))
            } else {
                let id = Session {
                    incarnation: Incarnation(random.number()),
                    boot: 0,
                    connection: at as u64,
                };
                let give_up = Instant(0);
                Kind::Session(SessionState { id, next: 1, give_up, ask: None, ticket: 0 })
            };
            self.clients.push(Client {
                random,
                kind,
                node,
                generation: 0,
                under_way: None,
                burst: 1,
                reads,
            });
            self.think(at);
        }
    }

    /// Whether no client waits for anything.
    pub(super) fn all_clients_idle(&self) -> bool {
        self.clients.iter().all(|client| client.under_way.is_none())
    }

    /// Something has happened: whoever waits between two bursts has a reason to ask at once.
    pub(super) fn wake_clients(&mut self) {
        for at in 0..self.clients.len() {
            let client = &mut self.clients[at];
            if client.under_way.is_none() && client.random.chance(600) {
                let most = if client.reads { BURST_MAX * 4 } else { BURST_MAX };
                client.burst = client.random.between(2, most);
                self.think(at);
            }
        }
    }

    /// The next call of a client comes after a while.
    fn think(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.burst = client.burst.saturating_sub(1);
        let (low, high) = if client.burst == 0 {
            client.burst = client.random.between(2, BURST_MAX);
            PAUSE
        } else {
            THINK
        };
        let wait = client.random.time(low, high);
        client.generation += 1;
        let generation = client.generation;
        self.set(self.cluster.now() + wait, Alarm::Client(at, generation));
    }

    /// A client's alarm: it calls, or has waited too long.
    pub(super) fn client_alarm(&mut self, at: usize, generation: u64) -> Checked {
        let client = &mut self.clients[at];
        if client.generation != generation {
            return Ok(());
        }
        if client.under_way.is_none() {
            if !self.is_serving {
                return Ok(());
            }
            self.call(at);
            return Ok(());
        }
        match &client.kind {
            Kind::Connection(id) => {
                let id = *id;
                let node = self.elsewhere(at);
                self.cluster.turn_to(id, node);
                Ok(())
            }
            Kind::Session(_) => self.session_again(at),
        }
    }

    fn call(&mut self, at: usize) {
        let now = self.cluster.now();
        let client = &mut self.clients[at];
        let is_read = client.reads && client.random.chance(self.plan.reading.1);
        match &mut client.kind {
            Kind::Connection(id) => {
                let id = *id;
                let (requests, extra) = if is_read {
                    (vec![Request::Command(Books::read(&mut client.random))], 0)
                } else {
                    self.books.next_call(&mut client.random)
                };
                let call = to_call(&requests);
                if self.cluster.call(id, &call) {
                    client.under_way = Some(UnderWay { requests, extra, at: now });
                    let wait = client.random.time(PATIENCE.0, PATIENCE.1);
                    client.generation += 1;
                    let alarm = Alarm::Client(at, client.generation);
                    self.set(now + wait, alarm);
                } else {
                    // The connection is refused.
                    let node = self.elsewhere(at);
                    self.cluster.turn_to(id, node);
                    self.clients[at].burst += 1;
                    self.think(at);
                }
            }
            Kind::Session(session) => {
                let command = if is_read {
                    Books::read(&mut client.random)
                } else {
                    self.books.next_command(&mut client.random)
                };
                let log_time = self.cluster.log_time_of(client.node).unwrap_or(LogTime(0));
                session.give_up = now + SESSION_PATIENCE;
                let ask = match parse(&command, 0) {
                    Ok(Parsed::Read(_)) | Err(_) => Again::Read(command.clone()),
                    Ok(Parsed::Write(write)) => {
                        let seq = Seq(session.next);
                        session.next += 1;
                        let mut bytes = Vec::new();
                        write.encode(&mut bytes);
                        let request = WriteRequest {
                            client: session.id,
                            seq,
                            low: seq,
                            deadline: LogTime(log_time.0 + RETENTION_MILLIS),
                            after: None,
                            slot: write.slot().unwrap_or_default(),
                            command: bytes.into(),
                        };
                        let proposal = Proposal::write(LogTime(0), request).to_bytes();
                        Again::Write(SessionWrite { client: session.id, seq, proposal })
                    }
                };
                session.ask = Some(ask);
                let requests = vec![Request::Command(command)];
                client.under_way = Some(UnderWay { requests, extra: 0, at: now });
                self.session_sends(at);
            }
        }
    }

    /// A session sends what it wants to the node it is at.
    fn session_sends(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Kind::Session(session) = &mut client.kind else { return };
        let ask = match &session.ask {
            Some(Again::Write(write)) => Some(Ask::Write(write.clone())),
            Some(Again::Read(command)) => match parse(command, 0) {
                Ok(Parsed::Read(read)) => Some(Ask::Read(read)),
                _ => None,
            },
            None => None,
        };
        let Some(ask) = ask else { return };
        let ticket = self.cluster.ask_of(self.cluster.target_of(&ask), client.node, ask);
        session.ticket = ticket.unwrap_or(0);
        client.generation += 1;
        let alarm = Alarm::Client(at, client.generation);
        let wait = if ticket.is_some() { SESSION_TRY } else { SESSION_TRY / 16 };
        if ticket.is_none() {
            self.elsewhere(at);
        }
        self.set(self.cluster.now() + wait, alarm);
    }

    /// A session that has no answer tries elsewhere, or gives up.
    fn session_again(&mut self, at: usize) -> Checked {
        let node = self.elsewhere(at);
        let now = self.cluster.now();
        let client = &mut self.clients[at];
        let Kind::Session(session) = &mut client.kind else { return Ok(()) };
        self.cluster.give_up(session.ticket);
        if now >= session.give_up {
            return self.session_ends(at, None);
        }
        client.node = node;
        self.session_sends(at);
        Ok(())
    }

    fn session_ends(&mut self, at: usize, reply: Option<Reply>) -> Checked {
        let now = self.cluster.now();
        let client = &mut self.clients[at];
        let Kind::Session(session) = &mut client.kind else { return Ok(()) };
        session.ask = None;
        let Some(UnderWay { requests, at: call, .. }) = client.under_way.take() else {
            return Ok(());
        };
        for request in requests {
            self.record(at, request, call, reply.clone(), now)?;
        }
        self.think(at);
        Ok(())
    }

    /// A session hears from a node.
    pub(super) fn session_hears(&mut self, answered: Answered) -> Checked {
        let waits = |client: &Client| match &client.kind {
            Kind::Session(session) => {
                client.under_way.is_some() && session.ticket == answered.ticket
            }
            Kind::Connection(_) => false,
        };
        let Some(at) = self.clients.iter().position(waits) else { return Ok(()) };
        match answered.answer {
            Some(Answer::Reply(reply)) => self.session_ends(at, Some(to_resp(reply))),
            Some(Answer::Failed(failure @ (Failure::NumberReused | Failure::TooLarge))) => {
                let seen = format!("client {at} is told {failure:?}");
                Err(Violation::new("Exactly once", seen))
            }
            // Whatever became of it, another attempt under the same stamp tells.
            Some(Answer::Failed(_)) | None => {
                let client = &mut self.clients[at];
                client.generation += 1;
                let alarm = Alarm::Client(at, client.generation);
                let wait = client.random.time(THINK.0, THINK.1 * 2);
                self.set(self.cluster.now() + wait, alarm);
                Ok(())
            }
        }
    }

    /// A call on a connection is over.
    pub(super) fn connection_hears(&mut self, ended: Ended) -> Checked {
        let is_it =
            |client: &Client| matches!(client.kind, Kind::Connection(id) if id == ended.client);
        let Some(at) = self.clients.iter().position(is_it) else { return Ok(()) };
        let client = &mut self.clients[at];
        let Some(UnderWay { requests, extra, at: call }) = client.under_way.take() else {
            return Ok(());
        };
        let last = requests.len() - 1;
        let (mut is_watched, mut read) = (false, None);
        for (place, request) in requests.into_iter().enumerate() {
            let place = if place == last { place + extra } else { place };
            let reply = ended.replies.get(place).cloned();
            if is_watch(&request) {
                is_watched = matches!(&reply, Some(Reply::Simple(ok)) if *ok == "OK");
                continue;
            }
            let (request, reply) = match read.take() {
                Some(read) => as_if_read_inside(request, reply, read),
                None => (request, reply),
            };
            if std::mem::take(&mut is_watched) {
                read = reply.clone().map(|value| (request.clone(), value));
            }
            let time = ended.times.get(place).copied().unwrap_or(ended.at);
            self.record(at, request, call, reply, time)?;
        }
        if !ended.whole {
            let node = self.elsewhere(at);
            if let Kind::Connection(id) = self.clients[at].kind {
                self.cluster.turn_to(id, node);
            }
        }
        self.think(at);
        Ok(())
    }

    /// Writes down what became of a request.
    pub(super) fn record(
        &mut self,
        client: usize,
        request: Request,
        call: Instant,
        reply: Option<Reply>,
        at: Instant,
    ) -> Checked {
        let outcome = Outcome::of(reply, at.0 * 1000);
        match outcome {
            Outcome::Known { .. } => self.completed += 1,
            Outcome::Refused { .. } => self.refused += 1,
            Outcome::Unknown => self.unknown += 1,
        }
        self.books.book(&request, &outcome)?;
        let call = call.0 * 1000;
        self.history.push(Operation { client: client as u64, request, call, outcome });
        Ok(())
    }

    /// Another node for a client, whether it runs or not.
    fn elsewhere(&mut self, at: usize) -> NodeId {
        let nodes = self.cluster.node_ids();
        let client = &mut self.clients[at];
        let node = client.random.pick(&nodes).copied().unwrap_or(client.node);
        client.node = node;
        node
    }
}

fn is_watch(request: &Request) -> bool {
    request.commands()[0][0] == "WATCH"
}

/// A transaction that took effect though it watched a key did so in a state in which that key still
/// had the value that was read after the WATCH: as if the transaction had begun with reading it.
fn as_if_read_inside(
    request: Request,
    reply: Option<Reply>,
    (read, value): (Request, Reply),
) -> (Request, Option<Reply>) {
    match (request, reply, read, value) {
        (
            Request::Transaction(mut commands),
            Some(Reply::Array(mut replies)),
            Request::Command(read),
            value @ (Reply::Bulk(_) | Reply::Null),
        ) => {
            commands.insert(0, read);
            replies.insert(0, value);
            (Request::Transaction(commands), Some(Reply::Array(replies)))
        }
        (request, reply, ..) => (request, reply),
    }
}

/// The commands of a call as they are sent; the last request may be a transaction.
fn to_call(requests: &[Request]) -> Call {
    let mut commands = Vec::new();
    for request in requests {
        match request {
            Request::Command(command) => commands.push(command.clone()),
            Request::Transaction(inner) => {
                commands.push(vec![Bytes::from_static(b"MULTI")]);
                commands.extend(inner.iter().cloned());
                commands.push(vec![Bytes::from_static(b"EXEC")]);
            }
        }
    }
    Call::of(commands)
}

/// A reply as a native client would see it.
fn to_resp(reply: StoreReply) -> Reply {
    match reply {
        StoreReply::Ok => Reply::Simple(Bytes::from_static(b"OK")),
        StoreReply::Simple(text) => Reply::Simple(Bytes::from_static(text.as_bytes())),
        StoreReply::Status(text) => Reply::Simple(text),
        StoreReply::Nil | StoreReply::NilArray => Reply::Null,
        StoreReply::Integer(number) => Reply::Integer(number),
        StoreReply::Bulk(bytes) | StoreReply::Verbatim(bytes) => Reply::Bulk(bytes),
        StoreReply::Array(parts) | StoreReply::Set(parts) => {
            Reply::Array(parts.into_iter().map(to_resp).collect())
        }
        StoreReply::Map(pairs) => {
            let parts = pairs.into_iter().flat_map(|(key, value)| [to_resp(key), to_resp(value)]);
            Reply::Array(parts.collect())
        }
        StoreReply::Error(line) => Reply::Error(line),
    }
}
