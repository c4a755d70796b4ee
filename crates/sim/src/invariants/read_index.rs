//! Linearizable reads (Raft thesis, §6.4): a read index is not before what was committed anywhere
//! when the read was asked for.

use std::collections::BTreeMap;

use kontiki_types::Index;

use super::{Checked, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct ReadIndex {
    asked: BTreeMap<u64, Index>,
}

impl ReadIndex {
    /// The read `token` was asked for when everything up to `committed` was.
    pub fn asked(&mut self, token: u64, committed: Index) {
        self.asked.insert(token, committed);
    }

    /// The read may be served once `index` is applied.
    ///
    /// # Errors
    /// It would miss something.
    pub fn ready(&mut self, token: u64, index: Index) -> Checked {
        match self.asked.remove(&token) {
            Some(committed) if index < committed => Err(Violation::new(
                "Linearizable reads",
                format!("read {token} at {index}, and {committed} was committed before it"),
            )),
            _ => Ok(()),
        }
    }

    /// The read failed.
    pub fn failed(&mut self, token: u64) {
        self.asked.remove(&token);
    }
}
