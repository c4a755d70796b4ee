//! The stewards of a sharded store's groups: `kontiki-shard`'s state machines in charge of
//! `kontiki-kv`'s machines.
//!
//! Every group of a sharded store, the controller too, is a [`kontiki_kv::Machine`]. What it knows
//! of slots is its *steward's* state: [`Controller`] in group 0, which has no keys, [`Holdings`] in
//! the others. So one log, one snapshot, one exactly-once serve both.
//!
//! # How a steward is told and asked
//! By the requests that everything else is asked by, from any node of the cluster:
//!
//! - **Tell**: `Ask::Write` to `Target::Group(group)`, a `SessionWrite` whose command is
//!   [`tell`]`(&call)`. It takes effect once by its session and number, as a client's write does;
//!   the answer is `Answer::Reply(reply)`, and [`told`]`(&reply)` is what came of it. An operator's
//!   request is `Call::Decide { op }` to [`CONTROLLER`]; the reply is `Told::Decided { reply, .. }`.
//!   The stamp (session, number, deadline) makes [`kontiki_shard::Session`] unnecessary.
//! - **Ask**: `Ask::Read` of [`ask`]`(&query)`, linearizable; [`answered`]`(&reply)`.
//!
//! A group without a steward, and a steward of another kind, say so: [`StewardError`].
//!
//! # How a group comes by its steward
//! - It *begins* with it ([`Beginning`]): its log begins after [`BEGINS_AFTER`], as if a snapshot had
//!   been installed there, and every member of its initial configuration makes the same state. So
//!   whoever is added later gets it by a snapshot.
//! - The one group of a store that was not sharded gets it by [`Call::Share`] in its log.

mod data;

use core::fmt;

use bytes::Bytes;
use kontiki_kv::command::{Read, Write};
use kontiki_kv::{BadBytes, Gate, Reply, SlotRows, Steward, Stewards};
use kontiki_shard::{
    Answer, Call, Controller, Entry, GroupCommand, GroupOp, GroupRef, Holdings, ImportStatus, Op,
    Query, Refusal, Told, What, balance, founding_slots,
};
use kontiki_types::{GroupId, Index, LogId, LogTime, NodeId, Slot, Term};

pub(crate) use data::Rows;
pub use data::SourceRows;

/// The group of the controller.
pub const CONTROLLER: GroupId = GroupId(0);

/// The entry after which the log of a group begins that has a steward from the beginning.
pub const BEGINS_AFTER: LogId = LogId::new(Term(0), Index(1));

/// What a stored state is of.
const OF_CONTROLLER: u8 = 1;
const OF_HOLDINGS: u8 = 2;

/// Why there is no answer of a steward.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StewardError {
    /// The group is not part of a sharded store, or the request was refused: what it said.
    #[error("{0}")]
    Refused(String),
    /// What it said is nothing that this build can read.
    #[error("an answer of another version: {0}")]
    Unreadable(#[from] kontiki_shard::BadBytes),
}

/// The command that tells a steward.
pub fn tell(call: &Call) -> Write {
    Write::Steward { call: call.to_bytes().into() }
}

/// What a steward says of what it was told.
///
/// # Errors
/// [`StewardError`].
pub fn told(reply: &Reply) -> Result<Told, StewardError> {
    Ok(Told::from_bytes(said(reply)?)?)
}

/// The command that asks a steward.
pub fn ask(query: &Query) -> Read {
    Read::Steward { query: query.to_bytes().into() }
}

/// What a steward answers.
///
/// # Errors
/// [`StewardError`].
pub fn answered(reply: &Reply) -> Result<Answer, StewardError> {
    Ok(Answer::from_bytes(said(reply)?)?)
}

fn said(reply: &Reply) -> Result<&[u8], StewardError> {
    match reply {
        Reply::Bulk(bytes) => Ok(bytes),
        Reply::Error(line) => Err(StewardError::Refused(String::from_utf8_lossy(line).into())),
        _ => Err(StewardError::Refused("an answer of another kind".to_owned())),
    }
}

/// Whether this build can apply a call: a leader asks before it proposes one.
pub(crate) fn is_sound_call(call: &Bytes) -> bool {
    Call::from_bytes(call).is_ok()
}

