//! The apply thread of a node: the state machines, their engine, and the snapshots.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use kontiki_kv::{Machine, QueryAnswer, Store as _};
use kontiki_raft::{Base, Config, Entries, EntryData, Membership, Recovered, SnapshotMeta};
use kontiki_replica::steward::{BEGINS_AFTER, Beginning, holdings_of};
use kontiki_replica::{Answer, Caller, Failure, Found, Look, Opened, Question};
use kontiki_storage::directory::Directory;
use kontiki_storage::disk::SimDisk;
use kontiki_storage::engine::{Engine, GroupStore, MemoryEngine, MemoryStore, Persist};
use kontiki_types::{GroupId, Index, LogId, LogTime, Member};

use super::log_stage::LogWork;
use super::node::Input;
use super::opening::{replica_note, text};
use super::sharding;
use super::snapshots::Snapshots;

/// What the stage is asked to do; in order within a group.
pub(super) enum Work {
    Apply { group: GroupId, entries: Entries<Bytes> },
    Query { group: GroupId, log_time: LogTime, reads: Vec<Question> },
    BuildSnapshot { group: GroupId },
    ReadChunk { group: GroupId, to: Member, meta: Box<SnapshotMeta>, offset: u64, max: usize },
    WriteChunk { group: GroupId, meta: Box<SnapshotMeta>, offset: u64, data: Vec<u8> },
    InstallSnapshot { group: GroupId, meta: Box<SnapshotMeta> },
    Look { ticket: u64, group: GroupId, look: Box<Look> },
    Create { group: GroupId, member: Member },
    Remove { group: GroupId, member: Member },
    Begin { group: GroupId, member: Member, beginning: Beginning },
}

/// What comes out.
#[derive(Default)]
pub(super) struct Done {
    pub(super) inputs: Vec<Input>,
    pub(super) answers: Vec<(Caller, Answer)>,
    pub(super) log: Vec<LogWork>,
    /// What was applied: the group, the entry, its payload.
    pub(super) applied: Vec<(GroupId, LogId, Option<Bytes>)>,
    /// What is next for moves of slots.
    pub(super) looked: Vec<(u64, Option<Found>)>,
    /// The groups whose steward has acted.
    pub(super) stewarded: Vec<GroupId>,
    /// Snapshots that were installed with a part of a move in them.
    pub(super) installed_in_move: u64,
}

impl Done {
    /// An answer to a client, or to the core itself.
    fn answer(&mut self, caller: Caller, answer: Answer) {
        if caller.is_inward() {
            self.inputs.push(Input::Answered(caller, answer));
        } else {
            self.answers.push((caller, answer));
        }
    }
}

pub(super) struct ApplyStage {
    pub(super) engine: MemoryEngine,
    pub(super) machines: BTreeMap<GroupId, Machine<MemoryStore>>,
    pub(super) members: BTreeMap<GroupId, (LogId, Arc<Membership>)>,
    pub(super) queue: VecDeque<Work>,
    pub(super) snapshots_installed: u64,
    pub(super) snapshots_built: u64,
    pub(super) snapshots: Snapshots,
    directory: Directory<SimDisk>,
    raft: Config,
    /// The last entry of each group's steward that the event loop has heard of.
    stewarded: BTreeMap<GroupId, Index>,
}

impl ApplyStage {
    pub(super) fn new(
        engine: MemoryEngine,
        snapshots: Snapshots,
        directory: Directory<SimDisk>,
        raft: Config,
    ) -> Self {
        Self {
            engine,
            machines: BTreeMap::new(),
            members: BTreeMap::new(),
            queue: VecDeque::new(),
            snapshots_installed: 0,
            snapshots_built: 0,
            snapshots,
            directory,
            raft,
            stewarded: BTreeMap::new(),
        }
    }

    pub(super) fn directory(&self) -> &Directory<SimDisk> {
        &self.directory
    }

    /// A row of the group's state changes by itself, in this replica's memory or on its disk.
    pub(super) fn rot(&mut self, group: GroupId, key: &[u8]) -> Result<(), String> {
        let Some(machine) = self.machines.remove(&group) else { return Ok(()) };
        let mut store = machine.into_store();
        let rows = store.range(&[], &[0xff], usize::MAX).map_err(text)?;
        let row = rows.into_iter().find(|(name, _)| name.ends_with(key));
        let (name, row) = row.ok_or("there is no such key")?;
        let mut bytes = row.to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        let at = store.applied();
        store.commit(&mut vec![(name, Some(bytes.into()))], at).map_err(text)?;
        self.machines.insert(group, sharding::machine(store).map_err(text)?);
        Ok(())
    }

