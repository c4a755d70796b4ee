//! A connection to one of three nodes, each of which leads one of three groups.

use std::collections::BTreeMap;

use kontiki_kv::command::SlotRanges;
use kontiki_shard::{Command, Controller, Op, SlotSet};
use kontiki_types::{GroupId, Index, NodeId};

use super::*;
use crate::atlas::GroupPlace;
use crate::peer::NodeInfo;

/// Slots of `b`, `c`, `a`: in groups 1, 2, 3.
const B: u16 = 3300;
const C: u16 = 7365;
const A: u16 = 15495;

const THIRDS: [&str; 3] = ["0-5460", "5461-10922", "10923-16383"];

fn controller() -> Controller {
    let nodes = vec![NodeId(1), NodeId(2), NodeId(3)];
    let mut controller = Controller::new();
    let groups = (1..=3).map(|group| (GroupId(group), nodes.clone())).collect();
    tell(&mut controller, 1, Op::Join { groups });
    let part = |(at, text): (usize, &&str)| (slots(text), GroupId(at as u32 + 1));
    let parts = THIRDS.iter().enumerate().map(part).collect();
    tell(&mut controller, 2, Op::Plan { at: None, parts });
    controller
}

fn tell(controller: &mut Controller, index: u64, op: Op) {
    let session = kontiki_shard::Session {
        client: ClientId { incarnation: Incarnation(1), boot: 1, connection: 1 },
        seq: Seq(index),
        deadline: LogTime(0),
    };
    let command = Command { stamp: LogTime(0), session: Some(session), op };
    let reply = controller.apply(Index(index), &command);
    assert!(!matches!(reply, kontiki_shard::Reply::Refused { .. }), "{reply:?}");
}

fn slots(text: &str) -> SlotSet {
    text.parse().expect("slots")
}

/// Group g is led by `leaders[g - 1]`; 0: nobody is known to.
fn atlas(leaders: [u64; 3]) -> Atlas {
    let info = |id: u64| NodeInfo {
        id: NodeId(id),
        incarnation: Incarnation(0xab00 + id),
        boot: 1,
        pid: 1,
        resp: format!("10.0.0.{id}:7000"),
        grpc: format!("10.0.0.{id}:7100"),
        http: String::new(),
        leaving: false,
    };
    let place = |leader: u64| GroupPlace {
        leader: Some(NodeId(leader)).filter(|leader| leader.0 > 0),
        nodes: vec![NodeId(1), NodeId(2), NodeId(3)],
    };
    Atlas {
        configuration: Some(Arc::new(controller().configuration().clone())),
        groups: (1..=3).map(|group| (GroupId(group), place(leaders[group as usize - 1]))).collect(),
        nodes: (1..=3).map(|id| (NodeId(id), (info(id), true))).collect(),
        ..Atlas::default()
    }
}

fn host() -> Still {
    Still { atlas: Arc::new(atlas([1, 2, 3])), ..Still::default() }
}

/// A client that knows nothing of clusters.
fn plain() -> Client {
    Client::with(host())
}

/// One that has asked for the map of slots.
fn asked() -> Client {
    let mut client = plain();
    client.send("CLUSTER SLOTS");
    client.output();
    client
}

fn slot(number: u16) -> Slot {
    Slot::new(number).expect("a slot")
}

impl Client {
    /// What was asked of which slot, oldest first.
    fn asks(&mut self) -> Vec<(u64, Target, Parsed)> {
        let parsed = |ask: Ask| match ask {
            Ask::Read(read) => Parsed::Read(read),
            Ask::Write(write) => {
                let proposal = Proposal::decode(&write.proposal).expect("well-formed");
                let Body::Write(request) = proposal.body else { panic!("not a write") };
                Parsed::Write(Write::decode(&request.command).expect("well-formed"))
            }
        };
        self.requests.drain(..).map(|one| (one.ticket, one.to, parsed(one.ask))).collect()
    }

