//! The system that is explored: who is there, and what may happen.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::{collections::BTreeMap, fmt};

use kontiki_types::{ClientId, GroupId, Index, LogTime, Seq, Slot, Term};

use super::explore::System;
use super::tiny::Tiny;
use crate::{
    Command, Controller, Entry, Gate, GroupCommand, GroupRef, Holdings, ImportStage, ImportStatus,
    Limits, Move, MoveId, Op, Phase, Session, SlotSet, Source, Step, Tag, Then, Why, source_step,
    target_step,
};

/// How much of what may happen at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bounds {
    /// Increments of the client.
    pub(super) increments: u64,
    /// Moves, there and back.
    pub(super) moves: u8,
    /// Attempts given up, by the driver or by somebody.
    pub(super) aborts: u8,
    /// Changes of leaders.
    pub(super) changes: u8,
    /// Messages that arrive twice.
    pub(super) copies: u8,
    /// Whether leaders that were deposed go on for a while.
    pub(super) ghosts: bool,
    /// Whether the slot has no owner at first, and has to be given to group 1.
    pub(super) is_founded: bool,
    /// Whether changes are sent before the freeze, until none is left.
    pub(super) rounds: bool,
    /// Whether a leader may go on by what it was told before. Else it asks again for each step.
    pub(super) stale_answers: bool,
    /// Messages under way at a time. Whoever wants to send more has to wait.
    pub(super) messages: usize,
}

/// A part of the state that many states share.
struct Shared<T> {
    value: Rc<T>,
    hash: u64,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { value: Rc::clone(&self.value), hash: self.hash }
    }
}

impl<T: Hash> Shared<T> {
    fn new(value: T) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self { value: Rc::new(value), hash: hasher.finish() }
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A group: its replicated state, and what its leader has been told.
#[derive(Clone, Hash)]
struct Replica {
    holdings: Holdings,
    data: Tiny,
    term: Term,
    known: BTreeMap<MoveId, Move>,
    seen: BTreeMap<MoveId, ImportStatus>,
}

#[derive(Clone, Hash)]
enum Message {
    Group(GroupCommand),
    Controller(Op),
}

/// The state with another group, or with another deposed leader.
type With<'a> = dyn Fn(&dyn Fn(&mut Replica)) -> World + 'a;

#[derive(Clone)]
pub(super) struct World {
    controller: Shared<Controller>,
    /// The controller's log index: counts moves and attempts that were opened.
    index: u64,
    groups: [Shared<Replica>; 2],
    /// A leader that has been deposed, of which group, and does not know it.
    ghost: Option<(usize, Shared<Replica>)>,
    /// In the order of hashes.
    messages: Vec<Shared<Message>>,
    /// The increment that the client waits for.
    waits_for: u64,
    left: Bounds,
    bounds: Bounds,
    /// An acknowledgement that was wrong.
    wrong: Option<(u64, u64)>,
}

/// What has happened, for whoever reads how a violation came about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Label {
    Planned,
    Cancelling,
    Reads { by: usize, is_ghost: bool, id: MoveId },
    Steps { by: usize, is_ghost: bool, id: MoveId, is_late: bool },
    Arrives { at: usize, again: bool },
    Increment { to: usize, seq: u64, is_answered: bool },
    Deletes { by: usize },
    NewLeader { of: usize },
    GhostHears,
}

const SLOT: Slot = match Slot::new(7) {
    Some(slot) => slot,
    None => unreachable!(),
};

/// Where in the controller's log groups joined.
const JOINED: u64 = 1;

fn group(number: usize, is_founded: bool) -> GroupRef {
    // The first may have been there before the controller.
    let joined = if number == 0 && !is_founded { 0 } else { JOINED };
    GroupRef { id: GroupId(number as u32 + 1), joined }
}

fn slots() -> SlotSet {
    SlotSet::range(SLOT, SLOT)
}

