//! Output to a sharded store: each slot's keys are written by themselves.
//!
//! Invariants
//! - There is a fence in each slot. A write compares the one of its slot, as an attempt has read it
//!   *before* it asked for the grant: nothing is written after the job's end.
//! - An attempt claims the output's mark, as it has read it before it asked for the grant. Of two
//!   attempts that have read the same mark, one claims it.
//! - The first that claims it compares in each slot that nobody has taken the slot over. Whoever claims
//!   it later takes each slot over with its first write there, and compares what it has read there
//!   before it asked for the grant. So once a slot was taken over, nothing of the attempts before is
//!   applied there; and an output whose attempts all live costs no mark in any slot.
//! - The mark says that the output is whole when all slots were written.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use kontiki_client::{Client, Compare, Error, Op, OpResult, Version};
use kontiki_types::Slot;
use tokio::task::JoinSet;

use super::fence::{AGAIN, DONE, Fence};
use super::output::Wrote;
use super::{passes, told};

/// Keys and values that are gathered before the slots among them are written: the more, the fewer
/// writes.
pub(super) const WRITE_BYTES: usize = 8 << 20;
/// The same in keys.
pub(super) const WRITE_KEYS: usize = 64 << 10;

/// Keys and values of one write.
const SLOT_BYTES: usize = 512 << 10;
/// Slots that are written at once.
const SLOTS_AT_ONCE: usize = 256;
/// Slots that are looked into in one call.
const LOOKED_AT: usize = 1024;

/// What an attempt has read before it asked for the grant.
#[derive(Debug)]
pub(super) struct BySlot {
    mark: Vec<u8>,
    version: Version,
    /// Nobody has claimed the output before.
    is_first: bool,
    slots: BTreeMap<Slot, Place>,
    /// The job is over: some fence was gone.
    is_over: bool,
}

/// A slot that the output has keys in.
#[derive(Clone, Debug)]
struct Place {
    fence: Compare,
    /// Who took the slot over, and the version that it must have.
    taker: Bytes,
    taken: Version,
}

impl BySlot {
    /// Reads what the writes of an output to these slots will compare. `version` is the mark's.
    pub(super) async fn prepare(
        client: &Client,
        fence: &Fence,
        number: u32,
        version: Version,
        slots: BTreeSet<Slot>,
    ) -> io::Result<Self> {
        let keys = fence.of_slots();
        let key_of = |slot: &Slot| keys.get(usize::from(slot.get())).cloned().unwrap_or_default();
        let mut prepared = Self {
            mark: fence.mark(number),
            version,
            is_first: version == Version::ABSENT,
            slots: BTreeMap::new(),
            is_over: false,
        };
        let slots: Vec<Slot> = slots.into_iter().collect();
        for some in slots.chunks(LOOKED_AT) {
            let takers: Vec<Bytes> = some
                .iter()
                .map(|slot| [&key_of(slot)[..], format!("-{number}").as_bytes()].concat().into())
                .collect();
            let gets = some.iter().zip(&takers).flat_map(|(slot, taker)| {
                [Op::Get { key: key_of(slot) }, Op::Get { key: taker.clone() }]
            });
            let found = client.batch(gets).await.map_err(|error| told(&error))?;
            for ((slot, taker), found) in some.iter().zip(takers).zip(found.chunks(2)) {
                let version_of = |found: Option<&OpResult>| {
                    found.and_then(value).map_or(Version::ABSENT, |(_, version)| version)
                };
                let (fence, taken) = (version_of(found.first()), version_of(found.get(1)));
                prepared.is_over |= fence == Version::ABSENT;
                let fence = Compare::version(key_of(slot), fence);
                prepared.slots.insert(*slot, Place { fence, taker, taken });
            }
        }
        Ok(prepared)
    }

    /// Claims the output: once, before the first write.
    pub(super) async fn claim(&mut self, client: &Client) -> io::Result<Wrote> {
        self.set_mark(client, if self.is_first { b"begun" } else { b"begun again" }).await
    }

