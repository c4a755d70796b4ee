//! The controller: the state machine of group 0, which says who owns which slot.
//!
//! It keeps the numbered history of configurations, and the moves under way. A slot changes hands
//! at one entry, [`Op::Commit`]; nothing else changes its owner.
//!
//! Invariants
//! - The number of the configuration rises by one with each change of owners or groups, or of the
//!   nodes that were removed, and with nothing else.
//! - A slot is in at most one move that [locks](Move) it.
//! - An attempt is committed or given up, never both, and only while it is the current one. So
//!   what a deposed leader of anything still asks for has no effect (PROTOCOL 10).
//! - A move is forgotten only when both groups have said that their part is over.
//! - Applying is a function of the log: an operator's request takes effect once by its session,
//!   everything else by the attempt that it names.

mod command;
mod configuration;
mod history;
mod moves;
mod sessions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kontiki_types::{Epoch, GroupId, Incarnation, Index, LogTime, NodeId, SLOTS, Slot};

pub use command::{Command, Op, Refusal, Reply, Session, Then, What};
pub use configuration::{Configuration, GONE_MAX, GroupEntry, Observed};
pub use history::HISTORY_MAX;
pub use moves::{Aborted, Committed, Finished, Move, Phase, Side, Why};
pub use sessions::{DEADLINE_MAX_MS, SESSIONS_MAX};

use crate::plant::{Plant, planted};
use crate::wire::{BadBytes, Reader, Wire, from_checked_bytes, to_checked_bytes, wire};
use crate::{Attempt, GroupRef, MoveId, SlotIncarnation, SlotSet, Tag};
use history::{Change, History};
use sessions::{Judged, Sessions};

/// Groups that there may be.
pub const GROUPS_MAX: usize = 4096;
/// Nodes of one group.
pub const NODES_PER_GROUP_MAX: usize = 32;
/// Moves under way, planned ones included: every slot set into parts of 4 slots.
pub const MOVES_MAX: usize = 4096;
/// Attempts of one move; more than that is not bad luck.
pub const ATTEMPTS_MAX: u32 = 1000;
/// Moves that are over whose end is remembered.
pub const FINISHED_MAX: usize = 4096;

/// Version of the byte form of the state.
const VERSION: u8 = 2;

/// The controller's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Controller {
    log_time: LogTime,
    history: History,
    observed: BTreeMap<GroupId, Observed>,
    moves: BTreeMap<MoveId, Move>,
    last_move: MoveId,
    finished: VecDeque<Finished>,
    sessions: Sessions,
}

wire!(struct Controller { log_time, history, observed, moves, last_move, finished, sessions });

/// What the controller says of a move.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MoveAnswer {
    /// It is under way.
    UnderWay(Move),
    /// It is over.
    Finished(Finished),
    /// It has not been opened, or its end is forgotten. Nobody may conclude anything from it.
    Unknown,
}

impl Wire for MoveAnswer {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::UnderWay(found) => {
                out.push(1);
                found.put(out);
            }
            Self::Finished(end) => {
                out.push(2);
                end.put(out);
            }
            Self::Unknown => out.push(3),
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, BadBytes> {
        match from.u8()? {
            1 => Move::take(from).map(Self::UnderWay),
            2 => Finished::take(from).map(Self::Finished),
            3 => Ok(Self::Unknown),
            kind => Err(BadBytes::Kind(kind)),
        }
    }
}

impl Default for Controller {
    fn default() -> Self {
        Self::new()
    }
}

impl Controller {
    /// Configuration 0: no group, no slot owned.
    pub fn new() -> Self {
        Self {
            log_time: LogTime(0),
            history: History::new(),
            observed: BTreeMap::new(),
            moves: BTreeMap::new(),
            last_move: MoveId(0),
            finished: VecDeque::new(),
            sessions: Sessions::default(),
        }
    }

    /// Configuration 1: one group, which has been there before there was a controller, owns every
    /// slot.
    pub fn adopting(group: GroupId, nodes: Vec<NodeId>) -> Self {
        let mut controller = Self::new();
        let entry = GroupEntry { joined: 0, nodes, is_leaving: false };
        controller.history.advance(Change {
            slots: vec![(SlotSet::all(), group)],
            groups: vec![(group, Some(entry))],
            gone: Vec::new(),
        });
        controller
    }

