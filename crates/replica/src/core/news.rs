//! What nodes know of each other: which configuration is the newest, who leads which group, and
//! which nodes are alive.
//!
//! Each node says at every info interval how far it is, and at once when there is something to say;
//! who has more sends what is missing ([`crate::peer`]). So a node without a replica of the
//! controller hears a configuration from whichever node it hears of it first, and a node without a
//! replica of a group knows who leads it. All of it is for finding the way, never for deciding.
//!
//! Invariants
//! - Of two configurations the one with the higher number holds, and of two leaders of a group the
//!   one of the higher term: so it does not matter in which order, how late or how often news come.
//! - `version` rises whenever something changes that an [`Atlas`] shows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kontiki_shard::Configuration;
use kontiki_types::{Epoch, GroupId, Instant, LogTime, NodeId, Term};

use super::{ALIVE_FOR, Core};
use crate::atlas::{Atlas, FIRST_GROUP, GroupPlace};
use crate::peer::{Led, LedGroup, Life, News};
use crate::steward::CONTROLLER;

/// A node asks another for the same at most this often.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// What another node said of log time counts for so long.
const LOG_TIME_LIFETIME: Duration = Duration::from_secs(5);

/// Groups that one message tells of: with 32 voters each far less than a frame.
const LED_MAX: usize = 256;

/// Who leads a group by the leader's own word.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    term: Term,
    leader: NodeId,
    voters: Vec<NodeId>,
}

/// What another node told.
#[derive(Debug, Default)]
struct Peer {
    life: Life,
    epoch: Option<Epoch>,
    /// Up to which change it is known what it leads.
    led: u64,
    /// When it was last asked for what is missing here, and what it had then.
    asked_at: Option<Instant>,
    asked_for: (Option<Epoch>, u64),
    /// The latest log time of what it leads, and when it said so.
    log_time: (LogTime, Instant),
}

/// What this node has heard, and what it has to tell.
#[derive(Debug, Default)]
pub(super) struct Gossip {
    /// The newest configuration heard of; none in a store that is not sharded.
    configuration: Option<Arc<Configuration>>,
    heard: BTreeMap<GroupId, Heard>,
    peers: BTreeMap<NodeId, Peer>,
    /// The groups led here, each with the number of its last change and what there is to tell.
    led: BTreeMap<GroupId, (u64, LedGroup)>,
    /// Changes of what is led here.
    changes: u64,
    /// Up to which change everybody was told.
    told: u64,
    /// There is a configuration that others may not have heard of.
    tells_epoch: bool,
    /// Log time of whichever group is ahead, and when that was so.
    latest: (LogTime, Instant),
    /// That of the groups led here, of late.
    led_log_time: LogTime,
    alive: Vec<NodeId>,
    version: u64,
}

impl Core {
    /// Takes a configuration that the controller's log holds: from a replica of group 0 here, or
    /// from what the directory remembers. An older one than is known changes nothing.
    pub fn set_configuration(&mut self, configuration: Arc<Configuration>) {
        self.gossip.tells_epoch |= self.hear_configuration(configuration);
    }

    /// Whether it is newer than what was known.
    pub(super) fn hear_configuration(&mut self, configuration: Arc<Configuration>) -> bool {
        let is_news = self.epoch().is_none_or(|known| known < configuration.epoch());
        if is_news {
            self.gossip.configuration = Some(configuration);
            self.gossip.version += 1;
            self.router.reroute(self.now);
            self.look_at_gone();
        }
        is_news
    }