/// What a group begins as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// The controller of groups that begin together with it and share the slots.
    FoundingController(Vec<(GroupId, Vec<NodeId>)>),
    /// The data group at this place of so many that share the slots.
    FoundingGroup {
        /// Its id.
        group: GroupId,
        /// Its place, from 0.
        at: usize,
        /// How many there are.
        of: usize,
    },
    /// The controller of a store that had one group, which has every slot.
    AdoptingController {
        /// The group.
        group: GroupId,
        /// The nodes with a replica of it.
        nodes: Vec<NodeId>,
    },
    /// A data group that has joined, without slots.
    Joined(GroupRef),
}

impl Beginning {
    /// The steward.
    pub fn steward(&self) -> Box<dyn Steward> {
        match self {
            Self::FoundingController(groups) => Box::new(Controlling(Controller::founding(groups))),
            Self::FoundingGroup { group, at, of } => {
                let group = GroupRef { id: *group, joined: 0 };
                Box::new(Holding(Holdings::founding(group, &founding_slots(*at, *of))))
            }
            Self::AdoptingController { group, nodes } => {
                Box::new(Controlling(Controller::adopting(*group, nodes.clone())))
            }
            Self::Joined(group) => Box::new(Holding(Holdings::new(*group))),
        }
    }
}

/// Makes the stewards of a node's machines.
#[derive(Clone, Copy, Debug, Default)]
pub struct StewardMaker;

impl Stewards for StewardMaker {
    fn restore(&self, state: &Bytes) -> Result<Box<dyn Steward>, BadBytes> {
        let unknown = || BadBytes::new("the state of a steward of an unknown kind");
        let (kind, bytes) = state.split_first().ok_or_else(unknown)?;
        match *kind {
            OF_CONTROLLER => {
                let controller = Controller::from_bytes(bytes).map_err(unreadable)?;
                Ok(Box::new(Controlling(controller)))
            }
            OF_HOLDINGS => {
                let holdings = Holdings::from_bytes(bytes).map_err(unreadable)?;
                Ok(Box::new(Holding(holdings)))
            }
            _ => Err(unknown()),
        }
    }

    fn begin(&self, call: &Bytes) -> Option<Box<dyn Steward>> {
        match Call::from_bytes(call) {
            Ok(Call::Share { group, controller }) => {
                Some(Box::new(Holding(Holdings::sharing(group, controller))))
            }
            _ => None,
        }
    }
}

fn unreadable(error: impl fmt::Display) -> BadBytes {
    BadBytes::new(error.to_string())
}

fn state(kind: u8, bytes: &[u8]) -> Bytes {
    [&[kind], bytes].concat().into()
}

/// The holdings of a steward's state.
///
/// # Errors
/// [`BadBytes`] if they cannot be read, or it is the controller's.
pub fn holdings_of(steward: &dyn Steward) -> Result<Holdings, BadBytes> {
    let bytes = steward.to_bytes();
    let not = || BadBytes::new("the steward is not a data group's");
    let (_, bytes) =
        bytes.split_first().filter(|(kind, _)| **kind == OF_HOLDINGS).ok_or_else(not)?;
    Holdings::from_bytes(bytes).map_err(unreadable)
}

/// Group 0: no slot is served, nothing is stored but the controller.
#[derive(Debug)]
struct Controlling(Controller);

impl Controlling {
    fn decide(&mut self, index: Index, time: LogTime, op: &Op) -> kontiki_shard::Reply {
        // Incarnations have four bytes.
        let opens = matches!(op, Op::Plan { .. } | Op::Abort { .. } | Op::Split { .. });
        if opens && u32::try_from(index.0).is_err() {
            let most = u64::from(u32::MAX);
            let why = Refusal::TooMany { what: What::Attempts, most };
            return kontiki_shard::Reply::Refused { why };
        }
        self.0.decide(index, time, op)
    }
}

impl Steward for Controlling {
    fn call(
        &mut self,
        index: Index,
        time: LogTime,
        call: &Bytes,
        _: &mut dyn SlotRows,
    ) -> Result<Bytes, BadBytes> {
        let told = match Call::from_bytes(call).map_err(unreadable)? {
            Call::Decide { op } => {
                let reply = self.decide(index, time, &op);
                let found = match op {
                    Op::Commit { tag }
                    | Op::Abort { tag, .. }
                    | Op::Split { tag, .. }
                    | Op::Closed { tag, .. } => Some(self.0.answer(tag.id)),
                    _ => None,
                };
                Told::Decided { reply, found }
            }
            Call::Carry { .. } | Call::Share { .. } => Told::Elsewhere,
        };
        Ok(told.to_bytes().into())
    }

