//! cluster: looking at a cluster and changing who belongs to it.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use kontiki_client::blocking::Client;
use kontiki_client::{
    AddNode, Change, ClusterStatus, DrainNode, EnableSharding, JoinGroup, LeaveGroup, Members,
    MoveSlots, NodeStatus, Rebalance,
};
use serde_json::{Value, json};

use crate::cli::{AddressArgs, ClusterArgs, ClusterCommand, ReplicaArgs};
use crate::keys::{cluster_status, connect, operators, told};
use crate::reshape;

/// A change may carry a whole state to a new replica.
const CHANGE_SECONDS_MIN: f64 = 660.0;

/// How long a node's new directory may take to be known, and how often it is looked.
const INTRODUCED_MAX: Duration = Duration::from_secs(15);
const INTRODUCED_LOOK: Duration = Duration::from_millis(200);

pub(crate) fn run(args: &ClusterArgs) -> Result<()> {
    match &args.command {
        ClusterCommand::Status { watch, json, address } => {
            if *watch {
                watch_status(address)
            } else {
                print_status(address, *json)
            }
        }
        ClusterCommand::Transfer { group, to, json, address } => {
            let leader = connect(address)?.transfer(*group, *to).map_err(told)?;
            if *json {
                println!("{}", json!({ "group": group, "leader": leader }));
            } else {
                println!("group {group} is led by node {leader}");
            }
            Ok(())
        }
        ClusterCommand::AddReplica(args) => change(args, Client::add_replica),
        ClusterCommand::RemoveReplica(args) => change(args, Client::remove_replica),
        ClusterCommand::Readmit { node, json, address } => readmit(*node, *json, address),
        ClusterCommand::Slots { json, address } => reshape::print_slots(&connect(address)?, *json),
        ClusterCommand::Query { config, json, address } => {
            reshape::print_configuration(&connect(address)?, *config, *json)
        }
        ClusterCommand::Join { group, nodes, how } => {
            let (group, nodes) = (*group, nodes.clone());
            reshape::run(Change::Join(JoinGroup { group, nodes }), how)
        }
        ClusterCommand::Leave { group, how } => {
            reshape::run(Change::Leave(LeaveGroup { group: *group }), how)
        }
        ClusterCommand::Move { slots, to, how } => {
            let ranges = reshape::parse_ranges(slots)?;
            reshape::run(Change::Move(MoveSlots { ranges, to: *to }), how)
        }
        ClusterCommand::EnableSharding { how } => {
            reshape::run(Change::EnableSharding(EnableSharding {}), how)
        }
        ClusterCommand::Rebalance { how } => reshape::run(Change::Rebalance(Rebalance {}), how),
        ClusterCommand::AddNode { id, how } => {
            reshape::run(Change::AddNode(AddNode { node: *id }), how)
        }
        ClusterCommand::Drain { id, how } => {
            reshape::run(Change::Drain(DrainNode { node: *id }), how)
        }
        ClusterCommand::RemoveNode { id, how } => reshape::remove_node(*id, how),
    }
}

/// What the cluster knows once all of it that is alive knows the directory that the node has now.
fn await_introduced(node: u64, address: &AddressArgs) -> Result<(ClusterStatus, u64)> {
    let deadline = Instant::now() + INTRODUCED_MAX;
    loop {
        let status = cluster_status(address)?;
        let ask = |info: &NodeStatus| {
            let there = AddressArgs { addr: info.grpc.clone(), ..address.clone() };
            cluster_status(&there)
        };
        let incarnation_in = |status: &ClusterStatus| {
            let info = status.nodes.iter().find(|info| info.id == node && info.alive);
            info.map(|info| info.incarnation)
        };
        let itself = status.nodes.iter().find(|info| info.id == node).and_then(|info| {
            ask(info).ok().filter(|said| said.node == node).and_then(|said| incarnation_in(&said))
        });
        let others = status.nodes.iter().filter(|info| info.alive && info.id != node);
        let mut said = others.map(|info| ask(info).ok().as_ref().and_then(incarnation_in));
        if let Some(incarnation) = itself
            && said.all(|said| said == Some(incarnation))
        {
            return Ok((status, incarnation));
        }
        if Instant::now() >= deadline {
            bail!(
                "node {node} is not heard from, or not by all nodes\n\
                 hint: start it first, on an empty directory: kontiki node --id {node} --dir DIR \
                 --listen HOST:PORT --join {}",
                address.addr
            );
        }
        std::thread::sleep(INTRODUCED_LOOK);
    }
}

/// Has every group that still counts the node's old directory among its voters count its new one.
fn readmit(node: u64, json: bool, address: &AddressArgs) -> Result<()> {
    let (status, incarnation) = await_introduced(node, address)?;
    // Each node knows the groups of its own replicas.
    let mut groups: BTreeMap<u32, String> = BTreeMap::new();
    for peer in status.nodes.iter().filter(|peer| peer.alive && peer.id != node) {
        let there = AddressArgs { addr: peer.grpc.clone(), ..address.clone() };
        let Ok(seen) = cluster_status(&there) else { continue };
        for group in seen.groups {
            let mut voters = group.voters.iter().zip(&group.voter_incarnations);
            // A learner is what an earlier call has left that did not come to its end.
            if voters.any(|(voter, of)| *voter == node && *of != incarnation)
                || group.learners.contains(&node)
            {
                groups.insert(group.id, peer.grpc.clone());
            }
        }
    }
    let timeout = address.timeout.max(CHANGE_SECONDS_MIN);
    for (group, addr) in &groups {
        let there = AddressArgs { addr: addr.clone(), timeout, password: address.password.clone() };
        let voters = admit(*group, (node, incarnation), &there)?;
        if !json {
            println!("group {group}: node {node} is a voter again, of {voters:?}");
        }
    }
    if json {
        let groups: Vec<_> = groups.keys().collect();
        println!(
            "{}",
            json!({ "node": node, "incarnation": format!("{incarnation:016x}"), "groups": groups })
        );
    } else if groups.is_empty() {
        println!("no group counts an earlier directory of node {node}");
    }
    Ok(())
}

