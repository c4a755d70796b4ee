//! A file system that becomes read-only under a node, as ext4 does after an error.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::full_disk::Mounts;
use super::{PATIENCE, await_check, check_tolerance, without_paths, write};
use crate::acceptance::cluster::Cluster;
use crate::acceptance::{Context, Skip, needs, wait};
use crate::program::Program;

pub(super) fn run(context: &Context) -> Result<Value> {
    needs(&["mkfs.ext4", "mount"])?;
    let path = context.scratch.join("data/node-2");
    let image = context.scratch.join("node-2.ext4");
    std::fs::create_dir_all(&path)?;
    std::fs::File::create(&image)?.set_len(400 << 20)?;
    Program::new("mkfs.ext4").args(["-q", "-F"]).args([&image]).output()?;
    let mount = || Program::new("mount").args(["-o", "loop"]).args([&image, &path]);
    let mounted = mount().finish_within(PATIENCE)?;
    if !mounted.success {
        return Err(Skip(format!("no file system can be mounted: {}", mounted.stderr)).into());
    }
    let _mounts = Mounts(vec![path.clone()]);
    // `up` formats directories that are empty.
    std::fs::remove_dir_all(path.join("lost+found"))?;
    let flags = ["--groups", "1", "--log-keep", "256KiB", "--memory", "3MiB"];
    let mut cluster = Cluster::start_with(context, &flags, &super::SMALL)?;
    write(&mut cluster.client(0)?, 1)?;
    await_check(&cluster, 1, 1)?;
    Program::new("mount").args(["-o", "remount,abort"]).args([&path]).finish_within(PATIENCE)?;
    // The others go on.
    write(&mut cluster.client(0)?, 2)?;
    cluster.await_end(1)?;
    let said = std::fs::read_to_string(context.scratch.join("up-1.err"))?;
    let said = said.lines().rev().find(|line| line.contains("[node 2] error:"));
    let Some(said) = said else { anyhow::bail!("node 2 has not said why it ended") };
    let said = without_paths(said, context);
    let refused = super::refusal(context, &mut cluster, 1)?;
    // Once the file system was mended.
    let unmounted = Program::new("umount").args([&path]).finish_within(PATIENCE)?;
    ensure!(unmounted.success, "umount: {}", unmounted.stderr);
    let _ = Program::new("fsck.ext4").args(["-p"]).args([&image]).finish_within(PATIENCE)?;
    wait::until("the file system to be mounted again", PATIENCE, || {
        Ok(mount().finish_within(PATIENCE)?.success.then_some(()))
    })?;
    cluster.restart(context, 1)?;
    check_tolerance(context, &mut cluster, 1, 2)?;
    cluster.stop()?;
    Ok(json!({
        "the node ends": said,
        "the others": "go on",
        "started on it": refused,
        "file system mended": "started: all there",
    }))
}
