//! Requests between groups and nodes: where each goes, and what becomes of it when it comes back.
//!
//! A request goes to the group that owns its slot by the newest configuration known here: to the
//! replica here, if there is one, or to another node that has one. What comes back without an effect
//! goes on from here, until its time is up:
//!
//! - *The slot is frozen*, or is with nobody yet: it is *held*. One request of a slot at a time is
//!   tried again, every few milliseconds, at once when a newer configuration comes or the group's
//!   steward acts; when it gets through, the others follow. So a slot that stands still for long
//!   costs an entry now and then, however many wait for it.
//! - *The slot is away*: it goes to the owner by a newer configuration; if there is none yet, it is
//!   held, and the controller's nodes are asked for one.
//! - *Sent back*, since the write before it is missing: it is tried again a little later.
//!
//! Why this doubles nothing is told in [`crate::routed`].
//!
//! # Through another node
//! The request goes, with its stamp, to the group's leader as far as known, or else to the others in
//! turn, and again after a while without an answer. The other node serves it as it serves its own
//! callers' but for one thing: what comes back without an effect it gives back, so that only the
//! node that the client talks to decides where a request goes. Its caller is a number in *this life*
//! of this node, so that an answer that is meant for an earlier life counts for nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use kontiki_kv::{Body, Gate, Proposal, command};
use kontiki_shard::Configuration;
use kontiki_types::{ClientId, GroupId, Instant, NodeId, Seq};

use super::held::{Held, PROBE_EVERY};
use super::{ALIVE_FOR, Caller, Core, Effect};
use crate::atlas::{FIRST_GROUP, Target};
use crate::connection::{Answer, Ask, Failure, SessionWrite};
use crate::group::is_sound;
use crate::peer::{Asker, Passed, PassedAnswer, PassedAsk};
use crate::routed::{Patience, Returned, Routed, Why, failure, take_out};
use crate::steward::CONTROLLER;

/// Slots that are tried at once.
const PROBES_MAX: usize = 8;

/// A request that another node was asked to carry out.
#[derive(Debug)]
struct Pass {
    routed: Routed,
    group: GroupId,
    /// The node.
    to: Option<NodeId>,
    /// How many nodes were asked.
    tries: usize,
    again_at: Instant,
}

/// Who waits for an answer that a group gives to the core itself.
#[derive(Debug)]
enum Inward {
    /// Another node.
    Node(NodeId, Asker),
    /// A caller whose request is the one of its slot that is tried.
    Probe(Caller, Target),
}

/// Requests that are neither with a group here nor answered.
#[derive(Debug, Default)]
pub(super) struct Router {
    held: BTreeMap<Target, Held>,
    /// How many those are.
    held_count: usize,
    /// Requests that are routed anew at some time.
    later: Vec<(Instant, Routed)>,
    passed: BTreeMap<u64, Pass>,
    inward: BTreeMap<u64, Inward>,
    last_number: u64,
    /// Where the last round of probes ended.
    probed: Option<Target>,
    /// There is a newer configuration than requests went by.
    reroutes: bool,
    look_at: Option<Instant>,
    /// When those out of time are looked for next.
    sweep_at: Instant,
}

impl Router {
    /// When something is to be done, if ever.
    pub(super) fn deadline(&self) -> Instant {
        self.look_at.unwrap_or(Instant::MAX)
    }

    /// A newer configuration is known.
    pub(super) fn reroute(&mut self, now: Instant) {
        self.reroutes = true;
        self.look_by(now);
    }

    fn look_by(&mut self, at: Instant) {
        self.look_at = Some(self.look_at.map_or(at, |known| known.min(at)));
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn len(&self) -> usize {
        self.held_count + self.later.len() + self.passed.len()
    }
}

impl Core {
    /// Requests of this node's callers that are with another node, or wait for their slot.
    pub fn routed_requests(&self) -> usize {
        self.router.len()
    }

