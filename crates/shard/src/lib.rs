//! Who owns which hash slot, and how a slot changes hands: slot map, controller, balancer, moves.
//!
//! Pure state machines: no I/O, clock, thread or randomness. `kontiki-replica` puts them in charge of
//! the machines of `kontiki-kv`, and carries out what they say is next.
//!
//! # The model
//! The 16384 slots belong to *groups*. Group 0, the *controller*, keeps the numbered history of
//! configurations and the *moves* under way ([`Controller`]). Each data group's log says which
//! slots it serves, gives and takes ([`Holdings`]). A move is tried by *attempts*, which exist only
//! in the controller's log. The leaders of its two groups carry it out, each by asking
//! [`source_step`] or [`target_step`] what to do next. [`balance`] says which moves make a
//! configuration even.
//!
//! # Invariants
//! - A slot changes hands at exactly one entry: the commit in the controller's log. Before it the
//!   source owns, after it the target; nothing else flips it, no reply, no timer.
//! - Whether a group serves a slot is asked when a data command is *applied*.
//! - What was said of an earlier attempt, of a move that is closed, or of a slot's earlier life,
//!   has no effect, however late it comes.
//! - Everything that a move has come to is in replicated state: its drivers have no memory.
//!
//! # How it is tested
//! `model` explores every interleaving of a small system made of these very state machines: two
//! groups, a controller, a slot, a client that sends again, messages that are lost, doubled and
//! late, leaders that change, attempts that are given up. It finds each rule of PROTOCOL 1, 9, 10
//! and 11 that is taken out. The picture of a move is in `docs/sharding.md`.

mod ask;
pub mod balance;
mod controller;
mod driver;
mod holdings;
mod ids;
mod plant;
mod runs;
mod slot_set;
mod wire;

pub use ask::{Answer, Call, Query, Told};
pub use controller::{
    ATTEMPTS_MAX, Aborted, Command, Committed, Configuration, Controller, DEADLINE_MAX_MS,
    FINISHED_MAX, Finished, GONE_MAX, GROUPS_MAX, GroupEntry, HISTORY_MAX, MOVES_MAX, Move,
    MoveAnswer, NODES_PER_GROUP_MAX, Observed, Op, Phase, Refusal, Reply, SESSIONS_MAX, Session,
    Side, Then, What, Why, founding_slots,
};
pub use driver::{
    Limits, Source, Stage, Step, activation, complete_step, source_stage, source_step,
    target_stage, target_step,
};
pub use holdings::{
    BadPayload, CHUNK_BYTES_MAX, Changes, Cursor, Dead, Entry, Export, Frozen, Gate, GroupCommand,
    GroupOp, Holdings, Import, ImportProgress, ImportStage, ImportStatus, Piece, Place, Reached,
    SKEW_MAX_MS, SlotData, SourceData, Sums, Verdict, Void,
};
pub use ids::{Attempt, GroupRef, MoveId, SlotIncarnation, Tag};
pub use slot_set::{NotSlots, SlotSet};
pub use wire::BadBytes;

#[cfg(test)]
mod model;