    /// The one thing that was asked.
    fn one_ask(&mut self) -> (u64, Target, Parsed) {
        let mut asks = self.asks();
        assert_eq!(asks.len(), 1, "{asks:?}");
        asks.remove(0)
    }

    fn fail(&mut self, ticket: u64, why: Failure) {
        self.connection.answer(ticket, Answer::Failed(why), &self.host, &mut self.requests);
    }

    /// The reply to a command that needs nobody.
    fn reply(&mut self, words: &str) -> String {
        assert!(self.send(words));
        assert_eq!(self.requests.len(), 0, "{words}");
        self.output()
    }
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(text.as_bytes()))
}

/// A group's answer to a part: what it came to, and the slots that it left.
fn part(first: Reply, left: &str) -> Reply {
    let ranges: SlotRanges =
        if left.is_empty() { Vec::new() } else { slots(left).ranges().collect() };
    let number = |slot: Slot| Reply::Integer(i64::from(slot.get()));
    let left = ranges.iter().flat_map(|(first, last)| [number(*first), number(*last)]);
    Reply::Array(vec![first, Reply::Array(left.collect())])
}

fn ranges(text: &str) -> SlotRanges {
    slots(text).ranges().collect()
}

#[test]
fn a_plain_client_is_served_wherever_the_slot_is() {
    let mut client = plain();
    client.send("GET a");
    client.send("SET b 1");
    let targets: Vec<Target> = client.asks().into_iter().map(|(_, to, _)| to).collect();
    assert_eq!(targets, [Target::Slot(slot(A)), Target::Slot(slot(B))]);
}

#[test]
fn a_client_that_asked_for_the_map_is_told_where_a_slot_is() {
    let mut client = asked();
    assert_eq!(client.reply("GET a"), "-MOVED 15495 10.0.0.3:7000\r\n");
    assert_eq!(client.reply("SET c 1"), "-MOVED 7365 10.0.0.2:7000\r\n");
    client.send("GET b");
    assert_eq!(client.one_ask().1, Target::Slot(slot(B)));
}

/// ioredis with `scaleReads: "slave"` went round in circles.
#[test]
fn a_read_that_comes_again_after_it_was_sent_away_is_served() {
    let mut client = asked();
    assert_eq!(client.reply("GET a"), "-MOVED 15495 10.0.0.3:7000\r\n");
    client.send("STRLEN a");
    assert_eq!(client.one_ask().1, Target::Slot(slot(A)));
    client.answer(2, Reply::Integer(0));
    client.output();
    for _ in 0..2 {
        assert_eq!(client.reply("SET a 1"), "-MOVED 15495 10.0.0.3:7000\r\n", "a write is not");
    }
}

#[test]
fn a_client_that_asked_waits_here_while_nobody_is_known_to_lead() {
    let mut client = Client::with(Still { atlas: Arc::new(atlas([1, 0, 3])), ..Still::default() });
    client.send("CLUSTER SHARDS");
    client.send("GET c");
    assert_eq!(client.one_ask().1, Target::Slot(slot(C)));
}

#[test]
fn asking_and_readonly_keep_a_command_here() {
    let mut client = asked();
    assert_eq!(client.reply("ASKING"), "+OK\r\n");
    client.send("GET a");
    assert_eq!(client.one_ask().1, Target::Slot(slot(A)));
    client.answer(2, Reply::Nil);
    client.output();
    assert_eq!(client.reply("SET a 1"), "-MOVED 15495 10.0.0.3:7000\r\n", "ASKING holds once");
    client.reply("READONLY");
    client.send("GET a");
    assert_eq!(client.asks().len(), 1, "a replica is here");
    assert!(client.send("SET a 1"));
    assert!(client.asks().is_empty(), "but no leader");
    client.answer(5, Reply::Nil);
    assert_eq!(client.output(), "$-1\r\n-MOVED 15495 10.0.0.3:7000\r\n");
    client.reply("READWRITE");
    assert_eq!(client.reply("GET a"), "-MOVED 15495 10.0.0.3:7000\r\n");
}

