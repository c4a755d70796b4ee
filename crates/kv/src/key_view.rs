//! The keys of one moment, read page by page while entries go on being applied.
//!
//! Pages follow [`ScanPosition`]s, so a range of positions is a part of the keys, and parts can be
//! read side by side. A key that was due at the view's log time is not there.

use bytes::Bytes;
use kontiki_types::{LogId, LogTime, SLOTS, Slot};

use crate::command::ScanPosition;
use crate::layout::{read_header, value};
use crate::ledger::Ledger;
use crate::overlay::Viewed;
use crate::scan::{LiveRow, LiveRows};
use crate::slots::{SlotState, Slots};
use crate::{MachineError, StoreView};

/// Keys that are looked at for one page at the most, those without the prefix among them.
const LOOKED_AT_MAX: u64 = 1 << 16;

/// The end of all positions, as a [cursor](ScanPosition::cursor).
const END: u64 = (SLOTS as u64) << ScanPosition::HASH_BITS;

/// A state whose keys can be read in parts.
#[derive(Debug)]
pub struct KeyView<V> {
    view: V,
    applied: LogId,
    slots: Slots,
    log_time: LogTime,
}

/// A key of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// The log time from which on the key is gone; `None`: it stays.
    pub expires: Option<LogTime>,
}

/// Some keys of a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// Keys with their values, in the order of their positions.
    pub rows: Vec<KeyRow>,
    /// How many keys were looked at.
    pub looked_at: u64,
    /// The last of them, which the next page comes after; `None` at the end of the range.
    pub last: Option<Bytes>,
}

impl<V: StoreView> KeyView<V> {
    /// The keys of `view`, which was taken when `applied` was the last entry applied. Reads the
    /// machine's tables: to be called where that holds nobody up.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn open(view: V, applied: LogId) -> Result<Self, MachineError> {
        let (_, tables) = Ledger::open(&Viewed(&view))?;
        Ok(Self { view, applied, slots: tables.slots, log_time: tables.log_time })
    }

    /// Without the slots that are not `served`: those are another group's, or on their way.
    #[must_use]
    pub fn only(mut self, mut served: impl FnMut(Slot) -> bool) -> Self {
        let used = self.slots.used().map(|(slot, _)| slot);
        let others: Vec<Slot> = used.filter(|slot| !served(*slot)).collect();
        // Their rows may be here for a while: none of them has this incarnation.
        let gone = SlotState { incarnation: u64::MAX, ..SlotState::default() };
        others.into_iter().for_each(|slot| self.slots.install(slot, gone));
        self
    }

    /// The log id of the last entry that the view includes.
    pub fn applied(&self) -> LogId {
        self.applied
    }

    /// Number of keys, with and without any prefix; some of them may be due.
    pub fn keys(&self) -> u64 {
        self.slots.keys()
    }

    /// Positions that cut the keys in which one with `prefix` can be into at most `parts` about
    /// equal parts: the first one's beginning, the second one's, and so on to the last one's end.
    /// They ascend.
    pub fn cuts(&self, prefix: &[u8], parts: u32) -> Vec<u64> {
        let slots = slots_of(prefix);
        let weight = |slot: Slot| self.slots.get(slot).keys;
        let range = || (slots.start..slots.end).filter_map(Slot::new);
        let total: u64 = range().map(weight).sum();
        let mut cuts = vec![at_slot(slots.start)];
        let (mut before, mut part) = (0, 1);
        for slot in range() {
            let keys = weight(slot);
            while part < parts.max(1) {
                let wanted = (u128::from(total) * u128::from(part) / u128::from(parts)) as u64;
                let Some(within) = wanted.checked_sub(before).filter(|within| *within < keys)
                else {
                    break;
                };
                // Within a slot hashes are evenly spread.
                let span = 1_u128 << ScanPosition::HASH_BITS;
                let hash = (span * u128::from(within) / u128::from(keys)) as u64;
                let cut = at_slot(slot.get()) + hash;
                if cuts.last().is_some_and(|last| *last < cut) {
                    cuts.push(cut);
                }
                part += 1;
            }
            before += keys;
        }
        cuts.push(at_slot(slots.end));
        cuts
    }

    /// Keys with `prefix` at positions from `from` on and before `to`, behind `after` if that is
    /// given: until one more would go beyond `bytes_max` (unless it is the first), or the page has
    /// cost enough. A page may be empty before the end.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn page(
        &self,
        prefix: &[u8],
        from: u64,
        to: u64,
        after: Option<&[u8]>,
        bytes_max: u64,
    ) -> Result<KeyPage, MachineError> {
        let slots = slots_of(prefix);
        let (from, to) = (from.max(at_slot(slots.start)), to.min(at_slot(slots.end)).min(END));
        let mut page = KeyPage::default();
        if from >= to {
            return Ok(page);
        }
        let mut live_rows = match after {
            Some(key) => LiveRows::after(key, &self.slots),
            None => LiveRows::from(ScanPosition::from_cursor(from), &self.slots),
        };
        let (mut bytes, mut last) = (0, None);
        while let Some(chunk) = live_rows.chunk(&Viewed(&self.view), &self.slots, usize::MAX)? {
            for LiveRow { key, row } in chunk {
                if ScanPosition::of(&key).cursor() >= to {
                    return Ok(page);
                }
                let header = read_header(&row)?;
                if key.starts_with(prefix) && !header.is_due(self.log_time) {
                    bytes += (key.len() + row.len()) as u64;
                    if bytes > bytes_max && !page.rows.is_empty() {
                        page.last = last;
                        return Ok(page);
                    }
                    let (value, expires) = (value(&row), header.expires);
                    page.rows.push(KeyRow { key: key.clone(), value, expires });
                }
                page.looked_at += 1;
                if page.looked_at >= LOOKED_AT_MAX {
                    page.last = Some(key);
                    return Ok(page);
                }
                last = Some(key);
            }
        }
        Ok(page)
    }
}

fn at_slot(slot: u16) -> u64 {
    u64::from(slot) << ScanPosition::HASH_BITS
}

/// The slots in which keys with a prefix can be: one, if the prefix has a whole hash tag.
fn slots_of(prefix: &[u8]) -> core::ops::Range<u16> {
    let open = prefix.iter().position(|byte| *byte == b'{');
    let tag = open.and_then(|open| {
        let rest = &prefix[open + 1..];
        rest.iter().position(|byte| *byte == b'}')
    });
    match tag {
        Some(length) if length > 0 => {
            let slot = Slot::of(prefix).get();
            slot..slot + 1
        }
        _ => 0..SLOTS,
    }
}
