//! Clients that write what can be counted afterwards, and the books of what they were told.
//!
//! - Counters, shared by all, raised by INCR: no value may be answered twice or fall behind one
//!   that was answered before it was asked for, and in the end
//!   `acknowledged <= value <= acknowledged + unknown`.
//! - Lists, shared by all, of tokens that are each appended once: an acknowledged token is there
//!   once, where the answer said; an unknown one at most once; a refused one never; those of one
//!   client in its order.
//! - Pairs of tokens sent without waiting in between: the second is never there without the first
//!   before it.
//! - A register for each client, SET to rising numbers: it holds the last acknowledged one, or one
//!   whose outcome is unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kontiki_resp::Reply;
use kontiki_types::{Instant, NodeId};

use crate::invariants::{Checked, Violation};
use crate::store_cluster::{Call, ClientId, Ended, StoreCluster};

const COUNTERS: u64 = 3;
const LISTS: u64 = 2;

#[derive(Clone, Debug)]
enum Ask {
    Raise {
        counter: u64,
        above: i64,
    },
    Append {
        list: String,
        token: String,
    },
    /// Two tokens, the second sent behind the first.
    Pair {
        list: String,
        first: String,
        second: String,
    },
    /// Both in one transaction.
    Both {
        counter: u64,
        above: i64,
        list: String,
        token: String,
    },
    Set {
        number: u64,
    },
    Get,
}

#[derive(Default)]
struct Counter {
    acknowledged: i64,
    unknown: i64,
    highest: i64,
    answered: BTreeSet<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Answered: the length of the list with it.
    Acknowledged(i64),
    Unknown,
    Refused,
}

#[derive(Default)]
struct Register {
    acknowledged: u64,
    unknown: BTreeSet<u64>,
}

/// The clients and the books.
pub struct Load {
    clients: Vec<ClientId>,
    asks: BTreeMap<ClientId, Ask>,
    counters: BTreeMap<u64, Counter>,
    lists: BTreeMap<String, BTreeMap<String, Fate>>,
    /// For the second token of a pair the first.
    pairs: BTreeMap<String, String>,
    registers: BTreeMap<ClientId, Register>,
    chapter: u64,
    next_number: u64,
    /// Calls that were answered with success.
    pub acknowledged: u64,
    /// Calls whose outcome is unknown.
    pub unknown: u64,
    /// Calls that were refused without effect.
    pub refused: u64,
    /// The longest time in which no call succeeded, while the load ran.
    pub longest_gap: Duration,
    last_success: Option<Instant>,
}

/// The property that the books prove.
pub const LOST: &str = "Acknowledged writes are kept, each applied once";

fn fails(seen: String) -> Violation {
    Violation::new(LOST, seen)
}

impl Load {
    /// `count` clients, spread over the nodes that run.
    pub fn new(cluster: &mut StoreCluster, count: usize) -> Self {
        let nodes = cluster.running();
        let clients = (0..count).map(|at| cluster.client(nodes[at % nodes.len()])).collect();
        Self {
            clients,
            asks: BTreeMap::new(),
            counters: BTreeMap::new(),
            lists: BTreeMap::new(),
            pairs: BTreeMap::new(),
            registers: BTreeMap::new(),
            chapter: 0,
            next_number: 0,
            acknowledged: 0,
            unknown: 0,
            refused: 0,
            longest_gap: Duration::ZERO,
            last_success: None,
        }
    }

    /// One client more, of this node.
    pub fn add_client(&mut self, cluster: &mut StoreCluster, node: NodeId) {
        self.clients.push(cluster.client(node));
    }

    /// Begins with new lists, so that the old ones grow no longer.
    pub fn next_chapter(&mut self) {
        self.chapter += 1;
    }

