//! The state machine: committed entries in, outcomes out.

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use kontiki_types::plant::{Plant, planted};
use kontiki_types::{ClientId, Index, LogId, LogTime, Slot};

use crate::batch::{Batch, LastRead};
use crate::check::Sums;
use crate::clients::{Kept, Record};
use crate::command::{Read, Write, no_steward};
use crate::expiry::{self, first_due};
use crate::hash::hash64;
use crate::layout::{self, FORMAT};
use crate::ledger::{Ledger, Tables, free_reply};
use crate::litter::{self, Litter};
use crate::moving::Tallies;
use crate::overlay::{Merged, Overlay, Stored};
use crate::query::View;
use crate::steward::{Closed, first_closed};
use crate::{
    BadBytes, Body, Gate, MachineError, Outcome, Proposal, QueryAnswer, Reply, SlotRows, Steward,
    Stewards, Store, Verdict, WriteRequest, WriteSet,
};

/// The longest time in milliseconds from now that a write's deadline may lie ahead, in log time. A
/// write with a later one is refused, so that what must be remembered of a client is bounded.
/// Part of the protocol: every replica must have the same.
pub const RETRY_WINDOW_MAX_MS: u64 = 60_000;

/// The longest key. With what the machine puts before it, it fits the 64 KiB that engines allow.
pub const KEY_BYTES_MAX: usize = 60_000;

/// The state of one group, over a store that holds it.
#[derive(Debug)]
pub struct Machine<S> {
    store: S,
    tables: Tables,
    ledger: Ledger,
    litter: Litter,
    /// No row of the due index is earlier; `u64::MAX` if there is none.
    next_due: u64,
    /// Empty between calls, as is `changes`.
    overlay: Overlay,
    changes: WriteSet,
    last_read: RefCell<LastRead>,
    scratch: Vec<u8>,
    /// `None` has every slot.
    steward: Option<Box<dyn Steward>>,
    /// Where a first one comes from.
    stewards: Option<Box<dyn Stewards>>,
    /// The last entry since the machine was opened that was the steward's.
    stewarded: Index,
    /// Slots on their way out that are counted.
    tallies: Tallies,
    /// What comparisons of the replicas came to here.
    sums: Sums,
    /// The entry at hand.
    applying: Index,
    is_new: bool,
    has_failed: bool,
}

impl<S: Store> Machine<S> {
    /// Opens the state in `store`; an empty store is an empty state.
    ///
    /// # Errors
    /// [`MachineError::State`] if the store holds something else than this version's state, or an
    /// import that was not finished; [`MachineError::Store`].
    pub fn open(store: S) -> Result<Self, MachineError> {
        let is_new = check_format(&store)?;
        let rows = Stored(&store);
        let (ledger, tables) = Ledger::open(&rows)?;
        let litter = Litter::of(&tables);
        let next_due = first_due(&rows, tables.generation, 0)?;
        Ok(Self {
            store,
            tables,
            ledger,
            litter,
            next_due,
            overlay: Overlay::default(),
            changes: WriteSet::new(),
            last_read: RefCell::default(),
            scratch: Vec::new(),
            steward: None,
            stewards: None,
            stewarded: Index(0),
            tallies: Tallies::default(),
            sums: Sums::default(),
            applying: Index(0),
            is_new,
            has_failed: false,
        })
    }

    /// Has a steward say which slots are served; `read` makes it from the bytes of its state in the
    /// store, or `None` where there is none yet. Without this a machine has every slot, and stops
    /// at an entry that is the steward's.
    ///
    /// # Errors
    /// [`MachineError::Store`], or what `read` gives as [`MachineError::State`].
    pub fn with_steward(
        mut self,
        read: impl FnOnce(Option<Bytes>) -> Result<Box<dyn Steward>, BadBytes>,
    ) -> Result<Self, MachineError> {
        self.steward = Some(read(self.store.get(&layout::STEWARD)?)?);
        Ok(self)
    }

    /// Has `stewards` make the steward whose state the store has, or one that an entry begins.
    /// Until there is one the machine has every slot.
    ///
    /// # Errors
    /// [`MachineError::Store`], or what [`Stewards::restore`] gives as [`MachineError::State`].
    pub fn with_stewards(mut self, stewards: Box<dyn Stewards>) -> Result<Self, MachineError> {
        let state = self.store.get(&layout::STEWARD)?;
        self.steward = state.map(|state| stewards.restore(&state)).transpose()?;
        self.stewards = Some(stewards);
        Ok(self)
    }

