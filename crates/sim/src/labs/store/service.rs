//! A cluster with clerks: clients that keep their session and ask until they are answered, as the
//! native client does. They speak in Redis commands.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use kontiki_kv::command::{Parsed, Read, Write, parse};
use kontiki_kv::{Proposal, Reply, WriteRequest};
use kontiki_replica::{Answer, Ask, ChangeKind, RETENTION_MILLIS, SessionWrite, Target};
use kontiki_storage::disk::Crash;
use kontiki_types::{ClientId, Incarnation, Instant, LogTime, NodeId, Seq};

use crate::invariants::{Checked, Violation};
use crate::labs::fails;
use crate::network::Quality;
use crate::store_cluster::{Ended, StoreCluster, StoreConfig, Woken};

/// One of the clerks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::labs) struct Clerk(usize);

impl Clerk {
    pub(in crate::labs) fn number(self) -> u64 {
        self.0 as u64
    }
}

/// What a scenario waits for.
#[derive(Debug)]
pub(in crate::labs) enum Event {
    /// A clerk has its answer.
    Done(Done),
    /// It is time for what was set by [`Service::wake`].
    Wake(u64),
}

/// A call that is over.
#[derive(Debug)]
pub(in crate::labs) struct Done {
    pub(in crate::labs) clerk: Clerk,
    pub(in crate::labs) command: Parsed,
    pub(in crate::labs) reply: Reply,
    pub(in crate::labs) asked: Instant,
    pub(in crate::labs) at: Instant,
    /// How often it was sent.
    pub(in crate::labs) attempts: u64,
}

/// See the module.
pub(in crate::labs) struct Service {
    pub(in crate::labs) cluster: StoreCluster,
    clerks: Vec<State>,
    /// Whose call a ticket of the cluster is.
    tickets: BTreeMap<u64, usize>,
    done: VecDeque<Done>,
    ended: Vec<Ended>,
    is_lossy: bool,
}

struct State {
    id: ClientId,
    seq: u64,
    /// The log time that was last heard, and when.
    heard: Option<(LogTime, Instant)>,
    nodes: Vec<NodeId>,
    turn: usize,
    call: Option<Call>,
    alarms: u64,
}

struct Call {
    command: Parsed,
    /// Where it goes, if not to where its slot is.
    to: Option<Target>,
    /// The write with its stamp, once it has one.
    write: Option<SessionWrite>,
    asked: Instant,
    ticket: Option<u64>,
    /// The answer to this attempt will be lost.
    loses_answer: bool,
    attempts: u64,
}

impl Service {
    pub(in crate::labs) fn new(config: StoreConfig, seed: u64) -> Self {
        Self {
            cluster: StoreCluster::new(config, seed),
            clerks: Vec::new(),
            tickets: BTreeMap::new(),
            done: VecDeque::new(),
            ended: Vec::new(),
            is_lossy: false,
        }
    }

    /// From here on the network is unreliable, also for clerks: of their requests a tenth is lost,
    /// and of the answers, too.
    pub(in crate::labs) fn make_unreliable(&mut self) {
        self.cluster.network().set_quality(Quality::unreliable());
        self.is_lossy = true;
    }

    /// The network is good again.
    pub(in crate::labs) fn make_reliable(&mut self) {
        self.cluster.network().set_quality(Quality::good());
        self.is_lossy = false;
    }

    /// A clerk that asks all nodes in turn.
    pub(in crate::labs) fn clerk(&mut self) -> Clerk {
        let nodes = self.cluster.node_ids();
        self.clerk_of(&nodes)
    }

    /// A clerk that reaches these nodes only.
    pub(in crate::labs) fn clerk_of(&mut self, nodes: &[NodeId]) -> Clerk {
        let random = self.cluster.random();
        let id = ClientId {
            incarnation: Incarnation(random.number().max(1)),
            boot: 0,
            connection: self.clerks.len() as u64,
        };
        let turn = random.below(nodes.len() as u64) as usize;
        let nodes = nodes.to_vec();
        let state = State { id, seq: 0, heard: None, nodes, turn, call: None, alarms: 0 };
        self.clerks.push(state);
        Clerk(self.clerks.len() - 1)
    }

    /// The clerk turns to these nodes.
    pub(in crate::labs) fn turn_to(&mut self, clerk: Clerk, nodes: &[NodeId]) {
        let state = &mut self.clerks[clerk.0];
        state.nodes = nodes.to_vec();
        state.turn = 0;
    }

    /// Whether the clerk waits for an answer.
    pub(in crate::labs) fn is_busy(&self, clerk: Clerk) -> bool {
        self.clerks[clerk.0].call.is_some()
    }