#[test]
fn later_connections_of_a_library_that_asked_are_told_too() {
    let mut first = plain();
    first.send("CLIENT SETINFO LIB-NAME one");
    first.send("CLUSTER NODES");
    assert_eq!(*first.host.asked.borrow(), ["one"]);
    let mut host = host();
    host.asked = first.host.asked;
    let mut second = Client::with(host);
    second.send("CLIENT SETINFO LIB-NAME two");
    second.send("GET a");
    assert_eq!(second.asks().len(), 1);
    second.answer(1, Reply::Nil);
    second.send("CLIENT SETINFO LIB-NAME one");
    second.output();
    assert_eq!(second.reply("GET a"), "-MOVED 15495 10.0.0.3:7000\r\n");
}

#[test]
fn the_setting_overrules_what_a_client_asked() {
    let mut client = Client::with(Still { redirect: Redirect::Always, ..host() });
    assert_eq!(client.reply("GET a"), "-MOVED 15495 10.0.0.3:7000\r\n");
    let mut client = Client::with(Still { redirect: Redirect::Never, ..host() });
    client.send("CLUSTER SLOTS");
    client.send("GET a");
    assert_eq!(client.asks().len(), 1);
}

#[test]
fn reads_of_several_slots_are_cut_and_put_together_in_order() {
    let mut client = plain();
    client.send("MGET a b none c {a}2");
    let asks = client.asks();
    let keys = |names: &[&str]| names.iter().map(|name| Bytes::from(name.to_string())).collect();
    let mget = |names: &[&str]| Parsed::Read(Read::MGet { keys: keys(names) });
    let by_slot: BTreeMap<u64, Parsed> =
        asks.iter().map(|(ticket, _, parsed)| (*ticket, parsed.clone())).collect();
    assert_eq!(by_slot[&0], mget(&["b"]));
    assert_eq!(by_slot[&2], mget(&["c"]));
    assert_eq!(by_slot[&3], mget(&["a", "{a}2"]));
    // Answered in another order, with another command's reply behind it.
    client.send("PING");
    for (ticket, _, parsed) in asks.into_iter().rev() {
        assert_eq!(client.output(), "");
        let Parsed::Read(Read::MGet { keys }) = parsed else { panic!("not an MGET") };
        client.answer(ticket, Reply::Array(keys.into_iter().map(Reply::Bulk).collect()));
    }
    let found = client.output();
    assert_eq!(
        found,
        "*5\r\n$1\r\na\r\n$1\r\nb\r\n$4\r\nnone\r\n$1\r\nc\r\n$4\r\n{a}2\r\n+PONG\r\n"
    );
}

#[test]
fn parts_of_a_write_are_writes_of_their_own() {
    let mut client = plain();
    client.send("DEL a b c {b}2");
    let writes = client.writes();
    let seqs: Vec<Seq> = writes.iter().map(|write| write.seq).collect();
    assert_eq!(seqs, [Seq(1), Seq(2), Seq(3)]);
    let homes: Vec<u16> = writes.iter().map(|write| write.slot.get()).collect();
    assert_eq!(homes, [B, C, A]);
    assert!(writes.iter().all(|write| write.after.is_none()));
    client.send("SET a 1");
    assert!(client.requests.is_empty(), "a write on the same slot waits");
    client.answer(1, Reply::Integer(0));
    client.answer(0, Reply::Integer(2));
    client.answer(0, Reply::Integer(2));
    assert!(client.requests.is_empty());
    client.answer(2, Reply::Integer(1));
    assert_eq!(client.output(), ":3\r\n");
    let writes = client.writes();
    assert_eq!((writes[0].seq, writes[0].low), (Seq(4), Seq(4)));
}

