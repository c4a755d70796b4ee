//! What happens to nodes: they crash, end and start; their disks, clocks and connections go wrong.

use std::time::Duration;

use kontiki_storage::disk::{Crash, SimDisk};
use kontiki_storage::engine::MemoryEngine;
use kontiki_types::{GroupId, Incarnation, Instant, NodeId};

use super::{Node, StoreCluster, opening};
use crate::invariants::Violation;
use crate::random::Random;

impl Node {
    pub(super) fn new(incarnation: Incarnation, disk: SimDisk) -> Self {
        Self {
            incarnation,
            disk,
            engine: Some(MemoryEngine::new()),
            running: None,
            life: 0,
            paused_until: Instant(0),
            clients_cut_until: Instant(0),
            clogged_until: Instant(0),
            clock: super::NodeClock::default(),
            is_excused: false,
        }
    }
}

impl StoreCluster {
    /// Moves a node's wall clock to this many milliseconds ahead of the true time.
    pub fn set_wall_clock(&mut self, node: NodeId, ahead: i64) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.clock.set_wall(ahead);
        }
    }

    /// A node's clocks run faster than the true time by this, in parts per million, or slower.
    pub fn drift(&mut self, node: NodeId, ppm: i32) {
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&node) {
            node.clock.drift(now, ppm);
        }
    }

    /// A node stands still for this long.
    pub fn pause(&mut self, node: NodeId, time: Duration) {
        let until = self.now + time;
        if let Some(node) = self.nodes.get_mut(&node) {
            node.paused_until = until;
        }
    }

    /// What a node and its clients say to each other arrives only after this time.
    pub fn cut_clients(&mut self, node: NodeId, time: Duration) {
        let until = self.now + time;
        if let Some(node) = self.nodes.get_mut(&node) {
            node.clients_cut_until = until;
        }
    }

    /// What is sent to a node or by it arrives only after this time, all at once.
    pub fn clog(&mut self, node: NodeId, time: Duration) {
        let until = self.now + time;
        if let Some(node) = self.nodes.get_mut(&node) {
            node.clogged_until = until;
        }
    }

    /// The next sync of a node's log takes this long.
    pub fn stall_disk(&mut self, node: NodeId, time: Duration) {
        if let Some(running) = self.nodes.get_mut(&node).and_then(|node| node.running.as_mut()) {
            running.stall(time);
        }
    }

    /// Whether a node's log is in the middle of a write.
    pub fn is_log_busy(&self, node: NodeId) -> bool {
        self.nodes[&node].running.as_ref().is_some_and(|running| running.is_log_busy())
    }

    /// Whether a node's log has something that is not durable yet, or not known to be.
    pub fn is_writing(&self, node: NodeId) -> bool {
        self.nodes[&node].running.as_ref().is_some_and(|running| running.is_writing())
    }

    /// The node's disk is tampered with: from here on it may end by itself or refuse to start.
    pub fn excuse(&mut self, node: NodeId, excused: bool) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.is_excused = excused;
        }
    }

    /// Whether a node may end by itself.
    pub fn is_excused(&self, node: NodeId) -> bool {
        self.nodes[&node].is_excused
    }

    /// The power of a node fails, or with [`Crash::Kill`] only its process ends; it stays down.
    /// Clients connected to it learn nothing more.
    pub fn crash(&mut self, id: NodeId, crash: Crash) {
        self.note(|| format!("{id} crashes {crash:?}"));
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.life += 1;
        if let Some(running) = node.running.take() {
            let disk = node.disk.clone();
            node.engine = Some(running.cut_off(&disk, &mut self.random));
        }
        node.disk = node.disk.crash(crash);
        node.paused_until = Instant(0);
        for checks in self.checks.values_mut() {
            checks.stops(id);
        }
        let lost: Vec<_> =
            self.connections.range((id, 0)..=(id, u64::MAX)).map(|(&key, &of)| (key, of)).collect();
        for (key, client) in lost {
            self.connections.remove(&key);
            self.connection_lost(client);
        }
        self.sessions_lost(id);
    }

    /// A node ends by itself.
    pub(super) fn exits(&mut self, id: NodeId, why: String) {
        self.note(|| format!("{id} ends: {why}"));
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.running.is_some()) else {
            return;
        };
        if !node.is_excused {
            let seen = format!("{id} cannot go on: {why}");
            return self.check(Err(Violation::new("A node serves on", seen)));
        }
        let seed = self.random.number();
        self.crash(id, Crash::Kill(seed));
        self.exited.push((id, why));
    }

    /// Brings a node up again.
    ///
    /// # Errors
    /// Why it refuses to start.
    pub fn start(&mut self, id: NodeId) -> Result<(), String> {
        let peers = self.nodes.iter().filter(|&(&other, _)| other != id);
        let peers = peers.map(|(&other, node)| opening::info(other, node.incarnation, 0)).collect();
        let (now, wall) = self.clocks(id);
        let Some(node) = self.nodes.get_mut(&id) else { return Err(format!("there is no {id}")) };
        if node.running.is_some() {
            return Ok(());
        }
        // A start that fails must not lose the state.
        let engine = node.engine.as_ref().map_or_else(MemoryEngine::new, MemoryEngine::clone_whole);
        let disk = node.disk.clone();
        let clocks = (now, wall);
        let opened = opening::open(&self.config, id, disk, engine, peers, clocks, &mut self.random);
        let mut running = opened.map_err(|error| {
            let seed = self.random.number();
            if let Some(node) = self.nodes.get_mut(&id) {
                // The process ends; whatever it held open is free again.
                node.disk = node.disk.crash(Crash::Kill(seed));
            }
            format!("{id} cannot start: {error}")
        })?;
        running.set_clock(now, wall);
        running.begin();
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        node.engine = None;
        node.running = Some(running);
        self.note(|| format!("{id} starts"));
        self.follow_up(id);
        Ok(())
    }

    /// In a running node's replica of `group` a key's row changes by itself.
    ///
    /// # Errors
    /// The node does not run, or has no such key.
    pub fn rot(&mut self, id: NodeId, group: GroupId, key: &[u8]) -> Result<(), String> {
        let node = self.nodes.get_mut(&id).and_then(|node| node.running.as_mut());
        node.ok_or("it does not run")?.stage.rot(group, key)
    }

    /// A node that is down gets an empty disk.
    pub fn wipe(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.disk = SimDisk::new();
        node.engine = Some(MemoryEngine::new());
    }

    /// The next start of the node reads its whole log, and so finds what is damaged of it.
    ///
    /// # Errors
    /// The disk fails.
    pub fn read_all_at_start(&mut self, id: NodeId) -> Result<(), String> {
        self.nodes.get(&id).map_or(Ok(()), |node| opening::remove_indexes(&node.disk))
    }

    /// An empty disk is formatted for a node that joins the cluster.
    ///
    /// # Errors
    /// The disk is not empty, or fails.
    pub fn format(&mut self, id: NodeId) -> Result<(), String> {
        let incarnation = Incarnation(self.random.number());
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        opening::format(&node.disk, id, incarnation, &[])?;
        node.incarnation = incarnation;
        node.is_excused = false;
        Ok(())
    }

    /// Two nodes that are down get each other's disk.
    pub fn swap_disks(&mut self, one: NodeId, two: NodeId) {
        let Some(mut first) = self.nodes.remove(&one) else { return };
        if let Some(second) = self.nodes.get_mut(&two) {
            std::mem::swap(&mut first.disk, &mut second.disk);
            std::mem::swap(&mut first.engine, &mut second.engine);
        }
        self.nodes.insert(one, first);
    }

    /// What of a running node's work grows if nobody bounds it: bytes of the log's segments, inputs
    /// that wait, and connections.
    pub fn sizes(&self, node: NodeId) -> Option<(u64, usize, usize)> {
        Some(self.nodes[&node].running.as_ref()?.sizes())
    }

    /// The chance of a fault's own, so that leaving one out does not move the others.
    pub fn fork_random(&mut self) -> Random {
        self.random.fork()
    }
}
