//! A connection against a node that the tests play.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use kontiki_kv::Body;
use kontiki_types::{Incarnation, NodeId};

use super::*;
use crate::atlas::Atlas;

mod sharded;

/// A node without a password whose clocks stand still.
#[derive(Default)]
struct Still {
    password: Option<&'static [u8]>,
    described: RefCell<Description>,
    atlas: Arc<Atlas>,
    redirect: Redirect,
    /// Libraries that have asked for the map.
    asked: RefCell<Vec<String>>,
}

impl Host for Still {
    fn log_time(&self) -> LogTime {
        LogTime(1_000_000)
    }
    fn atlas(&self) -> Arc<Atlas> {
        Arc::clone(&self.atlas)
    }
    fn node_id(&self) -> NodeId {
        NodeId(1)
    }
    fn redirect(&self) -> Redirect {
        self.redirect
    }
    fn note_asked(&self, _id: u64, library: &str) {
        self.asked.borrow_mut().push(library.to_owned());
    }
    fn asked_changes(&self) -> u64 {
        self.asked.borrow().len() as u64
    }
    fn has_asked(&self, _id: u64, library: &str) -> bool {
        self.asked.borrow().iter().any(|known| known == library)
    }
    fn wall_clock(&self) -> Duration {
        Duration::new(5, 7_000)
    }
    fn random(&self) -> u64 {
        4
    }
    fn authenticate(&self, user: &[u8], password: &[u8]) -> Option<bool> {
        self.password.map(|expected| user == b"default" && password == expected)
    }
    fn info(&self, _sections: &[String]) -> String {
        "redis_version:7.0.15\r\n".to_owned()
    }
    fn client_list(&self, _ids: &[u64]) -> String {
        "id=1\n".to_owned()
    }
    fn describe(&self, _id: u64, description: &Description) {
        *self.described.borrow_mut() = description.clone();
    }
    fn client_kill(&self, _filter: &KillFilter) -> usize {
        0
    }
    fn config_get(&self, _patterns: &[Bytes]) -> Vec<(String, String)> {
        vec![("save".to_owned(), String::new())]
    }
    fn config_set(&self, name: &str, _value: &[u8]) -> Result<(), String> {
        Err(format!("no {name}"))
    }
    fn replicas_in_quorum(&self) -> usize {
        1
    }
    fn slow_commands(&self) -> u64 {
        0
    }
}

struct Client {
    connection: Connection,
    host: Still,
    requests: Vec<Request>,
}

impl Client {
    fn new() -> Self {
        Self::with(Still::default())
    }

    fn with(host: Still) -> Self {
        let id = ClientId { incarnation: Incarnation(9), boot: 2, connection: 1 };
        let open = host.password.is_none();
        let connection = Connection::new(1, id, open, ConnectionLimits::default());
        Self { connection, host, requests: Vec::new() }
    }

    /// Sends a command given as words; `false` if the connection takes none now.
    fn send(&mut self, words: &str) -> bool {
        if !self.connection.accepts() {
            return false;
        }
        let args: Vec<Bytes> =
            words.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        self.connection.command(&args, &self.host, &mut self.requests);
        true
    }

    fn answer(&mut self, ticket: u64, reply: Reply) {
        self.connection.answer(ticket, Answer::Reply(reply), &self.host, &mut self.requests);
    }

    fn output(&mut self) -> String {
        String::from_utf8(self.connection.output().split().to_vec()).expect("text")
    }

    fn tickets(&mut self) -> Vec<u64> {
        self.requests.drain(..).map(|request| request.ticket).collect()
    }

    fn writes(&mut self) -> Vec<WriteRequest> {
        let asks = self.requests.drain(..).filter_map(|request| match request.ask {
            Ask::Write(write) => Some(write.proposal),
            Ask::Read(_) => None,
        });
        asks.map(|bytes| match Proposal::decode(&bytes).expect("well-formed").body {
            Body::Write(write) => write,
            Body::Tick | Body::Slots(_) | Body::Check(_) => panic!("no client sends that"),
        })
        .collect()
    }
}

#[test]
fn replies_leave_in_the_order_of_the_commands() {
    let mut client = Client::new();
    client.send("GET a");
    client.send("PING");
    client.send("GET b");
    assert_eq!(client.tickets(), [0, 2]);
    client.answer(2, Reply::Integer(2));
    assert_eq!(client.output(), "");
    client.answer(0, Reply::Nil);
    assert_eq!(client.output(), "$-1\r\n+PONG\r\n:2\r\n");
}

#[test]
fn pipelined_writes_on_a_key_name_their_predecessor() {
    let mut client = Client::new();
    client.send("SET k 1");
    client.send("SET k 2");
    client.send("SET other 3");
    let writes = client.writes();
    assert_eq!(writes[0].after, None);
    assert_eq!(writes[1].after, Some(Seq(1)));
    assert_eq!(writes[2].after, None);
    assert!(writes.iter().all(|write| write.low == Seq(1)));
    assert_eq!(writes[0].deadline, LogTime(1_000_000 + RETENTION_MILLIS));
}

#[test]
fn a_read_waits_for_the_write_before_it() {
    let mut client = Client::new();
    client.send("SET k 1");
    client.send("GET k");
    assert_eq!(client.tickets(), [0]);
    assert!(!client.send("GET other"), "nothing may overtake the held command");
    client.answer(0, Reply::Ok);
    assert_eq!(client.tickets(), [1]);
    client.answer(1, Reply::Bulk("1".into()));
    assert_eq!(client.output(), "+OK\r\n$1\r\n1\r\n");
}

