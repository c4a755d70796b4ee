//! The operator of the slots: has them moved there and back, exchanged, spread evenly, and changes
//! his mind, by the means that users have: calls to the controller under a session of his own, sent
//! again until they are answered.

use std::time::Duration;

use kontiki_replica::steward::{self, CONTROLLER};
use kontiki_replica::{Answer, Ask, FIRST_GROUP, RETENTION_MILLIS, SessionWrite, Target};
use kontiki_shard::balance::{self, Cut, Loads};
use kontiki_shard::{
    Answer as Said, Call, Configuration, GroupRef, Move, Op, Phase, Query, Reply, SlotSet, Then,
    Told, Why,
};
use kontiki_types::{ClientId, GroupId, Incarnation, Instant, LogTime, NodeId, Seq, Slot};

use super::books::Books;
use super::meddler::Meddler;
use super::plan::Fault;
use super::{Alarm, Swarm, plan};
use crate::invariants::Violation;
use crate::random::Random;
use crate::store_cluster::{Answered, MoveStep, Stepped};

/// What the operator of the slots wants.
#[derive(Clone, Debug)]
enum Errand {
    /// The slots go from group to group, so often, as often as not back to where they were.
    Wander { slots: SlotSet, hops: u32, before: Option<GroupId> },
    /// Two groups give each other slots at once.
    Exchange { pairs: u32 },
    /// Every group has as many slots as the others.
    Rebalance,
    /// A move is cancelled on its way.
    Cancel,
    /// A group gives everything away and is gone.
    Leave,
    /// Another group comes, and gets its share.
    Join,
}

/// A call under way.
#[derive(Debug)]
struct Sent {
    ask: Asked,
    ticket: Option<u64>,
    /// When it is sent again, to another node.
    again: Instant,
    give_up: Instant,
}

#[derive(Clone, Debug)]
enum Asked {
    /// The overview.
    Overview,
    /// This is told, for the errand at that place.
    Told(SessionWrite, usize),
    /// The one group that there is shall share its slots.
    Share(SessionWrite),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Mover {
    random: Random,
    session: ClientId,
    seq: u64,
    errands: Vec<(Instant, Errand)>,
    sent: Option<Sent>,
    /// Moves under way when this was last asked, after the errands had ended.
    left: Option<Vec<Move>>,
    /// How much trouble may yet be made at steps of moves.
    strikes: u64,
    /// Moves that were opened.
    pub(super) opened: u64,
    /// How often each step was seen, in the order of [`MoveStep::ALL`].
    pub(super) steps: [u64; MoveStep::ALL.len()],
    /// And how often one was met by trouble.
    pub(super) struck: [u64; MoveStep::ALL.len()],
}

/// The operator looks so often.
const TICK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));
/// How long a call may take before it is sent to another node.
const ATTEMPT: Duration = Duration::from_millis(1200);
/// An answer that says that nothing was done is followed by another try after this.
const SOON: Duration = Duration::from_millis(100);
/// When the outcome of a call is not waited for any longer: nobody remembers it then.
const GIVE_UP: Duration = Duration::from_secs(20);

impl Mover {
    pub(super) fn new(seed: u64, start: Instant) -> Self {
        let mut random = Random::new(seed ^ 0x510f);
        let mut random = random.fork();
        let session =
            ClientId { incarnation: Incarnation(random.number()), boot: 0, connection: 0x510f };
        let window = plan::FAULTS_UNTIL - plan::FAULTS_FROM;
        let count = random.between(3, 6);
        let errands = (0..count).map(|at| {
            let wait = if at == 0 {
                random.time(Duration::from_millis(300), Duration::from_secs(2))
            } else {
                plan::FAULTS_FROM / 2 + random.time(Duration::ZERO, window)
            };
            let errand = match random.below(14) {
                0..6 => wander(&mut random),
                6..8 => Errand::Exchange { pairs: random.between(1, 3) as u32 },
                8 => Errand::Rebalance,
                9 => Errand::Leave,
                10..12 => Errand::Join,
                _ => Errand::Cancel,
            };
            (start + wait, if at == 0 { wander(&mut random) } else { errand })
        });
        let errands = errands.collect();
        let strikes = random.between(0, 6);
        Self {
            random,
            session,
            seq: 0,
            errands,
            sent: None,
            left: None,
            strikes,
            opened: 0,
            steps: [0; MoveStep::ALL.len()],
            struck: [0; MoveStep::ALL.len()],
        }
    }

