//! Keys as output: each line of a reduce is a key below the prefix, with a value.
//!
//! Invariants
//! - A job that workers run has a *fence*: a key that exists for as long as the job, made before it is
//!   submitted. Every write of it compares the fence's version, so nothing is written after its end.
//! - Each output has a mark beside the fence. A write compares its version and changes it. An attempt
//!   reads the mark *before* it asks for the grant: if another one was granted and has written since,
//!   the version is another, and nothing of the first one is applied any more.
//! - The last write of an output sets the mark to [`DONE`], together with its keys: an attempt that finds
//!   it has nothing to write.
//!
//! So each key is written by one attempt, or by one that died and then, the same again, by its
//! successor. A reduce that gives other keys when it is run again may leave some of those of the
//! attempt that died.
//!
//! What is compared must be of the slot that is written. In a sharded store, unless the prefix has a
//! hash tag, there are fences and marks for each slot: see [`by_slot`](super::by_slot).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kontiki_client::{Client, Compare, GroupView, Op, OpResult, Opened, Version};
use kontiki_storage::random_u64;
use kontiki_types::Slot;

use super::by_slot::{self, BySlot};
use super::fence::{DONE, Fence};
use super::{StoreUrl, block_on, client, lines, passes, told};

/// Keys and values of one write come to about this, far below what an entry may hold.
const WRITE_BYTES: usize = 512 << 10;
/// Keys of one write.
const WRITE_KEYS: usize = 512;
/// How long a write without a fence is tried.
const PATIENCE: Duration = Duration::from_secs(60);
/// A prefix for the output of a job.
#[derive(Clone, Debug)]
pub struct KeysOutput {
    url: StoreUrl,
    fence: Option<Fence>,
}

/// An output that waits to be written.
#[derive(Debug)]
pub(crate) struct PreparedKeys {
    output: KeysOutput,
    file: PathBuf,
    number: u32,
    /// Version of its mark.
    mark: Version,
    is_done: bool,
    /// In a sharded store.
    by_slot: Option<BySlot>,
}

/// What became of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    All,
    /// Another attempt has written, or the job has ended.
    Superseded,
}

impl KeysOutput {
    pub(crate) fn of(url: &[u8], fence: Option<Fence>) -> io::Result<Self> {
        let url = StoreUrl::parse(url)?;
        if url.prefix.is_empty() {
            let why = "an output needs a prefix: kontiki://HOST:PORT/PREFIX";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(Self { url, fence })
    }

    async fn client(&self) -> io::Result<Client> {
        client(&self.url.addresses, true).await
    }

    fn key(&self, name: &[u8]) -> Bytes {
        Bytes::from([&self.url.prefix, name].concat())
    }

    /// Whether no key has the prefix. Looks at all keys, unless the prefix has a hash tag.
    pub(crate) fn is_empty(&self) -> io::Result<bool> {
        block_on(async {
            let mut is_empty = true;
            self.each_page(async |_, page| {
                is_empty = page.is_empty();
                Ok(is_empty)
            })
            .await?;
            Ok(is_empty)
        })
    }

    /// Calls `each` with the keys below the prefix as they are at one moment, page by page, until it
    /// says that it has seen enough.
    async fn each_page(
        &self,
        mut each: impl AsyncFnMut(&Client, Vec<Bytes>) -> io::Result<bool>,
    ) -> io::Result<()> {
        let writer = self.client().await?;
        let views = writer.open_views().await.map_err(|error| told(&error))?;
        let mut goes_on = true;
        for GroupView { node, opened: Opened { view, .. }, .. } in &views.groups {
            let mut after = None;
            while goes_on {
                let all = (0, u64::MAX);
                let read = node.read_view(*view, &self.url.prefix, all, after, 1 << 20).await;
                let page = read.map_err(|error| told(&error))?;
                if !page.rows.is_empty() {
                    let keys = page.rows.into_iter().map(|row| row.key).collect();
                    goes_on = each(&writer, keys).await?;
                }
                after = page.last;
                if after.is_none() {
                    break;
                }
            }
            // A kindness: it would be dropped by itself.
            let _ = node.close_view(*view).await;
        }
        Ok(())
    }

    /// Makes the fence of a job, which must be the first one with the prefix.
    pub(crate) fn begin(&self) -> io::Result<Fence> {
        let key = self.key(format!("_mr-{:016x}", random_u64()?).as_bytes()).to_vec();
        block_on(async { Fence::make(&self.client().await?, key, &self.url.prefix).await })
    }

    /// Removes the fence with the marks of `outputs`: from now on nothing is written.
    pub(crate) fn end(&self, outputs: u32) -> io::Result<()> {
        let Some(fence) = &self.fence else { return Ok(()) };
        block_on(async {
            let client = self.client().await?;
            if fence.remove(&client, outputs).await? {
                return Ok(());
            }
            // Attempts that took over from others have left marks in slots nobody has listed.
            let left =
                Self { url: StoreUrl { prefix: fence.key(), ..self.url.clone() }, fence: None };
            left.remove_below().await
        })
    }

    /// Removes all keys below the prefix: there were none before.
    pub(crate) fn remove_all(&self) -> io::Result<()> {
        block_on(self.remove_below())
    }

    async fn remove_below(&self) -> io::Result<()> {
        self.each_page(async |client, keys| {
            for some in keys.chunks(WRITE_KEYS) {
                let deletes = some.iter().map(|key| Op::Delete { key: key.clone() });
                client.batch(deletes).await.map_err(|error| told(&error))?;
            }
            Ok(true)
        })
        .await
    }

    /// Adds a key that is no output, with the bytes of a file.
    pub(crate) fn add(&self, file: &Path, name: &str) -> io::Result<()> {
        let bytes = std::fs::read(file)?;
        block_on(async {
            let set = self.client().await?.set(self.key(name.as_bytes()), bytes).await;
            set.map(drop).map_err(|error| told(&error))
        })
    }

    /// Prepares the output `number`.
    pub(crate) fn prepare(&self, file: &Path, number: u32) -> io::Result<PreparedKeys> {
        let mut prepared = PreparedKeys {
            output: self.clone(),
            file: file.to_path_buf(),
            number,
            mark: Version::ABSENT,
            is_done: false,
            by_slot: None,
        };
        if let Some(fence) = &self.fence {
            block_on(async {
                let client = self.client().await?;
                let found = client.get(fence.mark(number)).await.map_err(|error| told(&error))?;
                if let Some(found) = found {
                    prepared.mark = found.version;
                    prepared.is_done = found.value.starts_with(DONE);
                }
                if fence.is_by_slot() && !prepared.is_done {
                    let slots = self.slots_of(file)?;
                    let by_slot = BySlot::prepare(&client, fence, number, prepared.mark, slots);
                    prepared.by_slot = Some(by_slot.await?);
                }
                Ok(())
            })?;
        }
        Ok(prepared)
    }

    /// The slots of the keys in a file of lines.
    fn slots_of(&self, file: &Path) -> io::Result<BTreeSet<Slot>> {
        let mut file = BufReader::new(File::open(file)?);
        let (mut line, mut slots) = (Vec::new(), BTreeSet::new());
        while file.read_until(b'\n', &mut line)? > 0 {
            let (key, _) = lines::read(line.strip_suffix(b"\n").unwrap_or(&line));
            slots.insert(Slot::of(&self.key(&key)));
            line.clear();
        }
        Ok(slots)
    }
}

impl PreparedKeys {
    /// Writes the keys. `Some`: it must be granted again, since another attempt may have been.
    pub(crate) fn write(mut self) -> io::Result<Option<Self>> {
        if !self.is_done {
            match block_on(self.write_all())? {
                Wrote::All => {}
                Wrote::Superseded => {
                    return self.output.prepare(&self.file, self.number).map(Some);
                }
            }
        }
        // Its lines are where they are to be.
        let _ = std::fs::remove_file(&self.file);
        Ok(None)
    }