impl World {
    /// Both groups are there; group 1 has every slot, or nobody has any.
    pub(super) fn new(bounds: Bounds, has_sums: bool) -> Self {
        let mut controller = match bounds.is_founded {
            true => Controller::new(),
            false => Controller::adopting(GroupId(1), Vec::new()),
        };
        let first = if bounds.is_founded { 1 } else { 2 };
        let groups = (first..=2).map(|id| (GroupId(id), Vec::new())).collect();
        controller.apply(Index(JOINED), &request(1, Op::Join { groups }));
        let group = |number| group(number, bounds.is_founded);
        let first = match bounds.is_founded {
            true => Holdings::new(group(0)),
            false => Holdings::of_everything(group(0)),
        };
        let replica = |holdings| {
            let (known, seen) = (BTreeMap::new(), BTreeMap::new());
            let data = Tiny::new(has_sums);
            Shared::new(Replica { holdings, data, term: Term(1), known, seen })
        };
        Self {
            controller: Shared::new(controller),
            index: JOINED,
            groups: [replica(first), replica(Holdings::new(group(1)))],
            ghost: None,
            messages: Vec::new(),
            waits_for: 1,
            left: bounds,
            bounds,
            wrong: None,
        }
    }

    fn with_group(&self, number: usize, change: impl FnOnce(&mut Replica)) -> Self {
        let mut next = self.clone();
        let mut replica = Replica::clone(&self.groups[number]);
        change(&mut replica);
        next.groups[number] = Shared::new(replica);
        next
    }

    fn with_ghost(&self, change: impl FnOnce(&mut Replica)) -> Self {
        let mut next = self.clone();
        if let Some((_, ghost)) = &mut next.ghost {
            let mut replica = Replica::clone(ghost);
            change(&mut replica);
            *ghost = Shared::new(replica);
        }
        next
    }

    fn has(&self, message: &Shared<Message>) -> bool {
        self.messages.iter().any(|other| other.hash == message.hash)
    }

    fn add(&mut self, message: Shared<Message>) {
        let at = self.messages.partition_point(|other| other.hash < message.hash);
        self.messages.insert(at, message);
    }

    /// The state with one more message, unless it is under way already or there are too many.
    fn sent(&self, message: Message) -> Option<Self> {
        let message = Shared::new(message);
        if self.has(&message) || self.messages.len() >= self.bounds.messages {
            return None;
        }
        let mut next = self.clone();
        next.add(message);
        Some(next)
    }

    fn operator(&self, out: &mut Vec<(Label, Self)>) {
        let owner = self.controller.configuration().owner(SLOT);
        let to = GroupId(if owner == Some(GroupId(1)) { 2 } else { 1 });
        if self.left.moves > 0 {
            let mut next = self.clone();
            next.left.moves -= 1;
            next.index += 1;
            let plan = request(next.index, Op::Plan { at: None, parts: vec![(slots(), to)] });
            let mut controller = Controller::clone(&self.controller);
            if let crate::Reply::Planned { .. } = controller.apply(Index(next.index), &plan) {
                next.controller = Shared::new(controller);
                out.push((Label::Planned, next));
            }
        }
        if self.left.aborts > 0 {
            for found in self.controller.moves().filter(|found| found.phase == Phase::Planned) {
                let abort = Op::Abort { tag: found.tag, then: Then::Cancel, why: Why::Asked };
                if let Some(mut next) = self.sent(Message::Controller(abort)) {
                    next.left.aborts -= 1;
                    out.push((Label::Cancelling, next));
                }
            }
        }
    }

