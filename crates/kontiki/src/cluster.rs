//! cluster: looking at a cluster and changing who belongs to it.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::Result;
use kontiki_client::blocking::Client;
use kontiki_client::{
    AddNode, Change, ClusterStatus, DrainNode, EnableSharding, JoinGroup, LeaveGroup, Members,
    MoveSlots, Rebalance,
};
use serde_json::{Value, json};

use crate::cli::{ClusterArgs, ClusterCommand, ReplicaArgs};
use crate::keys::{connect, told};
use crate::reshape;

/// A change may carry a whole state to a new replica.
const CHANGE_SECONDS_MIN: f64 = 660.0;

pub(crate) fn run(args: &ClusterArgs) -> Result<()> {
    match &args.command {
        ClusterCommand::Status { watch, json, address } => {
            let client = connect(address)?;
            if *watch { watch_status(&client) } else { print_status(&client, *json) }
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

fn print_status(client: &Client, json: bool) -> Result<()> {
    let status = client.cluster_status().map_err(told)?;
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
fn watch_status(client: &Client) -> Result<()> {
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
