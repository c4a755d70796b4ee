//! Snapshot files: a group's state at one index as a stream of bytes, built here or received.
//!
//! A file under construction has a name of its own. Only when all bytes are there, checksummed,
//! compared with the hash and synced does it get the name of a snapshot; so every file with such a
//! name is whole, or damaged later. Content is stored in blocks with a checksum each, verified on
//! every read; the hash over all content goes with the snapshot between nodes. What arrives keeps its
//! file when the process ends, so that the transfer goes on after a kill where it was. Byte table:
//! `docs/state-format.md`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kontiki_raft::{Membership, SnapshotMeta};
use kontiki_types::{GroupId, Incarnation, Index, LogId, Member, NodeId, ReplicaId, Term};
use xxhash_rust::xxh3::Xxh3;

use crate::disk::{Disk, File, hint};

/// The version of the snapshot file format that this code writes and reads.
pub const SNAPSHOT_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"KTKISNP\n";
/// The header's page.
const HEADER: usize = 4096;
/// A block on disk: a checksum and content.
const BLOCK: usize = 64 << 10;
const CONTENT: usize = BLOCK - 4;

/// Why a snapshot file could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The disk failed.
    #[error("cannot {action} {path}: {source}{hint}", hint = hint(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The file is damaged.
    #[error("{path}: offset {offset}: {detail}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        detail: &'static str,
    },
    /// Another version of the program wrote it.
    #[error("{path} has snapshot format version {found}; this program reads version {supported}")]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// What was received is not what was announced. Receive it again from the beginning.
    #[error("the received snapshot of group {group} at {id} is not the one announced")]
    Mismatch {
        /// The group.
        group: GroupId,
        /// The snapshot's position.
        id: LogId,
    },
    /// A chunk does not follow the one before.
    #[error("a chunk at {got} where {expected} bytes have been received")]
    OutOfOrder {
        /// Bytes received in order.
        expected: u64,
        /// Where the chunk begins.
        got: u64,
    },
    /// A configuration with more members than a header holds.
    #[error("a configuration too large for a snapshot's header")]
    TooManyMembers,
}

/// What a snapshot is of, before its content is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHead {
    /// The last entry whose effects it holds.
    pub id: LogId,
    /// The configuration in effect at that entry.
    pub membership: Arc<Membership>,
    /// The entry that holds that configuration.
    pub membership_id: LogId,
}

/// The snapshot files of a node.
#[derive(Clone)]
pub struct Snapshots<D: Disk> {
    disk: D,
    directory: PathBuf,
    unique: Arc<AtomicU64>,
}

impl<D: Disk> Snapshots<D> {
    /// Opens the directory; what was under construction when a former process ended is removed. What
    /// was arriving stays: see [`Snapshots::resume`].
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn open(disk: D, directory: &Path) -> Result<Self, SnapshotError> {
        disk.create_dir(directory).map_err(io_error("create", directory))?;
        let names = disk.list(directory).map_err(io_error("list", directory))?;
        for name in names.iter().filter(|name| name.ends_with(".part")) {
            let path = directory.join(name);
            disk.remove(&path).map_err(io_error("remove", &path))?;
        }
        let (directory, unique) = (directory.to_path_buf(), Arc::default());
        Ok(Self { disk, directory, unique })
    }

    /// The directory as it is, to be looked at only.
    pub fn existing(disk: D, directory: &Path) -> Self {
        Self { disk, directory: directory.to_path_buf(), unique: Arc::default() }
    }

