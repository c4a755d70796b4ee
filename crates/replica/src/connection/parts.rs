//! Commands that are carried out in parts, and what their parts come to.
//!
//! In a store that is sharded a command may concern slots of several groups. Where it need not
//! be atomic, it is cut up: by slot for MGET, EXISTS, TOUCH, DEL and UNLINK; by group for commands
//! on the whole key space, whose parts name the slots that were not where they were looked for,
//! which are then asked for again (PROTOCOL 15). Every part of a write is a write of its own, with
//! its own number. Each key is read or written linearizably; all together they are not one moment.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kontiki_kv::Reply;
use kontiki_kv::command::{Parsed, Read, ScanPosition, SlotRanges, Write};
use kontiki_types::{GroupId, NodeId, Seq, Slot};

use super::error;
use super::route::first_led;
use crate::atlas::{Atlas, Target};

/// Parts of one command that are under way at once: more wait for these.
pub(super) const PARTS_MAX: usize = 256;

/// Steps that one SCAN takes at most while it finds fewer keys than it was asked for.
const SCAN_STEPS_MAX: usize = 16;

/// What the answers of the parts come to.
#[derive(Debug)]
enum Merge {
    /// DEL, UNLINK, EXISTS, TOUCH: the sum.
    Sum(i64),
    /// MGET: each value in its place.
    Values(Vec<Reply>),
    /// DBSIZE and the like: the sum; answers name the slots that are left.
    Count(i64),
    /// KEYS and the like: all of them; answers name the slots that are left.
    Keys { found: Vec<Reply>, pattern: Option<Bytes>, limit: u64 },
    /// FLUSHALL: answers name the slots that are left.
    Flush,
    /// RANDOMKEY: the first group with a key; these are asked next.
    Random { choice: u64, next: VecDeque<GroupId>, found: Option<Reply> },
    /// SCAN, as long as it finds little.
    Scan(Scan),
}

#[derive(Debug)]
struct Scan {
    pattern: Option<Bytes>,
    count: u64,
    other_type: bool,
    /// Only slots that this node leads.
    only: Option<NodeId>,
    steps: usize,
    found: Vec<Reply>,
    cursor: u64,
}

#[derive(Debug)]
struct Part {
    /// What is to be asked; `None` while it is.
    ask: Option<(Parsed, Target)>,
    /// The number of the write that is under way.
    seq: Option<Seq>,
    is_done: bool,
    /// MGET: the places of its values.
    places: Vec<usize>,
}

/// A command in parts.
#[derive(Debug)]
pub(super) struct Parts {
    merge: Merge,
    parts: Vec<Part>,
    /// Parts with something to ask.
    waiting: VecDeque<usize>,
    /// Parts that were asked and have not been answered.
    open: usize,
    is_write: bool,
    /// Some part of a write has been applied, or may have been.
    is_applied: bool,
    failed: usize,
    first_failure: Option<Bytes>,
}

impl Parts {
    fn new(merge: Merge, is_write: bool, asks: Vec<(Parsed, Target, Vec<usize>)>) -> Self {
        let part = |(parsed, to, places)| Part {
            ask: Some((parsed, to)),
            seq: None,
            is_done: false,
            places,
        };
        let parts: Vec<Part> = asks.into_iter().map(part).collect();
        Self {
            merge,
            waiting: (0..parts.len()).collect(),
            parts,
            open: 0,
            is_write,
            is_applied: false,
            failed: 0,
            first_failure: None,
        }
    }

    /// A command on keys of several slots, cut by slot; gives it back if it must be atomic.
    pub(super) fn by_slot(command: Parsed) -> Result<Self, Parsed> {
        match command {
            Parsed::Read(Read::MGet { keys }) => {
                let values = vec![Reply::Nil; keys.len()];
                Ok(Self::cut(Merge::Values(values), false, keys, |keys| {
                    Parsed::Read(Read::MGet { keys })
                }))
            }
            Parsed::Read(Read::Exists { keys }) => {
                Ok(Self::cut(Merge::Sum(0), false, keys, |keys| {
                    Parsed::Read(Read::Exists { keys })
                }))
            }
            Parsed::Write(Write::Del { keys }) => {
                Ok(Self::cut(Merge::Sum(0), true, keys, |keys| Parsed::Write(Write::Del { keys })))
            }
            other => Err(other),
        }
    }