    /// Makes the state in an empty store that of a group that begins with a steward, as if entry
    /// `begins_after` had been applied. Every replica must begin so: by the same, or by a snapshot.
    ///
    /// # Errors
    /// As [`Machine::open`]; [`MachineError::State`] if the store is not empty.
    pub fn found(store: S, begins_after: LogId, steward: &dyn Steward) -> Result<S, MachineError> {
        let mut machine = Self::open(store)?;
        if !machine.is_new || machine.applied() != LogId::ZERO {
            return Err(BadBytes::new("a group can begin in an empty store only").into());
        }
        machine.overlay.put(Bytes::from_static(&layout::STEWARD), steward.to_bytes());
        machine.commit(LogTime(0), begins_after)?;
        Ok(machine.into_store())
    }

    /// The steward, if there is one.
    pub fn steward(&self) -> Option<&dyn Steward> {
        self.steward.as_deref()
    }

    /// The last entry that was the steward's, since the machine was opened; 0 if there was none.
    pub fn stewarded(&self) -> Index {
        self.stewarded
    }

    /// Lets `bytes` of changes to slots and completion records gather in the store before they are
    /// worked into its pages, instead of 64 KiB. Fewer means more writing with each commit and less
    /// reading in [`Machine::open`]. No two replicas need agree on it.
    #[must_use]
    pub fn with_delta_bytes_kept(mut self, bytes: usize) -> Self {
        self.ledger.delta_bytes_kept = bytes;
        self
    }

    /// Applies committed entries with one commit of the store, and appends an outcome for each
    /// write. `None` is an entry without a command (no-op, membership). Entries follow one another
    /// without a gap; the first follows [`Machine::applied`].
    ///
    /// # Errors
    /// [`MachineError`]: nothing was committed, or it is unknown what was; no outcome counts, and
    /// the machine refuses everything from then on.
    pub fn apply(
        &mut self,
        entries: &[(LogId, Option<Bytes>)],
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), MachineError> {
        let Some((last, _)) = entries.last() else { return Ok(()) };
        let known = outcomes.len();
        let most = litter::PER_COMMIT + litter::PER_ENTRY * entries.len();
        self.guard(|machine| {
            let time = machine.tables.log_time;
            machine.collect_litter(most)?;
            machine.run(entries, outcomes)?;
            machine.commit(time, *last)
        })
        .inspect_err(|_| outcomes.truncate(known))
    }

    /// Deletes more of the rows that a flush has left behind, and answers whether some are left.
    /// Each apply does a little of it; a driver calls this when there is nothing to apply.
    ///
    /// # Errors
    /// As [`Machine::apply`].
    pub fn tidy(&mut self) -> Result<bool, MachineError> {
        if self.litter.is_empty() {
            return Ok(false);
        }
        self.guard(|machine| {
            let time = machine.tables.log_time;
            machine.collect_litter(TIDY_ROWS)?;
            machine.commit(time, machine.store.applied())?;
            Ok(!machine.litter.is_empty())
        })
    }

    /// How many slots may have rows that no longer count, left behind by a flush or by a move, and how
    /// many such rows have been deleted since the machine was opened.
    pub fn litter(&self) -> (usize, u64) {
        self.litter.counts()
    }