    /// Number of the newest configuration heard of.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.gossip.configuration.as_ref().map(|known| known.epoch())
    }

    /// Rises whenever [`Core::atlas`] changes.
    pub fn atlas_version(&self) -> u64 {
        self.gossip.version
    }

    /// How many groups this node leads, the controller included.
    pub fn groups_led(&self) -> usize {
        self.gossip.led.len()
    }

    /// What this node knows of its cluster.
    pub fn atlas(&self) -> Atlas {
        let mut groups: BTreeMap<GroupId, GroupPlace> = self
            .gossip
            .heard
            .iter()
            .map(|(&id, heard)| {
                (id, GroupPlace { leader: Some(heard.leader), nodes: heard.voters.clone() })
            })
            .collect();
        for (&id, group) in &self.groups {
            // Who has no replica any more hears of elections only from others.
            let newer = self.gossip.heard.get(&id).filter(|heard| heard.term > group.term());
            if newer.is_none() {
                groups.insert(id, group.place());
            }
        }
        let nodes = self.nodes().into_iter().map(|(info, alive)| (info.id, (info, alive)));
        Atlas {
            configuration: self.gossip.configuration.clone(),
            groups,
            nodes: nodes.collect(),
            ..Atlas::default()
        }
    }

    /// The log time of whichever group is ahead, as far as known here; zero before any was heard of.
    ///
    /// Deadlines of writes are counted from it ([`crate::RETENTION_MILLIS`]), whichever group they
    /// go to. That is sound, since a deadline is judged by the group's own log time wherever the write
    /// is applied, and useful, since groups that serve are not far apart: each follows the wall clocks
    /// of a majority of its nodes, a slot moves to no group that is a second ahead, and who takes a
    /// slot takes its source's log time with it. A group that is half a minute behind all the same
    /// refuses the write, saying that its outcome is unknown, and does nothing.
    pub fn latest_log_time(&self) -> LogTime {
        self.log_time(FIRST_GROUP).max(later(self.gossip.latest, self.now))
    }

    /// Finds out anew which group is ahead: an estimate that ran on by a fast clock must not stay.
    fn look_at_log_times(&mut self) {
        let now = self.now;
        let here = self.groups.values().map(|group| group.log_time(now));
        let fresh = |peer: &&Peer| now.since(peer.log_time.1) < LOG_TIME_LIFETIME;
        let told = self.gossip.peers.values().filter(fresh);
        let told = told.map(|peer| later(peer.log_time, now));
        self.gossip.latest = (here.chain(told).max().unwrap_or_default(), now);
    }

    /// Something changed that others may see.
    pub(super) fn atlas_changed(&mut self) {
        self.gossip.version += 1;
    }

    /// Role, term, leader or voters of a replica here changed.
    pub(super) fn place_changed(&mut self, id: GroupId) {
        self.gossip.version += 1;
        self.look_at_voters(id);
        let led = self.groups.get(&id).filter(|group| group.is_leader());
        let Some(group) = led else {
            self.gossip.led.remove(&id);
            return;
        };
        let led = LedGroup { group: id, term: group.term(), voters: group.place().nodes };
        if self.gossip.led.get(&id).is_none_or(|(_, told)| *told != led) {
            self.gossip.changes += 1;
            self.gossip.led.insert(id, (self.gossip.changes, led));
        }
    }

    /// Another node's news: it gets what it lacks, and is asked for what it has more.
    pub(super) fn hear_news(&mut self, from: NodeId, news: News) {
        let peer = self.gossip.peers.entry(from).or_default();
        if peer.life != news.life {
            *peer = Peer { life: news.life, ..Peer::default() };
        }
        peer.epoch = news.epoch;
        peer.log_time = (news.log_time, self.now);
        let lacks_changes = peer.led < news.led;
        if later(self.gossip.latest, self.now) < news.log_time {
            self.gossip.latest = (news.log_time, self.now);
        }
        let mine = self.epoch();
        if mine > news.epoch
            && let Some(configuration) = &self.gossip.configuration
        {
            self.frames.to(from).configuration(configuration);
        }
        let known = if news.your_life == self.life() { news.your_led } else { 0 };
        if known < self.gossip.changes {
            self.tell_led(from, known);
        }
        if lacks_changes || news.epoch > mine {
            let wanted = (news.epoch, news.led);
            if let Some(peer) = self.gossip.peers.get_mut(&from)
                && peer.asked_for != wanted
            {
                (peer.asked_for, peer.asked_at) = (wanted, None);
            }
            self.ask_for_news(from);
        }
    }

    /// Tells a node what this one has, so that it sends what is missing; not too often.
    pub(super) fn ask_for_news(&mut self, of: NodeId) {
        let now = self.now;
        let peer = self.gossip.peers.entry(of).or_default();
        if peer.asked_at.is_none_or(|at| at + ASK_EVERY <= now) {
            peer.asked_at = Some(now);
            self.tell_news(of);
        }
    }

    /// Asks who may know a newer configuration: the nodes with a replica of the controller, or
    /// everybody if none is known.
    pub(super) fn ask_for_configuration(&mut self) {
        let known = self.gossip.heard.get(&CONTROLLER).map(|heard| heard.voters.clone());
        let here = self.groups.get(&CONTROLLER).map(|group| group.place().nodes);
        let nodes = here.or(known).filter(|nodes| !nodes.is_empty());
        let nodes = nodes.unwrap_or_else(|| self.infos.keys().copied().collect());
        for node in nodes {
            if node != self.me.id {
                self.ask_for_news(node);
            }
        }
    }

    /// A leader's word of what it leads.
    pub(super) fn hear_led(&mut self, from: NodeId, led: Led) {
        let Led { life, from: after, to, groups } = led;
        let peer = self.gossip.peers.entry(from).or_default();
        if peer.life != life {
            *peer = Peer { life, ..Peer::default() };
        }
        if after <= peer.led {
            peer.led = peer.led.max(to);
        }
        for LedGroup { group, term, voters } in groups {
            let known = self.gossip.heard.get(&group);
            let told = Heard { term, leader: from, voters };
            if known.is_none_or(|known| known.term <= term && *known != told) {
                self.gossip.heard.insert(group, told);
                self.gossip.version += 1;
            }
        }
    }

    /// At each info interval: everybody hears how far this node is.
    pub(super) fn spread_news(&mut self) {
        self.look_at_log_times();
        let now = self.now;
        let led = self.groups.values().filter(|group| group.is_leader());
        self.gossip.led_log_time = led.map(|group| group.log_time(now)).max().unwrap_or_default();
        let peers: Vec<NodeId> = self.infos.keys().copied().collect();
        for &peer in &peers {
            self.tell_news(peer);
        }
        let walls = &self.walls;
        let alive = |id: &NodeId| walls.last_heard(*id).is_some_and(|at| now.since(at) < ALIVE_FOR);
        let alive: Vec<NodeId> = peers.into_iter().filter(alive).collect();
        if alive != self.gossip.alive {
            self.gossip.alive = alive;
            self.gossip.version += 1;
        }
    }

    /// What is to be told at once.
    pub(super) fn spread_changes(&mut self) {
        if self.gossip.told == self.gossip.changes && !self.gossip.tells_epoch {
            return;
        }
        let from = std::mem::replace(&mut self.gossip.told, self.gossip.changes);
        let tells_epoch = std::mem::take(&mut self.gossip.tells_epoch);
        let peers: Vec<NodeId> = self.infos.keys().copied().collect();
        for peer in peers {
            if from < self.gossip.changes {
                self.tell_led(peer, from);
            }
            let knows = self.gossip.peers.get(&peer).and_then(|peer| peer.epoch);
            if tells_epoch && knows < self.epoch() {
                self.tell_news(peer);
            }
        }
    }

    fn tell_news(&mut self, to: NodeId) {
        let peer = self.gossip.peers.get(&to);
        let news = News {
            life: self.life(),
            epoch: self.epoch(),
            led: self.gossip.changes,
            log_time: self.gossip.led_log_time,
            your_life: peer.map(|peer| peer.life).unwrap_or_default(),
            your_led: peer.map_or(0, |peer| peer.led),
        };
        self.frames.to(to).news(&news);
    }

    /// Tells a node what changed of what is led here, after change `known`.
    fn tell_led(&mut self, to: NodeId, known: u64) {
        let life = self.life();
        let led = self.gossip.led.values();
        let mut changed: Vec<&(u64, LedGroup)> = led.filter(|(at, _)| *at > known).collect();
        changed.sort_unstable_by_key(|(at, _)| *at);
        let mut from = known;
        for part in changed.chunks(LED_MAX) {
            let end = part.last().map_or(from, |(at, _)| *at);
            let groups = part.iter().map(|(_, group)| group.clone());
            let led = Led { life, from, to: end, groups: groups.collect() };
            self.frames.to(to).led(&led);
            from = end;
        }
        if from < self.gossip.changes {
            // What changed since is not led here any more.
            let led = Led { life, from, to: self.gossip.changes, groups: Vec::new() };
            self.frames.to(to).led(&led);
        }
    }

    /// This life of this node.
    pub(super) fn life(&self) -> Life {
        Life { incarnation: self.me.incarnation, boot: self.me.boot }
    }

    /// The newest configuration heard of, to be kept.
    pub(super) fn newest_configuration(&self) -> Option<Arc<Configuration>> {
        self.gossip.configuration.clone()
    }

    /// The newest configuration heard of.
    pub(super) fn configuration(&self) -> Option<&Configuration> {
        self.gossip.configuration.as_deref()
    }

    /// Who leads a group of which there is no replica here, and who may have one, as far as heard.
    pub(super) fn heard_place(&self, group: GroupId) -> Option<(NodeId, &[NodeId])> {
        self.gossip.heard.get(&group).map(|heard| (heard.leader, &heard.voters[..]))
    }
}

/// The log time that was `time.0` at `time.1`; zero stays zero.
fn later(time: (LogTime, Instant), now: Instant) -> LogTime {
    if time.0 == LogTime(0) {
        return time.0;
    }
    let since = u64::try_from(now.since(time.1).as_millis()).unwrap_or(u64::MAX);
    LogTime(time.0.0.saturating_add(since))
}
