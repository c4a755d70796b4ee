//! The apply stage: what owns the state machines.
//!
//! Committed entries go in, in order; outcomes and replies come out. Reads are served here too,
//! between two batches of entries, so that each sees one state (PROTOCOL 13). Nothing large of it
//! holds up replication: that is done on a thread of its own, and the event loop hears of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kontiki_kv::command::Read;
use kontiki_kv::{Machine, MachineError, QueryAnswer, Reply};
use kontiki_raft::{Base, Entries, Entry, EntryData, Membership, Recovered, SnapshotMeta};
use kontiki_replica::steward::{BEGINS_AFTER, Beginning};
use kontiki_replica::{Answer, Failure, Found, Look, NodeInfo, Opened, Question};
use kontiki_storage::engine::{Engine, GroupStore, Persist, TableFile};
use kontiki_types::{GroupId, Index, LogId, LogTime, Member, NodeId};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::event_loop::{DATA_GROUP, FailOnPanic, Input};
use crate::log_writer::LogWork;
use crate::lost::Adopted;
use crate::mailbox::{Sender, mailbox};
use crate::persist::PersistJob;
use crate::registry;
use crate::sharding;
use crate::shared::Shared;
use crate::snapshots::Snapshots;
use crate::start::Opener;
use crate::turns::Turns;
use crate::views::{self, Taken};

/// What the apply stage is asked to do; in order within a group.
pub(crate) enum Work {
    Apply {
        group: GroupId,
        entries: Entries<Bytes>,
    },
    Query {
        group: GroupId,
        log_time: LogTime,
        reads: Vec<Question>,
    },
    /// Make the state engine durable, so that the log can be compacted.
    PersistEngine {
        group: GroupId,
    },
    BuildSnapshot {
        group: GroupId,
    },
    ReadChunk {
        group: GroupId,
        to: Member,
        meta: Box<SnapshotMeta>,
        offset: u64,
        max: usize,
    },
    WriteChunk {
        group: GroupId,
        meta: Box<SnapshotMeta>,
        offset: u64,
        data: Vec<u8>,
    },
    InstallSnapshot {
        group: GroupId,
        meta: Box<SnapshotMeta>,
    },
    /// A state that was fetched takes the place of one that was lost.
    Adopt(Box<Adopted>),
    Create {
        group: GroupId,
        member: Member,
    },
    Begin {
        group: GroupId,
        member: Member,
        beginning: Beginning,
    },
    Remove {
        group: GroupId,
        member: Member,
    },
    RememberPeer(NodeInfo),
    /// A node was removed from the cluster.
    ForgetPeer(NodeId),
    /// Name the tables of all states.
    TableFiles(mpsc::Sender<Vec<(GroupId, TableFile)>>),
    TakeView {
        group: GroupId,
        taken: oneshot::Sender<Taken>,
    },
    Look {
        group: GroupId,
        look: Box<Look>,
        taken: oneshot::Sender<Option<Found>>,
    },
}

impl Work {
    /// Whose order it has to keep.
    fn group(&self) -> GroupId {
        match self {
            Self::Apply { group, .. }
            | Self::Query { group, .. }
            | Self::PersistEngine { group }
            | Self::BuildSnapshot { group }
            | Self::ReadChunk { group, .. }
            | Self::WriteChunk { group, .. }
            | Self::InstallSnapshot { group, .. }
            | Self::Create { group, .. }
            | Self::Begin { group, .. }
            | Self::Remove { group, .. }
            | Self::TakeView { group, .. }
            | Self::Look { group, .. } => *group,
            Self::Adopt(adopted) => adopted.lost.group,
            Self::RememberPeer(_) | Self::ForgetPeer(_) | Self::TableFiles(_) => GroupId(u32::MAX),
        }
    }

    /// What it costs, in bytes of commands.
    fn weight(&self) -> usize {
        match self {
            Self::Apply { entries, .. } => entries.iter().map(weight).sum(),
            Self::Query { reads, .. } => reads.len().saturating_mul(ENTRY_WEIGHT),
            _ => SLICE,
        }
    }
}

fn weight(entry: &Entry<Bytes>) -> usize {
    command_bytes(entry).saturating_add(ENTRY_WEIGHT)
}

