//! The open connections: where answers go, and what CLIENT LIST shows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kontiki_kv::Reply;
use kontiki_replica::{Answer, Caller, ClientKind, Description, KillFilter};
use kontiki_types::Instant;
use tokio::sync::{Notify, oneshot};

use crate::asked::Asked;
use crate::clock;

/// Answers on their way to one connection's task.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<OutboxState>,
    arrived: Notify,
}

#[derive(Default)]
struct OutboxState {
    answers: Vec<(u64, Answer)>,
    /// What the answers come to.
    bytes: usize,
    /// When the first of them was put.
    since: Option<Instant>,
    killed: bool,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, OutboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an answer. When they come to more than `bytes_max`, the connection is closed instead.
    fn put(&self, ticket: u64, answer: Answer, bytes_max: usize) {
        let bytes = weight(&answer);
        let mut state = self.lock();
        if state.killed {
            return;
        }
        let first = state.answers.is_empty();
        state.bytes += bytes;
        if state.bytes > bytes_max {
            state.killed = true;
            state.answers = Vec::new();
        } else {
            state.answers.push((ticket, answer));
            if first {
                state.since = Some(clock::now());
            }
        }
        drop(state);
        if first {
            self.arrived.notify_one();
        }
    }

    /// Has the connection's task look around.
    fn wake(&self) {
        self.arrived.notify_one();
    }

    fn kill(&self) {
        self.lock().killed = true;
        self.arrived.notify_one();
    }

    /// Waits until something was put; the caller then takes it. Cancel safe.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Takes the answers that are there; `false` if the connection is to close. And since when the
    /// first of them has waited.
    pub(crate) fn take(&self, answers: &mut Vec<(u64, Answer)>) -> (bool, Option<Instant>) {
        let mut state = self.lock();
        answers.append(&mut state.answers);
        state.bytes = 0;
        (!state.killed, state.since.take())
    }
}

/// About the bytes of memory that an answer holds.
pub(crate) fn weight(answer: &Answer) -> usize {
    match answer {
        Answer::Reply(reply) => reply_weight(reply),
        Answer::Failed(_) => 0,
    }
}

fn reply_weight(reply: &Reply) -> usize {
    match reply {
        Reply::Bulk(bytes) | Reply::Verbatim(bytes) | Reply::Error(bytes) => bytes.len(),
        Reply::Array(items) | Reply::Set(items) => items.iter().map(reply_weight).sum(),
        _ => 0,
    }
}

struct Entry {
    outbox: Arc<Outbox>,
    peer: SocketAddr,
    local: SocketAddr,
    since: Instant,
    description: Description,
}

/// All open connections of a node.
pub(crate) struct Registry {
    /// Answers that may wait for one connection's task, in bytes.
    output_bytes_max: usize,
    entries: Mutex<BTreeMap<u64, Entry>>,
    /// Native calls, by ticket.
    calls: Mutex<BTreeMap<u64, oneshot::Sender<Answer>>>,
    pub(crate) asked: Asked,
    next: AtomicU64,
    open: AtomicUsize,
    accepted: AtomicU64,
    refused: AtomicU64,
    /// Connections are to close when they have nothing to do.
    closing: AtomicBool,
    /// A connection or call has ended.
    ended: Notify,
}

