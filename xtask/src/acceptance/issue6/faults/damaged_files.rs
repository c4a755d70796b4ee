//! A flipped byte in every kind of file.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

use super::{
    await_check, check_tolerance, files, flip, readmit, refusal, small_cluster, verified, write,
};
use crate::acceptance::Context;
use crate::acceptance::cluster::Cluster;
use crate::acceptance::issue5::shards::cluster_command_within;
use crate::acceptance::metrics::Counters;
use crate::acceptance::wait;

/// Rounds of writes before the damage: some of the log is gone by then, and the state in tables.
const ROUNDS: usize = 4;

/// A cluster with data, one node stopped, and its directory.
fn prepare(context: &Context) -> Result<(Cluster, usize, PathBuf)> {
    let mut cluster = small_cluster(context)?;
    for round in 1..=ROUNDS {
        write(&mut cluster.client(0)?, round)?;
    }
    let damaged = (cluster.leader(0)? + 1) % 3;
    await_check(&cluster, damaged, ROUNDS)?;
    let directory = cluster.nodes()[damaged].directory()?;
    await_cut(&cluster, damaged, 1.0)?;
    cluster.kill(damaged)?;
    Ok((cluster, damaged, directory))
}

fn is_table(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with("tables"))
}

/// The node starts with a damaged state, and has it again from a peer.
fn mended(context: &Context, wanted: fn(&Path) -> bool, at: u64) -> Result<Value> {
    let (mut cluster, damaged, directory) = prepare(context)?;
    let found = files(&directory.join("state"), wanted)?;
    // The newest may be one that the node was still writing.
    let file = found.into_iter().next().context("the state has such a file")?;
    flip(&file, at)?;
    let said = verified(context, &directory, &file)?;
    cluster.restart(context, damaged)?;
    check_tolerance(context, &mut cluster, damaged, ROUNDS)?;
    let log = log_of(context, &cluster, damaged)?;
    cluster.stop()?;
    Ok(json!({ "verify": said, "the node says": log, "then": "mended: all there" }))
}

pub(super) fn table(context: &Context) -> Result<Value> {
    mended(context, is_table, 300)
}

pub(super) fn manifest(context: &Context) -> Result<Value> {
    mended(context, |path| name(path).starts_with('v') && !is_table(path), 500)
}

/// How often the nodes of [`unread`] read everything.
const SCRUBBED: (&str, &str) = ("KONTIKI_SCRUB_INTERVAL", "1s");

/// Nobody reads or writes any more, and a table and a snapshot of a running node are damaged: it finds
/// that by itself, and mends it.
pub(super) fn unread(context: &Context) -> Result<Value> {
    let (mut cluster, node, directory) = scrubbed(context)?;
    let snapshots = directory.join("snapshots");
    let snapshot = files(&snapshots, |path| name(path).starts_with("snap-"))?.pop();
    if let Some(snapshot) = &snapshot {
        flip(snapshot, 500)?;
        wait::until("the damaged snapshot to be removed", super::PATIENCE, || {
            Ok((!snapshot.exists()).then_some(()))
        })?;
    }
    let tables = files(&directory.join("state"), is_table)?;
    let table = tables.into_iter().next().context("the state has a table")?;
    flip(&table, 300)?;
    let log = context.scratch.join("up-1.err");
    let said = wait::until("the damage to be found", super::PATIENCE, || {
        let said = std::fs::read_to_string(&log)?;
        let line =
            said.lines().find(|line| line.contains("damage on disk") && line.contains("table"));
        Ok(line.map(|line| super::without_paths(line, context)))
    })?;
    check_tolerance(context, &mut cluster, node, ROUNDS)?;
    cluster.stop()?;
    Ok(
        json!({ "the node says": said, "a snapshot, too": snapshot.is_some(), "then": "mended: all there" }),
    )
}