/// Cuts entries that are too many for a slice; each piece with whether it is the last.
fn cut(work: Work) -> impl Iterator<Item = (Work, bool)> {
    let mut rest = Some(work);
    std::iter::from_fn(move || {
        let work = rest.take()?;
        let Work::Apply { group, entries } = &work else { return Some((work, true)) };
        let mut sum = 0usize;
        let fits = entries.iter().take_while(|entry| {
            sum = sum.saturating_add(weight(entry));
            sum <= SLICE
        });
        let count = fits.count().max(1);
        if count >= entries.len() {
            return Some((work, true));
        }
        let piece = Work::Apply { group: *group, entries: entries.take(count) };
        rest = Some(Work::Apply { group: *group, entries: entries.skip(count) });
        Some((piece, false))
    })
}

/// How long an idle stage waits before it cleans up behind a flush.
const TIDY_AFTER: Duration = Duration::from_millis(5);

/// How often a stage without work looks whether there is something to clean up: the event loop may
/// have applied a flush by itself.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// More work than this at once goes to the thread.
const INLINE_ENTRIES_MAX: usize = 256;
const INLINE_BYTES_MAX: usize = 256 << 10;
const INLINE_READS_MAX: usize = 512;

/// What one group may have applied before others have their turn: bytes of commands, and
/// [`ENTRY_WEIGHT`] for each.
const SLICE: usize = 512 << 10;
/// The same if no other group waits.
const SLICE_ALONE: usize = 8 << 20;
/// What an entry or a read costs beside its bytes.
const ENTRY_WEIGHT: usize = 1 << 10;

/// Replies that are gathered before they are handed over, in bytes.
const ANSWER_BYTES: usize = 1 << 20;

/// The stage. `E` is the state engine.
pub(crate) struct ApplyStage<E: Engine> {
    pub(crate) engine: E,
    pub(crate) machines: BTreeMap<GroupId, Machine<E::Store>>,
    /// The configuration in effect at what is applied, with the entry that holds it.
    pub(crate) members: BTreeMap<GroupId, (LogId, Arc<Membership>)>,
    pub(crate) node: Arc<Shared>,
    pub(crate) log: Sender<LogWork>,
    pub(crate) persist: Sender<PersistJob<<E::Store as GroupStore>::Persister>>,
    pub(crate) snapshots: Snapshots,
    pub(crate) opener: Opener,
    /// The last entry of each group's steward that the event loop has heard of.
    pub(crate) stewarded: BTreeMap<GroupId, Index>,
    pub(crate) scratch: Vec<(LogId, Option<Bytes>)>,
    /// What the event loop is to hear.
    pub(crate) out: Vec<Input>,
}

/// Why the stage cannot go on.
#[derive(Debug)]
pub(crate) struct Trouble {
    group: GroupId,
    reason: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Failure,
    /// The stored state cannot be read back.
    Damage,
    /// The state is not that of the group's leader.
    Difference,
}

impl Trouble {
    fn of(group: GroupId, error: &MachineError) -> Self {
        let kind = match error {
            error if error.is_damage() => Kind::Damage,
            error if error.is_difference() => Kind::Difference,
            _ => Kind::Failure,
        };
        Self { group, reason: error.to_string(), kind }
    }
}

impl From<(GroupId, String)> for Trouble {
    fn from((group, reason): (GroupId, String)) -> Self {
        Self { group, reason, kind: Kind::Failure }
    }
}

/// The event loop's side of the stage.
///
/// Work goes to the stage's thread, in order. Unless the thread has nothing to do and the work is
/// small: then it is done on the spot, which spares two wake-ups on the way of every request. So
/// under light load the event loop applies; the more there is to apply, the more the thread does.
pub(crate) struct ApplyHandle {
    stage: Arc<dyn Inline>,
    thread: Sender<Work>,
    /// Work that was given to the thread and is not done.
    given: Arc<AtomicUsize>,
}

/// The stage as the event loop may use it, whatever its engine.
trait Inline: Send + Sync {
    /// Does the work and adds what came of it to `out`; gives it back if the stage is taken.
    fn try_do(&self, work: Vec<Work>, out: &mut Vec<Input>) -> Result<(), Vec<Work>>;
}

impl<E: Engine> Inline for Mutex<ApplyStage<E>> {
    fn try_do(&self, work: Vec<Work>, out: &mut Vec<Input>) -> Result<(), Vec<Work>> {
        let Ok(mut stage) = self.try_lock() else { return Err(work) };
        if !stage.may_inline(&work) {
            return Err(work);
        }
        stage.carry_out(work);
        out.append(&mut stage.out);
        Ok(())
    }
}

