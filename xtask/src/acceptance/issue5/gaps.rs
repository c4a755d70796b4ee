//! Item 3, second half: what clients of each group feel while slots move and leaders are killed.
//! Slots of groups that lost no leader keep their latency; those of groups that lost one wait for
//! the failover, and no longer.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::shards::{await_quiet, slots_of};
use crate::acceptance::client::{Client, Reply};
use crate::acceptance::cluster::Cluster;
use crate::acceptance::{Context, Figures, wait};

const GROUPS: [u32; 3] = [1, 2, 3];
/// Slots that go back and forth: the last of the second group's, and the first of the third's.
const MOVED: [(u16, u16); 2] = [(10_668, 10_922), (10_923, 11_178)];
/// Values among them, and their bytes.
const VALUES: usize = 2_000;
const VALUE_BYTES: usize = 4_096;

/// From a kill to the start of the node, and from there to the next kill.
const DEAD: Duration = Duration::from_millis(1500);
const ALIVE: Duration = Duration::from_millis(3500);
/// Between two tries to reach a node that does not listen.
const RECONNECT: Duration = Duration::from_millis(20);
/// Leaders that are the same after this time stay.
const SETTLED: Duration = Duration::from_millis(300);
const LEADERS_MAX: Duration = Duration::from_secs(30);

/// A latency at the most so many times that without moves.
const FACTOR_MAX: f64 = 2.0;
const GAP_MEDIAN_MAX_MS: u64 = 500;

/// One operation that succeeded.
struct Seen {
    called: Instant,
    answered: Instant,
}

/// What a client of one group at one node saw.
struct Watched {
    group: u32,
    node: usize,
    seen: Vec<Seen>,
    errors: Vec<(Instant, String)>,
}

/// A node that was dead for a while, and the groups that it led.
struct Kill {
    node: usize,
    led: BTreeSet<u32>,
    from: Instant,
    to: Instant,
}

pub(super) fn run(context: &Context) -> Result<Figures> {
    // The first half's store has moved slots about; of a new one it is known which group has which.
    let data = context.scratch.join("data");
    if data.exists() {
        std::fs::remove_dir_all(&data).with_context(|| data.display().to_string())?;
    }
    let mut cluster = Cluster::start_sharded(context, 3)?;
    let keys = keys(&mut cluster.client(0)?)?;
    fill(&mut cluster.client(0)?)?;
    let addresses: Vec<SocketAddr> = cluster.nodes().iter().map(|node| node.resp).collect();
    let quiet_for = context.amount(Duration::from_secs(15), Duration::from_secs(2));
    let kills = context.amount(9, 1);

    let watch = Watch::start(&addresses, &keys);
    wait::let_pass(quiet_for);
    let quiet = watch.stop()?;

    let watch = Watch::start(&addresses, &keys);
    let mover = Mover::start(context, &cluster);
    wait::let_pass(quiet_for);
    mover.stop()?;
    let moving = watch.stop()?;
    await_quiet(context, &cluster, 0)?;

    let watch = Watch::start(&addresses, &keys);
    let alone = kill_in_turn(context, &mut cluster, context.amount(kills, 0))?;
    let killed = watch.stop()?;

    let watch = Watch::start(&addresses, &keys);
    let mover = Mover::start(context, &cluster);
    let with_moves = kill_in_turn(context, &mut cluster, kills)?;
    let moves = mover.stop()?;
    let both = watch.stop()?;
    await_quiet(context, &cluster, 0)?;
    cluster.stop()?;

    let mut times = Vec::new();
    for (name, found, kills) in
        [("kills", &killed, &alone), ("kills_and_moves", &both, &with_moves)]
    {
        let (kept, gaps, errors) = judge(found, kills);
        ensure!(errors.is_empty(), "{name}: {} errors, first {:?}", errors.len(), errors.first());
        times.push((name, kept, gaps));
    }
    let p999 = |latencies: &[Duration]| share(latencies, 0.999).as_secs_f64() * 1e3;
    let all = |found: &[Watched]| -> Vec<Duration> {
        found.iter().flat_map(|one| &one.seen).map(|seen| seen.answered - seen.called).collect()
    };
    let (base, with) = (p999(&all(&quiet)), p999(&all(&moving)));
    let mut figures = Figures::from_iter([
        ("p999_ms_quiet".to_string(), round(base)),
        ("p999_ms_moves".to_string(), round(with)),
        ("moves_meanwhile".to_string(), moves.into()),
    ]);
    for (name, kept, gaps) in &times {
        let millis = |gap: &Duration| gap.as_millis() as u64;
        figures.insert(format!("p999_ms_leader_kept_{name}"), round(p999(kept)));
        figures.insert(format!("gap_median_ms_{name}"), millis(&share(gaps, 0.5)).into());
        figures.insert(format!("gap_most_ms_{name}"), millis(&share(gaps, 1.0)).into());
        figures.insert(format!("gaps_{name}"), gaps.len().into());
    }
    println!("{}", json!(figures));
    if !context.small {
        let median = share(&times[1].2, 0.5).as_millis() as u64;
        ensure!(median < GAP_MEDIAN_MAX_MS, "half of the gaps are longer than {median} ms");
        let kept = p999(&times[1].1);
        for (name, found) in [("with moves", with), ("with moves and kills", kept)] {
            ensure!(
                found <= FACTOR_MAX * base,
                "p99.9 {name}, where no leader was lost: {found} ms; without: {base} ms"
            );
        }
    }
    Ok(figures)
}