    /// What the leader of a group may do, or one that was deposed.
    fn leader(&self, number: usize, is_ghost: bool, out: &mut Vec<(Label, Self)>) {
        let replica = self.replica(number, is_ghost);
        let with = |change: &dyn Fn(&mut Replica)| match is_ghost {
            true => self.with_ghost(change),
            false => self.with_group(number, change),
        };
        for found in self.controller.moves() {
            let id = found.tag.id;
            if self.bounds.stale_answers {
                let known = replica.known.get(&id);
                let may_ask = known.is_none_or(|known| {
                    known != found && matches!(self.step(replica, known, None, false), Step::Wait)
                });
                if may_ask && self.step(replica, found, None, false) != Step::Over {
                    let change = |replica: &mut Replica| {
                        replica.known.insert(id, found.clone());
                    };
                    out.push((Label::Reads { by: number, is_ghost, id }, with(&change)));
                }
            } else {
                let status = self.status_at_target(number, found.tag);
                self.steps(number, is_ghost, found, Some(&status), &with, out);
            }
        }
        for (id, known) in &replica.known {
            self.steps(number, is_ghost, known, replica.seen.get(id), &with, out);
        }
    }

    fn steps(
        &self,
        number: usize,
        is_ghost: bool,
        found: &Move,
        seen: Option<&ImportStatus>,
        with: &With<'_>,
        out: &mut Vec<(Label, Self)>,
    ) {
        let replica = self.replica(number, is_ghost);
        let id = found.tag.id;
        let what = self.step(replica, found, seen, false);
        if let Some(next) = self.carry_out(number, is_ghost, id, &what, with) {
            out.push((Label::Steps { by: number, is_ghost, id, is_late: false }, next));
        }
        if self.left.aborts > 0 && !is_ghost {
            let late = self.step(replica, found, seen, true);
            let next = (late != what).then(|| self.carry_out(number, false, id, &late, with));
            if let Some(mut next) = next.flatten() {
                next.left.aborts -= 1;
                out.push((Label::Steps { by: number, is_ghost, id, is_late: true }, next));
            }
        }
    }

    fn step(
        &self,
        replica: &Replica,
        found: &Move,
        seen: Option<&ImportStatus>,
        is_late: bool,
    ) -> Step {
        if found.to == replica.holdings.group() {
            return target_step(&replica.holdings, found);
        }
        let Ok(step) = source_step(&Source {
            holdings: &replica.holdings,
            data: &replica.data,
            term: replica.term,
            clock: LogTime(0),
            found,
            target: seen,
            is_late,
            // One key is little: as if the freeze came at once, changed or not.
            limits: Limits {
                chunk_bytes: 1,
                freeze_bytes: if self.bounds.rounds { 0 } else { 99 },
            },
        });
        step
    }

    fn replica(&self, number: usize, is_ghost: bool) -> &Replica {
        match &self.ghost {
            Some((_, ghost)) if is_ghost => ghost,
            _ => &self.groups[number],
        }
    }

    fn status_at_target(&self, number: usize, tag: Tag) -> ImportStatus {
        self.groups[1 - number].holdings.status(tag, &slots(), LogTime(0))
    }

    fn carry_out(
        &self,
        number: usize,
        is_ghost: bool,
        id: MoveId,
        step: &Step,
        with: &With<'_>,
    ) -> Option<Self> {
        match step {
            // What a deposed leader proposes is not committed; the rest of its wishes may be.
            Step::Propose(_) if is_ghost => None,
            Step::Propose(command) => self.sent(Message::Group(command.clone())),
            Step::Send(command) => {
                let forget = with(&|replica| {
                    replica.seen.remove(&id);
                });
                forget.sent(Message::Group(command.clone()))
            }
            Step::Tell(op) => {
                let forget = with(&|replica| {
                    replica.known.remove(&id);
                });
                forget.sent(Message::Controller(op.clone()))
            }
            Step::AskTarget(tag) => {
                let status = self.status_at_target(number, *tag);
                Some(with(&|replica| {
                    replica.seen.insert(id, status.clone());
                }))
            }
            Step::AskController(_) => Some(with(&|replica| {
                replica.known.remove(&id);
            })),
            Step::Wait | Step::Over => None,
        }
    }

