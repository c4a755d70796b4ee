//! The kinds of faults, by name.

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// Messages take up to a third of a second.
    Delays,
    /// Up to a third of the messages is lost.
    Losses,
    /// Up to half of the messages arrive twice.
    Duplicates,
    /// Messages overtake each other, by far.
    Reordering,
    /// Messages arrive with other bytes, or cut.
    Corruption,
    /// One node is alone.
    Isolation,
    /// A minority and a majority cannot talk.
    Split,
    /// Two sides cannot talk but through one node.
    Bridge,
    /// Each node talks to its two neighbours on a ring only.
    Ring,
    /// Nothing passes between two nodes in one direction.
    OneWay,
    /// A node and its clients do not hear each other; the nodes do.
    ClientsCut,
    /// Some nodes' messages are held up, one node after the other, and let go in another order.
    SwizzleClog,
    /// The power of a node fails: everything unsynced is lost.
    PowerLoss,
    /// The power fails, and any part of what was not synced survives.
    PartialPowerLoss,
    /// The power fails in the middle of a write.
    TornWrite,
    /// The power of all nodes fails at once.
    Blackout,
    /// A process is killed; its disk knows nothing of it.
    Kill,
    /// A process crashes a few times, each time soon after it has started.
    RestartLoop,
    /// A process stands still.
    Pause,
    /// A wall clock jumps, by up to an hour.
    WallClockJump,
    /// A node's clocks run fast or slow.
    ClockDrift,
    /// A bit of the log flips.
    FlipInLog,
    /// A bit of a vote or a term in the log flips.
    FlipInHardState,
    /// A bit of a snapshot flips.
    FlipInSnapshot,
    /// The disk is full.
    DiskFull,
    /// A write fails.
    WriteError,
    /// A read fails.
    ReadError,
    /// A sync fails.
    SyncFailure,
    /// A sync takes seconds.
    DiskStall,
    /// A node's directory is emptied.
    WipedDirectory,
    /// Two nodes find each other's disks.
    SwappedDisks,
    /// A replica is added: as a learner first.
    ReplicaAdded,
    /// A replica is removed, and comes back later.
    ReplicaRemoved,
    /// A replica is removed and another node gets one.
    ReplicaReplaced,
    /// Leadership is handed over.
    LeadershipTransfer,
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
    /// All kinds.
    pub const ALL: [Self; 35] = [
        Delays,
        Losses,
        Duplicates,
        Reordering,
        Corruption,
        Isolation,
        Split,
        Bridge,
        Ring,
        OneWay,
        ClientsCut,
        SwizzleClog,
        PowerLoss,
        PartialPowerLoss,
        TornWrite,
        Blackout,
        Kill,
        RestartLoop,
        Pause,
        WallClockJump,
        ClockDrift,
        FlipInLog,
        FlipInHardState,
        FlipInSnapshot,
        DiskFull,
        WriteError,
        ReadError,
        SyncFailure,
        DiskStall,
        WipedDirectory,
        SwappedDisks,
        ReplicaAdded,
        ReplicaRemoved,
        ReplicaReplaced,
        LeadershipTransfer,
    ];

    /// Its place in [`FaultKind::ALL`].
    pub fn number(self) -> usize {
        self as usize
    }

    /// What the summary calls it.
    pub fn name(self) -> &'static str {
        match self {
            Delays => "delays",
            Losses => "losses",
            Duplicates => "duplicates",
            Reordering => "reordering",
            Corruption => "corrupt frames",
            Isolation => "isolated node",
            Split => "majority and minority",
            Bridge => "bridge",
            Ring => "ring",
            OneWay => "one-way cut",
            ClientsCut => "clients cut off",
            SwizzleClog => "swizzle-clog",
            PowerLoss => "power loss",
            PartialPowerLoss => "power loss, any subset survives",
            TornWrite => "torn write",
            Blackout => "power loss of all nodes",
            Kill => "kill",
            RestartLoop => "restart loop",
            Pause => "pause",
            WallClockJump => "wall clock jump",
            ClockDrift => "clock drift",
            FlipInLog => "bit flip in the log",
            FlipInHardState => "bit flip in hard state",
            FlipInSnapshot => "bit flip in a snapshot",
            DiskFull => "disk full",
            WriteError => "write error",
            ReadError => "read error",
            SyncFailure => "failed sync",
            DiskStall => "disk stall",
            WipedDirectory => "wiped directory",
            SwappedDisks => "swapped disks",
            ReplicaAdded => "replica added",
            ReplicaRemoved => "replica removed",
            ReplicaReplaced => "replica replaced",
            LeadershipTransfer => "leadership transfer",
        }
    }

    /// What it hits.
    pub fn area(self) -> Area {
        match self {
            Delays | Losses | Duplicates | Reordering | Corruption | Isolation | Split | Bridge
            | Ring | OneWay | ClientsCut | SwizzleClog => Area::Network,
            PowerLoss | PartialPowerLoss | TornWrite | Blackout | Kill | RestartLoop | Pause => {
                Area::Process
            }
            WallClockJump | ClockDrift => Area::Clock,
            FlipInLog | FlipInHardState | FlipInSnapshot | DiskFull | WriteError | ReadError
            | SyncFailure | DiskStall | WipedDirectory | SwappedDisks => Area::Disk,
            ReplicaAdded | ReplicaRemoved | ReplicaReplaced | LeadershipTransfer => {
                Area::Membership
            }
        }
    }

    /// Whether nodes are cut off from each other.
    pub fn is_partition(self) -> bool {
        matches!(self, Isolation | Split | Bridge | Ring | OneWay | ClientsCut)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_of_the_numbers() {
        for (at, kind) in FaultKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.number(), at, "{kind:?}");
        }
    }
}