    fn cut(merge: Merge, is_write: bool, keys: Vec<Bytes>, of: fn(Vec<Bytes>) -> Parsed) -> Self {
        let mut slots: BTreeMap<Slot, (Vec<Bytes>, Vec<usize>)> = BTreeMap::new();
        for (place, key) in keys.into_iter().enumerate() {
            let (keys, places) = slots.entry(Slot::of(&key)).or_default();
            keys.push(key);
            places.push(place);
        }
        let asks = slots
            .into_iter()
            .map(|(slot, (keys, places))| (of(keys), Target::Slot(slot), places))
            .collect();
        Self::new(merge, is_write, asks)
    }

    /// A command on the whole key space, or on that of the groups led by `only`; gives it back if
    /// it is none.
    pub(super) fn of_everything(
        command: Parsed,
        atlas: &Atlas,
        only: Option<NodeId>,
    ) -> Result<Self, Parsed> {
        let merge = match command {
            Parsed::Read(Read::DbSize) => Merge::Count(0),
            Parsed::Read(Read::Keys { pattern }) => {
                Merge::Keys { found: Vec::new(), pattern: Some(pattern), limit: u64::MAX }
            }
            Parsed::Write(Write::Flush) => Merge::Flush,
            Parsed::Read(Read::RandomKey { choice }) => {
                return Ok(Self::random(choice, atlas, only));
            }
            Parsed::Read(Read::Scan { from, pattern, count, other_type }) => {
                let scan = Scan {
                    pattern,
                    count,
                    other_type,
                    only,
                    steps: 0,
                    found: Vec::new(),
                    cursor: 0,
                };
                return Ok(Self::scan(scan, from, atlas));
            }
            other => return Err(other),
        };
        let parts = groups_of(atlas, only).into_values();
        Ok(Self::over_slots(merge, parts.map(|slots| (slots, None)).collect()))
    }

    fn over_slots(merge: Merge, parts: Vec<(SlotRanges, Option<Target>)>) -> Self {
        let asks = parts.into_iter().map(|(slots, to)| {
            let home = slots.first().map_or(Slot::default(), |(first, _)| *first);
            (merge.over(slots), to.unwrap_or(Target::Slot(home)), Vec::new())
        });
        let asks = asks.collect();
        let is_write = matches!(merge, Merge::Flush);
        Self::new(merge, is_write, asks)
    }

    /// CLUSTER COUNTKEYSINSLOT.
    pub(super) fn count(slot: Slot, to: Target) -> Self {
        Self::over_slots(Merge::Count(0), vec![(vec![(slot, slot)], Some(to))])
    }

    /// CLUSTER GETKEYSINSLOT.
    pub(super) fn keys(slot: Slot, limit: u64, to: Target) -> Self {
        let merge = Merge::Keys { found: Vec::new(), pattern: None, limit };
        Self::over_slots(merge, vec![(vec![(slot, slot)], Some(to))])
    }

    /// Groups are asked one after the other, that of a random slot first: so one with more slots is
    /// asked more often.
    fn random(choice: u64, atlas: &Atlas, only: Option<NodeId>) -> Self {
        let mut groups: VecDeque<GroupId> = groups_of(atlas, only).into_keys().flatten().collect();
        let slot = Slot::new((choice % u64::from(kontiki_types::SLOTS)) as u16);
        let first = slot.and_then(|slot| atlas.owner(slot));
        if let Some(place) = groups.iter().position(|group| Some(*group) == first) {
            groups.rotate_left(place);
        }
        let first = groups.pop_front();
        let asks = first.map(|group| {
            let read = Parsed::Read(Read::RandomKey { choice: mixed(choice) });
            (read, Target::Group(group), Vec::new())
        });
        let merge = Merge::Random { choice: mixed(choice), next: groups, found: None };
        Self::new(merge, false, asks.into_iter().collect())
    }

    fn scan(scan: Scan, from: ScanPosition, atlas: &Atlas) -> Self {
        let asks = scan.ask(from, atlas).map(|(read, to)| (read, to, Vec::new()));
        Self::new(Merge::Scan(scan), false, asks.into_iter().collect())
    }

    /// How many parts there are; it never changes.
    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    pub(super) fn is_write(&self) -> bool {
        self.is_write
    }

