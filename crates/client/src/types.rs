//! What calls take and return.

use std::fmt;

use bytes::Bytes;
use kontiki_net::proto;

/// The version of a key. Grows with every write to the key, also when it was deleted in between:
/// fit as a fencing token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Version(pub u64);

impl Version {
    /// "The key must not exist."
    pub const ABSENT: Self = Self(0);
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A value and the version at which it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Versioned {
    /// The value.
    pub value: Bytes,
    /// Its version.
    pub version: Version,
}

/// One operation of a batch or a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Reads a key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Sets a key whatever it holds.
    Set {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Sets a key, which is gone from a log time on.
    SetUntil {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// In milliseconds since the Unix epoch, from 1. What is past removes the key.
        expires_at_ms: u64,
    },
    /// Appends to a key; an absent one counts as empty.
    Append {
        /// The key.
        key: Bytes,
        /// What to append.
        value: Bytes,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: Bytes,
    },
}

fn copied(bytes: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(bytes.as_ref())
}

impl Op {
    /// Reads a key.
    pub fn get(key: impl AsRef<[u8]>) -> Self {
        Self::Get { key: copied(key) }
    }

    /// Sets a key whatever it holds.
    pub fn set(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Self::Set { key: copied(key), value: copied(value) }
    }

    /// Appends to a key.
    pub fn append(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Self::Append { key: copied(key), value: copied(value) }
    }

    /// Removes a key.
    pub fn delete(key: impl AsRef<[u8]>) -> Self {
        Self::Delete { key: copied(key) }
    }

    pub(crate) fn key(&self) -> &Bytes {
        match self {
            Self::Get { key }
            | Self::Delete { key }
            | Self::Set { key, .. }
            | Self::SetUntil { key, .. }
            | Self::Append { key, .. } => key,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Get { key } | Self::Delete { key } => key.len(),
            Self::Set { key, value }
            | Self::SetUntil { key, value, .. }
            | Self::Append { key, value } => key.len() + value.len(),
        }
    }
}

impl From<Op> for proto::Op {
    fn from(op: Op) -> Self {
        use proto::op::Op as Wire;
        Self {
            op: Some(match op {
                Op::Get { key } => Wire::Get(proto::GetOp { key }),
                Op::Set { key, value } => Wire::Set(proto::SetOp { key, value, expires_at_ms: 0 }),
                Op::SetUntil { key, value, expires_at_ms } => {
                    Wire::Set(proto::SetOp { key, value, expires_at_ms: expires_at_ms.max(1) })
                }
                Op::Append { key, value } => Wire::Append(proto::AppendOp { key, value }),
                Op::Delete { key } => Wire::Delete(proto::DeleteOp { key }),
            }),
        }
    }
}

/// The answer to one [`Op`], of the same kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpResult {
    /// What the key held.
    Get(Option<Versioned>),
    /// The new version.
    Set(Version),
    /// The length of the value after it, in bytes, and the new version.
    Append {
        /// In bytes.
        length: u64,
        /// The new version.
        version: Version,
    },
    /// Whether the key was there.
    Delete {
        /// Whether the key was there.
        found: bool,
    },
}

impl OpResult {
    pub(crate) fn of(op: &proto::Op, result: proto::OpResult) -> Self {
        use proto::op::Op as Wire;
        let proto::OpResult { found, value, version, length } = result;
        let version = Version(version);
        match op.op {
            Some(Wire::Set(_)) => Self::Set(version),
            Some(Wire::Append(_)) => Self::Append { length, version },
            Some(Wire::Delete(_)) => Self::Delete { found },
            Some(Wire::Get(_)) | None => Self::Get(found.then_some(Versioned { value, version })),
        }
    }
}

/// A condition of a transaction: the key has this version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compare {
    /// The key.
    pub key: Bytes,
    /// The version that it must have; [`Version::ABSENT`]: it must not exist.
    pub version: Version,
}

impl Compare {
    /// The key has this version.
    pub fn version(key: impl AsRef<[u8]>, version: Version) -> Self {
        Self { key: copied(key), version }
    }

    /// The key does not exist.
    pub fn absent(key: impl AsRef<[u8]>) -> Self {
        Self::version(key, Version::ABSENT)
    }
}

/// What one node says of itself and of the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// The cluster.
    pub cluster_id: u64,
    /// The node that answered.
    pub node: u64,
    /// Its software version.
    pub version: String,
    /// The node that leads, as far as that node knows.
    pub leader: Option<u64>,
    /// The nodes with their gRPC addresses.
    pub endpoints: Vec<(u64, String)>,
}
