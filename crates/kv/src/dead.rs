//! Rows that nobody can see: how many are left to delete.

use crate::layout;
use crate::moving::each_row;
use crate::overlay::Stored;
use crate::{Gate, Machine, MachineError, Store};

impl<S: Store> Machine<S> {
    /// Rows of slots that are not here, or under another incarnation than the live one of their slot,
    /// and what is kept for moves. Reads every row; a check. In a group without a move under way
    /// it is 0 as soon as [`Machine::tidy`] says that nothing is left.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn dead_rows(&self) -> Result<u64, MachineError> {
        let rows = Stored(self.store());
        let mut dead = 0;
        let first = layout::data_before(kontiki_types::Slot::default(), 0).0;
        each_row(&rows, first, &layout::data_end(), |key, _| {
            let (slot, incarnation, _) = layout::read_data_key(key)?;
            let is_away = self.steward().is_some_and(|steward| steward.gate(slot) == Gate::Away);
            let is_dead = incarnation != self.tables().slots.get(slot).incarnation;
            dead += u64::from(is_away || is_dead);
            Ok(())
        })?;
        let (from, to) = layout::moving();
        each_row(&rows, from, &to, |_, _| {
            dead += 1;
            Ok(())
        })?;
        Ok(dead)
    }
}
