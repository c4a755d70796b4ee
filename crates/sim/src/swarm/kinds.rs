//! The kinds of faults, by name.

macro_rules! kinds {
    ($($area:ident: $($(#[$about:meta])+ $kind:ident $name:literal,)+)+) => {
        /// What can go wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum FaultKind {
            $($($(#[$about])+ $kind,)+)+
        }

        impl FaultKind {
            /// All kinds.
            pub const ALL: [Self; [$($(stringify!($kind),)+)+].len()] = [$($(Self::$kind,)+)+];

            /// What the summary calls it.
            pub fn name(self) -> &'static str {
                match self {
                    $($(Self::$kind => $name,)+)+
                }
            }

            /// What it hits.
            pub fn area(self) -> Area {
                match self {
                    $($(Self::$kind => Area::$area,)+)+
                }
            }
        }
    };
}

kinds! {
    Network:
    /// Messages take up to a third of a second.
    Delays "delays",
    /// Up to a third of the messages is lost.
    Losses "losses",
    /// Up to half of the messages arrive twice.
    Duplicates "duplicates",
    /// Messages overtake each other, by far.
    Reordering "reordering",
    /// Messages arrive with other bytes, or cut.
    Corruption "corrupt frames",
    /// One node is alone.
    Isolation "isolated node",
    /// A minority and a majority cannot talk.
    Split "majority and minority",
    /// Two sides cannot talk but through one node.
    Bridge "bridge",
    /// Each node talks to its two neighbours on a ring only.
    Ring "ring",
    /// Nothing passes between two nodes in one direction.
    OneWay "one-way cut",
    /// A node hears no other node, or late.
    Deaf "deaf node",
    /// No other node hears a node, or late.
    Mute "mute node",
    /// A node and its clients do not hear each other; the nodes do.
    ClientsCut "clients cut off",
    /// Some nodes' messages are held up, one node after the other, and let go in another order.
    SwizzleClog "swizzle-clog",

    Process:
    /// The power of a node fails: everything unsynced is lost.
    PowerLoss "power loss",
    /// The power fails, and any part of what was not synced survives.
    PartialPowerLoss "power loss, any subset survives",
    /// The power fails in the middle of a write.
    TornWrite "torn write",
    /// The power of all nodes fails at once.
    Blackout "power loss of all nodes",
    /// A process is killed; its disk knows nothing of it.
    Kill "kill",
    /// A process crashes a few times, each time soon after it has started.
    RestartLoop "restart loop",
    /// A process stands still.
    Pause "pause",

    Clock:
    /// A wall clock jumps, by up to an hour.
    WallClockJump "wall clock jump",
    /// A node's clocks run fast or slow.
    ClockDrift "clock drift",

    Disk:
    /// A bit of the log flips.
    FlipInLog "bit flip in the log",
    /// A bit of a vote or a term in the log flips.
    FlipInHardState "bit flip in hard state",
    /// A bit of a snapshot flips.
    FlipInSnapshot "bit flip in a snapshot",
    /// The disk is full.
    DiskFull "disk full",
    /// A write fails.
    WriteError "write error",
    /// A read fails.
    ReadError "read error",
    /// A sync fails.
    SyncFailure "failed sync",
    /// A sync takes seconds.
    DiskStall "disk stall",
    /// A node's directory is emptied.
    WipedDirectory "wiped directory",
    /// Two nodes find each other's disks.
    SwappedDisks "swapped disks",

    Membership:
    /// A replica is added: as a learner first.
    ReplicaAdded "replica added",
    /// A replica is removed, and comes back later.
    ReplicaRemoved "replica removed",
    /// A replica is removed and another node gets one.
    ReplicaReplaced "replica replaced",
    /// Leadership is handed over.
    LeadershipTransfer "leadership transfer",
}

/// What a kind of fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Messages.
    Network,
    /// Processes.
    Process,
    /// Clocks.
    Clock,
    /// Disks.
    Disk,
    /// Who belongs to the group, and who leads.
    Membership,
}

use FaultKind::*;

impl FaultKind {
    /// Its place in [`FaultKind::ALL`].
    pub fn number(self) -> usize {
        self as usize
    }

    /// Whether nodes are cut off from each other.
    pub fn is_partition(self) -> bool {
        matches!(self, Isolation | Split | Bridge | Ring | OneWay | Deaf | Mute | ClientsCut)
    }

    /// Whether processes end by it.
    pub fn is_crash(self) -> bool {
        matches!(
            self,
            PowerLoss
                | PartialPowerLoss
                | TornWrite
                | Blackout
                | Kill
                | RestartLoop
                | WipedDirectory
        )
    }
}
