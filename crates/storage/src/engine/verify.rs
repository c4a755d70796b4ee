//! Checking the states of all groups while nobody has them open.
//!
//! The tree removes files that it does not know when it is opened, so it is given a folder of
//! symbolic links: what it removes are links. A table's file is compared as a whole with the
//! checksum that the manifest has of it; where it differs, its blocks, which have a checksum each,
//! tell from where on.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kontiki_types::{GroupId, LogId};
use lsm_tree::{AbstractTree, Cache as BlockCache, Checksum, Table};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::lsm::parse_name;
use super::tables::{Tree, Trees};

/// Bytes read at once.
const PIECE: usize = 1 << 20;
/// The tree's file that names the manifest in force: number (8), XXH3-128 of it (16), kind (1).
const CURRENT: &str = "current";
const CURRENT_BYTES: usize = 25;
const TABLES: &str = "tables";
/// Of a block: magic (4), type (1), XXH3-128 of the data (16), bytes of the data (4), bytes when
/// uncompressed (4), lower half of the lower half of the XXH3-128 of the header before (4).
const BLOCK_HEADER: usize = 33;
const BLOCK_MAGIC: [u8; 4] = *b"LSM\x03";

/// The files of one group's state.
#[derive(Clone, Debug)]
pub struct GroupState {
    /// The group.
    pub group: GroupId,
    /// Which of its installations.
    pub number: u64,
    /// Its folder.
    pub path: PathBuf,
    /// Up to where it has applied; `None` for an installation that was not finished, and where it
    /// cannot be read.
    pub applied: Option<LogId>,
    /// Table files, and their bytes.
    pub tables: u64,
    /// See `tables`.
    pub bytes: u64,
    /// What is wrong: file, offset where it is known, and what.
    pub damage: Vec<(PathBuf, Option<u64>, String)>,
}

/// A file of tables as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFile {
    /// Where it is.
    pub path: PathBuf,
    /// XXH3-128 of all of it.
    pub checksum: u128,
}

impl TableFile {
    /// Reads the file, calling `paced` with the number of bytes after each piece; where the first
    /// damage is, if there is any.
    ///
    /// # Errors
    /// What reading gives: [`io::ErrorKind::NotFound`] if it has been removed since.
    pub fn first_damage(&self, mut paced: impl FnMut(usize)) -> io::Result<Option<u64>> {
        let file = File::open(&self.path)?;
        let (mut hash, mut offset, mut piece) = (Xxh3::new(), 0, vec![0; PIECE]);
        loop {
            match file.read_at(&mut piece, offset)? {
                0 => break,
                read => {
                    hash.update(piece.get(..read).unwrap_or_default());
                    offset += read as u64;
                    paced(read);
                }
            }
        }
        if hash.digest128() == self.checksum {
            return Ok(None);
        }
        first_bad_block(&file).map(Some)
    }
}

/// Where the first block is that does not fit its checksum; behind the blocks if all do.
fn first_bad_block(file: &File) -> io::Result<u64> {
    let mut offset = 0;
    loop {
        let mut header = [0; BLOCK_HEADER];
        let read = file.read_at(&mut header, offset)?;
        if read < BLOCK_HEADER || header[..4] != BLOCK_MAGIC {
            return Ok(offset);
        }
        let (front, back) = header.split_at(BLOCK_HEADER - 4);
        let checksum = xxh3_128(front) as u32;
        let number =
            |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u128::from(*byte));
        let length = number(&front[21..25]) as usize;
        if number(back) != u128::from(checksum) || length as u64 > file.metadata()?.len() {
            return Ok(offset);
        }
        let mut data = vec![0; length];
        let read = file.read_at(&mut data, offset + BLOCK_HEADER as u64)?;
        if read < length || xxh3_128(&data) != number(&front[5..21]) {
            return Ok(offset);
        }
        offset += (BLOCK_HEADER + length) as u64;
    }
}

/// The tables that a tree consists of at this moment.
pub(super) fn table_files(tree: &Tree, path: &Path) -> Vec<TableFile> {
    let Some(tables) = tree.tables() else { return Vec::new() };
    let version = tables.tree.current_version();
    let file = |table: &Table| TableFile {
        path: path.join(TABLES).join(table.id().to_string()),
        checksum: table.checksum().into_u128(),
    };
    version.iter_tables().map(file).collect()
}

/// Compares the manifest in force with the checksum that is kept of it, which the tree itself does
/// not do.
///
/// # Errors
/// What is wrong, and with which file.
pub(super) fn check_manifest(tree: &Path) -> Result<(), (PathBuf, String)> {
    let current = tree.join(CURRENT);
    let at = |path: &Path, error: io::Error| (path.to_path_buf(), error.to_string());
    let bytes = match fs::read(&current) {
        // A tree whose first manifest was not written has nothing.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(|error| at(&current, error))?,
    };
    if bytes.len() != CURRENT_BYTES {
        return Err((current, format!("{} bytes instead of {CURRENT_BYTES}", bytes.len())));
    }
    let number =
        |bytes: &[u8]| bytes.iter().rev().fold(0, |sum: u128, byte| sum << 8 | u128::from(*byte));
    let manifest = tree.join(format!("v{}", number(&bytes[..8])));
    let content = fs::read(&manifest).map_err(|error| at(&manifest, error))?;
    if xxh3_128(&content) == number(&bytes[8..24]) {
        return Ok(());
    }
    Err((manifest, "the manifest is not what its checksum says".to_owned()))
}