#[test]
fn a_write_of_which_a_part_failed_says_what_may_have_happened() {
    let mut client = plain();
    client.send("DEL a b c");
    client.answer(0, Reply::Integer(1));
    client.fail(1, Failure::Unavailable);
    client.answer(2, Reply::Integer(1));
    let said = client.output();
    assert!(said.starts_with("-UNKNOWN 1 of 3 parts of this command failed"), "{said}");
    assert!(said.contains("CLUSTERDOWN"), "{said}");
    // Nothing was done: then the failure itself says what to do.
    client.send("DEL a b c");
    for ticket in 3..6 {
        client.fail(ticket, Failure::Overloaded);
    }
    assert!(client.output().starts_with("-TRYAGAIN"));
    client.send("EXISTS a b c");
    client.fail(6, Failure::Unavailable);
    client.answer(7, Reply::Integer(1));
    client.answer(8, Reply::Integer(1));
    assert!(client.output().starts_with("-CLUSTERDOWN"));
}

#[test]
fn a_command_of_very_many_slots_has_some_of_them_under_way_at_once() {
    let mut client = plain();
    let keys: Vec<String> = (0..2000).map(|number| format!("key:{number}")).collect();
    client.send(&format!("DEL {}", keys.join(" ")));
    let mut largest = 0;
    let (mut slots, mut deleted) = (0, 0);
    while !client.requests.is_empty() {
        largest = largest.max(client.requests.len());
        for (ticket, _, parsed) in client.asks() {
            let Parsed::Write(Write::Del { keys }) = parsed else { panic!("not a DEL") };
            (slots, deleted) = (slots + 1, deleted + keys.len());
            assert!(!client.send("PING"), "the pipeline is full");
            client.answer(ticket, Reply::Integer(keys.len() as i64));
        }
    }
    assert_eq!((largest, deleted), (parts::PARTS_MAX, 2000));
    assert!(slots > 1500, "{slots}");
    assert_eq!(client.output(), ":2000\r\n");
    assert!(client.send("PING"));
}

#[test]
fn what_must_be_atomic_has_one_slot() {
    let mut client = plain();
    let crossing = format!("-{}\r\n", "CROSSSLOT Keys in request don't hash to the same slot");
    // `d` has another slot than `a`, in the same group.
    for command in [
        "MSET a 1 d 2",
        "MSETNX a 1 b 2",
        "RENAME a d",
        "RENAMENX a b",
        "COPY a b",
        "BITOP AND a b c",
        "LCS a b",
        "WATCH a b",
    ] {
        assert_eq!(client.reply(command), crossing, "{command}");
    }
    client.send("MSET {a}1 1 {a}2 2");
    assert_eq!(client.one_ask().1, Target::Slot(slot(A)));
}

#[test]
fn a_transaction_has_one_slot() {
    let crossing = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";
    for second in ["SET d 1", "DBSIZE", "FLUSHALL"] {
        let mut client = plain();
        for command in ["MULTI", "SET a 1", second] {
            client.send(command);
        }
        client.output();
        assert_eq!(client.reply("EXEC"), crossing, "{second}");
        assert_eq!(client.reply("EXEC"), "-ERR EXEC without MULTI\r\n");
    }
    let mut client = plain();
    client.send("WATCH b");
    assert_eq!(client.one_ask().1, Target::Slot(slot(B)));
    client.answer(0, Reply::Array(vec![Reply::Integer(1)]));
    for command in ["MULTI", "SET a 1"] {
        client.send(command);
    }
    client.output();
    assert_eq!(client.reply("EXEC"), crossing, "a watched key of another slot");
    for command in ["MULTI", "INCR {a}n", "GET a", "PING", "EXEC"] {
        client.send(command);
    }
    let (_, to, parsed) = client.one_ask();
    assert_eq!(to, Target::Slot(slot(A)));
    assert!(matches!(parsed, Parsed::Write(Write::Exec { commands, .. }) if commands.len() == 3));
    let mut client = plain();
    for command in ["MULTI", "PING", "CLUSTER KEYSLOT a"] {
        client.send(command);
    }
    client.output();
    assert_eq!(client.reply("EXEC"), "*2\r\n+PONG\r\n:15495\r\n");
}

