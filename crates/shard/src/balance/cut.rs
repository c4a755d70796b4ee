//! Cutting what is to move into parts that are frozen and handed over one by one.

use kontiki_types::GroupId;

use super::Loads;
use crate::SlotSet;

/// How large a part may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Slots.
    pub slots_max: usize,
    /// Bytes of the slots' content. A slot that is larger is a part by itself.
    pub bytes_max: u64,
}

impl Default for Cut {
    /// 256 slots or 64 MiB: what is copied in a second, and has little to add at the freeze.
    fn default() -> Self {
        Self { slots_max: 256, bytes_max: 64 << 20 }
    }
}

/// Cuts each part of a plan, in the order of slots.
pub fn cut(parts: &[(SlotSet, GroupId)], loads: &Loads, most: Cut) -> Vec<(SlotSet, GroupId)> {
    let mut all = Vec::new();
    for (slots, to) in parts {
        let (mut part, mut count, mut bytes) = (SlotSet::empty(), 0, 0u64);
        for slot in slots.iter() {
            let more = loads.get(&slot).map_or(0, |load| load.bytes);
            let is_full = count >= most.slots_max || bytes.saturating_add(more) > most.bytes_max;
            if count > 0 && is_full {
                all.push((core::mem::take(&mut part), *to));
                (count, bytes) = (0, 0);
            }
            part.push(slot.get(), slot.get());
            count += 1;
            bytes = bytes.saturating_add(more);
        }
        if count > 0 {
            all.push((part, *to));
        }
    }
    all
}