/// Checks all states in the folder `state`, which nobody may have open, and changes nothing in it.
/// Links are made in `scratch`, a folder that is there and empty.
///
/// # Errors
/// A folder cannot be read, or links cannot be made.
pub fn verify_states(state: &Path, scratch: &Path) -> io::Result<Vec<GroupState>> {
    let mut states = Vec::new();
    let mut names: Vec<_> = fs::read_dir(state)?.collect::<io::Result<Vec<_>>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    for entry in names {
        let name = entry.file_name();
        let Some((group, number)) = name.to_str().and_then(parse_name) else { continue };
        let (path, links) = (entry.path(), scratch.join(&name));
        link_files(&path, &links)?;
        states.push(verify_state(group, number, path, &links)?);
        fs::remove_dir_all(&links)?;
    }
    Ok(states)
}

fn verify_state(
    group: GroupId,
    number: u64,
    path: PathBuf,
    links: &Path,
) -> io::Result<GroupState> {
    let mut found =
        GroupState { group, number, path, applied: None, tables: 0, bytes: 0, damage: Vec::new() };
    if let Err((file, detail)) = check_manifest(&found.path) {
        found.damage.push((file, Some(0), detail));
        return Ok(found);
    }
    let trees = Arc::new(Trees::new(0));
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let tree = Tree::new(&trees, links.to_path_buf(), number);
        tree.begin().map_err(|error| error.to_string())?;
        Ok(tree)
    }));
    let tree = match opened.unwrap_or_else(|_| Err("it panicked on its files".to_owned())) {
        Ok(tree) => tree,
        Err(detail) => {
            found.damage = match unopenable_tables(&found.path) {
                damage if damage.is_empty() => vec![(found.path.clone(), None, detail)],
                damage => damage,
            };
            return Ok(found);
        }
    };
    for file in table_files(&tree, &found.path) {
        found.tables += 1;
        found.bytes += fs::metadata(&file.path).map_or(0, |data| data.len());
        match file.first_damage(|_| {}) {
            Ok(None) => {}
            Ok(offset) => found.damage.push((file.path, offset, "a table is damaged".to_owned())),
            Err(error) => found.damage.push((file.path, None, error.to_string())),
        }
    }
    match catch_unwind(AssertUnwindSafe(|| tree.applied())) {
        Ok(Ok(applied)) => found.applied = applied,
        Ok(Err(detail)) if found.damage.is_empty() => {
            found.damage.push((found.path.clone(), None, detail));
        }
        _ => {}
    }
    Ok(found)
}

/// The tables that cannot even be opened.
fn unopenable_tables(tree: &Path) -> Vec<(PathBuf, Option<u64>, String)> {
    let Ok(entries) = fs::read_dir(tree.join(TABLES)) else {
        return vec![(tree.join(TABLES), None, "the folder is missing".to_owned())];
    };
    let mut damage = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let cache = Arc::new(BlockCache::with_capacity_bytes(0));
        let open = || {
            let table = Table::recover(
                path.clone(),
                Checksum::from_raw(0),
                0,
                0,
                cache,
                None,
                false,
                false,
            );
            table.map(|_| ()).map_err(|error| error.to_string())
        };
        let opened = catch_unwind(AssertUnwindSafe(open));
        if let Err(detail) = opened.unwrap_or_else(|_| Err("it panicked on the table".to_owned())) {
            let offset = File::open(&path).and_then(|file| first_bad_block(&file)).ok();
            damage.push((path, offset, detail));
        }
    }
    damage
}

/// Makes `links` a folder in which an engine can be opened that has the states of the folder `state`:
/// what it changes is in `links` alone. Nobody else may change `state` meanwhile.
///
/// # Errors
/// A folder cannot be read, or links cannot be made.
pub fn link_states(state: &Path, links: &Path) -> io::Result<()> {
    fs::create_dir_all(links)?;
    if !state.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(state)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().and_then(parse_name).is_some() {
            link_files(&entry.path(), &links.join(name))?;
        }
    }
    Ok(())
}

/// Makes `links` a folder like `from`, with links instead of files.
fn link_files(from: &Path, links: &Path) -> io::Result<()> {
    fs::create_dir_all(links)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = links.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_files(&entry.path(), &target)?;
        } else {
            symlink(fs::canonicalize(entry.path())?, target)?;
        }
    }
    Ok(())
}
