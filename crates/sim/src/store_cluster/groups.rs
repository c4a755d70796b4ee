//! What a node's replica of a group is like. Where no group is named, the store has one.

use std::sync::Arc;

use bytes::Bytes;
use kontiki_kv::{Machine, QueryAnswer};
use kontiki_raft::{Membership, Role};
use kontiki_replica::GroupStatus;
use kontiki_replica::steward::{self, CONTROLLER, holdings_of};
use kontiki_shard::{Answer, Configuration, Holdings, Move, Query};
use kontiki_storage::engine::MemoryStore;
use kontiki_types::{GroupId, Index, LogTime, NodeId, Term};

use super::node::Running;
use super::sharding;
use super::steps::{MoveStep, Stepped};
use super::{GROUP, StoreCluster};

/// Differences of two states that are told.
const DIFFERENCES_MAX: usize = 8;

impl StoreCluster {
    fn node(&self, node: NodeId) -> Option<&Running> {
        self.nodes.get(&node)?.running.as_ref()
    }

    /// The state machine of a running node's replica.
    pub(super) fn machine(&self, group: GroupId, node: NodeId) -> Option<&Machine<MemoryStore>> {
        self.node(node)?.stage.machines.get(&group)
    }

    /// Up to where a running node's replica has applied its log.
    pub fn applied(&self, node: NodeId) -> Option<Index> {
        self.applied_of(GROUP, node)
    }

    /// As [`StoreCluster::applied`], of some group.
    pub fn applied_of(&self, group: GroupId, node: NodeId) -> Option<Index> {
        Some(self.machine(group, node)?.applied().index)
    }

    /// The state of the group's replica on a node.
    pub fn status(&self, node: NodeId) -> Option<GroupStatus> {
        self.status_of(GROUP, node)
    }

    /// As [`StoreCluster::status`], of some group.
    pub fn status_of(&self, group: GroupId, node: NodeId) -> Option<GroupStatus> {
        let statuses = self.node(node)?.core.statuses();
        statuses.into_iter().find(|status| status.group == group)
    }

    /// The configuration in effect at a running node's replica.
    pub fn membership(&self, node: NodeId) -> Option<Arc<Membership>> {
        self.membership_of(GROUP, node)
    }

    /// As [`StoreCluster::membership`], of some group.
    pub fn membership_of(&self, group: GroupId, node: NodeId) -> Option<Arc<Membership>> {
        Some(self.node(node)?.core.replica(group)?.status().membership)
    }

    /// Whether a running node has a replica of some group.
    pub fn is_member(&self, node: NodeId) -> bool {
        self.groups().into_iter().any(|group| self.has_replica(group, node))
    }

    pub(super) fn has_replica(&self, group: GroupId, node: NodeId) -> bool {
        self.node(node).is_some_and(|node| node.core.replica(group).is_some())
    }

    /// The term of a running node's replica.
    pub fn term(&self, node: NodeId) -> Option<Term> {
        self.term_of(GROUP, node)
    }

    /// As [`StoreCluster::term`], of some group.
    pub fn term_of(&self, group: GroupId, node: NodeId) -> Option<Term> {
        Some(self.node(node)?.core.replica(group)?.term())
    }