    /// Sends a request on its way, unless others wait for its slot.
    pub(super) fn route(&mut self, routed: Routed) {
        if !self.router.held.is_empty() && self.router.held.contains_key(&routed.to) {
            return self.hold(routed, false);
        }
        match self.owner(routed.to) {
            Some(group) => self.submit(group, routed),
            None => {
                self.ask_for_configuration();
                self.hold(routed, true);
            }
        }
    }

    /// The group that a request is for; `None` if its slot is nobody's.
    fn owner(&self, to: Target) -> Option<GroupId> {
        match (to, self.configuration()) {
            (Target::Group(group), _) => Some(group),
            (Target::Slot(_), None) => Some(FIRST_GROUP),
            (Target::Slot(slot), Some(configuration)) => configuration.owner(slot),
        }
    }

    /// Gives a request to the replica here, or to another node.
    fn submit(&mut self, group: GroupId, routed: Routed) {
        let mut routed = Some(routed);
        self.with(group, |group, node| {
            if let Some(request) = routed.take_if(|_| !group.is_removed()) {
                group.take(request, node);
            }
        });
        match routed {
            None => {}
            Some(routed) if self.has_heard_of(group) => self.pass(group, routed),
            Some(routed) => self.fail(routed.caller, failure(routed.attempts)),
        }
    }

    /// Whether some node may have a replica of the group.
    fn has_heard_of(&self, group: GroupId) -> bool {
        let is_in = |known: &Configuration| group == CONTROLLER || known.group(group).is_some();
        self.heard_place(group).is_some()
            || self.configuration().map_or(group == FIRST_GROUP, is_in)
    }

    /// Answers a caller, whoever that is.
    fn answer(&mut self, caller: Caller, answer: Answer) {
        if caller.is_inward() {
            self.answer_inward(caller.ticket, answer);
        } else {
            self.effects.push(Effect::Answer { caller, answer });
        }
    }

    fn fail(&mut self, caller: Caller, failure: Failure) {
        self.answer(caller, Answer::Failed(failure));
    }

    /// Answers of the apply stage to callers that are [inward](Caller::is_inward).
    pub fn answered(&mut self, answers: Vec<(Caller, Answer)>) {
        for (caller, answer) in answers {
            self.answer_inward(caller.ticket, answer);
        }
    }

    fn answer_inward(&mut self, number: u64, answer: Answer) {
        match self.router.inward.remove(&number) {
            None => {}
            Some(Inward::Node(node, asker)) => {
                let answer = match answer {
                    Answer::Reply(reply) => PassedAnswer::Reply(reply),
                    Answer::Failed(failure) => PassedAnswer::Failed(failure),
                };
                self.frames.to(node).answer(asker, &answer);
            }
            Some(Inward::Probe(caller, to)) => {
                let is_served = matches!(answer, Answer::Reply(_));
                self.answer(caller, answer);
                self.probed(to, is_served);
            }
        }
    }

    /// Carries on with what groups gave back, and answers whom only the core knows.
    pub(super) fn settle_requests(&mut self) {
        loop {
            if let Some((caller, answer)) = self.inward.pop_front() {
                self.answer_inward(caller.ticket, answer);
            } else if let Some(returned) = self.returned.pop_front() {
                self.came_back(returned);
            } else {
                return;
            }
        }
    }

    fn came_back(&mut self, returned: Returned) {
        let Returned { group, mut routed, why } = returned;
        if routed.caller.is_inward() {
            match self.router.inward.remove(&routed.caller.ticket) {
                None => return,
                Some(Inward::Node(node, asker)) => {
                    let answer = match why {
                        Why::Closed(slot, gate) => PassedAnswer::Closed { slot, gate },
                        Why::SentBack => PassedAnswer::SentBack,
                        Why::Moved | Why::Gone => PassedAnswer::NotHere(self.epoch()),
                    };
                    return self.frames.to(node).answer(asker, &answer);
                }
                Some(Inward::Probe(caller, to)) => {
                    routed.caller = caller;
                    self.probed(to, matches!(why, Why::SentBack));
                }
            }
        }
        match why {
            Why::Moved | Why::Gone => self.route(routed),
            Why::SentBack => self.try_later(routed),
            Why::Closed(slot, gate) => {
                if routed.to == Target::Group(FIRST_GROUP) {
                    // From when the store was not sharded, and that group had every slot.
                    routed.to = Target::Slot(slot);
                }
                self.closed(group, routed, gate);
            }
        }
    }

