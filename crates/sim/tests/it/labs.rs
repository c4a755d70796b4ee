//! The course suites' scenarios, a few seeds each.

use kontiki_sim::labs::{LABS, find};
use kontiki_sim::seeds::each_seed;

/// Runs the scenarios whose names begin with `suite`, each with `seeds` seeds.
fn suite(suite: &str, seeds: u64) {
    let labs: Vec<_> = LABS.iter().filter(|lab| lab.name.starts_with(suite)).collect();
    assert!(!labs.is_empty(), "no scenario is called {suite}");
    for lab in labs {
        each_seed(lab.name, seeds, |seed| {
            (lab.run)(seed).unwrap_or_else(|violation| panic!("{}: {violation}", lab.name));
        });
    }
}

#[test]
fn every_row_of_the_suites_has_a_scenario_of_its_own_name() {
    for (at, lab) in LABS.iter().enumerate() {
        assert!(lab.name.starts_with("lab-"), "{}", lab.name);
        assert!(LABS[..at].iter().all(|other| other.name != lab.name), "{} twice", lab.name);
        assert_eq!(find(lab.name).map(|found| found.about), Some(lab.about));
    }
    let rows = [
        ("lab-raft-", 28),
        ("lab-kvsrv-", 10),
        ("lab-kvsrv1-", 4),
        ("lab-kvraft-", 23),
        ("lab-rsm-", 8),
        ("lab-lock-", 4),
        ("lab-diskv-", 15),
        ("lab-shardctrler-", 6),
        ("lab-shardkv-", 13),
    ];
    for (suite, rows) in rows {
        let count = LABS.iter().filter(|lab| lab.name.starts_with(suite)).count();
        assert_eq!(count, rows, "{suite}");
    }
}

#[test]
fn raft() {
    suite("lab-raft-", 1);
}

#[test]
fn kvsrv() {
    suite("lab-kvsrv", 1);
}

#[test]
fn kvraft() {
    suite("lab-kvraft-", 1);
}

#[test]
fn rsm() {
    suite("lab-rsm-", 3);
}

#[test]
fn lock() {
    suite("lab-lock-", 3);
}

#[test]
fn diskv() {
    suite("lab-diskv-", 1);
}

#[test]
fn shardctrler() {
    suite("lab-shardctrler-", 1);
}

#[test]
fn shardkv() {
    suite("lab-shardkv-", 1);
}
