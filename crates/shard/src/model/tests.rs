//! What is explored, and what has to be found.
//!
//! In a debug build the bounds are those of the gate, some seconds. Wider ones:
//! `cargo test --release -p kontiki-shard model -- --nocapture`, which prints how many states.

use super::explore::{Explored, explore};
use super::world::{Bounds, World};
use crate::plant::{Plant, Planted};

/// No fault but messages that are late; of them two at a time.
const CALM: Bounds = Bounds {
    increments: 2,
    moves: 1,
    aborts: 0,
    changes: 0,
    copies: 0,
    ghosts: false,
    is_founded: false,
    rounds: false,
    stale_answers: false,
    messages: 2,
};

const STATES_MAX: usize = 20_000_000;

fn run(name: &str, bounds: Bounds, has_sums: bool) -> Explored {
    let explored = explore(&World::new(bounds, has_sums), STATES_MAX);
    let Explored { states, steps, finished, .. } = explored;
    println!("{name}: {states} states, {steps} steps, {finished} finished");
    explored
}

/// Nothing is wrong within `gate`; nor, in a release build, within `wide`.
fn holds(name: &str, gate: Bounds, wide: Bounds) {
    let bounds = if cfg!(debug_assertions) { gate } else { wide };
    let explored = run(name, bounds, true);
    if let Some((what, way)) = explored.violation {
        panic!("{what}, after\n{}", way.join("\n"));
    }
    assert!(explored.finished > 0, "nothing ever ends");
}

/// With the bug planted, `what` is what goes wrong; without it, nothing.
fn finds(bug: Plant, bounds: Bounds, has_sums: bool, what: &str) {
    let planted = Planted::new(bug);
    let explored = run(&format!("{bug:?}"), bounds, has_sums);
    drop(planted);
    let (found, way) = explored.violation.unwrap_or_else(|| panic!("{bug:?} is not found"));
    assert!(found.contains(what), "{found} instead of {what}, after\n{}", way.join("\n"));
    assert!(!way.is_empty(), "{found}, before anything has happened");
}

#[test]
fn a_move_with_nothing_wrong_but_late_messages() {
    let gate = Bounds { messages: 3, ..CALM };
    holds("calm", gate, Bounds { increments: 4, messages: 4, ..CALM });
}

#[test]
fn there_and_back() {
    let gate = Bounds { moves: 2, copies: 1, messages: 1, ..CALM };
    holds("there and back", gate, Bounds { messages: 2, ..gate });
}

#[test]
fn leaders_change_and_the_deposed_go_on() {
    let gate = Bounds { changes: 1, ghosts: true, messages: 1, ..CALM };
    holds("leaders change", gate, Bounds { changes: 2, messages: 2, ..gate });
}

#[test]
fn changes_are_sent_in_rounds() {
    let gate = Bounds { rounds: true, changes: 1, ..CALM };
    holds("rounds", gate, Bounds { increments: 3, messages: 3, ..gate });
}

#[test]
fn attempts_are_given_up_while_they_are_committed() {
    let gate = Bounds { aborts: 1, increments: 1, ..CALM };
    holds("aborts", gate, Bounds { aborts: 2, increments: 2, ..gate });
}

#[test]
fn leaders_go_on_by_old_answers() {
    let gate = Bounds { stale_answers: true, aborts: 1, messages: 1, increments: 1, ..CALM };
    holds("old answers", gate, Bounds { messages: 2, increments: 2, ..gate });
}

#[test]
fn everything_at_once() {
    let gate = Bounds { aborts: 1, changes: 1, copies: 1, increments: 1, messages: 1, ..CALM };
    holds("everything", gate, Bounds { moves: 2, ghosts: true, ..gate });
}

#[test]
fn slots_that_nobody_had_are_given_and_then_move() {
    let gate = Bounds { is_founded: true, increments: 1, moves: 3, copies: 1, messages: 1, ..CALM };
    holds("founded", gate, Bounds { increments: 2, messages: 2, ..gate });
}

#[test]
fn protocol_1_records_left_behind_are_found() {
    finds(Plant::RecordsLeftBehind, CALM, true, "was answered with 2");
}

#[test]
fn protocol_9_a_stale_activation_is_found() {
    let bounds = Bounds { is_founded: true, moves: 2, copies: 1, increments: 0, ..CALM };
    finds(Plant::TagsForgotten, bounds, true, "1 serves the slot of another group");
    let bounds = Bounds { increments: 1, ..bounds };
    finds(Plant::TagsForgotten, bounds, true, "1 increments acknowledged, 0 there");
}

#[test]
fn protocol_9_a_deleter_that_eats_the_next_life_is_found() {
    let bounds = Bounds { moves: 2, messages: 1, ..CALM };
    finds(Plant::DeleterWithoutIncarnation, bounds, true, "the sums differ");
    finds(Plant::DeleterWithoutIncarnation, bounds, false, "increments acknowledged");
}

#[test]
fn protocol_10_a_commit_of_an_attempt_given_up_is_found() {
    let bounds = Bounds { aborts: 1, increments: 1, ..CALM };
    finds(Plant::CommitOfOldAttempt, bounds, true, "serves the slot of another group");
}

#[test]
fn protocol_10_a_source_that_serves_again_by_itself_is_found() {
    let bounds = Bounds { aborts: 1, increments: 1, ..CALM };
    finds(Plant::UnfreezeByTimer, bounds, true, "1 serves the slot of another group");
}

#[test]
fn protocol_11_changes_known_to_one_leader_only_are_found() {
    let bounds = Bounds { changes: 1, ..CALM };
    // PROTOCOL 12 gives it away before it does harm; without its sums a write is lost.
    finds(Plant::DeltaInMemory, bounds, true, "the sums differ");
    finds(Plant::DeltaInMemory, bounds, false, "increments acknowledged");
}

#[test]
fn protocol_11_chunks_out_of_order_are_found() {
    let bounds = Bounds { copies: 1, ..CALM };
    finds(Plant::ChunksOutOfOrder, bounds, true, "the sums differ");
    finds(Plant::ChunksOutOfOrder, bounds, false, "increments acknowledged");
}

#[test]
fn a_target_that_serves_before_the_commit_is_found() {
    finds(Plant::OwnershipByReply, CALM, true, "2 serves the slot of another group");
}

#[test]
fn a_write_to_a_frozen_slot_is_found() {
    finds(Plant::CheckAtProposeOnly, CALM, true, "the sums differ");
    finds(Plant::CheckAtProposeOnly, CALM, false, "increments acknowledged");
}

#[test]
fn a_source_that_lets_go_before_the_commit_is_found() {
    finds(Plant::DroppedBeforeCommit, CALM, true, "the end cannot be reached");
}
