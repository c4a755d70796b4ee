//! Item 3, first half: two groups exchange slots under load; at each stage of a move its source's
//! leader, its target's leader, the controller's leader or all nodes are killed with -9. Moves go on
//! or are given up by themselves, nothing is lost or doubled, and every slot is served in the end.
//!
//! Nodes are stopped at a stage by `KONTIKI_MOVE_STOPS` (docs/sharding.md): a file in that folder
//! names the stage to hold, and a node that holds it puts a file beside it.

use anyhow::{Context as _, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::gaps;
use super::shards::{self, await_quiet, cluster_command, slots_of, text};
use crate::acceptance::cluster::{Cluster, free_base_port};
use crate::acceptance::load::{self, Disturbance, Load};
use crate::acceptance::{Context, Figures, wait};
use crate::program::{Group, Program};

/// From the request for a move to the stage that is waited for: a few milliseconds, but for a first
/// attempt that failed.
const STAGE_MAX: Duration = Duration::from_secs(20);
/// Until there are leaders again, or each where it is wanted.
const LEADERS_MAX: Duration = Duration::from_secs(30);
/// So long leaders may take to go where they are wanted by themselves.
const SPREAD_BY_ITSELF: Duration = Duration::from_secs(3);
/// The groups that exchange slots.
const PAIR: [u32; 2] = [2, 3];
/// Where the leaders of the controller and of the pair are to be, by place.
const WANTED: [(u32, usize); 3] = [(0, 0), (PAIR[0], 1), (PAIR[1], 2)];

/// A stage at which nodes are killed.
struct Scene {
    /// What is held; what is waited for is the last.
    holds: &'static [&'static str],
    /// The move is cancelled once the first of these is reached.
    is_cancelled: bool,
}

const fn at(holds: &'static [&'static str]) -> Scene {
    Scene { holds, is_cancelled: false }
}

const fn cancelled(holds: &'static [&'static str]) -> Scene {
    Scene { holds, is_cancelled: true }
}

/// Every stage that a move comes to on its way.
const SCENES: [Scene; 14] = [
    at(&["source-planned"]),
    at(&["source-opened"]),
    at(&["source-copying"]),
    at(&["source-following"]),
    at(&["source-frozen"]),
    at(&["source-complete"]),
    at(&["source-committed"]),
    // Or the source's leader would have told the target already.
    at(&["source-committed", "target-committed"]),
    at(&["target-activated"]),
    at(&["source-dropped"]),
    cancelled(&["source-frozen", "source-aborted"]),
    cancelled(&["source-frozen", "target-aborted"]),
    cancelled(&["source-frozen", "source-undone"]),
    cancelled(&["source-frozen", "target-undone"]),
];

/// Who is killed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Victim {
    Source,
    Target,
    Controller,
    All,
}

const VICTIMS: [Victim; 4] = [Victim::Source, Victim::Target, Victim::Controller, Victim::All];

/// What CI tries: the scenes at these places, with these victims.
const FEW: [(usize, Victim); 3] = [(4, Victim::Source), (7, Victim::Target), (5, Victim::All)];

pub(super) fn run(context: &Context) -> Result<Figures> {
    let mut stage = Theatre::open(context)?;
    let load = Load::start(&stage.addresses);
    let all = SCENES.iter().flat_map(|scene| VICTIMS.map(|victim| (scene, victim)));
    let few = || FEW.iter().map(|(place, victim)| (&SCENES[*place], *victim));
    let chosen: Vec<_> = if context.small { few().collect() } else { all.collect() };
    let mut ends: BTreeMap<&str, u32> = BTreeMap::new();
    let mut disturbances = Vec::new();
    for (scene, victim) in &chosen {
        let name = scene.holds[scene.holds.len() - 1];
        let (end, disturbance) =
            stage.play(scene, *victim).with_context(|| format!("{name}, killed: {victim:?}"))?;
        println!("{name}, killed: {victim:?}: {end}");
        *ends.entry(end).or_default() += 1;
        disturbances.extend(disturbance);
    }
    let history = load.stop()?;
    let quiet = await_quiet(context, &stage.cluster, 0)?;
    ensure!(quiet.groups.iter().map(|group| group.slots).sum::<u32>() == 16_384, "slots missing");
    history.verify(&mut stage.cluster.client(1)?)?;
    stage.cluster.stop()?;
    let mut figures = Figures::from_iter([
        ("kills".to_string(), chosen.len().into()),
        ("acknowledged".to_string(), history.acknowledged().into()),
        ("unknown".to_string(), history.unknown().into()),
        ("longest_gap_ms".to_string(), longest(&history, &disturbances).into()),
    ]);
    figures.extend(ends.into_iter().map(|(end, count)| (format!("moves_{end}"), count.into())));
    figures.extend(gaps::run(context)?);
    Ok(figures)
}