impl ApplyHandle {
    /// Has the work done: at once, with what came of it in `done`, or by the thread.
    pub(crate) fn give(&self, work: Vec<Work>, done: &mut Vec<Input>) {
        // Only this side gives work, so nothing can come between the look and the deed.
        let work = if self.given.load(Ordering::Acquire) == 0 {
            match self.stage.try_do(work, done) {
                Ok(()) => return,
                Err(work) => work,
            }
        } else {
            work
        };
        self.given.fetch_add(work.len(), Ordering::AcqRel);
        self.thread.send_all(work);
    }
}

/// Starts the stage's thread.
pub(crate) fn start<E: Engine>(stage: ApplyStage<E>) -> std::io::Result<ApplyHandle>
where
    <E::Store as GroupStore>::Persister: Send,
{
    let (thread, work) = mailbox();
    let given = Arc::new(AtomicUsize::new(0));
    let node = Arc::clone(&stage.node);
    let stage = Arc::new(Mutex::new(stage));
    let handle = ApplyHandle { stage: Arc::clone(&stage) as _, thread, given: Arc::clone(&given) };
    let run = move || {
        let _guard = FailOnPanic(node.events.clone(), "apply");
        let mut items = Vec::new();
        let mut turns = Turns::default();
        let mut out = Vec::new();
        let mut untidy = true;
        loop {
            let patience = match untidy {
                _ if !turns.is_empty() => Duration::ZERO,
                true => TIDY_AFTER,
                false => IDLE_LOOK,
            };
            work.receive(&mut items, Some(patience));
            for work in items.drain(..) {
                let group = work.group();
                cut(work).for_each(|piece| turns.push(group, piece));
            }
            let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
            if turns.is_empty() {
                untidy = stage.tidy();
                continue;
            }
            untidy = true;
            let pieces = turns.next(SLICE, SLICE_ALONE, |(work, _)| work.weight());
            let done = pieces.iter().filter(|(_, is_last)| *is_last).count();
            stage.carry_out(pieces.into_iter().map(|(work, _)| work).collect());
            out.append(&mut stage.out);
            drop(stage);
            given.fetch_sub(done, Ordering::AcqRel);
            let applied_only = out.iter().all(|input| matches!(input, Input::Applied { .. }));
            if applied_only && node.view.pending.load(Ordering::Acquire) == 0 {
                // Nobody here waits for it: it can be told with whatever comes next.
                node.events.send_all_without_waking(out.drain(..));
            } else {
                node.events.send_all(out.drain(..));
            }
        }
    };
    thread::Builder::new().name("apply".into()).spawn(run)?;
    Ok(handle)
}

impl<E: Engine> ApplyStage<E> {
    /// Whether the work is little enough to be done by the event loop.
    fn may_inline(&self, work: &[Work]) -> bool {
        let (mut entries, mut bytes, mut reads) = (0, 0, 0);
        for one in work {
            match one {
                Work::Apply { group, entries: some } => {
                    entries += some.len();
                    bytes += some.iter().map(command_bytes).sum::<usize>();
                    let machine = self.machines.get(group);
                    // A commit would have to wait for the engine.
                    if machine.is_none_or(|machine| machine.store().persister().is_due()) {
                        return false;
                    }
                }
                Work::Query { reads: some, .. } => {
                    reads += some.len();
                    if some.iter().any(|question| !is_quick(&question.read)) {
                        return false;
                    }
                }
                _ => return false,
            }
        }
        entries <= INLINE_ENTRIES_MAX && bytes <= INLINE_BYTES_MAX && reads <= INLINE_READS_MAX
    }

    /// Does the work, in order; what came of it is in `out`.
    fn carry_out(&mut self, work: Vec<Work>) {
        let mut queue = work.into_iter().peekable();
        while let Some(work) = queue.next() {
            let done = match work {
                Work::Apply { group, entries } => {
                    let mut batch = std::mem::take(&mut self.scratch);
                    batch.clear();
                    self.collect(group, &entries, &mut batch);
                    // Everything that waits for the same group is applied as one.
                    let same = |next: &Work| matches!(next, Work::Apply { group: other, .. } if *other == group);
                    while let Some(Work::Apply { entries, .. }) = queue.next_if(same) {
                        self.collect(group, &entries, &mut batch);
                    }
                    let done = self.apply(group, &batch);
                    self.scratch = batch;
                    done
                }
                other => self.other(other),
            };
            if let Err(Trouble { group, reason, kind }) = done {
                error!(%group, reason, "the apply stage cannot go on");
                self.send(match kind {
                    Kind::Failure => Input::ApplyFailed { group, reason },
                    Kind::Damage => Input::Damaged { group, reason },
                    Kind::Difference => Input::Differs { group, reason },
                });
                return;
            }
        }
    }

