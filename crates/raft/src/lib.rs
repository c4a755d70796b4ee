//! Raft consensus that does no I/O of its own, for anyone to embed.
//!
//! A replica ([`Raft`]) is a value with methods. The driver tells it what has happened (a message
//! arrived, time passed, a write is durable) and then drains what there is to do ([`Raft::poll`]).
//! The core reads no clock, starts no thread, opens no socket or file, and its only randomness comes
//! from a seed: the same calls give the same outputs. `no_std` with `alloc`.
//!
//! # The duties of the caller, in order
//!
//! 1. Recover what stable storage proves, as [`Recovered`], and start a replica with it
//!    ([`Raft::new`]). An initial configuration may be used once per replica id, ever; what was
//!    removed must leave a durable tombstone ([`Output::Removed`]) and never start again.
//! 2. Whenever something happens, call the method for it, with the time `now`: [`Raft::receive`],
//!    [`Raft::propose`], [`Raft::read`], [`Raft::persisted`], … Take everything that waits, messages
//!    first; then [`Raft::tick`], if [`Raft::next_deadline`] has passed. Time never goes back.
//! 3. Then drain [`Raft::poll`] until it gives `None`, and carry out the outputs in their order.
//!    Batching lies in that: whatever came in before one drain shares messages and writes.
//! 4. [`Output::Send`]: send it now. Messages may be lost, doubled and reordered at will.
//! 5. [`Output::Write`]: make it durable, in the order in which it came, by [`persist()`], on another
//!    thread if there is one, and give the receipt to [`Raft::persisted`]. One sync may serve many
//!    batches of many groups. If a write fails: [`Raft::persist_failed`], and end the process.
//! 6. [`Output::Apply`]: apply, in order, and report [`Raft::applied`]. The first entry after a start
//!    is the one after [`Recovered::applied`]. Entries that are no commands are to be counted, too.
//! 7. [`Output::ReadReady`]: serve the read from a state that has applied at least its index.
//! 8. Resolve proposals: the command is done when an entry with the id that [`Raft::propose`]
//!    returned is applied; another entry at that index means that it never will be. Until either is
//!    seen its outcome is unknown, also when this replica leads no more.
//! 9. Compact the log ([`Raft::compact`]) up to what the state machine has made durable, and answer
//!    the requests for snapshots; and with a bound on the log in memory
//!    ([`Config::log_cache_bytes`]) those for entries.
//!
//! 10. With [`Config::quiesce_after`], off by default: watch the nodes of the members and report
//!     [`Raft::peer_down`]. A group that rests notices nothing by itself.
//! 11. With [`Config::commits_can_wait`], off by default: tell the leader for whom a proposal is that
//!     came from another node ([`Raft::commit_is_awaited`]), or that node waits for up to a heartbeat.
//!
//! There is no duty about what to send before or after what is durable: what asserts durable
//! state does not come out before its receipt is in, and receipts come from [`persist()`] only.
//!
//! # Vocabulary
//!
//! *Committed*: a majority has it on disk, it can never be lost. *Durable*: it is on this replica's
//! disk. *Applied*: the state machine has it. *Verified*: known to match the leader's log, perhaps
//! not durable. A *member* is (node, directory, replica); all three must match for anything it says
//! to count, so a node with an emptied directory, or a replica removed and added again, is somebody
//! else. A *session* is the stretch for which a leader replicates to a member.
//!
//! # Invariants
//!
//! - One leader per term; a leader only appends; the same index and term means the same log up to
//!   there; a committed entry is in every later leader's log; nobody applies another entry at the
//!   same index (Figure 3 of the paper).
//! - Term and commit index never decrease; nothing at or below the commit index is truncated.
//! - `applied <= handed out <= min(commit, durable)`.
//! - A leader's match index of a member never decreases within a session, and only what is durable
//!   there raises it.
//! - One configuration at most is not committed. It is in effect all the same.
//! - No message, however wrong, makes the core panic; no length in it reserves memory.
//! - Every queue has a bound in [`Config`]; beyond it a call is refused and gives back what it got.
//!
//! # How it maps to the literature
//!
//! Paper: Ongaro and Ousterhout, *In Search of an Understandable Consensus Algorithm* (extended
//! version); thesis: Ongaro, *Consensus: Bridging Theory and Practice*.
//!
//! | what | where | module |
//! |---|---|---|
//! | elections, votes, terms | paper §5.1, §5.2, §5.4.1 | `election` |
//! | pre-vote; check-quorum; loyalty to a leader | thesis §9.6; §6.2; paper §6 | `election`, `leader` |
//! | replication, conflicts, hints | paper §5.3 | `replication`, `follower` |
//! | commitment; the leader's disk in parallel | paper §5.4.2; thesis §10.2.1 | `replication`, `durability` |
//! | read index, leases | thesis §6.4 | `read` |
//! | joint consensus, learners, removal | paper §6; thesis §4 | `change` |
//! | leadership transfer | thesis §3.10 | `transfer` |
//! | groups that rest while they are idle | not in either | `quiesce` |
//! | compaction, snapshots | paper §7 | `log`, `snapshot` |
//!
//! # What is different, and what that costs
//!
//! - Messages, not calls: a heartbeat is a message of its own, never waits for a disk and carries a
//!   round number that confirms reads and leases. A commit that nothing else would carry is announced
//!   at once. Six messages for a lone command in a group of three.
//! - The first entry of a group is its initial configuration.
//! - A rejection carries the follower's last entry that can match, so that repair takes a round trip
//!   per conflicting term. What got lost is found by the next append or heartbeat, not by a timer.
//! - A change of voters always goes through a joint configuration, even for one voter: two entries,
//!   and one rule less.
//! - The whole log after its base is kept in memory, and entries are shared, never copied. Compaction
//!   bounds it.
//! - After a start, and within the election timeout of hearing a leader, nobody votes. The price is
//!   one election timeout when all replicas start at once.
//!
//! Missing on purpose: clocks, transports, storage, clients and their sessions (exactly-once belongs
//! to the state machine), witnesses, and many groups in one value: a driver has one [`Raft`] per
//! group and merges their writes in one [`persist()`].
#![no_std]

extern crate alloc;

mod change;
mod config;
mod durability;
mod election;
mod entry;
mod error;
mod follower;
mod leader;
mod log;
mod membership;
mod message;
mod output;
mod payload;
mod persist;
mod progress;
mod proposal;
mod quiesce;
mod raft;
mod read;
mod recovery;
mod replication;
mod rng;
mod snapshot;
mod status;
mod transfer;
pub mod wire;

pub use config::{Config, Lease};
pub use entry::{Entries, Entry, EntryData};
pub use error::{ChangeError, Reason, Refused, RestartError, TransferError};
pub use membership::{MEMBERS_MAX, Membership};
pub use message::{AppendResult, Body, Message, Session};
pub use output::{Output, Role};
pub use payload::Payload;
pub use persist::{
    Base, HardState, Receipt, Recovered, StableStorage, Stored, StoredRun, WriteBatch, persist,
};
pub use raft::Raft;
pub use snapshot::SnapshotMeta;
pub use status::{PeerState, PeerStatus, Status};
