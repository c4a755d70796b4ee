//! The threads that make state engines durable and put in order what is: commits go on meanwhile.
//!
//! They are two, since making room for commits must never wait for a merge of tables, which takes
//! seconds.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use kontiki_storage::engine::{Compacted, Persist};
use kontiki_types::GroupId;
use tracing::{error, warn};

use crate::event_loop::Input;
use crate::mailbox::{InboxSender, Receiver, Sender};

/// Work for these threads.
pub(crate) struct PersistJob<P> {
    pub(crate) group: GroupId,
    pub(crate) persister: P,
}

/// Persists; says so to the event loop, and has what is persisted put in order.
pub(crate) fn persist_loop<P: Persist>(
    jobs: &Receiver<PersistJob<P>>,
    events: &InboxSender<Input>,
    compaction: &Sender<PersistJob<P>>,
) {
    let mut waiting = Vec::new();
    loop {
        jobs.receive(&mut waiting, None);
        // Several wishes for one group are one.
        let mut latest = BTreeMap::new();
        for PersistJob { group, persister } in waiting.drain(..) {
            latest.insert(group, persister);
        }
        for (group, persister) in latest {
            match persister.persist() {
                Ok(applied) => {
                    let of = persister.presence();
                    events.send(Input::EnginePersisted { group, applied, of });
                }
                // What is not durable is still in the log; there may be space again.
                Err(error) if error.is_full() => {
                    warn!(%group, %error, "cannot make the state engine durable");
                }
                // What a failed sync has left is unknown, and trying again proves nothing.
                Err(error) => {
                    error!(%group, %error, "cannot make the state engine durable");
                    events.send(Input::PersistFailed(format!("the state engine: {error}")));
                    return;
                }
            }
            compaction.send(PersistJob { group, persister });
        }
    }
}

/// How long space that a view holds stays taken after the view was closed, at the most.
const HELD_LOOK: Duration = Duration::from_secs(1);

/// Puts tables in order, a step for each group in turn, until there is nothing to do.
pub(crate) fn compact_loop<P: Persist>(
    jobs: &Receiver<PersistJob<P>>,
    events: &InboxSender<Input>,
) {
    let mut arrived = Vec::new();
    let mut waiting: VecDeque<(GroupId, P)> = VecDeque::new();
    let mut later: BTreeMap<GroupId, (Instant, P)> = BTreeMap::new();
    loop {
        let now = Instant::now();
        later.retain(|group, (at, persister)| {
            let is_due = *at <= now;
            if is_due {
                waiting.push_back((*group, persister.clone()));
            }
            !is_due
        });
        let patience = match later.values().map(|(at, _)| *at).min() {
            _ if !waiting.is_empty() => Some(Duration::ZERO),
            at => at.map(|at| at.saturating_duration_since(now)),
        };
        jobs.receive(&mut arrived, patience);
        for PersistJob { group, persister } in arrived.drain(..) {
            // The latest counts: a snapshot may have put another state in the place of one.
            waiting.retain(|(other, _)| *other != group);
            later.remove(&group);
            waiting.push_back((group, persister));
        }
        let Some((group, persister)) = waiting.pop_front() else { continue };
        let begun = Instant::now();
        match persister.compact() {
            Ok(Compacted::Merged) => waiting.push_back((group, persister)),
            // Nobody waits for space: the disk has as long for others.
            Ok(Compacted::Reclaimed) => {
                later.insert(group, (Instant::now() + begun.elapsed(), persister));
            }
            Ok(Compacted::Held) => {
                later.insert(group, (begun + HELD_LOOK, persister));
            }
            Ok(Compacted::Nothing) => {}
            // It is tried again when more is persisted.
            Err(error) if error.is_full() => {
                warn!(%group, %error, "cannot put tables of the state engine in order");
            }
            Err(error) => {
                error!(%group, %error, "cannot put tables of the state engine in order");
                events.send(match error.is_damage() {
                    true => Input::Damaged { group, reason: error.to_string() },
                    false => Input::PersistFailed(format!("the state engine: {error}")),
                });
                return;
            }
        }
    }
}