    /// Does everything that waits.
    pub(super) fn run(&mut self) -> Result<Done, String> {
        let mut done = Done::default();
        while let Some(work) = self.queue.pop_front() {
            self.carry_out(work, &mut done)?;
        }
        Ok(done)
    }

    /// Makes the state durable, and says up to where it is.
    pub(super) fn persist(&self, group: GroupId) -> Option<LogId> {
        self.machines.get(&group)?.store().persister().persist().ok()
    }

    fn carry_out(&mut self, work: Work, done: &mut Done) -> Result<(), String> {
        match work {
            Work::Apply { group, entries } => self.apply(group, &entries, done)?,
            Work::Query { group, log_time, reads } => self.query(group, log_time, reads, done)?,
            Work::BuildSnapshot { group } => {
                let parts = self.machines.get(&group).zip(self.members.get(&group));
                let built = parts.and_then(|(machine, members)| {
                    self.snapshots.build(group, machine, members.clone()).ok()
                });
                self.snapshots_built += u64::from(built.is_some());
                done.inputs.push(Input::SnapshotBuilt { group, built });
            }
            Work::ReadChunk { group, to, meta, offset, max } => {
                // Nothing: it cannot be read.
                let data = self.snapshots.read(group, &meta, offset, max).unwrap_or_default();
                done.inputs.push(Input::ChunkRead { group, to, meta, offset, data });
            }
            Work::WriteChunk { group, meta, offset, data } => {
                let end = self.snapshots.write(group, &meta, offset, &data).unwrap_or_else(|_| {
                    self.snapshots.give_up(group);
                    0
                });
                done.inputs.push(Input::ChunkWritten { group, meta, end });
            }
            Work::InstallSnapshot { group, meta } => self.install(group, meta, done),
            Work::Look { ticket, group, look } => {
                let step = self.machines.get_mut(&group).map(|machine| look.take(machine));
                done.looked.push((ticket, step.transpose().map_err(text)?.flatten()));
            }
            Work::Create { group, member } => self.create(group, member, done)?,
            Work::Begin { group, member, beginning } => {
                self.begin(group, member, &beginning, done)?;
            }
            Work::Remove { group, member } => {
                self.directory.set_removed(group, member.replica).map_err(text)?;
                self.machines.remove(&group);
                self.members.remove(&group);
                self.engine.drop_group(group).map_err(text)?;
                self.snapshots.forget(group)?;
                done.log.push(LogWork::Forget(group));
                done.inputs.push(Input::Closed { group, member });
            }
        }
        Ok(())
    }

    fn apply(
        &mut self,
        group: GroupId,
        entries: &Entries<Bytes>,
        done: &mut Done,
    ) -> Result<(), String> {
        // What follows the removal of the replica has no state to go to.
        let Some(machine) = self.machines.get_mut(&group) else { return Ok(()) };
        let applied = machine.applied().index;
        let mut batch = Vec::new();
        for entry in entries.iter().filter(|entry| entry.id.index > applied) {
            let payload = match &entry.data {
                EntryData::Command(command) => Some(command.clone()),
                EntryData::Noop => None,
                EntryData::Membership(membership) => {
                    self.members.insert(group, (entry.id, Arc::clone(membership)));
                    None
                }
            };
            batch.push((entry.id, payload));
        }
        let mut outcomes = Vec::new();
        machine.apply(&batch, &mut outcomes).map_err(text)?;
        if let Some(checked) = machine.checked().filter(|checked| checked.at > applied) {
            done.inputs.push(Input::Checked { group, checked });
        }
        done.inputs.push(Input::Applied {
            group,
            applied: machine.applied(),
            log_time: machine.log_time(),
            next_due: machine.next_due(),
            outcomes,
        });
        self.hear_steward(group, done);
        done.applied.extend(batch.into_iter().map(|(id, payload)| (group, id, payload)));
        Ok(())
    }

    /// Tells the event loop if a group's steward has acted, and of a newer configuration.
    fn hear_steward(&mut self, group: GroupId, done: &mut Done) {
        let Some(machine) = self.machines.get(&group) else { return };
        let at = machine.stewarded();
        if self.stewarded.insert(group, at).unwrap_or_default() != at {
            let configuration = sharding::configuration(group, machine);
            done.inputs.push(Input::Stewarded { group, configuration });
            done.stewarded.push(group);
        }
    }

    /// Deletes what slots have left behind, as a stage does that has nothing else to do.
    pub(super) fn tidy(&mut self) -> Result<(), String> {
        for machine in self.machines.values_mut() {
            machine.tidy().map_err(text)?;
        }
        Ok(())
    }

