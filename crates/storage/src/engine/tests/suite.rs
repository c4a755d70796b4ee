//! What holds for every engine.

use super::*;
use crate::disk::Random;

/// An engine and a way to end its process and start another.
trait Subject {
    type Engine: Engine;
    fn engine(&mut self) -> &mut Self::Engine;
    /// Loses everything that was not persisted.
    fn restart(&mut self);
}

struct OnDisk {
    directory: tempfile::TempDir,
    config: FjallConfig,
    engine: Option<FjallEngine>,
}

impl OnDisk {
    fn new(overlay_bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = FjallConfig { overlay_bytes, cache_bytes: 4000, block_cache_bytes: 1 << 20 };
        let engine = FjallEngine::open(&directory.path().join("state"), config).unwrap();
        Self { directory, config, engine: Some(engine) }
    }
}

impl Subject for OnDisk {
    type Engine = FjallEngine;
    fn engine(&mut self) -> &mut FjallEngine {
        self.engine.as_mut().unwrap()
    }
    fn restart(&mut self) {
        self.engine = None;
        let path = self.directory.path().join("state");
        self.engine = Some(FjallEngine::open(&path, self.config).unwrap());
    }
}

struct InMemory(MemoryEngine);

impl Subject for InMemory {
    type Engine = MemoryEngine;
    fn engine(&mut self) -> &mut MemoryEngine {
        &mut self.0
    }
    fn restart(&mut self) {
        self.0 = self.0.crash(|_, _| 0);
    }
}

