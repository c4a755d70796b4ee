//! What is special to the engine on disk: damage, restarts, threads, limits.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::disk::Random;

fn open(path: &Path) -> Result<FjallEngine, EngineError> {
    let config =
        FjallConfig { overlay_bytes: 1 << 20, cache_bytes: 1 << 12, block_cache_bytes: 1 << 20 };
    FjallEngine::open(path, config)
}

fn fill(path: &Path) -> Rows {
    let mut engine = open(path).unwrap();
    let mut store = engine.open_group(ONE).unwrap();
    for index in 1..=40 {
        let text = format!("value {index} {}", "x".repeat(100));
        commit(&mut store, index, &[put(&format!("key {index:03}"), &text)]);
        if index % 10 == 0 {
            store.persister().persist().unwrap();
        }
    }
    rows(&store)
}

fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn a_second_process_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _held = open(directory.path()).unwrap();
    assert!(matches!(open(directory.path()), Err(EngineError::Locked(_))));
}

// The sequence numbers of a tree must go on where its tables end: else what is written after a
// restart loses to older values in scans, views and compactions.
#[test]
fn after_restarts_the_newest_value_counts_everywhere() {
    let directory = tempfile::tempdir().unwrap();
    for round in 1..=20 {
        let mut engine = open(directory.path()).unwrap();
        let mut store = engine.open_group(ONE).unwrap();
        let value = round.to_string();
        commit(&mut store, round, &[put("a", &value), put(&value, &value), delete("1")]);
        store.persister().persist().unwrap();
        let expected = store.get(&bytes(&value)).unwrap();
        assert_eq!(expected, (round > 1).then(|| bytes(&value)).or(None));
        for rows in [rows(&store), view_rows(&store.view().unwrap())] {
            assert_eq!(rows.get(&bytes("a")), Some(&bytes(&value)));
            assert_eq!(rows.len() as u64, round);
        }
    }
}

// Every file of the engine, damaged in several places: the state is put aside at the start, or a
// read fails, or everything is there. Never another state; and a check finds the damage.
#[test]
fn damage_is_an_error_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let expected = fill(&path);
    let mut errors = 0;
    for file in files(&path) {
        let healthy = fs::read(&file).unwrap();
        for part in 0..4 {
            let mut bytes = healthy.clone();
            let place = bytes.len() * part / 4;
            match bytes.get_mut(place) {
                Some(byte) => *byte ^= 0x40,
                None => continue,
            }
            let copy = tempfile::tempdir().unwrap();
            let state = copy.path().join("state");
            copy_tree(&path, &state);
            let damaged = state.join(file.strip_prefix(&path).unwrap());
            fs::write(&damaged, bytes).unwrap();
            let scratch = tempfile::tempdir().unwrap();
            let before = files(&state);
            let checked = verify_states(&state, scratch.path()).unwrap();
            assert_eq!(files(&state), before, "a check changes nothing");
            let is_found = checked.iter().any(|found| !found.damage.is_empty());
            // Manifests that are not in force any more are nobody's.
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(is_found || name == "lock" || name.starts_with('v'), "{}", file.display());
            let mut engine = open(&state).unwrap();
            if engine.damaged().contains_key(&ONE) {
                errors += 1;
                assert!(engine.groups().is_empty());
                assert_eq!(engine.open_group(ONE).unwrap().applied(), LogId::ZERO);
                continue;
            }
            let found = engine.open_group(ONE).map(|store| {
                (store.range(b"", &[0xff], usize::MAX).map(Rows::from_iter), store.applied())
            });
            match found {
                Ok((Ok(rows), applied)) => {
                    assert_eq!((rows, applied), (expected.clone(), at(40)), "{}", file.display());
                }
                Ok((Err(_), _)) | Err(_) => errors += 1,
            }
        }
    }
    assert!(errors > 5, "{errors}");
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

// What a power cut leaves at any moment is what had been persisted: a copy of the files taken
// while work goes on, without the journals, opens at a state that was persisted.
#[test]
fn persisting_beside_commits_loses_and_mixes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let mut engine = open(&path).unwrap();
    let mut store = engine.open_group(ONE).unwrap();
    let persister = store.persister();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let background = scope.spawn(|| {
            let mut last = LogId::ZERO;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let persisted = persister.persist().unwrap();
                assert!(persisted.index >= last.index);
                last = persisted;
            }
        });
        for index in 1..=2000_u64 {
            // Both rows always say the same, and so does the position.
            let value = index.to_string();
            commit(&mut store, index, &[put("x", &value), put("y", &value)]);
            if index % 10 == 0 {
                let view = store.view().unwrap();
                assert_eq!(view.get(b"x").unwrap(), Some(bytes(&value)));
                assert_eq!(view_rows(&view).len(), 2);
            }
            assert_eq!(store.get(b"y").unwrap(), Some(bytes(&value)));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        background.join().unwrap();
    });
    let persisted = persister.persisted();
    drop((store, persister, engine));
    let store = open(&path).unwrap().open_group(ONE).unwrap();
    assert_eq!(store.applied(), persisted);
    let value = bytes(&persisted.index.get().to_string());
    assert_eq!(rows(&store), Rows::from([(bytes("x"), value.clone()), (bytes("y"), value)]));
}

