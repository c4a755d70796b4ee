//! Requests that find their group: from nodes without a replica, and while slots move.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kontiki_kv::Reply;
use kontiki_kv::command::{Read, Write};
use kontiki_replica::steward::{CONTROLLER, tell, told};
use kontiki_replica::{Answer, Ask, Failure, Target};
use kontiki_shard::{Call, Op, Reply as Decision, SlotSet, Told};
use kontiki_types::{GroupId, NodeId, Slot};

use crate::bytes_of::configuration;
use crate::world::{World, client, get, session, set};

/// Group 1 has the first half of the slots, group 2 the other; node 6 has no replica.
const GROUPS: &[(u32, &[u64])] = &[(0, &[1, 2, 3]), (1, &[1, 2, 3]), (2, &[3, 4, 5])];

fn home(key: &str) -> Target {
    Target::Slot(Slot::of(key.as_bytes()))
}

/// Keys of the first half of the slots, and of the second one.
fn keys(second: bool) -> impl Iterator<Item = String> {
    let keys = (0..).map(|number| format!("key:{number}"));
    keys.filter(move |key| (Slot::of(key.as_bytes()).get() >= 8192) == second)
}

fn reply(answer: Answer) -> Reply {
    match answer {
        Answer::Reply(reply) => reply,
        Answer::Failed(failure) => panic!("{failure:?}"),
    }
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn any_node_serves_any_slot() {
    let mut world = World::new(6, GROUPS);
    world.until_led(&[0, 1, 2]);
    let (one, two) = (keys(false).next().unwrap(), keys(true).next().unwrap());
    for node in 1..=6 {
        for (at, key) in [&one, &two].into_iter().enumerate() {
            let value = format!("{node}");
            let write = set(client(node), at as u64 + 1, key, &value, &world);
            let ticket = world.ask(node, home(key), Ask::Write(write));
            assert_eq!(reply(world.answer(node, ticket)), Reply::Ok);
            let reader = node % 6 + 1;
            let ticket = world.ask(reader, home(key), get(key));
            assert_eq!(reply(world.answer(reader, ticket)), bulk(&value));
        }
    }
}

#[test]
fn a_node_without_a_replica_serves_a_store_of_one_group() {
    let mut world = World::new(4, &[(1, &[1, 2, 3])]);
    world.until_led(&[1]);
    let write = set(client(4), 1, "k", "v", &world);
    let ticket = world.ask(4, home("k"), Ask::Write(write));
    assert_eq!(reply(world.answer(4, ticket)), Reply::Ok);
    let ticket = world.ask(4, Target::Group(GroupId(1)), get("k"));
    assert_eq!(reply(world.answer(4, ticket)), bulk("v"));
}

#[test]
fn a_group_that_nobody_has_heard_of_is_not_looked_for() {
    let mut world = World::new(4, &[(1, &[1, 2, 3])]);
    world.until_led(&[1]);
    let ticket = world.ask(4, Target::Group(CONTROLLER), get("k"));
    world.run(1);
    let answer = world.take_answer(4, ticket);
    assert!(matches!(answer, Some(Answer::Failed(Failure::Unavailable))), "{answer:?}");
}

#[test]
fn a_reply_that_is_too_large_to_be_passed_on_is_refused_and_said_so() {
    let mut world = World::new(4, &[(1, &[1, 2, 3])]);
    world.until_led(&[1]);
    let value = "x".repeat(5 << 20);
    let write = set(client(1), 1, "k", &value, &world);
    let ticket = world.ask(1, home("k"), Ask::Write(write));
    assert_eq!(reply(world.answer(1, ticket)), Reply::Ok);
    let key = Bytes::from_static(b"k");
    let twice = Ask::Read(Read::MGet { keys: vec![key.clone(), key] });
    let ticket = world.ask(4, home("k"), twice);
    let answer = world.answer(4, ticket);
    assert!(matches!(answer, Answer::Failed(Failure::ReplyTooLarge)), "{answer:?}");
    let ticket = world.ask(4, home("k"), get("k"));
    assert_eq!(reply(world.answer(4, ticket)), bulk(&value));
}

#[test]
fn giving_up_is_unknown_only_for_a_write_that_may_be_in_a_log() {
    let mut world = World::new(4, &[(1, &[1, 2, 3])]);
    world.until_led(&[1]);
    world.run(1000);
    world.cut.extend([1, 2, 3].map(NodeId));
    let write = set(client(4), 1, "k", "v", &world);
    let write = world.ask(4, home("k"), Ask::Write(write));
    let read = world.ask(4, home("k"), get("k"));
    let answer = world.answer(4, write);
    assert!(matches!(answer, Answer::Failed(Failure::Unknown)), "{answer:?}");
    let answer = world.answer(4, read);
    assert!(matches!(answer, Answer::Failed(Failure::Unavailable)), "{answer:?}");
    assert_eq!(world.core(4).routed_requests(), 0);
}

#[test]
fn the_leader_of_a_group_elsewhere_may_die_while_requests_are_under_way() {
    let mut world = World::new(6, GROUPS);
    world.until_led(&[0, 1, 2]);
    world.run(1000);
    let key = keys(true).next().unwrap();
    let mut expected = 0;
    for round in 0..4 {
        let leader = world.leader(2).expect("a leader");
        let mut tickets = Vec::new();
        for number in 0..20 {
            let seq = round * 20 + number + 1;
            let add = Write::IncrBy { key: key.clone().into(), by: 1 };
            let write = session(client(6), seq, None, &key, &add, &world);
            tickets.push(world.ask(6, home(&key), Ask::Write(write)));
            if number == 10 {
                world.cut.insert(NodeId(leader));
            }
        }
        for ticket in tickets {
            assert!(matches!(reply(world.answer(6, ticket)), Reply::Integer(_)));
            expected += 1;
        }
        let ticket = world.ask(6, home(&key), get(&key));
        assert_eq!(reply(world.answer(6, ticket)), bulk(&expected.to_string()));
        world.cut.clear();
        world.run(500);
    }
}

/// Has the controller plan a move of slots to a group, once they are in no other.
fn plan(world: &mut World, seq: &mut u64, slots: SlotSet, to: GroupId) {
    for _ in 0..200 {
        *seq += 1;
        let parts = vec![(slots.clone(), to)];
        let call = tell(&Call::Decide { op: Op::Plan { at: None, parts } });
        let write = session(client(999), *seq, None, "", &call, world);
        let ticket = world.ask(6, Target::Group(CONTROLLER), Ask::Write(write));
        match told(&reply(world.answer(6, ticket))).expect("the controller's word") {
            Told::Decided { reply: Decision::Planned { .. }, .. } => return,
            Told::Decided { reply: Decision::Refused { .. }, .. } => world.run(20),
            other => panic!("{other:?}"),
        }
    }
    panic!("the slots come to no end of their move");
}

fn owner(world: &World, node: u64, key: &str) -> Option<GroupId> {
    world.nodes[&NodeId(node)].core.atlas().owner(Slot::of(key.as_bytes()))
}

/// A client that appends its numbers to a key, two at a time, the second after the first.
struct Appender {
    key: String,
    next: u64,
    node: u64,
    open: Vec<(u64, u64)>,
}

/// Clients write and read at all nodes while slots move to the other group and back.
fn moves_under_load(loses: u64, doubles: u64) -> World {
    let mut world = World::new(6, GROUPS);
    world.until_led(&[0, 1, 2]);
    (world.loses, world.doubles) = (loses, doubles);
    let mut clients: Vec<Appender> = keys(false)
        .take(8)
        .zip((1..=6).cycle())
        .map(|(key, node)| Appender { key, next: 1, node, open: Vec::new() })
        .collect();
    let everything: SlotSet = (0..8192).filter_map(Slot::new).collect();
    let (mut plans, mut readings) = (0, Vec::<(u64, u64, usize)>::new());
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    for round in 0..2u32 {
        let to = GroupId(2 - round % 2);
        plan(&mut world, &mut plans, everything.clone(), to);
        let mut turns = 0;
        while (1..=6).any(|node| owner(&world, node, &clients[0].key) != Some(to)) || turns < 20 {
            turns += 1;
            assert!(turns < 400, "the move comes to no end");
            world.run(20);
            for (at, appender) in clients.iter_mut().enumerate() {
                let node = appender.node;
                appender.open.retain(|&(ticket, number)| {
                    let Some(answer) = world.take_answer(node, ticket) else { return true };
                    let Answer::Reply(Reply::Integer(length)) = answer else {
                        panic!("{answer:?} to {} of {}", number, appender.key)
                    };
                    assert_eq!(length, number as i64 * 5, "{} has a wrong length", appender.key);
                    false
                });
                if appender.open.is_empty() {
                    for number in [appender.next, appender.next + 1] {
                        let after = (number > appender.next).then_some(appender.next);
                        let value = format!("{number:04} ").into();
                        let append = Write::Append { key: appender.key.clone().into(), value };
                        let number_of = client(100 + at as u64);
                        let write =
                            session(number_of, number, after, &appender.key, &append, &world);
                        let ticket = world.ask(node, home(&appender.key), Ask::Write(write));
                        appender.open.push((ticket, number));
                    }
                    appender.next += 2;
                }
            }
            // Whoever reads sees no less than was seen before.
            let at = turns % clients.len();
            if readings.iter().all(|(_, _, other)| *other != at) {
                let node = turns as u64 % 6 + 1;
                let ticket = world.ask(node, home(&clients[at].key), get(&clients[at].key));
                readings.push((node, ticket, at));
            }
            readings.retain(|&(node, ticket, at)| {
                let Some(answer) = world.take_answer(node, ticket) else { return true };
                let length = match reply(answer) {
                    Reply::Bulk(value) => value.len(),
                    Reply::Nil => 0,
                    other => panic!("{other:?}"),
                };
                let before = seen.entry(at).or_default();
                assert!(*before <= length, "{} went back", clients[at].key);
                *before = length;
                false
            });
        }
    }
    (world.loses, world.doubles) = (0, 0);
    for appender in clients {
        for (ticket, _) in appender.open {
            assert!(matches!(reply(world.answer(appender.node, ticket)), Reply::Integer(_)));
        }
        let expected: String = (1..appender.next).map(|number| format!("{number:04} ")).collect();
        let ticket = world.ask(6, home(&appender.key), get(&appender.key));
        assert_eq!(reply(world.answer(6, ticket)), bulk(&expected));
        assert!(appender.next > 10, "only {} writes got through", appender.next);
    }
    world
}

#[test]
fn each_write_takes_effect_once_and_in_order_while_its_slot_moves_there_and_back() {
    moves_under_load(0, 0);
}

#[test]
fn each_write_takes_effect_once_and_in_order_although_frames_are_lost_or_doubled() {
    moves_under_load(23, 7);
}

#[test]
fn waiting_for_a_slot_costs_little_and_ends_when_it_is_served() {
    const CLIENTS: u64 = 500;
    let mut world = World::new(6, GROUPS);
    world.until_led(&[0, 1, 2]);
    let key = keys(false).next().unwrap();
    let slot = Slot::of(key.as_bytes()).get();
    let (groups, nodes) = ([GroupId(1), GroupId(2)], [3].map(NodeId));
    // Everybody believes that group 2 has the slot, which does not.
    let wrong = configuration(100, &groups, &nodes, &[(slot, GroupId(2))]);
    world.core(6).set_configuration(Arc::new(wrong));
    world.run(100);
    let add = Write::IncrBy { key: key.clone().into(), by: 1 };
    let mut tickets = Vec::new();
    for number in 1..=CLIENTS {
        let write = session(client(number), 1, None, &key, &add, &world);
        tickets.push(world.ask(6, home(&key), Ask::Write(write)));
    }
    world.run(100);
    let entries = |world: &World| world.applied[&(NodeId(4), GroupId(2))];
    let before = entries(&world);
    world.run(2000);
    let tried = entries(&world) - before;
    assert!((10..100).contains(&tried), "{tried} entries");
    assert_eq!(world.core(6).routed_requests() as u64, CLIENTS);
    // A read is tried rather than a write.
    let read = world.ask(6, home(&key), get(&key));
    world.run(100);
    let before = entries(&world);
    world.run(1000);
    let tried = entries(&world) - before;
    assert!(tried < 3, "{tried} entries");
    let right = configuration(101, &groups, &nodes, &[]);
    world.core(6).set_configuration(Arc::new(right));
    let begun = world.now;
    for ticket in tickets {
        assert!(matches!(reply(world.answer(6, ticket)), Reply::Integer(_)));
    }
    reply(world.answer(6, read));
    let took = world.now.since(begun).as_millis();
    assert!(took < 50, "{took} ms");
    assert_eq!(world.core(6).routed_requests(), 0);
    let ticket = world.ask(1, home(&key), get(&key));
    assert_eq!(reply(world.answer(1, ticket)), bulk(&CLIENTS.to_string()));
}

/// A client that routes by itself is told to try again, and what it was told so of has no effect
/// later; others wait.
#[test]
fn who_waits_briefly_for_a_slot_is_told_to_try_again() {
    let mut world = World::new(6, GROUPS);
    world.until_led(&[0, 1, 2]);
    let key = keys(false).next().unwrap();
    let slot = Slot::of(key.as_bytes()).get();
    let (groups, nodes) = ([GroupId(1), GroupId(2)], [3].map(NodeId));
    // Everybody believes that group 2 has the slot, which does not.
    let wrong = configuration(100, &groups, &nodes, &[(slot, GroupId(2))]);
    world.core(6).set_configuration(Arc::new(wrong));
    world.run(100);
    let add = Write::IncrBy { key: key.clone().into(), by: 1 };
    let write = |number: u64, after: Option<u64>, seq: u64, world: &World| {
        Ask::Write(session(client(number), seq, after, &key, &add, world))
    };
    let asks = [write(1, None, 1, &world), write(1, Some(1), 2, &world), get(&key)];
    let brief = asks.map(|ask| world.ask_briefly(6, home(&key), ask));
    let ask = write(2, None, 1, &world);
    let patient = world.ask(6, home(&key), ask);
    world.run(150);
    assert!(brief.iter().all(|ticket| world.take_answer(6, *ticket).is_none()));
    world.run(300);
    for ticket in brief {
        let answer = world.take_answer(6, ticket);
        assert!(matches!(answer, Some(Answer::Failed(Failure::StandsStill))), "{answer:?}");
    }
    assert!(world.take_answer(6, patient).is_none());
    let right = configuration(101, &groups, &nodes, &[]);
    world.core(6).set_configuration(Arc::new(right));
    assert_eq!(reply(world.answer(6, patient)), Reply::Integer(1));
    world.run(500);
    let ticket = world.ask(1, home(&key), get(&key));
    assert_eq!(reply(world.answer(1, ticket)), bulk("1"));
}
