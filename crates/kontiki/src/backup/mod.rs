//! backup: the keys of a whole store into one file, while it serves.
//!
//! A view of each group is opened, all in one configuration of slots, and read to its end. So each
//! key is there once, also while slots move, and each group is as of one index of its log that was
//! reached after the command began.

mod file;
mod restore;
mod salvage;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use kontiki_client::{Client, GroupView, Options, Row};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cli::{AddressArgs, BackupArgs};
use crate::keys::{options, told};

use file::{Head, Totals, Writer};

pub(crate) use restore::run as restore;
pub(crate) use salvage::run as recover_with_loss;

/// Read at a time.
const PAGE_BYTES: u32 = 1 << 20;

/// Groups that are read at once, and pages of them that wait to be written.
const READERS: usize = 4;

pub(crate) fn backup(args: &BackupArgs) -> Result<()> {
    if args.file.exists() && !args.force {
        bail!("{} exists\nhint: another name, or --force", args.file.display());
    }
    runtime()?.block_on(async {
        let client = connect(&args.address).await?;
        let partial = beside(&args.file, "partial");
        let written = write(&client, &partial).await;
        let (totals, groups) = match written {
            Ok(written) => written,
            Err(error) => {
                let _ = fs::remove_file(&partial);
                return Err(error);
            }
        };
        fs::rename(&partial, &args.file)
            .with_context(|| format!("cannot name the backup {}", args.file.display()))?;
        sync_folder(&args.file)?;
        let Totals { keys, bytes } = totals;
        println!("{keys} keys, {bytes} bytes, of {groups} groups: {}", args.file.display());
        Ok(())
    })
}

/// Writes the backup; it is durable on return.
async fn write(client: &Client, path: &Path) -> Result<(Totals, usize)> {
    let views =
        client.open_views().await.map_err(told).context("cannot open views of all groups")?;
    let head = Head {
        cluster: client.status().await.map_err(told)?.cluster_id,
        taken_at_ms: SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64,
        epoch: views.groups.first().map_or(0, |view| view.opened.epoch),
        groups: views.groups.iter().map(|view| (view.group, view.opened.applied_index)).collect(),
    };
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let failed = || format!("cannot write {}", path.display());
    let mut writer = Writer::begin(BufWriter::new(file), &head).with_context(failed)?;

    let (sender, mut pages) = mpsc::channel::<Vec<Row>>(READERS);
    let mut waiting = views.groups.clone();
    let mut readers = JoinSet::new();
    loop {
        while readers.len() < READERS
            && let Some(view) = waiting.pop()
        {
            readers.spawn(read(view, sender.clone()));
        }
        tokio::select! {
            Some(rows) = pages.recv() => writer.rows(&rows).with_context(failed)?,
            ended = readers.join_next() => match ended {
                Some(read) => read??,
                None => break,
            },
        }
    }
    // The readers are gone, and so are their senders.
    drop(sender);
    while let Some(rows) = pages.recv().await {
        writer.rows(&rows).with_context(failed)?;
    }
    let (file, totals) = writer.end().with_context(failed)?;
    file.into_inner().map_err(|error| error.into_error()).with_context(failed)?.sync_all()?;
    Ok((totals, views.groups.len()))
}

/// Reads a view to its end.
async fn read(view: GroupView, pages: mpsc::Sender<Vec<Row>>) -> Result<()> {
    let GroupView { group, address, node, opened } = view;
    let (any, mut after) = (Bytes::new(), None);
    loop {
        let page = node.read_view(opened.view, &any, (0, u64::MAX), after, PAGE_BYTES);
        let page = page.await.map_err(told).with_context(|| {
            let index = opened.applied_index;
            format!(
                "cannot read group {group} as of index {index} on {address}\nhint: a view is of one \
                 node and ends with it; begin again"
            )
        })?;
        if !page.rows.is_empty() && pages.send(page.rows).await.is_err() {
            // Nobody writes any more, and the reason is told there.
            return Ok(());
        }
        after = page.last;
        if after.is_none() {
            // A kindness: it would be dropped by itself.
            let _ = node.close_view(opened.view).await;
            return Ok(());
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

async fn connect(address: &AddressArgs) -> Result<Client> {
    // Pages and batches are large, and a node that ends is not the only one.
    let options = Options { attempt_timeout: Duration::from_secs(5), ..options(address) };
    Client::connect([&address.addr], options).await.map_err(told).with_context(|| {
        format!(
            "cannot reach a cluster at {}\nhint: give the gRPC address of a node by --addr or \
             KONTIKI_ADDR",
            address.addr
        )
    })
}

/// A name beside `path`, for what is not whole yet.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

/// Makes the name of a file or folder durable.
fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    File::open(folder)?.sync_all().with_context(|| format!("cannot sync {}", folder.display()))
}

/// How far it is, on a terminal: a line that is written over.
fn show(line: &str) {
    use std::io::IsTerminal;
    let mut out = std::io::stderr();
    if out.is_terminal() {
        // Nobody to tell is no reason to fail.
        let _ = write!(out, "\r\x1b[K{line}");
    }
}