#[test]
fn commits_beyond_the_limit_persist_and_the_stall_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let config = FjallConfig { overlay_bytes: 20_000, cache_bytes: 0, block_cache_bytes: 1 << 20 };
    let mut engine = FjallEngine::open(directory.path(), config).unwrap();
    let mut store = engine.open_group(ONE).unwrap();
    let value = "v".repeat(1000);
    for index in 1..=60 {
        commit(&mut store, index, &[put(&format!("{index}"), &value)]);
    }
    let counts = engine.counts();
    assert!(counts.stalls >= 2 && counts.persists >= counts.stalls, "{counts:?}");
    assert_eq!(store.get(b"1").unwrap(), Some(bytes(&value)));
    assert!(engine.counts().misses > 0);
    assert!(engine.disk_bytes() > 0);
}

#[test]
fn a_key_too_long_for_the_tables_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = open(directory.path()).unwrap();
    let mut store = engine.open_group(ONE).unwrap();
    let mut batch = vec![put(&"k".repeat(65_001), "v")];
    assert!(store.commit(&mut batch, at(1)).is_err());
    let mut batch = vec![put(&"k".repeat(65_000), "v")];
    store.commit(&mut batch, at(1)).unwrap();
    store.persister().persist().unwrap();
}

// A node may have a thousand groups of which most hold little.
#[test]
fn a_group_that_was_never_persisted_has_no_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = open(directory.path()).unwrap();
    let before = files(directory.path());
    let mut store = engine.open_group(ONE).unwrap();
    commit(&mut store, 1, &[put("a", "1"), put("b", "1")]);
    let earlier = store.view().unwrap();
    assert_eq!(rows(&store).len(), 2);
    assert_eq!(files(directory.path()), before);
    assert_eq!(engine.disk_bytes(), 0);
    store.persister().persist().unwrap();
    assert_ne!(files(directory.path()), before);
    commit(&mut store, 2, &[put("a", "2"), delete("b")]);
    store.persister().persist().unwrap();
    // What came into the tables after the view was taken is not in it.
    assert_eq!(view_rows(&earlier).get(&bytes("a")), Some(&bytes("1")));
    assert_eq!(view_rows(&earlier).len(), 2);
    assert_eq!(rows(&store).into_keys().collect::<Vec<_>>(), [bytes("a")]);
    // One without files can be dropped like another.
    engine.open_group(TWO).unwrap();
    engine.drop_group(TWO).unwrap();
    engine.drop_group(ONE).unwrap();
    assert_eq!(files(directory.path()), before);
}

// What one group leaves unwritten and never touches again must not take the room of all others.
#[test]
fn the_largest_group_makes_room_for_all() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = open(directory.path()).unwrap();
    let (mut idle, mut busy) = (engine.open_group(ONE).unwrap(), engine.open_group(TWO).unwrap());
    let value = "x".repeat(1 << 10);
    let fill = |store: &mut FjallStore, from: u64, count: u64| {
        for index in from..from + count {
            commit(store, index, &[put(&format!("key {index}"), &value)]);
        }
    };
    fill(&mut idle, 1, 520);
    assert!(idle.persister().is_due() && !busy.persister().is_due());
    fill(&mut busy, 1, 300);
    assert_eq!(idle.persister().persisted(), LogId::ZERO);
    assert_eq!(busy.persister().persisted(), LogId::ZERO);
    fill(&mut busy, 301, 250);
    assert_eq!(idle.persister().persisted(), at(520));
    assert!(busy.persister().persisted() < at(550));
    // And all of it is still there.
    assert_eq!((rows(&idle).len(), rows(&busy).len()), (520, 550));
}

// Memory that the process must give back is taken from the rows, at once and for good.
#[test]
fn a_squeezed_engine_keeps_less_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let config =
        FjallConfig { overlay_bytes: 4 << 20, cache_bytes: 1 << 20, block_cache_bytes: 1 << 20 };
    let mut engine = FjallEngine::open(directory.path(), config).unwrap();
    let mut store = engine.open_group(ONE).unwrap();
    let value = "x".repeat(1 << 10);
    for index in 1..=1000 {
        commit(&mut store, index, &[put(&format!("key {index}"), &value)]);
    }
    assert!(!store.persister().is_due());
    store.persister().persist().unwrap();
    let meter = engine.meter();
    let before = meter.usage();
    assert!(before.cache > 900 << 10 && before.overlay == 0 && before.disk > 0, "{before:?}");
    assert!(meter.counts().table_bytes_written > 0);
    meter.squeeze(10);
    assert_eq!(store.get(&bytes("key 1")).unwrap(), Some(bytes(&value)));
    assert!(meter.usage().cache <= 110 << 10, "{:?}", meter.usage());
    meter.squeeze(100);
    assert_eq!(rows(&store).len(), 1000);
}

