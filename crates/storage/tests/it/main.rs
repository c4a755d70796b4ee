//! The pieces as a node uses them: a Raft core on the log, its state in an engine, the log compacted
//! up to what the engine has persisted, and power cuts at any moment.

mod real_engine;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kontiki_kv::Store;
use kontiki_raft::{
    Base, Config, EntryData, Membership, Output, Raft, Receipt, Recovered, WriteBatch, persist,
};
use kontiki_storage::disk::{Crash, SimDisk};
use kontiki_storage::engine::{Engine, GroupStore, MemoryEngine, Persist, fits};
use kontiki_storage::log::{Log, LogConfig};
use kontiki_types::{GroupId, Incarnation, Index, Instant, LogId, Member, NodeId, ReplicaId};

const GROUP: GroupId = GroupId(1);

/// A group of one replica.
struct Node<S> {
    raft: Raft<Bytes>,
    log: Log<SimDisk>,
    store: S,
    now: Instant,
    batches: Vec<(GroupId, WriteBatch<Bytes>)>,
    receipts: Vec<(GroupId, Receipt)>,
    /// Commands applied in this life: acknowledged.
    applied: Vec<u64>,
}

fn me() -> Member {
    Member::new(NodeId(1), Incarnation(7), ReplicaId(1))
}

fn open_log(disk: &SimDisk, life: u64) -> (Log<SimDisk>, BTreeMap<GroupId, Recovered<Bytes>>) {
    let next = AtomicU64::new(life << 32);
    let config = LogConfig {
        segment_bytes: 24 << 10,
        reserve_bytes: 0,
        free_bytes_min: 0,
        random: Arc::new(move || next.fetch_add(1, Ordering::Relaxed)),
        ..LogConfig::new(Incarnation(7))
    };
    Log::open(disk.clone(), Path::new("/log"), config).expect("a legitimate state opens")
}

/// Row with the number of commands that were applied.
const COUNT: &[u8] = b"count";

impl<S: GroupStore> Node<S> {
    fn start<E: Engine<Store = S>>(disk: &SimDisk, engine: &mut E, life: u64) -> Self {
        let (mut log, mut groups) = open_log(disk, life);
        let mut recovered = match groups.remove(&GROUP) {
            Some(recovered) => recovered,
            None => {
                let membership = Arc::new(Membership::new([me()], []));
                log.create_group(GROUP, Base { membership, ..Base::default() }).unwrap();
                Recovered::initial(Membership::new([me()], []))
            }
        };
        let store = engine.open_group(GROUP).unwrap();
        let base = recovered.base.as_ref().map_or(LogId::ZERO, |base| base.id);
        let last = recovered.entries.last().map_or(base, |entry| entry.id);
        assert!(fits(store.applied(), base, last), "{} in {base} to {last}", store.applied());
        recovered.applied = store.applied().index;
        let now = Instant(life * 1_000_000_000);
        let raft = Raft::new(Config::new(me()), recovered, life, now).unwrap();
        let (batches, receipts, applied) = (Vec::new(), Vec::new(), Vec::new());
        let mut node = Self { raft, log, store, now, batches, receipts, applied };
        node.now = node.raft.next_deadline();
        node.raft.tick(node.now);
        node.drain().unwrap();
        node
    }

    /// Does everything that the core asks for.
    fn drain(&mut self) -> Result<(), ()> {
        loop {
            while let Some(output) = self.raft.poll(self.now) {
                match output {
                    Output::Write(batch) => self.batches.push((GROUP, batch)),
                    Output::Apply(entries) => {
                        for entry in &entries {
                            let mut rows = Vec::new();
                            if let EntryData::Command(command) = &entry.data {
                                let count = count(&self.store) + 1;
                                rows.push((
                                    Bytes::from_static(COUNT),
                                    Some(count.to_string().into()),
                                ));
                                rows.push((command.clone(), Some(command.clone())));
                                let text = std::str::from_utf8(command).unwrap();
                                self.applied.push(text.trim().parse().unwrap());
                            }
                            self.store.commit(&mut rows, entry.id).unwrap();
                        }
                        let applied = self.store.applied().index;
                        self.raft.applied(self.now, applied);
                    }
                    _ => {}
                }
            }
            if self.batches.is_empty() {
                return Ok(());
            }
            persist(&mut self.log, &mut self.batches, &mut self.receipts).map_err(|_| ())?;
            for (_, receipt) in self.receipts.drain(..) {
                self.raft.persisted(self.now, receipt);
            }
            self.log.maintain().map_err(|_| ())?;
        }
    }

    /// Proposes commands, the numbers from `proposed` on, until the power fails; makes the state durable
    /// now and then.
    fn work(&mut self, proposed: &mut u64, acknowledged: &mut Vec<u64>) {
        for step in 0..80 {
            *proposed += 1;
            let command = Bytes::from(format!("{proposed:200}"));
            self.raft.propose(self.now, command).unwrap();
            let done = self.drain();
            acknowledged.append(&mut self.applied);
            if done.is_err() {
                break;
            }
            if step % 10 == 9 {
                let persisted = self.store.persister().persist().unwrap();
                self.raft.compact(persisted.index);
            }
        }
    }
}

fn count(store: &impl Store) -> usize {
    let count = store.get(COUNT).unwrap();
    count.map_or(0, |count| std::str::from_utf8(&count).unwrap().parse().unwrap())
}

/// The commands in the state; each was applied once.
fn rows(store: &impl Store) -> BTreeSet<u64> {
    let mut rows = store.range(b"", b"z", usize::MAX).unwrap();
    rows.retain(|(key, _)| key != COUNT);
    assert_eq!(rows.len(), count(store), "commands in the state, and how often one was applied");
    rows.iter().map(|row| std::str::from_utf8(&row.0).unwrap().trim().parse().unwrap()).collect()
}

fn lives(seed: u64, sync_lies: bool) -> Result<(), String> {
    let (mut disk, mut engine) = (SimDisk::new(), MemoryEngine::new());
    let (mut acknowledged, mut proposed) = (Vec::new(), 0_u64);
    for life in 1..12_u64 {
        let mut node = Node::start(&disk, &mut engine, life);
        let found = rows(&node.store);
        let lost: Vec<_> = acknowledged.iter().filter(|number| !found.contains(number)).collect();
        if !lost.is_empty() {
            return Err(format!("seed {seed}, life {life}: {lost:?} are lost"));
        }
        disk.set_sync_lies(sync_lies && life > 1);
        disk.cut_power_after(40 + seed * 7 % 200);
        node.work(&mut proposed, &mut acknowledged);
        assert!(life == 1 || node.raft.status().first > Index(1), "the log is never compacted");
        disk = disk.crash(Crash::Seed(seed * 1000 + life));
        engine = engine.crash(|_, unsynced| (seed + life) as usize % (unsynced + 1));
    }
    Ok(())
}

#[test]
fn what_was_acknowledged_outlives_power_cuts() {
    for seed in 0..40 {
        lives(seed, false).unwrap();
    }
}

#[test]
fn with_the_sync_taken_out_something_acknowledged_is_lost() {
    // A lying disk may also lose so much that the log or the state is refused.
    let noticed = (0..10).filter(|&seed| {
        let result = std::panic::catch_unwind(|| lives(seed, true));
        !matches!(result, Ok(Ok(())))
    });
    assert!(noticed.count() > 5);
}
