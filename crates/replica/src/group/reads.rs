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
use crate::connection::{Answer, Failure};
use crate::core::{Caller, Effect};

/// Questions for a read index that are open at once. Two keep the pipe full: one on its way while
/// the other is confirmed.
const ROUNDS_MAX: usize = 2;

/// A read that is not served yet.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) caller: Caller,
    pub(crate) read: Read,
    give_up: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Reads {
    gathering: Vec<Waiting>,
    asked: BTreeMap<u64, Vec<Waiting>>,
    confirmed: BTreeMap<Index, Vec<Waiting>>,
    next_token: u64,
    count: usize,
}

impl Reads {
    pub(super) fn len(&self) -> usize {
        self.count
    }
}

impl Group {
    /// Takes a caller's read.
    pub(crate) fn read(&mut self, caller: Caller, read: Read, node: &mut Node<'_>) {
        if self.reads.count >= self.config.waiting_max {
            let answer = Answer::Failed(Failure::Overloaded);
            return node.effects.push(Effect::Answer { caller, answer });
        }
        let give_up = node.now + self.config.request_timeout;
        self.reads.count += 1;
        self.reads.gathering.push(Waiting { caller, read, give_up });
    }

    /// Reads that met a key whose time has come, but not in log time yet: they wait for the tick.
    pub(crate) fn read_again(&mut self, reads: Vec<(Caller, Read)>, node: &mut Node<'_>) {
        for (caller, read) in reads {
            self.read(caller, read, node);
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
                reads: reads.into_iter().map(|waiting| (waiting.caller, waiting.read)).collect(),
            });
        }
    }

    /// The replica is gone: its callers hear no more.
    pub(super) fn abandon_reads(&mut self, node: &mut Node<'_>) {
        let Reads { gathering, asked, confirmed, .. } = std::mem::take(&mut self.reads);
        let lists = asked.into_values().chain(confirmed.into_values()).flatten();
        for waiting in gathering.into_iter().chain(lists) {
            let answer = Answer::Failed(Failure::Unavailable);
            node.effects.push(Effect::Answer { caller: waiting.caller, answer });
        }
    }

    /// Gives up on reads that are out of time.
    pub(super) fn expire_reads(&mut self, node: &mut Node<'_>) {
        let mut expired = Vec::new();
        let reads = &mut self.reads;
        let lists = [&mut reads.gathering]
            .into_iter()
            .chain(reads.asked.values_mut())
            .chain(reads.confirmed.values_mut());
        for list in lists {
            list.retain(|waiting| {
                let live = waiting.give_up > node.now;
                if !live {
                    expired.push(waiting.caller);
                }
                live
            });
        }
        reads.count -= expired.len();
        for caller in expired {
            let answer = Answer::Failed(Failure::Unavailable);
            node.effects.push(Effect::Answer { caller, answer });
        }
    }
}
