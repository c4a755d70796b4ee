//! Directories that are emptied or swapped.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

use super::{
    PATIENCE, await_check, check_tolerance, readmit, refusal, small_cluster, without_paths, write,
};
use crate::acceptance::client::Reply;
use crate::acceptance::cluster::{Cluster, free_base_port};
use crate::acceptance::issue5::shards::cluster_command_within;
use crate::acceptance::{Context, wait};
use crate::program::Program;

/// One directory is gone: the node is refused, readmitted by one command, and counts again.
pub(super) fn one(context: &Context) -> Result<Value> {
    let mut cluster = Cluster::start_with(context, &["--groups", "3"], &[])?;
    write(&mut cluster.client(0)?, 1)?;
    let lost = (cluster.leader(0)? + 1) % 3;
    let witness = (lost + 1) % 3;
    cluster.kill(lost)?;
    empty(&cluster.nodes()[lost].directory()?)?;
    let refused = refusal(context, &mut cluster, lost)?;
    let readmitted = readmit(context, &mut cluster, lost, witness)?;
    check_tolerance(context, &mut cluster, lost, 1)?;
    cluster.stop()?;
    Ok(json!({
        "at the start": refused,
        "readmit says": readmitted,
        "then": "all there; another node killed: read and written",
    }))
}

/// Two of three are gone: the third answers nothing, whatever becomes of the others.
pub(super) fn majority(context: &Context) -> Result<Value> {
    let mut cluster = small_cluster(context)?;
    write(&mut cluster.client(0)?, 1)?;
    for lost in [1, 2] {
        cluster.kill(lost)?;
        empty(&cluster.nodes()[lost].directory()?)?;
    }
    let first = refusal(context, &mut cluster, 1)?;
    for lost in [1, 2] {
        cluster.rejoin(context, lost, 0)?;
    }
    let answer = |reply| match reply {
        Reply::Error(text) => Ok(text),
        other => anyhow::bail!("a minority answered {other:?}"),
    };
    let read = answer(cluster.client(0)?.call(&["GET", "key:1"])?)?;
    let written = answer(cluster.client(0)?.call(&["SET", "key:1", "x"])?)?;
    let elsewhere = cluster.client(1)?.call(&["GET", "key:1"])?;
    ensure!(matches!(elsewhere, Reply::Error(_)), "a new node answered {elsewhere:?}");
    // Who is left says what it knows, though there is nobody to confirm it.
    let status = cluster_command_within(context, &cluster, 0, &["status"], PATIENCE)?;
    ensure!(status.contains("leader none"), "status said {status}");
    let said = std::fs::read_to_string(context.scratch.join("up-1.err"))?;
    let refused = said.lines().filter(|line| line.contains("peer refused")).count();
    Ok(json!({
        "at the start": first,
        "GET": read,
        "SET": written,
        "cluster status": "answers",
        "lines about refused peers": refused,
    }))
}

/// Two of three are gone for good, of a store whose slots have moved: the keys that the third has are
/// recovered by the command that says what that means, and fill a new store.
pub(super) fn for_good(context: &Context) -> Result<Value> {
    let mut cluster = Cluster::start_with(context, &["--groups", "3", "--memory", "16MiB"], &[])?;
    write(&mut cluster.client(0)?, 1)?;
    let moved = ["move", "--slots", "0-3000", "--to", "2"];
    cluster_command_within(context, &cluster, 0, &moved, PATIENCE)?;
    write(&mut cluster.client(0)?, 2)?;
    let left = cluster.nodes()[0].directory()?;
    await_same(&cluster)?;
    for node in 0..3 {
        cluster.kill(node)?;
    }
    for lost in [1, 2] {
        std::fs::remove_dir_all(cluster.nodes()[lost].directory()?)?;
    }
    drop(cluster);
    let aside = context.scratch.join("left");
    std::fs::rename(&left, &aside)?;
    std::fs::remove_dir_all(context.scratch.join("data"))?;
    let backup = context.scratch.join("left.backup");
    let recover = || Program::new(&context.binary).args(["recover-with-loss", "--from"]);
    let refused = recover().args([&aside, &backup]).finish_within(PATIENCE)?;
    ensure!(!refused.success && refused.stderr.contains("hint:"), "it asks for no consent");
    let recovered = recover()
        .args([&aside, &backup])
        .args(["--i-accept-that-acknowledged-writes-may-be-lost"])
        .output_within(PATIENCE)?;
    let sound =
        Program::new(&context.binary).args(["verify"]).args([&aside]).finish_within(PATIENCE)?;
    ensure!(sound.success, "the directory is not as it was: {}{}", sound.stdout, sound.stderr);
    let data = context.scratch.join("data");
    Program::new(&context.binary)
        .args(["restore"])
        .args([&backup])
        .args(["--dir"])
        .args([&data])
        .output_within(PATIENCE)?;
    let cluster = Cluster::start_as_it_is(context, free_base_port()?)?;
    await_check(&cluster, 2, 2)?;
    cluster.stop()?;
    let told = |text: &str| without_paths(text, context);
    Ok(json!({
        "without consent": told(&refused.stderr),
        "recover-with-loss": told(&recovered),
        "restored": "all there",
    }))
}

/// Waits until the node at place 0 has applied everything that there is, of each group.
fn await_same(cluster: &Cluster) -> Result<()> {
    wait::until("all replicas to be the same", PATIENCE, || {
        let mut ends: BTreeMap<u32, BTreeSet<(u64, u64)>> = BTreeMap::new();
        for node in 0..3 {
            for group in cluster.status(node)?.groups {
                ends.entry(group.id).or_default().insert((group.applied, group.last_index));
            }
        }
        let is_one = |found: &BTreeSet<(u64, u64)>| {
            found.len() == 1 && found.iter().all(|(applied, last)| applied == last)
        };
        Ok(ends.values().all(is_one).then_some(()))
    })
}

/// Each of two nodes finds the other's directory: both refuse, and all is well once it is undone.
pub(super) fn swapped(context: &Context) -> Result<Value> {
    swap(context, "")
}

/// The same with the folders of the log alone.
pub(super) fn swapped_logs(context: &Context) -> Result<Value> {
    swap(context, "log")
}

fn swap(context: &Context, part: &str) -> Result<Value> {
    let mut cluster = small_cluster(context)?;
    write(&mut cluster.client(0)?, 1)?;
    let paths = [1, 2].map(|node| cluster.nodes()[node].directory());
    let [one, other] = paths;
    let (one, other) = match part {
        "" => (one?, other?),
        part => (one?.join(part), other?.join(part)),
    };
    let aside = context.scratch.join("aside");
    let exchange = || -> Result<()> {
        std::fs::rename(&one, &aside)?;
        std::fs::rename(&other, &one)?;
        Ok(std::fs::rename(&aside, &other)?)
    };
    cluster.kill(1)?;
    cluster.kill(2)?;
    exchange()?;
    let refused = refusal(context, &mut cluster, 1)?;
    refusal(context, &mut cluster, 2)?;
    exchange()?;
    for node in [1, 2] {
        cluster.restart(context, node)?;
    }
    await_check(&cluster, 1, 1)?;
    cluster.stop()?;
    Ok(json!({ "at the start": refused, "put back": "all there" }))
}

/// A directory that may be a mount stays; what is in it goes.
fn empty(directory: &std::path::Path) -> Result<()> {
    std::fs::remove_dir_all(directory)?;
    Ok(std::fs::create_dir_all(directory)?)
}
