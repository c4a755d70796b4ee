//! Measures the log and the state engine on the disk of this machine.
//!
//! `cargo run --release -p kontiki-storage --example measure [DIRECTORY]`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kontiki_kv::{Store, WriteSet};
use kontiki_raft::{Entry, EntryData};
use kontiki_storage::disk::RealDisk;
use kontiki_storage::engine::{Engine, FjallConfig, FjallEngine, GroupStore, Persist};
use kontiki_storage::log::{Log, LogConfig, Update};
use kontiki_types::{GroupId, Incarnation, Index, LogId, Term};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let directory = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = directory.join(format!("kontiki-measure-{}", std::process::id()));
    let measured = log(&directory.join("log")).and_then(|()| state(&directory.join("state")));
    std::fs::remove_dir_all(&directory)?;
    measured
}

/// Batches of 200 B entries over 16 groups, each written and synced.
fn log(directory: &Path) -> Result<(), Failure> {
    println!("log: batch, entries/s, p50 us, p99 us, bytes written per payload byte");
    for batch in [1, 16, 256] {
        let _ = std::fs::remove_dir_all(directory);
        let (mut log, _) = Log::open(RealDisk, directory, LogConfig::new(Incarnation(1)))?;
        log.spares().fill()?;
        let spares = log.spares();
        let payload = Bytes::from(vec![7; 200]);
        let mut indexes = [0_u64; 16];
        let mut times = Vec::new();
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(2500) {
            let mut updates: Vec<(GroupId, Update)> = Vec::new();
            for entry in 0..batch {
                let group = (entry + times.len()) % 16;
                indexes[group] += 1;
                let id = LogId::new(Term(1), Index(indexes[group]));
                let entry = Entry { id, data: EntryData::Command(payload.clone()) };
                let entries = vec![entry];
                updates.push((GroupId(group as u32), Update { entries, ..Update::default() }));
            }
            let begun = Instant::now();
            log.update(&updates)?;
            times.push(begun.elapsed());
            if spares.is_wanting() {
                let spares = spares.clone();
                std::thread::spawn(move || spares.fill());
            }
        }
        let rate = (times.len() * batch) as f64 / started.elapsed().as_secs_f64();
        times.sort_unstable();
        let at = |share: usize| times[times.len() * share / 100].as_micros();
        let amplification =
            log.counters().read().bytes_written as f64 / (times.len() * batch * 200) as f64;
        println!("{batch:4} {rate:10.0} {:6} {:6} {amplification:6.2}", at(50), at(99));
        if batch == 256 {
            drop(log);
            let begun = Instant::now();
            let (_, groups) = Log::open(RealDisk, directory, LogConfig::new(Incarnation(1)))?;
            let entries: usize = groups.values().map(|group| group.entries.len()).sum();
            println!("open: {entries} entries in {} ms", begun.elapsed().as_millis());
        }
    }
    Ok(())
}

/// Commits of 64 rows of 128 B, each after reading the old rows; a thread persists beside.
fn state(directory: &Path) -> Result<(), Failure> {
    const KEYS: u64 = 200_000;
    let mut engine = FjallEngine::open(directory, FjallConfig::default())?;
    let mut store = engine.open_group(GroupId(1))?;
    let persister = store.persister();
    std::thread::spawn(move || {
        loop {
            if persister.is_due() && persister.persist().is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    println!("state: pass, ns/read of the old row, ns/put, slowest commit us");
    let mut random = 1_u64;
    let mut index = 0;
    for pass in ["load", "overwrite", "overwrite"] {
        let (mut reading, mut writing, mut slowest) =
            (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        for _ in 0..KEYS * 2 / 64 {
            let keys: Vec<Bytes> = (0..64)
                .map(|_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    Bytes::from(format!("key:{:012}", (random >> 33) % KEYS))
                })
                .collect();
            let begun = Instant::now();
            for key in &keys {
                store.get(key)?;
            }
            reading += begun.elapsed();
            index += 1;
            let mut batch: WriteSet =
                keys.into_iter().map(|key| (key, Some(Bytes::from(vec![b'v'; 128])))).collect();
            let begun = Instant::now();
            store.commit(&mut batch, LogId::new(Term(1), Index(index)))?;
            writing += begun.elapsed();
            slowest = slowest.max(begun.elapsed());
        }
        let each = |time: Duration| time.as_nanos() / u128::from(KEYS * 2);
        println!("{pass:9} {:6} {:6} {:6}", each(reading), each(writing), slowest.as_micros());
    }
    let hot: Vec<Bytes> = (0..10_000).map(|key| Bytes::from(format!("key:{key:012}"))).collect();
    for _ in 0..2 {
        let begun = Instant::now();
        for key in &hot {
            store.get(key)?;
        }
        println!("hot get: {} ns", begun.elapsed().as_nanos() / hot.len() as u128);
    }
    let begun = Instant::now();
    store.persister().persist()?;
    println!("persist: {} ms, {:?}", begun.elapsed().as_millis(), engine.counts());
    drop((store, engine));
    Ok(())
}
