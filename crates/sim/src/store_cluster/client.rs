//! Clients: each holds a connection to some node, sends a call, and waits for all its replies
//! before the next.

use std::time::Duration;

use bytes::Bytes;
use kontiki_kv::{Body, Proposal};
use kontiki_resp::Reply;
use kontiki_types::{GroupId, Instant, LogTime, NodeId};

use kontiki_replica::{Answer, Ask, Caller, Target};

use super::node::Input;
use super::{Arrives, Event, GROUP, StoreCluster};

/// A client of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// One or more commands, sent together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    commands: Vec<Vec<Bytes>>,
}

impl Call {
    /// One command, given as words.
    pub fn new(words: &[&str]) -> Self {
        Self { commands: Vec::new() }.then(words)
    }

    /// Commands as they are.
    pub fn of(commands: Vec<Vec<Bytes>>) -> Self {
        Self { commands }
    }

    /// And another command.
    #[must_use]
    pub fn then(mut self, words: &[&str]) -> Self {
        let args = words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes()));
        self.commands.push(args.collect());
        self
    }
}

/// A call that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Whose.
    pub client: ClientId,
    /// The node that it was sent to.
    pub node: NodeId,
    /// When it was sent.
    pub asked: Instant,
    /// When the last reply arrived, or the connection was lost.
    pub at: Instant,
    /// The replies; fewer than commands if the connection was lost.
    pub replies: Vec<Reply>,
    /// When each reply arrived.
    pub times: Vec<Instant>,
    /// Whether all commands were answered.
    pub whole: bool,
}

impl Ended {
    /// The last reply, if all of them came.
    pub fn reply(&self) -> Option<&Reply> {
        self.replies.last().filter(|_| self.whole)
    }

    /// Whether the last command may have taken effect although nobody said so: the connection was
    /// lost, or the reply says that the outcome is unknown.
    pub fn is_unknown(&self) -> bool {
        match self.reply() {
            None => true,
            Some(Reply::Error(line)) => line.starts_with(b"UNKNOWN"),
            Some(_) => false,
        }
    }

    /// The error, if the last reply is one.
    pub fn error(&self) -> Option<String> {
        match self.reply()? {
            Reply::Error(line) => Some(String::from_utf8_lossy(line).into_owned()),
            _ => None,
        }
    }
}

pub(super) struct Client {
    pub(super) node: NodeId,
    pub(super) connection: Option<u64>,
    /// Grows with each connection, so that what belongs to an earlier one is known.
    pub(super) life: u64,
    pub(super) under_way: Option<UnderWay>,
    /// What goes either way on the connection arrives in order: not before these times.
    commands_at: Instant,
    replies_at: Instant,
}

pub(super) struct UnderWay {
    asked: Instant,
    wanted: usize,
    replies: Vec<Reply>,
    times: Vec<Instant>,
}

/// A request of somebody who keeps the session himself, as native clients do.
pub(super) struct Session {
    node: NodeId,
}

/// Such a request is over.
#[derive(Debug)]
pub struct Answered {
    /// What [`StoreCluster::ask`] gave.
    pub ticket: u64,
    /// The answer; `None` if the connection was lost.
    pub answer: Option<Answer>,
    /// When.
    pub at: Instant,
}

impl StoreCluster {
    /// A client of `node`.
    pub fn client(&mut self, node: NodeId) -> ClientId {
        let id = ClientId(self.clients.len() as u64 + 1);
        let (commands_at, replies_at) = (Instant(0), Instant(0));
        let (connection, under_way) = (None, None);
        let client = Client { node, connection, life: 0, under_way, commands_at, replies_at };
        self.clients.insert(id, client);
        id
    }

    /// The client turns to another node, on a new connection. What it waits for is not known to it
    /// any more.
    pub fn turn_to(&mut self, client: ClientId, node: NodeId) {
        if let Some(of) = self.clients.get_mut(&client) {
            let (old, connection) = (std::mem::replace(&mut of.node, node), of.connection.take());
            if let Some(connection) = connection {
                self.connections.remove(&(old, connection));
                self.at(old, |node| node.disconnect(connection));
            }
        }
        self.connection_lost(client);
    }

    /// Whether the client waits for nothing.
    pub fn is_free(&self, client: ClientId) -> bool {
        self.clients.get(&client).is_some_and(|client| client.under_way.is_none())
    }