/// The longest time without any success around any of the kills, at the other nodes.
fn longest(history: &load::History, disturbances: &[Disturbance]) -> u64 {
    let gaps = disturbances.iter().map(|disturbance| history.gap(disturbance).0);
    gaps.max().unwrap_or_default().as_millis() as u64
}

/// A cluster whose moves can be held, and two sets of slots that are exchanged.
struct Theatre<'a> {
    context: &'a Context,
    cluster: Cluster,
    base: u16,
    stops: PathBuf,
    addresses: Vec<SocketAddr>,
    halves: [BTreeSet<u16>; 2],
}

impl Theatre<'_> {
    fn open(context: &Context) -> Result<Theatre<'_>> {
        let base = free_base_port()?;
        let stops = context.scratch.join("stops");
        std::fs::create_dir_all(&stops)?;
        let cluster = start(context, base, &stops)?;
        let addresses = cluster.nodes().iter().map(|node| node.resp).collect();
        let all = slots_of(&mut cluster.client(0)?, &load::keys())?;
        let middle = all.iter().nth(all.len() / 2).copied().unwrap_or_default();
        let (low, high) = all.iter().copied().partition(|slot| *slot < middle);
        let theatre = Theatre { context, cluster, base, stops, addresses, halves: [low, high] };
        for (half, group) in theatre.halves.iter().zip(PAIR) {
            shards::move_to(context, &theatre.cluster, 0, half, group)?;
        }
        Ok(theatre)
    }

    /// Exchanges the halves, kills somebody at the stage, and lets everything come to its end.
    fn play(
        &mut self,
        scene: &Scene,
        victim: Victim,
    ) -> Result<(&'static str, Option<Disturbance>)> {
        self.spread()?;
        let before = shards::slots(self.context, &self.cluster, 0)?;
        let owners = self
            .halves
            .each_ref()
            .map(|half| half.first().and_then(|slot| before.owner(*slot)).unwrap_or_default());
        let other = |group: u32| if group == PAIR[0] { PAIR[1] } else { PAIR[0] };
        for hold in scene.holds {
            std::fs::write(self.stops.join(hold), [])?;
        }
        let from = Instant::now();
        let operator = if scene.is_cancelled {
            Some(self.begin_and_cancel(scene.holds[0], other(owners[0]))?)
        } else {
            // In both directions at once, unless an earlier end has left both halves with one group.
            for (half, owner) in self.halves.iter().zip(owners) {
                let (slots, to) = (text(half), other(owner).to_string());
                let words = ["move", "--no-wait", "--slots", &slots, "--to", &to];
                cluster_command(self.context, &self.cluster, 0, &words)?;
            }
            None
        };
        let holder = self.reached(scene.holds[scene.holds.len() - 1])?;
        let victims = self.victims(scene, victim, holder)?;
        let disturbance = match victims[..] {
            [node] => {
                self.cluster.kill(node)?;
                self.release()?;
                self.await_leaders((node + 1) % 3, node)?;
                self.cluster.restart(self.context, node)?;
                Some(Disturbance { node, from, to: Instant::now() })
            }
            _ => {
                self.restart_all()?;
                None
            }
        };
        // It hears of the end, or of the kill.
        drop(operator);
        let after = await_quiet(self.context, &self.cluster, 0)?;
        let first = self.halves[0].first().and_then(|slot| after.owner(*slot)).unwrap_or_default();
        let one_owner = self.halves[0].iter().all(|slot| after.owner(*slot) == Some(first));
        ensure!(one_owner, "a half of the move is elsewhere");
        let end = if first == owners[0] { "given_up" } else { "carried_out" };
        Ok((end, disturbance))
    }

    /// A move of the first half that is asked to be given up at a stage.
    fn begin_and_cancel(&self, held: &str, to: u32) -> Result<Group> {
        let slots = text(&self.halves[0]);
        let address = self.cluster.nodes()[0].grpc.to_string();
        let operator = Program::new(&self.context.binary)
            .args(["cluster", "move", "--slots", &slots, "--to", &to.to_string()])
            .args(["--addr", &address, "--timeout", "30"])
            .spawn_logged(&self.context.scratch.join("operator"))?;
        self.reached(held)?;
        operator.signal("INT")?;
        wait::until("a cancelled move", STAGE_MAX, || {
            let now = shards::slots(self.context, &self.cluster, 0)?;
            let is_cancelled = |found: &serde_json::Value| found["phase"] == "cancelled";
            Ok(now.moves.iter().any(is_cancelled).then_some(()))
        })?;
        std::fs::remove_file(self.stops.join(held))?;
        Ok(operator)
    }

    /// The place of the node that holds this stage, once one does.
    fn reached(&self, hold: &str) -> Result<usize> {
        wait::until(&format!("a move at {hold}"), STAGE_MAX, || {
            let holds = |node: &usize| self.stops.join(format!("{hold}.{}", node + 1)).exists();
            Ok((0..self.cluster.nodes().len()).find(holds))
        })
    }

    /// Nothing is held any more.
    fn release(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.stops)? {
            std::fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    /// Places of the nodes to kill, given the one that holds the move.
    fn victims(&self, scene: &Scene, victim: Victim, holder: usize) -> Result<Vec<usize>> {
        let holds_source = scene.holds[scene.holds.len() - 1].starts_with("source");
        let leaders = self.leaders(0)?;
        let other = PAIR.iter().filter_map(|group| leaders.get(group)).find(|at| **at != holder);
        let other = other.copied().unwrap_or(holder);
        Ok(match victim {
            Victim::Source => vec![if holds_source { holder } else { other }],
            Victim::Target => vec![if holds_source { other } else { holder }],
            Victim::Controller => vec![*leaders.get(&0).context("a leader of group 0")?],
            Victim::All => (0..self.cluster.nodes().len()).collect(),
        })
    }

    /// Kills all nodes, and starts them again.
    fn restart_all(&mut self) -> Result<()> {
        self.cluster.kill_where_it_is()?;
        self.release()?;
        self.cluster = start(self.context, self.base, &self.stops)?;
        Ok(())
    }

    /// Who leads, by group, as the node at place `asked` knows it.
    fn leaders(&self, asked: usize) -> Result<BTreeMap<u32, usize>> {
        let status = self.cluster.status(asked)?;
        let place = |id: u64| self.cluster.nodes().iter().position(|node| node.id == id);
        let known = status.groups.iter();
        Ok(known.filter_map(|group| Some((group.id, place(group.leader?)?))).collect())
    }

    /// Waits until every group has a leader that is not the node at place `dead`.
    fn await_leaders(&self, asked: usize, dead: usize) -> Result<()> {
        wait::until("leaders of all groups", LEADERS_MAX, || {
            let Ok(leaders) = self.leaders(asked) else { return Ok(None) };
            let all = leaders.len() == 4 && leaders.values().all(|leader| *leader != dead);
            Ok(all.then_some(()))
        })
    }

    /// Waits until the controller and the two groups are led by three nodes; leaders that do not go
    /// where they are wanted by themselves are sent there.
    fn spread(&self) -> Result<()> {
        let begun = Instant::now();
        wait::until("leaders on three nodes", LEADERS_MAX, || {
            let Ok(leaders) = self.leaders(0) else { return Ok(None) };
            let of = |group: &u32| leaders.get(group).copied();
            let places: BTreeSet<usize> = WANTED.iter().filter_map(|(id, _)| of(id)).collect();
            if places.len() == WANTED.len() {
                return Ok(Some(()));
            }
            if begun.elapsed() > SPREAD_BY_ITSELF {
                for (group, place) in WANTED.iter().filter(|(id, place)| of(id) != Some(*place)) {
                    let (group, to) = (group.to_string(), self.cluster.nodes()[*place].id);
                    let words = ["transfer", "--group", &group, "--to", &to.to_string()];
                    // One that is refused is tried again.
                    let _ = cluster_command(self.context, &self.cluster, 0, &words);
                }
            }
            Ok(None)
        })
    }
}

fn start(context: &Context, base: u16, stops: &std::path::Path) -> Result<Cluster> {
    Cluster::start_sharded_with(context, base, 3, &[("KONTIKI_MOVE_STOPS", stops.as_os_str())])
}