    /// Answers `read` from the state as of the last apply, all of it from the same state.
    ///
    /// `clock` is the caller's estimate of the leader's clock, the same for every attempt of one
    /// read: after [`QueryAnswer::Due`] and a tick with a stamp of at least `clock`, the answer is
    /// a reply.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn query(&self, read: &Read, clock: LogTime) -> Result<QueryAnswer, MachineError> {
        self.check_usable()?;
        if let Read::Steward { query } = read {
            let steward = self.steward.as_ref();
            let answer = steward.map(|steward| steward.query(query, self.tables.log_time));
            return Ok(QueryAnswer::Reply(answer.map_or_else(no_steward, Reply::Bulk)));
        }
        if let Some(steward) = &self.steward {
            let mut slots = Vec::new();
            read.each_key(&mut |key| slots.push(Slot::of(key)));
            slots.extend(read.start_slot());
            if let Some(Closed { slot, gate }) = first_closed(&**steward, slots) {
                return Ok(QueryAnswer::Closed { slot, gate });
            }
        }
        let view = View {
            store: &self.store,
            tables: &self.tables,
            next_due: self.next_due,
            steward: self.steward.as_deref(),
            clock,
            met_due: Cell::new(false),
            failed: Cell::new(None),
        };
        let reply = read.execute(&view);
        match view.failed.take() {
            Some(error) => Err(error),
            None if view.met_due.get() => Ok(QueryAnswer::Due),
            None => Ok(QueryAnswer::Reply(reply)),
        }
    }

    /// The log id of the last applied entry.
    pub fn applied(&self) -> LogId {
        self.store.applied()
    }

    /// The log time as of the last apply.
    pub fn log_time(&self) -> LogTime {
        self.tables.log_time
    }

    /// A time at or before the next expiry; `None` if no key expires. When the leader's clock
    /// passes it, the leader proposes a tick. It may be in the past: then more keys are due than
    /// one tick expires.
    pub fn next_due(&self) -> Option<LogTime> {
        Some(LogTime(self.next_due)).filter(|due| due.0 != u64::MAX)
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store back.
    pub fn into_store(self) -> S {
        self.store
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    pub(crate) fn sums(&self) -> &Sums {
        &self.sums
    }

    pub(crate) fn sums_mut(&mut self) -> &mut Sums {
        &mut self.sums
    }

    /// The rows as of the entry at hand.
    pub(crate) fn merged(&self) -> Merged<'_, S> {
        Merged { store: &self.store, overlay: &self.overlay }
    }

    pub(crate) fn tallies(&mut self) -> &mut Tallies {
        &mut self.tallies
    }

    pub(crate) fn tallies_known(&self) -> &Tallies {
        &self.tallies
    }

    fn check_usable(&self) -> Result<(), MachineError> {
        if self.has_failed { Err(MachineError::Failed) } else { Ok(()) }
    }

    /// Runs what changes the state. After a failure memory is ahead of the store.
    fn guard<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<T, MachineError>,
    ) -> Result<T, MachineError> {
        self.check_usable()?;
        // Also after a panic in between.
        self.has_failed = true;
        let result = change(self);
        self.has_failed = result.is_err();
        result
    }

    fn run(
        &mut self,
        entries: &[(LogId, Option<Bytes>)],
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), MachineError> {
        let mut applied = self.store.applied().index;
        for (id, payload) in entries {
            if id.index != applied.next() {
                return Err(MachineError::Order { applied, found: id.index });
            }
            applied = id.index;
            if let Some(payload) = payload {
                self.run_one(applied, payload, outcomes)?;
            }
        }
        Ok(())
    }

    fn run_one(
        &mut self,
        index: Index,
        payload: &Bytes,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), MachineError> {
        let Proposal { stamp, body } =
            Proposal::decode(payload).map_err(|source| MachineError::Entry { index, source })?;
        self.tables.log_time = self.tables.log_time.max(stamp);
        self.applying = index;
        match body {
            Body::Tick => self.batch().expire(expiry::PER_TICK),
            Body::Slots(payload) => self.apply_slots(index, &payload),
            Body::Check(check) => self.check(index, check),
            Body::Write(request) => {
                self.batch().expire(expiry::PER_WRITE)?;
                let WriteRequest { client, seq, slot, .. } = request;
                let verdict = self.write(index, request)?;
                outcomes.push(Outcome { client, seq, slot, index, verdict });
                Ok(())
            }
        }
    }

    fn apply_slots(&mut self, index: Index, payload: &Bytes) -> Result<(), MachineError> {
        let Some(steward) = self.steward.take() else {
            let source = BadBytes::new("an entry about slots, and there is no steward");
            return Err(MachineError::Entry { index, source });
        };
        self.steward_acts(index, steward, |steward, time, rows| {
            steward.apply(index, time, payload, rows)
        })
    }

    fn call_steward(&mut self, index: Index, call: &Bytes) -> Result<Reply, MachineError> {
        let first = || self.stewards.as_ref().and_then(|stewards| stewards.begin(call));
        let Some(steward) = self.steward.take().or_else(first) else { return Ok(no_steward()) };
        let answer = self.steward_acts(index, steward, |steward, time, rows| {
            steward.call(index, time, call, rows)
        });
        answer.map(Reply::Bulk)
    }

    /// Has the steward change its state, and rows with it.
    fn steward_acts<T>(
        &mut self,
        index: Index,
        mut steward: Box<dyn Steward>,
        act: impl FnOnce(&mut dyn Steward, LogTime, &mut dyn SlotRows) -> Result<T, BadBytes>,
    ) -> Result<T, MachineError> {
        let time = self.tables.log_time;
        let mut batch = self.batch();
        let done = act(&mut *steward, time, &mut batch);
        let error = batch.failed.take();
        self.overlay.put(Bytes::from_static(&layout::STEWARD), steward.to_bytes());
        self.steward = Some(steward);
        self.stewarded = index;
        let done = done.map_err(|source| MachineError::Entry { index, source })?;
        error.map_or(Ok(()), Err)?;
        self.litter.note_flush(&self.tables);
        // What was frozen may be due.
        self.next_due = 0;
        Ok(done)
    }

    /// The slot that keeps `request` from taking effect, if one does.
    fn closed(&self, index: Index, request: &WriteRequest) -> Result<Option<Closed>, MachineError> {
        let Some(steward) = &self.steward else { return Ok(None) };
        let write = decode_command(index, &request.command)?;
        if matches!(write, Write::Steward { .. }) {
            return Ok(None);
        }
        let mut slots = vec![request.slot];
        write.each_key(&mut |key| slots.push(Slot::of(key)));
        let closed = first_closed(&**steward, slots);
        if closed.is_none() && write.is_flush() {
            // It would begin another generation of the due index for all slots.
            return Ok(steward.frozen().map(|slot| Closed { slot, gate: Gate::Frozen }));
        }
        Ok(closed)
    }

    /// PROTOCOL 1 and 3, in their order.
    fn write(&mut self, index: Index, request: WriteRequest) -> Result<Verdict, MachineError> {
        if let Some(Closed { slot, gate }) = self.closed(index, &request)? {
            return Ok(Verdict::Closed { slot, gate });
        }
        let mut now = self.tables.log_time;
        let WriteRequest { client: mut id, seq, slot, deadline, .. } = request;
        if planted(Plant::RecordsBySeqAlone) {
            id = ClientId { connection: 0, ..id };
        }
        let digest = hash64(0, &request.command);
        let overlay = &mut self.overlay;
        let client = self.tables.clients.of(id);
        let rose = client.raise_low(request.low, now, |record| free_reply(id, record, overlay));
        let low = client.low(now);

        let refusal = if let Some(record) = client.record(seq, slot, now) {
            if record.digest != digest {
                Some(Verdict::DigestMismatch)
            } else {
                let kept = record.reply.clone();
                Some(Verdict::Done(self.recall(&kept, &request)?))
            }
        } else if seq < low
            || now > deadline
            || deadline.0 > now.0.saturating_add(RETRY_WINDOW_MAX_MS)
        {
            Some(Verdict::Unknown)
        } else if request
            .after
            .filter(|_| !planted(Plant::PairReordered))
            .is_some_and(|after| after >= low && client.record(after, slot, now).is_none())
            || client.is_full(now)
        {
            Some(Verdict::SentBack)
        } else {
            None
        };
        if let Some(verdict) = refusal {
            if rose {
                self.ledger.low(id, request.low, now);
            }
            return Ok(verdict);
        }

        let write = decode_command(index, &request.command)?;
        let mut rose = rose.then_some(request.low);
        if let (Write::Steward { .. }, Some(low)) = (&write, rose) {
            // The steward may move log time, and marks and records of the same client with it. What
            // is read back must come in the same order, and at the same times.
            self.ledger.low(id, low, now);
            rose = None;
        }
        let reply = self.execute(write)?;
        now = self.tables.log_time;
        let kept = Kept::of(&reply, &mut self.scratch);
        if matches!(kept, Kept::Row(_)) {
            let row = Bytes::copy_from_slice(&self.scratch);
            self.overlay.put(layout::reply(id, seq, slot), row);
        }
        let record = Record { seq, deadline, digest, reply: kept, slot };
        self.ledger.write(id, rose, &record, now);
        let has_row = record.has_reply_row();
        let replaced = self.tables.clients.of(id).complete(record);
        if let Some(dead) = replaced.filter(|_| !has_row) {
            free_reply(id, &dead, &mut self.overlay);
        }
        Ok(Verdict::Done(reply))
    }

    fn execute(&mut self, write: Write) -> Result<Reply, MachineError> {
        if let Some(length) = too_long(&write) {
            let text = format!("ERR a key of {length} bytes is longer than {KEY_BYTES_MAX}");
            return Ok(Reply::Error(text.into()));
        }
        if let Write::Steward { call } = &write {
            return self.call_steward(self.applying, call);
        }
        let mut batch = self.batch();
        let reply = write.execute(&mut batch);
        if let Some(error) = batch.failed.take() {
            return Err(error);
        }
        if write.leaves_litter() {
            self.litter.note_flush(&self.tables);
        }
        Ok(reply)
    }

    /// The reply of a record.
    fn recall(&self, kept: &Kept, request: &WriteRequest) -> Result<Reply, MachineError> {
        let bytes = match kept {
            Kept::Ok => return Ok(Reply::Ok),
            Kept::Nil => return Ok(Reply::Nil),
            Kept::Integer(number) => return Ok(Reply::Integer(*number)),
            Kept::Encoded(bytes) => Bytes::copy_from_slice(bytes),
            Kept::Row(_) => {
                let key = layout::reply(request.client, request.seq, request.slot);
                let merged = Merged { store: &self.store, overlay: &self.overlay };
                merged.get(&key)?.ok_or(BadBytes::new("record: its reply is missing"))?
            }
        };
        Reply::decode(&bytes).map_err(|error| BadBytes::new(format!("record: {error}")).into())
    }

    fn batch(&mut self) -> Batch<'_, S> {
        Batch {
            store: &self.store,
            overlay: &mut self.overlay,
            tables: &mut self.tables,
            next_due: &mut self.next_due,
            steward: self.steward.as_deref(),
            ledger: &mut self.ledger,
            index: self.applying,
            last_read: &self.last_read,
            tallies: &mut self.tallies,
            failed: Cell::new(None),
        }
    }

    fn collect_litter(&mut self, most: usize) -> Result<(), MachineError> {
        if self.litter.is_empty() {
            return Ok(());
        }
        let rows = Stored(&self.store);
        self.litter.collect(most, &rows, &mut self.tables, &mut self.overlay)
    }

    fn commit(&mut self, time_before: LogTime, applied: LogId) -> Result<(), MachineError> {
        self.ledger.close(&mut self.tables, time_before, &mut self.overlay);
        if self.is_new {
            self.overlay.put(Bytes::from_static(&layout::META), Bytes::from_static(&[FORMAT]));
            self.is_new = false;
        }
        self.overlay.drain_into(&mut self.changes);
        self.last_read.get_mut().clear();
        self.store.commit(&mut self.changes, applied)?;
        self.changes.clear();
        Ok(())
    }
}