    fn query(&self, query: &Bytes, log_time: LogTime) -> Bytes {
        let Self(controller) = self;
        let answer = match Query::from_bytes(query) {
            Ok(Query::Configuration { at }) => {
                let latest = || Some(controller.configuration().clone());
                let found = at.map_or_else(latest, |at| controller.configuration_at(at));
                Answer::Configuration { found, oldest: controller.oldest() }
            }
            Ok(Query::Overview) => Answer::Overview {
                configuration: controller.configuration().clone(),
                moves: controller.moves().cloned().collect(),
                observed: controller.all_observed().clone(),
                log_time,
            },
            Ok(Query::Moves) => Answer::Moves { moves: controller.moves().cloned().collect() },
            Ok(Query::Move { id }) => Answer::Move { found: controller.answer(id) },
            Ok(Query::Duties { groups }) => {
                let go_on = balance::may_go_on(controller.moves());
                let concerns = |group: GroupRef| groups.contains(&group.id);
                let moves = controller.moves().filter(|found| go_on.contains(&found.tag.id));
                let moves = moves
                    .filter(|found| concerns(found.to) || found.from.is_some_and(concerns))
                    .cloned()
                    .collect();
                Answer::Duties { epoch: controller.configuration().epoch(), moves }
            }
            Ok(Query::Import { .. } | Query::Holdings) | Err(_) => Answer::Elsewhere,
        };
        answer.to_bytes().into()
    }

    fn gate(&self, _: Slot) -> Gate {
        Gate::Away
    }

    fn frozen(&self) -> Option<Slot> {
        None
    }

    fn is_tracked(&self, _: Slot) -> bool {
        false
    }

    fn to_bytes(&self) -> Bytes {
        state(OF_CONTROLLER, &self.0.to_bytes())
    }
}

/// A data group.
#[derive(Debug)]
struct Holding(Holdings);

impl Holding {
    /// How far the import is that `command` is about.
    fn status(&self, command: &GroupCommand, time: LogTime) -> ImportStatus {
        let tag = command.tag;
        let slots = match &command.op {
            GroupOp::ImportOpen { slots, .. }
            | GroupOp::Activate { slots, .. }
            | GroupOp::Discard { slots, .. } => Some(slots),
            _ => self.0.import(tag.id).map(|import| &import.slots),
        };
        match slots {
            Some(slots) => self.0.status(tag, slots, time),
            // Nothing is open, and of no slots nothing can be said.
            None => ImportStatus { tag, import: None, is_closed: false, log_time: time },
        }
    }
}

impl Steward for Holding {
    fn call(
        &mut self,
        index: Index,
        time: LogTime,
        call: &Bytes,
        rows: &mut dyn SlotRows,
    ) -> Result<Bytes, BadBytes> {
        let told = match Call::from_bytes(call).map_err(unreadable)? {
            Call::Carry { command } => {
                let mut rows = Rows(rows);
                let verdict = self.0.apply(Entry { index, time }, &command, &mut rows);
                Told::Carried { verdict, status: self.status(&command, time) }
            }
            Call::Share { .. } => {
                Told::Shares { group: self.0.group(), controller: self.0.controller() }
            }
            Call::Decide { .. } => Told::Elsewhere,
        };
        Ok(told.to_bytes().into())
    }

    fn query(&self, query: &Bytes, log_time: LogTime) -> Bytes {
        let Self(holdings) = self;
        let answer = match Query::from_bytes(query) {
            Ok(Query::Import { tag, slots }) => {
                Answer::Import { status: holdings.status(tag, &slots, log_time) }
            }
            Ok(Query::Holdings) => Answer::Holdings {
                group: holdings.group(),
                serving: holdings.serving(),
                exports: holdings.exports().cloned().collect(),
                imports: holdings.imports().cloned().collect(),
                controller: holdings.controller(),
            },
            _ => Answer::Elsewhere,
        };
        answer.to_bytes().into()
    }

    fn gate(&self, slot: Slot) -> Gate {
        match self.0.gate(slot) {
            kontiki_shard::Gate::Open => Gate::Open,
            kontiki_shard::Gate::Wait => Gate::Frozen,
            kontiki_shard::Gate::Away => Gate::Away,
        }
    }

    fn frozen(&self) -> Option<Slot> {
        let mut frozen = self.0.exports().filter(|export| export.frozen.is_some());
        frozen.find_map(|export| export.slots.first())
    }

    fn is_tracked(&self, slot: Slot) -> bool {
        self.0.exports().any(|export| export.slots.contains(slot))
    }

    fn to_bytes(&self) -> Bytes {
        state(OF_HOLDINGS, &self.0.to_bytes())
    }
}

#[cfg(test)]
mod tests;