    /// A request met a closed gate in a group.
    fn closed(&mut self, group: GroupId, routed: Routed, gate: Gate) {
        match (routed.to, gate) {
            (Target::Slot(_), Gate::Away) => match self.owner(routed.to) {
                Some(owner) if owner != group => self.route_to(owner, routed),
                _ => {
                    self.ask_for_configuration();
                    self.hold(routed, true);
                }
            },
            (Target::Slot(_), _) => self.hold(routed, true),
            (Target::Group(_), Gate::Away) => {
                // There is no other way for it.
                let is_sure = routed.attempts <= 1;
                let failure = if is_sure { Failure::NotHere } else { Failure::Unknown };
                self.fail(routed.caller, failure);
            }
            (Target::Group(_), _) => self.try_later(routed),
        }
    }

    /// Sends a request to a group that was not asked yet, or behind those that wait for its slot.
    fn route_to(&mut self, group: GroupId, routed: Routed) {
        if let Some(held) = self.router.held.get_mut(&routed.to) {
            held.hurry(self.now);
            self.hold(routed, false);
        } else {
            self.submit(group, routed);
        }
    }

    /// Lets a request wait for its slot. `is_closed`: that is since it met a closed gate.
    fn hold(&mut self, mut routed: Routed, is_closed: bool) {
        if self.is_too_much(&routed) {
            return;
        }
        let now = self.now;
        routed.patience = routed.patience.met(now);
        let held = self.router.held.entry(routed.to).or_insert_with(|| Held::new(now));
        // One of many that were under way says no more than the first.
        if is_closed && held.probe.is_none() && held.not_before <= now {
            held.put_off(now);
        }
        let at = held.not_before.max(now);
        match held.add(routed) {
            None => self.router.held_count += 1,
            Some(before) => self.fail(before.caller, Failure::Superseded),
        }
        self.router.look_by(at);
    }

    /// Routes a request anew a little later.
    fn try_later(&mut self, routed: Routed) {
        if self.is_too_much(&routed) {
            return;
        }
        let at = self.now + PROBE_EVERY;
        self.router.later.push((at, routed));
        self.router.look_by(at);
    }

    /// Whether too much waits already; then the request is refused.
    fn is_too_much(&mut self, routed: &Routed) -> bool {
        let is_too_much = self.router.len() >= self.config.waiting_max;
        if is_too_much {
            let is_sure = routed.attempts == 0;
            let failure = if is_sure { Failure::Overloaded } else { Failure::Unknown };
            self.fail(routed.caller, failure);
        }
        is_too_much
    }

    /// What is due: requests that are tried again or out of time.
    pub(super) fn look_after_requests(&mut self) {
        if self.router.look_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.router.look_at = None;
        if std::mem::take(&mut self.router.reroutes) {
            self.go_by_configuration();
        }
        if self.router.sweep_at <= self.now {
            self.router.sweep_at = self.now + self.config.retry_interval;
            self.give_up();
            self.pass_again();
        }
        let (due, later) = std::mem::take(&mut self.router.later)
            .into_iter()
            .partition::<Vec<_>, _>(|(at, _)| *at <= self.now);
        self.router.later = later;
        due.into_iter().for_each(|(_, routed)| self.route(routed));
        self.probe();
        let router = &mut self.router;
        if !router.held.is_empty() || !router.later.is_empty() {
            router.look_by(self.now + PROBE_EVERY);
        }
        if !router.passed.is_empty() {
            router.look_by(router.sweep_at);
        }
    }

