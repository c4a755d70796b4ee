//! What the groups of a sharded store are told and asked, as bytes.
//!
//! The host's log makes a [`Call`] take effect once, however often it is sent; a [`Query`] is
//! answered from one state, behind a read index. Every group takes every form: one that is about
//! another kind of group is answered by [`Told::Elsewhere`] and [`Answer::Elsewhere`].
//!
//! | to | call | query |
//! |---|---|---|
//! | the controller | [`Call::Decide`] | [`Query::Configuration`], [`Query::Overview`], [`Query::Moves`], [`Query::Move`], [`Query::Duties`] |
//! | a data group | [`Call::Carry`] | [`Query::Import`], [`Query::Holdings`] |
//! | a group without a steward | [`Call::Share`] | |

use std::collections::BTreeMap;

use kontiki_types::{Epoch, GroupId, LogTime, NodeId};

use crate::wire::{BadBytes, from_bytes, to_bytes, wire};
use crate::{
    Configuration, Export, GroupCommand, GroupRef, Import, ImportStatus, Move, MoveAnswer, MoveId,
    Observed, Op, Reply, SlotSet, Tag, Verdict,
};

/// Version of the byte forms.
const VERSION: u8 = 1;

/// What a group is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// The controller is to do this.
    Decide {
        /// What.
        op: Op,
    },
    /// A data group is to do its part of a move.
    Carry {
        /// What.
        command: GroupCommand,
    },
    /// A group that has had every slot, since there was no controller, is to share from here on: it
    /// has every slot still, and can give them away.
    Share {
        /// What it is called.
        group: GroupRef,
        /// The node that begins the controller: the first call decides, and no other node may.
        controller: NodeId,
    },
}

/// What a group answers to a [`Call`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// The controller's reply.
    Decided {
        /// The reply.
        reply: Reply,
        /// Of an operation that names an attempt: what is known of its move then, so that nobody has
        /// to ask while slots are frozen.
        found: Option<MoveAnswer>,
    },
    /// What came of the command.
    Carried {
        /// Whether it had an effect.
        verdict: Verdict,
        /// How far the import of that attempt is here.
        status: ImportStatus,
    },
    /// The group shares.
    Shares {
        /// What it is called: what was asked for, unless it had shared before.
        group: GroupRef,
        /// The node that begins the controller, as the first call said; `None` if the group was not
        /// there before the controller.
        controller: Option<NodeId>,
    },
    /// The group is not of the kind that does such a thing.
    Elsewhere,
}

/// What a group is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// A configuration.
    Configuration {
        /// Which; `None` for the latest.
        at: Option<Epoch>,
    },
    /// The latest configuration, the moves under way and the members last reported.
    Overview,
    /// The moves under way.
    Moves,
    /// A move.
    Move {
        /// Which.
        id: MoveId,
    },
    /// What concerns some groups, for those who lead them.
    Duties {
        /// The groups.
        groups: Vec<GroupId>,
    },
    /// How far the import of an attempt is.
    Import {
        /// The attempt.
        tag: Tag,
        /// What moves.
        slots: SlotSet,
    },
    /// What the group has, gives and takes.
    Holdings,
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The configuration.
    Configuration {
        /// `None` if it is forgotten, or does not exist yet.
        found: Option<Configuration>,
        /// The oldest one that can be asked for.
        oldest: Epoch,
    },
    /// All at one moment.
    Overview {
        /// The latest configuration.
        configuration: Configuration,
        /// The moves under way, in the order in which they were opened.
        moves: Vec<Move>,
        /// The members last reported of groups.
        observed: BTreeMap<GroupId, Observed>,
        /// The controller's log time.
        log_time: LogTime,
    },
    /// The moves under way, in the order in which they were opened.
    Moves {
        /// The moves.
        moves: Vec<Move>,
    },
    /// The move.
    Move {
        /// What is known of it.
        found: MoveAnswer,
    },
    /// What is to be done.
    Duties {
        /// The latest configuration.
        epoch: Epoch,
        /// Moves of one of the groups that are to go on now ([`crate::balance::may_go_on`]).
        moves: Vec<Move>,
    },
    /// The import.
    Import {
        /// How far it is.
        status: ImportStatus,
    },
    /// What the group has.
    Holdings {
        /// What it is called.
        group: GroupRef,
        /// The slots that it serves.
        serving: SlotSet,
        /// What it gives.
        exports: Vec<Export>,
        /// What it takes.
        imports: Vec<Import>,
        /// The node that begins the controller, if the group was there before it.
        controller: Option<NodeId>,
    },
    /// The group is not of the kind that knows.
    Elsewhere,
}

wire!(enum Call { 1 => Decide { op }, 2 => Carry { command }, 3 => Share { group, controller } });
wire!(enum Told {
    1 => Decided { reply, found },
    2 => Carried { verdict, status },
    3 => Shares { group, controller },
    4 => Elsewhere {},
});
wire!(enum Query {
    1 => Configuration { at },
    2 => Overview {},
    3 => Moves {},
    4 => Move { id },
    5 => Duties { groups },
    6 => Import { tag, slots },
    7 => Holdings {},
});
wire!(enum Answer {
    1 => Configuration { found, oldest },
    2 => Overview { configuration, moves, observed, log_time },
    3 => Moves { moves },
    4 => Move { found },
    5 => Duties { epoch, moves },
    6 => Import { status },
    7 => Holdings { group, serving, exports, imports, controller },
    8 => Elsewhere {},
});

/// The byte form of a type: what is written, and what is read.
macro_rules! byte_form {
    ($($type:ident),*) => {$(
        impl $type {
            /// The byte form.
            pub fn to_bytes(&self) -> Vec<u8> {
                to_bytes(VERSION, self)
            }

            /// Reads the byte form.
            ///
            /// # Errors
            /// [`BadBytes`] for anything else than what `to_bytes` gives.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadBytes> {
                from_bytes(VERSION, bytes)
            }
        }
    )*};
}

byte_form!(Call, Told, Query, Answer);

#[cfg(test)]
mod tests {
    use kontiki_types::Slot;

    use super::*;
    use crate::{Controller, Holdings};

    #[test]
    fn calls_queries_and_answers_survive_their_bytes() {
        let group = GroupRef { id: GroupId(3), joined: 7 };
        let op = Op::Join { groups: vec![(GroupId(2), vec![NodeId(1), NodeId(9)])] };
        for call in [Call::Decide { op }, Call::Share { group, controller: NodeId(3) }] {
            let bytes = call.to_bytes();
            assert_eq!(Call::from_bytes(&bytes), Ok(call));
            for end in 0..bytes.len() {
                assert!(Call::from_bytes(&bytes[..end]).is_err());
            }
        }
        let slots = SlotSet::range(Slot::new(3).unwrap(), Slot::new(9).unwrap());
        let query = Query::Import { tag: Tag::default(), slots: slots.clone() };
        assert_eq!(Query::from_bytes(&query.to_bytes()), Ok(query));
        let status = Holdings::new(group).status(Tag::default(), &slots, LogTime(5));
        let told = Told::Carried { verdict: Verdict::Void(crate::Void::Old), status };
        assert_eq!(Told::from_bytes(&told.to_bytes()), Ok(told));
        let controller = Controller::adopting(GroupId(1), vec![NodeId(4)]);
        let found = Some(controller.configuration().clone());
        let answer = Answer::Configuration { found, oldest: Epoch(0) };
        assert_eq!(Answer::from_bytes(&answer.to_bytes()), Ok(answer));
    }
}
