//! A sharded cluster, and slots of it that are moved.

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::acceptance::client::{Client, Reply};
use crate::acceptance::cluster::Cluster;
use crate::acceptance::{Context, wait};
use crate::program::Program;

/// A move of a few slots takes a fraction of a second; one beside dying nodes some seconds.
const MOVE_MAX: Duration = Duration::from_secs(60);

/// What `kontiki cluster slots --json` says, as far as the items need it.
#[derive(Deserialize)]
pub struct Slots {
    pub groups: Vec<Group>,
    pub moves: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
pub struct Group {
    pub id: u32,
    pub slots: u32,
    pub ranges: Vec<(u16, u16)>,
}

impl Slots {
    /// Who has a slot.
    pub fn owner(&self, slot: u16) -> Option<u32> {
        let has = |group: &&Group| {
            group.ranges.iter().any(|(first, last)| (*first..=*last).contains(&slot))
        };
        self.groups.iter().find(has).map(|group| group.id)
    }
}

/// The slots as the node at place `node` gives them.
pub fn slots(context: &Context, cluster: &Cluster, node: usize) -> Result<Slots> {
    let said = cluster_command(context, cluster, node, &["slots", "--json"])?;
    serde_json::from_str(&said).with_context(|| format!("slots --json said: {said}"))
}

/// Runs `kontiki cluster` against the node at place `node`.
pub fn cluster_command(
    context: &Context,
    cluster: &Cluster,
    node: usize,
    words: &[&str],
) -> Result<String> {
    cluster_command_within(context, cluster, node, words, MOVE_MAX)
}

/// The same, for what takes longer.
pub fn cluster_command_within(
    context: &Context,
    cluster: &Cluster,
    node: usize,
    words: &[&str],
    most: Duration,
) -> Result<String> {
    let (command, rest) = words.split_first().context("a command has a name")?;
    Program::new(&context.binary)
        .args(["cluster", command])
        .args(["--addr".to_string(), cluster.nodes()[node].grpc.to_string()])
        .args(["--timeout", "30"])
        .args(rest)
        .output_within(most)
}

/// The slots of these keys, as the command line takes them.
pub fn slots_of(client: &mut Client, keys: &[String]) -> Result<BTreeSet<u16>> {
    let mut slots = BTreeSet::new();
    for key in keys {
        match client.call(&["CLUSTER", "KEYSLOT", key])? {
            Reply::Integer(slot) => slots.insert(u16::try_from(slot)?),
            other => bail!("CLUSTER KEYSLOT {key} answered {other:?}"),
        };
    }
    Ok(slots)
}

/// As the command line takes them.
pub fn text(slots: &BTreeSet<u16>) -> String {
    let words: Vec<String> = slots.iter().map(u16::to_string).collect();
    words.join(",")
}

/// Moves slots to a group, and waits until they are there.
pub fn move_to(
    context: &Context,
    cluster: &Cluster,
    node: usize,
    slots: &BTreeSet<u16>,
    to: u32,
) -> Result<()> {
    let (list, group) = (text(slots), to.to_string());
    cluster_command(context, cluster, node, &["move", "--slots", &list, "--to", &group])?;
    let now = self::slots(context, cluster, node)?;
    for slot in slots {
        let owner = now.owner(*slot);
        ensure!(owner == Some(to), "slot {slot} is group {owner:?}'s after a move to {to}");
    }
    Ok(())
}

/// Waits until no move is under way.
pub fn await_quiet(context: &Context, cluster: &Cluster, node: usize) -> Result<Slots> {
    wait::until("the end of all moves", MOVE_MAX, || {
        // A node that is just starting may refuse; that is an answer to wait on.
        let Ok(now) = slots(context, cluster, node) else { return Ok(None) };
        Ok(now.moves.is_empty().then_some(now))
    })
}

/// The nodes, by their ports, that lead groups with slots, as a node tells clients.
pub fn masters(client: &mut Client) -> Result<BTreeSet<i64>> {
    let said = client.call(&["CLUSTER", "SLOTS"])?;
    let Reply::Array(ranges) = &said else { bail!("CLUSTER SLOTS answered {said:?}") };
    let mut ports = BTreeSet::new();
    for range in ranges {
        let Reply::Array(parts) = range else { bail!("CLUSTER SLOTS answered {said:?}") };
        if let Some(Reply::Array(master)) = parts.get(2)
            && let Some(Reply::Integer(port)) = master.get(1)
        {
            ports.insert(*port);
        }
    }
    Ok(ports)
}
