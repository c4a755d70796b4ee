//! Which disks were damaged, and which more may be.
//!
//! Raft keeps what was acknowledged as long as, in each configuration, more than half of the voters
//! keep what they had synced. So a disk may be damaged only if that stays true in every
//! configuration that anybody takes for the present one, or took when it stopped. Then a loss is
//! always our bug.

use std::collections::{BTreeMap, BTreeSet};

use kontiki_raft::Membership;
use kontiki_types::{GroupId, Member, NodeId};

use crate::store_cluster::StoreCluster;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Atlas {
    /// Members whose disk may have lost something that they had promised.
    damaged: BTreeSet<Member>,
    /// Nodes whose disk was damaged and that were neither replaced nor seen to be whole since.
    pub(super) suspects: BTreeSet<NodeId>,
    /// The configuration of each group that each node last had.
    known: BTreeMap<(NodeId, GroupId), std::sync::Arc<Membership>>,
}

impl Atlas {
    /// Notes the configurations of all nodes that run.
    pub(super) fn look(&mut self, cluster: &StoreCluster) {
        for node in cluster.node_ids() {
            for group in cluster.groups() {
                if let Some(membership) = cluster.membership_of(group, node) {
                    self.known.insert((node, group), membership);
                }
            }
        }
    }

    /// Whether all configurations keep a majority of whole disks without those of `node`, and
    /// without the votes of `leaving`.
    fn survives(&self, node: Option<NodeId>, leaving: Option<NodeId>) -> bool {
        self.known.values().all(|membership| {
            [&membership.voters, &membership.outgoing].into_iter().all(|voters| {
                let voters = voters.iter().filter(|voter| Some(voter.node) != leaving);
                let (mut all, mut whole) = (0, 0);
                for voter in voters {
                    all += 1;
                    // A replica that was added anew stands on the same disk as the one before.
                    let hit = Some(voter.node) == node
                        || self.damaged.contains(voter)
                        || self.suspects.contains(&voter.node);
                    whole += usize::from(!hit);
                }
                all == 0 || whole > all / 2
            })
        })
    }

    /// Whether the disk of `node` may be damaged while replicas are `leaving`, or are about to.
    pub(super) fn may_damage(
        &mut self,
        cluster: &StoreCluster,
        node: NodeId,
        leaving: impl Iterator<Item = NodeId>,
    ) -> bool {
        self.look(cluster);
        // A change that is under way makes other majorities; one after the other.
        let settled = self.known.values().all(|membership| membership.outgoing.is_empty());
        let mut leaving = leaving.map(Some).chain([None]);
        settled
            && self.suspects.is_empty()
            && leaving.all(|leaving| self.survives(Some(node), leaving))
    }

    /// Whether a group with this configuration still keeps a majority of whole disks when `node` votes
    /// too: a group that has just begun on one node gets a whole disk for its second one.
    pub(super) fn may_add(&self, node: NodeId, to: &Membership) -> bool {
        let is_whole = |node| !self.suspects.contains(&node);
        let whole = to.voters.iter().filter(|voter| is_whole(voter.node)).count();
        is_whole(node) || whole > to.voters.len().div_ceil(2)
    }

    /// Whether the replica of `node` may be removed.
    pub(super) fn may_remove(&mut self, cluster: &StoreCluster, node: NodeId) -> bool {
        self.look(cluster);
        self.survives(None, Some(node))
    }

    /// The disk of `node` is damaged.
    pub(super) fn damages(&mut self, node: NodeId) {
        self.suspects.insert(node);
        for membership in self.known.values() {
            self.damaged.extend(membership.members().filter(|member| member.node == node));
        }
    }

    /// The node came up from its damaged disk: it has what it had promised, and says so itself.
    pub(super) fn is_whole(&mut self, node: NodeId) {
        self.suspects.remove(&node);
        self.damaged.retain(|member| member.node != node);
    }

    /// The node has another directory; the members it was before never come back.
    pub(super) fn is_replaced(&mut self, node: NodeId) {
        self.suspects.remove(&node);
        self.known.retain(|(of, _), _| *of != node);
    }
}
