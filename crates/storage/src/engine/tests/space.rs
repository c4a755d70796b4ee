//! The space of what was deleted is given back, though nobody writes any more.

use std::fs;
use std::path::Path;

use super::*;
use crate::disk::Random;

const ROWS: u64 = 4000;

fn open(path: &Path) -> FjallEngine {
    let config =
        FjallConfig { overlay_bytes: 1 << 20, cache_bytes: 1 << 12, block_cache_bytes: 1 << 20 };
    FjallEngine::open(path, config).unwrap()
}

/// All files below a directory, in bytes.
fn size(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let sizes = entries
        .map(|path| if path.is_dir() { size(&path) } else { path.metadata().unwrap().len() });
    sizes.sum()
}

fn key(number: u64) -> String {
    format!("key {number:05}")
}

/// A kibibyte that does not compress.
fn value(number: u64) -> String {
    let mut random = Random::new(number);
    (0..64).map(|_| format!("{:016x}", random.next())).collect()
}

/// Commits one change each, from the position `after` on.
fn write(
    store: &mut FjallStore,
    after: u64,
    changes: impl Iterator<Item = (Bytes, Option<Bytes>)>,
) {
    changes.zip(after + 1..).for_each(|(change, index)| commit(store, index, &[change]));
}

fn fill(store: &mut FjallStore) {
    write(store, 0, (0..ROWS).map(|number| put(&key(number), &value(number))));
    store.persister().persist().unwrap();
    settle(store);
}

/// Puts the tables in order as long as there is something to do; returns what came of it last, and
/// how often space was given back.
fn settle(store: &FjallStore) -> (Compacted, usize) {
    let mut reclaims = 0;
    for _ in 0..1000 {
        match store.persister().compact(Effort::Space).unwrap() {
            Compacted::Merged => {}
            Compacted::Reclaimed => reclaims += 1,
            last @ (Compacted::Held | Compacted::Nothing) => return (last, reclaims),
        }
    }
    panic!("it does not end");
}

/// What is written besides lies beyond all others, so that the tables above reach further than those
/// below.
fn delete_all_but_one(store: &mut FjallStore) {
    let beyond = put(&key(ROWS), "beyond");
    write(store, ROWS, (0..ROWS - 1).map(|number| delete(&key(number))).chain([beyond]));
    store.persister().persist().unwrap();
}

fn one_is_left(store: &FjallStore) {
    let expected = Rows::from([
        (bytes(&key(ROWS - 1)), bytes(&value(ROWS - 1))),
        (bytes(&key(ROWS)), bytes("beyond")),
    ]);
    assert_eq!(rows(store), expected);
    assert_eq!(store.get(key(ROWS - 1).as_bytes()).unwrap(), Some(bytes(&value(ROWS - 1))));
    assert_eq!(store.get(key(0).as_bytes()).unwrap(), None);
}

#[test]
fn the_space_of_deleted_rows_is_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = open(directory.path());
    let mut store = engine.open_group(ONE).unwrap();
    fill(&mut store);
    let before = size(directory.path());
    assert!(before > ROWS << 9, "{before}");
    delete_all_but_one(&mut store);
    let (last, reclaims) = settle(&store);
    assert_eq!(last, Compacted::Nothing);
    assert!(reclaims > 0);
    let after = size(directory.path());
    assert!(after < before / 20, "{before} bytes before, {after} after");
    one_is_left(&store);
    assert!(engine.counts().reclaims > 0);
    assert_eq!(settle(&store), (Compacted::Nothing, 0));
}

#[test]
fn deletions_that_were_persisted_before_a_restart_count_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = open(directory.path());
    let mut store = engine.open_group(ONE).unwrap();
    fill(&mut store);
    delete_all_but_one(&mut store);
    drop((store, engine));
    let before = size(directory.path());
    let mut engine = open(directory.path());
    let store = engine.open_group(ONE).unwrap();
    settle(&store);
    let after = size(directory.path());
    assert!(after < before / 20, "{before} bytes before, {after} after");
    one_is_left(&store);
}

