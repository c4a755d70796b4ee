//! Bugs that can be planted on purpose, so that the simulator's checkers are checked.
//!
//! Each is a mistake that this field has really made. Where it belongs, product code asks
//! [`planted`]: a constant `false`, and so no code at all, unless the feature `plants` is on. With
//! the feature, at most one bug at a time is planted in the whole process, by `plant`.
//!
//! The simulator's README says which checker finds each, and within how many seeds.

macro_rules! plants {
    ($($variant:ident $name:literal $about:literal;)+) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Plant {
            $(#[doc = $about] $variant,)+
        }

        impl Plant {
            /// All of them, in the order of the simulator's README.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name on command lines and in tables.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What is wrong while it is planted.
            pub const fn about(self) -> &'static str {
                match self {
                    $(Self::$variant => $about,)+
                }
            }
        }
    };
}

plants! {
    VoteBeforeSync "vote-before-sync"
        "A granted vote is answered before it is on stable storage.";
    AckBeforeSync "ack-before-sync"
        "A follower acknowledges entries that it holds in memory only.";
    LeaderCountsUnsynced "leader-counts-unsynced"
        "A leader counts its own copy towards the majority before its disk has it.";
    CompletionsOutOfOrder "completions-out-of-order"
        "The completion of one write is taken for that of every write under way.";
    CommitOlderTerm "commit-older-term"
        "An entry of an older term is committed by counting copies (Figure 8).";
    CommitBeyondVerified "commit-beyond-verified"
        "A follower takes the leader's commit index also for entries that the leader never sent.";
    TimerResetByAnything "timer-reset-by-anything"
        "Any message whatever resets the election timer.";
    TruncateAlways "truncate-always"
        "An append truncates what follows it, though nothing conflicts.";
    EmptyAppendMerged "empty-append-merged"
        "Entries are put into an append that was made empty, behind an entry they do not follow.";
    LostAppendForgotten "lost-append-forgotten"
        "An append that was lost on the way is not sent again.";
    StaleReplyCounts "stale-reply-counts"
        "An answer from an older term is still sent, and counts in the present one.";
    VoteForShorterLog "vote-for-shorter-log"
        "Whose log is newer is judged by its length alone, not by the last term.";
    WrongMemberVotes "wiped-member-votes"
        "A node whose directory was emptied takes messages for its former self, and votes.";
    LearnerCounts "learner-counts"
        "Acknowledgements of learners count towards commitment.";
    OldMajorityOnly "old-majority-only"
        "In a joint configuration the majority of the outgoing voters is enough to commit.";
    ConfigurationStays "configuration-stays"
        "A truncated configuration stays in effect.";
    OldSessionCounts "old-session-counts"
        "A member that was removed and added again under its old id is credited with old answers.";
    ReadWithoutQuorum "read-without-quorum"
        "A leader answers reads without asking whether it still leads.";
    ReadBeforeNoop "read-before-noop"
        "A new leader answers reads before an entry of its own term is committed.";
    ReadBeforeApply "read-before-apply"
        "A read is served before its read index is applied.";
    LeaseForgottenAtStart "lease-forgotten-at-start"
        "A replica votes at once after a start: its promise to the leader is forgotten.";
    LeaseBrokenByVote "lease-broken-by-vote"
        "A vote that follows a granted pre-vote is given though the leader was heard meanwhile.";
    LeaseKeptInTransfer "lease-kept-in-transfer"
        "A leader keeps its lease when it asks another to campaign.";
    LeaseFromNewerTerm "lease-from-newer-term"
        "A heartbeat is answered on the node's behalf, in whatever term the replica may be.";
    LeaseFromAnswer "lease-from-answer"
        "A lease is counted from when the answer came, not from when the heartbeat was sent.";
    LeaseClockStops "lease-clock-stops"
        "The clock does not run while the process stands still, and the lease with it.";
    QuietLeaderReads "quiet-leader-reads"
        "A leader that has rested answers reads as if nobody could have been elected meanwhile.";
    ApplyBeforeDurable "apply-before-durable"
        "Entries are applied before the log that holds them is durable here.";
    LogPurgedTooFar "log-purged-too-far"
        "The log is compacted up to what is applied, durable in the state engine or not.";
    SnapshotApart "snapshot-apart-from-log"
        "A crash between installing a snapshot and writing the log's new start is not repaired.";
    SnapshotAckEarly "snapshot-ack-early"
        "A snapshot is acknowledged when its bytes are there, before it is installed.";
    SnapshotWithoutRecords "snapshot-without-records"
        "Snapshots leave out the completion records.";
    TailTrusted "tail-trusted"
        "A start trusts frames that may only be in the page cache, without writing them again.";
    TailForgotten "tail-forgotten"
        "Damage in the log is healed by dropping everything after it, acknowledged or not.";
    VoteLostByRecycling "vote-lost-by-recycling"
        "A segment that still holds a group's term and vote counts as free.";
    SyncErrorIgnored "sync-error-ignored"
        "A failed sync is taken for a success.";
    ClientIdsReused "client-ids-reused"
        "The boot counter is not made durable: after a restart client ids come again.";
    RecordFreedEarly "record-freed-early"
        "The low mark frees the record of the write at the mark, too.";
    RecordsBySeqAlone "records-by-seq-alone"
        "Completion records are found by sequence number and node, whichever client it was.";
    PairReordered "pair-reordered"
        "A pipelined write does not wait for the one before it that has to be sent again.";
    WaiterByIndexAlone "waiter-by-index-alone"
        "Whoever waits for an index is answered when it is applied, whichever entry it holds.";
    UnknownCalledRefused "unknown-called-refused"
        "A write that ran out of time is reported as not written.";
    OneClockBelieved "one-clock-believed"
        "Log time follows the leader's own wall clock.";
    ExpiryByLocalClock "expiry-by-local-clock"
        "A read judges expiry by the wall clock of the node, not by log time.";
    WatchIgnored "watch-ignored"
        "EXEC takes effect though a watched key has changed.";
    ToldBeforeDurable "told-before-durable"
        "A MapReduce coordinator tells workers what is not in its journal yet.";
    GrantForgotten "grant-forgotten"
        "A MapReduce coordinator that was started again does not know whom it had granted what.";
    WorkerLeaseIgnored "worker-lease-ignored"
        "A worker counts as dead, and its grant as free, when a heartbeat is late, not when its lease ends.";
    RecordsLeftBehind "records-left-behind"
        "Completion records stay behind when a slot moves (PROTOCOL 1).";
    TagsForgotten "stale-activate"
        "A group does not ask whether it has heard of a later move of the slot (PROTOCOL 9).";
    DeleterWithoutIncarnation "deleter-without-incarnation"
        "The deletion of a slot's rows does not ask of which incarnation they are (PROTOCOL 9).";
    CommitOfOldAttempt "commit-of-old-attempt"
        "A commit counts for the move, whichever attempt it names (PROTOCOL 10).";
    UnfreezeByTimer "unfreeze-by-timer"
        "A source that has waited for long serves its slots again by itself (PROTOCOL 10).";
    DeltaInMemory "delta-in-memory"
        "Which keys have changed is known to the source's leader only (PROTOCOL 11).";
    ChunksOutOfOrder "chunks-out-of-order"
        "Chunks are taken in whatever order they come, from whichever leader (PROTOCOL 11).";
    OwnershipByReply "ownership-by-reply"
        "The target serves when everything has arrived, without the controller's commit.";
    CheckAtProposeOnly "check-at-propose-only"
        "Whether the slot is frozen is asked when a write is proposed, not when it is applied.";
    DroppedBeforeCommit "dropped-before-commit"
        "The source lets go when the target has everything, before the commit.";
    DeposedControllerBelieved "stale-controller"
        "A commit that was sent to a leader of the controller counts, though that one was deposed.";
}

