//! A client's connection: from parsed commands to requests, and from answers to bytes.
//!
//! Pure, like everything in this crate: the driver feeds it the commands that it parsed from the
//! socket and the answers that it got from the node, and writes out what [`Connection::output`]
//! holds. Replies leave in the order of the commands, whatever the order of the answers.
//!
//! Invariants
//! - At most one command is held back; while it is, no further one is accepted. So commands are
//!   submitted in the order sent.
//! - `queue` holds one item for every command accepted and not yet written out, tickets ascending
//!   without a gap: an item has one, or one for each part of its command.

mod cluster;
mod encode;
mod failure;
mod host;
mod local;
mod map;
mod order;
mod parts;
mod route;
mod transaction;

use std::collections::{BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use kontiki_kv::command::{Parsed, Read, Write, parse, unknown, wrong_arity};
use kontiki_kv::{KEY_BYTES_MAX, Proposal, Reply, WriteRequest, table};
use kontiki_types::{ClientId, GroupId, LogTime, Seq, Slot};

pub use failure::Failure;
pub use host::{ClientKind, Description, Host, KillFilter};
pub use local::COMPATIBLE_WITH;
pub(crate) use map::Encoded;
pub use route::Redirect;

use crate::atlas::Target;
use encode::Protocol;
use map::Map;
use order::{Reach, Sequence, Traffic};
use parts::Parts;
use route::Manners;

use crate::routed::Patience;
use transaction::Transaction;

/// How far in log time a write's completion record is kept at the least: longer than any client or
/// node goes on retrying (PROTOCOL 1). Half of what the state machine accepts, so that clocks that
/// disagree a little refuse nothing.
pub const RETENTION_MILLIS: u64 = 30_000;

/// What the unanswered commands of a connection may come to in replies, as far as one can tell.
/// So a client that asks for large values without reading them has few of them under way.
const REPLY_BUDGET_BYTES: usize = 32 << 20;

/// What is expected of the first replies: 64 of them at once.
const REPLY_BYTES_FIRST: usize = REPLY_BUDGET_BYTES / 64;

/// Limits of one connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Commands accepted and not yet answered; beyond it the connection is not read.
    pub pipeline: usize,
    /// Bytes of a write as it is logged; beyond it the command is refused.
    pub entry_bytes: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { pipeline: 1024, entry_bytes: 8 << 20 }
    }
}

/// What a connection wants of the node.
#[derive(Debug)]
pub struct Request {
    /// Names the request when it is answered: [`Connection::answer`].
    pub ticket: u64,
    /// Where it goes.
    pub to: Target,
    /// What to do.
    pub ask: Ask,
    /// How long it waits for a slot that stands still.
    pub patience: Patience,
}

/// The two kinds of requests.
#[derive(Debug)]
pub enum Ask {
    /// A linearizable read.
    Read(Read),
    /// A write, once.
    Write(SessionWrite),
}

/// A write with its place in its client's order, ready for the log but for the leader's stamp:
/// everything that makes it safe to send again.
#[derive(Clone, Debug)]
pub struct SessionWrite {
    /// The session.
    pub client: ClientId,
    /// Number of the write in the session.
    pub seq: Seq,
    /// The encoded [`Proposal`], its stamp zero.
    pub proposal: Bytes,
}

/// What the node answers.
#[derive(Debug)]
pub enum Answer {
    /// The command's reply.
    Reply(Reply),
    /// There is none, and this is why.
    Failed(Failure),
}

/// What an accepted command waits for.
#[derive(Debug)]
enum State {
    /// Nothing: its reply is known.
    Ready(Reply),
    /// A read that was submitted.
    Reading(Reach),
    /// A write that was submitted.
    Writing(Reach, Seq),
    /// A WATCH that was submitted: the keys.
    Watching(Vec<Bytes>),
    /// A command of which some parts were submitted.
    Gathering(Box<Parts>),
    /// Nothing: the bytes of its reply are known.
    Encoded(Bytes),
}

#[derive(Debug)]
struct Item {
    /// The first of its tickets.
    ticket: u64,
    state: State,
    protocol: Protocol,
    /// Under CLIENT REPLY OFF or SKIP: takes its turn, writes nothing.
    silent: bool,
}