#[test]
fn a_transaction_that_belongs_elsewhere_is_told_so_when_it_is_queued() {
    let mut client = asked();
    client.reply("MULTI");
    assert_eq!(client.reply("SET a 1"), "-MOVED 15495 10.0.0.3:7000\r\n");
    assert_eq!(
        client.reply("EXEC"),
        "-EXECABORT Transaction discarded because of previous errors.\r\n"
    );
    client.reply("MULTI");
    client.reply("SET b 1");
    client.send("EXEC");
    assert_eq!(client.one_ask().1, Target::Slot(slot(B)));
}

#[test]
fn dbsize_counts_each_slot_once_and_asks_again_for_those_that_have_moved() {
    let mut client = plain();
    client.send("DBSIZE");
    let asks = client.asks();
    let count = |text: &str| Parsed::Read(Read::CountSlots { slots: ranges(text) });
    let expected: Vec<_> = THIRDS
        .iter()
        .enumerate()
        .map(|(at, third)| {
            (at as u64, Target::Slot(slots(third).first().expect("some")), count(third))
        })
        .collect();
    assert_eq!(asks, expected);
    client.answer(0, part(Reply::Integer(10), "100-199,300"));
    let moved = (0, Target::Slot(slot(100)), count("100-199,300"));
    assert_eq!(client.one_ask(), moved);
    client.answer(2, part(Reply::Integer(30), ""));
    client.answer(1, part(Reply::Integer(20), ""));
    client.answer(0, part(Reply::Integer(4), "300"));
    assert_eq!(client.one_ask(), (0, Target::Slot(slot(300)), count("300")));
    assert_eq!(client.output(), "");
    client.answer(0, part(Reply::Integer(1), ""));
    assert_eq!(client.output(), ":65\r\n");
}

#[test]
fn keys_and_flushall_go_to_every_group() {
    let mut client = plain();
    client.send("KEYS x*");
    for (at, (ticket, _, parsed)) in client.asks().into_iter().enumerate() {
        assert!(matches!(parsed, Parsed::Read(Read::KeysOfSlots { limit: u64::MAX, .. })));
        client.answer(ticket, part(Reply::Array(vec![bulk(&format!("x{at}"))]), ""));
    }
    assert_eq!(client.output(), "*3\r\n$2\r\nx0\r\n$2\r\nx1\r\n$2\r\nx2\r\n");
    client.send("FLUSHALL");
    let asks = client.asks();
    assert_eq!(asks.len(), 3);
    client.send("GET a");
    assert!(client.requests.is_empty(), "what follows a flush waits for it");
    for (ticket, _, _) in asks {
        client.answer(ticket, part(Reply::Ok, if ticket == 4 { "6000" } else { "" }));
    }
    let writes = client.writes();
    assert_eq!((writes[0].seq, writes[0].slot, writes[0].after), (Seq(4), slot(6000), None));
    client.answer(4, part(Reply::Ok, ""));
    assert_eq!(client.output(), "+OK\r\n");
    assert_eq!(client.one_ask().1, Target::Slot(slot(A)));
}