    /// Every finished snapshot: its group, its last entry and its file. Files that are damaged are
    /// among them.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn all(&self) -> Result<Vec<(GroupId, LogId, PathBuf)>, SnapshotError> {
        let path = |group, id| self.directory.join(file_name(group, id));
        Ok(self.names()?.into_iter().map(|(group, id)| (group, id, path(group, id))).collect())
    }

    /// Begins a snapshot built here.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn build(
        &self,
        group: GroupId,
        head: SnapshotHead,
    ) -> Result<SnapshotWriter<D>, SnapshotError> {
        let unique = self.unique.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{}-{unique}.part", file_name(group, head.id)));
        let file = self.disk.create(&path).map_err(io_error("create", &path))?;
        Ok(self.writer(group, head, (path, file), OnDrop::Remove))
    }

    /// Writes into a file that is empty, or is to be.
    fn writer(
        &self,
        group: GroupId,
        head: SnapshotHead,
        (path, file): (PathBuf, D::File),
        on_drop: OnDrop,
    ) -> SnapshotWriter<D> {
        SnapshotWriter {
            snapshots: self.clone(),
            group,
            head,
            path,
            file,
            block: Vec::with_capacity(BLOCK),
            blocks: 0,
            bytes: 0,
            hash: Xxh3::new(),
            on_drop,
        }
    }

    /// Begins to receive the snapshot that `meta` announces.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn receive(
        &self,
        group: GroupId,
        meta: SnapshotMeta,
    ) -> Result<SnapshotReceiver<D>, SnapshotError> {
        let SnapshotMeta { id, membership, membership_id, .. } = meta.clone();
        let writer = self.build(group, SnapshotHead { id, membership, membership_id })?;
        Ok(SnapshotReceiver { writer, meta })
    }

    /// Receives the snapshot that `meta` announces into a file that outlives the receiver and the
    /// process. What an earlier one has taken of the very same snapshot is taken up, as far as its
    /// checksums prove it: [`SnapshotReceiver::offset`] says how far that is. All of that is read here.
    /// What has arrived of another snapshot of the group is removed.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn resume(
        &self,
        group: GroupId,
        meta: SnapshotMeta,
    ) -> Result<SnapshotReceiver<D>, SnapshotError> {
        self.retain_arriving(|other, id| other != group || id == meta.id)?;
        let header = encode_header(group, &meta).ok_or(SnapshotError::TooManyMembers)?;
        let path = self.directory.join(arriving_name(group, meta.id));
        let known = self.disk.exists(&path).map_err(io_error("look for", &path))?;
        let file = match known {
            true => self.disk.open(&path).map_err(io_error("open", &path))?,
            false => self.disk.create(&path).map_err(io_error("create", &path))?,
        };
        let SnapshotMeta { id, membership, membership_id, .. } = meta.clone();
        let head = SnapshotHead { id, membership, membership_id };
        let mut writer = self.writer(group, head, (path, file), OnDrop::Keep);
        let mut page = vec![0; HEADER];
        if known && writer.file.read_exact_at(&mut page, 0).is_ok() && page == header {
            writer.take_up(meta.bytes);
        } else {
            // Of another one's blocks nothing may be taken for this one's.
            writer.file.set_len(0).map_err(io_error("empty", &writer.path))?;
            writer.file.write_at(&header, 0).map_err(io_error("write", &writer.path))?;
        }
        Ok(SnapshotReceiver { writer, meta })
    }

    /// Removes what has arrived of snapshots that are not wanted any more.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn retain_arriving(
        &self,
        is_wanted: impl Fn(GroupId, LogId) -> bool,
    ) -> Result<(), SnapshotError> {
        let names = self.disk.list(&self.directory).map_err(io_error("list", &self.directory))?;
        for name in names {
            let parsed = name.strip_suffix(ARRIVING).and_then(parse_name);
            if parsed.is_some_and(|(group, id)| !is_wanted(group, id)) {
                let path = self.directory.join(&name);
                self.disk.remove(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }

    /// The finished snapshots of a group, oldest first. Files that are damaged are not among them.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn list(&self, group: GroupId) -> Result<Vec<SnapshotMeta>, SnapshotError> {
        let mut found = Vec::new();
        for (other, id) in self.names()? {
            if other == group
                && let Ok(reader) = self.read(group, id)
            {
                found.push(reader.meta);
            }
        }
        found.sort_by_key(|meta: &SnapshotMeta| meta.id.index);
        Ok(found)
    }

    /// Opens a finished snapshot.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn read(&self, group: GroupId, id: LogId) -> Result<SnapshotReader<D>, SnapshotError> {
        let path = self.directory.join(file_name(group, id));
        let file = self.disk.open(&path).map_err(io_error("open", &path))?;
        let mut page = vec![0; HEADER];
        file.read_exact_at(&mut page, 0).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(&path, 0, "the file is cut off"),
            _ => io_error("read", &path)(error),
        })?;
        let (found, meta) = decode_header(&path, &page)?;
        if found != group || meta.id != id {
            return Err(damaged(&path, 0, "the file is another snapshot's"));
        }
        Ok(SnapshotReader { file, path, meta, block: Vec::new(), loaded: None })
    }

    /// Removes all finished snapshots of `group` that are older than `keep`, and what has arrived of one
    /// that holds no more.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn clean(&self, group: GroupId, keep: LogId) -> Result<(), SnapshotError> {
        for (other, id) in self.names()? {
            if other == group && id.index < keep.index {
                let path = self.directory.join(file_name(group, id));
                self.disk.remove(&path).map_err(io_error("remove", &path))?;
            }
        }
        self.retain_arriving(|other, id| other != group || id.index > keep.index)?;
        self.sync()
    }

    /// Removes all snapshots of `group`.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn remove_group(&self, group: GroupId) -> Result<(), SnapshotError> {
        self.clean(group, LogId::new(Term(u64::MAX), Index(u64::MAX)))
    }

    fn names(&self) -> Result<Vec<(GroupId, LogId)>, SnapshotError> {
        let names = self.disk.list(&self.directory).map_err(io_error("list", &self.directory))?;
        Ok(names.iter().filter_map(|name| parse_name(name)).collect())
    }

    fn sync(&self) -> Result<(), SnapshotError> {
        self.disk.sync_dir(&self.directory).map_err(io_error("sync", &self.directory))
    }
}

