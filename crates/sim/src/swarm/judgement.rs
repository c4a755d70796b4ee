//! After the faults: recovery within a bounded time, and what must then be true.

use std::collections::BTreeMap;
use std::time::Duration;

use kontiki_replica::FIRST_GROUP;
use kontiki_replica::steward::CONTROLLER;
use kontiki_storage::disk::Crash;
use kontiki_types::{GroupId, NodeId};

use super::books::Books;
use super::{Alarm, FaultKind, OPERATIONS_MIN, Swarm, TIME_MIN};
use crate::history::Request;
use crate::invariants::{Checked, Violation};
use crate::linearizability::{self, Budget, Clocks, Verdict};
use crate::store_cluster::Call;

/// Somebody leads within this time after the last fault.
const ELECT_WITHIN: Duration = Duration::from_secs(8);
/// And everything that was broken is replaced within this.
const REPAIR_WITHIN: Duration = Duration::from_secs(30);
/// Calls are over within this time once no more are made.
const FINISH_WITHIN: Duration = Duration::from_secs(12);
/// Replicas are level within this time once nothing is written any more.
const LEVEL_WITHIN: Duration = Duration::from_secs(6);
/// Rows that nobody can see are deleted within this time once no slot moves.
const DELETE_WITHIN: Duration = Duration::from_secs(8);
/// How long a final read may take.
const READ_WITHIN: Duration = Duration::from_secs(8);
/// Enough operations are served within this time.
const SERVE_WITHIN: Duration = Duration::from_secs(240);

/// Segments of the log, in bytes, that a node may have beyond what it keeps for others.
const SEGMENT_SLACK: u64 = 12;
/// Inputs that may wait at a node of so few clients.
const INPUTS_MAX: usize = 5000;

impl Swarm {
    /// All faults stop, and the cluster recovers.
    pub(super) fn recover(&mut self) -> Checked {
        self.cluster.watch_for_installs(false);
        self.end_moves();
        for at in 0..self.plan.faults.len() {
            // What still waits for its moment has missed it.
            self.struck[at].tries = u32::MAX / 2;
            self.end_fault(at);
        }
        for node in self.cluster.node_ids() {
            self.cluster.pause(node, Duration::ZERO);
            self.cluster.cut_clients(node, Duration::ZERO);
            self.cluster.clog(node, Duration::ZERO);
            self.cluster.disk(node).set_capacity(u64::MAX / 2);
            self.cluster.disk(node).mend();
            if self.atlas.suspects.contains(&node) && self.cluster.is_running(node) {
                // Whether the disk still holds what it must is seen at a start.
                self.down(node, Crash::LoseAll);
            }
            self.set(self.cluster.now(), Alarm::Restart(node));
        }
        let begun = self.cluster.now();
        let all_led = |swarm: &Self| {
            let mut groups = swarm.cluster.groups().into_iter();
            groups.all(|group| swarm.cluster.leader_of(group).is_some())
        };
        if !self.live(begun + ELECT_WITHIN, all_led)? {
            return liveness(format!("nobody leads {ELECT_WITHIN:?} after the last fault"));
        }
        let repaired = self.live(begun + REPAIR_WITHIN, |swarm| {
            swarm.operator.is_done() && swarm.cluster.all_run() && swarm.moves_are_over()
        })?;
        if !repaired {
            let (wishes, running) = (self.operator.wishes(), self.cluster.running());
            let moves = self.mover.as_ref().map_or(&[][..], |mover| mover.left());
            let unsettled = self.unsettled();
            return liveness(format!(
                "{REPAIR_WITHIN:?} after the last fault {wishes:?} are to do, {running:?} run, \
                 {moves:?} are under way, {unsettled:?} have not begun or lack replicas"
            ));
        }
        self.live(self.start + TIME_MIN, |_| false)?;
        let served = |swarm: &Self| swarm.completed >= OPERATIONS_MIN;
        if !self.is_cut && !self.live(self.cluster.now() + SERVE_WITHIN, served)? {
            return liveness(format!("only {} operations were served", self.completed));
        }
        self.is_serving = false;
        if !self.live(self.cluster.now() + FINISH_WITHIN, Self::all_clients_idle)? {
            return liveness("calls are not answered, or given up".to_owned());
        }
        Ok(())
    }