#[test]
fn one_that_asked_for_the_map_sees_what_this_node_leads() {
    let mut client = Client::with(Still { atlas: Arc::new(atlas([1, 2, 1])), ..Still::default() });
    client.send("CLUSTER NODES");
    client.output();
    client.send("DBSIZE");
    let asks = client.asks();
    assert_eq!(asks.len(), 2);
    client.answer(asks[0].0, part(Reply::Integer(1), ""));
    client.answer(asks[1].0, part(Reply::Integer(2), ""));
    assert_eq!(client.output(), ":3\r\n");
    // SCAN leaves out what is led elsewhere.
    client.send("SCAN 0 COUNT 1");
    let (ticket, to, _) = client.one_ask();
    assert_eq!(to, Target::Slot(slot(0)));
    let elsewhere = kontiki_kv::command::ScanPosition::start_of(slot(5461)).cursor();
    let first_of_third = kontiki_kv::command::ScanPosition::start_of(slot(10923)).cursor();
    let step = |cursor: u64, keys: &[&str]| {
        let keys = keys.iter().map(|key| bulk(key)).collect();
        Reply::Array(vec![bulk(&cursor.to_string()), Reply::Array(keys)])
    };
    client.answer(ticket, step(elsewhere, &["b"]));
    let cursor = first_of_third.to_string();
    assert_eq!(
        client.output(),
        format!("*2\r\n${}\r\n{cursor}\r\n*1\r\n$1\r\nb\r\n", cursor.len())
    );
    client.send(&format!("SCAN {cursor}"));
    let (ticket, to, _) = client.one_ask();
    assert_eq!(to, Target::Slot(slot(10923)));
    client.answer(ticket, step(0, &["a"]));
    assert_eq!(client.output(), "*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n");
    let mut nothing = Client::with(Still { atlas: Arc::new(atlas([2, 2, 3])), ..Still::default() });
    nothing.send("CLUSTER NODES");
    nothing.output();
    assert_eq!(nothing.reply("DBSIZE"), ":0\r\n");
    assert_eq!(nothing.reply("SCAN 0"), "*2\r\n$1\r\n0\r\n*0\r\n");
    assert_eq!(nothing.reply("RANDOMKEY"), "$-1\r\n");
}

#[test]
fn a_scan_goes_on_while_it_finds_little() {
    let mut client = plain();
    client.send("SCAN 0 COUNT 2");
    let mut steps = 0;
    while let Some((ticket, to, _)) = client.asks().pop() {
        assert_eq!(to, Target::Slot(slot(steps * 100)));
        steps += 1;
        let next = kontiki_kv::command::ScanPosition::start_of(slot(steps * 100)).cursor();
        client
            .answer(ticket, Reply::Array(vec![bulk(&next.to_string()), Reply::Array(Vec::new())]));
    }
    assert_eq!(steps, 16, "but not for ever");
    assert!(client.output().ends_with("*0\r\n"));
}

#[test]
fn randomkey_asks_on_until_a_group_has_a_key() {
    let mut client = plain();
    client.send("RANDOMKEY");
    let mut asked = Vec::new();
    for _ in 0..2 {
        let (ticket, to, _) = client.one_ask();
        asked.push(to);
        client.answer(ticket, Reply::Nil);
    }
    let (ticket, to, _) = client.one_ask();
    asked.push(to);
    client.answer(ticket, bulk("k"));
    assert_eq!(client.output(), "$1\r\nk\r\n");
    // The host's number is 4, a slot of group 1.
    assert_eq!(asked, [1, 2, 3].map(|group| Target::Group(GroupId(group))));
}

#[test]
fn wait_answers_for_the_groups_that_were_written_to() {
    let mut atlas = atlas([1, 2, 3]);
    atlas.groups.get_mut(&GroupId(2)).expect("there").nodes.clear();
    let mut client = Client::with(Still { atlas: Arc::new(atlas), ..Still::default() });
    client.send("SET a 1");
    client.answer(0, Reply::Ok);
    client.send("WAIT 1 0");
    assert_eq!(client.output(), "+OK\r\n:1\r\n");
    client.send("SET c 1");
    client.answer(2, Reply::Ok);
    client.send("WAIT 1 0");
    assert_eq!(client.output(), "+OK\r\n:0\r\n");
}

