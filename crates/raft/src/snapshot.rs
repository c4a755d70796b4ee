//! Snapshots: the core agrees on which and from where; the driver moves the bytes.

use alloc::sync::Arc;

use kontiki_types::LogId;

use crate::Membership;

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