    /// A newer configuration: what is with a group that does not own its slot goes to the owner.
    fn go_by_configuration(&mut self) {
        let Some(configuration) = self.newest_configuration() else { return };
        let ids: Vec<GroupId> = self
            .groups
            .iter()
            .filter(|(_, group)| group.has_requests())
            .map(|(&id, _)| id)
            .collect();
        for id in ids {
            self.with(id, |group, node| {
                group.give_up_moved(|slot| configuration.owner(slot) == Some(id), node);
            });
        }
        let moved = |pass: &Pass| match pass.routed.to {
            Target::Slot(slot) => configuration.owner(slot) != Some(pass.group),
            Target::Group(_) => false,
        };
        for (_, Pass { routed, group, .. }) in take_out(&mut self.router.passed, moved) {
            self.returned.push_back(Returned { group, routed, why: Why::Moved });
        }
        for held in self.router.held.values_mut() {
            held.hurry(self.now);
        }
        self.settle_requests();
    }

    /// The steward of a group has acted: slots that were closed may be open.
    pub fn stewarded(&mut self, group: GroupId) {
        let ids: Vec<Target> = self.router.held.keys().copied().collect();
        let mine: Vec<Target> =
            ids.into_iter().filter(|&to| self.owner(to) == Some(group)).collect();
        for to in mine {
            if let Some(held) = self.router.held.get_mut(&to) {
                held.hurry(self.now);
                self.router.look_by(self.now);
            }
        }
    }

    /// Gives up on what is out of time.
    fn give_up(&mut self) {
        let now = self.now;
        let (mut expired, mut impatient) = (Vec::new(), Vec::new());
        for held in self.router.held.values_mut() {
            held.expire(now, &mut expired);
            held.lose_patience(now, &mut impatient);
        }
        self.router.held_count -= expired.len() + impatient.len();
        for routed in impatient {
            self.fail(routed.caller, Failure::StandsStill);
        }
        let later = self.router.later.extract_if(.., |(_, routed)| routed.give_up <= now);
        expired.extend(later.map(|(_, routed)| routed));
        let passed = take_out(&mut self.router.passed, |pass| pass.routed.give_up <= now);
        expired.extend(passed.into_iter().map(|(_, pass)| pass.routed));
        for routed in expired {
            self.fail(routed.caller, failure(routed.attempts));
        }
    }

    /// Tries one request of each slot whose turn it is.
    fn probe(&mut self) {
        let held = &mut self.router.held;
        held.retain(|_, held| held.len() > 0 || held.probe.is_some());
        let now = self.now;
        let due = held.iter().filter(|(_, held)| held.probe.is_none() && held.not_before <= now);
        let mut due: Vec<Target> = due.map(|(&to, _)| to).collect();
        // Where the last round ended, this one goes on.
        let done = self.router.probed.map_or(0, |last| due.partition_point(|to| *to <= last));
        due.rotate_left(done);
        for to in due.into_iter().take(PROBES_MAX) {
            self.router.probed = Some(to);
            let Some(group) = self.owner(to) else {
                self.ask_for_configuration();
                continue;
            };
            let number = self.router.number();
            let Some(held) = self.router.held.get_mut(&to) else { continue };
            let Some(mut routed) = held.take_first() else { continue };
            held.probe = Some(number);
            self.router.held_count -= 1;
            self.router.inward.insert(number, Inward::Probe(routed.caller, to));
            routed.caller = Caller::inward(number);
            self.submit(group, routed);
        }
    }

    /// The request of a slot that was tried is through, or came back.
    fn probed(&mut self, to: Target, is_served: bool) {
        if is_served {
            return self.release(to);
        }
        if let Some(held) = self.router.held.get_mut(&to) {
            held.probe = None;
            self.router.look_by(self.now);
        }
    }

    /// A slot is served: those that wait for it go on, and others of its group are tried.
    fn release(&mut self, to: Target) {
        let Some(mut held) = self.router.held.remove(&to) else { return };
        self.router.held_count -= held.len();
        let group = self.owner(to);
        while let Some(routed) = held.take_first() {
            match group {
                Some(group) => self.submit(group, routed),
                None => self.route(routed),
            }
        }
        if let Some(group) = group {
            self.stewarded(group);
        }
    }