/// A command that may not be submitted yet.
#[derive(Debug)]
enum Held {
    Data(Parsed, Target),
    Watch(Vec<Bytes>, Target),
    Exec(Vec<Parsed>, Target),
    /// A command in parts.
    Parts(Box<Parts>),
    /// WAIT: answered with this number once every earlier command is.
    Wait(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReplyMode {
    On,
    Off,
    SkipNext,
}

/// One client connection.
#[derive(Debug)]
pub struct Connection {
    id: u64,
    client: ClientId,
    limits: ConnectionLimits,
    sequence: Sequence,
    traffic: Traffic,
    queue: VecDeque<Item>,
    /// The next command's first ticket.
    next_ticket: u64,
    /// The command that may not be submitted yet, and whether it is silent.
    held: Option<(Held, bool)>,
    protocol: Protocol,
    reply_mode: ReplyMode,
    authenticated: bool,
    closing: bool,
    transaction: Option<Transaction>,
    watched: Vec<(Bytes, u64)>,
    manners: Manners,
    /// Groups that were written to, in a store that is sharded.
    written: BTreeSet<GroupId>,
    // Invariant: in `written`.
    last_written: Option<GroupId>,
    description: Description,
    output: BytesMut,
    /// How large a reply may well be: the largest of late, forgotten by and by. Never 0.
    reply_bytes: usize,
}

impl Connection {
    /// A connection that was just accepted. `client` is its session: never used before.
    /// `authenticated`: whether it may do anything without AUTH.
    pub fn new(id: u64, client: ClientId, authenticated: bool, limits: ConnectionLimits) -> Self {
        Self {
            id,
            client,
            limits,
            sequence: Sequence::default(),
            traffic: Traffic::default(),
            queue: VecDeque::new(),
            next_ticket: 0,
            held: None,
            protocol: Protocol::Resp2,
            reply_mode: ReplyMode::On,
            authenticated,
            closing: false,
            transaction: None,
            watched: Vec::new(),
            manners: Manners::default(),
            written: BTreeSet::new(),
            last_written: None,
            description: Description { protocol: 2, queued: -1, ..Description::default() },
            output: BytesMut::new(),
            reply_bytes: REPLY_BYTES_FIRST,
        }
    }

    /// Number of the connection on its node, as CLIENT ID shows it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The session of the connection's writes.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// Whether [`Connection::command`] may be called. False while a command is held back, the
    /// pipeline is full, a WATCH is unanswered or the connection closes: stop reading, so that the client waits.
    pub fn accepts(&self) -> bool {
        let watching = matches!(self.queue.back(), Some(Item { state: State::Watching(_), .. }));
        let first = self.queue.front().map_or(self.next_ticket, |item| item.ticket);
        let has_room = self.next_ticket - first < self.limits.pipeline as u64
            && self.queue.len() < (REPLY_BUDGET_BYTES / self.reply_bytes).max(1);
        !self.closing && self.held.is_none() && !watching && has_room
    }

    /// Whether the connection may use more than the limits for strangers.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// Whether to close once [`Connection::output`] is written out and nothing is unanswered.
    pub fn is_finished(&self) -> bool {
        self.closing && self.queue.is_empty()
    }

    /// Whether every command that was accepted is answered.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.held.is_none()
    }

    /// Whether the client has begun what it would have to begin anew on another connection: MULTI, or
    /// WATCH.
    pub fn is_in_transaction(&self) -> bool {
        self.transaction.is_some() || !self.watched.is_empty()
    }

    /// Bytes to write to the socket, in order. The caller takes them.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Accepts one command, and adds what it needs of the node to `requests`.
    ///
    /// # Panics
    /// If the connection does not accept one ([`Connection::accepts`]).
    pub fn command(&mut self, args: &[Bytes], host: &dyn Host, requests: &mut Vec<Request>) {
        assert!(self.accepts(), "a command was given to a connection that accepts none");
        if args.is_empty() {
            return;
        }
        let was_off = self.reply_mode == ReplyMode::Off;
        let silent = match self.reply_mode {
            ReplyMode::On => false,
            ReplyMode::Off => true,
            ReplyMode::SkipNext => {
                self.reply_mode = ReplyMode::On;
                true
            }
        };
        match self.interpret(args, host) {
            Step::Silent => {}
            Step::Reply(reply) => {
                // An unmuting command is answered itself.
                let unmuted = was_off && self.reply_mode == ReplyMode::On;
                let silent = silent && !unmuted;
                self.push(State::Ready(reply), silent);
            }
            Step::Map(map) => {
                let bytes = map::encoded(map, &host.atlas(), host.node_id(), self.protocol);
                self.push(State::Encoded(bytes), silent);
            }
            Step::Hold(held) => {
                self.held = Some((held, silent));
                self.submit_held(host, requests);
            }
        }
        self.write_out();
    }

    /// A protocol error: the client gets the line, and then the connection closes.
    pub fn protocol_error(&mut self, line: &str) {
        self.push(State::Ready(error(line)), false);
        self.closing = true;
        self.write_out();
    }

    /// Takes the answer to the request with this ticket. Answers to tickets that are not waiting
    /// are ignored.
    pub fn answer(
        &mut self,
        ticket: u64,
        answer: Answer,
        host: &dyn Host,
        requests: &mut Vec<Request>,
    ) {
        let position = self.queue.partition_point(|item| item.ticket <= ticket);
        let Some(item) = position.checked_sub(1).and_then(|at| self.queue.get_mut(at)) else {
            return;
        };
        let first = item.ticket;
        // A ready item keeps its reply: a late second answer changes nothing.
        let state = std::mem::replace(&mut item.state, State::Ready(Reply::Nil));
        let state = match state {
            state @ (State::Ready(_) | State::Encoded(_)) => state,
            State::Reading(reach) => {
                self.traffic.read_ends(reach);
                State::Ready(reply_of(answer))
            }
            State::Writing(reach, seq) => {
                self.traffic.write_ends(reach);
                self.sequence.answered(seq);
                State::Ready(reply_of(answer))
            }
            State::Watching(keys) => {
                self.traffic.read_ends(Reach::Wide);
                State::Ready(self.watch_answered(keys, reply_of(answer)))
            }
            State::Gathering(mut parts) => {
                self.part_answered(&mut parts, (ticket - first) as usize, answer, host);
                self.submit_parts(parts, first, host, requests)
            }
        };
        if let Some(item) = self.queue.get_mut(position - 1) {
            item.state = state;
        }
        if self.held.is_some() {
            // The held command was accepted last, so its item is not in the queue yet.
            self.submit_held(host, requests);
        }
        self.write_out();
    }

    /// Executes a command against the connection itself, or says what it needs.
    fn interpret(&mut self, args: &[Bytes], host: &dyn Host) -> Step {
        let name = &args[0];
        let Some(entry) = table::lookup(name) else {
            return self.reject(unknown(args));
        };
        if !entry.accepts(args.len()) {
            return self.reject(wrong_arity(entry.name));
        }
        self.description.last_command = entry.name;
        if !self.authenticated && !matches!(entry.name, "auth" | "hello" | "quit" | "reset") {
            return Step::Reply(error("NOAUTH Authentication required."));
        }
        self.learn_manners(host);
        if self.transaction.is_some() {
            return self.in_transaction(entry.name, args, host);
        }
        match entry.name {
            "multi" => {
                self.transaction = Some(Transaction::default());
                self.description.queued = 0;
                Step::Reply(Reply::Ok)
            }
            "exec" => Step::Reply(error("ERR EXEC without MULTI")),
            "discard" => Step::Reply(error("ERR DISCARD without MULTI")),
            "watch" => self.route_watch(&args[1..], host),
            "unwatch" => {
                self.watched.clear();
                Step::Reply(Reply::Ok)
            }
            name if local::is_local(name) => self.local(name, args, host),
            _ => match parse_bounded(args, host) {
                Ok(command) => self.route(command, host),
                Err(reply) => Step::Reply(reply),
            },
        }
    }

    /// Submits the held command if the ones under way allow it.
    fn submit_held(&mut self, host: &dyn Host, requests: &mut Vec<Request>) {
        let may = match self.held.as_ref().map(|(held, _)| held) {
            None => return,
            Some(Held::Data(command @ Parsed::Read(_), _)) => {
                self.traffic.may_read(Reach::of(command))
            }
            Some(Held::Data(command @ Parsed::Write(_), _)) => {
                self.traffic.may_write(Reach::of(command))
            }
            Some(Held::Watch(..)) => self.traffic.may_read(Reach::Wide),
            Some(Held::Parts(parts)) if parts.is_write() => self.traffic.may_write(Reach::Wide),
            Some(Held::Parts(_)) => self.traffic.may_read(Reach::Wide),
            Some(Held::Exec(..) | Held::Wait(_)) => self.traffic.is_idle(),
        };
        if !may {
            return;
        }
        let Some((held, silent)) = self.held.take() else { return };
        let (state, to, ask) = match held {
            Held::Data(command, to) => {
                let reach = Reach::of(&command);
                match command {
                    Parsed::Read(read) => {
                        self.traffic.read_begins(reach);
                        (State::Reading(reach), to, Ask::Read(read))
                    }
                    Parsed::Write(write) => match self.number_in_order(&write, reach, host) {
                        Ok(write) => (State::Writing(reach, write.seq), to, Ask::Write(write)),
                        Err(refusal) => return self.push(State::Ready(refusal), silent),
                    },
                }
            }
            Held::Watch(keys, to) => {
                self.traffic.read_begins(Reach::Wide);
                let read = Read::Versions { keys: keys.clone() };
                (State::Watching(keys), to, Ask::Read(read))
            }
            Held::Exec(commands, to) => {
                let watched = std::mem::take(&mut self.watched);
                let write = Write::Exec { watched, commands };
                match self.number_in_order(&write, Reach::Wide, host) {
                    Ok(write) => (State::Writing(Reach::Wide, write.seq), to, Ask::Write(write)),
                    Err(refusal) => return self.push(State::Ready(refusal), silent),
                }
            }
            Held::Parts(parts) => {
                if parts.is_write() {
                    // Nothing else of this connection is under way meanwhile, so that no part has a
                    // write before it to name.
                    self.traffic.write_begins(Reach::Wide, Seq(0));
                } else {
                    self.traffic.read_begins(Reach::Wide);
                }
                let tickets = parts.len().max(1) as u64;
                let state = self.submit_parts(parts, self.next_ticket, host, requests);
                return self.push_with(state, tickets, silent);
            }
            Held::Wait(replicas) => {
                return self.push(State::Ready(Reply::Integer(replicas)), silent);
            }
        };
        let patience = self.patience();
        requests.push(Request { ticket: self.next_ticket, to, ask, patience });
        self.push(state, silent);
    }

    /// Submits the parts that may be under way, and says what the command waits for then. The first
    /// part has the ticket `first`.
    fn submit_parts(
        &mut self,
        mut parts: Box<Parts>,
        first: u64,
        host: &dyn Host,
        requests: &mut Vec<Request>,
    ) -> State {
        while let Some((place, command, to)) = parts.next() {
            let ask = match command {
                Parsed::Read(read) => Ask::Read(read),
                Parsed::Write(write) => match self.number(&write, write.home_slot(), None, host) {
                    Ok(write) => {
                        parts.numbered(place, write.seq);
                        Ask::Write(write)
                    }
                    Err(refusal) => {
                        parts.answered(place);
                        parts.came_to(place, refusal, &host.atlas());
                        continue;
                    }
                },
            };
            // What is in parts is not for the client to send again: some may be done.
            let patience = Patience::Whole;
            requests.push(Request { ticket: first + place as u64, to, ask, patience });
        }
        if !parts.is_done() {
            return State::Gathering(parts);
        }
        if parts.is_write() {
            self.traffic.write_ends(Reach::Wide);
        } else {
            self.traffic.read_ends(Reach::Wide);
        }
        State::Ready(parts.finish())
    }

    fn part_answered(&mut self, parts: &mut Parts, place: usize, answer: Answer, host: &dyn Host) {
        let Some(seq) = parts.answered(place) else { return };
        if let Some(seq) = seq {
            self.sequence.answered(seq);
        }
        match answer {
            Answer::Reply(reply) => parts.came_to(place, reply, &host.atlas()),
            Answer::Failed(why) => parts.failed(why.line().as_bytes(), !why.was_not_applied()),
        }
    }

    /// Gives a write its place in the session, behind the one before it on its slot.
    fn number_in_order(
        &mut self,
        write: &Write,
        reach: Reach,
        host: &dyn Host,
    ) -> Result<SessionWrite, Reply> {
        let slot = reach.slot().or_else(|| write.slot()).unwrap_or_default();
        self.number(write, slot, Some(reach), host)
    }

    /// Gives a write its place in the session. `reach`: where it is under way from now on.
    fn number(
        &mut self,
        write: &Write,
        slot: Slot,
        reach: Option<Reach>,
        host: &dyn Host,
    ) -> Result<SessionWrite, Reply> {
        let mut command = Vec::with_capacity(64);
        write.encode(&mut command);
        if command.len() > self.limits.entry_bytes {
            return Err(error(&format!(
                "ERR the command needs {} bytes in the log, more than max-entry-bytes {}",
                command.len(),
                self.limits.entry_bytes
            )));
        }
        let seq = self.sequence.next();
        let request = WriteRequest {
            client: self.client,
            seq,
            low: self.sequence.low(),
            deadline: LogTime(host.log_time().0.saturating_add(RETENTION_MILLIS)),
            after: reach.and_then(|reach| self.traffic.write_begins(reach, seq)),
            slot,
            command: command.into(),
        };
        let proposal = Proposal::write(LogTime(0), request).to_bytes();
        Ok(SessionWrite { client: self.client, seq, proposal })
    }

    fn push(&mut self, state: State, silent: bool) {
        self.push_with(state, 1, silent);
    }

    fn push_with(&mut self, state: State, tickets: u64, silent: bool) {
        let ticket = self.next_ticket;
        self.next_ticket += tickets;
        self.queue.push_back(Item { ticket, state, protocol: self.protocol, silent });
    }

    /// Encodes the replies at the front of the queue that are known.
    fn write_out(&mut self) {
        while let Some(Item { state, protocol, silent, .. }) = self.queue.front() {
            let before = self.output.len();
            match state {
                State::Ready(_) | State::Encoded(_) if *silent => {}
                State::Ready(reply) => encode::reply(reply, *protocol, &mut self.output),
                State::Encoded(bytes) => self.output.extend_from_slice(bytes),
                _ => return,
            }
            let bytes = (self.output.len() - before).min(REPLY_BUDGET_BYTES);
            self.reply_bytes = bytes.max(self.reply_bytes / 8 * 7).max(1);
            self.queue.pop_front();
        }
    }

    /// A command that is wrong in itself; inside MULTI it also spoils the transaction.
    fn reject(&mut self, reply: Reply) -> Step {
        if let Some(transaction) = &mut self.transaction {
            transaction.spoil();
        }
        Step::Reply(reply)
    }
}

/// What a command led to.
enum Step {
    Reply(Reply),
    /// CLIENT REPLY OFF and SKIP: no reply at all.
    Silent,
    /// The map of slots, from what is kept of it.
    Map(Map),
    Hold(Held),
}

/// A data command from its arguments, if its keys are not too long.
fn parse_bounded(args: &[Bytes], host: &dyn Host) -> Result<Parsed, Reply> {
    let parsed = parse(args, host.random())?;
    match parsed.keys().iter().map(|key| key.len()).max() {
        Some(longest) if longest > KEY_BYTES_MAX => Err(error(&format!(
            "ERR a key has {longest} bytes, more than the limit of {KEY_BYTES_MAX}"
        ))),
        _ => Ok(parsed),
    }
}

fn reply_of(answer: Answer) -> Reply {
    match answer {
        Answer::Reply(reply) => reply,
        Answer::Failed(failure) => error(failure.line()),
    }
}

fn error(line: &str) -> Reply {
    Reply::Error(Bytes::copy_from_slice(line.as_bytes()))
}

#[cfg(test)]
mod tests;
