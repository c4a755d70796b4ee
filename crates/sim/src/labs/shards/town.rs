//! A sharded store with clerks and an operator.

use std::time::Duration;

use kontiki_kv::command::Parsed;
use kontiki_replica::GroupConfig;
use kontiki_replica::Target;
use kontiki_replica::steward::{self, CONTROLLER};
use kontiki_shard::balance::{self, Cut, Loads};
use kontiki_shard::{Answer, Call, Configuration, Op, Query, Reply, SlotSet, Told};
use kontiki_types::{Epoch, GroupId, NodeId, Slot};

use crate::invariants::{Checked, Violation};
use crate::labs::fails;
use crate::labs::store::{Clerk, Service};
use crate::store_cluster::StoreConfig;

/// Nodes of each group.
pub(super) const NODES: u64 = 3;
/// Moves that nothing hinders end within this.
pub(super) const MOVED_WITHIN: Duration = Duration::from_secs(20);

/// See the module.
pub(super) struct Town {
    pub(super) service: Service,
    pub(super) operator: Clerk,
}

impl Town {
    /// So many groups that share the slots.
    ///
    /// # Errors
    /// Some group has no leader.
    pub(super) fn new(
        seed: u64,
        groups: u32,
        log_keep_bytes: Option<u64>,
    ) -> Result<Self, Violation> {
        let group = GroupConfig::default();
        let log_keep_bytes = log_keep_bytes.unwrap_or(group.log_keep_bytes);
        let config = StoreConfig {
            voters: NODES * (u64::from(groups) + 1),
            shards: groups,
            nodes_of_group: NODES,
            group: GroupConfig { log_keep_bytes, ..group },
            ..StoreConfig::default()
        };
        let mut service = Service::new(config, seed);
        let operator = service.clerk();
        let mut town = Self { service, operator };
        let end = town.service.cluster.now() + Duration::from_secs(5);
        let led = town.service.cluster.run_until(end, |cluster| {
            cluster.groups().into_iter().all(|group| cluster.leader_of(group).is_some())
        })?;
        demand!(led, "some group has no leader after 5 s");
        town.configuration()?;
        Ok(town)
    }

    /// The nodes of a group.
    pub(super) fn nodes(group: GroupId) -> Vec<NodeId> {
        let first = u64::from(group.0) * NODES + 1;
        (first..first + NODES).map(NodeId).collect()
    }

    /// The power of all nodes of a group fails.
    pub(super) fn shut(&mut self, group: GroupId) {
        Self::nodes(group).into_iter().for_each(|node| self.service.crash(node));
    }

    /// All nodes of a group run again.
    ///
    /// # Errors
    /// One refuses.
    pub(super) fn start(&mut self, group: GroupId) -> Checked {
        Self::nodes(group).into_iter().try_for_each(|node| self.service.start(node))
    }

    /// Begins to tell the controller.
    pub(super) fn begin(&mut self, clerk: Clerk, op: Op) {
        let command = Parsed::Write(steward::tell(&Call::Decide { op }));
        self.service.begin_at(clerk, command, Some(Target::Group(CONTROLLER)));
    }

    /// Tells the controller, and waits for what it says.
    ///
    /// # Errors
    /// It says nothing.
    pub(super) fn tell(&mut self, op: Op) -> Result<Reply, Violation> {
        let operator = self.operator;
        self.begin(operator, op);
        let done = self.service.finish(operator)?;
        match steward::told(&done.reply) {
            Ok(Told::Decided { reply, .. }) => Ok(reply),
            other => fails(format!("the controller answers {other:?}")),
        }
    }

    fn ask(&mut self, query: &Query) -> Result<Answer, Violation> {
        let operator = self.operator;
        let command = Parsed::Read(steward::ask(query));
        self.service.begin_at(operator, command, Some(Target::Group(CONTROLLER)));
        let done = self.service.finish(operator)?;
        steward::answered(&done.reply).or_else(|why| fails(format!("the controller: {why}")))
    }

    /// The latest configuration.
    ///
    /// # Errors
    /// The controller does not say.
    pub(super) fn configuration(&mut self) -> Result<Configuration, Violation> {
        self.configuration_at(None)
    }

    /// Some configuration.
    ///
    /// # Errors
    /// The controller does not say, or has forgotten it.
    pub(super) fn configuration_at(
        &mut self,
        at: Option<Epoch>,
    ) -> Result<Configuration, Violation> {
        match self.ask(&Query::Configuration { at })? {
            Answer::Configuration { found: Some(found), .. } => Ok(found),
            other => fails(format!("configuration {at:?} is {other:?}")),
        }
    }