/// What happens to the file of a snapshot that is not finished.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnDrop {
    Remove,
    Keep,
}

/// Writes a snapshot. Dropped before [`SnapshotWriter::finish`], it leaves nothing behind.
pub struct SnapshotWriter<D: Disk> {
    snapshots: Snapshots<D>,
    group: GroupId,
    head: SnapshotHead,
    path: PathBuf,
    file: D::File,
    block: Vec<u8>,
    blocks: u64,
    bytes: u64,
    hash: Xxh3,
    on_drop: OnDrop,
}

impl<D: Disk> SnapshotWriter<D> {
    /// Appends content.
    ///
    /// # Errors
    /// [`SnapshotError::Io`]; the snapshot is then of no use.
    pub fn write(&mut self, mut content: &[u8]) -> Result<(), SnapshotError> {
        self.hash.update(content);
        self.bytes += content.len() as u64;
        while !content.is_empty() {
            let room = CONTENT - self.block.len();
            let (now, later) = content.split_at(room.min(content.len()));
            self.block.extend_from_slice(now);
            content = later;
            if self.block.len() == CONTENT {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it a finished snapshot. Durable on return.
    ///
    /// # Errors
    /// [`SnapshotError::Io`]; there is no snapshot then.
    pub fn finish(mut self) -> Result<SnapshotMeta, SnapshotError> {
        if !self.block.is_empty() {
            self.flush()?;
        }
        let SnapshotHead { id, membership, membership_id } = self.head.clone();
        let (bytes, hash) = (self.bytes, self.hash.digest128());
        let meta = SnapshotMeta { id, membership, membership_id, bytes, hash };
        let header = encode_header(self.group, &meta).ok_or(SnapshotError::TooManyMembers)?;
        self.file.write_at(&header, 0).map_err(io_error("write", &self.path))?;
        self.file.sync_data().map_err(io_error("sync", &self.path))?;
        let Snapshots { disk, directory, .. } = &self.snapshots;
        let path = directory.join(file_name(self.group, id));
        disk.rename(&self.path, &path).map_err(io_error("rename", &self.path))?;
        self.on_drop = OnDrop::Keep;
        self.snapshots.sync()?;
        Ok(meta)
    }

    /// Goes on behind the blocks that the file has already of a snapshot with so many bytes. The first
    /// one that is damaged or cut off, as after a loss of power, ends them.
    fn take_up(&mut self, bytes: u64) {
        while self.bytes < bytes {
            let left = usize::try_from(bytes - self.bytes).unwrap_or(usize::MAX);
            let mut block = vec![0; left.min(CONTENT) + 4];
            if self.file.read_exact_at(&mut block, block_offset(self.blocks)).is_err() {
                return;
            }
            let (crc, content) = block.split_at(4);
            if crc != crc32c::crc32c(content).to_le_bytes() {
                return;
            }
            self.hash.update(content);
            self.bytes += content.len() as u64;
            self.blocks += 1;
        }
    }

    fn flush(&mut self) -> Result<(), SnapshotError> {
        let crc = crc32c::crc32c(&self.block);
        let offset = block_offset(self.blocks);
        let mut bytes = Vec::with_capacity(self.block.len() + 4);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&self.block);
        self.file.write_at(&bytes, offset).map_err(io_error("write", &self.path))?;
        self.blocks += 1;
        self.block.clear();
        Ok(())
    }
}

impl<D: Disk> Drop for SnapshotWriter<D> {
    fn drop(&mut self) {
        if self.on_drop == OnDrop::Remove {
            // The next start removes it otherwise.
            let _ = self.snapshots.disk.remove(&self.path);
        }
    }
}

/// Receives a snapshot chunk by chunk, in order.
pub struct SnapshotReceiver<D: Disk> {
    writer: SnapshotWriter<D>,
    meta: SnapshotMeta,
}

impl<D: Disk> SnapshotReceiver<D> {
    /// What is received.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// Bytes received in order: where the next chunk begins.
    pub fn offset(&self) -> u64 {
        self.writer.bytes()
    }

    /// Takes in a chunk. What was received before is skipped.
    ///
    /// # Errors
    /// [`SnapshotError::OutOfOrder`] changes nothing; [`SnapshotError::Mismatch`] if there is more
    /// than was announced; [`SnapshotError::Io`].
    pub fn write_chunk(&mut self, offset: u64, data: &[u8]) -> Result<(), SnapshotError> {
        let expected = self.offset();
        if offset > expected {
            return Err(SnapshotError::OutOfOrder { expected, got: offset });
        }
        let known = usize::try_from(expected - offset).unwrap_or(usize::MAX).min(data.len());
        let fresh = &data[known..];
        if expected + fresh.len() as u64 > self.meta.bytes {
            return Err(self.mismatch());
        }
        self.writer.write(fresh)
    }

    /// Whether all bytes are there.
    pub fn is_complete(&self) -> bool {
        self.offset() == self.meta.bytes
    }

    /// Compares what was received with what was announced and makes it a finished snapshot, durable
    /// on return.
    ///
    /// # Errors
    /// [`SnapshotError::Mismatch`], [`SnapshotError::Io`]; there is no snapshot then.
    pub fn finish(mut self) -> Result<SnapshotMeta, SnapshotError> {
        // What is wrong with it is not taken up again.
        self.writer.on_drop = OnDrop::Remove;
        if !self.is_complete() || self.writer.hash.digest128() != self.meta.hash {
            return Err(self.mismatch());
        }
        self.writer.finish()
    }

    /// Gives it up: nothing of it is taken up again.
    pub fn abandon(mut self) {
        self.writer.on_drop = OnDrop::Remove;
    }

    fn mismatch(&self) -> SnapshotError {
        SnapshotError::Mismatch { group: self.writer.group, id: self.meta.id }
    }
}

/// Reads a finished snapshot; every byte that comes out has been verified.
pub struct SnapshotReader<D: Disk> {
    file: D::File,
    path: PathBuf,
    meta: SnapshotMeta,
    block: Vec<u8>,
    loaded: Option<u64>,
}

impl<D: Disk> SnapshotReader<D> {
    /// What it is.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// Up to `max` bytes of content from `offset`; empty only at the end (or for `max` 0).
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`], [`SnapshotError::Io`].
    pub fn read_chunk(&mut self, offset: u64, max: usize) -> Result<Vec<u8>, SnapshotError> {
        let rest = self.meta.bytes.saturating_sub(offset);
        let wanted = usize::try_from(rest).unwrap_or(usize::MAX).min(max);
        let mut chunk = Vec::with_capacity(wanted);
        while chunk.len() < wanted {
            let at = offset + chunk.len() as u64;
            self.load(at / CONTENT as u64)?;
            let start = (at % CONTENT as u64) as usize;
            let end = self.block.len().min(start + wanted - chunk.len());
            chunk.extend_from_slice(&self.block[start..end]);
        }
        Ok(chunk)
    }

    /// Reads everything and compares it with the hash.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`], [`SnapshotError::Io`].
    pub fn verify(&mut self) -> Result<(), SnapshotError> {
        let mut hash = Xxh3::new();
        let mut offset = 0;
        while offset < self.meta.bytes {
            let chunk = self.read_chunk(offset, 16 * CONTENT)?;
            hash.update(&chunk);
            offset += chunk.len() as u64;
        }
        if hash.digest128() == self.meta.hash {
            Ok(())
        } else {
            Err(damaged(&self.path, 0, "the content is not what its hash says"))
        }
    }

    fn load(&mut self, block: u64) -> Result<(), SnapshotError> {
        if self.loaded == Some(block) {
            return Ok(());
        }
        let left = self.meta.bytes - block * CONTENT as u64;
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(CONTENT);
        let offset = block_offset(block);
        let mut bytes = vec![0; length + 4];
        self.loaded = None;
        self.file.read_exact_at(&mut bytes, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(&self.path, offset, "the file is cut off"),
            _ => io_error("read", &self.path)(error),
        })?;
        let content = bytes.split_off(4);
        if bytes != crc32c::crc32c(&content).to_le_bytes() {
            return Err(damaged(&self.path, offset, "a block is damaged"));
        }
        self.block = content;
        self.loaded = Some(block);
        Ok(())
    }
}