    fn query(
        &mut self,
        group: GroupId,
        log_time: LogTime,
        reads: Vec<Question>,
        done: &mut Done,
    ) -> Result<(), String> {
        let Some(machine) = self.machines.get(&group) else {
            let failed = || Answer::Failed(Failure::Unavailable);
            for question in reads {
                done.answer(question.caller, failed());
            }
            return Ok(());
        };
        let (mut due, mut barred) = (Vec::new(), Vec::new());
        for question in reads {
            match machine.query(&question.read, log_time).map_err(text)? {
                QueryAnswer::Reply(reply) => done.answer(question.caller, Answer::Reply(reply)),
                QueryAnswer::Due => due.push(question),
                QueryAnswer::Closed { slot, gate } => barred.push((question, slot, gate)),
            }
        }
        if !barred.is_empty() {
            done.inputs.push(Input::Barred { group, reads: barred });
        }
        if !due.is_empty() {
            done.inputs.push(Input::Due { group, reads: due });
        }
        Ok(())
    }

    fn install(&mut self, group: GroupId, meta: Box<SnapshotMeta>, done: &mut Done) {
        let installed = self.snapshots.install(group, &meta, &mut self.engine).ok();
        let state = installed.map(|machine| {
            let state = (machine.log_time(), machine.next_due());
            self.members.insert(group, (meta.membership_id, Arc::clone(&meta.membership)));
            let configuration = sharding::configuration(group, &machine);
            let has_steward = machine.steward().is_some();
            let holdings = machine.steward().and_then(|steward| holdings_of(steward).ok());
            let parts = holdings.map_or(0, |held| held.exports().len() + held.imports().len());
            done.installed_in_move += u64::from(parts > 0);
            self.machines.insert(group, machine);
            self.stewarded.remove(&group);
            if has_steward {
                done.inputs.push(Input::Stewarded { group, configuration });
                done.stewarded.push(group);
            }
            self.snapshots_installed += 1;
            state
        });
        done.inputs.push(Input::SnapshotInstalled { group, meta, state });
    }

    fn create(&mut self, group: GroupId, member: Member, done: &mut Done) -> Result<(), String> {
        let note = member.replica.0.to_string();
        self.directory.set_note(&replica_note(group), &note).map_err(text)?;
        self.engine.drop_group(group).map_err(text)?;
        let store = self.engine.open_group(group).map_err(text)?;
        self.machines.insert(group, sharding::machine(store).map_err(text)?);
        done.inputs.push(Input::Opened(Box::new(self.empty(group, member))));
        Ok(())
    }

    /// Begins a group with one replica; the event loop hears of it when its log has begun.
    fn begin(
        &mut self,
        id: GroupId,
        member: Member,
        beginning: &Beginning,
        done: &mut Done,
    ) -> Result<(), String> {
        if self.machines.contains_key(&id) {
            return Ok(());
        }
        let note = member.replica.0.to_string();
        self.directory.set_note(&replica_note(id), &note).map_err(text)?;
        sharding::note_beginning(&mut self.directory, id, beginning).map_err(text)?;
        self.engine.drop_group(id).map_err(text)?;
        let store = self.engine.open_group(id).map_err(text)?;
        let steward = beginning.steward();
        let store = Machine::found(store, BEGINS_AFTER, &*steward).map_err(text)?;
        let machine = sharding::machine(store).map_err(text)?;
        if let Some(configuration) = sharding::configuration(id, &machine) {
            let configuration = Some(configuration);
            done.inputs.push(Input::Stewarded { group: id, configuration });
            done.stewarded.push(id);
        }
        self.machines.insert(id, machine);
        let membership = Arc::new(Membership::new([member], []));
        let base = Base { id: BEGINS_AFTER, membership, ..Base::default() };
        self.members.insert(id, (base.membership_id, Arc::clone(&base.membership)));
        let applied = BEGINS_AFTER.index;
        let recovered = Recovered { base: Some(base.clone()), applied, ..Recovered::default() };
        let opened = Opened { recovered, applied: BEGINS_AFTER, ..self.empty(id, member) };
        done.log.push(LogWork::Begin(id, base, Box::new(opened)));
        Ok(())
    }

    /// A replica without a log.
    fn empty(&self, group: GroupId, member: Member) -> Opened {
        let mut raft = self.raft.clone();
        raft.me = member;
        Opened {
            group,
            raft,
            recovered: Recovered::default(),
            applied: LogId::ZERO,
            log_time: LogTime(0),
            next_due: None,
            seed: member.node.0 ^ (member.replica.0 << 8),
        }
    }
}
