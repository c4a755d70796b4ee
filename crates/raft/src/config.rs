//! Timing and limits of one replica.

use core::time::Duration;

use kontiki_types::Member;

/// Leader-lease reads (thesis §6.4.1). A lease lasts the election timeout divided by the drift
/// bound, counted from when the heartbeat that a majority confirmed was *sent*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// By how much two clocks of the group may run apart, in parts per million. The clock behind
    /// [`Instant`](kontiki_types::Instant) must run through a suspend (`CLOCK_BOOTTIME`).
    pub drift_ppm: u32,
}

/// Timing and limits of one replica. All replicas of a group should have the same timing.
///
/// Pre-vote (thesis §9.6) and check-quorum (§6.2) are always on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This replica.
    pub me: Member,
    /// A follower that hears no leader for this long to twice as long (drawn anew each time) starts
    /// a pre-vote. Within this time of hearing a leader a replica grants no vote. Default 150 ms.
    pub election_timeout: Duration,
    /// How often a leader sends heartbeats, unless all have answered appends within half of this and
    /// lack nothing. At most a third of `election_timeout`. Default 30 ms.
    pub heartbeat: Duration,
    /// Most bytes of entries in one append message; a larger single entry goes alone.
    /// Default 1 MiB.
    pub max_append_bytes: usize,
    /// Most bytes sent to one follower and not acknowledged. Default 16 MiB.
    pub max_inflight_bytes: usize,
    /// Most append messages sent to one follower and not acknowledged. Default 256.
    pub max_inflight_appends: usize,
    /// Proposals are refused when this many bytes are appended and not committed. Default 64 MiB.
    pub max_uncommitted_bytes: usize,
    /// A follower refuses appends, and a leader proposals, while more bytes than this are committed
    /// and not applied. Default 128 MiB.
    pub max_unapplied_bytes: usize,
    /// Reads that may wait at once, in front of and behind a confirmation round. Default 65,536.
    pub max_waiting_reads: usize,
    /// A leader whose oldest write has no receipt after this time steps down. Default 1 s.
    pub write_deadline: Duration,
    /// Bytes of a snapshot in one message. Default 1 MiB.
    pub snapshot_chunk_bytes: usize,
    /// Bytes of the log that stay in memory; of older entries that are durable and applied only the
    /// terms do, and a follower that needs them is served by
    /// [`Output::ReadEntries`](crate::Output::ReadEntries). Default `None`: all of the log stays in
    /// memory, and nothing is ever read.
    pub log_cache_bytes: Option<u64>,
    /// Serve reads under a leader lease instead of a confirmation round. Default off.
    pub lease: Option<Lease>,
    /// A group that has had nothing to do for this long rests: no timers, no heartbeats, until
    /// something happens. Its owner must then watch its nodes
    /// ([`Raft::peer_down`](crate::Raft::peer_down)). Default `None`: never.
    pub quiesce_after: Option<Duration>,
    /// Followers hear what is committed with the next append or heartbeat, and by a message of its own
    /// only what [`Raft::commit_is_awaited`](crate::Raft::commit_is_awaited) names: two messages less for
    /// each batch of entries. Default off: at once.
    pub commits_can_wait: bool,
    /// Leaders send heartbeats at multiples of `heartbeat` on their clock, so that those of many
    /// groups of a node leave together. Default off: `heartbeat` after the one before.
    pub align_heartbeats: bool,
}

impl Config {
    /// The defaults, for the replica `me`.
    pub const fn new(me: Member) -> Self {
        Self {
            me,
            election_timeout: Duration::from_millis(150),
            heartbeat: Duration::from_millis(30),
            max_append_bytes: 1 << 20,
            max_inflight_bytes: 16 << 20,
            max_inflight_appends: 256,
            max_uncommitted_bytes: 64 << 20,
            max_unapplied_bytes: 128 << 20,
            max_waiting_reads: 1 << 16,
            write_deadline: Duration::from_secs(1),
            snapshot_chunk_bytes: 1 << 20,
            log_cache_bytes: None,
            lease: None,
            quiesce_after: None,
            commits_can_wait: false,
            align_heartbeats: false,
        }
    }
}
