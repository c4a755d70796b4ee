//! Trouble at the moments that moves of slots turn on.
//!
//! A handoff breaks when two things meet: a leader goes while it alone knows something, an attempt is
//! given up while its commit is on its way. Drawn by chance they hardly ever do; so each seed of a
//! sharded store has habits, which it follows whenever such a moment comes. As with recipes of
//! faults, a habit says nothing of what is to be seen; the checks are those of every run.

use std::time::Duration;

use kontiki_replica::steward::{self, CONTROLLER};
use kontiki_replica::{Ask, ChangeKind, SessionWrite, Target};
use kontiki_shard::{Call, Op, Tag, Then, Why};
use kontiki_types::{ClientId, GroupId, Incarnation, NodeId, Seq};

use super::mover::OfSession;
use super::plan::{Fault, Whom};
use super::{Alarm, FaultKind, Struck, Swarm};
use crate::random::Random;
use crate::store_cluster::{MoveStep, Stepped};

/// What a seed does again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// The source gets another leader while the content is on its way.
    SourceHandsOver,
    /// An attempt is given up when it is about to be committed.
    AbortAtCommit,
    /// The controller's leader is cut off when it is about to commit.
    ControllerCutOff,
    /// What the source's leader sends to the target's comes late, from the commit on.
    ActivationLate,
    /// Clients ask while the content is on its way.
    ClientsAsk,
}

/// Each habit: of a thousand seeds so many have it, of a thousand of its moments so many are used,
/// and at the most so many of a run.
const HABITS: [(Habit, u64, u64, u32); 5] = [
    (Habit::SourceHandsOver, 450, 120, 6),
    (Habit::AbortAtCommit, 400, 350, 5),
    (Habit::ControllerCutOff, 350, 250, 2),
    (Habit::ActivationLate, 350, 350, 3),
    (Habit::ClientsAsk, 600, 250, 12),
];

/// See the module.
#[derive(Debug)]
pub(super) struct Meddler {
    random: Random,
    /// With how often each may yet be followed.
    habits: Vec<(Habit, u64, u32)>,
    session: ClientId,
    seq: u64,
    /// Attempts that are given up when their alarm rings.
    aborts: Vec<(Tag, Then)>,
}

impl Meddler {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xadd1e);
        let mut random = random.fork();
        let habits = HABITS.into_iter().filter(|(_, seeds, ..)| random.chance(*seeds));
        let habits = habits.map(|(habit, _, chance, most)| (habit, chance, most)).collect();
        let session =
            ClientId { incarnation: Incarnation(random.number()), boot: 0, connection: 0xadd1e };
        Self { random, habits, session, seq: 0, aborts: Vec::new() }
    }

    /// The habit that is followed at this step, if one is.
    fn moved_by(&mut self, step: MoveStep) -> Option<Habit> {
        for (habit, chance, left) in &mut self.habits {
            let fits = match habit {
                Habit::SourceHandsOver | Habit::ClientsAsk => {
                    use MoveStep::*;
                    matches!(step, ExportOpen | ImportOpen | Chunk | Freeze)
                }
                Habit::ActivationLate => step == MoveStep::Complete,
                Habit::AbortAtCommit | Habit::ControllerCutOff => {
                    matches!(step, MoveStep::Freeze | MoveStep::Complete)
                }
            };
            if fits && *left > 0 && self.random.chance(*chance) {
                *left -= 1;
                return Some(*habit);
            }
        }
        None
    }

    /// Now, as often as not, or a little later.
    fn wait(&mut self) -> Duration {
        match self.random.chance(400) {
            true => Duration::ZERO,
            false => self.random.time(Duration::ZERO, Duration::from_millis(4)),
        }
    }
}

