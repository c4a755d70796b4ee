//! What a Kontiki node decides between socket, cores and disk, as pure code.
//!
//! No I/O, clock, thread or ambient randomness: inputs and the time are passed in, effects come
//! out, and the driver around it (a node, or the simulator) carries them out. The parts:
//!
//! - [`Connection`]: a Redis client's connection, from parsed commands to requests and from answers
//!   to bytes, in order.
//! - [`Core`]: a node's side of its groups: proposals, forwarding and retry, reads, membership.
//! - [`Mover`]: what carries out moves of slots for the groups that a node leads.
//! - [`placement`]: which change of members is next for a group.
//! - [`steward`]: what a sharded store's groups know of slots, and how they are told and asked.
//! - [`Frame`]: what nodes say to each other.

mod atlas;
mod clock;
mod connection;
mod core;
mod group;
mod mover;
mod peer;
pub mod placement;
mod routed;
pub mod steward;
mod timers;
mod watch;

pub use self::atlas::{Atlas, FIRST_GROUP, GroupPlace, Target};
pub use self::core::{Caller, Core, Effect, Opened};
pub use connection::{
    Answer, Ask, COMPATIBLE_WITH, ClientKind, Connection, ConnectionLimits, Description, Failure,
    Host, KillFilter, RETENTION_MILLIS, Redirect, Request, SessionWrite,
};
pub use group::{ChangeFailure, ChangeKind, GroupConfig, GroupStatus, Question};
pub use mover::{Found, Look, Mover, MoverLimits, MoverOutput, Report};
pub use peer::{
    Asker, Frame, FrameError, Led, LedGroup, Life, News, NodeInfo, PEER_VERSION, Passed,
    PassedAnswer, PassedAsk, PeerMessage, Refusal,
};
pub use routed::Patience;
