//! The same log gives the same state: against a model, in any batches, through crashes, restarts
//! and snapshots.

use bytes::Bytes;
use kontiki_kv::{Import, Machine, MemStore, Outcome, Reply, Verdict};
use kontiki_types::{Index, LogId, Term};

use crate::group::{Group, Write};
use crate::random::{Model, Random, Step, log};

const LENGTH: usize = 400;

fn entries(steps: &[Step]) -> Vec<(LogId, Option<Bytes>)> {
    let ids = (1..).map(|index| LogId::new(Term(1), Index(index)));
    // Every 17th entry is a leader's no-op.
    let payloads = steps.iter().enumerate().map(|(number, step)| {
        if number % 17 == 16 { None } else { Some(step.proposal().to_bytes()) }
    });
    ids.zip(payloads).collect()
}

/// A machine whose pages turn often, seldom or never, which must not matter.
fn open(store: MemStore, random: &mut Random) -> Machine<MemStore> {
    let kept = [0, 300, 4_000, 64 << 10][random.below(4) as usize];
    Machine::open(store).unwrap().with_delta_bytes_kept(kept)
}

fn apply_in_batches(
    machine: &mut Machine<MemStore>,
    entries: &[(LogId, Option<Bytes>)],
    random: &mut Random,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let (batch, others) = rest.split_at(1 + random.below(rest.len().min(40) as u64) as usize);
        machine.apply(batch, &mut outcomes).unwrap();
        rest = others;
    }
    outcomes
}

#[test]
fn the_machine_does_what_the_model_says() {
    let mut kinds = [0; 4];
    for seed in 0..150 {
        let steps = log(seed, LENGTH);
        let (mut group, mut model) = (Group::new(), Model::default());
        for (number, step) in steps.iter().enumerate() {
            let expected: Vec<_> = model.apply(step).into_iter().collect();
            let found = group.apply(&[step.proposal()]);
            assert_eq!(found, expected, "seed {seed}, step {number}: {step:?}");
            assert_eq!(group.now(), model.now);
            match found.first() {
                Some(Verdict::Done(_)) => kinds[0] += 1,
                Some(Verdict::SentBack) => kinds[1] += 1,
                Some(Verdict::Unknown) => kinds[2] += 1,
                Some(Verdict::DigestMismatch) => panic!("no client does that here"),
                Some(Verdict::Closed { .. }) => panic!("no slot is closed"),
                None => kinds[3] += 1,
            }
        }
        assert_eq!(contents(&group), model.contents(), "seed {seed}");
    }
    assert!(kinds.iter().all(|count| *count > 1_000), "the logs have of everything: {kinds:?}");
}

