//! Requests that wait until their slot is served.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kontiki_types::{ClientId, Instant, Seq};

use crate::connection::Ask;
use crate::routed::{Routed, take_out};

/// Those of one slot. One of them at a time is tried; the others wait for what comes of it, and so
/// do requests that come meanwhile.
#[derive(Debug)]
pub(super) struct Held {
    /// In the order in which they must take effect.
    writes: BTreeMap<(ClientId, Seq), Routed>,
    reads: VecDeque<Routed>,
    /// The number of the one that is being tried.
    pub(super) probe: Option<u64>,
    /// None is tried before.
    pub(super) not_before: Instant,
    /// How long to wait when it was to no avail again.
    patience: Duration,
}

/// How soon a slot that is not served is tried again, at first.
pub(super) const PROBE_EVERY: Duration = Duration::from_millis(4);

/// How seldom it is tried when it stays so.
const PROBE_EVERY_MAX: Duration = Duration::from_millis(64);

impl Held {
    pub(super) fn new(not_before: Instant) -> Self {
        let (writes, reads) = (BTreeMap::new(), VecDeque::new());
        Self { writes, reads, probe: None, not_before, patience: PROBE_EVERY }
    }

    /// It was tried to no avail.
    pub(super) fn put_off(&mut self, now: Instant) {
        self.not_before = self.not_before.max(now + self.patience);
        self.patience = (2 * self.patience).min(PROBE_EVERY_MAX);
    }

    /// It may be served from now on.
    pub(super) fn hurry(&mut self, now: Instant) {
        (self.not_before, self.patience) = (now, PROBE_EVERY);
    }

    pub(super) fn len(&self) -> usize {
        self.writes.len() + self.reads.len()
    }

    /// Adds a request; the one that it takes the place of, if it is the same write again.
    pub(super) fn add(&mut self, mut routed: Routed) -> Option<Routed> {
        match &routed.ask {
            Ask::Read(_) => {
                self.reads.push_back(routed);
                None
            }
            Ask::Write(write) => {
                let id = (write.client, write.seq);
                let before = self.writes.remove(&id);
                routed.attempts += before.as_ref().map_or(0, |before| before.attempts);
                self.writes.insert(id, routed);
                before
            }
        }
    }

    /// Takes out the one that goes first. A read, if there is one: to try it costs no entry of a log,
    /// and a connection has no read and write on one slot under way at once.
    pub(super) fn take_first(&mut self) -> Option<Routed> {
        let read = self.reads.pop_front();
        read.or_else(|| self.writes.pop_first().map(|(_, write)| write))
    }

    /// Takes out those that do not wait so long for a slot that stands still, and had no effect: a
    /// write that was given to anybody more than once may have one yet. With a write go the later
    /// ones of its client, which would wait for it in vain.
    pub(super) fn lose_patience(&mut self, now: Instant, impatient: &mut Vec<Routed>) {
        let is_over = |routed: &Routed| routed.patience.is_over(now) && routed.attempts <= 1;
        while let Some(at) = self.reads.iter().position(is_over) {
            impatient.extend(self.reads.remove(at));
        }
        let over = self.writes.iter().filter(|(_, write)| is_over(write));
        let mut first: BTreeMap<ClientId, Seq> = BTreeMap::new();
        for (&(client, seq), _) in over {
            first.entry(client).or_insert(seq);
        }
        if first.is_empty() {
            return;
        }
        let goes = |(client, seq): &(ClientId, Seq), write: &Routed| {
            write.attempts <= 1 && first.get(client).is_some_and(|first| first <= seq)
        };
        let ids: Vec<_> =
            self.writes.iter().filter(|(id, write)| goes(id, write)).map(|(id, _)| *id).collect();
        impatient.extend(ids.iter().filter_map(|id| self.writes.remove(id)));
    }

    /// Takes out those that are out of time.
    pub(super) fn expire(&mut self, now: Instant, expired: &mut Vec<Routed>) {
        let writes = take_out(&mut self.writes, |write| write.give_up <= now);
        expired.extend(writes.into_iter().map(|(_, write)| write));
        while let Some(at) = self.reads.iter().position(|read| read.give_up <= now) {
            expired.extend(self.reads.remove(at));
        }
    }
}