    /// The load runs for `time`, each client with one call after the other.
    ///
    /// # Errors
    /// An answer cannot be right, or the cluster violated a property.
    pub fn run(&mut self, cluster: &mut StoreCluster, time: Duration) -> Checked {
        let end = cluster.now() + time;
        self.last_success = Some(cluster.now());
        while cluster.now() < end {
            self.send(cluster);
            let slice = end.since(cluster.now()).min(SLICE);
            cluster.run(slice)?;
            self.hear(cluster)?;
        }
        Ok(())
    }

    /// Hears the answers that are still under way, for at most `time`.
    ///
    /// # Errors
    /// As [`Load::run`].
    pub fn finish(&mut self, cluster: &mut StoreCluster, time: Duration) -> Checked {
        let end = cluster.now() + time;
        while !self.asks.is_empty() && cluster.now() < end {
            cluster.run(SLICE)?;
            self.hear(cluster)?;
        }
        match self.asks.len() {
            0 => Ok(()),
            left => Err(Violation::new(
                "Every call is answered",
                format!("{left} are not, {time:?} after the last was sent"),
            )),
        }
    }

    fn send(&mut self, cluster: &mut StoreCluster) {
        for at in 0..self.clients.len() {
            let client = self.clients[at];
            if self.asks.contains_key(&client) {
                continue;
            }
            let ask = self.next_ask(cluster);
            let call = self.call(client, &ask);
            if cluster.call(client, &call) {
                self.asks.insert(client, ask);
            } else {
                let running = cluster.running();
                if let Some(&node) = cluster.random().pick(&running) {
                    cluster.turn_to(client, node);
                }
            }
        }
    }

    fn next_ask(&mut self, cluster: &mut StoreCluster) -> Ask {
        self.next_number += 1;
        let number = self.next_number;
        let random = cluster.random();
        let counter = random.below(COUNTERS);
        let above = self.counters.get(&counter).map_or(0, |counter| counter.highest);
        let list = format!("list:{}:{}", self.chapter, random.below(LISTS));
        match random.below(10) {
            0..3 => Ask::Raise { counter, above },
            3..5 => Ask::Append { list, token: format!("{number};") },
            5 => Ask::Pair { list, first: format!("{number}a;"), second: format!("{number}b;") },
            6..8 => Ask::Set { number },
            8 => Ask::Both { counter, above, list, token: format!("{number};") },
            _ => Ask::Get,
        }
    }

    fn call(&self, client: ClientId, ask: &Ask) -> Call {
        match ask {
            Ask::Raise { counter, .. } => Call::new(&["INCR", &counter_key(*counter)]),
            Ask::Append { list, token } => Call::new(&["APPEND", list, token]),
            Ask::Pair { list, first, second } => {
                Call::new(&["APPEND", list, first]).then(&["APPEND", list, second])
            }
            Ask::Both { counter, list, token, .. } => Call::new(&["MULTI"])
                .then(&["INCR", &counter_key(*counter)])
                .then(&["APPEND", list, token])
                .then(&["EXEC"]),
            Ask::Set { number } => Call::new(&["SET", &register_key(client), &number.to_string()]),
            Ask::Get => Call::new(&["GET", &register_key(client)]),
        }
    }

    fn hear(&mut self, cluster: &mut StoreCluster) -> Checked {
        for ended in cluster.take_ended() {
            self.book(&ended)?;
        }
        Ok(())
    }

