//! How much slots on their way out would be to send: a walk over their rows, a piece at a time.

use kontiki_types::Slot;

use crate::layout;
use crate::overlay::{Rows, Stored};
use crate::scan::Pace;
use crate::{Machine, MachineError, Store};

/// How far the walk is: for [`Machine::weigh`], which goes on with it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Weighing {
    /// Slots that are behind it.
    slots: usize,
    /// Bytes in them.
    bytes: u64,
    /// The last row seen of the slot that it is in; empty: none.
    place: Vec<u8>,
    /// Bytes in that slot so far.
    begun: u64,
}

/// What slots weigh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighed {
    /// It is not known yet.
    GoesOn,
    /// All of them together are not too much.
    Light,
    /// Together they are too much; so many of the first are not, or it is one.
    Heavy {
        /// How many; fewer than all.
        first: usize,
    },
}

impl<S: Store> Machine<S> {
    /// Goes on to weigh the rows of `slots`, about `piece_bytes` of them. Together they are too much
    /// with more than `most` bytes, keys included; slots without a key cost nothing.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn weigh(
        &self,
        slots: &[Slot],
        weighing: &mut Weighing,
        most: u64,
        piece_bytes: u64,
    ) -> Result<Weighed, MachineError> {
        let mut left = piece_bytes;
        while let Some(slot) = slots.get(weighing.slots) {
            let state = self.tables().slots.get(*slot);
            let (first, end) = layout::data_of(*slot, state.incarnation);
            let mut pace = Pace::START;
            loop {
                if state.keys == 0 {
                    break;
                }
                let from = match weighing.place.is_empty() {
                    true => first.clone(),
                    false => layout::behind(&weighing.place),
                };
                let wanted = pace.rows();
                let found = Stored(self.store()).range(&from, &end, wanted)?;
                pace.count(&found);
                let bytes: usize = found.iter().map(|(key, row)| key.len() + row.len()).sum();
                weighing.begun += bytes as u64;
                if weighing.bytes + weighing.begun > most && slots.len() > 1 {
                    let first = weighing.slots.max(1);
                    return Ok(Weighed::Heavy { first });
                }
                match found.last() {
                    Some((last, _)) if found.len() == wanted => weighing.place = last.to_vec(),
                    _ => break,
                }
                left = left.saturating_sub(bytes as u64);
                if left == 0 {
                    return Ok(Weighed::GoesOn);
                }
            }
            weighing.slots += 1;
            weighing.bytes += core::mem::take(&mut weighing.begun);
            weighing.place.clear();
        }
        Ok(Weighed::Light)
    }
}