    /// Says that the output is whole.
    pub(super) async fn finish(&mut self, client: &Client) -> io::Result<Wrote> {
        let again = if self.is_first { &b""[..] } else { AGAIN };
        self.set_mark(client, &[DONE, again].concat()).await
    }

    async fn set_mark(&mut self, client: &Client, value: &[u8]) -> io::Result<Wrote> {
        if self.is_over {
            return Ok(Wrote::Superseded);
        }
        match client.put_if_version(&self.mark, value, self.version).await {
            Ok(version) => {
                self.version = version;
                Ok(Wrote::All)
            }
            Err(Error::VersionMismatch { .. }) => Ok(Wrote::Superseded),
            // The mark tells, when it is read again.
            Err(error) if passes(&error) => Ok(Wrote::Superseded),
            Err(error) => Err(told(&error)),
        }
    }

    /// Writes some keys.
    pub(super) async fn write(&mut self, client: &Client, ops: Vec<Op>) -> io::Result<Wrote> {
        let mut of_slots: BTreeMap<Slot, Vec<(Bytes, Bytes)>> = BTreeMap::new();
        for op in ops {
            if let Op::Set { key, value } = op {
                of_slots.entry(Slot::of(&key)).or_default().push((key, value));
            }
        }
        let mut calls = JoinSet::new();
        let mut wrote = Wrote::All;
        for (slot, pairs) in of_slots {
            while calls.len() >= SLOTS_AT_ONCE
                && let Some(ended) = calls.join_next().await
            {
                self.note(ended, &mut wrote)?;
            }
            let Some(place) = self.slots.get(&slot).cloned() else {
                let why = "the output's file has changed since it was prepared";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            };
            let (client, is_first) = (client.clone(), self.is_first);
            calls.spawn(async move { (slot, write_slot(client, place, is_first, pairs).await) });
        }
        while let Some(ended) = calls.join_next().await {
            self.note(ended, &mut wrote)?;
        }
        Ok(wrote)
    }

    fn note(
        &mut self,
        ended: Result<(Slot, io::Result<Option<Version>>), tokio::task::JoinError>,
        wrote: &mut Wrote,
    ) -> io::Result<()> {
        let (slot, taken) = ended.map_err(io::Error::other)?;
        match (taken?, self.slots.get_mut(&slot)) {
            (Some(version), Some(place)) => place.taken = version,
            _ => *wrote = Wrote::Superseded,
        }
        Ok(())
    }
}

/// Writes keys of one slot; the version that the taker has then, or `None` if another attempt has
/// taken over or the job has ended.
async fn write_slot(
    client: Client,
    mut place: Place,
    is_first: bool,
    pairs: Vec<(Bytes, Bytes)>,
) -> io::Result<Option<Version>> {
    let mut pairs = pairs.into_iter().peekable();
    while pairs.peek().is_some() {
        let (mut ops, mut bytes) = (Vec::new(), 0);
        while bytes < SLOT_BYTES
            && let Some((key, value)) = pairs.next()
        {
            bytes += key.len() + value.len();
            ops.push(Op::Set { key, value });
        }
        if !is_first {
            ops.push(Op::Set { key: place.taker.clone(), value: Bytes::new() });
        }
        let compares = [place.fence.clone(), Compare::version(&place.taker, place.taken)];
        match client.transaction(compares, ops).await {
            Ok(Some(results)) => {
                if let (false, Some(OpResult::Set(version))) = (is_first, results.last()) {
                    place.taken = *version;
                }
            }
            Ok(None) => return Ok(None),
            // The mark tells, when it is read again.
            Err(error) if passes(&error) => return Ok(None),
            Err(error) => return Err(told(&error)),
        }
    }
    Ok(Some(place.taken))
}

/// What a `Get` has found.
pub(super) fn value(found: &OpResult) -> Option<(&Bytes, Version)> {
    match found {
        OpResult::Get(Some(found)) => Some((&found.value, found.version)),
        _ => None,
    }
}