    fn other(&mut self, work: Work) -> Result<(), Trouble> {
        match work {
            Work::Apply { .. } => Ok(()),
            Work::Query { group, log_time, reads } => self.query(group, log_time, reads),
            Work::PersistEngine { group } => {
                self.persist_soon(group);
                Ok(())
            }
            Work::BuildSnapshot { group } => self.build_snapshot(group),
            Work::ReadChunk { group, to, meta, offset, max } => {
                match self.snapshots.read(group, &meta, offset, max) {
                    Ok(data) => {
                        self.send(Input::ChunkRead { group, to, meta, offset, data });
                    }
                    Err(error) => {
                        // The core asks for another snapshot when there is nothing to read.
                        warn!(%group, %error, "cannot read a snapshot");
                        let data = Vec::new();
                        self.send(Input::ChunkRead { group, to, meta, offset, data });
                    }
                }
                Ok(())
            }
            Work::WriteChunk { group, meta, offset, data } => {
                let end =
                    self.snapshots.write(group, &meta, offset, &data).unwrap_or_else(|error| {
                        // From the beginning, after a while: the disk may be full.
                        warn!(%group, %error, "cannot stage a part of a snapshot");
                        self.snapshots.give_up(group);
                        0
                    });
                self.send(Input::ChunkWritten { group, meta, end });
                Ok(())
            }
            Work::InstallSnapshot { group, meta } => self.install_snapshot(group, meta),
            Work::Adopt(adopted) => self.adopt(*adopted),
            Work::Create { group, member } => self.create(group, member),
            Work::Begin { group, member, beginning } => self.begin(group, member, &beginning),
            Work::Remove { group, member } => self.remove(group, member),
            Work::RememberPeer(peer) => {
                if let Err(error) = self.opener.remember(&peer) {
                    warn!(%error, "cannot remember where a peer is");
                }
                Ok(())
            }
            Work::ForgetPeer(peer) => {
                if let Err(error) = self.opener.forget(peer) {
                    warn!(%error, "cannot forget where a peer was");
                }
                Ok(())
            }
            Work::TableFiles(asker) => {
                // Whoever asked may have gone.
                drop(asker.send(self.engine.table_files()));
                Ok(())
            }
            Work::Look { group, look, taken } => {
                let step = self.machines.get_mut(&group).map(|machine| look.take(machine));
                match step.transpose() {
                    // Whoever asked may have gone.
                    Ok(step) => drop(taken.send(step.flatten())),
                    Err(error) => warn!(%group, %error, "cannot read what is to move"),
                }
                Ok(())
            }
            Work::TakeView { group, taken } => {
                match self.machines.get(&group).map(views::take) {
                    // Whoever asked may have gone.
                    Some(Ok(view)) => drop(taken.send(view)),
                    Some(Err(error)) => warn!(%group, %error, "cannot take a view of the state"),
                    None => {}
                }
                Ok(())
            }
        }
    }

    fn send(&mut self, input: Input) {
        self.out.push(input);
    }

    /// Adds entries to a batch, noting configurations on the way.
    fn collect(
        &mut self,
        group: GroupId,
        entries: &Entries<Bytes>,
        batch: &mut Vec<(LogId, Option<Bytes>)>,
    ) {
        batch.extend(entries.iter().map(|entry| match &entry.data {
            EntryData::Command(command) => (entry.id, Some(command.clone())),
            EntryData::Noop => (entry.id, None),
            EntryData::Membership(membership) => {
                self.members.insert(group, (entry.id, Arc::clone(membership)));
                (entry.id, None)
            }
        }));
    }

