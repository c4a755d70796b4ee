//! The swarm: a whole cluster under all kinds of faults at once, from one seed.
//!
//! 1. *Faults.* Clients read and write while faults of every kind come and go ([`FaultKind`]). The
//!    properties of the paper are checked after every step, and what was acknowledged must be kept:
//!    an atlas sees to it that enough disks stay whole for that.
//! 2. *Recovery.* All faults stop. Within a bounded time somebody must lead, lost nodes must be
//!    replaced, and all replicas must come level.
//! 3. *Judgement.* Everything is read through several nodes and compared with the books; replicas at
//!    the same position have the same state; what the clients saw has an order that explains it
//!    (linearizability).
//!
//! Nothing here decides how a node behaves: nodes, disks and processes go wrong, and the code that
//! serves deals with it.

mod atlas;
mod books;
mod clients;
mod disks;
mod faults;
mod founder;
mod judgement;
mod kinds;
mod meddler;
mod mover;
mod operator;
mod plan;
mod recipes;
mod shrink;
mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kontiki_types::{Instant, NodeId};

pub use kinds::{Area, FaultKind};
pub use plan::OPERATIONS_MIN;
pub use shrink::{Shrunk, shrink};
pub use summary::Summary;

use crate::history::History;
use crate::invariants::{Checked, Violation};
use crate::linearizability;
use crate::store_cluster::{MoveStep, StoreCluster, Woken};
use atlas::Atlas;
use books::Books;
use clients::Client;
use faults::Struck;
use founder::Founder;
use meddler::Meddler;
use mover::Mover;
use operator::Operator;
use plan::{Plan, TIME_MIN};

/// What a run may differ in from what its seed says.
#[derive(Clone, Debug, Default)]
pub struct SwarmConfig {
    /// So many voters: 3 or 5. By the seed if `None`.
    pub nodes: Option<u64>,
    /// Three voters, nobody else and no faults, unless `nodes` says otherwise: clients under good
    /// conditions.
    pub is_calm: bool,
    /// A sharded store, whose slots move all the while.
    pub is_sharded: bool,
    /// Only these of its faults, counted from 0 in the order of their times. All if `None`.
    pub only_faults: Option<Vec<usize>>,
    /// At most so many clients on connections, and so many that keep sessions.
    pub clients: Option<(usize, usize)>,
    /// When the faults stop.
    pub faults_until: Option<Duration>,
    /// Keeps a line of everything that happens.
    pub keep_trace: bool,
}

/// How a run went.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Voters at the start.
    pub nodes: u64,
    /// How often each kind of fault happened, in the order of [`FaultKind::ALL`].
    pub faults: [u64; FaultKind::ALL.len()],
    /// Operations that were answered.
    pub completed: u64,
    /// Operations that were refused without effect.
    pub refused: u64,
    /// Operations whose outcome is unknown.
    pub unknown: u64,
    /// How often somebody became the leader.
    pub elections: u64,
    /// Processes that ended, by any cause.
    pub crashes: u64,
    /// The time that passed in the simulation.
    pub virtual_time: Duration,
    /// Families of keys whose history was found linearizable.
    pub linearizable: u64,
    /// Families of keys whose check came to no verdict.
    pub no_verdict: u64,
    /// A hash of everything that happened.
    pub trace_hash: u64,
    /// What does not hold.
    pub violation: Option<Violation>,
    /// What the clients saw.
    pub history: History,
    /// What of it no order explains, if that is the violation: for [`crate::timeline`].
    pub unordered: Option<linearizability::Violation>,
    /// The lines that were kept.
    pub trace: Vec<String>,
    /// How often slots were sent on their way.
    pub moves: u64,
    /// How often each step of a move was seen, in the order of [`MoveStep::ALL`].
    pub steps: [u64; MoveStep::ALL.len()],
    /// And how often something went wrong just then.
    pub struck: [u64; MoveStep::ALL.len()],
    /// Snapshots that were installed by a group while slots of it were on their way.
    pub installs_in_move: u64,
    /// Groups that have joined and got their replicas.
    pub joins: u64,
    /// The faults that were planned: number, time and name.
    pub plan: Vec<(usize, Duration, FaultKind)>,
}

