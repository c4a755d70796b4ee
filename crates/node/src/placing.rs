//! Has the replicas of groups where the controller wants them: begins groups that have joined, has
//! groups led here change their members, and removes what is left of groups that are gone.
//!
//! What is next for a group is decided in [`kontiki_replica::placement`]; here it is carried out,
//! again and again until everything is settled. Then the task sleeps until something changes.
//!
//! **Beginning.** A group that has joined begins with one replica, on the first node that was wanted
//! for it. That node notes in its directory that it claims the group, and then has the controller
//! note it, which takes the first claim only ([`Op::Observe`] at the entry after which every such
//! group begins); so no two nodes begin it, and no directory but the one that has claimed it
//! (PROTOCOL 6). The replica's id is of this life of the group's id.
//!
//! **Removing.** A replica of a group that the controller has no more, read behind a read index, gets
//! its tombstone and is dropped: such a group never comes back, only another one of the same id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kontiki_raft::Role;
use kontiki_replica::placement::{
    Pace, Placing, controller_nodes, first_replica, leaders, life_of, place,
};
use kontiki_replica::steward::{BEGINS_AFTER, Beginning, CONTROLLER};
use kontiki_replica::{ChangeKind, FIRST_GROUP, GroupStatus, Host};
use kontiki_shard::{Call, Configuration, GroupEntry, GroupRef, Observed, Op, Told};
use kontiki_storage::directory::Directory;
use kontiki_storage::disk::RealDisk;
use kontiki_types::{GroupId, Instant, Member, NodeId, Term};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::clock;
use crate::event_loop::{Input, StatusReport};
use crate::reshape;
use crate::shared::Shared;
use crate::start::FOUNDING_REPLICA;

/// How soon it is looked again while something is not settled, and how soon if nothing has come of
/// it for long.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(2);

/// How long what happens together is waited for.
const GATHER: Duration = Duration::from_millis(20);

/// Also without news it is looked this often.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Wakes the task.
#[derive(Debug, Default)]
pub(crate) struct Waker {
    arrived: Notify,
    /// The store is to be sharded.
    shards: AtomicBool,
}

impl Waker {
    pub(crate) fn wake(&self) {
        self.arrived.notify_one();
    }

    /// Has the store be sharded: a controller begins, and the group that there is shares. Comes to
    /// its end also if this node starts again meanwhile; [`kontiki_replica::Atlas::is_sharded`] says when.
    pub(crate) fn enable_sharding(&self) {
        self.shards.store(true, Ordering::Release);
        self.wake();
    }
}

/// What the task knows.
struct Placer {
    node: Arc<Shared>,
    directory: Arc<Mutex<Directory<RealDisk>>>,
    /// What the controller has of members, as last read or told.
    observed: BTreeMap<GroupId, Observed>,
    /// Groups with a change under way.
    changing: BTreeSet<GroupId>,
    changes: JoinSet<GroupId>,
    /// Since when a group is led here, in which term, or when it was last tried to move its leader.
    led: BTreeMap<GroupId, (Term, Instant)>,
    pace: Pace,
}

/// Runs until the node stops.
pub(crate) async fn run(
    node: Arc<Shared>,
    directory: Arc<Mutex<Directory<RealDisk>>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut placer = Placer {
        node: Arc::clone(&node),
        directory,
        observed: BTreeMap::new(),
        changing: BTreeSet::new(),
        changes: JoinSet::new(),
        led: BTreeMap::new(),
        pace: Pace::default(),
    };
    let (mut wait, mut again) = (GATHER, AGAIN);
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            () = node.placing.arrived.notified() => {
                tokio::time::sleep(GATHER).await;
                again = AGAIN;
            }
            Some(Ok(group)) = placer.changes.join_next(), if !placer.changes.is_empty() => {
                placer.changing.remove(&group);
                again = AGAIN;
            }
            () = tokio::time::sleep(wait) => {}
        }
        let turn = placer.turn();
        let is_settled = tokio::select! {
            is_settled = turn => is_settled,
            _ = stop.changed() => return,
        };
        wait = if is_settled { LOOK_EVERY } else { again };
        again = if is_settled { AGAIN } else { (2 * again).min(AGAIN_MAX) };
    }
}