    /// The next part to ask, if one may be asked now.
    pub(super) fn next(&mut self) -> Option<(usize, Parsed, Target)> {
        if self.open >= PARTS_MAX {
            return None;
        }
        let place = self.waiting.pop_front()?;
        let (parsed, to) = self.parts.get_mut(place)?.ask.take()?;
        self.open += 1;
        Some((place, parsed, to))
    }

    /// The write of this part has this number.
    pub(super) fn numbered(&mut self, place: usize, seq: Seq) {
        if let Some(part) = self.parts.get_mut(place) {
            part.seq = Some(seq);
        }
    }

    /// A part is answered; `None` if it was not asked. Answers the number of its write.
    pub(super) fn answered(&mut self, place: usize) -> Option<Option<Seq>> {
        let part = self.parts.get_mut(place).filter(|part| part.ask.is_none() && !part.is_done)?;
        part.is_done = true;
        self.open = self.open.saturating_sub(1);
        Some(part.seq.take())
    }

    /// A part failed. What was not asked yet never is.
    pub(super) fn failed(&mut self, line: &[u8], may_be_applied: bool) {
        self.failed += 1 + self.waiting.len();
        self.waiting.clear();
        self.is_applied |= may_be_applied;
        self.first_failure.get_or_insert_with(|| Bytes::copy_from_slice(line));
    }

    /// A part came to this, and may have to be asked for more.
    pub(super) fn came_to(&mut self, place: usize, reply: Reply, atlas: &Atlas) {
        if let Reply::Error(line) = &reply {
            return self.failed(line, false);
        }
        self.is_applied |= self.is_write;
        let Some(part) = self.parts.get_mut(place) else { return };
        match self.merge.take(reply, &part.places, atlas) {
            Ok(None) => {}
            Ok(Some(more)) if self.first_failure.is_none() => {
                part.ask = Some(more);
                part.is_done = false;
                self.waiting.push_back(place);
            }
            Ok(Some(_)) => self.failed += 1,
            Err(Unexpected) => {
                self.failed(b"ERR a part of the command got an answer of no use", true)
            }
        }
    }

    /// Whether every part is done.
    pub(super) fn is_done(&self) -> bool {
        self.open == 0 && self.waiting.is_empty()
    }

    /// The reply of the whole.
    pub(super) fn finish(self) -> Reply {
        match self.first_failure {
            None => self.merge.finish(),
            Some(line) if self.is_write && self.is_applied => {
                let (failed, all) = (self.failed, self.parts.len());
                error(&format!(
                    "UNKNOWN {failed} of {all} parts of this command failed, the others were \
                     applied; the first failure: {}",
                    String::from_utf8_lossy(&line)
                ))
            }
            Some(line) => Reply::Error(line),
        }
    }
}

/// An answer that no part can have.
struct Unexpected;

impl Merge {
    /// The command for ranges of slots.
    fn over(&self, slots: SlotRanges) -> Parsed {
        match self {
            Self::Flush => Parsed::Write(Write::FlushSlots { slots }),
            Self::Keys { found, pattern, limit } => {
                let limit = limit.saturating_sub(found.len() as u64);
                Parsed::Read(Read::KeysOfSlots { slots, pattern: pattern.clone(), limit })
            }
            _ => Parsed::Read(Read::CountSlots { slots }),
        }
    }

    /// Takes the answer of a part, and says what else to ask.
    fn take(
        &mut self,
        reply: Reply,
        places: &[usize],
        atlas: &Atlas,
    ) -> Result<Option<(Parsed, Target)>, Unexpected> {
        match (&mut *self, reply) {
            (Self::Sum(sum), Reply::Integer(number)) => {
                *sum += number;
                Ok(None)
            }
            (Self::Values(values), Reply::Array(found)) if found.len() == places.len() => {
                for (place, value) in places.iter().zip(found) {
                    *values.get_mut(*place).ok_or(Unexpected)? = value;
                }
                Ok(None)
            }
            (Self::Random { found, .. }, reply @ Reply::Bulk(_)) => {
                *found = Some(reply);
                Ok(None)
            }
            (Self::Random { choice, next, .. }, Reply::Nil) => {
                let read = Parsed::Read(Read::RandomKey { choice: *choice });
                Ok(next.pop_front().map(|group| (read, Target::Group(group))))
            }
            (Self::Scan(scan), Reply::Array(parts)) => scan.take(parts, atlas),
            (_, Reply::Array(parts)) => {
                let Ok([first, Reply::Array(left)]) = <[Reply; 2]>::try_from(parts) else {
                    return Err(Unexpected);
                };
                match (&mut *self, first) {
                    (Self::Count(sum), Reply::Integer(number)) => *sum += number,
                    (Self::Keys { found, .. }, Reply::Array(keys)) => found.extend(keys),
                    (Self::Flush, Reply::Ok) => {}
                    _ => return Err(Unexpected),
                }
                let left = ranges(&left)?;
                Ok(left.first().copied().map(|(home, _)| (self.over(left), Target::Slot(home))))
            }
            _ => Err(Unexpected),
        }
    }

