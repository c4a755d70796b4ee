//! Log Matching (Raft paper, Figure 3 and §5.3): if two logs hold an entry with the same index and
//! term, they are the same in all entries up to it.
//!
//! Looked at entry by entry: all entries with one index and term have one content and one
//! predecessor; by induction, then, whole logs match.

use std::collections::BTreeMap;

use kontiki_types::{LogId, Term};

use super::by_index::ByIndex;
use super::{Checked, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct LogMatching {
    /// The first entry that was seen at each index: its term, the term before it, its content.
    entries: ByIndex<(Term, Term, u64)>,
    /// Those of other terms at the same index.
    others: BTreeMap<LogId, (Term, u64)>,
}

impl LogMatching {
    /// Some log has the entry `id` with this content after an entry of term `previous`.
    ///
    /// # Errors
    /// Some log had it with another content, or after another entry.
    pub fn has(&mut self, id: LogId, previous: Term, content: u64) -> Checked {
        let (term, before, first) =
            self.entries.get_or_insert(id.index, (id.term, previous, content));
        let known = if term == id.term {
            (before, first)
        } else {
            *self.others.entry(id).or_insert((previous, content))
        };
        if known == (previous, content) {
            return Ok(());
        }
        let seen = format!(
            "entry {id} after {previous} with content {content:x}, and after {} with {:x}",
            known.0, known.1
        );
        Err(Violation::new("Log Matching", seen))
    }
}