#[test]
fn a_view_keeps_what_it_sees_and_its_space_until_it_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = open(directory.path());
    let mut store = engine.open_group(ONE).unwrap();
    fill(&mut store);
    let before = size(directory.path());
    let view = store.view().unwrap();
    delete_all_but_one(&mut store);
    assert_eq!(settle(&store), (Compacted::Held, 0));
    assert_eq!(view_rows(&view).len() as u64, ROWS);
    one_is_left(&store);
    drop(view);
    assert_eq!(settle(&store).0, Compacted::Nothing);
    let after = size(directory.path());
    assert!(after < before / 20, "{before} bytes before, {after} after");
    // One that is opened between merges sees all of it, too.
    let view = store.view().unwrap();
    fill_again(&mut store);
    assert_eq!(view_rows(&view).len(), 2);
    assert_eq!(rows(&store).len() as u64, ROWS + 1);
}

fn fill_again(store: &mut FjallStore) {
    write(store, 2 * ROWS, (0..ROWS).map(|number| put(&key(number), &value(number))));
    store.persister().persist().unwrap();
    settle(store);
}

// A merge for the sake of few deletions would cost more than it gives back.
#[test]
fn few_deletions_wait() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = open(directory.path());
    let mut store = engine.open_group(ONE).unwrap();
    fill(&mut store);
    write(&mut store, ROWS, (0..ROWS).step_by(8).map(|number| delete(&key(number))));
    store.persister().persist().unwrap();
    assert_eq!(settle(&store), (Compacted::Nothing, 0));
    // With what is deleted next they are enough.
    write(&mut store, 2 * ROWS, (1..ROWS).step_by(4).map(|number| delete(&key(number))));
    store.persister().persist().unwrap();
    let before = size(directory.path());
    assert!(settle(&store).1 > 0);
    let after = size(directory.path());
    assert!(after < before - before / 4, "{before} bytes before, {after} after");
    assert_eq!(rows(&store).len() as u64, ROWS * 5 / 8);
}

// Whatever is written and deleted, whoever looks on, and wherever the merges are: every view keeps what
// it saw.
#[test]
fn merges_and_views_agree_with_a_model() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = open(directory.path());
    let mut store = engine.open_group(ONE).unwrap();
    let (mut random, mut model, mut views) = (Random::new(7), Rows::new(), Vec::new());
    let mut reclaims = 0;
    for index in 1..=200 {
        let from = random.below(ROWS);
        let range = from..from + random.below(300);
        let is_deletion = index > 150 || random.below(3) == 0;
        let changes: Vec<_> = match is_deletion {
            true => range.map(|number| delete(&key(number))).collect(),
            false => range.map(|number| put(&key(number), &value(number + index))).collect(),
        };
        for (key, row) in &changes {
            match row {
                Some(row) => model.insert(key.clone(), row.clone()),
                None => model.remove(key),
            };
        }
        commit(&mut store, index, &changes);
        if random.below(4) == 0 {
            store.persister().persist().unwrap();
        }
        if random.below(4) == 0 {
            let done = store.persister().compact(Effort::Space).unwrap();
            reclaims += usize::from(done == Compacted::Reclaimed);
        }
        match random.below(8) {
            0 => views.push((store.view().unwrap(), model.clone())),
            1 | 2 if !views.is_empty() => {
                let (view, seen) = views.swap_remove(random.below(views.len() as u64) as usize);
                assert_eq!(view_rows(&view), seen);
            }
            3 => assert_eq!(rows(&store), model),
            _ => {}
        }
    }
    views.into_iter().for_each(|(view, seen)| assert_eq!(view_rows(&view), seen));
    store.persister().persist().unwrap();
    let (last, more) = settle(&store);
    assert_eq!(last, Compacted::Nothing);
    assert_eq!(rows(&store), model);
    assert!(reclaims + more > 0);
}