// A persist may be on its way when the group's replica goes; another may follow it.
#[test]
fn a_state_that_is_gone_is_persisted_nowhere() {
    for has_tables in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let mut engine = open(directory.path()).unwrap();
        let mut old = engine.open_group(ONE).unwrap();
        if has_tables {
            commit(&mut old, 1, &[put("a", "old")]);
            old.persister().persist().unwrap();
        }
        commit(&mut old, 2, &[put("b", "old")]);
        let late = old.persister();
        let presence = late.presence();
        assert!(!presence.is_gone());
        engine.drop_group(ONE).unwrap();
        assert!(presence.is_gone());
        let mut new = engine.open_group(ONE).unwrap();
        assert!(!new.persister().presence().is_gone());
        commit(&mut new, 1, &[put("a", "new")]);
        new.persister().persist().unwrap();
        late.persist().unwrap();
        late.compact(Effort::Space).unwrap();
        drop((old, new, late, engine));
        let mut engine = open(directory.path()).unwrap();
        let new = engine.open_group(ONE).unwrap();
        assert_eq!(rows(&new), Rows::from([(bytes("a"), bytes("new"))]));
        assert_eq!(new.applied(), at(1));
    }
}

/// A state with so many runs of tables that a merge is due, and its table files.
fn unmerged(path: &Path) -> (FjallEngine, FjallStore, Vec<PathBuf>) {
    let mut engine = open(path).unwrap();
    let mut store = engine.open_group(ONE).unwrap();
    for index in 1..=14 {
        commit(&mut store, index, &[put("key", &format!("{index} {}", "x".repeat(5000)))]);
        store.persister().persist().unwrap();
    }
    let tables: Vec<_> = engine.table_files().into_iter().map(|(_, file)| file.path).collect();
    assert_eq!(tables.len(), 14);
    (engine, store, tables)
}

// Both stop a merge: the one is mended by another state, the other not.
#[test]
fn a_merge_tells_damage_from_a_device_that_fails() {
    let directory = tempfile::tempdir().unwrap();
    let (_engine, store, _) = unmerged(directory.path());
    assert_eq!(store.persister().compact(Effort::Space).unwrap(), Compacted::Merged);

    let directory = tempfile::tempdir().unwrap();
    let (_engine, store, tables) = unmerged(directory.path());
    let mut bytes = fs::read(&tables[3]).unwrap();
    bytes[100] ^= 0x40;
    fs::write(&tables[3], bytes).unwrap();
    let error = store.persister().compact(Effort::Space).unwrap_err();
    assert!(error.is_damage() && !error.is_full(), "{error}");

    // The table that it would write cannot be created.
    let directory = tempfile::tempdir().unwrap();
    let (_engine, store, tables) = unmerged(directory.path());
    let number =
        |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let next = tables.iter().map(number).max().unwrap() + 1;
    for next in next..next + 20 {
        fs::create_dir(tables[0].with_file_name(next.to_string())).unwrap();
    }
    let error = store.persister().compact(Effort::Space).unwrap_err();
    assert!(!error.is_damage() && !error.is_full(), "{error}");
    assert_eq!(rows(&store).len(), 1);
}

// Reads look at few tables once nobody writes; a little on top of much is left alone.
#[test]
fn where_nothing_is_written_less_is_left_unmerged() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = open(directory.path()).unwrap();
    let mut store = engine.open_group(ONE).unwrap();
    let mut index = 0;
    let mut add = |store: &mut FjallStore, bytes: usize| {
        index += 1;
        let mut random = Random::new(index);
        let text: String = (0..bytes / 16).map(|_| format!("{:016x}", random.next())).collect();
        let rows: Vec<_> = (0..8).map(|row| put(&format!("key {index} {row}"), &text)).collect();
        commit(store, index, &rows);
        store.persister().persist().unwrap();
    };
    (0..4).for_each(|_| add(&mut store, 20_000));
    let before = rows(&store);
    assert_eq!(store.persister().compact(Effort::Space).unwrap(), Compacted::Nothing);
    assert_eq!(store.persister().compact(Effort::Reads).unwrap(), Compacted::Merged);
    assert_eq!(store.persister().compact(Effort::Reads).unwrap(), Compacted::Nothing);
    assert_eq!(engine.table_files().len(), 1);
    (0..4).for_each(|_| add(&mut store, 16));
    assert_eq!(store.persister().compact(Effort::Reads).unwrap(), Compacted::Nothing);
    assert_eq!(engine.table_files().len(), 5);
    assert_eq!(rows(&store).len(), before.len() + 32);
    assert!(before.iter().all(|(key, row)| rows(&store).get(key) == Some(row)));
}
