//! Which kinds of clients have asked for the map of slots, at this node or at another one.
//!
//! A library for clusters asks one node for the map, and then opens connections to all. They are to
//! be told `MOVED`, and each node's part of the key space, from their first command on; so nodes tell
//! each other who has asked. What is lost of that does no harm: such a client is served, only not
//! redirected.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kontiki_replica::ClientKind;
use kontiki_types::Instant;

/// Kinds that are remembered; of more, those that asked longest ago are forgotten.
const KINDS_MAX: usize = 1024;

/// For how long a kind is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(3600);

/// Other nodes are told no more often than this.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How long the word of another node may be under way: connections opened meanwhile are later ones.
const UNDER_WAY_FOR: Duration = Duration::from_secs(2);

/// No library has a longer name.
const LIBRARY_BYTES_MAX: usize = 128;

#[derive(Debug)]
struct Note {
    /// Connections opened from then on count.
    from: Instant,
    /// When one asked last.
    last: Instant,
    told: Option<Instant>,
}

/// What is known of who has asked.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    notes: Mutex<BTreeMap<ClientKind, Note>>,
    changes: AtomicU64,
}

impl Asked {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClientKind, Note>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client of this kind has asked here; `true` if other nodes are to be told.
    pub(crate) fn note(&self, kind: &ClientKind, now: Instant) -> bool {
        if !is_kind(kind) {
            return false;
        }
        let mut notes = self.lock();
        self.put(&mut notes, kind, now, now);
        let Some(note) = notes.get_mut(kind) else { return false };
        let is_due = note.told.is_none_or(|told| now.since(told) >= TELL_EVERY);
        if is_due {
            note.told = Some(now);
        }
        is_due
    }

    /// Another node says that a client of this kind has asked it.
    pub(crate) fn heard(&self, kind: &ClientKind, now: Instant) {
        if is_kind(kind) {
            let from = Instant(now.0.saturating_sub(UNDER_WAY_FOR.as_micros() as u64));
            self.put(&mut self.lock(), kind, from, now);
        }
    }

    fn put(
        &self,
        notes: &mut BTreeMap<ClientKind, Note>,
        kind: &ClientKind,
        from: Instant,
        now: Instant,
    ) {
        if let Some(known) = notes.get_mut(kind).filter(|known| is_current(known, now)) {
            known.last = now;
            return;
        }
        notes.insert(kind.clone(), Note { from, last: now, told: None });
        if notes.len() > KINDS_MAX {
            let oldest = notes.iter().min_by_key(|(_, note)| note.last);
            let oldest = oldest.map(|(kind, _)| kind.clone());
            oldest.map(|kind| notes.remove(&kind));
        }
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Whether one of this kind had asked before `since`, when a connection was opened.
    pub(crate) fn has_asked(&self, kind: &ClientKind, since: Instant, now: Instant) -> bool {
        self.lock().get(kind).is_some_and(|note| is_current(note, now) && note.from <= since)
    }

    /// How often what is known has changed, and one: never 0.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire) + 1
    }

    /// All that have asked of late, for a node that has heard nothing yet.
    pub(crate) fn all(&self, now: Instant) -> Vec<ClientKind> {
        let notes = self.lock();
        let current = notes.iter().filter(|(_, note)| is_current(note, now));
        current.map(|(kind, _)| kind.clone()).collect()
    }
}

fn is_kind(kind: &ClientKind) -> bool {
    !kind.library.is_empty() && kind.library.len() <= LIBRARY_BYTES_MAX
}

fn is_current(note: &Note, now: Instant) -> bool {
    now.since(note.last) < REMEMBERED_FOR
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(library: &str) -> ClientKind {
        ClientKind { address: "10.0.0.9".to_owned(), library: library.to_owned() }
    }

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000)
    }

    #[test]
    fn later_connections_of_a_kind_that_asked_count() {
        let asked = Asked::default();
        let before = asked.changes();
        assert!(asked.note(&kind("one"), at(10)));
        assert_ne!(asked.changes(), before);
        assert!(asked.has_asked(&kind("one"), at(11), at(12)));
        assert!(!asked.has_asked(&kind("one"), at(9), at(12)), "opened before");
        assert!(!asked.has_asked(&kind("two"), at(11), at(12)));
        assert!(!asked.note(&kind(""), at(10)), "nobody in particular");
        assert!(!asked.has_asked(&kind(""), at(11), at(12)));
    }

    #[test]
    fn it_is_told_and_heard_and_forgotten() {
        let asked = Asked::default();
        assert!(asked.note(&kind("one"), at(10)));
        assert!(!asked.note(&kind("one"), at(10)), "others have just been told");
        assert!(asked.note(&kind("one"), at(11)));
        let other = Asked::default();
        other.heard(&kind("one"), at(10));
        assert!(other.has_asked(&kind("one"), at(9), at(10)), "the word was under way");
        assert!(!other.has_asked(&kind("one"), at(5), at(10)));
        assert_eq!(other.all(at(11)), [kind("one")]);
        assert!(other.all(at(4000)).is_empty());
        assert!(!other.has_asked(&kind("one"), at(3999), at(4000)), "that was long ago");
    }

    #[test]
    fn no_more_kinds_are_kept_than_the_limit() {
        let asked = Asked::default();
        for number in 0..KINDS_MAX as u64 + 10 {
            asked.note(&kind(&format!("library-{number}")), at(number));
        }
        let kept = asked.all(at(KINDS_MAX as u64));
        assert_eq!(kept.len(), KINDS_MAX);
        assert!(!kept.contains(&kind("library-9")) && kept.contains(&kind("library-10")));
    }
}
