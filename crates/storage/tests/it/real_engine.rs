//! Power cuts with the engine that a node has: its files are altered after it was closed, as a power
//! cut at some moment of its last step would have left them, and the log's disk forgets, too.
//!
//! What the engine writes in a step, in order: tables, each synced; a manifest, synced; the file that
//! names the manifest in force, replaced as a whole. Up to the moment of the cut that is there, and
//! of what comes next any part.

use std::fs;

use kontiki_storage::engine::{FjallConfig, FjallEngine};
use tempfile::TempDir;

use super::*;

/// Lives of a node, each ended by a power cut.
const LIVES: u64 = 11;
const PAGE: usize = 512;

type Files = BTreeMap<String, Vec<u8>>;

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}

fn open_engine(directory: &TempDir) -> FjallEngine {
    let config =
        FjallConfig { overlay_bytes: 1 << 20, cache_bytes: 1 << 12, block_cache_bytes: 1 << 20 };
    let engine = FjallEngine::open(directory.path(), config).unwrap();
    assert!(engine.damaged().is_empty(), "what was synced is whole: {:?}", engine.damaged());
    engine
}

fn files_of(folder: &Path, prefix: &str, files: &mut Files) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            files_of(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

fn all_files(directory: &TempDir) -> Files {
    let mut files = Files::new();
    files_of(directory.path(), "", &mut files);
    files
}

/// Any part of a file that was not synced.
fn torn(bytes: &[u8], chance: &mut Chance) -> Option<Vec<u8>> {
    let mut torn = bytes.to_vec();
    match chance.below(4) {
        0 => return None,
        1 => torn.truncate(chance.below(bytes.len() as u64) as usize),
        2 => torn.chunks_mut(PAGE).filter(|_| chance.below(2) == 0).for_each(|page| page.fill(0)),
        _ => {}
    }
    Some(torn)
}

/// Makes the folder what a power cut leaves in the step that made `new` of `old`.
fn cut(directory: &TempDir, old: &Files, new: &Files, chance: &mut Chance) {
    let stage = chance.below(4);
    let mut left = old.clone();
    for (name, bytes) in new.iter().filter(|(name, bytes)| old.get(*name) != Some(bytes)) {
        let is_synced = match name.rsplit('/').next() {
            Some("current") => stage == 3,
            _ if name.contains("/tables/") => stage >= 1,
            _ => stage >= 2,
        };
        let is_replaced_whole = name.ends_with("/current");
        let kept = match is_synced {
            true => Some(bytes.clone()),
            false if is_replaced_whole => {
                // The rename may have come about, if everything before it has.
                if stage == 2 && chance.below(2) == 0 { Some(bytes.clone()) } else { None }
            }
            false => torn(bytes, chance),
        };
        kept.map(|kept| left.insert(name.clone(), kept));
    }
    fs::remove_dir_all(directory.path()).unwrap();
    for (name, bytes) in left {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn lives_with_files(seed: u64) -> u64 {
    let chance = &mut Chance(seed);
    let (mut disk, directory) = (SimDisk::new(), tempfile::tempdir().unwrap());
    let (mut acknowledged, mut proposed) = (Vec::new(), 0_u64);
    for life in 1..=LIVES {
        let mut engine = open_engine(&directory);
        let mut node = Node::start(&disk, &mut engine, life);
        let found = rows(&node.store);
        let lost: Vec<_> = acknowledged.iter().filter(|number| !found.contains(number)).collect();
        assert!(lost.is_empty(), "seed {seed}, life {life}: {lost:?} are lost");
        disk.cut_power_after(40 + chance.below(200));
        node.work(&mut proposed, &mut acknowledged);
        let old = all_files(&directory);
        // The step in which the power fails: nobody hears that it was done.
        node.store.persister().persist().unwrap();
        drop((node, engine));
        let new = all_files(&directory);
        cut(&directory, &old, &new, chance);
        disk = disk.crash(Crash::Seed(seed * 1000 + life));
    }
    LIVES
}

// 550 power cuts where it is fast.
#[test]
fn power_cuts_under_the_real_engine_lose_nothing_acknowledged() {
    let seeds = if cfg!(debug_assertions) { 6 } else { 50 };
    let cuts: u64 = (0..seeds).map(lives_with_files).sum();
    println!("{cuts} power cuts");
}
