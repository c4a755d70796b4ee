//! Snapshots: the core agrees on which and from where; the driver moves the bytes (§7).
//!
//! One chunk is under way at a time. Its answer says from where to go on, so that a transfer resumes
//! after losses, and also under another leader, but only of the very same snapshot: same last entry,
//! size and content hash (PROTOCOL 7). A snapshot is acknowledged like an append, when the driver
//! has installed it durably *and* the log's new start is durable (PROTOCOL 4c).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use kontiki_types::plant::{Plant, planted};
use kontiki_types::{Index, Instant, LogId, Member};

use crate::progress::{Progress, State};
use crate::raft::Raft;
use crate::{Base, Body, Membership, Output, Payload, Session};

/// A chunk is sent again when it is not answered within this many election timeouts. Long enough
/// for a slow disk at the other end; a doubled chunk does no harm.
const RESEND_TIMEOUTS: u32 = 4;

/// A follower in the middle of a transfer may be away for this many election timeouts, a process that
/// starts again for example, before the log that must follow its snapshot is given up. Beyond that the
/// log would grow for one that may never come back; and it would need another snapshot.
const ABSENCE_TIMEOUTS: u32 = 64;

/// What a snapshot is. Two with the same `id`, `bytes` and `hash` are the same, and a transfer of
/// one may go on where a transfer of the other stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry whose effects it holds.
    pub id: LogId,
    /// The configuration in effect at that entry; see
    /// [`Raft::membership_at`](crate::Raft::membership_at).
    pub membership: Arc<Membership>,
    /// The entry that holds that configuration.
    pub membership_id: LogId,
    /// Its size.
    pub bytes: u64,
    /// A hash of its content, chosen by the driver.
    pub hash: u128,
}

impl SnapshotMeta {
    /// Whether the bytes of one may be continued with bytes of the other.
    pub fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.bytes == other.bytes && self.hash == other.hash
    }
}

/// The snapshots of this replica.
#[derive(Default)]
pub(crate) struct Shelf {
    latest: Option<Arc<SnapshotMeta>>,
    building: bool,
    retry_at: Instant,
    /// Entries up to here could not be read from stable storage.
    unreadable: Index,
}

/// A snapshot on its way to another member.
pub(crate) struct Transfer {
    pub(crate) meta: Arc<SnapshotMeta>,
    /// Everything before is there.
    pub(crate) offset: u64,
    phase: Phase,
    since: Instant,
}

#[derive(PartialEq, Eq)]
enum Phase {
    /// The driver reads the next chunk.
    Reading,
    /// A chunk that ends here is under way.
    Sent(u64),
}

/// A snapshot that arrives.
pub(crate) struct Staging {
    meta: Box<SnapshotMeta>,
    /// Everything before is written.
    next: u64,
    writing: bool,
    installing: bool,
    from: (Member, Session),
}

/// The sending side.
impl<P: Payload> Raft<P> {
    /// The log no longer holds what `peer` needs.
    pub(crate) fn begin_snapshot(&mut self, now: Instant, peer: &mut Progress) {
        peer.clear_inflight();
        let start = self.readable_after();
        match self.shelf.latest.clone().filter(|meta| meta.id.index >= start) {
            Some(meta) => {
                let mut transfer = Transfer { meta, offset: 0, phase: Phase::Reading, since: now };
                self.next_chunk(now, peer.member, peer.session, &mut transfer);
                peer.state = State::Snapshot(Some(transfer));
            }
            None => {
                peer.state = State::Snapshot(None);
                self.ask_for_snapshot();
            }
        }
    }

    /// What `peer` needs next is in the log, but cannot be read.
    pub(crate) fn cannot_be_read(&mut self, now: Instant, peer: &mut Progress) {
        self.shelf.unreadable = self.shelf.unreadable.max(peer.next);
        self.begin_snapshot(now, peer);
    }

    /// A follower that has everything up to here can be sent the rest, as far as is known.
    pub(crate) fn readable_after(&self) -> Index {
        self.log.base().id.index.max(self.shelf.unreadable)
    }

    fn ask_for_snapshot(&mut self) {
        if !self.shelf.building {
            self.shelf.building = true;
            self.outbox.push_back(Output::BuildSnapshot);
        }
    }

    fn next_chunk(&mut self, now: Instant, to: Member, session: Session, transfer: &mut Transfer) {
        transfer.since = now;
        let (meta, offset) = (Box::new(SnapshotMeta::clone(&transfer.meta)), transfer.offset);
        if offset < meta.bytes {
            transfer.phase = Phase::Reading;
            let max = self.config.snapshot_chunk_bytes;
            self.outbox.push_back(Output::ReadChunk { to, meta, offset, max });
        } else {
            // All is there: asks how the installation goes.
            transfer.phase = Phase::Sent(offset);
            self.send(to, Body::Snapshot { session, meta, offset, data: Vec::new() });
        }
    }

