//! Item 6: the table of faults, each row tried on a cluster of its own, with what the user saw.

mod damaged_files;
mod full_disk;
mod lost_directories;
mod read_only;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::acceptance::client::{Client, Reply};
use crate::acceptance::cluster::Cluster;
use crate::acceptance::issue5::shards::cluster_command_within;
use crate::acceptance::{Context, Figures, Skip, wait};
use crate::program::{Finished, Program};

/// What happens after a fault takes a few seconds; on a busy machine more.
const PATIENCE: Duration = Duration::from_secs(60);
/// Keys that every row writes before the fault and reads after it.
const KEYS: usize = 300;
const VALUE_BYTES: usize = 4096;

/// A row: what is done to the cluster; what the user saw is returned.
type Row = fn(&Context) -> Result<Value>;

/// The rows that CI tries, too, first.
const ROWS: [(&str, Row); 15] = [
    ("emptied directory", lost_directories::one),
    ("byte flipped in a table of the state", damaged_files::table),
    ("swapped directories", lost_directories::swapped),
    ("bytes flipped that nobody reads", damaged_files::unread),
    ("byte flipped in the log of a running node", damaged_files::unread_log),
    ("emptied directories of a majority", lost_directories::majority),
    ("a majority lost for good", lost_directories::for_good),
    ("swapped log folders", lost_directories::swapped_logs),
    ("state folder removed", damaged_files::no_state),
    ("byte flipped in the identity", damaged_files::identity),
    ("byte flipped in the log", damaged_files::log),
    ("byte flipped in a manifest of the state", damaged_files::manifest),
    ("byte flipped in a snapshot", damaged_files::snapshot),
    ("full disk on all nodes", full_disk::run),
    ("file system that became read-only", read_only::run),
];
const ROWS_SMALL: usize = 3;
/// Names a part of the names of the rows to try, instead of all.
const ONLY: &str = "KONTIKI_FAULT_ROWS";

pub(super) fn run(context: &Context) -> Result<Figures> {
    let (mut figures, mut failed) = (Map::new(), Vec::new());
    let wanted = std::env::var(ONLY).ok();
    let count = if wanted.is_some() { ROWS.len() } else { context.amount(ROWS.len(), ROWS_SMALL) };
    for (at, (name, row)) in ROWS.iter().take(count).enumerate() {
        if wanted.as_ref().is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        let scratch = context.scratch.join(format!("row-{at}"));
        std::fs::create_dir_all(&scratch)?;
        let context = Context { scratch, ..context.clone() };
        match row(&context) {
            Ok(saw) => {
                println!("{name}: {saw}");
                figures.insert((*name).to_string(), saw);
            }
            Err(error) if error.is::<Skip>() => {
                println!("{name}: skipped: {error}");
                figures.insert((*name).to_string(), json!({ "skipped": error.to_string() }));
            }
            // The others are still worth trying.
            Err(error) => {
                println!("{name}: failed: {error:#}");
                failed.push(*name);
            }
        }
    }
    ensure!(failed.is_empty(), "rows failed: {}", failed.join("; "));
    Ok(figures)
}

/// Settings by which little data fills files.
const SMALL: [(&str, &str); 2] =
    [("KONTIKI_SEGMENT_BYTES", "1048576"), ("KONTIKI_ENTRY_BYTES_MAX", "524288")];

/// A cluster whose state gets into tables, and whose log is cut, with little data.
pub(super) fn small_cluster(context: &Context) -> Result<Cluster> {
    let flags = ["--groups", "1", "--log-keep", "256KiB", "--memory", "3MiB"];
    Cluster::start_with(context, &flags, &SMALL)
}

fn key(at: usize) -> String {
    format!("key:{at}")
}

fn value(at: usize, round: usize) -> String {
    let mut value = format!("{round}:{at}:");
    value.push_str(&"v".repeat(VALUE_BYTES));
    value
}

/// Writes all keys, several times over, so that some of it is in tables.
pub(super) fn write(client: &mut Client, round: usize) -> Result<()> {
    for at in 0..KEYS {
        let reply = client.call(&["SET", &key(at), &value(at, round)])?;
        ensure!(reply.is_ok(), "SET {} answered {reply:?}", key(at));
    }
    Ok(())
}

/// Reads all keys; an error if one is not as written.
fn check(client: &mut Client, round: usize) -> Result<()> {
    for at in 0..KEYS {
        let reply = client.call(&["GET", &key(at)])?;
        let expected = Reply::Bulk(value(at, round).into_bytes());
        ensure!(reply == expected, "GET {} answered something else", key(at));
    }
    Ok(())
}

/// As [`check`], once a new node serves.
pub(super) fn await_check(cluster: &Cluster, node: usize, round: usize) -> Result<()> {
    let mut last = None;
    let checked = wait::until("all keys as written", PATIENCE, || {
        let checked = cluster.client(node).and_then(|mut client| check(&mut client, round));
        let is_ok = checked.is_ok();
        last = checked.err();
        Ok(is_ok.then_some(()))
    });
    match (checked, last) {
        (Err(error), Some(last)) => Err(error.context(format!("{last:#}"))),
        (checked, _) => checked,
    }
}

