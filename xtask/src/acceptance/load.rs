//! A load of writes that can tell afterwards what was lost, doubled or refused.
//!
//! Sixteen closed-loop clients, spread over the nodes, turn by turn increment a counter of their
//! own, increment one counter of all, and append the next sequence number to a log of their own.
//! Every reply is kept, with its time; [`History::verify`] compares them with what is in the store.

mod verify;

use anyhow::Result;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::{Client, Reply};
use super::wait;

pub const CLIENTS: usize = 16;

/// An append rewrites the value, so a log goes on under another key after this many numbers.
const NUMBERS_PER_KEY: u64 = 500;

/// Between two tries to reach a node that does not listen.
const RECONNECT: Duration = Duration::from_millis(20);

/// What a client asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    CountOwn,
    CountAll,
    /// Appends this number to the client's log.
    Append(u64),
}

/// What it heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Success, with the number that the server answered.
    Acknowledged(i64),
    /// An error, or a connection that broke: it may have been applied, or not.
    Unknown(String),
}

/// One operation from call to answer.
#[derive(Clone, Debug)]
pub struct Event {
    pub operation: Operation,
    pub called: Instant,
    pub answered: Instant,
    pub answer: Answer,
}

/// All that one client saw.
pub struct ClientHistory {
    pub client: usize,
    /// The place of the node that it talks to.
    pub node: usize,
    pub events: Vec<Event>,
}

/// All that all clients saw.
pub struct History {
    pub clients: Vec<ClientHistory>,
}

/// A running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<ClientHistory>>,
}

