//! Random logs, and a naive model of what they mean.

use std::collections::BTreeMap;

use kontiki_kv::{Proposal, RETRY_WINDOW_MAX_MS, Reply, Verdict};
use kontiki_types::LogTime;

use crate::group::Write;

/// A small deterministic generator (an LCG over 2^64, high bits taken).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((u128::from(self.0) * u128::from(end)) >> 64) as u64
    }
}

/// One entry of a random log, in a form that a model understands.
#[derive(Clone, Debug)]
pub enum Step {
    Tick(u64),
    Write { connection: u64, seq: u64, low: u64, deadline: u64, after: u64, stamp: u64, op: Op },
}

#[derive(Clone, Debug)]
pub enum Op {
    Set { key: u64, value: u64, ttl: Option<u64> },
    SetLong { key: u64 },
    Incr { key: u64 },
    GetDel { key: u64 },
    Del { keys: [u64; 2] },
    PExpire { key: u64, ttl: u64 },
    Flush,
    Size,
}

impl Op {
    fn random(random: &mut Random) -> Self {
        let key = random.below(12);
        match random.below(16) {
            0..4 => {
                let ttl = (random.below(2) == 0).then(|| 1 + random.below(40));
                Self::Set { key, value: random.below(100), ttl }
            }
            4..8 => Self::Incr { key },
            8 => Self::SetLong { key },
            9..11 => Self::GetDel { key },
            11..13 => Self::Del { keys: [key, random.below(12)] },
            13 => Self::PExpire { key, ttl: random.below(40) },
            14 if random.below(4) == 0 => Self::Flush,
            _ => Self::Size,
        }
    }

    /// Half of the keys share a slot.
    fn name(key: u64) -> String {
        if key.is_multiple_of(2) { format!("key{key}") } else { format!("{{one}}{key}") }
    }

    fn write(&self, connection: u64, seq: u64) -> Write {
        let name = Self::name;
        let request = match self {
            Self::Set { key, value, ttl: None } => format!("SET {} {value}", name(*key)),
            Self::Set { key, value, ttl: Some(ttl) } => {
                format!("SET {} {value} PX {ttl}", name(*key))
            }
            Self::SetLong { key } => format!("SET {} {}", name(*key), "x".repeat(1_000)),
            Self::Incr { key } => format!("INCR {}", name(*key)),
            Self::GetDel { key } => format!("GETDEL {}", name(*key)),
            Self::Del { keys: [first, second] } => {
                format!("DEL {} {}", name(*first), name(*second))
            }
            Self::PExpire { key, ttl } => format!("PEXPIRE {} {ttl}", name(*key)),
            Self::Flush => "FLUSHALL".to_string(),
            Self::Size => {
                let commands = vec![crate::group::parsed("DBSIZE")];
                let exec = kontiki_kv::command::Write::Exec { watched: Vec::new(), commands };
                return Write::of(connection, seq, kontiki_types::Slot::of(b"x"), &exec);
            }
        };
        Write::new(connection, seq, &request)
    }
}

impl Step {
    pub fn proposal(&self) -> Proposal {
        match self {
            Self::Tick(stamp) => Proposal::tick(LogTime(*stamp)),
            Self::Write { connection, seq, low, deadline, after, stamp, op } => {
                let mut write = op.write(*connection, *seq).low(*low).deadline(*deadline);
                write.request.after = Some((*after).into()).filter(|_| *after > 0);
                write.stamped(*stamp).proposal()
            }
        }
    }
}

/// A log of clients that pipeline, retry, acknowledge late, and of leaders with wrong clocks.
pub fn log(seed: u64, length: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut now = 1_000;
    let mut sent: Vec<Vec<Step>> = vec![Vec::new(); 4];
    let mut lows = [1u64; 4];
    let mut steps = Vec::new();
    while steps.len() < length {
        now += [0, 0, 1, 5][random.below(4) as usize];
        if random.below(200) == 0 {
            now += RETRY_WINDOW_MAX_MS;
        }
        let stamp = if random.below(10) == 0 { now - 20 } else { now };
        let connection = random.below(4);
        let own = &mut sent[connection as usize];
        let low = &mut lows[connection as usize];
        let next = own.len() as u64 + 1;
        let step = match random.below(10) {
            0 => Step::Tick(stamp),
            1..4 if !own.is_empty() => {
                let mut retry = own[random.below(own.len() as u64) as usize].clone();
                if let Step::Write { stamp: old, seq, low: old_low, .. } = &mut retry {
                    *old = stamp;
                    // A copy that was held up still has the low mark of when it was sent.
                    if random.below(2) == 0 {
                        *old_low = (*low).min(*seq);
                    }
                }
                retry
            }
            kind => {
                if kind > 5 {
                    *low = next - random.below(3).min(next - *low);
                }
                let deadline =
                    now + [3, 50, 500, RETRY_WINDOW_MAX_MS + 1][random.below(4) as usize];
                let after = if random.below(3) == 0 { next - 1 } else { 0 };
                let op = Op::random(&mut random);
                let seq = next;
                let step = Step::Write { connection, seq, low: *low, deadline, after, stamp, op };
                own.push(step.clone());
                step
            }
        };
        steps.push(step);
    }
    steps
}