    /// Whether nothing is left to do, and every move has ended.
    pub(super) fn is_done(&self) -> bool {
        self.errands.is_empty()
            && self.sent.is_none()
            && self.left.as_ref().is_some_and(|left| left.is_empty())
    }

    /// The moves that were under way when this was last asked.
    pub(super) fn left(&self) -> &[Move] {
        self.left.as_deref().unwrap_or_default()
    }

    /// What to tell the controller for the errand at `at`, if its time has come.
    fn decide(
        &mut self,
        at: usize,
        known: &Configuration,
        moves: &[Move],
        free: Option<GroupId>,
    ) -> Option<Op> {
        let random = &mut self.random;
        let plan = |parts| Some(Op::Plan { at: Some(known.epoch()), parts });
        let (_, errand) = self.errands.get(at)?;
        match errand {
            Errand::Wander { slots, before, .. } => {
                if moves.iter().any(|other| locks(other) && common(&other.slots, slots)) {
                    return None;
                }
                let from = known.owner(slots.first()?)?;
                let of_one = slots.iter().filter(|&slot| known.owner(slot) == Some(from));
                let others = staying(known, Some(from));
                let back = before.filter(|to| others.contains(to) && random.chance(700));
                let to = back.or_else(|| random.pick(&others).copied())?;
                plan(vec![(of_one.collect(), to)])
            }
            Errand::Exchange { .. } => {
                let groups = staying(known, None);
                let one = *random.pick(&groups)?;
                let other = *random.pick(&staying(known, Some(one)))?;
                let mut parts = Vec::new();
                for (from, to) in [(one, other), (other, one)] {
                    let slots = known.slots_of(Some(from));
                    let of_family = |slot: &Slot| slots.contains(*slot);
                    let families: Vec<_> = family_slots().into_iter().filter(of_family).collect();
                    let mut part: Vec<Slot> = random.pick(&families).copied().into_iter().collect();
                    let more = random.between(1, 40) as usize;
                    part.extend(slots.iter().skip(random.below(4000) as usize).take(more));
                    let part: SlotSet = part.into_iter().collect();
                    if part.is_empty() || moves.iter().any(|other| common(&other.slots, &part)) {
                        return None;
                    }
                    parts.push((part, to));
                }
                plan(parts)
            }
            Errand::Rebalance => {
                let parts = balance::plan(known, moves.iter(), &Loads::new());
                let most = Cut { slots_max: 2000, ..Cut::default() };
                let parts = balance::cut(&parts, &Loads::new(), most);
                if parts.is_empty() { None } else { plan(parts) }
            }
            Errand::Cancel => {
                let planned = moves.iter().filter(|it| matches!(it.phase, Phase::Planned));
                let tags: Vec<_> = planned.map(|it| it.tag).collect();
                let tag = *random.pick(&tags)?;
                let then = if random.chance(700) { Then::Cancel } else { Then::Retry };
                Some(Op::Abort { tag, then, why: Why::Asked })
            }
            Errand::Leave => {
                let groups = staying(known, None);
                let group = *random.pick(&groups).filter(|_| groups.len() > 1)?;
                Some(Op::Leave { groups: vec![group] })
            }
            Errand::Join => {
                let (_, other) = known.groups().next()?;
                Some(Op::Join { groups: vec![(free?, other.nodes.clone())] })
            }
        }
    }