fn block_offset(block: u64) -> u64 {
    HEADER as u64 + block * BLOCK as u64
}

fn file_name(group: GroupId, id: LogId) -> String {
    format!("snap-{}-{}-{}", group.get(), id.term.get(), id.index.get())
}

/// How the name of a file ends that is still arriving; what begins it is the name it will have.
const ARRIVING: &str = ".arriving";

fn arriving_name(group: GroupId, id: LogId) -> String {
    file_name(group, id) + ARRIVING
}

fn parse_name(name: &str) -> Option<(GroupId, LogId)> {
    let mut numbers = name.strip_prefix("snap-")?.split('-').map(str::parse::<u64>);
    let group = GroupId(u32::try_from(numbers.next()?.ok()?).ok()?);
    let id = LogId::new(Term(numbers.next()?.ok()?), Index(numbers.next()?.ok()?));
    numbers.next().is_none().then_some((group, id))
}

fn damaged(path: &Path, offset: u64, detail: &'static str) -> SnapshotError {
    SnapshotError::Damaged { path: path.to_path_buf(), offset, detail }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_path_buf();
    move |source| SnapshotError::Io { action, path, source }
}

/// `None` if the members do not fit.
fn encode_header(group: GroupId, meta: &SnapshotMeta) -> Option<Vec<u8>> {
    let mut page = Vec::with_capacity(HEADER);
    page.extend_from_slice(&MAGIC);
    page.extend_from_slice(&SNAPSHOT_VERSION.to_le_bytes());
    page.extend_from_slice(&[0; 4]);
    page.extend_from_slice(&meta.hash.to_le_bytes());
    let ids = [meta.id, meta.membership_id];
    let ids = ids.iter().flat_map(|id| [id.term.get(), id.index.get()]);
    for number in [u64::from(group.get()), meta.bytes].into_iter().chain(ids) {
        page.extend_from_slice(&number.to_le_bytes());
    }
    let Membership { voters, outgoing, learners } = &*meta.membership;
    for list in [voters, outgoing, learners] {
        page.extend_from_slice(&(list.len() as u64).to_le_bytes());
        for member in list {
            for number in [member.node.get(), member.incarnation.get(), member.replica.get()] {
                page.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
    if page.len() > HEADER {
        return None;
    }
    page.resize(HEADER, 0);
    let crc = header_crc(&page);
    page[12..16].copy_from_slice(&crc.to_le_bytes());
    Some(page)
}

fn header_crc(page: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&page[..12]), &page[16..])
}

fn decode_header(path: &Path, page: &[u8]) -> Result<(GroupId, SnapshotMeta), SnapshotError> {
    let bad = || damaged(path, 0, "the header is damaged");
    if page[..8] != MAGIC || page[12..16] != header_crc(page).to_le_bytes() {
        return Err(bad());
    }
    let mut version = [0; 4];
    version.copy_from_slice(&page[8..12]);
    let found = u32::from_le_bytes(version);
    if found != SNAPSHOT_VERSION {
        let path = path.to_path_buf();
        return Err(SnapshotError::Version { path, found, supported: SNAPSHOT_VERSION });
    }
    let mut hash = [0; 16];
    hash.copy_from_slice(&page[16..32]);
    let mut numbers = page[32..].chunks_exact(8).map(|bytes| {
        let mut number = [0; 8];
        number.copy_from_slice(bytes);
        u64::from_le_bytes(number)
    });
    let mut next = || numbers.next().ok_or_else(bad);
    let group = GroupId(u32::try_from(next()?).map_err(|_| bad())?);
    let bytes = next()?;
    let id = LogId::new(Term(next()?), Index(next()?));
    let membership_id = LogId::new(Term(next()?), Index(next()?));
    let mut lists = [Vec::new(), Vec::new(), Vec::new()];
    for list in &mut lists {
        for _ in 0..next()? {
            let (node, incarnation) = (NodeId(next()?), Incarnation(next()?));
            list.push(Member::new(node, incarnation, ReplicaId(next()?)));
        }
    }
    let [voters, outgoing, learners] = lists;
    let membership = Arc::new(Membership { voters, outgoing, learners });
    let hash = u128::from_le_bytes(hash);
    Ok((group, SnapshotMeta { id, membership, membership_id, bytes, hash }))
}

#[cfg(test)]
mod tests;
