//! Every interleaving of a small system, explored: the handoff's proof by exhaustion, within
//! bounds.
//!
//! The system is made of the very state machines of this crate: a [`Controller`], two groups with
//! their [`Holdings`] and drivers, and beside them a store of one key in one slot with completion
//! records ([`tiny`]). A client increments the key, and sends again until it is answered, to
//! whichever group. Messages and proposals arrive late, in any order, some twice; a message that
//! is lost is one that never arrives, since a driver gives the same step again. Leaders change and
//! what they knew is gone, while they themselves may go on for a while without knowing. Attempts
//! are given up, moves cancelled, at any moment. Slots move there and back.
//!
//! In each state: at most one group serves the slot, and it is the one that the controller names;
//! its value is neither below the increments that were acknowledged nor above those that were
//! asked for; every acknowledgement has the value that it must have; sums of slots never differ.
//! And from each state a state can be reached where everything is done and nothing is under way.
//!
//! States are told apart by 64 bits of hash: a million of them hide one another with a chance of
//! one in thirty million.
//!
//! [`Controller`]: crate::Controller
//! [`Holdings`]: crate::Holdings

mod explore;
mod tests;
mod tiny;
mod world;