    /// Looks whether what is there is what must be there.
    pub(super) fn judge(&mut self) -> Checked {
        if !self.live(self.cluster.now() + LEVEL_WITHIN, |swarm| swarm.not_level().is_empty())? {
            let behind = self.not_level().join("; ");
            return liveness(format!("the replicas do not come level: {behind}"));
        }
        self.look()?;
        self.judge_slots()?;
        let nodes = self.members();
        if nodes.is_empty() {
            return liveness("nobody leads in the end".to_owned());
        }
        for (at, key) in Books::keys().into_iter().enumerate() {
            let reply = self.read(nodes[at % nodes.len()], &key)?;
            self.books.audit(&key, &reply)?;
        }
        let budget = Budget {
            steps: LINEARIZABILITY_STEPS,
            clocks: Clocks { ahead: self.clocks_ahead(), behind: None },
            ..Budget::default()
        };
        match linearizability::check(&self.history, &budget) {
            Verdict::Linearizable(effort) => self.linearizable += effort.groups,
            Verdict::NoVerdict(_) => self.no_verdict += 1,
            Verdict::Violation(violation) => {
                let seen = violation.to_string();
                self.unordered = Some(violation);
                return Err(Violation::new("Linearizability", seen));
            }
        }
        Ok(())
    }

    /// Every slot is served by its owner alone, and of the moves nothing is left.
    fn judge_slots(&mut self) -> Checked {
        let Some(known) = self.cluster.configuration() else { return Ok(()) };
        let data_groups = |swarm: &Self| {
            let groups = swarm.cluster.groups().into_iter();
            groups.filter(|group| *group != CONTROLLER).collect::<Vec<_>>()
        };
        let dead = |swarm: &Self| {
            let mut dead = Vec::new();
            for group in data_groups(swarm) {
                for node in swarm.members_of(group) {
                    let rows = swarm.cluster.dead_rows_of(group, node).unwrap_or(0);
                    if rows > 0 {
                        dead.push(format!("{rows} rows of {group} at {node}"));
                    }
                }
            }
            dead
        };
        if !self.live(self.cluster.now() + DELETE_WITHIN, |swarm| dead(swarm).is_empty())? {
            let seen = format!("{DELETE_WITHIN:?} later there are {}", dead(self).join(", "));
            return Err(Violation::new("Of a move nothing is left", seen));
        }
        for group in data_groups(self) {
            let owned = known.slots_of(Some(group));
            for node in self.members_of(group) {
                let Some(holdings) = self.cluster.holdings(group, node) else { continue };
                let serving = holdings.serving();
                if serving != owned {
                    let seen = format!("{group} at {node} serves {serving}, and has {owned}");
                    return Err(Violation::new("Every slot is served by its owner", seen));
                }
                let open = holdings.exports().len() + holdings.imports().len();
                if open > 0 {
                    let seen = format!("{group} at {node} has {open} parts of moves open");
                    return Err(Violation::new("Of a move nothing is left", seen));
                }
            }
        }
        Ok(())
    }

    /// By how much log time may be ahead of the true time.
    fn clocks_ahead(&self) -> Duration {
        let count = |kind: FaultKind| self.counts[kind.number()];
        if count(FaultKind::WallClockJump) > 1 {
            // Perhaps of a majority at once.
            CLOCKS_JUMPED
        } else if count(FaultKind::WallClockJump) > 0 {
            CLOCKS_CAUGHT_UP
        } else if count(FaultKind::ClockDrift) > 0 {
            CLOCKS_DRIFTED
        } else {
            CLOCKS_GOOD
        }
    }

    /// The nodes of the voters. A node whose replica was removed while it was down may not know it.
    fn members(&self) -> Vec<NodeId> {
        self.members_of(if self.mover.is_some() { CONTROLLER } else { FIRST_GROUP })
    }

    /// As [`Swarm::members`], of some group.
    fn members_of(&self, group: GroupId) -> Vec<NodeId> {
        let leader = self.cluster.leader_of(group);
        let membership = leader.and_then(|leader| self.cluster.membership_of(group, leader));
        let voters = membership.iter().flat_map(|membership| &membership.voters);
        voters.map(|voter| voter.node).collect()
    }

