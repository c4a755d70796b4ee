//! Views of a group's keys that callers read page by page.
//!
//! A view holds back the state engine's compaction of what it sees, so there are few, and none lives
//! on when nobody asks for it. It is taken by the apply stage, between two batches, behind a
//! linearizable read; everything else happens on threads that may block.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use kontiki_kv::{Gate, KeyPage, KeyView, Machine, MachineError, StoreError, StoreView};
use kontiki_shard::SlotSet;
use kontiki_storage::engine::GroupStore;
use kontiki_types::{Instant, SLOTS, Slot};

use crate::clock;

/// Views at once: of a sharded store a caller opens one for each group.
pub(crate) const VIEWS_MAX: usize = 64;

/// A view that nobody used for this long is dropped.
pub(crate) const IDLE: Duration = Duration::from_secs(60);

/// A view is dropped after this however it is used: what it holds back grows with the writes.
const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);

/// A view of any state engine.
pub(crate) trait Keys: Send + Sync {
    fn applied(&self) -> u64;
    fn keys(&self) -> u64;
    fn cuts(&self, prefix: &[u8], parts: u32) -> Vec<u64>;
    fn page(
        &self,
        prefix: &[u8],
        range: (u64, u64),
        after: Option<&[u8]>,
        bytes_max: u64,
    ) -> Result<KeyPage, MachineError>;
}

/// A view that was taken and not looked at yet, which takes its time.
pub(crate) struct Taken {
    /// The slots that the group served; `None`: all of them.
    pub(crate) served: Option<SlotSet>,
    pub(crate) open: Box<dyn FnOnce() -> Result<Box<dyn Keys>, MachineError> + Send>,
}

impl<V: StoreView + Sync> Keys for KeyView<V> {
    fn applied(&self) -> u64 {
        self.applied().index.0
    }

    fn keys(&self) -> u64 {
        self.keys()
    }

    fn cuts(&self, prefix: &[u8], parts: u32) -> Vec<u64> {
        self.cuts(prefix, parts)
    }

    fn page(
        &self,
        prefix: &[u8],
        (from, to): (u64, u64),
        after: Option<&[u8]>,
        bytes_max: u64,
    ) -> Result<KeyPage, MachineError> {
        self.page(prefix, from, to, after, bytes_max)
    }
}

/// Takes a view of what `machine` has applied.
pub(crate) fn take<S: GroupStore>(machine: &Machine<S>) -> Result<Taken, StoreError> {
    let (view, applied) = (machine.store().view()?, machine.applied());
    let served: Option<SlotSet> = machine.steward().map(|steward| {
        let slots = (0..SLOTS).filter_map(Slot::new);
        slots.filter(|slot| steward.gate(*slot) == Gate::Open).collect()
    });
    let only = served.clone();
    let open = move || {
        let mut view = KeyView::open(view, applied)?;
        if let Some(served) = only {
            view = view.only(|slot| served.contains(slot));
        }
        Ok(Box::new(view) as Box<dyn Keys>)
    };
    Ok(Taken { served, open: Box::new(open) })
}

struct Held {
    keys: Arc<dyn Keys>,
    opened: Instant,
    used: Instant,
}

/// The views of a node.
#[derive(Default)]
pub(crate) struct Views(Mutex<BTreeMap<u64, Held>>);

impl Views {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().len() < VIEWS_MAX
    }

    /// Enters a view under a number; refused when there are too many.
    pub(crate) fn enter(self: &Arc<Self>, number: u64, keys: Box<dyn Keys>) -> bool {
        let mut all = self.lock();
        if all.len() >= VIEWS_MAX {
            return false;
        }
        let now = clock::now();
        all.insert(number, Held { keys: keys.into(), opened: now, used: now });
        tokio::spawn(drop_when_unused(Arc::downgrade(self), number));
        true
    }

    /// The view, which counts as used.
    pub(crate) fn get(&self, number: u64) -> Option<Arc<dyn Keys>> {
        let mut all = self.lock();
        let held = all.get_mut(&number)?;
        held.used = clock::now();
        Some(Arc::clone(&held.keys))
    }

    pub(crate) fn close(&self, number: u64) {
        let closed = self.lock().remove(&number);
        // Outside the lock.
        drop(closed);
    }

    /// How long the view may still live as things are; nothing if it is gone.
    fn left(&self, number: u64) -> Option<Duration> {
        let now = clock::now();
        let all = self.lock();
        let held = all.get(&number)?;
        let idle = IDLE.saturating_sub(now.since(held.used));
        Some(idle.min(LIFE_MAX.saturating_sub(now.since(held.opened))))
    }
}

async fn drop_when_unused(views: Weak<Views>, number: u64) {
    loop {
        let Some(left) = views.upgrade().and_then(|views| views.left(number)) else { return };
        if left.is_zero() {
            if let Some(views) = views.upgrade() {
                views.close(number);
            }
            return;
        }
        tokio::time::sleep(left).await;
    }
}