    fn apply(&mut self, group: GroupId, batch: &[(LogId, Option<Bytes>)]) -> Result<(), Trouble> {
        let begun = Instant::now();
        // What follows the removal of the replica has no state to go to.
        let Some(machine) = self.machines.get_mut(&group) else { return Ok(()) };
        // Entries that were handed out before a snapshot took their place.
        let applied = machine.applied().index;
        let known_to = applied;
        let known = batch.iter().take_while(|(id, _)| id.index <= applied).count();
        let mut outcomes = Vec::new();
        let litter_before = machine.litter();
        machine.apply(&batch[known..], &mut outcomes).map_err(|e| Trouble::of(group, &e))?;
        let (applied, log_time, next_due) =
            (machine.applied(), machine.log_time(), machine.next_due());
        let keys = match machine.query(&Read::DbSize, LogTime(0)) {
            Ok(QueryAnswer::Reply(Reply::Integer(keys))) => keys.cast_unsigned(),
            _ => 0,
        };
        let (due, litter) = (machine.store().persister().is_due(), machine.litter());
        let checked = machine.checked().filter(|checked| checked.at > known_to);
        let metrics = &self.node.metrics;
        metrics.entries_applied.inc_by(batch.len() as u64);
        let bytes = batch[known..].iter().filter_map(|(_, command)| command.as_ref());
        metrics.command_bytes_applied.inc_by(bytes.map(|command| command.len() as u64).sum());
        metrics.apply_seconds.observe(begun.elapsed().as_secs_f64());
        self.node.set_keys(group, Some(keys));
        if litter != litter_before {
            metrics.show_litter(group, litter);
        }
        if group == DATA_GROUP {
            self.node.view.applied.store(applied.index.0, Ordering::Relaxed);
        }
        self.send(Input::Applied { group, applied, log_time, next_due, outcomes });
        if let Some(checked) = checked {
            self.send(Input::Checked { group, checked });
        }
        self.hear_steward(group);
        // What was deleted takes its space until that is in tables.
        if due || litter.0 == 0 && litter_before.0 > 0 {
            self.persist_soon(group);
        }
        Ok(())
    }

    /// Tells the event loop if a group's steward has acted, and of a newer configuration.
    fn hear_steward(&mut self, group: GroupId) {
        let Some(machine) = self.machines.get(&group) else { return };
        let at = machine.stewarded();
        let heard = self.stewarded.entry(group).or_default();
        if *heard == at {
            return;
        }
        *heard = at;
        let configuration = sharding::configuration(group, machine);
        self.send(Input::Stewarded { group, configuration });
    }

    fn query(
        &mut self,
        group: GroupId,
        log_time: LogTime,
        reads: Vec<Question>,
    ) -> Result<(), Trouble> {
        self.node.metrics.queries.inc_by(reads.len() as u64);
        let mut answers = Vec::with_capacity(reads.len());
        let mut inward = Vec::new();
        let (mut due, mut barred) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        match self.machines.get(&group) {
            None => {
                let failed = || Answer::Failed(Failure::Unavailable);
                for Question { caller, .. } in reads {
                    let to = if caller.is_inward() { &mut inward } else { &mut answers };
                    to.push((caller, failed()));
                }
            }
            Some(machine) => {
                for question in reads {
                    let answer = machine.query(&question.read, log_time);
                    match answer.map_err(|e| Trouble::of(group, &e))? {
                        QueryAnswer::Reply(reply) => {
                            let answer = Answer::Reply(reply);
                            bytes += registry::weight(&answer);
                            let caller = question.caller;
                            let to = if caller.is_inward() { &mut inward } else { &mut answers };
                            to.push((caller, answer));
                        }
                        QueryAnswer::Due => due.push(question),
                        QueryAnswer::Closed { slot, gate } => barred.push((question, slot, gate)),
                    }
                    // Large ones are handed over as they come: whose outbox is full is cut off there.
                    if bytes > ANSWER_BYTES {
                        self.node.registry.deliver(answers.drain(..));
                        bytes = 0;
                    }
                }
            }
        }
        self.node.registry.deliver(answers);
        if !inward.is_empty() {
            self.send(Input::Answered(inward));
        }
        if !barred.is_empty() {
            self.send(Input::Barred { group, reads: barred });
        }
        if !due.is_empty() {
            self.send(Input::Due { group, reads: due });
        }
        Ok(())
    }