    /// The node that leads the highest term, if one does.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader_of(GROUP)
    }

    /// As [`StoreCluster::leader`], of some group.
    pub fn leader_of(&self, group: GroupId) -> Option<NodeId> {
        let leaders = self.nodes.iter().filter_map(|(&id, node)| {
            let replica = node.running.as_ref()?.core.replica(group)?;
            (replica.role() == Role::Leader).then(|| (replica.term(), id))
        });
        leaders.max().map(|(_, id)| id)
    }

    /// Snapshots that a running node has built and installed since it started.
    pub fn snapshots(&self, node: NodeId) -> (u64, u64) {
        let stage = self.node(node).map(|node| &node.stage);
        stage.map_or((0, 0), |stage| (stage.snapshots_built, stage.snapshots_installed))
    }

    /// A hash of the logical state of a running node's replica, and what it has applied.
    pub fn state_hash(&self, node: NodeId) -> Option<(Index, u128)> {
        self.state_hash_of(GROUP, node)
    }

    /// As [`StoreCluster::state_hash`], of some group.
    pub fn state_hash_of(&self, group: GroupId, node: NodeId) -> Option<(Index, u128)> {
        let machine = self.machine(group, node)?;
        Some((machine.applied().index, machine.state_hash().ok()?))
    }

    /// In what the states of two replicas of a group differ, for people.
    pub fn difference(&self, group: GroupId, one: NodeId, other: NodeId) -> String {
        let machines = self.machine(group, one).zip(self.machine(group, other));
        let Some((one, other)) = machines else { return String::new() };
        let (times, mut found) = ((one.log_time(), other.log_time()), Vec::new());
        if times.0 != times.1 {
            found.push(format!("log time {} and {}", times.0.0, times.1.0));
        }
        found.extend(one.differences(other).unwrap_or_else(|error| vec![error.to_string()]));
        found.truncate(DIFFERENCES_MAX);
        found.join("; ")
    }

    /// Rows of a running node's replica that nobody can see, or that are kept for moves.
    pub fn dead_rows_of(&self, group: GroupId, node: NodeId) -> Option<u64> {
        self.machine(group, node)?.dead_rows().ok()
    }

    /// Bytes of a snapshot of a running node's state, as it is now.
    pub fn state_bytes(&self, node: NodeId) -> Option<u64> {
        self.state_bytes_of(GROUP, node)
    }

    /// As [`StoreCluster::state_bytes`], of some group.
    pub fn state_bytes_of(&self, group: GroupId, node: NodeId) -> Option<u64> {
        let mut export = self.machine(group, node)?.export().ok()?;
        export.try_fold(0, |sum, chunk| Some(sum + chunk.ok()?.len() as u64))
    }

    /// Bytes that a running node's replica needs: the log that it keeps, and a snapshot.
    pub fn live_bytes(&self, node: NodeId) -> u64 {
        self.live_bytes_of(GROUP, node)
    }

    /// As [`StoreCluster::live_bytes`], of some group.
    pub fn live_bytes_of(&self, group: GroupId, node: NodeId) -> u64 {
        let log = self.status_of(group, node).map_or(0, |status| status.raft.log_bytes);
        log + self.state_bytes_of(group, node).unwrap_or(0)
    }

    /// Steps of slots on their way are to be told by [`StoreCluster::take_stepped`], or no longer.
    pub fn watch_for_steps(&mut self, watch: bool) {
        self.watches_steps = watch;
    }

    /// The steps that were applied since this was last asked.
    pub fn take_stepped(&mut self) -> Vec<Stepped> {
        std::mem::take(&mut self.stepped)
    }

    /// Who owns which slot, as far as any replica of the controller has applied its log.
    pub fn configuration(&self) -> Option<Arc<Configuration>> {
        self.ownership.configuration().cloned()
    }

    /// The moves of slots under way, as the leader of the controller has applied its log.
    pub fn moves(&self) -> Option<Vec<Move>> {
        let machine = self.machine(CONTROLLER, self.leader_of(CONTROLLER)?)?;
        let reply = machine.query(&steward::ask(&Query::Moves), LogTime(0)).ok()?;
        let QueryAnswer::Reply(reply) = reply else { return None };
        match steward::answered(&reply).ok()? {
            Answer::Moves { moves } => Some(moves),
            _ => None,
        }
    }

    /// What a running node's replica says of slots; `None` if it has nothing to say.
    pub fn holdings(&self, group: GroupId, node: NodeId) -> Option<Holdings> {
        holdings_of(self.machine(group, node)?.steward()?).ok()
    }

    /// An entry was applied: is it a step of a move, and the first time?
    pub(super) fn look_at_step(
        &mut self,
        node: NodeId,
        group: GroupId,
        index: Index,
        payload: Option<&Bytes>,
    ) {
        if !self.config.is_sharded() {
            return;
        }
        let newest = self.newest.entry(group).or_default();
        let is_new = *newest < index;
        *newest = (*newest).max(index);
        if is_new
            && self.watches_steps
            && let Some((step, tag)) = payload.and_then(MoveStep::of)
        {
            self.note(|| format!("{node} is the first to apply {step:?} of {group} at {index}"));
            self.stepped.push(Stepped { step, group, node, tag });
        }
    }

    /// A group's steward has acted at a node: what is served is whose it is.
    pub(super) fn look_at_steward(&mut self, node: NodeId, group: GroupId) {
        if !self.config.is_sharded() {
            return;
        }
        let Some(machine) = self.machine(group, node) else { return };
        let checked = match (sharding::configuration(group, machine), machine.steward()) {
            (Some(configuration), _) => self.ownership.owns(configuration),
            (None, Some(steward)) => {
                let (index, holdings) = (machine.applied().index, holdings_of(steward));
                holdings.map_or(Ok(()), |holdings| {
                    self.ownership.serves(group, index, holdings.serving())
                })
            }
            (None, None) => Ok(()),
        };
        self.check(checked);
    }
}
