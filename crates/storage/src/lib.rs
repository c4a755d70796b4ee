//! The durable side of a Kontiki node: the log that all its groups share, the state engines,
//! snapshot files, and the directory's identity, on a real disk or a simulated one.
//!
//! - [`log`]: one chain of checksummed frames, one `fdatasync` per batch of all groups; the
//!   [`StableStorage`](kontiki_raft::StableStorage) of the Raft cores.
//! - [`engine`]: the applied state of each group; durable later than the log, which replays the
//!   difference.
//! - [`snapshot`]: a group's state at one index, as a file that is sent to whoever is behind.
//! - [`recovery`]: what a start makes of log, state and snapshots together.
//! - [`directory`]: whose directory it is, how often it was opened, which replicas are gone.
//! - [`verify`]: checking all of that offline.
//! - [`disk`]: what all of these ask of a disk.
//!
//! # What is durable, and in which order
//! - A batch of the log is durable when its write returns. A receipt exists only then.
//! - A state is durable up to its *persisted* position; the log is purged only up to there.
//! - A snapshot is installed, durably, before the log record that names it is written.
//!
//! Nothing here decides about terms, elections or commands.

pub mod directory;
pub mod disk;
pub mod engine;
pub mod log;
pub mod recovery;
mod smallfile;
pub mod snapshot;
pub mod verify;

/// A random number from the operating system.
///
/// # Errors
/// When the operating system has none to give.
pub fn random_u64() -> std::io::Result<u64> {
    getrandom::u64().map_err(|error| std::io::Error::other(error.to_string()))
}