fn contents(group: &Group) -> Vec<(String, String)> {
    let text = |reply: Reply| match reply {
        Reply::Bulk(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    let Reply::Array(keys) = group.query("KEYS *") else { panic!() };
    let mut all: Vec<_> = keys
        .into_iter()
        .map(text)
        .map(|key| (key.clone(), text(group.query(&format!("GET {key}")))))
        .collect();
    all.sort();
    all
}

#[test]
fn batches_do_not_matter() {
    for seed in 0..30 {
        let entries = entries(&log(seed, LENGTH));
        let mut random = Random::new(seed);
        let mut one = Machine::open(MemStore::new()).unwrap();
        let mut expected = Vec::new();
        for entry in &entries {
            one.apply(std::slice::from_ref(entry), &mut expected).unwrap();
        }
        for _ in 0..3 {
            let mut other = open(MemStore::new(), &mut random);
            assert_eq!(apply_in_batches(&mut other, &entries, &mut random), expected);
            assert_eq!(other.state_hash().unwrap(), one.state_hash().unwrap(), "seed {seed}");
        }
    }
}

/// A crash loses the commits that the engine had not written yet. It comes back with an earlier
/// one, and the log replays the rest.
#[test]
fn a_store_that_lost_its_last_commits_catches_up_by_the_log() {
    for seed in 0..20 {
        let entries = entries(&log(seed, 4 * LENGTH));
        let mut random = Random::new(seed);
        let mut whole = Machine::open(MemStore::new()).unwrap();
        let expected = apply_in_batches(&mut whole, &entries, &mut random);

        let mut machine = open(MemStore::new(), &mut random);
        let mut written = MemStore::new();
        for _ in 0..12 {
            let from = machine.applied().index.0 as usize;
            let end = from + random.below((entries.len() - from) as u64 + 1) as usize;
            apply_in_batches(&mut machine, &entries[from..end], &mut random);
            if random.below(2) == 0 {
                written = machine.into_store();
            }
            machine = open(written.clone(), &mut random);
        }
        let from = machine.applied().index.0;
        let outcomes = apply_in_batches(&mut machine, &entries[from as usize..], &mut random);
        let tail: Vec<_> =
            expected.iter().filter(|outcome| outcome.index.0 > from).cloned().collect();
        assert_eq!(outcomes, tail, "seed {seed}: replies are the same the second time");
        assert_eq!(machine.state_hash().unwrap(), whole.state_hash().unwrap(), "seed {seed}");
    }
}

/// What is stored of slots and clients stays in proportion to them, however long the log is, and
/// old deltas go.
#[test]
fn the_ledger_does_not_grow_with_the_log() {
    let mut group = Group::new();
    group.machine = Machine::open(MemStore::new()).unwrap().with_delta_bytes_kept(1_000);
    let bytes = |group: &Group| -> usize {
        let rows = group.machine.store().rows().filter(|(key, _)| key[0] < 0x20);
        rows.map(|(key, row)| key.len() + row.len()).sum()
    };
    let mut largest = 0;
    for seq in 1..=3_000 {
        let connection = seq % 5;
        let write = Write::new(connection, seq, &format!("SET key{} v", seq % 20));
        group.write(write.at(seq).proposal());
        largest = largest.max(bytes(&group));
        if seq % 500 == 0 {
            group.machine =
                Machine::open(group.machine.store().clone()).unwrap().with_delta_bytes_kept(1_000);
        }
    }
    assert!(largest < 6_000, "{largest} bytes");
}

/// Many pages, rewritten in turn, and a restart at any point between: no delta that some page
/// still needs is ever deleted.
#[test]
fn a_restart_finds_every_record_and_version_whatever_pages_were_written() {
    let mut random = Random::new(5);
    let mut group = Group::new();
    for round in 0..40 {
        let kept = [0, 500, 2_000][random.below(3) as usize];
        group.machine = group.reopened().with_delta_bytes_kept(kept);
        for _ in 0..random.below(80) {
            let connection = random.below(300);
            let seq = 1 + random.below(1 << 40);
            let request = format!("SET key{} v", random.below(1_000));
            group.write(Write::new(connection, seq, &request).low(1).at(round * 500).proposal());
        }
        assert_eq!(group.reopened().state_hash().unwrap(), group.hash(), "round {round}");
    }
}

/// A replica that got a snapshot goes on exactly as the one that wrote it.
#[test]
fn a_snapshot_in_the_middle_changes_nothing() {
    for seed in 0..30 {
        let entries = entries(&log(seed, 2 * LENGTH));
        let mut random = Random::new(seed);
        let (before, after) = entries.split_at(random.below(entries.len() as u64) as usize + 1);
        let mut source = open(MemStore::new(), &mut random);
        apply_in_batches(&mut source, before, &mut random);
        let mut import = Import::new(MemStore::new()).unwrap();
        for chunk in source.export().unwrap() {
            import.feed(&chunk.unwrap()).unwrap();
        }
        let (store, applied) = import.finish().unwrap();
        assert_eq!(applied, source.applied());
        let mut target = open(store, &mut random);
        assert_eq!(target.state_hash().unwrap(), source.state_hash().unwrap(), "seed {seed}");
        assert_eq!(target.log_time(), source.log_time());
        let outcomes = apply_in_batches(&mut target, after, &mut random);
        assert_eq!(outcomes, apply_in_batches(&mut source, after, &mut random), "seed {seed}");
        assert_eq!(target.state_hash().unwrap(), source.state_hash().unwrap(), "seed {seed}");
    }
}

#[test]
fn every_part_of_the_state_counts_in_its_hash() {
    let mut hashes = Vec::new();
    let base = |group: &mut Group| {
        group.run("SET k v");
    };
    let changes: [fn(&mut Group); 7] = [
        |_| (),
        |group| drop(group.run("SET k w")),
        |group| drop(group.run("SET other v")),
        |group| drop(group.run("PEXPIRE k 100")),
        |group| drop(group.run("DEL absent")),
        |group| group.tick(1),
        |group| group.tick(0),
    ];
    for change in changes {
        let mut group = Group::new();
        base(&mut group);
        change(&mut group);
        hashes.push(group.hash());
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), changes.len());
}

#[test]
fn entries_must_follow_one_another() {
    let entries = entries(&log(1, 10));
    for wrong in [&entries[1..3], &[entries[0].clone(), entries[2].clone()]] {
        let mut machine = Machine::open(MemStore::new()).unwrap();
        let mut outcomes = Vec::new();
        assert!(machine.apply(wrong, &mut outcomes).is_err());
        assert!(outcomes.is_empty());
        assert!(machine.apply(&entries[..1], &mut outcomes).is_err(), "it has failed for good");
    }
}

/// Bytes that this version cannot read stop the replica, by name: to skip them would make it differ.
#[test]
fn an_entry_that_cannot_be_read_stops_the_machine() {
    let good = Write::new(1, 1, "SET k v").proposal().to_bytes();
    let mut random = Random::new(3);
    let mut refused = 0;
    for round in 0..400 {
        let mut bytes = good.to_vec();
        if round % 2 == 0 {
            bytes.truncate(random.below(good.len() as u64) as usize);
        } else {
            let place = random.below(good.len() as u64) as usize;
            bytes[place] = random.below(256) as u8;
        }
        let mut machine = Machine::open(MemStore::new()).unwrap();
        let entry = (LogId::new(Term(1), Index(1)), Some(bytes.into()));
        let mut outcomes = Vec::new();
        match machine.apply(std::slice::from_ref(&entry), &mut outcomes) {
            Ok(()) => assert_eq!(outcomes.len(), 1),
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("log entry 1"), "{error}");
                assert!(outcomes.is_empty() && machine.applied() == LogId::ZERO);
                assert!(machine.apply(&[entry], &mut outcomes).is_err());
            }
        }
    }
    assert!(refused > 100);
}
