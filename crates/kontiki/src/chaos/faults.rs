//! What befalls the nodes, chosen by chance; several things at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use kontiki_sim::random::Random;

use super::cluster::Cluster;
use super::proxy::{CLIENTS, Source, Way, Ways};

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Kill,
    KillAll,
    RestartLoop,
    Terminate,
    Freeze,
    Isolate,
    Split,
    OneWay,
    CutClients,
}

impl Kind {
    pub(super) const ALL: [Self; 9] = [
        Self::Kill,
        Self::KillAll,
        Self::RestartLoop,
        Self::Terminate,
        Self::Freeze,
        Self::Isolate,
        Self::Split,
        Self::OneWay,
        Self::CutClients,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::KillAll => "kill -9 of all",
            Self::RestartLoop => "restart loop",
            Self::Terminate => "SIGTERM",
            Self::Freeze => "SIGSTOP",
            Self::Isolate => "isolated",
            Self::Split => "split",
            Self::OneWay => "cut one way",
            Self::CutClients => "cut from clients",
        }
    }

    /// How long it lasts.
    fn time(self, random: &mut Random) -> Duration {
        let (low, high) = match self {
            Self::Kill | Self::Terminate => (20, 3000),
            Self::KillAll | Self::RestartLoop => (20, 700),
            Self::Freeze => (100, 5000),
            Self::Isolate | Self::Split | Self::OneWay | Self::CutClients => (200, 4000),
        };
        random.time(Duration::from_millis(low), Duration::from_millis(high))
    }
}

struct Fault {
    kind: Kind,
    until: Instant,
    /// The processes that it has: they are no other fault's meanwhile.
    nodes: BTreeSet<u64>,
    cut: Vec<(Source, u64)>,
    way: Way,
    /// How often it begins again.
    again: u64,
}

/// The faults that go on, and those that were.
pub(super) struct Faults {
    random: Random,
    nodes: u64,
    active: Vec<Fault>,
    next: Instant,
    pub(super) counts: BTreeMap<Kind, u64>,
}

impl Faults {
    pub(super) fn new(random: Random, nodes: u64) -> Self {
        let next = Instant::now() + Duration::from_secs(1);
        Self { random, nodes, active: Vec::new(), next, counts: BTreeMap::new() }
    }

    /// Ends what is over, and begins something new when it is time.
    pub(super) fn go_on(&mut self, cluster: &mut Cluster, ways: &Ways) -> Result<()> {
        let now = Instant::now();
        let mut active = std::mem::take(&mut self.active);
        for at in (0..active.len()).rev() {
            if active[at].until <= now {
                let mut fault = active.swap_remove(at);
                end(&fault, cluster)?;
                if fault.again > 0 {
                    fault.again -= 1;
                    begin(&fault, cluster)?;
                    fault.until = now + fault.kind.time(&mut self.random);
                    active.push(fault);
                }
            }
        }
        self.active = active;
        if now >= self.next {
            self.next = now + self.random.time(Duration::from_millis(150), Duration::from_secs(2));
            if let Some(fault) = self.choose(now) {
                begin(&fault, cluster)?;
                *self.counts.entry(fault.kind).or_default() += 1;
                self.active.push(fault);
            }
        }
        self.show(cluster, ways);
        Ok(())
    }

    /// All faults end.
    pub(super) fn stop(&mut self, cluster: &mut Cluster, ways: &Ways) -> Result<()> {
        for fault in std::mem::take(&mut self.active) {
            end(&fault, cluster)?;
        }
        self.show(cluster, ways);
        Ok(())
    }

    fn show(&self, cluster: &Cluster, ways: &Ways) {
        ways.know(cluster.pids());
        ways.set(|from, to| {
            let cuts = self.active.iter().filter(|fault| fault.cut.contains(&(from, to)));
            cuts.map(|fault| fault.way).next_back().unwrap_or(Way::Open)
        });
    }

    fn choose(&mut self, now: Instant) -> Option<Fault> {
        if self.active.len() >= ACTIVE_MAX {
            return None;
        }
        let random = &mut self.random;
        let kind = match random.below(100) {
            0..25 => Kind::Kill,
            25..30 => Kind::KillAll,
            30..35 => Kind::RestartLoop,
            35..42 => Kind::Terminate,
            42..60 => Kind::Freeze,
            60..75 => Kind::Isolate,
            75..80 => Kind::Split,
            80..91 => Kind::OneWay,
            _ => Kind::CutClients,
        };
        let all: Vec<u64> = (1..=self.nodes).collect();
        let one = *random.pick(&all)?;
        let others: Vec<u64> = all.iter().copied().filter(|&node| node != one).collect();
        let other = *random.pick(&others)?;
        let both = |some: &BTreeSet<u64>| {
            let pairs = all.iter().flat_map(|&from| all.iter().map(move |&to| (from, to)));
            pairs.filter(|(from, to)| some.contains(from) != some.contains(to)).collect()
        };
        let (nodes, cut): (BTreeSet<u64>, Vec<_>) = match kind {
            Kind::Kill | Kind::RestartLoop | Kind::Terminate | Kind::Freeze => {
                ([one].into(), Vec::new())
            }
            Kind::KillAll => (all.iter().copied().collect(), Vec::new()),
            Kind::Isolate => (BTreeSet::new(), both(&[one].into())),
            Kind::Split => (BTreeSet::new(), both(&[one, other].into())),
            Kind::OneWay => (BTreeSet::new(), vec![(one, other)]),
            Kind::CutClients => (BTreeSet::new(), vec![(CLIENTS, one)]),
        };
        if self.active.iter().any(|fault| !fault.nodes.is_disjoint(&nodes)) {
            return None;
        }
        let way = if random.chance(500) { Way::Held } else { Way::Broken };
        let again = if kind == Kind::RestartLoop { random.between(2, 5) } else { 0 };
        let until = now + kind.time(random);
        Some(Fault { kind, until, nodes, cut, way, again })
    }
}

fn begin(fault: &Fault, cluster: &mut Cluster) -> Result<()> {
    for &id in &fault.nodes {
        let node = cluster.node(id);
        match fault.kind {
            Kind::Kill | Kind::KillAll | Kind::RestartLoop => node.kill(),
            Kind::Terminate => node.terminate()?,
            Kind::Freeze => node.freeze(),
            Kind::Isolate | Kind::Split | Kind::OneWay | Kind::CutClients => {}
        }
    }
    Ok(())
}

fn end(fault: &Fault, cluster: &mut Cluster) -> Result<()> {
    for &id in &fault.nodes {
        match fault.kind {
            Kind::Freeze => cluster.node(id).thaw(),
            _ => cluster.start(id)?,
        }
    }
    Ok(())
}

/// Faults at one time.
const ACTIVE_MAX: usize = 3;