impl Plant {
    /// Whether it is one of the handoff of slots, which only a sharded store can show.
    pub const fn is_of_handoff(self) -> bool {
        matches!(
            self,
            Self::RecordsLeftBehind
                | Self::TagsForgotten
                | Self::DeleterWithoutIncarnation
                | Self::CommitOfOldAttempt
                | Self::UnfreezeByTimer
                | Self::DeltaInMemory
                | Self::ChunksOutOfOrder
                | Self::OwnershipByReply
                | Self::CheckAtProposeOnly
                | Self::DroppedBeforeCommit
                | Self::DeposedControllerBelieved
        )
    }

    /// The bug with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|plant| plant.name() == name)
    }
}

impl core::fmt::Display for Plant {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

/// Whether this bug is planted. Never, without the feature `plants`.
#[cfg(not(feature = "plants"))]
#[inline(always)]
pub const fn planted(_: Plant) -> bool {
    false
}

#[cfg(feature = "plants")]
pub use on::{plant, planted};

#[cfg(feature = "plants")]
mod on {
    use core::sync::atomic::{AtomicU8, Ordering};

    use super::Plant;

    const NONE: u8 = u8::MAX;

    static PLANTED: AtomicU8 = AtomicU8::new(NONE);

    /// Whether this bug is planted.
    #[inline]
    pub fn planted(plant: Plant) -> bool {
        PLANTED.load(Ordering::Relaxed) == plant as u8
    }

    /// Plants a bug in this process, in place of the one before; `None` for none.
    pub fn plant(bug: Option<Plant>) {
        PLANTED.store(bug.map_or(NONE, |bug| bug as u8), Ordering::Relaxed);
    }
}