    /// Groups without a leader, and members that have not applied what their leader has in its log.
    fn not_level(&self) -> Vec<String> {
        let mut behind = Vec::new();
        for group in self.cluster.groups() {
            let leader = self.cluster.leader_of(group);
            let status = leader.and_then(|leader| self.cluster.status_of(group, leader));
            let Some(status) = status else {
                behind.push(format!("{group}: nobody leads"));
                continue;
            };
            let last = status.raft.last.index;
            for voter in &status.raft.membership.voters {
                let applied = self.cluster.applied_of(group, voter.node);
                if applied != Some(last) {
                    let node = voter.node;
                    behind.push(format!("{group}: {node} applied {applied:?} of {last}"));
                }
            }
        }
        behind
    }

    /// A read through a node by a client of its own.
    fn read(&mut self, node: NodeId, key: &str) -> Result<kontiki_resp::Reply, Violation> {
        let client = self.cluster.client(node);
        let asked = self.cluster.now();
        self.cluster.call(client, &Call::new(&["GET", key]));
        let end = asked + READ_WITHIN;
        while self.cluster.now() < end {
            if self.cluster.is_free(client) {
                break;
            }
            match self.cluster.wait(end)? {
                Some(crate::store_cluster::Woken::Alarm(number)) => {
                    self.ring(self.alarms[number as usize])?;
                }
                Some(_) | None => {
                    let ended = self.cluster.take_ended();
                    if let Some(ended) = ended.into_iter().find(|ended| ended.client == client) {
                        let reply = ended.reply().cloned();
                        let number = self.clients.len();
                        let request = Request::command(&["GET", key]);
                        self.record(number, request, asked, reply.clone(), ended.at)?;
                        if let Some(reply) = reply.filter(|_| ended.error().is_none()) {
                            return Ok(reply);
                        }
                    }
                }
            }
        }
        Err(Violation::new(
            "Liveness",
            format!("{key} cannot be read through {node} within {READ_WITHIN:?} after all faults"),
        ))
    }

    /// What is looked at from time to time: equal states at equal positions, and sizes.
    pub(super) fn look(&mut self) -> Checked {
        let mut states = BTreeMap::new();
        let groups = self.cluster.groups();
        for node in self.cluster.running() {
            for &group in &groups {
                let Some((index, state)) = self.cluster.state_hash_of(group, node) else {
                    continue;
                };
                let (other, known) = *states.entry((group, index)).or_insert((node, state));
                if known != state {
                    return Err(Violation::new(
                        "Replicas at the same position have the same state",
                        format!(
                            "{other} and {node} differ at {index} of {group}: {}",
                            self.cluster.difference(group, other, node)
                        ),
                    ));
                }
            }
            let Some((segments, inputs, _)) = self.cluster.sizes(node) else { continue };
            let config = &self.plan.config;
            let keeps = config.group.log_keep_bytes * 4 * groups.len() as u64;
            let bound = keeps + SEGMENT_SLACK * config.segment_bytes;
            if segments > bound || inputs > INPUTS_MAX {
                return Err(Violation::new(
                    "Everything is bounded",
                    format!("{node} has {segments} bytes of log and {inputs} inputs that wait"),
                ));
            }
        }
        Ok(())
    }
}

fn liveness(seen: String) -> Checked {
    Err(Violation::new("Liveness", seen))
}

/// Steps that the search for an order may take.
const LINEARIZABILITY_STEPS: u64 = 10_000_000;
/// Wall clocks jump by up to an hour, and log time may follow a majority of them.
const CLOCKS_JUMPED: Duration = Duration::from_secs(10_000);
/// One wall clock that went back, with another node away, leaves no majority of good ones: log time
/// then loses what passes while nobody leads, and catches up when the node is back (seed 27992).
const CLOCKS_CAUGHT_UP: Duration = Duration::from_secs(60);
/// A leader's clock runs up to a fifth too fast.
const CLOCKS_DRIFTED: Duration = Duration::from_secs(60);
/// Elapsed time is counted in whole milliseconds.
const CLOCKS_GOOD: Duration = Duration::from_millis(500);
