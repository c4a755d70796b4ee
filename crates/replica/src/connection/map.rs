//! The cluster as Redis Cluster's clients want to see it: CLUSTER SLOTS, SHARDS, NODES and INFO.
//!
//! A group is what they call a shard: its leader is the master, its other voters are replicas. A
//! node has replicas of many groups, so CLUSTER NODES, where each node stands once, shows every
//! node as a master, of the ranges that it leads. A group whose leader is unknown is shown with the
//! first of its nodes in front: any node serves any slot, so a client that goes there is served.
//!
//! SLOTS, SHARDS and NODES are encoded once for each atlas, however many clients ask.

use std::fmt::Write;
use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use kontiki_kv::Reply;
use kontiki_types::{GroupId, NodeId, SLOTS, Slot};

use super::encode::{self, Protocol};
use crate::atlas::{Atlas, FIRST_GROUP};
use crate::peer::NodeInfo;

/// The answers that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    Slots,
    Shards,
    Nodes,
}

/// Encoded answers, by kind and protocol.
#[derive(Debug, Default)]
pub(crate) struct Encoded([OnceLock<Bytes>; 6]);

impl Clone for Encoded {
    /// A copy of an atlas may be changed: it begins without answers.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// The answer in the bytes of a protocol. `me` is the node whose atlas it is.
pub(super) fn encoded(map: Map, atlas: &Atlas, me: NodeId, protocol: Protocol) -> Bytes {
    let fresh = || {
        let mut bytes = BytesMut::new();
        encode::reply(&reply(map, atlas, me), protocol, &mut bytes);
        bytes.freeze()
    };
    let kind = match map {
        Map::Slots => 0,
        Map::Shards => 2,
        Map::Nodes => 4,
    };
    let place = atlas.encoded.0.get(kind + usize::from(protocol == Protocol::Resp3));
    place.map_or_else(fresh, |kept| kept.get_or_init(fresh).clone())
}

pub(super) fn reply(map: Map, atlas: &Atlas, me: NodeId) -> Reply {
    match map {
        Map::Slots => slots(atlas),
        Map::Shards => shards(atlas),
        Map::Nodes => Reply::Verbatim(nodes(atlas, me).into()),
    }
}

/// The name of a node for clients: 40 hexadecimal digits, the same as long as its directory is.
pub(super) fn node_name(info: &NodeInfo) -> String {
    format!("{:016x}{:024x}", info.incarnation.0, info.id.0)
}

/// Host and port of a node for Redis clients.
pub(super) fn endpoint(info: &NodeInfo) -> (&str, u16) {
    let (host, port) = info.resp.rsplit_once(':').unwrap_or((&info.resp, "0"));
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (host, port.parse().unwrap_or(0))
}

/// Runs of slots with their owners, in order.
fn runs(atlas: &Atlas) -> Vec<(Slot, Slot, GroupId)> {
    match &atlas.configuration {
        None => {
            let last = Slot::new(SLOTS - 1).unwrap_or_default();
            vec![(Slot::default(), last, FIRST_GROUP)]
        }
        Some(known) => {
            known.runs().filter_map(|(first, last, owner)| Some((first, last, owner?))).collect()
        }
    }
}

/// A group's nodes as far as known, the leader first; those that were not heard lately are left
/// out, unless they are all.
fn nodes_of(atlas: &Atlas, group: GroupId) -> Vec<&NodeInfo> {
    let place = atlas.groups.get(&group);
    let mut ids = place.map(|place| place.nodes.clone()).unwrap_or_default();
    if ids.is_empty() {
        let wanted = atlas.configuration.as_ref().and_then(|known| known.group(group));
        ids = wanted.map(|entry| entry.nodes.clone()).unwrap_or_default();
    }
    if let Some(leader) = place.and_then(|place| place.leader) {
        ids.retain(|id| *id != leader);
        ids.insert(0, leader);
    }
    let known = ids.iter().filter_map(|id| atlas.nodes.get(id));
    let alive: Vec<&NodeInfo> =
        known.clone().filter(|(_, alive)| *alive).map(|(info, _)| info).collect();
    if alive.is_empty() { known.map(|(info, _)| info).collect() } else { alive }
}

/// Some libraries (redis-py) take a node for what it is where it stands first, a master or a
/// replica, and add up DBSIZE and the like over masters. So every node that leads something stands
/// first as a master: the first range of each leader comes before all others, and is one slot
/// without the replicas that lead other ranges that have not come yet.
fn slots(atlas: &Atlas) -> Reply {
    let runs: Vec<_> = runs(atlas)
        .into_iter()
        .map(|(first, last, group)| (first, last, nodes_of(atlas, group)))
        .collect();
    let leads = |node: NodeId| {
        runs.iter().any(|(_, _, nodes)| nodes.first().is_some_and(|first| first.id == node))
    };
    let mut shown: Vec<NodeId> = Vec::new();
    let (mut heads, mut rest) = (Vec::new(), Vec::new());
    for (first, last, nodes) in &runs {
        let Some((master, replicas)) = nodes.split_first() else { continue };
        if shown.contains(&master.id) {
            rest.push(range(*first, *last, nodes));
            continue;
        }
        let may_be = |info: &NodeInfo| shown.contains(&info.id) || !leads(info.id);
        let mut fitting = vec![*master];
        fitting.extend(replicas.iter().filter(|info| may_be(info)));
        match Slot::new(first.get() + 1).filter(|next| next <= last) {
            Some(next) if fitting.len() < nodes.len() => {
                heads.push(range(*first, *first, &fitting));
                rest.push(range(next, *last, nodes));
            }
            _ => heads.push(range(*first, *last, &fitting)),
        }
        shown.push(master.id);
    }
    heads.append(&mut rest);
    Reply::Array(heads)
}

fn range(first: Slot, last: Slot, nodes: &[&NodeInfo]) -> Reply {
    let number = |slot: Slot| Reply::Integer(i64::from(slot.get()));
    let mut entry = vec![number(first), number(last)];
    entry.extend(nodes.iter().map(|info| {
        let (host, port) = endpoint(info);
        Reply::Array(vec![
            bulk(host),
            Reply::Integer(i64::from(port)),
            bulk(&node_name(info)),
            Reply::Array(Vec::new()),
        ])
    }));
    Reply::Array(entry)
}

fn shards(atlas: &Atlas) -> Reply {
    let runs = runs(atlas);
    let mut groups: Vec<GroupId> = match &atlas.configuration {
        None => vec![FIRST_GROUP],
        Some(known) => known.groups().map(|(id, _)| id).collect(),
    };
    groups.sort_unstable();
    let shards = groups.into_iter().map(|group| {
        let own = runs.iter().filter(|(_, _, owner)| *owner == group);
        let slots = own.flat_map(|(first, last, _)| [first, last]);
        let slots = slots.map(|slot| Reply::Integer(i64::from(slot.get()))).collect();
        let nodes = nodes_of(atlas, group);
        let nodes = nodes.iter().map(|info| shard_node(atlas, group, info)).collect();
        Reply::Map(vec![(bulk("slots"), Reply::Array(slots)), (bulk("nodes"), Reply::Array(nodes))])
    });
    Reply::Array(shards.collect())
}

fn shard_node(atlas: &Atlas, group: GroupId, info: &NodeInfo) -> Reply {
    let (host, port) = endpoint(info);
    let leads = atlas.leader(group) == Some(info.id);
    let alive = atlas.nodes.get(&info.id).is_some_and(|(_, alive)| *alive);
    Reply::Map(vec![
        (bulk("id"), bulk(&node_name(info))),
        (bulk("port"), Reply::Integer(i64::from(port))),
        (bulk("ip"), bulk(host)),
        (bulk("endpoint"), bulk(host)),
        (bulk("role"), bulk(if leads { "master" } else { "replica" })),
        // Replication is by a log that each group has for itself; clients look for the field.
        (bulk("replication-offset"), Reply::Integer(0)),
        (bulk("health"), bulk(if alive { "online" } else { "failed" })),
    ])
}

fn nodes(atlas: &Atlas, me: NodeId) -> String {
    let mut text = String::new();
    for (info, alive) in atlas.nodes.values() {
        let mut flags = "master".to_owned();
        if info.id == me {
            flags.insert_str(0, "myself,");
        }
        if !alive {
            flags.push_str(",fail?");
        }
        line(atlas, info, &flags, "-", *alive, &mut text);
        for (first, last, group) in runs(atlas) {
            if atlas.leader(group) == Some(info.id) {
                let _ = match first == last {
                    true => write!(text, " {first}"),
                    false => write!(text, " {first}-{last}"),
                };
            }
        }
        text.push('\n');
    }
    text
}

/// A line of CLUSTER NODES without slots and line end.
fn line(atlas: &Atlas, info: &NodeInfo, flags: &str, master: &str, alive: bool, out: &mut String) {
    let (host, port) = endpoint(info);
    let peers = info.grpc.rsplit_once(':').map_or("0", |(_, port)| port);
    let link = if alive { "connected" } else { "disconnected" };
    let _ = write!(
        out,
        "{} {host}:{port}@{peers} {flags} {master} 0 0 {} {link}",
        node_name(info),
        atlas.epoch().0,
    );
}

/// CLUSTER REPLICAS: who has replicas of what the node with this name leads.
pub(super) fn replicas(atlas: &Atlas, name: &[u8]) -> Reply {
    let mut known = atlas.nodes.values().map(|(info, _)| info);
    let Some(master) = known.find(|info| node_name(info).as_bytes() == name) else {
        let name = String::from_utf8_lossy(name);
        return Reply::Error(format!("ERR Unknown node {name}").into());
    };
    let led = atlas.groups.values().filter(|place| place.leader == Some(master.id));
    let mut ids: Vec<NodeId> = led.flat_map(|place| place.nodes.iter().copied()).collect();
    ids.sort_unstable();
    ids.dedup();
    let others = ids.iter().filter(|id| **id != master.id).filter_map(|id| atlas.nodes.get(id));
    let lines = others.map(|(info, alive)| {
        let mut text = String::new();
        line(atlas, info, "slave", &node_name(master), *alive, &mut text);
        Reply::Bulk(text.into())
    });
    Reply::Array(lines.collect())
}

/// CLUSTER LINKS: the nodes that are heard.
pub(super) fn links(atlas: &Atlas, me: NodeId) -> Reply {
    let heard = atlas.nodes.values().filter(|(info, alive)| *alive && info.id != me);
    let links = heard.flat_map(|(info, _)| ["to", "from"].map(|way| (way, info)));
    let links = links.map(|(way, info)| {
        Reply::Map(vec![
            (bulk("direction"), bulk(way)),
            (bulk("node"), bulk(&node_name(info))),
            (bulk("events"), bulk(if way == "to" { "w" } else { "r" })),
        ])
    });
    Reply::Array(links.collect())
}

/// CLUSTER INFO.
pub(super) fn info(atlas: &Atlas) -> String {
    let (mut assigned, mut served) = (0, 0);
    let mut leaders = Vec::new();
    for (first, last, group) in runs(atlas) {
        let count = u32::from(last.get() - first.get()) + 1;
        assigned += count;
        if let Some(leader) = atlas.leader(group) {
            served += count;
            leaders.push(leader);
        }
    }
    leaders.sort_unstable();
    leaders.dedup();
    let state = if served == u32::from(SLOTS) { "ok" } else { "fail" };
    let fields = [
        ("cluster_state", state.to_owned()),
        ("cluster_slots_assigned", assigned.to_string()),
        ("cluster_slots_ok", served.to_string()),
        ("cluster_slots_pfail", "0".to_owned()),
        ("cluster_slots_fail", (assigned - served).to_string()),
        ("cluster_known_nodes", atlas.nodes.len().to_string()),
        ("cluster_size", leaders.len().to_string()),
        ("cluster_current_epoch", atlas.epoch().0.to_string()),
        ("cluster_my_epoch", atlas.epoch().0.to_string()),
    ];
    fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect()
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(text.as_bytes()))
}
