//! A network that delays, drops, doubles, reorders, damages and partitions.

use std::collections::BTreeSet;
use std::time::Duration;

use kontiki_types::{Instant, NodeId};

use crate::random::Random;

/// How well a network works.
#[derive(Clone, Debug)]
pub struct Quality {
    /// Shortest way of a message.
    pub delay_min: Duration,
    /// Longest way of a message. Messages that are sent closer together than the two differ may
    /// overtake each other.
    pub delay_max: Duration,
    /// Of a thousand messages so many are lost.
    pub lost: u64,
    /// Of a thousand messages so many arrive twice, each time after a delay of its own.
    pub doubled: u64,
    /// Of a thousand *answers* so many take between 200 ms and 2.2 s: long reordering.
    pub late_answers: u64,
    /// Of a thousand messages so many arrive with other bytes, or cut.
    pub corrupted: u64,
}

impl Quality {
    /// A quiet local network: 0.1 to 0.5 ms.
    pub const fn good() -> Self {
        Self {
            delay_min: Duration::from_micros(100),
            delay_max: Duration::from_micros(500),
            lost: 0,
            doubled: 0,
            late_answers: 0,
            corrupted: 0,
        }
    }

    /// Up to 26 ms, a tenth lost, and now and then a message twice.
    pub const fn unreliable() -> Self {
        Self {
            delay_min: Duration::ZERO,
            delay_max: Duration::from_millis(26),
            lost: 100,
            doubled: 20,
            late_answers: 0,
            corrupted: 0,
        }
    }

    /// As unreliable, and two thirds of the answers are late by up to 2.2 s.
    pub const fn long_reordering() -> Self {
        Self { late_answers: 667, ..Self::unreliable() }
    }

    fn delays(&self) -> (u64, u64) {
        (self.delay_min.as_micros() as u64, self.delay_max.as_micros() as u64)
    }
}

/// What a message is to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody begins something.
    Request,
    /// An answer to a request.
    Answer,
}

/// What has been sent since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests sent, lost ones included.
    pub requests: u64,
    /// Answers sent.
    pub answers: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// Messages that were lost, by chance or by a partition.
    pub lost: u64,
}

/// When each copy of a message arrives.
#[derive(Clone, Copy, Debug)]
pub struct Arrivals([Option<Instant>; 2]);

impl Iterator for Arrivals {
    type Item = Instant;

    fn next(&mut self) -> Option<Instant> {
        self.0[0].take().or_else(|| self.0[1].take())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.0.iter().flatten().count();
        (left, Some(left))
    }
}

impl ExactSizeIterator for Arrivals {}

/// The network between the nodes of a cluster.
#[derive(Debug)]
pub struct Network {
    quality: Quality,
    /// Its delays in microseconds.
    delays: (u64, u64),
    /// Ordered pairs of nodes between which nothing passes.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Ordered pairs of which one hears the other late.
    slow: Vec<((NodeId, NodeId), Duration)>,
    random: Random,
    traffic: Traffic,
}

impl Network {
    /// A network without partitions.
    pub fn new(quality: Quality, random: Random) -> Self {
        let (cut, slow) = (BTreeSet::new(), Vec::new());
        let delays = quality.delays();
        Self { quality, delays, cut, slow, random, traffic: Traffic::default() }
    }

    /// Changes how well it works.
    pub fn set_quality(&mut self, quality: Quality) {
        self.delays = quality.delays();
        self.quality = quality;
    }

    /// What has been sent.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Nothing passes from `from` to `to`. The other direction is as it was.
    pub fn cut_one_way(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// Nothing passes between the two.
    pub fn cut(&mut self, one: NodeId, two: NodeId) {
        self.cut_one_way(one, two);
        self.cut_one_way(two, one);
    }

    /// Nothing passes between `sides`; within each everything does. Earlier cuts are forgotten.
    pub fn partition(&mut self, sides: &[Vec<NodeId>]) {
        self.cut.clear();
        for (at, side) in sides.iter().enumerate() {
            for other in sides.iter().skip(at + 1) {
                for (&one, &two) in
                    side.iter().flat_map(|one| other.iter().map(move |two| (one, two)))
                {
                    self.cut(one, two);
                }
            }
        }
    }

    /// Everything passes again.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.slow.clear();
    }

    /// What `from` sends to `to` takes longer, by a quarter of this up to all of it. The other
    /// direction is as it was.
    pub fn slow_one_way(&mut self, from: NodeId, to: NodeId, late: Duration) {
        self.slow.push(((from, to), late));
    }

    /// Whether messages pass from `from` to `to`.
    pub fn passes(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.is_empty() || !self.cut.contains(&(from, to))
    }

    /// Sends a message at `now`: when each copy of it arrives. None does, or one, or two do.
    pub fn send(
        &mut self,
        now: Instant,
        from: NodeId,
        to: NodeId,
        kind: Kind,
        bytes: usize,
    ) -> Arrivals {
        match kind {
            Kind::Request => self.traffic.requests += 1,
            Kind::Answer => self.traffic.answers += 1,
        }
        self.traffic.bytes += bytes as u64;
        if !self.passes(from, to) || self.random.chance(self.quality.lost) {
            self.traffic.lost += 1;
            return Arrivals([None, None]);
        }
        let slow = self.slow.iter().find(|(pair, _)| *pair == (from, to));
        let late = slow.map_or(Duration::ZERO, |&(_, late)| self.random.time(late / 4, late));
        let now = now + late;
        let doubled = self.random.chance(self.quality.doubled);
        let second = doubled.then(|| Instant(now.0 + self.delay(kind)));
        Arrivals([second, Some(Instant(now.0 + self.delay(kind)))])
    }

    /// Whether the message at hand is damaged on its way: then by this chance.
    pub fn corrupts(&mut self) -> Option<&mut Random> {
        self.random.chance(self.quality.corrupted).then_some(&mut self.random)
    }

    /// In microseconds.
    fn delay(&mut self, kind: Kind) -> u64 {
        if kind == Kind::Answer && self.random.chance(self.quality.late_answers) {
            return LATE_MIN + self.random.between(0, LATE_MORE);
        }
        let (min, max) = self.delays;
        self.random.between(min, max)
    }
}

const LATE_MIN: u64 = 200_000;
const LATE_MORE: u64 = 2_000_000;
