//! What a connection asks of the node around it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kontiki_types::{LogTime, NodeId};

use super::route::Redirect;
use crate::atlas::Atlas;

/// How a `CLIENT KILL` chooses connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KillFilter {
    /// The connection with this id.
    pub id: Option<u64>,
    /// The connection from this `host:port`.
    pub address: Option<String>,
    /// Connections to this `host:port` of the node.
    pub local_address: Option<String>,
    /// Connections of this kind: `normal`, or others that never match.
    pub kind: Option<String>,
    /// Connections of this user; only `default` exists.
    pub user: Option<String>,
    /// Leaves out this connection: the one that asks.
    pub skip: Option<u64>,
}

/// A client as far as it is known from one connection to the next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientKind {
    /// The host that it comes from.
    pub address: String,
    /// Its library, by CLIENT SETINFO LIB-NAME. Never empty.
    pub library: String,
}

/// The node, as a connection sees it. The driver implements it over shared state; nothing in it
/// may block.
pub trait Host {
    /// Log time of the group that is ahead, as far as known here, and running on since:
    /// [`Core::latest_log_time`](crate::Core::latest_log_time).
    fn log_time(&self) -> LogTime;
    /// What the node knows of its cluster.
    fn atlas(&self) -> Arc<Atlas>;
    /// The node itself.
    fn node_id(&self) -> NodeId;
    /// Who is told MOVED.
    fn redirect(&self) -> Redirect;
    /// The client on this connection, of this library (empty: unknown), has asked for the map of
    /// slots.
    fn note_asked(&self, id: u64, library: &str);
    /// Whether a client of this library asked any node for the map of slots, from the address of
    /// this connection and before it was opened.
    fn has_asked(&self, id: u64, library: &str) -> bool;
    /// A number that changes when answers of [`Host::has_asked`] may.
    fn asked_changes(&self) -> u64;
    /// The wall clock, since the Unix epoch. For TIME and replies only, never for state.
    fn wall_clock(&self) -> Duration;
    /// A number that differs from call to call, for RANDOMKEY.
    fn random(&self) -> u64;
    /// Whether `user` and `password` open this node; `None` if no password is set.
    fn authenticate(&self, user: &[u8], password: &[u8]) -> Option<bool>;
    /// The text of `INFO` for these sections (lower case; empty: the default ones).
    fn info(&self, sections: &[String]) -> String;
    /// One line of `CLIENT LIST` per open connection; `ids` empty: all of them.
    fn client_list(&self, ids: &[u64]) -> String;
    /// Shows this connection's changed attributes to the node, for CLIENT LIST.
    fn describe(&self, id: u64, description: &Description);
    /// Closes the connections that match and returns how many.
    fn client_kill(&self, filter: &KillFilter) -> usize;
    /// Settings whose name matches one of the glob patterns.
    fn config_get(&self, patterns: &[Bytes]) -> Vec<(String, String)>;
    /// Changes a setting.
    ///
    /// # Errors
    /// The text after `ERR ` for an unknown, fixed or ill-formed one.
    fn config_set(&self, name: &str, value: &[u8]) -> Result<(), String>;
    /// How many replicas other than the leader hold every acknowledged write: a majority less one.
    fn replicas_in_quorum(&self) -> usize;
    /// Recent slow commands and the like: entries of SLOWLOG GET, newest first.
    fn slow_commands(&self) -> u64;
}

/// What CLIENT LIST shows of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Given by CLIENT SETNAME or HELLO SETNAME.
    pub name: String,
    /// Given by CLIENT SETINFO LIB-NAME.
    pub library_name: String,
    /// Given by CLIENT SETINFO LIB-VER.
    pub library_version: String,
    /// 2 or 3.
    pub protocol: u8,
    /// Commands queued by MULTI, or -1 outside of one.
    pub queued: i64,
    /// Watched keys.
    pub watched: usize,
    /// The last command, lower case.
    pub last_command: &'static str,
}