    /// The controller has said what came of an errand.
    fn hears(&mut self, at: usize, told: &Told, now: Instant) {
        let Told::Decided { reply, .. } = told else { return };
        if at >= self.errands.len() {
            return;
        }
        match (reply, &mut self.errands[at].1) {
            (Reply::Planned { .. }, Errand::Wander { hops, .. }) if *hops > 1 => *hops -= 1,
            (Reply::Planned { .. }, Errand::Exchange { pairs }) if *pairs > 1 => *pairs -= 1,
            (Reply::Done { .. }, Errand::Leave | Errand::Join) => {
                self.errands[at].1 = Errand::Rebalance;
            }
            (Reply::Planned { .. } | Reply::Done { .. }, _) => {
                self.errands.remove(at);
            }
            // Somebody was faster.
            (Reply::Refused { .. } | Reply::Unknown | Reply::Busy, _) => {
                self.errands[at].0 = now + SOON;
            }
        }
        if let Reply::Planned { .. } = reply {
            self.opened += 1;
        }
    }

    fn write(&mut self, op: Op, log_time: LogTime) -> SessionWrite {
        self.call(&Call::Decide { op }, log_time)
    }

    fn call(&mut self, call: &Call, log_time: LogTime) -> SessionWrite {
        let write = steward::tell(call);
        self.seq += 1;
        SessionWrite::of(&write, self.session, Seq(self.seq), log_time)
    }
}

/// What a write under a session's stamp is like.
pub(super) trait OfSession {
    fn of(write: &kontiki_kv::command::Write, client: ClientId, seq: Seq, now: LogTime) -> Self;
}

impl OfSession for SessionWrite {
    fn of(write: &kontiki_kv::command::Write, client: ClientId, seq: Seq, now: LogTime) -> Self {
        let mut command = Vec::new();
        write.encode(&mut command);
        let request = kontiki_kv::WriteRequest {
            client,
            seq,
            low: seq,
            deadline: LogTime(now.0 + RETENTION_MILLIS),
            after: None,
            slot: write.home_slot(),
            command: command.into(),
        };
        let proposal = kontiki_kv::Proposal::write(LogTime(0), request).to_bytes();
        Self { client, seq, proposal }
    }
}

/// Slots with keys that clients use.
fn family_slots() -> Vec<Slot> {
    Books::keys().iter().map(|key| Slot::of(key.as_bytes())).collect()
}

fn wander(random: &mut Random) -> Errand {
    let families = family_slots();
    let mut slots: Vec<Slot> = Vec::new();
    for _ in 0..random.between(1, 3) {
        slots.extend(random.pick(&families));
    }
    let more = random.below(60) as u16;
    let first = slots.first().map_or(0, |slot| slot.get());
    slots.extend((first..first.saturating_add(more)).filter_map(Slot::new));
    let slots = slots.into_iter().collect();
    Errand::Wander { slots, hops: random.between(1, 6) as u32, before: None }
}

fn common(one: &SlotSet, other: &SlotSet) -> bool {
    one.first_common(other).is_some()
}

/// Whether no other move may have the slots yet.
fn locks(found: &Move) -> bool {
    match found.phase {
        Phase::Planned => true,
        Phase::Committed => !found.target_closed,
        Phase::Cancelled { .. } => !found.source_closed,
    }
}

/// The groups that take slots, but one.
fn staying(known: &Configuration, but: Option<GroupId>) -> Vec<GroupId> {
    let staying = known.groups().filter(|(_, group)| !group.is_leaving);
    staying.map(|(id, _)| id).filter(|id| Some(*id) != but).collect()
}

impl Swarm {
    /// The operator of the slots begins.
    pub(super) fn begin_moves(&mut self) {
        if self.plan.config.is_sharded() {
            self.mover = Some(Mover::new(self.plan.seed, self.start));
            self.meddler = Some(Meddler::new(self.plan.seed));
            if self.plan.config.may_share {
                let mut random = Random::new(self.plan.seed ^ 0x54a2e);
                let wait = random.time(Duration::from_millis(500), Duration::from_secs(8));
                self.founder.share_at(self.start + wait);
                // With one group nothing can move.
                let joins = [Errand::Join, Errand::Join].map(|join| (self.start + wait, join));
                self.mover.iter_mut().for_each(|mover| mover.errands.extend(joins.clone()));
            }
            self.cluster.watch_for_steps(true);
            self.set(self.start, Alarm::Mover);
        }
    }