impl Swarm {
    /// A move has come a step further.
    pub(super) fn meddle(&mut self, stepped: Stepped) {
        let (now, end) = (self.cluster.now(), self.start + self.plan.faults_until);
        if now + Duration::from_millis(500) > end {
            return;
        }
        let Some(tag) = stepped.tag else { return };
        let Some(meddler) = &mut self.meddler else { return };
        match meddler.moved_by(stepped.step) {
            None => {}
            Some(Habit::ClientsAsk) => self.wake_clients(),
            Some(Habit::SourceHandsOver) => self.source_hands_over(tag),
            Some(Habit::ActivationLate) => self.slow_activation(tag),
            Some(Habit::AbortAtCommit) => {
                let then = if meddler.random.chance(800) { Then::Retry } else { Then::Cancel };
                let wait = meddler.wait();
                let at = meddler.aborts.len();
                meddler.aborts.push((tag, then));
                self.set(now + wait, Alarm::Meddle(at));
            }
            Some(Habit::ControllerCutOff) => {
                let Some(leader) = self.cluster.leader_of(CONTROLLER) else { return };
                let fault = Fault {
                    kind: FaultKind::Isolation,
                    at: now.since(self.start),
                    length: meddler
                        .random
                        .time(Duration::from_millis(700), Duration::from_millis(3500)),
                    hits: Whom::Node(leader),
                    seed: meddler.random.number(),
                };
                let wait = meddler.wait();
                self.add_fault(fault, wait);
            }
        }
    }

    /// A fault that was not planned begins after `wait`.
    pub(super) fn add_fault(&mut self, fault: Fault, wait: Duration) {
        let at = self.plan.faults.len();
        self.plan.faults.push(fault);
        self.struck.push(Struck::default());
        if self.only_faults.as_ref().is_none_or(|only| only.contains(&at)) {
            self.set(self.cluster.now() + wait, Alarm::FaultBegins(at));
        }
    }

    /// The source and the target of a move, as the controller's leader knows it.
    fn groups_of(&self, tag: Tag) -> Option<(GroupId, GroupId)> {
        let moves = self.cluster.moves()?;
        let found = moves.into_iter().find(|found| found.tag.id == tag.id)?;
        Some((found.from?.id, found.to.id))
    }

    fn slow_activation(&mut self, tag: Tag) {
        let Some((source, target)) = self.groups_of(tag) else { return };
        let leaders = self.cluster.leader_of(source).zip(self.cluster.leader_of(target));
        let Some((from, to)) = leaders.filter(|(from, to)| from != to) else { return };
        let at = self.cluster.now().since(self.start);
        let Some(meddler) = &mut self.meddler else { return };
        let length = meddler.random.time(Duration::from_millis(20), Duration::from_millis(400));
        let hits = Whom::Way(from, to);
        let fault =
            Fault { kind: FaultKind::OneWay, at, length, hits, seed: meddler.random.number() };
        self.add_fault(fault, Duration::ZERO);
    }

    fn source_hands_over(&mut self, tag: Tag) {
        let Some((source, _)) = self.groups_of(tag) else { return };
        let Some(leader) = self.cluster.leader_of(source) else { return };
        let Some(membership) = self.cluster.membership_of(source, leader) else { return };
        let others: Vec<NodeId> = membership
            .voters
            .iter()
            .map(|voter| voter.node)
            .filter(|&node| node != leader && self.cluster.is_running(node))
            .collect();
        let Some(meddler) = &mut self.meddler else { return };
        if let Some(&to) = meddler.random.pick(&others) {
            self.cluster.change_of(source, leader, ChangeKind::Transfer(to));
        }
    }

    /// Somebody has an attempt given up, without waiting for an answer.
    pub(super) fn abort(&mut self, at: usize) {
        let nodes = self.cluster.running();
        let log_time = self.controller_time();
        let Some(meddler) = &mut self.meddler else { return };
        let Some(&(tag, then)) = meddler.aborts.get(at) else { return };
        let write = steward::tell(&Call::Decide { op: Op::Abort { tag, then, why: Why::Asked } });
        meddler.seq += 1;
        let write = SessionWrite::of(&write, meddler.session, Seq(meddler.seq), log_time);
        if let Some(&node) = meddler.random.pick(&nodes) {
            self.cluster.ask_of(Target::Group(CONTROLLER), node, Ask::Write(write));
        }
    }
}