fn decode_command(index: Index, command: &Bytes) -> Result<Write, MachineError> {
    Write::decode(command).map_err(|error| {
        let source = BadBytes::new(format!("command: {error}"));
        MachineError::Entry { index, source }
    })
}

/// Rows that [`Machine::tidy`] deletes at once: a few milliseconds.
const TIDY_ROWS: usize = 1024;

/// The length of a key that no engine could hold. Front doors refuse such a command; should one be
/// in the log all the same, it must not stop every replica.
fn too_long(write: &Write) -> Option<usize> {
    let mut longest = 0;
    write.each_key(&mut |key| longest = longest.max(key.len()));
    Some(longest).filter(|length| *length > KEY_BYTES_MAX)
}

/// Whether the store is empty; refuses what is neither that nor of this version.
fn check_format<S: Store>(store: &S) -> Result<bool, MachineError> {
    match store.get(&layout::META)?.as_deref() {
        Some([FORMAT]) => Ok(false),
        Some([other, ..]) => Err(BadBytes::version("state", *other, FORMAT).into()),
        Some([]) => Err(BadBytes::new("the format row is empty").into()),
        None if store.range(&[], &[0xff], 1)?.is_empty() => Ok(true),
        None => Err(BadBytes::new("rows without a format: an import that was not finished").into()),
    }
}
