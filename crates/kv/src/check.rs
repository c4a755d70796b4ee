//! Comparing the replicas of a group, a part of the state at a time.
//!
//! A leader puts an entry into the log that names a place in the key space. Whoever applies it sums up
//! the live rows from there on, up to a bound, as of that entry; entries being applied in the same
//! order everywhere, the sums are the same, or somebody's state is not what the log makes. The next
//! such entry carries the sum that the leader came to by the one before, and each replica compares it
//! with its own. So rows that one disk or memory has changed, and commands that are not
//! deterministic, are found within a pass over the keys.
//!
//! What a replica came to is only remembered, and a replica that was started or has got a snapshot in
//! between compares from its next entry on.

use std::collections::VecDeque;

use kontiki_types::Index;

use crate::bytes_in::{BadBytes, Cursor};
use crate::command::ScanPosition;
use crate::layout;
use crate::ledger::Tables;
use crate::overlay::Merged;
use crate::scan::{LiveRow, LiveRows};
use crate::snapshot::Summary;
use crate::{Machine, MachineError, Store};

/// Rows that one entry sums up, and bytes of them: a few milliseconds. Rows that share a place are
/// not parted. Part of the protocol: every replica must have the same.
const ROWS: usize = 1024;
const BYTES: usize = 2 << 20;

/// Sums that are remembered.
const KEPT: usize = 8;

/// An entry that has the replicas compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Where to begin: 0, or [`Checked::next`] of the check before.
    pub from: u64,
    /// What the leader came to by an earlier one: its entry and the sum.
    pub before: Option<(Index, u128)>,
}

/// What a replica came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The entry.
    pub at: Index,
    /// The sum of the rows.
    pub sum: u128,
    /// Where the next one begins.
    pub next: u64,
}

impl Check {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (at, sum) = self.before.unwrap_or_default();
        out.extend_from_slice(&self.from.to_be_bytes());
        out.extend_from_slice(&at.0.to_be_bytes());
        out.extend_from_slice(&sum.to_be_bytes());
    }

    pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, BadBytes> {
        let (from, at) = (cursor.u64()?, Index(cursor.u64()?));
        let sum = u128::from_be_bytes(*cursor.array()?);
        if !cursor.is_empty() {
            return Err(BadBytes::new("proposal: a check that is too long"));
        }
        Ok(Self { from, before: Some((at, sum)).filter(|(at, _)| at.0 > 0) })
    }
}

/// The sums of this machine, newest last.
#[derive(Debug, Default)]
pub(crate) struct Sums(VecDeque<Checked>);

impl Sums {
    /// The sum of an entry, if it is remembered.
    fn of(&self, at: Index) -> Option<u128> {
        self.0.iter().find(|checked| checked.at == at).map(|checked| checked.sum)
    }

    fn add(&mut self, checked: Checked) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(checked);
    }
}

impl<S: Store> Machine<S> {
    /// What the last entry came to that had the replicas compared, since the machine was opened.
    pub fn checked(&self) -> Option<Checked> {
        self.sums().0.back().copied()
    }

    /// Applies a check; an error if this state is not that of the leader.
    pub(crate) fn check(&mut self, index: Index, check: Check) -> Result<(), MachineError> {
        if let Some((at, leaders)) = check.before
            && let Some(own) = self.sums().of(at)
            && own != leaders
        {
            return Err(MachineError::Differs { at, own, leaders });
        }
        let (rows, tables) = (self.merged(), self.tables());
        let mut summary = Summary::default();
        if check.from == 0 {
            summary.tables(tables);
            if let Some(state) = rows.get(&layout::STEWARD)? {
                summary.steward(&state);
            }
        }
        let next = sum_up(&mut summary, &rows, tables, check.from)?;
        let sum = summary.sum();
        self.sums_mut().add(Checked { at: index, sum, next });
        Ok(())
    }
}

/// Adds the live rows from a place on, and says where to go on; 0 at the end.
fn sum_up<S: Store>(
    summary: &mut Summary,
    rows: &Merged<'_, S>,
    tables: &Tables,
    from: u64,
) -> Result<u64, MachineError> {
    let mut live = LiveRows::from(ScanPosition::from_cursor(from), &tables.slots);
    let (mut count, mut bytes, mut last) = (0, 0, from);
    let mut scratch = Vec::new();
    while let Some(chunk) = live.chunk(rows, &tables.slots, ROWS)? {
        for LiveRow { key, row } in chunk {
            let place = ScanPosition::of(&key).cursor();
            if (count >= ROWS || bytes >= BYTES) && place != last {
                return Ok(place);
            }
            summary.row(&key, &row, &mut scratch);
            (count, bytes, last) = (count + 1, bytes + row.len(), place);
        }
    }
    Ok(0)
}