    /// Has another node carry out a request.
    fn pass(&mut self, group: GroupId, routed: Routed) {
        if self.is_too_much(&routed) {
            return;
        }
        let number = self.router.number();
        let pass = Pass { routed, group, to: None, tries: 0, again_at: self.now };
        self.router.passed.insert(number, pass);
        self.pass_on(number);
        self.router.look_by(self.now + self.config.retry_interval);
    }

    /// Gives those again of which nothing was heard for too long.
    fn pass_again(&mut self) {
        let due = self.router.passed.iter().filter(|(_, pass)| pass.again_at <= self.now);
        let due: Vec<u64> = due.map(|(&number, _)| number).collect();
        due.into_iter().for_each(|number| self.pass_on(number));
    }

    /// Gives a request to the next node.
    fn pass_on(&mut self, number: u64) {
        let Some(pass) = self.router.passed.get(&number) else { return };
        let to = self.next_node(pass.group, pass.tries);
        let (now, life) = (self.now, self.life());
        let Some(pass) = self.router.passed.get_mut(&number) else { return };
        pass.tries += 1;
        pass.to = to;
        let Some(to) = to else {
            pass.again_at = now + self.config.retry_interval;
            return;
        };
        pass.again_at = now + self.config.retry_after;
        let what = match &pass.routed.ask {
            Ask::Read(read) => {
                let mut bytes = Vec::with_capacity(64);
                read.encode(&mut bytes);
                PassedAsk::Read(bytes.into())
            }
            Ask::Write(write) => {
                pass.routed.attempts += 1;
                PassedAsk::Write(write.proposal.clone())
            }
        };
        let wait_ms = pass.routed.give_up.since(now).as_millis();
        let wait_ms = u32::try_from(wait_ms).unwrap_or(u32::MAX);
        let asker = Asker { life, number };
        self.frames.to(to).ask(&Passed { asker, group: pass.group, wait_ms, what });
    }

