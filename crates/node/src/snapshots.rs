//! Snapshot files of this node: building, sending, receiving and installing them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use kontiki_kv::{Export, Import, Machine, MachineError};
use kontiki_raft::{Membership, SnapshotMeta};
use kontiki_storage::disk::RealDisk;
use kontiki_storage::engine::Engine;
use kontiki_storage::snapshot::{
    SnapshotHead, SnapshotReader, SnapshotReceiver, Snapshots as Files,
};
use kontiki_types::{GroupId, LogId};
use tracing::{info, warn};

use crate::error::StartError;
use crate::event_loop::Input;
use crate::mailbox::InboxSender;
use crate::metrics::Metrics;
use crate::sharding;

/// Bytes read at once while a snapshot is installed.
const READ_BYTES: usize = 1 << 20;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Snapshot files, and those in transfer.
pub(crate) struct Snapshots {
    files: Files<RealDisk>,
    sending: BTreeMap<GroupId, SnapshotReader<RealDisk>>,
    receiving: BTreeMap<GroupId, SnapshotReceiver<RealDisk>>,
    metrics: Arc<Metrics>,
}

impl Snapshots {
    pub(crate) fn open(path: &Path, metrics: Arc<Metrics>) -> Result<Self, StartError> {
        let files = Files::open(RealDisk, path)?;
        Ok(Self { files, sending: BTreeMap::new(), receiving: BTreeMap::new(), metrics })
    }

    /// Writes a snapshot from a view of the state, in a thread of its own, and reports it.
    pub(crate) fn build<V>(
        &self,
        group: GroupId,
        export: Export<V>,
        (membership_id, membership): (LogId, Arc<Membership>),
        events: InboxSender<Input>,
    ) where
        Export<V>: Iterator<Item = Result<Bytes, kontiki_kv::MachineError>> + Send + 'static,
        V: kontiki_kv::StoreView,
    {
        let files = self.files.clone();
        let (failed, metrics) = (events.clone(), Arc::clone(&self.metrics));
        let build = move || {
            let head = SnapshotHead { id: export.applied(), membership, membership_id };
            let built = write_out(&files, group, head, export, &metrics);
            if let Err(error) = &built {
                warn!(%group, %error, "cannot build a snapshot");
                if error.downcast_ref::<MachineError>().is_some_and(MachineError::is_damage) {
                    events.send(Input::Damaged { group, reason: error.to_string() });
                    return;
                }
            }
            events.send(Input::SnapshotBuilt { group, built: built.ok() });
        };
        if let Err(error) = thread::Builder::new().name("snapshot".into()).spawn(build) {
            warn!(%group, %error, "cannot start a thread to build a snapshot");
            failed.send(Input::SnapshotBuilt { group, built: None });
        }
    }

    /// A part of a finished snapshot.
    pub(crate) fn read(
        &mut self,
        group: GroupId,
        meta: &SnapshotMeta,
        offset: u64,
        max: usize,
    ) -> Result<Vec<u8>, Failed> {
        let known = self.sending.get(&group).is_some_and(|reader| reader.meta() == meta);
        if !known {
            self.sending.insert(group, self.files.read(group, meta.id)?);
        }
        match self.sending.get_mut(&group) {
            Some(reader) => {
                let chunk = reader.read_chunk(offset, max)?;
                self.metrics.snapshot_bytes_sent.inc_by(chunk.len() as u64);
                Ok(chunk)
            }
            None => Ok(Vec::new()),
        }
    }

    /// Stages a part of a snapshot that arrives; returns up to where it is staged, which is further
    /// where an earlier life of the node had received more.
    pub(crate) fn write(
        &mut self,
        group: GroupId,
        meta: &SnapshotMeta,
        offset: u64,
        data: &[u8],
    ) -> Result<u64, Failed> {
        let known = self.receiving.get(&group).is_some_and(|receiver| receiver.meta() == meta);
        if !known {
            let receiver = self.files.resume(group, meta.clone())?;
            let there = receiver.offset();
            if there > 0 {
                info!(%group, id = %meta.id, there, bytes = meta.bytes, "a snapshot is taken up");
                self.metrics.snapshot_bytes_resumed.inc_by(there);
            }
            self.receiving.insert(group, receiver);
        }
        let Some(receiver) = self.receiving.get_mut(&group) else { return Ok(0) };
        let before = receiver.offset();
        receiver.write_chunk(offset, data)?;
        let fresh = receiver.offset() - before;
        self.metrics.snapshot_bytes_received.inc_by(fresh);
        self.metrics.snapshot_bytes_written.inc_by(fresh);
        Ok(receiver.offset())
    }

    /// Forgets what is staged: nothing of it counts as written.
    pub(crate) fn give_up(&mut self, group: GroupId) {
        if let Some(receiver) = self.receiving.remove(&group) {
            receiver.abandon();
        }
    }

    /// Verifies the staged snapshot and makes it the state of the group, durably.
    pub(crate) fn install<E: Engine>(
        &mut self,
        group: GroupId,
        meta: &SnapshotMeta,
        engine: &mut E,
    ) -> Result<Machine<E::Store>, Failed> {
        let receiver = self.receiving.remove(&group).ok_or("no snapshot is staged")?;
        if receiver.meta() != meta {
            return Err("another snapshot is staged".into());
        }
        receiver.finish()?;
        self.install_file(group, meta, engine)
    }

    /// Makes a finished snapshot the state of the group, durably.
    pub(crate) fn install_file<E: Engine>(
        &mut self,
        group: GroupId,
        meta: &SnapshotMeta,
        engine: &mut E,
    ) -> Result<Machine<E::Store>, Failed> {
        let mut reader = self.files.read(group, meta.id)?;
        let mut import = Import::new(engine.begin_install(group)?)?;
        let mut offset = 0;
        while offset < meta.bytes {
            let chunk = reader.read_chunk(offset, READ_BYTES)?;
            offset += chunk.len() as u64;
            import.feed(&chunk)?;
        }
        let (store, applied) = import.finish()?;
        if applied != meta.id {
            return Err(format!("the snapshot holds {applied}, not {}", meta.id).into());
        }
        let machine = sharding::machine(store)?;
        engine.finish_install(group, machine.store())?;
        // What was received is in the engine now; an older file serves nobody.
        self.files.clean(group, meta.id)?;
        Ok(machine)
    }

    /// Removes what is left of a group.
    pub(crate) fn forget(&mut self, group: GroupId) -> Result<(), Failed> {
        self.sending.remove(&group);
        self.receiving.remove(&group);
        Ok(self.files.remove_group(group)?)
    }
}

fn write_out(
    files: &Files<RealDisk>,
    group: GroupId,
    head: SnapshotHead,
    export: impl Iterator<Item = Result<Bytes, kontiki_kv::MachineError>>,
    metrics: &Metrics,
) -> Result<SnapshotMeta, Failed> {
    let id = head.id;
    let mut writer = files.build(group, head)?;
    for chunk in export {
        let chunk = chunk?;
        writer.write(&chunk)?;
        metrics.snapshot_bytes_written.inc_by(chunk.len() as u64);
    }
    let meta = writer.finish()?;
    info!(%group, %id, bytes = meta.bytes, "snapshot built");
    files.clean(group, id)?;
    Ok(meta)
}