    /// What a message brings about, each way it may go.
    fn arrive(&self, at: usize, out: &mut Vec<(Label, Self)>) {
        let message = self.messages[at].clone();
        let mut taken = self.clone();
        taken.messages.remove(at);
        let after = match &*message {
            Message::Group(command) => {
                let number = usize::from(command.group.id == GroupId(2));
                taken.with_group(number, |replica| {
                    let entry = Entry {
                        index: crate::SourceData::applied(&replica.data),
                        time: LogTime(0),
                    };
                    replica.holdings.apply(entry, command, &mut replica.data);
                })
            }
            Message::Controller(op) => {
                let opens = matches!(op, Op::Abort { .. });
                let index = Index(self.index + u64::from(opens));
                let command = Command { stamp: LogTime(0), session: None, op: op.clone() };
                let mut controller = Controller::clone(&self.controller);
                controller.apply(index, &command);
                let mut next = taken;
                if controller != *self.controller {
                    next.index = index.0;
                    next.controller = Shared::new(controller);
                }
                next
            }
        };
        if self.left.copies > 0 {
            let mut twice = after.clone();
            twice.left.copies -= 1;
            if !twice.has(&message) {
                twice.add(message.clone());
                out.push((Label::Arrives { at, again: true }, twice));
            }
        }
        out.push((Label::Arrives { at, again: false }, after));
    }

    /// An increment arrives at a group: one that the client waits for, or a copy of one that it has
    /// been answered long since.
    fn increment(&self, to: usize, seq: u64, out: &mut Vec<(Label, Self)>) {
        if self.groups[to].holdings.gate(SLOT) != Gate::Open {
            return;
        }
        let mut reply = None;
        let applied = self.with_group(to, |replica| reply = replica.data.increment(seq));
        if let Some(value) = reply.filter(|_| seq == self.waits_for) {
            let mut answered = applied.clone();
            answered.waits_for += 1;
            answered.wrong = (value != seq).then_some((seq, value));
            out.push((Label::Increment { to, seq, is_answered: true }, answered));
        }
        out.push((Label::Increment { to, seq, is_answered: false }, applied));
    }
}

fn ghost_of(is_ghost: bool) -> &'static str {
    if is_ghost { "the deposed leader of " } else { "" }
}

fn request(number: u64, op: Op) -> Command {
    let client = ClientId::default();
    let session = Session { client, seq: Seq(number), deadline: LogTime(0) };
    Command { stamp: LogTime(0), session: Some(session), op }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(command) => {
                write!(f, "{:?} {:?} for {:?}", command.op, command.tag, command.group)
            }
            Self::Controller(op) => write!(f, "{op:?}"),
        }
    }
}

impl System for World {
    type Label = Label;