    /// The node to ask for a group when `tries` were asked before: its leader, then the others that
    /// may have a replica, those that are alive first.
    fn next_node(&self, group: GroupId, tries: usize) -> Option<NodeId> {
        let heard = self.heard_place(group);
        let is_alive = |node: &NodeId| {
            self.walls.last_heard(*node).is_some_and(|at| self.now.since(at) < ALIVE_FOR)
        };
        if let Some((leader, _)) = heard
            && tries == 0
            && leader != self.me.id
            && is_alive(&leader)
        {
            return Some(leader);
        }
        let voters = heard
            .into_iter()
            .flat_map(|(leader, voters)| std::iter::once(leader).chain(voters.iter().copied()));
        let wanted = self.configuration().and_then(|known| known.group(group));
        let wanted = wanted.into_iter().flat_map(|group| group.nodes.iter().copied());
        let mut nodes: Vec<NodeId> = Vec::new();
        for node in voters.chain(wanted) {
            if node != self.me.id && !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        if nodes.is_empty() {
            nodes.extend(self.infos.keys());
        }
        if nodes.iter().any(is_alive) {
            nodes.retain(is_alive);
        }
        nodes.get(tries % nodes.len().max(1)).copied()
    }

    /// Another node's answer to a request that it was asked to carry out.
    pub(super) fn passed_answer(&mut self, from: NodeId, asker: Asker, answer: PassedAnswer) {
        if asker.life != self.life() {
            return;
        }
        let Some(pass) = self.router.passed.get(&asker.number) else { return };
        // It was not taken there, and was given to nobody else.
        let is_sure = pass.routed.attempts <= 1 && pass.to == Some(from);
        match answer {
            PassedAnswer::Reply(reply) => self.pass_ends(asker.number, Answer::Reply(reply)),
            PassedAnswer::Closed { slot, gate } => {
                if let Some(Pass { group, routed, .. }) = self.router.passed.remove(&asker.number) {
                    let why = Why::Closed(slot, gate);
                    self.returned.push_back(Returned { group, routed, why });
                }
            }
            PassedAnswer::SentBack => {
                let Some(Pass { group, routed, .. }) = self.router.passed.remove(&asker.number)
                else {
                    return;
                };
                if let Ask::Write(SessionWrite { client, seq, .. }) = routed.ask {
                    self.pass_earlier(client, seq);
                }
                self.returned.push_back(Returned { group, routed, why: Why::SentBack });
            }
            PassedAnswer::NotHere(epoch) => {
                if epoch > self.epoch() {
                    self.ask_for_news(from);
                }
                self.pass_elsewhere(asker.number, is_sure);
            }
            PassedAnswer::Failed(failure) => match failure {
                // Another copy of it gets the answer there.
                Failure::Superseded => {}
                Failure::Unavailable | Failure::NotHere => {
                    self.pass_elsewhere(asker.number, is_sure);
                }
                Failure::Overloaded | Failure::StorageFull | Failure::TooLarge if !is_sure => {
                    self.pass_elsewhere(asker.number, false);
                }
                failure => self.pass_ends(asker.number, Answer::Failed(failure)),
            },
        }
    }

    fn pass_ends(&mut self, number: u64, answer: Answer) {
        if let Some(pass) = self.router.passed.remove(&number) {
            self.answer(pass.routed.caller, answer);
        }
    }

    /// A node did not carry out a request: the next one is asked. `is_sure`: nobody has it.
    fn pass_elsewhere(&mut self, number: u64, is_sure: bool) {
        let Some(mut pass) = self.router.passed.remove(&number) else { return };
        let mut number = number;
        if is_sure {
            // What is still said of this try counts for nothing.
            pass.routed.attempts = 0;
            number = self.router.number();
        }
        // Once round, it waits for a moment.
        let nodes = self.infos.len().max(1);
        let waits = pass.tries.is_multiple_of(nodes) || pass.to.is_none();
        pass.again_at = self.now + self.config.retry_interval;
        self.router.passed.insert(number, pass);
        if !waits {
            self.pass_on(number);
        }
    }

    /// A client's write is missing where a later one of it is: what was passed on before goes again.
    fn pass_earlier(&mut self, client: ClientId, before: Seq) {
        let earlier = self.router.passed.iter().filter(|(_, pass)| match &pass.routed.ask {
            Ask::Write(write) => write.client == client && write.seq < before,
            Ask::Read(_) => false,
        });
        let earlier: Vec<u64> = earlier.map(|(&number, _)| number).collect();
        earlier.into_iter().for_each(|number| self.pass_on(number));
    }

    /// Another node has this one carry out a request.
    pub(super) fn passed_ask(&mut self, from: NodeId, passed: Passed) {
        let Passed { asker, group, wait_ms, what } = passed;
        let is_here = self.groups.get(&group).is_some_and(|group| !group.is_removed());
        let ask = match what {
            PassedAsk::Read(bytes) => command::Read::decode(&bytes).ok().map(Ask::Read),
            PassedAsk::Write(proposal) => session_write(proposal).map(Ask::Write),
        };
        let Some(ask) = ask.filter(|_| is_here) else {
            let answer = PassedAnswer::NotHere(self.epoch());
            return self.frames.to(from).answer(asker, &answer);
        };
        if self.router.inward.len() >= self.config.waiting_max {
            let answer = PassedAnswer::Failed(Failure::Overloaded);
            return self.frames.to(from).answer(asker, &answer);
        }
        let wait = Duration::from_millis(u64::from(wait_ms)).min(self.config.request_timeout);
        let number = self.router.number();
        self.router.inward.insert(number, Inward::Node(from, asker));
        let routed = Routed {
            caller: Caller::inward(number),
            to: Target::Group(group),
            ask,
            give_up: self.now + wait,
            patience: Patience::Whole,
            attempts: 0,
        };
        self.submit(group, routed);
    }
}

/// The write that an encoded proposal is, if this build can apply it.
fn session_write(proposal: bytes::Bytes) -> Option<SessionWrite> {
    if !is_sound(&proposal) {
        return None;
    }
    match Proposal::decode(&proposal).ok()?.body {
        Body::Write(write) => Some(SessionWrite { client: write.client, seq: write.seq, proposal }),
        _ => None,
    }
}