#[test]
fn low_rises_with_the_answers() {
    let mut client = Client::new();
    client.send("SET k 1");
    client.answer(0, Reply::Ok);
    client.requests.clear();
    client.send("SET k 2");
    let writes = client.writes();
    assert_eq!((writes[0].seq, writes[0].low, writes[0].after), (Seq(2), Seq(2), None));
}

#[test]
fn a_second_answer_changes_nothing() {
    let mut client = Client::new();
    client.send("GET a");
    client.send("GET b");
    client.answer(1, Reply::Integer(1));
    client.answer(1, Reply::Integer(9));
    client.answer(0, Reply::Integer(0));
    client.answer(0, Reply::Integer(9));
    client.answer(77, Reply::Integer(9));
    assert_eq!(client.output(), ":0\r\n:1\r\n");
}

#[test]
fn a_transaction_is_one_write_with_what_it_watched() {
    let mut client = Client::new();
    client.send("WATCH k");
    assert!(!client.send("MULTI"), "a WATCH is a read that later commands wait for");
    assert_eq!(client.tickets(), [0]);
    client.answer(0, Reply::Array(vec![Reply::Integer(41)]));
    client.send("MULTI");
    client.send("INCR k");
    client.send("PING");
    client.send("SET k");
    assert_eq!(
        client.output(),
        "+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n-ERR wrong number of arguments for 'set' command\r\n"
    );
    client.send("EXEC");
    assert_eq!(client.output(), "-EXECABORT Transaction discarded because of previous errors.\r\n");

    client.send("WATCH k");
    client.answer(6, Reply::Array(vec![Reply::Integer(42)]));
    for command in ["MULTI", "INCR k", "PING", "INCRBY k x", "EXEC"] {
        client.send(command);
    }
    let command = client.writes().pop().expect("EXEC was submitted").command;
    let Write::Exec { watched, commands } = Write::decode(&command).expect("well-formed") else {
        panic!("not an EXEC");
    };
    assert_eq!(watched, [(Bytes::from("k"), 42)]);
    assert_eq!(commands.len(), 3);
    assert_eq!(commands[1], Parsed::Read(Read::Answer(Reply::Simple("PONG"))));
    assert!(matches!(&commands[2], Parsed::Read(Read::Answer(Reply::Error(_)))));
}

#[test]
fn an_empty_transaction_needs_nobody() {
    let mut client = Client::new();
    client.send("MULTI");
    client.send("EXEC");
    assert_eq!(client.output(), "+OK\r\n*0\r\n");
    assert!(client.requests.is_empty());
}

#[test]
fn nothing_but_auth_before_the_password() {
    let mut client = Client::with(Still { password: Some(b"secret"), ..Still::default() });
    client.send("GET k");
    client.send("AUTH wrong");
    client.send("AUTH secret");
    client.send("PING");
    assert_eq!(
        client.output(),
        "-NOAUTH Authentication required.\r\n-WRONGPASS invalid username-password pair or user is \
         disabled.\r\n+OK\r\n+PONG\r\n"
    );
}

#[test]
fn hello_changes_the_protocol_of_what_follows() {
    let mut client = Client::new();
    client.send("GET k");
    client.send("HELLO 3 SETNAME me");
    client.send("GET k");
    client.answer(0, Reply::Nil);
    client.answer(2, Reply::Nil);
    let output = client.output();
    assert!(output.starts_with("$-1\r\n%7\r\n"), "{output}");
    assert!(output.ends_with("_\r\n"), "{output}");
    assert_eq!(client.host.described.borrow().name, "me");
}

#[test]
fn client_reply_off_and_skip_write_nothing() {
    let mut client = Client::new();
    client.send("CLIENT REPLY SKIP");
    client.send("PING");
    client.send("PING");
    assert_eq!(client.output(), "+PONG\r\n");
    client.send("CLIENT REPLY OFF");
    client.send("GET k");
    client.answer(2, Reply::Nil);
    client.send("CLIENT REPLY ON");
    assert_eq!(client.output(), "+OK\r\n");
}

#[test]
fn wait_is_answered_after_everything_before_it() {
    let mut client = Client::new();
    client.send("SET k 1");
    client.send("WAIT 2 0");
    assert_eq!(client.output(), "");
    client.answer(0, Reply::Ok);
    assert_eq!(client.output(), "+OK\r\n:1\r\n");
}

#[test]
fn a_write_that_is_too_large_names_the_limit() {
    let mut client = Client::new();
    client.connection.limits.entry_bytes = 100;
    client.send(&format!("SET k {}", "v".repeat(200)));
    assert!(client.requests.is_empty());
    assert!(client.output().contains("max-entry-bytes 100"));
}

/// Requests under way until the connection takes no more; all of them are answered with `bytes`.
fn window(client: &mut Client, bytes: usize) -> usize {
    while client.send("GET k") {}
    let tickets = client.tickets();
    for &ticket in &tickets {
        client.answer(ticket, Reply::Bulk(vec![b'v'; bytes].into()));
    }
    client.connection.output().clear();
    tickets.len()
}

#[test]
fn a_client_that_asks_for_large_values_has_few_requests_under_way() {
    let mut client = Client::new();
    assert_eq!(window(&mut client, 1 << 20), 64, "nothing is known of its replies yet");
    assert_eq!(window(&mut client, 1 << 20), 31);
    for _ in 0..10 {
        window(&mut client, 100);
    }
    assert_eq!(window(&mut client, 100), 1024, "it is forgotten by and by");
}
