//! How a replica takes what its leader sends (§5.3).

use kontiki_types::plant::{Plant, planted};
use kontiki_types::{Index, Instant, LogId, Member, Term};

use crate::durability::Held;
use crate::raft::Raft;
use crate::{AppendResult, Body, Entries, EntryData, Payload, Role, Session};

impl<P: Payload> Raft<P> {
    /// A message that only the leader of this term can have sent. Returns whether it is to be
    /// taken.
    pub(crate) fn heard_leader(&mut self, now: Instant, from: Member) -> bool {
        // Two leaders in one term cannot be (Election Safety): whatever this is, leave it alone.
        if self.role == Role::Leader || self.leader.is_some_and(|leader| leader != from) {
            self.dropped += 1;
            return false;
        }
        if self.leader.is_none() || self.role != Role::Follower {
            self.follow(now, self.term(), Some(from));
            self.draw_election_timeout(now);
        }
        self.loyal_until = self.loyal_until.max(now + self.config.election_timeout);
        self.election_at = now + self.patience;
        true
    }

    pub(crate) fn on_append(
        &mut self,
        now: Instant,
        from: Member,
        session: Session,
        prev: LogId,
        commit: Index,
        mut entries: Entries<P>,
    ) {
        // A wrong message must not even count as a sign of life.
        let merged = planted(Plant::EmptyAppendMerged);
        if !merged && !are_contiguous(prev, &entries, self.term()) {
            return self.dropped += 1;
        }
        if !self.heard_leader(now, from) {
            return;
        }
        let end = match entries.last() {
            Some(last) if !merged => last.id.index,
            _ => Index(prev.index.0.saturating_add(entries.len() as u64)),
        };
        // What is committed here is the same there (Leader Completeness, §5.4.3).
        let known = self.commit.0.saturating_sub(prev.index.0);
        entries.drop_front(usize::try_from(known).unwrap_or(usize::MAX));
        if prev.index > self.commit && !self.log.contains(prev) {
            let hint = self.log.last_not_above(prev.index, prev.term);
            let result = AppendResult::Rejected { prev: prev.index, hint };
            return self.send(from, Body::AppendReply { session, result });
        }
        // What matches is good to know even if there is no room for more: it may be what has to be
        // committed, and applied, to make room.
        self.verified = self.verified.max(prev.index);
        self.commit_to(commit.min(self.verified));
        if !self.append_from_leader(entries) {
            let result = AppendResult::Full;
            return self.send(from, Body::AppendReply { session, result });
        }
        self.verified = self.verified.max(end);
        if planted(Plant::CommitBeyondVerified) {
            self.commit_to(commit);
        }
        self.commit_to(commit.min(self.verified));
        let matched = match self.acknowledge {
            Some((member, same, matched)) if member == from && same == session => matched,
            _ => Index(0),
        };
        self.acknowledge = Some((from, session, matched.max(end).max(self.commit)));
    }

    /// Puts entries into the log that follow on from an entry that is in it. Returns whether there
    /// was room.
    fn append_from_leader(&mut self, mut entries: Entries<P>) -> bool {
        let same = match entries.first() {
            None => return true,
            Some(first) if first.id.index > self.log.last().index => 0,
            Some(_) => entries.iter().take_while(|entry| self.log.contains(entry.id)).count(),
        };
        let same = if planted(Plant::TruncateAlways) { 0 } else { same };
        let Some(first) = entries.get(same) else { return true };
        if self.unapplied_cost() > self.config.max_unapplied_bytes as u64 {
            return false;
        }
        // Only a conflict truncates: a message that was overtaken holds a part of what we have.
        if first.id.index <= self.log.last().index {
            self.log.truncate(first.id.index);
            self.durability.truncated(first.id.index);
        }
        entries.drop_front(same);
        self.log.append(entries);
        true
    }

    /// Acknowledges all appends since the last drain, when that is true on the disk.
    pub(crate) fn flush_acknowledgement(&mut self) {
        let Some((to, session, matched)) = self.acknowledge.take() else { return };
        if self.durability.covers(matched) || planted(Plant::AckBeforeSync) {
            let result = AppendResult::Matched(matched);
            self.send(to, Body::AppendReply { session, result });
        } else {
            let term = self.term();
            self.durability.hold(Held::Acknowledgement { to, session, term, matched });
        }
    }

    pub(crate) fn on_heartbeat(
        &mut self,
        now: Instant,
        from: Member,
        session: Session,
        commit: Index,
        round: u64,
    ) {
        if !self.heard_leader(now, from) {
            return;
        }
        self.commit_to(commit.min(self.verified));
        self.answer_heartbeat(from, session, round);
    }

    pub(crate) fn answer_heartbeat(&mut self, from: Member, session: Session, round: u64) {
        let received = self.verified.max(self.commit);
        let durable = received.min(self.durability.durable());
        let matched = if self.durability.covers(durable) { durable } else { Index(0) };
        self.send(from, Body::HeartbeatReply { session, round, received, matched });
    }

    pub(crate) fn on_commit(&mut self, now: Instant, from: Member, commit: Index) {
        if self.heard_leader(now, from) {
            self.commit_to(commit.min(self.verified));
        }
    }
}

/// Whether the entries follow on from `prev` and each other, in terms that a leader of `term` can
/// have in its log.
fn are_contiguous<P>(prev: LogId, entries: &Entries<P>, term: Term) -> bool {
    let mut previous = prev;
    for entry in entries {
        let follows = previous.index.0.checked_add(1) == Some(entry.id.index.0);
        let well_formed = match &entry.data {
            EntryData::Membership(membership) => membership.is_well_formed(),
            EntryData::Noop | EntryData::Command(_) => true,
        };
        if !follows || entry.id.term < previous.term || !well_formed {
            return false;
        }
        previous = entry.id;
    }
    previous.term <= term && previous.index < Index(u64::MAX)
}
