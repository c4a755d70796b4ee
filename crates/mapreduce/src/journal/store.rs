//! A journal in a Kontiki store, which a second coordinator can go on with.
//!
//! Under a prefix there is one key for the *seat*, which says who has the journal and where it begins
//! and ends, and keys for batches of records. Every write of the journal changes the seat, in one
//! transaction, if its version is the one that the write before left. So the seat's version is lease
//! and fence in one:
//!
//! - whoever has the seat changes it at least every [`CONFIRM_EVERY`]; who waits for it watches, and takes
//!   it with the version that it saw last, once that has not changed for the takeover time. Only spans of
//!   time are measured, each on one machine.
//! - a coordinator that lost the seat fails at its next write. It tells nobody anything for longer than
//!   half the takeover time after its last successful one began, so what it told was said before the
//!   next one took over.
//!
//! All keys have one hash tag, so they stay in one group.

use std::time::Duration;

use bytes::Bytes;
use kontiki_client::{Client, Compare, Op, OpResult, Version};
use kontiki_schedule::{Journal, Record};
use kontiki_storage::random_u64;
use kontiki_types::Instant;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::JournalError;
use crate::coordinator::now;
use crate::store::{StoreUrl, block_on, client, passes, told};

/// The seat is changed at least this often.
pub(crate) const CONFIRM_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at a seat that another coordinator has.
const LOOK: Duration = Duration::from_millis(200);
/// Between two tries to write.
const RETRY: Duration = Duration::from_millis(100);
/// A store that is not there for so long ends the coordinator.
const PATIENCE: Duration = Duration::from_secs(300);
/// Bytes of a key of a batch, far below what an entry may hold.
const PART_BYTES: usize = 1 << 20;
/// Keys that are removed at once.
const AT_ONCE: usize = 512;
/// Of a journal that is no longer than this nothing is removed.
const SHORT_BYTES: usize = 64 << 10;

/// What is under the seat's key, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seat {
    /// Version of this format.
    format: u32,
    /// Random, for each coordinator that takes the seat; empty: it is free.
    owner: String,
    /// Where that coordinator is, for people.
    address: String,
    /// After so long without a change the seat may be taken.
    takeover_ms: u64,
    /// Changes with each write.
    beat: u64,
    /// Batches from here on...
    first: u64,
    /// ...and before this one are the journal.
    next: u64,
}

const FORMAT: u32 = 1;

/// Where the keys are.
#[derive(Clone, Debug)]
struct Place {
    url: String,
    store: StoreUrl,
}

impl Place {
    fn seat(&self) -> Bytes {
        [&self.store.prefix, &b"{coordinator}seat"[..]].concat().into()
    }

    fn part(&self, batch: u64, part: u64) -> Bytes {
        let name = format!("{{coordinator}}batch-{batch:016x}-{part:08x}");
        [&self.store.prefix, name.as_bytes()].concat().into()
    }

    fn failed(&self, source: std::io::Error) -> JournalError {
        JournalError::Store { url: self.url.clone(), source }
    }

    async fn client(&self) -> Result<Client, JournalError> {
        client(&self.store.addresses, true).await.map_err(|error| self.failed(error))
    }

    /// What the seat's key holds.
    async fn look(&self, client: &Client) -> Result<Option<(Seat, Bytes, Version)>, LookError> {
        let found = match client.get(self.seat()).await {
            Ok(found) => found,
            Err(error) if passes(&error) => return Err(LookError::Passes(told(&error))),
            Err(error) => return Err(LookError::Stays(self.failed(told(&error)))),
        };
        let Some(found) = found else { return Ok(None) };
        let seat: Seat = serde_json::from_slice(&found.value)
            .map_err(|error| LookError::Stays(self.failed(error.into())))?;
        if seat.format != FORMAT {
            let why = format!("it has format {}, this version writes {FORMAT}", seat.format);
            return Err(LookError::Stays(self.failed(std::io::Error::other(why))));
        }
        Ok(Some((seat, found.value, found.version)))
    }
}

enum LookError {
    Passes(std::io::Error),
    Stays(JournalError),
}

/// A journal that this coordinator has.
pub(crate) struct StoreJournal {
    place: Place,
    client: Client,
    seat: Seat,
    version: Version,
    /// When the last write that succeeded began.
    confirmed: Instant,
    /// Bytes of what last took the place of everything, and of what was appended since.
    replaced_bytes: usize,
    appended_bytes: usize,
}

