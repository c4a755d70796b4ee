//! All nodes run out of space: a file system of a few hundred megabytes each, filled by a file of
//! somebody else's.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::PathBuf;

use super::{PATIENCE, await_check, key, value, write};
use crate::acceptance::client::Reply;
use crate::acceptance::cluster::Cluster;
use crate::acceptance::issue5::shards::cluster_command_within;
use crate::acceptance::{Context, Skip, wait};
use crate::program::Program;

const SIZE: &str = "size=160m";
/// What the filler writes at once; smaller in the end, until not a page is left.
const PIECE: usize = 1 << 20;
const PAGE: usize = 4096;

/// Mounts, undone when dropped.
pub(super) struct Mounts(pub(super) Vec<PathBuf>);

impl Drop for Mounts {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = Program::new("umount").args(["-l"]).args([path]).output();
        }
    }
}

pub(super) fn run(context: &Context) -> Result<Value> {
    let mut mounts = Mounts(Vec::new());
    for id in 1..=3 {
        let path = context.scratch.join(format!("data/node-{id}"));
        std::fs::create_dir_all(&path)?;
        let mounted = Program::new("mount")
            .args(["-t", "tmpfs", "-o", SIZE, "tmpfs"])
            .args([&path])
            .finish_within(PATIENCE)?;
        if !mounted.success {
            return Err(Skip(format!("no file system can be mounted: {}", mounted.stderr)).into());
        }
        mounts.0.push(path);
    }
    let flags = ["--groups", "1", "--log-keep", "256KiB", "--memory", "3MiB"];
    let mut cluster = Cluster::start_with(context, &flags, &super::SMALL)?;
    write(&mut cluster.client(0)?, 1)?;
    for path in &mounts.0 {
        fill(&path.join("filler"))?;
    }
    let refused = wait::until("a write to be refused", PATIENCE, || {
        match cluster.client(0)?.call(&["SET", &key(0), &value(0, 2)])? {
            Reply::Error(text) => Ok(Some(text)),
            _ => Ok(None),
        }
    })?;
    // Whether the last writes were refused or not: what was acknowledged is read.
    let mut client = cluster.client(1)?;
    for at in 1..super::KEYS {
        let reply = client.call(&["GET", &key(at)])?;
        ensure!(reply == Reply::Bulk(value(at, 1).into_bytes()), "GET {} while full", key(at));
    }
    let leader = cluster.leader(1)?;
    let next = cluster.nodes()[(leader + 1) % 3].id.to_string();
    cluster_command_within(context, &cluster, leader, &["transfer", "--to", &next], PATIENCE)?;
    cluster.kill(leader)?;
    cluster.leader((leader + 1) % 3)?;
    await_check_but_first(&cluster, (leader + 1) % 3)?;
    for path in &mounts.0 {
        std::fs::remove_file(path.join("filler"))?;
    }
    // By itself, and on the two that are left.
    let client = (leader + 1) % 3;
    wait::until("writes to be taken again", PATIENCE, || {
        let written = cluster.client(client).and_then(|mut client| write(&mut client, 3));
        Ok(written.ok())
    })?;
    cluster.restart(context, leader)?;
    await_check(&cluster, leader, 3)?;
    cluster.stop()?;
    Ok(json!({
        "SET": refused,
        "GET": "answered",
        "elections": "leadership handed over, and taken over after a kill",
        "after space returned": "written again without a restart",
    }))
}

fn await_check_but_first(cluster: &Cluster, node: usize) -> Result<()> {
    wait::until("reads while full", PATIENCE, || {
        let Ok(mut client) = cluster.client(node) else { return Ok(None) };
        let reply = client.call(&["GET", &key(1)]);
        Ok(reply.ok().filter(|reply| *reply == Reply::Bulk(value(1, 1).into_bytes())).map(drop))
    })
}

fn fill(path: &std::path::Path) -> Result<()> {
    let mut file = std::fs::File::create(path).context("the filler")?;
    for size in [PIECE, PAGE] {
        let piece = vec![1; size];
        while file.write_all(&piece).is_ok() {}
    }
    Ok(())
}