    /// The clerk asks; its answer is an [`Event`].
    ///
    /// # Errors
    /// That is no command.
    pub(in crate::labs) fn begin(&mut self, clerk: Clerk, words: &[&[u8]]) -> Checked {
        let words: Vec<Bytes> = words.iter().map(|word| Bytes::copy_from_slice(word)).collect();
        match parse(&words, 0) {
            Ok(command) => self.begin_command(clerk, command),
            Err(reply) => return fails(format!("{words:?}: {reply:?}")),
        }
        Ok(())
    }

    /// The same for a command that Redis does not have.
    pub(in crate::labs) fn begin_command(&mut self, clerk: Clerk, command: Parsed) {
        self.begin_at(clerk, command, None);
    }

    /// The same, asked of this group.
    pub(in crate::labs) fn begin_at(&mut self, clerk: Clerk, command: Parsed, to: Option<Target>) {
        assert!(!self.is_busy(clerk), "a clerk asks one thing at a time");
        let call = Call {
            command,
            to,
            write: None,
            asked: self.cluster.now(),
            ticket: None,
            loses_answer: false,
            attempts: 0,
        };
        self.clerks[clerk.0].call = Some(call);
        self.attempt(clerk.0);
    }

    /// The clerk waits no longer. Its command may yet take effect.
    pub(in crate::labs) fn abandon(&mut self, clerk: Clerk) {
        if let Some(ticket) = self.clerks[clerk.0].call.take().and_then(|call| call.ticket) {
            self.cluster.give_up(ticket);
            self.tickets.remove(&ticket);
        }
    }

    /// Wakes the scenario after `time`.
    pub(in crate::labs) fn wake(&mut self, time: Duration, name: u64) {
        self.cluster.alarm(self.cluster.now() + time, SCENARIO | name);
    }

    /// The next event, if one happens by `end`.
    ///
    /// # Errors
    /// The cluster violated a property.
    pub(in crate::labs) fn next(&mut self, end: Instant) -> Result<Option<Event>, Violation> {
        loop {
            if let Some(done) = self.done.pop_front() {
                return Ok(Some(Event::Done(done)));
            }
            match self.cluster.wait(end)? {
                None => return Ok(None),
                Some(Woken::Alarm(name)) if name & SCENARIO != 0 => {
                    return Ok(Some(Event::Wake(name & !SCENARIO)));
                }
                Some(Woken::Alarm(name)) => self.patience_is_over(name),
                Some(Woken::Something) => {
                    for answered in self.cluster.take_answered() {
                        if let Some(clerk) = self.tickets.remove(&answered.ticket) {
                            self.answered(clerk, answered.answer)?;
                        }
                    }
                    self.ended.append(&mut self.cluster.take_ended());
                    self.cluster.take_changed();
                    self.cluster.take_exited();
                }
            }
        }
    }

    /// Lets time pass. Nothing that a scenario waits for may happen.
    ///
    /// # Errors
    /// As [`Service::next`]; or something happened.
    pub(in crate::labs) fn run(&mut self, time: Duration) -> Checked {
        let end = self.cluster.now() + time;
        match self.next(end)? {
            None => Ok(()),
            Some(event) => fails(format!("{event:?} is not expected yet")),
        }
    }

    /// Lets nodes put their logs in order: they look at their sizes four times a second.
    ///
    /// # Errors
    /// As [`Service::next`]; or a call is still under way.
    pub(in crate::labs) fn settle(&mut self) -> Checked {
        let end = self.cluster.now() + Duration::from_millis(600);
        while let Some(event) = self.next(end)? {
            if let Event::Done(done) = event {
                return fails(format!("{done:?} is not expected yet"));
            }
        }
        Ok(())
    }