    /// Writes down how a call ended.
    ///
    /// # Errors
    /// The answer cannot be right.
    pub fn book(&mut self, ended: &Ended) -> Checked {
        let Some(ask) = self.asks.remove(&ended.client) else { return Ok(()) };
        if ended.is_unknown() {
            self.unknown += 1;
        } else if ended.error().is_some() {
            self.refused += 1;
        } else {
            self.acknowledged += 1;
            if let Some(last) = self.last_success.replace(ended.at) {
                self.longest_gap = self.longest_gap.max(ended.at.since(last));
            }
        }
        match ask {
            Ask::Raise { counter, above } => self.raised(ended, counter, above, ended.reply()),
            Ask::Append { list, token } => {
                let fate = fate(ended.reply(), ended.is_unknown())?;
                self.appended(list, token, fate);
                Ok(())
            }
            Ask::Pair { list, first, second } => {
                self.pairs.insert(second.clone(), first.clone());
                for (at, token) in [first, second].into_iter().enumerate() {
                    let reply = ended.replies.get(at);
                    let unknown =
                        matches!(reply, Some(Reply::Error(line)) if line.starts_with(b"UNKNOWN"));
                    let fate = fate(reply, unknown)?;
                    self.appended(list.clone(), token, fate);
                }
                Ok(())
            }
            Ask::Both { counter, above, list, token } => {
                let (first, second) = match ended.reply() {
                    Some(Reply::Array(replies)) => (replies.first(), replies.get(1)),
                    _ => (ended.reply(), ended.reply()),
                };
                self.raised(ended, counter, above, first)?;
                let fate = fate(second, ended.is_unknown())?;
                self.appended(list, token, fate);
                Ok(())
            }
            Ask::Set { number } => {
                let register = self.registers.entry(ended.client).or_default();
                if ended.is_unknown() {
                    register.unknown.insert(number);
                } else if ended.error().is_none() {
                    register.acknowledged = number;
                }
                Ok(())
            }
            Ask::Get => match ended.reply() {
                Some(Reply::Error(_)) | None => Ok(()),
                Some(reply) => self.check_register(ended.client, reply),
            },
        }
    }

    fn raised(&mut self, ended: &Ended, at: u64, above: i64, reply: Option<&Reply>) -> Checked {
        let counter = self.counters.entry(at).or_default();
        if ended.is_unknown() {
            counter.unknown += 1;
            return Ok(());
        }
        match reply {
            Some(&Reply::Integer(value)) => {
                counter.acknowledged += 1;
                counter.highest = counter.highest.max(value);
                if !counter.answered.insert(value) {
                    return Err(fails(format!("counter {at} was raised to {value} twice")));
                }
                if value <= above {
                    return Err(fails(format!(
                        "counter {at} was raised to {value} after {above} was answered"
                    )));
                }
                Ok(())
            }
            Some(Reply::Error(_)) => Ok(()),
            other => Err(fails(format!("INCR is answered by {other:?}"))),
        }
    }

    fn appended(&mut self, list: String, token: String, fate: Fate) {
        self.lists.entry(list).or_default().insert(token, fate);
    }