/// Adds a replica on the node in this directory, and says who votes then. Whoever leads may have been
/// the directory that is gone: then another leader has to be elected first.
fn admit(group: u32, (node, incarnation): (u64, u64), there: &AddressArgs) -> Result<Vec<u64>> {
    let deadline = Instant::now() + INTRODUCED_MAX;
    loop {
        let added = connect(there).and_then(|client| client.add_replica(group, node).map_err(told));
        let error = match added {
            Ok(members) => return Ok(members.voters),
            Err(error) => error,
        };
        let known = cluster_status(there).ok().and_then(|status| {
            let mut groups = status.groups.into_iter();
            groups.find(|known| known.id == group)
        });
        if let Some(known) = known
            && known
                .voters
                .iter()
                .zip(&known.voter_incarnations)
                .any(|(voter, of)| *voter == node && *of == incarnation)
        {
            return Ok(known.voters);
        }
        if Instant::now() >= deadline {
            return Err(error);
        }
        std::thread::sleep(INTRODUCED_LOOK);
    }
}

fn change(
    args: &ReplicaArgs,
    act: impl FnOnce(&Client, u32, u64) -> Result<Members, kontiki_client::Error>,
) -> Result<()> {
    let address = crate::cli::AddressArgs {
        timeout: args.address.timeout.max(CHANGE_SECONDS_MIN),
        addr: args.address.addr.clone(),
        password: args.address.password.clone(),
    };
    let members = act(&connect(&address)?, args.group, args.node).map_err(told)?;
    if args.json {
        let Members { voters, learners } = members;
        println!("{}", json!({ "group": args.group, "voters": voters, "learners": learners }));
    } else {
        println!("group {} has voters {:?}", args.group, members.voters);
    }
    Ok(())
}

fn print_status(address: &AddressArgs, json: bool) -> Result<()> {
    let status = cluster_status(address)?;
    let text = if json {
        format!("{}\n", serde_json::to_string_pretty(&as_json(&status))?)
    } else {
        as_table(&status)
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever read has had enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Prints the status twice a second until Ctrl-C; on a terminal in place.
fn watch_status(address: &AddressArgs) -> Result<()> {
    let client = operators(address)?;
    let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    loop {
        let text = match client.cluster_status() {
            Ok(status) => as_table(&status),
            Err(error) => format!("{error}\n"),
        };
        let mut out = std::io::stdout().lock();
        if write!(out, "{clear}{text}").and_then(|()| out.flush()).is_err() {
            // Whoever read has had enough.
            return Ok(());
        }
        drop(out);
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn as_json(status: &ClusterStatus) -> Value {
    let nodes = status.nodes.iter().map(|node| {
        json!({
            "id": node.id,
            "pid": node.pid,
            "resp": node.resp,
            "grpc": node.grpc,
            "http": node.http,
            "alive": node.alive,
            "incarnation": format!("{:016x}", node.incarnation),
            "version": node.version,
        })
    });
    let groups = status.groups.iter().map(|group| {
        json!({
            "id": group.id,
            "leader": Some(group.leader).filter(|leader| *leader != 0),
            "term": group.term,
            "commit": group.commit,
            "applied": group.applied,
            "first_index": group.first_index,
            "last_index": group.last_index,
            "voters": group.voters,
            "learners": group.learners,
            "replicas": group.replicas.iter().map(|replica| json!({
                "node": replica.node,
                "matched": replica.matched,
                "snapshot": replica.snapshot,
            })).collect::<Vec<_>>(),
        })
    });
    json!({
        "cluster": format!("{:016x}", status.cluster_id),
        "answered_by": status.node,
        "nodes": nodes.collect::<Vec<_>>(),
        "groups": groups.collect::<Vec<_>>(),
        "without_state": status.without_state,
    })
}

fn as_table(status: &ClusterStatus) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for node in &status.nodes {
        let alive = if node.alive { "alive" } else { "silent" };
        let _ = writeln!(
            text,
            "node {}  {alive}  pid {}  resp {}  grpc {}  http {}",
            node.id, node.pid, node.resp, node.grpc, node.http
        );
    }
    for group in &status.without_state {
        let _ = writeln!(
            text,
            "group {group}  node {} has lost its state, and waits for a peer that has it",
            status.node
        );
    }
    for group in &status.groups {
        let leader = match group.leader {
            0 => "none".to_owned(),
            leader => format!("node {leader}"),
        };
        let _ = writeln!(
            text,
            "group {}  leader {leader}  term {}  commit {}  applied {}  last {}  voters {:?}  \
             learners {:?}",
            group.id,
            group.term,
            group.commit,
            group.applied,
            group.last_index,
            group.voters,
            group.learners
        );
        for replica in &group.replicas {
            let behind = group.last_index.saturating_sub(replica.matched);
            let how = if replica.snapshot { "  gets a snapshot" } else { "" };
            let _ = writeln!(
                text,
                "  node {}  matched {}  behind {behind}{how}",
                replica.node, replica.matched
            );
        }
    }
    text
}
