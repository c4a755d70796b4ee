//! The threads that make state engines durable and put in order what is: commits go on meanwhile.
//!
//! They are two, since making room for commits must never wait for a merge of tables, which takes
//! seconds.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kontiki_storage::engine::Persist;
use kontiki_types::GroupId;
use tracing::warn;

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
                Ok(applied) => events.send(Input::EnginePersisted { group, applied }),
                Err(error) => warn!(%group, %error, "cannot make the state engine durable"),
            }
            compaction.send(PersistJob { group, persister });
        }
    }
}

/// Merges tables, a step for each group in turn, until there is nothing to merge.
pub(crate) fn compact_loop<P: Persist>(jobs: &Receiver<PersistJob<P>>) {
    let mut arrived = Vec::new();
    let mut waiting: VecDeque<(GroupId, P)> = VecDeque::new();
    loop {
        let patience = (!waiting.is_empty()).then_some(Duration::ZERO);
        jobs.receive(&mut arrived, patience);
        for PersistJob { group, persister } in arrived.drain(..) {
            // The latest counts: a snapshot may have put another state in the place of one.
            waiting.retain(|(other, _)| *other != group);
            waiting.push_back((group, persister));
        }
        let Some((group, persister)) = waiting.pop_front() else { continue };
        match persister.compact() {
            Ok(true) => waiting.push_back((group, persister)),
            Ok(false) => {}
            Err(error) => warn!(%group, %error, "cannot merge tables of the state engine"),
        }
    }
}