impl StoreJournal {
    /// Waits until the seat at `url` is free or its coordinator has not shown itself for its takeover
    /// time, and takes it. `told` hears who has it, each time that it is another one.
    ///
    /// # Cancel safety
    /// Cancel safe; the seat may have been taken, and is free again after the takeover time.
    pub(crate) async fn take(
        url: &[u8],
        address: &str,
        takeover: Duration,
        mut tell: impl FnMut(&str),
    ) -> Result<Self, JournalError> {
        let name = String::from_utf8_lossy(url).into_owned();
        let failed = |source| JournalError::Store { url: name.clone(), source };
        let store = StoreUrl::parse(url).map_err(failed)?;
        let place = Place { url: name.clone(), store };
        let client = place.client().await?;
        let owner = format!("{:016x}", random_u64().map_err(failed)?);
        let mut seen = (Version::ABSENT, now());
        let mut known = String::new();
        loop {
            let found = match place.look(&client).await {
                Ok(found) => found,
                Err(LookError::Passes(error)) => {
                    tracing::warn!(%error, journal = name, "the seat cannot be seen");
                    // Nothing is known of it meanwhile.
                    seen.1 = now();
                    sleep(LOOK).await;
                    continue;
                }
                Err(LookError::Stays(error)) => return Err(error),
            };
            let version = found.as_ref().map_or(Version::ABSENT, |(_, _, version)| *version);
            if version != seen.0 {
                seen = (version, now());
            }
            let (first, next) = match &found {
                None => (0, 0),
                Some((seat, _, _)) => {
                    let patience = Duration::from_millis(seat.takeover_ms);
                    if !seat.owner.is_empty() && now().since(seen.1) < patience {
                        if known != seat.owner {
                            tell(&seat.address);
                            known.clone_from(&seat.owner);
                        }
                        sleep(LOOK).await;
                        continue;
                    }
                    (seat.first, seat.next)
                }
            };
            let takeover_ms = takeover.as_millis() as u64;
            let (owner, address) = (owner.clone(), address.to_owned());
            let seat = Seat { format: FORMAT, owner, address, takeover_ms, beat: 0, first, next };
            let (place, client) = (place.clone(), client.clone());
            let mut journal = Self {
                place,
                client,
                seat: seat.clone(),
                version,
                confirmed: now(),
                replaced_bytes: 0,
                appended_bytes: 0,
            };
            match journal.write(seat, Vec::new()).await {
                Ok(()) => return Ok(journal),
                // Another one was quicker.
                Err(JournalError::Deposed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The records in the journal.
    pub(crate) async fn records(&self) -> Result<Vec<Record>, JournalError> {
        let mut records = Vec::new();
        for batch in self.seat.first..self.seat.next {
            let bytes = self.read_batch(batch).await?;
            let failed =
                |error| JournalError::Record { place: self.place.url.clone(), index: batch, error };
            let mut rest = bytes.as_slice();
            while let Some((length, after)) = rest.split_first_chunk() {
                let length = u32::from_le_bytes(*length) as usize;
                let Some((record, after)) = after.split_at_checked(length) else {
                    let why = std::io::Error::other(format!("batch {batch} is cut"));
                    return Err(self.place.failed(why));
                };
                records.push(Record::decode(record).map_err(failed)?);
                rest = after;
            }
        }
        Ok(records)
    }

    async fn read_batch(&self, batch: u64) -> Result<Vec<u8>, JournalError> {
        let mut bytes = Vec::new();
        for part in 0.. {
            let found = self.client.get(self.place.part(batch, part)).await;
            let found = found.map_err(|error| self.place.failed(told(&error)))?;
            let found = found.map(|found| found.value);
            match found.as_deref().and_then(<[u8]>::split_first) {
                Some((is_last, content)) => {
                    bytes.extend_from_slice(content);
                    if *is_last == 1 {
                        break;
                    }
                }
                None => {
                    let why = format!("part {part} of batch {batch} is not there");
                    return Err(self.place.failed(std::io::Error::other(why)));
                }
            }
        }
        Ok(bytes)
    }

    /// Puts `records` in the place of everything before.
    pub(crate) async fn replace(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let before = self.seat.first..self.seat.next;
        self.append_batch(records, true).await?;
        let mut batches: Vec<u64> = before.collect();
        // The first part of each, then the second one of those that had a first one, and so on.
        for part in 0.. {
            let mut had = Vec::new();
            for some in batches.chunks(AT_ONCE) {
                let key = |batch: &u64| self.place.part(*batch, part);
                let deletes = some.iter().map(|batch| Op::Delete { key: key(batch) });
                // What stays does no harm.
                let results = self.client.batch(deletes).await.unwrap_or_default();
                let found = |result: &OpResult| matches!(result, OpResult::Delete { found: true });
                let there = some.iter().zip(&results).filter(|(_, result)| found(result));
                had.extend(there.map(|(batch, _)| *batch));
            }
            if had.is_empty() {
                break;
            }
            batches = had;
        }
        Ok(())
    }

    /// Whether so much has gathered that [`StoreJournal::replace`] is worth it.
    pub(super) fn is_long(&self) -> bool {
        self.appended_bytes > self.replaced_bytes.max(SHORT_BYTES)
    }

    /// [`StoreJournal::replace`] on the thread that owns the scheduler.
    pub(super) fn shorten(&mut self, records: &[Record]) -> Result<(), JournalError> {
        wait_for(self, async |journal| journal.replace(records).await)
    }

    async fn append_batch(&mut self, records: &[Record], only: bool) -> Result<(), JournalError> {
        let mut bytes = Vec::new();
        for record in records {
            let record = record.encode();
            bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&record);
        }
        if only {
            (self.replaced_bytes, self.appended_bytes) = (bytes.len(), 0);
        } else {
            self.appended_bytes += bytes.len();
        }
        let batch = self.seat.next;
        let parts = bytes.len().div_ceil(PART_BYTES).max(1);
        for (number, part) in (1..=parts).zip(bytes.chunks(PART_BYTES).chain([&[][..]])) {
            let is_last = number == parts;
            let value = [&[u8::from(is_last)], part].concat().into();
            let set = Op::Set { key: self.place.part(batch, number as u64 - 1), value };
            let mut seat = self.seat.clone();
            if is_last {
                // Only with this the batch is there.
                seat.next = batch + 1;
                if only {
                    seat.first = batch;
                }
            }
            self.write(seat, vec![set]).await?;
        }
        Ok(())
    }

    /// Changes the seat to `to` with the next beat, and does `ops`, if this coordinator still has it.
    async fn write(&mut self, to: Seat, ops: Vec<Op>) -> Result<(), JournalError> {
        let to = Seat { beat: self.seat.beat + 1, ..to };
        let value: Bytes =
            serde_json::to_vec(&to).map_err(|error| self.place.failed(error.into()))?.into();
        let mut ops = ops;
        ops.push(Op::Set { key: self.place.seat(), value: value.clone() });
        let first = now();
        loop {
            let begun = now();
            let compare = [Compare::version(self.place.seat(), self.version)];
            let why = match self.client.transaction(compare, ops.clone()).await {
                Ok(Some(results)) => {
                    if let Some(OpResult::Set(version)) = results.last() {
                        self.version = *version;
                    }
                    (self.seat, self.confirmed) = (to, begun);
                    return Ok(());
                }
                Ok(None) => None,
                Err(error) if passes(&error) => Some(told(&error)),
                Err(error) => return Err(self.place.failed(told(&error))),
            };
            // It may have been this very write that changed the seat, at an earlier try.
            match self.place.look(&self.client).await {
                Ok(Some((_, found, version))) if found == value => {
                    self.version = version;
                    (self.seat, self.confirmed) = (to, first);
                    return Ok(());
                }
                Ok(Some((_, _, version))) if version == self.version => {}
                Ok(None) if self.version == Version::ABSENT => {}
                Ok(Some((seat, _, _))) => return Err(JournalError::Deposed { by: seat.address }),
                Ok(None) => return Err(JournalError::Deposed { by: "somebody".to_owned() }),
                Err(LookError::Passes(error)) if now().since(first) > PATIENCE => {
                    return Err(self.place.failed(error));
                }
                Err(LookError::Passes(_)) => {}
                Err(LookError::Stays(error)) => return Err(error),
            }
            if let Some(error) = why {
                tracing::warn!(%error, journal = self.place.url, "the journal cannot be written");
            }
            sleep(RETRY).await;
        }
    }

    /// See [`AnyJournal::confirm`](super::AnyJournal::confirm).
    pub(crate) fn confirm(&mut self, now: Instant) -> Result<(), JournalError> {
        let takeover = Duration::from_millis(self.seat.takeover_ms);
        if now.since(self.confirmed) < CONFIRM_EVERY.min(takeover / 2) {
            return Ok(());
        }
        let seat = self.seat.clone();
        wait_for(self, async |journal| journal.write(seat, Vec::new()).await)
    }

    /// Frees the seat.
    pub(crate) fn release(&mut self) {
        let seat = Seat { owner: String::new(), ..self.seat.clone() };
        // If that fails, the next one waits for a while.
        let _ = wait_for(self, async |journal| journal.write(seat, Vec::new()).await);
    }
}

impl Journal for StoreJournal {
    type Error = JournalError;

    fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        wait_for(self, async |journal| journal.append_batch(records, false).await)
    }
}

/// Runs a call on the thread that owns the scheduler.
fn wait_for(
    journal: &mut StoreJournal,
    call: impl AsyncFnOnce(&mut StoreJournal) -> Result<(), JournalError>,
) -> Result<(), JournalError> {
    let mut done = Ok(());
    let run = block_on(async {
        done = call(journal).await;
        Ok(())
    });
    run.map_err(|error| journal.place.failed(error))?;
    done
}