/// What an alarm is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alarm {
    FaultBegins(usize),
    FaultEnds(usize),
    Restart(NodeId),
    CrashAgain(NodeId),
    Install(NodeId),
    Client(usize, u64),
    Operator,
    Mover,
    Meddle(usize),
    Look,
}

/// How often sizes and states are looked at.
const LOOK: Duration = Duration::from_secs(8);

/// A run.
struct Swarm {
    plan: Plan,
    cluster: StoreCluster,
    start: Instant,
    alarms: Vec<Alarm>,
    struck: Vec<Struck>,
    /// Who plays which part in the recipe, once it has begun.
    cast: Vec<NodeId>,
    counts: [u64; FaultKind::ALL.len()],
    atlas: Atlas,
    operator: Operator,
    /// Who has slots moved, in a sharded store.
    mover: Option<Mover>,
    /// Who makes trouble at their moves.
    meddler: Option<Meddler>,
    founder: Founder,
    only_faults: Option<Vec<usize>>,
    /// Nodes whose disk is in another one's place.
    swapped: BTreeSet<NodeId>,
    /// When nobody believes a wall clock any more that had jumped.
    clocks_right_at: Instant,
    failed_starts: BTreeMap<NodeId, u32>,
    clients: Vec<Client>,
    is_serving: bool,
    /// Clients or time were taken away, so that less is done.
    is_cut: bool,
    books: Books,
    history: History,
    completed: u64,
    refused: u64,
    unknown: u64,
    crashes: u64,
    linearizable: u64,
    no_verdict: u64,
    unordered: Option<linearizability::Violation>,
}

/// Runs one seed.
pub fn run(seed: u64, config: &SwarmConfig) -> Report {
    let mut plan = Plan::of(seed, config);
    if let Some((connections, sessions)) = config.clients {
        plan.clients = (plan.clients.0.min(connections), plan.clients.1.min(sessions));
    }
    if let Some(until) = config.faults_until {
        plan.faults_until = plan.faults_until.min(until);
    }
    let nodes = plan.config.voters;
    let mut swarm = Swarm::new(plan, config);
    let violation = swarm.run(config).err();
    let faults = swarm.plan.faults.iter().enumerate();
    let plan = faults.map(|(at, fault)| (at, fault.at, fault.kind)).collect();
    let mover = swarm.mover.as_ref();
    Report {
        seed,
        nodes,
        faults: swarm.counts,
        completed: swarm.completed,
        refused: swarm.refused,
        unknown: swarm.unknown,
        elections: swarm.cluster.leaders_elected(),
        crashes: swarm.crashes,
        virtual_time: swarm.cluster.now().since(swarm.start),
        linearizable: swarm.linearizable,
        no_verdict: swarm.no_verdict,
        trace_hash: swarm.cluster.trace_hash(),
        violation,
        unordered: swarm.unordered.take(),
        trace: swarm.cluster.take_trace(),
        history: swarm.history,
        plan,
        installs_in_move: swarm.cluster.installs_in_move(),
        joins: swarm.founder.joins(),
        moves: mover.map_or(0, |mover| mover.opened),
        steps: mover.map_or([0; MoveStep::ALL.len()], |mover| mover.steps),
        struck: mover.map_or([0; MoveStep::ALL.len()], |mover| mover.struck),
    }
}

/// Runs one seed with a sharded store, whose slots move all the while.
///
/// # Errors
/// What does not hold.
pub fn shards(seed: u64) -> Checked {
    let config = SwarmConfig { is_sharded: true, ..SwarmConfig::default() };
    run(seed, &config).violation.map_or(Ok(()), Err)
}

