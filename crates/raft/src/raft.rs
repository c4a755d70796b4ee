//! One replica of a Raft group: the public face of the core.

use alloc::vec::Vec;
use core::marker::PhantomData;

use kontiki_types::{Index, Instant, LogId, Member, NodeId, Term};

use crate::{
    ChangeError, Config, Membership, Message, Output, Payload, Reason, Receipt, Recovered, Refused,
    RestartError, SnapshotMeta, Status, TransferError,
};

/// One replica of a Raft group.
pub struct Raft<P> {
    payload: PhantomData<P>,
}

impl<P: Payload> Raft<P> {
    /// Starts a replica from what its stable storage proves.
    ///
    /// # Errors
    /// [`RestartError`]: what was recovered contradicts itself.
    pub fn new(
        config: Config,
        recovered: Recovered<P>,
        seed: u64,
        now: Instant,
    ) -> Result<Self, RestartError> {
        let _ = (config, recovered, seed, now);
        Err(RestartError::Config)
    }

    /// Takes a message from another replica. Never panics, however wrong the message is.
    pub fn receive(&mut self, now: Instant, message: Message<P>) {
        let _ = (now, message);
    }

    /// Runs every timer that is due.
    pub fn tick(&mut self, now: Instant) {
        let _ = now;
    }

    /// When [`Raft::tick`] has something to do next. [`Instant::MAX`] for never.
    pub fn next_deadline(&self) -> Instant {
        Instant::MAX
    }

    /// Proposes a command. Where it lands, if it is committed, is the id returned; another entry
    /// at that index means that it never will be. Sent when outputs are drained, together with all
    /// proposals since the last time.
    ///
    /// # Errors
    /// [`Refused`] gives the payload back; the proposal had and will have no effect.
    pub fn propose(&mut self, now: Instant, payload: P) -> Result<LogId, Refused<P>> {
        let _ = now;
        Err(Refused { payload, reason: Reason::NotLeader { leader: None } })
    }

    /// Asks for a read index, answered by [`Output::ReadReady`] or [`Output::ReadFailed`] with the
    /// same token.
    ///
    /// # Errors
    /// [`Refused`]: there will be no answer.
    pub fn read(&mut self, now: Instant, token: u64) -> Result<(), Refused<()>> {
        let _ = (now, token);
        Err(Refused { payload: (), reason: Reason::NotLeader { leader: None } })
    }

    /// Replaces the configuration whose entry is `replaces`, by way of a joint one.
    ///
    /// # Errors
    /// [`ChangeError`]: nothing was changed.
    pub fn change_membership(
        &mut self,
        now: Instant,
        voters: Vec<Member>,
        learners: Vec<Member>,
        replaces: LogId,
    ) -> Result<LogId, ChangeError> {
        let _ = (now, voters, learners, replaces);
        Err(ChangeError::NotReady)
    }

    /// Hands leadership to the voter on that node.
    ///
    /// # Errors
    /// [`TransferError`]: nothing was changed.
    pub fn transfer(&mut self, now: Instant, to: NodeId) -> Result<(), TransferError> {
        let _ = (now, to);
        Err(TransferError::NotVoter)
    }

    /// A write batch is on stable storage.
    pub fn persisted(&mut self, now: Instant, receipt: Receipt) {
        let _ = (now, receipt);
    }

    /// A write failed. The replica says and does nothing more.
    pub fn persist_failed(&mut self, now: Instant) {
        let _ = now;
    }

    /// The state machine has applied everything up to `index`.
    pub fn applied(&mut self, now: Instant, index: Index) {
        let _ = (now, index);
    }

    /// Drops the log up to `upto`, as far as it is applied. The next write batch carries the base.
    pub fn compact(&mut self, upto: Index) {
        let _ = upto;
    }

    /// Answer to [`Output::BuildSnapshot`], also welcome unasked. `None`: it could not be built.
    pub fn snapshot_built(&mut self, now: Instant, meta: Option<SnapshotMeta>) {
        let _ = (now, meta);
    }

    /// Answer to [`Output::ReadChunk`].
    pub fn chunk_read(
        &mut self,
        now: Instant,
        to: Member,
        meta: &SnapshotMeta,
        offset: u64,
        data: Vec<u8>,
    ) {
        let _ = (now, to, meta, offset, data);
    }

    /// Answer to [`Output::WriteChunk`]: all bytes before `end` are there.
    pub fn chunk_written(&mut self, now: Instant, meta: &SnapshotMeta, end: u64) {
        let _ = (now, meta, end);
    }

    /// Answer to [`Output::InstallSnapshot`].
    pub fn snapshot_installed(&mut self, now: Instant, meta: &SnapshotMeta, ok: bool) {
        let _ = (now, meta, ok);
    }

    /// Whether the storage is (nearly) full: proposals are refused, nothing else changes.
    pub fn set_storage_full(&mut self, full: bool) {
        let _ = full;
    }

    /// The next thing to do. Drain until `None` after every batch of calls.
    pub fn poll(&mut self, now: Instant) -> Option<Output<P>> {
        let _ = now;
        None
    }

    /// What the replica knows.
    pub fn status(&self) -> Status {
        unreachable!()
    }

    /// The configuration in effect at `index`, with the entry that holds it, if the log still knows.
    pub fn membership_at(&self, index: Index) -> Option<(LogId, &Membership)> {
        let _ = index;
        None
    }

    /// The term of the entry at `index`, if the log still knows.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        let _ = index;
        None
    }
}