impl Registry {
    pub(crate) fn new(output_bytes_max: usize) -> Self {
        Self {
            output_bytes_max,
            entries: Mutex::default(),
            calls: Mutex::default(),
            asked: Asked::default(),
            next: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            ended: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection, unless `max` are open.
    pub(crate) fn open(
        &self,
        peer: SocketAddr,
        local: SocketAddr,
        max: usize,
    ) -> Option<(u64, Arc<Outbox>)> {
        let mut entries = self.lock();
        if entries.len() >= max {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let id = self.number();
        let outbox = Arc::new(Outbox::default());
        entries.insert(
            id,
            Entry {
                outbox: Arc::clone(&outbox),
                peer,
                local,
                since: clock::now(),
                description: Description { queued: -1, protocol: 2, ..Description::default() },
            },
        );
        self.open.store(entries.len(), Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Some((id, outbox))
    }

    /// A number that no connection or call has.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Enters a native call and returns its ticket; its connection is 0.
    pub(crate) fn call(&self, answer: oneshot::Sender<Answer>) -> u64 {
        let ticket = self.number();
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).insert(ticket, answer);
        ticket
    }

    pub(crate) fn close(&self, id: u64) {
        let mut entries = self.lock();
        entries.remove(&id);
        self.open.store(entries.len(), Ordering::Relaxed);
        self.ended.notify_waiters();
    }

    /// Has connections close when they have nothing to do.
    pub(crate) fn close_idle(&self) {
        self.closing.store(true, Ordering::Release);
        self.lock().values().for_each(|entry| entry.outbox.wake());
    }

    /// Whether connections are to close when they have nothing to do.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Waits until no connection is open and no call unanswered.
    pub(crate) async fn all_ended(&self) {
        loop {
            let ended = self.ended.notified();
            let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner).len();
            if calls == 0 && self.lock().is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// Delivers answers; those whose connection is gone are dropped.
    pub(crate) fn deliver(&self, answers: impl IntoIterator<Item = (Caller, Answer)>) {
        let entries = self.lock();
        for (caller, answer) in answers {
            if caller.connection == 0 {
                let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(call) = calls.remove(&caller.ticket) {
                    let _ = call.send(answer);
                }
                if calls.is_empty() && self.is_closing() {
                    self.ended.notify_waiters();
                }
            } else if let Some(entry) = entries.get(&caller.connection) {
                entry.outbox.put(caller.ticket, answer, self.output_bytes_max);
            }
        }
    }

    /// The kind of the client on connection `id`, which is of this library.
    pub(crate) fn kind(&self, id: u64, library: &str) -> Option<(ClientKind, Instant)> {
        let entries = self.lock();
        let entry = entries.get(&id)?;
        let address = entry.peer.ip().to_canonical().to_string();
        Some((ClientKind { address, library: library.to_owned() }, entry.since))
    }

    pub(crate) fn describe(&self, id: u64, description: &Description) {
        if let Some(entry) = self.lock().get_mut(&id) {
            entry.description = description.clone();
        }
    }

    /// Closes the connections that match.
    pub(crate) fn kill(&self, filter: &KillFilter) -> usize {
        let entries = self.lock();
        let matching = entries.iter().filter(|(id, entry)| {
            filter.id.is_none_or(|wanted| wanted == **id)
                && filter.skip != Some(**id)
                && filter.address.as_ref().is_none_or(|wanted| *wanted == entry.peer.to_string())
                && filter
                    .local_address
                    .as_ref()
                    .is_none_or(|wanted| *wanted == entry.local.to_string())
                && filter.kind.as_ref().is_none_or(|wanted| wanted == "normal")
                && filter.user.as_ref().is_none_or(|wanted| wanted == "default")
        });
        matching.map(|(_, entry)| entry.outbox.kill()).count()
    }

    /// Closes every connection.
    pub(crate) fn kill_all(&self) {
        self.lock().values().for_each(|entry| entry.outbox.kill());
    }

    /// The lines of CLIENT LIST, for `ids` or all.
    pub(crate) fn list(&self, ids: &[u64]) -> String {
        let now = clock::now();
        let entries = self.lock();
        let chosen = entries.iter().filter(|(id, _)| ids.is_empty() || ids.contains(id));
        let mut text = String::new();
        for (id, entry) in chosen {
            let Entry { peer, local, since, description, .. } = entry;
            let age = now.since(*since).as_secs();
            text += &format!(
                "id={id} addr={peer} laddr={local} name={} age={age} flags=N db=0 multi={} \
                 watch={} cmd={} user=default lib-name={} lib-ver={} resp={}\n",
                description.name,
                description.queued,
                description.watched,
                description.last_command,
                description.library_name,
                description.library_version,
                description.protocol,
            );
        }
        text
    }

    /// Bytes of answers that wait for connections' tasks.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.lock().values().map(|entry| entry.outbox.lock().bytes).sum()
    }

    /// Connections that are open, were accepted, and were refused for there being too many.
    pub(crate) fn counts(&self) -> (usize, u64, u64) {
        (
            self.open.load(Ordering::Relaxed),
            self.accepted.load(Ordering::Relaxed),
            self.refused.load(Ordering::Relaxed),
        )
    }
}