    /// Configuration 1: these groups, which begin together with the controller, share the slots
    /// evenly: each has what [`founding_slots`] says of its place.
    pub fn founding(groups: &[(GroupId, Vec<NodeId>)]) -> Self {
        let mut controller = Self::new();
        let count = groups.len();
        let slots = groups.iter().enumerate();
        let entry = |nodes: &Vec<NodeId>| {
            Some(GroupEntry { joined: 0, nodes: nodes.clone(), is_leaving: false })
        };
        controller.history.advance(Change {
            slots: slots.map(|(at, (id, _))| (founding_slots(at, count), *id)).collect(),
            groups: groups.iter().map(|(id, nodes)| (*id, entry(nodes))).collect(),
            gone: Vec::new(),
        });
        controller
    }

    /// Applies an operation that the host's log lets take effect once: it needs no session.
    pub fn decide(&mut self, index: Index, time: LogTime, op: &Op) -> Reply {
        self.log_time = self.log_time.max(time);
        self.reply(index, op)
    }

    /// Applies the entry at `index`, which rises from call to call.
    pub fn apply(&mut self, index: Index, command: &Command) -> Reply {
        self.log_time = self.log_time.max(command.stamp);
        let Some(session) = &command.session else {
            if command.op.needs_session() {
                return Reply::Refused { why: Refusal::NoSession };
            }
            return self.reply(index, &command.op);
        };
        match self.sessions.judge(session, self.log_time) {
            Judged::Answer(reply) => reply,
            Judged::Execute => {
                let reply = self.reply(index, &command.op);
                self.sessions.keep(session, &reply);
                reply
            }
        }
    }

    /// The current configuration.
    pub fn configuration(&self) -> &Configuration {
        self.history.latest()
    }

    /// Configuration `epoch`; `None` if there is none yet, or it is older than
    /// [`Controller::oldest`].
    pub fn configuration_at(&self, epoch: Epoch) -> Option<Configuration> {
        self.history.at(epoch)
    }

    /// The oldest configuration that can be asked for.
    pub fn oldest(&self) -> Epoch {
        self.history.oldest()
    }

    /// The moves under way, in the order in which they were opened.
    pub fn moves(&self) -> impl ExactSizeIterator<Item = &Move> {
        self.moves.values()
    }

    /// What is known of a move.
    pub fn answer(&self, id: MoveId) -> MoveAnswer {
        if let Some(found) = self.moves.get(&id) {
            return MoveAnswer::UnderWay(found.clone());
        }
        let finished = self.finished.iter().find(|finished| finished.id == id);
        finished.map_or(MoveAnswer::Unknown, |finished| MoveAnswer::Finished(*finished))
    }

    /// The members that a group's own log names, as last reported.
    pub fn observed(&self, group: GroupId) -> Option<&Observed> {
        self.observed.get(&group)
    }

    /// The members that groups' own logs name, as last reported.
    pub fn all_observed(&self) -> &BTreeMap<GroupId, Observed> {
        &self.observed
    }

    /// The log time.
    pub fn log_time(&self) -> LogTime {
        self.log_time
    }

