//! State Machine Safety (Raft paper, Figure 3 and §5.4.3): if a replica has applied an entry at an
//! index, no replica ever applies another one there. And: in order, each once, without a gap.

use kontiki_types::{Index, LogId};

use super::by_index::ByIndex;
use super::{Checked, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct StateMachineSafety {
    entries: ByIndex<(LogId, u64)>,
    states: ByIndex<u64>,
}

impl StateMachineSafety {
    /// A replica that has applied everything up to `before` applies an entry with this content.
    ///
    /// # Errors
    /// It is not the next one, or another replica applied another one.
    pub fn applies(&mut self, before: Index, id: LogId, content: u64) -> Checked {
        if id.index != before.next() {
            return fails(format!("entry {id} is applied after {before}"));
        }
        let known = self.entries.get_or_insert(id.index, (id, content));
        if known == (id, content) {
            return Ok(());
        }
        fails(format!("{id} is applied where {} was, contents {content:x}, {:x}", known.0, known.1))
    }

    /// A replica's state after `index` has this hash, by applying or by a snapshot.
    ///
    /// # Errors
    /// Another replica had another one.
    pub fn has_state(&mut self, index: Index, state: u64) -> Checked {
        let known = self.states.get_or_insert(index, state);
        if known == state {
            return Ok(());
        }
        fails(format!("two states after {index}"))
    }

    /// The last entry that any replica has applied.
    pub fn highest(&self) -> Index {
        self.entries.last().unwrap_or(Index(0))
    }
}

fn fails(seen: String) -> Checked {
    Err(Violation::new("State Machine Safety", seen))
}
