//! Tests of the log on a simulated disk. What is believed is a plain model of each group.

mod basics;
mod crashes;
mod damage;
mod format;
mod indexes;
mod reading;
mod recycling;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kontiki_raft::{Base, Entry, EntryData, HardState, Membership, Recovered};
use kontiki_types::{GroupId, Incarnation, Index, LogId, Member, NodeId, ReplicaId, Term};

use super::*;
use crate::disk::{Crash, Fault, SimDisk};

const DIRECTORY: &str = "/log";

fn directory() -> &'static Path {
    Path::new(DIRECTORY)
}

fn config(segment_bytes: u64) -> LogConfig {
    let next = AtomicU64::new(1);
    LogConfig {
        segment_bytes,
        spares: 1,
        reserve_bytes: 0,
        free_bytes_min: 0,
        random: Arc::new(move || {
            next.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        }),
        ..LogConfig::new(Incarnation(7))
    }
}

/// Generations differ between the lives of a log, as random numbers would.
fn config_of_life(segment_bytes: u64, life: u64) -> LogConfig {
    let next = AtomicU64::new(0);
    let random = move || (life << 32) + next.fetch_add(1, Ordering::Relaxed);
    LogConfig { random: Arc::new(random), ..config(segment_bytes) }
}

type Groups = BTreeMap<GroupId, State>;

/// What a group's log should be.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    hard_state: HardState,
    base: Option<Base>,
    entries: Vec<Entry<Bytes>>,
}

impl From<Recovered<Bytes>> for State {
    fn from(recovered: Recovered<Bytes>) -> Self {
        let Recovered { hard_state, base, entries, .. } = recovered;
        Self { hard_state, base, entries }
    }
}

impl State {
    fn last(&self) -> u64 {
        let base = self.base.as_ref().map_or(0, |base| base.id.index.get());
        self.entries.last().map_or(base, |entry| entry.id.index.get())
    }

    fn apply(&mut self, update: &Update) {
        if update.forget {
            *self = Self::default();
        }
        if let Some(state) = update.hard_state {
            self.hard_state = state;
        }
        if let Some(base) = &update.base {
            self.entries.retain(|entry| entry.id.index > base.id.index);
            self.base = Some(base.clone());
        }
        let from =
            update.truncate_from.into_iter().chain(update.entries.first().map(|e| e.id.index));
        for from in from {
            self.entries.retain(|entry| entry.id.index < from);
        }
        self.entries.extend(update.entries.iter().cloned());
    }
}

fn model(groups: &Groups, updates: &[(GroupId, Update)]) -> Groups {
    let mut groups = groups.clone();
    for (group, update) in updates {
        groups.entry(*group).or_default().apply(update);
        groups.retain(|id, state| id != group || *state != State::default() || !update.forget);
    }
    groups
}

fn open(disk: &SimDisk, config: LogConfig) -> Result<(Log<SimDisk>, Groups), OpenError> {
    let (log, recovered) = Log::open(disk.clone(), directory(), config)?;
    Ok((log, recovered.into_iter().map(|(group, state)| (group, state.into())).collect()))
}

fn member(node: u64) -> Member {
    Member::new(NodeId(node), Incarnation(100 + node), ReplicaId(1))
}

fn membership() -> Arc<Membership> {
    Arc::new(Membership::new([member(1), member(2), member(3)], [member(4)]))
}

fn base(index: u64, term: u64) -> Base {
    Base {
        id: LogId::new(Term(term), Index(index)),
        membership: membership(),
        membership_id: LogId::ZERO,
    }
}

fn command(index: u64, term: u64, text: &str) -> Entry<Bytes> {
    let data = EntryData::Command(Bytes::copy_from_slice(text.as_bytes()));
    Entry { id: LogId::new(Term(term), Index(index)), data }
}

fn commands(indexes: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry<Bytes>> {
    indexes.map(|index| command(index, term, &format!("command {index} of term {term}"))).collect()
}

fn vote(term: u64, node: u64) -> Option<HardState> {
    Some(HardState { term: Term(term), vote: Some(member(node)) })
}

fn append(indexes: std::ops::RangeInclusive<u64>, term: u64) -> Update {
    Update { entries: commands(indexes, term), ..Update::default() }
}

const ONE: GroupId = GroupId(1);
const TWO: GroupId = GroupId(2);
const SEVEN: GroupId = GroupId(7);
