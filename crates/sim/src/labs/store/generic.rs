//! The suites' generic test: clerks write and read while the cluster is troubled, in rounds.

use std::collections::BTreeMap;
use std::time::Duration;

use kontiki_kv::Reply;
use kontiki_types::Instant;

use super::{Clerk, Done, Event, SMALL_LOG, Service, config, cutting};
use crate::invariants::{Checked, Violation};
use crate::labs::{fails, history::Book};

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub(in crate::labs) struct Generic {
    pub(in crate::labs) clerks: usize,
    pub(in crate::labs) nodes: u64,
    /// The network loses, doubles and delays, between nodes and for clerks.
    pub(in crate::labs) unreliable: bool,
    /// At the end of each round the power of all nodes fails for a second.
    pub(in crate::labs) crash: bool,
    /// The nodes fall into two parts by chance, anew each second or so.
    pub(in crate::labs) partitions: bool,
    /// The log is cut beyond [`SMALL_LOG`]; otherwise it must stay whole.
    pub(in crate::labs) snapshots: bool,
    /// Clerks write and read the keys of all, not only their own.
    pub(in crate::labs) random_keys: bool,
}

impl Generic {
    /// Without trouble.
    pub(in crate::labs) const fn new(clerks: usize, nodes: u64) -> Self {
        Self {
            clerks,
            nodes,
            unreliable: false,
            crash: false,
            partitions: false,
            snapshots: false,
            random_keys: false,
        }
    }

    pub(in crate::labs) const fn unreliable(self) -> Self {
        Self { unreliable: true, ..self }
    }

    pub(in crate::labs) const fn crash(self) -> Self {
        Self { crash: true, ..self }
    }

    pub(in crate::labs) const fn partitions(self) -> Self {
        Self { partitions: true, ..self }
    }

    pub(in crate::labs) const fn snapshots(self) -> Self {
        Self { snapshots: true, ..self }
    }

    pub(in crate::labs) const fn random_keys(self) -> Self {
        Self { random_keys: true, ..self }
    }

    /// Three rounds of 5 s, each with its trouble; then all that was asked is judged.
    pub(in crate::labs) fn run(self, seed: u64) -> Checked {
        let config =
            if self.snapshots { cutting(self.nodes, SMALL_LOG) } else { config(self.nodes) };
        let mut service = Service::new(config, seed);
        service.leader()?;
        if self.unreliable {
            service.make_unreliable();
        }
        let mut load = Load::new(self, &mut service)?;
        for _ in 0..ROUNDS {
            load.round(&mut service)?;
            load.check_values(&mut service)?;
            self.check_logs(&mut service)?;
        }
        load.book.judge()
    }

    fn check_logs(self, service: &mut Service) -> Checked {
        service.settle()?;
        for node in service.cluster.node_ids() {
            let Some(status) = service.cluster.status(node) else {
                return fails(format!("{node} has no replica"));
            };
            let log = status.raft.log_bytes;
            if self.snapshots {
                demand!(log <= 8 * SMALL_LOG, "the log of {node} has {log} bytes");
            } else {
                demand_eq!(status.raft.first.0, 1, "the first entry of a log that is kept");
                demand_eq!(service.cluster.snapshots(node), (0, 0), "the number of snapshots");
            }
        }
        Ok(())
    }
}

struct Load {
    generic: Generic,
    clerks: Vec<Clerk>,
    /// What each clerk has appended to its own key, as far as it knows.
    values: Vec<String>,
    written: u64,
    book: Book,
    end: Instant,
}

impl Load {
    fn new(generic: Generic, service: &mut Service) -> Result<Self, Violation> {
        let clerks: Vec<Clerk> = (0..generic.clerks).map(|_| service.clerk()).collect();
        let mut load = Self {
            generic,
            values: vec![String::new(); clerks.len()],
            clerks,
            written: 0,
            book: Book::default(),
            end: Instant(0),
        };
        for at in 0..load.clerks.len() {
            let key = at.to_string();
            service.begin(load.clerks[at], &[b"SET", key.as_bytes(), b""])?;
            let done = service.finish(load.clerks[at])?;
            load.book.note(&done);
        }
        Ok(load)
    }