/// A closed segment of the log of a running node is damaged: it says so, and what to do. The node leads,
/// and another is down, so that the segment is kept.
pub(super) fn unread_log(context: &Context) -> Result<Value> {
    let flags = ["--groups", "1", "--log-keep", "16MiB"];
    let environment = [&super::SMALL[..], &[SCRUBBED]].concat();
    let mut cluster = Cluster::start_with(context, &flags, &environment)?;
    write(&mut cluster.client(0)?, 1)?;
    let node = cluster.leader(0)?;
    let (behind, other) = ((node + 1) % 3, (node + 2) % 3);
    cluster.kill(behind)?;
    for round in 2..=ROUNDS {
        write(&mut cluster.client(node)?, round)?;
    }
    await_check(&cluster, other, ROUNDS)?;
    let directory = cluster.nodes()[node].directory()?;
    let segments = files(&directory.join("log"), |path| name(path).starts_with("segment-"))?;
    ensure!(cluster.leader(other)? == node, "another node leads now, and may keep less");
    let [.., closed, _] = &segments[..] else { bail!("only {} segments", segments.len()) };
    flip(closed, 400)?;
    let log = context.scratch.join("up-1.err");
    let said = wait::until("the damage to be found", super::PATIENCE, || {
        let said = std::fs::read_to_string(&log)?;
        let line = said.lines().find(|line| line.contains("damage on disk"));
        Ok(line.map(|line| super::without_paths(line, context)))
    })?;
    ensure!(said.contains("readmit"), "it does not say what to do: {said}");
    cluster.kill(node)?;
    cluster.restart(context, behind)?;
    await_check(&cluster, behind, ROUNDS)?;
    readmit(context, &mut cluster, node, other)?;
    check_tolerance(context, &mut cluster, node, ROUNDS)?;
    cluster.stop()?;
    Ok(json!({ "the node says": said, "readmitted": "all there" }))
}

/// A cluster with data whose nodes read everything on their disks all the time, the place of one of
/// them, and its directory.
fn scrubbed(context: &Context) -> Result<(Cluster, usize, PathBuf)> {
    let flags = ["--groups", "1", "--log-keep", "256KiB", "--memory", "3MiB"];
    let environment = [&super::SMALL[..], &[SCRUBBED]].concat();
    let cluster = Cluster::start_with(context, &flags, &environment)?;
    for round in 1..=ROUNDS {
        write(&mut cluster.client(0)?, round)?;
    }
    let node = (cluster.leader(0)? + 1) % 3;
    await_check(&cluster, node, ROUNDS)?;
    let directory = cluster.nodes()[node].directory()?;
    await_cut(&cluster, node, 1.0)?;
    Ok((cluster, node, directory))
}

/// All of the state is gone.
pub(super) fn no_state(context: &Context) -> Result<Value> {
    let (mut cluster, damaged, directory) = prepare(context)?;
    std::fs::remove_dir_all(directory.join("state"))?;
    cluster.restart(context, damaged)?;
    check_tolerance(context, &mut cluster, damaged, ROUNDS)?;
    let log = log_of(context, &cluster, damaged)?;
    cluster.stop()?;
    Ok(json!({ "the node says": log, "then": "mended: all there" }))
}

/// The node does not start, and is readmitted.
fn refused(context: &Context, file: impl Fn(&Path) -> Result<PathBuf>, at: u64) -> Result<Value> {
    let (mut cluster, damaged, directory) = prepare(context)?;
    let file = file(&directory)?;
    flip(&file, at)?;
    let said = verified(context, &directory, &file)?;
    let refused = refusal(context, &mut cluster, damaged)?;
    let readmitted = readmit(context, &mut cluster, damaged, (damaged + 1) % 3)?;
    check_tolerance(context, &mut cluster, damaged, ROUNDS)?;
    cluster.stop()?;
    Ok(json!({ "verify": said, "at the start": refused, "readmit says": readmitted }))
}

pub(super) fn identity(context: &Context) -> Result<Value> {
    refused(context, |directory| Ok(directory.join("node")), 500)
}