    /// The client sends a call, on a new connection if it has none; `false` if it waits for another
    /// one, or its node is down.
    pub fn call(&mut self, client: ClientId, call: &Call) -> bool {
        let Some(of) = self.clients.get(&client) else { return false };
        if of.under_way.is_some() || !self.is_running(of.node) {
            return false;
        }
        let node = of.node;
        let connection = of.connection.or_else(|| self.connect(client, node));
        let Some(connection) = connection else { return false };
        let now = self.now;
        let Some(of) = self.clients.get_mut(&client) else { return false };
        of.under_way = Some(UnderWay {
            asked: now,
            wanted: call.commands.len(),
            replies: Vec::new(),
            times: Vec::new(),
        });
        let (life, commands) = (of.life, call.commands.clone());
        let mut arrives_at = self.client_passes(node) + self.random.time(CLIENT_MIN, CLIENT_MAX);
        let mut send = |commands, at| {
            let arrives = Arrives::Commands { node, connection, commands };
            self.schedule.add(at, Event::Client { client, life, arrives });
        };
        if commands.len() == 1 || self.random.chance(500) {
            send(commands, arrives_at);
            return true;
        }
        // In several segments, one behind the other.
        for command in commands {
            send(vec![command], arrives_at);
            arrives_at = arrives_at + self.random.time(Duration::from_micros(1), SEGMENT_MAX);
        }
        true
    }

    /// The calls that ended since this was last asked.
    pub fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    fn connect(&mut self, client: ClientId, node: NodeId) -> Option<u64> {
        let mut connection = None;
        self.at(node, |node| connection = Some(node.connect()));
        let connection = connection?;
        self.connections.insert((node, connection), client);
        let of = self.clients.get_mut(&client)?;
        of.connection = Some(connection);
        of.life += 1;
        (of.commands_at, of.replies_at) = (Instant(0), Instant(0));
        Some(connection)
    }

    /// Until when what a client has sent to `node` must wait: the node stands still, or what was
    /// sent earlier waits.
    pub(super) fn waits(&mut self, client: ClientId, life: u64, node: NodeId) -> Option<Instant> {
        let stands_still = self.stands_still(node);
        let of = self.clients.get_mut(&client).filter(|of| of.life == life)?;
        of.commands_at = of.commands_at.max(stands_still.unwrap_or(self.now));
        (of.commands_at > self.now).then_some(of.commands_at)
    }

    pub(super) fn client_event(&mut self, client: ClientId, life: u64, arrives: Arrives) {
        let Some(of) = self.clients.get_mut(&client).filter(|of| of.life == life) else { return };
        match arrives {
            Arrives::Commands { node, connection, commands } => {
                if of.connection != Some(connection) {
                    return;
                }
                self.at(node, |node| {
                    for args in commands {
                        node.command(connection, args);
                    }
                });
            }
            Arrives::Reply(reply) => {
                let Some(under_way) = &mut of.under_way else { return };
                under_way.replies.push(reply);
                under_way.times.push(self.now);
                if under_way.replies.len() == under_way.wanted {
                    self.end(client, true);
                }
            }
        }
    }

    pub(super) fn reply_leaves(&mut self, node: NodeId, client: ClientId, reply: Reply) {
        let passes = self.client_passes(node);
        let Some(of) = self.clients.get_mut(&client) else { return };
        let (life, arrives) = (of.life, Arrives::Reply(reply));
        // In order, as on a stream: the delay is the same for all.
        let arrives_at = of.replies_at.max(passes + CLIENT_MIN);
        of.replies_at = arrives_at;
        self.schedule.add(arrives_at, Event::Client { client, life, arrives });
    }

    /// From when on something passes between a node and its clients.
    fn client_passes(&self, node: NodeId) -> Instant {
        let until = self.nodes.get(&node).map_or(Instant(0), |node| node.clients_cut_until);
        until.max(self.now)
    }

    /// Asks a node on behalf of a session that the caller keeps; `None` if the node is down.
    pub fn ask(&mut self, node: NodeId, ask: Ask) -> Option<u64> {
        self.ask_of(Target::Group(GROUP), node, ask)
    }