impl Load {
    /// Starts the clients, each at the next node in turn.
    pub fn start(nodes: &[SocketAddr]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).map(|client| {
            let node = client % nodes.len();
            let (address, stop) = (nodes[node], Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut worker =
                    Worker { client, address, connection: None, counted: 0, appended: 0 };
                let mut events = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    events.extend(worker.step());
                }
                ClientHistory { client, node, events }
            })
        });
        let clients = clients.collect();
        Load { stop, clients }
    }

    /// Lets every client finish what it waits for, and gathers what they saw.
    pub fn stop(mut self) -> Result<History> {
        self.stop.store(true, Ordering::Relaxed);
        let join = |client: JoinHandle<ClientHistory>| {
            client.join().map_err(|_| anyhow::anyhow!("a client of the load panicked"))
        };
        Ok(History { clients: self.clients.drain(..).map(join).collect::<Result<_>>()? })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Worker {
    client: usize,
    address: SocketAddr,
    connection: Option<Client>,
    counted: u64,
    appended: u64,
}

impl Worker {
    /// One operation; none while the node cannot be reached.
    fn step(&mut self) -> Option<Event> {
        let Some(connection) = &mut self.connection else {
            // Nothing is under way here, so there is nothing to be unsure of.
            match Client::connect(self.address) {
                Ok(connection) => self.connection = Some(connection),
                Err(_) => wait::let_pass(RECONNECT),
            }
            return None;
        };
        let operation = match self.counted % 3 {
            0 => Operation::CountOwn,
            1 => Operation::CountAll,
            _ => Operation::Append(self.appended),
        };
        let called = Instant::now();
        let said = match operation {
            Operation::CountOwn => connection.call(&["INCR", &own_counter(self.client)]),
            Operation::CountAll => connection.call(&["INCR", COUNTER_OF_ALL]),
            Operation::Append(number) => {
                let (key, text) = (log_key(self.client, number), format!("{number} "));
                connection.call(&["APPEND", &key, &text])
            }
        };
        let answer = match said {
            Ok(Reply::Integer(number)) => Answer::Acknowledged(number),
            Ok(other) => Answer::Unknown(format!("{other:?}")),
            Err(error) => {
                self.connection = None;
                Answer::Unknown(error.to_string())
            }
        };
        self.counted += 1;
        self.appended += u64::from(matches!(operation, Operation::Append(_)));
        Some(Event { operation, called, answered: Instant::now(), answer })
    }
}

/// The keys that the clients begin with.
pub fn keys() -> Vec<String> {
    let own = (0..CLIENTS).flat_map(|client| [own_counter(client), log_key(client, 0)]);
    own.chain([COUNTER_OF_ALL.to_string()]).collect()
}

const COUNTER_OF_ALL: &str = "count:all";

fn own_counter(client: usize) -> String {
    format!("count:{client}")
}

fn log_key(client: usize, number: u64) -> String {
    format!("log:{client}:{}", number / NUMBERS_PER_KEY)
}

/// A time in which clients of one node may see errors: it was killed or stopped.
#[derive(Clone, Copy, Debug)]
pub struct Disturbance {
    pub node: usize,
    pub from: Instant,
    pub to: Instant,
}

impl Disturbance {
    fn covers(&self, node: usize, event: &Event) -> bool {
        self.node == node && event.called <= self.to && event.answered >= self.from
    }
}

impl History {
    /// What clients of undisturbed nodes heard that was no success.
    pub fn errors_at_live_nodes(&self, disturbances: &[Disturbance]) -> Vec<String> {
        let mut found = Vec::new();
        for history in &self.clients {
            for event in &history.events {
                let Answer::Unknown(text) = &event.answer else { continue };
                if !disturbances.iter().any(|time| time.covers(history.node, event)) {
                    found.push(format!(
                        "client {} at node {}: {text}",
                        history.client,
                        history.node + 1
                    ));
                }
            }
        }
        found
    }

    /// The longest time without a success around a disturbance, for clients of the other nodes:
    /// for all of them together, and for the one that waited longest.
    pub fn gap(&self, disturbance: &Disturbance) -> (Duration, Duration) {
        let live = self.clients.iter().filter(|history| history.node != disturbance.node);
        let successes: Vec<Vec<Instant>> = live.map(|history| successes(&history.events)).collect();
        let longest = successes.iter().map(|times| longest_gap(times, disturbance)).max();
        let mut together: Vec<Instant> = successes.concat();
        together.sort();
        (longest_gap(&together, disturbance), longest.unwrap_or_default())
    }

    pub fn acknowledged(&self) -> usize {
        self.clients.iter().map(|history| successes(&history.events).len()).sum()
    }

    pub fn unknown(&self) -> usize {
        let all: usize = self.clients.iter().map(|history| history.events.len()).sum();
        all - self.acknowledged()
    }

    /// Compares with what is in the store: nothing acknowledged may be missing, nothing may be
    /// there twice, and what is there was asked for.
    pub fn verify(&self, store: &mut Client) -> Result<()> {
        verify::verify(self, &mut |key| Ok(store.call(&["GET", key])?))
    }
}

fn successes(events: &[Event]) -> Vec<Instant> {
    let acknowledged = |event: &&Event| matches!(event.answer, Answer::Acknowledged(_));
    events.iter().filter(acknowledged).map(|event| event.answered).collect()
}

/// The longest time between two neighbours that touches the disturbance; up to its end, if nothing
/// succeeded after it.
fn longest_gap(times: &[Instant], disturbance: &Disturbance) -> Duration {
    let neighbours = times.windows(2).map(|pair| (pair[0], pair[1]));
    let last = times.last().map(|last| (*last, disturbance.to.max(*last)));
    let touching = neighbours
        .chain(last)
        .filter(|(earlier, later)| *later >= disturbance.from && *earlier <= disturbance.to);
    touching
        .map(|(earlier, later)| later - earlier)
        .max()
        .unwrap_or(disturbance.to - disturbance.from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    fn history(start: Instant, node: usize, answered: &[(u64, bool)]) -> ClientHistory {
        let event = |(time, success): &(u64, bool)| Event {
            operation: Operation::CountAll,
            called: at(start, *time),
            answered: at(start, *time),
            answer: if *success { Answer::Acknowledged(1) } else { Answer::Unknown("no".into()) },
        };
        ClientHistory { client: node, node, events: answered.iter().map(event).collect() }
    }

    #[test]
    fn gaps_are_those_of_live_nodes_around_the_disturbance() {
        let start = Instant::now();
        let clients = vec![
            history(start, 0, &[(0, true), (100, true), (500, true), (510, true)]),
            history(start, 1, &[(0, true), (120, true), (400, true), (2000, true)]),
            history(start, 2, &[(0, true), (5000, true)]),
        ];
        let disturbance = Disturbance { node: 2, from: at(start, 110), to: at(start, 450) };
        let (together, one) = History { clients }.gap(&disturbance);
        assert_eq!(together, Duration::from_millis(280));
        assert_eq!(one, Duration::from_millis(1600));
    }

    #[test]
    fn a_load_that_never_recovers_has_a_gap_to_the_end() {
        let start = Instant::now();
        let clients = vec![history(start, 0, &[(0, true), (10, true)])];
        let disturbance = Disturbance { node: 2, from: at(start, 5), to: at(start, 900) };
        assert_eq!(History { clients }.gap(&disturbance).0, Duration::from_millis(890));
    }

    #[test]
    fn errors_count_unless_the_own_node_was_disturbed() {
        let start = Instant::now();
        let clients = vec![
            history(start, 0, &[(100, false)]),
            history(start, 1, &[(100, false), (900, false)]),
        ];
        let disturbance = Disturbance { node: 1, from: at(start, 50), to: at(start, 200) };
        let history = History { clients };
        assert_eq!(history.errors_at_live_nodes(&[disturbance]).len(), 2);
        assert_eq!((history.acknowledged(), history.unknown()), (0, 3));
    }
}