    /// Lets clerks work for 5 s, and then until all have their answers.
    fn round(&mut self, service: &mut Service) -> Checked {
        let now = service.cluster.now();
        self.end = now + ROUND;
        for at in 0..self.clerks.len() {
            self.think(service, at);
        }
        if self.generic.partitions {
            service.wake(Duration::ZERO, PARTITION);
        }
        let crash_at = if self.generic.crash { Duration::from_millis(4500) } else { ROUND };
        self.until(service, now + crash_at)?;
        if self.generic.crash {
            service.crash_all();
            self.until(service, service.cluster.now() + Duration::from_secs(1))?;
            service.start_all()?;
        }
        service.cluster.network().heal();
        let limit = service.cluster.now() + Duration::from_secs(60);
        self.until(service, service.cluster.now().max(self.end) + Duration::from_millis(100))?;
        while self.clerks.iter().any(|&clerk| service.is_busy(clerk)) {
            demand!(service.cluster.now() < limit, "some clerk has no answer after a minute");
            self.until(service, service.cluster.now() + Duration::from_millis(50))?;
        }
        Ok(())
    }

    fn until(&mut self, service: &mut Service, time: Instant) -> Checked {
        while let Some(event) = service.next(time)? {
            match event {
                Event::Done(done) => self.done(service, &done)?,
                Event::Wake(PARTITION) if service.cluster.now() < self.end => {
                    let mut sides = [Vec::new(), Vec::new()];
                    for node in service.cluster.node_ids() {
                        sides[service.cluster.random().below(2) as usize].push(node);
                    }
                    service.cluster.network().partition(&sides);
                    let pause = service.cluster.random().between(1000, 1200);
                    service.wake(Duration::from_millis(pause), PARTITION);
                }
                Event::Wake(PARTITION) => {}
                // A clerk that was busy when the last round ended has two wake-ups.
                Event::Wake(at)
                    if service.cluster.now() < self.end
                        && !service.is_busy(self.clerks[at as usize]) =>
                {
                    self.ask(service, at as usize)?;
                }
                Event::Wake(_) => {}
            }
        }
        Ok(())
    }

    fn think(&self, service: &mut Service, at: usize) {
        let pause = service.cluster.random().between(2, 20);
        service.wake(Duration::from_millis(pause), at as u64);
    }

    fn ask(&mut self, service: &mut Service, at: usize) -> Checked {
        let random = service.cluster.random();
        let (key, action) = if self.generic.random_keys {
            (random.below(self.clerks.len() as u64) as usize, random.below(1000))
        } else {
            (at, if random.chance(500) { 0 } else { 999 })
        };
        self.written += 1;
        let key = key.to_string();
        let value = format!("x {at} {} y", self.written);
        let words: &[&[u8]] = match action {
            0..500 => &[b"APPEND", key.as_bytes(), value.as_bytes()],
            // A put now and then, as half of the rest would be gets.
            500..550 => &[b"SET", key.as_bytes(), value.as_bytes()],
            _ => &[b"GET", key.as_bytes()],
        };
        if action < 500 && !self.generic.random_keys {
            self.values[at].push_str(&value);
        }
        service.begin(self.clerks[at], words)
    }

    fn done(&mut self, service: &mut Service, done: &Done) -> Checked {
        self.book.note(done);
        let Some(at) = self.clerks.iter().position(|&clerk| clerk == done.clerk) else {
            return Ok(());
        };
        if !self.generic.random_keys
            && let Reply::Bulk(value) = &done.reply
        {
            self.check_value(at, value)?;
        }
        self.think(service, at);
        Ok(())
    }

    fn check_value(&self, at: usize, value: &[u8]) -> Checked {
        let expected = self.values[at].as_bytes();
        let same = value.iter().zip(expected).take_while(|(one, other)| one == other).count();
        let rest =
            |of: &[u8]| String::from_utf8_lossy(&of[same..]).chars().take(40).collect::<String>();
        demand!(
            value == expected,
            "after {same} bytes the key of clerk {at} goes on with {:?}, and not with {:?}",
            rest(value),
            rest(expected)
        );
        Ok(())
    }

    /// Reads every key: what clerks appended is there once, and in order.
    fn check_values(&mut self, service: &mut Service) -> Checked {
        let reader = service.clerk();
        for at in 0..self.clerks.len() {
            let key = at.to_string();
            service.begin(reader, &[b"GET", key.as_bytes()])?;
            let done = service.finish(reader)?;
            self.book.note(&done);
            if let (false, Reply::Bulk(value)) = (self.generic.random_keys, &done.reply) {
                self.check_value(at, value)?;
            }
        }
        let counts: BTreeMap<_, _> =
            self.values.iter().map(|value| value.matches('x').count()).enumerate().collect();
        let idle = counts.iter().find(|&(_, &count)| count == 0 && !self.generic.random_keys);
        demand!(idle.is_none(), "a clerk has written nothing: {idle:?}");
        Ok(())
    }
}

const ROUNDS: u32 = 3;
const ROUND: Duration = Duration::from_secs(5);
/// The wake-up of whoever partitions the network; those of clerks are their numbers.
const PARTITION: u64 = 1 << 20;