    /// Answer to [`Output::BuildSnapshot`], also welcome unasked (after a start, say). `None`: it
    /// could not be built. It is used from the moment of this call until the log no longer reaches
    /// back to it or another one is reported; keep its bytes readable that long.
    pub fn snapshot_built(&mut self, now: Instant, meta: Option<SnapshotMeta>) {
        self.changed = true;
        self.shelf.building = false;
        self.shelf.retry_at = now + self.config.election_timeout;
        let Some(meta) = meta else { return };
        if !self.log.contains(meta.id) || meta.id.index > self.handed_out {
            return self.dropped += 1;
        }
        self.shelf.latest = Some(Arc::new(meta));
        self.start_waiting_transfers(now);
    }

    fn start_waiting_transfers(&mut self, now: Instant) {
        let Some(mut lead) = self.lead.take() else { return };
        for peer in &mut lead.peers {
            if matches!(peer.state, State::Snapshot(None)) {
                self.begin_snapshot(now, peer);
            }
        }
        self.lead = Some(lead);
    }

    /// Answer to [`Output::ReadChunk`]. No bytes where there should be some: the snapshot can no
    /// longer be read, and another one is asked for.
    pub fn chunk_read(
        &mut self,
        now: Instant,
        to: Member,
        meta: &SnapshotMeta,
        offset: u64,
        data: Vec<u8>,
    ) {
        self.changed = true;
        let end = offset.saturating_add(data.len() as u64);
        let Some(lead) = &mut self.lead else { return };
        let Some(peer) = lead.peers.iter_mut().find(|peer| peer.member == to) else { return };
        let State::Snapshot(Some(transfer)) = &mut peer.state else { return };
        if !transfer.meta.is_same(meta)
            || transfer.offset != offset
            || transfer.phase != Phase::Reading
        {
            return;
        }
        if data.is_empty() || end > meta.bytes {
            peer.state = State::Snapshot(None);
            if self.shelf.latest.as_ref().is_some_and(|latest| latest.is_same(meta)) {
                self.shelf.latest = None;
            }
            return self.ask_for_snapshot();
        }
        transfer.phase = Phase::Sent(end);
        transfer.since = now;
        let (session, meta) = (peer.session, Box::new(meta.clone()));
        self.send(to, Body::Snapshot { session, meta, offset, data });
    }

    pub(crate) fn on_snapshot_reply(
        &mut self,
        now: Instant,
        from: Member,
        session: Session,
        snapshot: (LogId, u128),
        next: u64,
    ) {
        let Some(mut lead) = self.lead.take() else { return };
        if let Some(peer) = lead.answering(from, session) {
            peer.acked_at = now;
            if let State::Snapshot(Some(transfer)) = &mut peer.state
                && (transfer.meta.id, transfer.meta.hash) == snapshot
                && next <= transfer.meta.bytes
                // Anything else is the answer to a doubled chunk; the timer helps if not.
                && transfer.phase != Phase::Reading
                && next != transfer.offset
            {
                transfer.offset = next;
                transfer.since = now;
                if next < transfer.meta.bytes {
                    self.next_chunk(now, from, session, transfer);
                } else {
                    transfer.phase = Phase::Sent(next);
                }
            }
        }
        self.lead = Some(lead);
    }

    /// Sends again what was not answered for long, and asks again for a snapshot that could not be
    /// built.
    pub(crate) fn tick_catchup(&mut self, now: Instant) {
        let patience = self.config.election_timeout.saturating_mul(RESEND_TIMEOUTS);
        let Some(mut lead) = self.lead.take() else { return };
        for peer in &mut lead.peers {
            match &mut peer.state {
                State::Snapshot(None) if now >= self.shelf.retry_at => {
                    self.begin_snapshot(now, peer);
                }
                State::Snapshot(Some(transfer))
                    // Not to a peer that has given no sign of life since.
                    if transfer.phase != Phase::Reading
                        && now >= transfer.since + patience
                        && peer.acked_at > transfer.since =>
                {
                    self.next_chunk(now, peer.member, peer.session, transfer);
                }
                _ => {}
            }
        }
        self.lead = Some(lead);
    }

    /// Up to where the log may be compacted, for the sake of snapshots.
    pub(crate) fn compaction_limit(&self) -> Index {
        if self.shelf.building || self.is_installing() {
            return Index(0);
        }
        let Some(lead) = &self.lead else { return Index(u64::MAX) };
        let patience = self.config.election_timeout.saturating_mul(ABSENCE_TIMEOUTS);
        let needed = lead.peers.iter().filter_map(|peer| match &peer.state {
            State::Snapshot(Some(transfer))
                if lead.heartbeat_at.since(peer.acked_at) <= patience =>
            {
                Some(transfer.meta.id.index)
            }
            _ => None,
        });
        needed.min().unwrap_or(Index(u64::MAX))
    }
}