impl Placer {
    /// Does what there is to do; whether nothing is left.
    async fn turn(&mut self) -> bool {
        if self.node.stopping.load(Ordering::Acquire) {
            // What is led here goes elsewhere, and that is all.
            return true;
        }
        let Some(configuration) = self.node.atlas().configuration.clone() else {
            return self.adopt().await;
        };
        let (sender, report) = oneshot::channel();
        self.node.events.send(Input::Status(sender));
        let Ok(report) = report.await else { return true };
        let mut is_settled = self.place_led(&configuration, &report).await;
        let here: BTreeMap<GroupId, Member> =
            report.groups.iter().map(|status| (status.group, status.raft.me)).collect();
        for (id, entry) in configuration.groups() {
            if !here.contains_key(&id) && self.is_to_begin(id, entry) {
                let group = GroupRef { id, joined: entry.joined };
                self.begin(group).await;
                is_settled = false;
            }
        }
        is_settled & self.remove_gone(&configuration, &here).await
    }

    async fn place_led(&mut self, configuration: &Configuration, report: &StatusReport) -> bool {
        let mut is_settled = true;
        let leads = |status: &&GroupStatus| status.raft.role == Role::Leader;
        let led: BTreeSet<GroupId> =
            report.groups.iter().filter(leads).map(|status| status.group).collect();
        self.led.retain(|group, _| led.contains(group));
        let controller = report.groups.iter().find(|status| status.group == CONTROLLER);
        let controller = controller.map(members).unwrap_or_default();
        let to_lead = leaders(configuration, &controller, &report.nodes);
        let now = clock::now();
        for status in report.groups.iter().filter(leads) {
            let group = status.group;
            let members = members(status);
            let wanted = match configuration.group(group) {
                _ if group == CONTROLLER => controller_nodes(configuration, &members),
                Some(entry) => entry.nodes.clone(),
                None => continue,
            };
            let term = status.raft.term;
            let since = self.led.entry(group).or_insert((term, now));
            if since.0 != term {
                *since = (term, now);
            }
            let may_transfer = self.pace.allows(group, since.1, now);
            match place(&status.raft, &wanted, to_lead.get(&group).copied(), &report.nodes) {
                Placing::Settled => {}
                Placing::Wait => is_settled = false,
                Placing::Change(kind) => {
                    is_settled = false;
                    let is_transfer = matches!(kind, ChangeKind::Transfer(_));
                    if !self.changing.contains(&group) && (may_transfer || !is_transfer) {
                        *since = (term, now);
                        if is_transfer {
                            self.pace.note(group, now);
                        }
                        self.change(group, kind);
                    }
                }
            }
            is_settled &= self.observe(configuration, status, members).await;
        }
        is_settled
    }

    fn change(&mut self, group: GroupId, kind: ChangeKind) {
        info!(%group, ?kind, "replicas are moved to where they are wanted");
        self.changing.insert(group);
        let (done, result) = oneshot::channel();
        self.node.events.send(Input::Change { group, kind, done });
        self.changes.spawn(async move {
            if let Ok(Err(failure)) = result.await {
                info!(%group, ?kind, ?failure, "a change of members has not come about");
            }
            group
        });
    }

    /// Tells the controller which members a group has.
    async fn observe(
        &mut self,
        configuration: &Configuration,
        status: &GroupStatus,
        nodes: Vec<NodeId>,
    ) -> bool {
        let Some(group) = configuration.group_ref(status.group) else { return true };
        let (membership, at) = (&status.raft.membership, status.raft.membership_id);
        if membership.is_joint() || at.index > status.raft.commit {
            return false;
        }
        let is_known = |observed: &BTreeMap<GroupId, Observed>| {
            observed.get(&group.id).is_some_and(|known| known.at >= at || known.nodes == nodes)
        };
        if is_known(&self.observed) {
            return true;
        }
        // Another leader may have told.
        self.read_observed().await;
        if is_known(&self.observed) {
            return true;
        }
        let op = Op::Observe { group, at, nodes: nodes.clone() };
        let is_told = reshape::decide(&self.node, op).await.is_ok();
        if is_told {
            self.observed.insert(group.id, Observed { at, nodes });
        }
        is_told
    }