#[test]
fn the_map_names_ranges_leaders_and_replicas() {
    let mut client = plain();
    let name = |id: u64| format!("{:016x}{:024x}", 0xab00 + id, id);
    let node =
        |id: u64| format!("*4\r\n$8\r\n10.0.0.{id}\r\n:7000\r\n$40\r\n{}\r\n*0\r\n", name(id));
    let range = |first: u16, last: u16, nodes: &[u64]| {
        let count = 2 + nodes.len();
        let nodes: String = nodes.iter().map(|id| node(*id)).collect();
        format!("*{count}\r\n:{first}\r\n:{last}\r\n{nodes}")
    };
    // Each leader stands first as a master, before it stands anywhere as a replica.
    let slots = [
        range(0, 0, &[1]),
        range(5461, 5461, &[2, 1]),
        range(10923, 16383, &[3, 1, 2]),
        range(1, 5460, &[1, 2, 3]),
        range(5462, 10922, &[2, 1, 3]),
    ];
    assert_eq!(client.reply("CLUSTER SLOTS"), format!("*5\r\n{}", slots.concat()));
    let text = client.reply("CLUSTER NODES");
    let lines: Vec<&str> = text.lines().skip(1).filter(|line| !line.is_empty()).collect();
    assert_eq!(
        lines[0],
        format!("{} 10.0.0.1:7000@7100 myself,master - 0 0 2 connected 0-5460", name(1))
    );
    assert_eq!(
        lines[2],
        format!("{} 10.0.0.3:7000@7100 master - 0 0 2 connected 10923-16383", name(3))
    );
    let shards = client.reply("CLUSTER SHARDS");
    assert_eq!(shards.matches("$7\r\nreplica\r\n").count(), 6, "{shards}");
    assert_eq!(shards.matches("$6\r\nmaster\r\n").count(), 3, "{shards}");
    client.send("HELLO 3");
    client.output();
    assert!(client.reply("CLUSTER SHARDS").starts_with("*3\r\n%2\r\n"));
    assert_eq!(client.reply("CLUSTER MYID"), format!("$40\r\n{}\r\n", name(1)));
    let replicas = client.reply(&format!("CLUSTER REPLICAS {}", name(2)));
    assert!(replicas.starts_with("*2\r\n") && replicas.contains("slave"), "{replicas}");
    assert_eq!(client.reply("CLUSTER REPLICAS x"), "-ERR Unknown node x\r\n");
    assert_eq!(client.reply("CLUSTER LINKS").matches("direction").count(), 4);
}

#[test]
fn the_map_changes_with_the_atlas() {
    let mut client = plain();
    let before = client.reply("CLUSTER NODES");
    assert_eq!(client.reply("CLUSTER NODES"), before);
    client.host.atlas = Arc::new(atlas([2, 2, 3]));
    let after = client.reply("CLUSTER NODES");
    assert!(after.contains(" 0-5460 5461-10922\n"), "{after}");
    // A copy of an atlas answers for itself.
    let mut copy = Atlas::clone(&client.host.atlas);
    copy.groups.get_mut(&GroupId(1)).expect("there").leader = Some(NodeId(1));
    client.host.atlas = Arc::new(copy);
    assert_eq!(client.reply("CLUSTER NODES"), before);
}

#[test]
fn the_state_is_ok_when_every_slot_has_a_leader() {
    let mut client = plain();
    let info = client.reply("CLUSTER INFO");
    for line in ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_size:3"] {
        assert!(info.contains(line), "{info}");
    }
    client.host.atlas = Arc::new(atlas([1, 0, 3]));
    let info = client.reply("CLUSTER INFO");
    for line in ["cluster_state:fail", "cluster_slots_assigned:16384", "cluster_slots_fail:5462"] {
        assert!(info.contains(line), "{info}");
    }
}

