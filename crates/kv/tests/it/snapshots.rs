//! Snapshots as bytes: size, damage, versions.

use kontiki_kv::{Import, Machine, MemStore, Reply, SnapshotError, Store};
use kontiki_types::LogId;

use crate::group::{Group, Write, bulk};

fn bytes(group: &Group) -> Vec<u8> {
    let chunks: Vec<_> = group.machine.export().unwrap().map(Result::unwrap).collect();
    assert!(chunks.iter().all(|chunk| chunk.len() <= 1 << 20));
    chunks.concat()
}

fn import(bytes: &[u8], cut: usize) -> Result<Group, SnapshotError> {
    let mut import = Import::new(MemStore::new())?;
    for piece in bytes.chunks(cut.max(1)) {
        import.feed(piece)?;
    }
    let (store, _) = import.finish()?;
    Ok(Group::over(store))
}

/// LABS KV10: one key, 800 operations of one client.
#[test]
fn a_store_of_one_key_has_a_snapshot_of_less_than_500_bytes() {
    let mut group = Group::new();
    for seq in 1..=800 {
        group.write(Write::new(1, seq, &format!("SET key {seq}")).at(seq).proposal());
    }
    assert!(bytes(&group).len() < 250, "{} bytes", bytes(&group).len());
}

#[test]
fn it_does_not_matter_how_the_bytes_are_cut() {
    let mut group = Group::new();
    for number in 0..50 {
        group.run(&format!("SET key{number} {} PX 70000", "v".repeat(number)));
    }
    let all = bytes(&group);
    for cut in [1, 7, 13, 4096, usize::MAX] {
        let copy = import(&all, cut).unwrap();
        assert_eq!(copy.hash(), group.hash());
        assert_eq!(bytes(&copy), all, "and its own snapshot is the same again");
        assert_eq!(copy.machine.next_due(), group.machine.next_due());
    }
}

#[test]
fn an_empty_state_and_a_huge_value_travel_too() {
    let group = Group::new();
    assert_eq!(import(&bytes(&group), 100).unwrap().hash(), group.hash());
    let mut group = Group::new();
    let long = "x".repeat(3 << 20);
    group.run(&format!("SET k {long}"));
    group.run("SET k2 small");
    group.run("GETDEL k");
    group.run(&format!("SET k {long}"));
    let copy = import(&bytes(&group), 1000).unwrap();
    assert_eq!(copy.hash(), group.hash());
    assert_eq!(copy.query("STRLEN k"), Reply::Integer(3 << 20));
}

#[test]
fn litter_and_the_due_index_do_not_travel() {
    let mut group = Group::new();
    for number in 0..500 {
        group.run(&format!("SET key{number} v PX 70000"));
    }
    group.run("FLUSHALL");
    group.run("SET k v PX 80000");
    assert!(group.rows() > 500);
    let copy = import(&bytes(&group), 999).unwrap();
    assert_eq!(copy.rows(), 2);
    assert_eq!(copy.query("GET k"), bulk("v"));
    assert_eq!(copy.machine.next_due(), group.machine.next_due());
}

#[test]
fn every_damaged_byte_and_every_cut_is_noticed() {
    let mut group = Group::new();
    group.run("SET k v PX 500");
    group.write(Write::new(1, 2, "INCR n").proposal());
    let all = bytes(&group);
    for place in 0..all.len() {
        for flip in [1, 0x80] {
            let mut damaged = all.clone();
            damaged[place] ^= flip;
            assert!(import(&damaged, 64).is_err(), "byte {place}");
        }
        assert!(import(&all[..place], 64).is_err(), "cut at {place}");
    }
    let mut longer = all.clone();
    longer.push(0);
    assert!(import(&longer, 64).is_err());
    longer.extend_from_slice(&all);
    assert!(import(&longer, 64).is_err());
}

#[test]
fn an_import_needs_an_empty_store_and_counts_only_when_finished() {
    let mut group = Group::new();
    group.run("SET k v");
    let taken = group.machine.store().clone();
    assert!(matches!(Import::new(taken), Err(SnapshotError::NotEmpty)));

    let mut big = Group::new();
    big.run(&format!("SET k {}", "x".repeat(2 << 20)));
    big.run(&format!("SET k2 {}", "x".repeat(2 << 20)));
    let all = bytes(&big);
    let shared = Shared::default();
    let mut import = Import::new(shared.clone()).unwrap();
    import.feed(&all[..all.len() - 1]).unwrap();
    assert!(matches!(import.finish(), Err(SnapshotError::Incomplete)));
    let store = shared.0.borrow().clone();
    assert!(store.rows().count() > 0, "some rows were committed on the way");
    assert_eq!(store.applied(), LogId::ZERO);
    assert!(Machine::open(store).is_err(), "but they are no state");
}

/// A store that can be looked at while an import has it.
#[derive(Clone, Debug, Default)]
struct Shared(std::rc::Rc<std::cell::RefCell<MemStore>>);

impl Store for Shared {
    type View = kontiki_kv::MemView;

    fn get(&self, key: &[u8]) -> Result<Option<bytes::Bytes>, kontiki_kv::StoreError> {
        self.0.borrow().get(key)
    }

    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(bytes::Bytes, bytes::Bytes)>, kontiki_kv::StoreError> {
        self.0.borrow().range(from, to, limit)
    }

    fn commit(
        &mut self,
        batch: &mut kontiki_kv::WriteSet,
        applied: LogId,
    ) -> Result<(), kontiki_kv::StoreError> {
        self.0.borrow_mut().commit(batch, applied)
    }

    fn applied(&self) -> LogId {
        self.0.borrow().applied()
    }

    fn view(&self) -> Result<Self::View, kontiki_kv::StoreError> {
        self.0.borrow().view()
    }
}