    /// No move is asked for any more; those under way are to end.
    pub(super) fn end_moves(&mut self) {
        if let Some(mover) = &mut self.mover {
            if self.plan.config.may_share {
                self.founder.share_at(self.cluster.now());
            }
            mover.strikes = 0;
            self.meddler = None;
            // Who is told to leave is to be left without slots.
            mover.errands.clear();
            mover.errands.push((self.cluster.now(), Errand::Rebalance));
        }
    }

    /// Whether every move has ended, and none is wanted.
    pub(super) fn moves_are_over(&self) -> bool {
        self.mover.as_ref().is_none_or(Mover::is_done) && self.unsettled().is_empty()
    }

    /// The operator of the slots looks at what is to be done.
    pub(super) fn move_slots(&mut self) {
        let now = self.cluster.now();
        self.tend_groups();
        let Some(mover) = &mut self.mover else { return };
        let wait = mover.random.time(TICK.0, TICK.1);
        let is_idle = mover.sent.is_none();
        let (again, give_up) = (now, now + GIVE_UP);
        let sent = |ask| Some(Sent { ask, ticket: None, again, give_up });
        if self.plan.config.may_share && self.cluster.configuration().is_none() {
            // A disk that was tampered with may be refused at a start as long as there are faults.
            let is_over = self.meddler.is_none();
            let (cluster, suspects) = (&self.cluster, &self.atlas.suspects);
            let is_sound = |node: NodeId| {
                !cluster.is_excused(node)
                    || is_over && !suspects.contains(&node) && !self.swapped.contains(&node)
            };
            if is_idle && let Some(node) = self.founder.shares(now, cluster, is_sound) {
                let group = GroupRef { id: FIRST_GROUP, joined: 0 };
                let call = Call::Share { group, controller: node };
                let log_time = self.cluster.log_time_of(node).unwrap_or(LogTime(0));
                mover.sent = sent(Asked::Share(mover.call(&call, log_time)));
            }
        } else if is_idle && !mover.is_done() {
            mover.sent = sent(Asked::Overview);
        }
        self.send_on();
        self.set(now + wait, Alarm::Mover);
    }

    /// Sends what is to be sent, or sent again.
    fn send_on(&mut self) {
        let now = self.cluster.now();
        let nodes = self.cluster.node_ids();
        let Some(mover) = &mut self.mover else { return };
        let Some(sent) = mover.sent.as_mut().filter(|sent| sent.again <= now) else { return };
        if let Some(ticket) = sent.ticket.take() {
            self.cluster.give_up(ticket);
        }
        if sent.give_up <= now {
            if let Asked::Told(_, at) = sent.ask
                && at < mover.errands.len()
            {
                mover.errands.remove(at);
            }
            mover.sent = None;
            return;
        }
        let Some(&node) = mover.random.pick(&nodes) else { return };
        let ask = match &sent.ask {
            Asked::Overview => Ask::Read(steward::ask(&Query::Overview)),
            Asked::Told(write, _) | Asked::Share(write) => Ask::Write(write.clone()),
        };
        let of = if matches!(sent.ask, Asked::Share(_)) { FIRST_GROUP } else { CONTROLLER };
        sent.again = now + ATTEMPT;
        sent.ticket = self.cluster.ask_of(Target::Group(of), node, ask);
        if sent.ticket.is_none() {
            sent.again = now + SOON;
        }
    }