    /// Cleans up behind flushes and moves while there is nothing else to do.
    fn tidy(&mut self) -> bool {
        let mut untidy = false;
        let mut cleaned = Vec::new();
        for (group, machine) in &mut self.machines {
            let before = machine.litter();
            match machine.tidy() {
                Ok(more) => {
                    untidy |= more;
                    if machine.litter() != before {
                        self.node.metrics.show_litter(*group, machine.litter());
                        cleaned.extend((!more).then_some(*group));
                    }
                }
                Err(error) => warn!(%group, %error, "cannot tidy the state"),
            }
        }
        // What was deleted takes its space until that is in tables.
        cleaned.into_iter().for_each(|group| self.persist_soon(group));
        untidy
    }

    fn persist_soon(&mut self, group: GroupId) {
        if let Some(machine) = self.machines.get(&group) {
            let persister = machine.store().persister();
            self.persist.send(PersistJob { group, persister });
        }
    }

    fn build_snapshot(&mut self, group: GroupId) -> Result<(), Trouble> {
        let events = self.node.events.clone();
        let export = self.machines.get(&group).map(Machine::export).transpose();
        match (export, self.members.get(&group)) {
            (Ok(Some(export)), Some(members)) => {
                self.snapshots.build(group, export, members.clone(), events);
            }
            (Err(error), _) if error.is_damage() => return Err(Trouble::of(group, &error)),
            (Err(error), _) => {
                warn!(%group, %error, "cannot read the state for a snapshot");
                events.send(Input::SnapshotBuilt { group, built: None });
            }
            _ => events.send(Input::SnapshotBuilt { group, built: None }),
        }
        Ok(())
    }

    /// Puts a snapshot in the place of the state: durable on return (PROTOCOL 4c).
    fn install_snapshot(&mut self, group: GroupId, meta: Box<SnapshotMeta>) -> Result<(), Trouble> {
        let installed = self.snapshots.install(group, &meta, &mut self.engine);
        let state = match installed {
            Ok(machine) => {
                info!(%group, id = %meta.id, bytes = meta.bytes, "a snapshot was installed");
                let state = (machine.log_time(), machine.next_due());
                let members = (meta.membership_id, Arc::clone(&meta.membership));
                self.members.insert(group, members);
                let configuration = sharding::configuration(group, &machine);
                self.machines.insert(group, machine);
                self.stewarded.remove(&group);
                self.send(Input::Stewarded { group, configuration });
                Some(state)
            }
            Err(error) => {
                warn!(%group, %error, "a snapshot cannot be installed");
                None
            }
        };
        self.send(Input::SnapshotInstalled { group, meta, state });
        Ok(())
    }

    /// Makes a state that a peer has given that of a replica which has only its log. The log thread
    /// carries it to its end, as after a crash in an installation, and opens the replica.
    fn adopt(&mut self, adopted: Adopted) -> Result<(), Trouble> {
        let Adopted { lost, meta } = adopted;
        let group = lost.group;
        let machine = match self.snapshots.install_file(group, &meta, &mut self.engine) {
            Ok(machine) => machine,
            Err(error) => {
                warn!(%group, %error, "the state that a peer has given cannot be installed");
                return Err((group, format!("cannot install a fetched state: {error}")).into());
            }
        };
        let configuration = sharding::configuration(group, &machine);
        self.members.insert(group, (meta.membership_id, Arc::clone(&meta.membership)));
        let opened = Opened {
            recovered: lost.recovered,
            applied: machine.applied(),
            log_time: machine.log_time(),
            next_due: machine.next_due(),
            ..self.opener.empty_replica(group, lost.member)
        };
        self.machines.insert(group, machine);
        self.log.send(LogWork::Adopt(Box::new(opened)));
        let failed = |error: String| (group, format!("cannot note a repair: {error}"));
        self.opener.is_repaired(group).map_err(failed)?;
        info!(%group, id = %meta.id, "the lost state is here again");
        self.send(Input::Stewarded { group, configuration });
        Ok(())
    }

    fn create(&mut self, group: GroupId, member: Member) -> Result<(), Trouble> {
        let failed = |error: String| (group, format!("cannot create a replica: {error}"));
        self.opener.begin(group, member.replica).map_err(failed)?;
        self.engine.drop_group(group).map_err(|e| failed(e.to_string()))?;
        let store = self.engine.open_group(group).map_err(|e| failed(e.to_string()))?;
        let machine = sharding::machine(store).map_err(|e| failed(e.to_string()))?;
        self.machines.insert(group, machine);
        let opened = self.opener.empty_replica(group, member);
        self.send(Input::Opened(Box::new(opened)));
        Ok(())
    }