/// What the rules say, as plainly as they can be written down.
#[derive(Default)]
pub struct Model {
    pub now: u64,
    /// Value and expiry.
    keys: BTreeMap<u64, (String, Option<u64>)>,
    /// By connection, seq and slot: deadline and reply.
    records: BTreeMap<(u64, u64, u16), (u64, Reply)>,
    /// By connection: low marks with the time they were first seen.
    lows: BTreeMap<u64, Vec<(u64, u64)>>,
}

impl Model {
    pub fn apply(&mut self, step: &Step) -> Option<Verdict> {
        let (Step::Tick(stamp) | Step::Write { stamp, .. }) = step;
        self.now = self.now.max(*stamp);
        let now = self.now;
        self.keys.retain(|_, (_, expires)| expires.is_none_or(|at| at > now));
        let Step::Write { connection, seq, low, deadline, after, op, .. } = step else {
            return None;
        };
        let slot = op.write(*connection, *seq).request.slot.get();
        let marks = self.lows.entry(*connection).or_default();
        marks.push((*low, now));
        // A mark that was not higher than those alive when it came is no mark of its own.
        let alive = |marks: &[(u64, u64)]| {
            let mut best: Option<(u64, u64)> = None;
            for &(mark, since) in marks {
                let current = best.filter(|(_, first)| since <= first + RETRY_WINDOW_MAX_MS);
                best = if current.is_some_and(|(low, _)| low >= mark) || mark <= 1 {
                    current
                } else {
                    Some((mark, since))
                };
            }
            best.filter(|(_, first)| now <= first + RETRY_WINDOW_MAX_MS).map_or(0, |(low, _)| low)
        };
        let low = alive(marks);
        let record = |seq: u64| {
            let record = self.records.get(&(*connection, seq, slot));
            record.filter(|(deadline, _)| now <= *deadline && seq >= low)
        };
        if let Some((_, reply)) = record(*seq) {
            return Some(Verdict::Done(reply.clone()));
        }
        if *seq < low || now > *deadline || *deadline > now + RETRY_WINDOW_MAX_MS {
            return Some(Verdict::Unknown);
        }
        if *after > 0 && *after >= low && record(*after).is_none() {
            return Some(Verdict::SentBack);
        }
        // Freed for good, also when the mark is forgotten.
        self.records.retain(|(owner, seq, _), _| owner != connection || *seq >= low);
        let reply = self.execute(op);
        self.records.insert((*connection, *seq, slot), (*deadline, reply.clone()));
        Some(Verdict::Done(reply))
    }

    fn execute(&mut self, op: &Op) -> Reply {
        let bulk = |text: String| Reply::Bulk(text.into());
        match op {
            Op::Set { key, value, ttl } => {
                self.keys.insert(*key, (value.to_string(), ttl.map(|ttl| self.now + ttl)));
                Reply::Ok
            }
            Op::SetLong { key } => {
                self.keys.insert(*key, ("x".repeat(1_000), None));
                Reply::Ok
            }
            Op::Incr { key } => {
                let entry = self.keys.entry(*key).or_insert(("0".to_string(), None));
                let Ok(number) = entry.0.parse::<i64>() else {
                    let text = "ERR value is not an integer or out of range";
                    return Reply::Error(text.into());
                };
                entry.0 = (number + 1).to_string();
                Reply::Integer(number + 1)
            }
            Op::GetDel { key } => {
                self.keys.remove(key).map_or(Reply::Nil, |(value, _)| bulk(value))
            }
            Op::Del { keys } => {
                let gone = keys.iter().filter(|key| self.keys.remove(key).is_some()).count();
                Reply::Integer(gone as i64)
            }
            Op::PExpire { key, ttl } => {
                let Some((_, expires)) = self.keys.get_mut(key) else { return Reply::Integer(0) };
                *expires = Some(self.now + ttl);
                self.keys.retain(|_, (_, expires)| expires.is_none_or(|at| at > self.now));
                Reply::Integer(1)
            }
            Op::Flush => {
                self.keys.clear();
                Reply::Ok
            }
            Op::Size => Reply::Array(vec![Reply::Integer(self.keys.len() as i64)]),
        }
    }

    /// Name and value of each live key, by name.
    pub fn contents(&self) -> Vec<(String, String)> {
        let mut all: Vec<_> =
            self.keys.iter().map(|(key, (value, _))| (Op::name(*key), value.clone())).collect();
        all.sort();
        all
    }
}