    /// Reads everything through `node` and compares it with the books; lists of the last `chapters`
    /// chapters only.
    ///
    /// # Errors
    /// Something is lost or there twice, or cannot be read within 30 s.
    pub fn verify(&mut self, cluster: &mut StoreCluster, node: NodeId, chapters: u64) -> Checked {
        let reader = cluster.client(node);
        for at in 0..COUNTERS {
            let value = self.read(cluster, reader, &counter_key(at))?;
            self.check_counter(at, &value)?;
        }
        for client in self.clients.clone() {
            let value = self.read(cluster, reader, &register_key(client))?;
            self.check_register(client, &value)?;
        }
        let first = self.chapter.saturating_sub(chapters.saturating_sub(1));
        for chapter in first..=self.chapter {
            for list in (0..LISTS).map(|list| format!("list:{chapter}:{list}")) {
                let value = self.read(cluster, reader, &list)?;
                self.check_list(&list, &value)?;
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        cluster: &mut StoreCluster,
        reader: ClientId,
        key: &str,
    ) -> Result<Reply, Violation> {
        let end = cluster.now() + PATIENCE;
        let call = Call::new(&["GET", key]);
        loop {
            cluster.call(reader, &call);
            while !cluster.is_free(reader) && cluster.now() < end {
                cluster.run(SLICE)?;
            }
            let mut answer = None;
            for ended in cluster.take_ended() {
                if ended.client == reader {
                    answer = ended.reply().cloned();
                } else {
                    self.book(&ended)?;
                }
            }
            match answer {
                Some(Reply::Error(_)) | None if cluster.now() < end => {}
                Some(reply) if !matches!(reply, Reply::Error(_)) => return Ok(reply),
                _ => {
                    let seen = format!("{key} cannot be read within {PATIENCE:?}");
                    return Err(Violation::new("A majority serves", seen));
                }
            }
        }
    }

    fn check_counter(&self, at: u64, value: &Reply) -> Checked {
        let Some(counter) = self.counters.get(&at) else { return Ok(()) };
        let value = number(value).unwrap_or(0);
        let (low, high) = (counter.acknowledged, counter.acknowledged + counter.unknown);
        if (low..=high).contains(&value) {
            return Ok(());
        }
        Err(fails(format!("counter {at} is {value}, and should be from {low} to {high}")))
    }

    fn check_register(&self, client: ClientId, value: &Reply) -> Checked {
        let Some(register) = self.registers.get(&client) else { return Ok(()) };
        let value = number(value).unwrap_or(0).unsigned_abs();
        if value == register.acknowledged || register.unknown.contains(&value) {
            return Ok(());
        }
        Err(fails(format!(
            "{client:?} was told that its register is {}, and it is {value}",
            register.acknowledged
        )))
    }

    fn check_list(&self, list: &str, value: &Reply) -> Checked {
        let Some(fates) = self.lists.get(list) else { return Ok(()) };
        let bytes: &[u8] = match value {
            Reply::Bulk(bytes) => bytes,
            _ => &[],
        };
        let text = String::from_utf8_lossy(bytes);
        let mut found = BTreeMap::new();
        let mut end = 0;
        for token in text.split_inclusive(';') {
            end += token.len() as i64;
            match fates.get(token) {
                None => return Err(fails(format!("{list} has {token:?}, which nobody appended"))),
                Some(Fate::Refused) => {
                    return Err(fails(format!("{list} has {token:?}, which was refused")));
                }
                Some(&Fate::Acknowledged(length)) if length != end => {
                    return Err(fails(format!(
                        "{list} has {token:?} up to {end}, and the answer was {length}"
                    )));
                }
                Some(Fate::Acknowledged(_) | Fate::Unknown) => {}
            }
            if found.insert(token, end).is_some() {
                return Err(fails(format!("{list} has {token:?} twice")));
            }
            if let Some(first) = self.pairs.get(token)
                && !found.contains_key(first.as_str())
            {
                return Err(fails(format!("{list} has {token:?} and not {first:?} before it")));
            }
        }
        for (token, fate) in fates {
            if matches!(fate, Fate::Acknowledged(_)) && !found.contains_key(token.as_str()) {
                return Err(fails(format!("{list} lacks {token:?}, which was acknowledged")));
            }
        }
        Ok(())
    }
}

/// What an APPEND's reply says.
fn fate(reply: Option<&Reply>, is_unknown: bool) -> Result<Fate, Violation> {
    match reply {
        None => Ok(Fate::Unknown),
        _ if is_unknown => Ok(Fate::Unknown),
        Some(&Reply::Integer(length)) => Ok(Fate::Acknowledged(length)),
        Some(Reply::Error(_)) => Ok(Fate::Refused),
        other => Err(fails(format!("APPEND is answered by {other:?}"))),
    }
}

fn counter_key(at: u64) -> String {
    format!("counter:{at}")
}

fn register_key(client: ClientId) -> String {
    format!("register:{}", client.0)
}

fn number(reply: &Reply) -> Option<i64> {
    match reply {
        Reply::Integer(number) => Some(*number),
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).parse().ok(),
        _ => None,
    }
}

/// How often clients look for answers.
const SLICE: Duration = Duration::from_millis(1);
/// How long a verifying read may take.
const PATIENCE: Duration = Duration::from_secs(30);