    /// The calls of connections that are over since this was last asked.
    pub(in crate::labs) fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// There is none within a minute.
    pub(in crate::labs) fn ask(
        &mut self,
        clerk: Clerk,
        words: &[&str],
    ) -> Result<Reply, Violation> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.begin(clerk, &words)?;
        Ok(self.finish(clerk)?.reply)
    }

    /// The same for a command that Redis does not have.
    ///
    /// # Errors
    /// There is none within a minute.
    pub(in crate::labs) fn ask_command(
        &mut self,
        clerk: Clerk,
        command: Parsed,
    ) -> Result<Reply, Violation> {
        self.begin_command(clerk, command);
        Ok(self.finish(clerk)?.reply)
    }

    /// Waits for the answer to what the clerk has asked.
    ///
    /// # Errors
    /// There is none within a minute.
    pub(in crate::labs) fn finish(&mut self, clerk: Clerk) -> Result<Done, Violation> {
        let end = self.cluster.now() + PATIENCE;
        loop {
            match self.next(end)? {
                Some(Event::Done(done)) if done.clerk == clerk => return Ok(done),
                Some(Event::Done(done)) => {
                    return fails(format!("{done:?} is not expected yet"));
                }
                Some(Event::Wake(_)) => {}
                None => {
                    let command = self.clerks[clerk.0].call.as_ref().map(|call| &call.command);
                    return fails(format!("{command:?} is not answered within {PATIENCE:?}"));
                }
            }
        }
    }

    /// The string at `key`; empty if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub(in crate::labs) fn get(&mut self, clerk: Clerk, key: &str) -> Result<Bytes, Violation> {
        match self.ask(clerk, &["GET", key])? {
            Reply::Bulk(value) => Ok(value),
            Reply::Nil => Ok(Bytes::new()),
            other => fails(format!("GET {key} is answered by {other:?}")),
        }
    }

    /// Who leads, within 5 s.
    ///
    /// # Errors
    /// Nobody does.
    pub(in crate::labs) fn leader(&mut self) -> Result<NodeId, Violation> {
        let end = self.cluster.now() + Duration::from_secs(5);
        if !self.cluster.run_until(end, |cluster| cluster.leader().is_some())? {
            return fails("nobody leads after 5 s".to_owned());
        }
        self.cluster.leader().map_or_else(|| fails("nobody leads".to_owned()), Ok)
    }

    /// The power of all nodes fails.
    pub(in crate::labs) fn crash_all(&mut self) {
        for node in self.cluster.node_ids() {
            self.crash(node);
        }
    }

    /// The power of a node fails, in one way or another.
    pub(in crate::labs) fn crash(&mut self, node: NodeId) {
        let random = self.cluster.random();
        let crash = match random.below(3) {
            0 => Crash::LoseAll,
            1 => Crash::Kill(random.number()),
            _ => Crash::Seed(random.number()),
        };
        self.cluster.crash(node, crash);
    }

    /// All nodes run again.
    ///
    /// # Errors
    /// One refuses.
    pub(in crate::labs) fn start_all(&mut self) -> Checked {
        for node in self.cluster.node_ids() {
            self.start(node)?;
        }
        Ok(())
    }

    /// A node runs again.
    ///
    /// # Errors
    /// It refuses.
    pub(in crate::labs) fn start(&mut self, node: NodeId) -> Checked {
        self.cluster.start(node).or_else(fails)
    }

    /// Changes the membership, asking until it is done. Time passes by `idle`.
    ///
    /// # Errors
    /// It is not done within half a minute.
    pub(in crate::labs) fn change(
        &mut self,
        kind: ChangeKind,
        mut idle: impl FnMut(&mut Self, Duration) -> Checked,
    ) -> Checked {
        let end = self.cluster.now() + Duration::from_secs(30);
        while self.cluster.now() < end {
            if let Some(leader) = self.cluster.leader() {
                let ticket = self.cluster.change(leader, kind);
                while self.cluster.changed(ticket).is_none()
                    && self.cluster.is_running(leader)
                    && self.cluster.now() < end
                {
                    idle(self, Duration::from_millis(10))?;
                }
                if matches!(self.cluster.changed(ticket), Some(Ok(()))) {
                    return Ok(());
                }
            }
            idle(self, Duration::from_millis(50))?;
        }
        fails(format!("{kind:?} does not succeed"))
    }

    /// A node loses its disk: it is formatted, and takes the place of the member that it was.
    ///
    /// # Errors
    /// It starts without being formatted, or cannot be added again.
    pub(in crate::labs) fn lose_disk(
        &mut self,
        node: NodeId,
        mut idle: impl FnMut(&mut Self, Duration) -> Checked,
    ) -> Checked {
        self.wipe(node)?;
        self.change(ChangeKind::Remove(node), &mut idle)?;
        let incarnation = self.cluster.incarnation(node);
        self.change(ChangeKind::Add(node, incarnation), &mut idle)
    }

    /// A node loses its disk, and runs again with an empty one.
    ///
    /// # Errors
    /// It starts without being formatted.
    pub(in crate::labs) fn wipe(&mut self, node: NodeId) -> Checked {
        self.crash(node);
        self.cluster.wipe(node);
        if self.cluster.start(node).is_ok() {
            return fails(format!("{node} starts with an empty disk as if it were the first time"));
        }
        self.cluster.format(node).or_else(fails)?;
        self.start(node)
    }

    /// Sends the call of a clerk, for the first time or again.
    fn attempt(&mut self, at: usize) {
        let state = &mut self.clerks[at];
        let node = state.nodes[state.turn % state.nodes.len()];
        let Some(call) = &mut state.call else { return };
        call.attempts += 1;
        let now = self.cluster.now();
        // What is known of the log time grows old: a deadline made from it would be over too soon.
        let log_time = state.heard.filter(|(_, when)| now.since(*when) < HEARD_FOR);
        let ask = match (&call.command, &call.write, log_time) {
            (Parsed::Read(read), _, _) => Ask::Read(read.clone()),
            (Parsed::Write(_), Some(write), _) => Ask::Write(write.clone()),
            // As a native client opens its session.
            (Parsed::Write(_), None, None) => Ask::Read(Read::Exists { keys: Vec::new() }),
            (Parsed::Write(write), None, Some((log_time, _))) => {
                state.seq += 1;
                let write = stamp(write, state.id, Seq(state.seq), log_time);
                call.write = Some(write.clone());
                Ask::Write(write)
            }
        };
        let loses = self.is_lossy && self.cluster.random().chance(100);
        let Some(call) = &mut self.clerks[at].call else { return };
        call.loses_answer = false;
        let patience = if loses {
            LOST
        } else {
            let to = call.to.unwrap_or_else(|| self.cluster.target_of(&ask));
            call.ticket = self.cluster.ask_of(to, node, ask);
            match call.ticket {
                Some(ticket) => {
                    self.tickets.insert(ticket, at);
                    call.loses_answer = self.is_lossy && self.cluster.random().chance(100);
                    ATTEMPT
                }
                None => LOST,
            }
        };
        self.wait(at, patience);
    }

    /// The clerk tries again after a while.
    fn later(&mut self, at: usize) {
        self.wait(at, LOST);
    }

    fn wait(&mut self, at: usize, time: Duration) {
        let state = &mut self.clerks[at];
        state.alarms += 1;
        let name = (at as u64) << 32 | (state.alarms & 0xffff_ffff);
        self.cluster.alarm(self.cluster.now() + time, name);
    }

    fn patience_is_over(&mut self, name: u64) {
        let (at, number) = ((name >> 32) as usize, name & 0xffff_ffff);
        if self.clerks[at].alarms & 0xffff_ffff == number {
            self.again(at);
        }
    }

    /// The clerk tries another node.
    fn again(&mut self, at: usize) {
        let state = &mut self.clerks[at];
        let Some(call) = &mut state.call else { return };
        if let Some(ticket) = call.ticket.take() {
            self.cluster.give_up(ticket);
            self.tickets.remove(&ticket);
        }
        state.turn += 1;
        self.attempt(at);
    }

    fn answered(&mut self, at: usize, answer: Option<Answer>) -> Checked {
        let now = self.cluster.now();
        let state = &mut self.clerks[at];
        let node = state.nodes[state.turn % state.nodes.len()];
        let Some(call) = &mut state.call else { return Ok(()) };
        call.ticket = None;
        if call.loses_answer {
            self.later(at);
            return Ok(());
        }
        let Some(Answer::Reply(reply)) = answer else {
            if call.write.is_some()
                && now.since(call.asked) > Duration::from_millis(RETENTION_MILLIS)
            {
                return fails(format!("nobody knows any more what became of {:?}", call.command));
            }
            self.later(at);
            return Ok(());
        };
        if let Some(log_time) = self.cluster.log_time_of(node) {
            state.heard = Some((log_time, now));
        }
        if matches!((&call.command, &call.write), (Parsed::Write(_), None)) {
            self.attempt(at);
            return Ok(());
        }
        let Some(Call { command, asked, attempts, .. }) = state.call.take() else { return Ok(()) };
        self.done.push_back(Done { clerk: Clerk(at), command, reply, asked, at: now, attempts });
        Ok(())
    }
}

fn stamp(write: &Write, client: ClientId, seq: Seq, log_time: LogTime) -> SessionWrite {
    let mut command = Vec::new();
    write.encode(&mut command);
    let request = WriteRequest {
        client,
        seq,
        // A clerk waits for each answer, so all before it are known.
        low: seq,
        deadline: LogTime(log_time.0 + RETENTION_MILLIS),
        after: None,
        slot: write.slot().unwrap_or_default(),
        command: command.into(),
    };
    let proposal = Proposal::write(LogTime(0), request).to_bytes();
    SessionWrite { client, seq, proposal }
}

/// Marks the alarms of the scenario.
const SCENARIO: u64 = 1 << 63;
/// When a clerk takes a request for lost.
const LOST: Duration = Duration::from_millis(100);
/// How long a clerk waits for one node.
const ATTEMPT: Duration = Duration::from_secs(1);
/// For how long a clerk believes what it heard of the log time.
const HEARD_FOR: Duration = Duration::from_secs(5);
/// How long a scenario waits for one answer.
const PATIENCE: Duration = Duration::from_secs(60);