impl Swarm {
    fn new(plan: Plan, config: &SwarmConfig) -> Self {
        let mut cluster = StoreCluster::new(plan.config.clone(), plan.seed);
        if config.keep_trace {
            cluster.keep_trace();
        }
        let start = cluster.now();
        let struck = plan.faults.iter().map(|_| Struck::default()).collect();
        Self {
            plan,
            cluster,
            start,
            alarms: Vec::new(),
            struck,
            cast: Vec::new(),
            counts: [0; FaultKind::ALL.len()],
            atlas: Atlas::default(),
            operator: Operator::default(),
            mover: None,
            meddler: None,
            founder: Founder::default(),
            only_faults: config.only_faults.clone(),
            swapped: BTreeSet::new(),
            clocks_right_at: Instant(0),
            failed_starts: BTreeMap::new(),
            clients: Vec::new(),
            is_serving: true,
            is_cut: config.clients.is_some() || config.faults_until.is_some(),
            books: Books::default(),
            history: History::default(),
            completed: 0,
            refused: 0,
            unknown: 0,
            crashes: 0,
            linearizable: 0,
            no_verdict: 0,
            unordered: None,
        }
    }

    fn run(&mut self, config: &SwarmConfig) -> Checked {
        for (at, fault) in self.plan.faults.clone().into_iter().enumerate() {
            let is_wanted = config.only_faults.as_ref().is_none_or(|only| only.contains(&at));
            if is_wanted && fault.at < self.plan.faults_until {
                self.set(self.start + fault.at, Alarm::FaultBegins(at));
            }
        }
        self.set(self.start + LOOK, Alarm::Look);
        self.make_clients();
        self.begin_moves();
        let until = self.start + self.plan.faults_until;
        self.live(until, |_| false)?;
        self.recover()?;
        self.judge()
    }

    /// Sets an alarm.
    fn set(&mut self, at: Instant, alarm: Alarm) {
        self.cluster.alarm(at, self.alarms.len() as u64);
        self.alarms.push(alarm);
    }

    /// Lets time pass until `enough`, or until `end`; says whether it was enough.
    fn live(&mut self, end: Instant, enough: impl Fn(&Self) -> bool) -> Result<bool, Violation> {
        loop {
            if enough(self) {
                return Ok(true);
            }
            match self.cluster.wait(end)? {
                None => return Ok(enough(self)),
                Some(Woken::Alarm(number)) => self.ring(self.alarms[number as usize])?,
                Some(Woken::Something) => self.hear()?,
            }
        }
    }

    fn ring(&mut self, alarm: Alarm) -> Checked {
        match alarm {
            Alarm::FaultBegins(at) => self.begin_fault(at),
            Alarm::FaultEnds(at) => {
                self.end_fault(at);
                Ok(())
            }
            Alarm::Restart(node) => self.restart(node),
            Alarm::CrashAgain(node) => {
                self.crash_again(node);
                Ok(())
            }
            Alarm::Install(node) => {
                self.crash_at_install(node);
                Ok(())
            }
            Alarm::Client(client, generation) => self.client_alarm(client, generation),
            Alarm::Operator => self.operate(),
            Alarm::Mover => {
                self.move_slots();
                Ok(())
            }
            Alarm::Meddle(at) => {
                self.abort(at);
                Ok(())
            }
            Alarm::Look => {
                self.set(self.cluster.now() + LOOK, Alarm::Look);
                self.look()
            }
        }
    }

    fn hear(&mut self) -> Checked {
        for ended in self.cluster.take_ended() {
            self.connection_hears(ended)?;
        }
        for answered in self.cluster.take_answered() {
            if let Some(answered) = self.mover_hears(answered)? {
                self.session_hears(answered)?;
            }
        }
        for stepped in self.cluster.take_stepped() {
            self.slots_stepped(stepped);
        }
        for (node, _) in self.cluster.take_exited() {
            self.crashes += 1;
            let wait = self.cluster.random().time(EXIT_MIN, EXIT_MAX);
            self.restart_soon(node, wait);
        }
        self.cluster.take_changed();
        for node in self.cluster.take_installing() {
            let wait = self.cluster.random().time(Duration::ZERO, INSTALL_MAX);
            self.set(self.cluster.now() + wait, Alarm::Install(node));
        }
        Ok(())
    }
}

/// Installing a snapshot and writing the log's new start takes about so long.
const INSTALL_MAX: Duration = Duration::from_micros(600);
/// How long after it has ended by itself a process is started again.
const EXIT_MIN: Duration = Duration::from_millis(100);
const EXIT_MAX: Duration = Duration::from_millis(700);

#[cfg(test)]
mod tests;
