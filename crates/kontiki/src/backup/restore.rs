//! restore: the keys of a backup into a store that has none.
//!
//! The whole file is checked before anything is written. Every write sets a key to what it had, so a
//! write that is made again, or late, does no harm: nobody else writes meanwhile.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kontiki_client::{Client, Error, Op, Row};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;

use super::file::{Head, Reader, Totals};
use super::{beside, connect, runtime, show, sync_folder};
use crate::cli::{AddressArgs, RestoreArgs};
use crate::keys::told;

/// Keys and values of one batch come to about this.
const BATCH_BYTES: usize = 512 << 10;
/// Keys of one batch.
const BATCH_KEYS: usize = 512;
/// Batches under way at once.
const BATCHES: usize = 8;
/// How long a batch is tried.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts of one.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) fn run(args: &RestoreArgs) -> Result<()> {
    let (head, totals) = check(&args.file)?;
    let Totals { keys, bytes } = totals;
    let taken = head.taken_at_ms / 1000;
    if args.check {
        println!(
            "sound: {keys} keys, {bytes} bytes, of {} groups, taken {taken} s after 1970-01-01 from \
             cluster {:016x}",
            head.groups.len(),
            head.cluster
        );
        return Ok(());
    }
    match &args.dir {
        Some(dir) => into_folder(args, dir, totals)?,
        None => runtime()?.block_on(into_store(&args.file, &args.address, totals))?,
    }
    println!("{keys} keys, {bytes} bytes are restored");
    if let Some(dir) = &args.dir {
        println!("hint: kontiki up --nodes {} --dir {}", args.nodes, dir.display());
    }
    Ok(())
}

/// Reads the whole file.
fn check(path: &Path) -> Result<(Head, Totals)> {
    let failed = || format!("the backup {} cannot be used", path.display());
    let (mut reader, head) = open(path)?;
    while reader.rows().with_context(failed)?.is_some() {}
    Ok((head, reader.totals()))
}

fn open(path: &Path) -> Result<(Reader<BufReader<File>>, Head)> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let opened = Reader::begin(BufReader::with_capacity(1 << 20, file));
    opened.with_context(|| format!("the backup {} cannot be used", path.display()))
}

/// Fills a running store.
async fn into_store(path: &Path, address: &AddressArgs, totals: Totals) -> Result<()> {
    let client = connect(address).await?;
    let views = client.open_views().await.map_err(told)?;
    let there: u64 = views.groups.iter().map(|view| view.opened.keys).sum();
    if there > 0 {
        bail!(
            "the store has {there} keys already\nhint: restore into an empty one, or empty this one \
             first (FLUSHALL)"
        );
    }
    for view in &views.groups {
        let _ = view.node.close_view(view.opened.view).await;
    }
    drop(views);
    let (mut reader, _) = open(path)?;
    let mut under_way: JoinSet<Result<u64>> = JoinSet::new();
    let mut written = 0;
    let partly = "the store holds a part of the backup now\nhint: FLUSHALL, and restore again";
    while let Some(rows) = reader.rows()? {
        for batch in batches(rows) {
            while under_way.len() >= BATCHES
                && let Some(done) = under_way.join_next().await
            {
                written += done?.context(partly)?;
                show(&format!("{written} of {} keys", totals.keys));
            }
            under_way.spawn(write(client.clone(), batch));
        }
    }
    while let Some(done) = under_way.join_next().await {
        done?.context(partly)?;
    }
    show("");
    Ok(())
}

fn batches(rows: Vec<Row>) -> Vec<Vec<Op>> {
    let (mut all, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
    for Row { key, value, expires_at_ms } in rows {
        let length = key.len() + value.len();
        if !batch.is_empty() && (bytes + length > BATCH_BYTES || batch.len() == BATCH_KEYS) {
            all.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += length;
        batch.push(match expires_at_ms {
            None => Op::Set { key, value },
            Some(expires_at_ms) => Op::SetUntil { key, value, expires_at_ms },
        });
    }
    if !batch.is_empty() {
        all.push(batch);
    }
    all
}

/// Makes a batch of writes, again and again until all of them are known to be made.
async fn write(client: Client, batch: Vec<Op>) -> Result<u64> {
    let begun = Instant::now();
    loop {
        match client.batch(batch.clone()).await {
            Ok(_) => return Ok(batch.len() as u64),
            Err(Error::MayRetry { .. } | Error::Unknown { .. }) if begun.elapsed() < PATIENCE => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(told(error)),
        }
    }
}

/// Makes the folder of a local cluster: it has its name only when everything is in it.
fn into_folder(args: &RestoreArgs, dir: &Path, totals: Totals) -> Result<()> {
    let begun = beside(dir, "restoring");
    for path in [dir, &begun] {
        if path.exists() {
            bail!(
                "{} exists\nhint: restore makes a new folder; remove what an earlier attempt has left",
                path.display()
            );
        }
    }
    let mut cluster = Local::start(args, &begun)?;
    let address = AddressArgs { addr: cluster.address.clone(), ..args.address.clone() };
    runtime()?.block_on(into_store(&args.file, &address, totals))?;
    cluster.stop()?;
    fs::rename(&begun, dir).with_context(|| format!("cannot name the folder {}", dir.display()))?;
    sync_folder(dir)
}

/// A cluster that runs for as long as it is filled.
struct Local {
    up: Child,
    /// gRPC address of a node.
    address: String,
}

impl Local {
    fn start(args: &RestoreArgs, dir: &Path) -> Result<Self> {
        let binary = std::env::current_exe().context("cannot find this program's own file")?;
        let mut up = Command::new(binary)
            .args(["up", "--base-port", "0", "--nodes", &args.nodes.to_string()])
            .args(["--groups", &args.groups.to_string(), "--dir"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a cluster")?;
        let out = up.stdout.take();
        let mut local = Self { up, address: String::new() };
        for line in out.into_iter().flat_map(|out| BufReader::new(out).lines()) {
            let line = line.context("cannot read what the cluster says")?;
            let mut words = line.split_whitespace();
            if words.next() == Some("ready:") && !local.address.is_empty() {
                return Ok(local);
            }
            if let Some(address) = words.skip_while(|word| *word != "grpc").nth(1) {
                local.address = address.to_owned();
            }
        }
        bail!("the cluster in {} did not come up", dir.display())
    }

    fn stop(&mut self) -> Result<()> {
        if let Some(pid) = i32::try_from(self.up.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let status = self.up.wait()?;
        if !status.success() {
            bail!("the cluster that was filled ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Ok(None) = self.up.try_wait() {
            let _ = self.stop();
        }
    }
}