    /// An answer to the operator of the slots; gives back what is for somebody else.
    pub(super) fn mover_hears(
        &mut self,
        answered: Answered,
    ) -> Result<Option<Answered>, Violation> {
        let now = self.cluster.now();
        let log_time = self.controller_time();
        let free = self.free_group();
        let Some(mover) = &mut self.mover else { return Ok(Some(answered)) };
        let is_it = |sent: &Sent| sent.ticket == Some(answered.ticket);
        let Some(mut sent) = mover.sent.take_if(|sent| is_it(sent)) else {
            return Ok(Some(answered));
        };
        sent.ticket = None;
        let Some(Answer::Reply(reply)) = &answered.answer else {
            sent.again = now + SOON;
            mover.sent = Some(sent);
            return Ok(None);
        };
        let unreadable = |why: steward::StewardError| {
            Violation::new("The controller answers", format!("an operator is told: {why}"))
        };
        match sent.ask {
            Asked::Share(_) => {
                if let Told::Shares { controller: Some(node), .. } =
                    steward::told(reply).map_err(unreadable)?
                {
                    self.founder.is_shared(node);
                }
            }
            Asked::Told(_, at) => {
                let told = steward::told(reply).map_err(unreadable)?;
                mover.hears(at, &told, now);
            }
            Asked::Overview => {
                let said = steward::answered(reply).map_err(unreadable)?;
                let Said::Overview { configuration, moves, .. } = said else {
                    let seen = format!("the overview is {said:?}");
                    return Err(Violation::new("The controller answers", seen));
                };
                mover.left = None;
                let due = (0..mover.errands.len()).filter(|&at| mover.errands[at].0 <= now);
                for at in due.collect::<Vec<_>>() {
                    let Some(op) = mover.decide(at, &configuration, &moves, free) else {
                        if let Errand::Rebalance = mover.errands[at].1 {
                            // It is even, or will be.
                            mover.errands.remove(at);
                            break;
                        }
                        continue;
                    };
                    if let Op::Plan { parts, .. } = &op
                        && let Errand::Wander { before, .. } = &mut mover.errands[at].1
                    {
                        *before = parts[0].0.first().and_then(|slot| configuration.owner(slot));
                    }
                    let write = mover.write(op, log_time);
                    let (again, give_up) = (now, now + GIVE_UP);
                    let ask = Asked::Told(write, at);
                    mover.sent = Some(Sent { ask, ticket: None, again, give_up });
                    break;
                }
                if mover.errands.is_empty() {
                    mover.left = Some(moves);
                }
                self.send_on();
            }
        }
        Ok(None)
    }

    /// The controller's log time, as an operator hears it.
    pub(super) fn controller_time(&self) -> LogTime {
        let mut nodes = self.cluster.running().into_iter();
        let known = |node: NodeId| self.cluster.log_time_in(CONTROLLER, node);
        let leader = self.cluster.leader_of(CONTROLLER).and_then(known);
        leader.or_else(|| nodes.find_map(known)).unwrap_or(LogTime(0))
    }

    /// Slots have come a step further: perhaps just now something goes wrong.
    pub(super) fn slots_stepped(&mut self, stepped: Stepped) {
        self.meddle(stepped);
        let (now, end) = (self.cluster.now(), self.start + self.plan.faults_until);
        let groups = self.cluster.groups();
        let leader = |group| self.cluster.leader_of(group);
        let Some(mover) = &mut self.mover else { return };
        let number = stepped.step as usize;
        mover.steps[number] += 1;
        let random = &mut mover.random;
        if mover.strikes == 0 || now + Duration::from_millis(500) > end || !random.chance(STRIKES) {
            return;
        }
        mover.strikes -= 1;
        mover.struck[number] += 1;
        // The leader of the group whose step it is, of another one, or who applied it first.
        let whom = match random.below(4) {
            0 | 1 => leader(stepped.group),
            2 => random.pick(&groups).copied().and_then(leader),
            _ => None,
        };
        let kind = random.pick(plan::AT_STEPS).copied().unwrap_or(super::FaultKind::Kill);
        let fault = Fault {
            kind,
            at: now.since(self.start),
            length: random.time(Duration::from_millis(100), Duration::from_millis(3000)),
            hits: plan::Whom::Node(whom.unwrap_or(stepped.node)),
            seed: random.number(),
        };
        let wait = match random.below(3) {
            0 => Duration::ZERO,
            1 => random.time(Duration::ZERO, Duration::from_millis(2)),
            _ => random.time(Duration::ZERO, Duration::from_millis(40)),
        };
        self.add_fault(fault, wait);
    }
}

/// Of a thousand steps so many are met by trouble, as long as there is some.
const STRIKES: u64 = 120;
