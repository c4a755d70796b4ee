//! The course suites' scenarios, a few seeds each.

use kontiki_sim::labs::LABS;
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
fn names_are_unique_and_can_be_found() {
    for (at, lab) in LABS.iter().enumerate() {
        assert!(lab.name.starts_with("lab-"), "{}", lab.name);
        assert!(LABS[..at].iter().all(|other| other.name != lab.name), "{} twice", lab.name);
    }
}

#[test]
fn raft() {
    suite("lab-raft-", 3);
}
