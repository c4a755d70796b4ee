//! Why a node could not start, or had to end.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use kontiki_kv::MachineError;
use kontiki_net::SecurityError;
use kontiki_raft::RestartError;
use kontiki_storage::directory::DirectoryError;
use kontiki_storage::engine::EngineError;
use kontiki_storage::log::{LogError, OpenError};
use kontiki_types::{GroupId, NodeId};
use thiserror::Error;

/// Why a node could not start, or had to end.
#[derive(Debug, Error)]
pub enum StartError {
    /// The settings do not allow it.
    #[error("{0}")]
    Settings(String),
    /// A port is taken or cannot be used.
    #[error(
        "cannot listen on {address}: {source}\nhint: another process may have the port; give another one"
    )]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The operating system refused something small.
    #[error("the operating system refused: {0}")]
    Listener(#[source] io::Error),
    /// The directory is empty, and the node was not told how to come by a cluster.
    #[error(
        "the directory {} is not formatted: it belongs to no cluster\n\
         hint: --bootstrap with --peer for each other founder begins a cluster, --join HOST:PORT \
         joins one; a node that was a member before is not taken back as the same, since it may \
         have voted: start it with --join, then `kontiki cluster readmit --node N`",
        .0.display()
    )]
    NotFormatted(PathBuf),
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The log cannot be written.
    #[error(transparent)]
    LogWrite(#[from] LogError),
    /// The log is gone: what this node has promised is forgotten, so it must not begin anew.
    #[error(
        "the log in {} is missing, and with it what this node has voted for and stored\n\
         hint: empty its directory, start it with --join HOST:PORT, and run `kontiki cluster \
         readmit --node N`",
        .0.display()
    )]
    LogMissing(PathBuf),
    /// The state of a group is not that of its leader.
    #[error(
        "the state of group {group} cannot be trusted: {reason}\n\
         hint: its replica here does not serve any more; the node's other groups do when it is \
         started again. Look at the other nodes: if they say nothing, this one is wrong: empty its \
         directory, start it with --join HOST:PORT, and run `kontiki cluster readmit --node N`"
    )]
    Differs {
        /// The group.
        group: GroupId,
        /// What was compared.
        reason: String,
    },
    /// Snapshot files cannot be used.
    #[error(transparent)]
    Snapshot(#[from] kontiki_storage::snapshot::SnapshotError),
    /// The stored state of a group cannot be read back.
    #[error(
        "the stored state of group {group} is damaged: {reason}\n\
         hint: start the node again: it discards that state, and makes it anew from its log or from \
         a peer. If the disk fails again, replace it"
    )]
    Damaged {
        /// The group.
        group: GroupId,
        /// What was read, and where.
        reason: String,
    },
    /// The state engine cannot be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A state machine cannot be opened.
    #[error("cannot open the state: {0}")]
    Machine(#[from] MachineError),
    /// What the log proves contradicts itself.
    #[error("the replica of group {group} cannot start: {source}")]
    Replica {
        /// The group.
        group: GroupId,
        /// Why.
        source: RestartError,
    },
    /// TLS material that cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The other founders, or the cluster to join, refuse this node.
    #[error("{0}")]
    Refused(String),
    /// The node was removed from the cluster.
    #[error(
        "node {0} was removed from the cluster (kontiki cluster remove-node)\n\
         hint: to have this machine in the cluster again, start it with an empty directory and --join"
    )]
    Dismissed(NodeId),
    /// The node ran and had to end.
    #[error("the node had to end: {0}")]
    Failed(String),
}