    /// Begins a group with one replica; the event loop hears of it when its log has begun.
    fn begin(
        &mut self,
        group: GroupId,
        member: Member,
        beginning: &Beginning,
    ) -> Result<(), Trouble> {
        if self.machines.contains_key(&group) {
            return Ok(());
        }
        let failed = |error: String| (group, format!("cannot begin a group: {error}"));
        self.opener.begin(group, member.replica).map_err(failed)?;
        self.opener.note_beginning(group, beginning).map_err(failed)?;
        self.engine.drop_group(group).map_err(|e| failed(e.to_string()))?;
        let store = self.engine.open_group(group).map_err(|e| failed(e.to_string()))?;
        let store = Machine::found(store, BEGINS_AFTER, &*beginning.steward());
        let machine = sharding::machine(store.map_err(|e| failed(e.to_string()))?);
        let machine = machine.map_err(|e| failed(e.to_string()))?;
        if let Some(configuration) = sharding::configuration(group, &machine) {
            self.send(Input::Stewarded { group, configuration: Some(configuration) });
        }
        self.machines.insert(group, machine);
        let membership = Arc::new(Membership::new([member], []));
        let base = Base { id: BEGINS_AFTER, membership, ..Base::default() };
        self.members.insert(group, (base.membership_id, Arc::clone(&base.membership)));
        let opened = Opened {
            recovered: Recovered {
                base: Some(base.clone()),
                applied: BEGINS_AFTER.index,
                ..Recovered::default()
            },
            applied: BEGINS_AFTER,
            ..self.opener.empty_replica(group, member)
        };
        self.log.send(LogWork::Begin(group, base, Box::new(opened)));
        Ok(())
    }

    fn remove(&mut self, group: GroupId, member: Member) -> Result<(), Trouble> {
        let failed = |error: String| (group, format!("cannot remove the replica: {error}"));
        // The tombstone first: without the state but with it, the replica can't come back.
        self.opener.bury(group, member.replica).map_err(failed)?;
        self.machines.remove(&group);
        self.node.set_keys(group, None);
        self.members.remove(&group);
        self.engine.drop_group(group).map_err(|e| failed(e.to_string()))?;
        self.snapshots.forget(group).map_err(|e| failed(e.to_string()))?;
        self.log.send(LogWork::Forget(group));
        self.send(Input::Closed { group, member });
        Ok(())
    }
}

fn command_bytes(entry: &Entry<Bytes>) -> usize {
    match &entry.data {
        EntryData::Command(command) => command.len(),
        EntryData::Noop | EntryData::Membership(_) => 0,
    }
}

/// Whether a read looks at few keys, however large the store is.
fn is_quick(read: &Read) -> bool {
    match read {
        Read::Keys { .. }
        | Read::KeysOfSlots { .. }
        | Read::Scan { .. }
        | Read::Lcs { .. }
        | Read::RandomKey { .. } => false,
        Read::MGet { keys } | Read::Exists { keys } | Read::Versions { keys } => keys.len() <= 64,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use kontiki_types::{Index, Term};

    use super::*;

    fn applies(lengths: &[usize]) -> Work {
        let entries = lengths.iter().enumerate().map(|(at, &length)| Entry {
            id: LogId::new(Term(1), Index(at as u64 + 1)),
            data: EntryData::Command(vec![0; length].into()),
        });
        Work::Apply { group: GroupId(1), entries: entries.collect() }
    }

    fn indexes(work: &Work) -> Vec<u64> {
        let Work::Apply { entries, .. } = work else { return Vec::new() };
        entries.iter().map(|entry| entry.id.index.0).collect()
    }

    #[test]
    fn many_entries_are_cut_and_the_last_piece_is_known() {
        let small = vec![10; 2_000];
        let large = [SLICE * 2, 1, SLICE, 1];
        for (lengths, pieces) in [(&small[..], 4), (&large[..], 4), (&[7][..], 1)] {
            let cut: Vec<_> = cut(applies(lengths)).collect();
            assert_eq!(cut.len(), pieces);
            let last: Vec<_> = cut.iter().map(|(_, is_last)| *is_last).collect();
            assert!(last.iter().rev().skip(1).all(|is_last| !is_last) && last.ends_with(&[true]));
            let whole: Vec<_> = cut.iter().flat_map(|(work, _)| indexes(work)).collect();
            assert_eq!(whole, (1..=lengths.len() as u64).collect::<Vec<_>>());
        }
    }
}