    async fn write_all(&mut self) -> io::Result<Wrote> {
        let client = self.output.client().await?;
        if let Some(by_slot) = &mut self.by_slot
            && by_slot.claim(&client).await? == Wrote::Superseded
        {
            return Ok(Wrote::Superseded);
        }
        let (bytes_max, keys_max) = match &self.by_slot {
            Some(_) => (by_slot::WRITE_BYTES, by_slot::WRITE_KEYS),
            None => (WRITE_BYTES, WRITE_KEYS),
        };
        let mut file = BufReader::new(File::open(&self.file)?);
        let mut line = Vec::new();
        loop {
            let (mut ops, mut bytes) = (Vec::new(), 0);
            let is_last = loop {
                line.clear();
                if file.read_until(b'\n', &mut line)? == 0 {
                    break true;
                }
                let (key, value) = lines::read(line.strip_suffix(b"\n").unwrap_or(&line));
                let key = self.output.key(&key);
                bytes += key.len() + value.len();
                ops.push(Op::Set { key, value: value.into() });
                if bytes >= bytes_max || ops.len() >= keys_max {
                    // Whether more follows.
                    break file.fill_buf()?.is_empty();
                }
            };
            match self.write_some(&client, ops, is_last).await? {
                Wrote::All if is_last => return Ok(Wrote::All),
                Wrote::All => {}
                Wrote::Superseded => return Ok(Wrote::Superseded),
            }
        }
    }

    /// Makes one write, all or nothing.
    async fn write_some(
        &mut self,
        client: &Client,
        mut ops: Vec<Op>,
        is_last: bool,
    ) -> io::Result<Wrote> {
        let Some(fence) = &self.output.fence else {
            return write_again_and_again(client, ops).await;
        };
        if let Some(by_slot) = &mut self.by_slot {
            return match by_slot.write(client, ops).await? {
                Wrote::All if is_last => by_slot.finish(client).await,
                wrote => Ok(wrote),
            };
        }
        let mark = fence.mark(self.number);
        let compares = [fence.compare(), Compare::version(&mark, self.mark)];
        let text = if is_last { Bytes::from_static(DONE) } else { Bytes::from_static(b"begun") };
        ops.push(Op::Set { key: mark.into(), value: text });
        match client.transaction(compares, ops).await {
            Ok(Some(results)) => {
                if let Some(OpResult::Set(version)) = results.last() {
                    self.mark = *version;
                }
                Ok(Wrote::All)
            }
            Ok(None) => Ok(Wrote::Superseded),
            // The mark tells, when it is read again.
            Err(error) if passes(&error) => Ok(Wrote::Superseded),
            Err(error) => Err(told(&error)),
        }
    }
}

/// Nobody else writes these keys, and the same again does no harm.
async fn write_again_and_again(client: &Client, ops: Vec<Op>) -> io::Result<Wrote> {
    let begun = Instant::now();
    loop {
        match client.batch(ops.clone()).await {
            Ok(_) => return Ok(Wrote::All),
            Err(error) if passes(&error) && begun.elapsed() < PATIENCE => {}
            Err(error) => return Err(told(&error)),
        }
    }
}