    /// The state as bytes, with a version and a checksum.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_checked_bytes(VERSION, self)
    }

    /// The state that [`Controller::to_bytes`] gave.
    ///
    /// # Errors
    /// [`BadBytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadBytes> {
        let state: Self = from_checked_bytes(VERSION, bytes)?;
        let known = |(id, found): (&MoveId, &Move)| *id == found.tag.id && *id <= state.last_move;
        if !state.history.is_sound() || !state.moves.iter().all(known) {
            return Err(BadBytes::Broken("a controller's state that does not hold together"));
        }
        Ok(state)
    }

    fn reply(&mut self, index: Index, op: &Op) -> Reply {
        match self.execute(index, op) {
            Ok(first) => {
                self.remove_empty_leavers();
                let epoch = self.configuration().epoch;
                match first {
                    Some(first) => Reply::Planned { first, epoch },
                    None => Reply::Done { epoch },
                }
            }
            Err(why) => Reply::Refused { why },
        }
    }

    /// Answers the first move that was opened, if some were.
    fn execute(&mut self, index: Index, op: &Op) -> Result<Option<MoveId>, Refusal> {
        match op {
            Op::Join { groups } => self.join(index, groups)?,
            Op::Leave { groups } => self.leave(groups)?,
            Op::Want { group, instead_of, nodes } => self.want(*group, instead_of, nodes)?,
            Op::Observe { group, at, nodes } => {
                self.check_ref(*group)?;
                check_nodes(nodes)?;
                if self.observed.get(&group.id).is_none_or(|known| known.at < *at) {
                    self.observed.insert(group.id, Observed { at: *at, nodes: nodes.clone() });
                }
            }
            Op::Plan { at, parts } => return self.plan(index, *at, parts).map(Some),
            Op::Commit { tag } => self.commit(*tag)?,
            Op::Abort { tag, then, why } => self.abort(index, *tag, *then, *why)?,
            Op::Closed { tag, side } => self.close(*tag, *side)?,
            Op::Forget { node, incarnation } => self.forget(*node, *incarnation)?,
            Op::Split { tag, keep } => self.split(index, *tag, keep)?,
        }
        Ok(None)
    }

    fn join(&mut self, index: Index, groups: &[(GroupId, Vec<NodeId>)]) -> Result<(), Refusal> {
        let ids: BTreeSet<GroupId> = groups.iter().map(|(id, _)| *id).collect();
        if groups.is_empty() || ids.len() < groups.len() || ids.contains(&GroupId(0)) {
            return Err(Refusal::Malformed);
        }
        let mut changed = Vec::new();
        for (id, nodes) in groups {
            check_nodes(nodes)?;
            let joined = match self.configuration().group(*id) {
                Some(group) if !group.is_leaving => {
                    return Err(Refusal::GroupExists { group: *id });
                }
                Some(group) => group.joined,
                None => index.0,
            };
            let entry = GroupEntry { joined, nodes: nodes.clone(), is_leaving: false };
            changed.push((*id, Some(entry)));
        }
        let new = groups.iter().filter(|(id, _)| self.configuration().group(*id).is_none());
        if self.configuration().groups.len() + new.count() > GROUPS_MAX {
            return Err(Refusal::TooMany { what: What::Groups, most: GROUPS_MAX as u64 });
        }
        self.history.advance(Change { groups: changed, ..Change::default() });
        Ok(())
    }

    fn leave(&mut self, groups: &[GroupId]) -> Result<(), Refusal> {
        let ids: BTreeSet<GroupId> = groups.iter().copied().collect();
        if groups.is_empty() || ids.len() < groups.len() {
            return Err(Refusal::Malformed);
        }
        let mut changed = Vec::new();
        for id in groups {
            let group = self.configuration().group(*id).ok_or(Refusal::NoGroup { group: *id })?;
            if group.is_leaving {
                return Err(Refusal::Leaving { group: *id });
            }
            changed.push((*id, Some(GroupEntry { is_leaving: true, ..group.clone() })));
        }
        let stays = |(id, group): (GroupId, &GroupEntry)| !group.is_leaving && !ids.contains(&id);
        if !self.configuration().groups().any(stays) {
            return Err(Refusal::LastGroup);
        }
        self.history.advance(Change { groups: changed, ..Change::default() });
        Ok(())
    }

    fn want(
        &mut self,
        group: GroupRef,
        instead_of: &[NodeId],
        nodes: &[NodeId],
    ) -> Result<(), Refusal> {
        let entry = self.check_ref(group)?;
        check_nodes(nodes)?;
        if entry.nodes != instead_of {
            return Err(Refusal::WishChanged { group: group.id });
        }
        let entry = GroupEntry { nodes: nodes.to_vec(), ..entry.clone() };
        let groups = vec![(group.id, Some(entry))];
        self.history.advance(Change { groups, ..Change::default() });
        Ok(())
    }

    fn plan(
        &mut self,
        index: Index,
        at: Option<Epoch>,
        parts: &[(SlotSet, GroupId)],
    ) -> Result<MoveId, Refusal> {
        let configuration = self.configuration();
        let epoch = configuration.epoch;
        if at.is_some_and(|at| at != epoch) {
            return Err(Refusal::OtherEpoch { epoch });
        }
        if parts.is_empty() || parts.iter().any(|(slots, _)| slots.is_empty()) {
            return Err(Refusal::Malformed);
        }
        if self.moves.len() + parts.len() > MOVES_MAX {
            return Err(Refusal::TooMany { what: What::Moves, most: MOVES_MAX as u64 });
        }
        let mut opened: Vec<Move> = Vec::new();
        for (slots, to) in parts {
            let group = configuration.group(*to).ok_or(Refusal::NoGroup { group: *to })?;
            if group.is_leaving {
                return Err(Refusal::Leaving { group: *to });
            }
            let locked = self.moves.values().filter(|other| other.locks()).chain(&opened);
            for other in locked {
                if let Some(slot) = other.slots.first_common(slots) {
                    return Err(Refusal::InMove { slot, id: other.tag.id });
                }
            }
            let owner = configuration.one_owner(slots);
            let from = owner.map_err(|slot| Refusal::TwoOwners { slot })?;
            if from == Some(*to) {
                return Err(Refusal::AlreadyThere { group: *to });
            }
            let id = MoveId(self.last_move.0 + 1 + opened.len() as u64);
            opened.push(Move {
                tag: Tag { epoch, id, attempt: Attempt::FIRST },
                slots: slots.clone(),
                from: from.and_then(|from| configuration.group_ref(from)),
                to: GroupRef { id: *to, joined: group.joined },
                incarnation: SlotIncarnation(index.0),
                phase: Phase::Planned,
                source_closed: false,
                target_closed: false,
                opened: self.log_time,
                part_of: id,
            });
        }
        let first = self.last_move.0 + 1;
        let mut founded = Vec::new();
        for mut new in opened {
            if new.from.is_none() {
                new.phase = Phase::Committed;
                new.source_closed = true;
                founded.push((new.slots.clone(), new.to.id));
            }
            self.last_move = new.tag.id;
            self.moves.insert(new.tag.id, new);
        }
        if !founded.is_empty() {
            self.history.advance(Change { slots: founded, ..Change::default() });
        }
        Ok(MoveId(first))
    }

    /// The move whose current attempt is `tag`, while it is undecided.
    fn current(&mut self, tag: Tag) -> Result<&mut Move, Refusal> {
        let id = tag.id;
        let found = self.moves.get_mut(&id).ok_or(Refusal::NoMove { id })?;
        let is_current = found.tag == tag || planted(Plant::CommitOfOldAttempt);
        if is_current && matches!(found.phase, Phase::Planned) {
            Ok(found)
        } else {
            Err(Refusal::NotCurrent { id })
        }
    }

    fn commit(&mut self, tag: Tag) -> Result<(), Refusal> {
        let found = self.current(tag)?;
        found.phase = Phase::Committed;
        let slots = vec![(found.slots.clone(), found.to.id)];
        self.history.advance(Change { slots, ..Change::default() });
        Ok(())
    }

    fn abort(&mut self, index: Index, tag: Tag, then: Then, why: Why) -> Result<(), Refusal> {
        let (epoch, now) = (self.configuration().epoch, self.log_time);
        let found = self.current(tag)?;
        match then {
            Then::Cancel => found.phase = Phase::Cancelled { why },
            Then::Retry if found.tag.attempt.0 >= ATTEMPTS_MAX => {
                found.phase = Phase::Cancelled { why };
            }
            Then::Retry => {
                found.tag = Tag { epoch, attempt: found.tag.attempt.next(), ..found.tag };
                found.incarnation = SlotIncarnation(index.0);
                found.opened = now;
            }
        }
        Ok(())
    }

    /// Both parts are attempts of their own: an entry of the attempt that was split has no effect on
    /// either, however late it comes.
    fn split(&mut self, index: Index, tag: Tag, keep: &SlotSet) -> Result<(), Refusal> {
        let (epoch, now) = (self.configuration().epoch, self.log_time);
        if self.moves.len() >= MOVES_MAX {
            return Err(Refusal::TooMany { what: What::Moves, most: MOVES_MAX as u64 });
        }
        let last = self.last_move;
        let found = self.current(tag)?;
        if found.tag.attempt.0 >= ATTEMPTS_MAX {
            return Err(Refusal::TooMany { what: What::Attempts, most: ATTEMPTS_MAX.into() });
        }
        let rest = found.slots.without(keep);
        if keep.is_empty() || rest.is_empty() || rest.len() + keep.len() != found.slots.len() {
            return Err(Refusal::Malformed);
        }
        let id = MoveId(last.0 + 1);
        let (attempt, incarnation) = (found.tag.attempt.next(), SlotIncarnation(index.0));
        found.tag = Tag { epoch, attempt, ..found.tag };
        (found.slots, found.incarnation, found.opened) = (keep.clone(), incarnation, now);
        let tag = Tag { epoch, id, attempt: Attempt::FIRST };
        let other = Move { tag, slots: rest, ..found.clone() };
        self.last_move = id;
        self.moves.insert(id, other);
        Ok(())
    }

    fn close(&mut self, tag: Tag, side: Side) -> Result<(), Refusal> {
        let id = tag.id;
        let found = self.moves.get_mut(&id).ok_or(Refusal::NoMove { id })?;
        if found.tag != tag || matches!(found.phase, Phase::Planned) {
            return Err(Refusal::NotCurrent { id });
        }
        match side {
            Side::Source => found.source_closed = true,
            Side::Target => found.target_closed = true,
        }
        let is_done = matches!(found.phase, Phase::Committed);
        if found.is_closed() {
            self.moves.remove(&id);
            let epoch = self.configuration().epoch;
            self.finished.push_back(Finished { id, is_done, epoch });
            if self.finished.len() > FINISHED_MAX {
                self.finished.pop_front();
            }
        }
        Ok(())
    }

    fn forget(&mut self, node: NodeId, incarnation: Incarnation) -> Result<(), Refusal> {
        let wanted = self.configuration().groups().map(|(id, group)| (id, &group.nodes));
        let observed = self.observed.iter().map(|(id, observed)| (*id, &observed.nodes));
        let needs = wanted.chain(observed).find(|(_, nodes)| nodes.contains(&node));
        if let Some((group, _)) = needs {
            return Err(Refusal::NodeInUse { node, group });
        }
        if !self.configuration().is_gone(node, incarnation) {
            let gone = vec![(node, incarnation)];
            self.history.advance(Change { gone, ..Change::default() });
        }
        Ok(())
    }

    /// A group that is about to leave is gone when it owns no slot and no move needs it.
    fn remove_empty_leavers(&mut self) {
        let configuration = self.configuration();
        let leaving = configuration.groups().filter(|(_, group)| group.is_leaving);
        let gone: Vec<GroupId> = leaving
            .map(|(id, _)| id)
            .filter(|id| configuration.slots_of(Some(*id)).is_empty())
            .filter(|id| {
                let needs = |found: &Move| {
                    found.to.id == *id || found.from.is_some_and(|from| from.id == *id)
                };
                !self.moves.values().any(needs)
            })
            .collect();
        for id in gone {
            self.observed.remove(&id);
            let groups = vec![(id, None)];
            self.history.advance(Change { groups, ..Change::default() });
        }
    }

    fn check_ref(&self, group: GroupRef) -> Result<&GroupEntry, Refusal> {
        let entry = self.configuration().group(group.id);
        let entry = entry.filter(|entry| entry.joined == group.joined);
        entry.ok_or(Refusal::NoGroup { group: group.id })
    }
}

/// The slots of the group at place `at` of `count` that share all of them: neighbours, as many as
/// every other one has, give or take one.
pub fn founding_slots(at: usize, count: usize) -> SlotSet {
    let first = |at: usize| (usize::from(SLOTS) * at).checked_div(count).unwrap_or_default();
    (first(at)..first(at + 1)).filter_map(|slot| Slot::new(slot.try_into().ok()?)).collect()
}

fn check_nodes(nodes: &[NodeId]) -> Result<(), Refusal> {
    if nodes.len() > NODES_PER_GROUP_MAX {
        return Err(Refusal::TooMany { what: What::Nodes, most: NODES_PER_GROUP_MAX as u64 });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
