//! A few of the planted bugs, those that are found quickly: the checkers are at work. All of them:
//! `cargo run --release -p kontiki-sim --features plants --example plants`.
//!
//! A binary of its own, since a bug is planted in the whole process.

use kontiki_sim::plants::{Plant, run_of, search};

/// Each with seeds of which one must find it: three times what any search has needed.
const QUICK: [(Plant, u64); 11] = [
    (Plant::VoteBeforeSync, 30),
    (Plant::AckBeforeSync, 30),
    (Plant::EmptyAppendMerged, 30),
    (Plant::LostAppendForgotten, 30),
    (Plant::ApplyBeforeDurable, 30),
    (Plant::SnapshotWithoutRecords, 30),
    (Plant::VoteLostByRecycling, 90),
    (Plant::RecordFreedEarly, 60),
    (Plant::ToldBeforeDurable, 300),
    (Plant::GrantForgotten, 300),
    (Plant::WorkerLeaseIgnored, 300),
];

/// Those of the handoff of slots, all of them: four times what any search has needed.
const HANDOFF: [(Plant, u64); 11] = [
    (Plant::RecordsLeftBehind, 400),
    (Plant::TagsForgotten, 400),
    (Plant::DeleterWithoutIncarnation, 400),
    (Plant::CommitOfOldAttempt, 400),
    (Plant::UnfreezeByTimer, 400),
    (Plant::DeltaInMemory, 400),
    (Plant::ChunksOutOfOrder, 400),
    (Plant::OwnershipByReply, 400),
    (Plant::CheckAtProposeOnly, 400),
    (Plant::DroppedBeforeCommit, 400),
    (Plant::DeposedControllerBelieved, 400),
];

#[test]
fn planted_bugs_of_the_handoff_are_found() {
    assert!(Plant::ALL.iter().filter(|plant| plant.is_of_handoff()).count() == HANDOFF.len());
    are_found(&HANDOFF);
}

#[test]
fn planted_bugs_are_found_and_each_seed_passes_without() {
    are_found(&QUICK);
}

fn are_found(plants: &[(Plant, u64)]) {
    for &(plant, bound) in plants {
        let found = search(plant, 0, bound, run_of(plant));
        let found = found.unwrap_or_else(|| panic!("{plant} is not found in {bound} seeds"));
        println!("{plant}: seed {}: {}", found.seed, found.violation);
        assert!(found.passes_without, "seed {} fails also without {plant}", found.seed);
    }
}
