//! What clients asked and what they were told: the record that a checker judges.
//!
//! A history is complete if every call that may have reached a node is in it. Its times come from
//! one clock, which never goes back. Whoever records it decides once, by [`Outcome::of`], what an
//! answer proves:
//!
//! - *Known*: the reply came, and it was made by the state that the command met.
//! - *Refused*: the answer says that nothing was done, and nothing will be.
//! - *Unknown*: no answer, or one that says so. The command may take effect at any later time, or
//!   never.
//!
//! Written to a file, a history has one line of JSON for each operation: see `docs/history.md`.

mod json;

use std::fmt;

use bytes::Bytes;
use kontiki_resp::Reply;

/// Operations, in any order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The operations.
    pub operations: Vec<Operation>,
}

/// One call of one client.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Whose call it is. A client has one call after the other, or several at once.
    pub client: u64,
    /// What was asked.
    pub request: Request,
    /// When the call began, in nanoseconds.
    pub call: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// One command: its name and its arguments.
    Command(Vec<Bytes>),
    /// What stood between MULTI and EXEC; it takes effect at one moment, as a whole.
    Transaction(Vec<Vec<Bytes>>),
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The reply, and when it came, in nanoseconds. That of a transaction is EXEC's.
    Known {
        /// The reply.
        reply: Reply,
        /// When it came.
        at: u64,
    },
    /// Nothing was done, and nothing will be.
    Refused {
        /// The error line.
        reason: Bytes,
        /// When it came.
        at: u64,
    },
    /// It may take effect at any time after the call, or never.
    Unknown,
}

impl Operation {
    /// A call of one command, given as words.
    pub fn command(client: u64, words: &[&str], call: u64, outcome: Outcome) -> Self {
        Self { client, request: Request::command(words), call, outcome }
    }

    /// When the answer came; `None` if none came, or one that proves nothing.
    pub fn returned(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Known { at, .. } | Outcome::Refused { at, .. } => Some(at),
            Outcome::Unknown => None,
        }
    }
}

impl Request {
    /// One command, given as words.
    pub fn command(words: &[&str]) -> Self {
        Self::Command(words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect())
    }

    /// The commands: one, or those of the transaction.
    pub fn commands(&self) -> &[Vec<Bytes>] {
        match self {
            Self::Command(command) => std::slice::from_ref(command),
            Self::Transaction(commands) => commands,
        }
    }
}

impl Outcome {
    /// What an answer that came at `at` proves; `None` is a connection that was lost.
    pub fn of(reply: Option<Reply>, at: u64) -> Self {
        match reply {
            None => Self::Unknown,
            Some(Reply::Error(line)) if is_unknown(&line) => Self::Unknown,
            Some(Reply::Error(line)) if !is_from_state(&line) => Self::Refused { reason: line, at },
            Some(reply) => Self::Known { reply, at },
        }
    }
}

/// Error lines after which the write may yet be applied, or may have been.
fn is_unknown(line: &[u8]) -> bool {
    line.starts_with(b"UNKNOWN") || line.starts_with(b"ERR the same write was sent again")
}

/// Error lines that a command gives because of the state that it met, and so prove something about
/// the state.
fn is_from_state(line: &[u8]) -> bool {
    const LINES: [&[u8]; 4] = [
        b"ERR value is not an integer or out of range",
        b"ERR increment or decrement would overflow",
        b"ERR string exceeds maximum allowed size",
        b"WRONGTYPE",
    ];
    LINES.iter().any(|known| line.starts_with(known))
}

impl History {
    /// Adds an operation.
    pub fn push(&mut self, operation: Operation) {
        self.operations.push(operation);
    }

    /// One line of JSON for each operation, in the order of their calls.
    pub fn to_json_lines(&self) -> String {
        let mut by_call: Vec<&Operation> = self.operations.iter().collect();
        by_call.sort_by_key(|operation| operation.call);
        let mut lines = String::new();
        for operation in by_call {
            json::write(operation, &mut lines);
            lines.push('\n');
        }
        lines
    }

    /// Reads what [`History::to_json_lines`] has written. Empty lines are skipped.
    ///
    /// # Errors
    /// The first line that is not an operation.
    pub fn from_json_lines(text: &str) -> Result<Self, LineError> {
        let mut history = Self::default();
        for (at, line) in text.lines().enumerate() {
            if !line.trim().is_empty() {
                let operation =
                    json::read(line).map_err(|what| LineError { line: at + 1, what })?;
                history.push(operation);
            }
        }
        Ok(history)
    }
}

/// A line of a file that is not an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    /// Which, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for LineError {}