    /// Reads what the controller has, and its configuration.
    async fn read_observed(&mut self) -> Option<Configuration> {
        let overview = reshape::overview(&self.node).await.ok()?;
        self.observed = overview.observed;
        Some(overview.configuration)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Directory<RealDisk>> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this node is to begin a group, or has claimed it before.
    fn is_to_begin(&self, id: GroupId, entry: &GroupEntry) -> bool {
        let directory = self.lock();
        let claimed = directory.note(&claim_note(id)) == Some(entry.joined.to_string().as_str());
        let is_first = entry.nodes.first() == Some(&self.node.id);
        entry.joined > 0
            && (claimed || is_first)
            && !directory.is_removed(id, first_replica(entry.joined))
    }

    /// Claims a group, and begins it if the claim is the first.
    async fn begin(&mut self, group: GroupRef) {
        if let Err(error) = self.lock().set_note(&claim_note(group.id), &group.joined.to_string()) {
            warn!(%error, group = %group.id, "cannot note that this node begins a group");
            return;
        }
        let op = Op::Observe { group, at: BEGINS_AFTER, nodes: vec![self.node.id] };
        if reshape::decide(&self.node, op).await.is_err() {
            return;
        }
        let Some(configuration) = self.read_observed().await else { return };
        let claim = Observed { at: BEGINS_AFTER, nodes: vec![self.node.id] };
        let is_claimed = self.observed.get(&group.id) == Some(&claim);
        if is_claimed && configuration.group_ref(group.id) == Some(group) {
            let member =
                Member::new(self.node.id, self.node.incarnation, first_replica(group.joined));
            info!(group = %group.id, %member, "a group begins here");
            let beginning = Beginning::Joined(group);
            self.node.events.send(Input::Begin { group: group.id, member, beginning });
        }
    }

    /// Begins the controller of a store that has one group, if that was asked for. The group's log
    /// says which node begins it, and that one has noted in its directory that it claims it.
    async fn adopt(&mut self) -> bool {
        let note = claim_note(CONTROLLER);
        if self.node.placing.shards.load(Ordering::Acquire)
            && let Err(error) = self.lock().set_note(&note, "0")
        {
            warn!(%error, "cannot note that this node begins the controller");
            return false;
        }
        let has_claimed = self.lock().note(&note).is_some();
        if !has_claimed || self.lock().is_removed(CONTROLLER, FOUNDING_REPLICA) {
            return true;
        }
        let group = GroupRef { id: FIRST_GROUP, joined: 0 };
        let call = Call::Share { group, controller: self.node.id };
        let told = reshape::tell(&self.node, FIRST_GROUP, &call).await;
        if !matches!(told, Ok(Told::Shares { controller: Some(node), .. }) if node == self.node.id)
        {
            // Another node begins it, or the group does not answer.
            return told.is_ok();
        }
        let (sender, report) = oneshot::channel();
        self.node.events.send(Input::Status(sender));
        let Ok(report) = report.await else { return true };
        let of = |group| move |status: &&GroupStatus| status.group == group;
        let nodes = report.groups.iter().find(of(FIRST_GROUP)).map(members);
        if let Some(nodes) = nodes
            && !report.groups.iter().any(|status| status.group == CONTROLLER)
        {
            let member = Member::new(self.node.id, self.node.incarnation, FOUNDING_REPLICA);
            info!(%member, "the controller begins here");
            let beginning = Beginning::AdoptingController { group: FIRST_GROUP, nodes };
            self.node.events.send(Input::Begin { group: CONTROLLER, member, beginning });
        }
        false
    }

    /// Removes replicas of groups that the controller has no more.
    async fn remove_gone(
        &mut self,
        configuration: &Configuration,
        here: &BTreeMap<GroupId, Member>,
    ) -> bool {
        let is_gone = |configuration: &Configuration, group: GroupId, member: Member| {
            let joined = configuration.group(group).map(|entry| entry.joined);
            group != CONTROLLER && joined != Some(life_of(member.replica))
        };
        let gone = |configuration: &Configuration| -> Vec<(GroupId, Member)> {
            let here = here.iter().map(|(group, member)| (*group, *member));
            here.filter(|(group, member)| is_gone(configuration, *group, *member)).collect()
        };
        if gone(configuration).is_empty() {
            return true;
        }
        // What is known here may be older than the group.
        let Some(configuration) = self.read_observed().await else { return false };
        for (group, member) in gone(&configuration) {
            info!(%group, %member, "the group has left, and its replica here goes");
            self.node.events.send(Input::Remove { group, member });
        }
        true
    }
}

/// Name of the directory's note of which life of a group's id it has claimed to begin.
fn claim_note(group: GroupId) -> String {
    format!("claims-{group}")
}

/// The nodes with a vote.
fn members(status: &GroupStatus) -> Vec<NodeId> {
    status.raft.membership.voters.iter().map(|voter| voter.node).collect()
}