    fn describe(&self, label: Label) -> String {
        let message = |at: usize| self.messages.get(at).map_or(String::new(), |m| m.to_string());
        match label {
            Label::Planned => "a move is planned".into(),
            Label::Cancelling => "somebody asks to cancel it".into(),
            Label::Reads { by, is_ghost, id } => {
                format!("{}{} reads {id:?} at the controller", ghost_of(is_ghost), by + 1)
            }
            Label::Steps { by, is_ghost, id, is_late } => {
                let replica = self.replica(by, is_ghost);
                let fresh = self.controller.moves().find(|found| found.tag.id == id);
                let found = replica.known.get(&id).or(fresh);
                let what = found.map(|found| {
                    let status = self.status_at_target(by, found.tag);
                    let fresh = (!self.bounds.stale_answers).then_some(&status);
                    self.step(replica, found, replica.seen.get(&id).or(fresh), is_late)
                });
                format!("{}{}: {what:?}", ghost_of(is_ghost), by + 1)
            }
            Label::Arrives { at, again: false } => format!("arrives: {}", message(at)),
            Label::Arrives { at, again: true } => {
                format!("arrives, not the last time: {}", message(at))
            }
            Label::Increment { to, seq, is_answered: true } => {
                format!("increment {seq} arrives at {} and is answered", to + 1)
            }
            Label::Increment { to, seq, is_answered: false } => {
                format!("increment {seq} arrives at {}, the answer is lost", to + 1)
            }
            Label::Deletes { by } => format!("{} deletes what is dead", by + 1),
            Label::NewLeader { of } => format!("{} has another leader", of + 1),
            Label::GhostHears => "the deposed leader hears that it is one".into(),
        }
    }

    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.controller.hash.hash(&mut hasher);
        self.index.hash(&mut hasher);
        self.groups.each_ref().map(|group| group.hash).hash(&mut hasher);
        self.ghost.as_ref().map(|(number, ghost)| (*number, ghost.hash)).hash(&mut hasher);
        self.messages.iter().for_each(|message| message.hash.hash(&mut hasher));
        (self.messages.len(), self.waits_for, self.left, self.wrong).hash(&mut hasher);
        hasher.finish()
    }

    fn next(&self) -> Vec<(Label, Self)> {
        let mut out = Vec::new();
        self.operator(&mut out);
        for number in 0..2 {
            self.leader(number, false, &mut out);
            for seq in 1..=self.waits_for.min(self.bounds.increments) {
                self.increment(number, seq, &mut out);
            }
            if !self.groups[number].data.dead.is_empty() {
                let next = self.with_group(number, |replica| replica.data.delete_dead());
                out.push((Label::Deletes { by: number }, next));
            }
            if self.left.changes > 0 {
                let mut next = self.with_group(number, Replica::change_leader);
                next.left.changes -= 1;
                if self.bounds.ghosts {
                    next.ghost = Some((number, self.groups[number].clone()));
                }
                out.push((Label::NewLeader { of: number }, next));
            }
        }
        if let Some((number, _)) = self.ghost {
            self.leader(number, true, &mut out);
            let next = Self { ghost: None, ..self.clone() };
            out.push((Label::GhostHears, next));
        }
        for at in 0..self.messages.len() {
            self.arrive(at, &mut out);
        }
        out
    }

    fn violation(&self) -> Option<String> {
        if let Some((seq, value)) = self.wrong {
            return Some(format!("increment {seq} was answered with {value}"));
        }
        let serves = |number: &usize| self.groups[*number].holdings.serving().contains(SLOT);
        let owners: Vec<usize> = (0..2).filter(serves).collect();
        if let [_, _] = owners[..] {
            return Some("two groups serve the slot".to_string());
        }
        if let [owner] = owners[..] {
            if self.controller.configuration().owner(SLOT) != Some(GroupId(owner as u32 + 1)) {
                return Some(format!("{} serves the slot of another group", owner + 1));
            }
            let value = self.groups[owner].data.content().value;
            let acknowledged = self.waits_for - 1;
            let asked_for = self.waits_for.min(self.bounds.increments);
            if value < acknowledged {
                return Some(format!("{acknowledged} increments acknowledged, {value} there"));
            }
            if value > asked_for {
                return Some(format!("{asked_for} increments asked for, {value} there"));
            }
        }
        let mut imports = self.groups.iter().flat_map(|group| group.holdings.imports());
        let differ = |stage| stage == ImportStage::Failed { why: Why::SumsDiffer };
        imports.any(|import| differ(import.stage)).then(|| "the sums differ".to_string())
    }

    fn is_finished(&self) -> bool {
        let is_idle = |group: &Shared<Replica>| {
            let holdings = &group.holdings;
            holdings.exports().len() + holdings.imports().len() == 0 && group.data.dead.is_empty()
        };
        self.waits_for > self.bounds.increments
            && self.messages.is_empty()
            && self.controller.moves().len() == 0
            && self.groups.iter().all(is_idle)
            && self.groups.iter().any(|group| group.holdings.gate(SLOT) == Gate::Open)
    }
}

impl Replica {
    /// The next leader has what is replicated, from its bytes, and nothing else.
    fn change_leader(&mut self) {
        self.term = self.term.next();
        self.known.clear();
        self.seen.clear();
        let bytes = self.holdings.to_bytes();
        self.holdings = Holdings::from_bytes(&bytes).expect("the bytes of a state are a state");
    }
}
