//! Views that a job reads, kept open while somebody here needs them.
//!
//! A node drops a view that nobody used for a minute. A map may run again long after the last one has
//! read, so whoever has to do with a job says now and then that its views are wanted: who submitted it,
//! and the workers that know it.

use std::collections::BTreeSet;
use std::time::Duration;

use kontiki_client::{Error, Reason, ViewId};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::client;
use crate::input::MapTask;
use crate::objects::runtime;

/// Between two signs; a node waits for four times as long.
const EVERY: Duration = Duration::from_secs(15);

/// Views that are kept open. Dropped, they are not any more.
#[derive(Debug)]
pub struct KeptViews {
    views: BTreeSet<(String, u64)>,
    keeping: Option<JoinHandle<()>>,
    close: bool,
}

/// Keeps the views that the maps read open; closes them in the end (`close`), or leaves that to who
/// opened them.
pub fn keep(maps: &[MapTask], close: bool) -> KeptViews {
    let parts = maps.iter().flat_map(|map| &map.parts);
    let ranges = parts.filter_map(|part| part.keys.as_ref());
    let views: BTreeSet<_> = ranges.map(|range| (range.address.clone(), range.view)).collect();
    let is_any = !views.is_empty();
    let keeping = runtime().ok().filter(|_| is_any).map(|on| on.spawn(say_so(views.clone())));
    KeptViews { views, keeping, close }
}

async fn say_so(mut views: BTreeSet<(String, u64)>) {
    while !views.is_empty() {
        sleep(EVERY).await;
        let mut gone = Vec::new();
        for of in &views {
            let (address, view) = of;
            let Ok(client) = client(std::slice::from_ref(address), false).await else { continue };
            let kept = client.keep_view(ViewId(*view)).await;
            // Whoever reads it is told.
            if matches!(kept, Err(Error::NotApplied { reason: Reason::NotFound, .. })) {
                gone.push(of.clone());
            }
        }
        views.retain(|of| !gone.contains(of));
    }
}

impl Drop for KeptViews {
    fn drop(&mut self) {
        if let Some(keeping) = &self.keeping {
            keeping.abort();
        }
        let views = std::mem::take(&mut self.views);
        if let (true, false, Ok(on)) = (self.close, views.is_empty(), runtime()) {
            let closed = on.spawn(async move {
                for (address, view) in views {
                    // A kindness: it would be dropped by itself.
                    if let Ok(client) = client(&[address], false).await {
                        let _ = client.close_view(ViewId(view)).await;
                    }
                }
            });
            // The process may end at once; a second is enough for a node that lives.
            let (sender, done) = std::sync::mpsc::channel();
            on.spawn(async move {
                let _ = closed.await;
                let _ = sender.send(());
            });
            let _ = done.recv_timeout(Duration::from_secs(1));
        }
    }
}
