//! Snapshot files of a simulated node: building, sending, receiving and installing them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kontiki_kv::{Import, Machine};
use kontiki_raft::{Membership, SnapshotMeta};
use kontiki_storage::disk::SimDisk;
use kontiki_storage::engine::{Engine, MemoryEngine, MemoryStore};
use kontiki_storage::snapshot::{
    SnapshotHead, SnapshotReader, SnapshotReceiver, Snapshots as Files,
};
use kontiki_types::{GroupId, LogId};

use super::opening::text;
use super::sharding;

const READ_BYTES: usize = 64 << 10;

pub(super) struct Snapshots {
    files: Files<SimDisk>,
    sending: BTreeMap<GroupId, SnapshotReader<SimDisk>>,
    receiving: BTreeMap<GroupId, SnapshotReceiver<SimDisk>>,
}

impl Snapshots {
    pub(super) fn open(disk: SimDisk, path: &Path) -> Result<Self, String> {
        let files = Files::open(disk, path).map_err(text)?;
        Ok(Self { files, sending: BTreeMap::new(), receiving: BTreeMap::new() })
    }

    pub(super) fn files(&self) -> &Files<SimDisk> {
        &self.files
    }

    pub(super) fn build(
        &self,
        group: GroupId,
        machine: &Machine<MemoryStore>,
        (membership_id, membership): (LogId, Arc<Membership>),
    ) -> Result<SnapshotMeta, String> {
        let export = machine.export().map_err(text)?;
        let id = export.applied();
        let head = SnapshotHead { id, membership, membership_id };
        let mut writer = self.files.build(group, head).map_err(text)?;
        for chunk in export {
            writer.write(&chunk.map_err(text)?).map_err(text)?;
        }
        let meta = writer.finish().map_err(text)?;
        self.files.clean(group, id).map_err(text)?;
        Ok(meta)
    }

    pub(super) fn read(
        &mut self,
        group: GroupId,
        meta: &SnapshotMeta,
        offset: u64,
        max: usize,
    ) -> Result<Vec<u8>, String> {
        if self.sending.get(&group).is_none_or(|reader| reader.meta() != meta) {
            let reader = self.files.read(group, meta.id).map_err(text)?;
            self.sending.insert(group, reader);
        }
        let reader = self.sending.get_mut(&group).ok_or("inserted above")?;
        reader.read_chunk(offset, max).map_err(text)
    }

    pub(super) fn write(
        &mut self,
        group: GroupId,
        meta: &SnapshotMeta,
        offset: u64,
        data: &[u8],
    ) -> Result<u64, String> {
        let known = self.receiving.get(&group).is_some_and(|receiver| receiver.meta() == meta);
        if !known || offset == 0 {
            let receiver = self.files.receive(group, meta.clone()).map_err(text)?;
            self.receiving.insert(group, receiver);
        }
        let receiver = self.receiving.get_mut(&group).ok_or("inserted above")?;
        receiver.write_chunk(offset, data).map_err(text)?;
        Ok(receiver.offset())
    }

    /// Forgets what is staged: nothing of it counts as written.
    pub(super) fn give_up(&mut self, group: GroupId) {
        self.receiving.remove(&group);
    }

    pub(super) fn install(
        &mut self,
        group: GroupId,
        meta: &SnapshotMeta,
        engine: &mut MemoryEngine,
    ) -> Result<Machine<MemoryStore>, String> {
        let receiver = self.receiving.remove(&group).ok_or("no snapshot is staged")?;
        if receiver.meta() != meta {
            return Err("another snapshot is staged".to_owned());
        }
        receiver.finish().map_err(text)?;
        let mut reader = self.files.read(group, meta.id).map_err(text)?;
        let store = engine.begin_install(group).map_err(text)?;
        let mut import = Import::new(store).map_err(text)?;
        let mut offset = 0;
        while offset < meta.bytes {
            let chunk = reader.read_chunk(offset, READ_BYTES).map_err(text)?;
            offset += chunk.len() as u64;
            import.feed(&chunk).map_err(text)?;
        }
        let (store, applied) = import.finish().map_err(text)?;
        if applied != meta.id {
            return Err(format!("the snapshot holds {applied}, not {}", meta.id));
        }
        let machine = sharding::machine(store).map_err(text)?;
        engine.finish_install(group, machine.store()).map_err(text)?;
        self.files.clean(group, meta.id).map_err(text)?;
        Ok(machine)
    }

    pub(super) fn forget(&mut self, group: GroupId) -> Result<(), String> {
        self.sending.remove(&group);
        self.receiving.remove(&group);
        self.files.remove_group(group).map_err(text)
    }
}