fn round(millis: f64) -> serde_json::Value {
    ((millis * 100.0).round() / 100.0).into()
}

/// The duration within which this share of them is.
fn share(durations: &[Duration], share: f64) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

/// A key of each group, in slots that stay.
fn keys(client: &mut Client) -> Result<BTreeMap<u32, String>> {
    let mut keys = BTreeMap::new();
    for number in 0.. {
        let key = format!("count:{number}");
        let slot = slots_of(client, std::slice::from_ref(&key))?.first().copied();
        let slot = slot.context("a slot")?;
        let moves = MOVED.iter().any(|(first, last)| (*first..=*last).contains(&slot));
        // As the groups are founded: each has a third, in their order.
        let group = 1 + u32::from(slot) * 3 / 16_384;
        if !moves {
            keys.entry(group).or_insert(key);
        }
        if keys.len() == GROUPS.len() {
            break;
        }
    }
    Ok(keys)
}

/// Something to copy.
fn fill(client: &mut Client) -> Result<()> {
    let value = "v".repeat(VALUE_BYTES);
    let mut filled = 0;
    for number in 0.. {
        let key = format!("fill:{number}");
        let slot = slots_of(client, std::slice::from_ref(&key))?.first().copied();
        let slot = slot.context("a slot")?;
        if MOVED.iter().any(|(first, last)| (*first..=*last).contains(&slot)) {
            ensure!(client.call(&["SET", &key, &value])?.is_ok(), "SET {key}");
            filled += 1;
        }
        if filled == VALUES {
            break;
        }
    }
    Ok(())
}

/// A client of each group at each node, one request at a time.
struct Watch {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Watched>>,
}

impl Watch {
    fn start(nodes: &[SocketAddr], keys: &BTreeMap<u32, String>) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        for (node, address) in nodes.iter().copied().enumerate() {
            for (group, key) in keys {
                let (group, key, stop) = (*group, key.clone(), Arc::clone(&stop));
                clients.push(std::thread::spawn(move || {
                    let mut watched = Watched { group, node, seen: Vec::new(), errors: Vec::new() };
                    let mut connection = None;
                    while !stop.load(Ordering::Relaxed) {
                        watched.step(address, &key, &mut connection);
                    }
                    watched
                }));
            }
        }
        Watch { stop, clients }
    }

    fn stop(self) -> Result<Vec<Watched>> {
        self.stop.store(true, Ordering::Relaxed);
        let join = |client: JoinHandle<Watched>| {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))
        };
        self.clients.into_iter().map(join).collect()
    }
}

impl Watched {
    fn step(&mut self, address: SocketAddr, key: &str, connection: &mut Option<Client>) {
        let Some(client) = connection else {
            match Client::connect(address) {
                Ok(client) => *connection = Some(client),
                Err(_) => wait::let_pass(RECONNECT),
            }
            return;
        };
        let called = Instant::now();
        match client.call(&["INCR", key]) {
            Ok(Reply::Integer(_)) => self.seen.push(Seen { called, answered: Instant::now() }),
            Ok(other) => self.errors.push((called, format!("{other:?}"))),
            Err(error) => {
                *connection = None;
                self.errors.push((called, error.to_string()));
            }
        }
    }

    /// The longest time between two successes that touches the kill's time.
    fn gap(&self, kill: &Kill) -> Option<Duration> {
        let pairs = self.seen.windows(2).map(|pair| (pair[0].answered, pair[1].answered));
        let touching = pairs.filter(|(earlier, later)| *later >= kill.from && *earlier <= kill.to);
        touching.map(|(earlier, later)| later - earlier).max()
    }
}