    /// As [`StoreCluster::ask`], of some group.
    pub fn ask_of(&mut self, to: Target, node: NodeId, ask: Ask) -> Option<u64> {
        if !self.is_running(node) {
            return None;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.sessions.insert(ticket, Session { node });
        let arrives_at = self.client_passes(node) + self.random.time(CLIENT_MIN, CLIENT_MAX);
        self.schedule.add(arrives_at, Event::Ask { node, ticket, to, ask: Box::new(ask) });
        Some(ticket)
    }

    /// Whoever asked waits no longer.
    pub fn give_up(&mut self, ticket: u64) {
        self.sessions.remove(&ticket);
    }

    /// The requests that are over since this was last asked.
    pub fn take_answered(&mut self) -> Vec<Answered> {
        std::mem::take(&mut self.answered)
    }

    /// The log time that a running node tells its clients.
    pub fn log_time_of(&self, node: NodeId) -> Option<LogTime> {
        let log_time = self.nodes.get(&node)?.running.as_ref()?.core.latest_log_time();
        // As on a real node: before the first stamp the wall clock is the best guess.
        Some(if log_time == LogTime(0) { self.clocks(node).1 } else { log_time })
    }

    /// Where a native client sends a request: to the owner of its slot, or to the one group.
    pub fn target_of(&self, ask: &Ask) -> Target {
        if self.config.shards == 0 && self.ownership.configuration().is_none() {
            return Target::Group(GROUP);
        }
        let slot = match ask {
            Ask::Read(read) => read.slot(),
            Ask::Write(write) => match Proposal::decode(&write.proposal).map(|known| known.body) {
                Ok(Body::Write(request)) => Some(request.slot),
                _ => None,
            },
        };
        Target::Slot(slot.unwrap_or_default())
    }

    /// As [`StoreCluster::log_time_of`], of some group.
    pub fn log_time_in(&self, group: GroupId, node: NodeId) -> Option<LogTime> {
        let log_time = self.nodes.get(&node)?.running.as_ref()?.core.log_time(group);
        // As on a real node: before the first stamp the wall clock is the best guess.
        Some(if log_time == LogTime(0) { self.clocks(node).1 } else { log_time })
    }

    pub(super) fn ask_arrives(&mut self, node: NodeId, ticket: u64, to: Target, ask: Ask) {
        if !self.sessions.contains_key(&ticket) {
            return;
        }
        if let Some(at) = self.stands_still(node) {
            let ask = Box::new(ask);
            return self.schedule.add(at, Event::Ask { node, ticket, to, ask });
        }
        let caller = Caller { connection: 0, ticket };
        self.at(node, |node| node.input(Input::Request { to, caller, ask }));
    }

    pub(super) fn answer_leaves(&mut self, node: NodeId, ticket: u64, answer: Answer) {
        let arrives_at = self.client_passes(node) + CLIENT_MIN;
        self.schedule.add(arrives_at, Event::Answer { ticket, answer: Some(answer) });
    }

    pub(super) fn answer_arrives(&mut self, ticket: u64, answer: Option<Answer>) {
        if self.sessions.remove(&ticket).is_some() {
            self.answered.push(Answered { ticket, answer, at: self.now });
        }
    }

    /// The node went down: its connections break.
    pub(super) fn sessions_lost(&mut self, node: NodeId) {
        let lost = self.sessions.iter().filter(|(_, session)| session.node == node);
        for ticket in lost.map(|(&ticket, _)| ticket).collect::<Vec<_>>() {
            self.schedule.add(self.now + CLIENT_MIN, Event::Answer { ticket, answer: None });
        }
    }

    pub(super) fn connection_lost(&mut self, client: ClientId) {
        if let Some(of) = self.clients.get_mut(&client) {
            of.connection = None;
            // Replies on the way are lost with the connection.
            of.life += 1;
        }
        self.end(client, false);
    }

    fn end(&mut self, client: ClientId, whole: bool) {
        let Some(of) = self.clients.get_mut(&client) else { return };
        let Some(UnderWay { asked, replies, times, .. }) = of.under_way.take() else { return };
        let node = of.node;
        self.ended.push(Ended { client, node, asked, at: self.now, replies, times, whole });
    }
}

/// What a client sends at once may arrive in pieces that are so far apart.
const SEGMENT_MAX: Duration = Duration::from_millis(3);
const CLIENT_MIN: Duration = Duration::from_micros(20);
const CLIENT_MAX: Duration = Duration::from_micros(200);