    fn finish(self) -> Reply {
        match self {
            Self::Sum(sum) | Self::Count(sum) => Reply::Integer(sum),
            Self::Values(values) => Reply::Array(values),
            Self::Keys { found, .. } => Reply::Array(found),
            Self::Flush => Reply::Ok,
            Self::Random { found, .. } => found.unwrap_or(Reply::Nil),
            Self::Scan(scan) => Reply::Array(vec![
                Reply::Bulk(scan.cursor.to_string().into()),
                Reply::Array(scan.found),
            ]),
        }
    }
}

impl Scan {
    /// What to ask for the keys from `from` on; nothing if there are none any more.
    fn ask(&self, from: ScanPosition, atlas: &Atlas) -> Option<(Parsed, Target)> {
        let from = match self.only {
            None => from,
            Some(node) => match first_led(atlas, node, from.slot())? {
                slot if slot == from.slot() => from,
                slot => ScanPosition::start_of(slot),
            },
        };
        let pattern = self.pattern.clone();
        let count = self.count.saturating_sub(self.found.len() as u64).max(1);
        let read = Read::Scan { from, pattern, count, other_type: self.other_type };
        Some((Parsed::Read(read), Target::Slot(from.slot())))
    }

    fn take(
        &mut self,
        parts: Vec<Reply>,
        atlas: &Atlas,
    ) -> Result<Option<(Parsed, Target)>, Unexpected> {
        let Ok([Reply::Bulk(cursor), Reply::Array(keys)]) = <[Reply; 2]>::try_from(parts) else {
            return Err(Unexpected);
        };
        let cursor = std::str::from_utf8(&cursor).ok().and_then(|text| text.parse().ok());
        let cursor: u64 = cursor.ok_or(Unexpected)?;
        self.found.extend(keys);
        self.steps += 1;
        self.cursor = 0;
        if cursor == 0 {
            return Ok(None);
        }
        let Some((read, to)) = self.ask(ScanPosition::from_cursor(cursor), atlas) else {
            return Ok(None);
        };
        if self.found.len() as u64 >= self.count || self.steps >= SCAN_STEPS_MAX {
            if let Parsed::Read(Read::Scan { from, .. }) = read {
                self.cursor = from.cursor();
            }
            return Ok(None);
        }
        Ok(Some((read, to)))
    }
}

/// The slots of each group, or of those led by `only`; under `None` those that no group has yet.
fn groups_of(atlas: &Atlas, only: Option<NodeId>) -> BTreeMap<Option<GroupId>, SlotRanges> {
    let mut groups: BTreeMap<Option<GroupId>, SlotRanges> = BTreeMap::new();
    for (first, last, owner) in atlas.configuration.iter().flat_map(|known| known.runs()) {
        let leader = owner.and_then(|group| atlas.leader(group));
        if only.is_none_or(|node| leader == Some(node)) {
            groups.entry(owner).or_default().push((first, last));
        }
    }
    groups
}

fn ranges(numbers: &[Reply]) -> Result<SlotRanges, Unexpected> {
    let slot = |number: &Reply| match number {
        Reply::Integer(number) => u16::try_from(*number).ok().and_then(Slot::new),
        _ => None,
    };
    let pair = |pair: &[Reply]| match pair {
        [first, last] => Some((slot(first)?, slot(last)?)),
        _ => None,
    };
    numbers.chunks(2).map(|two| pair(two).ok_or(Unexpected)).collect()
}

/// The group and the key in it are drawn by different numbers.
fn mixed(choice: u64) -> u64 {
    (choice ^ choice >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