    /// What the balancer wants moved now.
    pub(super) fn wanted(known: &Configuration) -> Vec<(SlotSet, GroupId)> {
        let parts = balance::plan(known, std::iter::empty(), &Loads::new());
        balance::cut(&parts, &Loads::new(), Cut { slots_max: 1500, ..Cut::default() })
    }

    /// Has these slots moved.
    ///
    /// # Errors
    /// The controller refuses.
    pub(super) fn plan(&mut self, parts: Vec<(SlotSet, GroupId)>) -> Checked {
        match self.tell(Op::Plan { at: None, parts })? {
            Reply::Planned { .. } => Ok(()),
            other => fails(format!("a plan is answered by {other:?}")),
        }
    }

    /// Has every slot of a group moved to the others.
    ///
    /// # Errors
    /// The controller refuses, or the moves do not end.
    pub(super) fn leave(&mut self, group: GroupId) -> Checked {
        match self.tell(Op::Leave { groups: vec![group] })? {
            Reply::Done { .. } => {}
            other => return fails(format!("{group} is to leave: {other:?}")),
        }
        let known = self.configuration()?;
        self.plan(Self::wanted(&known))?;
        self.moved(MOVED_WITHIN)
    }

    /// Waits until no move is under way.
    ///
    /// # Errors
    /// One is still after `time`.
    pub(super) fn moved(&mut self, time: Duration) -> Checked {
        let end = self.service.cluster.now() + time;
        let is_over = |cluster: &mut crate::store_cluster::StoreCluster| {
            cluster.moves().is_some_and(|moves| moves.is_empty())
        };
        if self.service.cluster.run_until(end, is_over)? {
            return Ok(());
        }
        fails(format!("{:?} are under way after {time:?}", self.service.cluster.moves()))
    }

    /// The owner of a key's slot.
    ///
    /// # Errors
    /// Nobody has it.
    pub(super) fn owner(&mut self, key: &str) -> Result<GroupId, Violation> {
        let owner = self.configuration()?.owner(Slot::of(key.as_bytes()));
        owner.map_or_else(|| fails(format!("nobody has {key}")), Ok)
    }

    /// Puts `count` keys; the value of each is its name, again and again up to `bytes`.
    ///
    /// # Errors
    /// One is refused.
    pub(super) fn fill(&mut self, count: usize, bytes: usize) -> Result<Vec<String>, Violation> {
        let clerk = self.service.clerk();
        let keys: Vec<String> = (0..count).map(|at| format!("key-{at}")).collect();
        for key in &keys {
            let reply = self.service.ask(clerk, &["SET", key, &value(key, bytes)])?;
            demand_eq!(reply, kontiki_kv::Reply::Ok, "a put");
        }
        Ok(keys)
    }

    /// Reads them all.
    ///
    /// # Errors
    /// One has another value.
    pub(super) fn check(&mut self, keys: &[String], bytes: usize) -> Checked {
        let clerk = self.service.clerk();
        for key in keys {
            let found = self.service.get(clerk, key)?;
            demand_eq!(found, value(key, bytes).into_bytes(), "a value");
        }
        Ok(())
    }

    /// How many of the keys are answered within `time`, each asked by a clerk of its own; the clerks
    /// wait no longer.
    ///
    /// # Errors
    /// An answer is wrong.
    pub(super) fn answered(
        &mut self,
        keys: &[String],
        bytes: usize,
        time: Duration,
    ) -> Result<Vec<String>, Violation> {
        let clerks: Vec<Clerk> = keys.iter().map(|_| self.service.clerk()).collect();
        for (&clerk, key) in clerks.iter().zip(keys) {
            self.service.begin(clerk, &[b"GET", key.as_bytes()])?;
        }
        let end = self.service.cluster.now() + time;
        let mut answered = Vec::new();
        while let Some(event) = self.service.next(end)? {
            let crate::labs::store::Event::Done(done) = event else { continue };
            let Some(at) = clerks.iter().position(|clerk| *clerk == done.clerk) else { continue };
            let right = kontiki_kv::Reply::Bulk(value(&keys[at], bytes).into());
            demand_eq!(done.reply, right, "a value");
            answered.push(keys[at].clone());
        }
        clerks.into_iter().for_each(|clerk| self.service.abandon(clerk));
        answered.sort();
        Ok(answered)
    }
}

fn value(key: &str, bytes: usize) -> String {
    key.chars().cycle().take(bytes.max(key.len())).collect()
}