/// `kontiki verify --json` on a directory: the exit code and what it found.
fn verify(context: &Context, directory: &Path) -> Result<(Option<i32>, Vec<Value>)> {
    let Finished { code, stdout, stderr, .. } = Program::new(&context.binary)
        .args(["verify", "--json"])
        .args([directory])
        .finish_within(PATIENCE)?;
    let said: Value =
        serde_json::from_str(&stdout).with_context(|| format!("verify said: {stdout}{stderr}"))?;
    Ok((code, said["findings"].as_array().cloned().unwrap_or_default()))
}

/// What verify says of a directory that is damaged in `file`, and nowhere else.
fn verified(context: &Context, directory: &Path, file: &Path) -> Result<String> {
    let (code, findings) = verify(context, directory)?;
    ensure!(code == Some(4), "verify ended with {code:?}: {findings:?}");
    let named = findings.iter().find(|found| {
        found["file"].as_str().is_some_and(|named| Path::new(named).ends_with(name_of(file)))
    });
    let Some(found) = named else { bail!("verify does not name {}: {findings:?}", file.display()) };
    Ok(format!(
        "{} {} offset {} group {} entries {}..{}: {}",
        found["part"].as_str().unwrap_or_default(),
        name_of(file).display(),
        found["offset"],
        found["group"],
        found["first_index"],
        found["last_index"],
        without_paths(found["detail"].as_str().unwrap_or_default(), context)
    ))
}

/// The last two names of a path: enough to know it, and the same on every machine.
fn name_of(path: &Path) -> PathBuf {
    let names: Vec<_> = path.components().collect();
    names[names.len().saturating_sub(2)..].iter().collect()
}

/// Flips a byte; `at` is a part of the file, in thousandths.
fn flip(file: &Path, at: u64) -> Result<()> {
    let mut bytes = std::fs::read(file)?;
    let place = usize::try_from(bytes.len() as u64 * at / 1000)?;
    let byte = bytes.get_mut(place).with_context(|| format!("{} is empty", file.display()))?;
    *byte ^= 0x20;
    Ok(std::fs::write(file, bytes)?)
}

/// What a node says when it does not start, and its hint. Its ports may be open for a moment.
fn refusal(context: &Context, cluster: &mut Cluster, node: usize) -> Result<String> {
    let id = cluster.nodes()[node].id;
    if cluster.restart(context, node).is_ok() {
        cluster.await_end(node).context("it does start")?;
    }
    let said = std::fs::read_to_string(context.scratch.join(format!("node-{id}.err")))?;
    let from = said.rfind("error: ").with_context(|| format!("it says no error: {said}"))?;
    let said = said.get(from + "error: ".len()..).unwrap_or_default();
    ensure!(said.contains("hint:"), "it does not say what to do: {said}");
    Ok(without_paths(said, context))
}

fn without_paths(text: &str, context: &Context) -> String {
    let scratch = context.scratch.display().to_string();
    text.trim().replace(&scratch, "DIR").replace('\n', " ")
}

/// Does what the messages say: empties the directory, starts the node with --join, and readmits it.
pub(super) fn readmit(
    context: &Context,
    cluster: &mut Cluster,
    node: usize,
    witness: usize,
) -> Result<String> {
    let directory = cluster.nodes()[node].directory()?;
    std::fs::remove_dir_all(&directory)?;
    std::fs::create_dir_all(&directory)?;
    cluster.rejoin(context, node, witness)?;
    let id = cluster.nodes()[node].id.to_string();
    // It waits itself until the others have heard of the new directory.
    let words = ["readmit", "--node", &id];
    let said = cluster_command_within(context, cluster, witness, &words, PATIENCE)?;
    ensure!(said.contains("is a voter again"), "readmit said {said}");
    Ok(said.trim().replace('\n', " "))
}

/// With the node at this place back, another may fail: everything is still there and can be written.
pub(super) fn check_tolerance(
    context: &Context,
    cluster: &mut Cluster,
    back: usize,
    round: usize,
) -> Result<()> {
    await_check(cluster, back, round)?;
    let (failing, other) = ((back + 1) % 3, (back + 2) % 3);
    cluster.kill(failing)?;
    await_check(cluster, back, round)?;
    write(&mut cluster.client(back)?, round + 1)?;
    await_check(cluster, other, round + 1)?;
    cluster.restart(context, failing)?;
    await_check(cluster, failing, round + 1)
}

/// Files below a folder whose path is accepted, in order.
fn files(folder: &Path, is_wanted: impl Fn(&Path) -> bool + Copy) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files(&path, is_wanted)?),
            false if is_wanted(&path) => found.push(path),
            false => {}
        }
    }
    found.sort();
    Ok(found)
}
