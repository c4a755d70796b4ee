//! The threads that make state engines durable and put in order what is: commits go on meanwhile.
//!
//! They are two, since making room for commits must never wait for a merge of tables, which takes
//! seconds.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use kontiki_storage::engine::{Compacted, Effort, Persist};
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

/// Giving back space has time: after a step of it comes a pause that is so many times as long. Reads and
/// writes need processors and disk more; small rows that come and go (completion records) look like
/// much to give back in a state of few large ones.
const RECLAIM_PAUSE: u32 = 7;

/// What the thread that merges tables yields to others, as a nice value. It must go on, or commits have
/// to wait for merges.
const COMPACT_NICE: i32 = 5;

/// A group counts as quiet when so long nothing of it was persisted: then its reads are made cheaper.
const QUIET: Duration = Duration::from_secs(10);

/// How long space that a view holds stays taken after the view was closed, at the most.
const HELD_LOOK: Duration = Duration::from_secs(1);

/// Puts tables in order, a step for each group in turn, until there is nothing to do.
pub(crate) fn compact_loop<P: Persist>(
    jobs: &Receiver<PersistJob<P>>,
    events: &InboxSender<Input>,
) {
    // On Linux this is the thread's own.
    if let Err(error) = rustix::process::setpriority_process(None, COMPACT_NICE) {
        warn!(%error, "cannot lower the priority of merges");
    }
    let mut arrived = Vec::new();
    let mut waiting: VecDeque<(GroupId, P, Effort)> = VecDeque::new();
    let mut later: BTreeMap<GroupId, (Instant, P, Effort)> = BTreeMap::new();
    // Until when a group's space has time.
    let mut pauses: BTreeMap<GroupId, Instant> = BTreeMap::new();
    loop {
        let now = Instant::now();
        later.retain(|group, (at, persister, effort)| {
            let is_due = *at <= now;
            if is_due {
                waiting.push_back((*group, persister.clone(), *effort));
            }
            !is_due
        });
        let patience = match later.values().map(|(at, ..)| *at).min() {
            _ if !waiting.is_empty() => Some(Duration::ZERO),
            at => at.map(|at| at.saturating_duration_since(now)),
        };
        jobs.receive(&mut arrived, patience);
        for PersistJob { group, persister } in arrived.drain(..) {
            // The latest counts: a snapshot may have put another state in the place of one.
            waiting.retain(|(other, ..)| *other != group);
            later.remove(&group);
            waiting.push_back((group, persister, Effort::Space));
        }
        let Some((group, persister, effort)) = waiting.pop_front() else { continue };
        let begun = Instant::now();
        pauses.retain(|_, until| *until > begun);
        let pause = pauses.get(&group).copied();
        match persister.compact(if pause.is_none() { effort } else { Effort::Needed }) {
            Ok(Compacted::Merged) => waiting.push_back((group, persister, effort)),
            Ok(Compacted::Reclaimed) => {
                let until = Instant::now() + begun.elapsed() * RECLAIM_PAUSE;
                pauses.insert(group, until);
                later.insert(group, (until, persister, effort));
            }
            Ok(Compacted::Held) => {
                later.insert(group, (begun + HELD_LOOK, persister, effort));
            }
            Ok(Compacted::Nothing) => match pause {
                Some(until) => drop(later.insert(group, (until, persister, effort))),
                None if effort < Effort::Reads => {
                    later.insert(group, (begun + QUIET, persister, Effort::Reads));
                }
                None => {}
            },
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