macro_rules! for_every_engine {
    ($($name:ident),* $(,)?) => {
        mod on_disk {
            $(#[test] fn $name() { super::$name(super::OnDisk::new(1 << 20)); })*
        }
        mod on_disk_with_a_small_overlay {
            $(#[test] fn $name() { super::$name(super::OnDisk::new(600)); })*
        }
        mod memory {
            $(#[test] fn $name() { super::$name(super::InMemory(super::MemoryEngine::new())); })*
        }
    };
}

for_every_engine!(
    commits_are_visible_at_once,
    a_view_stays_as_it_was,
    what_was_persisted_outlives_a_restart,
    a_position_without_rows_is_persisted_too,
    groups_are_apart_and_dropped_as_a_whole,
    an_install_takes_the_place_of_the_old_state_at_once,
    an_interrupted_install_leaves_the_old_state,
    random_work_agrees_with_a_model,
);

fn commits_are_visible_at_once(mut subject: impl Subject) {
    let mut store = subject.engine().open_group(ONE).unwrap();
    assert_eq!(store.applied(), LogId::ZERO);
    commit(&mut store, 1, &[put("a", "1"), put("b", "2"), put("", "empty key")]);
    commit(&mut store, 2, &[put("a", "3"), delete("b"), put("c", "")]);
    assert_eq!(store.applied(), at(2));
    assert_eq!(store.get(b"a").unwrap(), Some(bytes("3")));
    assert_eq!(store.get(b"b").unwrap(), None);
    assert_eq!(store.get(b"").unwrap(), Some(bytes("empty key")));
    let all = [("", "empty key"), ("a", "3"), ("c", "")].map(|(k, v)| (bytes(k), bytes(v)));
    assert_eq!(store.range(b"", b"z", 10).unwrap(), all);
    assert_eq!(store.range(b"a", b"c", 10).unwrap(), all[1..2]);
    assert_eq!(store.range(b"", b"z", 2).unwrap(), all[..2]);
    assert_eq!(store.range(b"z", b"a", 2).unwrap(), []);
}

fn a_view_stays_as_it_was(mut subject: impl Subject) {
    let mut store = subject.engine().open_group(ONE).unwrap();
    let persister = store.persister();
    let mut views = Vec::new();
    let mut model = Rows::new();
    for index in 1..=30 {
        let (key, gone) = (format!("k{}", index % 7), format!("k{}", (index + 3) % 7));
        let value = format!("value {index}");
        commit(&mut store, index, &[put(&key, &value), delete(&gone)]);
        model.insert(bytes(&key), bytes(&value));
        model.remove(&bytes(&gone));
        views.push((store.view().unwrap(), model.clone()));
        if index % 5 == 0 {
            persister.persist().unwrap();
        }
    }
    for (view, model) in views {
        assert_eq!(view_rows(&view), model);
        for key in (0..7).map(|key| format!("k{key}")) {
            assert_eq!(view.get(key.as_bytes()).unwrap().as_ref(), model.get(key.as_bytes()));
        }
    }
}

fn what_was_persisted_outlives_a_restart(mut subject: impl Subject) {
    let mut store = subject.engine().open_group(ONE).unwrap();
    commit(&mut store, 1, &[put("a", "1"), put("b", "1")]);
    commit(&mut store, 2, &[put("a", "2"), delete("b")]);
    let persister = store.persister();
    assert_eq!(persister.persist().unwrap(), at(2));
    assert_eq!(persister.persisted(), at(2));
    commit(&mut store, 3, &[put("a", "3")]);
    assert_eq!(persister.persisted(), at(2));
    drop((store, persister));
    subject.restart();
    assert_eq!(subject.engine().groups(), [ONE]);
    let mut store = subject.engine().open_group(ONE).unwrap();
    assert_eq!(store.applied(), at(2));
    assert_eq!(rows(&store), Rows::from([(bytes("a"), bytes("2"))]));
    // And again, over what was there.
    commit(&mut store, 3, &[put("a", "4")]);
    store.persister().persist().unwrap();
    drop(store);
    subject.restart();
    let store = subject.engine().open_group(ONE).unwrap();
    assert_eq!(store.get(b"a").unwrap(), Some(bytes("4")));
    assert_eq!(store.applied(), at(3));
}

fn a_position_without_rows_is_persisted_too(mut subject: impl Subject) {
    let mut store = subject.engine().open_group(ONE).unwrap();
    commit(&mut store, 7, &[]);
    assert_eq!(store.persister().persist().unwrap(), at(7));
    drop(store);
    subject.restart();
    assert_eq!(subject.engine().open_group(ONE).unwrap().applied(), at(7));
}

fn groups_are_apart_and_dropped_as_a_whole(mut subject: impl Subject) {
    let mut one = subject.engine().open_group(ONE).unwrap();
    let mut two = subject.engine().open_group(TWO).unwrap();
    commit(&mut one, 1, &[put("a", "of one")]);
    commit(&mut two, 5, &[put("a", "of two")]);
    assert_eq!(one.get(b"a").unwrap(), Some(bytes("of one")));
    one.persister().persist().unwrap();
    two.persister().persist().unwrap();
    drop((one, two));
    subject.engine().drop_group(ONE).unwrap();
    assert_eq!(subject.engine().groups(), [TWO]);
    subject.restart();
    assert_eq!(subject.engine().groups(), [TWO]);
    assert!(rows(&subject.engine().open_group(ONE).unwrap()).is_empty());
    let two = subject.engine().open_group(TWO).unwrap();
    assert_eq!((two.get(b"a").unwrap(), two.applied()), (Some(bytes("of two")), at(5)));
}

fn an_install_takes_the_place_of_the_old_state_at_once(mut subject: impl Subject) {
    let mut old = subject.engine().open_group(ONE).unwrap();
    commit(&mut old, 3, &[put("a", "old"), put("b", "old")]);
    old.persister().persist().unwrap();
    for round in [10, 20] {
        let mut new = subject.engine().begin_install(ONE).unwrap();
        assert_eq!((new.applied(), rows(&new)), (LogId::ZERO, Rows::new()));
        commit(&mut new, round, &[put("a", &format!("{round}"))]);
        commit(&mut new, round, &[put("c", &format!("{round}"))]);
        assert_eq!(old.get(b"a").unwrap(), Some(bytes("old")), "the old state goes on meanwhile");
        subject.engine().finish_install(ONE, &new).unwrap();
        assert_eq!(new.persister().persisted(), at(round));
        drop(new);
        subject.restart();
        let store = subject.engine().open_group(ONE).unwrap();
        assert_eq!(store.applied(), at(round));
        let value = bytes(&round.to_string());
        assert_eq!(rows(&store), Rows::from([(bytes("a"), value.clone()), (bytes("c"), value)]));
    }
}

fn an_interrupted_install_leaves_the_old_state(mut subject: impl Subject) {
    let mut old = subject.engine().open_group(ONE).unwrap();
    commit(&mut old, 3, &[put("a", "old")]);
    old.persister().persist().unwrap();
    let mut new = subject.engine().begin_install(ONE).unwrap();
    commit(&mut new, 9, &[put("a", "new"), put("b", "new")]);
    // All rows are durable already, but the install is not finished.
    new.persister().persist().unwrap();
    drop((old, new));
    subject.restart();
    assert_eq!(subject.engine().groups(), [ONE]);
    let store = subject.engine().open_group(ONE).unwrap();
    assert_eq!(store.applied(), at(3));
    assert_eq!(rows(&store), Rows::from([(bytes("a"), bytes("old"))]));
}

fn random_work_agrees_with_a_model(mut subject: impl Subject) {
    let mut random = Random::new(3);
    let (mut model, mut persisted) = (Rows::new(), (LogId::ZERO, Rows::new()));
    let mut store = subject.engine().open_group(ONE).unwrap();
    for index in 1..600 {
        let mut changes: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
        for _ in 0..random.below(5) {
            let key = bytes(&format!("key {}", random.below(60)));
            let value = bytes(&"v".repeat(random.below(80) as usize));
            changes.insert(key, (random.below(3) > 0).then_some(value));
        }
        for (key, row) in &changes {
            match row {
                Some(row) => model.insert(key.clone(), row.clone()),
                None => model.remove(key),
            };
        }
        commit(&mut store, index, &changes.into_iter().collect::<Vec<_>>());
        // A commit beyond the limit persists by itself.
        if store.persister().persisted() == at(index) {
            persisted = (at(index), model.clone());
        }
        let key = bytes(&format!("key {}", random.below(60)));
        assert_eq!(store.get(&key).unwrap().as_ref(), model.get(&key));
        match random.below(40) {
            0 => assert_eq!(rows(&store), model),
            1 => {
                let limit = random.below(20) as usize;
                let end = bytes("key 5");
                let found = store.range(&key, &end, limit).unwrap();
                let expected = model.range(key.clone()..end.clone().max(key.clone())).take(limit);
                assert_eq!(
                    found,
                    expected.map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
                );
            }
            2 => assert_eq!(view_rows(&store.view().unwrap()), model),
            3 => {
                assert_eq!(store.persister().persist().unwrap(), at(index));
                persisted = (at(index), model.clone());
            }
            4 => {
                drop(store);
                subject.restart();
                store = subject.engine().open_group(ONE).unwrap();
                assert_eq!(store.applied(), persisted.0);
                assert_eq!(rows(&store), persisted.1);
                model = persisted.1.clone();
            }
            _ => {}
        }
    }
}

#[test]
fn a_crash_of_the_memory_engine_loses_whole_commits_from_the_end() {
    for kept in 0..=3 {
        let mut engine = MemoryEngine::new();
        let mut store = engine.open_group(ONE).unwrap();
        commit(&mut store, 1, &[put("a", "1"), put("b", "1")]);
        store.persister().persist().unwrap();
        commit(&mut store, 2, &[put("a", "2"), delete("b")]);
        commit(&mut store, 3, &[put("a", "3"), put("c", "3")]);
        commit(&mut store, 4, &[delete("a"), put("b", "4")]);
        let mut after = engine.crash(|_, unsynced| {
            assert_eq!(unsynced, 3);
            kept
        });
        let store = after.open_group(ONE).unwrap();
        assert_eq!(store.applied(), at(1 + kept as u64));
        let expected: &[(&str, &str)] = match kept {
            0 => &[("a", "1"), ("b", "1")],
            1 => &[("a", "2")],
            2 => &[("a", "3"), ("c", "3")],
            _ => &[("b", "4"), ("c", "3")],
        };
        assert_eq!(rows(&store), expected.iter().map(|(k, v)| (bytes(k), bytes(v))).collect());
    }
}

#[test]
fn a_state_must_fit_the_log() {
    assert!(fits(at(5), at(5), at(5)));
    assert!(fits(at(7), at(5), at(9)));
    assert!(!fits(at(4), at(5), at(9)), "entries between are not in the log any more");
    assert!(!fits(at(10), at(5), at(9)), "it has applied what the log never had");
}