pub(super) fn log(context: &Context) -> Result<Value> {
    let oldest = |directory: &Path| {
        let log = directory.join("log");
        // With an index a start reads of a segment only what the states lack.
        for index in files(&log, |path| name(path).starts_with("index-"))? {
            std::fs::remove_file(index)?;
        }
        let found = files(&log, |path| name(path).starts_with("segment-"))?;
        found.into_iter().next().context("the log has a segment")
    };
    // The oldest segment is full of frames that later ones say to be durable.
    refused(context, oldest, 400)
}

/// A damaged snapshot is not given to anybody: another one is made.
pub(super) fn snapshot(context: &Context) -> Result<Value> {
    let (mut cluster, behind, _) = prepare(context)?;
    let known = last_index(&cluster, (behind + 1) % 3)?;
    for round in ROUNDS + 1..=2 * ROUNDS {
        write(&mut cluster.client((behind + 1) % 3)?, round)?;
    }
    await_cut(&cluster, cluster.leader((behind + 1) % 3)?, known)?;
    cluster.restart(context, behind)?;
    await_check(&cluster, behind, 2 * ROUNDS)?;
    let giver = [(behind + 1) % 3, (behind + 2) % 3].into_iter().find_map(|node| {
        let directory = cluster.nodes()[node].directory().ok()?;
        let found = files(&directory.join("snapshots"), |path| name(path).starts_with("snap-"));
        found.ok()?.pop().map(|file| (node, directory, file))
    });
    let (giver, directory, file) = giver.context("a node has made a snapshot")?;
    cluster.kill(giver)?;
    flip(&file, 600)?;
    let said = verified(context, &directory, &file)?;
    cluster.restart(context, giver)?;
    await_check(&cluster, giver, 2 * ROUNDS)?;
    let id = cluster.nodes()[giver].id.to_string();
    cluster_command_within(context, &cluster, giver, &["transfer", "--to", &id], super::PATIENCE)?;
    // Behind again, and what it is given is whole.
    cluster.kill(behind)?;
    let known = last_index(&cluster, giver)?;
    for round in 2 * ROUNDS + 1..=3 * ROUNDS {
        write(&mut cluster.client(giver)?, round)?;
    }
    await_cut(&cluster, cluster.leader(giver)?, known)?;
    cluster.restart(context, behind)?;
    await_check(&cluster, behind, 3 * ROUNDS)?;
    ensure!(cluster.leader(giver)? == giver, "another node has given the snapshot");
    let found = files(&directory.join("snapshots"), |path| name(path).starts_with("snap-"))?;
    ensure!(!found.is_empty() && !found.contains(&file), "the damaged snapshot is still there");
    cluster.stop()?;
    Ok(json!({ "verify": said, "then": "another is made: all there" }))
}

fn last_index(cluster: &Cluster, node: usize) -> Result<f64> {
    Ok(Counters::of(cluster, node)?.get("raft_last_index{group=\"1\"}"))
}

/// Waits until the node's log begins behind `index`: its tables have the rest, and whoever has no more
/// needs a snapshot.
fn await_cut(cluster: &Cluster, node: usize, index: f64) -> Result<()> {
    wait::until("the log to be cut", super::PATIENCE, || {
        let first = Counters::of(cluster, node)?.get("raft_first_index{group=\"1\"}");
        Ok((first > index).then_some(()))
    })
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// What the node logged at its last start that begins with an error or a warning about its state.
fn log_of(context: &Context, cluster: &Cluster, node: usize) -> Result<Vec<String>> {
    let id = cluster.nodes()[node].id;
    let said = std::fs::read_to_string(context.scratch.join(format!("node-{id}.err")))?;
    let about = said.lines().filter(|line| line.contains("state"));
    let lines: Vec<String> = about
        .filter_map(|line| {
            let from = line.find("ERROR").or_else(|| line.find("WARN"))?;
            Some(super::without_paths(line.get(from..)?, context))
        })
        .take(4)
        .collect();
    ensure!(!lines.is_empty(), "the node says nothing of its state: {said}");
    Ok(lines)
}
