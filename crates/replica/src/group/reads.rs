//! Linearizable reads of this node's callers, from arrival until the state may be read.
//!
//! Reads wait in one of three places: without a read index; for a read index that was asked for;
//! with an index that the apply stage has not been handed. One question covers all reads that had
//! arrived when it was asked, and while [`ROUNDS_MAX`] questions are open, further reads gather
//! for the next: under load the rounds grow wider instead of more frequent.

use std::collections::BTreeMap;

use kontiki_kv::command::Read;
use kontiki_types::plant::{Plant, planted};
use kontiki_types::{Index, Instant};

use super::{Group, Node};
use crate::atlas::Target;
use crate::connection::{Ask, Failure};
use crate::core::{Caller, Effect};
use crate::routed::{Patience, Returned, Routed, Why};

/// Questions for a read index that are open at once. Two keep the pipe full: one on its way while
/// the other is confirmed.
const ROUNDS_MAX: usize = 2;

/// A read that is not served yet.
#[derive(Debug)]
pub struct Question {
    /// Who waits.
    pub caller: Caller,
    /// What is to be read.
    pub read: Read,
    pub(crate) to: Target,
    pub(crate) give_up: Instant,
    pub(crate) patience: Patience,
}

impl From<Question> for Routed {
    fn from(question: Question) -> Self {
        let Question { caller, read, to, give_up, patience } = question;
        Self { caller, to, ask: Ask::Read(read), give_up, patience, attempts: 0 }
    }
}

#[derive(Debug, Default)]
pub(super) struct Reads {
    gathering: Vec<Question>,
    asked: BTreeMap<u64, Vec<Question>>,
    confirmed: BTreeMap<Index, Vec<Question>>,
    next_token: u64,
    count: usize,
}

impl Reads {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn lists(&mut self) -> impl Iterator<Item = &mut Vec<Question>> {
        let (asked, confirmed) = (self.asked.values_mut(), self.confirmed.values_mut());
        std::iter::once(&mut self.gathering).chain(asked).chain(confirmed)
    }
}

impl Group {
    /// Takes a caller's read.
    pub(super) fn read(&mut self, question: Question, node: &mut Node<'_>) {
        if self.reads.count >= self.config.waiting_max {
            return node.fail(question.caller, Failure::Overloaded);
        }
        self.reads.count += 1;
        self.reads.gathering.push(question);
    }

    /// Reads that met a key whose time has come, but not in log time yet: they wait for the tick.
    pub(crate) fn read_again(&mut self, reads: Vec<Question>, node: &mut Node<'_>) {
        for question in reads {
            self.read(question, node);
        }
    }

    /// Asks for a read index for all reads that gathered.
    pub(super) fn begin_reads(&mut self, node: &mut Node<'_>) {
        if self.reads.gathering.is_empty() || self.reads.asked.len() >= ROUNDS_MAX {
            return;
        }
        let token = self.reads.next_token;
        if self.raft.read(node.now, token).is_ok() {
            self.reads.next_token += 1;
            let gathered = std::mem::take(&mut self.reads.gathering);
            self.reads.asked.insert(token, gathered);
        }
    }

    pub(super) fn read_ready(&mut self, token: u64, index: Index, node: &mut Node<'_>) {
        let Some(reads) = self.reads.asked.remove(&token) else { return };
        self.reads.confirmed.entry(index).or_default().extend(reads);
        self.release_reads(node);
        self.begin_reads(node);
    }

    /// The question was lost or its leader is: the reads gather again, and are asked for at the
    /// next look, or when another leader shows up.
    pub(super) fn read_failed(&mut self, token: u64) {
        if let Some(mut reads) = self.reads.asked.remove(&token) {
            reads.append(&mut self.reads.gathering);
            self.reads.gathering = reads;
        }
    }

    /// Hands out the reads whose index the apply stage was handed; it works in order, so it has
    /// applied that index when it comes to them.
    pub(super) fn release_reads(&mut self, node: &mut Node<'_>) {
        let mut handed = self.handed;
        if planted(Plant::ReadBeforeApply) {
            handed = Index(u64::MAX - 1);
        }
        let later = self.reads.confirmed.split_off(&handed.next());
        let ready = std::mem::replace(&mut self.reads.confirmed, later);
        for reads in ready.into_values() {
            self.reads.count -= reads.len();
            node.effects.push(Effect::Query {
                group: self.id,
                log_time: if planted(Plant::ExpiryByLocalClock) {
                    node.wall
                } else {
                    self.clock.estimate(node.now)
                },
                reads,
            });
        }
    }

    /// Gives back the reads that `are_meant`.
    pub(super) fn give_back_reads(
        &mut self,
        why: Why,
        are_meant: &mut dyn FnMut(Target) -> bool,
        node: &mut Node<'_>,
    ) {
        let (group, before) = (self.id, node.returned.len());
        for list in self.reads.lists() {
            for question in list.extract_if(.., |question| are_meant(question.to)) {
                node.returned.push_back(Returned { group, routed: question.into(), why });
            }
        }
        self.reads.count -= node.returned.len() - before;
    }

    /// Gives up on reads that are out of time.
    pub(super) fn expire_reads(&mut self, node: &mut Node<'_>) {
        let (now, mut expired) = (node.now, 0);
        for list in self.reads.lists() {
            for question in list.extract_if(.., |question| question.give_up <= now) {
                expired += 1;
                node.fail(question.caller, Failure::Unavailable);
            }
        }
        self.reads.count -= expired;
    }
}