#[test]
fn slots_of_nobody_are_not_served_yet() {
    let mut atlas = atlas([1, 2, 3]);
    let mut controller = Controller::new();
    tell(&mut controller, 1, Op::Join { groups: vec![(GroupId(1), vec![NodeId(1)])] });
    atlas.configuration = Some(Arc::new(controller.configuration().clone()));
    let mut client = Client::with(Still { atlas: Arc::new(atlas), ..Still::default() });
    client.send("DBSIZE");
    assert_eq!(client.one_ask().1, Target::Slot(slot(0)), "it waits for an owner");
    client.fail(0, Failure::Unavailable);
    client.output();
    assert_eq!(client.reply("CLUSTER SLOTS"), "*0\r\n");
    assert_eq!(client.reply("GET a"), "-CLUSTERDOWN Hash slot not served\r\n");
}

#[test]
fn keys_of_a_slot_are_counted_and_listed_wherever_it_is() {
    let mut client = plain();
    assert_eq!(client.reply("CLUSTER KEYSLOT a"), ":15495\r\n");
    client.send("CLUSTER COUNTKEYSINSLOT 15495");
    let (ticket, to, parsed) = client.one_ask();
    assert_eq!(to, Target::Slot(slot(A)));
    assert_eq!(parsed, Parsed::Read(Read::CountSlots { slots: ranges("15495") }));
    client.answer(ticket, part(Reply::Integer(7), ""));
    assert_eq!(client.output(), ":7\r\n");
    client.send("CLUSTER GETKEYSINSLOT 15495 2");
    let (ticket, _, parsed) = client.one_ask();
    assert!(matches!(parsed, Parsed::Read(Read::KeysOfSlots { limit: 2, pattern: None, .. })));
    client.answer(ticket, part(Reply::Array(vec![bulk("a")]), ""));
    assert_eq!(client.output(), "*1\r\n$1\r\na\r\n");
    assert_eq!(client.reply("CLUSTER COUNTKEYSINSLOT 16384"), "-ERR Invalid slot\r\n");
    assert_eq!(
        client.reply("CLUSTER GETKEYSINSLOT 1 x"),
        "-ERR value is not an integer or out of range\r\n"
    );
}

#[test]
fn what_would_change_a_redis_cluster_names_what_to_use() {
    let mut client = plain();
    for (command, instead) in [
        ("CLUSTER MEET 10.0.0.4 7000", "kontiki cluster add-node"),
        ("CLUSTER ADDSLOTS 1", "kontiki cluster rebalance"),
        ("CLUSTER SETSLOT 1 NODE x", "kontiki cluster move"),
        ("CLUSTER FORGET x", "kontiki cluster remove-node"),
        ("CLUSTER FAILOVER", "kontiki cluster transfer"),
        ("CLUSTER RESET", "kontiki cluster remove-node"),
    ] {
        let said = client.reply(command);
        assert!(said.starts_with("-ERR ") && said.contains(instead), "{said}");
    }
    assert!(client.reply("CLUSTER NOSUCH").contains("unknown subcommand 'NOSUCH'"));
}

#[test]
fn a_store_that_is_not_sharded_serves_cluster_clients_and_plain_ones_as_before() {
    let mut atlas = atlas([2, 2, 2]);
    atlas.configuration = None;
    let mut client = Client::with(Still { atlas: Arc::new(atlas), ..Still::default() });
    let slots = client.reply("CLUSTER SLOTS");
    assert!(slots.starts_with("*1\r\n*5\r\n:0\r\n:16383\r\n*4\r\n$8\r\n10.0.0.2\r\n"), "{slots}");
    assert!(client.reply("CLUSTER INFO").contains("cluster_state:ok"));
    for command in ["GET a", "MSET a 1 b 2", "DBSIZE", "DEL a b"] {
        client.send(command);
        let (ticket, to, _) = client.one_ask();
        assert_eq!(to, Target::Group(GroupId(1)), "{command}");
        client.answer(ticket, Reply::Integer(0));
    }
}