/// The receiving side.
impl<P: Payload> Raft<P> {
    pub(crate) fn is_installing(&self) -> bool {
        self.staging.as_ref().is_some_and(|staging| staging.installing)
    }

    pub(crate) fn on_snapshot(
        &mut self,
        now: Instant,
        from: Member,
        session: Session,
        meta: Box<SnapshotMeta>,
        offset: u64,
        data: Vec<u8>,
    ) {
        let end = offset.saturating_add(data.len() as u64);
        if end > meta.bytes
            || !meta.membership.is_well_formed()
            || meta.id.term > self.term()
            || meta.id.index == Index(u64::MAX)
        {
            return self.dropped += 1;
        }
        if !self.heard_leader(now, from) {
            return;
        }
        if meta.id.index <= self.commit && !self.is_installing() {
            self.staging = None;
            self.acknowledge = Some((from, session, self.commit));
            return;
        }
        let same = self.staging.as_ref().is_some_and(|staging| staging.meta.is_same(&meta));
        if !same {
            if self.is_installing() {
                return;
            }
            self.staging = Some(Staging {
                meta,
                next: 0,
                writing: false,
                installing: false,
                from: (from, session),
            });
        }
        let Some(staging) = &mut self.staging else { return };
        staging.from = (from, session);
        if staging.writing {
            return;
        }
        if offset == staging.next && end > offset {
            staging.writing = true;
            let meta = staging.meta.clone();
            self.outbox.push_back(Output::WriteChunk { meta, offset, data });
            return;
        }
        self.continue_staging();
    }

    /// Answer to [`Output::WriteChunk`]: all bytes before `end` are there. Fewer than were to be
    /// written: they are asked for again.
    pub fn chunk_written(&mut self, now: Instant, meta: &SnapshotMeta, end: u64) {
        let _ = now;
        self.changed = true;
        let Some(staging) = &mut self.staging else { return };
        if !staging.meta.is_same(meta) || !staging.writing {
            return;
        }
        staging.writing = false;
        staging.next = end.min(meta.bytes);
        self.continue_staging();
    }

    /// Says from where to go on; installs what is complete.
    fn continue_staging(&mut self) {
        let Some(staging) = &mut self.staging else { return };
        let (to, session) = staging.from;
        let (snapshot, next) = ((staging.meta.id, staging.meta.hash), staging.next);
        if next == staging.meta.bytes && !staging.installing {
            if snapshot.0.index <= self.commit {
                self.staging = None;
                self.acknowledge = Some((to, session, self.commit));
                return;
            }
            staging.installing = true;
            let meta = staging.meta.clone();
            self.outbox.push_back(Output::InstallSnapshot(meta));
            if planted(Plant::SnapshotAckEarly) {
                let result = crate::AppendResult::Matched(snapshot.0.index);
                self.send(to, Body::AppendReply { session, result });
            }
        }
        if self.leader == Some(to) {
            let snapshot = Box::new(snapshot);
            self.send(to, Body::SnapshotReply { session, snapshot, next });
        }
    }

    /// Answer to [`Output::InstallSnapshot`]. `ok`: its hash was right and it is now, durably, the
    /// state of the state machine. Otherwise it is fetched again from the beginning.
    pub fn snapshot_installed(&mut self, now: Instant, meta: &SnapshotMeta, ok: bool) {
        let _ = now;
        self.changed = true;
        if !self.is_installing() {
            return;
        }
        let Some(staging) = self.staging.take_if(|staging| staging.meta.is_same(meta)) else {
            return;
        };
        let (to, session) = staging.from;
        if !ok {
            if self.leader == Some(to) {
                let snapshot = Box::new((meta.id, meta.hash));
                self.send(to, Body::SnapshotReply { session, snapshot, next: 0 });
            }
            return;
        }
        self.install(Base {
            id: meta.id,
            membership: staging.meta.membership,
            membership_id: staging.meta.membership_id,
        });
        if self.leader == Some(to) {
            self.verified = self.verified.max(meta.id.index);
            self.acknowledge = Some((to, session, meta.id.index));
        }
    }

    fn install(&mut self, base: Base) {
        let me = self.config.me;
        let index = base.id.index;
        let was_member = self.log.membership_at(self.commit).1.contains(me);
        self.removed |= was_member && !base.membership.contains(me);
        if self.log.install(base) {
            self.durability.superseded(index);
        } else {
            self.durability.replaced(index, self.commit);
            self.verified = Index(0);
        }
        self.commit = self.commit.max(index);
        self.handed_out = self.handed_out.max(index);
        self.applied = self.applied.max(index);
        self.commit_cost = self.log.cost_at(self.commit);
        self.applied_cost = self.log.cost_at(self.applied);
    }
}
