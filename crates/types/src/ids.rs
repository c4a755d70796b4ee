//! Ids and positions, one newtype each, so that no function takes two bare numbers.

use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number itself.
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The following number. Saturates at the largest.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The preceding number. Saturates at 0.
            #[must_use]
            pub const fn prev(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl From<$inner> for $name {
            fn from(number: $inner) -> Self {
                Self(number)
            }
        }
    };
}

number! {
    /// A Raft term (Raft paper, §5.1). 0 before the first election.
    Term(u64), "t"
}
number! {
    /// A position in a Raft log. The first entry has index 1; 0 is "before the log".
    Index(u64), "i"
}
number! {
    /// A node of the cluster: one process with one directory. From 1.
    NodeId(u64), "n"
}
number! {
    /// A Raft group. Data groups count from 1; group 0 is the shard controller.
    GroupId(u32), "g"
}
number! {
    /// The version of the slot map (not a Raft term).
    Epoch(u64), "e"
}
number! {
    /// A sequence number of a client's writes, from 1.
    Seq(u64), "s"
}
number! {
    /// Random number that a directory gets when it is formatted. A node that lost its directory
    /// comes back with another one, and so cannot be taken for the old member.
    Incarnation(u64), "x"
}
number! {
    /// A replica of a group on a node. A replica that is removed and added again gets another id,
    /// a higher one, so that nothing said to or by the first counts for the second.
    ReplicaId(u64), "r"
}

/// Position and term of a log entry; identifies its content (Log Matching, Raft paper §5.3).
///
/// Ordered by term, then index: the order of "at least as up-to-date" (§5.4.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogId {
    /// Term in which a leader created the entry.
    pub term: Term,
    /// Position in the log.
    pub index: Index,
}

impl LogId {
    /// The position before the first entry.
    pub const ZERO: Self = Self { term: Term(0), index: Index(0) };

    /// The entry at `index` created in `term`.
    pub const fn new(term: Term, index: Index) -> Self {
        Self { term, index }
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index.0, self.term.0)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One member of a Raft group. All three parts must match for a message or a vote to count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// The node that hosts the replica.
    pub node: NodeId,
    /// The directory of that node.
    pub incarnation: Incarnation,
    /// The replica in that directory.
    pub replica: ReplicaId,
}

impl Member {
    /// A member from its three parts.
    pub const fn new(node: NodeId, incarnation: Incarnation, replica: ReplicaId) -> Self {
        Self { node, incarnation, replica }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}.{}", self.node.0, self.replica.0)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A client of the exactly-once protocol. Never reused: a restarted node has another boot counter,
/// a re-formatted one another incarnation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClientId {
    /// The directory of the node (or a random number of a native client) that gave out the id.
    pub incarnation: Incarnation,
    /// How often that node had started, synced before it served.
    pub boot: u32,
    /// The connection within that boot.
    pub connection: u64,
}

impl ClientId {
    /// Size of [`ClientId::to_bytes`].
    pub const BYTES: usize = 20;

    /// Big-endian bytes, in the order of the ids.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.incarnation.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.boot.to_be_bytes());
        bytes[12..].copy_from_slice(&self.connection.to_be_bytes());
        bytes
    }

    /// The id that [`ClientId::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (mut high, mut boot, mut low) = ([0; 8], [0; 4], [0; 8]);
        high.copy_from_slice(&bytes[..8]);
        boot.copy_from_slice(&bytes[8..12]);
        low.copy_from_slice(&bytes[12..]);
        Self {
            incarnation: Incarnation(u64::from_be_bytes(high)),
            boot: u32::from_be_bytes(boot),
            connection: u64::from_be_bytes(low),
        }
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{:x}.{}.{}", self.incarnation.0, self.boot, self.connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_ids_order_by_term_before_index() {
        let old_but_long = LogId::new(Term(1), Index(9));
        let new_but_short = LogId::new(Term(2), Index(3));
        assert!(new_but_short > old_but_long);
    }

    #[test]
    fn client_ids_survive_their_bytes() {
        let id = ClientId { incarnation: Incarnation(u64::MAX - 1), boot: 7, connection: 1 << 40 };
        assert_eq!(ClientId::from_bytes(&id.to_bytes()), id);
    }
}