/// Kills the leaders of the groups in turn.
fn kill_in_turn(context: &Context, cluster: &mut Cluster, kills: usize) -> Result<Vec<Kill>> {
    let mut done = Vec::new();
    for at in 0..kills {
        let node = at % cluster.nodes().len();
        let witness = (node + 1) % cluster.nodes().len();
        let mut before = None;
        let led = wait::until("leaders of all groups that stay", LEADERS_MAX, || {
            let Ok(status) = cluster.status(witness) else { return Ok(None) };
            let leaders: Option<Vec<u64>> =
                status.groups.iter().map(|group| group.leader).collect();
            // Some may be on their way to the node where they are wanted.
            let stay = leaders.is_some() && leaders == before;
            before = leaders;
            if !stay {
                wait::let_pass(SETTLED);
                return Ok(None);
            }
            let id = cluster.nodes()[node].id;
            let led = status.groups.iter().filter(|group| group.leader == Some(id));
            Ok(Some(led.map(|group| group.id).collect::<BTreeSet<u32>>()))
        })?;
        let from = Instant::now();
        cluster.kill(node)?;
        wait::let_pass(DEAD);
        cluster.restart(context, node)?;
        let to = Instant::now();
        wait::let_pass(ALIVE);
        done.push(Kill { node, led, from, to });
    }
    Ok(done)
}

/// Latencies where no leader was lost, gaps where one was, and errors, all at the other nodes.
fn judge(found: &[Watched], kills: &[Kill]) -> (Vec<Duration>, Vec<Duration>, Vec<String>) {
    let (mut kept, mut gaps, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for kill in kills {
        let others = found.iter().filter(|one| one.node != kill.node);
        for one in others.clone().filter(|one| !kill.led.contains(&one.group)) {
            let during = |seen: &&Seen| seen.answered >= kill.from && seen.called <= kill.to;
            let during = one.seen.iter().filter(during);
            kept.extend(during.map(|seen| seen.answered - seen.called));
        }
        for group in kill.led.iter().filter(|group| **group > 0) {
            let of = others.clone().filter(|one| one.group == *group);
            let found: Vec<Duration> = of.filter_map(|one| one.gap(kill)).collect();
            println!("node {} killed: group {group} waited {found:?}", kill.node + 1);
            gaps.extend(found);
        }
        for one in others {
            let during = |(at, _): &&(Instant, String)| *at >= kill.from && *at <= kill.to;
            errors.extend(one.errors.iter().filter(during).map(|(_, what)| what.clone()));
        }
    }
    (kept, gaps, errors)
}

/// Two ranges of slots that two groups exchange, again and again.
struct Mover {
    stop: Arc<AtomicBool>,
    work: JoinHandle<u32>,
}

impl Mover {
    fn start(context: &Context, cluster: &Cluster) -> Mover {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let binary = context.binary.clone();
        let addresses: Vec<SocketAddr> = cluster.nodes().iter().map(|node| node.grpc).collect();
        let work = std::thread::spawn(move || {
            let mut done = 0;
            for turn in 0usize.. {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                for (at, (first, last)) in MOVED.iter().enumerate() {
                    let to = GROUPS[1 + (turn + at + 1) % 2].to_string();
                    let said = crate::program::Program::new(&binary)
                        .args(["cluster", "move", "--slots", &format!("{first}-{last}")])
                        .args(["--to", &to, "--timeout", "10", "--addr"])
                        .args([addresses[turn % addresses.len()].to_string()])
                        .output_within(Duration::from_secs(60));
                    // A node that is just dead refuses.
                    done += u32::from(said.is_ok());
                }
            }
            done
        });
        Mover { stop, work }
    }

    fn stop(self) -> Result<u32> {
        self.stop.store(true, Ordering::Relaxed);
        let done = self.work.join().map_err(|_| anyhow::anyhow!("the mover panicked"))?;
        ensure!(done > 0, "no move was carried out meanwhile");
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_sorted_durations() {
        let millis: Vec<Duration> = (1..=1000).rev().map(Duration::from_millis).collect();
        assert_eq!(share(&millis, 0.999), Duration::from_millis(999));
        assert_eq!(share(&millis, 0.5), Duration::from_millis(500));
        assert_eq!(share(&millis, 1.0), Duration::from_millis(1000));
        assert_eq!(share(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn a_kill_is_felt_by_the_group_that_lost_its_leader() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let watched = |group: u32, times: &[(u64, u64)]| Watched {
            group,
            node: 1,
            seen: times
                .iter()
                .map(|(called, answered)| Seen { called: at(*called), answered: at(*answered) })
                .collect(),
            errors: vec![(at(5), "early".into()), (at(150), "in time".into())],
        };
        let found = [watched(1, &[(0, 2), (90, 95), (95, 400)]), watched(2, &[(100, 103)])];
        let kill = Kill { node: 0, led: [0, 1].into(), from: at(96), to: at(500) };
        let (kept, gaps, errors) = judge(&found, &[kill]);
        assert_eq!(kept, [Duration::from_millis(3)]);
        assert_eq!(gaps, [Duration::from_millis(305)]);
        assert_eq!(errors, ["in time", "in time"]);
        let own = Kill { node: 1, led: [1].into(), from: at(0), to: at(500) };
        assert!(judge(&found, &[own]).1.is_empty());
    }
}
